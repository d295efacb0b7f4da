//! Viewers: what a server costs per Gbit that it delivers as HTTP-FLV, and how much later viewers see what was
//! published. `benches/README.md` has the method.
//!
//! Without options it does nothing, so that a plain `cargo bench` stays short.
#![allow(clippy::print_stdout, reason = "a bench reports on standard output")]

#[path = "../common/mod.rs"]
mod common;
mod machine;
mod published;
mod response;
mod server;
mod swarm;
mod tags;
mod viewer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use grandstand::publish::FlvFile;

use common::feed::{Feed, Plan};
use common::process::{Usage, pin_self};
use common::publisher::Publisher;
use common::{Failure, broadcast};
use machine::Machine;
use published::Published;
use server::{Kind, Server};
use swarm::{Seen, Swarm};

/// How long after the last frame was sent viewers may still get what is late.
const DRAIN: Duration = Duration::from_secs(2);
/// How often the publisher looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "viewers")]
struct Options {
    /// Servers to measure in turn.
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// How many viewers at a time; one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "100,500,1000,2000", value_parser = clap::value_parser!(u32).range(1..))]
    viewers: Vec<u32>,
    /// Of the broadcast, in kbit/s, audio included.
    #[arg(long, default_value_t = 1500)]
    bitrate: u32,
    /// RTMP chunk size of the publisher, in bytes.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    chunk: u32,
    /// How long to publish before the first viewer joins.
    #[arg(long, default_value_t = 6)]
    warmup: u64,
    /// How long joining takes.
    #[arg(long, default_value_t = 5)]
    join: u64,
    /// How long to wait after the last has joined.
    #[arg(long, default_value_t = 5)]
    settle: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often to measure everything.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Publish this FLV file instead of one made by ffmpeg for the bitrate.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One run.
struct Run {
    usage: [Usage; 2],
    machine: [Machine; 2],
    read_bytes: u64,
    late: Duration,
    blocked: Duration,
    seen: Seen,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.servers.is_empty() {
        println!(
            "viewers: nothing to do without --servers grandstand,node-media-server (see benches/README.md)"
        );
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("some runs do not count: see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("viewers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if every run counts.
fn measure(options: &Options) -> Result<bool, Failure> {
    pin_self();
    machine::raise_open_files(2 * options.viewers.iter().max().copied().unwrap_or(0) + 256)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load");
    std::fs::create_dir_all(&folder)?;
    let file = match &options.file {
        Some(file) => file.clone(),
        None => broadcast::flv(options.bitrate, &folder)?,
    };
    let plan = Plan::new(&FlvFile::read(&std::fs::read(&file)?.into())?);
    let feed = Feed::new(&plan, options.chunk as usize);
    println!(
        "1 broadcast of {} kbit/s on the wire, chunk size {}; {} s, viewers join for {} s, {} s, then {} s measured",
        feed.bits_per_second() / 1000,
        options.chunk,
        options.warmup,
        options.join,
        options.settle,
        options.seconds
    );
    println!(
        "server             viewers  CPU s/Gbit  cores  kernel   Gbit  share min    mean  p50 ms  p99 ms  max ms  \
         KiB/viewer  peak MiB  swarm  others  late"
    );
    let mut all_count = true;
    for _ in 0..options.runs {
        for kind in &options.servers {
            // The same run without viewers: what of the memory isn't theirs.
            let alone = run(*kind, options, &plan, &feed, 0)?;
            for viewers in &options.viewers {
                let with_viewers = run(*kind, options, &plan, &feed, *viewers)?;
                all_count &= report(*kind, options, *viewers, &with_viewers, alone.usage[1].rss_kib);
            }
        }
    }
    Ok(all_count)
}

fn run(kind: Kind, options: &Options, plan: &Plan, feed: &Feed, viewers: u32) -> Result<Run, Failure> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let server = Server::start(kind, folder.path())?;
    let seconds = options.warmup + options.join + options.settle + options.seconds;
    // Joining and measuring may take longer than planned on a machine that can't keep up.
    let published = Published::new(plan, 2 * seconds + 60)?;
    let encoder = Publisher::connect(server.rtmp, 0, options.chunk as usize)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(encoder, feed, &published, &ended));
        let watched = watch(&server, options, &published, viewers, &ended);
        ended.store(true, Ordering::Relaxed);
        let (blocked, late) = publishing.join().map_err(|_| "the publisher panicked")??;
        watched.map(|run| Run { late, blocked, ..run })
    })
}

