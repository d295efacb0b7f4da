//! FLV tags in, events out: one publish's timeline.
//!
//! ```text
//! Tag ─► flv ─► config: a track, Event::Tracks when its first frame comes
//!           └─► frame ─► Timeline (unwrap, jumps) ─► VideoClock / AudioClock ─► Hold (at the start) ─► Event
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::aac::AacConfig;
use super::drops::{Dropped, Drops, Repairs};
use super::flv::{self, Audio, Codec, FlvError, MetaData, Tag, TagKind, Video};
use super::grid::{Period, ROUNDING};
use super::h264::{Picture, VideoConfig, picture};
use super::hold::Hold;
use super::mp3::Mp3Config;
use super::rate::FrameRate;
use super::retime::{AudioClock, VideoClock};
use super::time::{Span, Ticks};
use super::timeline::{Placed, Timeline};
use super::{AudioConfig, Event, Frame, Track, TrackSet};

/// Turns one publisher's tags into events: parses, places on the timeline, retimes.
///
/// The first frames are held for at most a second of media time, until it is known which tracks there are and how far
/// pictures are reordered; then they come out at once, so that nothing later is delayed. A track is announced when it
/// has a frame, not when it has a header: players wait for ever for a track that is announced and never comes.
#[derive(Debug)]
pub struct Demuxer {
    metadata: Option<MetaData>,
    timeline: Timeline,
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    /// What was announced is not what comes next.
    tracks_due: bool,
    /// Until the first release.
    hold: Option<Hold>,
    /// Taken off every picture's decode time, so that none is presented before it is decoded.
    shift: Span,
    events: VecDeque<Event>,
    drops: Drops,
    repairs: Repairs,
    unsupported: Option<Codec>,
}

#[derive(Debug)]
struct VideoTrack {
    config: Arc<VideoConfig>,
    clock: VideoClock,
    /// It has had a frame.
    shown: bool,
}

#[derive(Debug)]
struct AudioTrack {
    config: Arc<AudioConfig>,
    clock: AudioClock,
    /// It has had a frame.
    shown: bool,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new()
    }
}

impl Demuxer {
    /// For one publish.
    pub fn new() -> Self {
        Self {
            metadata: None,
            timeline: Timeline::default(),
            video: None,
            audio: None,
            tracks_due: false,
            hold: Some(Hold::default()),
            shift: Span::ZERO,
            events: VecDeque::new(),
            drops: Drops::default(),
            repairs: Repairs::default(),
            unsupported: None,
        }
    }

    /// Takes one tag. Drain [`Demuxer::poll_event`] after each.
    pub fn push(&mut self, tag: Tag) {
        let dropped = match tag.kind {
            TagKind::Video => self.push_video(tag.timestamp_ms, tag.body),
            TagKind::Audio => self.push_audio(tag.timestamp_ms, tag.body),
            TagKind::Data => self.push_data(&tag.body),
        };
        if let Err(drop) = dropped {
            self.drops.add(drop);
        }
    }

    /// The next event, `None` when more tags are needed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The publisher is done: what is held back comes out. [`Event::Stop`] is not among it: `live::Publisher` sends
    /// that when it is dropped.
    pub fn finish(&mut self) {
        self.release();
    }

    /// What was dropped since the last call.
    pub fn take_drops(&mut self) -> Drops {
        std::mem::take(&mut self.drops)
    }

    /// What was mended since the publish began.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// The first codec met that nobody here carries: a reason to tell, or refuse, the publisher.
    pub fn unsupported(&self) -> Option<Codec> {
        self.unsupported
    }

    fn push_video(&mut self, stamp_ms: u32, body: Bytes) -> Result<(), Dropped> {
        match flv::video(body).map_err(|error| self.refuse(error))? {
            Video::Config(record) => self.configure_video(record),
            Video::AccessUnit { composition_ms, payload, .. } => {
                self.push_access_unit(stamp_ms, composition_ms, payload)
            }
            Video::Nothing => Ok(()),
        }
    }

    fn push_audio(&mut self, stamp_ms: u32, body: Bytes) -> Result<(), Dropped> {
        match flv::audio(body).map_err(|error| self.refuse(error))? {
            Audio::AacConfig(config) if config.is_empty() => Err(Dropped::Empty),
            Audio::AacConfig(config) => {
                let config = AacConfig::parse(config).map_err(|_| Dropped::Config)?;
                self.configure_audio(AudioConfig::Aac(config));
                Ok(())
            }
            Audio::Aac(frame) => self.push_aac(stamp_ms, frame),
            Audio::Mp3(frames) => self.push_mp3(stamp_ms, frames),
        }
    }

