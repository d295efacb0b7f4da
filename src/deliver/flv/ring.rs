//! The newest blocks of one broadcast, and where each viewer stands in them. A core.
//!
//! ```text
//! framer ─► [block][block|start][block][block] ─► a cursor per viewer: clones of the same bytes
//!            ▲ oldest: gone when over the bound      ▲ behind: skips to the newest start
//! ```
//! A viewer holds no bytes here: one that takes nothing costs what every other costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::framer::{Block, Head, Piece};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of blocks. Beyond it the oldest goes, also when newcomers began there: they wait for the next start.
    pub bytes: usize,
    /// A viewer whose next block is older than this, against the newest, skips to a newer start if there is one.
    pub lag: Duration,
}

/// Blocks, numbered from 0 on.
#[derive(Debug)]
pub(super) struct Ring {
    bounds: Bounds,
    blocks: VecDeque<(Instant, Block)>,
    bytes: usize,
    /// The number of the block after the newest.
    next: u64,
    start: Option<Start>,
    /// True for what there is now.
    newest: Option<Arc<Head>>,
    ended: bool,
}

/// The newest block where decoding may begin.
#[derive(Debug)]
struct Start {
    at: u64,
    head: Arc<Head>,
}

/// Where one viewer stands.
#[derive(Debug)]
pub(super) struct Cursor {
    place: Place,
    /// Of the head sent last; `None` before the file header.
    version: Option<u32>,
    skips: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Begins at a start of this number or later.
    Waits(u64),
    /// The next block.
    At(u64),
}

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// To be sent.
    Bytes(Bytes),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

impl Cursor {
    /// A viewer that begins at the newest start of this number or later, once there is one.
    pub(super) fn new(from: u64) -> Self {
        Self { place: Place::Waits(from), version: None, skips: 0 }
    }

    /// How often it has skipped since the last call.
    pub(super) fn take_skips(&mut self) -> u64 {
        std::mem::take(&mut self.skips)
    }
}

impl Ring {
    /// An empty ring.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, blocks: VecDeque::new(), bytes: 0, next: 0, start: None, newest: None, ended: false }
    }

    /// The number of the next block to come.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes what the framer made `now`.
    pub(super) fn push(&mut self, piece: Piece, now: Instant) {
        match piece {
            Piece::Block(block) => {
                self.newest = Some(Arc::clone(&block.head));
                if block.start {
                    self.start = Some(Start { at: self.next, head: Arc::clone(&block.head) });
                }
                self.bytes += block.bytes.len();
                self.blocks.push_back((now, block));
                self.next += 1;
                self.trim(now);
            }
            Piece::Opening(head) => {
                if let Some(start) = &mut self.start {
                    start.head = Arc::clone(&head);
                }
                self.newest = Some(head);
            }
            Piece::Closed => self.start = None,
            Piece::End => self.ended = true,
        }
    }

    fn trim(&mut self, now: Instant) {
        while let Some((at, block)) = self.blocks.front() {
            let first = self.first();
            let outdated = now.saturating_duration_since(*at) > self.bounds.lag
                && self.start.as_ref().is_some_and(|start| start.at > first);
            if self.bytes <= self.bounds.bytes && !outdated {
                return;
            }
            self.bytes -= block.bytes.len();
            self.blocks.pop_front();
            if self.start.as_ref().is_some_and(|start| start.at == first) {
                self.start = None;
            }
        }
    }

    /// The number of the oldest block.
    fn first(&self) -> u64 {
        self.next - self.blocks.len() as u64
    }

    /// What `cursor` has to send next; it moves on. What it is given, in order, can always be decoded: a file header,
    /// then from a random access point on without a gap, or with a gap up to another one, and heads where they change.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Found {
        loop {
            match cursor.place {
                Place::Waits(from) => {
                    let Some(start) = self.start.as_ref().filter(|start| start.at >= from) else {
                        return self.none();
                    };
                    cursor.place = Place::At(start.at);
                    if let Some(head) = self.head_for(cursor, &start.head) {
                        return Found::Bytes(head);
                    }
                }
                Place::At(at) if at == self.next => return self.none(),
                Place::At(at) => {
                    let Some((_, block)) = self.block(at).filter(|(made, _)| !self.lags(at, *made)) else {
                        cursor.skips += 1;
                        cursor.place = Place::Waits(at + 1);
                        continue;
                    };
                    if let Some(head) = self.head_for(cursor, &block.head) {
                        return Found::Bytes(head);
                    }
                    cursor.place = Place::At(at + 1);
                    return Found::Bytes(block.bytes.clone());
                }
            }
        }
    }

    fn none(&self) -> Found {
        if self.ended { Found::End } else { Found::Nothing }
    }

    fn block(&self, at: u64) -> Option<&(Instant, Block)> {
        self.blocks.get(usize::try_from(at.checked_sub(self.first())?).ok()?)
    }

    /// A block made so long before the newest, with a start after it.
    fn lags(&self, at: u64, made: Instant) -> bool {
        let newest = self.blocks.back().map_or(made, |(newest, _)| *newest);
        newest.saturating_duration_since(made) > self.bounds.lag
            && self.start.as_ref().is_some_and(|start| start.at > at)
    }

    /// What `cursor` lacks of `head`.
    fn head_for(&self, cursor: &mut Cursor, head: &Arc<Head>) -> Option<Bytes> {
        let before = cursor.version.replace(head.version.max(cursor.version.unwrap_or(0)));
        match before {
            Some(version) if version >= head.version => None,
            Some(_) => Some(head.tags.clone()),
            None => {
                let truth = self.newest.as_ref().unwrap_or(head);
                Some([&truth.file_header[..], &head.tags].concat().into())
            }
        }
    }
}
