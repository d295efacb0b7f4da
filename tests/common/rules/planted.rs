//! Violations made on purpose: a checker that finds nothing wrong has to show that it could.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::multivariant::{self, Version};
use super::playlist::{self, Entry, Memory, Playlist, Poll};
use super::segment::{self, Segment};
use super::ts::{PACKET, Transport, crc};
use super::{Expected, Report, delivery, entries, timeline};
use crate::common::http::Response;

/// A playlist that breaks no rule.
pub const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n\
    #EXT-X-DISCONTINUITY-SEQUENCE:2\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:44.000Z\n#EXTINF:4.000000,\n1/7.ts\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:48.000Z\n#EXTINF:4.000000,\n2/8.ts\n\
    #EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:52.000Z\n#EXTINF:4.000000,\n2/9.ts\n";

/// A version of [`GOOD`] by itself, and after it: rule, what is replaced, by what.
pub const PLAYLISTS: [(&str, &str, &str); 26] = [
    ("", "", ""),
    ("PL.SYNTAX", "#EXTM3U\n", ""),
    ("PL.SYNTAX", "9.ts\n", "9.ts"),
    ("PL.SYNTAX", "2/8.ts\n", ""),
    ("PL.SYNTAX", "#EXTINF:4.000000,\n2/8", "2/8"),
    ("PL.SYNTAX", "#EXT-X-VERSION:3\n", "#EXT-X-VERSION:3\n#EXT-X-VERSION:3\n"),
    ("PL.TARGET_INT", "DURATION:4", "DURATION:0"),
    ("PL.TARGET_MAX", "INF:4.000000,\n2/9", "INF:4.400000,\n2/9"),
    ("PL.TARGET_CONST", "DURATION:4", "DURATION:5"),
    ("PL.MSN_MONOTONIC", "#EXT-X-MEDIA-SEQUENCE:7\n", ""),
    ("PL.MSN_MONOTONIC", "MEDIA-SEQUENCE:7", "MEDIA-SEQUENCE:6"),
    ("PL.NO_REGRESS", "#EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:52.000Z\n#EXTINF:4.000000,\n2/9.ts\n", ""),
    ("PL.IMMUTABLE_ENTRY", "2/8.ts", "3/8.ts"),
    ("PL.IMMUTABLE_ENTRY", "INF:4.000000,\n2/8", "INF:3.900000,\n2/8"),
    ("PL.IMMUTABLE_ENTRY", "48.000Z", "48.100Z"),
    ("PL.IMMUTABLE_ENTRY", "#EXT-X-DISCONTINUITY\n", ""),
    ("PL.URI_UNIQUE", "2/9.ts", "1/7.ts"),
    ("PL.EXTINF_DECIMALS", "INF:4.000000,\n2/9", "INF:4.0,\n2/9"),
    ("PL.DISC_SEQ", "#EXT-X-DISCONTINUITY-SEQUENCE:2\n", ""),
    ("PL.DISC_SEQ", "DISCONTINUITY-SEQUENCE:2", "DISCONTINUITY-SEQUENCE:3"),
    ("PL.PDT", "52.000Z", "52Z"),
    ("PL.PDT", "#EXT-X-PROGRAM-DATE-TIME:2026-11-26T18:09:48.000Z\n", ""),
    ("PL.TYPE", "#EXT-X-INDEPENDENT", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT"),
    ("PL.INDEPENDENT", "#EXT-X-INDEPENDENT-SEGMENTS\n", ""),
    ("PL.VERSION", "VERSION:3", "VERSION:6"),
    ("PL.OBSOLETE", "#EXT-X-INDEPENDENT", "#EXT-X-ALLOW-CACHE:NO\n#EXT-X-INDEPENDENT"),
];

/// What is found in `text` as the version after [`GOOD`].
pub fn after_good(text: &str) -> Vec<&'static str> {
    let mut report = Report::of("planted");
    let mut memory = Memory::default();
    let now = Instant::now();
    let poll = |text: &str| Poll { asked: now, at: now, playlist: Playlist::read(text) };
    let (good, next) = (poll(GOOD), poll(text));
    playlist::follow(None, &good, &mut memory, &mut report);
    playlist::check(&next.playlist, &mut report);
    playlist::follow(Some(&good), &next, &mut memory, &mut report);
    report.broken()
}

