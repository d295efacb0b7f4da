//! AAC: the `AudioSpecificConfig` of RTMP and the ADTS header of MPEG-TS.

use bytes::Bytes;
use thiserror::Error;

/// What an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AacConfig {
    /// The config as it came, for FLV and MP4 output.
    pub config: Bytes,
    /// Audio object type of the core: 2 is LC. (5 and 29 only announce SBR and PS over it.)
    pub object_type: u8,
    /// Core sampling rate in Hz; half the output's for HE-AAC.
    pub sample_rate: u32,
    /// Channels; 0 where a program config element says it.
    pub channels: u8,
    /// 1024, or 960 with `frameLengthFlag`.
    pub samples_per_frame: u32,
    /// SBR is signalled explicitly, at twice the rate: HE-AAC.
    pub sbr: bool,
    /// PS is signalled explicitly: HE-AAC v2.
    pub ps: bool,
}

impl AacConfig {
    /// `mp4a.40.2`, `mp4a.40.5` with SBR, `mp4a.40.29` with PS.
    pub fn codec(&self) -> String {
        let kind = if self.ps {
            29
        } else if self.sbr {
            5
        } else {
            self.object_type
        };
        format!("mp4a.40.{kind}")
    }
}

/// Why an `AudioSpecificConfig`, or an ADTS header for it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AacError {
    /// It ends inside a field.
    #[error("AAC configuration of {len} bytes is cut short")]
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// Only Main, LC, SSR and LTP have ADTS headers, and so a place in MPEG-TS as stream type 0x0F.
    #[error("unsupported AAC object type {object_type}")]
    ObjectType {
        /// ISO/IEC 14496-3 table 1.17.
        object_type: u8,
    },
    /// A reserved index, or a rate outside of what AAC knows.
    #[error("AAC configuration has no usable sampling rate, index {index}, {rate} Hz")]
    SampleRate {
        /// `samplingFrequencyIndex`.
        index: u8,
        /// In Hz, 0 for a reserved index.
        rate: u32,
    },
    /// ADTS has three bits for it, and 0 needs a program config element in every frame.
    #[error("unsupported AAC channel configuration {value}")]
    Channels {
        /// `channelConfiguration`.
        value: u8,
    },
    /// ADTS has no word for it.
    #[error("an ADTS header cannot tell {what} {value}")]
    Adts {
        /// Which property.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// ADTS has 13 bits for header and frame.
    #[error("AAC frame of {len} bytes is too long for an ADTS header, the most is {max}")]
    FrameLength {
        /// Its length in bytes.
        len: usize,
        /// The longest.
        max: usize,
    },
}

/// ISO/IEC 14496-3 table 1.18.
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

const SBR: u8 = 5;
const PS: u8 = 29;

/// An ADTS header without CRC.
pub const ADTS_HEADER_LEN: usize = 7;

impl AacConfig {
    /// Reads an `AudioSpecificConfig`: hierarchic and backward compatible signalling of SBR and PS, escape values,
    /// explicit rates. What follows the part that is understood is ignored.
    pub fn parse(config: Bytes) -> Result<Self, AacError> {
        let short = AacError::Short { len: config.len() };
        let mut bits = Bits { bytes: &config, at: 0 };
        let mut object_type = bits.object_type().ok_or(short)?;
        let sample_rate = bits.sample_rate().ok_or(short)??;
        let channel_configuration = bits.take(4).ok_or(short)? as u8;
        let (mut sbr, mut ps) = (false, false);
        if object_type == SBR || object_type == PS {
            (sbr, ps) = (true, object_type == PS);
            bits.sample_rate().ok_or(short)??;
            object_type = bits.object_type().ok_or(short)?;
        }
        if !(1..=4).contains(&object_type) {
            return Err(AacError::ObjectType { object_type });
        }
        let channels = match channel_configuration {
            value @ 0..=6 => value,
            7 => 8,
            value => return Err(AacError::Channels { value }),
        };
        let samples_per_frame = if bits.flag().ok_or(short)? { 960 } else { 1024 };
        // A program config element may stand before the extension; who sends one does not mean HE-AAC for TS.
        if !sbr && channels != 0 {
            (sbr, ps) = bits.extension().unwrap_or_default();
        }
        Ok(Self { config, object_type, sample_rate, channels, samples_per_frame, sbr, ps })
    }

