//! Text with `*` for any number of any characters.

/// Whether the whole text is as the pattern says. Takes time in proportion to both lengths at most: what
/// a `*` has swallowed is given back once per later `*`, never tried in every way.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if pattern.get(at) == Some(&text[place]) {
            (at, place) = (at + 1, place + 1);
        } else if let Some((star_at, swallowed_to)) = star {
            star = Some((star_at, swallowed_to + 1));
            (at, place) = (star_at + 1, swallowed_to + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_is_any_characters_and_everything_else_is_itself() {
        for (pattern, matching, other) in [
            ("web", &["web"][..], &["", "we", "webs", "aweb", "WEB"][..]),
            ("*", &["", "a", "a*b"], &[]),
            ("web-*", &["web-", "web-a"], &["web", "aweb-a"]),
            ("*-prod", &["a-prod", "-prod-prod"], &["a-prod-", "prod"]),
            (
                "a*b*c",
                &["abc", "aXbXbXc", "abbcc"],
                &["ab", "acb", "abcd"],
            ),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**a", &["a", "ba"], &["ab"]),
        ] {
            for text in matching {
                assert!(matches(pattern, text), "{pattern} {text}");
            }
            for text in other {
                assert!(!matches(pattern, text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn a_hopeless_pattern_is_given_up_soon() {
        assert!(!matches(
            &format!("{}b", "a*".repeat(31)),
            &"a".repeat(10_000)
        ));
    }
}
