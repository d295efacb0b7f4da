//! FLV tag bodies: what an RTMP audio, video or data message holds.

use bytes::Bytes;

/// Which kind of message a tag came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// RTMP type 8.
    Audio,
    /// RTMP type 9.
    Video,
    /// RTMP type 18 (AMF0) or 15 (AMF3): `onMetaData` and the like.
    Data,
}

/// One FLV tag as RTMP carries it: no tag header, a raw timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Audio, video or data.
    pub kind: TagKind,
    /// Decode time in milliseconds, modulo 2^32, from the encoder's own start.
    pub timestamp_ms: u32,
    /// The tag's body.
    pub body: Bytes,
}
