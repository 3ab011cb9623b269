//! Draws the ids of traces, decides which are sampled, and hands spans to the control thread.
//!
//! Spans go through a bounded channel that no worker waits for: what finds no room is counted.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use ekiden_model::{
    route::Tracing,
    span::{RequestSpan, SpanId, TraceId},
};

use crate::trace_context::{Begun, TraceContext};

/// Spans that wait for the control thread; more are lost.
pub(crate) const SPANS_MAX: usize = 4096;

/// The random part of an id that decides: its last 56 bits.
const RANDOM: u64 = (1 << 56) - 1;

/// What control has said, as the workers read it.
#[derive(Debug)]
struct Settings {
    /// An id whose random part is not below it is sampled.
    sampled_from: AtomicU64,
    export: AtomicBool,
    client_decides: AtomicBool,
    /// Spans that found no room.
    lost: AtomicU64,
}

impl Settings {
    fn set(&self, tracing: Tracing) {
        let part = u64::from(tracing.sample_per_million.min(1_000_000));
        let from =
            (1 << 56) - ((1 << 56) / 1_000_000 * part + (1 << 56) % 1_000_000 * part / 1_000_000);
        self.sampled_from.store(from, Ordering::Relaxed);
        self.export.store(tracing.export, Ordering::Relaxed);
        self.client_decides
            .store(tracing.client_decides, Ordering::Relaxed);
    }

    fn draws(&self, random: u64) -> bool {
        random & RANDOM >= self.sampled_from.load(Ordering::Relaxed)
    }
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Spans {
    settings: Arc<Settings>,
    sender: SyncSender<RequestSpan>,
    received: Receiver<RequestSpan>,
}

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Tracer {
    settings: Arc<Settings>,
    spans: SyncSender<RequestSpan>,
    /// A keyed hash (SipHash) with keys from the operating system: of a counter it makes numbers
    /// that nobody guesses who sees some of them.
    hash: RandomState,
    drawn: Cell<u64>,
    /// Since the Unix epoch, as of the last tick.
    seconds: Cell<u32>,
}

impl Spans {
    pub(crate) fn new() -> Self {
        let (sender, received) = sync_channel(SPANS_MAX);
        let settings = Settings {
            sampled_from: AtomicU64::new(0),
            export: AtomicBool::new(false),
            client_decides: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        };
        settings.set(Tracing::default());
        Self {
            settings: Arc::new(settings),
            sender,
            received,
        }
    }

    /// A worker's end.
    pub(crate) fn tracer(&self) -> Tracer {
        let tracer = Tracer {
            settings: Arc::clone(&self.settings),
            spans: self.sender.clone(),
            hash: RandomState::new(),
            drawn: Cell::new(0),
            seconds: Cell::new(0),
        };
        tracer.tick();
        tracer
    }

    /// Has requests traced like this from now on.
    pub(crate) fn set(&self, tracing: Tracing) {
        self.settings.set(tracing);
    }

    /// Takes up to so many spans, the oldest first.
    pub(crate) fn take(&self, count_max: usize) -> Vec<RequestSpan> {
        self.received.try_iter().take(count_max).collect()
    }

    /// Takes how many were lost since the last time.
    pub(crate) fn take_lost(&self) -> u64 {
        self.settings.lost.swap(0, Ordering::Relaxed)
    }

    /// Counts some that were taken and could not be told.
    pub(crate) fn lose(&self, count: u64) {
        self.settings.lost.fetch_add(count, Ordering::Relaxed);
    }
}

impl Tracer {
    /// Takes the time that new traces are named after.
    pub(crate) fn tick(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.seconds.set(now.unwrap_or_default().as_secs() as u32);
    }