    /// The header that stands before a raw frame of `frame_len` bytes in MPEG-TS (ISO/IEC 13818-7 §6.2, with the
    /// MPEG-4 bit as 14496-3 §1.A.2 has it). SBR and PS stay implicit: the profile is the core's.
    pub fn adts_header(&self, frame_len: usize) -> Result<[u8; ADTS_HEADER_LEN], AacError> {
        const LEN_MAX: usize = (1 << 13) - 1;
        if frame_len > LEN_MAX - ADTS_HEADER_LEN {
            return Err(AacError::FrameLength { len: frame_len, max: LEN_MAX - ADTS_HEADER_LEN });
        }
        if self.samples_per_frame != 1024 {
            return Err(AacError::Adts { what: "samples per frame", value: self.samples_per_frame });
        }
        let rate = RATES.iter().position(|rate| *rate == self.sample_rate);
        let rate = rate.ok_or(AacError::Adts { what: "sampling rate", value: self.sample_rate })? as u8;
        let channels = if self.channels == 8 { 7 } else { self.channels };
        let profile = self.object_type.wrapping_sub(1) & 0b11;
        let len = (frame_len + ADTS_HEADER_LEN) as u16;
        Ok([
            0xff,
            0xf1,
            profile << 6 | rate << 2 | channels >> 2,
            (channels & 0b11) << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            ((len & 0b111) as u8) << 5 | 0b1_1111,
            // Buffer fullness 0x7FF: variable bitrate. One raw data block.
            0b1111_1100,
        ])
    }
}

