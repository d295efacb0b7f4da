//! One broadcast's packager: runs the segmenter and the muxer, keeps the window, publishes and cleans up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::live::hub::Started;
use crate::media::{Event, Span, TrackSet};
use crate::metrics::{Metrics, Reason};
use crate::name::StreamName;
use crate::store::layout::{MULTIVARIANT_FILE, playlist_path};
use crate::store::{SegmentKey, Store, Writer};

use super::Settings;
use super::assembler::{Assembler, Muxed};
use super::board::{Board, Document, Life, Published};
use super::continuity::{self, Continuity};
use super::playlist::{Segment, Window};
use super::rendition::{Declared, Rates, multivariant};
use super::segmenter::{Cause, Step};

/// What every packager shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    /// `[hls]`.
    pub settings: Settings,
    /// Where playlists are published.
    pub board: Board,
    /// Where objects go.
    pub store: Store,
    /// Clocks.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
}

/// Packages one name: one broadcast after another, and the time after the last until everything of it may be
/// deleted. The only writer of the name's objects.
#[derive(Debug)]
pub struct Packager {
    shared: Shared,
    name: StreamName,
    writer: Writer,
    window: Window,
    rates: Rates,
    /// Everything that readers can get now, by file name.
    documents: Vec<(Arc<str>, Arc<Document>)>,
    /// What the multivariant playlist was made from.
    described: Option<(Arc<TrackSet>, Declared, String)>,
    /// What may be deleted, and from when on. One that is due waits for those before it.
    doomed: VecDeque<(Instant, Doomed)>,
}

#[derive(Debug)]
enum Doomed {
    Segment(SegmentKey),
    Playlist(Arc<str>),
}

impl Packager {
    /// Finds what an earlier process left under this name, and goes on counting from there.
    pub async fn start(shared: Shared, name: StreamName) -> Self {
        let fresh = Continuity::fresh(shared.clock.wall());
        let mut packager = Self {
            writer: shared.store.writer(),
            window: new_window(&shared.settings, fresh),
            rates: Rates::default(),
            documents: Vec::new(),
            described: None,
            doomed: VecDeque::new(),
            shared,
            name,
        };
        if let Some(remains) = packager.remains().await {
            packager.window = new_window(&packager.shared.settings, remains.continuity);
            // Players of the earlier process's list may still hold it: as long as a list of ours.
            let wait = Span::from(packager.shared.settings.window * 2);
            for key in remains.segments {
                packager.doom(wait, Doomed::Segment(key));
            }
        }
        packager
    }

    async fn remains(&self) -> Option<continuity::Remains> {
        let multivariant = self.stored(MULTIVARIANT_FILE).await?;
        let media = self.stored(&continuity::media_file(&multivariant)?).await?;
        continuity::remains(&self.name, &media, self.shared.clock.wall())
    }

    async fn stored(&self, file: &str) -> Option<Bytes> {
        let read = self.shared.store.read_playlist(&playlist_path(&self.name, file)).await;
        read.inspect_err(|problem| warn!(stream = %self.name, error = %problem, "stored playlist not read"))
            .ok()
            .flatten()
    }

    /// Packages one broadcast to its end.
    pub async fn package(&mut self, started: Started) {
        let Started { mut events, .. } = started;
        if !self.window.is_empty() {
            self.renew();
        }
        let mut assembler = Assembler::new(&self.shared.settings);
        info!(stream = %self.name, sequence = self.window.next_sequence(), "packaging began");
        loop {
            let batch = events.next().await;
            for event in &batch {
                self.handle(&mut assembler, event);
            }
            if batch.back() == Some(&Event::End) {
                break;
            }
        }
        self.end();
        info!(stream = %self.name, segments = assembler.segments(), "packaging ended");
    }

    /// Between publishes: deletes what is due, until nothing of the name is left. Cancel-safe.
    pub async fn linger(&mut self) {
        while let Some((at, _)) = self.doomed.front() {
            tokio::time::sleep_until((*at).into()).await;
            self.delete_due();
        }
        self.drained().await;
    }

    /// Waits until everything handed to the store is there.
    pub async fn drained(&self) {
        self.writer.drained().await;
    }

    fn handle(&mut self, assembler: &mut Assembler, event: &Event) {
        if *event == Event::Discontinuity {
            warn!(stream = %self.name, "time broke, or media was lost");
        }
        assembler.handle(event, self.shared.clock.wall());
        while let Some(step) = assembler.poll() {
            match step {
                Step::Begin(begin) => assembler.begin(begin),
                Step::Append(frame) => assembler.append(&frame),
                Step::End(end) => {
                    if let Some(muxed) = assembler.finish(end) {
                        self.list(muxed);
                    }
                }
            }
        }
        for (reason, count) in assembler.take_drops() {
            self.shared.metrics.media_drops.get_or_create(&Reason { reason }).inc_by(count);
        }
    }

