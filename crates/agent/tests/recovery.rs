//! What is killed and comes back, and what is gone for good. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use ekiden_engine::Engine;
use ekiden_model::instance::{ExitCause, InstanceState, StopReason};
use support::{World, can_run, until};

#[tokio::test]
async fn killed_agent_comes_back_to_its_instances() {
    if !can_run() {
        return;
    }
    let mut world = World::new().await;
    let lasting = world.script("echo up; while true; do sleep 0.1; done");
    let ending = world.script("until [ -e /tmp/end ]; do sleep 0.01; done; exit 5");
    let stopping = world.script("trap 'exit 6' TERM; echo up; while true; do sleep 0.01; done");
    let address = world.start(&lasting).await;
    world.start(&ending).await;
    world.start(&stopping).await;
    let upper = world
        .data()
        .join(format!("instances/{}/upper/tmp", ending.id));
    world.kill_agent().await;
    // Ends while nobody looks.
    std::fs::create_dir_all(&upper).unwrap();
    let shim = world.shim_of(ending.id);
    end_from_outside(&world, &ending.id.to_string());
    until("its shim has ended", || {
        world.shim_of(ending.id) != shim || shim.is_none()
    })
    .await;
    world.restart_agent().await;
    let found = world
        .wait(lasting.id, |state| match state {
            InstanceState::Running { address, .. } => Some(*address),
            _ => None,
        })
        .await;
    assert_eq!(found, address);
    assert_eq!(
        world.exit(ending.id).await.cause,
        ExitCause::Signal { signal: 9 }
    );
    world.wait_for_line(stopping.id, "up").await;
    world.stop(stopping.id, 60_000).await;
    assert_eq!(
        world.exit(stopping.id).await.cause,
        ExitCause::Code { code: 6 }
    );
    // The same id again is not a new one.
    world.client.start(&lasting).await.unwrap();
    assert_eq!(world.output(lasting.id).await, "up\n");
    world.clear().await;
}

/// Kills an instance's first process.
fn end_from_outside(world: &World, id: &str) {
    let group = format!(
        "/sys/fs/cgroup/memory/ekiden-{}/{id}/cgroup.procs",
        world.name
    );
    let unified = format!("/sys/fs/cgroup/ekiden-{}/{id}/cgroup.procs", world.name);
    let members = std::fs::read_to_string(group)
        .or_else(|_| std::fs::read_to_string(unified))
        .unwrap();
    let first = members
        .lines()
        .min_by_key(|pid| pid.parse::<u32>().unwrap())
        .unwrap();
    let first = rustix::process::Pid::from_raw(first.parse().unwrap()).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn stop_that_was_recorded_is_carried_out_by_the_next_agent() {
    if !can_run() {
        return;
    }
    let mut world = World::new().await;
    let spec = world.script("trap '' TERM; echo up; while true; do sleep 1000; done");
    world.start(&spec).await;
    world.wait_for_line(spec.id, "up").await;
    world
        .client
        .stop(spec.id, StopReason::Unhealthy, 500)
        .await
        .unwrap();
    world.restart_agent().await;
    let exit = world.exit(spec.id).await;
    assert_eq!(exit.cause, ExitCause::Signal { signal: 9 });
    assert_eq!(exit.stopped_for, Some(StopReason::Unhealthy));
}

#[tokio::test]
async fn killed_shim_takes_its_instance_along() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let spec = world.script("echo up; sleep 1000");
    world.start(&spec).await;
    world.wait_for_line(spec.id, "up").await;
    kill(world.shim_of(spec.id).unwrap());
    assert_eq!(world.exit(spec.id).await.cause, ExitCause::Lost);
    world.remove(spec.id).await.unwrap();
    until("its cgroup is gone", || groups(&world).is_empty()).await;
    assert!(!world.data().join(format!("instances/{}", spec.id)).exists());
}

#[tokio::test]
async fn shim_killed_while_the_agent_was_dead_is_noticed() {
    if !can_run() {
        return;
    }
    let mut world = World::new().await;
    // Its first process has changed its user, so that the kernel does not kill it with its parent.
    let spec = world.spec(&["su", "app", "-c", "echo up; sleep 1000"]);
    world.start(&spec).await;
    world.wait_for_line(spec.id, "up").await;
    let shim = world.shim_of(spec.id).unwrap();
    world.kill_agent().await;
    kill(shim);
    world.restart_agent().await;
    assert_eq!(world.exit(spec.id).await.cause, ExitCause::Lost);
    world.remove(spec.id).await.unwrap();
    until("its cgroup is gone", || groups(&world).is_empty()).await;
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The instances' cgroups, wherever they are.
fn groups(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["", "memory", "cpu", "cpuacct", "pids"] {
        let parent = format!("/sys/fs/cgroup/{root}/ekiden-{}", world.name);
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.len() == 32 {
                found.push(name);
            }
        }
    }
    found
}

#[tokio::test]
async fn fifty_lives_leave_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let one = world.script("exit 0");
    world.run_spec(&one).await;
    world.remove(one.id).await.unwrap();
    until("the first is gone", || traces(&world)["links"] == 0).await;
    let before = traces(&world);
    for round in 0..5 {
        let mut ids = Vec::new();
        for number in 0..10 {
            let spec = world.script(if number % 2 == 0 {
                "sleep 1000"
            } else {
                "exit 1"
            });
            ids.push(spec.id);
            world.client.start(&spec).await.unwrap();
        }
        if round == 2 {
            kill(world.shim_of(ids[0]).unwrap());
        }
        for id in ids {
            world.remove(id).await.unwrap();
        }
    }
    until("all traces are gone", || traces(&world) == before).await;
}

/// Counts of what an instance consists of.
fn traces(world: &World) -> BTreeMap<&'static str, usize> {
    let count = |path: String| std::fs::read_dir(path).map_or(0, |entries| entries.count());
    let links = std::fs::read_dir(format!("/sys/class/net/ek-{}/brif", world.name))
        .unwrap()
        .count();
    let shims = support::processes("ekiden-shim").into_iter().filter(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|file| file.starts_with(world.data()))
    });
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    BTreeMap::from([
        ("links", links),
        ("shims", shims.count()),
        ("groups", groups(world).len()),
        (
            "instances",
            count(format!("{}/instances", world.data().display())),
        ),
        (
            "mounts",
            mounts
                .lines()
                .filter(|line| line.contains(world.data().to_str().unwrap()))
                .count(),
        ),
        (
            "descriptors",
            count(format!("/proc/{}/fd", world.agent_pid())),
        ),
        (
            "sockets",
            count(format!("{}/../../run/agent/shims", world.data().display())),
        ),
    ])
}
