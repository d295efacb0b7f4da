//! RTMP over real sockets: encoders that are right, peers that are wrong, and the origin's stop.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use grandstand::clock::Clock;
use grandstand::ingest::rtmp::{Settings, server};
use grandstand::live::{self, Hub, hub::Started};
use grandstand::metrics::Metrics;
use grandstand::name::StreamName;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here may take.
const SOON: Duration = Duration::from_secs(20);

struct Origin {
    address: SocketAddr,
    hub: Hub,
    metrics: Metrics,
    started: UnboundedReceiver<Started>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Origin {
    async fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (clock, metrics, stop) = (Clock::system(), Metrics::new(), CancellationToken::new());
        let (hub, started) = Hub::new(live::Settings::default(), clock.clone(), metrics.clone());
        let task = server::run(listener, settings, hub.clone(), clock, metrics.clone(), stop.clone());
        Self { address, hub, metrics, started, stop, task: tokio::spawn(task) }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(SOON, self.task).await.expect("the server stops").unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }
}

async fn run_encoder(program: &str, args: &[&str]) -> (bool, String) {
    let child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = timeout(SOON, child.wait_with_output()).await.expect("the encoder ends").unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn ffmpeg(url: &str) -> (bool, String) {
    let input =
        ["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-f", "lavfi", "-i", "sine"];
    let coding =
        ["-t", "2", "-c:v", "libx264", "-g", "25", "-preset", "ultrafast", "-c:a", "aac", "-f", "flv", url];
    run_encoder("ffmpeg", &[&input[..], &coding[..]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes() {
    let mut origin = Origin::start(Settings::default()).await;
    let (success, log) = ffmpeg(&origin.url("live/mark?key=secret")).await;
    assert!(success, "{log}");
    let started = timeout(SOON, origin.started.recv()).await.unwrap().unwrap();
    assert_eq!(started.stream.name.as_str(), "live/mark");
    origin.stop().await;
}
