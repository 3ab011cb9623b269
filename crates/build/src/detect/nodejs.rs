//! Node.js: servers, and sites that a build makes; npm, yarn and pnpm.

use serde_json::Value;

use super::{Detection, Look, Needs};
use crate::{plan::Note, planner::PlanError, shell, tree, version::Version};

/// Programs that are started when `package.json` does not say how.
const PROGRAMS: [&str; 7] = [
    "server.js",
    "index.js",
    "app.js",
    "main.js",
    "src/index.js",
    "src/server.js",
    "index.mjs",
];

/// Makes of sites: the package that builds them, and where the result is.
const SITES: [(&str, &str); 9] = [
    ("vite", "dist"),
    ("react-scripts", "build"),
    ("@vue/cli-service", "dist"),
    ("astro", "dist"),
    ("gatsby", "public"),
    ("@11ty/eleventy", "_site"),
    ("@docusaurus/core", "build"),
    ("vuepress", ".vuepress/dist"),
    ("parcel", "dist"),
];

/// Packages with which such a source is a server all the same.
const SERVERS: [&str; 12] = [
    "express",
    "fastify",
    "koa",
    "@nestjs/core",
    "@hapi/hapi",
    "hono",
    "@remix-run/node",
    "@react-router/serve",
    "@sveltejs/adapter-node",
    "@astrojs/node",
    "nuxt",
    "next",
];

/// Beginnings of `start` scripts that are meant for the developer's machine.
const DEVELOPMENT: [&str; 11] = [
    "vite",
    "react-scripts start",
    "vue-cli-service serve",
    "ng serve",
    "webpack serve",
    "webpack-dev-server",
    "parcel",
    "astro dev",
    "gatsby develop",
    "eleventy --serve",
    "docusaurus start",
];

/// Scripts that run with an installation and may need the source.
const INSTALL_SCRIPTS: [&str; 5] = [
    "preinstall",
    "install",
    "postinstall",
    "prepare",
    "prepublish",
];

/// The release of pnpm for sources that name none; runs on Node.js 18.
const PNPM: &str = "pnpm@9";

/// A source's `package.json`.
struct Package(Value);

/// How dependencies are installed, and scripts run.
struct Manager {
    files: Vec<&'static str>,
    install: String,
    /// Takes away what only the build needed.
    prune: Option<String>,
    run: String,
}

