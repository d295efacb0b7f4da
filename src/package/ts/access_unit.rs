//! One access unit as MPEG-TS wants it: Annex B, an access unit delimiter in front, parameter sets where decoding
//! may start.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;

use super::MuxError;
use crate::media::Frame;
use crate::media::h264::{NalType, VideoConfig, nal_units};

/// Four bytes everywhere: H.264 §B.1.2 asks for the extra zero before parameter sets and at the access unit's start.
const START_CODE: &[u8] = &[0, 0, 0, 1];

/// An access unit delimiter that allows any slice type (H.264 §7.3.2.4).
const DELIMITER: &[u8] = &[0x09, 0xF0];

/// A frame whose NAL units have been walked once: its lengths are right and its size in Annex B is known.
#[derive(Debug)]
pub(super) struct AccessUnit {
    pub(super) frame: Arc<Frame>,
    /// Bytes in Annex B, with what is put in front.
    pub(super) len: usize,
    has_sps: bool,
    has_pps: bool,
}

impl AccessUnit {
    /// Walks the frame. Refuses lengths that run over the end, and a frame in which nothing is left to decode.
    pub(super) fn parse(frame: &Arc<Frame>, config: &VideoConfig) -> Result<Self, MuxError> {
        let mut unit = Self { frame: Arc::clone(frame), len: 0, has_sps: false, has_pps: false };
        let mut empty = true;
        for nal in nal_units(&frame.payload, config.nal_length_size) {
            let kind = kind(nal?);
            unit.has_sps |= kind == Some(NalType::SPS);
            unit.has_pps |= kind == Some(NalType::PPS);
            empty &= kind.is_none_or(|kind| kind == NalType::AUD);
        }
        if empty {
            return Err(MuxError::NoNalUnits);
        }
        unit.len = unit.pieces(config).map(<[u8]>::len).sum();
        Ok(unit)
    }

    /// The bytes, in pieces.
    ///
    /// The order at a random access point is AUD, SPS, PPS, the rest (Apple's authoring specification, 7.4). The
    /// access unit's own parameter sets win over the configuration's and move before a leading SEI, where some
    /// encoders put them; a kind that it does not bring comes from the configuration. Every AUD of the input goes:
    /// x264 writes one behind an SEI, and hls.js lost data at such. Elsewhere the order stays as it came.
    pub(super) fn pieces<'a>(&'a self, config: &'a VideoConfig) -> impl Iterator<Item = &'a [u8]> {
        let start = self.frame.random_access;
        let sps = config.sps.iter().filter(move |_| start && !self.has_sps);
        let pps = config.pps.iter().filter(move |_| start && !self.has_pps);
        let own = || {
            nal_units(&self.frame.payload, config.nal_length_size)
                .map_while(Result::ok)
                .filter(|nal| kind(nal).is_some_and(|kind| kind != NalType::AUD))
        };
        iter::once(DELIMITER)
            .chain(sps.map(Bytes::as_ref))
            .chain(own().filter(move |nal| start && is_parameter_set(nal)))
            .chain(pps.map(Bytes::as_ref))
            .chain(own().filter(move |nal| !(start && is_parameter_set(nal))))
            .flat_map(|nal| [START_CODE, nal])
    }
}

/// Its `nal_unit_type`; `None` for an empty one, which Annex B cannot carry.
fn kind(nal: &[u8]) -> Option<NalType> {
    nal.first().map(|header| NalType::of(*header))
}

