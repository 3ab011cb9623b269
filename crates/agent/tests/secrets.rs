//! Secret variables: in the instance's own process, and nowhere else. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use ekiden_engine::Engine;
use ekiden_model::instance::{ExitCause, InstanceSpec, InstanceState};
use support::{World, can_run};

/// What must be found nowhere.
const VALUE: &str = "hunter2-correct-horse";

fn with_secret(world: &World, script: &str) -> InstanceSpec {
    let mut spec = world.script(script);
    // The secret wins over a plain variable of its name.
    spec.env.insert("PASSWORD".into(), "of the image".into());
    spec.env.insert("GREETING".into(), "hello".into());
    let value = VALUE.to_owned().into();
    spec.secret_env.insert("PASSWORD".into(), value);
    spec
}

fn contains(bytes: &[u8]) -> bool {
    bytes
        .windows(VALUE.len())
        .any(|window| window == VALUE.as_bytes())
}

/// Every file below a directory that holds the value; also counts the files.
fn search(directory: &Path, files: &mut usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(search(&entry.path(), files));
        } else if kind.is_file() {
            *files += 1;
            if fs::read(entry.path()).is_ok_and(|bytes| contains(&bytes)) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

/// What `ps` can show of a process: its arguments and its environment.
fn shown_of(pid: u32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    [read("cmdline"), read("environ")].concat()
}

/// Whether the value is in a process's writable memory (proc(5), `maps` and `mem`).
fn in_memory_of(pid: u32) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let writable = maps.lines().filter(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|mode| mode.starts_with("rw"))
    });
    writable
        .filter_map(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let from = u64::from_str_radix(from, 16).ok()?;
            let to = u64::from_str_radix(to, 16).ok()?;
            Some((from, to))
        })
        .any(|(from, to)| {
            let mut bytes = vec![0; (to - from) as usize];
            memory.read_exact_at(&mut bytes, from).is_ok() && contains(&bytes)
        })
}

#[tokio::test]
async fn a_secret_is_in_the_instance_and_in_no_file_and_no_other_process() {
    if !can_run() {
        return;
    }
    let world = World::new().await;
    let length = VALUE.len();
    let script = format!(
        "test ${{#PASSWORD}} = {length} && test -z \"${{PASSWORD%%hunter2*}}\" && echo \"$GREETING\" ready; \
         exec sleep 1000"
    );
    let spec = with_secret(&world, &script);
    assert!(!format!("{spec:?}").contains(VALUE));
    world.start(&spec).await;
    world.wait_for_line(spec.id, "hello ready").await;

    // Both of its directories, the one for data and the one for sockets.
    let (mut files, data) = (0, world.data());
    let both = data.ancestors().nth(2).unwrap();
    assert_eq!(search(both, &mut files), [""; 0]);
    assert!(files > 2, "there is a record and a log");
    let shim = world.shim_of(spec.id).unwrap();
    for pid in [shim, world.agent_pid()] {
        assert!(!contains(&shown_of(pid)), "process {pid} shows it");
    }
    assert!(!in_memory_of(shim), "the shim still has it");
    let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let container: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    assert!(contains(&shown_of(container)), "the instance has it");
    assert!(in_memory_of(container), "memory can be searched");

    world.remove(spec.id).await.unwrap();
    assert_eq!(search(both, &mut files), [""; 0]);
}

#[tokio::test]
async fn an_instance_with_a_secret_outlives_its_agent_and_one_that_was_cut_off_is_lost() {
    if !can_run() {
        return;
    }
    let mut world = World::new().await;
    let spec = with_secret(&world, "echo ready; exec sleep 1000");
    world.start(&spec).await;
    world.wait_for_line(spec.id, "ready").await;
    // As an agent leaves it that was killed between the record and the start.
    let cut = with_secret(&world, "echo never");
    let record = find_record(&world.data(), &spec.id.to_string());
    let text = fs::read_to_string(&record).unwrap();
    assert!(!text.contains("secret_env"), "{text}");
    world.kill_agent().await;
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["spec"]["id"] = cut.id.to_string().into();
    value["slot"] = 7.into();
    let instances = record.parent().unwrap().parent().unwrap();
    let directory = instances.join(cut.id.to_string());
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("spec.json"), value.to_string()).unwrap();

    world.restart_agent().await;
    world
        .wait(spec.id, |state| {
            matches!(state, InstanceState::Running { .. }).then_some(())
        })
        .await;
    assert_eq!(world.exit(cut.id).await.cause, ExitCause::Lost);
    // Asked for again, it is what it was: its caller starts another.
    world.client.start(&cut).await.unwrap();
    assert_eq!(world.exit(cut.id).await.cause, ExitCause::Lost);
}

fn find_record(directory: &Path, id: &str) -> std::path::PathBuf {
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        if next.ends_with(id) && next.join("spec.json").exists() {
            return next.join("spec.json");
        }
        let entries = fs::read_dir(&next).into_iter().flatten().flatten();
        left.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    panic!("no record of {id}");
}
