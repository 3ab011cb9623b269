//! Base images made from Debian's packages, for hosts without a registry to lean on.
//!
//! `mmdebstrap` does the work; its output becomes an image of one layer. The times in it are fixed,
//! so that the same packages give the same digest.

use std::{
    fs::File,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use ekiden_model::image::{Digest, ImageReference, PreparedImage};
use flate2::{Compression, read::GzEncoder};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use super::{
    catalog::Recipe,
    error::ImageError,
    import::{Parts, check_local},
    manifest::{Configuration, Platform},
    progress::Progress,
    store::{ImageStore, Store, blocking, lost, now},
};

/// How long making a base image may take.
pub const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(14 * 60);

/// How long a base image is taken as new: Debian's point releases are months apart, its security
/// updates days.
pub const BOOTSTRAP_FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Packages that may be asked for.
const PACKAGES_MAX: usize = 1000;

/// Lines of the tool that an error quotes.
const LINES_QUOTED: usize = 5;

/// A longer line of the tool is cut.
const LINE_BYTES_MAX: usize = 1000;

/// The newest time that a file of the image has, in seconds since the Unix epoch
/// (reproducible-builds.org, `SOURCE_DATE_EPOCH`): 2023-11-14T22:13:20Z.
const SOURCE_DATE_EPOCH: u64 = 1_700_000_000;
const CREATED: &str = "2023-11-14T22:13:20Z";

/// Left out of a base image: what people read at a terminal. Licences stay.
const LEFT_OUT: [&str; 7] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    // The directories: packages of Java make links in them, and fail without.
    "path-include=/usr/share/man/man?",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A base image to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// `debian:` and a suite, as `debian:bookworm`.
    pub distribution: String,
    /// Packages besides the smallest system that has apt.
    pub packages: Vec<String>,
    /// Where packages come from; Debian's own servers when absent.
    pub mirror: Option<String>,
    /// What it is called, below `localhost/`.
    pub name: ImageReference,
    /// Make it anew even when the one that is here is less than [`BOOTSTRAP_FRESH`] old.
    pub refresh: bool,
}

impl ImageStore {
    /// Makes a base image, unless it is here and fresh. Tells the tool's own lines as progress.
    /// Takes at most [`BOOTSTRAP_DEADLINE`].
    ///
    /// # Errors
    /// [`ImageError::BadRequest`] for a distribution, package or name that cannot be;
    /// [`ImageError::ToolMissing`] and [`ImageError::ToolFailed`].
    pub async fn bootstrap(
        &self,
        bootstrap: Bootstrap,
        progress: &Progress,
    ) -> Result<PreparedImage, ImageError> {
        let recipe = recipe(&bootstrap)?;
        let store = &self.0;
        if !bootstrap.refresh
            && let Some(prepared) = fresh(store, &bootstrap.name, &recipe)
        {
            progress.phase(format!("`{}` is here and fresh", bootstrap.name));
            return Ok(prepared);
        }
        let (key, name) = (
            format!("bootstrap {recipe:?} {}", bootstrap.name),
            bootstrap.name,
        );
        let work = || make(Arc::clone(store), name, recipe, progress.clone());
        let (_, made) = store.pulls.run(key, || Box::pin(work())).await;
        made.unwrap_or_else(|| Err(lost()))
    }
}

fn fresh(store: &Store, name: &ImageReference, recipe: &Recipe) -> Option<PreparedImage> {
    let digest = store.find(name)?;
    let record = store.record(&digest)?;
    let is_fresh =
        record.recipe() == Some(recipe) && now().since(record.added_at) < BOOTSTRAP_FRESH;
    if is_fresh {
        store.use_image(&digest)
    } else {
        None
    }
}

