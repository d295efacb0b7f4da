//! Exactly spaced points in time: frames of a constant rate, and audio frames on their sample clock.

use super::time::{Span, TICKS_PER_SECOND, Ticks};

/// How far RTMP's whole milliseconds may lie from the truth: one millisecond, as the anchor and the stamp are both
/// rounded, and a tenth for the rounding of ticks.
pub const ROUNDING: Span = Span(99);

/// The exact time between two points: a fraction of ticks, so that a million of them add up without error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    ticks: i64,
    per: i64,
}

impl Period {
    /// Of frames at `num / den` a second. Zeros count as one.
    pub fn of_frames(num: u32, den: u32) -> Self {
        Self { ticks: TICKS_PER_SECOND * i64::from(den.max(1)), per: i64::from(num.max(1)) }
    }

    /// Of `samples` at `rate` a second. Zeros count as one.
    pub fn of_samples(samples: u32, rate: u32) -> Self {
        Self { ticks: TICKS_PER_SECOND * i64::from(samples.max(1)), per: i64::from(rate.max(1)) }
    }

    /// `n` periods, rounded down to a tick.
    pub fn times(self, n: i64) -> Span {
        let exact = i128::from(n) * i128::from(self.ticks);
        Span(exact.div_euclid(i128::from(self.per)) as i64)
    }

    /// How many periods come nearest to `span`.
    fn nearest(self, span: Span) -> i64 {
        let (ticks, per) = (i128::from(self.ticks), i128::from(self.per));
        (i128::from(span.0) * per + ticks / 2).div_euclid(ticks) as i64
    }
}

/// Points at `anchor + n * period`, and the one that was used last.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    period: Period,
    anchor: Ticks,
    last: i64,
}

impl Grid {
    /// A grid whose last used point is `anchor`.
    pub fn new(period: Period, anchor: Ticks) -> Self {
        Self { period, anchor, last: 0 }
    }

    /// The point `steps` after the last one.
    pub fn after(&self, steps: i64) -> Ticks {
        self.anchor + self.period.times(self.last + steps)
    }

    /// The point nearest to `time`, in steps after the last one; `None` if it is further off than `reach`.
    pub fn near(&self, time: Ticks, reach: Span) -> Option<i64> {
        let steps = self.period.nearest(time - self.anchor) - self.last;
        ((self.after(steps) - time).0.abs() <= reach.0).then_some(steps)
    }

    /// Uses the point `steps` after the last one.
    pub fn advance(&mut self, steps: i64) -> Ticks {
        // Moving the anchor by whole turns of the fraction is exact, and keeps the count small for ever.
        let index = self.last + steps;
        let turns = index.div_euclid(self.period.per);
        self.anchor = self.anchor + Span(turns * self.period.ticks);
        self.last = index.rem_euclid(self.period.per);
        self.after(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HLS rules A3 "audio clock", "boundary": after a day of steps a point is where the fraction says, to the tick.
    #[test]
    fn nothing_drifts_in_a_day() {
        for period in [
            Period::of_frames(30_000, 1001),
            Period::of_frames(24_000, 1001),
            Period::of_samples(1024, 44_100),
            Period::of_samples(1152, 44_100),
            Period::of_samples(960, 22_050),
        ] {
            let mut grid = Grid::new(period, Ticks(7_777));
            let steps = 86_400 * TICKS_PER_SECOND / period.times(1).0;
            for n in 1..=steps {
                let at = grid.advance(1);
                if n % 9_973 == 0 || n == steps {
                    assert_eq!(at, Ticks(7_777) + period.times(n), "{period:?} after {n}");
                }
            }
        }
    }

    #[test]
    fn the_nearest_point_is_found_on_both_sides_and_within_reach_only() {
        let mut grid = Grid::new(Period::of_frames(25, 1), Ticks(0));
        grid.advance(10);
        assert_eq!(grid.near(Ticks(11 * 3600 + 90), ROUNDING), Some(1));
        assert_eq!(grid.near(Ticks(13 * 3600 - 90), ROUNDING), Some(3));
        assert_eq!(grid.near(Ticks(9 * 3600), ROUNDING), Some(-1));
        assert_eq!(grid.near(Ticks(11 * 3600 + 180), ROUNDING), None);
    }
}
