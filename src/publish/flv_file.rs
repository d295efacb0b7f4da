//! An FLV file as a list of tags (FLV specification 10.1, annex E.2 to E.4.1). A core: bytes in, tags out.

use bytes::Bytes;
use thiserror::Error;

use crate::media::flv::{Tag, TagKind};

/// Bytes of a tag's header: type, size, timestamp with its extension, stream id (annex E.4.1).
const TAG_HEADER_BYTES: usize = 11;
/// Bytes of the size that follows each tag. Nothing needs it when reading forwards, and some writers put nonsense there.
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// A whole file's tags, in the file's order. Every body is a slice of the file's one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlvFile {
    tags: Vec<Tag>,
    tail_bytes: usize,
    skipped: usize,
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlvFileError {
    /// The first bytes are not those of an FLV file.
    #[error("not an FLV file: it does not start with \"FLV\"")]
    Signature,
    /// The header says that it is longer than the file, or shorter than a header.
    #[error("the file header's length of {len} bytes is impossible")]
    HeaderLength {
        /// What the header says.
        len: u32,
    },
    /// There is no audio or video in it.
    #[error("the file holds no audio and no video")]
    Empty,
}

impl FlvFile {
    /// Reads a whole file. A tail that was cut off, as a killed recorder leaves it, is dropped and counted.
    pub fn read(file: &Bytes) -> Result<Self, FlvFileError> {
        let (signature, rest) = file.split_first_chunk::<5>().ok_or(FlvFileError::Signature)?;
        if !signature.starts_with(b"FLV") {
            return Err(FlvFileError::Signature);
        }
        let len = rest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let body = usize::try_from(len)
            .ok()
            .filter(|len| *len >= 9)
            .and_then(|len| len.checked_add(PREVIOUS_TAG_SIZE_BYTES))
            .filter(|at| *at <= file.len())
            .ok_or(FlvFileError::HeaderLength { len })?;

        let mut read = Self { tags: Vec::new(), tail_bytes: 0, skipped: 0 };
        let mut rest = file.slice(body..);
        while !rest.is_empty() {
            let Some((kind, tag, after)) = split_tag(&rest) else {
                read.tail_bytes = rest.len();
                break;
            };
            match kind {
                Some(kind) if !tag.body.is_empty() => read.tags.push(Tag { kind, ..tag }),
                _ => read.skipped += 1,
            }
            rest = after;
        }
        if read.tags.iter().all(|tag| tag.kind == TagKind::Data) {
            return Err(FlvFileError::Empty);
        }
        Ok(read)
    }

