//! Variables whose values nobody may see but the instance they are for.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Secret variables, open: by name. Their values are wiped when they are dropped, and `Debug` shows
/// names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretEnv(BTreeMap<String, Zeroizing<String>>);

impl SecretEnv {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes one more.
    pub fn insert(&mut self, name: String, value: Zeroizing<String>) {
        self.0.insert(name, value);
    }
}

impl fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The secret variables of a revision as they are kept: sealed, as text. Only the control plane's own
/// key opens them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedEnv(pub String);

impl fmt::Debug for SealedEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<sealed>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_shown() {
        let mut env = SecretEnv::default();
        env.insert("PASSWORD".into(), Zeroizing::new("hunter2".into()));
        assert_eq!(format!("{env:?}"), "{\"PASSWORD\"}");
        assert_eq!(
            serde_json::to_string(&env).unwrap(),
            r#"{"PASSWORD":"hunter2"}"#
        );
        assert_eq!(format!("{:?}", SealedEnv("AAAA".into())), "<sealed>");
    }
}
