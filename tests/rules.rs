//! The running origin is held to the rules of HLS: real encoders push broadcasts of many shapes, a viewer sees everything,
//! and every playlist, segment and response is held against every rule that applies.

mod common;
#[path = "common/rules/mod.rs"]
mod rules;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::Origin;
use rules::planted::{self, Run};
use rules::watch::Watched;
use rules::{Expected, Pictures, Report, delivery};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// How long each broadcast is: the shortest in which a segment leaves the list and is then watched for all the time that it must
/// stay readable.
const LENGTH_S: u32 = 34;

/// Three target durations of 4 s, the least there may be.
const WINDOW_S: f64 = 12.0;

/// Each of them is held against something.
const RULES: [&str; 83] = [
    "H.CACHE_PLAYLIST",
    "H.CACHE_SEGMENT",
    "H.CORS",
    "H.DATE",
    "H.ETAG",
    "H.GZIP",
    "H.LENGTH",
    "H.LM",
    "H.LM_FRESH",
    "H.METHODS",
    "H.NOT_FOUND",
    "H.NOT_MODIFIED",
    "H.NO_COOKIE",
    "H.QUERY",
    "H.RANGE",
    "H.STATUS",
    "H.TYPE",
    "H.VARY",
    "MV.AVERAGE",
    "MV.BANDWIDTH",
    "MV.BANDWIDTH_LATER",
    "MV.CODECS",
    "MV.FRAME_RATE",
    "MV.RESOLUTION",
    "MV.SYNTAX",
    "PL.CADENCE",
    "PL.DISC_GONE",
    "PL.DISC_SEQ",
    "PL.EXTINF_DECIMALS",
    "PL.EXTINF_SUM",
    "PL.IMMUTABLE_ENTRY",
    "PL.INDEPENDENT",
    "PL.MSN_MONOTONIC",
    "PL.NO_REGRESS",
    "PL.OBSOLETE",
    "PL.PDT",
    "PL.PDT_MEDIA",
    "PL.PDT_ORDER",
    "PL.PDT_WALL",
    "PL.REMOVED_READABLE",
    "PL.REMOVED_WHOLE",
    "PL.SYNTAX",
    "PL.TARGET_CONST",
    "PL.TARGET_INT",
    "PL.TARGET_MAX",
    "PL.TYPE",
    "PL.URI_UNIQUE",
    "PL.VERSION",
    "PL.WINDOW_LENGTH",
    "PL.WINDOW_SEGMENTS",
    "PL.WINDOW_TARGETS",
    "TS.ADTS_FRAMES",
    "TS.ADTS_WHOLE",
    "TS.ALIGNED",
    "TS.AUD",
    "TS.AUDIO_CLOCK",
    "TS.AV_START",
    "TS.BOUNDARY_GAP",
    "TS.CC",
    "TS.CODEC_OK",
    "TS.DTS_MONO",
    "TS.IDR",
    "TS.INTERLEAVE",
    "TS.NEG_CTS",
    "TS.ONE_AU",
    "TS.OVERHEAD",
    "TS.PARAMSETS",
    "TS.PARAM_CHANGE",
    "TS.PATPMT_FIRST",
    "TS.PATPMT_SINGLE",
    "TS.PCR_FIRST",
    "TS.PCR_INTERVAL",
    "TS.PCR_LEAD",
    "TS.PCR_MONO",
    "TS.PES_LENGTH",
    "TS.PMT_DATA",
    "TS.PMT_LISTS",
    "TS.PMT_PCR",
    "TS.PMT_STABLE",
    "TS.PTS",
    "TS.PTS_BOUNDARY",
    "TS.RAI",
    "TS.SYNC",
];

/// One broadcast: its name, what it is meant to be, and how it is encoded: fixtures one after the other, a pipeline of
/// GStreamer, or `ffmpeg`'s arguments without `-re` and the URL.
struct Broadcast {
    name: &'static str,
    expected: Expected,
    encode: &'static str,
}

impl Broadcast {
    /// A file is looped for ever; `ffmpeg` ends by itself.
    fn is_file(&self) -> bool {
        self.encode.contains(".flv")
    }
}

