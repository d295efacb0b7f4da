//! Elementary streams: access units in Annex B (ITU-T H.264 §7.3, §B.1), frames of AAC in ADTS and of MPEG audio.

/// `nal_unit_type` (table 7-1).
pub const IDR: u8 = 5;
pub const SEI: u8 = 6;
pub const SPS: u8 = 7;
pub const PPS: u8 = 8;
pub const AUD: u8 = 9;

/// NAL units with the bytes behind their start codes.
pub fn units(data: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(zero) = data[at..].windows(3).position(|three| three == [0, 0, 1]) {
        starts.push(at + zero);
        at += zero + 3;
    }
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &data[start + 3..end];
        // Zeros before the next start code are not part of a NAL unit, which never ends in one (§7.4.1).
        &unit[..unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
    };
    starts.iter().zip(ends).map(unit).filter(|unit| !unit.is_empty()).collect()
}

/// The type of a NAL unit.
pub fn kind(unit: &[u8]) -> u8 {
    unit[0] & 0x1f
}

/// A slice with `first_mb_in_slice` 0: a picture begins. (Exp-Golomb: a 1 bit means 0.)
pub fn begins_picture(unit: &[u8]) -> bool {
    matches!(kind(unit), 1 | IDR) && unit.get(1).is_some_and(|byte| byte & 0x80 != 0)
}

/// `avc1.PPCCLL` from the three bytes behind the SPS's type (RFC 6381 §3.3).
pub fn codec(sps: &[u8]) -> String {
    match sps {
        [_, profile, constraints, level, ..] => format!("avc1.{profile:02X}{constraints:02X}{level:02X}"),
        _ => "avc1".to_owned(),
    }
}

/// One audio frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    pub rate: i64,
    pub samples: i64,
    pub len: usize,
    /// As RFC 6381 writes it.
    pub codec: &'static str,
}

/// All audio frames of a PES packet. `None` if it is not made of whole frames.
pub fn sounds(mut data: &[u8], aac: bool) -> Option<Vec<Sound>> {
    let mut sounds = Vec::new();
    while !data.is_empty() {
        let sound = if aac { adts(data)? } else { mpeg(data)? };
        data = data.get(sound.len..)?;
        sounds.push(sound);
    }
    Some(sounds)
}

/// ISO/IEC 14496-3 §1.A.2.2.
fn adts(data: &[u8]) -> Option<Sound> {
    const RATES: [i64; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
    ];
    let [0xff, b1, b2, b3, b4, b5, _, ..] = *data else { return None };
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5) >> 5;
    // Layer 0; longer than its header.
    (b1 & 0xf6 == 0xf0 && len > 7).then_some(())?;
    let codec = match b2 >> 6 {
        0 => "mp4a.40.1",
        1 => "mp4a.40.2",
        _ => "mp4a.40",
    };
    Some(Sound { rate: *RATES.get(usize::from(b2 >> 2 & 15))?, samples: 1024, len, codec })
}

/// ISO/IEC 11172-3 §2.4.2.3: layer III of MPEG-1.
fn mpeg(data: &[u8]) -> Option<Sound> {
    const KBITS: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    let [0xff, b1, b2, _, ..] = *data else { return None };
    (b1 & 0xfe == 0xfa).then_some(())?;
    let rate = *[44_100_i64, 48_000, 32_000].get(usize::from(b2 >> 2 & 3))?;
    let kbits = *KBITS.get(usize::from(b2 >> 4))?;
    let len = 144 * kbits * 1000 / rate as usize + usize::from(b2 >> 1 & 1);
    Some(Sound { rate, samples: 1152, len, codec: "mp4a.40.34" })
}
