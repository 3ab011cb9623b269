//! The world: one clock, one queue of events, one seed.
//!
//! Nothing here knows time but by the event it handles. Every part lives in its own file and
//! reaches the others only by events that take time, as processes do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt,
    rc::Rc,
    time::Duration,
};

use ekiden_model::{
    health::ProbeResult,
    id::{InstanceId, OperationId, ServiceId},
    instance::ExitCause,
    plan::Timing,
    time::Timestamp,
};

use crate::{
    checks::{Checks, Rule, Violation},
    clients::Clients,
    control::{Answer, Control, Outcome},
    edge::{Edge, Report, Table},
    engine::{Call, Engine, Observation},
    faults::{Fault, Weather},
    random::Random,
    store::Store,
    totals::Totals,
};

/// More events than any history needs: beyond, something runs in a circle.
const EVENTS_MAX: u64 = 1_500_000;

/// Lines of a failed history that are printed.
const TRACE_LINES_MAX: usize = 400;

/// Something that happens at its time. `life` is the life of control it was meant for, `edge` that
/// of the edge: what comes too late for it is void.
#[derive(Debug)]
pub(crate) enum Event {
    ControlStarts,
    Round {
        life: u64,
        service: ServiceId,
    },
    Timer {
        life: u64,
        service: ServiceId,
        token: u64,
    },
    StepsGoOn {
        life: u64,
        service: ServiceId,
    },
    StepDone {
        life: u64,
        service: ServiceId,
        outcome: Box<Outcome>,
    },
    Answered {
        life: u64,
        service: ServiceId,
        answer: Box<Answer>,
    },
    ObservationArrives {
        life: u64,
        observation: Option<Rc<Observation>>,
    },
    ReportArrives {
        connection: u64,
        report: Rc<Report>,
    },
    EdgeGone {
        connection: u64,
    },
    Probe {
        life: u64,
        instance: InstanceId,
    },
    ProbeEnds {
        life: u64,
        instance: InstanceId,
        result: ProbeResult,
    },

    CallArrives {
        life: u64,
        service: ServiceId,
        call: Box<Call>,
    },
    CallEnds {
        call: u64,
    },
    AgentStarts,
    EngineShows,
    ProcessStarts {
        instance: InstanceId,
    },
    ProcessEnds {
        instance: InstanceId,
        cause: Box<ExitCause>,
    },

    EdgeStarts,
    EdgeConnects {
        edge: u64,
        life: u64,
    },
    TableArrives {
        connection: u64,
        table: Rc<Table>,
    },
    WorkerAdopts {
        edge: u64,
        worker: usize,
    },
    Request {
        service: ServiceId,
    },
    RequestEnds {
        edge: u64,
        instance: InstanceId,
        request: u64,
    },
    RequestGivesUp {
        edge: u64,
        service: ServiceId,
        request: u64,
    },

    ClientActs,
    ClientCancels {
        service: ServiceId,
        operation: OperationId,
    },
    FaultBegins(Fault),
    FaultEnds(Fault),
    Calm,
    Survey,
}

struct Queued {
    at: Timestamp,
    /// Events of one moment happen in the order they were made.
    sequence: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) random: Random,
    pub(crate) timing: Timing,
    pub(crate) weather: Weather,
    pub(crate) store: Store,
    pub(crate) control: Option<Control>,
    /// Counts the lives of control; the newest is this one.
    pub(crate) control_life: u64,
    pub(crate) engine: Engine,
    pub(crate) edge: Edge,
    pub(crate) clients: Clients,
    /// How many instances each service needs by what is asked of it.
    pub(crate) loads: BTreeMap<ServiceId, u32>,
    pub(crate) checks: Checks,
    pub(crate) totals: Totals,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    hash: u64,
    trace: Option<VecDeque<String>>,
    violation: Option<Violation>,
    done: bool,
    /// When the newest message of each ordered channel arrives.
    channels: BTreeMap<Channel, Timestamp>,
}

/// What keeps its messages in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Observations,
    Tables,
    Reports,
}

/// What a history was.
pub(crate) struct History {
    pub(crate) totals: Totals,
    pub(crate) hash: u64,
    pub(crate) trace: VecDeque<String>,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// Lives through the history that `seed` stands for; the trace is kept if `recorded`.
    pub(crate) fn run(seed: u64, recorded: bool) -> History {
        let mut world = Self::new(seed, recorded);
        world.begin();
        while let (Some(Reverse(queued)), false) = (world.queue.pop(), world.done) {
            world.now = queued.at;
            world.totals.events += 1;
            world.hash = mix(world.hash, world.now.as_millis() ^ world.random.state());
            world.handle(queued.event);
            if world.totals.events > EVENTS_MAX {
                world.violate(Rule::Settles, || "the history does not end".to_owned());
            }
        }
        world.totals.seeds = 1;
        world.totals.seconds = world.now.as_secs();
        History {
            totals: world.totals,
            hash: world.hash,
            trace: world.trace.unwrap_or_default(),
            violation: world.violation,
        }
    }

