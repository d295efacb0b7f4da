//! The MPEG-TS muxer over mpeg2ts.
use crate::media::{Frame, TrackSet};
use bytes::Bytes;
use std::sync::Arc;
#[derive(Debug)]
pub struct SegmentMuxer {}
impl SegmentMuxer {
    pub fn new(_tracks: Arc<TrackSet>, _capacity: usize) -> Self {
        Self {}
    }
    pub fn push(&mut self, _frame: &Arc<Frame>) -> Result<(), ()> {
        Ok(())
    }
    pub fn finish(self) -> Bytes {
        Bytes::from_static(b"x")
    }
}
