//! One subscriber's queue: bounded in bytes, never waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::media::{Event, Frame, TrackSet};

/// Events on their way to one subscriber. When `bytes_max` is passed, the frames that wait are dropped: what says where
/// the stream stands is kept, a discontinuity follows, and frames are taken again from the next random access point.
#[derive(Debug)]
pub struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    bytes_max: usize,
    /// Tracks of the newest [`Event::Tracks`] pushed.
    tracks: Option<Arc<TrackSet>>,
    /// Dropping frames since an overflow, until one where decoding may start.
    skipping: bool,
}

impl Queue {
    /// An empty queue that holds up to `bytes_max` payload bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, bytes_max, tracks: None, skipping: false }
    }

    /// Takes an event; answers how many frames were dropped to keep the bound.
    pub fn push(&mut self, event: Event) -> usize {
        if let Event::Tracks(tracks) = &event {
            self.tracks = Some(Arc::clone(tracks));
        }
        let Event::Frame(frame) = &event else {
            self.events.push_back(event);
            return 0;
        };
        let mut dropped = 0;
        if self.bytes + cost(frame) > self.bytes_max {
            dropped = self.overflow();
        }
        if self.skipping && !frame.starts(self.tracks.as_deref()) {
            return dropped + 1;
        }
        self.skipping = false;
        self.bytes += cost(frame);
        self.events.push_back(event);
        dropped
    }

    /// Takes everything that waits.
    pub fn drain(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Takes from what waits until that holds `bytes` or nothing is left; at least one event, if there is one.
    pub fn take(&mut self, bytes: usize) -> VecDeque<Event> {
        let mut taken = VecDeque::new();
        let mut left = bytes;
        while left > 0
            && let Some(event) = self.events.pop_front()
        {
            if let Event::Frame(frame) = &event {
                self.bytes -= cost(frame);
                left = left.saturating_sub(cost(frame));
            }
            taken.push_back(event);
        }
        taken
    }

    /// Of what waits only the newest start, the tracks after it, and how it ended are worth keeping.
    fn overflow(&mut self) -> usize {
        let mut dropped = 0;
        let mut kept: Vec<Event> = Vec::with_capacity(4);
        for event in self.drain() {
            match event {
                Event::Frame(_) => dropped += 1,
                Event::Discontinuity => {}
                Event::Start(_) => kept = vec![event],
                Event::Tracks(_) => {
                    kept.retain(|kept| !matches!(kept, Event::Tracks(_)));
                    kept.push(event);
                }
                Event::Stop | Event::End => kept.push(event),
            }
        }
        self.events.extend(kept);
        self.events.push_back(Event::Discontinuity);
        self.skipping = true;
        dropped
    }
}

/// What a frame counts against the bound: its payload, and an allowance for the rest.
fn cost(frame: &Frame) -> usize {
    const OVERHEAD: usize = 128;
    frame.payload.len() + OVERHEAD
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
}

/// The sending end, held by the stream.
#[derive(Debug)]
pub(super) struct Feed(Arc<Shared>);

/// The receiving end: events in order.
#[derive(Debug)]
pub struct Subscription(Arc<Shared>);

/// A connected pair over a queue of `bytes_max` bytes.
pub(super) fn pair(bytes_max: usize) -> (Feed, Subscription) {
    let shared = Arc::new(Shared { queue: Mutex::new(Queue::new(bytes_max)), filled: Notify::new() });
    (Feed(Arc::clone(&shared)), Subscription(shared))
}

impl Feed {
    /// Never waits. Answers how many events the subscriber lost.
    pub(super) fn push(&self, event: Event) -> usize {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.events.is_empty();
        let dropped = queue.push(event);
        drop(queue);
        if was_empty {
            self.0.filled.notify_one();
        }
        dropped
    }

