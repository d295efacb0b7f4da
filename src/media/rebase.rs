//! From many timelines to the one that a player sees: 32 bits of milliseconds that begin near 0 and never go back.
//!
//! FLV and RTMP carry decode time and a composition offset. Frames come with times of an encoder that has been running
//! for days, or was restarted; a player takes a step back for an error, and one forward for a hole to wait in.

use super::{Frame, Ticks, Track};

/// Where the first frame lies. Not at 0: frames of the other track that come after it may lie before it, by as much as
/// the encoder interleaves badly.
const LEAD_MS: i64 = 100;

/// The step to the first frame after a break, where no frame has shown one yet: a picture at 25 per second.
const STEP_MS: i64 = 40;

/// No step of one frame is longer, whatever the last two said: what broke may have been a hole.
const STEP_MS_MAX: i64 = 100;

/// Composition offsets have 24 bits with sign (FLV E.4.3.1).
const COMPOSITION_MS_MAX: i64 = 0x7f_ffff;

/// A frame's place in what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Decode time in milliseconds, modulo 2^32: after 49 days it begins again, as RTMP's does.
    pub dts_ms: u32,
    /// Presentation less decode time in milliseconds, never negative.
    pub composition_ms: i32,
}

/// Places the frames of one outgoing stream. Both tracks are moved by the same whole number of milliseconds, so that
/// differences stay what the encoder sent.
#[derive(Debug, Default)]
pub struct Rebase {
    /// Added to every time of this timeline; `None` before its first frame.
    shift_ms: Option<i64>,
    video: Reached,
    audio: Reached,
}

/// How far a track has come in what is sent.
#[derive(Debug, Default, Clone, Copy)]
struct Reached {
    last_ms: Option<i64>,
    step_ms: Option<i64>,
}

impl Reached {
    fn next_ms(self) -> Option<i64> {
        let step_ms = self.step_ms.unwrap_or(STEP_MS).min(STEP_MS_MAX);
        self.last_ms.map(|last| last + step_ms)
    }
}

impl Rebase {
    /// The frames that follow lie on another timeline (`Event::Start`, `Event::Discontinuity`): the first of them goes on
    /// one frame after the last.
    pub fn restart(&mut self) {
        self.shift_ms = None;
    }

    /// Places a frame: never before another of its track.
    pub fn place(&mut self, frame: &Frame) -> Stamp {
        let resume_ms = self.video.next_ms().max(self.audio.next_ms()).unwrap_or(LEAD_MS);
        let shift_ms = *self.shift_ms.get_or_insert(resume_ms - to_ms(frame.dts));
        let reached = match frame.track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        let dts_ms = (to_ms(frame.dts) + shift_ms).max(reached.last_ms.unwrap_or(0));
        reached.step_ms =
            reached.last_ms.map(|last| dts_ms - last).filter(|step| *step > 0).or(reached.step_ms);
        reached.last_ms = Some(dts_ms);
        let composition_ms = (to_ms(frame.pts) + shift_ms - dts_ms).clamp(0, COMPOSITION_MS_MAX);
        Stamp { dts_ms: wrap(dts_ms), composition_ms: composition_ms as i32 }
    }

    /// The latest decode time placed, for what is sent between frames.
    pub fn reached_ms(&self) -> u32 {
        wrap(self.video.last_ms.max(self.audio.last_ms).unwrap_or(0))
    }
}

/// Rounded to the nearest: what came in as whole milliseconds goes out as the same.
fn to_ms(at: Ticks) -> i64 {
    (at.0 + 45).div_euclid(90)
}

fn wrap(ms: i64) -> u32 {
    ms as u32
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::{Span, Ticks};

    fn frame(track: Track, dts_ms: i64, composition_ms: i64) -> Frame {
        let dts = Ticks(0) + Span::from_ms(dts_ms);
        let payload = Bytes::from_static(b"x");
        Frame { track, dts, pts: dts + Span::from_ms(composition_ms), random_access: true, payload }
    }

    fn picture(rebase: &mut Rebase, dts_ms: i64, composition_ms: i64) -> (u32, i32) {
        let stamp = rebase.place(&frame(Track::Video, dts_ms, composition_ms));
        (stamp.dts_ms, stamp.composition_ms)
    }

    fn sound(rebase: &mut Rebase, dts_ms: i64) -> u32 {
        rebase.place(&frame(Track::Audio, dts_ms, 0)).dts_ms
    }

    #[test]
    fn a_stream_begins_near_zero_with_both_tracks_moved_alike() {
        for start in [-5000, 0, 86_400_000, i64::from(u32::MAX)] {
            let mut rebase = Rebase::default();
            assert_eq!(picture(&mut rebase, start, 80), (100, 80));
            assert_eq!(sound(&mut rebase, start - 30), 70, "audio that lies before the first picture");
            assert_eq!(picture(&mut rebase, start + 40, 0), (140, 0));
            assert_eq!(sound(&mut rebase, start - 7), 93);
        }
    }

    #[test]
    fn another_timeline_goes_on_one_frame_after_the_last() {
        let mut rebase = Rebase::default();
        for n in 0..3 {
            picture(&mut rebase, n * 20, 0);
            sound(&mut rebase, n * 23);
        }
        rebase.restart();
        assert_eq!(picture(&mut rebase, 9_000_000, 0), (100 + 46 + 23, 0), "audio had come further");
        assert_eq!(picture(&mut rebase, 9_000_020, 0), (189, 0));
        rebase.restart();
        assert_eq!(sound(&mut rebase, 5), 209);
        assert_eq!(picture(&mut rebase, -600, 0).0, 189, "never back, though it lies before");
        assert_eq!(rebase.reached_ms(), 209);
    }

    /// 29.97 pictures per second: whole milliseconds come back from the exact grid that `retime` put them on.
    #[test]
    fn differences_are_those_that_came_in() {
        let mut rebase = Rebase::default();
        let exact = |n: i64| Ticks(n * 3003);
        for n in 0..10_000 {
            let raw = (exact(n).0 + 45) / 90;
            let dts = exact(n);
            let picture = Frame { dts, pts: dts, ..frame(Track::Video, 0, 0) };
            assert_eq!(i64::from(rebase.place(&picture).dts_ms), raw + LEAD_MS);
        }
    }

    #[test]
    fn time_wraps_after_49_days() {
        let mut rebase = Rebase::default();
        picture(&mut rebase, 0, 0);
        assert_eq!(picture(&mut rebase, 1 << 32, 40), (100, 40));
    }

    proptest! {
        /// Whatever comes, with or without breaks: no track goes back, no step is longer than what came in, and offsets
        /// fit their 24 bits.
        #[test]
        fn no_track_ever_goes_back(
            frames in prop::collection::vec((any::<bool>(), -400_000_i64..400_000, -100_i64..9_000_000, prop::bool::weighted(0.1)), 1..200)
        ) {
            let mut rebase = Rebase::default();
            let mut last = [0, 0];
            for (video, dts_ms, composition_ms, breaks) in frames {
                if breaks {
                    rebase.restart();
                }
                let before = rebase.reached_ms();
                let track = if video { Track::Video } else { Track::Audio };
                let stamp = rebase.place(&frame(track, dts_ms, composition_ms));
                let last = &mut last[usize::from(video)];
                prop_assert!(stamp.dts_ms >= *last);
                prop_assert!(!breaks || stamp.dts_ms <= before + 100);
                prop_assert!((0..=0x7f_ffff).contains(&stamp.composition_ms));
                *last = stamp.dts_ms;
            }
        }
    }
}
