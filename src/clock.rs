//! The only reader of clocks. Cores are handed times; shells ask a [`Clock`], so that a test can drive the
//! whole pipeline by hand.
//!
//! Three times are never mixed: [`Instant`] (monotonic, for timeouts), [`WallTime`] (for program date-time
//! and names), and media time (`media::Ticks`, which comes from the encoder alone).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in microseconds since 1970-01-01T00:00:00Z. May jump when the machine's clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// From microseconds since the Unix epoch.
    pub const fn from_unix_us(us: i64) -> Self {
        Self(us)
    }

    /// Microseconds since the Unix epoch.
    pub const fn unix_us(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn unix_s(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time moved by `us` microseconds.
    #[must_use]
    pub const fn plus_us(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(since.as_micros().try_into().unwrap_or(i64::MAX)),
            Err(before) => Self(-before.duration().as_micros().try_into().unwrap_or(i64::MAX)),
        }
    }
}

impl From<WallTime> for SystemTime {
    fn from(time: WallTime) -> Self {
        let magnitude = Duration::from_micros(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - magnitude } else { UNIX_EPOCH + magnitude }
    }
}

/// `2026-11-26T18:09:44.125Z`: RFC 3339 in UTC with milliseconds, the form of `EXT-X-PROGRAM-DATE-TIME`.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = chrono::DateTime::from_timestamp_micros(self.0).ok_or(fmt::Error)?;
        write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

/// A source of both times. Clones of a manual clock share its hands.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<Mutex<(Instant, WallTime)>>),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `wall` until [`Clock::advance`] or [`Clock::step_wall`] moves it.
    pub fn manual(wall: WallTime) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new((Instant::now(), wall)))))
    }

    /// Monotonic now.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(hands) => hands.lock().unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Wall-clock now.
    pub fn wall(&self) -> WallTime {
        match &self.0 {
            Source::System => SystemTime::now().into(),
            Source::Manual(hands) => hands.lock().unwrap_or_else(PoisonError::into_inner).1,
        }
    }

    /// Moves both hands of a manual clock.
    ///
    /// # Panics
    /// On the system clock: nobody but the machine moves that.
    pub fn advance(&self, by: Duration) {
        let us = i64::try_from(by.as_micros()).expect("a test advances by less than 292,000 years");
        self.turn(by, us);
    }

    /// Steps only the wall hand of a manual clock, as an operator or NTP would.
    ///
    /// # Panics
    /// On the system clock.
    pub fn step_wall(&self, us: i64) {
        self.turn(Duration::ZERO, us);
    }

    fn turn(&self, monotonic: Duration, wall_us: i64) {
        let Source::Manual(hands) = &self.0 else { panic!("only a manual clock can be moved") };
        let mut hands = hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.0 += monotonic;
        hands.1 = hands.1.plus_us(wall_us);
    }
}

/// Waits for a deadline; for ever where there is none, as a branch of a `select!` wants it.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_as_program_date_time() {
        assert_eq!(WallTime::from_unix_us(1_795_716_584_125_900).to_string(), "2026-11-26T18:09:44.125Z");
        assert_eq!(WallTime::from_unix_us(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_wall_step_leaves_the_monotonic_hand_alone() {
        let clock = Clock::manual(WallTime::from_unix_us(0));
        let before = clock.now();
        clock.step_wall(-1_800_000_000);
        assert_eq!(clock.now(), before);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now() - before, Duration::from_secs(2));
        assert_eq!(clock.wall().unix_us(), -1_798_000_000);
    }
}
