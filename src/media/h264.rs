//! H.264 as RTMP carries it: the AVC decoder configuration record and length-prefixed NAL units.

use std::fmt::Write;

use bytes::{Buf, Bytes};
use thiserror::Error;

use super::rate::FrameRate;
use super::sps::Sps;
pub use super::sps::SpsError;

/// What an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1) and its first SPS say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The record as it came, for FLV and MP4 output.
    pub record: Bytes,
    /// Sequence parameter sets, without start codes. At least one.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, without start codes. Empty where the encoder sends them in band only.
    pub pps: Vec<Bytes>,
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub nal_length_size: u8,
    /// RFC 6381: `avc1.PPCCLL` from SPS bytes 1 to 3, upper-case hex.
    pub codec: String,
    /// Displayed width in pixels, after cropping.
    pub width: u32,
    /// Displayed height in pixels, after cropping.
    pub height: u32,
    /// Frames per second as `(numerator, denominator)` where the VUI tells it, else `None`.
    pub frame_rate: Option<(u32, u32)>,
    /// How many pictures may precede one in decode order and follow it in output order: 0 where there are no
    /// B-frames (baseline, or the VUI says so), `None` where the SPS does not say.
    pub reorder: Option<u32>,
}

/// Why an AVC decoder configuration record was refused.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It ends inside a field.
    #[error("AVC configuration record of {len} bytes is cut short")]
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// §5.3.3.1.2: readers must not go on with a version they don't know.
    #[error("AVC configuration record has version {version}, not 1")]
    Version {
        /// What it says.
        version: u8,
    },
    /// NAL unit lengths of 3 bytes are not allowed.
    #[error("AVC configuration record asks for NAL unit lengths of 3 bytes")]
    LengthSize,
    /// There is no sequence parameter set, so nothing can be decoded.
    #[error("AVC configuration record has no sequence parameter set")]
    NoSps,
    /// A parameter set is a NAL unit of another type.
    #[error("AVC configuration record has a NAL unit of type {actual} where type {expected} belongs")]
    NalType {
        /// The type it has.
        actual: u8,
        /// 7 for an SPS, 8 for a PPS.
        expected: u8,
    },
    /// The first SPS makes no sense.
    #[error("AVC configuration record has a bad sequence parameter set")]
    Sps(#[from] SpsError),
}

impl VideoConfig {
    /// Reads an `AVCDecoderConfigurationRecord`. The profile-dependent fields after the parameter sets are not
    /// needed, and often missing.
    pub fn parse(record: Bytes) -> Result<Self, RecordError> {
        let len = record.len();
        let mut rest = record.clone();
        let Some([version, _, _, _, length_size, sps_count]) = record.first_chunk() else {
            return Err(RecordError::Short { len });
        };
        if *version != 1 {
            return Err(RecordError::Version { version: *version });
        }
        let nal_length_size = (length_size & 0b11) + 1;
        if nal_length_size == 3 {
            return Err(RecordError::LengthSize);
        }
        rest.advance(6);
        let sps = parameter_sets(&mut rest, sps_count & 0b1_1111, NalType::SPS, len)?;
        let pps_count = rest.try_get_u8().map_err(|_| RecordError::Short { len })?;
        let pps = parameter_sets(&mut rest, pps_count, NalType::PPS, len)?;
        let first = sps.first().ok_or(RecordError::NoSps)?;
        let parsed = Sps::parse(first)?;
        let mut codec = "avc1.".to_owned();
        for byte in first.iter().skip(1).take(3) {
            // Writing to a String does not fail.
            let _ = write!(codec, "{byte:02X}");
        }
        Ok(Self {
            nal_length_size,
            codec,
            width: parsed.width,
            height: parsed.height,
            frame_rate: parsed.frame_rate.map(FrameRate::as_fraction),
            reorder: parsed.reorder,
            record,
            sps,
            pps,
        })
    }
}

/// `count` sets, each behind 16 bits of length. Empty ones, which some encoders send, are left out.
fn parameter_sets(
    rest: &mut Bytes,
    count: u8,
    expected: NalType,
    record_len: usize,
) -> Result<Vec<Bytes>, RecordError> {
    let cut = || RecordError::Short { len: record_len };
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = usize::from(rest.try_get_u16().map_err(|_| cut())?);
        if rest.len() < len {
            return Err(cut());
        }
        let set = rest.split_to(len);
        let Some(header) = set.first() else { continue };
        let actual = NalType::of(*header);
        if actual != expected {
            return Err(RecordError::NalType { actual: actual.0, expected: expected.0 });
        }
        sets.push(set);
    }
    Ok(sets)
}

