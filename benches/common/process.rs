//! A server as a process: started alone on one core, measured through `/proc`, ended.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;

/// Clock ticks per second of the times in `/proc`: `USER_HZ`, 100 on every Linux that this runs on.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
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

impl Process {
    /// Runs `program` on core 0, with its output in `server.log` in `folder`, until it listens on all of `addresses`.
    /// `prepare` adds arguments and environment.
    pub(crate) fn start(
        program: &str,
        folder: &Path,
        addresses: &[SocketAddr],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", program]);
        prepare(&mut command);
        let log = fs::File::create(folder.join("server.log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut process = Self { child };
        let deadline = Instant::now() + Duration::from_secs(10);
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if Instant::now() > deadline || process.child.try_wait()?.is_some() {
                    let log = fs::read_to_string(folder.join("server.log"))?;
                    return Err(format!("{program} does not listen on {address}: {log}").into());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(process)
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

impl Drop for Process {
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

/// An address that nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// This process on core 1, away from the server's.
pub(crate) fn pin_self() {
    let pinned =
        Command::new("taskset").args(["-a", "-c", "-p", "1", &std::process::id().to_string()]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("cannot pin the load to core 1; the figures are less steady for it");
    }
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
pub(crate) fn times(pid: u32) -> Result<(f64, f64), Failure> {
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
