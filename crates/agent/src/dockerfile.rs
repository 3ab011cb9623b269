//! Images from Dockerfiles, by the host's buildah and runc.
//!
//! A Dockerfile is a program of its author's, and building it runs it. [`build`] has buildah do that in
//! a [`sandbox`]: a process tree that is isolated like an instance, in a user namespace, a network, a
//! cgroup and a root of its own. What comes out is an OCI layout for the store to take in, which
//! checks it like anything that comes from outside.
//!
//! Layers are cached in a directory of the service's ([`DockerfileBuild::storage`]), which nothing but
//! its builds read and write. It decides nothing: who may build, how many at a time, and under
//! which name the image is kept is for others to say. What private registries ask for, it has not:
//! images are pulled without credentials.

mod bases;
mod failure;
mod output;
mod sandbox;

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, PermissionsExt, chown},
            net::UnixStream as BlockingStream,
        },
    },
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ekiden_model::instance::BUILD_AUTHORITIES;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use zeroize::Zeroizing;

pub(crate) use bases::bases;
pub use sandbox::main as sandbox_main;

use self::{
    output::LineCutter,
    sandbox::{CONTEXT, IMAGES, OUTPUT, Order, Report, SECRETS, STORAGE, TEMPORARY},
};
use crate::{cgroup::Group, disk, shim::TRUSTING, tree};

/// The first argument of the program that [`sandbox_main`] is the main function of.
pub const SANDBOX: &str = "build-sandbox";

/// The directory of [`DockerfileBuild::context`] that is the build context.
const SOURCE: &str = "app";

/// A longer Dockerfile is not read, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where programs are looked for, on the host and inside: in `/usr`, which is all the sandbox has.
const PROGRAM_PATH: [&str; 2] = ["/usr/bin", "/usr/sbin"];

/// The system calls of steps: what Docker allows. Of `golang-github-containers-common`, which Debian's
/// buildah depends on; without, buildah takes the same from its own program.
const SECCOMP: &str = "/usr/share/containers/seccomp.json";

/// The authorities of a build, among what is on its way: what runc is to mount must be on a file system that
/// is not mounted with less than it mounts it with.
const AUTHORITIES: &str = "ekiden-authorities.crt";

/// Where Debian's programs look for them without being told.
const DEBIAN_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a build's image is called while it is in buildah's storage.
const IMAGE: &str = "localhost/ekiden-build:latest";

/// Kept for errors.
const TAIL_LINES: usize = 60;

/// How often a build is begun whose runtime met a busy kernel.
const TRIES_MAX: usize = 4;

/// How long the kernel is given to be done.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How long whoever was killed may take to be gone.
const END_MAX: Duration = Duration::from_secs(10);

/// The longest report of a sandbox, in bytes.
const REPORT_BYTES_MAX: u64 = 64 * 1024;

/// What instances never have and buildah's defaults include (capabilities of `shim::container`).
const DROPPED: &str = "AUDIT_WRITE,MKNOD,NET_RAW";

/// In the storage directory: the owner of what is there, and that a build did not end by itself.
const OWNER: &str = "owner";
const UNFINISHED: &str = "unfinished";

/// The directories of buildah's in it: layers, and what is on its way.
const LAYERS: &str = "layers";
const ON_ITS_WAY: &str = "tmp";

/// What `RUN --mount=type=cache` keeps, in the latter.
const CACHE_MOUNTS: &str = "buildah-cache";

