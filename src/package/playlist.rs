//! The rolling media playlist: what it lists, what it drops, and its text.
//!
//! The text is written here and not by m3u8-rs because a live playlist must come out the same, byte for byte, on
//! every origin, and must always say MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE, also when they are 0.
//! m3u8-rs reads every one of them in the tests, and at a restart.

use std::collections::VecDeque;
use std::fmt::Write;

use crate::clock::WallTime;
use crate::media::Span;
use crate::media::time::TICKS_PER_SECOND;
use crate::store::SegmentKey;

/// Fewer listed segments than this are never made by removal (Apple's authoring specification 8.11).
const SEGMENTS_MIN: usize = 6;

/// A live playlist never becomes shorter than this many target durations by removal (rfc8216bis 6.2.2).
const TARGETS_MIN: i64 = 3;

/// One entry of a media playlist. Its number, URI, duration, date and discontinuity never change once listed
/// (rfc8216bis 6.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its place in the store; the sequence in it is its media sequence number.
    pub key: SegmentKey,
    /// The media's own duration.
    pub duration: Span,
    /// Parameters or time broke before it.
    pub discontinuity: bool,
    /// Wall-clock time of its start.
    pub date: WallTime,
    /// Its size.
    pub bytes: u64,
}

/// A sliding list of segments. Media sequence numbers run without a hole.
#[derive(Debug)]
pub struct Window {
    /// `EXT-X-TARGETDURATION`, in seconds.
    target_s: i64,
    /// How much media stays listed.
    length: Span,
    segments: VecDeque<Entry>,
    listed: Span,
    longest: Span,
    /// Media sequence number of the first entry, or of the next one to come.
    sequence: u64,
    discontinuities: u64,
    ended: bool,
}

/// A segment, and its lines as they stand in every version that lists it.
#[derive(Debug)]
struct Entry {
    segment: Segment,
    lines: String,
}

/// A segment is longer than the target duration that players have been promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a segment of {duration} s does not fit a target duration of {target_s} s")]
pub struct TooLong {
    /// The segment's.
    pub duration: Span,
    /// The playlist's, in seconds.
    pub target_s: i64,
}

impl Window {
    /// An empty playlist whose first segment will be number `sequence`, after `discontinuities` that were counted
    /// before it. `target` is rounded up to whole seconds.
    pub fn new(target: Span, length: Span, sequence: u64, discontinuities: u64) -> Self {
        Self {
            target_s: whole_seconds(target),
            length,
            segments: VecDeque::new(),
            listed: Span::ZERO,
            longest: Span::ZERO,
            sequence,
            discontinuities,
            ended: false,
        }
    }

    /// An empty playlist that goes on counting where this one stops, with another target duration.
    #[must_use]
    pub fn successor(&self, target: Span) -> Self {
        Self::new(target, self.length, self.next_sequence(), self.next_discontinuities())
    }

    /// Raises the target duration of a playlist that nobody has seen yet.
    ///
    /// # Panics
    /// When something is listed: a target duration that was seen never changes (rfc8216bis 6.2.1).
    pub fn raise_target(&mut self, target: Span) {
        assert!(self.segments.is_empty(), "the target duration of a published playlist never changes");
        self.target_s = self.target_s.max(whole_seconds(target));
    }

    /// Lists a segment; answers those that left the list, oldest first. The first segment of an empty list never
    /// says discontinuity: there is nothing before it to differ from.
    ///
    /// # Errors
    /// [`TooLong`]: it is not listed, and nothing has changed.
    ///
    /// # Panics
    /// When the list has ended or the sequence number is not the next one.
    pub fn push(&mut self, mut segment: Segment) -> Result<Vec<Segment>, TooLong> {
        assert!(!self.ended, "nothing follows ENDLIST");
        assert_eq!(segment.key.sequence, self.next_sequence(), "media sequence numbers have no holes");
        if segment.duration > self.target() {
            return Err(TooLong { duration: segment.duration, target_s: self.target_s });
        }
        segment.discontinuity &= !self.segments.is_empty();
        self.listed += segment.duration;
        let lines = lines_of(&segment);
        self.segments.push_back(Entry { segment, lines });
        let mut removed = Vec::new();
        while let Some(first) = self.removable() {
            self.listed = self.listed - first.duration;
            self.sequence += 1;
            self.discontinuities += u64::from(first.discontinuity);
            removed.push(first);
        }
        self.longest = self.longest.max(self.listed);
        Ok(removed)
    }

