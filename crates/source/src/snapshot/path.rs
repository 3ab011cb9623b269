//! Which paths and links a tree may have.

use std::cmp::Ordering;

/// Bytes of one name: Linux's `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// Characters of a path that are shown to people.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// What begins the name of a whiteout: such a file would remove another one from the image (OCI image
/// specification, "Whiteouts").
const WHITEOUT: &str = ".wh.";

/// Sees to it that a path is relative, plain and inside the tree; else says what is wrong.
pub(crate) fn check_path(path: &str, bytes_max: usize) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it has no name");
    }
    if path.len() > bytes_max {
        return Err("its path is too long");
    }
    if path.starts_with('/') {
        return Err("its path is absolute");
    }
    path.split('/').try_for_each(check_name)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" | "." => Err("its path has an empty part or a `.`"),
        ".." => Err("its path has a `..`"),
        _ if name.len() > NAME_BYTES_MAX => Err("one of its names is longer than 255 bytes"),
        _ if name.contains('\0') => Err("its path has a zero byte"),
        // In any case: some file systems take `.GIT` for it, and a git that is run there would read its hooks.
        _ if name.eq_ignore_ascii_case(".git") => Err("`.git` belongs to git itself"),
        _ if name.starts_with(WHITEOUT) => {
            Err("names that begin with `.wh.` have a meaning of their own in images")
        }
        _ => Ok(()),
    }
}

/// Sees to it that the link at `path` stays inside the tree; else says what is wrong.
///
/// All `..` come first, where they climb through directories of the tree and not through other links. What
/// follows can pass other links, which stay inside the tree themselves.
pub(crate) fn check_link(path: &str, target: &str, bytes_max: usize) -> Result<(), &'static str> {
    if target.is_empty() || target.contains('\0') {
        return Err("it is a link to nothing");
    }
    if target.len() > bytes_max {
        return Err("the target of the link is too long");
    }
    if target.starts_with('/') {
        return Err("it is a link to an absolute path: make it relative");
    }
    let mut depth = path.split('/').count() - 1;
    let mut descended = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descended => {
                return Err(
                    "it is a link with a `..` behind a name: write the path without detour",
                );
            }
            ".." if depth == 0 => return Err("it is a link that leaves the source tree"),
            ".." => depth -= 1,
            _ if part.eq_ignore_ascii_case(".git") => return Err("it is a link into `.git`"),
            _ => descended = true,
        }
    }
    Ok(())
}

/// The order of entries: a directory's content follows it at once, before `directory-2`.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let lowest = |byte: u8| if byte == b'/' { 0 } else { byte };
    a.bytes().map(lowest).cmp(b.bytes().map(lowest))
}

/// A path for messages: bounded, and without control characters.
pub(crate) fn shown(path: &str) -> String {
    let characters = path.chars().take(SHOWN_CHARACTERS_MAX);
    characters
        .flat_map(|c| match c.is_control() || c == '`' {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_tree() {
        for good in ["a", "a/b", "..a", "a..", ".gitignore", "ü/ß", "a b", "-rf"] {
            assert_eq!(check_path(good, 100), Ok(()), "{good}");
        }
        let long = "n".repeat(256);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "./a",
            "..",
            "a/../b",
            "a/..",
            ".git",
            "a/.GIT/x",
            "a\0b",
            ".wh.a",
            "a/.wh..wh..opq",
            &long,
        ] {
            assert!(check_path(bad, 1000).is_err(), "{bad}");
        }
        assert!(check_path("abcd", 3).is_err());
    }

    #[test]
    fn links_stay_inside_the_tree() {
        for (path, target) in [
            ("l", "a"),
            ("l", "./a/b"),
            ("l", "."),
            ("d/l", ".."),
            ("d/l", "../a"),
            ("d/e/l", "../../a"),
            ("l", "a/"),
        ] {
            assert_eq!(check_link(path, target, 100), Ok(()), "{path} {target}");
        }
        for (path, target) in [
            ("l", ""),
            ("l", ".."),
            ("l", "/etc/passwd"),
            ("d/l", "../.."),
            ("d/l", "./../../x"),
            ("l", "a/../../x"),
            ("l", "d/.."),
            ("l", ".git/config"),
        ] {
            assert!(check_link(path, target, 100).is_err(), "{path} {target}");
        }
    }

    #[test]
    fn a_directory_is_whole_before_its_neighbour() {
        let mut paths = ["a-b", "a/c", "a", "a.b", "a/c/d"];
        paths.sort_by(|a, b| compare(a, b));
        assert_eq!(paths, ["a", "a/c", "a/c/d", "a-b", "a.b"]);
    }
}