async fn make(
    store: Arc<Store>,
    name: ImageReference,
    recipe: Recipe,
    progress: Progress,
) -> Result<PreparedImage, ImageError> {
    let fail = |error| ImageError::host("write in", &store.dir, &error);
    let (draft, archive) = store.drafts.file().map_err(fail)?;
    let scratch = store.scratch.directory().map_err(fail)?;
    let tool = store.settings.mmdebstrap.clone();
    match timeout(
        BOOTSTRAP_DEADLINE,
        run(&tool, &recipe, draft.path(), scratch.path(), &progress),
    )
    .await
    {
        Ok(made) => made?,
        Err(_) => {
            let (image, deadline) = (name.to_string(), BOOTSTRAP_DEADLINE);
            return Err(ImageError::Deadline { image, deadline });
        }
    }
    progress.phase("unpacking");
    blocking(move || {
        // Opened anew: the tool may have put another file in its place.
        drop(archive);
        let archive = File::open(draft.path());
        let archive = archive.map_err(|error| ImageError::host("read", draft.path(), &error))?;
        let prepared = take(&store, archive, &name, recipe);
        drop(draft);
        store.tidy(prepared.is_ok());
        prepared
    })
    .await
}

/// Runs the tool, telling its lines. It is killed when the future is dropped.
async fn run(
    tool: &Path,
    recipe: &Recipe,
    output: &Path,
    scratch: &Path,
    progress: &Progress,
) -> Result<(), ImageError> {
    find(tool)?;
    // Its mounts are in a namespace of its own, and all that it starts ends with it, which ends with this
    // process: nothing of it stays, however this process ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]);
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]);
    command.arg(tool);
    command.args(["--variant=minbase", "--format=tar"]);
    if !recipe.packages.is_empty() {
        command.arg(format!("--include={}", recipe.packages.join(",")));
    }
    command.args(LEFT_OUT.map(|rule| format!("--dpkgopt={rule}")));
    command.arg(&recipe.suite).arg(output).args(&recipe.mirror);
    command
        .env("TMPDIR", scratch)
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
        .env("LC_ALL", "C.UTF-8");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| ImageError::host("run", tool, &error))?;
    let mut last = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        follow(stderr, |line| {
            progress.phase(&line);
            last.push(line);
            if last.len() > LINES_QUOTED {
                last.remove(0);
            }
        })
        .await;
    }
    let status = child
        .wait()
        .await
        .map_err(|error| ImageError::host("wait for", tool, &error))?;
    if status.success() {
        return Ok(());
    }
    let (tool, status) = (tool.display().to_string(), describe(status));
    Err(ImageError::ToolFailed {
        tool,
        status,
        lines: last.join("; "),
    })
}

/// Where a program is looked for that has no path.
const PROGRAM_PATH: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

