//! What a session wants done, and why connections end.

use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

use crate::media::flv::Codec;
use crate::media::{Event, amf};
use crate::name::{NameError, StreamName};

use super::session::{COMMANDS_MAX, UNPUBLISHED_BYTES_MAX};
use super::{chunk, handshake};

/// What [`Session::poll_output`](super::session::Session::poll_output) wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send these bytes.
    Transmit(Bytes),
    /// The peer asks to publish: answer with [`decide`](super::session::Session::decide). What it sends behind waits, up to
    /// [`UNPUBLISHED_BYTES_MAX`].
    Publish(StreamName),
    /// The peer asks to play: answer with [`decide`](super::session::Session::decide), and hand in what the broadcast does
    /// by [`handle_event`](super::session::Session::handle_event).
    Play(StreamName),
    /// The play is over, the connection not yet: nothing is wanted of the broadcast.
    Leave,
    /// The next event of the accepted publish; tracks, a frame or a discontinuity.
    Media(Event),
    /// The publish is over, the connection not yet: the peer may publish again.
    Unpublish,
    /// Messages, or tags of them, were dropped, and their connection kept.
    Drop {
        /// A word for the label of a metric.
        reason: &'static str,
        /// How many.
        count: u64,
    },
    /// The publish has a codec that nobody here carries; its frames are dropped. Said once a publish.
    Unsupported(Codec),
    /// Nothing more for now. Call [`handle_timeout`](super::session::Session::handle_timeout) at this time, if there is one
    /// and nothing comes before.
    Wait(Option<Instant>),
    /// Close the connection when all is sent. Answered for ever from here on.
    Close(Close),
}

/// Why a publish or a play is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Somebody else has the name: `NetStream.Publish.BadName`.
    #[error("the name is already being published")]
    Taken,
    /// Not this peer: `NetStream.Publish.Denied`.
    #[error("publishing is not allowed")]
    Denied,
    /// Not now: `NetStream.Publish.Rejected`.
    #[error("no further broadcast can be taken now")]
    Full,
    /// Nobody publishes what is to be played: `NetStream.Play.StreamNotFound`.
    #[error("no broadcast of this name is live")]
    NotLive,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Close {
    /// The peer closed it. Not our doing.
    #[error("the peer closed the connection")]
    Ended,
    /// The socket failed. Not our doing.
    #[error("the socket failed: {0}")]
    Socket(std::io::ErrorKind),
    /// The origin stops.
    #[error("the origin is stopping")]
    Stopping,
    /// A timer of `[rtmp]` ran out.
    #[error("timeout: {waited_for}")]
    Timeout {
        /// What did not come.
        waited_for: &'static str,
    },
    /// No RTMP.
    #[error(transparent)]
    Handshake(#[from] handshake::Error),
    /// No chunks that we take.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A command that is no AMF0 that we take.
    #[error(transparent)]
    Command(#[from] amf::Error),
    /// App or stream name can't be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The publish or the play was decided against.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Commands in an order that makes no sense.
    #[error("{0}")]
    Order(&'static str),
    /// More than [`COMMANDS_MAX`].
    #[error("more than {COMMANDS_MAX} commands")]
    Commands,
    /// More than [`UNPUBLISHED_BYTES_MAX`].
    #[error("more than {UNPUBLISHED_BYTES_MAX} bytes without a publish or a play")]
    UnpublishedBytes,
    /// The peer wants to play, and `[rtmp] play` says no.
    #[error("playing is not offered over RTMP")]
    Play,
}

impl Close {
    /// The reason as a metric's label. `None` where it is not the origin's doing.
    pub fn word(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ended | Self::Socket(_) => return None,
            Self::Stopping => "stopping",
            Self::Timeout { .. } => "timeout",
            Self::Handshake(_) => "handshake",
            Self::Chunk(_) => "chunk",
            Self::Command(_) => "command",
            Self::Name(_) => "name",
            Self::Refused(Refusal::Taken) => "taken",
            Self::Refused(Refusal::Denied) => "denied",
            Self::Refused(Refusal::Full) => "full",
            Self::Refused(Refusal::NotLive) => "not_live",
            Self::Order(_) => "order",
            Self::Commands => "commands",
            Self::UnpublishedBytes => "unpublished",
            Self::Play => "play",
        })
    }
}
