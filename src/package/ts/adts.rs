//! The ADTS header before each AAC frame.

use super::MuxError;
use crate::media::aac::AacConfig;

/// Without CRC.
pub(super) const HEADER_LEN: usize = 7;

/// `aac_frame_length` has 13 bits and counts the header.
const FRAME_LEN_MAX: usize = (1 << 13) - 1;

/// By `sampling_frequency_index` (ISO/IEC 14496-3 table 1.18).
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// The header but for the frame length (ISO/IEC 13818-7 §6.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Adts([u8; HEADER_LEN]);

impl Adts {
    /// Refuses what the header has no bits for.
    pub(super) fn new(config: &AacConfig) -> Result<Self, MuxError> {
        let unfit = MuxError::NotAdts {
            object_type: config.object_type,
            sample_rate: config.sample_rate,
            channels: config.channels,
            samples_per_frame: config.samples_per_frame,
        };
        let profile = config.object_type.checked_sub(1).filter(|profile| *profile < 4);
        let rate = SAMPLE_RATES.iter().position(|rate| *rate == config.sample_rate);
        let channels = match config.channels {
            channels @ 0..=6 => Some(channels),
            8 => Some(7),
            _ => None,
        };
        let (Some(profile), Some(rate), Some(channels), 1024) =
            (profile, rate, channels, config.samples_per_frame)
        else {
            return Err(unfit);
        };
        // Sync word, MPEG-4, layer 0, no CRC; buffer fullness 0x7FF: variable rate; one raw data block.
        let third = profile << 6 | (rate as u8) << 2 | channels >> 2;
        Ok(Self([0xFF, 0xF1, third, channels << 6, 0, 0x1F, 0xFC]))
    }

    /// The header of a frame with `len` bytes of payload.
    pub(super) fn header(self, len: usize) -> Result<[u8; HEADER_LEN], MuxError> {
        let whole = len.saturating_add(HEADER_LEN);
        if whole > FRAME_LEN_MAX {
            return Err(MuxError::AacFrameTooLong { len });
        }
        let mut header = self.0;
        header[3] |= (whole >> 11) as u8;
        header[4] = (whole >> 3) as u8;
        header[5] |= (whole << 5) as u8;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn config(object_type: u8, sample_rate: u32, channels: u8) -> AacConfig {
        AacConfig {
            config: Bytes::new(),
            object_type,
            sample_rate,
            channels,
            samples_per_frame: 1024,
            sbr: false,
            ps: false,
        }
    }

    /// ISO/IEC 13818-7 §6.2, worked out by hand.
    #[test]
    fn the_header_says_profile_rate_channels_and_length() {
        let table: [(AacConfig, usize, [u8; 7]); 3] = [
            (config(2, 44_100, 2), 364, [0xFF, 0xF1, 0x50, 0x80, 0x2E, 0x7F, 0xFC]),
            (config(2, 48_000, 1), 1, [0xFF, 0xF1, 0x4C, 0x40, 0x01, 0x1F, 0xFC]),
            (config(1, 96_000, 8), 8184, [0xFF, 0xF1, 0x01, 0xC3, 0xFF, 0xFF, 0xFC]),
        ];
        for (config, len, header) in table {
            assert_eq!(Adts::new(&config).unwrap().header(len), Ok(header), "{config:?}");
        }
    }

    #[test]
    fn what_the_header_cannot_say_is_refused() {
        for (object_type, rate, channels) in
            [(0, 48_000, 2), (5, 48_000, 2), (42, 48_000, 2), (2, 48_001, 2), (2, 48_000, 7)]
        {
            assert!(Adts::new(&config(object_type, rate, channels)).is_err());
        }
        assert!(Adts::new(&AacConfig { samples_per_frame: 960, ..config(2, 48_000, 2) }).is_err());
        let adts = Adts::new(&config(2, 48_000, 2)).unwrap();
        assert_eq!(adts.header(8185), Err(MuxError::AacFrameTooLong { len: 8185 }));
        assert!(adts.header(usize::MAX).is_err());
    }
}
