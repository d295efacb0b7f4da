//! Chromium plays broadcasts of a real origin: `tests/browser/*.test.mjs`, with our own publisher as the encoder.
//!
//! Needs Chromium, node, and `npm ci` in `tests/browser` and `src/deliver/page`; `make test` sees to them.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Origin, grandstand};

/// Killed by its id when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn chromium_plays_a_broadcast() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = root.join("tests/browser");
    assert!(tests.join("node_modules").exists(), "run `npm ci` in tests/browser");
    let origin = Origin::start();
    let fixture = root.join("fixtures/match.flv");
    let publisher = grandstand()
        .args(["publish", "--loop"])
        .arg(&fixture)
        .arg(origin.rtmp_url("live/mark"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _publisher = Running(publisher.expect("the publisher starts"));

    let node = Command::new("node")
        // The reconnecting test mostly waits; three browsers at once would be too many for a small machine.
        .args(["--test", "--test-concurrency=2", "reconnect.test.mjs", "page.test.mjs", "flv.test.mjs"])
        .current_dir(&tests)
        .env("ORIGIN", origin.http_url(""))
        .env("BROADCAST", "live/mark")
        .env("GRANDSTAND", env!("CARGO_BIN_EXE_grandstand"))
        .env("FIXTURE", &fixture)
        .env("RTMP", format!("rtmp://{}", origin.rtmp()))
        .stdin(Stdio::null())
        .spawn();
    let mut node = Running(node.expect("node runs"));
    let status = node.0.wait().expect("a child can be waited for");
    assert!(status.success(), "see node's report above");
}
