//! The process in which buildah runs: a root of its own in namespaces of its own.
//!
//! buildah mounts images, unpacks what strangers packed and follows what a Dockerfile says, and has
//! had its share of holes (CVE-2024-1753, -9407, -9675, -11218: all of them let a build reach the files
//! of whoever runs it). So it is not trusted with more than an instance is: it is root in a user
//! namespace that maps a private range of ids, sees `/usr` and nothing else of the host, and is in the
//! network and the cgroup it is given. A step that breaks out of runc and of buildah is here, and
//! here is nothing but its own build.
//!
//! ```text
//! agent -> <program> build-sandbox (host's root; makes the namespaces, waits)
//!            -> 1 (root of the user namespace; runs the commands one after the other)
//!                 -> buildah -> runc -> a step, in a PID, mount, IPC and UTS namespace of runc's
//! ```
//!
//! As with instances, all but the last mount namespace belong to the host's root, who makes the mounts
//! before the user namespace is entered: what is read-only stays so. The last one is a copy that
//! belongs to the user namespace, because buildah and runc must mount; in it what was inherited is
//! locked (mount_namespaces(7), "Restrictions on mount namespaces").
//!
//! One thread, no runtime, as in [`crate::shim`]. It ends when its commands have ended or the agent
//! closes the connection or dies, and takes everything in it along.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, chown, symlink},
            net::UnixStream,
            process::ExitStatusExt,
        },
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{CWD, Mode},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{Resource, Rlimit, Signal, pidfd_send_signal, setrlimit},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    cgroup::Group,
    shim::{Failure, Step, make_user_namespace, mount_devices, reap},
    sys::{self, Cloned},
};

/// Where things are inside.
pub(super) const CONTEXT: &str = "/context";
pub(super) const STORAGE: &str = "/storage";
pub(super) const OUTPUT: &str = "/output";
pub(super) const IMAGES: &str = "/images";
pub(super) const SECRETS: &str = "/secrets";
pub(super) const TEMPORARY: &str = "/var/tmp";

/// The longest order: secrets and arguments are bounded by whoever makes it.
const ORDER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What root in the sandbox may do at most: what instances may (`shim::container`), and what it takes to
/// mount (SYS_ADMIN 21), to unpack images (DAC_READ_SEARCH 2, MKNOD 27) and to look into its own
/// children (SYS_PTRACE 19). All of it over what belongs to its user namespace only.
const CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 18
    | 1 << 19
    | 1 << 21
    | 1 << 27
    | 1 << 31;

/// Builds go before the host's own processes when the whole machine is out of memory.
const OOM_SCORE_ADJUSTMENT: &str = "300";

/// Where programs look for certificates of authorities; what the host has of these is there.
const CERTIFICATES: [&str; 3] = ["etc/ssl/certs", "etc/pki/ca-trust", "etc/pki/tls"];

/// What becomes of programs in the root: links into `/usr`, or directories where they are not merged.
const PROGRAM_DIRECTORIES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What the agent sends, once, as JSON. No `Debug`: there are secrets in it.
#[derive(Serialize, Deserialize)]
pub(super) struct Order<'a> {
    /// A directory of the agent's to mount the root over, in the sandbox's mount namespace only.
    pub(super) staging: PathBuf,
    pub(super) storage: PathBuf,
    pub(super) temporary: PathBuf,
    pub(super) context: PathBuf,
    pub(super) output: PathBuf,
    /// Archives; the first is `/images/0`.
    pub(super) images: Vec<PathBuf>,
    /// The network namespace, as a file that can be opened.
    pub(super) network: PathBuf,
    pub(super) group: Group,
    /// The host's id of root inside.
    pub(super) uid_base: u32,
    /// Files of `/etc`: a path below it, and what is in it.
    pub(super) files: Vec<(String, String)>,
    /// Names and values; each is a file below `/secrets`.
    pub(super) secrets: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) env: Vec<(String, String)>,
    /// Run one after the other, until one fails.
    pub(super) commands: Vec<Vec<String>>,
}

/// What the sandbox answers, once, as JSON. From inside, and so not to be trusted with anything but a
/// message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It could not be made.
    Cannot(String),
    /// The command of this number was the last, and ended with this code (128 and more for signals).
    Ended { command: usize, code: i32 },
}