/// Big-endian bits; `None` at the end.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for at in self.at..self.at + count {
            let byte = self.bytes.get(at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - at % 8) & 1);
        }
        self.at += count;
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// `GetAudioObjectType`: 31 escapes to 6 more bits.
    fn object_type(&mut self) -> Option<u8> {
        let kind = self.take(5)?;
        Some(if kind == 31 { 32 + self.take(6)? } else { kind } as u8)
    }

    /// Index 15 escapes to 24 bits of Hz.
    fn sample_rate(&mut self) -> Option<Result<u32, AacError>> {
        let index = self.take(4)? as u8;
        let rate = if index == 15 { self.take(24)? } else { *RATES.get(usize::from(index)).unwrap_or(&0) };
        let known = (7350..=96_000).contains(&rate);
        Some(if known { Ok(rate) } else { Err(AacError::SampleRate { index, rate }) })
    }

    /// The rest of `GASpecificConfig` and the backward compatible extension (§1.6.6.2.1): SBR, PS.
    fn extension(&mut self) -> Option<(bool, bool)> {
        const SBR_SYNC: u32 = 0x2b7;
        const PS_SYNC: u32 = 0x548;
        if self.flag()? {
            self.take(14)?; // coreCoderDelay
        }
        self.flag()?; // extensionFlag: no meaning for these object types
        if self.take(11)? != SBR_SYNC || self.object_type()? != SBR || !self.flag()? {
            return None;
        }
        // A rate that is nonsense cannot take back what has been said.
        let _ = self.sample_rate()?;
        let ps = self.take(11) == Some(PS_SYNC) && self.flag() == Some(true);
        Some((true, ps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &[u8]) -> Result<AacConfig, AacError> {
        AacConfig::parse(Bytes::copy_from_slice(config))
    }

    /// ISO/IEC 14496-3 §1.6.2.1, §1.6.5 (signalling of SBR), §1.6.6 (of PS).
    #[test]
    #[rustfmt::skip]
    fn every_kind_of_signalling_is_read() {
        //    bytes, core rate, channels, samples per frame, codec
        let rows: [(&[u8], u32, u8, u32, &str); 12] = [
            (&[0x12, 0x10],                               44_100, 2, 1024, "mp4a.40.2"),
            (&[0x11, 0x90],                               48_000, 2, 1024, "mp4a.40.2"),
            (&[0x12, 0x08, 0x56, 0xe5, 0x00],             44_100, 1, 1024, "mp4a.40.2"),  // extension: SBR absent
            (&[0x13, 0x90, 0x56, 0xe5, 0xa0],             22_050, 2, 1024, "mp4a.40.5"),  // backward compatible
            (&[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80], 22_050, 1, 1024, "mp4a.40.29"),
            (&[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x00], 22_050, 1, 1024, "mp4a.40.5"),  // PS told absent
            (&[0x2b, 0x92, 0x08, 0x00],                   22_050, 2, 1024, "mp4a.40.5"),  // hierarchic
            (&[0xeb, 0x8a, 0x08, 0x00],                   22_050, 1, 1024, "mp4a.40.29"),
            (&[0x12, 0x14],                               44_100, 2,  960, "mp4a.40.2"),
            (&[0x12, 0x00],                               44_100, 0, 1024, "mp4a.40.2"),
            (&[0x12, 0x38],                               44_100, 8, 1024, "mp4a.40.2"),
            (&[0x17, 0x80, 0x56, 0x22, 0x10],             44_100, 2, 1024, "mp4a.40.2"),  // explicit rate
        ];
        for (bytes, rate, channels, samples, codec) in rows {
            let config = parse(bytes).unwrap();
            let read = (config.sample_rate, config.channels, config.samples_per_frame, config.codec());
            assert_eq!(read, (rate, channels, samples, codec.to_owned()), "{bytes:02x?}");
            assert_eq!(config.config, bytes);
            assert_eq!(config.object_type, 2, "the core is LC");
        }
    }

    #[test]
    fn what_cannot_be_carried_is_refused_by_name() {
        assert_eq!(parse(&[]), Err(AacError::Short { len: 0 }));
        assert_eq!(parse(&[0x12]), Err(AacError::Short { len: 1 }));
        assert_eq!(parse(&[0xf8, 0xe8, 0x50, 0]), Err(AacError::ObjectType { object_type: 39 }));
        assert_eq!(parse(&[0x16, 0x90]), Err(AacError::SampleRate { index: 13, rate: 0 }));
        assert_eq!(parse(&[0x17, 0x80, 0, 0, 0x10]), Err(AacError::SampleRate { index: 15, rate: 0 }));
        assert_eq!(parse(&[0x12, 0x58]), Err(AacError::Channels { value: 11 }));
    }

    /// ISO/IEC 13818-7 §6.2: fixed and variable header, worked out by hand from the tables.
    #[test]
    fn an_adts_header_says_the_core_and_the_length() {
        let lc = parse(&[0x12, 0x10]).unwrap();
        assert_eq!(lc.adts_header(364), Ok([0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]));
        let he = parse(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        assert_eq!(he.adts_header(0), Ok([0xff, 0xf1, 0x5c, 0x80, 0x00, 0xff, 0xfc]));
        assert_eq!(lc.adts_header(8184), Ok([0xff, 0xf1, 0x50, 0x83, 0xff, 0xff, 0xfc]));
        assert_eq!(lc.adts_header(8185), Err(AacError::FrameLength { len: 8185, max: 8184 }));
        let odd = parse(&[0x17, 0x80, 0x56, 0x23, 0x10]);
        let error = AacError::Adts { what: "sampling rate", value: 44_102 };
        assert_eq!(odd.unwrap().adts_header(1), Err(error));
        assert!(parse(&[0x12, 0x14]).unwrap().adts_header(1).is_err(), "960 samples have no ADTS form");
    }

    proptest::proptest! {
        #[test]
        fn any_config_ends(config in proptest::collection::vec(proptest::num::u8::ANY, 0..40), len: u16) {
            if let Ok(config) = parse(&config) {
                let _ = config.adts_header(usize::from(len));
                proptest::prop_assert!(config.sample_rate >= 7350);
            }
        }
    }
}
