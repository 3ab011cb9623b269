//! `ekiden env`: what the AWS tools need to speak to this host's Ekiden.

use std::collections::BTreeMap;

use crate::{
    endpoint::Endpoint,
    failure::Outcome,
    output::{OutputFormat, print},
};

/// Prints the variables for a shell to evaluate. The secret is among them: that is their purpose.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(endpoint: &Endpoint, format: OutputFormat) -> Outcome {
    let variables = BTreeMap::from([
        ("AWS_ENDPOINT_URL", &endpoint.url),
        ("AWS_ACCESS_KEY_ID", &endpoint.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &endpoint.secret_access_key),
        ("AWS_REGION", &endpoint.region),
        ("AWS_DEFAULT_REGION", &endpoint.region),
    ]);
    Ok(print(format, &variables, |variables| {
        variables
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
            .collect()
    })?)
}

/// As one word of a POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match !value.is_empty() && value.chars().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_one_word_each() {
        assert_eq!(quoted("http://127.0.0.1:8470"), "http://127.0.0.1:8470");
        assert_eq!(quoted("a+b/c="), "'a+b/c='");
        assert_eq!(quoted("a'b"), "'a'\\''b'");
        assert_eq!(quoted(""), "''");
    }
}
