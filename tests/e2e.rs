//! The main job: ffmpeg pushes a broadcast for half a minute, a viewer follows the playlist, and every access unit and
//! every audio frame that was pushed is found in exactly one segment, with its payload and its time.
#![allow(
    clippy::unwrap_used,
    reason = "whatever fails here fails the test; clippy knows only test functions"
)]

mod common;
#[path = "common/media.rs"]
mod media;
#[path = "common/ts_reader.rs"]
mod ts_reader;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, FixedOffset, Utc};
use grandstand::media::flv::TagKind;
use grandstand::publish::FlvFile;
use grandstand::publish::pace::Pace;
use m3u8_rs::Playlist;

use common::{Origin, poll};
use media::{Media, TICKS_PER_MS, Unit};
use ts_reader::TsReader;

const MATCH_FLV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");
/// match.flv is 16 s long.
const ROUNDS: u64 = 2;
/// One picture at 25 a second.
const PICTURE: Duration = Duration::from_millis(40);

/// A process that does not outlive its test.
struct Encoder(Child);

impl Drop for Encoder {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A segment as the playlist listed it first.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    uri: String,
    duration_s: f64,
    date: DateTime<FixedOffset>,
}

/// What a viewer saw from the first playlist to ENDLIST.
#[derive(Default)]
struct Viewing {
    segments: BTreeMap<u64, (Listed, Vec<u8>)>,
    first_sequence: u64,
    target_duration_s: u64,
    ended: bool,
}

impl Viewing {
    /// Reloads the media playlist and fetches what is new in it.
    fn reload(&mut self, origin: &Origin, path: &str) {
        let response = origin.get(path);
        assert_eq!(response.status, 200, "{path}");
        let Ok(Playlist::MediaPlaylist(playlist)) = m3u8_rs::parse_playlist_res(&response.body) else {
            panic!("{path} is no media playlist:\n{}", response.text());
        };
        assert!(playlist.media_sequence >= self.first_sequence.max(1), "MEDIA-SEQUENCE goes back");
        self.first_sequence = playlist.media_sequence;
        assert!(self.target_duration_s == 0 || self.target_duration_s == playlist.target_duration);
        self.target_duration_s = playlist.target_duration;
        for (sequence, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            assert!(!segment.discontinuity, "nothing broke, and yet {} is a discontinuity", segment.uri);
            let listed = Listed {
                uri: segment.uri.clone(),
                duration_s: f64::from(segment.duration),
                date: segment.program_date_time.expect("each segment has a date"),
            };
            let known = self.segments.get(&sequence);
            if let Some((known, _)) = known {
                assert_eq!(known, &listed, "the entry of a media sequence number never changes");
                continue;
            }
            let response = origin.get(&beside(path, &segment.uri));
            assert_eq!(response.status, 200, "a listed segment can be read: {}", segment.uri);
            assert_eq!(response.header("content-type"), Some("video/mp2t"));
            self.segments.insert(sequence, (listed, response.body));
        }
        self.ended = playlist.end_list;
    }
}

/// A relative URI of a playlist as a path.
fn beside(playlist: &str, uri: &str) -> String {
    let (folder, _) = playlist.rsplit_once('/').unwrap();
    format!("{folder}/{uri}")
}