    fn new(seed: u64, recorded: bool) -> Self {
        let mut random = Random::new(seed);
        let seconds = |random: &mut Random, all: &[u64]| Duration::from_secs(random.pick(all));
        let timing = Timing {
            startup_limit: seconds(&mut random, &[10, 20, 60]),
            drain_limit: seconds(&mut random, &[1, 10, 60]),
            stop_grace: seconds(&mut random, &[1, 5, 30]),
        };
        Self {
            now: Timestamp::from_millis(0),
            weather: Weather::draw(&mut random),
            random,
            timing,
            store: Store::default(),
            control: None,
            control_life: 0,
            engine: Engine::default(),
            edge: Edge::default(),
            clients: Clients::default(),
            loads: BTreeMap::new(),
            checks: Checks::default(),
            totals: Totals::default(),
            queue: BinaryHeap::new(),
            sequence: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: recorded.then(VecDeque::new),
            violation: None,
            done: false,
            channels: BTreeMap::new(),
        }
    }

    fn begin(&mut self) {
        self.after(0, Event::ControlStarts);
        self.after(0, Event::EdgeStarts);
        self.after(0, Event::AgentStarts);
        self.after(10, Event::ClientActs);
        let faults_end = self.weather.faults_end;
        self.at(faults_end, Event::Calm);
        for fault in self.weather.faults() {
            let gap = self.weather.gap(&mut self.random);
            self.after(gap, Event::FaultBegins(fault));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ControlStarts => self.control_starts(),
            Event::Round { life, service } => self.round(life, service),
            Event::Timer {
                life,
                service,
                token,
            } => self.timer(life, service, token),
            Event::StepsGoOn { life, service } => self.steps_go_on(life, service),
            Event::StepDone {
                life,
                service,
                outcome,
            } => self.step_done(life, service, *outcome),
            Event::Answered {
                life,
                service,
                answer,
            } => self.answered(life, service, *answer),
            Event::ObservationArrives { life, observation } => self.observed(life, observation),
            Event::ReportArrives { connection, report } => self.reported(connection, report),
            Event::EdgeGone { connection } => self.edge_gone(connection),
            Event::Probe { life, instance } => self.probe(life, instance),
            Event::ProbeEnds {
                life,
                instance,
                result,
            } => self.probe_ends(life, instance, result),
            Event::CallArrives {
                life,
                service,
                call,
            } => self.call_arrives(life, service, *call),
            Event::CallEnds { call } => self.call_ends(call),
            Event::AgentStarts => self.agent_starts(),
            Event::EngineShows => self.engine_shows(),
            Event::ProcessStarts { instance } => self.process_starts(instance),
            Event::ProcessEnds { instance, cause } => self.process_ends(instance, *cause),
            Event::EdgeStarts => self.edge_starts(),
            Event::EdgeConnects { edge, life } => self.edge_connects(edge, life),
            Event::TableArrives { connection, table } => self.table_arrives(connection, table),
            Event::WorkerAdopts { edge, worker } => self.worker_adopts(edge, worker),
            Event::Request { service } => self.request(service),
            Event::RequestEnds {
                edge,
                instance,
                request,
            } => {
                self.request_ends(edge, instance, request);
            }
            Event::RequestGivesUp {
                edge,
                service,
                request,
            } => {
                self.request_gives_up(edge, service, request);
            }
            Event::ClientActs => self.client_acts(),
            Event::ClientCancels { service, operation } => self.client_cancels(service, operation),
            Event::FaultBegins(fault) => self.fault_begins(fault),
            Event::FaultEnds(fault) => self.fault_ends(fault),
            Event::Calm => self.calm(),
            Event::Survey => self.survey(),
        }
    }

    // ---- time --------------------------------------------------------------------------------

    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.queue.push(Reverse(Queued {
            at,
            sequence,
            event,
        }));
    }

    pub(crate) fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now.plus(Duration::from_millis(millis)), event);
    }

    /// Sends `event` so that it does not overtake what was sent on the channel before.
    pub(crate) fn send(&mut self, channel: Channel, event: Event) {
        let delay = self.delay();
        let earliest = self.now.plus(Duration::from_millis(delay));
        let newest = self.channels.entry(channel).or_default();
        *newest = (*newest).max(earliest);
        let at = *newest;
        self.at(at, event);
    }

    /// How long a message or a small piece of work takes now, in ms.
    pub(crate) fn delay(&mut self) -> u64 {
        let usual = self.random.below(3);
        match self.weather.slow {
            true => usual + self.random.below(1500),
            false => usual,
        }
    }

    /// Ends the history.
    pub(crate) fn finish(&mut self) {
        self.done = true;
    }

    // ---- what is noted -----------------------------------------------------------------------

    /// Adds a line to the trace. What it says is only put together for a trace that is kept.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_LINES_MAX {
                trace.pop_front();
            }
            let millis = self.now.as_millis();
            trace.push_back(format!(
                "{:>6}.{:03} {}",
                millis / 1000,
                millis % 1000,
                line()
            ));
        }
    }

    /// Takes down that a rule was broken, and ends the history.
    pub(crate) fn violate(&mut self, rule: Rule, message: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                rule,
                message: message(),
            });
        }
        self.done = true;
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// FNV-1a over whole words.
const fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(17)
}
