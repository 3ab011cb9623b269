//! The system calls an instance may make: an allow list equal to Docker's default profile.
//!
//! What is not on it fails with `EPERM`, except that calls newer than the list, `clone3` (whose
//! flags a filter cannot see) and calls of another architecture fail with `ENOSYS`, so that C
//! libraries fall back to what they did before. The calls Docker allows only with a capability that
//! instances do not have (`mount`, `bpf`, `setns`, ...) are left out, and `clone` and `unshare` cannot
//! make namespaces.
//!
//! Compiling takes longer than starting a container, so that it is done once, by the agent; shims
//! load the finished program from a file.

use std::{collections::BTreeMap, io, path::Path};

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{durable, sys::FilterInstruction};

/// Compiles the filter for this machine and writes it to `path`. Blocks.
///
/// # Errors
/// When the architecture is not supported, or the file cannot be written.
pub(crate) fn compile_to(path: &Path) -> io::Result<()> {
    let bytes: Vec<u8> = compile()?
        .iter()
        .flat_map(|step| {
            let [code_low, code_high] = step.code.to_ne_bytes();
            let [a, b, c, d] = step.value.to_ne_bytes();
            [
                code_low,
                code_high,
                step.jump_true,
                step.jump_false,
                a,
                b,
                c,
                d,
            ]
        })
        .collect();
    durable::write(path, &bytes)
}

/// Reads what [`compile_to`] wrote.
///
/// # Errors
/// When the file cannot be read or is not whole.
pub(crate) fn load(path: &Path) -> io::Result<Vec<FilterInstruction>> {
    let bytes = std::fs::read(path)?;
    let (steps, rest) = bytes.as_chunks::<8>();
    if steps.is_empty() || !rest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "seccomp program is not whole",
        ));
    }
    let read = |step: &[u8; 8]| FilterInstruction {
        code: u16::from_ne_bytes([step[0], step[1]]),
        jump_true: step[2],
        jump_false: step[3],
        value: u32::from_ne_bytes([step[4], step[5], step[6], step[7]]),
    };
    Ok(steps.iter().map(read).collect())
}

fn compile() -> io::Result<Vec<FilterInstruction>> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    for (call, conditions) in CONDITIONAL {
        let rule = conditions
            .iter()
            .map(|condition| condition.compile())
            .collect::<Result<Vec<_>, _>>()
            .and_then(SeccompRule::new)
            .map_err(|error| invalid(&error))?;
        rules.entry(*call).or_default().push(rule);
    }
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error| invalid(&error))?;
    let refuse = SeccompAction::Errno(EPERM as u32);
    let program: BpfProgram = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)
        .and_then(TryInto::try_into)
        .map_err(|error| invalid(&error))?;
    let program = program.into_iter().map(|step| FilterInstruction {
        code: step.code,
        jump_true: step.jt,
        jump_false: step.jf,
        value: step.k,
    });
    Ok(unknown_calls_do_not_exist()
        .into_iter()
        .chain(program)
        .collect())
}

