//! An FLV stream's tags as they arrive (FLV specification 10.1, annexes E.2 to E.4.1). No socket.

use crate::common::Failure;

/// The file header and the first `PreviousTagSize`.
const FILE_HEADER_BYTES: usize = 13;
const TAG_HEADER_BYTES: usize = 11;
/// The size behind each tag.
const TRAILER_BYTES: usize = 4;

/// What is collected next.
#[derive(Debug, Default)]
enum Place {
    #[default]
    FileHeader,
    Header,
    /// As much of the body as is kept.
    Body,
    Trailer,
}

/// Walks over tags, keeps the start of each and skips the rest.
#[derive(Debug)]
pub(crate) struct Tags {
    place: Place,
    /// What has been collected of the tag at hand, and how long it will be.
    kept: Vec<u8>,
    want: usize,
    /// Bytes to pass over before more is collected.
    skip: usize,
    body_kept_max: usize,
}

/// A tag that has arrived with its last byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived<'a> {
    /// 8 audio, 9 video, 18 data.
    pub(crate) type_id: u8,
    /// Length of the whole body.
    pub(crate) len: usize,
    /// As much of the body as is kept.
    pub(crate) body: &'a [u8],
}

impl Tags {
    /// Keeps up to `body_kept_max` bytes of each body.
    pub(crate) fn new(body_kept_max: usize) -> Self {
        Self { place: Place::default(), kept: Vec::new(), want: FILE_HEADER_BYTES, skip: 0, body_kept_max }
    }

    /// Takes the next bytes; `arrived` hears of each tag that ends in them.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut arrived: impl FnMut(Arrived) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let skipped = bytes.len().min(self.skip);
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let (here, rest) = bytes.split_at(bytes.len().min(self.want - self.kept.len()));
            self.kept.extend_from_slice(here);
            bytes = rest;
            if self.skip > 0 || self.kept.len() < self.want {
                return Ok(());
            }
            match self.place {
                Place::FileHeader => {
                    if !self.kept.starts_with(b"FLV\x01") || !self.kept.ends_with(&[0, 0, 0, 9, 0, 0, 0, 0]) {
                        return Err(format!("no FLV file header: {:02x?}", self.kept).into());
                    }
                    self.kept.clear();
                    (self.place, self.want) = (Place::Header, TAG_HEADER_BYTES);
                }
                Place::Header => {
                    if !matches!(self.kept[0], 8 | 9 | 18) || self.kept[8..11] != [0; 3] {
                        return Err(format!("no FLV tag header: {:02x?}", self.kept).into());
                    }
                    (self.place, self.want) =
                        (Place::Body, TAG_HEADER_BYTES + self.body_len().min(self.body_kept_max));
                }
                Place::Body => {
                    self.skip = TAG_HEADER_BYTES + self.body_len() - self.want;
                    (self.place, self.want) = (Place::Trailer, self.want + TRAILER_BYTES);
                }
                Place::Trailer => {
                    let len = self.body_len();
                    let (tag, trailer) = self.kept.split_at(self.want - TRAILER_BYTES);
                    if trailer != ((TAG_HEADER_BYTES + len) as u32).to_be_bytes() {
                        return Err(format!("a tag of {len} bytes is followed by {trailer:02x?}").into());
                    }
                    arrived(Arrived { type_id: tag[0], len, body: &tag[TAG_HEADER_BYTES..] })?;
                    self.kept.clear();
                    (self.place, self.want) = (Place::Header, TAG_HEADER_BYTES);
                }
            }
        }
    }

    fn body_len(&self) -> usize {
        u32::from_be_bytes([0, self.kept[1], self.kept[2], self.kept[3]]) as usize
    }
}
