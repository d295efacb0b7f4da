//! The publishing end of one RTMP connection, after the handshake. A core: bytes in, bytes out.
//!
//! `rml_rtmp`'s chunk and message parts do the coding. Its `ClientSession` is not used: it drops most fields of
//! `onMetaData`, can't send a data message as it is, and never says why a server refused. The peer is a server that
//! the user named, so what `rml_rtmp` reads here is trusted more than what `ingest` reads.

use std::collections::HashMap;
use std::io::Cursor;

use bytes::Bytes;
use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::{ChunkDeserializer, ChunkSerializer};
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;
use thiserror::Error;

use crate::media::flv::{Tag, TagKind};
use crate::publish::destination::Destination;

/// What OBS uses.
const CHUNK_BYTES: u32 = 4096;
/// `@setDataFrame` as an AMF0 string: what makes a server keep the metadata that follows for those who join later.
const SET_DATA_FRAME: &[u8] = b"\x02\0\x0d@setDataFrame";
/// `onMetaData` as an AMF0 string: how a file's metadata tag starts.
const ON_META_DATA: &[u8] = b"\x02\0\x0aonMetaData";

// RTMP message types (RTMP 1.0 §5.4, §7.1).
const SET_CHUNK_SIZE: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const AMF3_COMMAND: u8 = 17;
const AMF0_DATA: u8 = 18;
const AMF0_COMMAND: u8 = 20;

// Transactions, in the order of the conversation. The two between are answered by some servers and waited for by none.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;

/// Why a conversation ended badly.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The server said no, with this code (`NetStream.Publish.BadName`) or description.
    #[error("the server refused: {0}")]
    Refused(String),
    /// What the server sent can't be read as RTMP, or what was to be sent can't be written as it.
    #[error("the server's bytes are no RTMP")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The conversation from `connect` to `deleteStream`.
pub(super) struct Session {
    key: String,
    reader: ChunkDeserializer,
    writer: ChunkSerializer,
    output: Vec<u8>,
    stream_id: u32,
    publishing: bool,
    received: u64,
    acknowledged: u64,
    window_bytes: u64,
}

impl Session {
    /// Starts the conversation: `connect` is in the output.
    pub(super) fn new(to: &Destination) -> Result<Self, SessionError> {
        let mut session = Self {
            key: to.key(),
            reader: ChunkDeserializer::new(),
            writer: ChunkSerializer::new(),
            output: Vec::new(),
            stream_id: 0,
            publishing: false,
            received: 0,
            acknowledged: 0,
            window_bytes: u64::MAX,
        };
        let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
        let properties = HashMap::from([
            ("app".to_owned(), text(to.app())),
            ("type".to_owned(), text("nonprivate")),
            ("flashVer".to_owned(), text("FMLE/3.0 (compatible; grandstand)")),
            ("tcUrl".to_owned(), text(&to.app_url())),
        ]);
        session.command("connect", CONNECT, Amf0Value::Object(properties), &[])?;
        Ok(session)
    }

    /// The server took the publish: [`Self::send`] may be called.
    pub(super) fn is_publishing(&self) -> bool {
        self.publishing
    }

