//! Names of groups and streams, and of the directories of groups.

use crate::error::LogError;

/// The longest name of a group or stream.
pub const NAME_BYTES_MAX: usize = 512;

/// A directory's name is cut to this, since file systems take 255; a hash of the whole name follows then.
const DIRECTORY_BYTES_MAX: usize = 180;

/// Checks the name of a group.
///
/// # Errors
/// [`LogError::Invalid`] when it is not 1 to 512 of `.-_/#A-Za-z0-9`.
pub fn check_group(name: &str) -> Result<(), LogError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(LogError::Invalid {
        message: format!(
            "`{}` cannot be the name of a log group; use 1 to {NAME_BYTES_MAX} letters, digits, and .-_/#",
            shortened(name),
        ),
    })
}

/// Checks the name of a stream.
///
/// # Errors
/// [`LogError::Invalid`] when it is not 1 to 512 bytes without `:` and `*`.
pub fn check_stream(name: &str) -> Result<(), LogError> {
    let good = |byte: u8| byte != b':' && byte != b'*';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(LogError::Invalid {
        message: format!(
            "`{}` cannot be the name of a log stream; use 1 to {NAME_BYTES_MAX} bytes without `:` and `*`",
            shortened(name),
        ),
    })
}

fn shortened(name: &str) -> String {
    name.chars()
        .take(64)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// The name of a group's directory: readable, and not the same for any two names unless they are long.
pub(crate) fn directory(group: &str) -> String {
    let mut out = String::with_capacity(group.len() + 16);
    for (index, char) in group.chars().enumerate() {
        match char {
            '/' => out.push_str("%2F"),
            '#' => out.push_str("%23"),
            '.' if index == 0 => out.push_str("%2E"),
            _ => out.push(char),
        }
    }
    if out.len() > DIRECTORY_BYTES_MAX {
        out.truncate(DIRECTORY_BYTES_MAX);
        out.push_str(&format!("~{:08x}", crc32fast::hash(group.as_bytes())));
    }
    out
}

/// The group of a directory whose `group.json` is lost; `None` when the name does not say it.
pub(crate) fn group_of(directory: &str) -> Option<String> {
    let name = directory
        .replace("%2F", "/")
        .replace("%23", "#")
        .replace("%2E", ".");
    check_group(&name).ok().map(|()| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_plain_names_that_say_the_group() {
        for group in [
            "a",
            "/aws/apprunner/web/0123/service",
            "..",
            ".#x",
            "A_b-c.d",
        ] {
            let name = directory(group);
            assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
            assert_eq!(group_of(&name).as_deref(), Some(group));
        }
        let long = directory(&"/".repeat(512));
        assert!(long.len() < 255);
        assert_ne!(long, directory(&"/".repeat(511)));
        assert_eq!(group_of(&long), None);
    }

    #[test]
    fn names_outside_the_pattern_are_refused() {
        for name in ["", "a b", "ü", "a*", &"x".repeat(513)] {
            assert!(check_group(name).is_err(), "{name}");
        }
        for name in ["", "a:b", "*", &"x".repeat(513)] {
            assert!(check_stream(name).is_err(), "{name}");
        }
        assert!(check_stream("deployment/ä b").is_ok());
    }
}
