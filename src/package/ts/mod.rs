//! MPEG-TS media segments: frames in, one segment's bytes out.
//!
//! ```text
//! Frame ─► push: walked and kept ─► finish: plan (what, when, over how many packets) ─► packet: bytes
//!          (access_unit)
//! ```
//! A segment is muxed at once, when all of it is known. Until then it is a list of shared frames, which the GOP
//! cache holds anyway; then it is written in decode order into one allocation of the right size, each payload
//! byte copied once. Knowing the whole is what lets the clock run evenly, the tables stand evenly, and every PID
//! come out at a multiple of 16 packets.
//!
//! That multiple makes segments free of context. Continuity counters have four bits and must run on from segment to
//! segment (Apple's authoring specification, 7.2): if each PID starts every segment at 0 and has a multiple of 16
//! packets with payload, any two segments follow each other, whichever process wrote them. The bytes depend on the
//! tracks, the frames and their times, and on when the next segment begins; on nothing else.

mod access_unit;
mod packet;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::media::aac::{ADTS_HEADER_LEN, AacError};
use crate::media::h264::NalError;
use crate::media::{AudioConfig, Frame, Span, Ticks, Track, TrackSet};

use access_unit::AccessUnit;
use packet::PACKET_LEN;

/// Packets with payload per PID come in multiples of the continuity counter's period.
const COUNTER_PERIOD: usize = 16;

/// Most time that one PES packet of audio holds beside video: seven AAC frames at 48 kHz. Long packets waste less;
/// hls.js hands audio on per PES packet.
const PACK_SPAN: Span = Span::from_ms(150);

/// The same without video, where each PES packet carries the clock, which must not be older than 100 ms.
const PACK_SPAN_AUDIO_ONLY: Span = Span::from_ms(100);

/// Audio frames in one PES packet: at least where rates are low, at most where frames are short.
const PACK_FRAMES_MIN: usize = 3;
const PACK_FRAMES_MAX: usize = 8;

/// What `PES_packet_length` can say, less the header's rest: audio may not leave the length open.
const PACK_BYTES_MAX: usize = u16::MAX as usize - 8;

/// An MPEG audio frame's own header, and enough to split the shortest PES packet over 16 packets.
const AUDIO_FRAME_MIN: usize = 4;

/// Why a frame or a track can't be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// There is nothing to mux.
    #[error("neither video nor audio")]
    NoTracks,
    /// The frame's track is not in the segment's track set.
    #[error("a frame of the {0:?} track, which the segment has not")]
    NoSuchTrack(Track),
    /// AAC that an ADTS header can't say.
    #[error("AAC without an ADTS header")]
    Aac(#[from] AacError),
    /// An audio frame that no PES packet holds, or an empty one.
    #[error("audio frame of {len} bytes")]
    AudioFrameLen {
        /// Bytes of the frame.
        len: usize,
    },
    /// The access unit's lengths are wrong.
    #[error("access unit of wrong lengths")]
    Nal(#[from] NalError),
    /// Nothing but delimiters and empty NAL units.
    #[error("access unit without NAL units")]
    NoNalUnits,
}

/// An audio frame and what is put in front of it.
#[derive(Debug)]
struct AudioFrame {
    frame: Arc<Frame>,
    /// For AAC.
    adts: Option<[u8; ADTS_HEADER_LEN]>,
}

impl AudioFrame {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.adts.iter().map(<[u8; ADTS_HEADER_LEN]>::as_slice).chain([&*self.frame.payload])
    }
}

/// Consecutive audio frames that share a PES packet.
#[derive(Debug, Clone, Copy)]
struct Pack {
    /// Index of its first frame.
    first: usize,
    frames: usize,
    /// With ADTS headers.
    bytes: usize,
    pts: Ticks,
}

/// One media segment in the making. Holds its frames, without copying them, until [`SegmentMuxer::finish`].
#[derive(Debug)]
pub struct SegmentMuxer {
    tracks: Arc<TrackSet>,
    video: Vec<AccessUnit>,
    audio: Vec<AudioFrame>,
    packs: Vec<Pack>,
    packets: usize,
}

