//! Images: fetched, verified, unpacked and kept.
//!
//! [`store::ImageStore`] is what the rest of the agent uses. A layer is unpacked once, into a
//! directory named by the digest of its archive, and mounted from there by every image that has it.
//!
//! Everything that comes in is hostile until its digest is right, and its content is hostile even
//! then: an archive can name any path, link and size. Where each is stopped: `registry` and
//! `download` bound what a registry may send and how long it may take; `decode` bounds what it
//! may unpack to; `archive` refuses what is no tar; `tree` keeps every name inside the layer;
//! `unpack` decides what of it is kept.
//!
//! Nothing half done is believed: see `catalog`.

mod archive;
mod blob;
pub mod bootstrap;
mod catalog;
mod challenge;
mod collect;
mod decode;
mod download;
mod draft;
pub mod error;
mod export;
#[cfg(test)]
mod fake_registry;
mod flight;
mod holds;
mod import;
mod layer;
mod layout;
pub mod make;
mod manifest;
pub mod progress;
mod pull;
mod registry;
#[cfg(test)]
mod sample;
mod seal;
pub mod settings;
pub mod store;
mod transport;
mod tree;
mod unpack;