/// A NAL unit's `nal_unit_type` (ITU-T H.264 table 7-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NalType(pub u8);

impl NalType {
    /// A slice of a picture that is no IDR picture.
    pub const SLICE: Self = Self(1);
    /// A slice of an IDR picture.
    pub const IDR: Self = Self(5);
    /// Supplemental enhancement information.
    pub const SEI: Self = Self(6);
    /// Sequence parameter set.
    pub const SPS: Self = Self(7);
    /// Picture parameter set.
    pub const PPS: Self = Self(8);
    /// Access unit delimiter.
    pub const AUD: Self = Self(9);
    /// Filler data.
    pub const FILLER: Self = Self(12);
    /// Sequence parameter set extension.
    pub const SPS_EXTENSION: Self = Self(13);
    /// Subset sequence parameter set.
    pub const SUBSET_SPS: Self = Self(15);

    /// From the first byte of a NAL unit.
    pub const fn of(header: u8) -> Self {
        Self(header & 0b1_1111)
    }

    /// It carries a slice or a slice's partition (types 1 to 5): without one there is no picture.
    pub const fn is_slice(self) -> bool {
        matches!(self.0, 1..=5)
    }
}

/// A NAL unit's length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NalError {
    /// It says more than there is.
    #[error("NAL unit of {len} bytes overruns its access unit by {over} bytes")]
    Overrun {
        /// The length it says.
        len: usize,
        /// How many of them are missing.
        over: usize,
    },
    /// The access unit ends within a length.
    #[error("access unit ends after {have} of {want} bytes of a NAL unit's length")]
    Length {
        /// Bytes that are there.
        have: usize,
        /// `nal_length_size`.
        want: usize,
    },
}

/// The NAL units of an access unit, in order, each at least one byte long: those of length zero are skipped. Ends
/// after the first error.
pub fn nal_units(payload: &[u8], nal_length_size: u8) -> NalUnits<'_> {
    NalUnits { rest: payload, length_size: usize::from(nal_length_size.clamp(1, 4)) }
}

/// See [`nal_units`].
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> NalUnits<'a> {
    fn split(&mut self) -> Result<&'a [u8], NalError> {
        let want = self.length_size;
        let (length, rest) =
            self.rest.split_at_checked(want).ok_or(NalError::Length { have: self.rest.len(), want })?;
        let len = length.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (nal, rest) =
            rest.split_at_checked(len).ok_or_else(|| NalError::Overrun { len, over: len - rest.len() })?;
        self.rest = rest;
        Ok(nal)
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], NalError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.split() {
                Ok([]) => {}
                Ok(nal) => return Some(Ok(nal)),
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// What an access unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// A picture at which decoding may start.
    Idr,
    /// Any other picture.
    Other,
    /// No slice at all: parameter sets, SEI, delimiters or nothing.
    None,
}

/// Walks a whole access unit, so that whoever takes it later meets no error.
pub fn picture(payload: &[u8], nal_length_size: u8) -> Result<Picture, NalError> {
    let mut found = Picture::None;
    for nal in nal_units(payload, nal_length_size) {
        let Some(kind) = nal?.first().map(|header| NalType::of(*header)) else { continue };
        if kind == NalType::IDR {
            found = Picture::Idr;
        } else if kind.is_slice() && found == Picture::None {
            found = Picture::Other;
        }
    }
    Ok(found)
}

