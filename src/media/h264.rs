//! H.264 as RTMP carries it: the AVC decoder configuration record and length-prefixed NAL units.

use bytes::Bytes;

/// What an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1) and its first SPS say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    /// The record as it came, for FLV and MP4 output.
    pub record: Bytes,
    /// Sequence parameter sets, without start codes.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, without start codes.
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
