//! What a source is made of, without anybody having said so.
//!
//! A source is compared with the runtimes in their order; the first that knows it is taken. What rules of
//! data can express is there (`runtimes/*.yaml`); the modules below look into files: `package.json`,
//! `requirements.txt`, `Gemfile`, `go.mod`, `Cargo.toml`.
//!
//! Dependencies are installed in a step of their own where that needs a few known files only: it is
//! repeated when one of those changes, not with every commit.

mod go;
pub(crate) mod nodejs;
mod python;
mod ruby;
mod rust;

use std::collections::BTreeMap;

use crate::{
    plan::Note,
    planner::PlanError,
    runtime::{Analysis, Rule, Runtime, Runtimes, Selected},
    tree::{self, Tree},
    version::Version,
};

/// How a source of a runtime is built and started.
#[derive(Debug, Default)]
pub(crate) struct Detection {
    /// For people: `Django (manage.py)`.
    pub(crate) what: String,
    /// Packages beyond those of the runtime.
    pub(crate) packages: Vec<String>,
    /// Commands that complete the base, beyond those of the runtime.
    pub(crate) setup: Vec<String>,
    /// What installs dependencies, and the files it needs.
    pub(crate) install: Option<(Needs, Vec<String>)>,
    /// What builds the source.
    pub(crate) build: Vec<String>,
    /// What starts it, if that could be told.
    pub(crate) start: Option<String>,
    /// Why not, if not: what was looked for and what to do.
    pub(crate) start_unknown: String,
    pub(crate) build_env: BTreeMap<String, String>,
    pub(crate) run_env: BTreeMap<String, String>,
    pub(crate) notes: Vec<Note>,
}

/// What of the source installing dependencies needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    /// These files; none of them: nothing.
    Files(Vec<String>),
    /// All of it.
    Source,
}

/// What looks into a source: the source, the runtime, and all the others for what they have to lend.
pub(crate) struct Look<'a> {
    pub(crate) tree: &'a dyn Tree,
    pub(crate) selected: &'a Selected<'a>,
    pub(crate) runtimes: &'a Runtimes,
}

/// The first runtime that knows the source, and how it builds it; `None` if none does.
pub(crate) fn detect<'a>(
    tree: &dyn Tree,
    runtimes: &'a Runtimes,
) -> Result<Option<(Selected<'a>, Detection)>, PlanError> {
    let mut found: Option<(Selected<'a>, Detection)> = None;
    for runtime in runtimes.iter() {
        // Two are enough: what a source also looks like is worth a remark, no more.
        if let Some((_, detection)) = &mut found {
            if is_known(tree, runtime) && runtime.name != "static" {
                detection.notes.push(Note::new(format!(
                    "the source also looks like {}; write an apprunner.yaml or a Dockerfile if \
                     that is what it is",
                    runtime.title
                )));
                break;
            }
            continue;
        }
        if !is_known(tree, runtime) {
            continue;
        }
        let selected = runtime.as_it_is()?;
        let look = Look {
            tree,
            selected: &selected,
            runtimes,
        };
        if let Some(mut detection) = look.detection()? {
            detection.notes.extend(wanted(tree, &selected));
            found = Some((selected, detection));
        }
    }
    Ok(found)
}

/// What is looked for, for people.
pub(crate) fn looked_for(runtimes: &Runtimes) -> String {
    let mut files: Vec<String> = Vec::new();
    for runtime in runtimes.iter() {
        files.extend(runtime.analysis.map_or(Vec::new(), |analysis| {
            marks(analysis)
                .iter()
                .map(|mark| (*mark).to_owned())
                .collect()
        }));
        files.extend(
            runtime
                .rules
                .iter()
                .filter_map(|rule| rule.when.first().cloned()),
        );
    }
    let mut seen = Vec::new();
    files.retain(|file| {
        let is_new = !seen.contains(file);
        seen.push(file.clone());
        is_new
    });
    files.join(", ")
}

/// Files by which an analysis knows its language.
fn marks(analysis: Analysis) -> &'static [&'static str] {
    match analysis {
        Analysis::Go => &["go.mod"],
        Analysis::Nodejs => &["package.json"],
        Analysis::Python => &python::MARKS,
        Analysis::Ruby => &["Gemfile"],
        Analysis::Rust => &["Cargo.toml"],
    }
}

