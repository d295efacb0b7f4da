//! RTMP chunks to messages (Adobe RTMP 1.0, §5.3), bounded.
//!
//! The reader takes bytes as they come, split anywhere, and copies each payload byte once, into a buffer of
//! exactly its message's length. Slicing the read buffer instead would save that copy (1 % of a core per 10 Gbit/s)
//! but pin a whole buffer per connection and per frame: with the copy one read buffer serves every connection of
//! a thread, and what the live queues hold is what was sent.

use bytes::Bytes;
use thiserror::Error;

use super::message::{Limits, Message, kind};

/// Chunk streams of one connection. Encoders use 3 to 6.
pub const STREAMS_MAX: usize = 64;

/// Until the peer sets another (§5.4.1).
const CHUNK_SIZE_DEFAULT: u32 = 128;

/// Three bytes of basic header, eleven of message header, four of extended timestamp.
const HEADER_LEN_MAX: usize = 18;

/// A timestamp field of this value is followed by four bytes with the real one (§5.3.1.3).
const EXTENDED: u32 = 0x00FF_FFFF;

/// A type-3 chunk that starts a message repeats the last delta (§5.3.1.2.4). After a type 0 that is the
/// timestamp itself by the letter, as ffmpeg and `rml_rtmp` mean it, and zero as librtmp and GStreamer mean it.
/// Up to here, the longest audio frame and ten pictures a second, it can be a delta; beyond, adding it would
/// double the time.
const DELTA_AFTER_ABSOLUTE_MS_MAX: u32 = 100;

/// Why the bytes are no RTMP that we take. Nothing can be read behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// More than [`STREAMS_MAX`].
    #[error("more than {STREAMS_MAX} chunk streams")]
    Streams,
    /// A compressed header without one to complete it.
    #[error("chunk stream {id} starts with a header of type {format}")]
    NoHeader {
        /// The chunk stream.
        id: u32,
        /// 2 or 3.
        format: u8,
    },
    /// A header inside a message that says otherwise (FFmpeg CVE-2016-10191 was a heap overflow by this).
    #[error("length or type of a message changes inside it")]
    Changed,
    /// A message longer than its type may be.
    #[error("message of type {kind} announces {len} bytes, more than {max}")]
    TooLong {
        /// Its type.
        kind: u8,
        /// Announced length.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// Unfinished messages together are longer than allowed.
    #[error("unfinished messages announce {len} bytes, more than {max}")]
    Unfinished {
        /// Announced by all of them together.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A protocol control message that makes no sense: a chunk size of 0 or over 2^31 - 1, four bytes missing.
    #[error("control message of type {kind} is malformed")]
    Control {
        /// Its type.
        kind: u8,
    },
}

/// Reads one connection's chunks. Set Chunk Size and Abort are obeyed here and not handed out.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    /// Announced length of all unfinished messages.
    unfinished: usize,
    /// The chunk stream whose chunk is being read, and how much of the chunk is missing.
    chunk: Option<(usize, usize)>,
    /// The first bytes of a header that is not whole yet.
    carry: [u8; HEADER_LEN_MAX],
    carry_len: usize,
}

/// What compressed headers are completed from.
#[derive(Debug, Default)]
struct ChunkStream {
    id: u32,
    kind: u8,
    stream_id: u32,
    len: u32,
    timestamp_ms: u32,
    delta_ms: u32,
    /// The extended timestamp of the last header that had one: type-3 chunks may repeat it.
    extended: Option<[u8; 4]>,
    /// The unfinished message, of `len` bytes when done.
    body: Option<Vec<u8>>,
}

/// A header as it stands in the bytes.
struct Header {
    id: u32,
    /// The `fmt` of §5.3.1.1.
    format: u8,
    /// Where the chunk stream is, `None` for a new one.
    index: Option<usize>,
    time_ms: u32,
    len_and_kind: Option<(u32, u8)>,
    stream_id: Option<u32>,
    extended: Option<[u8; 4]>,
}

