//! `grandstand publish`: a real-time RTMP publisher over an FLV file.
