//! What an instance costs, printed rather than asserted:
//! `cargo test -p ekiden-agent --test measure -- --ignored --nocapture`. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use ekiden_engine::Engine;
use support::{World, can_run};

const ROUNDS: usize = 60;

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn start_remove_and_memory() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let (mut starts, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let spec = world.spec(&["sleep", "1000"]);
        let asked = Instant::now();
        // Answered when the program has been executed.
        world.client.start(&spec).await.unwrap();
        starts.push(asked.elapsed());
        let asked = Instant::now();
        world.client.remove(spec.id).await.unwrap();
        removals.push(asked.elapsed());
    }
    report("start", starts);
    report("kill and remove", removals);
    let specs: Vec<_> = (0..30).map(|_| world.spec(&["sleep", "1000"])).collect();
    let asked = Instant::now();
    let started = futures(specs.iter().map(|spec| world.client.start(spec))).await;
    assert!(started.iter().all(Result::is_ok));
    println!("30 at one time: {:?}", asked.elapsed());
    let shims: Vec<u64> = specs
        .iter()
        .filter_map(|spec| pss_kib(world.shim_of(spec.id)?))
        .collect();
    let total: u64 = shims.iter().sum();
    println!(
        "shim memory: {} KiB PSS each, of {}",
        total / shims.len().max(1) as u64,
        shims.len()
    );
    println!(
        "agent memory: {} KiB PSS",
        pss_kib(world.agent_pid()).unwrap_or(0)
    );
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100];
    println!(
        "{what}: median {:?}, p90 {:?}, best {:?}",
        at(50),
        at(90),
        times[0]
    );
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in all.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn pss_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse()
            .ok()
    })
}
