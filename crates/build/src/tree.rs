//! A source tree, as the planner sees it.

/// The largest file that is read to decide, in bytes. Lock files may be larger; only their names matter.
pub const READ_BYTES_MAX: usize = 1 << 20;

/// What is known of a source tree. Paths are relative to the source directory, with `/`.
pub trait Tree {
    /// Whether a regular file is there.
    fn is_file(&self, path: &str) -> bool;

    /// A small text file; `None` if there is none, if it is larger than [`READ_BYTES_MAX`] or not UTF-8.
    fn read(&self, path: &str) -> Option<String>;

    /// Names in a directory, sorted; none if there is no such directory. `""` is the source directory.
    fn list(&self, dir: &str) -> Vec<String>;
}

/// Whether a file of this path is there; the last segment may have one `*`.
pub(crate) fn has(tree: &dyn Tree, pattern: &str) -> bool {
    find(tree, pattern).is_some()
}

/// The first file that a pattern names; the last segment may have one `*`.
pub(crate) fn find(tree: &dyn Tree, pattern: &str) -> Option<String> {
    let (dir, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let Some((head, tail)) = name.split_once('*') else {
        return tree.is_file(pattern).then(|| pattern.to_owned());
    };
    let fits = |name: &String| {
        name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
    };
    let at = |name: String| match dir {
        "" => name,
        dir => format!("{dir}/{name}"),
    };
    let names = tree.list(dir).into_iter();
    names.filter(fits).map(at).find(|path| tree.is_file(path))
}

/// The names among these of files that are there.
pub(crate) fn present(tree: &dyn Tree, names: &[&str]) -> Vec<String> {
    let there = names.iter().filter(|name| tree.is_file(name));
    there.map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
pub(crate) mod memory {
    use std::collections::{BTreeMap, BTreeSet};

    use super::Tree;

    /// Files by path.
    pub(crate) struct Memory(BTreeMap<String, String>);

    impl Memory {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
            Self(files.iter().map(owned).collect())
        }
    }

    impl Tree for Memory {
        fn is_file(&self, path: &str) -> bool {
            self.0.contains_key(path)
        }

        fn read(&self, path: &str) -> Option<String> {
            let small = |text: &&String| text.len() <= super::READ_BYTES_MAX;
            self.0.get(path).filter(small).cloned()
        }

        fn list(&self, dir: &str) -> Vec<String> {
            let below = |path: &String| match dir {
                "" => Some(path.clone()),
                dir => path.strip_prefix(&format!("{dir}/")).map(str::to_owned),
            };
            let first = |path: String| path.split('/').next().map(str::to_owned);
            let names: BTreeSet<_> = self.0.keys().filter_map(below).filter_map(first).collect();
            names.into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{memory::Memory, *};

    #[test]
    fn a_star_stands_for_a_part_of_a_name() {
        let tree = Memory::new(&[("App.csproj", ""), ("src/b.go", ""), ("src/a.go", "")]);
        assert_eq!(find(&tree, "*.csproj").as_deref(), Some("App.csproj"));
        assert_eq!(find(&tree, "src/*.go").as_deref(), Some("src/a.go"));
        assert_eq!(find(&tree, "*.go"), None);
        assert!(has(&tree, "src/b.go"));
        assert_eq!(tree.list(""), ["App.csproj", "src"]);
    }
}