/// What is built, where and within which limits.
pub(crate) struct DockerfileBuild {
    /// This program: started as `<program> build-sandbox`.
    pub(crate) program: PathBuf,
    /// A directory whose `app` is the build context; read only, owned by the host's root, and on a file
    /// system that can shift owners.
    pub(crate) context: PathBuf,
    /// Relative to the context.
    pub(crate) dockerfile: String,
    pub(crate) target: Option<String>,
    /// Not secret: they are arguments of buildah's, and in the image's history.
    pub(crate) args: BTreeMap<String, String>,
    /// What `RUN --mount=type=secret,id=<id>` gets. In memory only.
    pub(crate) secrets: BTreeMap<String, Zeroizing<String>>,
    /// The service's cache, made if missing. For one build at a time.
    pub(crate) storage: PathBuf,
    /// A directory to make, which then is an OCI layout with one image.
    pub(crate) output: PathBuf,
    /// Images of this host's that [`bases`] found.
    pub(crate) local_images: Vec<LocalImage>,
    /// The host's id of root inside. The cache is kept only while it stays the same.
    pub(crate) uid_base: u32,
    pub(crate) network: OwnedFd,
    /// The sandbox's `/etc/resolv.conf`, which steps get as well.
    pub(crate) resolv_conf: String,
    /// The certificates, in PEM, of the authorities that programs of steps are told to trust, besides
    /// their image's own.
    pub(crate) authorities: Option<String>,
    /// Made with its limits by the caller, who removes it; empty again when the build has ended.
    pub(crate) group: Group,
    pub(crate) deadline: Duration,
    /// What cache and output may occupy while it runs, by measuring as in [`disk`].
    pub(crate) disk_bytes_max: u64,
    /// A larger cache is removed after the build.
    pub(crate) cache_bytes_max: u64,
    /// Takes what buildah and the steps write, a line at a time.
    pub(crate) log: mpsc::Sender<String>,
}

/// An image that needs no registry.
#[derive(Debug, Clone)]
pub(crate) struct LocalImage {
    /// As [`bases`] has it.
    pub(crate) name: String,
    /// An OCI archive with this image only, as the store exports it.
    pub(crate) archive: PathBuf,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerfileError {
    /// A program is not installed.
    #[error(
        "`{program}` is not installed on this host, and Dockerfiles need it: run `apt install buildah runc`"
    )]
    Missing { program: &'static str },
    /// What was asked for makes no sense.
    #[error("{problem}")]
    Request { problem: String },
    /// There is none, or it cannot be read.
    #[error("cannot read the Dockerfile `{path}` of the source: {problem}")]
    NoDockerfile { path: String, problem: String },
    /// The Dockerfile is wrong.
    #[error("the Dockerfile is not right: {problem}: {hint}")]
    Dockerfile { problem: String, hint: &'static str },
    /// An image that it names cannot be had.
    #[error("cannot get the image `{image}`: {hint} ({problem})")]
    Base {
        image: String,
        problem: String,
        hint: &'static str,
    },
    /// `COPY` or `ADD` names what is not there.
    #[error(
        "`{step}` names a file that is not in the source: check its path, which is relative to the source's directory, and `.dockerignore`"
    )]
    Source { step: String },
    /// A step failed.
    #[error("`{step}` failed with exit code {code}{}", last(last_lines))]
    Step {
        step: String,
        code: i32,
        last_lines: Vec<String>,
    },
    /// A step's program is not there.
    #[error(
        "`{step}` could not be started: {problem}: check that the image has the program (a shell, for `RUN` without brackets)"
    )]
    NotStarted { step: String, problem: String },
    /// runc could not start a step this time.
    #[error(
        "`{step}` could not be started: the kernel was busy with runc's copy of itself, {TRIES_MAX} times in a row; build again"
    )]
    RuntimeBusy { step: String },
    /// It took too long.
    #[error("the build was not done within its time, {} s of it here (`builds.time_limit`)", limit.as_secs())]
    TooLong { limit: Duration },
    /// The kernel killed for want of memory.
    #[error(
        "the build needed more memory than its limit: raise it (`builds.memory`) or do less at a time"
    )]
    Memory,
    /// It wrote too much.
    #[error("the build wrote more than its limit of {} MiB (`builds.disk`)", limit >> 20)]
    Disk { limit: u64 },
    /// buildah said something else.
    #[error("buildah failed: {problem}")]
    Buildah { problem: String },
    /// What came out is no layout.
    #[error("the build's result is not an image: {problem}")]
    Output { problem: String },
    /// The sandbox could not be made.
    #[error("cannot make the build's sandbox: {problem}")]
    Sandbox { problem: String },
    /// The host.
    #[error("cannot {doing}")]
    Host {
        doing: String,
        #[source]
        source: io::Error,
    },
}