/// Sends what is due until `ended`. Returns the longest that it could not, and the longest that it came late.
fn publish(
    mut encoder: Publisher,
    feed: &Feed,
    published: &Published,
    ended: &AtomicBool,
) -> Result<(Duration, Duration), Failure> {
    let (mut blocked, mut late) = (Duration::ZERO, Duration::ZERO);
    let mut tick = Instant::now();
    encoder.start = tick;
    let mut listened = tick;
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        late = late.max(now.saturating_duration_since(tick));
        encoder.write_due(feed, now, |round, index| published.note(round, index, published.now_us()))?;
        blocked = blocked.max(encoder.blocked_since.map_or(Duration::ZERO, |since| now - since));
        if now - listened > Duration::from_secs(1) {
            listened = now;
            encoder.listen()?;
        }
        tick = (tick + TICK).max(Instant::now());
        thread::sleep(tick.saturating_duration_since(Instant::now()));
    }
    Ok((blocked, late))
}

/// Joins the viewers and measures.
fn watch(
    server: &Server,
    options: &Options,
    published: &Published,
    viewers: u32,
    ended: &AtomicBool,
) -> Result<Run, Failure> {
    let wait = |swarm: &mut Swarm, time| swarm.run_until(Instant::now() + time);
    let mut swarm = Swarm::new(published)?;
    wait(&mut swarm, Duration::from_secs(options.warmup))?;
    swarm.join(server.http, viewers, Duration::from_secs(options.join))?;
    wait(&mut swarm, Duration::from_secs(options.settle))?;

    swarm.measure();
    let read_before = swarm.read_bytes;
    let before = (server.usage()?, Machine::now()?);
    wait(&mut swarm, Duration::from_secs(options.seconds))?;
    let after = (server.usage()?, Machine::now()?);
    let read_bytes = swarm.read_bytes - read_before;

    ended.store(true, Ordering::Relaxed);
    wait(&mut swarm, DRAIN)?;
    Ok(Run {
        usage: [before.0, after.0],
        machine: [before.1, after.1],
        read_bytes,
        blocked: Duration::ZERO,
        late: Duration::ZERO,
        seen: swarm.seen(published.now_us()),
    })
}

/// Prints a line. True if the run counts.
fn report(kind: Kind, options: &Options, viewers: u32, run: &Run, alone_rss_kib: u64) -> bool {
    let [before, after] = &run.usage;
    let cpu_s = after.cpu_s - before.cpu_s;
    let gbit = run.read_bytes as f64 * 8.0 / 1e9;
    let load = run.machine[1].since(&run.machine[0]);
    let elapsed_s = load.elapsed.as_secs_f64();
    let latencies_us = &run.seen.latencies_us;
    let latency_ms = |share: f64| {
        let at = ((latencies_us.len() as f64 * share) as usize).min(latencies_us.len().saturating_sub(1));
        f64::from(latencies_us.get(at).copied().unwrap_or(0)) / 1000.0
    };
    println!(
        "{:<18} {viewers:>7} {:>11.3} {:>6.2} {:>6.0}% {gbit:>6.1} {:>9.3}% {:>6.2}% {:>7.1} {:>7.1} {:>7.1} {:>11.1} \
         {:>9.0} {:>6.2} {:>7.2} {:>2} ms",
        name(kind),
        cpu_s / gbit,
        cpu_s / elapsed_s,
        (after.system_s - before.system_s) / cpu_s.max(0.01) * 100.0,
        run.seen.share_min * 100.0,
        run.seen.share_mean * 100.0,
        latency_ms(0.5),
        latency_ms(0.99),
        latency_ms(1.0),
        (after.rss_kib as f64 - alone_rss_kib as f64) / f64::from(viewers),
        after.peak_kib as f64 / 1024.0,
        load.own_s / elapsed_s,
        (load.busy_s - load.own_s - cpu_s) / elapsed_s,
        run.late.as_millis(),
    );
    if run.seen.lost > 0 {
        println!("  {} viewers lost their connections", run.seen.lost);
    }
    for trouble in run.seen.troubles.iter().take(3) {
        println!("  {trouble}");
    }
    let mut counts = true;
    if !run.seen.troubles.is_empty() {
        println!("  does not count: {} viewers saw something wrong", run.seen.troubles.len());
        counts = false;
    }
    if elapsed_s > options.seconds as f64 * 1.05 || run.blocked > Duration::from_secs(1) {
        println!(
            "  does not count: it took {:.1} s, and the publisher was blocked for {} ms",
            elapsed_s,
            run.blocked.as_millis()
        );
        counts = false;
    }
    counts
}

fn name(kind: Kind) -> String {
    clap::ValueEnum::to_possible_value(&kind).map_or_else(String::new, |value| value.get_name().to_owned())
}
