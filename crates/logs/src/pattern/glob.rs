//! Texts with `*` for anything.

use memchr::memmem;

/// A text in which `*` stands for any bytes, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    /// What is between the stars; one piece if there is none.
    pieces: Vec<Vec<u8>>,
}

impl Glob {
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = vec![Vec::new()];
        for byte in text.bytes() {
            match (byte, pieces.last_mut()) {
                (b'*', _) | (_, None) => pieces.push(Vec::new()),
                (byte, Some(piece)) => piece.push(byte),
            }
        }
        Self { pieces }
    }

    /// In time in proportion to the text times the pieces: each is looked for once, from where the one
    /// before it ended.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return self.pieces.first().is_some_and(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_slice()) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(last.as_slice()) else {
            return false;
        };
        for piece in middle {
            match memmem::find(rest, piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }

    /// Its longest piece.
    pub(super) fn longest_piece(&self) -> &[u8] {
        self.pieces
            .iter()
            .max_by_key(|piece| piece.len())
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn stars_stand_for_anything() {
        for (glob, text, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("4*", "404", true),
            ("4*", "504", false),
            ("*.html*", "GET /index.html HTTP/1.0", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*ab*ab*", "abab", true),
            ("*ab*ab*", "aba", false),
            ("**", "x", true),
        ] {
            assert_eq!(
                Glob::new(glob).matches(text.as_bytes()),
                want,
                "{glob} {text}"
            );
        }
    }
}
