//! The root file system of a container, as its own mount namespace sees it.
//!
//! Everything is mounted by the host's root before the user namespace is entered, so that the
//! container owns none of its mounts and can change none. The steps are ordinary `mount(2)` calls on
//! short relative names: overlayfs takes its layers in one option string of at most a page, and
//! before Linux 6.15 it refuses layers that are not attached in the caller's mount namespace
//! (`clone_private_mount`), so idmapped layers are attached below a small tmpfs first.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{PermissionsExt, lchown, symlink},
    path::{Component, Path, PathBuf},
};

use ekiden_model::instance::{BUILD_AUTHORITIES, BUILD_CACHE};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, mknodat,
        openat, openat2,
    },
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_bind, mount_change, mount_remount, move_mount, open_tree, unmount,
    },
};

use super::{
    failure::{Failure, Step},
    protocol::{BuildOrder, StartOrder},
};
use crate::sys;

/// What an instance sees instead of these is nothing: Docker's masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Device nodes, with their numbers (kernel's admin-guide/devices.txt): what Docker gives.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that programs expect in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// `tty` in every distribution.
const TTY_GROUP: u32 = 5;

/// Puts the layers together and makes the result `/`. The mount namespace must be new.
///
/// `user_namespace` shifts the owners of the layers' files; `owner` is root inside, seen from the
/// host.
pub(super) fn enter(
    order: &StartOrder,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("make the mounts private")?;
    let staging = order.directory.join("root");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &staging, "tmpfs", flags, c"size=1m,mode=700").step("mount a staging tmpfs")?;
    std::env::set_current_dir(&staging).step("enter the staging tmpfs")?;
    for (number, layer) in order.layers.iter().enumerate() {
        attach_layer(layer, &number.to_string(), user_namespace)?;
    }
    fs::create_dir("r").step("make the root's mount point")?;
    // `..` leads out of the tmpfs into the instance's directory.
    let lower: Vec<String> = (0..order.layers.len())
        .map(|number| number.to_string())
        .collect();
    let mut options = format!(
        "lowerdir={},upperdir=../upper,workdir=../work",
        lower.join(":")
    );
    // The upper directory never outlives its instance, so nobody needs what a sync would save.
    options.push_str(",volatile");
    if order.build.is_some() {
        // The upper directory becomes a layer: everything in it must be whole.
        options.push_str(",redirect_dir=off,metacopy=off,index=off");
    }
    options.push('\0');
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
        .map_err(io::Error::other)
        .step("write the overlay's options")?;
    mount("overlay", "r", "overlay", MountFlags::NODEV, options).step(
        "mount the overlay root file system (the data directory must be on ext4, xfs or btrfs)",
    )?;
    std::env::set_current_dir("r").step("enter the root file system")?;
    // pivot_root(2), NOTES: with "." twice the old root is stacked on the new one and can be
    // detached from where we stand; no directory in the image is needed.
    rustix::process::pivot_root(".", ".").step("change the root")?;
    unmount(".", UnmountFlags::DETACH).step("detach the host's root")?;
    std::env::set_current_dir("/").step("enter the new root")
}

/// What an instance that builds has besides, taken before the root is changed.
pub(super) struct BuildMounts<'a> {
    cache: OwnedFd,
    authorities: Option<&'a str>,
}

/// Takes the caches of an instance that builds.
pub(super) fn open_build<'a>(
    build: &'a BuildOrder,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<BuildMounts<'a>, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cache = open_tree(CWD, &build.cache, flags).step("open the build's cache")?;
    let closed = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::set_mount_attributes(cache.as_fd(), closed, user_namespace)
        .step("shift the owners of the build's cache")?;
    Ok(BuildMounts {
        cache,
        authorities: build.authorities.as_deref(),
    })
}

impl BuildMounts<'_> {
    /// Puts them in the new root, whatever the image has there.
    pub(super) fn mount(self, owner: u32) -> io::Result<()> {
        for path in ["/run", "/run/ekiden", BUILD_CACHE] {
            directory(path, owner)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(self.cache.as_fd(), "", CWD, BUILD_CACHE, flags)?;
        if let Some(authorities) = self.authorities {
            match fs::remove_file(BUILD_AUTHORITIES) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::write(BUILD_AUTHORITIES, authorities)?;
            fs::set_permissions(BUILD_AUTHORITIES, fs::Permissions::from_mode(0o644))?;
            lchown(BUILD_AUTHORITIES, Some(owner), Some(owner))?;
        }
        Ok(())
    }
}

/// Mounts what every container has besides its image: `/proc`, `/sys`, `/dev`.
pub(super) fn mount_system(owner: u32) -> Result<(), Failure> {
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    directory("/proc", owner).step("make /proc")?;
    mount("proc", "/proc", "proc", closed, None).step("mount /proc")?;
    directory("/sys", owner).step("make /sys")?;
    mount("sysfs", "/sys", "sysfs", closed | MountFlags::RDONLY, None).step("mount /sys")?;
    mount_devices("/dev", owner).step("make /dev")?;
    for path in MASKED {
        mask(path).step(format_args!("hide {path}"))?;
    }
    for path in READ_ONLY {
        lock(path).step(format_args!("make {path} read-only"))?;
    }
    Ok(())
}

