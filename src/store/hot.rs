//! The hot window: the newest segments of all broadcasts in memory, under one bound.

use std::collections::{HashMap, VecDeque};

use super::{SegmentKey, StoredSegment};

/// Segments by key, oldest out first once they are in the store. What is not yet written is never evicted: a
/// listed segment must be readable, and the writer's own bound limits how much that can be.
#[derive(Debug)]
pub struct Hot {
    entries: HashMap<SegmentKey, Entry>,
    /// Keys in the order they came; a removed key may linger until it reaches the front.
    order: VecDeque<SegmentKey>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    segment: StoredSegment,
    /// It is in the store too.
    written: bool,
    /// No playlist lists it any more.
    retired: bool,
}

impl Hot {
    /// Empty, for at most `bytes_max` bytes of written segments.
    pub fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Takes a new segment, and makes room for it.
    pub fn insert(&mut self, key: SegmentKey, segment: StoredSegment) {
        self.bytes += segment.bytes.len();
        self.order.push_back(key.clone());
        if let Some(old) = self.entries.insert(key, Entry { segment, written: false, retired: false }) {
            self.bytes -= old.segment.bytes.len();
        }
        self.evict();
    }

    /// The segment is in the store: from now on it may be evicted.
    pub fn written(&mut self, key: &SegmentKey) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.retired => self.remove(key),
            Some(entry) => entry.written = true,
            None => {}
        }
        self.evict();
    }

    /// Nobody is sent to this segment any more: it goes as soon as it is in the store.
    pub fn retire(&mut self, key: &SegmentKey) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.written => self.remove(key),
            Some(entry) => entry.retired = true,
            None => {}
        }
    }

    /// Nobody may read this segment any more.
    pub fn remove(&mut self, key: &SegmentKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.segment.bytes.len();
        }
        self.trim();
    }

    /// A clone of the segment: one allocation serves everybody.
    pub fn get(&self, key: &SegmentKey) -> Option<StoredSegment> {
        self.entries.get(key).map(|entry| entry.segment.clone())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the oldest written segments until the bound holds. Unwritten ones in front are stepped over.
    fn evict(&mut self) {
        let mut at = 0;
        while self.bytes > self.bytes_max && at < self.order.len() {
            match self.entries.get(&self.order[at]) {
                Some(entry) if !entry.written => at += 1,
                _ => {
                    if let Some(entry) = self.order.remove(at).and_then(|key| self.entries.remove(&key)) {
                        self.bytes -= entry.segment.bytes.len();
                    }
                }
            }
        }
        self.trim();
    }

    /// Forgets removed keys at the front, so that `order` stays as long as what is held.
    fn trim(&mut self) {
        while self.order.front().is_some_and(|key| !self.entries.contains_key(key)) {
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::WallTime;
    use crate::live::Epoch;

    fn key(sequence: u64) -> SegmentKey {
        SegmentKey { name: "live/mark".parse().unwrap(), epoch: Epoch(1), sequence }
    }

    fn segment(len: usize) -> StoredSegment {
        StoredSegment { bytes: Bytes::from(vec![0; len]), modified: WallTime::from_unix_us(0) }
    }

    #[test]
    fn the_oldest_written_segment_goes_first() {
        let mut hot = Hot::new(250);
        for sequence in 1..=3 {
            hot.insert(key(sequence), segment(100));
        }
        assert_eq!(hot.bytes(), 300, "nothing is written, so nothing may go");
        hot.written(&key(2));
        assert!(hot.get(&key(2)).is_none() && hot.get(&key(1)).is_some() && hot.get(&key(3)).is_some());
    }

    #[test]
    fn a_retired_segment_leaves_the_memory_once_it_is_written() {
        let mut hot = Hot::new(1000);
        hot.insert(key(1), segment(100));
        hot.insert(key(2), segment(100));
        hot.retire(&key(1));
        assert!(hot.get(&key(1)).is_some(), "it is nowhere else yet");
        hot.written(&key(1));
        hot.written(&key(2));
        hot.retire(&key(2));
        assert_eq!(hot.bytes(), 0);
    }

    proptest! {
        /// Any order of calls: the byte count is the sum of what is held, and beyond the bound only unwritten
        /// segments are held.
        #[test]
        fn the_bound_holds(calls in proptest::collection::vec((0u8..4, 0u64..20, 1usize..200), 1..200)) {
            let mut hot = Hot::new(500);
            let mut next = 0;
            for (call, back, len) in calls {
                match call {
                    0 => { hot.insert(key(next), segment(len)); next += 1; }
                    1 => hot.written(&key(next.saturating_sub(back))),
                    2 => hot.retire(&key(next.saturating_sub(back))),
                    _ => hot.remove(&key(next.saturating_sub(back))),
                }
                let held: usize = hot.entries.values().map(|entry| entry.segment.bytes.len()).sum();
                prop_assert_eq!(held, hot.bytes());
                prop_assert!(held <= 500 || hot.entries.values().all(|entry| !entry.written));
            }
        }
    }
}
