//! Outputs without members.

use serde::{Deserialize, Serialize};

/// The output of an operation whose model gives it none: `{}`, which clients read as nothing in every
/// protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Nothing {}
