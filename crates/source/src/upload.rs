//! Uploads: a folder on somebody's machine becomes a snapshot here, and only what is new travels.
//!
//! ```text
//! client                                              server
//!   Folder::scan: a manifest of names and digests
//!   --- manifest ------------------------------------->  missing(manifest, previous)
//!   <-- digests that the server lacks -----------------
//!   Folder::pack: an archive
//!   --- archive -------------------------------------->  assemble(archive, previous, ...)
//! ```
//!
//! An archive is a tar file in one zstd frame. Its first entry is `manifest.json`, the rest is content that the
//! server lacked, each named by the 64 digits of its digest, in any order. So an archive says all by itself
//! what the tree is: nothing has to be remembered between the two requests, and when the previous snapshot has
//! changed in between, the worst is [`UploadError::Missing`].
//!
//! The server believes nothing: every content is hashed, sizes are those of the manifest or the upload is
//! refused, and the sum of them is within the bounds before any content is read.

mod assemble;
mod manifest;
mod pack;

pub use assemble::{UploadError, assemble, missing};
pub use manifest::{InvalidManifest, Item, ItemKind, MANIFEST_BYTES_MAX, Manifest};
pub use pack::{Folder, PackError};

/// The name of the first entry of an archive.
const MANIFEST_NAME: &str = "manifest.json";

#[cfg(test)]
mod tests;
