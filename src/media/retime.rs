//! From whole milliseconds to exact times: pictures on a grid of their rate, audio on its sample clock.
//!
//! hls.js takes a step of more than a frame for a hole and one of less than nothing for an overlap, and shifts what
//! it plays (HLS rules A3, "boundary" and "audio clock"): RTMP's rounding must not reach it.

use super::grid::{Grid, Period, ROUNDING};
use super::rate::{FrameRate, Observer};
use super::time::{Span, Ticks};

/// The times of one picture. `pts` may still lie before `dts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retimed {
    /// Decode time, after the one before.
    pub dts: Ticks,
    /// Presentation time.
    pub pts: Ticks,
    /// The stamp was not after the one before, so `dts` is one tick after it.
    pub nudged: bool,
}

/// Places pictures. A picture at a constant rate comes out on the grid; any other within a rounding of its stamp.
#[derive(Debug, Default)]
pub struct VideoClock {
    rate: Option<FrameRate>,
    grid: Option<Grid>,
    last: Option<Ticks>,
    observer: Observer,
    /// A stamp did not fit `rate` since it was set: what the observer sees counts more than what was told.
    contradicted: bool,
}

impl VideoClock {
    /// The stream's parameters say another rate, or (`None`) nothing. Times go on.
    pub fn retune(&mut self, rate: Option<FrameRate>) {
        *self = Self { rate, last: self.last, ..Self::default() };
    }

    /// A hint, taken if nothing better is known.
    pub fn suggest(&mut self, rate: FrameRate) {
        self.rate = self.rate.or(Some(rate));
    }

    /// A new timeline begins: every place is forgotten, the rate is not.
    pub fn restart(&mut self) {
        *self = Self { rate: self.rate, ..Self::default() };
    }

    /// Places a picture by its stamp and composition offset, both rounded to milliseconds.
    pub fn place(&mut self, stamp: Ticks, composition: Span) -> Retimed {
        self.observe(stamp);
        let after = self.last.map(|last| last + Span(1));
        let (dts, nudged) = match (self.on_grid(stamp), after) {
            (Some(dts), _) => (dts, false),
            (None, Some(after)) if stamp < after => (after, true),
            (None, _) => {
                self.contradicted |= self.grid.is_some();
                self.grid = self.rate.map(|rate| Grid::new(rate.period(), stamp));
                (stamp, false)
            }
        };
        self.last = Some(dts);
        let pts = if nudged { dts } else { stamp } + composition;
        // The stamp and the offset are rounded apart, but their sum is the encoder's PTS rounded once.
        let on_grid = self.grid.and_then(|grid| grid.near(pts, ROUNDING).map(|steps| grid.after(steps)));
        Retimed { dts, pts: on_grid.unwrap_or(pts), nudged }
    }

    fn on_grid(&mut self, stamp: Ticks) -> Option<Ticks> {
        let grid = self.grid.as_mut()?;
        let steps = grid.near(stamp, ROUNDING)?;
        let later = self.last.is_none_or(|last| grid.after(steps) > last);
        later.then(|| grid.advance(steps))
    }

    fn observe(&mut self, stamp: Ticks) {
        if self.rate.is_some() && !self.contradicted {
            return;
        }
        let Some((rate, first)) = self.observer.push(stamp) else { return };
        self.contradicted = false;
        self.observer = Observer::default();
        if self.rate != Some(rate) {
            self.rate = Some(rate);
            self.grid = Some(Grid::new(rate.period(), first));
        }
    }
}

/// Places audio frames: each follows the one before by exactly its samples.
#[derive(Debug)]
pub struct AudioClock {
    period: Period,
    grid: Option<Grid>,
    last: Option<Ticks>,
}

impl AudioClock {
    /// For frames of `period`.
    pub fn new(period: Period) -> Self {
        Self { period, grid: None, last: None }
    }

    /// Frames have another period from now on. Times go on.
    pub fn retune(&mut self, period: Period) {
        *self = Self { period, grid: None, last: self.last };
    }

    /// A new timeline begins: every place is forgotten.
    pub fn restart(&mut self) {
        *self = Self::new(self.period);
    }

    /// The time of one frame.
    pub fn period(&self) -> Span {
        self.period.times(1)
    }

