//! One service in simulated time: requests come in, wait, are worked on; a rule says how many
//! instances there are.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::{
    arrivals::{Arrivals, Client, Load, Micros, Request, SECOND},
    random::Random,
    rules::{Rule, Seen},
};

/// How long a client that was refused waits before it asks again.
const RETRY: Micros = SECOND / 10;

/// How starts go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts {
    /// From order to ready, or to failure.
    pub(crate) takes: Micros,
    /// Starts that are ordered before this moment fail.
    pub(crate) fail_until: Micros,
}

impl Starts {
    pub(crate) fn after(takes: Micros) -> Self {
        Self {
            takes,
            fail_until: 0,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Of every request that was not refused; sorted.
    pub(crate) queue_times: Vec<Micros>,
    pub(crate) refused: u64,
    /// Instances times microseconds: from order to end, and those of them with a request.
    pub(crate) total: Micros,
    pub(crate) active: Micros,
    pub(crate) starts: u64,
    pub(crate) most: u32,
    /// When how many instances were there, starting ones included.
    pub(crate) instances: Vec<(Micros, u32)>,
    /// When starts were ordered.
    pub(crate) ordered: Vec<Micros>,
}

impl Outcome {
    /// The queue time that so much of all requests stay within; `None` is refused ones.
    pub(crate) fn quantile(&self, part: f64) -> Option<Micros> {
        let requests = self.queue_times.len() as u64 + self.refused;
        if requests == 0 {
            return Some(0);
        }
        let index = (requests as f64 * part).ceil() as usize;
        self.queue_times.get(index.saturating_sub(1)).copied()
    }

    fn add(&mut self, other: Self) {
        self.queue_times.extend(other.queue_times);
        self.refused += other.refused;
        self.total += other.total;
        self.active += other.active;
        self.starts += other.starts;
        self.most += other.most;
    }
}

/// Runs every service of a load by a rule of its own.
pub(crate) fn run(load: &Load, starts: Starts, rule: impl Fn() -> Box<dyn Rule>) -> Outcome {
    let mut outcome = Outcome::default();
    for arrivals in &load.services {
        let mut rule = rule();
        let mut service = Service::new(arrivals, load, starts, rule.as_mut());
        service.live();
        match load.services.len() {
            1 => outcome = service.outcome,
            _ => outcome.add(service.outcome),
        }
    }
    outcome.queue_times.sort_unstable();
    outcome
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asks(usize),
    Done(u64, Option<usize>),
    Left,
    Started(u64),
    Look,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Micros,
    work: Micros,
    client: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting { fails: bool },
    Ready,
    Draining,
}

#[derive(Debug, Clone, Copy)]
struct Instance {
    id: u64,
    state: State,
    in_flight: u32,
}

struct Service<'a> {
    arrivals: &'a Arrivals,
    concurrency: u32,
    end: Micros,
    starts: Starts,
    rule: &'a mut dyn Rule,
    random: Random,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    sequence: u64,
    next_request: usize,
    queue: VecDeque<Waiting>,
    instances: Vec<Instance>,
    next_instance: u64,
    turned_away: u32,
    look_at: Option<Micros>,
    failures: VecDeque<Micros>,
    outcome: Outcome,
}

impl<'a> Service<'a> {
    fn new(arrivals: &'a Arrivals, load: &Load, starts: Starts, rule: &'a mut dyn Rule) -> Self {
        let mut service = Self {
            arrivals,
            concurrency: load.concurrency,
            end: load.end,
            starts,
            rule,
            random: Random::new(7),
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            next_request: 0,
            queue: VecDeque::new(),
            instances: Vec::new(),
            next_instance: 0,
            turned_away: 0,
            look_at: None,
            failures: VecDeque::new(),
            outcome: Outcome::default(),
        };
        for (index, client) in arrivals.clients.iter().enumerate() {
            service.at(client.from, Event::Asks(index));
        }
        // The minimum of every rule is there when the story begins.
        let there = match service.rule.refuses() {
            true => load.instances_min.max(1),
            false => load.instances_min,
        };
        for _ in 0..there {
            service.order(State::Ready);
        }
        service.at(0, Event::Look);
        service
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn live(&mut self) {
        loop {
            let event_at = self.events.peek().map(|Reverse((at, ..))| *at);
            let request = self.arrivals.requests.get(self.next_request).copied();
            let request = request.filter(|request| event_at.is_none_or(|at| request.at < at));
            let next = request.map(|request| request.at).or(event_at);
            let Some(next) = next.filter(|next| *next < self.end) else {
                break;
            };
            self.pass(next);
            match request {
                Some(Request { work, .. }) => {
                    self.next_request += 1;
                    self.arrive(work, None);
                }
                None => {
                    if let Some(Reverse((_, _, event))) = self.events.pop() {
                        self.happen(event);
                    }
                }
            }
            self.look();
        }
        self.pass(self.end);
        // Who still waits has waited until the end.
        for waiting in std::mem::take(&mut self.queue) {
            self.outcome.queue_times.push(self.end - waiting.since);
        }
    }

    /// Lets time pass and pays for the instances.
    fn pass(&mut self, until: Micros) {
        let took = until - self.now;
        if took > 0 {
            let active = self
                .instances
                .iter()
                .filter(|instance| instance.in_flight > 0);
            self.outcome.active += active.count() as Micros * took;
            self.outcome.total += self.instances.len() as Micros * took;
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Asks(client) => {
                let Client { work_mean, .. } = self.arrivals.clients[client];
                let work = self.random.exponential(work_mean as f64) as Micros;
                self.arrive(work.max(100), Some(client));
            }
            Event::Done(id, client) => {
                if let Some(instance) = self.instances.iter_mut().find(|one| one.id == id) {
                    instance.in_flight -= 1;
                    let gone = instance.state == State::Draining && instance.in_flight == 0;
                    if gone {
                        self.instances.retain(|one| one.id != id);
                    }
                }
                self.again(client, self.now);
                self.serve();
            }
            Event::Left => self.turned_away -= 1,
            Event::Started(id) => {
                let Some(index) = self.instances.iter().position(|one| one.id == id) else {
                    return;
                };
                match self.instances[index].state {
                    State::Starting { fails: true } => {
                        self.instances.remove(index);
                        self.failures.push_back(self.now);
                    }
                    State::Starting { fails: false } => {
                        self.instances[index].state = State::Ready;
                        self.failures.clear();
                        self.serve();
                    }
                    State::Ready | State::Draining => {}
                }
            }
            Event::Look => self.look_at = None,
        }
    }

    fn arrive(&mut self, work: Micros, client: Option<usize>) {
        let waiting = Waiting {
            since: self.now,
            work,
            client,
        };
        if self.rule.refuses() && self.room().is_none() {
            self.outcome.refused += 1;
            self.turned_away += 1;
            self.at(self.now + work, Event::Left);
            self.again(client, self.now + RETRY);
            return;
        }
        self.queue.push_back(waiting);
        self.serve();
    }

    /// A client asks again.
    fn again(&mut self, client: Option<usize>, at: Micros) {
        if let Some(client) = client.filter(|client| at < self.arrivals.clients[*client].until) {
            self.at(at, Event::Asks(client));
        }
    }

    /// The ready instance with the fewest requests, if it has room.
    fn room(&self) -> Option<usize> {
        let ready = self.instances.iter().enumerate();
        ready
            .filter(|(_, one)| one.state == State::Ready && one.in_flight < self.concurrency)
            .min_by_key(|(_, one)| one.in_flight)
            .map(|(index, _)| index)
    }

    fn serve(&mut self) {
        while let Some(waiting) = self.queue.front().copied() {
            let Some(index) = self.room() else {
                return;
            };
            self.queue.pop_front();
            let instance = &mut self.instances[index];
            instance.in_flight += 1;
            let done = Event::Done(instance.id, waiting.client);
            self.outcome.queue_times.push(self.now - waiting.since);
            self.at(self.now + waiting.work, done);
        }
    }

    /// Asks the rule, and does what it wants.
    fn look(&mut self) {
        let seen = self.seen();
        let wanted = self.rule.look(self.now, &seen);
        let mut missing = wanted.instances.saturating_sub(seen.ready + seen.starting);
        let mut surplus = (seen.ready + seen.starting).saturating_sub(wanted.instances);
        let mut next = wanted.look_again_at.map(|at| at.max(self.now + 1));
        let back_off = self.back_off();
        if missing > 0 && back_off > self.now {
            missing = 0;
            next = Some(next.map_or(back_off, |at| at.min(back_off)));
        }
        let sooner = |at: &Micros| self.look_at.is_none_or(|look_at| *at < look_at);
        if let Some(at) = next.filter(sooner) {
            self.look_at = Some(at);
            self.at(at, Event::Look);
        }
        for _ in 0..missing {
            let fails = self.now < self.starts.fail_until;
            let id = self.order(State::Starting { fails });
            self.outcome.starts += 1;
            self.outcome.ordered.push(self.now);
            self.at(self.now + self.starts.takes, Event::Started(id));
        }
        while surplus > 0 {
            surplus -= 1;
            self.take_away();
        }
        let there = self.instances.len() as u32;
        self.outcome.most = self.outcome.most.max(there);
        if self
            .outcome
            .instances
            .last()
            .is_none_or(|(_, last)| *last != there)
        {
            self.outcome.instances.push((self.now, there));
        }
    }

    fn seen(&mut self) -> Seen {
        let mut seen = Seen {
            queued: self.queue.len() as u32,
            turned_away: self.turned_away,
            start_time: self.starts.takes,
            ..Seen::default()
        };
        for instance in &self.instances {
            seen.in_flight += instance.in_flight;
            match instance.state {
                State::Starting { .. } => seen.starting += 1,
                State::Ready => seen.ready += 1,
                State::Draining => {}
            }
        }
        let counts = |failed: &Micros| self.now - failed < FAILURES_COUNT;
        while self
            .failures
            .pop_front_if(|failed| !counts(failed))
            .is_some()
        {}
        if self.failures.len() > 1 {
            seen.failing_until = self.failures.back().map(|failed| failed + FAILURES_COUNT);
        }
        seen
    }

    fn order(&mut self, state: State) -> u64 {
        self.next_instance += 1;
        self.instances.push(Instance {
            id: self.next_instance,
            state,
            in_flight: 0,
        });
        self.next_instance
    }

    /// One instance less: one that is starting, or else the ready one with the fewest requests.
    fn take_away(&mut self) {
        let candidates = self.instances.iter().enumerate();
        let least = candidates
            .filter(|(_, one)| one.state != State::Draining)
            .min_by_key(|(_, one)| (one.state == State::Ready, one.in_flight, Reverse(one.id)));
        let Some((index, instance)) = least else {
            return;
        };
        match instance.in_flight {
            0 => {
                self.instances.remove(index);
            }
            _ => self.instances[index].state = State::Draining,
        }
    }

    /// When the next start may be ordered: at once after the first failure, then later and later,
    /// as `ekiden_model::plan` has it for a service that does not serve.
    fn back_off(&self) -> Micros {
        let failures = self.failures.len() as u32;
        match self.failures.back() {
            Some(last) if failures > 1 => {
                let doublings = (failures - 2).min(20);
                last + (SECOND / 4 * (1 << doublings)).min(30 * SECOND)
            }
            _ => 0,
        }
    }
}

/// How long a failed start counts.
const FAILURES_COUNT: Micros = 600 * SECOND;
