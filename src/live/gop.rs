//! What a joiner is given first: the newest group of pictures, bounded in bytes.

use std::sync::Arc;

use crate::media::{Epoch, Event, Frame, TrackSet};

/// Everything from the newest random access point on. Holds references: the segment in the making has the same frames.
#[derive(Debug)]
pub struct Gop {
    epoch: Option<Epoch>,
    tracks: Option<Arc<TrackSet>>,
    frames: Vec<Arc<Frame>>,
    bytes: usize,
    bytes_max: usize,
}

impl Gop {
    /// Nothing yet, and never more than `bytes_max` payload bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { epoch: None, tracks: None, frames: Vec::new(), bytes: 0, bytes_max }
    }

    /// Takes an event. A group that outgrows the bound is forgotten up to the next random access point.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Start(epoch) => {
                self.epoch = Some(*epoch);
                self.tracks = None;
                self.forget();
            }
            Event::Tracks(tracks) => {
                self.tracks = Some(Arc::clone(tracks));
                self.forget();
            }
            Event::Frame(frame) => self.frame(frame),
            Event::Discontinuity => self.forget(),
            Event::Stop | Event::End => {
                self.epoch = None;
                self.tracks = None;
                self.forget();
            }
        }
    }

    /// What brings a joiner to where everybody is.
    pub fn replay(&self) -> impl Iterator<Item = Event> {
        let head = self.epoch.map(Event::Start).into_iter().chain(self.tracks.clone().map(Event::Tracks));
        head.chain(self.frames.iter().cloned().map(Event::Frame))
    }

    fn frame(&mut self, frame: &Arc<Frame>) {
        if frame.starts(self.tracks.as_deref()) {
            self.forget();
        } else if self.frames.is_empty() {
            return;
        }
        self.bytes += frame.payload.len();
        self.frames.push(Arc::clone(frame));
        if self.bytes > self.bytes_max {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Ticks, Track};

    fn picture(at: i64, random_access: bool, len: usize) -> Event {
        let payload = Bytes::from(vec![0; len]);
        let (dts, pts) = (Ticks(at), Ticks(at));
        Event::Frame(Arc::new(Frame { track: Track::Video, dts, pts, random_access, payload }))
    }

    #[test]
    fn a_joiner_gets_the_newest_group_with_what_it_needs_to_decode_it() {
        let (start, tracks) = (Event::Start(Epoch(1)), Event::Tracks(Arc::default()));
        let mut gop = Gop::new(1000);
        let old = picture(0, true, 10);
        let (first, second) = (picture(2, true, 10), picture(3, false, 10));
        for event in [&start, &tracks, &picture(-1, false, 10), &old, &first, &second] {
            gop.push(event);
        }
        assert_eq!(gop.replay().collect::<Vec<_>>(), [start, tracks, first, second]);
        gop.push(&Event::Stop);
        assert_eq!(gop.replay().count(), 0);
    }

    #[test]
    fn a_group_larger_than_the_bound_is_not_kept() {
        let mut gop = Gop::new(1000);
        gop.push(&Event::Start(Epoch(1)));
        gop.push(&picture(0, true, 600));
        gop.push(&picture(1, false, 600));
        gop.push(&picture(2, false, 10));
        assert_eq!(gop.replay().count(), 1, "no start to decode from");
        gop.push(&picture(3, true, 600));
        assert_eq!(gop.replay().count(), 2);
    }
}
