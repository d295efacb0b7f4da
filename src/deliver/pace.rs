//! When to give up on a connection: the deadlines of a peer that sends or takes nothing.
//!
//! hyper has one timer for both a slow request and an idle connection. A CDN keeps connections for a minute, a request
//! takes no ten seconds; so there are two, and a third for a response that nobody takes.

use std::time::{Duration, Instant};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests, and before the first.
    Idle,
    /// The first bytes of a request have come, its last header has not.
    Head,
    /// A request is being answered.
    Serving,
    /// The body of the answer is complete, but not yet taken by the kernel.
    Flushing,
}

/// The limits of [`Pace`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a request's headers.
    pub header: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Without a byte taken, while answering.
    pub write: Duration,
}

/// One connection's progress.
#[derive(Debug)]
pub(super) struct Pace {
    phase: Phase,
    /// Since when it waits for its peer.
    since: Instant,
    /// What there is of the response so far has been queued whole: it waits for its broadcast.
    drained: bool,
    /// And the kernel has taken it: there is nothing that the peer could take.
    starved: bool,
}

impl Pace {
    /// A connection that was accepted `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self::at(Phase::Idle, now)
    }

    fn at(phase: Phase, since: Instant) -> Self {
        Self { phase, since, drained: false, starved: false }
    }

    /// Bytes came.
    pub(super) fn read(&mut self, now: Instant) {
        if self.phase == Phase::Idle {
            *self = Self::at(Phase::Head, now);
        }
    }

    /// A request's headers are complete.
    pub(super) fn requested(&mut self, now: Instant) {
        *self = Self::at(Phase::Serving, now);
    }

    /// More of the response is there.
    pub(super) fn queued(&mut self, now: Instant) {
        self.drained = false;
        if self.starved {
            *self = Self::at(self.phase, now);
        }
    }

    /// There is no more of the response for now.
    pub(super) fn drained(&mut self, _now: Instant) {
        self.drained = true;
    }

    /// The peer took bytes.
    pub(super) fn wrote(&mut self, now: Instant) {
        if self.phase != Phase::Head {
            self.since = now;
        }
    }

    /// Nothing more belongs to the response: its body has been queued whole, or given up.
    pub(super) fn answered(&mut self, now: Instant) {
        *self = Self::at(Phase::Flushing, now);
    }

    /// The kernel has taken everything that was queued.
    pub(super) fn flushed(&mut self, now: Instant) {
        match self.phase {
            Phase::Flushing => *self = Self::at(Phase::Idle, now),
            Phase::Serving => self.starved = self.drained,
            Phase::Idle | Phase::Head => {}
        }
    }

    /// No request has begun: closing now loses nothing that could be known of.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// When the connection has to go, unless something happens before. A later event may bring it forward, by no
    /// more than to `limits.header` from then.
    /// `None` while there is nothing that the peer could do.
    pub(super) fn deadline(&self, limits: Limits) -> Option<Instant> {
        let limit = match self.phase {
            Phase::Serving if self.starved => return None,
            Phase::Idle => limits.idle,
            Phase::Head => limits.header,
            Phase::Serving | Phase::Flushing => limits.write,
        };
        Some(self.since + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        write: Duration::from_secs(20),
    };

    /// Fault 11: one byte each second keeps no connection; a slow reader that takes bytes is served.
    #[test]
    fn dripping_headers_win_no_time_and_taking_bytes_does() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pace = Pace::new(start);
        assert_eq!(pace.deadline(LIMITS), Some(at(75)));
        for second in 5..9 {
            pace.read(at(second));
        }
        assert_eq!(pace.deadline(LIMITS), Some(at(15)));
        pace.requested(at(9));
        pace.wrote(at(20));
        assert_eq!(pace.deadline(LIMITS), Some(at(40)));
        pace.answered(at(30));
        pace.wrote(at(31));
        assert_eq!(pace.deadline(LIMITS), Some(at(51)), "a segment that is queued whole must still be taken");
        pace.flushed(at(32));
        assert!(pace.is_idle());
        assert_eq!(pace.deadline(LIMITS), Some(at(107)));
    }

    /// A broadcast whose publisher is away sends nothing for a minute: its viewers stay. One that takes nothing of what
    /// there is goes.
    #[test]
    fn nobody_is_closed_for_taking_nothing_of_nothing() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pace = Pace::new(start);
        pace.requested(start);
        pace.flushed(start);
        assert_eq!(pace.deadline(LIMITS), Some(at(20)), "a handler that hangs");
        pace.queued(at(1));
        pace.wrote(at(1));
        pace.drained(at(1));
        pace.flushed(at(1));
        assert_eq!(pace.deadline(LIMITS), None);
        pace.queued(at(100));
        pace.drained(at(101));
        pace.queued(at(110));
        assert_eq!(pace.deadline(LIMITS), Some(at(120)), "from the first that was not taken");
        pace.wrote(at(115));
        assert_eq!(pace.deadline(LIMITS), Some(at(135)));
        pace.drained(at(116));
        pace.flushed(at(116));
        pace.answered(at(117));
        assert_eq!(pace.deadline(LIMITS), Some(at(137)), "the end is owed");
    }
}
