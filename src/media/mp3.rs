//! MP3: what a frame's own header says.

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
