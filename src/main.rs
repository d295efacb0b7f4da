//! The `grandstand` command.
//!
//! Exit codes: 0 all well, 1 could not start or did not stop cleanly, 2 wrong usage or configuration. What went wrong
//! is one line on standard error.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use grandstand::app::App;
use grandstand::clock::Clock;
use grandstand::config::{Config, ConfigError, log};
use grandstand::publish;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// An HLS-first live origin: RTMP in, MPEG-TS segments and playlists out.
///
/// Without arguments it serves: encoders push to rtmp://HOST/live/NAME, viewers open http://HOST:8000/.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

const AFTER_HELP: &str = "\
Every setting of the file can also be given in the environment, as GRANDSTAND_<SECTION>_<KEY>
(GRANDSTAND_HLS_WINDOW=120s). Flags go over the environment, which goes over the file.
Exit codes: 0 all well, 1 could not start or did not stop cleanly, 2 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the origin (what happens without a command, too)
    Serve(Serve),
    /// Read a configuration file and say whether it can be used
    CheckConfig {
        /// The file; the environment and flags are left out
        file: PathBuf,
    },
    /// Push an FLV file to an RTMP server in real time
    Publish(Publish),
}

/// A flag has the name of its setting: `--store-url` is `[store] url`.
#[derive(Debug, Default, Args)]
struct Serve {
    /// TOML file with settings; see config/grandstand.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where encoders connect [default: 0.0.0.0:1935]
    #[arg(long, value_name = "ADDRESS")]
    rtmp_listen: Option<String>,
    /// Where viewers and CDNs connect [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Where segments and playlists are kept [default: ./media]
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// What is logged: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How it is logged: human, json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Args)]
struct Publish {
    /// The FLV file
    file: PathBuf,
    /// Where to: rtmp://HOST[:PORT]/APP/NAME
    url: String,
    /// Start again when the file ends, without a seam
    #[arg(long = "loop")]
    repeat: bool,
    /// Push this many broadcasts at once: NAME, NAME-2, … NAME-N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// What ended the command, by whose turn it is to act.
enum Failure {
    Config(ConfigError),
    Run(Box<dyn Error>),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Failure {
    fn run(error: impl Error + 'static) -> Self {
        Self::Run(Box::new(error))
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Run(_) => 1,
        }
    }

    fn error(&self) -> &dyn Error {
        match self {
            Self::Config(error) => error,
            Self::Run(error) => error.as_ref(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(serve_args)) => serve(serve_args),
        Some(Command::CheckConfig { file }) => check_config(&file),
        Some(Command::Publish(options)) => push(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to be told when standard error is closed.
            let _closed = writeln!(io::stderr(), "grandstand: {}", chain(failure.error()));
            ExitCode::from(failure.code())
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(line, ": {error}");
        cause = error.source();
    }
    line.replace(['\n', '\r'], " ")
}

fn serve(args: Serve) -> Result<(), Failure> {
    let flags = [
        ("--rtmp-listen", args.rtmp_listen),
        ("--http-listen", args.http_listen),
        ("--store-url", args.store_url),
        ("--log-level", args.log_level),
        ("--log-format", args.log_format),
    ];
    let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let config = Config::load(args.config.as_deref(), environment(), flags)?;
    start_log(&config.log);
    block_on(async {
        let stop = stop_on_signal().map_err(Failure::run)?;
        let app = App::bind(config, Clock::system()).await.map_err(Failure::run)?;
        app.run(stop).await.map_err(Failure::run)
    })
}

fn check_config(file: &std::path::Path) -> Result<(), Failure> {
    Config::from_file(file)?;
    writeln!(io::stdout(), "{}: ok", file.display()).map_err(Failure::run)
}

fn push(args: Publish) -> Result<(), Failure> {
    start_log(&log::Settings { level: "warn".to_owned(), ..log::Settings::default() });
    let options = publish::Options { file: args.file, url: args.url, repeat: args.repeat, count: args.count };
    block_on(async {
        let stop = stop_on_signal().map_err(Failure::run)?;
        publish::run(options, stop).await.map_err(Failure::run)
    })
}

/// The environment, where it is text: no setting has a name or value that is not.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text)
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::run)?;
    let outcome = runtime.block_on(task);
    // A write that hangs in the kernel must not hold the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

/// Cancelled by the first SIGTERM or SIGINT. The second ends the process at once.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if token.is_cancelled() {
                error!(signal = name, "stopped at once, by a second signal");
                std::process::exit(1);
            }
            info!(signal = name, "asked to stop");
            token.cancel();
        }
    });
    Ok(stop)
}

/// Events go to standard error; standard output belongs to a command's answer. A panic is an event like any other.
fn start_log(settings: &log::Settings) {
    // A `Config` holds no level that cannot be read.
    let Ok(filter) = settings.filter() else { return };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.format {
        log::Format::Human => builder.with_ansi(io::stderr().is_terminal()).init(),
        log::Format::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        error!(place, reason = panic.payload_as_str().unwrap_or_default(), %backtrace, "panic");
    }));
}