    /// Places a frame by its stamp. True where the sample clock was more than a frame off and gave way: hls.js allows
    /// one (`maxAudioFramesDrift`) before it inserts silence.
    pub fn place(&mut self, stamp: Ticks) -> (Ticks, bool) {
        let due = self.grid.map(|grid| grid.after(1));
        let (at, resynced) = match (self.grid.as_mut(), due) {
            (Some(grid), Some(due)) if (stamp - due).0.abs() <= self.period.times(1).0 => {
                (grid.advance(1), false)
            }
            _ => {
                let at = self.last.map_or(stamp, |last| stamp.max(last + Span(1)));
                self.grid = Some(Grid::new(self.period, at));
                (at, due.is_some())
            }
        };
        self.last = Some(at);
        (at, resynced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    /// What an encoder's muxer makes of an exact time.
    fn rounded(exact: Span) -> Ticks {
        Ticks((exact.0 + 45) / 90 * 90)
    }

    /// HLS rules A3 "boundary": a day of rounded stamps gives exact steps, and never a correction. Every seventh picture
    /// is enough: the others were dropped.
    #[test]
    fn constant_rates_lie_on_their_grid_for_a_day() {
        for (num, den) in [(30_000, 1001), (24_000, 1001), (25, 1)] {
            let rate = FrameRate::new(num, den).unwrap();
            let mut clock = VideoClock::default();
            clock.retune(Some(rate));
            let frames = DAY_S * i64::from(num) / i64::from(den);
            for n in (0..frames).step_by(7) {
                let placed = clock.place(rounded(rate.period().times(n)), Span::from_ms(0));
                let exact = Ticks(0) + rate.period().times(n);
                assert_eq!((placed.dts, placed.pts, placed.nudged), (exact, exact, false), "{rate:?} {n}");
            }
        }
    }

    /// HLS rules A3 "audio clock": PTS(n) = PTS(0) + n * samples / rate, to the tick, for a day.
    #[test]
    fn audio_lies_on_its_sample_clock_for_a_day() {
        for (samples, rate) in [(1152, 44_100), (1024, 44_100)] {
            let period = Period::of_samples(samples, rate);
            let mut clock = AudioClock::new(period);
            for n in 0..DAY_S * i64::from(rate) / i64::from(samples) {
                let placed = clock.place(rounded(period.times(n)));
                assert_eq!(placed, (Ticks(0) + period.times(n), false), "{rate} {n}");
            }
        }
    }

    #[test]
    fn composition_offsets_land_on_the_same_grid() {
        let rate = FrameRate::new(30_000, 1001).unwrap();
        let mut clock = VideoClock::default();
        clock.retune(Some(rate));
        for (n, ahead) in (0..3000).zip([2, 5, 1, -1, 0, -2].into_iter().cycle()) {
            let (dts, pts) = (rounded(rate.period().times(n)), rounded(rate.period().times(n + ahead)));
            let placed = clock.place(dts, pts - dts);
            assert_eq!(placed.dts, Ticks(0) + rate.period().times(n));
            assert_eq!(placed.pts, Ticks(0) + rate.period().times(n + ahead));
        }
    }

    #[test]
    fn a_dropped_picture_leaves_the_others_on_the_grid() {
        let rate = FrameRate::new(25, 1).unwrap();
        let mut clock = VideoClock::default();
        clock.retune(Some(rate));
        for n in (0..1000).filter(|n| n % 7 != 0) {
            let jitter = Span::from_ms(n % 3 - 1);
            let anchor = Span::from_ms(40);
            let placed = clock.place(Ticks(n * 3600) + if n == 1 { Span::ZERO } else { jitter }, Span::ZERO);
            assert_eq!(placed.dts, Ticks((n - 1) * 3600) + anchor);
        }
    }

    /// Nothing was told, or something wrong: the stamps themselves show the rate.
    #[test]
    fn an_untold_or_mistold_rate_is_found() {
        let true_rate = FrameRate::new(60_000, 1001).unwrap();
        for told in [None, FrameRate::new(25, 1), FrameRate::new(60, 1), FrameRate::new(50, 3)] {
            let mut clock = VideoClock::default();
            clock.retune(told);
            let mut found = None;
            let mut last = Ticks(-1);
            let mut phases = Vec::new();
            for n in 0..2000 {
                let stamp = rounded(true_rate.period().times(n));
                let placed = clock.place(stamp, Span::ZERO);
                assert!((placed.dts - stamp).0.abs() <= ROUNDING.0 && placed.dts > last);
                last = placed.dts;
                found = found.or((clock.rate == Some(true_rate)).then_some(n));
                if found.is_some() {
                    phases.push((placed.dts - Ticks(0) - true_rate.period().times(n)).0);
                }
            }
            phases.sort_unstable();
            assert!(
                phases.last().zip(phases.first()).is_some_and(|(last, first)| last - first <= 1),
                "{told:?}"
            );
            assert!(found.is_some_and(|n| n < 600), "{told:?}: {found:?}");
        }
    }

    #[test]
    fn audio_gives_way_after_more_than_one_frame_only() {
        let period = Period::of_samples(1024, 48_000);
        let mut clock = AudioClock::new(period);
        assert_eq!(clock.place(Ticks(0)), (Ticks(0), false));
        assert_eq!(clock.place(Ticks(1920 + 1920)), (Ticks(1920), false), "late by a frame");
        assert_eq!(clock.place(Ticks(3840 - 1920)), (Ticks(3840), false), "early by a frame");
        assert_eq!(clock.place(Ticks(5760 + 1921)), (Ticks(7681), true), "a frame was lost");
        assert_eq!(clock.place(Ticks(0)), (Ticks(7682), true), "never back");
    }

    proptest::proptest! {
        /// A variable rate comes out as it went in, within a rounding; any stamps come out rising.
        #[test]
        fn no_picture_moves_by_more_than_a_rounding(
            steps in proptest::collection::vec(2_i64..200, 1..300), told in 0_u32..130
        ) {
            let mut clock = VideoClock::default();
            clock.retune(FrameRate::new(told, 1));
            let (mut stamp, mut last) = (0, Ticks(-1));
            for step in steps {
                stamp += step * 90;
                let placed = clock.place(Ticks(stamp), Span::from_ms(step));
                proptest::prop_assert!(placed.dts > last && !placed.nudged);
                proptest::prop_assert!((placed.dts.0 - stamp).abs() <= ROUNDING.0);
                proptest::prop_assert!((placed.pts.0 - stamp - step * 90).abs() <= ROUNDING.0);
                last = placed.dts;
            }
        }

        #[test]
        fn any_stamps_come_out_rising(stamps in proptest::collection::vec(-1000_i64..1000, 1..100)) {
            let mut video = VideoClock::default();
            video.retune(FrameRate::new(30, 1));
            let mut audio = AudioClock::new(Period::of_samples(1024, 44_100));
            let (mut pictures, mut frames) = (Ticks(i64::MIN), Ticks(i64::MIN));
            for stamp in stamps {
                let (picture, frame) = (video.place(Ticks(stamp * 90), Span::ZERO), audio.place(Ticks(stamp * 90)));
                proptest::prop_assert!(picture.dts > pictures && frame.0 > frames);
                (pictures, frames) = (picture.dts, frame.0);
            }
        }
    }
}
