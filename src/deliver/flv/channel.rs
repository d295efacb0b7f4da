//! One broadcast's viewers: the task that feeds them, and the seats that they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::debug;

use super::framer::{Framer, Piece};
use super::merge::Merge;
use super::ring::{Bounds, Cursor, Found, Ring};
use super::{Settings, Start};
use crate::clock::{Clock, sleep_until};
use crate::live::{Stream, Subscription};
use crate::media::Event;
use crate::metrics::{Metrics, Reason};
use crate::name::StreamName;

/// The broadcasts that have viewers. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(in crate::deliver) struct Channels(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    /// Of all broadcasts.
    viewers: AtomicUsize,
    /// By name: a broadcast that ended may still have viewers who take its last blocks; it is not found any more.
    open: Mutex<HashMap<StreamName, Arc<Channel>>>,
}

/// One broadcast that has viewers.
#[derive(Debug)]
struct Channel {
    stream: Arc<Stream>,
    state: Mutex<State>,
    /// The last viewer has left.
    empty: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Where each viewer wants to be woken; `None` for those that are busy, and for seats that are free.
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl State {
    fn viewers(&self) -> usize {
        self.wakers.len() - self.free.len()
    }
}

impl Channel {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    /// Nobody watches.
    pub(in crate::deliver) fn new(settings: Settings, clock: Clock, metrics: Metrics) -> Self {
        let (viewers, open) = (AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Directory { settings, clock, metrics, viewers, open }))
    }

    /// What was configured.
    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// How many watch `name`.
    pub(in crate::deliver) fn viewers(&self, name: &StreamName) -> usize {
        let channel = self.open().get(name).map(Arc::clone);
        channel.map_or(0, |channel| channel.state().viewers())
    }

    /// A seat for one more viewer of `stream`. The first starts the task that feeds them; it ends after the last.
    pub(super) fn sit(&self, stream: &Arc<Stream>, live: Live) -> Seat {
        let mut open = self.open();
        let channel = match open.get(&stream.name) {
            Some(channel) if Arc::ptr_eq(&channel.stream, stream) => Arc::clone(channel),
            _ => {
                let channel = Arc::new(self.start(stream));
                open.insert(stream.name.clone(), Arc::clone(&channel));
                tokio::spawn(feed(self.clone(), Arc::clone(&channel), stream.join(self.queue())));
                channel
            }
        };
        let mut state = channel.state();
        let cursor = match self.0.settings.start {
            Start::Gop => Cursor::new(0),
            Start::LowLatency => Cursor::new(state.ring.next()),
        };
        let number = state.free.pop().unwrap_or_else(|| {
            state.wakers.push(None);
            state.wakers.len() - 1
        });
        drop(state);
        self.0.viewers.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.flv_viewers.inc();
        live.0.live.store(true, Ordering::Relaxed);
        Seat { channel, number, cursor, channels: self.clone(), over: false, live }
    }

    fn start(&self, stream: &Arc<Stream>) -> Channel {
        let bounds = Bounds { bytes: self.queue(), lag: self.0.settings.lag };
        let state = State { ring: Ring::new(bounds), wakers: Vec::new(), free: Vec::new() };
        Channel { stream: Arc::clone(stream), state: Mutex::new(state), empty: Notify::new() }
    }

    fn queue(&self) -> usize {
        usize::try_from(self.0.settings.queue.as_u64()).unwrap_or(usize::MAX)
    }

    /// Closes a channel in which nobody sits.
    fn close_if_empty(&self, channel: &Arc<Channel>) -> bool {
        let mut open = self.open();
        let empty = channel.state().viewers() == 0;
        if empty {
            forget(&mut open, channel);
        }
        empty
    }