impl Look<'_> {
    pub(super) fn nodejs(&self) -> Result<Detection, PlanError> {
        let package = self.package()?;
        let site = self.site(&package);
        let builds = package.script("build").is_some();
        let manager = self.manager(&package, builds);
        let install = vec![manager.install.clone()];
        let mut detection = Detection {
            install: Some((self.needs(&package, &manager), install)),
            ..Detection::default()
        };
        if builds {
            detection.build.push(format!("{} build", manager.run));
        }
        self.note_engine(&package, &mut detection);
        if let Some((make, dir)) = site {
            self.serve_site(make, dir, &mut detection)?;
            return Ok(detection);
        }
        if builds {
            detection.build.extend(manager.prune.clone());
        }
        let (start, what) = self.start_node(&package, &manager);
        detection.what = format!("{what} (package.json)");
        detection.start = start;
        detection.start_unknown = format!(
            "package.json has no script `start` and no `main` that is there, and there is none of {}",
            PROGRAMS.join(", ")
        );
        for (name, value) in [("NODE_ENV", "production"), ("HOST", "0.0.0.0")] {
            detection.run_env.insert(name.to_owned(), value.to_owned());
        }
        Ok(detection)
    }

    /// Lends its tools to a source of another language that has a `package.json`: installs, and builds
    /// the assets if there is a script for that.
    pub(super) fn add_assets(&self, detection: &mut Detection) -> Result<(), PlanError> {
        if !self.tree.is_file("package.json") {
            return Ok(());
        }
        let package = self.package()?;
        let nodejs = self.runtimes.select("nodejs")?;
        if self.selected.is_image() || nodejs.is_image() {
            let note =
                "package.json is not looked at: the base is an image, which may lack Node.js";
            detection.notes.push(Note::new(note));
            return Ok(());
        }
        if let crate::plan::Base::Packages { packages } = nodejs.base(&[]) {
            detection.packages.extend(packages);
        }
        detection.setup.extend(nodejs.runtime.setup.iter().cloned());
        for (name, value) in nodejs.runtime.variables_of_build() {
            detection.build_env.entry(name).or_insert(value);
        }
        let manager = self.manager(&package, true);
        detection.build.push(manager.install);
        if package.script("build").is_some() {
            detection.build.push(format!("{} build", manager.run));
        }
        Ok(())
    }

    fn package(&self) -> Result<Package, PlanError> {
        let text = self.tree.read("package.json").unwrap_or_default();
        let text = text.trim_start_matches('\u{feff}');
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(Package(value)),
            _ => Err(PlanError::Source {
                what: "Node.js".to_owned(),
                problem: "`package.json` is not a JSON object".to_owned(),
            }),
        }
    }

    fn manager(&self, package: &Package, with_development: bool) -> Manager {
        let wanted = package.text("packageManager").unwrap_or_default();
        // `pnpm@9.1.0+sha512…`: npm does not know the hash.
        let wanted = wanted.split('+').next().unwrap_or_default();
        let (name, version) = wanted.split_once('@').unwrap_or((wanted, ""));
        let is_word = |text: &str| !text.is_empty() && shell::is_words(text) && !text.contains(' ');
        if self.tree.is_file("pnpm-lock.yaml") {
            let tool = match name == "pnpm" && is_word(version) {
                true => format!("npx --yes pnpm@{version}"),
                false => format!("npx --yes {PNPM}"),
            };
            let only = if with_development {
                "--prod=false"
            } else {
                "--prod"
            };
            return Manager {
                files: vec![
                    "pnpm-lock.yaml",
                    "pnpm-workspace.yaml",
                    ".npmrc",
                    ".pnpmfile.cjs",
                ],
                install: format!("{tool} install --frozen-lockfile {only}"),
                prune: Some(format!("CI=true {tool} prune --prod")),
                run: format!("{tool} run"),
            };
        }
        if self.tree.is_file("yarn.lock") {
            let is_modern = self.tree.is_file(".yarnrc.yml");
            let has_own = self
                .tree
                .list(".yarn/releases")
                .iter()
                .any(|n| n.ends_with(".cjs"));
            let tool = match is_modern && !has_own && name == "yarn" && is_word(version) {
                true => format!("npx --yes -p @yarnpkg/cli-dist@{version} yarn"),
                false => "yarn".to_owned(),
            };
            let only = match (is_modern, with_development) {
                (true, _) => "--immutable",
                (false, true) => "--frozen-lockfile --production=false",
                (false, false) => "--frozen-lockfile --production",
            };
            return Manager {
                files: vec!["yarn.lock", ".yarnrc", ".yarnrc.yml", ".npmrc"],
                install: format!("{tool} install {only}"),
                prune: (!is_modern).then(|| {
                    format!("{tool} install --frozen-lockfile --production --ignore-scripts")
                }),
                run: format!("{tool} run"),
            };
        }
        let locks = ["package-lock.json", "npm-shrinkwrap.json"];
        let is_locked = locks.iter().any(|lock| self.tree.is_file(lock));
        let verb = if is_locked { "ci" } else { "install" };
        let only = if with_development {
            "--include=dev"
        } else {
            "--omit=dev"
        };
        Manager {
            files: vec!["package-lock.json", "npm-shrinkwrap.json", ".npmrc"],
            install: format!("npm {verb} {only} --no-audit"),
            prune: Some("npm prune --omit=dev --no-audit".to_owned()),
            run: "npm run".to_owned(),
        }
    }

    /// The files that installing needs, or the source, if more than the usual may take part.
    fn needs(&self, package: &Package, manager: &Manager) -> Needs {
        let runs_scripts = INSTALL_SCRIPTS
            .iter()
            .any(|name| package.script(name).is_some());
        let is_workspace = package.0.get("workspaces").is_some()
            || self.tree.is_file("pnpm-workspace.yaml")
            || self.tree.is_file("lerna.json");
        let patches = !self.tree.list("patches").is_empty() || !self.tree.list(".yarn").is_empty();
        let generates = package.has("@prisma/client") || self.tree.is_file("prisma/schema.prisma");
        if runs_scripts || is_workspace || patches || generates || package.has_local() {
            return Needs::Source;
        }
        let mut files = vec!["package.json".to_owned()];
        files.extend(tree::present(self.tree, &manager.files));
        Needs::Files(files)
    }

    /// Whether it is built to files, and where those are.
    fn site(&self, package: &Package) -> Option<(&'static str, String)> {
        package.script("build")?;
        if self.exports_next(package) {
            return Some(("Next.js, exported", "out".to_owned()));
        }
        let start = package.script("start").unwrap_or_default();
        let is_development = DEVELOPMENT
            .iter()
            .any(|beginning| start.starts_with(beginning));
        if !start.is_empty() && !is_development {
            return None;
        }
        if SERVERS.iter().any(|server| package.has(server)) {
            return None;
        }
        if package.has("@angular/core") && self.tree.is_file("angular.json") {
            let name = package.text("name").unwrap_or_default();
            return Some(("Angular", self.angular_output(name)));
        }
        let made = SITES.iter().find(|(make, _)| package.has(make))?;
        Some((made.0, made.1.to_owned()))
    }

    fn exports_next(&self, package: &Package) -> bool {
        let configs = ["next.config.js", "next.config.mjs", "next.config.ts"];
        let is_export = |text: String| {
            let text = text.replace([' ', '"'], "").replace('\'', "");
            text.contains("output:export")
        };
        package.has("next")
            && configs
                .iter()
                .filter_map(|path| self.tree.read(path))
                .any(is_export)
    }

    /// Angular's application builder adds `browser`; the shell finds out.
    fn angular_output(&self, name: &str) -> String {
        let text = self.tree.read("angular.json").unwrap_or_default();
        let config: Value = serde_json::from_str(&text).unwrap_or_default();
        let projects = config.get("projects").and_then(Value::as_object);
        let project = projects.and_then(|projects| projects.iter().next());
        let path = project.and_then(|(_, project)| {
            project
                .pointer("/architect/build/options/outputPath")?
                .as_str()
        });
        let project_name = project.map_or(name, |(name, _)| name);
        path.map_or_else(|| format!("dist/{project_name}"), str::to_owned)
    }

    fn serve_site(
        &self,
        make: &str,
        dir: String,
        detection: &mut Detection,
    ) -> Result<(), PlanError> {
        detection.what = format!("a site made with {make} (package.json)");
        let fallback = if dir == "out" { "" } else { " /index.html" };
        let dir = shell::quote(&dir);
        if make == "Angular" {
            let browser = format!(
                "if [ -d {dir}/browser ]; then mv {dir} {dir}.all && mv {dir}.all/browser {dir}; fi"
            );
            detection.build.push(browser);
        }
        let site = self.runtimes.select("static")?;
        if self.selected.is_image() || site.is_image() {
            // There may be no nginx, but there is npm.
            detection
                .setup
                .push("npm install --global serve@14".to_owned());
            let single = if fallback.is_empty() { "" } else { "--single " };
            detection.start = Some(format!("serve {single}--listen tcp://0.0.0.0:$PORT {dir}"));
            return Ok(());
        }
        if let crate::plan::Base::Packages { packages } = site.base(&[]) {
            detection.packages.extend(packages);
        }
        detection.setup.extend(site.runtime.setup.iter().cloned());
        detection.start = Some(format!("serve-static {dir}{fallback}"));
        Ok(())
    }

    fn start_node(&self, package: &Package, manager: &Manager) -> (Option<String>, String) {
        let what = match SERVERS.iter().rev().find(|server| package.has(server)) {
            Some(&"next") => "Next.js",
            Some(&"nuxt") => "Nuxt",
            Some(&"@nestjs/core") => "NestJS",
            _ => "Node.js",
        };
        let start = package.script("start").map(|script| {
            let alone =
                package.script("prestart").is_none() && package.script("poststart").is_none();
            // Without npm in between: it would hold memory and pass signals on, at best.
            match alone && script.starts_with("node ") && shell::is_words(script) {
                true => script.to_owned(),
                false => format!("{} start", manager.run),
            }
        });
        let production = package
            .script("start:prod")
            .map(|_| format!("{} start:prod", manager.run));
        let start = match what {
            "NestJS" => production.or(start),
            _ => start,
        };
        let by_framework = || match what {
            "Next.js" => Some("npx next start -H 0.0.0.0 -p $PORT".to_owned()),
            "Nuxt" => Some("node .output/server/index.mjs".to_owned()),
            _ if package.has("@sveltejs/adapter-node") => Some("node build".to_owned()),
            _ if package.has("@astrojs/node") => Some("node dist/server/entry.mjs".to_owned()),
            _ => None,
        };
        let builds = package.script("build").is_some();
        let main = package
            .text("main")
            .filter(|main| builds || self.tree.is_file(main));
        let program = || {
            let program = PROGRAMS.into_iter().find(|path| self.tree.is_file(path));
            main.or(program)
                .map(|program| format!("node {}", shell::quote(program)))
        };
        (
            start.or_else(by_framework).or_else(program),
            what.to_owned(),
        )
    }

    fn note_engine(&self, package: &Package, detection: &mut Detection) {
        let Some(range) = package.engine() else {
            return;
        };
        let selected = self.selected;
        if !allows(range, &selected.version) {
            detection.notes.push(Note::new(format!(
                "package.json asks for Node.js {range}, and this is {} of {}: the build may fail; name \
                 an `image` in a runtime file (docs/runtimes.md) or use a Dockerfile",
                selected.version, selected.origin
            )));
        }
    }
}