/// Runs a sandbox: what `<program> build-sandbox` does, before anything else has been started. Never
/// returns.
pub fn main() -> ! {
    sys::set_process_name(c"ekiden-build");
    sys::ignore_signals(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGQUIT,
        libc::SIGPIPE,
    ]);
    let _ = rustix::process::setsid();
    let code = match sys::take_stdin().map(UnixStream::from) {
        Ok(link) => match run(&link) {
            Ok(()) => 0,
            Err(failure) => {
                report(&link, &Report::Cannot(failure.0));
                1
            }
        },
        Err(_) => 1,
    };
    process::exit(code);
}

fn run(link: &UnixStream) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    link.take(ORDER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .step("read the order")?;
    let order: Order<'static> = serde_json::from_slice::<Order<'_>>(&bytes)
        .map_err(|error| Failure(format!("cannot understand the order: {error}")))?;
    bytes.zeroize();
    let network = File::open(&order.network).step("open the build's network")?;
    let birthplace = order.group.birthplace().map(File::open).transpose();
    let birthplace = birthplace.step("open the build's cgroup")?;
    let (user_namespace, spent) = make_user_namespace(order.uid_base)?;
    reap(spent.as_fd());
    let namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let cloned = sys::clone_process(namespaces, birthplace.as_ref().map(|group| group.as_fd()))
        .step("make a process in new namespaces")?;
    match cloned {
        Cloned::Child => {
            let said = match Inside::make(&order, network, user_namespace, link) {
                Ok(inside) => inside.run_commands(),
                Err(failure) => Report::Cannot(failure.0),
            };
            report(link, &said);
            process::exit(0);
        }
        Cloned::Parent { pidfd, .. } => {
            wait(link, pidfd.as_fd());
            Ok(())
        }
    }
}

/// Waits for the first process inside; when the agent is gone before, kills it, and with it all others.
fn wait(link: &UnixStream, child: BorrowedFd<'_>) {
    loop {
        // No events asked for: that the agent has no more to say is none, that it is gone is one.
        let mut events = [
            PollFd::from_borrowed_fd(child, PollFlags::IN),
            PollFd::from_borrowed_fd(link.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) if events[0].revents().is_empty() && events[1].revents().is_empty() => continue,
            _ => break,
        }
    }
    let _ = pidfd_send_signal(child, Signal::KILL);
    reap(child);
}

fn report(mut link: &UnixStream, report: &Report) {
    // An agent that is gone needs no report.
    let _ = serde_json::to_vec(report).map(|bytes| link.write_all(&bytes));
}

/// The first process of the sandbox, with its world made.
struct Inside<'a> {
    order: &'a Order<'a>,
}

impl<'a> Inside<'a> {
    fn make(
        order: &'a Order<'a>,
        network: File,
        user_namespace: OwnedFd,
        link: &UnixStream,
    ) -> Result<Self, Failure> {
        // A parent that died before cannot have caused it; its end of the link is closed then, and
        // the first report fails.
        sys::die_with_parent().step("bind the build to its parent")?;
        sys::reset_signals();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        sys::set_namespace(network.as_fd(), libc::CLONE_NEWNET).step("enter the network")?;
        drop(network);
        sys::set_host_name("build").step("set the host name")?;
        for entrance in order.group.open_entrances().step("open the cgroup")? {
            entrance.enter().step("enter the cgroup")?;
        }
        sys::unshare(libc::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
        let root = Root {
            order,
            user_namespace: user_namespace.as_fd(),
        };
        root.enter()?;
        let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, none).step("forbid core dumps")?;
        sys::set_namespace(user_namespace.as_fd(), libc::CLONE_NEWUSER)
            .step("enter the user namespace")?;
        drop(user_namespace);
        sys::unshare(libc::CLONE_NEWNS).step("make a mount namespace of the user namespace's")?;
        sys::bound_capabilities(CAPABILITIES).step("bound the capabilities")?;
        sys::become_user(0, 0, &[]).step("become root of the user namespace")?;
        sys::set_capabilities(CAPABILITIES).step("drop capabilities")?;
        sys::close_all_but_standard_and(link.as_fd()).step("close files")?;
        Ok(Self { order })
    }

