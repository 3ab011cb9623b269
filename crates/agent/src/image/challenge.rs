//! What a registry asks for when it answers 401.
//!
//! RFC 9110 section 11.6.1 has the header; the distribution project's "Token Authentication
//! Specification" what `Bearer` means to registries.

use http::{HeaderMap, Uri, header::WWW_AUTHENTICATE};

/// One way to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where.
        realm: Uri,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in an answer: a token rather than the password each time.
    pub(super) fn find(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let challenges: Vec<Self> = values
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .collect();
        let bearer = challenges.iter().find(|c| matches!(c, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = value.parse().ok(),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
            scope,
        })
    }
}

/// `name=value` and `name="quoted \" value"`, separated by commas; stops at what is neither.
fn parameters(mut text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ', '\t']);
        let Some((name, rest)) = text.split_once('=') else {
            return found;
        };
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        found.push((name.trim(), value));
        text = rest;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], want: Option<Challenge>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        assert_eq!(Challenge::find(&headers), want);
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.docker.io/token".parse().unwrap(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:library/debian:pull,push".to_owned()),
        };
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull,push""#;
        check(&[text], Some(bearer.clone()));
        check(
            &[r#"Basic realm="a, \"b\"", charset="UTF-8""#, text],
            Some(bearer),
        );
        check(&["basic"], Some(Challenge::Basic));
        check(&["Negotiate"], None);
        check(
            &[r#"Bearer realm="unclosed"#],
            Some(Challenge::Bearer {
                realm: "unclosed".parse().unwrap(),
                service: None,
                scope: None,
            }),
        );
        check(&["Bearer service=x"], None);
        check(&["Bearer realm"], None);
        check(&[], None);
    }
}
