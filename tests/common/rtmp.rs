//! The RTMP side of an origin in this process, `rml_rtmp`'s client, and encoders and players as processes.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every file of tests/ compiles its own copy and uses a part of it"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grandstand::clock::Clock;
use grandstand::ingest::rtmp::{Settings, server};
use grandstand::live::hub::Started;
use grandstand::live::{self, Hub};
use grandstand::metrics::Metrics;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here may take.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Origin {
    pub address: SocketAddr,
    pub hub: Hub,
    pub metrics: Metrics,
    pub started: UnboundedReceiver<Started>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Origin {
    pub async fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (clock, metrics, stop) = (Clock::system(), Metrics::new(), CancellationToken::new());
        let (hub, started) = Hub::new(live::Settings::default(), clock.clone(), metrics.clone());
        let task = server::run(listener, settings, hub.clone(), clock, metrics.clone(), stop.clone());
        Self { address, hub, metrics, started, stop, task: tokio::spawn(task) }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        timeout(SOON, self.task).await.expect("the server stops").unwrap();
        let left = self.hub.list().iter().any(|stream| stream.figures().epoch.is_some());
        assert!(!left, "no publisher is left");
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// A publisher is connected; a broadcast that waits for one is not live.
    pub fn is_live(&self, name: &str) -> bool {
        let stream = self.hub.get(&name.parse().unwrap());
        stream.is_some_and(|stream| stream.figures().epoch.is_some())
    }

    pub fn refusals(&self, reason: &str) -> usize {
        let line = format!("grandstand_rtmp_refusals_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        text.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// Until the name is free again.
    pub async fn until_gone(&self, name: &str) {
        until(|| !self.is_live(name)).await;
    }
}

pub async fn until(mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !met() {
        assert!(Instant::now() < deadline, "what is waited for does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `rml_rtmp`'s client over a socket.
pub struct Client {
    pub stream: TcpStream,
    pub session: ClientSession,
    events: VecDeque<ClientSessionEvent>,
}

impl Client {
    pub async fn connect(origin: &Origin, app: &str) -> Self {
        let mut stream = TcpStream::connect(origin.address).await.unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        stream.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).await.unwrap();
        let mut answer = vec![0; 3073];
        stream.read_exact(&mut answer).await.unwrap();
        let HandshakeProcessResult::Completed { response_bytes, .. } =
            handshake.process_bytes(&answer).unwrap()
        else {
            panic!("the handshake is not done")
        };
        stream.write_all(&response_bytes).await.unwrap();
        let (session, _) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut client = Self { stream, session, events: VecDeque::new() };
        let request = client.session.request_connection(app.into()).unwrap();
        client.send(request).await;
        client
    }

    pub async fn send(&mut self, result: ClientSessionResult) {
        if let ClientSessionResult::OutboundResponse(packet) = result {
            self.stream.write_all(&packet.bytes).await.unwrap();
        }
    }

    /// Reads until an event comes that `wanted` takes; `None` at the connection's end. Those before it are lost.
    pub async fn event(
        &mut self,
        wanted: impl Fn(&ClientSessionEvent) -> bool,
    ) -> Option<ClientSessionEvent> {
        while let Some(event) = self.next().await {
            if wanted(&event) {
                return Some(event);
            }
        }
        None
    }

    /// The next event; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<ClientSessionEvent> {
        let mut bytes = [0; 4096];
        while self.events.is_empty() {
            let len = timeout(SOON, self.stream.read(&mut bytes)).await.expect("an answer").unwrap_or(0);
            if len == 0 {
                return None;
            }
            for result in self.session.handle_input(&bytes[..len]).unwrap() {
                match result {
                    ClientSessionResult::RaisedEvent(event) => self.events.push_back(event),
                    other => self.send(other).await,
                }
            }
        }
        self.events.pop_front()
    }

    /// What the origin answers; `None` when it closes instead.
    pub async fn publish(&mut self, name: &str) -> Option<ClientSessionEvent> {
        let accepted = |event: &ClientSessionEvent| *event == ClientSessionEvent::ConnectionRequestAccepted;
        self.event(accepted).await?;
        let request = self.session.request_publishing(name.into(), PublishRequestType::Live).unwrap();
        self.send(request).await;
        self.event(|event| {
            matches!(
                event,
                ClientSessionEvent::PublishRequestAccepted
                    | ClientSessionEvent::UnhandleableOnStatusCode { .. }
            )
        })
        .await
    }

    pub async fn audio(&mut self, at: u32) {
        let data = Bytes::from_static(&[0x2f, 0xff, 0xfb, 0x90, 0x64]);
        let media = self.session.publish_audio_data(data, RtmpTimestamp::new(at), false).unwrap();
        self.send(media).await;
    }

    pub async fn until_closed(mut self) {
        assert_eq!(self.event(|_| false).await, None);
    }
}

pub const ACCEPTED: Option<ClientSessionEvent> = Some(ClientSessionEvent::PublishRequestAccepted);

pub async fn run_process(program: &str, args: &[&str]) -> (bool, String) {
    let child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let output = timeout(SOON, child.wait_with_output()).await.expect("the process ends").unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}
