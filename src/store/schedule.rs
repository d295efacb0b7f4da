//! What to write next, and when to try again: one broadcast's writes in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;

use super::SegmentKey;

/// First wait after a failure; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait after a failure: a store that comes back is noticed within this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A delete is tried this often before it is given up: what stays behind costs space and harms nobody.
const DELETE_TRIES: u32 = 5;

/// One thing to do to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Write a segment. Never written before.
    Segment(SegmentKey, Bytes),
    /// Replace a playlist.
    Playlist(Path, Bytes),
    /// Delete a segment.
    DeleteSegment(SegmentKey),
    /// Delete a playlist.
    DeletePlaylist(Path),
}

impl Job {
    /// A word for counters and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Segment(..) => "segment",
            Self::Playlist(..) => "playlist",
            Self::DeleteSegment(_) | Self::DeletePlaylist(_) => "delete",
        }
    }
}

/// What the writer does now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This; then [`Schedule::done`].
    Do(Job),
    /// Nothing before this time, unless something is pushed.
    WaitUntil(Instant),
    /// Nothing.
    Idle,
}

/// Jobs in the order they must become visible: a playlist after the segments it names, a delete after the playlist
/// that no longer names it. A playlist that waits is replaced by a newer one of its name **at the newer one's
/// place**, so that a slow store is not kept busy with old news.
///
/// Its size is bounded by what it is given: a segment's delete takes back its write if that still waits, and deletes
/// follow the window, so that a store that is down costs the media of the window and its retention, no more.
#[derive(Debug, Default)]
pub struct Schedule {
    jobs: VecDeque<Job>,
    running: Option<Job>,
    failures: u32,
    retry_at: Option<Instant>,
    segment_bytes: usize,
}

impl Schedule {
    /// Adds a job at the end.
    pub fn push(&mut self, job: Job) {
        match &job {
            Job::Segment(_, bytes) => self.segment_bytes += bytes.len(),
            Job::Playlist(path, _) | Job::DeletePlaylist(path) => {
                self.jobs.retain(|waiting| !matches!(waiting, Job::Playlist(other, _) if other == path));
            }
            Job::DeleteSegment(key) => {
                if self.take_back(key) {
                    return;
                }
            }
        }
        self.jobs.push_back(job);
    }

    /// The next job, or how long to wait for it.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return Next::WaitUntil(at);
        }
        if self.running.is_none() {
            self.running = self.jobs.pop_front();
        }
        self.running.clone().map_or(Next::Idle, Next::Do)
    }

    /// The running job came to an end. A failed one is tried again later, before all others; answers `false` when it
    /// was given up instead.
    pub fn done(&mut self, succeeded: bool, now: Instant) -> bool {
        let delete = matches!(self.running, Some(Job::DeleteSegment(_) | Job::DeletePlaylist(_)));
        let tries_left = !delete || self.failures + 1 < DELETE_TRIES;
        if !succeeded && tries_left {
            let backoff = BACKOFF_MIN * 2u32.pow(self.failures.min(10));
            self.failures += 1;
            self.retry_at = Some(now + backoff.min(BACKOFF_MAX));
            return true;
        }
        if let Some(Job::Segment(_, bytes)) = self.running.take() {
            self.segment_bytes -= bytes.len();
        }
        self.failures = 0;
        self.retry_at = None;
        succeeded
    }

    /// Bytes of segments that wait to be written.
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.jobs.is_empty()
    }

    /// Takes back a write that has not begun. One that has may lie in the store already, so that needs its delete.
    fn take_back(&mut self, key: &SegmentKey) -> bool {
        let place = self.jobs.iter().position(|job| matches!(job, Job::Segment(other, _) if other == key));
        let Some(Job::Segment(_, bytes)) = place.and_then(|place| self.jobs.remove(place)) else {
            return false;
        };
        self.segment_bytes -= bytes.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Epoch;

    fn key(sequence: u64) -> SegmentKey {
        SegmentKey { name: "live/mark".parse().unwrap(), epoch: Epoch(1), sequence }
    }

    fn segment(sequence: u64) -> Job {
        Job::Segment(key(sequence), Bytes::from_static(&[0; 10]))
    }

    fn playlist(text: &'static str) -> Job {
        Job::Playlist(Path::from("live/mark/media.m3u8"), Bytes::from_static(text.as_bytes()))
    }

    fn run(schedule: &mut Schedule, now: Instant) -> Vec<Job> {
        let mut done = Vec::new();
        while let Next::Do(job) = schedule.next(now) {
            done.push(job);
            schedule.done(true, now);
        }
        done
    }

    #[test]
    fn a_playlist_never_overtakes_its_segments_and_old_news_is_not_written() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for job in [segment(1), playlist("1"), segment(2), playlist("1 2")] {
            schedule.push(job);
        }
        assert_eq!(run(&mut schedule, now), [segment(1), segment(2), playlist("1 2")]);
    }

    #[test]
    fn a_failed_write_is_tried_again_before_what_follows_it() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.push(segment(1));
        assert_eq!(schedule.next(now), Next::Do(segment(1)));
        schedule.push(segment(2));
        assert!(schedule.done(false, now));
        assert_eq!(schedule.next(now), Next::WaitUntil(now + BACKOFF_MIN));
        assert_eq!(run(&mut schedule, now + BACKOFF_MIN), [segment(1), segment(2)]);
        assert!(schedule.is_idle());
    }

    /// A store that is down for an hour costs the window and its retention, not the hour.
    #[test]
    fn what_is_deleted_before_it_was_written_is_forgotten() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.push(segment(0));
        assert_eq!(schedule.next(now), Next::Do(segment(0)));
        for sequence in 1..1000 {
            schedule.push(segment(sequence));
            schedule.push(playlist("newest"));
            if sequence > 30 {
                schedule.push(Job::DeleteSegment(key(sequence - 30)));
            }
            assert!(schedule.segment_bytes() <= 310 && schedule.jobs.len() <= 32);
        }
        schedule.push(Job::DeleteSegment(key(0)));
        schedule.done(true, now);
        assert_eq!(
            run(&mut schedule, now).last(),
            Some(&Job::DeleteSegment(key(0))),
            "it may have been written"
        );
        assert_eq!(schedule.segment_bytes(), 0);
    }

    #[test]
    fn a_delete_is_given_up_in_the_end() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.push(Job::DeleteSegment(key(1)));
        schedule.push(segment(2));
        for _ in 1..DELETE_TRIES {
            assert!(matches!(schedule.next(now), Next::Do(Job::DeleteSegment(_))));
            assert!(schedule.done(false, now));
            now += BACKOFF_MAX;
        }
        assert!(matches!(schedule.next(now), Next::Do(_)));
        assert!(!schedule.done(false, now), "given up");
        assert_eq!(run(&mut schedule, now), [segment(2)]);
    }
}
