//! When to send: at once while few watch, later and more at a time while many do. A core.
//!
//! What fan-out costs is system calls and wake-ups, not bytes. A frame sent alone to 2,000 viewers costs 2,000 of each;
//! all frames of 80 ms cost the same.

use std::time::{Duration, Instant};

/// Time given to each viewer between two flushes: three times what waking one and writing to its socket costs on one
/// core, so that a core is about a third busy with it. 100 viewers: 4 ms. 2,000: 80 ms.
const PER_VIEWER: Duration = Duration::from_micros(40);

/// A timer is up to so much late: waits are shorter by it, and those that are no longer are none.
const TIMER_LATE: Duration = Duration::from_millis(1);

/// The moments of one broadcast's flushes.
#[derive(Debug)]
pub(super) struct Merge {
    max: Duration,
    flushed: Option<Instant>,
}

impl Merge {
    /// Never waits longer than `max`; not at all if that is zero.
    pub(super) fn new(max: Duration) -> Self {
        Self { max, flushed: None }
    }

    /// When what is there may be sent: `now` if the last flush is long enough ago.
    ///
    /// `viewers` are those of all broadcasts, which share the processor. That all of them wait equally long costs the
    /// least delay per viewer for the same work, however they are spread over broadcasts.
    pub(super) fn due(&self, viewers: usize, now: Instant) -> Instant {
        let interval = PER_VIEWER.saturating_mul(u32::try_from(viewers).unwrap_or(u32::MAX)).min(self.max);
        let wait = interval.saturating_sub(TIMER_LATE);
        self.flushed.map_or(now, |flushed| now.max(flushed + wait))
    }

    /// Everything was sent.
    pub(super) fn flushed(&mut self, now: Instant) {
        self.flushed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A frame that comes alone never waits; those close behind it do, in proportion to the viewers.
    #[test]
    fn the_wait_grows_with_the_viewers_up_to_the_bound() {
        let start = Instant::now();
        for (viewers, wait) in
            [(0, ms(0)), (25, ms(0)), (100, ms(3)), (2000, ms(79)), (5000, ms(99)), (usize::MAX, ms(99))]
        {
            let mut merge = Merge::new(ms(100));
            assert_eq!(merge.due(viewers, start), start, "the first");
            merge.flushed(start);
            assert_eq!(merge.due(viewers, start), start + wait, "{viewers}");
            assert_eq!(merge.due(viewers, start + ms(200)), start + ms(200), "long ago");
        }
    }

    #[test]
    fn a_bound_of_zero_sends_each_frame_at_once() {
        let start = Instant::now();
        let mut merge = Merge::new(Duration::ZERO);
        merge.flushed(start);
        assert_eq!(merge.due(100_000, start), start);
    }
}
