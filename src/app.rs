//! The origin as a whole: bind everything, run it, stop it in order.
//!
//! ```text
//! stop ─► RTMP closes (publishers end) ─► packager finishes and writes what is left ─► HTTP drains
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::{self, Context};
use crate::ingest::rtmp;
use crate::live::Hub;
use crate::live::hub::Started;
use crate::metrics::Metrics;
use crate::package::{self, Board};
use crate::store::{OpenError, Store};

/// How long connections of publishers may take to close.
const RTMP_STOP_MAX: Duration = Duration::from_secs(1);

/// How long broadcasts whose publisher is waited for may take to end: only locks are taken.
const LIVE_STOP_MAX: Duration = Duration::from_millis(200);

/// How long the last segments and playlists may take to be written.
const PACKAGE_STOP_MAX: Duration = Duration::from_secs(4);

/// How long running responses may take. With the two above it stays below the 10 s after which service managers kill.
const HTTP_STOP_MAX: Duration = Duration::from_millis(3500);

/// Why the origin did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on: in use, not ours, or not allowed.
    #[error("[{section}] listen {address}")]
    Listen {
        /// `rtmp` or `http`.
        section: &'static str,
        /// The address from the settings.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Why the origin did not run up to a clean stop. Everything else was still stopped in order.
#[derive(Debug, Error)]
pub enum RunError {
    /// A stage panicked: a mistake of ours. What and where stands in the log.
    #[error("{stage} panicked")]
    Panicked {
        /// The stage.
        stage: &'static str,
    },
    /// A stage returned although nobody stopped it.
    #[error("{stage} ended by itself")]
    Ended {
        /// The stage.
        stage: &'static str,
    },
    /// A stage did not stop in time and was cut off.
    #[error("{stage} did not stop within {} s", limit.as_secs_f32())]
    Unfinished {
        /// The stage.
        stage: &'static str,
        /// The time it had.
        limit: Duration,
    },
}

/// An origin that listens, with its store open, and serves nobody before [`App::run`].
#[derive(Debug)]
pub struct App {
    config: Config,
    rtmp: Bound,
    http: Bound,
    started: UnboundedReceiver<Started>,
    context: Context,
}

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    async fn new(section: &'static str, address: SocketAddr) -> Result<Self, StartError> {
        let fault = |source| StartError::Listen { section, address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address })
    }
}

impl App {
    /// Opens the store and takes both addresses, in this order: a store that cannot be used leaves no port taken.
    pub async fn bind(config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let store = Store::open(&config.store, config.hls.memory, clock.clone(), metrics.clone()).await?;
        let rtmp = Bound::new("rtmp", config.rtmp.listen).await?;
        let http = Bound::new("http", config.http.listen).await?;
        let (hub, started) = Hub::new(config.live.clone(), clock.clone(), metrics.clone());
        let flv = config.flv.clone();
        let context = Context { hub, board: Board::default(), store, clock, metrics, flv };
        Ok(Self { config, rtmp, http, started, context })
    }

    /// Where encoders connect; the kernel's choice if the settings say port 0.
    pub fn rtmp_address(&self) -> SocketAddr {
        self.rtmp.address
    }

    /// Where viewers connect; the kernel's choice if the settings say port 0.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address
    }

    /// Serves until `stop` is cancelled or a stage fails, then stops in order, within 10 s.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { config, rtmp, http, started, context } = self;
        let Context { hub, board, store, clock, metrics, .. } = context.clone();
        info!(
            rtmp = %rtmp.address,
            http = %http.address,
            store = config.store.url,
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
        let mut package = Stage::start("package", PACKAGE_STOP_MAX, |stop| {
            let settings = config.hls;
            let shared =
                package::Shared { settings, board, store, clock: clock.clone(), metrics: metrics.clone() };
            package::run(started, shared, stop)
        });
        let mut live = Stage::start("live", LIVE_STOP_MAX, |stop| hub.clone().run(stop));
        let mut ingest = Stage::start("rtmp", RTMP_STOP_MAX, |stop| {
            rtmp::server::run(rtmp.listener, config.rtmp, hub, clock, metrics, stop)
        });
        let mut delivery = Stage::start("http", HTTP_STOP_MAX, |stop| {
            deliver::run(http.listener, config.http, context, stop)
        });

        let early = tokio::select! {
            () = stop.cancelled() => Ok(()),
            failure = package.failed() => Err(failure),
            failure = live.failed() => Err(failure),
            failure = ingest.failed() => Err(failure),
            failure = delivery.failed() => Err(failure),
        };
        info!("stopping");
        let mut outcome = early;
        for stage in [ingest, live, package, delivery] {
            outcome = outcome.and(stage.stop().await);
        }
        if outcome.is_ok() {
            info!("stopped");
        }
        outcome
    }
}

/// One of the three long-lived tasks.
struct Stage {
    name: &'static str,
    stop: CancellationToken,
    stop_max: Duration,
    /// `None` when its end has been seen.
    task: Option<JoinHandle<()>>,
}

impl Stage {
    fn start<F>(name: &'static str, stop_max: Duration, task: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = Some(tokio::spawn(task(stop.clone())));
        Self { name, stop, stop_max, task }
    }

    /// Waits for its end, which nobody asked for.
    async fn failed(&mut self) -> RunError {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let end = task.await;
        self.task = None;
        let failure = match end {
            Ok(()) => RunError::Ended { stage: self.name },
            Err(_) => RunError::Panicked { stage: self.name },
        };
        error!(error = %failure, "the origin cannot go on");
        failure
    }

    /// Asks it to stop and waits for that.
    async fn stop(self) -> Result<(), RunError> {
        self.stop.cancel();
        let Some(mut task) = self.task else { return Ok(()) };
        let failure = match timeout(self.stop_max, &mut task).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => RunError::Panicked { stage: self.name },
            Err(_) => {
                task.abort();
                RunError::Unfinished { stage: self.name, limit: self.stop_max }
            }
        };
        error!(error = %failure, "the origin did not stop cleanly");
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir) -> Config {
        let mut config = Config::default();
        config.rtmp.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.store.url = folder.path().display().to_string();
        config
    }

    #[tokio::test]
    async fn an_origin_that_is_stopped_ends_well() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::bind(config(&folder), Clock::system()).await.unwrap();
        assert_ne!(app.rtmp_address().port(), 0);
        assert_ne!(app.http_address().port(), 0);
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_setting_and_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config(&folder);
        config.http.listen = taken.local_addr().unwrap();
        let error = App::bind(config, Clock::system()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("[http] listen {}", taken.local_addr().unwrap()));
    }

    #[tokio::test]
    async fn a_stage_that_ends_or_panics_is_noticed() {
        let mut ended = Stage::start("one", Duration::from_secs(1), |_| async {});
        assert!(matches!(ended.failed().await, RunError::Ended { stage: "one" }));
        ended.stop().await.unwrap();
        let mut panicked = Stage::start("two", Duration::from_secs(1), |_| async { panic!("planted") });
        assert!(matches!(panicked.failed().await, RunError::Panicked { stage: "two" }));
    }

    #[tokio::test]
    async fn a_stage_that_does_not_stop_is_cut_off() {
        let stage = Stage::start("three", Duration::from_millis(20), |_| std::future::pending());
        assert!(matches!(stage.stop().await, Err(RunError::Unfinished { stage: "three", .. })));
    }
}
