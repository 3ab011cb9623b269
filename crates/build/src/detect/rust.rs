//! Rust: one binary of a package or of a workspace.

use toml::{Table, Value};

use super::{Detection, Look};
use crate::{plan::Note, planner::PlanError, shell::quote, version::Version};

/// Where the program is put.
const PROGRAM: &str = "/usr/local/bin/service";

impl Look<'_> {
    pub(super) fn rust(&self) -> Result<Detection, PlanError> {
        let manifest = self.cargo_manifest("")?;
        let binaries = self.binaries(&manifest)?;
        let (package, binary) = match binaries.as_slice() {
            [(package, binary)] => (package, binary),
            [] => {
                return Err(refused(
                    "no package of it has a binary; set the source directory",
                ));
            }
            several => {
                let names: Vec<_> = several.iter().map(|(_, binary)| binary.as_str()).collect();
                return Err(refused(&format!(
                    "it has several binaries ({}); set `default-run`, or say which one to build \
                     and start in an apprunner.yaml",
                    names.join(", ")
                )));
            }
        };
        let locked = if self.tree.is_file("Cargo.lock") {
            " --locked"
        } else {
            ""
        };
        let (package, binary) = (quote(package), quote(binary));
        let mut detection = Detection {
            what: "Rust (Cargo.toml)".to_owned(),
            // Not below /app: what the compiler leaves is large and of no use in the image.
            build: vec![
                format!("cargo build --release{locked} --package {package} --bin {binary}"),
                format!("install -D \"$CARGO_TARGET_DIR/release/{binary}\" {PROGRAM}"),
            ],
            start: Some(PROGRAM.to_owned()),
            ..Detection::default()
        };
        let target = format!("{}/target", crate::plan::CACHE_DIR);
        detection
            .build_env
            .insert("CARGO_TARGET_DIR".to_owned(), target);
        self.note_age(&manifest, &mut detection);
        Ok(detection)
    }

    fn cargo_manifest(&self, dir: &str) -> Result<Table, PlanError> {
        let path = match dir {
            "" => "Cargo.toml".to_owned(),
            dir => format!("{dir}/Cargo.toml"),
        };
        let text = self.tree.read(&path).unwrap_or_default();
        text.parse()
            .map_err(|_| refused(&format!("`{path}` is not TOML")))
    }

    /// Packages and their binaries; the default of one that has a default.
    fn binaries(&self, manifest: &Table) -> Result<Vec<(String, String)>, PlanError> {
        let mut binaries = self.binaries_of("", manifest);
        let members = at(manifest, &["workspace", "members"]).and_then(Value::as_array);
        if !binaries.is_empty() || members.is_none() {
            return Ok(binaries);
        }
        for member in members.into_iter().flatten().filter_map(Value::as_str) {
            let dirs = match member.strip_suffix("/*") {
                Some(parent) => {
                    let names = self.tree.list(parent).into_iter();
                    names.map(|name| format!("{parent}/{name}")).collect()
                }
                None => vec![member.to_owned()],
            };
            for dir in dirs {
                if self.tree.is_file(&format!("{dir}/Cargo.toml")) {
                    binaries.extend(self.binaries_of(&dir, &self.cargo_manifest(&dir)?));
                }
            }
        }
        Ok(binaries)
    }

    fn binaries_of(&self, dir: &str, manifest: &Table) -> Vec<(String, String)> {
        let text = |keys: &[&str]| {
            at(manifest, keys)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let Some(package) = text(&["package", "name"]) else {
            return Vec::new();
        };
        let one = |binary: String| vec![(package.clone(), binary)];
        if let Some(default) = text(&["package", "default-run"]) {
            return one(default);
        }
        let listed = manifest.get("bin").and_then(Value::as_array);
        let names = listed
            .into_iter()
            .flatten()
            .filter_map(|bin| bin.get("name")?.as_str());
        let named: Vec<_> = names
            .map(|name| (package.clone(), name.to_owned()))
            .collect();
        let main = match dir {
            "" => "src/main.rs".to_owned(),
            dir => format!("{dir}/src/main.rs"),
        };
        match named.is_empty() {
            true if self.tree.is_file(&main) => one(package.clone()),
            _ => named,
        }
    }

    /// What is certain not to build with the version there is.
    fn note_age(&self, manifest: &Table, detection: &mut Detection) {
        let edition = at(manifest, &["package", "edition"]).and_then(Value::as_str);
        let lock = self.tree.read("Cargo.lock").unwrap_or_default();
        let needs = [
            ("edition 2024", edition == Some("2024"), "1.85"),
            (
                "Cargo.lock",
                lock.lines().any(|line| line == "version = 4"),
                "1.78",
            ),
        ];
        for (what, applies, needed) in needs {
            let version = needed.parse::<Version>();
            let too_old = version.is_ok_and(|needed| needed.is_after(&self.selected.version));
            if applies && too_old {
                detection.notes.push(Note::new(format!(
                    "{what} needs Rust {needed}, and this is {} of {}: the build will fail; name an \
                     `image` in a runtime file (docs/runtimes.md) or use a Dockerfile",
                    self.selected.version, self.selected.origin
                )));
            }
        }
    }
}

fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?;
    match rest {
        [] => Some(value),
        rest => at(value.as_table()?, rest),
    }
}

fn refused(problem: &str) -> PlanError {
    PlanError::Source {
        what: "Rust".to_owned(),
        problem: problem.to_owned(),
    }
}
