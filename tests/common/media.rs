//! What a broadcast holds, read from FLV and from MPEG-TS in one form, so that both can be compared.
//!
//! Shares nothing with `ingest`, `media` and `package`. Parameter sets and access unit delimiters are left out: a
//! transport stream repeats them, FLV holds them apart.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every file of tests/ compiles its own copy and uses a part of it"
)]

use std::fmt;

use grandstand::media::flv::TagKind;
use grandstand::publish::FlvFile;
use sha2::{Digest, Sha256};

/// 90 kHz, as in transport streams.
pub const TICKS_PER_MS: i64 = 90;
/// AAC-LC has this many samples in a frame (ISO/IEC 14496-3 §4.5.2.1.1).
pub const AAC_SAMPLES: i64 = 1024;

/// One access unit or one audio frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Unit {
    /// In 90 kHz ticks.
    pub pts: i64,
    pub dts: i64,
    /// An IDR picture. True for audio.
    pub idr: bool,
    /// Of the NAL units with their lengths, or of the raw AAC frame.
    pub sha256: [u8; 32],
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.sha256;
        write!(f, "pts {} dts {} idr {} {a:02x}{b:02x}{c:02x}", self.pts, self.dts, self.idr)
    }
}

/// Both tracks in decoding order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    pub video: Vec<Unit>,
    pub audio: Vec<Unit>,
}

impl Media {
    /// H.264 and AAC of an FLV file (FLV specification, annex E.4).
    pub fn of_flv(file: &[u8]) -> Self {
        let file = FlvFile::read(&file.to_vec().into()).expect("an FLV file");
        let mut media = Self::default();
        for tag in file.tags() {
            let dts = i64::from(tag.timestamp_ms) * TICKS_PER_MS;
            match (tag.kind, tag.body.as_ref()) {
                (TagKind::Video, [_, 1, o2, o1, o0, units @ ..]) => {
                    // Composition offset: 24 bits, signed.
                    let offset_ms = i64::from(i32::from_be_bytes([*o2, *o1, *o0, 0]) >> 8);
                    let (idr, sha256) = digest(split_lengths(units));
                    media.video.push(Unit { pts: dts + offset_ms * TICKS_PER_MS, dts, idr, sha256 });
                }
                (TagKind::Audio, [0xa0..=0xaf, 1, frame @ ..]) => media.audio.push(audio(dts, frame)),
                _ => {}
            }
        }
        media
    }
}

/// An audio frame from its raw AAC bytes.
pub fn audio(at: i64, frame: &[u8]) -> Unit {
    Unit { pts: at, dts: at, idr: true, sha256: Sha256::digest(frame).into() }
}

/// Whether NAL units hold an IDR picture, and the hash of all that isn't an access unit delimiter or a parameter set.
pub fn digest<'a>(units: impl Iterator<Item = &'a [u8]>) -> (bool, [u8; 32]) {
    let mut hash = Sha256::new();
    let mut idr = false;
    for unit in units {
        // Zeros at the end belong to Annex B's start codes (ITU-T H.264 §B.1); a NAL unit never ends in one (§7.4.1).
        let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let unit = &unit[..end];
        // ITU-T H.264 table 7-1: 5 IDR slice, 7 SPS, 8 PPS, 9 access unit delimiter.
        match unit.first().map(|byte| byte & 0x1f) {
            None | Some(7..=9) => continue,
            Some(kind) => idr |= kind == 5,
        }
        hash.update((unit.len() as u32).to_be_bytes());
        hash.update(unit);
    }
    (idr, hash.finalize().into())
}

/// NAL units behind lengths of four bytes, which is what every encoder uses.
fn split_lengths(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (unit, after) = after.split_at(u32::from_be_bytes(*len) as usize);
        rest = after;
        Some(unit)
    })
}
