//! The directories of one Ekiden: their owners and modes, and their end.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use crate::config::Config;

/// A directory cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} `{}`", path.display())]
pub struct LayoutError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Where a role's own socket is, on which it waits for a new supervisor.
pub fn role_socket(config: &Config, role: &str) -> PathBuf {
    config.run_dir.join("roles").join(format!("{role}.sock"))
}

/// Makes every directory that is missing and mends owner and mode of the others.
///
/// # Errors
/// Names the directory.
pub fn create(config: &Config) -> Result<(), LayoutError> {
    let (edge, control) = (config.users.edge as u32, config.users.control as u32);
    let (data, run) = (&config.data_dir, &config.run_dir);
    for (path, mode, user) in [
        (data.clone(), 0o711, 0),
        (data.join("control"), 0o700, control),
        (data.join("agent"), 0o700, 0),
        (data.join("bases"), 0o711, 0),
        (run.clone(), 0o755, 0),
        (run.join("roles"), 0o700, 0),
        (run.join("agent"), 0o755, 0),
        (run.join("agent").join("shims"), 0o700, 0),
        (run.join("control"), 0o755, 0),
    ] {
        directory(&path, mode, user).map_err(|source| LayoutError {
            verb: "make the directory",
            path,
            source,
        })?;
    }
    // What the edge makes there belongs to control's group, which reads the access log and finds nothing else:
    // the directory it may pass through, and not list.
    let path = data.join("edge");
    directory_of(&path, 0o2710, edge, control).map_err(|source| LayoutError {
        verb: "make the directory",
        path,
        source,
    })?;
    let path = pull_key(config);
    make_pull_key(&path, control).map_err(|source| LayoutError {
        verb: "make the key",
        path,
        source,
    })
}

/// Where the key is that the agent logs in to the built-in registry with: root's, and control may read it.
pub fn pull_key(config: &Config) -> PathBuf {
    config.data_dir.join("pull-key")
}

/// Makes the key, unless it is there: 64 digits from the kernel's random numbers.
fn make_pull_key(path: &Path, group: u32) -> io::Result<()> {
    if !path.exists() {
        let mut random = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let draft = path.with_extension("draft");
        absent(fs::remove_file(&draft))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&draft)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
    }
    chown(path, Some(0), Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640))
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what [`create`] made and what the supervisor, control and the edge put there; what
/// somebody else put beside it stays, and so do then the directories that hold it.
///
/// # Errors
/// Names what cannot be removed.
pub fn remove(config: &Config) -> Result<(), LayoutError> {
    let (data, run) = (&config.data_dir, &config.run_dir);
    for path in [
        run.join("agent"),
        run.join("control"),
        run.join("roles"),
        data.join("agent"),
        data.join("bases"),
        data.join("edge"),
        data.join("control"),
    ] {
        absent_is_fine(fs::remove_dir_all(&path), &path)?;
    }
    let key = pull_key(config);
    for path in [
        run.join("status.json"),
        data.join("lock"),
        key.with_extension("draft"),
        key,
    ] {
        absent_is_fine(fs::remove_file(&path), &path)?;
    }
    for path in [run, data] {
        let removed = match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        };
        absent_is_fine(removed, path)?;
    }
    Ok(())
}

fn directory(path: &Path, mode: u32, user: u32) -> io::Result<()> {
    directory_of(path, mode, user, user)
}

fn directory_of(path: &Path, mode: u32, user: u32, group: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    chown(path, Some(user), Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn absent_is_fine(result: io::Result<()>, path: &Path) -> Result<(), LayoutError> {
    absent(result).map_err(|source| LayoutError {
        verb: "remove",
        path: path.to_owned(),
        source,
    })
}