const fn pictures(frame: Option<i64>, width: u64, height: u64) -> Pictures {
    Pictures { frame, size: (width, height) }
}

const fn broadcast(
    name: &'static str,
    video: Option<Pictures>,
    audio: Option<&'static str>,
    encode: &'static str,
) -> Broadcast {
    Broadcast { name, expected: Expected { window_s: WINDOW_S, video, audio }, encode }
}

const AAC: Option<&str> = Some("mp4a.40.2");
const MP3: Option<&str> = Some("mp4a.40.34");

const BROADCASTS: [Broadcast; 15] = [
    // Files, pushed by `grandstand publish --loop`; the last has other parameters of both tracks from one to the next.
    broadcast("live/match", Some(pictures(Some(3600), 640, 360)), AAC, "match.flv"),
    // Audio is sent a third of a second behind and ahead of its pictures, which is as far as encoders go.
    broadcast("live/behind", Some(pictures(Some(3600), 640, 360)), AAC, "330 match.flv"),
    broadcast("live/ahead", Some(pictures(Some(3600), 640, 360)), AAC, "-330 match.flv"),
    broadcast("live/changes", Some(pictures(Some(3600), 640, 360)), AAC, "baseline.flv match.flv"),
    broadcast(
        "live/ntsc",
        Some(pictures(Some(3003), 640, 360)),
        AAC,
        "-f lavfi -i testsrc2=s=640x360:r=30000/1001 -f lavfi -i sine=sample_rate=44100 -c:v libx264 -preset veryfast \
         -pix_fmt yuv420p -bf 3 -g 60 -keyint_min 60 -sc_threshold 0 -b:v 700k -maxrate 700k -bufsize 700k -c:a aac -b:a 96k",
    ),
    broadcast("live/sound", None, AAC, "-f lavfi -i sine=sample_rate=44100 -c:a aac -b:a 128k"),
    broadcast(
        "live/silent",
        Some(pictures(Some(1800), 320, 180)),
        None,
        "-f lavfi -i testsrc2=s=320x180:r=50 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 100 -keyint_min 100 \
         -sc_threshold 0 -b:v 500k",
    ),
    broadcast(
        "live/long",
        Some(pictures(Some(3600), 320, 180)),
        AAC,
        "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=sample_rate=48000 -c:v libx264 -preset superfast \
         -pix_fmt yuv420p -b:v 300k -c:a aac",
    ),
    broadcast(
        "live/short",
        Some(pictures(Some(3000), 320, 180)),
        AAC,
        "-f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=sample_rate=48000 -c:v libx264 -preset ultrafast \
         -tune zerolatency -pix_fmt yuv420p -g 15 -keyint_min 15 -b:v 400k -c:a aac",
    ),
    broadcast(
        "live/mp3",
        Some(pictures(Some(3600), 320, 180)),
        MP3,
        "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=sample_rate=44100 -c:v libx264 -preset ultrafast \
         -pix_fmt yuv420p -g 50 -keyint_min 50 -sc_threshold 0 -b:v 300k -c:a libmp3lame -b:a 96k",
    ),
    // A hard cut 1.3 s and 3.7 s after each other: groups of pictures of both lengths in turn.
    broadcast(
        "live/cuts",
        Some(pictures(Some(3600), 320, 180)),
        AAC,
        "-f lavfi -i testsrc2=s=320x180:r=25,drawbox=enable='lt(mod(t\\,3.7)\\,1.3)':color=red:t=fill \
         -f lavfi -i sine=sample_rate=48000 -c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 400k -c:a aac",
    ),
    // From the ninth second on a random access point comes each 7 s only: no segment fits the target duration any more.
    broadcast(
        "live/grows",
        Some(pictures(Some(3600), 320, 180)),
        AAC,
        "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=sample_rate=48000 -c:v libx264 -preset ultrafast \
         -pix_fmt yuv420p -g 500 -sc_threshold 0 -force_key_frames 0,2,4,6,8,15,22,29 -b:v 300k -c:a aac",
    ),
    // Every seventh picture is missing.
    broadcast(
        "live/varies",
        Some(pictures(None, 320, 180)),
        AAC,
        "-f lavfi -i testsrc2=s=320x180:r=25,select=mod(n\\,7) -f lavfi -i sine=sample_rate=48000 -vsync vfr -c:v libx264 \
         -preset ultrafast -pix_fmt yuv420p -force_key_frames expr:gte(t,n_forced*2) -b:v 300k -c:a aac",
    ),
    // Another encoder, which does not tell its frame rate in the SPS, and other software to send it.
    broadcast(
        "live/untold",
        Some(pictures(Some(3003), 320, 180)),
        AAC,
        "gst-launch-1.0 -q flvmux name=mux streamable=true ! rtmp2sink sync=true location=URL videotestsrc num-buffers=1020 \
         ! video/x-raw,width=320,height=180,framerate=30000/1001 ! openh264enc gop-size=60 bitrate=400000 complexity=low \
         ! h264parse ! mux. audiotestsrc samplesperbuffer=1024 num-buffers=1595 ! audio/x-raw,rate=48000 \
         ! voaacenc ! aacparse ! mux.",
    ),
    // A slide show: pictures are further apart than the clock may be.
    broadcast(
        "live/slow",
        Some(pictures(Some(18_000), 320, 180)),
        None,
        "-f lavfi -i testsrc2=s=320x180:r=5 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -keyint_min 10 \
         -sc_threshold 0 -b:v 200k",
    ),
];

