//! How many watch a broadcast by HLS: an estimate, because HLS has no session.
//!
//! A viewer is a visitor (peer address and user agent, hashed) that asked for a media playlist within the last three
//! target durations; a player that plays asks once in each. Several viewers behind one address with the same browser
//! count as one, and so does everybody behind a cache: what a CDN serves is counted there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::name::StreamName;

/// Visitors remembered, over all broadcasts together: 24 bytes each and the table's slack, so some 2 MiB. Beyond it
/// new ones are not counted until old ones leave.
const VISITORS_MAX: usize = 50_000;

/// How often those who left are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// Who watches what. Bounded by [`VISITORS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Viewers {
    /// Per broadcast and visitor: until when they count.
    until: HashMap<StreamName, HashMap<u64, Instant>>,
    visitors: usize,
    swept: Option<Instant>,
}

impl Viewers {
    /// A visitor asked for a media playlist of `name`, and counts for `stay` from `now` on.
    pub(super) fn saw(&mut self, name: &StreamName, visitor: u64, now: Instant, stay: Duration) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
            self.sweep(now);
        }
        // The name is cloned for a broadcast's first visitor only.
        let visitors = match self.until.get_mut(name) {
            Some(visitors) => visitors,
            None => self.until.entry(name.clone()).or_default(),
        };
        if let Some(until) = visitors.get_mut(&visitor) {
            *until = now + stay;
        } else if self.visitors < VISITORS_MAX {
            visitors.insert(visitor, now + stay);
            self.visitors += 1;
        }
    }

    /// How many watch `name`.
    pub(super) fn count(&self, name: &StreamName, now: Instant) -> usize {
        self.until.get(name).map_or(0, |visitors| visitors.values().filter(|until| **until > now).count())
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.until.retain(|_, visitors| {
            visitors.retain(|_, until| *until > now);
            !visitors.is_empty()
        });
        self.visitors = self.until.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAY: Duration = Duration::from_secs(12);

    #[test]
    fn a_visitor_counts_once_and_leaves_after_a_while() {
        let mut viewers = Viewers::default();
        let mark: StreamName = "live/mark".parse().unwrap();
        let start = Instant::now();
        for visitor in [1, 2, 1] {
            viewers.saw(&mark, visitor, start, STAY);
        }
        assert_eq!(viewers.count(&mark, start), 2);
        viewers.saw(&mark, 2, start + STAY / 2, STAY);
        assert_eq!(viewers.count(&mark, start + STAY), 1);
        assert_eq!(viewers.count(&"live/other".parse().unwrap(), start), 0);
    }

    #[test]
    fn a_flood_of_visitors_is_bounded_and_forgotten() {
        let mut viewers = Viewers::default();
        let mark = "live/mark".parse().unwrap();
        let start = Instant::now();
        for visitor in 0..VISITORS_MAX as u64 + 1000 {
            viewers.saw(&mark, visitor, start, STAY);
        }
        assert_eq!(viewers.count(&mark, start), VISITORS_MAX);
        let later = start + STAY * 2;
        viewers.saw(&"live/other".parse().unwrap(), 1, later, STAY);
        assert_eq!((viewers.visitors, viewers.until.len()), (1, 1));
    }
}
