//! What was published, and when: each frame can be told from all others by its bytes.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use grandstand::media::flv::TagKind;

use crate::common::Failure;
use crate::common::feed::{Message, Plan};
use crate::tags::Arrived;

/// How many bytes at the start of a body, together with its length, tell a frame from the others of a round: headers of
/// FLV, of the NAL unit and of the slice, and some of the picture.
pub(crate) const TELLING_BYTES: usize = 48;
/// Frames per second of a track at most, as room for their times.
const FRAMES_PER_SECOND: u64 = 60;

/// A frame's track, and its number on the track since the publisher started.
pub(crate) type Number = (usize, usize);

/// Audio and video frames in the order in which they were published. The publisher's thread writes, the viewers' reads.
pub(crate) struct Published {
    start: Instant,
    /// For each message of the first and of the later rounds the track of the frame in it.
    lanes: [Vec<Option<usize>>; 2],
    tracks: [Track; 2],
}

/// One track.
struct Track {
    first: Vec<Bytes>,
    next: Vec<Bytes>,
    /// When each frame was sent, in microseconds since the start.
    sent_us: Vec<AtomicU64>,
    sent: AtomicUsize,
}

impl Published {
    /// What of `plan` can be sent in `seconds`.
    pub(crate) fn new(plan: &Plan, seconds: u64) -> Result<Self, Failure> {
        let track = |track| -> Result<Track, Failure> {
            let bodies = |messages: &[Message]| -> Vec<Bytes> {
                let of_track = messages.iter().filter(|message| track_of(message) == Some(track));
                of_track.map(|message| message.body.clone()).collect()
            };
            let (first, next) = (bodies(&plan.first), bodies(&plan.next));
            let mut seen = HashSet::new();
            if !next.iter().all(|body| seen.insert((body.len(), telling(body)))) {
                return Err("two frames of the file start alike: they could not be told apart".into());
            }
            let room = seconds * FRAMES_PER_SECOND;
            let sent_us = (0..room).map(|_| AtomicU64::new(0)).collect();
            Ok(Track { first, next, sent_us, sent: AtomicUsize::new(0) })
        };
        Ok(Self {
            start: Instant::now(),
            lanes: [&plan.first, &plan.next].map(|lane| lane.iter().map(track_of).collect()),
            tracks: [track(0)?, track(1)?],
        })
    }

    /// Microseconds since the start.
    pub(crate) fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The publisher is about to send message `index` of `round`.
    pub(crate) fn note(&self, round: u64, index: usize, now_us: u64) {
        if let Some(track) = self.lanes[round.min(1) as usize][index] {
            let track = &self.tracks[track];
            let number = track.sent.load(Ordering::Relaxed);
            assert!(number < track.sent_us.len(), "the run takes much longer than planned");
            track.sent_us[number].store(now_us, Ordering::Relaxed);
            track.sent.store(number + 1, Ordering::Release);
        }
    }

    /// When a frame was sent.
    pub(crate) fn sent_us(&self, (track, number): Number) -> u64 {
        self.tracks[track].sent_us[number].load(Ordering::Relaxed)
    }

    /// The frame that arrived at a viewer who expects number `expected` of its track, or who has had none. Frames that
    /// were lost are stepped over; what is not found has not been published, or comes a second time.
    pub(crate) fn find(&self, tag: Arrived, expected: [Option<usize>; 2]) -> Option<Number> {
        let index = usize::from(tag.type_id == 9);
        let track = &self.tracks[index];
        let sent = track.sent.load(Ordering::Acquire);
        let same = |number: &usize| {
            let body = track.body(*number);
            body.len() == tag.len && telling(body) == telling(tag.body)
        };
        let number = match expected[index] {
            Some(expected) => (expected..sent).find(same),
            None => (sent.saturating_sub(track.next.len())..sent).rev().find(same),
        };
        number.map(|number| (index, number))
    }

    /// A frame's bytes.
    pub(crate) fn body(&self, (track, number): Number) -> &[u8] {
        self.tracks[track].body(number)
    }

    /// Bytes of all frames that were sent in a time.
    pub(crate) fn bytes(&self, sent_us: &Range<u64>) -> u64 {
        let bytes = |track: &Track| -> u64 {
            let sent = &track.sent_us[..track.sent.load(Ordering::Acquire)];
            let times = sent.iter().map(|time_us| time_us.load(Ordering::Relaxed)).enumerate();
            times
                .filter(|(_, time_us)| sent_us.contains(time_us))
                .map(|(number, _)| track.body(number).len() as u64)
                .sum()
        };
        self.tracks.iter().map(bytes).sum()
    }
}

impl Track {
    fn body(&self, number: usize) -> &[u8] {
        match number.checked_sub(self.first.len()) {
            None => &self.first[number],
            Some(later) => &self.next[later % self.next.len()],
        }
    }
}

/// Whether a tag is of a codec's parameters: servers send those again when they like.
pub(crate) fn is_header(type_id: u8, body: &[u8]) -> bool {
    type_id == 18 || body.get(1) == Some(&0)
}

fn track_of(message: &Message) -> Option<usize> {
    let (track, type_id) = match message.kind {
        TagKind::Audio => (0, 8),
        TagKind::Video => (1, 9),
        TagKind::Data => return None,
    };
    (!is_header(type_id, &message.body)).then_some(track)
}

fn telling(body: &[u8]) -> &[u8] {
    &body[..body.len().min(TELLING_BYTES)]
}