/// `clone3`, calls newer than the list and those of another architecture: `ENOSYS`.
///
/// Instructions from linux/bpf_common.h; offsets in `struct seccomp_data`: number 0, architecture 4.
fn unknown_calls_do_not_exist() -> [FilterInstruction; 7] {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jump_true, jump_false, value| FilterInstruction {
        code,
        jump_true,
        jump_false,
        value,
    };
    let not_there = step(RETURN, 0, 0, SECCOMP_RET_ERRNO | ENOSYS as u32);
    [
        step(LOAD, 0, 0, 4),
        step(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        not_there,
        step(LOAD, 0, 0, 0),
        step(JUMP_EQUAL, 1, 0, SYS_clone3 as u32),
        step(JUMP_GREATER, 0, 1, NEWEST_CALL as u32),
        not_there,
    ]
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// The newest call this list has decided about; on x86_64 the x32 calls are above it as well.
const NEWEST_CALL: i64 = 462; // mseal

/// Calls that libc has no name for; from 424 on numbers are the same on all architectures.
#[cfg(target_arch = "x86_64")]
const SYS_IO_PGETEVENTS: i64 = 333;
#[cfg(target_arch = "aarch64")]
const SYS_IO_PGETEVENTS: i64 = 292;
const SYS_CACHESTAT: i64 = 451;
const SYS_FCHMODAT2: i64 = 452;
const SYS_MAP_SHADOW_STACK: i64 = 453;
const SYS_FUTEX_WAKE: i64 = 454;
const SYS_FUTEX_WAIT: i64 = 455;
const SYS_FUTEX_REQUEUE: i64 = 456;

/// One condition on an argument.
struct Condition {
    argument: u8,
    test: Test,
    value: u64,
}

enum Test {
    Equal,
    NotEqual,
    /// None of the bits of this mask are set.
    Without(u64),
}

impl Condition {
    fn compile(&self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let (length, operator) = match self.test {
            Test::Equal => (Dword, SeccompCmpOp::Eq),
            Test::NotEqual => (Dword, SeccompCmpOp::Ne),
            Test::Without(mask) => (Qword, SeccompCmpOp::MaskedEq(mask)),
        };
        SeccompCondition::new(self.argument, length, operator, self.value)
    }
}

const fn equal(argument: u8, value: u64) -> Condition {
    Condition {
        argument,
        test: Test::Equal,
        value,
    }
}

const fn not_equal(argument: u8, value: i32) -> Condition {
    Condition {
        argument,
        test: Test::NotEqual,
        value: value as u64,
    }
}

const NAMESPACES: u64 = (CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET) as u64;

/// Calls allowed when all conditions of a line hold.
const CONDITIONAL: &[(i64, &[Condition])] = &[
    (
        SYS_clone,
        &[Condition {
            argument: 0,
            test: Test::Without(NAMESPACES),
            value: 0,
        }],
    ),
    // Linux, 32-bit personality, UNAME26, and asking.
    (SYS_personality, &[equal(0, 0x0)]),
    (SYS_personality, &[equal(0, 0x0008)]),
    (SYS_personality, &[equal(0, 0x2_0000)]),
    (SYS_personality, &[equal(0, 0x2_0008)]),
    (SYS_personality, &[equal(0, 0xffff_ffff)]),
    // The hypervisor's sockets and the kernel's crypto interface: neither is namespaced.
    (SYS_socket, &[not_equal(0, AF_VSOCK), not_equal(0, AF_ALG)]),
];

/// Calls allowed whatever their arguments, on every architecture.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // files
    SYS_chdir, SYS_close, SYS_close_range, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_faccessat,
    SYS_faccessat2, SYS_fadvise64, SYS_fallocate, SYS_fchdir, SYS_fchmod, SYS_fchmodat,
    SYS_FCHMODAT2, SYS_fchown, SYS_fchownat, SYS_fcntl, SYS_fdatasync, SYS_fgetxattr,
    SYS_flistxattr, SYS_flock, SYS_fremovexattr, SYS_fsetxattr, SYS_fstat, SYS_fstatfs, SYS_fsync,
    SYS_ftruncate, SYS_getcwd, SYS_getdents64, SYS_getxattr, SYS_inotify_add_watch,
    SYS_inotify_init1, SYS_inotify_rm_watch, SYS_ioctl, SYS_lgetxattr, SYS_linkat, SYS_listxattr,
    SYS_llistxattr, SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_mkdirat, SYS_mknodat,
    SYS_name_to_handle_at, SYS_newfstatat, SYS_openat, SYS_openat2, SYS_pipe2, SYS_pread64,
    SYS_preadv, SYS_preadv2, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead,
    SYS_readlinkat, SYS_readv, SYS_removexattr, SYS_renameat, SYS_renameat2, SYS_sendfile,
    SYS_setxattr, SYS_splice, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync, SYS_sync_file_range,
    SYS_syncfs, SYS_tee, SYS_truncate, SYS_umask, SYS_unlinkat, SYS_utimensat, SYS_vmsplice,
    SYS_write, SYS_writev, SYS_chroot, SYS_CACHESTAT,
    // memory
    SYS_brk, SYS_get_mempolicy, SYS_madvise, SYS_mbind, SYS_membarrier, SYS_memfd_create,
    SYS_memfd_secret, SYS_mincore, SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect,
    SYS_mremap, SYS_mseal, SYS_msync, SYS_munlock, SYS_munlockall, SYS_munmap, SYS_pkey_alloc,
    SYS_pkey_free, SYS_pkey_mprotect, SYS_process_madvise, SYS_process_mrelease,
    SYS_remap_file_pages, SYS_set_mempolicy, SYS_set_mempolicy_home_node, SYS_MAP_SHADOW_STACK,
    // processes and threads
    SYS_capget, SYS_capset, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_futex,
    SYS_futex_waitv, SYS_FUTEX_WAKE, SYS_FUTEX_WAIT, SYS_FUTEX_REQUEUE, SYS_get_robust_list,
    SYS_getcpu, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getpgid, SYS_getpid,
    SYS_getppid, SYS_getpriority, SYS_getresgid, SYS_getresuid, SYS_getrlimit, SYS_getrusage,
    SYS_getsid, SYS_gettid, SYS_getuid, SYS_ioprio_get, SYS_ioprio_set, SYS_kill,
    SYS_landlock_add_rule, SYS_landlock_create_ruleset, SYS_landlock_restrict_self,
    SYS_pidfd_getfd, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_prctl, SYS_prlimit64,
    SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_restart_syscall, SYS_rseq,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_getaffinity,
    SYS_sched_getattr, SYS_sched_getparam, SYS_sched_getscheduler, SYS_sched_rr_get_interval,
    SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam, SYS_sched_setscheduler,
    SYS_sched_yield, SYS_seccomp, SYS_set_robust_list, SYS_set_tid_address, SYS_setfsgid,
    SYS_setfsuid, SYS_setgid, SYS_setgroups, SYS_setpgid, SYS_setpriority, SYS_setregid,
    SYS_setresgid, SYS_setresuid, SYS_setreuid, SYS_setrlimit, SYS_setsid, SYS_setuid,
    SYS_sysinfo, SYS_tgkill, SYS_times, SYS_tkill, SYS_uname, SYS_wait4, SYS_waitid,
    // signals and events
    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_ppoll,
    SYS_pselect6, SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo,
    SYS_rt_sigreturn, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo,
    SYS_sigaltstack, SYS_signalfd4,
    // time
    SYS_adjtimex, SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep,
    SYS_getitimer, SYS_gettimeofday, SYS_nanosleep, SYS_setitimer, SYS_timer_create,
    SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime, SYS_timer_settime,
    SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime,
    // sockets and System V interprocess communication
    SYS_accept, SYS_accept4, SYS_bind, SYS_connect, SYS_getpeername, SYS_getsockname,
    SYS_getsockopt, SYS_listen, SYS_mq_getsetattr, SYS_mq_notify, SYS_mq_open, SYS_mq_timedreceive,
    SYS_mq_timedsend, SYS_mq_unlink, SYS_msgctl, SYS_msgget, SYS_msgrcv, SYS_msgsnd, SYS_recvfrom,
    SYS_recvmmsg, SYS_recvmsg, SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop, SYS_sendmmsg,
    SYS_sendmsg, SYS_sendto, SYS_setsockopt, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget,
    SYS_shutdown, SYS_socketpair,
    // asynchronous I/O; io_uring is left out, as in Docker, for its record of holes
    SYS_io_cancel, SYS_io_destroy, SYS_io_getevents, SYS_IO_PGETEVENTS, SYS_io_setup, SYS_io_submit,
    // key rings are not namespaced and stay out: add_key, keyctl, request_key
    SYS_getrandom,
];

/// Calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    SYS_access, SYS_alarm, SYS_arch_prctl, SYS_chmod, SYS_chown, SYS_creat, SYS_dup2,
    SYS_epoll_create, SYS_epoll_ctl_old, SYS_epoll_wait, SYS_epoll_wait_old, SYS_eventfd, SYS_fork,
    SYS_futimesat, SYS_get_thread_area, SYS_getdents, SYS_getpgrp, SYS_inotify_init, SYS_lchown,
    SYS_link, SYS_lstat, SYS_mkdir, SYS_mknod, SYS_modify_ldt, SYS_open, SYS_pause, SYS_pipe,
    SYS_poll, SYS_readlink, SYS_rename, SYS_rmdir, SYS_select, SYS_set_thread_area, SYS_signalfd,
    SYS_stat, SYS_symlink, SYS_time, SYS_unlink, SYS_utime, SYS_utimes, SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_of_a_size_the_kernel_takes_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seccomp.bpf");
        compile_to(&path).unwrap();
        let steps = load(&path).unwrap();
        // BPF_MAXINSNS, linux/bpf_common.h
        assert!(
            steps.len() > ALLOWED.len() && steps.len() < 4096,
            "{}",
            steps.len()
        );
    }

    #[test]
    fn half_a_program_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seccomp.bpf");
        std::fs::write(&path, [0; 12]).unwrap();
        assert!(load(&path).is_err());
    }
}
