//! Comparing a request's path with prefixes so that it cannot be written around them.
//!
//! Applications disagree on what a path means: some decode it twice, some take `\` for `/`, some
//! drop what follows a `;`, some resolve `..` and some do not. A [`Reading`] is therefore the most
//! that a path can be taken for. It is decoded until nothing is left to decode, `\` becomes `/`,
//! parameters after `;`, empty and `.` segments are dropped, and `..` is looked at both ways.
//! [`Reading::is_surely_below`] holds only if every application would say so, and
//! [`Reading::may_be_below`] if any would; a path that has bytes which mean different things to
//! different decoders is no reading at all.
//!
//! What the application is sent is the path as the client wrote it.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest prefix, in bytes.
pub const PREFIX_BYTES_MAX: usize = 512;

/// How often a path is decoded; one that can be decoded still is ambiguous.
const DECODINGS_MAX: usize = 3;

/// A path and everything below it: `/admin` is for `/admin` and `/admin/users`, and not for
/// `/administrator`. `/` is for every path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// A text that is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a path prefix: it begins with `/`, has at most {PREFIX_BYTES_MAX} bytes of \
     printable ASCII, and is written plainly, without `%`, `\\`, `;`, `?`, `#`, `//`, `.` or `..`"
)]
pub struct InvalidPathPrefix(String);

/// What a path can be taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<'p> {
    decoded: Cow<'p, [u8]>,
}

impl<'p> Reading<'p> {
    /// Reads the path of a request's target; `None` when it is ambiguous.
    pub fn of(target: &'p [u8]) -> Option<Self> {
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let mut decoded = Cow::Borrowed(&target[..end.unwrap_or(target.len())]);
        for _ in 0..DECODINGS_MAX {
            match decode(&decoded)? {
                None => break,
                Some(once_more) => decoded = Cow::Owned(once_more),
            }
        }
        // Control characters end a path early in some languages, and 0xc0 and 0xc1 begin the
        // overlong forms of ASCII that strict decoders refuse.
        let strange = |byte: &u8| *byte < b' ' || matches!(byte, 0x7f | b'%' | 0xc0 | 0xc1);
        (!decoded.iter().any(strange)).then_some(Self { decoded })
    }

    /// Whether every application takes the path for the prefix or something below it.
    pub fn is_surely_below(&self, prefix: &PathPrefix) -> bool {
        let wanted = prefix.segments().count();
        let mut resolved: Vec<&[u8]> = Vec::new();
        let mut written: Vec<&[u8]> = Vec::new();
        for segment in self.segments() {
            written.push(segment);
            if segment == b".." {
                resolved.pop();
            } else {
                resolved.push(segment);
            }
        }
        [resolved, written].iter().all(|path| {
            path.len() >= wanted
                && prefix
                    .segments()
                    .zip(path)
                    .all(|(want, have)| want == *have)
        })
    }

    /// Whether some application may take the path for the prefix or something below it. Case does
    /// not count: to many it does not.
    pub fn may_be_below(&self, prefix: &PathPrefix) -> bool {
        let reaches = |path: &[&[u8]]| {
            let mut wanted = prefix.segments();
            path.iter()
                .zip(&mut wanted)
                .all(|(have, want)| want.eq_ignore_ascii_case(have))
                && wanted.next().is_none()
        };
        let mut resolved: Vec<&[u8]> = Vec::new();
        let mut reached = reaches(&resolved);
        for segment in self.segments() {
            if segment == b".." {
                resolved.pop();
            } else {
                resolved.push(segment);
            }
            reached |= reaches(&resolved);
        }
        reached
    }

    /// Its segments without parameters, empty ones and `.`.
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.decoded
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .map(|segment| {
                segment
                    .split(|byte| *byte == b';')
                    .next()
                    .unwrap_or(segment)
            })
            .filter(|segment| !segment.is_empty() && *segment != b".")
    }
}