/// The access unit contains an IDR slice. FLV's keyframe flag says so too, but some encoders set it on any I
/// picture, and a segment that starts with one of those does not decode.
pub fn is_random_access(payload: &[u8], nal_length_size: u8) -> bool {
    matches!(picture(payload, nal_length_size), Ok(Picture::Idr))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// x264, High, 640x360 at 30, two B-frames: as ffmpeg's FLV muxer sends it.
    pub(crate) const RECORD: &[u8] = &[
        0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f,
        0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
        0x01, 0x00, 0x04, 0x68, 0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
    ];

    #[test]
    fn a_record_of_a_real_encoder_is_read() {
        let config = VideoConfig::parse(Bytes::from_static(RECORD)).unwrap();
        assert_eq!(config.codec, "avc1.64001E");
        assert_eq!((config.width, config.height), (640, 360));
        assert_eq!(config.frame_rate, Some((30, 1)));
        assert_eq!(config.reorder, Some(2));
        assert_eq!(config.nal_length_size, 4);
        assert_eq!(config.sps, [&RECORD[8..34]]);
        assert_eq!(config.pps, [&RECORD[37..41]]);
        assert_eq!(config.record, RECORD);
    }

    #[test]
    fn a_record_cut_anywhere_before_its_last_set_is_refused() {
        for len in 0..41 {
            let error = VideoConfig::parse(Bytes::from_static(&RECORD[..len])).unwrap_err();
            assert!(matches!(error, RecordError::Short { .. }), "{len}: {error}");
        }
        assert!(VideoConfig::parse(Bytes::from_static(&RECORD[..41])).is_ok());
    }

    /// ISO/IEC 14496-15 §5.3.3.1.2.
    #[test]
    fn a_record_that_breaks_its_rules_is_refused() {
        let refuse = |at: usize, byte: u8| {
            let mut record = RECORD.to_vec();
            record[at] = byte;
            VideoConfig::parse(record.into()).unwrap_err().to_string()
        };
        assert_eq!(refuse(0, 2), "AVC configuration record has version 2, not 1");
        assert_eq!(refuse(4, 0xfe), "AVC configuration record asks for NAL unit lengths of 3 bytes");
        assert_eq!(refuse(8, 0x68), "AVC configuration record has a NAL unit of type 8 where type 7 belongs");
        let empty = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe1, 0, 0, 0]);
        assert!(matches!(VideoConfig::parse(empty), Err(RecordError::NoSps)));
    }

    #[test]
    fn nal_units_come_in_order_and_empty_ones_do_not() {
        let rows = [
            (4, &[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 0, 0, 0, 0, 1, 0x65][..], vec![&[9, 0xf0][..], &[0x65]]),
            (2, &[0, 1, 0x41, 0, 0, 0, 1, 6], vec![&[0x41], &[6]]),
            (1, &[1, 0x41, 0], vec![&[0x41]]),
            (4, &[], vec![]),
        ];
        for (size, payload, units) in rows {
            let found: Result<Vec<_>, _> = nal_units(payload, size).collect();
            assert_eq!(found.unwrap(), units);
        }
    }

    #[test]
    fn a_length_past_the_end_is_an_error_with_its_numbers() {
        let mut units = nal_units(&[0, 0, 0, 9, 1, 2, 3], 4);
        assert_eq!(units.next(), Some(Err(NalError::Overrun { len: 9, over: 6 })));
        assert_eq!(units.next(), None, "it ends there");
        assert_eq!(nal_units(&[0, 0], 4).next(), Some(Err(NalError::Length { have: 2, want: 4 })));
        assert_eq!(
            nal_units(&[255; 5], 4).next(),
            Some(Err(NalError::Overrun { len: 0xffff_ffff, over: 0xffff_fffe }))
        );
    }

    /// ISO/IEC 13818-1 §2.1, H.264 table 7-1: only type 5.
    #[test]
    fn random_access_is_an_idr_slice_and_nothing_else() {
        assert!(is_random_access(&[0, 0, 0, 2, 6, 5, 0, 0, 0, 1, 0x65], 4));
        assert!(!is_random_access(&[0, 0, 0, 1, 0x41], 4), "an I picture with the keyframe flag is none");
        assert!(!is_random_access(&[0, 0, 0, 1, 0x65, 0, 0, 0, 9, 1], 4), "nor is a torn access unit");
        assert_eq!(picture(&[0, 0, 0, 1, 0x67, 0, 0, 0, 1, 6], 4), Ok(Picture::None));
    }

    proptest::proptest! {
        #[test]
        fn any_record_ends(record in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = VideoConfig::parse(record.into());
        }

        #[test]
        fn a_mutated_record_ends(at in 0..RECORD.len(), byte: u8) {
            let mut record = RECORD.to_vec();
            record[at] = byte;
            let _ = VideoConfig::parse(record.into());
        }

        /// What is written is what is read, and any bytes give only slices of themselves.
        #[test]
        fn nal_units_survive_framing(
            units in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 1..50), 0..10),
            junk in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
            size in 1_u8..5,
        ) {
            let mut payload = Vec::new();
            for unit in &units {
                payload.extend_from_slice(&(unit.len() as u32).to_be_bytes()[4 - usize::from(size)..]);
                payload.extend_from_slice(unit);
            }
            let read: Result<Vec<_>, _> = nal_units(&payload, size).collect();
            proptest::prop_assert_eq!(read.unwrap(), units);
            let total: usize = nal_units(&junk, size).flatten().map(<[u8]>::len).sum();
            proptest::prop_assert!(total <= junk.len());
        }
    }
}
