//! Load: what a server costs per Gbit of broadcasts that it turns into HLS. `benches/README.md` has the method.
//!
//! Without options it does nothing, so that a plain `cargo bench` stays short.
#![allow(clippy::print_stdout, reason = "a bench reports on standard output")]

#[path = "../common/mod.rs"]
mod common;
mod server;
mod swarm;
mod written;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use grandstand::publish::FlvFile;

use common::feed::{Feed, Plan};
use common::process::pin_self;
use common::{Failure, broadcast};
use server::{Kind, Server};
use swarm::Swarm;
use written::Written;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// Servers to measure in turn.
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// How many broadcasts at a time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    broadcasts: u32,
    /// Of each broadcast, in kbit/s, audio included.
    #[arg(long, default_value_t = 1500)]
    bitrate: u32,
    /// RTMP chunk size of the publishers, in bytes.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    chunk: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How long to publish before.
    #[arg(long, default_value_t = 6)]
    warmup: u64,
    /// How often to measure each server. The medians are reported, too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Publish this FLV file instead of one made by ffmpeg for the bitrate.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One run's figures.
#[derive(Debug, Clone, Copy)]
struct Figures {
    cpu_s_per_gbit: f64,
    cores: f64,
    kernel_share: f64,
    rss_mib: f64,
    peak_mib: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.servers.is_empty() {
        println!("load: nothing to do without --servers grandstand,nginx-rtmp (see benches/README.md)");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("some runs do not count: see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if every run counts.
fn measure(options: &Options) -> Result<bool, Failure> {
    pin_self();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load");
    std::fs::create_dir_all(&folder)?;
    let file = match &options.file {
        Some(file) => file.clone(),
        None => broadcast::flv(options.bitrate, &folder)?,
    };
    let feed = Feed::new(&Plan::new(&FlvFile::read(&std::fs::read(&file)?.into())?), options.chunk as usize);
    println!(
        "{} broadcasts of {} kbit/s on the wire, chunk size {}, {} s after {} s",
        options.broadcasts,
        feed.bits_per_second() / 1000,
        options.chunk,
        options.seconds,
        options.warmup
    );
    println!("server        CPU s/Gbit  cores  kernel  RSS MiB  peak MiB  Gbit    segments  blocked  late");

    let mut figures: Vec<(Kind, Figures)> = Vec::new();
    let mut all_count = true;
    for _ in 0..options.runs {
        for kind in &options.servers {
            let (one, counts) = run(*kind, options, &feed)?;
            figures.push((*kind, one));
            all_count &= counts;
        }
    }
    if options.runs > 1 {
        for kind in &options.servers {
            let median = |value: fn(&Figures) -> f64| {
                let mut values: Vec<f64> =
                    figures.iter().filter(|(of, _)| of == kind).map(|(_, figures)| value(figures)).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            println!(
                "{:<13} {:>10.2} {:>6.2} {:>6.0}% {:>8.0} {:>9.0}  median of {}",
                name(*kind),
                median(|figures| figures.cpu_s_per_gbit),
                median(|figures| figures.cores),
                median(|figures| figures.kernel_share) * 100.0,
                median(|figures| figures.rss_mib),
                median(|figures| figures.peak_mib),
                options.runs
            );
        }
    }
    Ok(all_count)
}

fn run(kind: Kind, options: &Options, feed: &Feed) -> Result<(Figures, bool), Failure> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let server = Server::start(kind, folder.path())?;
    let mut swarm = Swarm::connect(server.rtmp, options.broadcasts, feed, options.chunk as usize)?;
    swarm.run(Duration::from_secs(options.warmup))?;
    let before = server.usage()?;
    let bytes = swarm.run(Duration::from_secs(options.seconds))?;
    let after = server.usage()?;

    let published_s = (options.warmup + options.seconds) as f64;
    let written = Written::look(&server.media, options.broadcasts)?;
    let gbit = bytes as f64 * 8.0 / 1e9;
    let cpu_s = after.cpu_s - before.cpu_s;
    let figures = Figures {
        cpu_s_per_gbit: cpu_s / gbit,
        cores: cpu_s / options.seconds as f64,
        kernel_share: (after.system_s - before.system_s) / cpu_s.max(0.01),
        rss_mib: after.rss_kib as f64 / 1024.0,
        peak_mib: after.peak_kib as f64 / 1024.0,
    };
    println!(
        "{:<13} {:>10.2} {:>6.2} {:>6.0}% {:>8.0} {:>9.0} {:>5.2} {:>11.1} {:>5} ms {:>2} ms",
        name(kind),
        figures.cpu_s_per_gbit,
        figures.cores,
        figures.kernel_share * 100.0,
        figures.rss_mib,
        figures.peak_mib,
        gbit,
        written.segments_each(),
        swarm.blocked_max.as_millis(),
        swarm.late_max.as_millis(),
    );
    let mut counts = true;
    if !written.holds(published_s, u64::from(options.bitrate) * 1000) {
        println!("  does not count: in {published_s} s it wrote {written:?}");
        counts = false;
    }
    let planned_bytes = feed.bits_per_second() * options.seconds * u64::from(options.broadcasts) / 8;
    if bytes < planned_bytes / 100 * 98 || swarm.blocked_max > Duration::from_secs(1) {
        println!(
            "  does not count: it did not take all that was published ({bytes} of {planned_bytes} bytes)"
        );
        counts = false;
    }
    Ok((figures, counts))
}

fn name(kind: Kind) -> String {
    clap::ValueEnum::to_possible_value(&kind).map_or_else(String::new, |value| value.get_name().to_owned())
}
