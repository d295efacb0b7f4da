//! Players that people have at home and on servers, against a real origin: ffmpeg and ffprobe, mpv, VLC. Each plays the
//! same broadcast by HTTP-FLV and by HLS.
//!
//! Needs ffmpeg, mpv and VLC; `make test` sees to them. Chromium has `browser.rs`.

mod common;
#[path = "common/media.rs"]
mod media;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Origin, grandstand, poll};
use media::{Media, TICKS_PER_MS, Unit};
use serde_json::Value;

const MATCH_FLV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");
/// A player that has not done in this time what takes it a few seconds of real time does not do it.
const PLAYED: Duration = Duration::from_secs(60);
/// Bytes of one picture of match.flv in I420.
const PICTURE_BYTES: u64 = 640 * 360 * 3 / 2;

/// The ways into a broadcast.
const WAYS: [&str; 2] = ["/live/match.flv", "/live/match/index.m3u8"];

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program starts"))
    }

    /// Whether it ends in good order within [`PLAYED`].
    fn succeeds(&mut self) -> bool {
        let status = poll(PLAYED, || self.0.try_wait().expect("a child can be waited for"));
        status.is_some_and(|status| status.success())
    }
}

/// An origin into which match.flv is published as `live/match`: once, or over and over.
fn broadcast(repeat: bool) -> (Origin, Running) {
    let origin = Origin::start();
    let mut command = grandstand();
    command.arg("publish").args(repeat.then_some("--loop")).arg(MATCH_FLV).arg(origin.rtmp_url("live/match"));
    let publisher = Running::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    (origin, publisher)
}

/// The API's entry of the only broadcast, once `is_there` says so of it.
fn wait_for(origin: &Origin, is_there: impl Fn(&Value) -> bool) {
    let found = poll(common::SOON, || {
        let answer: Value = serde_json::from_slice(&origin.get("/api/v1/streams").body).ok()?;
        answer["streams"].get(0).filter(|stream| is_there(stream)).map(|_| ())
    });
    found.expect("the broadcast is live");
}

/// A viewer got the broadcast from some random access point up to its end: every unit once, in order, unchanged, and all
/// differ in time from what was pushed by the same offset but for FLV's rounding to milliseconds.
fn assert_rest(name: &str, pushed: &[Unit], found: &[Unit], offset: i64) {
    let missed = pushed.len().checked_sub(found.len()).expect("nothing was made up");
    for (n, (pushed, found)) in pushed[missed..].iter().zip(found).enumerate() {
        assert_eq!(
            (pushed.sha256, pushed.idr),
            (found.sha256, found.idr),
            "{name} {n}: {pushed:?}, {found:?}"
        );
        let (pts, dts) = (found.pts - pushed.pts - offset, found.dts - pushed.dts - offset);
        assert!(pts.abs() <= TICKS_PER_MS && dts.abs() <= TICKS_PER_MS, "{name} {n}: {pushed:?}, {found:?}");
    }
}

/// What went in comes out, frame by frame, until the broadcast ends and the body with
/// it. By HLS from the first segment that ffmpeg chooses.
#[test]
fn ffmpeg_copies_every_frame_from_where_it_joins_to_the_end() {
    let (origin, _publisher) = broadcast(false);
    let folder = tempfile::tempdir().unwrap();
    let mut running = Vec::new();
    for (n, way) in WAYS.into_iter().enumerate() {
        wait_for(&origin, |stream| !way.ends_with("m3u8") || stream["ready"] == true);
        let path = folder.path().join(format!("{n}.flv"));
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-copyts", "-i"]).arg(origin.http_url(way));
        ffmpeg.args(["-c", "copy", "-f", "flv"]).arg(&path);
        running.push((way, path, Running::spawn(&mut ffmpeg)));
    }
    let pushed = Media::of_flv(&fs::read(MATCH_FLV).unwrap());
    for (way, path, mut ffmpeg) in running {
        assert!(ffmpeg.succeeds(), "ffmpeg comes to the end of {way}");
        let copied = Media::of_flv(&fs::read(path).unwrap());
        assert!(copied.video[0].idr, "{way} begins with a random access point");
        assert!(copied.video.len() > 200, "{way}: {} pictures", copied.video.len());
        let first = &pushed.video[pushed.video.len() - copied.video.len()];
        let offset = copied.video[0].dts - first.dts;
        assert_rest(way, &pushed.video, &copied.video, offset);
        assert_rest(way, &pushed.audio, &copied.audio, offset);
        // Sound comes with the first picture, not some seconds later.
        let gap = (copied.audio[0].dts - copied.video[0].dts).abs();
        assert!(gap <= 100 * TICKS_PER_MS, "{way}: audio begins {gap} ticks from video");
    }
}

