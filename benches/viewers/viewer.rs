//! One viewer: what it reads from its socket, frame by frame.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;

use crate::common::Failure;
use crate::published::{Number, Published, TELLING_BYTES, is_header};
use crate::response::Response;
use crate::tags::{Arrived, Tags};

/// A connection that asks for the broadcast.
pub(crate) struct Viewer {
    pub(crate) socket: TcpStream,
    response: Response,
    tags: Tags,
    position: Position,
    /// When it asked, on the publisher's clock; `None` before it is connected.
    pub(crate) joined_us: Option<u64>,
    /// Bytes of the frames that it got of those sent after it asked.
    pub(crate) frame_bytes: u64,
    /// Its connection could not be made, or has ended.
    pub(crate) lost: bool,
    /// The first thing that was wrong with what it got. Nothing is read behind it.
    pub(crate) trouble: Option<String>,
}

/// Where among the published frames a viewer is.
struct Position {
    expected: [Option<usize>; 2],
    /// Holds each body as a whole against the published one.
    witness: bool,
}

/// How long measured frames took, of all viewers.
pub(crate) struct Frames {
    /// From when on sent frames are measured.
    pub(crate) measured_from_us: u64,
    /// From the publisher's write to the viewer's read of the tag's last byte.
    pub(crate) latencies_us: Vec<u32>,
}

impl Viewer {
    pub(crate) fn new(socket: TcpStream, witness: bool) -> Self {
        Self {
            socket,
            response: Response::default(),
            tags: Tags::new(if witness { usize::MAX } else { TELLING_BYTES }),
            position: Position { expected: [None; 2], witness },
            joined_us: None,
            frame_bytes: 0,
            lost: false,
            trouble: None,
        }
    }

    /// Asks for the broadcast: its socket is connected, or could not be.
    pub(crate) fn ask(&mut self, now_us: u64) {
        self.joined_us = Some(now_us);
        let asked = self.socket.write_all(b"GET /live/load-0.flv HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.lost = asked.is_err();
    }

    /// Reads what there is. Returns how many bytes that was.
    pub(crate) fn read(&mut self, buffer: &mut [u8], published: &Published, frames: &mut Frames) -> u64 {
        let mut read = 0;
        while self.trouble.is_none() && !self.lost {
            match self.socket.read(buffer) {
                Ok(0) => self.lost = true,
                Ok(len) => {
                    read += len as u64;
                    let result = self.take(&buffer[..len], published, frames);
                    self.trouble = result.err().map(|error| error.to_string());
                    // Less than asked for means that the socket is empty (epoll(7)): the next read would say no more.
                    if len < buffer.len() {
                        return read;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return read,
                Err(_) => self.lost = true,
            }
        }
        read
    }

    fn take(&mut self, bytes: &[u8], published: &Published, frames: &mut Frames) -> Result<(), Failure> {
        let now_us = published.now_us();
        let joined_us = self.joined_us.unwrap_or(u64::MAX);
        let Self { response, tags, position, frame_bytes, .. } = self;
        response.push(bytes, |body| {
            tags.push(body, |tag| {
                let Some(number) = position.place(tag, published)? else { return Ok(()) };
                let sent_us = published.sent_us(number);
                if sent_us >= joined_us {
                    *frame_bytes += tag.len as u64;
                }
                if sent_us >= frames.measured_from_us.max(joined_us) {
                    frames.latencies_us.push((now_us - sent_us) as u32);
                }
                Ok(())
            })
        })
    }
}

impl Position {
    /// The frame in a tag, if it is one.
    fn place(&mut self, tag: Arrived, published: &Published) -> Result<Option<Number>, Failure> {
        if is_header(tag.type_id, tag.body) {
            return Ok(None);
        }
        let number = published.find(tag, self.expected).ok_or_else(|| {
            format!("a tag of type {} and {} bytes was not published now", tag.type_id, tag.len)
        })?;
        if self.witness && tag.body != published.body(number) {
            return Err(format!("frame {number:?} has other bytes than the published one").into());
        }
        self.expected[number.0] = Some(number.1 + 1);
        Ok(Some(number))
    }
}