    fn run_commands(&self) -> Report {
        let mut last = Report::Cannot("it was given nothing to do".to_owned());
        for (number, command) in self.order.commands.iter().enumerate() {
            let Some((program, args)) = command.split_first() else {
                continue;
            };
            let status = Command::new(program)
                .args(args)
                .env_clear()
                .envs(self.order.env.iter().map(|(name, value)| (name, value)))
                .current_dir("/")
                .stdin(Stdio::null())
                .status();
            let code = match status {
                Ok(status) => status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                Err(error) => {
                    return Report::Cannot(format!("cannot execute `{program}`: {error}"));
                }
            };
            last = Report::Ended {
                command: number,
                code,
            };
            if code != 0 {
                break;
            }
        }
        last
    }
}

/// The sandbox's root file system: a small tmpfs with mounts in it.
struct Root<'a> {
    order: &'a Order<'a>,
    user_namespace: BorrowedFd<'a>,
}

/// Whose files a mount shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// The host's, who are nobody inside.
    Host,
    /// Those of the user namespace: 0 on disk is 0 inside (mount_setattr(2), "ID-mapped mounts").
    Shifted,
    /// Those of the user namespace, on disk as well.
    Inside,
}

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// runc 1.1 remounts what it binds into a step without asking which flags are locked, so what buildah
/// works in has none. A user namespace's root makes no device, and what is set-user-ID there is so for
/// its ids only.
const WRITABLE: u64 = 0;

