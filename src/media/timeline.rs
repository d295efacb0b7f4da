//! One publish's timestamps: RTMP's 32 bits of milliseconds, unwrapped, and the places where time breaks.

use super::Track;
use super::time::{Span, Ticks};

/// A step forward by more than this, beyond what either track has reached, is a jump. Longer than any frame of a slide
/// show that is worth one timeline, shorter than any target duration a gap would have to fit in.
const FORWARD_MAX_MS: i64 = 3000;

/// A step back of a track by more than this is a jump. Encoders that stamp pictures in display order step back by a
/// few frames; restarted ones by seconds at least.
const BACKWARD_MAX_MS: i64 = 500;

/// Tracks that start further apart than this do not share a clock. OBS starts them within half a second, cameras
/// with cold sensors within a few.
const SKEW_MAX_MS: i64 = 10_000;

/// Unwraps the raw timestamps of both tracks onto one timeline, and notices when it ends.
///
/// Ticks count from the encoder's own zero, not from the first frame: two origins that are fed by one encoder agree on
/// every time, whenever each of them joined.
#[derive(Debug, Default)]
pub struct Timeline {
    video: Option<Stamp>,
    audio: Option<Stamp>,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    raw: u32,
    ms: i64,
}

/// Where a timestamp lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// On the same timeline as the one before.
    At(Ticks),
    /// On the same timeline, but moved to where the other track is: the two had nothing in common.
    Aligned(Ticks),
    /// The first of a new timeline: the one before ended.
    Jump(Ticks),
}

impl Placed {
    /// The time, wherever it lies.
    pub fn ticks(self) -> Ticks {
        let (Self::At(at) | Self::Aligned(at) | Self::Jump(at)) = self;
        at
    }
}

impl Timeline {
    /// Places one frame's raw timestamp.
    pub fn place(&mut self, track: Track, raw: u32) -> Placed {
        let (own, other) = match track {
            Track::Video => (self.video, self.audio),
            Track::Audio => (self.audio, self.video),
        };
        let verdict = match (own, other) {
            (None, None) => Placed::At,
            (Some(own), other) => {
                let step = step_ms(own.raw, raw);
                let reached = other.map_or(own.ms, |other| other.ms.max(own.ms));
                let ms = own.ms + step;
                if step < -BACKWARD_MAX_MS || (step > FORWARD_MAX_MS && ms > reached + FORWARD_MAX_MS) {
                    *self = Self::default();
                    Placed::Jump
                } else {
                    return self.stand(track, raw, ms, Placed::At);
                }
            }
            (None, Some(other)) => {
                let step = step_ms(other.raw, raw);
                return if step.abs() > SKEW_MAX_MS {
                    self.stand(track, raw, other.ms, Placed::Aligned)
                } else {
                    self.stand(track, raw, other.ms + step, Placed::At)
                };
            }
        };
        self.stand(track, raw, i64::from(raw), verdict)
    }

    fn stand(&mut self, track: Track, raw: u32, ms: i64, verdict: fn(Ticks) -> Placed) -> Placed {
        let stamp = Some(Stamp { raw, ms });
        match track {
            Track::Video => self.video = stamp,
            Track::Audio => self.audio = stamp,
        }
        verdict(Ticks(0) + Span::from_ms(ms))
    }
}

/// The signed way from one raw timestamp to the next, modulo 2^31 rather than 2^32: FFmpeg's FLV muxer clears the top
/// bit. A clock of the full 32 bits loses nothing by it, as no step of 12 days is meant.
fn step_ms(from: u32, to: u32) -> i64 {
    i64::from((to.wrapping_sub(from) << 1) as i32 >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Placed {
        Placed::At(Ticks(ms * 90))
    }

    /// Promises, fault 17: a wrap is no event, at the standard's 2^32 as at FFmpeg's 2^31.
    #[test]
    fn a_wrap_goes_on() {
        for (bits, mask) in [(32, u32::MAX), (31, u32::MAX >> 1)] {
            let mut timeline = Timeline::default();
            let start = (1_i64 << bits) - 100;
            for n in 0..10 {
                let ms = start + n * 20;
                for track in [Track::Video, Track::Audio] {
                    assert_eq!(timeline.place(track, ms as u32 & mask), at(ms), "{bits} bits, {track:?}");
                }
            }
        }
    }

    #[test]
    fn tracks_may_cross_a_wrap_one_after_the_other() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(Track::Video, u32::MAX - 9), at((1 << 32) - 10));
        assert_eq!(timeline.place(Track::Video, 30), at((1 << 32) + 30));
        assert_eq!(
            timeline.place(Track::Audio, u32::MAX - 4),
            at((1 << 32) - 5),
            "audio's first, from before"
        );
        assert_eq!(timeline.place(Track::Audio, 18), at((1 << 32) + 18));
    }

    #[test]
    fn a_restarted_encoder_is_a_jump_and_both_tracks_follow() {
        let mut timeline = Timeline::default();
        timeline.place(Track::Video, 50_000);
        timeline.place(Track::Audio, 50_010);
        assert_eq!(timeline.place(Track::Video, 0), Placed::Jump(Ticks(0)));
        assert_eq!(timeline.place(Track::Audio, 10), at(10));
    }

    #[test]
    fn only_what_neither_track_has_reached_is_a_jump_forward() {
        let mut timeline = Timeline::default();
        timeline.place(Track::Video, 0);
        for ms in (0..20_000).step_by(20) {
            assert_eq!(timeline.place(Track::Audio, ms), at(i64::from(ms)));
        }
        assert_eq!(timeline.place(Track::Video, 20_000), at(20_000), "the camera was frozen, time was not");
        assert_eq!(timeline.place(Track::Video, 23_000), at(23_000));
        assert_eq!(timeline.place(Track::Video, 26_001), Placed::Jump(Ticks(26_001 * 90)));
    }

    #[test]
    fn a_small_step_back_is_no_jump() {
        let mut timeline = Timeline::default();
        timeline.place(Track::Audio, 1000);
        assert_eq!(timeline.place(Track::Audio, 500), at(500));
        assert_eq!(timeline.place(Track::Video, 0), at(0), "the other track may lag");
    }

    /// An encoder that stamps video from 0 and audio from the time of day plays on, aligned by arrival.
    #[test]
    fn tracks_of_two_clocks_are_aligned_once() {
        let mut timeline = Timeline::default();
        timeline.place(Track::Video, 0);
        timeline.place(Track::Video, 40);
        assert_eq!(timeline.place(Track::Audio, 3_600_000), Placed::Aligned(Ticks(40 * 90)));
        assert_eq!(timeline.place(Track::Audio, 3_600_020), at(60));
        assert_eq!(timeline.place(Track::Video, 80), at(80));
    }
}
