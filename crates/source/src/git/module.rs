//! Submodules: which there are, and where they come from.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{CommitId, GitError, Remote, tree::Object};

/// A repository whose tree lies at a path of the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Module {
    /// Empty for the first one, which is no submodule.
    pub(super) path: String,
    pub(super) remote: Remote,
    pub(super) commit: CommitId,
    /// Where it is fetched into.
    pub(super) repository: PathBuf,
    pub(super) depth: usize,
}

impl Module {
    /// The submodule that a gitlink of this one stands for.
    pub(super) fn child(
        &self,
        link: &Object,
        declared: &HashMap<String, String>,
        cache: &Path,
        allowed_local: &[PathBuf],
    ) -> Result<Self, GitError> {
        let inner = link.path.strip_prefix(&self.path).unwrap_or(&link.path);
        let address = declared.get(inner.trim_start_matches('/'));
        let address = address.ok_or(GitError::ModuleUnknown)?;
        let remote = self.remote.join(address, allowed_local)?;
        let name = Sha256::digest(remote.as_str());
        let name: String = name[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            path: link.path.clone(),
            commit: link
                .id
                .parse()
                .map_err(|_| GitError::Odd("a submodule's commit is not named by SHA-1"))?,
            remote,
            repository: cache.join("modules").join(name),
            depth: self.depth + 1,
        })
    }
}

/// Reads what `git config --list --null` says of `.gitmodules`: path to address. `update`, `branch` and all
/// else that could make git do something is not looked at.
pub(super) fn read_declared(list: &[u8]) -> HashMap<String, String> {
    let (mut paths, mut addresses) = (HashMap::new(), HashMap::new());
    for record in list.split(|&byte| byte == 0) {
        let Some((key, value)) = std::str::from_utf8(record)
            .ok()
            .and_then(|record| record.split_once('\n'))
        else {
            continue;
        };
        // Names may have dots; section and key have none.
        let named = key
            .strip_prefix("submodule.")
            .and_then(|key| key.rsplit_once('.'));
        match named {
            Some((name, "path")) => paths.insert(name, value),
            Some((name, "url")) => addresses.insert(name, value),
            _ => continue,
        };
    }
    let declared = paths.into_iter().filter_map(|(name, path)| {
        let address = addresses.get(name)?;
        Some((path.trim_end_matches('/').to_owned(), (*address).to_owned()))
    });
    declared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_whatever_their_names() {
        let list =
            b"submodule.a.b.path\nlib/a\0submodule.a.b.url\n../a\0submodule.a.b.update\n!id\0\
            submodule.c.path\nc\0core.sshcommand\nid\0novalue\0submodule.\xff.url\nx\0";
        let want = HashMap::from([("lib/a".to_owned(), "../a".to_owned())]);
        assert_eq!(read_declared(list), want);
    }
}