/// Fixtures one after the other as one FLV file: the timestamps run on. A number says by how many milliseconds audio is sent
/// behind the pictures of its time.
fn concatenated(fixtures: &str) -> Vec<u8> {
    const HEADER: usize = 9 + 4;
    let mut header = Vec::new();
    let mut whole: Vec<Vec<u8>> = Vec::new();
    let (mut offset_ms, mut behind_ms) = (0, 0);
    for word in fixtures.split(' ') {
        if let Ok(number) = word.parse() {
            behind_ms = number;
            continue;
        }
        let file = std::fs::read(Path::new(FIXTURES).join(word)).expect("the fixture is there");
        header = file[..HEADER].to_vec();
        let mut tags: Vec<(i64, Vec<u8>)> = Vec::new();
        let (mut at, mut pictures) = (HEADER, 0);
        while let Some(tag) = file.get(at..).filter(|rest| rest.len() >= 11) {
            let len = 11 + u32::from_be_bytes([0, tag[1], tag[2], tag[3]]) as usize + 4;
            let time_ms = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]) + offset_ms;
            let [t3, t2, t1, t0] = time_ms.to_be_bytes();
            // Parameters of tracks are of type 0 and stay in front; a picture is 1, as is an audio frame.
            let is_frame = tag[12] == 1;
            pictures += u32::from(tag[0] == 9 && is_frame);
            let sent_ms = match tag[0] {
                8 | 9 if tag[12] == 0 => i64::MIN,
                8 if is_frame => i64::from(time_ms) + behind_ms,
                _ => i64::from(time_ms),
            };
            tags.push((sent_ms, [&tag[..4], &[t2, t1, t0, t3], &tag[8..len]].concat()));
            at += len;
        }
        // 25 pictures a second.
        offset_ms += 40 * pictures;
        tags.sort_by_key(|(sent_ms, _)| *sent_ms);
        whole.extend(tags.into_iter().map(|(_, tag)| tag));
    }
    [header, whole.concat()].concat()
}

/// A process that does not outlive its test, and the file that it pushes.
struct Encoder(
    Child,
    #[expect(dead_code, reason = "the file is there as long as this is")] tempfile::TempDir,
);

