//! The system calls that no safe library offers, each behind a safe function.
//!
//! All `unsafe` of the shim and of the network is here. The functions hold no policy: they pass
//! arguments on and turn `-1` into an [`io::Error`].
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_long, c_ulong},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// linux/sched.h; libc's constant is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone_process`] we are on.
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with a descriptor of the new.
    Parent {
        /// The new process's number.
        pid: i32,
        /// Readable when it has ended.
        pidfd: OwnedFd,
    },
}

/// `clone3(2)` without sharing anything: `fork` with namespaces, a pidfd and a cgroup.
///
/// `cgroup` is a descriptor of a cgroup v2 directory to be born in. Only for a process with one
/// thread: another thread could hold the allocator's lock at that moment, and the child would wait
/// for it for ever.
pub(crate) fn clone_process(
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: `clone_args` is plain integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: the structure and its size are those of clone3(2); without CLONE_VM the child has a
    // copy of the memory and no stack is passed, so that both sides return here as after fork(2).
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_ref(&args),
            size_of::<libc::clone_args>(),
        )
    };
    match check(pid)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor there, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// Enters the namespaces `kinds` (`CLONE_NEW*`) that `namespace` stands for.
pub(crate) fn set_namespace(namespace: BorrowedFd<'_>, kinds: c_int) -> io::Result<()> {
    // SAFETY: takes two integers; the descriptor is open while it is borrowed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kinds) }).map(drop)
}

/// Gives the calling thread new namespaces.
pub(crate) fn unshare(kinds: c_int) -> io::Result<()> {
    // SAFETY: takes one integer. No CLONE_FILES or CLONE_VM is used in this crate, so that what
    // other threads rely on stays shared.
    check(unsafe { libc::unshare(kinds) }).map(drop)
}

/// Sets attributes of a detached mount, and its owners' mapping when a user namespace is given
/// (`mount_setattr(2)`).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    idmap: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set
            | if idmap.is_some() {
                libc::MOUNT_ATTR_IDMAP
            } else {
                0
            },
        attr_clr: 0,
        propagation: 0,
        userns_fd: idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the structure and its size are those of mount_setattr(2); the path is a constant
    // empty string, which AT_EMPTY_PATH makes mean the descriptor itself.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Closes every descriptor but 0, 1, 2 and `kept`.
///
/// For the moment before `execve`: an [`OwnedFd`] among the closed ones must not be used afterwards.
pub(crate) fn close_all_but_standard_and(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd() as u32;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.max(2) + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: takes integers; see above for the descriptors.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Makes number `to` the same file as `from`, kept over `execve`.
pub(crate) fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: takes two integers. `to` is one of the standard numbers, which nothing owns in Rust's
    // sense, laid out for the program to come.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop)
}

/// Whether the other end of a pipe that is written to is closed.
pub(crate) fn reader_is_gone(pipe: BorrowedFd<'_>) -> bool {
    let mut pipe = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one structure, and its count is passed; it does not wait.
    let polled = unsafe { libc::poll(&mut pipe, 1, 0) };
    polled == 1 && pipe.revents & libc::POLLERR != 0
}

/// Takes the standard input as what it is here: a socket that the parent passed.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    // Duplicated rather than taken, so that number 0 stays occupied by something.
    let inherited = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(inherited)
}

/// Becomes this user with these groups, in the current user namespace. For one thread only.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: raw system calls, which act on the calling thread, the only one there is; the
    // pointer and the length are of one slice of 32-bit ids.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Removes from the bounding set every capability whose bit is not in `keep`.
pub(crate) fn bound_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: takes integers.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as c_ulong, 0, 0, 0) };
        match check(dropped) {
            // The first number the kernel does not know is the end (capabilities(7)).
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other.map(drop)?,
        }
    }
    Ok(())
}

/// Sets the permitted and effective capabilities to `set` and the inheritable and ambient ones to
/// none.
pub(crate) fn set_capabilities(set: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522; // _LINUX_CAPABILITY_VERSION_3, linux/capability.h
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |bits: u32| Data {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    };
    let data = [half(set as u32), half((set >> 32) as u32)];
    // SAFETY: version 3 takes exactly one header and two data elements, laid out as in capset(2).
    unsafe {
        check(libc::syscall(
            libc::SYS_capset,
            ptr::from_ref(&header),
            data.as_ptr(),
        ))?;
        check(libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong,
            0,
            0,
            0,
        ))?;
    }
    Ok(())
}

