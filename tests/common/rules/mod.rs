//! The rules of HLS, held against what a running origin serves. Written from the specifications and apart from the
//! product: nothing here uses `package`, `media` or `deliver`.
//!
//! ```text
//! origin ─HTTP─► watch: every poll, every segment ─► playlist, multivariant     (what is said)
//!                  └► delivery: each response         └► ts ─► segment, timeline (what is true)
//!                                                                    └► Report: findings by rule id
//! ```
//! `PL.*`, `TS.*`, `H.*`, `MV.*` are the rules' ids; a rule that needs a number of its own says which one and why.
#![allow(unreachable_pub, missing_docs, reason = "a part of one test")]

pub mod delivery;
pub mod entries;
pub mod multivariant;
pub mod picture;
pub mod planted;
pub mod playlist;
pub mod segment;
pub mod timeline;
pub mod ts;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

/// 90 kHz.
pub const TICKS_PER_S: f64 = 90_000.0;

/// What a broadcast is meant to be, by its encoder.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// What the origin was told to list: `[hls] window`.
    pub window_s: f64,
    /// Its pictures.
    pub video: Option<Pictures>,
    /// Its audio codec as RFC 6381 writes it.
    pub audio: Option<&'static str>,
}

/// What pictures are meant to be.
#[derive(Debug, Clone, Copy)]
pub struct Pictures {
    /// Ticks from one to the next where that is constant.
    pub frame: Option<i64>,
    /// Width and height.
    pub size: (u64, u64),
}

impl Expected {
    /// The unit that EXTINF sums may be off by, in seconds: a picture, or an audio frame where there is none. 40 ms of a
    /// variable rate, whose fastest picture that is in these broadcasts.
    pub fn frame_s(&self) -> f64 {
        match self.video {
            Some(Pictures { frame, .. }) => frame.map_or(0.040, |frame| frame as f64 / TICKS_PER_S),
            None => 1024.0 / 44_100.0,
        }
    }
}

/// What was held against which rule, and what failed.
#[derive(Debug, Default)]
pub struct Report {
    broadcast: String,
    held: BTreeMap<&'static str, u64>,
    broken: BTreeMap<&'static str, Vec<String>>,
}

impl Report {
    /// Of one broadcast.
    pub fn of(broadcast: &str) -> Self {
        Self { broadcast: broadcast.to_owned(), ..Self::default() }
    }

    /// Holds `numbers` against a rule at a place, mostly a media sequence number.
    pub fn claim(
        &mut self,
        rule: &'static str,
        at: impl Display,
        holds: bool,
        numbers: impl FnOnce() -> String,
    ) {
        *self.held.entry(rule).or_default() += 1;
        if !holds {
            let text = format!("{rule} {} {at}: {}", self.broadcast, numbers());
            self.broken.entry(rule).or_default().push(text);
        }
    }

    /// Adds another's.
    pub fn absorb(&mut self, other: Self) {
        for (rule, count) in other.held {
            *self.held.entry(rule).or_default() += count;
        }
        for (rule, texts) in other.broken {
            self.broken.entry(rule).or_default().extend(texts);
        }
    }

    /// How often a rule was held against something.
    pub fn held(&self, rule: &str) -> u64 {
        self.held.get(rule).copied().unwrap_or(0)
    }

    /// Rules that were broken.
    pub fn broken(&self) -> Vec<&'static str> {
        self.broken.keys().copied().collect()
    }

    /// A few findings of each rule.
    pub fn text(&self) -> String {
        const SHOWN: usize = 4;
        let mut text = String::new();
        for found in self.broken.values() {
            for finding in found.iter().take(SHOWN) {
                let _ = writeln!(text, "{finding}");
            }
            if found.len() > SHOWN {
                let _ = writeln!(text, "  … and {} more", found.len() - SHOWN);
            }
        }
        text
    }
}
