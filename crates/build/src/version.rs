//! Versions of runtimes: numbers with dots, known as far as they are written.

use std::{fmt, str::FromStr};

/// Numbers of a version at most: Corretto's have five.
const NUMBERS_MAX: usize = 5;

/// `major[.minor[.patch…]]`. What is not written is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: Vec<u32>,
    text: String,
}

/// Text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a version: expected numbers with dots, such as `3.11` or `3.11.2`")]
pub struct InvalidVersion;

impl Version {
    /// Its first number.
    pub fn major(&self) -> u32 {
        self.numbers.first().copied().unwrap_or_default()
    }

    /// Whether both may be the same: no number that both have differs.
    pub fn agrees_with(&self, other: &Version) -> bool {
        self.numbers.iter().zip(&other.numbers).all(|(a, b)| a == b)
    }

    /// Whether it says more than the other does.
    pub fn is_finer_than(&self, other: &Version) -> bool {
        self.numbers.len() > other.numbers.len()
    }

    /// Whether it is certainly after the other.
    pub fn is_after(&self, other: &Version) -> bool {
        let mut pairs = self.numbers.iter().zip(&other.numbers);
        pairs.find(|(a, b)| a != b).is_some_and(|(a, b)| a > b)
    }

    /// The version that a text begins with, after spaces and quotes; `>=` and `^` do not count.
    pub(crate) fn at_start_of(text: &str) -> Option<Version> {
        let text = text.trim_start_matches([' ', '\t', '"', '\'', '=', '>', '^', '~', 'v']);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let text = &text[..end.unwrap_or(text.len())];
        text.trim_end_matches('.').parse().ok()
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u32>().map_err(|_| InvalidVersion),
            false => Err(InvalidVersion),
        };
        let numbers = text.split('.').map(number).collect::<Result<Vec<_>, _>>()?;
        match numbers.len() <= NUMBERS_MAX {
            true => Ok(Self {
                numbers,
                text: text.to_owned(),
            }),
            false => Err(InvalidVersion),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_agree_as_far_as_both_are_known() {
        assert!(version("3").agrees_with(&version("3.11")));
        assert!(version("3.11.9").agrees_with(&version("3.11")));
        assert!(!version("3.1").agrees_with(&version("3.10")));
        assert!(version("3.11.9").is_finer_than(&version("3.11")));
        assert!(version("3.12").is_after(&version("3.11.2")));
        assert!(!version("3.11.9").is_after(&version("3.11")));
        assert_eq!(version("8.312.07.1").to_string(), "8.312.07.1");
    }

    #[test]
    fn anything_else_is_no_version() {
        for text in [
            "",
            "3.",
            ".3",
            "3.x",
            "latest",
            "1.2.3.4.5.6",
            "+3",
            "99999999999",
        ] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
        }
        assert_eq!(
            Version::at_start_of(">=20.1.0 <21"),
            Some(version("20.1.0"))
        );
        assert_eq!(Version::at_start_of(" \"1.70\""), Some(version("1.70")));
        assert_eq!(Version::at_start_of("20.x"), Some(version("20")));
        assert_eq!(Version::at_start_of("*"), None);
    }
}
