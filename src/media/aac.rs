//! AAC: the `AudioSpecificConfig` of RTMP and the ADTS header of MPEG-TS.

use bytes::Bytes;

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
