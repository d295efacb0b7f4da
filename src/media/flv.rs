//! FLV tag bodies: what an RTMP audio, video or data message holds. Here in, in [`mod@write`] out.

pub mod write;

use std::fmt;

use bytes::{Buf, Bytes};
use thiserror::Error;

use super::amf;

/// Which kind of message a tag came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// RTMP type 8.
    Audio,
    /// RTMP type 9.
    Video,
    /// RTMP type 18 (AMF0) or 15 (AMF3): `onMetaData` and the like.
    Data,
}

/// One FLV tag as RTMP carries it: no tag header, a raw timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Audio, video or data.
    pub kind: TagKind,
    /// Decode time in milliseconds, modulo 2^32, from the encoder's own start.
    pub timestamp_ms: u32,
    /// The tag's body.
    pub body: Bytes,
}

/// Why a tag's body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FlvError {
    /// It ends inside its own header.
    #[error("tag body of {len} bytes is cut short")]
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// It is well formed, but nobody here carries it.
    #[error("unsupported codec {0}")]
    Unsupported(Codec),
    /// A packet type that the format does not define.
    #[error("packet type {value} is not defined")]
    PacketType {
        /// What it says.
        value: u8,
    },
}

/// A codec as a tag names it: FLV's number, or the four characters of enhanced RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `CodecID` of a video tag (FLV E.4.3.1).
    Video(u8),
    /// `SoundFormat` of an audio tag (FLV E.4.2.1).
    Audio(u8),
    /// FOURCC of an enhanced RTMP tag.
    FourCc([u8; 4]),
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            // Escaped: these four bytes are a peer's, and a log is a terminal's.
            Self::FourCc(name) => return write!(f, "{}", name.escape_ascii()),
            Self::Video(2) => "H.263",
            Self::Video(3 | 6) => "screen video",
            Self::Video(4 | 5) => "VP6",
            Self::Video(12) => "HEVC",
            Self::Video(id) => return write!(f, "video {id}"),
            Self::Audio(0 | 3) => "PCM",
            Self::Audio(1) => "ADPCM",
            Self::Audio(4..=6) => "Nellymoser",
            Self::Audio(7 | 8) => "G.711",
            Self::Audio(11) => "Speex",
            Self::Audio(13) => "Opus",
            Self::Audio(id) => return write!(f, "audio {id}"),
        };
        f.write_str(name)
    }
}

/// What a video tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Video {
    /// An `AVCDecoderConfigurationRecord`.
    Config(Bytes),
    /// An access unit of length-prefixed NAL units.
    AccessUnit {
        /// Presentation less decode time in milliseconds; negative from some encoders.
        composition_ms: i32,
        /// FLV's keyframe flag. Encoders set it on I pictures too: no promise that decoding may start.
        keyframe: bool,
        /// The NAL units.
        payload: Bytes,
    },
    /// The end of a sequence, or a command to the player: nothing to carry.
    Nothing,
}

/// What an audio tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audio {
    /// An AAC `AudioSpecificConfig`.
    AacConfig(Bytes),
    /// One raw AAC frame.
    Aac(Bytes),
    /// MP3 frames, mostly one.
    Mp3(Bytes),
}

/// Reads a video tag's body (FLV E.4.3). The payload is a slice of it.
pub fn video(body: Bytes) -> Result<Video, FlvError> {
    const AVC: u8 = 7;
    const KEYFRAME: u8 = 1;
    const COMMAND: u8 = 5;
    const ENHANCED: u8 = 0x80;
    let short = FlvError::Short { len: body.len() };
    let mut rest = body;
    let first = rest.try_get_u8().map_err(|_| short)?;
    if first & ENHANCED != 0 {
        return Err(four_cc(&rest).map_or(short, FlvError::Unsupported));
    }
    let (frame_type, codec) = (first >> 4, first & 0b1111);
    if frame_type == COMMAND {
        return Ok(Video::Nothing);
    }
    if codec != AVC {
        return Err(FlvError::Unsupported(Codec::Video(codec)));
    }
    let packet_type = rest.try_get_u8().map_err(|_| short)?;
    let composition_ms = rest.try_get_int(3).map_err(|_| short)? as i32;
    match packet_type {
        0 => Ok(Video::Config(rest)),
        1 => Ok(Video::AccessUnit { composition_ms, keyframe: frame_type == KEYFRAME, payload: rest }),
        2 => Ok(Video::Nothing),
        value => Err(FlvError::PacketType { value }),
    }
}

