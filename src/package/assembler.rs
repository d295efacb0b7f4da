//! One broadcast on its way into segments: the segmenter's steps, carried out by the muxer.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::media::{Event, Frame, Span, Track};

use super::Settings;
use super::segmenter::{Begin, End, Limits, Segmenter, Step};
use super::ts::SegmentMuxer;

/// A segment's bytes and what is to be said of it.
#[derive(Debug)]
pub struct Muxed {
    /// How it began.
    pub begin: Begin,
    /// How it ended.
    pub end: End,
    /// The MPEG-TS.
    pub bytes: Bytes,
    /// Its pictures over its duration.
    pub pictures_per_second: f64,
}

/// Segmenter and muxer of one broadcast.
#[derive(Debug)]
pub struct Assembler {
    segmenter: Segmenter,
    open: Option<Open>,
    segments: u64,
    discarded: u64,
    unmuxable: u64,
}

/// The segment being muxed.
#[derive(Debug)]
struct Open {
    begin: Begin,
    muxer: SegmentMuxer,
    pictures: u32,
}

impl Assembler {
    /// For one broadcast.
    pub fn new(settings: &Settings) -> Self {
        let limits = Limits {
            target: settings.segment.into(),
            length_max: settings.gop_max.into(),
            bytes_max: usize::try_from(settings.segment_max.as_u64()).unwrap_or(usize::MAX),
        };
        Self { segmenter: Segmenter::new(limits), open: None, segments: 0, discarded: 0, unmuxable: 0 }
    }

    /// Segments made so far.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Takes an event. Drain [`Assembler::poll`] after it.
    pub fn handle(&mut self, event: &Event, wall: WallTime) {
        self.segmenter.handle(event, wall);
    }

    /// The next step to carry out.
    pub fn poll(&mut self) -> Option<Step> {
        self.segmenter.poll()
    }

    /// Opens a segment. With tracks that MPEG-TS can't carry there is none, and its frames count as unmuxable.
    pub fn begin(&mut self, begin: Begin) {
        let muxer = SegmentMuxer::new(Arc::clone(&begin.tracks));
        self.open = muxer.ok().map(|muxer| Open { begin, muxer, pictures: 0 });
    }

    /// Muxes a frame into the open segment.
    pub fn append(&mut self, frame: &Arc<Frame>) {
        match self.open.as_mut().map(|open| (open.muxer.push(frame), open)) {
            Some((Ok(()), open)) => open.pictures += u32::from(frame.track == Track::Video),
            Some((Err(_), _)) | None => self.unmuxable += 1,
        }
    }

    /// Closes the open segment. `None` if it has no duration or no frames: it can't be listed.
    pub fn finish(&mut self, end: End) -> Option<Muxed> {
        let Open { begin, muxer, pictures } = self.open.take()?;
        if end.duration <= Span::ZERO || muxer.is_empty() {
            return None;
        }
        let bytes = muxer.finish(end.next);
        self.segments += 1;
        let pictures_per_second = f64::from(pictures) / end.duration.as_secs_f64();
        Some(Muxed { begin, end, bytes, pictures_per_second })
    }

    /// Frames that reached no segment since the last call, by reason.
    pub fn take_drops(&mut self) -> impl Iterator<Item = (&'static str, u64)> {
        let discarded = self.segmenter.discarded();
        let waited = discarded - std::mem::replace(&mut self.discarded, discarded);
        let unmuxable = std::mem::take(&mut self.unmuxable);
        [("no_random_access_point", waited), ("unmuxable", unmuxable)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
    }
}