/// What `package.json` of a tree says of the version of Node.js, if it excludes this one.
pub(crate) fn engine_excluding(tree: &dyn tree::Tree, version: &Version) -> Option<String> {
    let value = serde_json::from_str(&tree.read("package.json")?).ok()?;
    let package = Package(value);
    let range = package.engine()?;
    (!allows(range, version)).then(|| range.to_owned())
}

impl Package {
    fn text(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)?
            .as_str()
            .filter(|text| !text.trim().is_empty())
    }

    fn script(&self, name: &str) -> Option<&str> {
        self.0
            .get("scripts")?
            .get(name)?
            .as_str()
            .map(str::trim)
            .filter(|s| !s.is_empty())
    }

    fn engine(&self) -> Option<&str> {
        self.0.get("engines")?.get("node")?.as_str()
    }

    fn dependencies(&self) -> impl Iterator<Item = (&String, &Value)> {
        let kinds = ["dependencies", "devDependencies", "optionalDependencies"];
        let maps = kinds
            .into_iter()
            .filter_map(|kind| self.0.get(kind)?.as_object());
        maps.flatten()
    }

    fn has(&self, name: &str) -> bool {
        self.dependencies().any(|(other, _)| other == name)
    }

    /// Whether one of its dependencies is in the source.
    fn has_local(&self) -> bool {
        let beginnings = [
            "file:",
            "link:",
            "portal:",
            "workspace:",
            "patch:",
            ".",
            "/",
        ];
        self.dependencies()
            .filter_map(|(_, at)| at.as_str())
            .any(|at| beginnings.iter().any(|beginning| at.starts_with(beginning)))
    }
}

