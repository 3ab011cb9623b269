//! Go: one module with one program to serve.

use super::{Detection, Look};
use crate::{planner::PlanError, shell::quote};

/// Where the program is put.
const PROGRAM: &str = "/usr/local/bin/service";

/// Names of a program that serves, where a module has several.
const SERVERS: [&str; 6] = ["server", "web", "api", "app", "service", "http"];

impl Look<'_> {
    pub(super) fn go(&self) -> Result<Detection, PlanError> {
        let package = self.go_package()?;
        let build = format!("go build -o {PROGRAM} {}", quote(&package));
        Ok(Detection {
            what: "Go (go.mod)".to_owned(),
            build: vec![build],
            start: Some(PROGRAM.to_owned()),
            ..Detection::default()
        })
    }

    fn go_package(&self) -> Result<String, PlanError> {
        if self.go_is_main("") {
            return Ok(".".to_owned());
        }
        let mut commands = self.tree.list("cmd");
        commands.retain(|name| self.go_is_main(&format!("cmd/{name}")));
        let module = self.tree.read("go.mod").unwrap_or_default();
        let module = module
            .lines()
            .find_map(|line| line.trim().strip_prefix("module "));
        let last = module.and_then(|module| module.trim().rsplit('/').next());
        let named = |name: &&String| Some(name.as_str()) == last;
        let serves = |name: &&String| SERVERS.contains(&name.as_str());
        let chosen = match commands.as_slice() {
            [only] => Some(only),
            several => several
                .iter()
                .find(named)
                .or_else(|| several.iter().find(serves)),
        };
        match chosen {
            Some(name) => Ok(format!("./cmd/{name}")),
            None if commands.is_empty() => Err(PlanError::Source {
                what: "Go".to_owned(),
                problem: "there is no `package main` in the source directory or in a directory of \
                          `cmd`; set the source directory, or say how to build and start in an \
                          apprunner.yaml"
                    .to_owned(),
            }),
            None => Err(PlanError::Source {
                what: "Go".to_owned(),
                problem: format!(
                    "there are several programs ({}); say which one to build and start in an \
                     apprunner.yaml",
                    commands.join(", ")
                ),
            }),
        }
    }

    fn go_is_main(&self, dir: &str) -> bool {
        let names = self.tree.list(dir).into_iter();
        let mut sources = names.filter(|name| name.ends_with(".go") && !name.ends_with("_test.go"));
        sources.any(|name| {
            let path = match dir {
                "" => name,
                dir => format!("{dir}/{name}"),
            };
            let text = self.tree.read(&path).unwrap_or_default();
            text.lines().any(|line| line.trim_end() == "package main")
        })
    }
}
