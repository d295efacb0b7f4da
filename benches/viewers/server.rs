//! The servers under test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::common::Failure;
use crate::common::process::{Process, Usage, free_address};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// This crate's binary, built beside this bench.
    Grandstand,
    /// Node-Media-Server of the version in `package-lock.json`.
    NodeMediaServer,
}

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    process: Process,
    /// Where the publisher connects.
    pub(crate) rtmp: SocketAddr,
    /// Where viewers connect.
    pub(crate) http: SocketAddr,
}

impl Server {
    /// Starts it with everything it writes below `folder`.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self, Failure> {
        let (rtmp, http) = (free_address()?, free_address()?);
        let process = match kind {
            Kind::Grandstand => {
                Process::start(env!("CARGO_BIN_EXE_grandstand"), folder, &[rtmp, http], |command| {
                    command
                        .env("GRANDSTAND_RTMP_LISTEN", rtmp.to_string())
                        .env("GRANDSTAND_HTTP_LISTEN", http.to_string())
                        .env("GRANDSTAND_STORE_URL", folder.join("media"));
                })?
            }
            Kind::NodeMediaServer => {
                let main = installed()?;
                let config = folder.join("config.json");
                fs::write(&config, node_media_server_config(rtmp, http))?;
                Process::start("node", folder, &[rtmp, http], |command| {
                    command.arg(&main).arg("-c").arg(&config).env("NODE_ENV", "production");
                })?
            }
        };
        Ok(Self { process, rtmp, http })
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        self.process.usage()
    }
}

/// Node-Media-Server's program, fetched by npm the first time.
fn installed() -> Result<std::path::PathBuf, Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/viewers");
    let main = folder.join("node_modules/node-media-server/bin/app.js");
    if !main.exists() {
        let status = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&folder)
            .status()
            .map_err(|error| format!("npm does not run: {error}"))?;
        if !status.success() {
            return Err("npm could not install Node-Media-Server".into());
        }
    }
    Ok(main)
}

/// As it comes, but for its ports and what would write or serve more than broadcasts.
fn node_media_server_config(rtmp: SocketAddr, http: SocketAddr) -> String {
    format!(
        r#"{{
    "bind": "127.0.0.1",
    "store": {{ "path": "./data" }},
    "auth": {{ "play": false, "publish": false, "secret": "bench" }},
    "rtmp": {{ "port": {} }},
    "http": {{ "port": {} }},
    "record": {{ "auto": false, "path": "./record" }}
}}
"#,
        rtmp.port(),
        http.port()
    )
}