    /// Bytes to write to the socket. The caller empties it.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes what the server sent.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.received += bytes.len() as u64;
        let mut bytes = bytes;
        while let Some(message) = self.reader.get_next_message(bytes).map_err(protocol)? {
            bytes = &[];
            self.handle_message(&message)?;
        }
        if self.received - self.acknowledged >= self.window_bytes {
            self.acknowledged = self.received;
            // RTMP 1.0 §5.4.3: the bytes received so far, which wrap.
            let sequence_number = self.received as u32;
            self.message(ACKNOWLEDGEMENT, 0, 0, Bytes::copy_from_slice(&sequence_number.to_be_bytes()))?;
        }
        Ok(())
    }

    /// Queues one tag.
    pub(super) fn send(&mut self, tag: &Tag, timestamp_ms: u32) -> Result<(), SessionError> {
        let (type_id, body) = match tag.kind {
            TagKind::Audio => (AUDIO, tag.body.clone()),
            TagKind::Video => (VIDEO, tag.body.clone()),
            TagKind::Data if tag.body.starts_with(ON_META_DATA) => {
                (AMF0_DATA, [SET_DATA_FRAME, tag.body.as_ref()].concat().into())
            }
            TagKind::Data => (AMF0_DATA, tag.body.clone()),
        };
        self.message(type_id, timestamp_ms, self.stream_id, body)
    }

    /// Queues the end of the broadcast, in the order in which encoders say it.
    pub(super) fn finish(&mut self) -> Result<(), SessionError> {
        self.publishing = false;
        let key = Amf0Value::Utf8String(self.key.clone());
        self.command("FCUnpublish", 0.0, Amf0Value::Null, &[key])?;
        self.command("deleteStream", 0.0, Amf0Value::Null, &[Amf0Value::Number(f64::from(self.stream_id))])
    }

    fn handle_message(&mut self, message: &MessagePayload) -> Result<(), SessionError> {
        let number = || message.data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match message.type_id {
            SET_CHUNK_SIZE => {
                let size = number().filter(|size| (1..=0x7fff_ffff).contains(size));
                let size = size.ok_or_else(|| protocol("a chunk size out of range"))?;
                self.reader.set_max_chunk_size(size as usize).map_err(protocol)
            }
            WINDOW_ACKNOWLEDGEMENT_SIZE => {
                self.window_bytes = number().filter(|size| *size > 0).map_or(u64::MAX, u64::from);
                Ok(())
            }
            USER_CONTROL => match message.data.as_ref() {
                // A ping is answered with its own time (RTMP 1.0 §7.1.7).
                [0, 6, time @ ..] => self.message(USER_CONTROL, 0, 0, [&[0, 7], time].concat().into()),
                _ => Ok(()),
            },
            AMF0_COMMAND => self.handle_command(&message.data),
            AMF3_COMMAND => self.handle_command(message.data.get(1..).unwrap_or_default()),
            _ => Ok(()),
        }
    }

    fn handle_command(&mut self, data: &[u8]) -> Result<(), SessionError> {
        let values = rml_amf0::deserialize(&mut Cursor::new(data)).map_err(protocol)?;
        match values.as_slice() {
            [Amf0Value::Utf8String(name), Amf0Value::Number(id), rest @ ..] if name == "_result" => {
                self.handle_result(*id, rest.get(1))
            }
            [Amf0Value::Utf8String(name), Amf0Value::Number(id), rest @ ..] if name == "_error" => {
                // Servers that don't know releaseStream and FCPublish say so; that does no harm.
                if *id == RELEASE_STREAM || *id == FC_PUBLISH {
                    return Ok(());
                }
                Err(SessionError::Refused(reason(rest)))
            }
            [Amf0Value::Utf8String(name), rest @ ..] if name == "onStatus" => {
                let reason = reason(rest);
                if reason == "NetStream.Publish.Start" {
                    self.publishing = true;
                } else if field(rest, "level").is_some_and(|level| level == "error") {
                    return Err(SessionError::Refused(reason));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_result(&mut self, transaction: f64, value: Option<&Amf0Value>) -> Result<(), SessionError> {
        let key = Amf0Value::Utf8String(self.key.clone());
        if transaction == CONNECT {
            let packet =
                self.writer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0)).map_err(protocol)?;
            self.output.extend(packet.bytes);
            self.command("releaseStream", RELEASE_STREAM, Amf0Value::Null, std::slice::from_ref(&key))?;
            self.command("FCPublish", FC_PUBLISH, Amf0Value::Null, &[key])?;
            self.command("createStream", CREATE_STREAM, Amf0Value::Null, &[])
        } else if transaction == CREATE_STREAM {
            let Some(Amf0Value::Number(id)) = value else {
                return Err(protocol("createStream was answered without a number"));
            };
            self.stream_id = *id as u32;
            self.command(
                "publish",
                PUBLISH,
                Amf0Value::Null,
                &[key, Amf0Value::Utf8String("live".to_owned())],
            )
        } else {
            Ok(())
        }
    }

    fn command(
        &mut self,
        name: &str,
        id: f64,
        object: Amf0Value,
        rest: &[Amf0Value],
    ) -> Result<(), SessionError> {
        let mut values = vec![Amf0Value::Utf8String(name.to_owned()), Amf0Value::Number(id), object];
        values.extend_from_slice(rest);
        let body = rml_amf0::serialize(&values).map_err(protocol)?;
        // FCUnpublish and publish belong to the stream, the commands before it to the connection.
        let stream_id = if id == PUBLISH || id == 0.0 { self.stream_id } else { 0 };
        self.message(AMF0_COMMAND, 0, stream_id, body.into())
    }

    fn message(
        &mut self,
        type_id: u8,
        timestamp_ms: u32,
        stream: u32,
        data: Bytes,
    ) -> Result<(), SessionError> {
        let timestamp = RtmpTimestamp::new(timestamp_ms);
        let message = MessagePayload { timestamp, type_id, message_stream_id: stream, data };
        let packet = self.writer.serialize(&message, false, false).map_err(protocol)?;
        self.output.extend(packet.bytes);
        Ok(())
    }
}

fn protocol(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SessionError {
    SessionError::Protocol(error.into())
}

/// A text field of the first object among a command's values.
fn field<'a>(values: &'a [Amf0Value], name: &str) -> Option<&'a str> {
    let object = values.iter().find_map(|value| match value {
        Amf0Value::Object(properties) if properties.contains_key(name) => properties.get(name),
        _ => None,
    });
    match object {
        Some(Amf0Value::Utf8String(text)) => Some(text),
        _ => None,
    }
}