/// Decodes once; `Some(None)` when there is nothing to decode, `None` when a `%` has no digits.
fn decode(path: &[u8]) -> Option<Option<Vec<u8>>> {
    if !path.contains(&b'%') {
        return Some(None);
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = after else {
            return None;
        };
        decoded.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    Some(Some(decoded))
}

impl PathPrefix {
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .as_bytes()
            .split(|byte| *byte == b'/')
            .filter(|segment| !segment.is_empty())
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPathPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPathPrefix> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"%\\;?#".contains(&byte));
        let inner = text.strip_prefix('/');
        let inner = inner.map(|inner| inner.strip_suffix('/').unwrap_or(inner));
        let segments = |inner: &str| {
            inner.is_empty()
                || inner
                    .split('/')
                    .all(|segment| !matches!(segment, "" | "." | ".."))
        };
        match inner {
            Some(inner) if plain && text.len() <= PREFIX_BYTES_MAX && segments(inner) => {
                Ok(Self(format!("/{inner}")))
            }
            _ => Err(InvalidPathPrefix(text.chars().take(60).collect())),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = InvalidPathPrefix;

    fn try_from(text: String) -> Result<Self, InvalidPathPrefix> {
        text.parse()
    }
}

impl From<PathPrefix> for String {
    fn from(prefix: PathPrefix) -> String {
        prefix.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, prefix: &str, surely: bool, maybe: bool) {
        let prefix = prefix.parse().unwrap();
        let reading = Reading::of(path.as_bytes()).unwrap();
        let found = (
            reading.is_surely_below(&prefix),
            reading.may_be_below(&prefix),
        );
        assert_eq!(found, (surely, maybe), "{path}");
    }

    #[test]
    fn a_prefix_is_of_whole_segments() {
        for path in [
            "/admin",
            "/admin/",
            "/admin/users?x=/",
            "/admin?a",
            "//admin",
        ] {
            check(path, "/admin", true, true);
        }
        for path in ["/", "/adm", "/administrator", "/x/admin", "/?/admin"] {
            check(path, "/admin", false, false);
        }
        check("/anything", "/", true, true);
        check("/", "/", true, true);
        check("/a/b/c", "/a/b/", true, true);
        check("/a", "/a/b", false, false);
    }

    #[test]
    fn a_denied_path_cannot_be_written_in_another_way() {
        for path in [
            "/%61dmin",
            "/%2561dmin",
            "/ADMIN",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/%252e%252e/admin",
            "//admin",
            "/%2fadmin",
            "/%5cadmin",
            "\\admin",
            "/admin;a=b",
            "/;x/admin",
            "/admin%3bjsessionid=1/users",
            "/admin/../public",
            "/admin%2f..%2fpublic",
            "/../admin",
        ] {
            let reading = Reading::of(path.as_bytes()).unwrap();
            assert!(reading.may_be_below(&"/admin".parse().unwrap()), "{path}");
        }
    }

    #[test]
    fn an_allowed_path_cannot_lead_elsewhere() {
        for path in [
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public;/../admin",
            "/public/..",
            "/public\\..\\admin",
            "/Public",
            "/x/../public",
        ] {
            let reading = Reading::of(path.as_bytes()).unwrap();
            assert!(
                !reading.is_surely_below(&"/public".parse().unwrap()),
                "{path}"
            );
        }
        check("/public/a/../b", "/public", true, true);
    }

    #[test]
    fn what_decoders_disagree_on_is_no_reading() {
        for path in [
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/%2500",
            "/%c0%ae",
            "/%25252525",
            "/a%0ab",
        ] {
            assert_eq!(Reading::of(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn prefixes_are_written_plainly() {
        for text in [
            "", "admin", "/a//b", "/a/../b", "/%61", "/a?b", "/a;b", "/a\\b", "/ä", "/a b",
        ] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
        assert_eq!("/a/b/".parse::<PathPrefix>().unwrap().to_string(), "/a/b");
    }

    proptest! {
        #[test]
        fn what_is_surely_below_may_be(path in "/[a-c./%25;\\\\]{0,12}") {
            let prefix = "/a".parse().unwrap();
            if let Some(reading) = Reading::of(path.as_bytes()) {
                prop_assert!(!reading.is_surely_below(&prefix) || reading.may_be_below(&prefix));
            }
        }
    }
}
