//! The handshake (Adobe RTMP 1.0, §5.2), simple and with digests as Flash Player 9 began.
//!
//! `rml_rtmp` does the work, and brings the randomness it needs; this file feeds it no byte more than a handshake
//! has, so that it buffers no more.

use std::fmt;

use rml_rtmp::handshake::{Handshake as Rml, HandshakeProcessResult, PeerType};
use thiserror::Error;

/// C0, C1 and C2.
const LEN: usize = 1 + 1536 + 1536;

/// The peer's first byte is not version 3: no RTMP, or RTMPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the first byte is not that of plain RTMP")]
pub struct Error;

/// The server's side of one handshake.
pub(super) struct Handshake {
    rml: Rml,
    /// Bytes still to come from the peer.
    left: usize,
}

impl Handshake {
    pub(super) fn new() -> Self {
        Self { rml: Rml::new(PeerType::Server), left: LEN }
    }

    /// Takes bytes off the front of `input` and adds what is to be sent to `out`. `true` when done.
    pub(super) fn read(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        let (now, later) = input.split_at(self.left.min(input.len()));
        *input = later;
        self.left -= now.len();
        match self.rml.process_bytes(now).map_err(|_| Error)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                out.extend_from_slice(&response_bytes);
                Ok(false)
            }
            HandshakeProcessResult::Completed { response_bytes, .. } => {
                out.extend_from_slice(&response_bytes);
                Ok(true)
            }
        }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, against `rml_rtmp`'s client; what follows the handshake is left alone.
    #[test]
    fn a_client_gets_through_in_any_split() {
        for step in [1, 7, 1000, 5000] {
            let mut client = Rml::new(PeerType::Client);
            let mut server = Handshake::new();
            let mut to_server = client.generate_outbound_p0_and_p1().unwrap();
            let mut out = Vec::new();
            for mut part in to_server.chunks(step) {
                assert_eq!(server.read(&mut part, &mut out), Ok(false));
            }
            let answer = client.process_bytes(&out).unwrap();
            let HandshakeProcessResult::Completed { response_bytes, .. } = answer else {
                panic!("client waits")
            };
            to_server = response_bytes;
            to_server.extend_from_slice(b"chunks");
            let mut rest = &to_server[..];
            let mut done = false;
            while !done {
                let mut part = &rest[..step.min(rest.len())];
                let before = part.len();
                done = server.read(&mut part, &mut out).unwrap();
                rest = &rest[before - part.len()..];
            }
            assert_eq!(rest, b"chunks");
        }
    }

    /// What is not RTMP gets no answer to work with: HTTP, TLS, RTMPE.
    #[test]
    fn another_version_is_refused_at_its_first_byte() {
        for first in [b'G', 0x16, 6, 0] {
            let mut out = Vec::new();
            assert_eq!(Handshake::new().read(&mut &[first][..], &mut out), Err(Error));
            assert!(out.is_empty());
        }
    }

    /// The simple handshake: C1 comes back as S2.
    #[test]
    fn a_peer_without_digest_gets_its_own_bytes_back() {
        let mut c0_c1 = vec![3];
        c0_c1.extend([0; 8]);
        c0_c1.extend((0..1528u32).map(|n| (n * 31 % 251) as u8));
        let mut out = Vec::new();
        Handshake::new().read(&mut &c0_c1[..], &mut out).unwrap();
        assert_eq!(out.len(), LEN);
        assert_eq!(out[1537..], c0_c1[1..]);
    }
}
