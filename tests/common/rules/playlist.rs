//! Rules of media playlists: of one version by itself, and of each version after the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{DateTime, FixedOffset};

use super::Report;

/// One entry. Its discontinuity number is the playlist's, counted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub sequence: u64,
    pub uri: String,
    /// As written, and in seconds.
    pub extinf: String,
    pub duration_s: f64,
    pub discontinuity: bool,
    pub timeline: u64,
    pub date: Option<String>,
}

impl Entry {
    /// Its PROGRAM-DATE-TIME, if that is one with milliseconds and a zone.
    pub fn dated(&self) -> Option<DateTime<FixedOffset>> {
        let date = self.date.as_deref()?;
        let (_, fraction) = date.split_once('.')?;
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        DateTime::parse_from_rfc3339(date).ok().filter(|_| digits >= 3)
    }
}

/// One version of a media playlist, by its lines.
#[derive(Debug, Clone, Default)]
pub struct Playlist {
    pub text: String,
    pub target_s: Option<u64>,
    pub sequence: Option<u64>,
    pub discontinuities: Option<u64>,
    pub ended: bool,
    pub independent: bool,
    pub entries: Vec<Entry>,
    /// What can't be read.
    pub malformed: Vec<String>,
}

/// One look at a playlist.
#[derive(Debug, Clone)]
pub struct Poll {
    /// When it was asked for, when it had come.
    pub asked: Instant,
    pub at: Instant,
    pub playlist: Playlist,
}

impl Playlist {
    /// Reads the lines. What is wrong is among `malformed`.
    pub fn read(text: &str) -> Self {
        let mut playlist = Self { text: text.to_owned(), ..Self::default() };
        let mut seen = BTreeSet::new();
        let (mut extinf, mut date, mut broken, mut twice) = (None, None, false, false);
        for line in text.lines().skip(1) {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let number = value.parse().ok();
            match tag {
                "#EXTINF" => twice |= extinf.replace(value.trim_end_matches(',').to_owned()).is_some(),
                "#EXT-X-PROGRAM-DATE-TIME" => twice |= date.replace(value.to_owned()).is_some(),
                "#EXT-X-DISCONTINUITY" => twice |= std::mem::replace(&mut broken, true),
                _ if tag.starts_with('#') && !seen.insert(tag.to_owned()) => {
                    playlist.malformed.push(format!("{tag} twice"));
                }
                "#EXT-X-TARGETDURATION" => playlist.target_s = number,
                "#EXT-X-MEDIA-SEQUENCE" => playlist.sequence = number,
                "#EXT-X-DISCONTINUITY-SEQUENCE" => playlist.discontinuities = number,
                "#EXT-X-ENDLIST" => playlist.ended = true,
                "#EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent = true,
                _ if tag.starts_with('#') || line.is_empty() => {}
                _ => playlist.entry(line, extinf.take(), date.take(), std::mem::take(&mut broken)),
            }
        }
        if twice || extinf.is_some() || date.is_some() || broken {
            playlist.malformed.push("an entry without URI".to_owned());
        }
        playlist
    }

    fn entry(&mut self, uri: &str, extinf: Option<String>, date: Option<String>, discontinuity: bool) {
        let extinf = extinf.unwrap_or_else(|| {
            self.malformed.push(format!("{uri} has no EXTINF"));
            String::new()
        });
        let duration_s = extinf.parse().unwrap_or_else(|_| {
            self.malformed.push(format!("EXTINF {extinf:?} is no number"));
            0.0
        });
        let before = self.entries.last().map_or(self.discontinuities.unwrap_or(0), |last| last.timeline);
        self.entries.push(Entry {
            sequence: self.sequence.unwrap_or(0) + self.entries.len() as u64,
            uri: uri.to_owned(),
            extinf,
            duration_s,
            discontinuity,
            timeline: before + u64::from(discontinuity),
            date,
        });
    }

    /// Seconds of media that are listed.
    pub fn listed_s(&self) -> f64 {
        self.entries.iter().map(|entry| entry.duration_s).sum()
    }

    fn target(&self) -> f64 {
        self.target_s.unwrap_or(0) as f64
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.unwrap_or(0) + self.entries.len() as u64
    }

    fn next_timeline(&self) -> u64 {
        self.entries.last().map_or(self.discontinuities.unwrap_or(0), |last| last.timeline)
    }
}

