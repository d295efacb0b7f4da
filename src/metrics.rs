//! Every figure the origin counts, by name and meaning, in one place.
//!
//! Labels have few values; a stream's name is none of them. A queue has an in and an out counter rather than a
//! gauge, so that a scrape misses nothing.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why something was refused or dropped; each value is a constant of the code, never a peer's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A short word: `name`, `chunk`, `timeout`.
    pub reason: &'static str,
}

/// What was done, by kind: `segment`, `playlist`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// A short word.
    pub kind: &'static str,
}

/// The counters. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// RTMP connections accepted.
    pub rtmp_connections: Counter,
    /// RTMP connections ended by the origin, by reason.
    pub rtmp_refusals: Family<Reason, Counter>,
    /// RTMP connections that play now.
    pub rtmp_players: Gauge,
    /// Bytes sent to RTMP players.
    pub rtmp_play_bytes: Counter,
    /// Messages and tags dropped without ending their connection, by reason.
    pub media_drops: Family<Reason, Counter>,
    /// Media bytes taken from publishers.
    pub ingest_bytes: Counter,
    /// Broadcasts live now.
    pub broadcasts: Gauge,
    /// Frames that a subscriber lost because it fell behind by more than its queue.
    pub queue_drops: Counter,
    /// Segments published.
    pub segments: Counter,
    /// Objects written, by kind.
    pub store_writes: Family<Kind, Counter>,
    /// Failed attempts to write, by kind. Each is tried again.
    pub store_failures: Family<Kind, Counter>,
    /// Objects given up because the write queue was full, by kind.
    pub store_drops: Family<Kind, Counter>,
    /// Bytes of segments held in memory.
    pub hot_bytes: Gauge,
    /// HTTP connections accepted.
    pub http_connections: Counter,
    /// HTTP responses, by kind of resource.
    pub http_responses: Family<Kind, Counter>,
    /// Viewers of HTTP-FLV and WebSocket-FLV now.
    pub flv_viewers: Gauge,
    /// Bytes of FLV handed to their connections.
    pub flv_bytes: Counter,
    /// How often one of them was behind and skipped to a newer random access point.
    pub flv_skips: Counter,
    /// Viewers that went, by reason: the broadcast `ended`, they `left`, or they took nothing (`stalled`).
    pub flv_ends: Family<Reason, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh registry with every figure at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            rtmp_connections: Counter::default(),
            rtmp_refusals: Family::default(),
            rtmp_players: Gauge::default(),
            rtmp_play_bytes: Counter::default(),
            media_drops: Family::default(),
            ingest_bytes: Counter::default(),
            broadcasts: Gauge::default(),
            queue_drops: Counter::default(),
            segments: Counter::default(),
            store_writes: Family::default(),
            store_failures: Family::default(),
            store_drops: Family::default(),
            hot_bytes: Gauge::default(),
            http_connections: Counter::default(),
            http_responses: Family::default(),
            flv_viewers: Gauge::default(),
            flv_bytes: Counter::default(),
            flv_skips: Counter::default(),
            flv_ends: Family::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("grandstand");
        let r = &mut registry;
        r.register("rtmp_connections", "RTMP connections accepted", self.rtmp_connections.clone());
        r.register("rtmp_refusals", "RTMP connections ended by the origin", self.rtmp_refusals.clone());
        r.register("rtmp_players", "RTMP connections that play now", self.rtmp_players.clone());
        r.register("rtmp_play_bytes", "Bytes sent to RTMP players", self.rtmp_play_bytes.clone());
        r.register("media_drops", "Messages dropped, their connection kept", self.media_drops.clone());
        r.register("ingest_bytes", "Media bytes taken from publishers", self.ingest_bytes.clone());
        r.register("broadcasts", "Broadcasts live now", self.broadcasts.clone());
        r.register("queue_drops", "Frames that slow subscribers lost", self.queue_drops.clone());
        r.register("segments", "Segments published", self.segments.clone());
        r.register("store_writes", "Objects written", self.store_writes.clone());
        r.register("store_failures", "Failed attempts to write", self.store_failures.clone());
        r.register("store_drops", "Objects given up", self.store_drops.clone());
        r.register("hot_bytes", "Bytes of segments in memory", self.hot_bytes.clone());
        r.register("http_connections", "HTTP connections accepted", self.http_connections.clone());
        r.register("http_responses", "HTTP responses", self.http_responses.clone());
        r.register("flv_viewers", "Viewers of FLV now", self.flv_viewers.clone());
        r.register("flv_bytes", "Bytes of FLV handed to connections", self.flv_bytes.clone());
        r.register("flv_skips", "Skips of viewers that were behind", self.flv_skips.clone());
        r.register("flv_ends", "Viewers of FLV that went", self.flv_ends.clone());
        registry
    }

    /// Everything as an `OpenMetrics` text, as `/metrics` serves it.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail; an empty answer would show up as a failed scrape.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together_and_render() {
        let metrics = Metrics::new();
        metrics.clone().rtmp_refusals.get_or_create(&Reason { reason: "name" }).inc();
        assert!(metrics.render().contains("grandstand_rtmp_refusals_total{reason=\"name\"} 1"));
    }
}