/// What a server gives as the reason: its code, or its description where there is no code.
fn reason(values: &[Amf0Value]) -> String {
    let text = field(values, "code").or_else(|| field(values, "description")).unwrap_or("without a reason");
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(&Destination::parse("rtmp://h/live/mark?key=k").unwrap()).unwrap()
    }

    /// What a server would send: each list of values as a command.
    fn server(commands: &[&[Amf0Value]]) -> Vec<u8> {
        let mut writer = ChunkSerializer::new();
        let message = |values: &&[Amf0Value]| MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id: AMF0_COMMAND,
            message_stream_id: 0,
            data: rml_amf0::serialize(&values.to_vec()).unwrap().into(),
        };
        commands
            .iter()
            .flat_map(|values| writer.serialize(&message(values), false, false).unwrap().bytes)
            .collect()
    }

    fn text(text: &str) -> Amf0Value {
        Amf0Value::Utf8String(text.to_owned())
    }

    fn status(level: &str, code: &str) -> Vec<Amf0Value> {
        let info = HashMap::from([("level".to_owned(), text(level)), ("code".to_owned(), text(code))]);
        vec![text("onStatus"), Amf0Value::Number(0.0), Amf0Value::Null, Amf0Value::Object(info)]
    }

    #[test]
    fn a_publish_that_is_taken_may_send() {
        let mut session = session();
        let connected = [text("_result"), Amf0Value::Number(CONNECT), Amf0Value::Null, Amf0Value::Null];
        let unknown = [text("_error"), Amf0Value::Number(FC_PUBLISH), Amf0Value::Null];
        let created =
            [text("_result"), Amf0Value::Number(CREATE_STREAM), Amf0Value::Null, Amf0Value::Number(7.0)];
        let started = status("status", "NetStream.Publish.Start");
        session
            .handle_bytes(&server(&[&connected, &unknown, &[text("onBWDone")], &created, &started]))
            .unwrap();
        assert!(session.is_publishing());
        assert_eq!(session.stream_id, 7);
    }

    #[test]
    fn a_refusal_is_told_with_its_code() {
        let refused = session().handle_bytes(&server(&[&status("error", "NetStream.Publish.BadName")]));
        assert_eq!(refused.unwrap_err().to_string(), "the server refused: NetStream.Publish.BadName");
        let error = [text("_error"), Amf0Value::Number(CONNECT), Amf0Value::Null];
        assert!(matches!(session().handle_bytes(&server(&[&error])), Err(SessionError::Refused(_))));
    }

    /// RTMP 1.0 §5.4.3: an acknowledgement carries all bytes received so far, each time the window has passed.
    #[test]
    fn acknowledgements_count_from_the_start() {
        let mut session = session();
        session.window_bytes = 100;
        let bytes = server(&[&[text("onBWDone"), Amf0Value::Number(0.0)]]);
        let mut sent = Vec::new();
        for _ in 0..20 {
            session.output.clear();
            session.reader = ChunkDeserializer::new();
            session.handle_bytes(&bytes).unwrap();
            sent.extend(session.output.last_chunk::<4>().map(|number| u32::from_be_bytes(*number)));
        }
        assert!(sent.len() >= 4 && sent.windows(2).all(|pair| pair[1] - pair[0] >= 100), "{sent:?}");
    }
}
