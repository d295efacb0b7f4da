//! The first second of a publish, held until it is known what it carries and how far its pictures are reordered.

use super::time::{Span, Ticks};
use super::{Frame, Track};

/// How much media time the tracks have to show themselves. Encoders interleave within half a second; OBS starts its
/// tracks that far apart. What comes later is a late track: a discontinuity for players, but nothing lost.
const TRACKS_MAX: Span = Span::from_ms(1000);

/// How much of it the pictures have to show their order.
const ORDER_MAX: Span = Span::from_ms(500);

/// Pictures that show how negative composition offsets become: x264's default is 3 B-frames with a pyramid, so that
/// the most negative one is among the first five; hardware encoders use fewer.
const PICTURES_MAX: usize = 8;

/// Bytes that may be held: half a second of 250 Mbit/s. Beyond it, what is known must do.
const BYTES_MAX: usize = 16 << 20;

/// Frames in the order of their arrival, with decode times that the shift is still missing from.
#[derive(Debug, Default)]
pub(super) struct Hold {
    frames: Vec<Frame>,
    bytes: usize,
    pictures: usize,
    first_picture: Option<Span>,
    all: Range,
    video: Range,
}

/// The earliest and the latest decode time.
#[derive(Debug, Default, Clone, Copy)]
struct Range(Option<(Ticks, Ticks)>);

impl Range {
    fn add(&mut self, at: Ticks) {
        let (first, last) = self.0.unwrap_or((at, at));
        self.0 = Some((first.min(at), last.max(at)));
    }

    fn span(self) -> Span {
        self.0.map_or(Span::ZERO, |(first, last)| last - first)
    }
}

impl Hold {
    pub(super) fn push(&mut self, frame: Frame) {
        /// What a frame costs beside its payload, so that tiny ones are bounded too.
        const OVERHEAD: usize = 128;
        self.bytes += frame.payload.len() + OVERHEAD;
        self.all.add(frame.dts);
        if frame.track == Track::Video {
            self.pictures += 1;
            self.video.add(frame.dts);
            self.first_picture = self.first_picture.or(Some(frame.pts - frame.dts));
        }
        self.frames.push(frame);
    }

    /// It holds a frame of this track.
    pub(super) fn has(&self, track: Track) -> bool {
        if track == Track::Video { self.pictures > 0 } else { self.frames.len() > self.pictures }
    }

    /// Whether to let go: every expected track has shown a frame, and the pictures (which `reorders` says may be out of
    /// order) have shown their offsets; or it has lasted, or grown, long enough.
    pub(super) fn is_over(&self, expects: impl Fn(Track) -> bool, reorders: bool) -> bool {
        let tracks = [Track::Video, Track::Audio].into_iter().all(|track| self.has(track) || !expects(track));
        // A first picture with an offset comes from an encoder that has made room for the reordering already: its
        // first picture in output order is not late by itself.
        let delayed = self.first_picture.is_some_and(|offset| offset > Span::ZERO);
        let order = !reorders
            || !self.has(Track::Video)
            || delayed
            || self.pictures >= PICTURES_MAX
            || self.video.span() >= ORDER_MAX;
        let waited = self.all.span() >= TRACKS_MAX;
        self.bytes >= BYTES_MAX || (order && tracks) || waited
    }

    /// By how much the worst picture held is presented before it is decoded; zero if none is.
    pub(super) fn shift(&self) -> Span {
        self.frames.iter().map(|frame| frame.dts - frame.pts).max().unwrap_or_default().max(Span::ZERO)
    }

    pub(super) fn into_frames(self) -> Vec<Frame> {
        self.frames
    }
}