/// A run of real segments, to break copies of.
pub struct Run {
    pub entries: Vec<Entry>,
    pub bytes: Vec<Vec<u8>>,
    pub expected: Expected,
}

impl Run {
    /// What is found in the run with one of its segments changed.
    pub fn with(&self, which: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<&'static str> {
        let mut all = self.bytes.clone();
        change(&mut all[which]);
        self.judge(&self.entries, &all)
    }

    /// What is found in the run with its second entry changed.
    pub fn with_entry(&self, change: impl FnOnce(&mut Entry)) -> Vec<&'static str> {
        let mut entries = self.entries.clone();
        change(&mut entries[1]);
        self.judge(&entries, &self.bytes)
    }

    fn judge(&self, entries: &[Entry], bytes: &[Vec<u8>]) -> Vec<&'static str> {
        let mut report = Report::of("planted");
        let segments: Vec<Segment> =
            entries.iter().zip(bytes).map(|(entry, bytes)| Segment::read(entry.sequence, bytes)).collect();
        for segment in &segments {
            segment::check(segment, &self.expected, &mut report);
        }
        timeline::check(&segments.iter().collect::<Vec<_>>(), &self.expected, &mut report);
        let pairs: Vec<_> = entries.iter().zip(&segments).collect();
        entries::check(&pairs, &self.expected, &mut report);
        entries::dates(&entries.iter().collect::<Vec<_>>(), &mut report);
        report.broken()
    }

    /// What is found in a multivariant playlist of this run.
    pub fn described(&self, text: &str) -> Vec<&'static str> {
        let mut report = Report::of("planted");
        let segments: Vec<Segment> = self
            .entries
            .iter()
            .zip(&self.bytes)
            .map(|(entry, bytes)| Segment::read(entry.sequence, bytes))
            .collect();
        let pairs: Vec<_> = self.entries.iter().zip(&segments).collect();
        let version = Version { text: text.to_owned(), newest: self.entries[2].sequence, target_s: 4.0 };
        multivariant::holds(&version, &pairs, &pairs, &self.expected, &mut report);
        report.broken()
    }
}

/// The packet `n` of those that start a PES of the stream of `kind` (0 video, 1 audio), by its place.
fn start(bytes: &[u8], kind: usize, n: usize) -> usize {
    let transport = Transport::read(bytes);
    let (pid, _) = transport.pmts[0].streams[kind];
    transport.of(pid).nth(n).expect("the segment has so many").first * PACKET
}

/// Where the PES header is in a packet.
fn pes(bytes: &[u8], packet: usize) -> usize {
    packet + 4 + if bytes[packet + 3] & 0x20 == 0 { 0 } else { 1 + usize::from(bytes[packet + 4]) }
}

/// Adds ticks to the PTS or the DTS (the last timestamp of the header) of a PES.
fn shift(bytes: &mut [u8], packet: usize, dts: bool, ticks: i64) {
    let header = pes(bytes, packet);
    let both = bytes[header + 7] & 0x40 != 0;
    let at = header + if dts && both { 14 } else { 9 };
    let value = i64::from(bytes[at] >> 1 & 7) << 30
        | i64::from(bytes[at + 1]) << 22
        | i64::from(bytes[at + 2] >> 1) << 15
        | i64::from(bytes[at + 3]) << 7
        | i64::from(bytes[at + 4] >> 1);
    let value = value + ticks;
    bytes[at] = bytes[at] & 0xf0 | (value >> 30 << 1) as u8 & 0x0e | 1;
    bytes[at + 1] = (value >> 22) as u8;
    bytes[at + 2] = (value >> 14) as u8 | 1;
    bytes[at + 3] = (value >> 7) as u8;
    bytes[at + 4] = (value << 1) as u8 | 1;
}

/// Gives the first NAL unit of type `from` in a packet another type.
fn retype(bytes: &mut [u8], packet: usize, from: u8, to: u8) {
    let span = packet..packet + 4 * PACKET;
    let code = bytes[span].windows(4).position(|four| four[..3] == [0, 0, 1] && four[3] & 0x1f == from);
    let at = packet + code.expect("such a NAL unit is near the start") + 3;
    bytes[at] = bytes[at] & 0xe0 | to;
}

/// A way to break a segment.
pub type Change = fn(&mut Vec<u8>);

