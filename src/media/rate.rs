//! Frame rates: as an encoder tells them, and as its timestamps show them.

use super::grid::{Period, ROUNDING};
use super::time::Ticks;

/// Frames per second as a fraction in lowest terms, between 1 and 300.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRate {
    num: u32,
    den: u32,
}

/// The rates that cameras, studios and screens run at. A rate told or seen within 0.03 % of one means that one;
/// the nearest two, such as 30 and 29.97, lie 0.1 % apart.
const COMMON: [FrameRate; 14] = [
    FrameRate { num: 15, den: 1 },
    FrameRate { num: 20, den: 1 },
    FrameRate { num: 24_000, den: 1001 },
    FrameRate { num: 24, den: 1 },
    FrameRate { num: 25, den: 1 },
    FrameRate { num: 30_000, den: 1001 },
    FrameRate { num: 30, den: 1 },
    FrameRate { num: 48, den: 1 },
    FrameRate { num: 50, den: 1 },
    FrameRate { num: 60_000, den: 1001 },
    FrameRate { num: 60, den: 1 },
    FrameRate { num: 100, den: 1 },
    FrameRate { num: 120_000, den: 1001 },
    FrameRate { num: 120, den: 1 },
];

impl FrameRate {
    /// `None` for what is no frame rate: below 1 or above 300 a second. Encoders that run on a millisecond clock say
    /// 500 or 1000 there.
    pub fn new(num: u32, den: u32) -> Option<Self> {
        /// Keeps the arithmetic of a grid far from 64 bits; 1001-based rates of any kind fit.
        const PART_MAX: u32 = 1_000_000;
        if den == 0 || !(u64::from(den)..=300 * u64::from(den)).contains(&u64::from(num)) {
            return None;
        }
        if let Some(common) = Self::snap(f64::from(num) / f64::from(den)) {
            return Some(common);
        }
        let divisor = gcd(num, den);
        let rate = Self { num: num / divisor, den: den / divisor };
        (rate.num <= PART_MAX).then_some(rate)
    }

    /// From a decimal such as `onMetaData` carries: 29.97 means 30000/1001.
    pub fn from_decimal(rate: f64) -> Option<Self> {
        Self::snap(rate).or_else(|| {
            let whole = rate.fract() == 0.0 && (1.0..=300.0).contains(&rate);
            whole.then_some(Self { num: rate as u32, den: 1 })
        })
    }

    fn snap(rate: f64) -> Option<Self> {
        let near = |common: &Self| (rate / common.as_f64() - 1.0).abs() < 0.000_3;
        COMMON.into_iter().find(near)
    }

    /// `(numerator, denominator)` in lowest terms.
    pub fn as_fraction(self) -> (u32, u32) {
        (self.num, self.den)
    }

    /// The time of one frame.
    pub fn period(self) -> Period {
        Period::of_frames(self.num, self.den)
    }

    fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Watches timestamps until only one common rate can have made them.
#[derive(Debug, Default)]
pub struct Observer {
    first: Option<Ticks>,
    frames: i64,
    /// Bit i is set while every stamp since `first` fits `COMMON[i]`.
    fitting: u16,
}

/// Frames that must agree before a rate is believed: about a second, so that no start-up hiccup sets it.
const AGREEMENT: i64 = 32;

impl Observer {
    /// Takes the next frame's raw stamp. Answers the rate, and the stamp it counts from, from the moment on that
    /// just one remains; a stamp that fits none starts the watch again.
    pub fn push(&mut self, stamp: Ticks) -> Option<(FrameRate, Ticks)> {
        let Some(first) = self.first else {
            self.restart(stamp);
            return None;
        };
        self.frames += 1;
        for (i, rate) in COMMON.iter().enumerate() {
            let expected = rate.period().times(self.frames);
            if (stamp - first - expected).0.abs() > ROUNDING.0 {
                self.fitting &= !(1 << i);
            }
        }
        if self.fitting == 0 {
            self.restart(stamp);
            return None;
        }
        let only = self.fitting.is_power_of_two() && self.frames >= AGREEMENT;
        let rate = COMMON.get(self.fitting.trailing_zeros() as usize)?;
        only.then_some((*rate, first))
    }

    fn restart(&mut self, stamp: Ticks) {
        *self = Self { first: Some(stamp), frames: 0, fitting: (1 << COMMON.len()) - 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_rate_means_the_common_one_beside_it() {
        for (told, meant) in [
            (29.97, Some((30_000, 1001))),
            (23.98, Some((24_000, 1001))),
            (23.976, Some((24_000, 1001))),
            (59.94, Some((60_000, 1001))),
            (30.0, Some((30, 1))),
            (12.0, Some((12, 1))),
            (0.0, None),
            (-25.0, None),
            (1000.0, None),
            (17.3, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(FrameRate::from_decimal(told).map(FrameRate::as_fraction), meant, "{told}");
        }
        assert_eq!(FrameRate::new(2997, 100), FrameRate::new(30_000, 1001));
        assert_eq!(FrameRate::new(50, 4).map(FrameRate::as_fraction), Some((25, 2)));
        for (num, den) in
            [(0, 1), (1, 0), (0, 0), (1000, 1), (u32::MAX, 1), (1, 2), (1_999_999_997, 77_777_771)]
        {
            assert_eq!(FrameRate::new(num, den), None, "{num}/{den}");
        }
    }

    /// Milliseconds rounded either way from any phase: each common rate is told from all others.
    #[test]
    fn every_common_rate_is_recognised_from_rounded_milliseconds() {
        for rate in COMMON {
            for (phase, rounding) in [(0, 0), (0, 45), (37, 0), (89, 45)] {
                let mut observer = Observer::default();
                let seen = (0..400).find_map(|n| {
                    let ms = (rate.period().times(n).0 + phase + rounding) / 90;
                    observer.push(Ticks(ms * 90))
                });
                assert_eq!(seen.map(|(seen, _)| seen), Some(rate));
            }
        }
    }

    #[test]
    fn a_variable_rate_is_none() {
        let mut observer = Observer::default();
        let mut at = 0;
        for n in 0..1000 {
            at += 33 + (n * 7919 % 23);
            assert_eq!(observer.push(Ticks(at * 90)), None);
        }
    }
}
