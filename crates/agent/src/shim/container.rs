//! The container: from the shim's fork to the program's first instruction.
//!
//! The child is the host's root until shortly before the end. It makes the container's world, then
//! enters the user namespace *last*, so that the container owns none of its other namespaces: its
//! root can mount nothing, configure no interface, and change no host name, whatever capabilities
//! it has over its own files and processes. For the same reason the shim can enter it later.
//!
//! Not built on an OCI runtime library: the one there is brings 111 crates, its cgroup v1 support is
//! being wound down, it compiles the system call filter at each start (24 of 31 ms), and it has the
//! user namespace own the others.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, fchown},
        },
    },
    path::{Path, PathBuf},
};

use ekiden_model::instance::BUILD_AUTHORITIES;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{
        Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_send_signal, setrlimit,
        waitid,
    },
};

use super::{
    failure::{Failure, Step},
    protocol::StartOrder,
    root,
    user::{self, User},
};
use crate::{
    cgroup::Entrance,
    config::UIDS,
    seccomp,
    sys::{self, Cloned, FilterInstruction},
};

/// A running container.
pub(super) struct Container {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Docker's default capabilities less NET_RAW, MKNOD and AUDIT_WRITE: CHOWN 0, DAC_OVERRIDE 1,
/// FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7, SETPCAP 8, NET_BIND_SERVICE 10, SYS_CHROOT 18,
/// SETFCAP 31 (linux/capability.h).
const CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;

/// Open files, as in Docker on a system without a limit of its own, if the hard limit allows.
const OPEN_FILES: u64 = 65_536;

/// Instances go before the host's own processes when the whole machine is out of memory.
const OOM_SCORE_ADJUSTMENT: &str = "300";

/// The `PATH` of an image that sets none: Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that name a file of trusted authorities: of OpenSSL, curl, pip, Python's requests, Node,
/// cargo and git.
pub(crate) const TRUSTING: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
];

/// The longest failure that is passed on, in bytes.
const FAILURE_BYTES_MAX: u64 = 4096;

/// What the child's exit says when it could not become the program; nobody sees it.
const FAILED: i32 = 127;

/// A container whose process is making its world.
pub(super) struct Starting {
    container: Option<Container>,
    /// What the user namespace was made with; it is dead and waits to be reaped.
    spent: Option<OwnedFd>,
    failures: File,
}

/// Makes the container's process. It works at its mounts while the shim has other things to do.
pub(super) fn begin(order: &StartOrder, network: OwnedFd) -> Result<Starting, Failure> {
    // Read before the root is changed, installed as the last thing.
    let filter = seccomp::load(&order.seccomp).step("read the system call filter")?;
    let (user_namespace, spent) = order.uid_base.map(make_user_namespace).transpose()?.unzip();
    let birthplace = order
        .group
        .birthplace()
        .map(File::open)
        .transpose()
        .step("open the cgroup")?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).step("make a pipe");
    let (stdout, stdout_inside) = pipe()?;
    let (stderr, stderr_inside) = pipe()?;
    let (failures, failures_inside) = pipe()?;
    let namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let cloned = sys::clone_process(namespaces, birthplace.as_ref().map(|group| group.as_fd()))
        .step("make a process in new namespaces")?;
    match cloned {
        Cloned::Child => {
            // A directory of the host's that is open would be a way out (CVE-2024-21626).
            drop((failures, stdout, stderr, birthplace));
            let child = Child {
                order,
                network,
                user_namespace,
                filter,
                stdout: stdout_inside,
                stderr: stderr_inside,
            };
            let Err(failure) = child.become_program(failures_inside.as_fd());
            // A shim that is gone needs no explanation.
            let _ = File::from(failures_inside).write_all(failure.0.as_bytes());
            std::process::exit(FAILED);
        }
        Cloned::Parent { pid, pidfd } => Ok(Starting {
            container: Some(Container {
                pid,
                pidfd,
                stdout,
                stderr,
            }),
            spent,
            failures: failures.into(),
        }),
    }
}

impl Starting {
    /// Returns when its program runs, or with a sentence why it does not.
    pub(super) fn finish(mut self) -> Result<Container, Failure> {
        let mut said = String::new();
        // Ends when the program runs: the pipe is closed on exec.
        let failures = Read::by_ref(&mut self.failures);
        let read = failures.take(FAILURE_BYTES_MAX).read_to_string(&mut said);
        if !said.is_empty() {
            return Err(Failure(said));
        }
        read.step("hear of the container's start")?;
        self.container
            .take()
            .ok_or_else(|| Failure("it was started before".to_owned()))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(container) = &self.container {
            let _ = pidfd_send_signal(&container.pidfd, Signal::KILL);
            reap(container.pidfd.as_fd());
        }
        if let Some(spent) = &self.spent {
            reap(spent.as_fd());
        }
    }
}