    fn push_data(&mut self, body: &[u8]) -> Result<(), Dropped> {
        let Some(metadata) = flv::metadata(body).map_err(|_| Dropped::MetaData)? else { return Ok(()) };
        self.metadata = Some(metadata);
        if let (Some(track), Some(rate)) = (&mut self.video, told_rate(Some(metadata))) {
            track.clock.suggest(rate);
        }
        Ok(())
    }

    fn refuse(&mut self, error: FlvError) -> Dropped {
        let FlvError::Unsupported(codec) = error else { return Dropped::Tag };
        self.unsupported = self.unsupported.or(Some(codec));
        Dropped::Codec
    }

    fn configure_video(&mut self, record: Bytes) -> Result<(), Dropped> {
        if record.is_empty() {
            return Err(Dropped::Empty);
        }
        if self.video.as_ref().is_some_and(|track| track.config.record == record) {
            return Ok(());
        }
        let config = Arc::new(VideoConfig::parse(record).map_err(|_| Dropped::Config)?);
        let told = config.frame_rate.and_then(|(num, den)| FrameRate::new(num, den));
        let rate = told.or(told_rate(self.metadata));
        self.parameters_change(Track::Video);
        if let Some(track) = &mut self.video {
            track.clock.retune(rate);
            track.config = config;
        } else {
            let mut clock = VideoClock::default();
            clock.retune(rate);
            self.video = Some(VideoTrack { config, clock, shown: false });
        }
        Ok(())
    }

    fn configure_audio(&mut self, config: AudioConfig) {
        if self.audio.as_ref().is_some_and(|track| *track.config == config) {
            return;
        }
        self.parameters_change(Track::Audio);
        let period = Period::of_samples(config.samples_per_frame(), config.sample_rate());
        let config = Arc::new(config);
        if let Some(track) = &mut self.audio {
            track.clock.retune(period);
            track.config = config;
        } else {
            self.audio = Some(AudioTrack { config, clock: AudioClock::new(period), shown: false });
        }
    }

    /// What is held of a track belongs to the parameters it had; what follows is announced with new ones.
    fn parameters_change(&mut self, track: Track) {
        if self.hold.as_ref().is_some_and(|hold| hold.has(track)) {
            self.release();
        }
        self.tracks_due |= match track {
            Track::Video => self.video.as_ref().is_some_and(|track| track.shown),
            Track::Audio => self.audio.as_ref().is_some_and(|track| track.shown),
        };
    }

    fn push_access_unit(
        &mut self,
        stamp_ms: u32,
        composition_ms: i32,
        payload: Bytes,
    ) -> Result<(), Dropped> {
        let nal_length_size = self.video.as_ref().ok_or(Dropped::ConfigMissing)?.config.nal_length_size;
        if payload.is_empty() {
            return Err(Dropped::Empty);
        }
        let random_access = match picture(&payload, nal_length_size).map_err(|_| Dropped::NalUnits)? {
            Picture::Idr => true,
            Picture::Other => false,
            Picture::None => return Err(Dropped::NoPicture),
        };
        let stamp = self.place(Track::Video, stamp_ms);
        let track = self.video.as_mut().ok_or(Dropped::ConfigMissing)?;
        self.tracks_due |= !std::mem::replace(&mut track.shown, true);
        let sane = composition_ms.abs() <= COMPOSITION_MAX_MS;
        self.repairs.offsets += u64::from(!sane);
        let composition = if sane { Span::from_ms(composition_ms.into()) } else { Span::ZERO };
        let placed = track.clock.place(stamp, composition);
        self.repairs.nudges += u64::from(placed.nudged);
        self.take(Frame { track: Track::Video, dts: placed.dts, pts: placed.pts, random_access, payload });
        Ok(())
    }

    fn push_aac(&mut self, stamp_ms: u32, payload: Bytes) -> Result<(), Dropped> {
        let track = self.audio.as_ref().ok_or(Dropped::ConfigMissing)?;
        if matches!(*track.config, AudioConfig::Mp3(_)) {
            return Err(Dropped::ConfigMissing);
        }
        if payload.is_empty() {
            return Err(Dropped::Empty);
        }
        let stamp = self.place(Track::Audio, stamp_ms);
        self.take_audio(stamp, payload)
    }

