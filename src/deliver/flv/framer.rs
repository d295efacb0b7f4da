//! Events in, blocks of FLV tags out: every tag of a broadcast is framed once, whoever watches. A core.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::media::flv::TagKind;
use crate::media::flv::write::{self, FILE_HEADER_LEN, TAG_OVERHEAD};
use crate::media::rebase::Rebase;
use crate::media::{Event, Frame, Track, TrackSet};

/// What a decoder needs before a block: the parameters in force, as tags.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Rises with every change of parameters.
    pub version: u32,
    /// The file header that is true while this head is in force.
    pub file_header: [u8; FILE_HEADER_LEN],
    /// `onMetaData` and the sequence headers.
    pub tags: Bytes,
}

impl Head {
    fn new(version: u32, tracks: &TrackSet, timestamp_ms: u32) -> Self {
        let mut tags = BytesMut::new();
        // At 0 wherever it stands: FFmpeg takes any other for a subtitle, and shows a third stream.
        write::tag(&mut tags, TagKind::Data, 0, &[], &write::metadata(tracks));
        for (kind, body) in write::sequence_headers(tracks) {
            write::tag(&mut tags, kind, timestamp_ms, &[], &body);
        }
        Self { version, file_header: write::file_header(tracks), tags: tags.freeze() }
    }
}

/// Whole tags, in one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Must have been sent before.
    pub head: Arc<Head>,
    /// It begins with a random access point.
    pub start: bool,
    /// The tags.
    pub bytes: Bytes,
}

/// What becomes of the broadcast, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// More of it.
    Block(Block),
    /// Who begins at the newest start begins with this head: a track has come to those that were there.
    Opening(Arc<Head>),
    /// Nobody begins at any start so far.
    Closed,
    /// Nothing follows.
    End,
}

/// Frames one broadcast.
#[derive(Debug, Default)]
pub(super) struct Framer {
    rebase: Rebase,
    tracks: Arc<TrackSet>,
    version: u32,
    /// In force for what is open.
    head: Option<Arc<Head>>,
    /// Where the newest start begins.
    start_ms: u32,
    /// Pictures do not decode before the next random access point.
    lost: bool,
    open: Open,
    pieces: Vec<Piece>,
}

/// A block in the making: references, copied once when it is closed.
#[derive(Debug, Default)]
struct Open {
    start: bool,
    tags: Vec<Tag>,
    len: usize,
}

#[derive(Debug)]
struct Tag {
    kind: TagKind,
    timestamp_ms: u32,
    head: write::Head,
    payload: Bytes,
}

impl Framer {
    /// Takes one event.
    pub(super) fn push(&mut self, event: &Event) {
        match event {
            Event::Start(_) => {
                self.rebase.restart();
                self.lost = true;
                self.close(Piece::Closed);
            }
            Event::Tracks(tracks) => self.change(tracks),
            Event::Frame(frame) => self.frame(frame),
            Event::Discontinuity => self.rebase.restart(),
            Event::Stop => self.close(Piece::Closed),
            Event::End => self.close(Piece::End),
        }
    }

    /// Something has not been taken yet.
    pub(super) fn is_pending(&self) -> bool {
        !self.pieces.is_empty() || !self.open.tags.is_empty()
    }

    /// Everything so far.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        self.close_block();
        std::mem::take(&mut self.pieces)
    }

    fn change(&mut self, tracks: &Arc<TrackSet>) {
        let before = std::mem::replace(&mut self.tracks, Arc::clone(tracks));
        if before == *tracks {
            return;
        }
        // What is open belongs to the parameters of before.
        self.close_block();
        self.lost |= before.video != tracks.video;
        self.version += 1;
        self.head = Some(Arc::new(Head::new(self.version, tracks, self.rebase.reached_ms())));
        let kept = (before.video.is_none() || before.video == tracks.video)
            && (before.audio.is_none() || before.audio == tracks.audio);
        self.pieces.push(if kept {
            // Its flags tell of both tracks, or flv.js would not expect the second.
            Piece::Opening(Arc::new(Head::new(self.version, tracks, self.start_ms)))
        } else {
            Piece::Closed
        });
    }

    fn frame(&mut self, frame: &Frame) {
        let Some(head) = &self.head else { return };
        let has_video = self.tracks.video.is_some();
        let version = head.version;
        if frame.track == Track::Video {
            if self.lost && !frame.random_access {
                return;
            }
            self.lost = false;
        }
        let start = match frame.track {
            Track::Video => frame.random_access,
            // Any audio frame is one; a block of its own for each would be many.
            Track::Audio => !has_video && self.open.tags.is_empty(),
        };
        let stamp = self.rebase.place(frame);
        if start {
            self.close_block();
            self.open.start = true;
            self.start_ms = stamp.dts_ms;
            self.head = Some(Arc::new(Head::new(version, &self.tracks, stamp.dts_ms)));
        }
        let head = write::frame_head(frame, &self.tracks, stamp.composition_ms);
        self.open.len += head.as_ref().len() + frame.payload.len() + TAG_OVERHEAD;
        self.open.tags.push(Tag {
            kind: write::kind(frame.track),
            timestamp_ms: stamp.dts_ms,
            head,
            payload: frame.payload.clone(),
        });
    }

    fn close(&mut self, piece: Piece) {
        self.close_block();
        self.pieces.push(piece);
    }

    fn close_block(&mut self) {
        let Some(head) = &self.head else { return };
        if self.open.tags.is_empty() {
            return;
        }
        let mut bytes = BytesMut::with_capacity(self.open.len);
        for tag in self.open.tags.drain(..) {
            write::tag(&mut bytes, tag.kind, tag.timestamp_ms, tag.head.as_ref(), &tag.payload);
        }
        let (head, start) = (Arc::clone(head), std::mem::take(&mut self.open.start));
        self.open.len = 0;
        self.pieces.push(Piece::Block(Block { head, start, bytes: bytes.freeze() }));
    }
}
