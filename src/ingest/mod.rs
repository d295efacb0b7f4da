//! Ways in. Each turns its protocol into [`Event`](crate::media::Event)s and pushes them to the
//! [`Hub`](crate::live::Hub).

pub mod rtmp;
