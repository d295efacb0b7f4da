//! MP3: what a frame's own header says.

use thiserror::Error;

/// Parameters of an MPEG audio layer III stream (ISO/IEC 11172-3 §2.4.1.3, 13818-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mp3Config {
    /// In Hz.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// 1152 for MPEG-1, 576 for MPEG-2 and 2.5.
    pub samples_per_frame: u32,
    /// MPEG-2 or 2.5 ("low sampling frequencies"): another stream type in MPEG-TS.
    pub lsf: bool,
}

impl Mp3Config {
    /// `mp4a.40.34`: the form that hls.js and Safari know.
    pub fn codec(&self) -> String {
        "mp4a.40.34".to_owned()
    }
}

/// Why bytes are no MP3 frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Mp3Error {
    /// Fewer bytes than a header, or than the header says.
    #[error("MP3 frame of {len} bytes is cut short, {want} are needed")]
    Short {
        /// Bytes that are there.
        len: usize,
        /// Bytes that are needed.
        want: usize,
    },
    /// No sync word, another layer, a reserved value, or the free format, whose length nothing tells.
    #[error("not an MP3 frame header: {header:#010x}")]
    Header {
        /// The first four bytes.
        header: u32,
    },
}

/// ISO/IEC 11172-3 §2.4.2.3, layer III, in kbit/s; index 0 is the free format.
const KBITS: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
/// ISO/IEC 13818-3 §2.4.2.3, layer III.
const KBITS_LSF: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
/// ISO/IEC 11172-3 §2.4.2.3; MPEG-2 halves them, MPEG-2.5 quarters them.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

impl Mp3Config {
    /// Reads the header of the frame that `bytes` begin with: its parameters, and its length in bytes, all of which
    /// are there.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Mp3Error> {
        let len = bytes.len();
        let header = bytes.first_chunk().ok_or(Mp3Error::Short { len, want: 4 })?;
        let header = u32::from_be_bytes(*header);
        let (config, want) = Self::of_header(header).ok_or(Mp3Error::Header { header })?;
        if len < want { Err(Mp3Error::Short { len, want }) } else { Ok((config, want)) }
    }

    fn of_header(header: u32) -> Option<(Self, usize)> {
        const LAYER_III: u32 = 0b01;
        let field = |shift: u32, bits: u32| header >> shift & ((1 << bits) - 1);
        if field(21, 11) != 0x7ff || field(17, 2) != LAYER_III {
            return None;
        }
        let (lsf, divisor) = match field(19, 2) {
            0b11 => (false, 1),
            0b10 => (true, 2),
            0b00 => (true, 4),
            _ => return None,
        };
        let kbits = if lsf { &KBITS_LSF } else { &KBITS };
        let kbits = *kbits.get(field(12, 4) as usize)?;
        let sample_rate = RATES.get(field(10, 2) as usize)? / divisor;
        let samples_per_frame = if lsf { 576 } else { 1152 };
        let len = samples_per_frame / 8 * kbits * 1000 / sample_rate + field(9, 1);
        let channels = if field(6, 2) == 0b11 { 1 } else { 2 };
        (kbits > 0).then_some((Self { sample_rate, channels, samples_per_frame, lsf }, len as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ISO/IEC 11172-3 §2.4.2.3, §2.4.3.1; 13818-3 §2.4.2.3.
    #[test]
    fn a_header_tells_parameters_and_length() {
        for (header, rate, channels, samples, len) in [
            (0xfffb_9064_u32, 44_100, 2, 1152, 417),
            (0xfffb_9264, 44_100, 2, 1152, 418),
            (0xfffb_94c4, 48_000, 1, 1152, 384),
            (0xfff3_80c4, 22_050, 1, 576, 208),
            (0xffe3_18c4, 8000, 1, 576, 72),
        ] {
            let mut frame = header.to_be_bytes().to_vec();
            assert_eq!(Mp3Config::parse(&frame), Err(Mp3Error::Short { len: 4, want: len }));
            frame.resize(1000, 0);
            let config =
                Mp3Config { sample_rate: rate, channels, samples_per_frame: samples, lsf: samples == 576 };
            assert_eq!(Mp3Config::parse(&frame), Ok((config, len)), "{header:08x}");
        }
    }

    #[test]
    fn what_is_no_layer_iii_header_is_refused() {
        // No sync, layer II, reserved version, free format, reserved bitrate, reserved rate.
        for header in [0x4944_3304_u32, 0xfffd_9064, 0xffeb_9064, 0xfffb_0064, 0xfffb_f064, 0xfffb_9c64] {
            assert_eq!(Mp3Config::parse(&header.to_be_bytes()), Err(Mp3Error::Header { header }));
        }
        assert_eq!(Mp3Config::parse(&[0xff]), Err(Mp3Error::Short { len: 1, want: 4 }));
    }

    proptest::proptest! {
        /// A length is never zero, so that walking a payload by frames ends.
        #[test]
        fn any_bytes_give_a_length_that_moves_on(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), sync: bool) {
            let mut bytes = bytes;
            if let (true, Some(head)) = (sync, bytes.first_chunk_mut()) {
                *head = [0xff, 0xfb];
            }
            if let Ok((_, len)) = Mp3Config::parse(&bytes) {
                proptest::prop_assert!(len > 4 && len <= bytes.len());
            }
        }
    }
}
