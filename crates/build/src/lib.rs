//! From source to a plan of how it becomes an image. Pure: no I/O, no clock.
//!
//! [`plan`](planner::plan) looks at a source tree through [`Tree`] and decides: by its
//! `apprunner.yaml` ([`apprunner_yaml`]), by values of the API, by its Dockerfile, or by what it is made
//! of. What it decides is a [`BuildPlan`](plan::BuildPlan): steps, each of which runs commands on what a
//! step before it left, the image, and how that is run. Others execute it; they have no choices left.
//!
//! Language runtimes are data ([`runtime`], `runtimes/*.yaml`), and operators add or change them with
//! files of their own (docs/runtimes.md).

pub mod apprunner_yaml;
mod detect;
pub mod ekiden_yaml;
pub mod plan;
pub mod planner;
pub mod procfile;
pub mod runtime;
mod shell;
pub mod tree;
pub mod version;
mod yaml;

pub use self::tree::Tree;