/// Mounts the container's view of its own cgroup, read-only, so that runtimes see their limits.
///
/// The cgroup namespace must be new and the process in its group. `legacy` names v1 hierarchies;
/// none means v2. A view, not a need: what cannot be mounted is left out.
pub(super) fn mount_cgroups(legacy: &[String]) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    const AT: &str = "/sys/fs/cgroup";
    if legacy.is_empty() {
        let _ = mount("cgroup", AT, "cgroup2", flags, None);
        return;
    }
    if mount(
        "tmpfs",
        AT,
        "tmpfs",
        flags - MountFlags::RDONLY,
        c"mode=755,size=64k",
    )
    .is_err()
    {
        return;
    }
    for hierarchy in legacy {
        let target = format!("{AT}/{hierarchy}");
        let Ok(options) = std::ffi::CString::new(hierarchy.as_str()) else {
            continue;
        };
        if fs::create_dir(&target).is_ok()
            && mount("cgroup", &target, "cgroup", flags, options.as_c_str()).is_ok()
        {
            for controller in hierarchy.split(',').filter(|name| name != hierarchy) {
                let _ = symlink(hierarchy, format!("{AT}/{controller}"));
            }
        }
    }
    let _ = mount_remount(AT, flags | MountFlags::BIND, "");
}

/// Puts a file of ours into `/etc`, in place of what the image has there, a link included.
pub(super) fn write_etc(name: &str, content: &str, owner: u32) -> io::Result<()> {
    directory("/etc", owner)?;
    let path = Path::new("/etc").join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    lchown(&path, Some(owner), Some(owner))
}

/// Makes a directory and what is missing above it, owned by root inside. The image's links are followed
/// within the root, and none of `/proc` that lead out of it.
pub(super) fn make_directories(path: &Path, owner: u32) -> io::Result<()> {
    let held = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = openat(CWD, "/", held, Mode::empty())?;
    let mut reached = PathBuf::from("/");
    let mut parent = openat(CWD, "/", held, Mode::empty())?;
    for name in path.components() {
        let Component::Normal(name) = name else {
            continue;
        };
        reached.push(name);
        parent = match openat2(&root, &reached, held, Mode::empty(), within) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let ids = (Uid::from_raw(owner), Gid::from_raw(owner));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&parent, name, Some(ids.0), Some(ids.1), flags)?;
                openat(&parent, name, held | OFlags::NOFOLLOW, Mode::empty())?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}

fn attach_layer(
    layer: &Path,
    name: &str,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)
        .step(format_args!("open the image layer `{}`", layer.display()))?;
    sys::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, user_namespace).step(
        "shift the owners of an image layer (idmapped mounts: Linux 5.19 and ext4, xfs or btrfs)",
    )?;
    fs::create_dir(name).step("make a layer's mount point")?;
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        name,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step("attach an image layer")
}

/// Mounts `/dev`, or what is to become it, at `dev`: the devices of a container, owned by root inside.
pub(crate) fn mount_devices(dev: &str, owner: u32) -> io::Result<()> {
    let closed = MountFlags::NOSUID | MountFlags::NOEXEC;
    directory(dev, owner)?;
    let options = text(format!("mode=755,size=1m,uid={owner},gid={owner}"))?;
    mount("tmpfs", dev, "tmpfs", closed, options.as_c_str())?;
    for (name, major, minor) in DEVICES {
        let path = format!("{dev}/{name}");
        let device = rustix::fs::makedev(major, minor);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), device)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        lchown(&path, Some(owner), Some(owner))?;
    }
    for (target, name) in DEVICE_LINKS {
        symlink(target, format!("{dev}/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(format!("{dev}/{name}"))?;
    }
    let at = |name: &str| format!("{dev}/{name}");
    let group = owner + TTY_GROUP;
    let options = text(format!("newinstance,ptmxmode=0666,mode=0620,gid={group}"))?;
    mount("devpts", at("pts"), "devpts", closed, options.as_c_str())?;
    let closed = closed | MountFlags::NODEV;
    mount("shm", at("shm"), "tmpfs", closed, c"mode=1777,size=64m")?;
    // Only where the kernel has POSIX message queues.
    let _ = mount("mqueue", at("mqueue"), "mqueue", closed, None);
    Ok(())
}

/// A directory at this place, whatever the image has there: a link could lead a mount elsewhere.
fn directory(path: &str, owner: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(path)?;
    lchown(path, Some(owner), Some(owner))
}

/// Covers a file with `/dev/null` and a directory with an empty file system.
fn mask(path: &str) -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(mount("tmpfs", path, "tmpfs", flags, c"size=4k")?),
        Ok(_) => Ok(mount_bind("/dev/null", path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock(path: &str) -> io::Result<()> {
    match mount_bind(path, path) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    }
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    Ok(mount_remount(path, flags, "")?)
}

fn text(text: String) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(text).map_err(io::Error::other)
}
