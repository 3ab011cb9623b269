//! Files that are there whole or not at all.

use std::{fs, io, path::Path};

/// Replaces a file whole: whoever reads it sees the old bytes or the new ones. Not synced: for
/// state that a reboot makes worthless.
///
/// # Errors
/// Those of writing and renaming.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}
