//! Parameters of an ordinary broadcast, for tests to start from.

use bytes::Bytes;

use super::aac::AacConfig;
use super::h264::VideoConfig;

/// 640x360, High profile, nothing told of its rate and reordering.
pub(crate) fn video() -> VideoConfig {
    VideoConfig {
        record: Bytes::new(),
        sps: Vec::new(),
        pps: Vec::new(),
        nal_length_size: 4,
        codec: "avc1.64001F".to_owned(),
        width: 640,
        height: 360,
        frame_rate: None,
        reorder: None,
    }
}

/// LC at 48 kHz, stereo.
pub(crate) fn aac() -> AacConfig {
    AacConfig {
        config: Bytes::new(),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        samples_per_frame: 1024,
        sbr: false,
        ps: false,
    }
}
