//! What a broadcast measures now: bitrate and frame rate over the last seconds of media time.

use std::collections::VecDeque;

use crate::media::time::TICKS_PER_SECOND;
use crate::media::{Frame, Track};

/// Seconds of media time that the figures are averaged over.
const WINDOW_S: i64 = 5;

/// Counts frames into buckets of one second of media time, so that a burst after a stall is not a bitrate.
#[derive(Debug, Default)]
pub struct Meter {
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    second: i64,
    bytes: u64,
    pictures: u64,
}

impl Meter {
    /// Counts a frame. Time that goes back, or leaps past the window, starts the measurement afresh.
    pub fn push(&mut self, frame: &Frame) {
        let second = frame.dts.0.div_euclid(TICKS_PER_SECOND);
        if self.buckets.back().is_some_and(|last| (second - last.second).abs() > WINDOW_S) {
            self.buckets.clear();
        }
        if self.buckets.back().is_none_or(|last| second > last.second) {
            self.buckets.push_back(Bucket { second, bytes: 0, pictures: 0 });
        }
        while self.buckets.front().is_some_and(|first| second - first.second > WINDOW_S) {
            self.buckets.pop_front();
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.bytes += frame.payload.len() as u64;
            bucket.pictures += u64::from(frame.track == Track::Video);
        }
    }

    /// Payload bits per second over the whole seconds measured; 0 before the first has passed.
    pub fn bits_per_second(&self) -> u64 {
        self.per_second(|bucket| bucket.bytes * 8) as u64
    }

    /// Pictures per second over the whole seconds measured; 0 before the first has passed.
    pub fn pictures_per_second(&self) -> f64 {
        self.per_second(|bucket| bucket.pictures)
    }

    fn per_second(&self, of: impl Fn(&Bucket) -> u64) -> f64 {
        // The newest second is still filling, and the oldest began somewhere in the middle at the start.
        let (Some(first), Some(last)) = (self.buckets.front(), self.buckets.back()) else { return 0.0 };
        let seconds = last.second - first.second;
        if seconds <= 0 {
            return 0.0;
        }
        let total: u64 = self.buckets.iter().take(self.buckets.len() - 1).map(of).sum();
        total as f64 / seconds as f64
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::Ticks;

    #[test]
    fn a_constant_stream_measures_as_itself() {
        let mut meter = Meter::default();
        for n in 0..300 {
            let at = Ticks(n * TICKS_PER_SECOND / 25);
            let payload = Bytes::from_static(&[0; 1000]);
            meter.push(&Frame { track: Track::Video, dts: at, pts: at, random_access: true, payload });
        }
        assert_eq!(meter.bits_per_second(), 200_000);
        assert!((meter.pictures_per_second() - 25.0).abs() < f64::EPSILON);
    }
}