impl Encoder {
    fn start(origin: &Origin, broadcast: &Broadcast, length_s: u32) -> Self {
        let url = origin.rtmp_url(broadcast.name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = if broadcast.is_file() {
            let file = folder.path().join("broadcast.flv");
            std::fs::write(&file, concatenated(broadcast.encode)).expect("the file is written");
            let mut command = common::grandstand();
            command.args(["publish", "--loop"]).arg(file).arg(url);
            command
        } else if let Some(pipeline) = broadcast.encode.strip_prefix("gst-launch-1.0 ") {
            let mut command = Command::new("gst-launch-1.0");
            command.args(pipeline.replace("URL", &url).split_whitespace());
            command
        } else {
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-nostdin"]);
            let inputs = broadcast.encode.replace("-f lavfi", "-re -f lavfi");
            command.args(inputs.split_whitespace());
            command.args(["-t", &length_s.to_string(), "-f", "flv", &url]);
            command
        };
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.spawn().expect("the encoder starts"), folder)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A short window, so that a test sees segments leave it; and no reconnect window: while a publisher is waited for nothing new
/// is listed, which the rules for a live list know nothing of.
fn builder() -> common::Builder {
    Origin::builder()
        .env("GRANDSTAND_HLS_WINDOW", &format!("{WINDOW_S}s"))
        .env("GRANDSTAND_LIVE_RECONNECT", "0s")
}

/// The broadcasts of all shapes at once, from their first segment to ENDLIST, and what left the list for as long as it must stay.
#[test]
fn every_rule_holds_for_every_shape_of_broadcast() {
    let origin = builder().start();
    let mut all = Report::of("all");
    thread::scope(|scope| {
        let watches: Vec<_> =
            BROADCASTS.iter().map(|broadcast| scope.spawn(|| watch(&origin, broadcast))).collect();
        for watch in watches {
            all.absorb(watch.join().expect("a watch ends"));
        }
    });
    for rule in RULES {
        assert!(all.held(rule) > 0, "{rule} was held against nothing");
    }
    assert!(all.broken().is_empty(), "{:?}\n{}", all.broken(), all.text());
}

fn watch(origin: &Origin, broadcast: &Broadcast) -> Report {
    let mut encoder = Encoder::start(origin, broadcast, LENGTH_S);
    let mut watched = Watched::new(broadcast.name);
    let begun = Instant::now();
    let length = Duration::from_secs(LENGTH_S.into());
    watched.follow(origin.http(), Duration::from_secs(60), |watched| watched.segments.len() >= 2);
    let media = watched.lists.keys().next().cloned().unwrap_or_default();
    if let Some((entry, _)) = watched.segments.values().next() {
        let file = format!("{}/{}", watched.folder, entry.uri);
        delivery::probe(origin.http(), &media, &file, &mut watched.report);
    }
    watched.follow(origin.http(), Duration::from_secs(60), |_| begun.elapsed() >= length);
    if broadcast.is_file() {
        let _ended = encoder.0.kill();
    }
    watched.follow(origin.http(), Duration::from_secs(20), |_| false);
    watched.judge(&broadcast.expected)
}

/// Media sequence and discontinuity numbers go on, no URI comes again, and what was listed stays readable: over a second publish
/// under the name, over a stop and a start, and over a power cut.
#[test]
fn numbers_go_on_over_publishes_and_processes() {
    let broadcast = &BROADCASTS[0];
    let mut watched = Watched::new(broadcast.name);
    let three_more = |watched: &Watched, from: u64| watched.segments.range(from + 1..).count() >= 3;
    let mut origin = builder().start();

    for _ in 0..2 {
        let encoder = Encoder::start(&origin, broadcast, LENGTH_S);
        let from = watched.newest();
        watched.follow(origin.http(), Duration::from_secs(30), |watched| three_more(watched, from));
        drop(encoder);
        watched.follow(origin.http(), Duration::from_secs(20), |_| false);
    }
    for cut_power in [false, true, false] {
        let encoder = Encoder::start(&origin, broadcast, LENGTH_S);
        let from = watched.newest();
        watched.follow(origin.http(), Duration::from_secs(30), |watched| three_more(watched, from));
        if cut_power {
            origin.kill();
        } else {
            assert!(origin.stop().success());
        }
        drop(encoder);
        origin = builder().start_on(origin.store());
        watched.restart();
    }
    let publishes: std::collections::BTreeSet<_> = watched
        .segments
        .values()
        .map(|(entry, _)| entry.uri.split('/').next().unwrap_or("").to_owned())
        .collect();
    assert_eq!(publishes.len(), 5, "{publishes:?}");
    let report = watched.judge(&broadcast.expected);
    assert!(report.broken().is_empty(), "{:?}\n{}", report.broken(), report.text());
}

/// Each planted violation of a playlist is found, and named by its rule.
#[test]
fn a_broken_playlist_is_found_out() {
    for (rule, from, to) in planted::PLAYLISTS {
        let text = planted::GOOD.replacen(from, to, 1);
        assert_eq!(text == planted::GOOD, rule.is_empty(), "{rule}: {from:?} is in the playlist");
        let found = planted::after_good(&text);
        assert!(
            if rule.is_empty() { found.is_empty() } else { found.contains(&rule) },
            "{rule}: {found:?} in\n{text}"
        );
    }
}

/// Windows that are too short or too long, and a list that stands still.
#[test]
fn a_list_that_slides_wrongly_is_found_out() {
    assert_eq!(planted::sliding(7, 4, 24.0), [""; 0], "as it should be");
    assert_eq!(planted::sliding(5, 4, 24.0), ["PL.WINDOW_LENGTH", "PL.WINDOW_SEGMENTS"]);
    assert_eq!(planted::sliding(2, 4, 24.0), ["PL.WINDOW_LENGTH", "PL.WINDOW_SEGMENTS", "PL.WINDOW_TARGETS"]);
    assert_eq!(planted::sliding(12, 4, 24.0), ["PL.WINDOW_LENGTH"]);
    assert_eq!(planted::sliding(7, 8, 24.0), ["PL.CADENCE"]);
}

/// Each planted violation of a response, a segment, an entry and a multivariant playlist is found, and named by its rule.
#[test]
fn a_broken_response_or_segment_is_found_out() {
    let origin = Origin::start();
    let broadcast = &BROADCASTS[0];
    let _encoder = Encoder::start(&origin, broadcast, LENGTH_S);
    let mut watched = Watched::new(broadcast.name);
    watched.follow(origin.http(), Duration::from_secs(30), |watched| watched.segments.len() >= 3);
    let media = watched.lists.keys().next().expect("a media playlist was seen");
    let response = origin.get(media);
    assert_eq!(planted::with_header(&response, "x-none", ""), [""; 0], "as it came");
    for (rule, name, value) in planted::HEADERS {
        let found = planted::with_header(&response, name, value);
        assert!(found.contains(&rule), "{rule}, {name} {value:?}: {found:?}");
    }

    let multivariant = watched.versions.last().expect("a multivariant playlist was seen").text.clone();
    let entries = watched.segments.values().map(|(entry, _)| entry.clone()).collect();
    let run = Run { entries, bytes: watched.bytes.into_values().collect(), expected: broadcast.expected };

    assert_eq!(run.with(1, |_| ()), [""; 0], "as it came");
    for (n, (rule, change)) in planted::SEGMENTS.into_iter().enumerate() {
        let found = run.with(1, change);
        assert!(found.contains(&rule), "{rule} (row {n}): {found:?}");
    }
    assert!(run.with_entry(|entry| entry.duration_s += 0.041).contains(&"PL.EXTINF_SUM"));
    let late = run.with_entry(|entry| entry.date = Some("2026-11-26T18:09:52.000Z".to_owned()));
    assert!(late.contains(&"PL.PDT_MEDIA") && late.contains(&"PL.PDT_ORDER"), "{late:?}");

    assert_eq!(run.described(&multivariant), [""; 0], "as it came");
    for (rule, from, to) in [
        ("MV.CODECS", "avc1.64", "avc1.42"),
        ("MV.CODECS", ",mp4a.40.2", ""),
        ("MV.RESOLUTION", "640x360", "640x368"),
        ("MV.FRAME_RATE", "RATE=25", "RATE=30"),
        ("MV.BANDWIDTH", "BANDWIDTH=", "BANDWIDTH=1"),
        ("MV.BANDWIDTH_LATER", "BANDWIDTH=", "BANDWIDTH=1,X="),
        ("MV.AVERAGE", "AVERAGE-BANDWIDTH=", "AVERAGE-BANDWIDTH=1"),
    ] {
        let found = run.described(&multivariant.replacen(from, to, 1));
        assert!(found.contains(&rule), "{rule}: {found:?}");
    }
}
