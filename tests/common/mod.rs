//! A real origin for tests: the built binary as a process of its own, on ports from the kernel, with a store of its own.
#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "every file of tests/ compiles its own copy and uses a part of it, and a failing test prints its origin's log"
)]

pub mod http;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything that should be quick may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The binary under test, with no setting from the environment it is run in.
pub fn grandstand() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grandstand"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRANDSTAND_"))
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end. It is killed, and the test fails, if that takes longer than [`SOON`].
pub fn run(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let ended = poll(SOON, || child.try_wait().expect("a child can be waited for"));
    if ended.is_none() {
        child.kill().expect("a child can be killed");
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(ended.is_some(), "{command:?} did not end: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Asks `probe` until it answers, for at most `limit`.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// How an origin is started.
pub struct Builder {
    command: Command,
}

impl Builder {
    /// A setting by its variable: `("GRANDSTAND_HLS_SEGMENT", "1s")`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// A flag or any other argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Starts it with a store in a new folder.
    pub fn start(self) -> Origin {
        self.start_on(Arc::new(tempfile::tempdir().expect("a temporary folder")))
    }

    /// Starts it on a store that is there already, as a restart does.
    ///
    /// # Panics
    /// When it does not listen within [`SOON`]; the message has its log.
    pub fn start_on(mut self, store: Arc<TempDir>) -> Origin {
        self.command
            .env("GRANDSTAND_STORE_URL", store.path())
            .env("GRANDSTAND_LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for name in ["GRANDSTAND_RTMP_LISTEN", "GRANDSTAND_HTTP_LISTEN"] {
            if !self.command.get_envs().any(|(set, value)| set == name && value.is_some()) {
                self.command.env(name, "127.0.0.1:0");
            }
        }
        let mut child = self.command.spawn().expect("the origin starts");
        let log = Log::default();
        log.follow(child.stderr.take().expect("standard error is a pipe"));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on the process is killed whatever happens.
        let mut origin = Origin { child, log, store, rtmp: nowhere, http: nowhere };
        let listening = origin.log.wait("listening");
        let address = |field: &str| listening[field].as_str().and_then(|text| text.parse().ok());
        origin.rtmp = address("rtmp").expect("`listening` has an rtmp address");
        origin.http = address("http").expect("`listening` has an http address");
        origin
    }
}

/// A running origin. Dropping it kills the process and, if nobody else holds it, removes its store.
pub struct Origin {
    child: Child,
    /// What it has logged.
    pub log: Log,
    store: Arc<TempDir>,
    rtmp: SocketAddr,
    http: SocketAddr,
}

impl Origin {
    /// One with the defaults, but for ports and store.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// One with settings.
    pub fn builder() -> Builder {
        Builder { command: grandstand() }
    }

    /// Where encoders connect.
    pub fn rtmp(&self) -> SocketAddr {
        self.rtmp
    }

    /// Where viewers connect.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// `rtmp://…/live/mark` for `live/mark`.
    pub fn rtmp_url(&self, name: &str) -> String {
        format!("rtmp://{}/{name}", self.rtmp)
    }

    /// `http://…/live/mark/index.m3u8` for `/live/mark/index.m3u8`.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The answer to a GET.
    pub fn get(&self, path: &str) -> http::Response {
        http::request(self.http, "GET", path, &[])
    }

    /// Its store's folder, to look into.
    pub fn folder(&self) -> &Path {
        self.store.path()
    }

    /// Its store, to start another origin on.
    pub fn store(&self) -> Arc<TempDir> {
        Arc::clone(&self.store)
    }

    /// Its process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name])
            .arg(self.pid().to_string())
            .status();
        assert!(sent.expect("sh runs").success(), "no process to signal");
    }

    /// How it ended, if it does so within `limit`.
    pub fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        poll(limit, || self.child.try_wait().expect("a child can be waited for"))
    }

    /// Stops it as a service manager does.
    ///
    /// # Panics
    /// When it has not ended within the 10 s that it promises.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let ended = self.ended(Duration::from_secs(10));
        ended.unwrap_or_else(|| panic!("the origin did not stop within 10 s:\n{}", self.log.text()))
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is what is wanted.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the origin's log:\n{}", self.log.text());
        }
    }
}

/// The log of a running origin, in JSON lines. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    closed: bool,
}

impl Log {
    fn follow(&self, pipe: impl std::io::Read + Send + 'static) {
        let shared = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                shared.lock().lines.push(line);
            }
            shared.lock().closed = true;
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every event so far with this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.lock();
        let events = lines.lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// The first event with this message, as soon as it is there.
    ///
    /// # Panics
    /// When it does not come within [`SOON`], or the process ends before.
    pub fn wait(&self, message: &str) -> Value {
        let found = poll(SOON, || {
            let closed = self.lock().closed;
            let event = self.events(message).into_iter().next();
            if event.is_none() && !closed { None } else { Some(event) }
        });
        found.flatten().unwrap_or_else(|| panic!("the origin never logged {message:?}:\n{}", self.text()))
    }

    /// All lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lock().lines {
            writeln!(text, "{line}").expect("a String takes every write");
        }
        text
    }
}
