//! The vocabulary of the house: frames, tracks and the events that carry them.
//!
//! ```text
//! RTMP message ─► demux::Demuxer ─► Event ─► live ─► package, FLV, RTMP play
//!                  flv, h264 (sps), aac, mp3, amf: what the bytes mean
//!                  timeline, retime (rate, grid), hold: when; drops: what was left out
//! Event ─► rebase (32 bits of milliseconds), flv::write: what goes out as FLV
//! ```
//! Everything here is a core: no clock, no socket, no task.

pub mod aac;
pub mod amf;
pub mod demux;
pub mod drops;
pub mod flv;
pub mod grid;
pub mod h264;
mod hold;
pub mod mp3;
pub mod rate;
pub mod rebase;
pub mod retime;
#[cfg(test)]
pub(crate) mod sample;
mod sps;
pub mod time;
pub mod timeline;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use time::{Span, Ticks};

/// Which elementary stream a frame belongs to. There is at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// The one video track.
    Video,
    /// The one audio track.
    Audio,
}

/// One access unit, or one audio frame, with its place on the stream's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track it belongs to.
    pub track: Track,
    /// Decode time. Strictly rising within a track and a timeline.
    pub dts: Ticks,
    /// Presentation time, never before `dts`. Equal to it for audio.
    pub pts: Ticks,
    /// Decoding may start here: an IDR picture, or any audio frame.
    pub random_access: bool,
    /// The coded bytes as RTMP carried them: for H.264 the NAL units of one access unit, each behind a length
    /// of `VideoConfig::nal_length_size` bytes; for AAC one raw frame without ADTS; for MP3 one whole frame.
    /// A slice of the message it came in; never empty.
    pub payload: Bytes,
}

impl Frame {
    /// A joiner may begin here: with video at a picture that can be decoded alone, without at any frame. `tracks` are
    /// those of the timeline, `None` while they are not known.
    pub fn starts(&self, tracks: Option<&TrackSet>) -> bool {
        let has_video = tracks.is_some_and(|tracks| tracks.video.is_some());
        self.random_access && (self.track == Track::Video || !has_video)
    }
}

/// What a timeline carries. Constant between two [`Event::Tracks`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackSet {
    /// The video track's parameters, if there is one.
    pub video: Option<Arc<h264::VideoConfig>>,
    /// The audio track's parameters, if there is one.
    pub audio: Option<Arc<AudioConfig>>,
}

impl TrackSet {
    /// Neither track is known.
    pub fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }
}

/// Parameters of the audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioConfig {
    /// AAC, from an `AudioSpecificConfig`.
    Aac(aac::AacConfig),
    /// MPEG-1/2 layer III, from a frame's own header.
    Mp3(mp3::Mp3Config),
}

impl AudioConfig {
    /// RFC 6381 codec string as `CODECS` wants it: `mp4a.40.2`, `mp4a.40.34`.
    pub fn codec(&self) -> String {
        match self {
            Self::Aac(config) => config.codec(),
            Self::Mp3(config) => config.codec(),
        }
    }

    /// Samples per second on the timeline of frames (for HE-AAC the core's rate, not the output's).
    pub fn sample_rate(&self) -> u32 {
        match self {
            Self::Aac(config) => config.sample_rate,
            Self::Mp3(config) => config.sample_rate,
        }
    }

    /// Channels, 0 where the stream does not say.
    pub fn channels(&self) -> u8 {
        match self {
            Self::Aac(config) => config.channels,
            Self::Mp3(config) => config.channels,
        }
    }

    /// Samples in one frame: 1024 or 960 for AAC, 1152 or 576 for MP3.
    pub fn samples_per_frame(&self) -> u32 {
        match self {
            Self::Aac(config) => config.samples_per_frame,
            Self::Mp3(config) => config.samples_per_frame,
        }
    }

    /// The exact duration of `frames` frames, rounded down to a tick.
    pub fn span_of(&self, frames: u32) -> Span {
        let samples = i64::from(frames) * i64::from(self.samples_per_frame());
        Span(samples * time::TICKS_PER_SECOND / i64::from(self.sample_rate().max(1)))
    }
}

/// One publishing session of one name. Part of every segment's key, never used twice: milliseconds since 1970 at
/// the publish, moved up where two would be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What flows from a broadcast's publishers to everyone who takes it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publisher is connected: what follows lies on a timeline of its own. The first event of every broadcast, and
    /// the first after a [`Event::Stop`].
    Start(Epoch),
    /// From here on frames belong to these tracks. Comes before the first frame of every epoch. A later one means
    /// that parameters changed: what follows is a new coding of the same timeline.
    Tracks(Arc<TrackSet>),
    /// One frame, in the order it arrived (decode order within its track).
    Frame(Arc<Frame>),
    /// Time or order broke: the frames that follow lie on a new timeline, and something may be missing.
    Discontinuity,
    /// The publisher is gone. It may come back, with a `Start`; if it doesn't in time, an `End` follows.
    Stop,
    /// The broadcast is over. Nothing follows.
    End,
}