/// Rules of one version.
pub fn check(playlist: &Playlist, report: &mut Report) {
    let at = format!("from {:?}", playlist.sequence);
    syntax(playlist, &at, report);
    versions(playlist, &at, report);
    let target = playlist.target();
    report.claim("PL.TARGET_INT", &at, playlist.target_s.is_some_and(|target| target >= 1), || {
        format!("{:?}", playlist.target_s)
    });
    report.claim("PL.DISC_SEQ", &at, playlist.discontinuities.is_some(), || "is missing".to_owned());
    // hls.js takes 0 for "no number" (A6).
    let numbered = playlist.sequence.is_some_and(|sequence| sequence > 0);
    report.claim("PL.MSN_MONOTONIC", &at, numbered, || "MEDIA-SEQUENCE is missing or 0".to_owned());
    let independent = playlist.independent;
    report.claim("PL.INDEPENDENT", &at, independent, || "no EXT-X-INDEPENDENT-SEGMENTS".to_owned());
    let sliding = !playlist.text.contains("#EXT-X-PLAYLIST-TYPE");
    report.claim("PL.TYPE", &at, sliding, || "a sliding list has a PLAYLIST-TYPE".to_owned());
    for entry in &playlist.entries {
        let (at, long) = (entry.sequence, entry.duration_s);
        // With version 3 the target is the maximum, without rounding (8216bis §8).
        report.claim("PL.TARGET_MAX", at, long <= target, || format!("{long} s, target {target}"));
        let decimals = entry.extinf.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        report.claim("PL.EXTINF_DECIMALS", at, decimals >= 3 && long > 0.0, || entry.extinf.clone());
        report.claim("PL.PDT", at, entry.dated().is_some(), || format!("{:?}", entry.date));
    }
}

/// `PL.SYNTAX`: 8216 §4.1, §4.3.1.1; m3u8-rs reads it and finds the same.
fn syntax(playlist: &Playlist, at: &str, report: &mut Report) {
    let text = &playlist.text;
    let framed = text.starts_with("#EXTM3U\n") && text.ends_with('\n') && !text.contains('\r');
    report.claim("PL.SYNTAX", at, framed, || format!("first or last line: {text:?}"));
    report.claim("PL.SYNTAX", at, playlist.malformed.is_empty(), || playlist.malformed.join("; "));
    let read = m3u8_rs::parse_media_playlist_res(text.as_bytes());
    let same = read.as_ref().is_ok_and(|read| {
        read.segments.len() == playlist.entries.len()
            && Some(read.media_sequence) == playlist.sequence
            && read.end_list == playlist.ended
    });
    report.claim("PL.SYNTAX", at, same, || format!("m3u8-rs reads {read:?}"));
}

/// `PL.VERSION`: 3 is the smallest that fits decimal EXTINF, and nothing needs more (8216bis §8). `PL.OBSOLETE`: nothing that was
/// taken out.
fn versions(playlist: &Playlist, at: &str, report: &mut Report) {
    const NEED_MORE: [&str; 6] = [
        "#EXT-X-BYTERANGE",
        "#EXT-X-I-FRAMES-ONLY",
        "#EXT-X-MAP",
        "#EXT-X-DEFINE",
        "#EXT-X-SKIP",
        "#EXT-X-KEY",
    ];
    let lines = || playlist.text.lines();
    let three = lines().filter(|line| line.starts_with("#EXT-X-VERSION:")).eq(["#EXT-X-VERSION:3"]);
    let more = lines().find(|line| NEED_MORE.iter().any(|tag| line.starts_with(tag)));
    report.claim("PL.VERSION", at, three && more.is_none(), || format!("version 3: {three}, {more:?}"));
    let gone = lines().find(|line| line.contains("ALLOW-CACHE") || line.contains("PROGRAM-ID"));
    report.claim("PL.OBSOLETE", at, gone.is_none(), || format!("{gone:?}"));
}

/// Remembers what every list of a broadcast has said.
#[derive(Debug, Default)]
pub struct Memory {
    entries: BTreeMap<u64, Entry>,
    sequences: BTreeMap<String, u64>,
}

/// Rules of each version of a list after the one before. `memory` is of all lists of the broadcast so far.
pub fn follow(before: Option<&Poll>, now: &Poll, memory: &mut Memory, report: &mut Report) {
    for entry in &now.playlist.entries {
        remember(entry, memory, report);
    }
    let Some(before) = before else { return };
    let (old, new) = (&before.playlist, &now.playlist);
    let at = format!("from {:?}", new.sequence);
    report.claim("PL.TARGET_CONST", &at, old.target_s == new.target_s, || {
        format!("{:?}, then {:?}", old.target_s, new.target_s)
    });
    report.claim("PL.MSN_MONOTONIC", &at, new.sequence >= old.sequence, || {
        format!("{:?}, then {:?}", old.sequence, new.sequence)
    });
    report.claim("PL.NO_REGRESS", &at, new.next_sequence() >= old.next_sequence(), || {
        format!("ended before {}, then before {}", old.next_sequence(), new.next_sequence())
    });
    removed(old, new, &at, report);
    if old.ended && new.sequence == old.sequence {
        report.claim("PL.TYPE", &at, old.text == new.text, || "changed after ENDLIST".to_owned());
    }
}

