//! The servers under test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::common::Failure;
use crate::common::process::{Process, Usage, free_address};

/// Where Debian's libnginx-mod-rtmp puts the module.
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// This crate's binary, built beside this bench.
    Grandstand,
    /// Debian's nginx with libnginx-mod-rtmp, HLS on.
    NginxRtmp,
}

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    process: Process,
    /// Where publishers connect.
    pub(crate) rtmp: SocketAddr,
    /// The folder of each broadcast is somewhere below.
    pub(crate) media: PathBuf,
}

impl Server {
    /// Starts it with everything it writes below `folder`.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self, Failure> {
        let rtmp = free_address()?;
        let media = folder.join("media");
        fs::create_dir_all(&media)?;
        let process = match kind {
            Kind::Grandstand => {
                let http = free_address()?;
                Process::start(env!("CARGO_BIN_EXE_grandstand"), folder, &[rtmp], |command| {
                    command
                        .env("GRANDSTAND_RTMP_LISTEN", rtmp.to_string())
                        .env("GRANDSTAND_HTTP_LISTEN", http.to_string())
                        .env("GRANDSTAND_STORE_URL", &media);
                })?
            }
            Kind::NginxRtmp => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nginx_config(rtmp, folder, &media)?)?;
                Process::start("nginx", folder, &[rtmp], |command| {
                    command.args(["-g", "daemon off;", "-p"]).arg(folder).arg("-c").arg(&config);
                })?
            }
        };
        Ok(Self { process, rtmp, media })
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        self.process.usage()
    }
}

fn nginx_config(rtmp: SocketAddr, folder: &Path, media: &Path) -> Result<String, Failure> {
    // Started by root, the worker would become a user that can't write here.
    let user = if fs::metadata(folder)?.uid() == 0 { "user root;" } else { "" };
    let (folder, media) = (folder.display(), media.display());
    Ok(format!(
        "load_module {NGINX_MODULE};
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
rtmp {{
    access_log off;
    server {{
        listen {rtmp};
        chunk_size 4096;
        application live {{
            live on;
            hls on;
            hls_path {media};
            hls_nested on;
            hls_fragment 2s;
            hls_playlist_length 60s;
        }}
    }}
}}
"
    ))
}