#[test]
fn ffprobe_finds_both_tracks() {
    let (origin, _publisher) = broadcast(true);
    wait_for(&origin, |stream| stream["ready"] == true);
    for way in WAYS {
        let output = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "stream=codec_name,width,height,sample_rate",
                "-of",
                "json",
            ])
            .arg(origin.http_url(way))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let stream = |codec: &str| {
            let mut streams = found["streams"].as_array().unwrap().iter();
            streams
                .find(|stream| stream["codec_name"] == codec)
                .unwrap_or_else(|| panic!("{way}: {found}"))
                .clone()
        };
        assert_eq!(
            (&stream("h264")["width"], &stream("h264")["height"]),
            (&640.into(), &360.into()),
            "{way}"
        );
        assert_eq!(stream("aac")["sample_rate"], "48000", "{way}");
    }
}

/// mpv says at which picture it is, and how many it has dropped.
#[test]
fn mpv_plays() {
    let (origin, _publisher) = broadcast(true);
    wait_for(&origin, |stream| stream["ready"] == true);
    for way in WAYS {
        let mut mpv = Command::new("mpv");
        mpv.args(["--no-config", "--vo=null", "--ao=null", "--frames=100", "--terminal=yes"])
            .arg("--msg-level=all=warn,statusline=status")
            .arg("--term-status-msg=picture=${estimated-frame-number};decoder-dropped=${decoder-frame-drop-count};")
            .arg(origin.http_url(way))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut mpv = Running::spawn(&mut mpv);
        let good = mpv.succeeds();
        let mut said = String::new();
        mpv.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        mpv.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(good, "{way}: {said}");
        let figure =
            |name: &str| said.rsplit_once(name).and_then(|(_, rest)| rest.split(';').next()?.parse().ok());
        assert!(figure("picture=").is_some_and(|picture: u32| picture >= 99), "{way}: {said}");
        assert_eq!(figure("decoder-dropped="), Some(0), "{way}: {said}");
    }
}

/// VLC writes what it has decoded into files: pictures, and samples. It refuses to run as root.
#[test]
fn vlc_plays() {
    const NOBODY: u32 = 65_534;
    let (origin, _publisher) = broadcast(true);
    wait_for(&origin, |stream| stream["ready"] == true);
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let (pictures, samples) = (folder.path().join("v.yuv"), folder.path().join("a.wav"));
        let is_root =
            fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut vlc = if is_root {
            std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            let mut setpriv = Command::new("setpriv");
            setpriv.args([
                format!("--reuid={NOBODY}"),
                format!("--regid={NOBODY}"),
                "--clear-groups".to_owned(),
            ]);
            setpriv.arg("cvlc");
            setpriv
        } else {
            Command::new("cvlc")
        };
        vlc.env("HOME", folder.path())
            .args(["--no-lua", "--vout=yuv", "--aout=afile", "--yuv-file"])
            .arg(&pictures)
            .arg("--audiofile-file")
            .arg(&samples)
            .arg(origin.http_url(way))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let vlc = Running::spawn(&mut vlc);
        let len = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        // 4 s of pictures at 25 a second, and 3 s of stereo at 48 kHz in 16 bits or more.
        let played = poll(PLAYED, || {
            (len(&pictures) >= 100 * PICTURE_BYTES && len(&samples) >= 3 * 48_000 * 4).then_some(())
        });
        assert!(
            played.is_some(),
            "{way}: {} bytes of pictures, {} of samples",
            len(&pictures),
            len(&samples)
        );
        drop(vlc);
    }
}
