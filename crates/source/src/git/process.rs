//! Running one git process, with a bound on everything.

use std::{
    io::{self, PipeReader, PipeWriter},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

use super::error::{GitError, host};

/// Bytes of an answer that is read as a whole: branches and tags with one name, a commit.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Bytes of what git says that are kept, the last of them.
const SAID_BYTES_MAX: usize = 16 << 10;

/// Lines of progress that are passed on.
const LINES_MAX: usize = 500;

/// Bytes of a line of progress.
const LINE_BYTES_MAX: usize = 500;

/// Address space of each process: objects that are larger stream through, or are refused.
const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// How often the size of a repository is looked at while it grows.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// What is passed on of progress.
pub(super) type OnLine<'a> = &'a (dyn Fn(String) + Send + Sync);

/// What a process left behind.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// When somebody stops waiting, and how long that was from the beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    time_max: Duration,
}

impl Deadline {
    pub(super) fn after(time_max: Duration) -> Self {
        Self {
            at: Instant::now() + time_max,
            time_max,
        }
    }

    async fn passed(self) -> GitError {
        sleep_until(self.at).await;
        GitError::Timeout(self.time_max)
    }
}

/// A directory that may grow by so many bytes only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth<'a> {
    pub(super) directory: &'a Path,
    /// Bytes it may have.
    pub(super) bytes_max: u64,
    /// The bound that an error names.
    pub(super) bound: u64,
}

/// A process and all that it starts, which die when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// It has ended, and its number may be another's soon.
    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a process in a group of its own. The group must be dropped before the child is.
fn spawn(mut command: Command, file_bytes_max: u64) -> Result<(Child, Group), GitError> {
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GitError::GitMissing,
        _ => host("start git")(error),
    })?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    // It has not yet had the time to start anything; what it starts later inherits the bounds.
    for (resource, bytes) in [
        (Resource::Fsize, file_bytes_max),
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        // Fails for a process that has ended already.
        let _ = prlimit(pid, resource, limit);
    }
    Ok((child, Group(pid)))
}

/// Runs a process to its end, and reads what it answers. Cancel-safe: it dies with the future.
pub(super) async fn run(
    mut command: Command,
    deadline: Deadline,
    growth: Option<Growth<'_>>,
    on_line: OnLine<'_>,
) -> Result<Output, GitError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let file_bytes_max = growth.map_or(ANSWER_BYTES_MAX as u64, |growth| growth.bound);
    let (mut child, mut group) = spawn(command, file_bytes_max)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (stdout, stderr, status) = tokio::join!(
            read_answer(stdout),
            read_lines(stderr, on_line),
            child.wait()
        );
        Ok(Output {
            status: status.map_err(host("wait for git"))?,
            stdout: stdout?,
            stderr,
        })
    };
    let output = tokio::select! {
        // Whichever ends first: dropping the group kills the process, and the rest ends with it.
        output = ended => output,
        error = watch(growth) => Err(error),
        error = deadline.passed() => Err(error),
    };
    match output {
        Ok(_) => group.forget(),
        Err(_) => group.kill(),
    }
    output
}

/// Runs a process whose input and output `work` has, on a thread that may block. Cancel-safe: the process dies
/// with the future, and `work` finds its pipes closed.
pub(super) async fn converse<T: Send + 'static>(
    mut command: Command,
    deadline: Deadline,
    work: impl FnOnce(PipeWriter, PipeReader) -> Result<T, GitError> + Send + 'static,
) -> Result<(T, Output), (GitError, String)> {
    let bare = |error| (error, String::new());
    let pipe = || io::pipe().map_err(host("make a pipe"));
    let ((stdin, to), (from, stdout)) = (pipe().map_err(bare)?, pipe().map_err(bare)?);
    command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    // Drops our ends of what the process has.
    let (mut child, mut group) = spawn(command, ANSWER_BYTES_MAX as u64).map_err(bare)?;
    let stderr = child.stderr.take();
    let working = spawn_blocking(move || work(to, from));
    let worked = async {
        let worked = working.await;
        let worked = worked.unwrap_or(Err(GitError::Odd("reading it failed")));
        if worked.is_err() {
            // It may go on and on though nobody listens any more; why it failed, it has a moment to say.
            sleep(WATCH_EVERY).await;
            group.kill();
        }
        worked
    };
    let (worked, stderr) = tokio::select! {
        // As above.
        ended = async { tokio::join!(worked, read_lines(stderr, &|_| {})) } => ended,
        error = deadline.passed() => return Err(bare(error)),
    };
    let value = match worked {
        Ok(value) => value,
        Err(error) => return Err((error, stderr)),
    };
    // It has closed its output, so it is about to end.
    let status = tokio::select! {
        status = child.wait() => status.map_err(host("wait for git")).map_err(bare)?,
        error = deadline.passed() => return Err(bare(error)),
    };
    group.forget();
    let output = Output {
        status,
        stdout: Vec::new(),
        stderr,
    };
    Ok((value, output))
}

/// Ends when a directory has become too large; never without one.
async fn watch(growth: Option<Growth<'_>>) -> GitError {
    let Some(growth) = growth else {
        return std::future::pending().await;
    };
    loop {
        sleep(WATCH_EVERY).await;
        let directory = growth.directory.to_owned();
        // What cannot be measured now is measured again.
        let bytes = spawn_blocking(move || size(&directory)).await.unwrap_or(0);
        if bytes > growth.bytes_max {
            return GitError::TooLarge {
                bytes_max: growth.bound,
            };
        }
    }
}

/// Bytes of all files below a directory. Blocks.
pub(super) fn size(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Gone in the meantime.
        Err(_) => 0,
    });
    sizes.sum()
}

async fn read_answer(stdout: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, GitError> {
    let mut answer = Vec::new();
    if let Some(stdout) = stdout {
        let mut bounded = stdout.take(ANSWER_BYTES_MAX as u64 + 1);
        let read = bounded.read_to_end(&mut answer).await;
        read.map_err(host("read what git answers"))?;
    }
    match answer.len() > ANSWER_BYTES_MAX {
        true => Err(GitError::Odd("it is longer than 1 MiB")),
        false => Ok(answer),
    }
}

/// Passes on each line, and keeps the last of them. A line of progress is written over by the next one, with a
/// carriage return between them; only the last is of interest.
async fn read_lines(stderr: Option<impl AsyncRead + Unpin>, on_line: OnLine<'_>) -> String {
    let (mut said, mut line, mut count) = (String::new(), Vec::new(), 0);
    let Some(mut stderr) = stderr else {
        return said;
    };
    let mut end_line = |line: &mut Vec<u8>, said: &mut String| {
        let text = printable(&std::mem::take(line));
        if text.is_empty() {
            return;
        }
        said.push_str(&text);
        said.push('\n');
        let from = said.ceil_char_boundary(said.len().saturating_sub(SAID_BYTES_MAX));
        said.drain(..from);
        count += 1;
        if count <= LINES_MAX {
            on_line(text);
        }
    };
    let (mut buffer, mut returned) = ([0; 4096], false);
    // What cannot be read is not said.
    while let Ok(length) = stderr.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        for &byte in &buffer[..length] {
            // ssh ends its lines with both.
            if std::mem::replace(&mut returned, byte == b'\r') && byte != b'\n' {
                line.clear();
            }
            match byte {
                b'\n' => end_line(&mut line, &mut said),
                b'\r' => {}
                _ if line.len() < LINE_BYTES_MAX => line.push(byte),
                _ => {}
            }
        }
    }
    end_line(&mut line, &mut said);
    said
}

fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.trim().to_owned()
}