    /// Takes the first entry out if the rest is long enough without it.
    fn removable(&mut self) -> Option<Segment> {
        let rest = self.listed - self.segments.front()?.segment.duration;
        let least = self.length.max(Span(TARGETS_MIN * self.target().0));
        let enough = rest >= least && self.segments.len() > SEGMENTS_MIN;
        if enough { self.segments.pop_front().map(|entry| entry.segment) } else { None }
    }

    /// The broadcast is over: the list ends with ENDLIST and is frozen.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The list has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Number of the segment that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.sequence + self.segments.len() as u64
    }

    /// Discontinuities up to a segment that would follow the list after one more.
    pub fn next_discontinuities(&self) -> u64 {
        let listed = self.segments.iter().filter(|entry| entry.segment.discontinuity).count();
        self.discontinuities + listed as u64 + 1
    }

    /// `EXT-X-TARGETDURATION`.
    pub fn target(&self) -> Span {
        Span(self.target_s * TICKS_PER_SECOND)
    }

    /// How long a segment that has just left the list must stay readable: its own duration and the longest list
    /// that held it (RFC 8216 6.2.2), and a target duration for a cache's copy of that list.
    pub fn retention(&self, removed: &Segment) -> Span {
        removed.duration + self.longest + self.target()
    }

    /// Its file name. It tells the target duration, so that the promise behind one URL never changes, whatever is
    /// published under the name next (rfc8216bis 6.2.1).
    pub fn file(&self) -> String {
        format!("media-{}s.m3u8", self.target_s)
    }

    /// What is listed, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> {
        self.segments.iter().map(|entry| &entry.segment)
    }

    /// Nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Media that is listed.
    pub fn listed(&self) -> Span {
        self.listed
    }

    /// The playlist's text. Version 3: decimal EXTINF is all it needs, and every EXTINF is at most the target
    /// duration without rounding (rfc8216bis 8).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(256 + self.segments.len() * 128);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target_s, self.sequence, self.discontinuities
        );
        for entry in &self.segments {
            text.push_str(&entry.lines);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

fn lines_of(segment: &Segment) -> String {
    let break_line = if segment.discontinuity { "#EXT-X-DISCONTINUITY\n" } else { "" };
    format!(
        "{break_line}#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{},\n{}\n",
        segment.date,
        segment.duration,
        segment.key.relative()
    )
}

/// Rounded up, at least 1 (hls.js #5159).
fn whole_seconds(span: Span) -> i64 {
    ((span.0 + TICKS_PER_SECOND - 1) / TICKS_PER_SECOND).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::live::Epoch;

    fn segment(sequence: u64, ms: i64, discontinuity: bool) -> Segment {
        Segment {
            key: SegmentKey { name: "live/mark".parse().unwrap(), epoch: Epoch(17), sequence },
            duration: Span::from_ms(ms),
            discontinuity,
            date: WallTime::from_unix_us(1_795_716_584_000_000),
            bytes: 1000,
        }
    }

    fn window(target_s: i64, length_s: i64, sequence: u64) -> Window {
        Window::new(Span::from_ms(target_s * 1000), Span::from_ms(length_s * 1000), sequence, 0)
    }

    fn parse(window: &Window) -> m3u8_rs::MediaPlaylist {
        m3u8_rs::parse_media_playlist_res(window.render().as_bytes()).unwrap()
    }

    #[test]
    fn the_text_is_exact() {
        let mut window = window(4, 60, 100);
        window.push(segment(100, 2000, true)).unwrap();
        window.push(segment(101, 1960, true)).unwrap();
        window.end();
        assert_eq!(
            window.render(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:100\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:44.000Z\n#EXTINF:2.000000,\n17/100.ts\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:44.000Z\n#EXTINF:1.960000,\n17/101.ts\n\
             #EXT-X-ENDLIST\n"
        );
    }

    /// rfc8216bis 6.2.2 (3 target durations) and Apple 8.11 (6 segments): PL.WINDOW.
    #[test]
    fn removal_never_makes_the_list_too_short() {
        let mut window = window(4, 12, 1);
        for sequence in 1..100 {
            let removed = window.push(segment(sequence, 2000, false)).unwrap();
            assert!(removed.is_empty() || window.listed() >= Span::from_ms(12_000));
            assert!(removed.is_empty() || window.segments().len() >= SEGMENTS_MIN);
        }
        assert_eq!(window.segments().len(), 6);
    }

    /// rfc8216bis 6.2.2-M9: the count rises when the tag leaves the list, not before.
    #[test]
    fn a_discontinuity_is_counted_when_its_tag_leaves() {
        let mut window = window(2, 12, 1);
        window.push(segment(1, 2000, false)).unwrap();
        window.push(segment(2, 2000, true)).unwrap();
        for sequence in 3..=8 {
            window.push(segment(sequence, 2000, false)).unwrap();
        }
        assert_eq!((window.sequence, window.discontinuities), (3, 1));
        assert_eq!(window.next_discontinuities(), 2);
    }

    /// rfc8216bis 4.4.3.1: EXTINF never exceeds the target duration, and that never changes.
    #[test]
    fn a_segment_longer_than_the_target_is_not_listed() {
        let mut window = window(4, 60, 1);
        window.push(segment(1, 4000, false)).unwrap();
        let before = window.render();
        assert_eq!(window.push(segment(2, 4001, false)).unwrap_err().target_s, 4);
        assert_eq!(window.render(), before);
        let mut next = window.successor(Span::from_ms(4001));
        next.push(segment(2, 4001, false)).unwrap();
        assert_eq!((parse(&next).target_duration, parse(&next).media_sequence), (5, 2));
    }

    proptest! {
        /// Any durations and breaks: m3u8-rs reads the list; numbers never go back; an entry keeps its number, URI,
        /// duration and discontinuity number for as long as it is listed (PL.MSN_MONOTONIC, PL.IMMUTABLE_ENTRY,
        /// PL.DISC_SEQ).
        #[test]
        fn the_promises_of_a_live_list_hold(segments in proptest::collection::vec((1i64..=4000, any::<bool>()), 1..80)) {
            let mut window = window(4, 20, 7);
            let mut known = std::collections::HashMap::new();
            let (mut sequence, mut discontinuities) = (0, 0);
            for (at, (ms, discontinuity)) in segments.into_iter().enumerate() {
                window.push(segment(7 + at as u64, ms, discontinuity)).unwrap();
                let list = parse(&window);
                prop_assert!(list.media_sequence >= sequence && list.discontinuity_sequence >= discontinuities);
                (sequence, discontinuities) = (list.media_sequence, list.discontinuity_sequence);
                prop_assert_eq!(list.target_duration, 4);
                let mut number = list.discontinuity_sequence;
                for (place, entry) in list.segments.iter().enumerate() {
                    number += u64::from(entry.discontinuity);
                    let seen = (entry.uri.clone(), entry.duration.to_bits(), number);
                    let first = known.entry(list.media_sequence + place as u64).or_insert_with(|| seen.clone());
                    prop_assert_eq!(&seen, first);
                }
            }
        }
    }
}
