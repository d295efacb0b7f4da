//! One live stream: its tracks, its figures and its subscribers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::clock::WallTime;
use crate::media::{Event, TrackSet};
use crate::name::StreamName;

use super::Epoch;
use super::meter::Meter;
use super::queue::{Feed, Subscription, pair};

/// A stream while its publisher is connected. Shared by the publisher, the hub and whoever shows figures.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub name: StreamName,
    /// This publishing session.
    pub epoch: Epoch,
    /// When the publish was accepted.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_wall: WallTime,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tracks: Option<Arc<TrackSet>>,
    meter: Meter,
    feeds: Vec<Feed>,
    bytes: u64,
}

/// A stream's figures at one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// What it carries; `None` before the first tracks are known.
    pub tracks: Option<Arc<TrackSet>>,
    /// Payload bits per second over the last seconds of media time.
    pub bits_per_second: u64,
    /// Pictures per second over the same.
    pub pictures_per_second: f64,
    /// Payload bytes since the publish began.
    pub bytes: u64,
}

impl Stream {
    pub(super) fn new(name: StreamName, epoch: Epoch, started: Instant, started_wall: WallTime) -> Self {
        Self { name, epoch, started, started_wall, inner: Mutex::default() }
    }

    /// Everything pushed from now on, through a queue of at most `bytes_max` bytes.
    pub(super) fn subscribe(&self, bytes_max: usize) -> Subscription {
        let (feed, subscription) = pair(bytes_max);
        self.lock().feeds.push(feed);
        subscription
    }

    /// Hands an event to every subscriber; answers how many events were lost by slow ones.
    pub(super) fn push(&self, event: &Event) -> usize {
        let mut inner = self.lock();
        match event {
            Event::Tracks(tracks) => inner.tracks = Some(Arc::clone(tracks)),
            Event::Frame(frame) => {
                inner.meter.push(frame);
                inner.bytes += frame.payload.len() as u64;
            }
            Event::Discontinuity | Event::End => {}
        }
        inner.feeds.retain(|feed| !feed.is_closed());
        inner.feeds.iter().map(|feed| feed.push(event.clone())).sum()
    }

    /// What the stream carries and measures now.
    pub fn figures(&self) -> Figures {
        let inner = self.lock();
        Figures {
            tracks: inner.tracks.clone(),
            bits_per_second: inner.meter.bits_per_second(),
            pictures_per_second: inner.meter.pictures_per_second(),
            bytes: inner.bytes,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