impl SegmentMuxer {
    /// An empty segment with these tracks. Refuses audio that MPEG-TS can't say.
    pub fn new(tracks: Arc<TrackSet>) -> Result<Self, MuxError> {
        if tracks.is_empty() {
            return Err(MuxError::NoTracks);
        }
        if let Some(AudioConfig::Aac(config)) = tracks.audio.as_deref() {
            config.adts_header(0)?;
        }
        Ok(Self { tracks, video: Vec::new(), audio: Vec::new(), packs: Vec::new(), packets: 0 })
    }

    /// Adds a frame: decode order within its track, any order between tracks. After an error the segment is as if
    /// the frame had not come.
    pub fn push(&mut self, frame: &Arc<Frame>) -> Result<(), MuxError> {
        let bytes = match frame.track {
            Track::Video => self.push_video(frame)?,
            Track::Audio => self.push_audio(frame)?,
        };
        self.packets += bytes.div_ceil(PACKET_LEN - 4);
        Ok(())
    }

    /// About how many bytes [`SegmentMuxer::finish`] would return: less by the tables and what rounds up to packets,
    /// a few kB.
    pub fn len(&self) -> usize {
        self.packets * PACKET_LEN
    }

    /// No frame came yet.
    pub fn is_empty(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }

    /// The segment, in whole transport packets. No bytes if no frame came. `next` is the decode time of the next
    /// segment's first frame, up to which the clock must run; `None` if what follows is of another timeline.
    pub fn finish(self, next: Option<Ticks>) -> Bytes {
        if self.is_empty() { Bytes::new() } else { plan::write(&self, next) }
    }

    fn push_video(&mut self, frame: &Arc<Frame>) -> Result<usize, MuxError> {
        let config = self.tracks.video.as_deref().ok_or(MuxError::NoSuchTrack(Track::Video))?;
        let unit = AccessUnit::parse(frame, config)?;
        let bytes = unit.len;
        self.video.push(unit);
        Ok(bytes)
    }

    fn push_audio(&mut self, frame: &Arc<Frame>) -> Result<usize, MuxError> {
        let config = self.tracks.audio.as_deref().ok_or(MuxError::NoSuchTrack(Track::Audio))?;
        let len = frame.payload.len();
        let adts = match config {
            AudioConfig::Aac(config) => Some(config.adts_header(len)?),
            AudioConfig::Mp3(_) => None,
        };
        let bytes = adts.map_or(0, |header| header.len()) + len;
        if len == 0 || !(AUDIO_FRAME_MIN..=PACK_BYTES_MAX).contains(&bytes) {
            return Err(MuxError::AudioFrameLen { len });
        }
        let index = self.audio.len();
        self.audio.push(AudioFrame { frame: Arc::clone(frame), adts });
        let span_max = if self.tracks.video.is_some() { PACK_SPAN } else { PACK_SPAN_AUDIO_ONLY };
        match self.packs.last_mut() {
            Some(pack) if pack.takes(config, frame.pts, bytes, span_max) => {
                pack.frames += 1;
                pack.bytes += bytes;
            }
            _ => self.packs.push(Pack { first: index, frames: 1, bytes, pts: frame.pts }),
        }
        Ok(bytes)
    }

    /// The bytes of an access unit.
    fn video_pieces(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let unit = self.video.get(index).zip(self.tracks.video.as_deref());
        unit.into_iter().flat_map(|(unit, config)| unit.pieces(config))
    }

    /// The bytes of a pack.
    fn audio_pieces(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let frames =
            self.packs.get(index).and_then(|pack| self.audio.get(pack.first..pack.first + pack.frames));
        frames.unwrap_or_default().iter().flat_map(AudioFrame::pieces)
    }
}

impl Pack {
    /// Whether a frame goes in: it follows sample-exactly, as a player counts on within a PES packet, and there is
    /// room. (Times are rounded to ticks, so one tick is no gap.)
    fn takes(&self, config: &AudioConfig, pts: Ticks, bytes: usize, span_max: Span) -> bool {
        let span = |frames: usize| config.span_of(frames as u32);
        let off = (pts - (self.pts + span(self.frames))).0;
        (-1..=1).contains(&off)
            && self.frames < PACK_FRAMES_MAX
            && (self.frames < PACK_FRAMES_MIN || span(self.frames + 1) <= span_max)
            && self.bytes + bytes <= PACK_BYTES_MAX
    }
}
