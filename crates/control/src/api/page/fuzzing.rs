//! A way for the targets in `fuzz/` to what is private; no part of the control plane's interface.

use std::{io, marker::PhantomData, path::Path, sync::Arc};

use super::Page;
use crate::keyring::Keyring;

/// Tokens of one list.
pub struct PageTokens(Page<u32>);

impl PageTokens {
    /// With a key of its own, kept in a file that is made.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(key: &Path) -> io::Result<Self> {
        Ok(Self(Page {
            keyring: Arc::new(Keyring::load_or_make(key)?),
            list: b"ListServices".to_vec(),
            count: Some(1),
            after: None,
            place: PhantomData,
        }))
    }

    /// The one token that is good.
    pub fn one(&self) -> String {
        self.0.token(&1).unwrap_or_default()
    }

    /// Whether the list goes on at this token.
    pub fn accepts(&self, token: &str) -> bool {
        self.0.read(token).is_some()
    }
}
