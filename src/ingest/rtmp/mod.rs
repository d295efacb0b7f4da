//! RTMP in: what encoders send becomes events of the live hub. And out again, for players that speak it.
//!
//! ```text
//! socket ─► server ─bytes─► session: handshake ─► chunk ─► command ─► Publish ─► Hub
//!              ▲               │                    └─► tags ─► media::demux ─► Event ─► Publisher
//!              └──Transmit─────┴ writer ◄─ play ◄─ Event ◄─ Subscription
//! ```
//! Only `server` has a socket and a task; the rest are cores. Input is read by our own code, since `rml_rtmp`'s
//! reading side panics, overflows its stack or mixes up chunk streams on bytes that anybody can send; what we send is
//! written by its parts.

pub mod chunk;
mod command;
mod connection;
pub mod handshake;
pub mod message;
mod output;
mod play;
pub mod server;
pub mod session;
mod tags;
mod writer;

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use output::{Close, Output, Refusal};

/// `[rtmp]`. Limits that no encoder needs to have moved are constants beside the code that holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where encoders connect.
    pub listen: SocketAddr,
    /// Connections at one time, publishing, playing or neither. One more is closed at once.
    pub connections_max: usize,
    /// From the connection to the end of the handshake, in all.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// From the handshake, or the end of a publish or play, to an accepted one.
    #[serde(with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// A publisher that sends no audio or video for so long is closed and its name is free.
    #[serde(with = "humantime_serde")]
    pub publish_idle: Duration,
    /// A peer that takes none of what is sent to it for so long is closed.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Longest video or aggregate message. At most 16 MiB less one byte can be announced by RTMP. A connection's
    /// unfinished messages together may have 4 MiB more.
    pub video_message_max: ByteSize,
    /// Broadcasts may be played over RTMP too.
    pub play: bool,
    /// Bytes of a broadcast that may wait for one player. Beyond it the player loses what waits and goes on at the next
    /// random access point. A cached group of pictures that is larger is not given.
    pub play_queue: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 1935)),
            connections_max: 2000,
            handshake_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(10),
            publish_idle: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            video_message_max: ByteSize::mib(8),
            play: true,
            play_queue: ByteSize::mib(8),
        }
    }
}
