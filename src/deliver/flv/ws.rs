//! FLV over WebSocket: the same bytes, in binary messages.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use axum::body::Body;
use axum::response::Response;

use super::channel::Seat;
use super::websocket::{self, NORMAL, PROTOCOL_ERROR, Reader, Request};
use crate::deliver::error::HttpError;
use crate::deliver::gate::NoBody;
use crate::deliver::pace::Pace;
use crate::deliver::server::Watch;

/// Of one message, and of one `writev`: a viewer that is behind takes several blocks at once.
const MESSAGE_BYTES: usize = 64 * 1024;
const MESSAGE_BLOCKS: usize = 16;

/// The request asks for another protocol: WebSocket is the only one here.
pub(super) fn asks(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// A viewer's seat on its way to the connection that is going to change its protocol. Goes with the response.
#[derive(Debug, Clone)]
pub(in crate::deliver) struct Switch(Arc<Mutex<Option<Seat>>>);

impl Switch {
    /// The seat, the first time.
    pub(in crate::deliver) fn take(&self) -> Option<Seat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client's key, if it may be answered (RFC 6455 §4.2.1).
pub(super) fn key(headers: &HeaderMap) -> Result<&HeaderValue, HttpError> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HttpError::WebSocketVersion);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    key.filter(|_| has_token(headers, &CONNECTION, "upgrade")).ok_or(HttpError::Handshake)
}

/// 101 to the client with this key.
pub(super) fn response(key: &HeaderValue, seat: Seat) -> Response {
    let mut response = Response::new(Body::new(NoBody));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    let accept = websocket::accept(key.as_bytes());
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).expect("base64 is a header value"));
    response.extensions_mut().insert(Switch(Arc::new(Mutex::new(Some(seat)))));
    response
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Sends a broadcast until it ends or the client goes. `early` is what the client sent with its request.
pub(in crate::deliver) async fn run<S>(io: S, early: Bytes, seat: Seat, watch: Watch)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // As in a response: the peer has time for what is sent, not for what is not there.
    watch.note(Pace::requested);
    let mut session = Session {
        io,
        seat: Some(seat),
        watch,
        reader: Reader::default(),
        out: VecDeque::new(),
        closes: None,
    };
    session.heard(&early);
    if let Err(error) = std::future::poll_fn(|cx| session.poll(cx)).await {
        debug!(%error, "WebSocket ended");
    }
}

struct Session<S> {
    io: S,
    /// `None` once the broadcast is over.
    seat: Option<Seat>,
    watch: Watch,
    reader: Reader,
    /// Being written: whole frames.
    out: VecDeque<Bytes>,
    closes: Option<Closing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// A close frame with this status is to be sent.
    Due(u16),
    /// It is in `out`, or gone.
    Sent,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.poll_read(cx)?.is_ready() {}
        loop {
            while !self.out.is_empty() {
                ready!(self.poll_write(cx))?;
            }
            match self.closes {
                Some(Closing::Sent) => {
                    ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                    return Pin::new(&mut self.io).poll_shutdown(cx);
                }
                Some(Closing::Due(code)) => {
                    self.watch.note(Pace::queued);
                    self.out.push_back(websocket::close(code));
                    self.closes = Some(Closing::Sent);
                }
                None => match self.gather(cx) {
                    Poll::Ready(()) => self.watch.note(Pace::queued),
                    Poll::Pending => {
                        self.watch.note(Pace::drained);
                        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Reads once: what a client sends is short, and asks for little. An error once it has gone.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 512];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.heard(buffer.filled());
        Poll::Ready(Ok(()))
    }

    fn heard(&mut self, bytes: &[u8]) {
        if self.closes.is_some() {
            return;
        }
        match self.reader.push(bytes) {
            // A client that floods is answered once for what it sent at once (RFC 6455 §5.5.3), and not while an answer
            // waits.
            Ok(requests) if requests.contains(&Request::Close) => self.closes = Some(Closing::Due(NORMAL)),
            Ok(requests) => {
                if let (Some(Request::Ping(payload)), true) =
                    (requests.last(), self.out.len() <= MESSAGE_BLOCKS + 1)
                {
                    self.out.push_back(websocket::pong(payload));
                }
            }
            Err(error) => {
                debug!(%error, "a WebSocket client broke the protocol");
                self.closes = Some(Closing::Due(PROTOCOL_ERROR));
            }
        }
    }

    /// One message of everything that is there, up to the limits.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut len, mut blocks) = (0, 0);
        while let Some(seat) = self.seat.as_mut().filter(|_| len < MESSAGE_BYTES && blocks < MESSAGE_BLOCKS) {
            match seat.poll_next(cx) {
                Poll::Ready(Some(bytes)) => {
                    len += bytes.len();
                    blocks += 1;
                    self.out.push_back(bytes);
                }
                Poll::Ready(None) => {
                    self.seat = None;
                    self.closes = Some(Closing::Due(NORMAL));
                }
                Poll::Pending if len == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if len > 0 {
            self.out.push_front(websocket::binary_header(len));
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); MESSAGE_BLOCKS + 2];
        for (slice, bytes) in slices.iter_mut().zip(&self.out) {
            *slice = IoSlice::new(bytes);
        }
        let mut written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        while let Some(front) = self.out.front_mut().filter(|_| written > 0) {
            let taken = written.min(front.len());
            front.advance(taken);
            written -= taken;
            if front.is_empty() {
                self.out.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}
