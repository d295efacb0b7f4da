//! A viewer that never tires: asks for every playlist about three times a second, fetches each segment once it is listed, asks
//! again for those that left, and then holds all it saw against the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::multivariant::{self, Version};
use super::playlist::{self, Entry, Memory, Playlist, Poll};
use super::segment::{self, Segment};
use super::{Expected, Report, delivery, entries, timeline};
use crate::common::http::{Response, request};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(300);

/// How often a segment that left the list is asked for.
const REMOVED_PERIOD: Duration = Duration::from_secs(2);

/// How long a list that has ended is watched.
const FROZEN: Duration = Duration::from_secs(3);

/// What was seen of one broadcast, over any number of publishes.
#[derive(Debug)]
pub struct Watched {
    /// `/live/mark`.
    pub folder: String,
    /// Polls of each media playlist, by path.
    pub lists: BTreeMap<String, Vec<Poll>>,
    pub versions: Vec<Version>,
    pub segments: BTreeMap<u64, (Entry, Segment)>,
    pub bytes: BTreeMap<u64, Vec<u8>>,
    memory: Memory,
    removed: Vec<Removed>,
    ended: Option<Instant>,
    /// What was listed when the publish now followed began.
    floor: u64,
    /// The origin is another process since, and has not listed anything yet.
    restarted: bool,
    pub report: Report,
}

/// A segment that left the list.
#[derive(Debug)]
struct Removed {
    sequence: u64,
    path: String,
    /// It was listed still.
    listed: Instant,
    /// How long it must stay readable from then on.
    keep: Duration,
    asked: Instant,
}

impl Watched {
    /// Nothing was seen yet.
    pub fn new(name: &str) -> Self {
        Self {
            folder: format!("/{name}"),
            lists: BTreeMap::new(),
            versions: Vec::new(),
            segments: BTreeMap::new(),
            bytes: BTreeMap::new(),
            memory: Memory::default(),
            removed: Vec::new(),
            ended: None,
            floor: 0,
            restarted: true,
            report: Report::of(name),
        }
    }

    /// Follows a publish until its list has been over for a while, or `enough` says so.
    pub fn follow(&mut self, to: SocketAddr, limit: Duration, enough: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        if self.ended.take().is_some() {
            self.floor = self.newest();
        }
        while begun.elapsed() < limit && self.ended.is_none_or(|at| at.elapsed() < FROZEN) && !enough(self) {
            self.look(to);
            self.ask_removed(to);
            thread::sleep(PERIOD);
        }
    }

    /// The next publish is to another process, over the same store.
    pub fn restart(&mut self) {
        self.restarted = true;
        self.ended = None;
        self.floor = self.newest();
    }

    /// The newest segment that was seen.
    pub fn newest(&self) -> u64 {
        self.segments.keys().next_back().copied().unwrap_or(0)
    }

    /// One round: the multivariant playlist before and after the media playlists, so that it is known which of them it was
    /// published with.
    fn look(&mut self, to: SocketAddr) {
        let path = format!("{}/index.m3u8", self.folder);
        let before = request(to, "GET", &path, &[]);
        if before.status == 404 && self.restarted {
            // A2: not an empty 200, and not for long.
            return delivery::missing(&path, &before, &mut self.report);
        }
        self.restarted = false;
        delivery::playlist(&path, &before, None, true, &mut self.report);
        let Ok(multivariant) = m3u8_rs::parse_master_playlist_res(&before.body) else { return };
        let current = multivariant.variants.first().map(|variant| format!("{}/{}", self.folder, variant.uri));
        let Some(current) = current else { return };
        self.lists.entry(current.clone()).or_default();
        let paths: Vec<String> = self.lists.keys().cloned().collect();
        for path in paths {
            self.look_at(to, &path, path == current);
        }
        let after = request(to, "GET", &path, &[]);
        let newest = self.lists.get(&current).and_then(|polls| polls.last());
        let target_s = newest.and_then(|poll| poll.playlist.target_s).unwrap_or(0) as f64;
        let newest = newest.and_then(|poll| poll.playlist.entries.last());
        if let Some(newest) = newest
            && before.body == after.body
        {
            let (text, newest) = (before.text().to_owned(), newest.sequence);
            self.versions.push(Version { text, newest, target_s });
        }
    }

    fn look_at(&mut self, to: SocketAddr, path: &str, current: bool) {
        let polls = self.lists.entry(path.to_owned()).or_default();
        let over = polls.iter().find(|poll| !current && poll.playlist.ended);
        if over.is_some_and(|over| over.at.elapsed().as_secs_f64() > over.playlist.listed_s()) {
            // PL.TYPE, PL.REMOVED_READABLE: it was there, and frozen, for as long as it takes to play (8216 6.2.2).
            return;
        }
        let asked = Instant::now();
        let response = request(to, "GET", path, &[]);
        let playlist = Playlist::read(&String::from_utf8_lossy(&response.body));
        delivery::playlist(path, &response, playlist.target_s, !playlist.ended, &mut self.report);
        if response.status != 200 {
            return;
        }
        let poll = Poll { asked, at: Instant::now(), playlist };
        let last = polls.last().cloned();
        if current {
            let newest = poll.playlist.entries.last().map_or(0, |newest| newest.sequence);
            self.ended = (poll.playlist.ended && newest > self.floor).then(|| self.ended.unwrap_or(poll.at));
        } else {
            // Another list took its place, so this one is over (8216bis §6.2.1).
            let over = poll.playlist.ended;
            self.report.claim("PL.TYPE", path, over, || "replaced without ENDLIST".to_owned());
        }
        if last.as_ref().is_none_or(|last| last.playlist.text != poll.playlist.text) {
            playlist::check(&poll.playlist, &mut self.report);
        }
        playlist::follow(last.as_ref(), &poll, &mut self.memory, &mut self.report);
        self.note_removed(last.as_ref(), &poll, path);
        for entry in &poll.playlist.entries {
            self.fetch(to, entry, poll.playlist.target_s.unwrap_or(0) as f64);
        }
        self.lists.entry(path.to_owned()).or_default().push(poll);
    }

