//! One connection that publishes one file in real time. A shell.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::publish::Error;
use crate::publish::destination::Destination;
use crate::publish::flv_file::FlvFile;
use crate::publish::pace::Pace;
use crate::publish::session::{Session, SessionError};

/// Longest wait for a connection, and again for the server's yes to the publish.
const START_MAX: Duration = Duration::from_secs(10);
/// Longest a server may not take any data.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the server to close after the last message. Closing earlier could reset the connection and lose
/// what it has not read yet.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What the connections of one run did so far. Shared by them and by the progress line.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    lag_ms: AtomicU64,
    publishing: AtomicU64,
}

impl Meter {
    /// Bytes written to sockets after the handshake, over all connections.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How many connections are publishing now.
    pub fn publishing(&self) -> u64 {
        self.publishing.load(Relaxed)
    }

    /// The latest that any tag was written after it was due, in milliseconds, since this was last asked.
    pub fn take_lag_ms(&self) -> u64 {
        self.lag_ms.swap(0, Relaxed)
    }
}

/// Publishes `file` to `to` in real time, once or (`repeat`) until `stop` is cancelled, and ends the broadcast as an
/// encoder does. Being stopped is no error.
pub async fn publish(
    file: &FlvFile,
    to: &Destination,
    repeat: bool,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let clock = Clock::system();
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        started = timeout(START_MAX, Connection::start(to, meter)) => {
            let mut connection = started.map_err(|_| Error::Silent { to: to.to_string() })??;
            meter.publishing.fetch_add(1, Relaxed);
            let sent = connection.play(Pace::new(file, repeat), &clock, stop).await;
            meter.publishing.fetch_sub(1, Relaxed);
            sent?;
            connection.finish().await
        }
    }
}

struct Connection<'a> {
    socket: TcpStream,
    session: Session,
    to: String,
    meter: &'a Meter,
}

impl<'a> Connection<'a> {
    /// Connects and talks until the server has taken the publish.
    async fn start(to: &Destination, meter: &'a Meter) -> Result<Self, Error> {
        let address = to.address();
        let connected = TcpStream::connect(&address).await;
        let mut socket = connected.map_err(|source| Error::Connect { address, source })?;
        let closed = |source| Error::Closed { to: to.to_string(), source };
        socket.set_nodelay(true).map_err(closed)?;
        let rest = handshake(&mut socket).await.map_err(closed)?;
        let session = Session::new(to)?;
        let mut connection = Self { socket, session, to: to.to_string(), meter };
        connection.session.handle_bytes(&rest)?;
        loop {
            connection.flush().await?;
            if connection.session.is_publishing() {
                return Ok(connection);
            }
            connection.receive().await?;
        }
    }

    /// Sends every tag when it is due.
    async fn play(&mut self, pace: Pace<'_>, clock: &Clock, stop: &CancellationToken) -> Result<(), Error> {
        let start = clock.now();
        for due in pace {
            let due_at = start + due.at;
            if due_at > clock.now() {
                self.flush().await?;
                if !self.wait_until(due_at, clock, stop).await? {
                    break;
                }
            }
            let lag = clock.now().saturating_duration_since(due_at);
            self.meter.lag_ms.fetch_max(lag.as_millis() as u64, Relaxed);
            self.session.send(due.tag, due.timestamp_ms)?;
        }
        self.flush().await
    }

    /// Listens to the server until `due_at`. False if `stop` came first.
    async fn wait_until(
        &mut self,
        due_at: Instant,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        loop {
            let left = due_at.saturating_duration_since(clock.now());
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = sleep(left) => return Ok(true),
                received = self.receive() => received?,
            }
            self.flush().await?;
        }
    }

    /// Takes what the server sends next. May be dropped while it waits.
    async fn receive(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        let len = self.socket.read(&mut buffer).await.map_err(|source| self.closed(source))?;
        if len == 0 {
            return Err(self.closed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(self.session.handle_bytes(&buffer[..len])?)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let output = std::mem::take(self.session.output());
        if output.is_empty() {
            return Ok(());
        }
        let written = timeout(WRITE_MAX, self.socket.write_all(&output)).await;
        let Err(source) = written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) else {
            self.meter.bytes.fetch_add(output.len() as u64, Relaxed);
            return Ok(());
        };
        // A server that refuses says why and closes: its word may lie unread behind the failed write.
        match self.drain().await {
            Err(refused @ Error::Session(SessionError::Refused(_))) => Err(refused),
            _ => Err(self.closed(source)),
        }
    }

    /// Ends the broadcast and waits, a while, for the server to close.
    async fn finish(mut self) -> Result<(), Error> {
        self.session.finish()?;
        self.flush().await?;
        // The broadcast is over; a server that closes in another way than this one lost nothing.
        if self.socket.shutdown().await.is_ok() {
            let _ = self.drain().await;
        }
        Ok(())
    }

    /// Receives until the server closes, for [`CLOSE_MAX`] at most.
    async fn drain(&mut self) -> Result<(), Error> {
        let drained = timeout(CLOSE_MAX, async {
            loop {
                self.receive().await?;
            }
        });
        drained.await.unwrap_or(Ok(()))
    }

    fn closed(&self, source: io::Error) -> Error {
        Error::Closed { to: self.to.clone(), source }
    }
}

/// RTMP 1.0 §5.2. Bytes of the server behind its part are returned.
async fn handshake(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Client);
    let hello = handshake.generate_outbound_p0_and_p1().map_err(io::Error::other)?;
    socket.write_all(&hello).await?;
    let mut buffer = [0; 4096];
    loop {
        let len = socket.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match handshake.process_bytes(&buffer[..len]).map_err(io::Error::other)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                socket.write_all(&response_bytes).await?;
            }
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                socket.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}