fn last(lines: &[String]) -> impl fmt::Display {
    match lines {
        [] => String::new(),
        lines => format!("; its last lines:\n{}", lines.join("\n")),
    }
}

fn host(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> DockerfileError {
    let doing = doing.to_string();
    move |source| DockerfileError::Host { doing, source }
}

/// Reads the Dockerfile of a source that nobody vouches for: links are followed within it only. Blocks.
///
/// # Errors
/// [`DockerfileError::NoDockerfile`], [`DockerfileError::Request`] for a path that leads elsewhere.
pub(crate) fn read_dockerfile(context: &Path, path: &str) -> Result<String, DockerfileError> {
    let within = relative(path)?;
    let read = || -> io::Result<String> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let top = rustix::fs::openat(CWD, context.join(SOURCE), directory, Mode::empty())?;
        // Not waiting for whoever opens a pipe's other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = File::from(openat2(&top, &within, flags, Mode::empty(), resolve)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        file.take(DOCKERFILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > DOCKERFILE_BYTES_MAX {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        Ok(text)
    };
    read().map_err(|error| DockerfileError::NoDockerfile {
        path: path.to_owned(),
        problem: match error.kind() {
            io::ErrorKind::NotFound => "there is none: add one, or name where it is".to_owned(),
            _ => error.to_string(),
        },
    })
}

/// Builds, and answers with the directory of the image's OCI layout.
///
/// Ends with everything it started, however it ends, and removes the output unless it answers with it.
/// When the future is dropped, what it started ends shortly after; the caller removes the output.
///
/// # Errors
/// See [`DockerfileError`].
pub(crate) async fn build(build: DockerfileBuild) -> Result<PathBuf, DockerfileError> {
    let tools = Tools::find()?;
    check(&build)?;
    let (storage, output, uid_base) = (build.storage.clone(), build.output.clone(), build.uid_base);
    let authorities = build.authorities.clone();
    let unfinished = blocking(move || {
        let unfinished = prepare(&storage, &output, uid_base)?;
        if let Some(authorities) = authorities {
            let path = storage.join(ON_ITS_WAY).join(AUTHORITIES);
            fs::write(&path, authorities)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
                .and_then(|()| chown(&path, Some(uid_base), Some(uid_base)))
                .map_err(host(format_args!("write `{}`", path.display())))?;
        }
        Ok(unfinished)
    })
    .await?;
    let ends_at = Instant::now() + build.deadline;
    let mut built = run(&build, &tools, unfinished, ends_at).await;
    for _ in 1..TRIES_MAX {
        if !matches!(built, Err(DockerfileError::RuntimeBusy { .. })) {
            break;
        }
        let line = "The kernel was busy when a step was to begin; building again from there.";
        let _ = build.log.send(line.to_owned()).await;
        sleep(TRY_AGAIN_AFTER).await;
        built = run(&build, &tools, true, ends_at).await;
    }
    let (storage, output) = (build.storage.clone(), build.output.clone());
    let (is_built, cache_bytes_max) = (built.is_ok(), build.cache_bytes_max);
    let is_lost = matches!(
        built,
        Err(DockerfileError::Memory | DockerfileError::Disk { .. })
    );
    let kept = blocking(move || {
        tidy(&storage, if is_lost { 0 } else { cache_bytes_max })?;
        let checked = is_built.then(|| output::check(&output));
        if !matches!(checked, Some(Ok(()))) {
            let _ = tree::remove(&output);
        }
        checked.unwrap_or(Ok(()))
    })
    .await;
    built?;
    kept?;
    Ok(build.output)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DockerfileError> + Send + 'static,
) -> Result<T, DockerfileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(host("work on files")(io::Error::other(error))),
    }
}

/// The programs, by their whole paths.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tools {
    buildah: String,
    runc: String,
    /// Whether [`SECCOMP`] is there.
    has_seccomp: bool,
}

