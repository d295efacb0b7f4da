//! A publisher that writes bytes that were cut up beforehand.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};

use super::Failure;
use super::feed::Feed;

/// One connection and its place in the feed.
pub(crate) struct Publisher {
    socket: TcpStream,
    /// Talks for the control channel only: media goes past it on chunk streams that it doesn't use.
    session: ClientSession,
    replies: Vec<u8>,
    /// When the first round starts.
    pub(crate) start: Instant,
    round: u64,
    due: usize,
    written: usize,
    /// Bytes written since it connected, without the conversation before the first media byte.
    pub(crate) written_all: u64,
    /// Since when it can't write what is due.
    pub(crate) blocked_since: Option<Instant>,
}

impl Publisher {
    /// Becomes the publisher of `live/load-NUMBER`.
    pub(crate) fn connect(to: SocketAddr, number: u32, chunk_bytes: usize) -> Result<Self, Failure> {
        let mut socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut handshake = Handshake::new(PeerType::Client);
        socket.write_all(&handshake.generate_outbound_p0_and_p1()?)?;
        let mut buffer = [0; 4096];
        let mut rest = loop {
            let len = read_some(&mut socket, &mut buffer)?;
            match handshake.process_bytes(&buffer[..len])? {
                HandshakeProcessResult::InProgress { response_bytes } => socket.write_all(&response_bytes)?,
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    socket.write_all(&response_bytes)?;
                    break remaining_bytes;
                }
            }
        };
        let mut config = ClientSessionConfig::new();
        config.chunk_size = chunk_bytes as u32;
        config.tc_url = Some(format!("rtmp://{to}/live"));
        let (mut session, mut results) = ClientSession::new(config)?;
        results.push(session.request_connection("live".to_owned())?);
        loop {
            results.extend(session.handle_input(&rest)?);
            for result in std::mem::take(&mut results) {
                match result {
                    ClientSessionResult::OutboundResponse(packet) => socket.write_all(&packet.bytes)?,
                    ClientSessionResult::RaisedEvent(ClientSessionEvent::ConnectionRequestAccepted) => {
                        let name = format!("load-{number}");
                        results.push(session.request_publishing(name, PublishRequestType::Live)?);
                    }
                    ClientSessionResult::RaisedEvent(ClientSessionEvent::PublishRequestAccepted) => {
                        socket.set_nonblocking(true)?;
                        let start = Instant::now();
                        return Ok(Self {
                            socket,
                            session,
                            replies: Vec::new(),
                            start,
                            round: 0,
                            due: 0,
                            written: 0,
                            written_all: 0,
                            blocked_since: None,
                        });
                    }
                    ClientSessionResult::RaisedEvent(
                        event @ (ClientSessionEvent::ConnectionRequestRejected { .. }
                        | ClientSessionEvent::UnhandleableOnStatusCode { .. }),
                    ) => return Err(format!("publisher {number} was refused: {event:?}").into()),
                    _ => {}
                }
            }
            rest.clear();
            if results.is_empty() {
                let len = read_some(&mut socket, &mut buffer)?;
                rest.extend_from_slice(&buffer[..len]);
            }
        }
    }

    /// Writes what is due. `on_due` hears of each message before its first byte is written: its round, and its place
    /// in the round's lane.
    pub(crate) fn write_due(
        &mut self,
        feed: &Feed,
        now: Instant,
        mut on_due: impl FnMut(u64, usize),
    ) -> io::Result<()> {
        loop {
            let lane = if self.round == 0 { &feed.first } else { &feed.next };
            let since_ms = now.saturating_duration_since(self.start).as_millis() as u64;
            if now < self.start || since_ms < self.round * feed.period_ms {
                return Ok(());
            }
            let in_lane_ms = since_ms - self.round * feed.period_ms;
            while lane.due.get(self.due).is_some_and(|(at_ms, _)| *at_ms <= in_lane_ms) {
                on_due(self.round, self.due);
                self.due += 1;
            }
            let end = self.due.checked_sub(1).map_or(0, |last| lane.due[last].1);
            if self.written < end {
                match self.socket.write(&lane.bytes[self.written..end]) {
                    Ok(len) => {
                        self.written += len;
                        self.written_all += len as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if self.written < end {
                    self.blocked_since.get_or_insert(now);
                    return Ok(());
                }
                self.blocked_since = None;
            }
            if self.due < lane.due.len() {
                return Ok(());
            }
            (self.round, self.due, self.written) = (self.round + 1, 0, 0);
        }
    }

    /// Reads what the server said and answers it, between two messages.
    pub(crate) fn listen(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(len) => {
                for result in self.session.handle_input(&buffer[..len])? {
                    if let ClientSessionResult::OutboundResponse(packet) = result {
                        self.replies.extend(packet.bytes);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if self.blocked_since.is_none() && !self.replies.is_empty() {
            // A few bytes into a socket that has just taken more.
            self.socket.write_all(&std::mem::take(&mut self.replies))?;
        }
        Ok(())
    }
}

fn read_some(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match socket.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => Ok(len),
    }
}
