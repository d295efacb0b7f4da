//! The MPEG-TS muxer over mpeg2ts.