/// `match.flv` over and over as one file: the timestamps run on.
fn write_rounds(path: &Path) {
    let file = FlvFile::read(&fs::read(MATCH_FLV).unwrap().into()).unwrap();
    let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    let pace = Pace::new(&file, true);
    let end = Duration::from_millis(pace.period_ms() * ROUNDS);
    for due in pace.take_while(|due| due.at < end) {
        let kind = match due.tag.kind {
            TagKind::Audio => 8,
            TagKind::Video => 9,
            TagKind::Data => 18,
        };
        let [t3, t2, t1, t0] = due.timestamp_ms.to_be_bytes();
        let [_, l2, l1, l0] = u32::try_from(due.tag.body.len()).unwrap().to_be_bytes();
        bytes.extend([kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0]);
        bytes.extend(&due.tag.body);
        bytes.extend(u32::try_from(due.tag.body.len() + 11).unwrap().to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// The path of the only media playlist, once the broadcast has one.
fn media_playlist(origin: &Origin, multivariant: &str) -> String {
    let found = poll(common::SOON, || {
        let response = origin.get(multivariant);
        (response.status == 200).then_some(response.body)
    });
    let body = found.expect("a broadcast has a playlist after its first segment");
    let Ok(Playlist::MasterPlaylist(playlist)) = m3u8_rs::parse_playlist_res(&body) else {
        panic!("no multivariant playlist:\n{}", String::from_utf8_lossy(&body));
    };
    let [variant] = playlist.variants.as_slice() else { panic!("one rendition: {playlist:?}") };
    // RFC 6381 §3.3: the profile's digits are hexadecimal, of either case.
    let codecs = variant.codecs.as_deref().unwrap_or_default();
    assert_eq!(codecs.to_ascii_lowercase(), "avc1.64001e,mp4a.40.2");
    assert_eq!(variant.resolution.map(|size| (size.width, size.height)), Some((640, 360)));
    assert!(variant.frame_rate.is_some_and(|rate| (rate - 25.0).abs() < 0.01), "{variant:?}");
    beside(multivariant, &variant.uri)
}

/// Every unit is there once, in order, unchanged, and all differ in time by the same offset but for FLV's rounding to
/// milliseconds.
fn assert_same(name: &str, pushed: &[Unit], found: &[Unit], offset: i64) {
    for (n, (pushed, found)) in pushed.iter().zip(found).enumerate() {
        assert_eq!(
            (pushed.sha256, pushed.idr),
            (found.sha256, found.idr),
            "{name} {n}: {pushed:?}, {found:?}"
        );
        let (pts, dts) = (found.pts - pushed.pts - offset, found.dts - pushed.dts - offset);
        assert!(pts.abs() <= TICKS_PER_MS && dts.abs() <= TICKS_PER_MS, "{name} {n}: {pushed:?}, {found:?}");
    }
    assert_eq!(found.len(), pushed.len(), "{name}");
}

/// A healthy broadcast with B-frames, from encoder to viewer. 8216bis §3, §4.4.4.1, §4.4.4.6, §6.2.1, §6.2.2; rules
/// `PL.EXTINF_*`, `PL.PDT*`, `PL.IMMUTABLE_ENTRY`, `TS.PATPMT*`, `TS.CC*`, `TS.IDR`, `TS.ONE_AU`, `TS.AUD`, `TS.ADTS_*`,
/// `TS.AUDIO_*`.
#[test]
fn every_frame_that_ffmpeg_pushes_is_in_exactly_one_segment() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let (source, pushed) = (folder.path().join("source.flv"), folder.path().join("pushed.flv"));
    write_rounds(&source);

    // What goes to the origin goes to a file as well, through the same muxer.
    let start: DateTime<Utc> = SystemTime::now().into();
    let mut encoder = Command::new("ffmpeg");
    encoder
        .args(["-v", "error", "-nostdin", "-re", "-i"])
        .arg(&source)
        .args(["-map", "0", "-c", "copy", "-f", "tee"]);
    encoder.arg(format!("[f=flv]{}|[f=flv]{}", origin.rtmp_url("live/match"), pushed.display()));
    let mut encoder = Encoder(encoder.stdin(Stdio::null()).spawn().unwrap());

    let path = media_playlist(&origin, "/live/match/index.m3u8");
    let mut viewing = Viewing::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    let ended = poll(deadline - Instant::now(), || {
        viewing.reload(&origin, &path);
        viewing.ended.then_some(())
    });
    ended.expect("the playlist has an ENDLIST after the broadcast's end");
    assert!(encoder.0.wait().unwrap().success(), "ffmpeg was content");

    let pushed = Media::of_flv(&fs::read(&pushed).unwrap());
    assert_eq!(
        (pushed.video.len(), pushed.audio.len()),
        (800, pushed.audio.len()),
        "the encoder pushed all of it"
    );
    let mut reader = TsReader::default();
    let segments: Vec<(Listed, Media)> =
        viewing.segments.into_values().map(|(listed, bytes)| (listed, reader.read(&bytes))).collect();
    let video: Vec<Unit> = segments.iter().flat_map(|(_, media)| media.video.clone()).collect();
    let audio: Vec<Unit> = segments.iter().flat_map(|(_, media)| media.audio.clone()).collect();
    let offset = video[0].dts - pushed.video[0].dts;
    assert_same("video", &pushed.video, &video, offset);
    assert_same("audio", &pushed.audio, &audio, offset);

    assert_eq!(segments.len() as u64, 8 * ROUNDS, "each GOP of 2 s is one segment");
    let mut media_s = 0.0;
    let (first, first_media) = &segments[0];
    for (listed, media) in &segments {
        let picture = &media.video[0];
        assert!(picture.idr, "{} starts with an IDR picture", listed.uri);
        let at_s = (picture.pts - first_media.video[0].pts) as f64 / 90_000.0;
        assert!(
            (at_s - media_s).abs() < PICTURE.as_secs_f64(),
            "EXTINF up to {} sum to {media_s} s",
            listed.uri
        );
        let date_s = (listed.date - first.date).as_seconds_f64();
        assert!((date_s - media_s).abs() < 0.002, "{} is dated {date_s} s after the first", listed.uri);
        assert!(listed.duration_s.round() as u64 <= viewing.target_duration_s);
        media_s += listed.duration_s;
    }
    let all_s = (16 * ROUNDS) as f64;
    assert!((media_s - all_s).abs() < PICTURE.as_secs_f64(), "{media_s} s listed of {all_s} s pushed");
    let delay_s = (first.date.with_timezone(&Utc) - start).as_seconds_f64();
    assert!(
        (-1.0..10.0).contains(&delay_s),
        "the first picture is dated {delay_s} s after the encoder's start"
    );
}
