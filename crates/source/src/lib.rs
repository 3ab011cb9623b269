//! Source trees: fetched from git, uploaded, packed into archives.
//!
//! Whatever a service is built from becomes a [`snapshot::Snapshot`]: one canonical tar file with the tree
//! below `app/`, which is a layer of an image as it is. Trees come from a git remote ([`git`]) or from a
//! folder that somebody uploads ([`upload`]); [`webhook`] reads what git hosts say of a push.
//!
//! All of this runs without privileges, and everything that comes in is taken for hostile: no tree is ever
//! unpacked into directories here, nothing in it is run, and every size, count and time has a bound.

pub mod git;
pub mod snapshot;
mod tar;
pub mod upload;
pub mod webhook;
