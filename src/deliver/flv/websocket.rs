//! The WebSocket protocol (RFC 6455), as far as a server needs it that only sends. A core.

use bytes::Bytes;
use sha1::{Digest, Sha1};
use thiserror::Error;

/// What §4.2.2 joins a client's key with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// §5.5: of a control frame's payload.
const CONTROL_LEN_MAX: usize = 125;

/// §5.2.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The `Sec-WebSocket-Accept` to a client's `Sec-WebSocket-Key` (§4.2.2).
pub(super) fn accept(key: &[u8]) -> String {
    base64(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().chain([&0; 2]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for sextet in 0..4 {
            let letter = char::from(ALPHABET[bits >> (18 - 6 * sextet) & 63]);
            text.push(if sextet > group.len() { '=' } else { letter });
        }
    }
    text
}

/// The header of a binary message of one frame, whose payload of `len` bytes follows.
pub(super) fn binary_header(len: usize) -> Bytes {
    let first = FIN | BINARY;
    if let Ok(len @ ..126) = u8::try_from(len) {
        Bytes::copy_from_slice(&[first, len])
    } else if let Ok(len) = u16::try_from(len) {
        let [a, b] = len.to_be_bytes();
        Bytes::copy_from_slice(&[first, 126, a, b])
    } else {
        [&[first, 127], &(len as u64).to_be_bytes()[..]].concat().into()
    }
}

/// The answer to a ping (§5.5.3): `payload` has at most 125 bytes.
pub(super) fn pong(payload: &[u8]) -> Bytes {
    [&[FIN | PONG, payload.len() as u8], payload].concat().into()
}

/// A close frame with a status code (§7.4.1).
pub(super) fn close(code: u16) -> Bytes {
    let [a, b] = code.to_be_bytes();
    Bytes::copy_from_slice(&[FIN | CLOSE, 2, a, b])
}

/// The status of a broadcast's end, and of a client that says goodbye.
pub(super) const NORMAL: u16 = 1000;

/// The status for a client that breaks the protocol.
pub(super) const PROTOCOL_ERROR: u16 = 1002;

/// What a client sent that has to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    /// It says goodbye.
    Close,
}

/// How a client breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    /// §5.1: every frame of a client is masked.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// §5.2: no extension was negotiated that would use the reserved bits, and other opcodes are not defined.
    #[error("a frame's first byte is {byte:#04x}")]
    First {
        /// The byte.
        byte: u8,
    },
    /// §5.5: a control frame is whole and has at most 125 bytes.
    #[error("a control frame of {len} bytes is too long, or one of several")]
    Control {
        /// Its length in bytes.
        len: u64,
    },
}

/// Reads a client's frames. Keeps a header and a control frame's payload at most; messages are skipped.
#[derive(Debug, Default)]
pub(super) struct Reader {
    kept: Vec<u8>,
    /// Bytes of a message that are still to come.
    skip: u64,
}

impl Reader {
    /// Takes what came. After an error the connection is to be closed.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Request>, FrameError> {
        let mut requests = Vec::new();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.skip -= skipped as u64;
                continue;
            }
            let (byte, rest) = bytes.split_first().map_or((0, bytes), |(byte, rest)| (*byte, rest));
            bytes = rest;
            self.kept.push(byte);
            requests.extend(self.step()?);
        }
        Ok(requests)
    }

    /// Looks at what is kept, which has grown by one byte.
    fn step(&mut self) -> Result<Option<Request>, FrameError> {
        let [first, second, rest @ ..] = &self.kept[..] else { return Ok(None) };
        let (opcode, control) = (first & 0x0f, first & 0x08 != 0);
        if first & 0x70 != 0 || !matches!(opcode, 0..=BINARY | CLOSE..=PONG) {
            return Err(FrameError::First { byte: *first });
        }
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        let (len, rest) = match second & 0x7f {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            len => (len.into(), rest),
        };
        if control && (len > CONTROL_LEN_MAX as u64 || first & FIN == 0) {
            return Err(FrameError::Control { len });
        }
        let Some((mask, payload)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        if control && (payload.len() as u64) < len {
            return Ok(None);
        }
        let request = match opcode {
            PING => {
                let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
                Some(Request::Ping(unmasked.collect()))
            }
            CLOSE => Some(Request::Close),
            _ => None,
        };
        self.kept.clear();
        self.skip = if control { 0 } else { len };
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6455 §1.3, and RFC 4648 §10.
    #[test]
    fn the_handshake_of_the_specification_is_answered() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// §5.2: three forms of length.
    #[test]
    fn a_header_has_the_shortest_length() {
        for (len, header) in [
            (125, &[0x82, 125][..]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(binary_header(len), header, "{len}");
        }
    }

    /// §5.7: a masked "Hello", as a ping.
    const PING_HELLO: [u8; 11] = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

    #[test]
    fn control_frames_are_found_between_messages_however_they_are_cut() {
        let mut bytes = vec![0x82, 0xfe, 1, 0, 1, 2, 3, 4];
        bytes.extend([0x89; 256]);
        bytes.extend(PING_HELLO);
        bytes.extend([0x88, 0x80, 0, 0, 0, 0]);
        for step in [1, 2, 7, 300] {
            let mut reader = Reader::default();
            let found: Vec<_> = bytes.chunks(step).flat_map(|bytes| reader.push(bytes).unwrap()).collect();
            assert_eq!(found, [Request::Ping(b"Hello".to_vec()), Request::Close], "{step}");
        }
        assert_eq!(pong(b"Hello"), &b"\x8a\x05Hello"[..]);
    }

    #[test]
    fn a_client_that_breaks_the_protocol_is_refused() {
        let refused = |bytes: &[u8]| Reader::default().push(bytes).unwrap_err();
        assert_eq!(refused(&[0x82, 0x05]), FrameError::Unmasked);
        assert_eq!(refused(&[0xc2, 0x85]), FrameError::First { byte: 0xc2 });
        assert_eq!(refused(&[0x83, 0x85]), FrameError::First { byte: 0x83 });
        assert_eq!(refused(&[0x89, 0xfe, 0, 126]), FrameError::Control { len: 126 });
        assert_eq!(refused(&[0x09, 0x80]), FrameError::Control { len: 0 });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::default();
            for byte in bytes {
                if reader.push(&[byte]).is_err() {
                    break;
                }
                prop_assert!(reader.kept.len() < 14 + CONTROL_LEN_MAX);
            }
        }
    }
}