    /// The tags. None has an empty body; at least one is audio or video.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Bytes at the end that make no whole tag. 0 for a file that was closed properly.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Tags left out: empty, encrypted, or of an unknown type.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

/// One tag off the front and what follows it, or `None` if it isn't all there. The outer kind is `None` for a tag
/// that nothing can be done with; the tag's own kind says nothing then.
fn split_tag(bytes: &Bytes) -> Option<(Option<TagKind>, Tag, Bytes)> {
    let [kind, a, b, c, t2, t1, t0, t3, ..] = *bytes.first_chunk::<TAG_HEADER_BYTES>()?;
    let end = TAG_HEADER_BYTES + usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    if bytes.len() < end {
        return None;
    }
    // Bit 5 says that the body is encrypted (annex E.4.1, Filter); the two above it are reserved.
    let kind = match kind & 0x3f {
        8 => Some(TagKind::Audio),
        9 => Some(TagKind::Video),
        18 => Some(TagKind::Data),
        _ => None,
    };
    let tag = Tag {
        kind: kind.unwrap_or(TagKind::Data),
        timestamp_ms: u32::from_be_bytes([t3, t2, t1, t0]),
        body: bytes.slice(TAG_HEADER_BYTES..end),
    };
    Some((kind, tag, bytes.slice(bytes.len().min(end + PREVIOUS_TAG_SIZE_BYTES)..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, timestamp_ms, body) in tags {
            let [t3, t2, t1, t0] = timestamp_ms.to_be_bytes();
            let [_, a, b, c] = (body.len() as u32).to_be_bytes();
            bytes.extend([*kind, a, b, c, t2, t1, t0, t3, 0, 0, 0]);
            bytes.extend(*body);
            bytes.extend(*b"size");
        }
        bytes
    }

    /// FLV specification E.4.1: the extension is the timestamp's upper byte, and sits behind the lower three.
    #[test]
    fn tags_come_out_as_they_are_in_the_file() {
        let bytes = file(&[(18, 0, b"meta"), (9, 0x0102_0304, b"picture"), (8, u32::MAX, b"sound")]);
        let read = FlvFile::read(&bytes.into()).unwrap();
        let expected = [
            (TagKind::Data, 0, &b"meta"[..]),
            (TagKind::Video, 0x0102_0304, b"picture"),
            (TagKind::Audio, u32::MAX, b"sound"),
        ];
        let tags: Vec<_> =
            read.tags().iter().map(|tag| (tag.kind, tag.timestamp_ms, &tag.body[..])).collect();
        assert_eq!(tags, expected);
        assert_eq!((read.tail_bytes(), read.skipped()), (0, 0));
    }

    #[test]
    fn a_cut_tail_is_dropped_and_counted() {
        let whole = file(&[(9, 0, b"picture"), (8, 21, b"sound")]);
        let first = file(&[(9, 0, b"picture")]).len();
        for end in first..whole.len() - PREVIOUS_TAG_SIZE_BYTES {
            let read = FlvFile::read(&whole[..end].to_vec().into()).unwrap();
            assert_eq!((read.tags().len(), read.tail_bytes()), (1, end - first), "cut at {end}");
        }
        let without_last_size = whole[..whole.len() - PREVIOUS_TAG_SIZE_BYTES].to_vec();
        assert_eq!(FlvFile::read(&without_last_size.into()).unwrap().tags().len(), 2);
    }

    #[test]
    fn empty_encrypted_and_unknown_tags_are_skipped_and_counted() {
        let read =
            FlvFile::read(&file(&[(9, 0, b""), (0x29, 0, b"x"), (3, 0, b"x"), (8, 0, b"x")]).into()).unwrap();
        assert_eq!((read.tags().len(), read.skipped()), (1, 3));
    }

    #[test]
    fn what_is_no_broadcast_is_refused() {
        let refusal = |bytes: &[u8]| FlvFile::read(&Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(refusal(b""), FlvFileError::Signature);
        assert_eq!(refusal(b"\0\0\0\x18ftypisom"), FlvFileError::Signature);
        assert_eq!(refusal(b"FLV\x01\x05\0\0\0\x09"), FlvFileError::HeaderLength { len: 9 });
        assert_eq!(refusal(b"FLV\x01\x05\0\0\0\x01\0\0\0\0"), FlvFileError::HeaderLength { len: 1 });
        assert_eq!(
            refusal(b"FLV\x01\x05\xff\xff\xff\xff\0\0\0\0"),
            FlvFileError::HeaderLength { len: u32::MAX }
        );
        assert_eq!(refusal(&file(&[(18, 0, b"meta")])), FlvFileError::Empty);
    }

    proptest! {
        /// Whatever the bytes: no panic, and no byte is lost uncounted.
        #[test]
        fn arbitrary_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = file(&[(8, 0, b"x")]);
            let head = bytes.len();
            bytes.extend(&body);
            let read = FlvFile::read(&bytes.into()).unwrap();
            prop_assert!(read.tail_bytes() <= body.len());
            prop_assert!(read.tags().iter().skip(1).map(|tag| tag.body.len()).sum::<usize>() <= body.len());
            let _ = FlvFile::read(&body.into());
            prop_assert!(head > 0);
        }
    }
}
