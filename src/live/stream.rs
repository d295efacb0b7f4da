//! One broadcast: its tracks, its figures and its subscribers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::WallTime;
use crate::media::{Epoch, Event, TrackSet};
use crate::name::StreamName;

use super::gop::Gop;
use super::meter::Meter;
use super::queue::{Feed, Subscription, pair};

/// A broadcast, from its first publisher until its reconnect window has passed. Shared by the publisher, the hub, and
/// whoever takes it or shows its figures.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub name: StreamName,
    /// When the first publish was accepted.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_wall: WallTime,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Of the publisher that is connected.
    epoch: Option<Epoch>,
    tracks: Option<Arc<TrackSet>>,
    meter: Meter,
    gop: Gop,
    feeds: Vec<Feed>,
    bytes: u64,
    ended: bool,
}

/// A broadcast's figures at one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// The publishing session, while a publisher is connected.
    pub epoch: Option<Epoch>,
    /// What it carries; `None` before the first tracks are known.
    pub tracks: Option<Arc<TrackSet>>,
    /// Payload bits per second over the last seconds of media time.
    pub bits_per_second: u64,
    /// Pictures per second over the same.
    pub pictures_per_second: f64,
    /// Payload bytes since the broadcast began.
    pub bytes: u64,
}

impl Stream {
    pub(super) fn new(
        name: StreamName,
        started: Instant,
        started_wall: WallTime,
        gop_bytes_max: usize,
    ) -> Self {
        let inner = Inner {
            epoch: None,
            tracks: None,
            meter: Meter::default(),
            gop: Gop::new(gop_bytes_max),
            feeds: Vec::new(),
            bytes: 0,
            ended: false,
        };
        Self { name, started, started_wall, inner: Mutex::new(inner) }
    }

    /// Everything pushed from now on, through a queue of at most `bytes_max` bytes; before it, what is needed to
    /// show a picture at once. A subscriber that falls behind by more loses frames up to the next random access
    /// point.
    pub fn join(&self, bytes_max: usize) -> Subscription {
        let (feed, subscription) = pair(bytes_max);
        let mut inner = self.lock();
        for event in inner.gop.replay() {
            feed.push(event);
        }
        if inner.ended {
            feed.push(Event::End);
        } else {
            inner.feeds.push(feed);
        }
        subscription
    }

    /// Hands an event to every subscriber; answers how many frames were lost by slow ones.
    pub(super) fn push(&self, event: &Event) -> usize {
        let mut inner = self.lock();
        inner.note(event);
        inner.feeds.retain(|feed| !feed.is_closed());
        inner.feeds.iter().map(|feed| feed.push(event.clone())).sum()
    }

    /// What the broadcast carries and measures now.
    pub fn figures(&self) -> Figures {
        let inner = self.lock();
        Figures {
            epoch: inner.epoch,
            tracks: inner.tracks.clone(),
            bits_per_second: inner.meter.bits_per_second(),
            pictures_per_second: inner.meter.pictures_per_second(),
            bytes: inner.bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, event: &Event) {
        self.gop.push(event);
        match event {
            Event::Start(epoch) => {
                self.epoch = Some(*epoch);
                self.meter = Meter::default();
            }
            Event::Tracks(tracks) => self.tracks = Some(Arc::clone(tracks)),
            Event::Frame(frame) => {
                self.meter.push(frame);
                self.bytes += frame.payload.len() as u64;
            }
            Event::Discontinuity => {}
            Event::Stop => self.epoch = None,
            Event::End => self.ended = true,
        }
    }
}