impl Tools {
    fn find() -> Result<Self, DockerfileError> {
        Self::find_by(|path| path.is_file())
    }

    fn find_by(is_there: impl Fn(&Path) -> bool) -> Result<Self, DockerfileError> {
        let find = |program: &'static str| {
            PROGRAM_PATH
                .iter()
                .map(|directory| format!("{directory}/{program}"))
                .find(|path| is_there(Path::new(path)))
                .ok_or(DockerfileError::Missing { program })
        };
        Ok(Self {
            buildah: find("buildah")?,
            runc: find("runc")?,
            has_seccomp: is_there(Path::new(SECCOMP)),
        })
    }
}

/// A path without a way out of where it starts.
fn relative(path: &str) -> Result<PathBuf, DockerfileError> {
    let parts: Option<PathBuf> = Path::new(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    match parts.filter(|parts| !parts.as_os_str().is_empty() && !path.contains('\0')) {
        Some(parts) => Ok(parts),
        None => Err(DockerfileError::Request {
            problem: format!(
                "`{path}` is no path of a Dockerfile: it has to be relative to the source, without `..`"
            ),
        }),
    }
}

/// Whether everything is what buildah takes for what it is meant to be.
fn check(build: &DockerfileBuild) -> Result<(), DockerfileError> {
    let refuse = |problem: String| Err(DockerfileError::Request { problem });
    relative(&build.dockerfile)?;
    let is_name = |name: &str| {
        let bytes = name.as_bytes();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        bytes.iter().all(is_part) && bytes.first().is_some_and(|first| *first != b'-')
    };
    if let Some(name) = build.args.keys().find(|name| !is_name(name)) {
        return refuse(format!(
            "`{name}` is no name of a build argument: use letters, digits and `_`"
        ));
    }
    if let Some((name, _)) = build.args.iter().find(|(_, value)| value.contains('\0')) {
        return refuse(format!(
            "the value of the build argument `{name}` contains a zero byte"
        ));
    }
    // buildah parts `id=..,src=..` at commas.
    if let Some(id) = build.secrets.keys().find(|id| !is_name(id)) {
        return refuse(format!(
            "`{id}` is no id of a build secret: use letters, digits, `_`, `-` and `.`"
        ));
    }
    if let Some(target) = build.target.as_ref().filter(|target| !is_name(target)) {
        return refuse(format!("`{target}` is no name of a stage"));
    }
    let is_image = |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains('\0');
    match build
        .local_images
        .iter()
        .find(|image| !is_image(&image.name))
    {
        Some(image) => refuse(format!("`{}` is no name of an image", image.name)),
        None => Ok(()),
    }
}

/// Makes storage and output; whether a build before was cut off. Blocks.
fn prepare(storage: &Path, output: &Path, uid_base: u32) -> Result<bool, DockerfileError> {
    let owner = uid_base.to_string();
    let make = |path: &Path| {
        let mut directory = fs::DirBuilder::new();
        directory.recursive(true).mode(0o700).create(path)
    };
    let make_inside = |path: &Path| {
        make(path)?;
        chown(path, Some(uid_base), Some(uid_base))
    };
    let prepared = || -> io::Result<bool> {
        let is_ours = fs::read_to_string(storage.join(OWNER)).is_ok_and(|kept| kept == owner);
        if !is_ours {
            tree::remove(storage)?;
        }
        make(storage)?;
        make_inside(&storage.join(LAYERS))?;
        make_inside(&storage.join(ON_ITS_WAY))?;
        fs::write(storage.join(OWNER), &owner)?;
        remove_leftovers(&storage.join(ON_ITS_WAY))?;
        let unfinished = storage.join(UNFINISHED);
        let was_cut_off = unfinished.exists();
        fs::write(unfinished, "")?;
        Ok(was_cut_off)
    };
    let was_cut_off = prepared().map_err(host(format_args!("make `{}`", storage.display())))?;
    let made = tree::remove(output).and_then(|()| make_inside(output));
    made.map_err(host(format_args!("make `{}`", output.display())))?;
    Ok(was_cut_off)
}

/// What a build that was cut off had on its way.
fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true if entry.file_name() == CACHE_MOUNTS => {}
            true => tree::remove(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Removes a cache that is larger than it may be: which of its layers will be used again, nobody
/// knows. Blocks.
fn tidy(storage: &Path, bytes_max: u64) -> Result<(), DockerfileError> {
    if tree::measure(storage) > bytes_max {
        tree::remove(storage).map_err(host(format_args!("remove `{}`", storage.display())))?;
    }
    Ok(())
}

/// One run in a sandbox.
async fn run(
    build: &DockerfileBuild,
    tools: &Tools,
    was_cut_off: bool,
    ends_at: Instant,
) -> Result<(), DockerfileError> {
    let commands = commands(build, tools, was_cut_off);
    let (push, make) = (commands.len() - 1, commands.len() - 2);
    let order = order(build, commands);
    let bytes = serde_json::to_vec(&order)
        .map(Zeroizing::new)
        .map_err(|error| host("write the order")(io::Error::other(error)))?;
    drop(order);
    let oom_kills = build.group.oom_kills();
    let mut log = Log::new(build);
    let mut sandbox = Sandbox::start(&build.program, &build.group, &bytes)
        .await
        .map_err(host("start the build's sandbox"))?;
    drop(bytes);
    let report = tokio::select! {
        report = sandbox.follow(&mut log) => Ok(report),
        () = sleep_until(ends_at) => Err(DockerfileError::TooLong { limit: build.deadline }),
        () = too_much_written(build) => Err(DockerfileError::Disk { limit: build.disk_bytes_max }),
    };
    sandbox.end().await;
    let report = report?;
    // A killed process may have been one of a step that went on and succeeded: what it has made is not
    // to be trusted, nor cached.
    if build.group.oom_kills() > oom_kills {
        return Err(DockerfileError::Memory);
    }
    let ended_by_itself = match report {
        Some(Report::Ended { command, code: 0 }) if command == push => Ok(()),
        Some(Report::Ended { command, code }) if command == push => Err(DockerfileError::Buildah {
            problem: format!(
                "it could not write the image (code {code}): {}",
                log.last_line()
            ),
        }),
        Some(Report::Ended { command, code }) if command == make => {
            match failure::classify(code, &log.into_tail()) {
                // What it has begun is removed by whoever tries again.
                busy @ DockerfileError::RuntimeBusy { .. } => return Err(busy),
                failed => Err(failed),
            }
        }
        Some(Report::Ended { code, .. }) => Err(DockerfileError::Buildah {
            problem: format!(
                "it could not take what it had (code {code}): {}",
                log.last_line()
            ),
        }),
        Some(Report::Cannot(problem)) => return Err(DockerfileError::Sandbox { problem }),
        None => {
            let problem = "it was killed".to_owned();
            return Err(DockerfileError::Sandbox { problem });
        }
    };
    let unfinished = build.storage.join(UNFINISHED);
    fs::remove_file(&unfinished)
        .map_err(host(format_args!("remove `{}`", unfinished.display())))?;
    ended_by_itself
}

/// Ends when cache and output occupy more than they may.
async fn too_much_written(build: &DockerfileBuild) {
    let mut watch = disk::Watch::default();
    let mut tick = interval(disk::WATCH_EVERY);
    loop {
        tick.tick().await;
        if !watch.is_due(disk::free_bytes(&build.storage)) {
            continue;
        }
        let places = [build.storage.clone(), build.output.clone()];
        let bytes =
            blocking(move || Ok(places.iter().map(|place| tree::measure(place)).sum::<u64>()));
        if bytes.await.is_ok_and(|bytes| bytes > build.disk_bytes_max) {
            return;
        }
    }
}

/// What is run, one after the other. The last is the one that writes the image.
fn commands(build: &DockerfileBuild, tools: &Tools, was_cut_off: bool) -> Vec<Vec<String>> {
    let global = [
        tools.buildah.as_str(),
        "--root",
        STORAGE,
        // In memory: it counts mounts, which end with the sandbox.
        "--runroot",
        "/run/containers",
        "--storage-driver",
        "overlay",
    ]
    .map(str::to_owned);
    let buildah = |command: &str| -> Vec<String> {
        let command = [command.to_owned()];
        global.iter().chain(&command).cloned().collect()
    };
    let mut commands = Vec::new();
    if was_cut_off {
        let mut remove = buildah("rm");
        remove.push("--all".to_owned());
        commands.push(remove);
    }
    // Not by `--build-context`, which buildah looks up before it puts arguments into names.
    for (number, image) in build.local_images.iter().enumerate() {
        let mut take: Vec<String> = ["/bin/sh", "-c", TAKE, "sh"].map(str::to_owned).into();
        take.push(format!("oci-archive:{IMAGES}/{number}"));
        take.push(image.name.clone());
        take.extend(global.clone());
        commands.push(take);
    }
    let mut make = buildah("build");
    make.extend(
        [
            "--isolation=oci",
            &format!("--runtime={}", tools.runc),
            // The sandbox's, which is the build's own.
            "--network=host",
            &format!("--cap-drop={DROPPED}"),
            "--signature-policy=/etc/containers/policy.json",
            "--http-proxy=false",
            "--format=oci",
            "--layers",
            "--force-rm",
            // What a registry has under a name may have changed.
            "--pull=true",
            "--retry=2",
        ]
        .map(str::to_owned),
    );
    if tools.has_seccomp {
        make.push(format!("--security-opt=seccomp={SECCOMP}"));
    }
    for (name, value) in &build.args {
        make.push(format!("--build-arg={name}={value}"));
    }
    for (number, id) in build.secrets.keys().enumerate() {
        make.push(format!("--secret=id={id},src={SECRETS}/{number}"));
    }
    if let Some(target) = &build.target {
        make.push(format!("--target={target}"));
    }
    if build.authorities.is_some() {
        // Whoever takes the image takes these variables out again.
        for name in TRUSTING {
            make.push(format!("--env={name}={BUILD_AUTHORITIES}"));
        }
        for at in [BUILD_AUTHORITIES, DEBIAN_AUTHORITIES] {
            make.push(format!("--volume={TEMPORARY}/{AUTHORITIES}:{at}:ro"));
        }
    }
    make.push(format!("--file={CONTEXT}/{}", build.dockerfile));
    make.push(format!("--tag={IMAGE}"));
    make.push(CONTEXT.to_owned());
    commands.push(make);
    let mut push = buildah("push");
    push.extend(
        [
            "--quiet",
            "--signature-policy=/etc/containers/policy.json",
            IMAGE,
            &format!("oci:{OUTPUT}:latest"),
        ]
        .map(str::to_owned),
    );
    commands.push(push);
    commands
}

/// Puts the archive `$1` into buildah's storage under the name `$2`; the rest is buildah.
const TAKE: &str = r#"archive=$1 name=$2; shift 2
image=$("$@" pull --quiet --signature-policy=/etc/containers/policy.json "$archive") && exec "$@" tag "$image" "$name""#;

fn order(build: &DockerfileBuild, commands: Vec<Vec<String>>) -> Order<'_> {
    let file = |name: &str, content: &str| (name.to_owned(), content.to_owned());
    let variable = file;
    Order {
        staging: build.storage.clone(),
        storage: build.storage.join(LAYERS),
        temporary: build.storage.join(ON_ITS_WAY),
        context: build.context.join(SOURCE),
        output: build.output.clone(),
        images: build
            .local_images
            .iter()
            .map(|image| image.archive.clone())
            .collect(),
        // Open as long as `build` is.
        network: format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            build.network.as_raw_fd()
        )
        .into(),
        group: build.group.clone(),
        uid_base: build.uid_base,
        files: vec![
            file("passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            file("group", "root:x:0:\n"),
            file("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            file("resolv.conf", &build.resolv_conf),
            file(
                "nsswitch.conf",
                "passwd: files\ngroup: files\nhosts: files dns\n",
            ),
            file("containers/policy.json", POLICY),
            file("containers/registries.conf", REGISTRIES),
            file("containers/storage.conf", STORAGE_CONF),
        ],
        secrets: build
            .secrets
            .iter()
            .map(|(id, value)| (Cow::from(id.as_str()), Cow::from(value.as_str())))
            .collect(),
        env: vec![
            variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            variable("HOME", "/run"),
            variable("XDG_RUNTIME_DIR", "/run"),
            variable("TMPDIR", TEMPORARY),
            variable("CONTAINERS_CONF", "/dev/null"),
            variable("CONTAINERS_STORAGE_CONF", "/etc/containers/storage.conf"),
            variable(
                "CONTAINERS_REGISTRIES_CONF",
                "/etc/containers/registries.conf",
            ),
        ],
        commands,
    }
}

/// Images are not signed for anyone here to check.
const POLICY: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

/// Short names are Docker Hub's. `localhost/` is this host's store, and no registry.
const REGISTRIES: &str = r#"unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"
[[registry]]
prefix = "localhost"
location = "localhost"
blocked = true
"#;

/// Read before the command line says the same.
const STORAGE_CONF: &str = r#"[storage]
driver = "overlay"
graphroot = "/storage"
runroot = "/run/containers"
"#;

/// A sandbox that runs.
struct Sandbox {
    process: Child,
    link: UnixStream,
    output: pipe::Receiver,
    group: Group,
}

impl Sandbox {
    async fn start(program: &Path, group: &Group, order: &[u8]) -> io::Result<Self> {
        let (ours, theirs) = BlockingStream::pair()?;
        let (output, inside) = io::pipe()?;
        ours.set_nonblocking(true)?;
        let mut link = UnixStream::from_std(ours)?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        let process = Command::new(program)
            .arg(SANDBOX)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(inside.try_clone()?))
            .stderr(Stdio::from(inside))
            .kill_on_drop(true)
            .spawn()?;
        link.write_all(order).await?;
        link.shutdown().await?;
        Ok(Self {
            process,
            link,
            output,
            group: group.clone(),
        })
    }

    /// Passes on what it writes until it has ended, and then what it reports.
    async fn follow(&mut self, log: &mut Log) -> Option<Report> {
        let Self { link, output, .. } = self;
        let mut said = Vec::new();
        let mut report = link.take(REPORT_BYTES_MAX);
        let (_, read) = tokio::join!(log.follow(output), report.read_to_end(&mut said));
        read.ok().and_then(|_| serde_json::from_slice(&said).ok())
    }

    /// Kills what is left, and waits until it is gone.
    async fn end(mut self) {
        let group = self.group.clone();
        // Blocks for a moment, as long as there are processes to name.
        let _ = tokio::task::spawn_blocking(move || group.kill()).await;
        if timeout(END_MAX, self.process.wait()).await.is_err() {
            let _ = self.process.start_kill();
        }
    }
}

impl Drop for Sandbox {
    /// For whoever drops the future; the process ends by the closed link as well.
    fn drop(&mut self) {
        self.group.kill();
    }
}

/// What is written, on its way to whoever reads it.
struct Log {
    lines: mpsc::Sender<String>,
    cutter: LineCutter,
    tail: VecDeque<String>,
}

impl Log {
    fn new(build: &DockerfileBuild) -> Self {
        Self {
            lines: build.log.clone(),
            cutter: LineCutter::default(),
            tail: VecDeque::new(),
        }
    }

    async fn follow(&mut self, output: &mut pipe::Receiver) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    for line in self.cutter.take(&buffer[..length]) {
                        self.say(line).await;
                    }
                }
            }
        }
        if let Some(line) = self.cutter.rest() {
            self.say(line).await;
        }
    }

    async fn say(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        // A reader that is gone is not waited for.
        let _ = self.lines.send(line).await;
    }

    fn last_line(&self) -> &str {
        self.tail.back().map_or("", String::as_str)
    }

    fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }
}

#[cfg(test)]
mod tests;
