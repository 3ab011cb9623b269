//! Ending and reloading a server from outside, and taking everything of an Ekiden away.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::Context;
use ekiden_agent::teardown;
use ekiden_cli::{
    failure::{Failure, Outcome},
    output::print_line,
    status::Status,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    config::Config,
    layout,
    lock::DataLock,
    process::RoleProcess,
    role::Role,
    supervisor::{EDGE_STOP_EXTRA, STOP_LIMIT},
    wiring,
};

/// How long a reload may take until everything serves.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// How often the status is looked at meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// How long requests may take to finish when everything is removed anyway.
const TEARDOWN_DRAIN: Duration = Duration::from_secs(2);

/// Ends the server and waits until it has ended; instances go on running.
///
/// # Errors
/// There is none, or it does not end within its own bounds.
pub fn stop(config: &Config) -> Outcome {
    need_root("stopping the server")?;
    let limit = config.service.drain_limit + EDGE_STOP_EXTRA + 2 * STOP_LIMIT + STOP_LIMIT;
    match end_supervisor(config, limit)? {
        End::Was => Ok(print_line("stopped; instances go on running")?),
        End::NoServer => Err(Failure::new(format!(
            "no server runs on `{}`",
            config.run_dir.display()
        ))
        .hint("`ekiden server` starts one")),
        End::Late => {
            Err(Failure::new("the server does not end").hint("its log says what it waits for"))
        }
    }
}

/// Has the server take the settings and the program of now into use, and waits until all of it
/// serves by them.
///
/// # Errors
/// There is none, it does not understand the settings, or it does not serve in time.
pub fn reload(config: &Config) -> Outcome {
    need_root("reloading the server")?;
    let read = || Status::read(&config.status_file()).context("cannot read status.json");
    let before = read()?.filter(Status::supervisor_runs);
    let Some((before, pid)) =
        before.and_then(|status| Some((status.since_ms, Pid::from_raw(status.pid.cast_signed())?)))
    else {
        return Err(
            Failure::new(format!("no server runs on `{}`", config.run_dir.display()))
                .hint("`ekiden server` starts one"),
        );
    };
    // Whoever holds the lock is the supervisor: the number may have gone to somebody else since.
    if DataLock::take(&config.data_dir).is_ok() {
        return Err(Failure::new("the server has just ended").hint("`ekiden server` starts one"));
    }
    rustix::process::kill_process(pid, Signal::USR2)?;
    let end = Instant::now() + RELOAD_LIMIT;
    loop {
        let status = read()?;
        if let Some(status) = status.filter(|status| status.since_ms != before && status.serves()) {
            return Ok(print_line(&format!(
                "reloaded; version {} serves",
                status.version
            ))?);
        }
        if Instant::now() >= end {
            return Err(Failure::new(
                "the server did not take the settings of now into use in time",
            )
            .hint("its log says why; what it had stays in force"));
        }
        std::thread::sleep(POLL);
    }
}

/// Removes the server, instances, network, groups, and both directories.
///
/// # Errors
/// Not confirmed, or something cannot be removed; it can be run again.
pub fn teardown(config: &Config, confirmed: bool) -> Outcome {
    need_root("teardown")?;
    if !confirmed {
        confirm(config)?;
    }
    if matches!(end_supervisor(config, TEARDOWN_DRAIN)?, End::Late) {
        // A second request does not wait for anybody's requests.
        end_supervisor(config, 3 * STOP_LIMIT)?;
    }
    // From here on no server can start, not even one that the agent would start.
    let _lock = DataLock::take(&config.data_dir)?;
    end_roles(config)?;
    teardown::teardown(&wiring::agent_config(config))
        .context("cannot remove all of the instances")?;
    layout::remove(config)?;
    Ok(print_line(&format!(
        "removed every trace of \"{}\"",
        config.name
    ))?)
}

/// How the attempt to end a supervisor went.
enum End {
    Was,
    NoServer,
    Late,
}

fn end_supervisor(config: &Config, limit: Duration) -> Result<End, Failure> {
    let status = Status::read(&config.status_file()).context("cannot read status.json")?;
    let Some(status) = status.filter(Status::supervisor_runs) else {
        return Ok(End::NoServer);
    };
    let Some(pid) = Pid::from_raw(status.pid.cast_signed()) else {
        return Ok(End::NoServer);
    };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(End::NoServer);
    };
    // Only the supervisor holds the lock: the number may have gone to somebody else since.
    if DataLock::take(&config.data_dir).is_ok() {
        return Ok(End::NoServer);
    }
    pidfd_send_signal(&process, Signal::TERM)?;
    let limit = Timespec::try_from(limit)?;
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))?;
    Ok(if ended > 0 { End::Was } else { End::Late })
}

/// Ends roles that a dead supervisor has left.
fn end_roles(config: &Config) -> Result<(), Failure> {
    let runtime = ekiden_cli::command::runtime()?;
    for role in Role::ALL {
        let found = RoleProcess::adopt(config, role)
            .with_context(|| format!("cannot stop the {role} that runs"))?;
        if let Some((process, ..)) = found {
            runtime.block_on(process.retire(STOP_LIMIT));
        }
    }
    Ok(())
}

fn confirm(config: &Config) -> Outcome {
    let refused = || {
        Failure::new("nothing was removed").hint("`ekiden teardown --yes` removes without asking")
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    let (data, run) = (config.data_dir.display(), config.run_dir.display());
    eprint!("remove all services, images and logs in {data} and {run}? Type `yes`: ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(refused())
    }
}

fn need_root(what: &str) -> Outcome {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failure::new(format!("{what} needs root")).hint("run it through sudo")),
    }
}
