//! `grandstand publish`: a real-time RTMP publisher over an FLV file, for demos, tests and trying out servers.
//!
//! ```text
//! FLV file ─► flv_file ─► tags ─► pace: when, with which timestamp ─► session: RTMP bytes ─► client: the socket
//! ```
//! It speaks RTMP by `rml_rtmp`'s parts and shares nothing with `ingest`, so that each is a witness for the other.

pub mod client;
pub mod destination;
pub mod flv_file;
pub mod pace;
pub mod session;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

pub use client::{Meter, publish};
pub use destination::{Destination, DestinationError};
pub use flv_file::{FlvFile, FlvFileError};
pub use session::SessionError;

/// The whole file is held in memory: a file that is larger is a mistake.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// What to publish, where and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// An FLV file of at most 2 GiB.
    pub file: PathBuf,
    /// `rtmp://HOST[:PORT]/app/name[?query]`.
    pub url: String,
    /// Start again when the file ends, without a seam, until the process is told to stop.
    pub repeat: bool,
    /// How many connections publish the file at the same time: `name`, `name-2`, `name-3`, … A query stays behind
    /// each name.
    pub count: u32,
}

/// Why publishing ended before its time.
#[derive(Debug, Error)]
pub enum Error {
    /// The file can't be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than 2 GiB.
    #[error("{} has {bytes} bytes, more than {FILE_BYTES_MAX}", path.display())]
    FileSize {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is no FLV file with something to publish.
    #[error("cannot publish the file")]
    Flv(#[from] FlvFileError),
    /// The URL says no place to publish to.
    #[error("cannot publish to this URL")]
    Destination(#[from] DestinationError),
    /// Nobody listens there, or the name does not resolve.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server did not answer the handshake or the publish in time.
    #[error("{to} gave no answer in 10 s")]
    Silent {
        /// Where, without a query.
        to: String,
    },
    /// The server closed the connection or took no more data.
    #[error("{to} closed the connection")]
    Closed {
        /// Where, without a query.
        to: String,
        /// How.
        source: io::Error,
    },
    /// The server refused, or does not speak RTMP.
    #[error("cannot publish")]
    Session(#[from] SessionError),
}

/// Publishes until the file has ended, a connection fails, or `stop` is cancelled; then ends every broadcast as an
/// encoder does. One line of progress goes to standard error: replaced each second on a terminal, a new one
/// each 10 s elsewhere.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let to = Destination::parse(&options.url)?;
    let file = Arc::new(read(options.file).await?);
    if file.tail_bytes() > 0 {
        tracing::warn!(bytes = file.tail_bytes(), "the file was cut off; its incomplete tail is not sent");
    }
    let meter = Arc::new(Meter::default());
    let mut connections = JoinSet::new();
    for number in 1..=options.count {
        let (file, to, meter, stop) = (file.clone(), to.numbered(number), meter.clone(), stop.clone());
        let repeat = options.repeat;
        connections.spawn(async move { publish(&file, &to, repeat, &meter, &stop).await });
    }

    let mut progress = Progress::new(options.count);
    let mut ticks = interval_at(Instant::now() + progress.period, progress.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut result = Ok(());
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    // The first failure is the cause; what the others say while they stop is not.
                    result = result.and(Err(error));
                    stop.cancel();
                }
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            },
            _ = ticks.tick() => progress.show(&meter),
        }
    }
    progress.end();
    result
}

async fn read(path: PathBuf) -> Result<FlvFile, Error> {
    let bytes = match tokio::fs::metadata(&path).await {
        Ok(metadata) => metadata.len(),
        Err(source) => return Err(Error::File { path, source }),
    };
    if bytes > FILE_BYTES_MAX {
        return Err(Error::FileSize { path, bytes });
    }
    match tokio::fs::read(&path).await {
        Ok(bytes) => Ok(FlvFile::read(&bytes.into())?),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// The line that says how it goes.
struct Progress {
    count: u32,
    terminal: bool,
    period: Duration,
    start: Instant,
    last: (Instant, u64),
    shown: bool,
}

impl Progress {
    fn new(count: u32) -> Self {
        let terminal = io::stderr().is_terminal();
        let period = Duration::from_secs(if terminal { 1 } else { 10 });
        let start = Instant::now();
        Self { count, terminal, period, start, last: (start, 0), shown: false }
    }

    fn show(&mut self, meter: &Meter) {
        let (now, bytes) = (Instant::now(), meter.bytes());
        let seconds = (now - self.last.0).as_secs_f64().max(0.001);
        let kbit_s = (bytes - self.last.1) as f64 * 8.0 / 1000.0 / seconds;
        self.last = (now, bytes);
        let line = progress_line(
            now - self.start,
            kbit_s,
            meter.take_lag_ms(),
            (self.count > 1).then(|| (meter.publishing(), self.count)),
        );
        let mut out = io::stderr().lock();
        // Nobody reads standard error: no reason to stop the broadcast.
        let _ = if self.terminal { write!(out, "\r{line}\x1b[K") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.shown = true;
    }

    fn end(&self) {
        if self.terminal && self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}

fn progress_line(since: Duration, kbit_s: f64, lag_ms: u64, of: Option<(u64, u32)>) -> String {
    let s = since.as_secs();
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    let of =
        of.map(|(publishing, count)| format!("  {publishing} of {count} publishing")).unwrap_or_default();
    format!("{h:02}:{m:02}:{s:02}  {kbit_s:.0} kbit/s  lag {lag_ms} ms{of}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_reads_well() {
        let hour = Duration::from_secs(3_723);
        assert_eq!(progress_line(hour, 1534.4, 2, None), "01:02:03  1534 kbit/s  lag 2 ms");
        assert_eq!(
            progress_line(hour, 1534.4, 2, Some((99, 100))),
            "01:02:03  1534 kbit/s  lag 2 ms  99 of 100 publishing"
        );
    }
}