fn is_parameter_set(nal: &[u8]) -> bool {
    matches!(kind(nal), Some(NalType::SPS | NalType::PPS | NalType::SPS_EXTENSION | NalType::SUBSET_SPS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::h264::NalError;
    use crate::media::{Ticks, Track, sample};

    fn config() -> VideoConfig {
        VideoConfig {
            sps: vec![Bytes::from_static(&[0x67, 1])],
            pps: vec![Bytes::from_static(&[0x68, 2])],
            ..sample::video()
        }
    }

    fn frame(random_access: bool, payload: Vec<u8>) -> Arc<Frame> {
        Arc::new(Frame {
            track: Track::Video,
            dts: Ticks(0),
            pts: Ticks(0),
            random_access,
            payload: payload.into(),
        })
    }

    fn lengths(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), *nal].concat()).collect()
    }

    /// The NAL units behind their start codes.
    fn muxed(random_access: bool, nals: &[&[u8]]) -> Vec<Vec<u8>> {
        let unit = AccessUnit::parse(&frame(random_access, lengths(nals)), &config()).unwrap();
        let config = config();
        let pieces: Vec<_> = unit.pieces(&config).collect();
        assert_eq!(unit.len, pieces.concat().len());
        let (codes, nals): (Vec<_>, Vec<_>) =
            pieces.chunks(2).map(|pair| (pair[0], pair[1].to_vec())).unzip();
        assert!(codes.iter().all(|code| *code == START_CODE));
        nals
    }

    /// What is shown, random access, the NAL units that came, those that leave.
    type Row<'a> = (&'a str, bool, &'a [&'a [u8]], &'a [&'a [u8]]);

    /// TS.PARAMSETS, TS.AUD: what leaves for what came, by random access and NAL units.
    #[test]
    fn parameter_sets_and_delimiters_stand_where_apple_wants_them() {
        let (aud, sei, idr, slice) = (&[9u8, 0x10][..], &[6u8, 5][..], &[0x65u8, 1][..], &[0x41u8, 1][..]);
        let [sps, pps] = [&[0x67u8, 9][..], &[0x68u8, 9][..]];
        let (set, picture_set) = (&[0x67u8, 1][..], &[0x68u8, 2][..]);
        let delimiter = DELIMITER;
        #[rustfmt::skip]
        let table: &[Row] = &[
            ("sets from the configuration", true, &[idr], &[delimiter, set, picture_set, idr]),
            ("sets of its own", true, &[sps, pps, sei, idr], &[delimiter, sps, pps, sei, idr]),
            ("sets behind an SEI", true, &[sei, sps, pps, idr], &[delimiter, sps, pps, sei, idr]),
            ("only an SPS", true, &[sps, idr], &[delimiter, sps, picture_set, idr]),
            ("only a PPS", true, &[pps, idr], &[delimiter, set, pps, idr]),
            ("delimiters anywhere", true, &[sei, aud, sps, aud, pps, idr, aud], &[delimiter, sps, pps, sei, idr]),
            ("an empty NAL unit", true, &[&[], idr], &[delimiter, set, picture_set, idr]),
            ("no random access", false, &[aud, slice, slice], &[delimiter, slice, slice]),
            ("a PPS on the way", false, &[sei, pps, slice], &[delimiter, sei, pps, slice]),
        ];
        for (name, random_access, input, output) in table {
            assert_eq!(muxed(*random_access, input), *output, "{name}");
        }
    }

    #[test]
    fn broken_lengths_are_errors() {
        let parse = |payload: Vec<u8>| AccessUnit::parse(&frame(false, payload), &config()).unwrap_err();
        assert_eq!(parse(vec![0, 0, 0, 3, 1, 2]), MuxError::Nal(NalError::Overrun { len: 3, over: 1 }));
        assert_eq!(parse(vec![0, 0, 0, 1, 0x41, 0, 0]), MuxError::Nal(NalError::Length { have: 2, want: 4 }));
        assert_eq!(
            parse(vec![255; 4]),
            MuxError::Nal(NalError::Overrun { len: 0xFFFF_FFFF, over: 0xFFFF_FFFF })
        );
        assert_eq!(parse(vec![0; 8]), MuxError::NoNalUnits);
        assert_eq!(parse(vec![0, 0, 0, 2, 9, 0xF0]), MuxError::NoNalUnits);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>, random_access: bool, nal_length_size: u8) {
            let config = VideoConfig { nal_length_size, ..config() };
            if let Ok(unit) = AccessUnit::parse(&frame(random_access, payload), &config) {
                prop_assert_eq!(unit.len, unit.pieces(&config).map(<[u8]>::len).sum::<usize>());
            }
        }
    }
}
