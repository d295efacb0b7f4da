//! An origin's HTTP side in this process, with a broadcast that the test itself puts on the board.
#![allow(dead_code, reason = "each file of tests/ that includes it uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use bytesize::ByteSize;
use grandstand::clock::Clock;
use grandstand::deliver::{self, Context, Settings};
use grandstand::live::hub::Started;
use grandstand::live::{self, Epoch, Hub, Publisher};
use grandstand::media::aac::AacConfig;
use grandstand::media::h264::VideoConfig;
use grandstand::media::{AudioConfig, Event, Frame, Span, Ticks, Track, TrackSet};
use grandstand::metrics::Metrics;
use grandstand::name::StreamName;
use grandstand::package::{Board, Document, Life, Published};
use grandstand::store::{self, SegmentKey, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The epoch of every segment shown here.
pub(crate) const EPOCH: Epoch = Epoch(1_795_716_584_125);

/// Board, store and hub as the origin has them, over a folder of its own.
pub(crate) struct Showing {
    /// What delivery is given.
    pub(crate) context: Context,
    folder: TempDir,
    started: UnboundedReceiver<Started>,
}

impl Showing {
    /// Nothing is live.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let settings = store::Settings { url: folder.path().to_str().unwrap().to_owned() };
        let store = Store::open(&settings, ByteSize::mib(1), clock.clone(), metrics.clone()).await.unwrap();
        let (hub, started) = Hub::new(live::Settings::default(), clock.clone(), metrics.clone());
        let flv = deliver::flv::Settings::default();
        let context = Context { hub, board: Board::default(), store, clock, metrics, flv };
        Self { context, folder, started }
    }

    /// Puts a segment into the store.
    pub(crate) fn put(&self, name: &StreamName, sequence: u64, bytes: &[u8]) {
        let key = SegmentKey { name: name.clone(), epoch: EPOCH, sequence };
        let path = self.folder.path().join(key.path().as_ref());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Puts playlists of these file names and texts on the board.
    pub(crate) fn publish(&self, name: &StreamName, life: Life, playlists: &[(&str, String)]) {
        let wall = self.context.clock.wall();
        let documents = playlists
            .iter()
            .map(|(file, text)| (Arc::from(*file), Arc::new(Document::new(text.clone(), wall, life))));
        self.context.board.publish(name, Published::new(documents.collect()));
    }

    /// A publisher as RTMP would have one: 640x360 at 25 pictures of 8,000 bytes each second, for six seconds.
    pub(crate) fn go_live(&mut self, name: &StreamName) -> Publisher {
        let publisher = self.context.hub.publish(name).unwrap();
        drop(self.started.try_recv());
        publisher.push(&Event::Tracks(Arc::new(tracks())));
        let payload = Bytes::from_static(&[0; 8000]);
        for n in 0..150 {
            let at = Ticks(n * 3600);
            let frame = Frame {
                track: Track::Video,
                dts: at,
                pts: at,
                random_access: true,
                payload: payload.clone(),
            };
            publisher.push(&Event::Frame(Arc::new(frame)));
        }
        publisher
    }

    /// Serves on a port that the kernel chooses.
    pub(crate) async fn serve(&self, settings: Settings) -> Serving {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(deliver::run(listener, settings, self.context.clone(), stop.clone()));
        Serving { address, stop, task }
    }
}

/// A running listener.
pub(crate) struct Serving {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Ends it.
    pub(crate) stop: CancellationToken,
    /// Done when it has drained.
    pub(crate) task: JoinHandle<()>,
}

/// A target duration of `seconds`.
pub(crate) fn live(seconds: i64) -> Life {
    Life::Live { target: Span::from_ms(seconds * 1000) }
}

fn tracks() -> TrackSet {
    let video = VideoConfig {
        record: Bytes::new(),
        sps: Vec::new(),
        pps: Vec::new(),
        nal_length_size: 4,
        codec: "avc1.42C01E".to_owned(),
        width: 640,
        height: 360,
        frame_rate: Some((25, 1)),
        reorder: Some(0),
    };
    let audio = AacConfig {
        config: Bytes::new(),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        samples_per_frame: 1024,
        sbr: false,
        ps: false,
    };
    TrackSet { video: Some(Arc::new(video)), audio: Some(Arc::new(AudioConfig::Aac(audio))) }
}