/// Rule, and what breaks it in the second of three segments with pictures and AAC.
pub const SEGMENTS: [(&str, Change); 36] = [
    ("TS.SYNC", |b| b[PACKET] = 0),
    ("TS.SYNC", |b| b.truncate(b.len() - 1)),
    ("TS.SYNC", |b| b[20] ^= 1),
    ("TS.PATPMT_FIRST", |b| drop(b.drain(..PACKET))),
    ("TS.PATPMT_FIRST", |b| b.rotate_left(2 * PACKET)),
    ("TS.PMT_STABLE", |b| program_byte(b, 17, 0x03)),
    ("TS.PMT_DATA", |b| keep(b, |packet, transport| packet != transport.pmts[0].streams[1].0)),
    ("TS.CODEC_OK", |b| program_byte(b, 17, 0x81)),
    ("TS.CC", |b| drop(b.drain(20 * PACKET..21 * PACKET))),
    ("TS.CC", |b| b[20 * PACKET + 3] ^= 1),
    ("TS.IDR", |b| edit(b, 0, 0, |b, at| retype(b, at, 5, 1))),
    ("TS.PARAMSETS", |b| edit(b, 0, 0, |b, at| retype(b, at, 7, 12))),
    ("TS.PARAMSETS", |b| edit(b, 0, 0, |b, at| retype(b, at, 8, 6))),
    ("TS.AUD", |b| edit(b, 0, 5, |b, at| retype(b, at, 9, 12))),
    ("TS.AUD", |b| edit(b, 0, 0, |b, at| retype(b, at, 7, 9))),
    ("TS.ONE_AU", |b| edit(b, 0, 5, |b, at| retype(b, at, 1, 12))),
    ("TS.RAI", |b| edit(b, 0, 0, |b, at| b[at + 5] &= !0x40)),
    ("TS.PES_LENGTH", |b| edit(b, 1, 2, |b, at| b[pes(b, at) + 5] ^= 1)),
    ("TS.NEG_CTS", |b| edit(b, 0, 5, |b, at| shift(b, at, false, -90_000))),
    ("TS.DTS_MONO", |b| edit(b, 0, 5, |b, at| shift(b, at, true, -90_000))),
    ("TS.BOUNDARY_GAP", |b| edit(b, 0, 5, |b, at| shift(b, at, true, 1))),
    ("TS.BOUNDARY_GAP", |b| edit(b, 0, 0, |b, at| shift(b, at, true, -1))),
    ("TS.PTS_BOUNDARY", |b| edit(b, 0, 49, |b, at| shift(b, at, false, 90_000))),
    ("TS.PTS_BOUNDARY", |b| edit(b, 0, 3, |b, at| shift(b, at, false, -90_000))),
    ("TS.ALIGNED", |b| edit(b, 0, 3, |b, at| b[pes(b, at) + 6] &= !4)),
    ("TS.PCR_MONO", |b| edit(b, 0, 9, |b, at| b[at + 8] ^= 0x80)),
    ("TS.PCR_INTERVAL", |b| keep_clocks(b, 4)),
    ("TS.PCR_FIRST", |b| keep_clocks(b, usize::MAX)),
    ("TS.AUDIO_CLOCK", |b| edit(b, 1, 2, |b, at| shift(b, at, false, 3))),
    ("TS.INTERLEAVE", |b| edit(b, 1, 2, |b, at| shift(b, at, false, 90_000))),
    ("TS.PTS", |b| edit(b, 0, 1, dts_like_pts)),
    ("TS.PMT_PCR", |b| program_byte(b, 9, 1)),
    ("TS.PCR_LEAD", |b| clocks(b).for_each(|raw| raw[8] = raw[8].wrapping_add(0x80))),
    ("TS.ADTS_WHOLE", |b| edit(b, 1, 2, |b, at| b[pes(b, at) + 14] = 0)),
    ("TS.OVERHEAD", |b| {
        b.extend([0x47, 0x1f, 0xff, 0x10].into_iter().chain([0xff; 184]).cycle().take(64 * PACKET));
    }),
    ("TS.AV_START", |b| edit(b, 1, 0, |b, at| shift(b, at, false, 9_900))),
];

fn edit(bytes: &mut [u8], kind: usize, n: usize, change: impl FnOnce(&mut [u8], usize)) {
    let at = start(bytes, kind, n);
    change(bytes, at);
}

