//! A cheap viewer of HTTP-FLV that shares nothing with the server's libraries: takes chunks apart, takes tags apart, and
//! checks what must hold for any of them on the way. Hundreds fit into one test.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every file of tests/ compiles its own copy and uses a part of it"
)]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script data.
    pub kind: u8,
    pub timestamp_ms: u32,
    pub body: Vec<u8>,
}

impl Tag {
    /// An AVC or AAC sequence header (annex E.4.3.1, E.4.2.1).
    pub fn is_config(&self) -> bool {
        self.kind != 18 && self.body.get(1) == Some(&0)
    }

    /// A picture or a frame of sound.
    pub fn is_frame(&self) -> bool {
        self.kind != 18 && self.body.get(1) == Some(&1)
    }

    /// A picture that decoding may begin with.
    pub fn is_key_picture(&self) -> bool {
        self.kind == 9 && self.is_frame() && self.body[0] >> 4 == 1
    }

    /// The tag as it lies in a file, with its size behind it.
    pub fn write(&self, file: &mut Vec<u8>) {
        let [_, l2, l1, l0] = (self.body.len() as u32).to_be_bytes();
        let [t3, t2, t1, t0] = self.timestamp_ms.to_be_bytes();
        file.extend([self.kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0]);
        file.extend(&self.body);
        file.extend((self.body.len() as u32 + 11).to_be_bytes());
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Tag(Tag),
    /// The last chunk: the body ended as it should.
    End,
    /// The connection ended before the body did.
    Cut,
}

/// A running response.
pub struct Viewer {
    socket: TcpStream,
    /// Raw bytes of the connection from `read` on.
    raw: Vec<u8>,
    read: usize,
    /// Bytes of the chunk that are still to come; the first chunk's size line has nothing before it.
    chunk: usize,
    first_chunk: bool,
    /// The body from `taken` on.
    body: Vec<u8>,
    taken: usize,
    over: Option<Next>,
    /// The type flags of the file header, once it is there: 4 audio, 1 video.
    pub flags: Option<u8>,
    /// Bytes of body so far.
    pub bytes: usize,
}

impl Viewer {
    /// Asks for `path`. `window` bounds what the kernel keeps for a viewer that does not read.
    ///
    /// # Panics
    /// When the answer is not 200 with chunks of FLV.
    pub async fn join(to: SocketAddr, path: &str, window: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(window) = window {
            socket.set_recv_buffer_size(window).unwrap();
        }
        let mut socket = socket.connect(to).await.expect("the origin accepts");
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(socket.read_buf(&mut raw).await.unwrap() > 0, "the answer has a head");
        };
        let head = String::from_utf8(raw[..end].to_vec()).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for line in ["content-type: video/x-flv", "transfer-encoding: chunked", "cache-control: no-store"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        Self {
            socket,
            raw,
            read: end,
            chunk: 0,
            first_chunk: true,
            body: Vec::new(),
            taken: 0,
            over: None,
            flags: None,
            bytes: 0,
        }
    }

    /// The next tag, as soon as it is all there.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(tag) = self.take_tag() {
                return Next::Tag(tag);
            }
            if let Some(over) = self.over.take() {
                return over;
            }
            self.fill(16 * 1024).await;
        }
    }

    /// Waits for bytes, and reads up to `max` of them.
    pub async fn fill(&mut self, max: usize) {
        self.raw.drain(..self.read);
        self.read = 0;
        self.raw.reserve(max);
        let read = (&mut self.socket).take(max as u64).read_buf(&mut self.raw).await;
        if read.is_err() || read.is_ok_and(|len| len == 0) {
            self.over.get_or_insert(Next::Cut);
        }
        self.take_chunks();
    }

    fn take_chunks(&mut self) {
        loop {
            if self.chunk == 0 {
                let line = &self.raw[self.read..];
                let line = if self.first_chunk { line } else { line.get(2..).unwrap_or_default() };
                let Some(len) = line.windows(2).position(|two| two == b"\r\n") else { return };
                let size = std::str::from_utf8(&line[..len]).ok();
                self.chunk =
                    size.and_then(|size| usize::from_str_radix(size, 16).ok()).expect("a chunk's size");
                self.read += len + 2 + if self.first_chunk { 0 } else { 2 };
                self.first_chunk = false;
                if self.chunk == 0 {
                    self.over = Some(Next::End);
                    return;
                }
            }
            let len = self.chunk.min(self.raw.len() - self.read);
            if len == 0 {
                return;
            }
            self.body.drain(..self.taken);
            self.taken = 0;
            self.body.extend_from_slice(&self.raw[self.read..self.read + len]);
            self.bytes += len;
            self.read += len;
            self.chunk -= len;
        }
    }

    fn take_tag(&mut self) -> Option<Tag> {
        if self.flags.is_none() {
            // Annex E.2 and E.3: the header, then the size of the tag before the first, which is 0.
            let header = self.body.get(..13)?;
            assert_eq!((&header[..4], &header[5..]), (&b"FLV\x01"[..], &[0, 0, 0, 9, 0, 0, 0, 0][..]));
            self.flags = Some(header[4]);
            self.taken = 13;
        }
        let rest = &self.body[self.taken..];
        let [kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0] = *rest.first_chunk()? else {
            panic!("a tag's stream id is 0: {:?}", &rest[..11]);
        };
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let whole = rest.get(..len + 15)?;
        assert!(matches!(kind, 8 | 9 | 18), "an unknown type of tag: {kind}");
        assert_eq!(whole[len + 11..], (len as u32 + 11).to_be_bytes(), "a tag's size follows it");
        self.taken += len + 15;
        let timestamp_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        Some(Tag { kind, timestamp_ms, body: whole[11..len + 11].to_vec() })
    }
}