/// No program started from here on gains privileges by being started (`PR_SET_NO_NEW_PRIVS`).
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0) }).map(drop)
}

/// The kernel sends SIGKILL to this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0) })
        .map(drop)
}

/// Names the process as process lists show it; at most 15 bytes.
pub(crate) fn set_process_name(name: &CStr) {
    // SAFETY: the string ends with a zero byte and is only read.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr() as c_ulong, 0, 0, 0) };
}

/// Sets the host name of the current UTS namespace.
pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Ignores the signals that would end a process that has nothing to do with a terminal.
pub(crate) fn ignore_signals(signals: &[c_int]) {
    for signal in signals {
        // SAFETY: SIG_IGN installs no code of ours.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Puts every signal back to its default and unblocks it, as a program expects to find them.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL installs no code of ours; the set is initialised by sigemptyset before use.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// One instruction of a seccomp program, as the kernel has it (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FilterInstruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) value: u32,
}

/// Installs a seccomp program for this process and all it starts. Needs `no_new_privs`.
pub(crate) fn install_filter(program: &[FilterInstruction]) -> io::Result<()> {
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "seccomp program is too long"))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `FilterInstruction` has the layout of `sock_filter`, the length is the slice's, and
    // the kernel only reads and copies it (seccomp(2)).
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            ptr::from_ref(&program),
        )
    })
    .map(drop)
}

/// Replaces this process by a program. Returns only when it failed, with why.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer, their strings with a zero byte, and all outlive
    // the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Runs `ioctl` with a pointer to `argument`, whose type must be the one `request` is defined with.
fn ioctl<T>(file: BorrowedFd<'_>, request: c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: private to this file; both callers pair the request with its own structure.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request as _, ptr::from_mut(argument)) }).map(drop)
}

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: c_ulong = 0x801c_581f; // _IOR('X', 31, struct fsxattr)
const FS_IOC_FSSETXATTR: c_ulong = 0x401c_5820; // _IOW('X', 32, struct fsxattr)
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// Puts a directory, and all that will be made in it, into a project for the quota's purposes.
pub(crate) fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = FileAttributes::default();
    ioctl(directory, FS_IOC_FSGETXATTR, &mut attributes)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    ioctl(directory, FS_IOC_FSSETXATTR, &mut attributes)
}

/// `struct if_dqblk` of linux/quota.h.
#[repr(C)]
#[derive(Default)]
struct Quota {
    blocks_hard: u64,
    blocks_soft: u64,
    bytes_used: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes_used: u64,
    blocks_time: u64,
    inodes_time: u64,
    valid: u32,
}

const PROJECT_QUOTA: u32 = 2; // PRJQUOTA
const QIF_LIMITS: u32 = 1 | 4; // QIF_BLIMITS | QIF_ILIMITS
const QUOTA_BLOCK_BYTES: u64 = 1024; // QIF_DQBLKSIZE

/// Limits what a project may hold on the file system of `file` (`quotactl_fd(2)`, Linux 5.14).
///
/// `ENOSYS`, `ENOTSUP`, `ESRCH` or `EINVAL` where the file system keeps no project quota.
pub(crate) fn set_project_quota(
    file: BorrowedFd<'_>,
    project: u32,
    bytes_max: u64,
    files_max: u64,
) -> io::Result<()> {
    let mut quota = Quota {
        blocks_hard: bytes_max.div_ceil(QUOTA_BLOCK_BYTES),
        inodes_hard: files_max,
        valid: QIF_LIMITS,
        ..Quota::default()
    };
    quota_call(file, libc::Q_SETQUOTA as u32, project, &mut quota)
}

fn quota_call(
    file: BorrowedFd<'_>,
    command: u32,
    project: u32,
    quota: &mut Quota,
) -> io::Result<()> {
    let command = command << 8 | PROJECT_QUOTA;
    // SAFETY: Q_SETQUOTA takes a `struct if_dqblk`, which `Quota` lays out.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd() as c_long,
            command as c_long,
            project as c_long,
            ptr::from_mut(quota),
        )
    })
    .map(drop)
}

fn check<N: Into<i64>>(result: N) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
