//! FFmpeg as the independent reader: what it encodes comes out of our segments byte for byte, by its own demuxer.

use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::*;

fn run(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// `ffprobe -show_packets`: `(pts, dts, SHA-256 of the bytes)` of one stream, times in 1/90000 s.
fn probe(dir: &Path, file: &str, stream: &str) -> Vec<(i64, i64, String)> {
    let entries = "packet=pts_time,dts_time,data_hash";
    #[rustfmt::skip]
    let json = run("ffprobe", &["-v", "warning", "-select_streams", stream, "-show_data_hash", "SHA256",
        "-show_entries", entries, "-of", "json", file], dir);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = |packet: &serde_json::Value, key: &str| packet[key].as_str().unwrap().to_owned();
    let ticks = |time: String| (time.parse::<f64>().unwrap() * 90_000.0).round() as i64;
    let read = |packet: &serde_json::Value| {
        let hash = text(packet, "data_hash");
        (
            ticks(text(packet, "pts_time")),
            ticks(text(packet, "dts_time")),
            hash.trim_start_matches("SHA256:").to_owned(),
        )
    };
    json["packets"].as_array().unwrap().iter().map(read).collect()
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// NAL units by start codes.
fn split_annex_b(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<_> = (3..bytes.len()).filter(|at| bytes[at - 3..*at] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).map(|at| at - 3).chain([bytes.len()]);
    let nals = starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]);
    nals.map(|nal| if nal.ends_with(&[0]) { &nal[..nal.len() - 1] } else { nal }).collect()
}

/// 4 s of H.264 with B-frames, SEI and delimiters, and AAC, from FFmpeg; muxed in two segments, which are read as
/// one file. ffprobe must find every access unit and every audio frame with its times, and FFmpeg decode all of it,
/// without one warning (it warns of counters, broken PES packets and missing parameter sets).
#[test]
fn ffprobe_finds_every_frame_and_ffmpeg_decodes_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    #[rustfmt::skip]
    run("ffmpeg", &["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4", "-f", "lavfi", "-i",
        "sine=r=48000:d=4.2", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-bf", "2", "-g", "50",
        "-sc_threshold", "0", "-x264-params", "aud=1:open-gop=0:repeat-headers=1", "-c:a", "aac", "-b:a", "96k", "a.mp4"], dir);
    run("ffmpeg", &["-v", "error", "-i", "a.mp4", "-c", "copy", "-an", "-f", "h264", "a.264"], dir);
    run("ffmpeg", &["-v", "error", "-i", "a.mp4", "-c", "copy", "-vn", "-f", "adts", "a.aac"], dir);
    let times = probe(dir, "a.mp4", "v");
    let video = std::fs::read(dir.join("a.264")).unwrap();
    let sounds = unpack_adts(&std::fs::read(dir.join("a.aac")).unwrap());

    // One access unit starts at each delimiter that opens one: x264's stands behind its SEI in the first.
    let mut units: Vec<Vec<&[u8]>> = Vec::new();
    for nal in split_annex_b(&video) {
        let slices = |unit: &Vec<&[u8]>| unit.iter().any(|nal| matches!(nal[0] & 0x1F, 1 | 5));
        if units.last().is_none_or(slices) && !units.last().is_some_and(|unit| nal_continues(unit, nal)) {
            units.push(Vec::new());
        }
        units.last_mut().unwrap().push(nal);
    }
    assert_eq!((units.len(), times.len()), (100, 100));
    let set = |kind| units.iter().flatten().find(|nal| nal[0] & 0x1F == kind).copied().unwrap();
    let tracks = Arc::new(TrackSet { video: Some(video_config(set(7), set(8))), audio: Some(mono_aac()) });

    let shift = -times.iter().map(|time| time.1).min().unwrap();
    let mut frames: Vec<_> =
        units.iter().zip(&times).map(|(nals, time)| video_frame(nals, time, shift)).collect();
    frames.extend(sounds.iter().enumerate().map(|(n, raw)| {
        let pts = Ticks(n as i64 * 1920);
        Arc::new(Frame {
            track: Track::Audio,
            dts: pts,
            pts,
            random_access: true,
            payload: raw.clone().into(),
        })
    }));
    frames.sort_by_key(|frame| frame.dts);
    let second = frames
        .iter()
        .filter(|frame| frame.track == Track::Video && frame.random_access)
        .nth(1)
        .unwrap()
        .clone();
    let belongs = |frame: &Arc<Frame>| match frame.track {
        Track::Video => frame.dts < second.dts,
        Track::Audio => frame.pts < second.pts,
    };
    let (first, rest): (Vec<_>, Vec<_>) = frames.iter().cloned().partition(belongs);
    std::fs::write(dir.join("a.ts"), [mux(&tracks, &first), mux(&tracks, &rest)].concat()).unwrap();

    let wire = |ticks: Ticks| ticks.0 + TIME_OFFSET;
    let expect = |track, bytes: &dyn Fn(&Frame) -> Vec<u8>| -> Vec<_> {
        let of_track = frames.iter().filter(|frame| frame.track == track);
        of_track.map(|frame| (wire(frame.pts), wire(frame.dts), sha256(&bytes(frame)))).collect()
    };
    let config = tracks.video.as_deref().unwrap();
    let annex_b = |frame: &Frame| {
        let unit = AccessUnit::parse(&Arc::new(frame.clone()), config).unwrap();
        unit.pieces(config).collect::<Vec<_>>().concat()
    };
    assert_eq!(probe(dir, "a.ts", "v"), expect(Track::Video, &annex_b));
    let Some(AudioConfig::Aac(adts)) = tracks.audio.as_deref() else { unreachable!("AAC above") };
    let with_header =
        |frame: &Frame| [&adts.adts_header(frame.payload.len()).unwrap()[..], &frame.payload].concat();
    assert_eq!(probe(dir, "a.ts", "a"), expect(Track::Audio, &with_header));
    run("ffmpeg", &["-v", "warning", "-xerror", "-i", "a.ts", "-map", "0", "-f", "null", "-"], dir);
}

/// A further slice of the same picture.
fn nal_continues(unit: &[&[u8]], nal: &[u8]) -> bool {
    let slice = |nal: &[u8]| matches!(nal[0] & 0x1F, 1 | 5);
    // `first_mb_in_slice` is 0, one bit, only in a picture's first slice.
    slice(nal) && nal[1] & 0x80 == 0 && unit.iter().any(|nal| slice(nal))
}

fn video_frame(nals: &[&[u8]], time: &(i64, i64, String), shift: i64) -> Arc<Frame> {
    Arc::new(Frame {
        track: Track::Video,
        dts: Ticks(time.1 + shift),
        pts: Ticks(time.0 + shift),
        random_access: nals.iter().any(|nal| nal[0] & 0x1F == 5),
        payload: nals
            .iter()
            .flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), *nal].concat())
            .collect::<Vec<u8>>()
            .into(),
    })
}

fn mono_aac() -> Arc<AudioConfig> {
    let AudioConfig::Aac(config) = &*aac(48_000) else { unreachable!("AAC") };
    Arc::new(AudioConfig::Aac(AacConfig { channels: 1, ..config.clone() }))
}
