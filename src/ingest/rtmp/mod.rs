//! RTMP in.

pub mod server;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[rtmp]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where encoders connect.
    pub listen: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 1935)) }
    }
}