/// Whether a range of npm allows some release of a major version. Ranges that are not understood do.
fn allows(range: &str, version: &Version) -> bool {
    range.split("||").any(|alternative| {
        let text = alternative.replace(">= ", ">=").replace("<= ", "<=");
        let text = text.replace("> ", ">").replace("< ", "<");
        if text.contains(" - ") {
            return true;
        }
        text.split_whitespace().all(|comparator| {
            let Some(bound) = Version::at_start_of(comparator.trim_start_matches('<')) else {
                return true;
            };
            let is_exact_major = comparator.trim_start_matches("<") == bound.major().to_string()
                || comparator.ends_with(".0.0")
                || comparator.ends_with(".0");
            if comparator.starts_with(">=") {
                bound.major() <= version.major()
            } else if comparator.starts_with('>') {
                bound.major() < version.major()
                    || bound.major() == version.major() && !is_exact_major
            } else if comparator.starts_with("<=") {
                version.major() <= bound.major()
            } else if comparator.starts_with('<') {
                version.major() < bound.major()
                    || version.major() == bound.major() && !is_exact_major
            } else {
                bound.major() == version.major()
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_npm_are_compared_by_major_version() {
        let version: Version = "18".parse().unwrap();
        for range in [
            ">=16",
            "18",
            "18.x",
            "^18.17.0",
            "~18.1",
            ">=14 <19",
            ">= 16.0.0",
            "*",
            "16 || 18",
            "<=18",
            "lts/*",
            ">17",
            "14 - 20",
            "<18.20",
        ] {
            assert!(allows(range, &version), "{range}");
        }
        for range in [
            ">=20",
            "20.x",
            "^22",
            "<18",
            "16 || 20",
            ">=14 <18",
            ">= 20.0.0",
            "<18.0.0",
        ] {
            assert!(!allows(range, &version), "{range}");
        }
    }
}
