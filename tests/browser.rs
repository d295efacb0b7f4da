//! Chromium plays what delivery serves: `tests/browser/page.test.mjs` against an origin with a rolling broadcast.
//!
//! Needs Chromium, ffmpeg, node, and `npm ci` in `tests/browser` and `src/deliver/page`.

// clippy.toml allows it inside `#[test]` functions, not in what they share.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::showing::{EPOCH, Showing, live};
use grandstand::clock::WallTime;
use grandstand::deliver::Settings;
use grandstand::name::StreamName;
use tokio::process::Command;

/// Seconds of a segment, and of the broadcast made for the test.
const SEGMENT_S: usize = 2;
const BROADCAST_S: usize = 240;

/// Segments listed.
const WINDOW: usize = 8;

/// The first media sequence number.
const SEQUENCE: u64 = 7000;

#[tokio::test(flavor = "multi_thread")]
async fn chromium_plays_a_broadcast() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(tests.join("node_modules").exists(), "run `npm ci` in tests/browser");
    let mut showing = Showing::new().await;
    let name: StreamName = "live/mark".parse().unwrap();
    let made = make_segments().await;
    for (n, segment) in made.iter().enumerate() {
        showing.put(&name, SEQUENCE + n as u64, segment);
    }
    let _publisher = showing.go_live(&name);
    let serving = showing.serve(Settings::default()).await;

    let mut node = Command::new("node")
        .args(["--test", "page.test.mjs"])
        .current_dir(&tests)
        .env("ORIGIN", format!("http://{}", serving.address))
        .env("BROADCAST", name.as_str())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("node runs");
    let start = showing.context.clock.wall().plus_us(-((WINDOW * SEGMENT_S) as i64) * 1_000_000);
    let mut tick = tokio::time::interval(Duration::from_secs(SEGMENT_S as u64));
    let mut last = WINDOW;
    let status = loop {
        tokio::select! {
            status = node.wait() => break status.unwrap(),
            _ = tick.tick() => {
                assert!(last < made.len(), "the tests took longer than the broadcast");
                let media = media_playlist(last, start);
                showing.publish(&name, live(4), &[("index.m3u8", MULTIVARIANT.to_owned()), ("media.m3u8", media)]);
                last += 1;
            }
        }
    };
    assert!(status.success(), "see node's report above");
    serving.stop.cancel();
    serving.task.await.unwrap();
}

const MULTIVARIANT: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1500000,CODECS=\"avc1.42C01E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=25.000\n\
    media.m3u8\n";

/// The window that ends before segment `end`.
fn media_playlist(end: usize, start: WallTime) -> String {
    let first = end.saturating_sub(WINDOW);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n",
        SEQUENCE + first as u64
    );
    for n in first..end {
        let date = start.plus_us((n * SEGMENT_S) as i64 * 1_000_000);
        let sequence = SEQUENCE + n as u64;
        writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:{SEGMENT_S}.00000,\n{EPOCH}/{sequence}.ts")
            .unwrap();
    }
    text
}

/// The broadcast's segments, by ffmpeg.
async fn make_segments() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let length = BROADCAST_S.to_string();
    let ffmpeg = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &length, "-c:v", "libx264"])
        .args(["-preset", "ultrafast", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "50"])
        .args(["-c:a", "aac", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0"])
        .args(["-hls_segment_filename", "%d.ts", "list.m3u8"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .status()
        .await
        .expect("ffmpeg runs");
    assert!(ffmpeg.success());
    let read = |n| std::fs::read(folder.path().join(format!("{n}.ts"))).ok();
    (0..).map_while(read).collect()
}