/// Reads an audio tag's body (FLV E.4.2). The payload is a slice of it. Rate, size and channels of the tag are not
/// looked at: the frames say them, and the tag is often wrong.
pub fn audio(body: Bytes) -> Result<Audio, FlvError> {
    let short = FlvError::Short { len: body.len() };
    let mut rest = body;
    match rest.try_get_u8().map_err(|_| short)? >> 4 {
        2 | 14 => Ok(Audio::Mp3(rest)),
        9 => Err(four_cc(&rest).map_or(short, FlvError::Unsupported)),
        10 => match rest.try_get_u8().map_err(|_| short)? {
            0 => Ok(Audio::AacConfig(rest)),
            1 => Ok(Audio::Aac(rest)),
            value => Err(FlvError::PacketType { value }),
        },
        format => Err(FlvError::Unsupported(Codec::Audio(format))),
    }
}

fn four_cc(rest: &Bytes) -> Option<Codec> {
    rest.first_chunk().copied().map(Codec::FourCc)
}

/// What `onMetaData` says that the frames themselves don't, or say later.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MetaData {
    /// Frames per second.
    pub frame_rate: Option<f64>,
    /// There is going to be video.
    pub video: bool,
    /// There is going to be audio.
    pub audio: bool,
}

/// Reads a data tag's body; `None` for anything but `onMetaData`, with `@setDataFrame` before it or without.
pub fn metadata(body: &[u8]) -> Result<Option<MetaData>, amf::Error> {
    // RTMP type 15 puts one byte before the same AMF0, which then reads as a number's marker.
    let values =
        amf::read_all(if body.starts_with(&[0, 2]) { body.get(1..).unwrap_or_default() } else { body })?;
    let mut values = values.iter().skip_while(|value| value.as_str() != Some("onMetaData")).skip(1);
    let Some(properties) = values.next() else { return Ok(None) };
    let tells =
        |key| !matches!(properties.property(key), None | Some(amf::Value::Null | amf::Value::Undefined));
    Ok(Some(MetaData {
        frame_rate: properties.property("framerate").and_then(amf::Value::as_number),
        video: tells("videocodecid"),
        audio: tells("audiocodecid"),
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The body that [`video`] reads an access unit or a config from.
    pub(crate) fn video_body(packet_type: u8, keyframe: bool, composition_ms: i32, payload: &[u8]) -> Bytes {
        let mut body = vec![if keyframe { 0x17 } else { 0x27 }, packet_type];
        body.extend_from_slice(&composition_ms.to_be_bytes()[1..]);
        body.extend_from_slice(payload);
        body.into()
    }

    /// The body that [`audio`] reads AAC from.
    pub(crate) fn aac_body(packet_type: u8, payload: &[u8]) -> Bytes {
        [&[0xaf, packet_type], payload].concat().into()
    }

    /// FLV E.4.3.1, E.4.3.2: signed 24 bits of composition offset; both ways from the same row.
    #[test]
    fn video_tags_read_as_written() {
        for composition_ms in [0, 1, 67, -1, -67, 0x7f_ffff, -0x80_0000] {
            for keyframe in [false, true] {
                let body = video_body(1, keyframe, composition_ms, b"nal");
                let payload = Bytes::from_static(b"nal");
                assert_eq!(video(body.clone()), Ok(Video::AccessUnit { composition_ms, keyframe, payload }));
            }
        }
        assert_eq!(video(video_body(0, true, 0, b"avcC")), Ok(Video::Config(Bytes::from_static(b"avcC"))));
        assert_eq!(video(video_body(2, true, 0, b"")), Ok(Video::Nothing));
        assert_eq!(video(Bytes::from_static(&[0x57, 0])), Ok(Video::Nothing), "a seek command");
    }

    /// FLV E.4.2.1, E.4.2.2.
    #[test]
    fn audio_tags_read_as_written() {
        assert_eq!(audio(aac_body(0, b"\x12\x10")), Ok(Audio::AacConfig(Bytes::from_static(b"\x12\x10"))));
        assert_eq!(audio(aac_body(1, b"raw")), Ok(Audio::Aac(Bytes::from_static(b"raw"))));
        assert_eq!(audio(Bytes::from_static(b"\x2fmp3")), Ok(Audio::Mp3(Bytes::from_static(b"mp3"))));
        assert_eq!(audio(Bytes::from_static(b"\xe2mp3")), Ok(Audio::Mp3(Bytes::from_static(b"mp3"))));
    }

    #[test]
    fn a_payload_is_a_slice_of_its_message() {
        let body = video_body(1, true, 0, b"nal");
        let Ok(Video::AccessUnit { payload, .. }) = video(body.clone()) else { panic!("an access unit") };
        assert_eq!(payload.as_ptr(), body[5..].as_ptr());
    }

    #[test]
    fn an_unsupported_codec_is_named() {
        let video_rows: [(&[u8], &str); 5] = [
            (b"\x90hvc1....", "hvc1"),
            (b"\x81av01", "av01"),
            (b"\x90\x1b[2J", "\\x1b[2J"),
            (b"\x12.", "H.263"),
            (b"\x1c....", "HEVC"),
        ];
        for (body, name) in video_rows {
            let error = video(Bytes::from_static(body)).unwrap_err();
            assert_eq!(error.to_string(), format!("unsupported codec {name}"));
        }
        for (body, name) in
            [(&b"\x90Opus"[..], "Opus"), (b"\xb6.", "Speex"), (b"\x70.", "G.711"), (b"\xf0", "audio 15")]
        {
            let error = audio(Bytes::from_static(body)).unwrap_err();
            assert_eq!(error.to_string(), format!("unsupported codec {name}"));
        }
    }

    #[test]
    fn a_cut_or_undefined_tag_is_refused() {
        for len in 0..5 {
            assert_eq!(video(video_body(1, true, 0, b"").slice(..len)), Err(FlvError::Short { len }));
        }
        assert_eq!(video(Bytes::from_static(b"\x90hv")), Err(FlvError::Short { len: 3 }));
        assert_eq!(audio(Bytes::from_static(b"")), Err(FlvError::Short { len: 0 }));
        assert_eq!(audio(Bytes::from_static(b"\xaf")), Err(FlvError::Short { len: 1 }));
        assert_eq!(video(video_body(3, true, 0, b"")), Err(FlvError::PacketType { value: 3 }));
        assert_eq!(audio(aac_body(2, b"")), Err(FlvError::PacketType { value: 2 }));
    }

    /// `onMetaData` with a frame rate and one codec, as an ECMA array.
    pub(crate) fn metadata_body(frame_rate: f64, codecs: &[&str]) -> Bytes {
        let mut body = b"\x02\0\x0a".to_vec();
        body.extend_from_slice(b"onMetaData\x08\0\0\0\0");
        for (key, value) in codecs.iter().map(|key| (*key, 7.0)).chain([("framerate", frame_rate)]) {
            body.extend_from_slice(&(key.len() as u16).to_be_bytes());
            body.extend_from_slice(key.as_bytes());
            body.push(0);
            body.extend_from_slice(&value.to_be_bytes());
        }
        body.extend_from_slice(b"\0\0\x09");
        body.into()
    }

    #[test]
    fn metadata_is_found_in_each_of_its_wrappings() {
        let body = metadata_body(29.97, &["videocodecid"]);
        let told = Ok(Some(MetaData { frame_rate: Some(29.97), video: true, audio: false }));
        assert_eq!(metadata(&body), told);
        let set = b"\x02\0\x0d@setDataFrame";
        assert_eq!(metadata(&Bytes::from([&set[..], &body].concat())), told);
        assert_eq!(metadata(&Bytes::from([&b"\0"[..], set, &body].concat())), told);
        assert_eq!(metadata(&Bytes::from_static(b"\x02\0\x0aonTextData\x05")), Ok(None));
        assert_eq!(metadata(&Bytes::from_static(set)), Ok(None), "an RTMP library panics on this one");
        assert!(metadata(&body.slice(..20)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_body_ends(body in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let body = Bytes::from(body);
            let _ = (video(body.clone()), audio(body.clone()), metadata(&body));
        }

        #[test]
        fn mutated_metadata_ends(at: usize, byte: u8) {
            let mut body = metadata_body(25.0, &["videocodecid", "audiocodecid"]).to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = metadata(&body);
        }
    }
}
