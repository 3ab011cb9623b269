//! What must stay true of the rule, over shapes and over random histories.

use super::*;
use crate::{
    arrivals::{Arrivals, Request},
    random::Random,
    rules::{Seen, Wanted},
};

/// Where it is better than Knative's rule today, it stays so.
#[test]
fn ekiden_waits_no_longer_and_costs_no_more_than_kpa() {
    let better = [
        "step, 1 to 200 clients",
        "step, 20 to 1,000/s",
        "steady, 500/s",
        "spikes, 5 s in a minute",
        "30 s on, 150 s off",
        "1 request in 90 s",
    ];
    let loads = arrivals::all();
    let mut seen = 0;
    for load in loads.iter().filter(|load| better.contains(&load.name)) {
        for boot in [SECOND / 20, SECOND / 2, 3 * SECOND] {
            let starts = Starts::after(ENGINE_START + boot);
            let [ekiden, kpa, _] = compare(load, starts, &settings(load));
            let (name, start) = (load.name, starts.takes);
            let p99 = [&ekiden, &kpa].map(|outcome| outcome.quantile(0.99));
            assert!(p99[0] <= p99[1], "{name}, {start}: p99 {p99:?}");
            assert!(
                ekiden.total <= kpa.total,
                "{name}, {start}: {} {}",
                ekiden.total,
                kpa.total
            );
            assert_eq!(ekiden.refused, 0);
            seen += 1;
        }
    }
    assert_eq!(seen, 3 * better.len());
}

/// What Knative's rule is known to answer, so that it is compared with nothing weaker.
#[test]
fn kpa_scales_as_published() {
    let mut kpa = Kpa::new(0, 100, 10);
    let seen = |in_flight, ready| Seen {
        in_flight,
        ready,
        ..Seen::default()
    };
    let mut ready = 1;
    let mut at = |second: Micros, in_flight| {
        let wanted = kpa.look(second * SECOND, &seen(in_flight, ready)).instances;
        ready = wanted;
        wanted
    };
    // 7 of 10 in flight are one instance's, 8 are two's.
    for second in 0..70 {
        at(second, 7);
    }
    assert_eq!(at(70, 7), 1);
    for second in 71..140 {
        at(second, 8);
    }
    assert_eq!(at(140, 8), 2);
    // 70 for 6 seconds are panic, and are held for a minute after it ends.
    for second in 141..147 {
        at(second, 70);
    }
    assert!(at(148, 70) >= 9);
    assert_eq!(at(200, 0), at(150, 0));
    // A minute of nothing after the panic is zero.
    for second in 201..330 {
        at(second, 0);
    }
    assert_eq!(at(330, 0), 0);
}

/// Ekiden's rule, watched.
struct Watched {
    rule: Ekiden,
}

impl Rule for Watched {
    fn look(&mut self, now: Micros, seen: &Seen) -> Wanted {
        let wanted = self.rule.look(now, seen);
        let settings = &self.rule.settings;
        let bounds = settings.instances_min..=settings.instances_max;
        assert!(
            bounds.contains(&wanted.instances),
            "{wanted:?} of {bounds:?}"
        );
        assert!(wanted.instances > 0 || seen.in_flight + seen.queued == 0);
        wanted
    }
}

/// Arrivals at rates that change at random for 10 minutes, then nothing for 5.
fn history(random: &mut Random) -> Load {
    let draw = |random: &mut Random, most: f64| random.unit() * most;
    let mut requests = Vec::new();
    let mut at = 0.0;
    while at < 600.0 {
        let until = at + draw(random, 120.0);
        let rate = [0.0, 1.0, 20.0, 300.0][draw(random, 4.0) as usize];
        let work_mean = [0.01, 0.1, 2.0][draw(random, 3.0) as usize];
        while rate > 0.0 && at < until {
            at += random.exponential(1.0 / rate);
            let work = random.exponential(work_mean);
            requests.push(Request {
                at: (at * SECOND as f64) as Micros,
                work: (work * SECOND as f64) as Micros + 1,
            });
        }
        at = until;
    }
    requests.sort_by_key(|request| request.at);
    let instances_min = draw(random, 3.0) as u32;
    Load {
        name: "random",
        services: vec![Arrivals {
            requests,
            ..Arrivals::default()
        }],
        instances_min,
        instances_max: instances_min + 1 + draw(random, 60.0) as u32,
        concurrency: [1, 10, 100][draw(random, 3.0) as usize],
        end: 1_500 * SECOND,
    }
}

fn watch(load: &Load, starts: Starts) -> Outcome {
    let settings = settings(load);
    let rule = || {
        Box::new(Watched {
            rule: Ekiden::new(settings.clone()),
        }) as Box<dyn Rule>
    };
    world::run(load, starts, rule)
}

#[test]
fn random_histories_stay_within_bounds_and_settle_to_the_minimum() {
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let load = history(random);
        let takes = ENGINE_START + (random.unit() * 4.0 * SECOND as f64) as Micros;
        let outcome = watch(&load, Starts::after(takes));
        let last = outcome.instances.last().map(|(_, there)| *there);
        let most = load.services[0].requests.len();
        // Who overloads the maximum for minutes is still served when the end comes.
        if outcome
            .queue_times
            .last()
            .is_none_or(|longest| *longest < 60 * SECOND)
        {
            assert_eq!(
                last,
                Some(load.instances_min),
                "seed {seed}, {most} requests"
            );
        }
        assert_eq!(outcome.queue_times.len(), most, "seed {seed}");
        assert_eq!(outcome.refused, 0, "seed {seed}");
    }
}

#[test]
fn starts_that_fail_make_no_storm() {
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let load = history(random);
        let takes = ENGINE_START + (random.unit() * SECOND as f64) as Micros;
        let starts = Starts {
            takes,
            fail_until: load.end,
        };
        let outcome = watch(&load, starts);
        let ordered = &outcome.ordered;
        for (index, from) in ordered.iter().enumerate() {
            let minute = ordered[index..]
                .iter()
                .take_while(|at| **at < from + 60 * SECOND);
            let count = minute.count();
            // The first ones, which are not known to fail, and those that the back-off allows.
            let most = 17 * 16 * load.instances_min.min(1) as usize + 16 + 10;
            assert!(count <= most, "seed {seed}: {count} starts in a minute");
        }
        let from_two_minutes_on = ordered.iter().filter(|at| **at > ordered[0] + 120 * SECOND);
        assert!(from_two_minutes_on.count() <= 30 * 3, "seed {seed}");
    }
}

#[test]
fn a_service_whose_starts_fail_serves_once_they_do_not() {
    let mut loads = arrivals::all();
    loads.retain(|load| load.name == "30 s on, 150 s off");
    let load = loads.remove(0);
    let starts = Starts {
        takes: SECOND / 10,
        fail_until: 300 * SECOND,
    };
    let outcome = watch(&load, starts);
    assert_eq!(outcome.quantile(0.01), Some(0));
    // The longest wait is for the failures to end, then for one back-off of 30 s, then for the others.
    assert!(outcome.quantile(1.0) <= Some(350 * SECOND));
}