impl Root<'_> {
    /// Makes it and makes it `/`. The mount namespace must be new.
    fn enter(&self) -> Result<(), Failure> {
        let order = self.order;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).step("make the mounts private")?;
        // Opened before anything is mounted over the way to it.
        let storage = self.open(&order.storage, WRITABLE, Owners::Inside)?;
        let temporary = self.open(&order.temporary, WRITABLE, Owners::Inside)?;
        let output = self.open(&order.output, WRITABLE, Owners::Inside)?;
        let context = self.open(&order.context, READ_ONLY, Owners::Shifted)?;
        let images: Vec<OwnedFd> = order
            .images
            .iter()
            .map(|image| self.open(image, READ_ONLY, Owners::Shifted))
            .collect::<Result<_, _>>()?;
        let closed = MountFlags::NOSUID | MountFlags::NODEV;
        mount(
            "tmpfs",
            &order.staging,
            "tmpfs",
            closed,
            c"size=16m,mode=755",
        )
        .step("mount the build's root")?;
        std::env::set_current_dir(&order.staging).step("enter the build's root")?;
        self.add_programs()?;
        self.add_files()?;
        attach(&storage, &STORAGE[1..], Place::Directory)?;
        attach(&output, &OUTPUT[1..], Place::Directory)?;
        attach(&context, &CONTEXT[1..], Place::Directory)?;
        hide_history(&CONTEXT[1..])?;
        for (number, image) in images.iter().enumerate() {
            attach(image, &format!("{}/{number}", &IMAGES[1..]), Place::File)?;
        }
        let free = MountFlags::empty(); // as WRITABLE
        self.mount_tmpfs("tmp", "size=64m,mode=1777", closed)?;
        self.mount_tmpfs("run", "size=64m,mode=755", free)?;
        self.mount_tmpfs("var", "size=1m,mode=755", free)?;
        attach(&temporary, &TEMPORARY[1..], Place::Directory)?;
        self.add_secrets()?;
        mount_devices("dev", order.uid_base).step("make /dev")?;
        let shut = closed | MountFlags::NOEXEC;
        fs::create_dir("proc").step("make /proc")?;
        // Not masked, or runc could mount none for a step (kernel, `mount_too_revealing`); it masks that.
        mount("proc", "proc", "proc", shut, None).step("mount /proc")?;
        fs::create_dir("sys").step("make /sys")?;
        mount("sysfs", "sys", "sysfs", shut | MountFlags::RDONLY, None).step("mount /sys")?;
        // On hosts with v1 as well: runc wants a hierarchy to be there, and leaves alone what is
        // read-only when its user namespace is not the first one.
        mount(
            "cgroup",
            "sys/fs/cgroup",
            "cgroup2",
            shut | MountFlags::RDONLY,
            None,
        )
        .step("mount /sys/fs/cgroup")?;
        rustix::process::pivot_root(".", ".").step("change the root")?;
        unmount(".", UnmountFlags::DETACH).step("detach the host's root")?;
        std::env::set_current_dir("/").step("enter the new root")?;
        mount_remount("/", closed | MountFlags::BIND | MountFlags::RDONLY, "")
            .step("make the root read-only")
    }

    fn open(&self, path: &Path, attributes: u64, owners: Owners) -> Result<OwnedFd, Failure> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let tree = open_tree(CWD, path, flags).step(format_args!("open `{}`", path.display()))?;
        let idmap = (owners == Owners::Shifted).then_some(self.user_namespace);
        sys::set_mount_attributes(tree.as_fd(), attributes, idmap).step(format_args!(
            "shift the owners of `{}` (idmapped mounts: Linux 5.19 and ext4, xfs or btrfs)",
            path.display()
        ))?;
        Ok(tree)
    }

    /// `/usr` and what belongs to it: buildah, runc, their libraries, certificates of authorities.
    fn add_programs(&self) -> Result<(), Failure> {
        let usr = self.open(Path::new("/usr"), READ_ONLY, Owners::Host)?;
        attach(&usr, "usr", Place::Directory)?;
        for name in PROGRAM_DIRECTORIES {
            let on_host = Path::new("/").join(name);
            if let Ok(target) = fs::read_link(&on_host) {
                symlink(target, name).step(format_args!("link /{name}"))?;
            } else if on_host.is_dir() {
                let directory = self.open(&on_host, READ_ONLY, Owners::Host)?;
                attach(&directory, name, Place::Directory)?;
            }
        }
        for name in CERTIFICATES {
            let on_host = Path::new("/").join(name);
            // Not a link, which could lead anywhere; nothing without.
            if fs::symlink_metadata(&on_host).is_ok_and(|found| found.is_dir()) {
                let directory = self.open(&on_host, READ_ONLY, Owners::Host)?;
                attach(&directory, name, Place::Directory)?;
            }
        }
        Ok(())
    }

    /// `/etc`.
    fn add_files(&self) -> Result<(), Failure> {
        for (name, content) in &self.order.files {
            let path = Path::new("etc").join(name);
            let made = path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, content));
            made.step(format_args!("write /etc/{name}"))?;
        }
        // Only where libraries are found faster, or at all if they are in a directory of their own.
        let _ = fs::copy("/etc/ld.so.cache", "etc/ld.so.cache");
        Ok(())
    }

    /// Files in memory, for root inside only.
    fn add_secrets(&self) -> Result<(), Failure> {
        let top = &SECRETS[1..];
        let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        self.mount_tmpfs(top, "size=8m,mode=700", closed)?;
        for (number, (_, value)) in self.order.secrets.iter().enumerate() {
            let path = format!("{top}/{number}");
            let mut options = fs::OpenOptions::new();
            let written = options
                .write(true)
                .create_new(true)
                .mode(0o400)
                .open(&path)
                .and_then(|mut file| file.write_all(value.as_bytes()))
                .and_then(|()| self.give(&path));
            written.step("write a secret")?;
        }
        Ok(())
    }

    fn mount_tmpfs(&self, at: &str, options: &str, flags: MountFlags) -> Result<(), Failure> {
        let base = self.order.uid_base;
        let options = format!("{options},uid={base},gid={base}");
        let options = std::ffi::CString::new(options).step("write a mount's options")?;
        fs::create_dir(at)
            .and_then(|()| Ok(mount("tmpfs", at, "tmpfs", flags, options.as_c_str())?))
            .step(format_args!("mount /{at}"))
    }

    fn give(&self, path: impl AsRef<Path>) -> io::Result<()> {
        chown(path, Some(self.order.uid_base), Some(self.order.uid_base))
    }
}

/// What a mount covers.
#[derive(Clone, Copy)]
enum Place {
    Directory,
    File,
}

/// Attaches what was opened at a place below the working directory, which is made.
fn attach(tree: &OwnedFd, at: &str, place: Place) -> Result<(), Failure> {
    let mut directories = fs::DirBuilder::new();
    directories.recursive(true).mode(0o755);
    let made = match place {
        Place::Directory => directories.create(at),
        Place::File => Path::new(at)
            .parent()
            .map_or(Ok(()), |parent| directories.create(parent))
            .and_then(|()| File::create(at).map(drop)),
    };
    made.step(format_args!("make /{at}"))?;
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        at,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step(format_args!("attach /{at}"))
}

/// Covers the `.git` of a context: it is no part of what is built, and may hold more than is known.
fn hide_history(context: &str) -> Result<(), Failure> {
    let path = format!("{context}/.git");
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // A link leads to something that is in the context anyhow, or to nothing.
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => mount("tmpfs", &path, "tmpfs", flags, c"size=4k,mode=755")
            .step("hide the context's .git"),
        _ => Ok(()),
    }
}
