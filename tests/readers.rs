//! The readers that the end-to-end test believes, held against ffmpeg and ffprobe.

#[path = "common/media.rs"]
mod media;
#[path = "common/ts_reader.rs"]
mod ts_reader;

use std::fs;
use std::process::Command;

use media::{Media, TICKS_PER_MS, Unit};
use ts_reader::TsReader;

const MATCH_FLV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");

/// (PTS, DTS) in milliseconds, as ffprobe lists them.
fn ffprobe(track: &str) -> Vec<(i64, i64)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", track, "-show_entries", "packet=pts,dts", "-of", "csv=p=0"])
        .arg(MATCH_FLV)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |text: Option<&str>| text.unwrap().parse().unwrap();
    text.lines()
        .map(|line| {
            let mut fields = line.split(',');
            (number(fields.next()), number(fields.next()))
        })
        .collect()
}

fn times(units: &[Unit]) -> Vec<(i64, i64)> {
    units.iter().map(|unit| (unit.pts / TICKS_PER_MS, unit.dts / TICKS_PER_MS)).collect()
}

#[test]
fn an_flv_file_holds_what_ffprobe_finds_in_it() {
    let media = Media::of_flv(&fs::read(MATCH_FLV).unwrap());
    assert_eq!(times(&media.video), ffprobe("v"));
    assert_eq!(times(&media.audio), ffprobe("a"));
    assert_eq!(media.video.iter().filter(|unit| unit.idr).count(), 8);
}

/// ffmpeg turns the file into a transport stream without coding anew: every payload is found again, in order, and
/// timestamps differ by a constant and FLV's rounding to milliseconds.
#[test]
fn a_transport_stream_of_ffmpeg_holds_what_the_flv_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("match.ts");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", MATCH_FLV, "-c", "copy", "-f", "mpegts"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    let flv = Media::of_flv(&fs::read(MATCH_FLV).unwrap());
    let ts = TsReader::default().read(&fs::read(path).unwrap());
    let offset = ts.video[0].dts - flv.video[0].dts;
    for (of_flv, of_ts) in [(&flv.video, &ts.video), (&flv.audio, &ts.audio)] {
        assert_eq!(of_ts.len(), of_flv.len());
        for (a, b) in of_flv.iter().zip(of_ts) {
            assert_eq!((a.sha256, a.idr), (b.sha256, b.idr), "{a:?} {b:?}");
            assert!((b.dts - a.dts - offset).abs() <= TICKS_PER_MS, "{a:?} {b:?}");
            assert!((b.pts - a.pts - offset).abs() <= TICKS_PER_MS, "{a:?} {b:?}");
        }
    }
}