fn is_known(tree: &dyn Tree, runtime: &Runtime) -> bool {
    let marks = runtime.analysis.map_or(&[][..], marks);
    marks.iter().any(|mark| tree.is_file(mark)) || runtime.rules.iter().any(|rule| fits(tree, rule))
}

fn fits(tree: &dyn Tree, rule: &Rule) -> bool {
    let contains = |(file, text): (&String, &String)| {
        tree.read(file)
            .is_some_and(|read| read.contains(text.as_str()))
    };
    !rule.when.is_empty()
        && rule.when.iter().all(|file| tree::has(tree, file))
        && !rule.unless.iter().any(|file| tree::has(tree, file))
        && rule.contains.iter().all(contains)
}

impl Look<'_> {
    /// Rules first: those of Ekiden's own runtimes do not get in the way of an analysis, and an
    /// operator's are meant to.
    fn detection(&self) -> Result<Option<Detection>, PlanError> {
        let runtime = self.selected.runtime;
        if let Some(rule) = runtime.rules.iter().find(|rule| fits(self.tree, rule)) {
            return self.by_rule(rule).map(Some);
        }
        match runtime.analysis {
            None => Ok(None),
            Some(analysis) if !marks(analysis).iter().any(|mark| self.tree.is_file(mark)) => {
                Ok(None)
            }
            Some(Analysis::Go) => self.go().map(Some),
            Some(Analysis::Nodejs) => self.nodejs().map(Some),
            Some(Analysis::Python) => self.python(),
            Some(Analysis::Ruby) => self.ruby().map(Some),
            Some(Analysis::Rust) => self.rust().map(Some),
        }
    }

    fn by_rule(&self, rule: &Rule) -> Result<Detection, PlanError> {
        if let Some(problem) = &rule.refuse {
            return Err(PlanError::Source {
                what: rule.name.clone(),
                problem: problem.clone(),
            });
        }
        let names: Vec<&str> = rule.dependencies.iter().map(String::as_str).collect();
        let needs = match names.is_empty() {
            true => Needs::Source,
            false => Needs::Files(tree::present(self.tree, &names)),
        };
        let mut detection = Detection {
            what: format!("{} ({})", rule.name, rule.when.join(", ")),
            packages: rule.packages.clone(),
            install: (!rule.install.is_empty()).then(|| (needs, rule.install.clone())),
            build: rule.build.clone(),
            start: rule.start.clone(),
            start_unknown: "its runtime does not say how such a source is started".to_owned(),
            build_env: rule.build_env.clone(),
            run_env: rule.run_env.clone(),
            notes: rule.notes.iter().map(Note::new).collect(),
            ..Detection::default()
        };
        // Assets of a web framework in another language.
        if self.selected.runtime.name == "php" {
            self.add_assets(&mut detection)?;
        }
        Ok(detection)
    }
}

/// What a source wants to be newer than it is here: it may not build.
pub(crate) fn wanted(tree: &dyn Tree, selected: &Selected<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    for want in &selected.runtime.wants {
        // So that a file's first line follows a line break, too.
        let Some(text) = tree.read(&want.file).map(|text| format!("\n{text}")) else {
            continue;
        };
        let after = match want.after.as_str() {
            "" => "\n",
            after => after,
        };
        let place = text.find(after).map(|place| place + after.len());
        let version = place.and_then(|place| Version::at_start_of(&text[place..]));
        if let Some(version) = version.filter(|version| version.is_after(&selected.version)) {
            notes.push(Note::new(format!(
                "{} asks for {} {version}, and this is {} of {}: the build may fail; name an `image` \
                 in a runtime file (docs/runtimes.md) or use a Dockerfile",
                want.file, selected.runtime.title, selected.version, selected.origin
            )));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