impl Reader {
    /// Starts behind the handshake.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_DEFAULT,
            streams: Vec::new(),
            unfinished: 0,
            chunk: None,
            carry: [0; HEADER_LEN_MAX],
            carry_len: 0,
        }
    }

    /// Changes the limits for messages that begin from now on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes bytes off the front of `input` up to the end of the next message. `None` means that all were taken.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            let step = match self.chunk {
                Some((index, left)) => self.read_payload(index, left, input),
                None => self.read_header(input)?,
            };
            match step {
                Step::Message(message) if message.kind == kind::SET_CHUNK_SIZE => {
                    self.set_chunk_size(&message.payload)?;
                }
                Step::Message(message) if message.kind == kind::ABORT => self.abort(&message.payload)?,
                Step::Message(message) => return Ok(Some(message)),
                Step::Again => {}
                Step::Starved => return Ok(None),
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Step, Error> {
        if self.carry_len == 0 {
            let Some((header, len)) = self.parse_header(input) else {
                return Ok(self.keep(input));
            };
            *input = input.get(len..).unwrap_or_default();
            return self.begin_chunk(&header);
        }
        let mut joined = [0; HEADER_LEN_MAX];
        let carried = self.carry_len;
        let (front, back) = joined.split_at_mut(carried);
        let added = back.len().min(input.len());
        let (now, later) = input.split_at(added);
        front.copy_from_slice(&self.carry[..carried]);
        back[..added].copy_from_slice(now);
        let Some((header, len)) = self.parse_header(&joined[..carried + added]) else {
            self.carry = joined;
            self.carry_len += added;
            *input = later;
            return Ok(Step::Starved);
        };
        // A header may turn out shorter than what was kept, when what could have been a repeated extended
        // timestamp is not: the rest is payload.
        self.carry.copy_within(len.min(carried)..carried, 0);
        self.carry_len = carried.saturating_sub(len);
        *input = input.get(len.saturating_sub(carried)..).unwrap_or_default();
        self.begin_chunk(&header)
    }

    /// Keeps the beginning of a header until there is more.
    fn keep(&mut self, input: &mut &[u8]) -> Step {
        self.carry_len = input.len().min(HEADER_LEN_MAX);
        self.carry[..self.carry_len].copy_from_slice(&input[..self.carry_len]);
        *input = &[];
        Step::Starved
    }

    /// The header at the front of `bytes` and its length; `None` while it is not whole.
    fn parse_header(&self, bytes: &[u8]) -> Option<(Header, usize)> {
        let (&[first], mut rest) = bytes.split_first_chunk()?;
        let id = match first & 0x3f {
            0 => 64 + u32::from(take::<1>(&mut rest)?[0]),
            1 => 64 + u32::from(u16::from_le_bytes(take(&mut rest)?)),
            id => id.into(),
        };
        let index = self.streams.iter().position(|stream| stream.id == id);
        let format = first >> 6;
        let mut header =
            Header { id, format, index, time_ms: 0, len_and_kind: None, stream_id: None, extended: None };
        if format == 3 {
            let expected = index.and_then(|index| self.streams.get(index)).and_then(|stream| stream.extended);
            if let Some(expected) = expected {
                // Some encoders repeat the extended timestamp here and some do not: the bytes decide.
                let there = rest.get(..4).unwrap_or(rest);
                if expected.starts_with(there) {
                    header.extended = Some(take(&mut rest)?);
                }
            }
            return Some((header, bytes.len() - rest.len()));
        }
        header.time_ms = u24(take(&mut rest)?);
        if format <= 1 {
            let len = u24(take(&mut rest)?);
            let [kind] = take(&mut rest)?;
            header.len_and_kind = Some((len, kind));
        }
        if format == 0 {
            header.stream_id = Some(u32::from_le_bytes(take(&mut rest)?));
        }
        if header.time_ms == EXTENDED {
            let extended = take(&mut rest)?;
            header.extended = Some(extended);
            header.time_ms = u32::from_be_bytes(extended);
        }
        Some((header, bytes.len() - rest.len()))
    }

    fn begin_chunk(&mut self, header: &Header) -> Result<Step, Error> {
        let index = match header.index {
            Some(index) => index,
            None => self.open(header)?,
        };
        let stream = &mut self.streams[index];
        let Some(body) = &mut stream.body else {
            stream.complete_header(header);
            return self.begin_message(index);
        };
        // Some writers put a full header on every chunk of a message; it may only repeat the first.
        if header.len_and_kind.is_some_and(|said| said != (stream.len, stream.kind)) {
            return Err(Error::Changed);
        }
        let left = stream.len as usize - body.len();
        self.chunk = Some((index, left.min(self.chunk_size as usize)));
        Ok(Step::Again)
    }

    fn open(&mut self, header: &Header) -> Result<usize, Error> {
        let &Header { id, format, .. } = header;
        // Type 1 without a type 0 before: librtmp pings so. It lacks only the message stream, which is then 0.
        if header.len_and_kind.is_none() {
            return Err(Error::NoHeader { id, format });
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(Error::Streams);
        }
        self.streams.push(ChunkStream { id, ..ChunkStream::default() });
        Ok(self.streams.len() - 1)
    }

    fn begin_message(&mut self, index: usize) -> Result<Step, Error> {
        let stream = &mut self.streams[index];
        let &mut ChunkStream { kind, len, .. } = stream;
        let max = self.limits.len_max(kind);
        if len > max {
            return Err(Error::TooLong { kind, len, max });
        }
        if len == 0 {
            return Ok(Step::Message(stream.message(Bytes::new())));
        }
        let unfinished = self.unfinished + len as usize;
        if unfinished > self.limits.unfinished_max {
            return Err(Error::Unfinished { len: unfinished, max: self.limits.unfinished_max });
        }
        self.unfinished = unfinished;
        stream.body = Some(Vec::with_capacity(len as usize));
        self.chunk = Some((index, len.min(self.chunk_size) as usize));
        Ok(Step::Again)
    }

    fn read_payload(&mut self, index: usize, left: usize, input: &mut &[u8]) -> Step {
        let stream = &mut self.streams[index];
        let Some(body) = &mut stream.body else { unreachable!("a chunk is open only inside a message") };
        let taken = if self.carry_len > 0 {
            let taken = left.min(self.carry_len);
            body.extend_from_slice(&self.carry[..taken]);
            self.carry.copy_within(taken..self.carry_len, 0);
            self.carry_len -= taken;
            taken
        } else {
            let taken = left.min(input.len());
            let (now, later) = input.split_at(taken);
            body.extend_from_slice(now);
            *input = later;
            taken
        };
        if taken < left {
            self.chunk = Some((index, left - taken));
            return if taken == 0 { Step::Starved } else { Step::Again };
        }
        self.chunk = None;
        if body.len() < stream.len as usize {
            return Step::Again;
        }
        self.unfinished -= body.len();
        let body = stream.body.take().unwrap_or_default();
        Step::Message(stream.message(body.into()))
    }

    /// §5.4.1. The size only says where headers are; nothing is allocated by it.
    fn set_chunk_size(&mut self, payload: &[u8]) -> Result<(), Error> {
        match payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) {
            Some(size @ 1..=0x7FFF_FFFF) => {
                self.chunk_size = size;
                Ok(())
            }
            _ => Err(Error::Control { kind: kind::SET_CHUNK_SIZE }),
        }
    }

    /// §5.4.2. Of a chunk stream without an unfinished message there is nothing to discard.
    fn abort(&mut self, payload: &[u8]) -> Result<(), Error> {
        let Some(id) = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) else {
            return Err(Error::Control { kind: kind::ABORT });
        };
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
            && stream.body.take().is_some()
        {
            self.unfinished -= stream.len as usize;
        }
        Ok(())
    }
}

/// What one step of reading came to.
enum Step {
    Message(Message),
    Again,
    Starved,
}

impl ChunkStream {
    fn complete_header(&mut self, header: &Header) {
        if let Some((len, kind)) = header.len_and_kind {
            self.len = len;
            self.kind = kind;
        }
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
        }
        match header.format {
            0 => {
                self.timestamp_ms = header.time_ms;
                let small = header.time_ms <= DELTA_AFTER_ABSOLUTE_MS_MAX;
                self.delta_ms = if small { header.time_ms } else { 0 };
            }
            3 => self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms),
            _ => {
                self.delta_ms = header.time_ms;
                self.timestamp_ms = self.timestamp_ms.wrapping_add(header.time_ms);
            }
        }
        if header.format < 3 {
            self.extended = header.extended;
        }
    }

    fn message(&self, payload: Bytes) -> Message {
        let &Self { kind, stream_id, timestamp_ms, .. } = self;
        Message { kind, stream_id, timestamp_ms, payload }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
mod tests;
