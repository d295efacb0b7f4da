//! FLV out: tag bodies from frames and parameters, `onMetaData`, and the file format around them.
//!
//! A body is the same in a file, over HTTP and in an RTMP message; only [`file_header`] and [`tag`] are the file's.

use bytes::{BufMut, Bytes, BytesMut};

use super::TagKind;
use crate::media::h264::VideoConfig;
use crate::media::{AudioConfig, Frame, Track, TrackSet};

/// The file header with the size 0 that stands before the first tag (FLV E.2, E.3).
pub const FILE_HEADER_LEN: usize = 13;

/// What a tag adds to its body: its header, and its size after it (FLV E.3, E.4.1).
pub const TAG_OVERHEAD: usize = 15;

/// The file header. The flags tell which tags there are now: flv.js waits for ever for a track that is announced and
/// never comes.
pub fn file_header(tracks: &TrackSet) -> [u8; FILE_HEADER_LEN] {
    const AUDIO: u8 = 0b100;
    const VIDEO: u8 = 0b1;
    let audio = if tracks.audio.is_some() { AUDIO } else { 0 };
    let video = if tracks.video.is_some() { VIDEO } else { 0 };
    [b'F', b'L', b'V', 1, audio | video, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Appends one tag whose body is `head` and then `payload`.
///
/// # Panics
/// When the body has 16 MiB or more, which no message that came in has.
pub fn tag(out: &mut BytesMut, kind: TagKind, timestamp_ms: u32, head: &[u8], payload: &[u8]) {
    let body_len = head.len() + payload.len();
    assert!(body_len < 1 << 24, "a tag's size has 24 bits");
    let kind = match kind {
        TagKind::Audio => 8,
        TagKind::Video => 9,
        TagKind::Data => 18,
    };
    out.reserve(body_len + TAG_OVERHEAD);
    out.put_u8(kind);
    out.put_uint(body_len as u64, 3);
    out.put_uint(u64::from(timestamp_ms & 0xff_ffff), 3);
    out.put_u8((timestamp_ms >> 24) as u8);
    out.put_uint(0, 3);
    out.put_slice(head);
    out.put_slice(payload);
    out.put_u32((body_len + TAG_OVERHEAD - 4) as u32);
}

/// What stands before a frame's payload in its tag's body: at most five bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; 5],
    len: u8,
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Head {
    fn new(bytes: &[u8]) -> Self {
        let mut head = Self { bytes: [0; 5], len: bytes.len() as u8 };
        head.bytes[..bytes.len()].copy_from_slice(bytes);
        head
    }
}

/// The head of `frame`'s body, whose tracks are `tracks`. FLV's keyframe flag stands on random access points alone.
pub fn frame_head(frame: &Frame, tracks: &TrackSet, composition_ms: i32) -> Head {
    match (frame.track, tracks.audio.as_deref()) {
        (Track::Video, _) => video_head(NAL_UNITS, frame.random_access, composition_ms),
        (Track::Audio, Some(AudioConfig::Mp3(config))) => {
            Head::new(&[mp3_format(config.sample_rate, config.channels)])
        }
        (Track::Audio, _) => Head::new(&[AAC_FORMAT, 1]),
    }
}

/// The kind of tag that a track's frames and parameters are in.
pub fn kind(track: Track) -> TagKind {
    match track {
        Track::Video => TagKind::Video,
        Track::Audio => TagKind::Audio,
    }
}

/// The bodies that a decoder needs before the first frame: one per track, but for MP3, whose frames say it all.
pub fn sequence_headers(tracks: &TrackSet) -> impl Iterator<Item = (TagKind, Bytes)> {
    let video = tracks.video.as_deref().map(|video| (TagKind::Video, video_config(video)));
    let audio = tracks.audio.as_deref().and_then(audio_config).map(|body| (TagKind::Audio, body));
    video.into_iter().chain(audio)
}

fn video_config(config: &VideoConfig) -> Bytes {
    [video_head(SEQUENCE_HEADER, true, 0).as_ref(), &config.record].concat().into()
}

fn audio_config(config: &AudioConfig) -> Option<Bytes> {
    let AudioConfig::Aac(config) = config else { return None };
    Some([&[AAC_FORMAT, 0], &config.config[..]].concat().into())
}

/// `AVCPacketType` (FLV E.4.3.1).
const SEQUENCE_HEADER: u8 = 0;
const NAL_UNITS: u8 = 1;

fn video_head(packet_type: u8, keyframe: bool, composition_ms: i32) -> Head {
    const AVC: u8 = 7;
    let frame_type = if keyframe { 1 } else { 2 };
    let [_, a, b, c] = composition_ms.to_be_bytes();
    Head::new(&[frame_type << 4 | AVC, packet_type, a, b, c])
}

/// FLV E.4.2.1: for AAC the tag always says 44 kHz, 16 bits and stereo; the truth is in the config.
const AAC_FORMAT: u8 = 0xaf;

/// FLV E.4.2.1. There is no word for 48 or 32 kHz: players look at the frames.
fn mp3_format(sample_rate: u32, channels: u8) -> u8 {
    let (format, rate) = match sample_rate {
        8000 => (14, 0),
        ..11_025 => (2, 0),
        11_025..22_050 => (2, 1),
        22_050..44_100 => (2, 2),
        _ => (2, 3),
    };
    format << 4 | rate << 2 | 0b10 | u8::from(channels != 1)
}

/// The body of an `onMetaData` for these tracks (FLV E.5), without the `@setDataFrame` of a publisher. There is no
/// `duration`: players take it for the length of a file.
pub fn metadata(tracks: &TrackSet) -> Bytes {
    let mut properties = Properties::default();
    properties.boolean("hasVideo", tracks.video.is_some());
    properties.boolean("hasAudio", tracks.audio.is_some());
    if let Some(video) = &tracks.video {
        properties.number("width", video.width.into());
        properties.number("height", video.height.into());
        properties.number("videocodecid", 7.0);
        if let Some((num, den)) = video.frame_rate.filter(|(_, den)| *den > 0) {
            properties.number("framerate", f64::from(num) / f64::from(den));
        }
    }
    if let Some(audio) = &tracks.audio {
        let (id, sbr) = match &**audio {
            AudioConfig::Aac(config) => (10.0, config.sbr),
            AudioConfig::Mp3(_) => (2.0, false),
        };
        properties.number("audiocodecid", id);
        properties.number("audiosamplerate", f64::from(audio.sample_rate()) * if sbr { 2.0 } else { 1.0 });
        properties.number("audiosamplesize", 16.0);
        properties.boolean("stereo", audio.channels() != 1);
    }
    properties.finish()
}

/// An ECMA array in the making (AMF 0 specification, §2.10), in the order written: `rml_amf0` orders by chance.
#[derive(Default)]
struct Properties {
    count: u32,
    bytes: BytesMut,
}

impl Properties {
    fn number(&mut self, key: &str, value: f64) {
        self.key(key);
        self.bytes.put_u8(0);
        self.bytes.put_f64(value);
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.bytes.put_slice(&[1, value.into()]);
    }

    fn key(&mut self, key: &str) {
        self.count += 1;
        self.bytes.put_u16(key.len() as u16);
        self.bytes.put_slice(key.as_bytes());
    }

    fn finish(self) -> Bytes {
        let mut body = BytesMut::from(&b"\x02\0\x0aonMetaData\x08"[..]);
        body.put_u32(self.count);
        body.put_slice(&self.bytes);
        body.put_slice(&[0, 0, 9]);
        body.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{self as flv, Audio, Video};
    use super::*;
    use crate::media::aac::AacConfig;
    use crate::media::amf::{self, Value};
    use crate::media::mp3::Mp3Config;
    use crate::media::{Ticks, h264};

    /// Baseline 640x360 with one SPS and one PPS.
    fn video() -> Arc<h264::VideoConfig> {
        let sps = b"\x67\x42\xc0\x1e\xd9\x00\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x16\x2e\x48";
        let mut record = vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, sps.len() as u8];
        record.extend_from_slice(sps);
        record.extend_from_slice(&[1, 0, 4, 0x68, 0xcb, 0x83, 0xcb]);
        Arc::new(h264::VideoConfig::parse(record.into()).unwrap())
    }

    fn aac() -> Arc<AudioConfig> {
        Arc::new(AudioConfig::Aac(AacConfig::parse(Bytes::from_static(b"\x12\x10")).unwrap()))
    }

    fn mp3(sample_rate: u32, channels: u8) -> Arc<AudioConfig> {
        let config = Mp3Config { sample_rate, channels, samples_per_frame: 1152, lsf: false };
        Arc::new(AudioConfig::Mp3(config))
    }

    fn frame(track: Track, random_access: bool) -> Frame {
        let payload = Bytes::from_static(b"payload");
        Frame { track, dts: Ticks(0), pts: Ticks(0), random_access, payload }
    }

    fn body(frame: &Frame, tracks: &TrackSet, composition_ms: i32) -> Bytes {
        [frame_head(frame, tracks, composition_ms).as_ref(), &frame.payload].concat().into()
    }

    /// FLV E.4.3: our reader and, over HTTP, ffprobe and the players say the same.
    #[test]
    fn frames_read_as_written() {
        let tracks = TrackSet { video: Some(video()), audio: Some(aac()) };
        for composition_ms in [0, 40, -40, 0x7f_ffff, -0x80_0000] {
            for keyframe in [true, false] {
                let written = body(&frame(Track::Video, keyframe), &tracks, composition_ms);
                let payload = Bytes::from_static(b"payload");
                assert_eq!(flv::video(written), Ok(Video::AccessUnit { composition_ms, keyframe, payload }));
            }
        }
        let payload = Bytes::from_static(b"payload");
        let audio = frame(Track::Audio, true);
        assert_eq!(flv::audio(body(&audio, &tracks, 0)), Ok(Audio::Aac(payload.clone())));
        let tracks = TrackSet { video: None, audio: Some(mp3(48_000, 2)) };
        assert_eq!(flv::audio(body(&audio, &tracks, 0)), Ok(Audio::Mp3(payload)));
    }

    #[test]
    fn sequence_headers_hold_what_the_publisher_sent() {
        let tracks = TrackSet { video: Some(video()), audio: Some(aac()) };
        let headers: Vec<_> = sequence_headers(&tracks).collect();
        let [(TagKind::Video, avc), (TagKind::Audio, asc)] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!(flv::video(avc.clone()), Ok(Video::Config(video().record.clone())));
        assert_eq!(flv::audio(asc.clone()), Ok(Audio::AacConfig(Bytes::from_static(b"\x12\x10"))));
        let tracks = TrackSet { video: None, audio: Some(mp3(44_100, 2)) };
        assert_eq!(sequence_headers(&tracks).count(), 0);
    }

    /// FLV E.4.2.1: SoundFormat, SoundRate, SoundSize, SoundType.
    #[test]
    fn mp3_tags_say_rate_and_channels_as_far_as_they_can() {
        for (sample_rate, channels, expected) in [
            (44_100, 2, 0x2f),
            (44_100, 1, 0x2e),
            (48_000, 2, 0x2f),
            (32_000, 2, 0x2b),
            (22_050, 2, 0x2b),
            (11_025, 1, 0x26),
            (8000, 1, 0xe2),
        ] {
            let tracks = TrackSet { video: None, audio: Some(mp3(sample_rate, channels)) };
            let head = frame_head(&frame(Track::Audio, true), &tracks, 0);
            assert_eq!(head.as_ref(), [expected], "{sample_rate} {channels}");
        }
    }

    /// FLV E.2, E.4.1: sizes, the timestamp's extension, stream id 0, and the size of the tag before.
    #[test]
    fn a_tag_is_framed_byte_by_byte() {
        let mut out = BytesMut::new();
        tag(&mut out, TagKind::Video, 0x0102_0304, b"ab", b"cde");
        assert_eq!(&out[..], b"\x09\0\0\x05\x02\x03\x04\x01\0\0\0abcde\0\0\0\x10");
        for (tracks, flags) in [
            (TrackSet::default(), 0),
            (TrackSet { video: Some(video()), audio: None }, 1),
            (TrackSet { video: None, audio: Some(aac()) }, 4),
            (TrackSet { video: Some(video()), audio: Some(aac()) }, 5),
        ] {
            assert_eq!(file_header(&tracks), [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn metadata_tells_the_tracks_there_are() {
        let both = TrackSet { video: Some(video()), audio: Some(aac()) };
        for (tracks, told) in [
            (both.clone(), (true, true)),
            (TrackSet { audio: None, ..both.clone() }, (true, false)),
            (TrackSet { video: None, ..both }, (false, true)),
        ] {
            let body = metadata(&tracks);
            let read = flv::metadata(&body).unwrap().unwrap();
            assert_eq!((read.video, read.audio), told);
            let values = amf::read_all(&body).unwrap();
            let number = |key| values[1].property(key).and_then(Value::as_number);
            assert_eq!(values[1].property("hasAudio"), Some(&Value::Boolean(told.1)));
            assert_eq!(number("width"), tracks.video.as_ref().map(|video| video.width.into()));
            assert_eq!(number("audiosamplerate"), tracks.audio.as_ref().map(|_| 44_100.0));
        }
    }
}
