//! The servers under test: started alone on one core, measured through `/proc`.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// Clock ticks per second of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
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
    child: Child,
    /// Where publishers connect.
    pub(crate) rtmp: SocketAddr,
    /// The folder of each broadcast is somewhere below.
    pub(crate) media: PathBuf,
}

/// What the processes of a server have used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time in seconds.
    pub(crate) cpu_s: f64,
    /// The share of `cpu_s` that the kernel used for them.
    pub(crate) system_s: f64,
    /// Resident now, and at most.
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Server {
    /// Starts it on core 0 with everything it writes below `folder`.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self, Failure> {
        let rtmp = free_address()?;
        let media = folder.join("media");
        fs::create_dir_all(&media)?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match kind {
            Kind::Grandstand => {
                command
                    .arg(env!("CARGO_BIN_EXE_grandstand"))
                    .env("GRANDSTAND_RTMP_LISTEN", rtmp.to_string())
                    .env("GRANDSTAND_HTTP_LISTEN", free_address()?.to_string())
                    .env("GRANDSTAND_STORE_URL", &media);
            }
            Kind::NginxRtmp => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nginx_config(rtmp, folder, &media)?)?;
                command.args(["nginx", "-g", "daemon off;", "-p"]).arg(folder).arg("-c").arg(&config);
            }
        }
        let log = fs::File::create(folder.join("server.log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { child, rtmp, media };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(rtmp).is_err() {
            if Instant::now() > deadline || server.child.try_wait()?.is_some() {
                let log = fs::read_to_string(folder.join("server.log"))?;
                return Err(format!("{kind:?} does not listen on {rtmp}: {log}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// What it and its children have used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        let mut usage = Usage::default();
        for pid in tree(self.child.id())? {
            let (user, system) = times(pid)?;
            usage.cpu_s += (user + system) / TICKS_PER_SECOND;
            usage.system_s += system / TICKS_PER_SECOND;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let kib = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
            };
            usage.rss_kib += kib("VmRSS");
            usage.peak_kib += kib("VmHWM");
        }
        Ok(usage)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM first: nginx's master would leave its worker behind if it were killed.
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(12);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A process and all below it.
fn tree(root: u32) -> Result<Vec<u32>, Failure> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended since the folder was listed.
        let parent = stat(pid).ok().and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(above) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(tree)
}

/// User and system time in clock ticks, of living and ended threads alike.
fn times(pid: u32) -> Result<(f64, f64), Failure> {
    let fields = stat(pid)?;
    let number =
        |at: usize| fields.get(at).and_then(|field| field.parse().ok()).ok_or("no time in /proc/PID/stat");
    Ok((number(11)?, number(12)?))
}

/// The fields of `/proc/PID/stat` behind the name, from the state on (proc(5)).
fn stat(pid: u32) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