/// Keeps the packets of some PIDs.
fn keep(bytes: &mut Vec<u8>, wanted: impl Fn(u16, &Transport) -> bool) {
    let transport = Transport::read(bytes);
    let kept =
        bytes.chunks(PACKET).zip(&transport.packets).filter(|(_, packet)| wanted(packet.pid, &transport));
    *bytes = kept.flat_map(|(raw, _)| raw.to_vec()).collect();
}

/// Takes the clock away from all but every `n`th of the packets that carry one, and from the first: the field stays, stuffed.
fn keep_clocks(bytes: &mut [u8], n: usize) {
    for (_, raw) in clocks(bytes).enumerate().filter(|(at, _)| n == usize::MAX || at % n != 0) {
        raw[5] &= !0x10;
        raw[6..12].fill(0xff);
    }
}

/// The packets that carry a clock.
fn clocks(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    bytes.chunks_mut(PACKET).filter(|raw| raw[3] & 0x20 != 0 && raw[4] >= 7 && raw[5] & 0x10 != 0)
}

/// Changes a byte of every program map, with a right CRC: 9 is the low byte of the clock's PID, 17 the type of the second stream.
fn program_byte(bytes: &mut [u8], at: usize, to: u8) {
    let program = Transport::read(bytes).pats[0][0];
    for raw in bytes.chunks_mut(PACKET) {
        if u16::from_be_bytes([raw[1] & 0x1f, raw[2]]) == program {
            raw[5 + at] = to;
            let end = 5 + 3 + usize::from(raw[7]) - 4;
            let sum = crc(&raw[5..end]).to_be_bytes();
            raw[end..end + 4].copy_from_slice(&sum);
        }
    }
}

/// Writes a DTS that is the PTS.
fn dts_like_pts(bytes: &mut [u8], packet: usize) {
    let header = pes(bytes, packet);
    bytes.copy_within(header + 9..header + 14, header + 14);
    bytes[header + 14] = bytes[header + 14] & 0x0f | 0x10;
}

/// Rule, header, and the value instead of the right one (none where it is empty): of a live media playlist's response, whose target
/// duration is 4 s.
pub const HEADERS: [(&str, &str, &str); 12] = [
    ("H.CORS", "access-control-allow-origin", "http://a.example"),
    ("H.CORS", "access-control-expose-headers", "Date"),
    ("H.CORS", "timing-allow-origin", ""),
    ("H.NO_COOKIE", "set-cookie", "a=b"),
    ("H.DATE", "date", ""),
    ("H.VARY", "vary", "Accept-Encoding, Origin"),
    ("H.TYPE", "content-type", "text/plain"),
    ("H.LENGTH", "content-length", "1"),
    ("H.ETAG", "etag", "W/\"a\""),
    ("H.CACHE_PLAYLIST", "cache-control", "no-store"),
    ("H.CACHE_PLAYLIST", "cache-control", "public, max-age=3"),
    ("H.LM_FRESH", "last-modified", "Thu, 26 Nov 2020 18:09:44 GMT"),
];

/// What is found in a response with that header.
pub fn with_header(response: &Response, name: &str, value: &str) -> Vec<&'static str> {
    let mut headers = response.headers.clone();
    headers.retain(|(found, _)| found != name);
    if !value.is_empty() {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let response = Response { status: response.status, headers, body: response.body.clone() };
    let mut report = Report::of("planted");
    delivery::playlist("planted", &response, Some(4), true, &mut report);
    report.broken()
}

/// What is found in a list of `count` segments of 4 s, of which one more is removed each `period_s`.
pub fn sliding(count: usize, period_s: u64, window_s: f64) -> Vec<&'static str> {
    let mut report = Report::of("planted");
    let mut memory = Memory::default();
    let begun = Instant::now();
    let mut polls: Vec<Poll> = Vec::new();
    for n in 0..4 {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n",
            n + 1
        );
        for n in n..n + count {
            // Writing to a String does not fail.
            let _ = write!(text, "#EXTINF:4.000,\n1/{}.ts\n", n + 1);
        }
        // Looked at when it is new, and a second before the next.
        for second in [n as u64 * period_s, (n as u64 + 1) * period_s - 1] {
            let at = begun + Duration::from_secs(second);
            let poll = Poll { asked: at, at, playlist: Playlist::read(&text) };
            playlist::follow(polls.last(), &poll, &mut memory, &mut report);
            polls.push(poll);
        }
    }
    playlist::cadence(&polls, &mut report);
    playlist::length(&polls, window_s, &mut report);
    report.broken()
}