    /// A tag holds one frame from most encoders; nothing forbids more.
    fn push_mp3(&mut self, stamp_ms: u32, mut frames: Bytes) -> Result<(), Dropped> {
        if frames.is_empty() {
            return Err(Dropped::Empty);
        }
        let mut stamp = None;
        while !frames.is_empty() {
            let (config, len) = Mp3Config::parse(&frames).map_err(|_| Dropped::Mp3)?;
            self.configure_audio(AudioConfig::Mp3(config));
            let at = stamp.unwrap_or_else(|| self.place(Track::Audio, stamp_ms));
            let payload = frames.split_to(len.min(frames.len()));
            self.take_audio(at, payload)?;
            stamp = self.audio.as_ref().map(|track| at + track.clock.period());
        }
        Ok(())
    }

    fn take_audio(&mut self, stamp: Ticks, payload: Bytes) -> Result<(), Dropped> {
        let track = self.audio.as_mut().ok_or(Dropped::ConfigMissing)?;
        self.tracks_due |= !std::mem::replace(&mut track.shown, true);
        let (at, resynced) = track.clock.place(stamp);
        self.repairs.resyncs += u64::from(resynced);
        self.take(Frame { track: Track::Audio, dts: at, pts: at, random_access: true, payload });
        Ok(())
    }

    /// Unwraps a stamp. Where time breaks, what is held is let go and a new timeline begins for both tracks.
    fn place(&mut self, track: Track, stamp_ms: u32) -> Ticks {
        let placed = self.timeline.place(track, stamp_ms);
        match placed {
            Placed::At(_) => {}
            Placed::Aligned(_) => self.repairs.alignments += 1,
            Placed::Jump(_) => {
                self.release();
                self.repairs.jumps += 1;
                self.events.push_back(Event::Discontinuity);
                if let Some(track) = &mut self.video {
                    track.clock.restart();
                }
                if let Some(track) = &mut self.audio {
                    track.clock.restart();
                }
            }
        }
        placed.ticks()
    }

    fn take(&mut self, frame: Frame) {
        let Some(hold) = &mut self.hold else { return self.emit(frame) };
        hold.push(frame);
        let hints = self.metadata.filter(|told| told.video != told.audio);
        let expects = |track| match track {
            Track::Video => self.video.is_some() || hints.is_none_or(|told| told.video),
            Track::Audio => self.audio.is_some() || hints.is_none_or(|told| told.audio),
        };
        let reorders = self.video.as_ref().is_some_and(|track| track.config.reorder != Some(0));
        if hold.is_over(expects, reorders) {
            self.release();
        }
    }

    fn release(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        self.shift = hold.shift();
        for frame in hold.into_frames() {
            self.emit(frame);
        }
    }

    fn emit(&mut self, mut frame: Frame) {
        if std::mem::take(&mut self.tracks_due) {
            self.events.push_back(Event::Tracks(Arc::new(self.tracks())));
        }
        if frame.track == Track::Video {
            let missing = frame.dts - self.shift - frame.pts;
            if missing > ROUNDING {
                // No frame that is out already can be moved: the larger shift needs a timeline of its own.
                self.shift += missing;
                self.repairs.shifts += 1;
                self.events.push_back(Event::Discontinuity);
            }
            frame.dts = frame.dts - self.shift;
            // A shortfall of a rounding is one: not worth a timeline.
            frame.pts = frame.pts.max(frame.dts);
        }
        self.events.push_back(Event::Frame(Arc::new(frame)));
    }

    fn tracks(&self) -> TrackSet {
        let video = self.video.as_ref().filter(|track| track.shown).map(|track| Arc::clone(&track.config));
        let audio = self.audio.as_ref().filter(|track| track.shown).map(|track| Arc::clone(&track.config));
        TrackSet { video, audio }
    }
}

/// 16 pictures, the most that H.264 reorders, at 1.6 a second. A glitch beyond it must not shift a broadcast for ever,
/// and hls.js takes PTS for wrong from 60 s on.
const COMPOSITION_MAX_MS: i32 = 10_000;

fn told_rate(metadata: Option<MetaData>) -> Option<FrameRate> {
    FrameRate::from_decimal(metadata?.frame_rate?)
}

#[cfg(test)]
mod tests;
