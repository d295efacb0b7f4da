//! Media time: ticks of 90 kHz that never wrap, whatever the encoder's 32 bits do.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};

/// The MPEG system clock that PTS and DTS count in (ISO/IEC 13818-1 §2.4.3.7).
pub const TICKS_PER_SECOND: i64 = 90_000;

/// A point on a stream's timeline, in 1/90000 s. Never wraps: 64 bits last three million years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(pub i64);

/// A distance between two [`Ticks`], in 1/90000 s. Signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms * 90)
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / TICKS_PER_SECOND as f64
    }

    /// In microseconds, rounded towards zero.
    pub const fn as_us(self) -> i64 {
        self.0 * 100 / 9
    }
}

impl From<std::time::Duration> for Span {
    /// Rounded down to a tick; more than 292 million years saturate.
    fn from(duration: std::time::Duration) -> Self {
        Self(i64::try_from(duration.as_nanos() * 9 / 100_000).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Span {
    /// In seconds with six decimals, the form of `EXTINF`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.as_us();
        let sign = if us < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:06}", us.unsigned_abs() / 1_000_000, us.unsigned_abs() % 1_000_000)
    }
}

impl Add<Span> for Ticks {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0 + span.0)
    }
}

impl Sub<Span> for Ticks {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0 - span.0)
    }
}

impl Sub for Ticks {
    type Output = Span;
    fn sub(self, other: Self) -> Span {
        Span(self.0 - other.0)
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}
