//! The decisions of the control plane, over many histories.
//!
//! Each history grows from one seed: services, the requests of their owners, applications that
//! misbehave, traffic, and faults. The world is simulated; `plan`, `Service` and `Health` are the
//! real ones. What must hold is listed in ARCHITECTURE.md, "What the simulator checks", and in
//! `checks.rs`.
//!
//! A failure names its seed. To see its last events:
//!
//! ```text
//! EKIDEN_SIM_SEED=n cargo test -p ekiden-model --test simulation replay -- --nocapture
//! ```

mod behaviour;
mod checks;
mod clients;
mod control;
mod edge;
mod engine;
mod faults;
mod random;
mod store;
mod totals;
mod world;

use crate::{faults::FAULTS, totals::Totals, world::World};

/// Histories of one test; four tests use as many cores.
const SEEDS_PER_TEST: u64 = 2_500;

#[track_caller]
fn live_through(first: u64) {
    let mut totals = Totals::default();
    for seed in first..first + SEEDS_PER_TEST {
        let history = World::run(seed, false);
        if history.violation.is_some() {
            fail(seed);
        }
        totals.add(history.totals);
    }
    println!("{totals}");
    assert_rich(&totals);
}

/// Lives through a failed history once more, this time with its trace.
#[track_caller]
fn fail(seed: u64) -> ! {
    let history = World::run(seed, true);
    for line in &history.trace {
        println!("{line}");
    }
    let violation = history.violation.map(|violation| violation.to_string());
    panic!(
        "seed {seed} breaks {}\n\
         replay: EKIDEN_SIM_SEED={seed} cargo test -p ekiden-model --test simulation replay -- --nocapture",
        violation
            .as_deref()
            .unwrap_or("nothing the second time: histories are not repeatable")
    );
}

/// Every kind of thing happened.
#[track_caller]
fn assert_rich(totals: &Totals) {
    let mut kinds: Vec<String> = FAULTS
        .iter()
        .map(|fault| format!("fault: {fault:?}"))
        .collect();
    let others = [
        "failure: cancelled",
        "failure: crashed",
        "failure: image",
        "failure: not healthy",
        "fault: control dies between two steps",
        "fault: dies while another is being stopped",
        "instance ended: another exit code",
        "instance ended: another signal",
        "instance ended: exit code 0",
        "instance ended: killed",
        "instance ended: lost",
        "instance ended: not started",
        "instance ended: out of memory",
        "instance ended: stopped",
        "operation: CREATE_SERVICE FAILED",
        "operation: CREATE_SERVICE SUCCEEDED",
        "operation: DELETE_SERVICE SUCCEEDED",
        "operation: PAUSE_SERVICE SUCCEEDED",
        "operation: RESUME_SERVICE FAILED",
        "operation: RESUME_SERVICE SUCCEEDED",
        "operation: START_DEPLOYMENT ROLLBACK_SUCCEEDED",
        "operation: START_DEPLOYMENT SUCCEEDED",
        "operation: UPDATE_SERVICE FAILED",
        "operation: UPDATE_SERVICE ROLLBACK_SUCCEEDED",
        "operation: UPDATE_SERVICE SUCCEEDED",
        "request of an owner refused",
        "return to a revision asked for",
        "request: cut off by the drain limit",
        "request: died with its instance",
        "request: served",
        "request: waited",
        "scaled to nothing",
        "stray removed",
        "write refused by a full disk",
    ];
    kinds.extend(others.map(str::to_owned));
    let missing: Vec<_> = kinds.iter().filter(|kind| totals.of(kind) == 0).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn histories_from_0() {
    live_through(0);
}

#[test]
fn histories_from_2500() {
    live_through(SEEDS_PER_TEST);
}

#[test]
fn histories_from_5000() {
    live_through(2 * SEEDS_PER_TEST);
}

#[test]
fn histories_from_7500() {
    live_through(3 * SEEDS_PER_TEST);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..50 {
        let (one, other) = (World::run(seed, false), World::run(seed, true));
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
    assert_ne!(World::run(1, false).hash, World::run(2, false).hash);
}

/// Shows one history; does nothing unless asked for by `EKIDEN_SIM_SEED`.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("EKIDEN_SIM_SEED") else {
        return;
    };
    let seed = seed.parse().expect("EKIDEN_SIM_SEED is a number");
    let history = World::run(seed, true);
    if history.violation.is_some() {
        fail(seed);
    }
    for line in &history.trace {
        println!("{line}");
    }
    println!("{}", history.totals);
}
