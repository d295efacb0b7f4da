//! RTMP messages (Adobe RTMP 1.0, §5.4 and §7.1): their types and how long each may be.

use std::fmt;

use bytes::Bytes;

/// The message types of §5.4 and §7.1 that this origin tells apart.
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control Message.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3, in practice a zero byte and AMF0.
    pub const DATA_AMF3: u8 = 15;
    /// Command in AMF3, in practice a zero byte and AMF0.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Aggregate: FLV tags in a row.
    pub const AGGREGATE: u8 = 22;
}

/// One whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// See [`kind`].
    pub kind: u8,
    /// Message stream: 0 for the connection, else what `createStream` gave out.
    pub stream_id: u32,
    /// In milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
    /// The body; may be empty.
    pub payload: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, stream_id, timestamp_ms, payload } = self;
        write!(f, "Message({kind}, stream {stream_id}, {timestamp_ms} ms, {} bytes)", payload.len())
    }
}

/// How long messages may be; refused at the header, before anything is buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Video and aggregate messages, in bytes.
    pub video_len_max: u32,
    /// Announced lengths of all unfinished messages together, in bytes.
    pub unfinished_max: usize,
}

impl Limits {
    /// Control messages have at most 14 bytes (user control, §7.1.7), commands rarely 1 KB; data is metadata,
    /// cue points and captions; audio of 256 KiB would be five seconds of uncompressed stereo.
    pub(super) fn len_max(self, kind: u8) -> u32 {
        match kind {
            kind::SET_CHUNK_SIZE..=kind::SET_PEER_BANDWIDTH => 16,
            kind::COMMAND | kind::COMMAND_AMF3 => 16 << 10,
            kind::VIDEO | kind::AGGREGATE => self.video_len_max,
            _ => 256 << 10,
        }
    }
}
