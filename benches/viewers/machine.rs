//! The machine around a run: who else used it, and what this process may open.

use std::fs;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use crate::common::Failure;
use crate::common::process::{TICKS_PER_SECOND, times};

/// Processor time up to a moment.
pub(crate) struct Machine {
    at: Instant,
    /// Of all cores: all that wasn't idle, what a hypervisor took included.
    busy_s: f64,
    /// Of this process: publisher and viewers.
    own_s: f64,
}

/// Processor time between two moments.
pub(crate) struct Load {
    pub(crate) elapsed: Duration,
    pub(crate) busy_s: f64,
    pub(crate) own_s: f64,
}

impl Machine {
    pub(crate) fn now() -> Result<Self, Failure> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().ok_or("no line in /proc/stat")?;
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // proc(5): the fourth and the fifth are idle, those behind the eighth are parts of the first two.
        let busy = ticks.iter().take(8).enumerate().filter(|(field, _)| !matches!(field, 3 | 4));
        let (user, system) = times(process::id())?;
        Ok(Self {
            at: Instant::now(),
            busy_s: busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_SECOND,
            own_s: (user + system) / TICKS_PER_SECOND,
        })
    }

    pub(crate) fn since(&self, before: &Self) -> Load {
        Load {
            elapsed: self.at - before.at,
            busy_s: self.busy_s - before.busy_s,
            own_s: self.own_s - before.own_s,
        }
    }
}

/// Lets this process and the servers that it starts open so many files, as an operator would.
pub(crate) fn raise_open_files(count: u32) -> Result<(), Failure> {
    let limit = fs::read_to_string("/proc/self/limits")?;
    let soft = limit.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if soft.is_some_and(|soft| soft.parse().is_ok_and(|soft: u32| soft < count)) {
        let status = Command::new("prlimit")
            .args(["--pid", &process::id().to_string(), &format!("--nofile={count}:{count}")])
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("{count} open files are needed: raise `ulimit -n`").into());
        }
    }
    Ok(())
}