/// What the child needs to become the program.
struct Child<'a> {
    order: &'a StartOrder,
    network: OwnedFd,
    user_namespace: Option<OwnedFd>,
    filter: Vec<FilterInstruction>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Child<'_> {
    fn become_program(self, failures: BorrowedFd<'_>) -> Result<Infallible, Failure> {
        let order = self.order;
        // Root inside, seen from the host.
        let owner = order.uid_base.unwrap_or(0);
        sys::reset_signals();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        sys::set_namespace(self.network.as_fd(), libc::CLONE_NEWNET).step("enter the network")?;
        sys::set_host_name(&order.host_name).step("set the host name")?;
        let entrances = self.leave_groups_of_the_shim()?;
        let user_namespace = self.user_namespace.as_ref().map(|fd| fd.as_fd());
        let build = order
            .build
            .as_ref()
            .map(|build| root::open_build(build, user_namespace))
            .transpose()?;
        root::enter(order, user_namespace)?;
        root::mount_system(owner)?;
        if let Some(build) = build {
            build.mount(owner).step("mount the build's cache")?;
        }
        // Late, so that a small share of the CPU does not make the mounts slow.
        for entrance in &entrances {
            entrance.enter().step("enter the cgroup")?;
        }
        drop(entrances);
        sys::unshare(libc::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
        root::mount_cgroups(&order.group.legacy_hierarchies());
        for (name, content) in [
            ("resolv.conf", order.resolv_conf.as_str()),
            ("hosts", &order.hosts),
            ("hostname", &format!("{}\n", order.host_name)),
        ] {
            root::write_etc(name, content, owner).step(format_args!("write /etc/{name}"))?;
        }
        let user = user::find(&order.user).map_err(Failure)?;
        check_mapped(&user, order.uid_base.is_some())?;
        let cwd = Path::new(if order.cwd.is_empty() {
            "/"
        } else {
            &order.cwd
        });
        root::make_directories(cwd, owner).step(format_args!(
            "make the working directory `{}`",
            cwd.display()
        ))?;
        self.lay_out_standard_files(owner, &user)?;
        // Best effort: lowering it is what needs a capability, and this raises it.
        let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
        limit_resources().step("set resource limits")?;
        if let Some(namespace) = &self.user_namespace {
            sys::set_namespace(namespace.as_fd(), libc::CLONE_NEWUSER)
                .step("enter the user namespace")?;
        }
        sys::close_all_but_standard_and(failures).step("close files")?;
        // After all else is closed: a working directory of `/proc/self/fd/9` leads nowhere.
        std::env::set_current_dir(cwd).step(format_args!(
            "enter the working directory `{}`",
            cwd.display()
        ))?;
        drop_privileges(&user)?;
        let env = environment(order, &user);
        // After the change of user, which clears it (prctl(2)); a shim that died before cannot have
        // caused it.
        sys::die_with_parent().step("bind the container to its shim")?;
        if sys::reader_is_gone(failures) {
            return Err(Failure("the shim has ended".to_owned()));
        }
        sys::install_filter(&self.filter).step("install the system call filter")?;
        let failure = execute(order, &env, &user);
        // What is still owned has been closed above; dropping it would close it twice.
        std::mem::forget(self);
        Err(failure)
    }

    /// On v1, where a process is born in its parent's groups: the ways into its own.
    fn leave_groups_of_the_shim(&self) -> Result<Vec<Entrance>, Failure> {
        let entrances = self.order.group.open_entrances().step("open the cgroup")?;
        if !entrances.is_empty() {
            self.order.shims.take_container();
        }
        Ok(entrances)
    }

    /// Nothing to read, and the log twice to write.
    fn lay_out_standard_files(&self, owner: u32, user: &User) -> Result<(), Failure> {
        // So that the user may open /dev/stdout again.
        let (uid, gid) = (owner + user.uid, owner + user.gid);
        for pipe in [&self.stdout, &self.stderr] {
            fchown(pipe, Some(uid), Some(gid)).step("give the log's pipe away")?;
        }
        let null = File::open("/dev/null").step("open /dev/null")?;
        for (number, file) in [null.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
            .iter()
            .enumerate()
        {
            sys::duplicate_to(*file, number as i32).step("lay out standard files")?;
        }
        Ok(())
    }
}

/// A user namespace that maps ids from 0 to `base`, held by nothing but its descriptor.
///
/// A namespace has a process when it is made, so a child is made and killed for it. It takes its
/// time to die, and is answered too for whoever has some to reap it.
pub(crate) fn make_user_namespace(base: u32) -> Result<(OwnedFd, OwnedFd), Failure> {
    let cloned = sys::clone_process(libc::CLONE_NEWUSER, None)
        .step("make a user namespace (is user.max_user_namespaces above 0?)")?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => loop {
            // Waits for the signal; `die_with_parent` is for the moment in between.
            let _ = sys::die_with_parent();
            rustix::event::pause();
        },
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let map = format!("0 {base} {UIDS}");
    let made = fs::write(format!("/proc/{pid}/uid_map"), &map)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), &map))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    // It can only be gone already.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    match made.step("map the users of a user namespace") {
        Ok(namespace) => Ok((namespace.into(), pidfd)),
        Err(failure) => {
            reap(pidfd.as_fd());
            Err(failure)
        }
    }
}