    /// The subscription was dropped.
    pub(super) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Subscription {
    /// Waits until something is there and takes it all. Never empty. Cancel-safe.
    pub async fn next(&mut self) -> VecDeque<Event> {
        self.next_of(Queue::drain).await
    }

    /// Waits until something is there and takes about `bytes` of it, so that what can't be used at once stays under the
    /// queue's bound. Never empty. Cancel-safe.
    ///
    /// # Panics
    /// When `bytes` is 0.
    pub async fn next_within(&mut self, bytes: usize) -> VecDeque<Event> {
        assert!(bytes > 0, "nothing would ever be taken");
        self.next_of(|queue| queue.take(bytes)).await
    }

    async fn next_of(&mut self, take: impl Fn(&mut Queue) -> VecDeque<Event>) -> VecDeque<Event> {
        loop {
            let events = take(&mut self.0.queue.lock().unwrap_or_else(PoisonError::into_inner));
            if !events.is_empty() {
                return events;
            }
            self.0.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Epoch, Ticks, Track};

    fn picture(at: i64, random_access: bool, len: usize) -> Event {
        Event::Frame(Arc::new(Frame {
            track: Track::Video,
            dts: Ticks(at),
            pts: Ticks(at),
            random_access,
            payload: Bytes::from(vec![0; len]),
        }))
    }

    /// Drop all, a discontinuity, resume where decoding may start.
    #[test]
    fn an_overflow_keeps_where_the_stream_stands_and_resumes_at_a_random_access_point() {
        let (start, tracks) = (Event::Start(Epoch(1)), Event::Tracks(Arc::default()));
        let mut queue = Queue::new(2100);
        assert_eq!(queue.push(start.clone()), 0);
        assert_eq!(queue.push(tracks.clone()), 0);
        assert_eq!(queue.push(picture(0, true, 900)), 0);
        assert_eq!(queue.push(picture(1, false, 900)), 0);
        assert_eq!(queue.push(picture(2, false, 900)), 3, "the waiting pictures and this one");
        assert_eq!(queue.push(picture(3, false, 10)), 1);
        let resume = picture(4, true, 10);
        assert_eq!(queue.push(resume.clone()), 0);
        assert_eq!(Vec::from(queue.drain()), [start, tracks, Event::Discontinuity, resume]);
    }

    /// A subscriber that takes little by little misses nothing, and what it leaves stays under the bound.
    #[tokio::test]
    async fn what_is_not_taken_still_counts() {
        let (feed, mut subscription) = pair(2100);
        let events = [Event::Start(Epoch(1)), picture(0, true, 900), picture(1, false, 900), Event::Stop];
        for event in &events {
            feed.push(event.clone());
        }
        assert_eq!(Vec::from(subscription.next_within(1).await), events[..2]);
        assert_eq!(feed.push(picture(2, false, 900)), 0, "there is room for it now");
        assert_eq!(feed.push(picture(3, false, 900)), 3);
        assert_eq!(Vec::from(subscription.next_within(5000).await), [Event::Stop, Event::Discontinuity]);
    }

    #[test]
    fn an_end_is_never_dropped() {
        let mut queue = Queue::new(0);
        queue.push(Event::Stop);
        queue.push(picture(0, true, 5000));
        queue.push(Event::End);
        assert_eq!(queue.drain().back(), Some(&Event::End));
    }

    proptest::proptest! {
        /// Whatever is pushed: memory stays within the bound and one frame, and after a discontinuity the next
        /// frame is a random access point.
        #[test]
        fn the_bound_holds_and_what_comes_out_is_decodable(
            pushes in proptest::collection::vec((proptest::bool::ANY, 1usize..400), 1..200)
        ) {
            let mut queue = Queue::new(1500);
            for (at, (random_access, len)) in pushes.into_iter().enumerate() {
                queue.push(picture(at as i64, random_access, len));
                proptest::prop_assert!(queue.bytes <= 1500);
            }
            let mut broken = false;
            for event in queue.drain() {
                match event {
                    Event::Discontinuity => broken = true,
                    Event::Frame(frame) => {
                        proptest::prop_assert!(!broken || frame.random_access);
                        broken = false;
                    }
                    _ => {}
                }
            }
        }
    }
}