fn find(tool: &Path) -> Result<(), ImageError> {
    let is_there = match tool.components().count() {
        1 => PROGRAM_PATH
            .iter()
            .any(|directory| Path::new(directory).join(tool).exists()),
        _ => tool.exists(),
    };
    match is_there {
        true => Ok(()),
        false => Err(ImageError::ToolMissing {
            tool: tool.display().to_string(),
            package: "mmdebstrap",
        }),
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// Gives each line to `take`, until the stream ends or fails.
async fn follow(mut stream: impl AsyncRead + Unpin, mut take: impl FnMut(String)) {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        for &byte in &buffer[..length] {
            // A progress bar draws over itself with carriage returns.
            if !matches!(byte, b'\n' | b'\r') {
                if line.len() < LINE_BYTES_MAX {
                    line.push(byte);
                }
            } else if !line.is_empty() {
                take(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        take(String::from_utf8_lossy(&line).into_owned());
    }
}

fn take(
    store: &Store,
    archive: File,
    name: &ImageReference,
    recipe: Recipe,
) -> Result<PreparedImage, ImageError> {
    let mut parts = Parts::new(store);
    // gzip rather than zstd: every tool that may be given an export of it can read that.
    let source = GzEncoder::new(archive, Compression::new(3));
    let diff_id = parts.take_layer(store, source, None, None)?;
    let bytes = configuration(&diff_id, &recipe);
    let parsed = Configuration::parse(&bytes, 1).map_err(|problem| ImageError::Invalid {
        image: name.to_string(),
        problem,
    })?;
    parts.configure(store, &bytes, parsed)?;
    parts.describe(store, None)?;
    parts.add(store, name, Some(recipe))
}

fn configuration(diff_id: &Digest, recipe: &Recipe) -> Vec<u8> {
    let platform = Platform::here();
    let packages = recipe.packages.join(",");
    let made_by = format!(
        "mmdebstrap --variant=minbase --include={packages} {}",
        recipe.suite
    );
    let configuration = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": CREATED,
        "config": { "Env": [PATH], "Cmd": ["/bin/bash"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": CREATED, "created_by": made_by }],
    });
    configuration.to_string().into_bytes()
}

/// Checks what becomes arguments of the tool: none of it may look like an option, or like several
/// of what it should be one of.
fn recipe(bootstrap: &Bootstrap) -> Result<Recipe, ImageError> {
    let bad = |problem: String| Err(ImageError::BadRequest { problem });
    check_local(&bootstrap.name)?;
    let suite = match bootstrap.distribution.split_once(':') {
        Some(("debian", suite)) if is_word(suite, "-") => suite.to_owned(),
        _ => {
            return bad(format!(
                "`{}` is no distribution that can be bootstrapped: write `debian:` and a suite, as \
                 `debian:bookworm`",
                bootstrap.distribution
            ));
        }
    };
    let mut packages = bootstrap.packages.clone();
    packages.sort();
    packages.dedup();
    if let Some(package) = packages.iter().find(|package| !is_word(package, "+-.")) {
        return bad(format!("`{package}` is not the name of a Debian package"));
    }
    if packages.len() > PACKAGES_MAX {
        return bad(format!("more than {PACKAGES_MAX} packages are asked for"));
    }
    let schemes = ["http://", "https://", "file:/"];
    if let Some(mirror) = &bootstrap.mirror
        && (!schemes.iter().any(|scheme| mirror.starts_with(scheme)) || mirror.contains(' '))
    {
        return bad(format!(
            "`{mirror}` is no package mirror: write `https://host/debian`"
        ));
    }
    Ok(Recipe {
        suite,
        packages,
        mirror: bootstrap.mirror.clone(),
    })
}

/// Lower-case letters, digits and `others`, the first a letter or a digit (Debian Policy 5.6.7).
fn is_word(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain)
        && text.len() <= 100
        && text.chars().all(|c| plain(c) || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(distribution: &str, packages: &[&str], name: &str) -> Bootstrap {
        Bootstrap {
            distribution: distribution.to_owned(),
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
            mirror: None,
            name: name.parse().unwrap(),
            refresh: false,
        }
    }

    #[test]
    fn recipes_hold_nothing_that_is_an_option() {
        let good = asked(
            "debian:bookworm",
            &["python3", "libstdc++6", "python3"],
            "localhost/a",
        );
        assert_eq!(recipe(&good).unwrap().packages, ["libstdc++6", "python3"]);
        for bad in [
            asked("debian:--help", &[], "localhost/a"),
            asked("ubuntu:noble", &[], "localhost/a"),
            asked("debian", &[], "localhost/a"),
            asked("debian:bookworm", &["--customize-hook=x"], "localhost/a"),
            asked("debian:bookworm", &["a,b"], "localhost/a"),
            asked("debian:bookworm", &[], "quay.io/a"),
        ] {
            assert!(
                matches!(recipe(&bad), Err(ImageError::BadRequest { .. })),
                "{bad:?}"
            );
        }
    }

    #[tokio::test]
    async fn lines_are_told_one_by_one_and_cut() {
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        let text = format!("one\ntwo\r{long}\n\nlast");
        let mut lines = Vec::new();
        follow(text.as_bytes(), |line| lines.push(line)).await;
        assert_eq!(lines, ["one", "two", &long[..LINE_BYTES_MAX], "last"]);
    }
}