    /// The place in its trace of a request that begins.
    pub(crate) fn begin(&self, begun: Option<Begun>) -> TraceContext {
        let span = self.span();
        let Some(begun) = begun else {
            let trace = self.trace();
            return TraceContext {
                trace,
                span,
                parent: None,
                sampled: self.settings.draws(trace.bits() as u64),
                keeps_state: false,
            };
        };
        let told = match self.settings.client_decides.load(Ordering::Relaxed) {
            true => begun.sampled,
            false => None,
        };
        TraceContext {
            trace: begun.trace,
            span,
            parent: begun.parent,
            // By an id that the client has not chosen.
            sampled: told.unwrap_or_else(|| self.settings.draws(span.bits())),
            keeps_state: begun.has_state,
        }
    }

    /// Whether the spans of requests that are sampled are wanted.
    pub(crate) fn exports(&self) -> bool {
        self.settings.export.load(Ordering::Relaxed)
    }

    /// Hands a span over, if there is room.
    pub(crate) fn hand_over(&self, span: RequestSpan) {
        if self.spans.try_send(span).is_err() {
            self.settings.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A new span's id.
    pub(crate) fn span(&self) -> SpanId {
        loop {
            if let Some(span) = SpanId::new(self.draw()) {
                return span;
            }
        }
    }

    /// A new trace's id: X-Ray wants the seconds in front, and takes no others.
    fn trace(&self) -> TraceId {
        loop {
            let bits = u128::from(self.seconds.get()) << 96
                | u128::from(self.draw() as u32) << 64
                | u128::from(self.draw());
            if let Some(trace) = TraceId::new(bits) {
                return trace;
            }
        }
    }

    fn draw(&self) -> u64 {
        let drawn = self.drawn.get().wrapping_add(1);
        self.drawn.set(drawn);
        self.hash.hash_one(drawn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tracing(sample_per_million: u32, client_decides: bool) -> Tracing {
        Tracing {
            sample_per_million,
            export: true,
            client_decides,
        }
    }

    #[test]
    fn so_many_of_a_million_new_traces_are_sampled() {
        let spans = Spans::new();
        let tracer = spans.tracer();
        for (part, want) in [
            (0, 0..=0),
            (50_000, 800..=1200),
            (500_000, 9_600..=10_400),
            (1_000_000, 20_000..=20_000),
            (u32::MAX, 20_000..=20_000),
        ] {
            spans.set(tracing(part, true));
            let sampled = (0..20_000).filter(|_| tracer.begin(None).sampled).count();
            assert!(want.contains(&sampled), "{part}: {sampled}");
        }
    }

    #[test]
    fn a_client_decides_if_it_may_and_says_something() {
        let spans = Spans::new();
        let tracer = spans.tracer();
        let begun = |sampled| {
            Some(Begun {
                trace: TraceId::new(u128::MAX).unwrap(),
                parent: SpanId::new(1),
                sampled,
                has_state: true,
            })
        };
        spans.set(tracing(0, true));
        assert!(tracer.begin(begun(Some(true))).sampled);
        assert!(!tracer.begin(begun(None)).sampled);
        spans.set(tracing(0, false));
        let context = tracer.begin(begun(Some(true)));
        assert!(!context.sampled && context.keeps_state);
        assert_eq!(context.trace.bits(), u128::MAX);
        assert_eq!(context.parent, SpanId::new(1));
        spans.set(tracing(1_000_000, false));
        assert!(tracer.begin(begun(Some(false))).sampled);
    }

    #[test]
    fn ids_differ_between_requests_and_workers_and_begin_with_the_seconds() {
        let spans = Spans::new();
        let tracers = [spans.tracer(), spans.tracer()];
        let mut seen = HashSet::new();
        for tracer in &tracers {
            for _ in 0..1000 {
                let context = tracer.begin(None);
                assert!(seen.insert(context.trace.bits() & u128::from(u64::MAX)));
                assert!(seen.insert(context.span.bits().into()));
                let seconds = (context.trace.bits() >> 96) as u32;
                assert_eq!(seconds, tracer.seconds.get());
            }
        }
    }
}