    fn open(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Channel>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(open: &mut HashMap<StreamName, Arc<Channel>>, channel: &Arc<Channel>) {
    if open.get(&channel.stream.name).is_some_and(|found| Arc::ptr_eq(found, channel)) {
        open.remove(&channel.stream.name);
    }
}

/// Frames a broadcast into its channel's ring, and wakes the viewers, until it ends or the last of them has left.
async fn feed(channels: Channels, channel: Arc<Channel>, mut events: Subscription) {
    debug!(stream = %channel.stream.name, "FLV channel opened");
    let Settings { start, merge_max, .. } = *channels.settings();
    let clock = &channels.0.clock;
    let mut framer = Framer::default();
    let mut merge = Merge::new(merge_max);
    let mut wakers = Vec::new();
    // The first events are what the stream had before: nobody here asked for its frames at a low-latency start.
    let mut replayed = start == Start::LowLatency;
    let mut ended = false;
    while !ended {
        let now = clock.now();
        let due = framer.is_pending().then(|| merge.due(channels.0.viewers.load(Ordering::Relaxed), now));
        if due.is_some_and(|due| due <= now) {
            let pieces = framer.take();
            ended = pieces.contains(&Piece::End);
            flush(&channel, pieces, now, &mut wakers);
            merge.flushed(now);
            continue;
        }
        tokio::select! {
            events = events.next() => {
                let wanted = |event: &&Event| !(replayed && matches!(event, Event::Frame(_)));
                events.iter().filter(wanted).for_each(|event| framer.push(event));
                replayed = false;
            }
            () = sleep_until(due) => {}
            () = channel.empty.notified() => {
                if channels.close_if_empty(&channel) {
                    break;
                }
            }
        }
    }
    forget(&mut channels.open(), &channel);
    debug!(stream = %channel.stream.name, ended, "FLV channel closed");
}

/// One lock and one pass over the viewers for everything that is there. Each is woken once, and only if it waits.
fn flush(channel: &Channel, pieces: Vec<Piece>, now: Instant, wakers: &mut Vec<Waker>) {
    let mut state = channel.state();
    for piece in pieces {
        state.ring.push(piece, now);
    }
    wakers.extend(state.wakers.iter_mut().filter_map(Option::take));
    drop(state);
    wakers.drain(..).for_each(Waker::wake);
}

/// One viewer's place in a broadcast. Dropping it leaves.
#[derive(Debug)]
pub(in crate::deliver) struct Seat {
    channel: Arc<Channel>,
    number: usize,
    cursor: Cursor,
    channels: Channels,
    over: bool,
    live: Live,
}

/// Goes with a connection's requests as an extension: what a connection and a viewer's seat tell each other.
#[derive(Debug, Clone, Default)]
pub(in crate::deliver) struct Live(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    live: AtomicBool,
    stalled: AtomicBool,
}

impl Live {
    /// The connection carries a broadcast.
    pub(in crate::deliver) fn is_live(&self) -> bool {
        self.0.live.load(Ordering::Relaxed)
    }

    /// The viewer is about to be closed because it takes nothing.
    pub(in crate::deliver) fn stalled(&self) {
        self.0.stalled.store(true, Ordering::Relaxed);
    }
}

impl Seat {
    /// What is to be sent next; `None` when the broadcast is over.
    pub(super) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.channel.state();
        let found = state.ring.read(&mut self.cursor);
        if found == Found::Nothing
            && let Some(waker) = state.wakers.get_mut(self.number)
        {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        drop(state);
        let skips = self.cursor.take_skips();
        if skips > 0 {
            self.channels.0.metrics.flv_skips.inc_by(skips);
        }
        match found {
            Found::Bytes(bytes) => {
                self.channels.0.metrics.flv_bytes.inc_by(bytes.len() as u64);
                Poll::Ready(Some(bytes))
            }
            Found::Nothing => Poll::Pending,
            Found::End => {
                self.over = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.channel.state();
        if let Some(waker) = state.wakers.get_mut(self.number) {
            *waker = None;
        }
        state.free.push(self.number);
        let empty = state.viewers() == 0;
        drop(state);
        if empty {
            self.channel.empty.notify_one();
        }
        self.channels.0.viewers.fetch_sub(1, Ordering::Relaxed);
        self.channels.0.metrics.flv_viewers.dec();
        let reason = match (self.over, self.live.0.stalled.load(Ordering::Relaxed)) {
            (true, _) => "ended",
            (false, true) => "stalled",
            (false, false) => "left",
        };
        self.channels.0.metrics.flv_ends.get_or_create(&Reason { reason }).inc();
    }
}
