//! Removing every trace of an Ekiden from a host.

use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup::Cgroups, config::AgentConfig, host::AgentError, network, tree};

/// Kills all instances and removes them, their logs, the images, the network, the cgroups and the
/// directories `agent` of both directories of the configuration. The agent must not run. Blocks.
/// Idempotent.
///
/// # Errors
/// The first thing that could not be removed; the others are tried all the same.
pub fn teardown(config: &AgentConfig) -> Result<(), AgentError> {
    config.check()?;
    let cgroups = Cgroups::detect(&config.name)?;
    // Shims before their instances, so that none has a record left to write.
    kill_shims(config);
    let instances: Vec<_> = cgroups
        .list()
        .into_iter()
        .map(|id| cgroups.group(id).remove())
        .collect();
    let groups = cgroups.remove_all();
    let network = network::teardown(config);
    let directories = [config.agent_dir(), config.run_dir.join("agent")].map(|directory| {
        tree::remove(&directory).map_err(|source| AgentError::File {
            doing: "remove the directory",
            path: directory,
            source,
        })
    });
    instances.into_iter().collect::<Result<Vec<_>, _>>()?;
    groups?;
    network?;
    directories.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

/// Shims are known by the name they gave themselves and by the log they hold open, which is in a
/// directory of ours.
fn kill_shims(config: &AgentConfig) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let is_shim = || -> io::Result<bool> {
            let name = fs::read_to_string(entry.path().join("comm"))?;
            Ok(name.trim() == "ekiden-shim" && owns_log_in(pid, &config.logs_dir())?)
        };
        if is_shim().unwrap_or(false)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn owns_log_in(pid: i32, logs: &std::path::Path) -> io::Result<bool> {
    for file in fs::read_dir(format!("/proc/{pid}/fd"))? {
        if fs::read_link(file?.path()).is_ok_and(|target| target.starts_with(logs)) {
            return Ok(true);
        }
    }
    Ok(false)
}