    fn fetch(&mut self, to: SocketAddr, entry: &Entry, target_s: f64) {
        if self.segments.contains_key(&entry.sequence) {
            return;
        }
        let path = format!("{}/{}", self.folder, entry.uri);
        let response = request(to, "GET", &path, &[]);
        delivery::segment(&path, &response, &mut self.report);
        if let (Some(date), false) = (entry.dated(), self.segments.is_empty()) {
            // PL.PDT_WALL: it is listed when it has happened, and soon: within the 1.5 target durations of PL.CADENCE.
            let age_s = (Utc::now() - date.to_utc()).as_seconds_f64() - entry.duration_s;
            self.report.claim(
                "PL.PDT_WALL",
                entry.sequence,
                (-1.0..=1.5 * target_s).contains(&age_s),
                || format!("its end is dated {age_s:.1} s before it was listed"),
            );
        }
        let segment = Segment::read(entry.sequence, &response.body);
        self.segments.insert(entry.sequence, (entry.clone(), segment));
        self.bytes.insert(entry.sequence, response.body);
    }

    /// RFC 8216 §6.2.2: from its removal on, a segment stays for its own duration and that of the longest list that held it.
    fn note_removed(&mut self, last: Option<&Poll>, now: &Poll, path: &str) {
        let Some(last) = last else { return };
        let polls = self.lists.get(path).map_or(&[][..], Vec::as_slice);
        let longest = polls.iter().map(|poll| poll.playlist.listed_s()).fold(0.0, f64::max);
        for entry in &last.playlist.entries {
            if Some(entry.sequence) < now.playlist.sequence {
                self.removed.push(Removed {
                    sequence: entry.sequence,
                    path: format!("{}/{}", self.folder, entry.uri),
                    listed: last.asked,
                    keep: Duration::from_secs_f64(entry.duration_s + longest),
                    asked: last.asked,
                });
            }
        }
    }

    /// `PL.REMOVED_READABLE`: it is there, and the same, up to the end of that time; `PL.REMOVED_WHOLE` counts those whose time was
    /// watched to its end.
    fn ask_removed(&mut self, to: SocketAddr) {
        for removed in &mut self.removed {
            if removed.asked.elapsed() < REMOVED_PERIOD {
                continue;
            }
            let response: Response = request(to, "GET", &removed.path, &[]);
            // What came after the deadline proves nothing.
            if removed.listed.elapsed() > removed.keep {
                continue;
            }
            removed.asked = Instant::now();
            let same = self.bytes.get(&removed.sequence) == Some(&response.body);
            self.report.claim(
                "PL.REMOVED_READABLE",
                removed.sequence,
                response.status == 200 && same,
                || {
                    format!(
                        "{} {:.1} s after it was listed",
                        response.status,
                        removed.listed.elapsed().as_secs_f64()
                    )
                },
            );
        }
        let report = &mut self.report;
        self.removed.retain(|removed| {
            let over = removed.listed.elapsed() > removed.keep;
            if over {
                report.claim("PL.REMOVED_WHOLE", removed.sequence, true, String::new);
            }
            !over
        });
    }

    /// Holds what was seen against the rules that need all of it.
    pub fn judge(mut self, expected: &Expected) -> Report {
        let mut report = std::mem::take(&mut self.report);
        for polls in self.lists.values() {
            playlist::cadence(polls, &mut report);
            playlist::length(polls, expected.window_s, &mut report);
        }
        for run in self.timelines() {
            let segments: Vec<&Segment> = run.iter().map(|(_, segment)| *segment).collect();
            for segment in &segments {
                segment::check(segment, expected, &mut report);
            }
            timeline::check(&segments, expected, &mut report);
            entries::check(&run, expected, &mut report);
        }
        let all: Vec<&Entry> = self.segments.values().map(|(entry, _)| entry).collect();
        entries::dates(&all, &mut report);
        self.judge_versions(expected, &mut report);
        report
    }

    /// Segments in order, split where time breaks.
    fn timelines(&self) -> Vec<Vec<(&Entry, &Segment)>> {
        let mut runs: Vec<Vec<(&Entry, &Segment)>> = Vec::new();
        for (entry, segment) in self.segments.values() {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|(last, _)| last.timeline == entry.timeline) => {
                    run.push((entry, segment));
                }
                _ => runs.push(vec![(entry, segment)]),
            }
        }
        runs
    }

    /// Of each version, once per newest segment; with the segments of its own publish and timeline.
    fn judge_versions(&self, expected: &Expected, report: &mut Report) {
        let timelines = self.timelines();
        let mut judged = BTreeSet::new();
        for version in &self.versions {
            if !judged.insert((version.newest, &version.text)) {
                continue;
            }
            let newest = version.newest;
            let timeline = timelines.iter().find(|run| run.iter().any(|(entry, _)| entry.sequence == newest));
            let Some(timeline) = timeline else { continue };
            let epoch = |entry: &Entry| entry.uri.split('/').next().map(str::to_owned);
            let own = epoch(timeline[0].0);
            let publish: Vec<_> =
                timelines.iter().flatten().copied().filter(|(entry, _)| epoch(entry) == own).collect();
            multivariant::holds(version, timeline, &publish, expected, report);
        }
    }
}