/// `PL.IMMUTABLE_ENTRY`: URI, duration, timeline and date of a number never change. `PL.URI_UNIQUE`: a URI stands for one number.
fn remember(entry: &Entry, memory: &mut Memory, report: &mut Report) {
    let at = entry.sequence;
    let known = memory.entries.entry(at).or_insert_with(|| entry.clone());
    let mut same = entry.clone();
    // The tag itself may have left with the entry before; the number may not change.
    same.discontinuity = known.discontinuity;
    report.claim("PL.IMMUTABLE_ENTRY", at, *known == same, || format!("{known:?}, then {entry:?}"));
    let number = *memory.sequences.entry(entry.uri.clone()).or_insert(at);
    report.claim("PL.URI_UNIQUE", at, number == at, || format!("{} was {number}", entry.uri));
}

/// `PL.WINDOW_*`: what is left after a removal is at least three target durations (8216bis §6.2.2) and six segments (AS 8.11).
/// `PL.DISC_SEQ`: goes up by the tags that left, and never back; `PL.DISC_GONE` counts where one did.
fn removed(old: &Playlist, new: &Playlist, at: &str, report: &mut Report) {
    let gone: Vec<&Entry> = old.entries.iter().filter(|entry| Some(entry.sequence) < new.sequence).collect();
    if new.sequence.unwrap_or(0) < old.next_sequence() {
        let tags = gone.iter().filter(|entry| entry.discontinuity).count() as u64;
        let (from, to) = (old.discontinuities.unwrap_or(0), new.discontinuities.unwrap_or(0));
        report.claim("PL.DISC_SEQ", at, to == from + tags, || format!("{from}, then {to}, {tags} tags gone"));
        if tags > 0 {
            report.claim("PL.DISC_GONE", at, to > from, || format!("{from}, then {to}, {tags} tags gone"));
        }
        if !gone.is_empty() {
            let (listed, target, count) = (new.listed_s(), new.target(), new.entries.len());
            report.claim("PL.WINDOW_TARGETS", at, listed >= 3.0 * target, || {
                format!("{listed} s left, target {target}")
            });
            report.claim("PL.WINDOW_SEGMENTS", at, count >= 6, || format!("{count} segments left"));
        }
    } else {
        let (from, to) = (old.next_timeline(), new.discontinuities.unwrap_or(0));
        report.claim("PL.DISC_SEQ", at, to > from, || format!("a new list after {from} begins at {to}"));
    }
}

/// `PL.CADENCE`: a segment is listed within 1.5 target durations of the one before (8216bis §6.2.1). Taken from the last poll
/// without the newer one, so that a slow poll accuses nobody.
pub fn cadence(polls: &[Poll], report: &mut Report) {
    let mut listed: Option<(u64, Instant)> = None;
    for (n, poll) in polls.iter().enumerate() {
        let newest = poll.playlist.next_sequence();
        let Some((before, since)) = listed else {
            listed = Some((newest, poll.at));
            continue;
        };
        if newest > before {
            let without = n.checked_sub(1).and_then(|n| polls.get(n)).map_or(poll.asked, |poll| poll.asked);
            let took = without.saturating_duration_since(since).as_secs_f64();
            let limit = 1.5 * poll.playlist.target();
            report.claim("PL.CADENCE", newest - 1, took <= limit, || format!("{took:.1} s, limit {limit} s"));
            listed = Some((newest, poll.at));
        }
    }
}

/// `PL.WINDOW_LENGTH`: what is listed is what the origin was told to list, within a target duration, once it slides. Six
/// segments and three target durations come first.
pub fn length(polls: &[Poll], window_s: f64, report: &mut Report) {
    let mut slides = false;
    for pair in polls.windows(2) {
        let [before, poll] = pair else { continue };
        let goes_on = poll.playlist.sequence.unwrap_or(0) < before.playlist.next_sequence();
        slides = goes_on && (slides || poll.playlist.sequence > before.playlist.sequence);
        if !slides {
            continue;
        }
        let (listed, target) = (poll.playlist.listed_s(), poll.playlist.target());
        let longest = poll.playlist.entries.iter().map(|entry| entry.duration_s).fold(0.0, f64::max);
        let least = window_s.max(3.0 * target);
        let right = listed >= least && listed <= least.max(7.0 * longest) + target;
        report.claim("PL.WINDOW_LENGTH", format!("from {:?}", poll.playlist.sequence), right, || {
            format!("{listed} s listed, {window_s} s told")
        });
    }
}
