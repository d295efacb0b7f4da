//! What the origin says: protocol control, results and statuses, chunked by `rml_rtmp`.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::{ChunkSerializer, Packet};
use rml_rtmp::messages::{MessagePayload, PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use rml_rtmp::time::RtmpTimestamp;

/// Announced before the first message. Every message of ours fits into one such chunk.
const CHUNK_SIZE: u32 = 4096;

/// What peers are told to acknowledge by, and are allowed to send unacknowledged: the value of FMS and ffmpeg.
pub(super) const WINDOW: u32 = 2_500_000;

/// Collects what is to be sent to one peer.
pub(super) struct Writer {
    serializer: ChunkSerializer,
    started: bool,
    out: Vec<u8>,
}

/// What a status says: code and level of §7.2.2, and a text for the one who reads the encoder's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: &'static str,
    pub(super) description: String,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { serializer: ChunkSerializer::new(), started: false, out: Vec::new() }
    }

    /// Bytes that go out ahead of all chunks: the handshake's.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What has been written since the last call; empty when nothing has.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }

    pub(super) fn acknowledgement(&mut self, sequence_number: u32) {
        self.message(RtmpMessage::Acknowledgement { sequence_number }, 0);
    }

    pub(super) fn window(&mut self, size: u32) {
        self.message(RtmpMessage::WindowAcknowledgement { size }, 0);
    }

    pub(super) fn ping_response(&mut self, timestamp_ms: u32) {
        let message = RtmpMessage::UserControl {
            event_type: UserControlEventType::PingResponse,
            stream_id: None,
            buffer_length: None,
            timestamp: Some(RtmpTimestamp::new(timestamp_ms)),
        };
        self.message(message, 0);
    }

    pub(super) fn connected(&mut self, transaction: f64) {
        self.message(RtmpMessage::WindowAcknowledgement { size: WINDOW }, 0);
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.message(RtmpMessage::SetPeerBandwidth { size: WINDOW, limit_type }, 0);
        let server = object([("fmsVer", string("FMS/3,0,1,123")), ("capabilities", Amf0Value::Number(31.0))]);
        let info = object([
            ("level", string("status")),
            ("code", string("NetConnection.Connect.Success")),
            ("description", string("connected")),
            // Commands are answered in AMF0 whatever was asked for; Flash then speaks it too.
            ("objectEncoding", Amf0Value::Number(0.0)),
        ]);
        self.command("_result", transaction, server, vec![info], 0);
    }

    /// A refused `connect`: `_error` on its transaction, by the specification and for ffmpeg, and `onStatus` for
    /// librtmp in OBS, which looks there.
    pub(super) fn connect_refused(&mut self, transaction: f64, status: &Status) {
        self.command("_error", transaction, Amf0Value::Null, vec![status.info("error")], 0);
        self.status("error", status, 0);
    }

    pub(super) fn result(&mut self, transaction: f64, value: Amf0Value) {
        self.command("_result", transaction, Amf0Value::Null, vec![value], 0);
    }

    /// FMLE waits for it before it publishes.
    pub(super) fn on_fc_publish(&mut self) {
        let status = Status { code: "NetStream.Publish.Start", description: String::new() };
        self.command("onFCPublish", 0.0, Amf0Value::Null, vec![status.info("status")], 0);
    }

    pub(super) fn published(&mut self, stream_id: u32) {
        let begin = RtmpMessage::UserControl {
            event_type: UserControlEventType::StreamBegin,
            stream_id: Some(stream_id),
            buffer_length: None,
            timestamp: None,
        };
        self.message(begin, 0);
        let status = Status { code: "NetStream.Publish.Start", description: "publishing".to_owned() };
        self.status("status", &status, stream_id);
    }

    pub(super) fn unpublished(&mut self, stream_id: u32) {
        let status = Status { code: "NetStream.Unpublish.Success", description: "unpublished".to_owned() };
        self.status("status", &status, stream_id);
    }

    pub(super) fn status(&mut self, level: &str, status: &Status, stream_id: u32) {
        self.command("onStatus", 0.0, Amf0Value::Null, vec![status.info(level)], stream_id);
    }

    fn command(
        &mut self,
        name: &str,
        transaction: f64,
        object: Amf0Value,
        args: Vec<Amf0Value>,
        stream_id: u32,
    ) {
        let message = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id: transaction,
            command_object: object,
            additional_arguments: args,
        };
        self.message(message, stream_id);
    }

    fn message(&mut self, message: RtmpMessage, stream_id: u32) {
        let zero = RtmpTimestamp::new(0);
        if !self.started {
            self.started = true;
            let packet = self.serializer.set_max_chunk_size(CHUNK_SIZE, zero);
            self.push(&packet.expect("the chunk size is within the specification's range"));
        }
        let payload = MessagePayload::from_rtmp_message(message, zero, stream_id);
        let payload = payload.expect("strings of ours are far below 64 KiB");
        // Full headers: some encoders do not take the first messages otherwise. The serializer repeats them on
        // every chunk of a message, which is why none is longer than a chunk.
        assert!(payload.data.len() <= CHUNK_SIZE as usize, "a message of ours is longer than a chunk");
        let packet = self.serializer.serialize(&payload, true, false);
        self.push(&packet.expect("a message of one chunk is within 16 MiB"));
    }

    fn push(&mut self, packet: &Packet) {
        self.out.extend_from_slice(&packet.bytes);
    }
}

impl Status {
    fn info(&self, level: &str) -> Amf0Value {
        object([
            ("level", string(level)),
            ("code", string(self.code)),
            ("description", string(&self.description)),
        ])
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.out.len()).finish_non_exhaustive()
    }
}

fn string(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

fn object<const N: usize>(properties: [(&str, Amf0Value); N]) -> Amf0Value {
    let properties = properties.into_iter().map(|(key, value)| (key.to_owned(), value));
    Amf0Value::Object(properties.collect::<HashMap<_, _>>())
}
