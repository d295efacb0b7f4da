//! A viewer's response body over HTTP.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::channel::Seat;

/// FLV without an end that is known: `Transfer-Encoding: chunked` on HTTP/1.1. hyper sends a block, its chunk's size and
/// its end in one `writev`, and several blocks in one when the viewer is behind.
pub(super) struct FlvBody(pub Seat);

impl http_body::Body for FlvBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