/// Waits for a process of ours that has ended or is about to.
pub(crate) fn reap(process: BorrowedFd<'_>) {
    let _ = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED);
}

fn check_mapped(user: &User, is_mapped: bool) -> Result<(), Failure> {
    let ids = || user.groups.iter().copied().chain([user.uid, user.gid]);
    match ids().find(|id| is_mapped && *id >= UIDS) {
        Some(id) => Err(Failure(format!(
            "the user or group id {id} is above 65535, the highest in a user namespace: run the service with the host's user namespace"
        ))),
        None => Ok(()),
    }
}

fn limit_resources() -> io::Result<()> {
    let files = getrlimit(Resource::Nofile);
    let most = files
        .maximum
        .map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: Some(most),
        },
    )?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    Ok(())
}

fn drop_privileges(user: &User) -> Result<(), Failure> {
    sys::bound_capabilities(CAPABILITIES).step("bound the capabilities")?;
    sys::become_user(user.uid, user.gid, &user.groups).step("become the image's user")?;
    let effective = if user.uid == 0 { CAPABILITIES } else { 0 };
    sys::set_capabilities(effective).step("drop capabilities")?;
    sys::set_no_new_privileges().step("refuse new privileges")
}

/// What the order says, and what every program expects.
fn environment(order: &StartOrder, user: &User) -> Vec<String> {
    let mut env = order.env.clone();
    env.extend(
        order
            .secret_env
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let expected = [
        ("PATH", DEFAULT_PATH),
        ("HOME", user.home.as_str()),
        ("HOSTNAME", &order.host_name),
    ];
    let authorities = order
        .build
        .as_ref()
        .and_then(|build| build.authorities.as_ref());
    let trusting = TRUSTING
        .iter()
        .filter(|_| authorities.is_some())
        .map(|name| (*name, BUILD_AUTHORITIES));
    for (name, value) in expected.into_iter().chain(trusting) {
        let set = env
            .iter()
            .any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name));
        if !set {
            env.push(format!("{name}={value}"));
        }
    }
    env
}

/// Becomes the program. Returns only with why not.
fn execute(order: &StartOrder, env: &[String], user: &User) -> Failure {
    let strings = |texts: &[String]| -> Result<Vec<CString>, Failure> {
        texts
            .iter()
            .map(|text| {
                CString::new(text.as_str()).map_err(|_| {
                    Failure("an argument or a variable contains a zero byte".to_owned())
                })
            })
            .collect()
    };
    let (args, environ) = match strings(&order.args).and_then(|args| Ok((args, strings(env)?))) {
        Ok(both) => both,
        Err(failure) => return failure,
    };
    let Some(command) = order.args.first().filter(|command| !command.is_empty()) else {
        return Failure(
            "there is no command: the image has none and no start command is set".to_owned(),
        );
    };
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let candidates: Vec<PathBuf> = match command.contains('/') {
        true => vec![PathBuf::from(command)],
        false => path
            .split(':')
            .map(|directory| Path::new(directory).join(command))
            .collect(),
    };
    let mut refused = None;
    for candidate in candidates {
        let Ok(program) = CString::new(candidate.as_os_str().as_bytes()) else {
            continue;
        };
        let error = sys::execute(&program, &args, &environ);
        // execvp(3): what is not there or not allowed is looked for further on.
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !candidate.exists() => {}
            _ => {
                refused.get_or_insert(explain(&candidate, &error, user));
            }
        }
    }
    refused.unwrap_or_else(|| match command.contains('/') {
        true => Failure(format!(
            "the command `{command}` does not exist in the image"
        )),
        false if order.secret_env.contains("PATH") => Failure(format!(
            "the command `{command}` was not found in the PATH that a secret sets"
        )),
        false => Failure(format!(
            "the command `{command}` was not found in the image's PATH ({path})"
        )),
    })
}

fn explain(program: &Path, error: &io::Error, user: &User) -> Failure {
    let name = program.display();
    Failure(match error.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "the command `{name}` exists but its interpreter (the `#!` line, or the dynamic loader) does not"
        ),
        Some(libc::EACCES) if program.is_dir() => format!("the command `{name}` is a directory"),
        Some(libc::EACCES) => {
            let mode = program
                .metadata()
                .map_or(0, |metadata| metadata.permissions().mode() & 0o777);
            format!(
                "the command `{name}` (mode {mode:o}) may not be executed by user {}",
                user.uid
            )
        }
        Some(libc::ENOEXEC) => format!(
            "the command `{name}` cannot run on this machine ({}): it was built for another architecture, or is a script without a `#!` line",
            std::env::consts::ARCH
        ),
        Some(libc::E2BIG) => {
            format!("the arguments and the environment of `{name}` are too long for the kernel")
        }
        _ => format!("cannot execute `{name}`: {error}"),
    })
}