    /// A segment is whole: into the store, then into the list, then out to readers.
    fn list(&mut self, muxed: Muxed) {
        self.make_room(muxed.end.duration);
        let sequence = self.window.next_sequence();
        let key = SegmentKey { name: self.name.clone(), epoch: muxed.begin.epoch, sequence };
        let segment = Segment {
            key: key.clone(),
            duration: muxed.end.duration,
            discontinuity: muxed.begin.discontinuity,
            date: muxed.begin.date,
            bytes: muxed.bytes.len() as u64,
        };
        self.rates.push(segment.bytes, segment.duration, self.window.target());
        self.writer.put_segment(key, muxed.bytes);
        let removed = self.window.push(segment).expect("room was made for it");
        self.describe(&muxed.begin.tracks, muxed.pictures_per_second);
        self.show_media();
        for segment in removed {
            self.writer.retire_segment(&segment.key);
            self.doom(self.window.retention(&segment), Doomed::Segment(segment.key));
        }
        self.delete_due();
        self.shared.metrics.segments.inc();
        if muxed.end.cause == Cause::Forced {
            warn!(stream = %self.name, duration_s = %muxed.end.duration,
                  "no random access point within the limits, media up to the next one is lost");
        }
    }

    /// A segment longer than the target duration: before anything is listed the target is raised, unseen by anybody;
    /// later the list ends, and another with a target that fits takes its place beside it.
    fn make_room(&mut self, duration: Span) {
        if duration <= self.window.target() {
            return;
        }
        // The next segment may find its random access point a whole such group of pictures after its own target.
        let target = duration + Span::from(self.shared.settings.segment);
        if self.window.is_empty() {
            return self.window.raise_target(target);
        }
        warn!(stream = %self.name, duration_s = %duration, target_s = %self.window.target(),
              "group of pictures longer than the target duration, a new playlist begins");
        self.window.end();
        self.show_media();
        self.doom_list(&[self.window.file()]);
        self.window = self.window.successor(target);
    }

    /// The broadcast is over: the list ends and is frozen, and may go when players had time to play it.
    fn end(&mut self) {
        if self.window.is_empty() {
            return;
        }
        self.window.end();
        self.show_media();
        self.doom_list(&[self.window.file(), MULTIVARIANT_FILE.to_owned()]);
    }

    /// An ended list stays as it is; the next broadcast of the name counts on from it in a list of its own.
    fn renew(&mut self) {
        self.window = self.window.successor(self.shared.settings.target_duration.into());
        self.rates = Rates::default();
        self.described = None;
    }

    /// An ended list goes after the time it takes to play; what it names, after the same time again, because a player
    /// may have loaded it at the last moment (RFC 8216 6.2.2).
    fn doom_list(&mut self, files: &[String]) {
        let ended = &self.window;
        let wait = ended.listed() + ended.target();
        let playlists = files.iter().map(|file| (wait, Doomed::Playlist(file.as_str().into())));
        let segment =
            |segment: &Segment| (wait + ended.retention(segment), Doomed::Segment(segment.key.clone()));
        let doomed: Vec<_> = playlists.chain(ended.segments().map(segment)).collect();
        for (after, doomed) in doomed {
            self.doom(after, doomed);
        }
    }

    fn doom(&mut self, after: Span, doomed: Doomed) {
        let wait = Duration::from_micros(after.as_us().unsigned_abs());
        self.doomed.push_back((self.shared.clock.now() + wait, doomed));
    }

    fn delete_due(&mut self) {
        let now = self.shared.clock.now();
        while let Some((_, doomed)) = self.doomed.pop_front_if(|(at, _)| *at <= now) {
            match doomed {
                Doomed::Segment(key) => self.writer.delete_segment(key),
                Doomed::Playlist(file) => {
                    self.documents.retain(|(name, _)| *name != file);
                    self.writer.delete_playlist(playlist_path(&self.name, &file));
                    self.publish();
                }
            }
        }
    }

    /// Renews the multivariant playlist if what it says has changed.
    fn describe(&mut self, tracks: &Arc<TrackSet>, pictures_per_second: f64) {
        let file = self.window.file();
        let now = (Arc::clone(tracks), self.rates.declared(), file);
        if self.described.as_ref() != Some(&now) {
            let text = multivariant(&now.2, &now.0, now.1, pictures_per_second);
            self.described = Some(now);
            self.show(MULTIVARIANT_FILE, text);
        }
    }

    fn show_media(&mut self) {
        self.show(&self.window.file(), self.window.render());
        self.publish();
    }

    /// Puts a playlist among what readers get, and into the store. One that was to be deleted lives on.
    fn show(&mut self, file: &str, text: String) {
        let life =
            if self.window.has_ended() { Life::Ended } else { Life::Live { target: self.window.target() } };
        let document = Arc::new(Document::new(text, self.shared.clock.wall(), life));
        self.writer.put_playlist(playlist_path(&self.name, file), document.text.clone());
        self.doomed.retain(|(_, doomed)| !matches!(doomed, Doomed::Playlist(name) if **name == *file));
        match self.documents.iter_mut().find(|(name, _)| **name == *file) {
            Some((_, old)) => *old = document,
            None => self.documents.push((file.into(), document)),
        }
    }

    /// All documents at once, so that a reader never sees half of a change.
    fn publish(&self) {
        if self.documents.is_empty() {
            self.shared.board.remove(&self.name);
        } else {
            self.shared.board.publish(&self.name, Published::new(self.documents.clone()));
        }
    }
}

fn new_window(settings: &Settings, continuity: Continuity) -> Window {
    let Continuity { sequence, discontinuities } = continuity;
    Window::new(settings.target_duration.into(), settings.window.into(), sequence, discontinuities)
}
