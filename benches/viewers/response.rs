//! An HTTP/1.1 response's body, with or without chunks (RFC 9112 §7.1), as it arrives. No socket.

use crate::common::Failure;

/// Where in the response the next byte stands.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Head,
    Size,
    Chunk(usize),
    /// The line break behind a chunk: so many bytes of it are to come.
    Break(usize),
    /// The body goes on until the connection ends.
    Unchunked,
    /// Behind the last chunk.
    End,
}

/// Takes a response apart.
#[derive(Debug, Default)]
pub(crate) struct Response {
    place: Place,
    /// A head or a size that has not arrived as a whole.
    line: Vec<u8>,
}

impl Response {
    /// Takes the next bytes and gives those of the body to `body`.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut body: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Head => {
                    if self.line_ends(&mut bytes, b"\r\n\r\n")? {
                        let head = String::from_utf8_lossy(&self.line).to_ascii_lowercase();
                        if !head.starts_with("http/1.1 200") {
                            return Err(
                                format!("refused: {}", head.lines().next().unwrap_or_default()).into()
                            );
                        }
                        let chunked = head.contains("transfer-encoding: chunked\r\n");
                        self.place = if chunked { Place::Size } else { Place::Unchunked };
                        self.line.clear();
                    }
                }
                Place::Size => {
                    if self.line_ends(&mut bytes, b"\r\n")? {
                        let size = std::str::from_utf8(self.line.trim_ascii())?;
                        let size = usize::from_str_radix(size, 16)?;
                        self.place = if size == 0 { Place::End } else { Place::Chunk(size) };
                        self.line.clear();
                    }
                }
                Place::Chunk(left) => {
                    let (here, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= here.len();
                    if *left == 0 {
                        self.place = Place::Break(2);
                    }
                    bytes = rest;
                    body(here)?;
                }
                Place::Break(left) => {
                    let here = bytes.len().min(*left);
                    *left -= here;
                    if *left == 0 {
                        self.place = Place::Size;
                    }
                    bytes = &bytes[here..];
                }
                Place::Unchunked => {
                    body(bytes)?;
                    return Ok(());
                }
                Place::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Moves bytes to `line` until it ends with `end`.
    fn line_ends(&mut self, bytes: &mut &[u8], end: &[u8]) -> Result<bool, Failure> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.line.push(*byte);
            if self.line.ends_with(end) {
                return Ok(true);
            }
            if self.line.len() > 8192 {
                return Err("a response's head or chunk size without an end".into());
            }
        }
        Ok(false)
    }
}
