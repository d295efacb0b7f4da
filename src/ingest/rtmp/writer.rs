//! What the origin says: protocol control, results and statuses, chunked by `rml_rtmp`; and media to players, chunked
//! here, since its payload need not be copied.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::{ChunkSerializer, Packet};
use rml_rtmp::messages::{MessagePayload, PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use rml_rtmp::time::RtmpTimestamp;

use super::message::kind;
use crate::media::flv::TagKind;

/// Announced before the first message: what SRS says by default, so that no peer meets it here first. Most pictures
/// are one chunk, and every message of ours is.
const CHUNK_SIZE: u32 = 60_000;

/// Shorter slices of a payload are copied: a slice of its own in a vectored write costs as much.
const SHARED_LEN_MIN: usize = 1024;

/// A timestamp field of this value is followed by four bytes with the real one (§5.3.1.3).
const EXTENDED: u32 = 0x00FF_FFFF;

/// What peers are told to acknowledge by, and are allowed to send unacknowledged: the value of FMS and ffmpeg.
pub(super) const WINDOW: u32 = 2_500_000;

/// Collects what is to be sent to one peer.
pub(super) struct Writer {
    serializer: ChunkSerializer,
    started: bool,
    /// Goes out ahead of `out`.
    pieces: VecDeque<Bytes>,
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
        Self { serializer: ChunkSerializer::new(), started: false, pieces: VecDeque::new(), out: Vec::new() }
    }

    /// Bytes that go out ahead of all chunks: the handshake's.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// The next piece of what has been written; empty when all is taken.
    pub(super) fn take(&mut self) -> Bytes {
        self.pieces.pop_front().unwrap_or_else(|| std::mem::take(&mut self.out).into())
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
        self.stream_event(UserControlEventType::StreamBegin, stream_id);
        let status = Status { code: "NetStream.Publish.Start", description: "publishing".to_owned() };
        self.status("status", &status, stream_id);
    }

    pub(super) fn unpublished(&mut self, stream_id: u32) {
        let status = Status { code: "NetStream.Unpublish.Success", description: "unpublished".to_owned() };
        self.status("status", &status, stream_id);
    }

    /// The answer to a `play`, in the order of FMS (§7.2.2.1 and its data messages).
    pub(super) fn playing(&mut self, stream_id: u32) {
        self.stream_event(UserControlEventType::StreamBegin, stream_id);
        let reset = Status { code: "NetStream.Play.Reset", description: "resetting".to_owned() };
        self.status("status", &reset, stream_id);
        let start = Status { code: "NetStream.Play.Start", description: "playing".to_owned() };
        self.status("status", &start, stream_id);
        let access = Amf0Value::Boolean(true);
        let access = vec![string("|RtmpSampleAccess"), access.clone(), access];
        self.message(RtmpMessage::Amf0Data { values: access }, stream_id);
        let data = vec![string("onStatus"), object([("code", string("NetStream.Data.Start"))])];
        self.message(RtmpMessage::Amf0Data { values: data }, stream_id);
    }

    /// The broadcast is over: players read to here and hang up.
    pub(super) fn ended(&mut self, stream_id: u32) {
        let gone = Status { code: "NetStream.Play.UnpublishNotify", description: "unpublished".to_owned() };
        self.status("status", &gone, stream_id);
        self.stopped(stream_id);
    }

    /// The play is over, the broadcast perhaps not.
    pub(super) fn stopped(&mut self, stream_id: u32) {
        self.stream_event(UserControlEventType::StreamEof, stream_id);
        let stop = Status { code: "NetStream.Play.Stop", description: "stopped".to_owned() };
        self.status("status", &stop, stream_id);
    }

    /// One message of media, its body `head` and then `payload`, which is shared rather than copied.
    ///
    /// # Panics
    /// When the body has 16 MiB or more, which no message that came in has, or `head` is longer than a chunk.
    pub(super) fn media(
        &mut self,
        kind: TagKind,
        stream_id: u32,
        timestamp_ms: u32,
        head: &[u8],
        payload: &Bytes,
    ) {
        const CONTINUED: u8 = 0b1100_0000;
        let (kind, chunk_stream) = match kind {
            TagKind::Audio => (kind::AUDIO, 8),
            TagKind::Video => (kind::VIDEO, 9),
            TagKind::Data => (kind::DATA, 10),
        };
        let len = u32::try_from(head.len() + payload.len()).ok().filter(|len| *len < 1 << 24);
        let len = len.expect("a body of less than 16 MiB");
        let extended = (timestamp_ms >= EXTENDED).then(|| timestamp_ms.to_be_bytes());
        let extended = extended.as_ref().map_or(&[][..], |bytes| bytes);
        // A full header each: absolute times, which no reader gets wrong, for four bytes.
        let out = &mut self.out;
        out.push(chunk_stream);
        out.extend_from_slice(&timestamp_ms.min(EXTENDED).to_be_bytes()[1..]);
        out.extend_from_slice(&len.to_be_bytes()[1..]);
        out.push(kind);
        out.extend_from_slice(&stream_id.to_le_bytes());
        out.extend_from_slice(extended);
        out.extend_from_slice(head);
        let mut rest = payload.clone();
        let mut room = CHUNK_SIZE as usize - head.len();
        loop {
            self.share(rest.split_to(room.min(rest.len())));
            if rest.is_empty() {
                return;
            }
            room = CHUNK_SIZE as usize;
            self.out.push(CONTINUED | chunk_stream);
            // Not by the letter of §5.3.1.3, but what ffmpeg, librtmp and Flash read.
            self.out.extend_from_slice(extended);
        }
    }

    fn share(&mut self, slice: Bytes) {
        if slice.len() < SHARED_LEN_MIN {
            self.out.extend_from_slice(&slice);
        } else {
            self.pieces.extend([std::mem::take(&mut self.out).into(), slice]);
        }
    }

    pub(super) fn status(&mut self, level: &str, status: &Status, stream_id: u32) {
        self.command("onStatus", 0.0, Amf0Value::Null, vec![status.info(level)], stream_id);
    }

    fn stream_event(&mut self, event_type: UserControlEventType, stream_id: u32) {
        let stream_id = Some(stream_id);
        self.message(
            RtmpMessage::UserControl { event_type, stream_id, buffer_length: None, timestamp: None },
            0,
        );
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
        let waiting = self.out.len() + self.pieces.iter().map(Bytes::len).sum::<usize>();
        f.debug_struct("Writer").field("waiting", &waiting).finish_non_exhaustive()
    }
}

fn string(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

fn object<const N: usize>(properties: [(&str, Amf0Value); N]) -> Amf0Value {
    let properties = properties.into_iter().map(|(key, value)| (key.to_owned(), value));
    Amf0Value::Object(properties.collect::<HashMap<_, _>>())
}
