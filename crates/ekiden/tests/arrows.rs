//! Keeps the arrows between crates as ARCHITECTURE.md draws them, and `unsafe` in one place.

#![allow(clippy::unwrap_used, reason = "a test that cannot look has failed")]

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use serde_json::Value;

/// Each crate and what it may use; a crate that is not here may not be in the workspace.
const ARROWS: &[(&str, &[&str])] = &[
    ("ekiden-model", &[]),
    ("ekiden-aws", &[]),
    ("ekiden-build", &["ekiden-model"]),
    ("ekiden-engine", &["ekiden-model"]),
    ("ekiden-source", &["ekiden-model"]),
    ("ekiden-export", &[]),
    ("ekiden-logs", &[]),
    ("ekiden-metrics", &["ekiden-model"]),
    ("ekiden-store", &["ekiden-model"]),
    ("ekiden-agent", &["ekiden-engine", "ekiden-model"]),
    ("ekiden-edge", &["ekiden-engine", "ekiden-model"]),
    (
        "ekiden-control",
        &[
            "ekiden-aws",
            "ekiden-build",
            "ekiden-engine",
            "ekiden-export",
            "ekiden-logs",
            "ekiden-metrics",
            "ekiden-registry",
            "ekiden-source",
            "ekiden-store",
            "ekiden-model",
        ],
    ),
    ("ekiden-registry", &["ekiden-store", "ekiden-model"]),
    (
        "ekiden-cli",
        &[
            "ekiden-aws",
            "ekiden-build",
            "ekiden-engine",
            "ekiden-model",
            "ekiden-source",
        ],
    ),
    (
        "ekiden",
        &[
            "ekiden-agent",
            "ekiden-aws",
            "ekiden-cli",
            "ekiden-control",
            "ekiden-edge",
            "ekiden-engine",
            "ekiden-model",
            "ekiden-store",
        ],
    ),
    // Programs that measure Ekiden from outside know nothing of its inside.
    ("ekiden-bench", &[]),
    // Simulates a decision of the model.
    ("ekiden-scale", &["ekiden-model"]),
];

#[test]
fn crates_use_only_what_the_architecture_lets_them() {
    for package in packages() {
        let name = text(&package, "name");
        let allowed = ARROWS.iter().find(|(from, _)| *from == name);
        let Some((_, allowed)) = allowed else {
            panic!("{name} is not in ARCHITECTURE.md's code map (and not in this test)");
        };
        let used = uses(&package);
        let forbidden: Vec<_> = used
            .iter()
            .filter(|to| !allowed.contains(&to.as_str()))
            .collect();
        assert!(forbidden.is_empty(), "{name} must not use {forbidden:?}");
    }
}

#[test]
fn the_pure_crate_has_no_clock_no_runtime_and_no_randomness() {
    let model = packages()
        .into_iter()
        .find(|package| text(package, "name") == "ekiden-model");
    let dependencies = normal_dependencies(&model.unwrap());
    for forbidden in ["tokio", "rand", "getrandom", "rustix", "libc", "hyper"] {
        assert!(
            !dependencies.contains(forbidden),
            "ekiden-model must not use {forbidden}"
        );
    }
}

#[test]
fn only_the_agent_may_be_unsafe() {
    for package in packages() {
        let name = text(&package, "name");
        let manifest = fs::read_to_string(text(&package, "manifest_path")).unwrap();
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert!(
            inherits || name == "ekiden-agent",
            "{name} must have the workspace's lints"
        );
        assert!(
            !manifest.contains("unsafe_code = \"allow\""),
            "{name} allows unsafe as a whole"
        );
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The workspace's crates that a crate uses, in tests and build scripts too.
fn uses(package: &Value) -> BTreeSet<String> {
    dependencies(package)
        .map(|dependency| text(dependency, "name"))
        .filter(|name| name.starts_with("ekiden"))
        .filter(|name| *name != text(package, "name"))
        .collect()
}

fn normal_dependencies(package: &Value) -> BTreeSet<String> {
    dependencies(package)
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| text(dependency, "name"))
        .collect()
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().unwrap().iter()
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap().to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
