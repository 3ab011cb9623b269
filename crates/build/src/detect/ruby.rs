//! Ruby: Rails, Rack and plain programs, with Bundler.
//!
//! Gems go where Debian's own gems are, so that Bundler sees those as well: a `Gemfile` of nothing but
//! Debian's gems needs no network.

use super::{Detection, Look, Needs};
use crate::{plan::Note, planner::PlanError, tree};

/// Programs that are started without a `config.ru`.
const PROGRAMS: [&str; 5] = ["app.rb", "server.rb", "main.rb", "web.rb", "application.rb"];

/// Of a `Gemfile` that needs more than itself.
const LOCAL_SOURCES: [&str; 4] = ["path:", "path =>", "gemspec", "eval_gemfile"];

/// Gems that run JavaScript.
const NEED_JAVASCRIPT: [&str; 4] = ["execjs", "uglifier", "terser", "coffee-rails"];

impl Look<'_> {
    pub(super) fn ruby(&self) -> Result<Detection, PlanError> {
        let gemfile = self.tree.read("Gemfile").unwrap_or_default();
        let lock = self.tree.read("Gemfile.lock");
        let gems = Gems {
            lock: lock.as_deref().unwrap_or_default(),
            gemfile: &gemfile,
        };
        let is_local = LOCAL_SOURCES.iter().any(|mark| gemfile.contains(mark));
        let files = ["Gemfile", "Gemfile.lock", ".ruby-version", ".tool-versions"];
        let needs = match is_local {
            true => Needs::Source,
            false => Needs::Files(tree::present(self.tree, &files)),
        };
        let mut detection = Detection {
            install: Some((needs, vec!["bundle install --jobs 4 --retry 3".to_owned()])),
            ..Detection::default()
        };
        let both = [
            ("BUNDLE_WITHOUT", "development:test"),
            ("BUNDLE_PATH__SYSTEM", "true"),
        ];
        for (name, value) in both {
            detection
                .build_env
                .insert(name.to_owned(), value.to_owned());
            detection.run_env.insert(name.to_owned(), value.to_owned());
        }
        if lock.is_some() {
            detection
                .build_env
                .insert("BUNDLE_FROZEN".to_owned(), "true".to_owned());
        } else {
            let note = "there is no Gemfile.lock: every build takes the newest gems; commit one";
            detection.notes.push(Note::new(note));
        }
        self.note_ruby(&gemfile, &mut detection);
        if NEED_JAVASCRIPT.iter().any(|gem| gems.has(gem)) {
            detection.packages.push("nodejs".to_owned());
        }
        self.start_ruby(&gems, &mut detection)?;
        Ok(detection)
    }

    fn start_ruby(&self, gems: &Gems<'_>, detection: &mut Detection) -> Result<(), PlanError> {
        let program = PROGRAMS.iter().find(|name| self.tree.is_file(name));
        let set =
            |env: &mut std::collections::BTreeMap<String, String>, name: &str, value: &str| {
                env.insert(name.to_owned(), value.to_owned());
            };
        set(&mut detection.run_env, "RACK_ENV", "production");
        if self.tree.is_file("config/application.rb") && gems.has("rails") {
            detection.what = "Rails (Gemfile, config/application.rb)".to_owned();
            set(&mut detection.run_env, "RAILS_ENV", "production");
            set(&mut detection.run_env, "RAILS_LOG_TO_STDOUT", "1");
            set(&mut detection.run_env, "RAILS_SERVE_STATIC_FILES", "1");
            set(&mut detection.build_env, "RAILS_ENV", "production");
            self.add_assets(detection)?;
            if ["sprockets-rails", "propshaft", "sprockets"]
                .iter()
                .any(|gem| gems.has(gem))
            {
                let precompile = "SECRET_KEY_BASE=only-for-the-build SECRET_KEY_BASE_DUMMY=1 \
                                  bundle exec rails assets:precompile";
                detection.build.push(precompile.to_owned());
            }
            detection.start = Some("bundle exec rails server -b 0.0.0.0 -p $PORT".to_owned());
            let note = "Rails needs `SECRET_KEY_BASE` or `RAILS_MASTER_KEY`; give it as a secret";
            detection.notes.push(Note::new(note));
        } else if self.tree.is_file("config.ru") {
            detection.what = "Ruby (Gemfile, config.ru)".to_owned();
            detection.start = Some(
                match gems.has("puma") {
                    true => "bundle exec puma -b tcp://0.0.0.0:$PORT",
                    false => "bundle exec rackup --host 0.0.0.0 -p $PORT",
                }
                .to_owned(),
            );
        } else if let Some(program) = program {
            detection.what = format!("Ruby (Gemfile, {program})");
            let options = match gems.has("sinatra") {
                true => " -o 0.0.0.0 -p $PORT",
                false => "",
            };
            set(&mut detection.run_env, "APP_ENV", "production");
            detection.start = Some(format!("bundle exec ruby {program}{options}"));
        } else {
            detection.what = "Ruby (Gemfile)".to_owned();
            detection.start_unknown = format!(
                "there is no config/application.rb of Rails, no config.ru and none of {}",
                PROGRAMS.join(", ")
            );
        }
        Ok(())
    }

    /// Bundler refuses another version than the `Gemfile` says.
    fn note_ruby(&self, gemfile: &str, detection: &mut Detection) {
        let line = gemfile
            .lines()
            .find_map(|line| line.trim().strip_prefix("ruby "));
        let version = line.map(|rest| rest.trim_start_matches(['(', ' ', '"', '\'']));
        let version = version.and_then(crate::version::Version::at_start_of);
        let selected = self.selected;
        let Some(version) = version.filter(|version| !version.agrees_with(&selected.version))
        else {
            return;
        };
        detection.notes.push(Note::new(format!(
            "Gemfile asks for Ruby {version}, and this is {} of {}: Bundler may refuse; change it, name \
             an `image` in a runtime file (docs/runtimes.md) or use a Dockerfile",
            selected.version, selected.origin
        )));
    }
}

struct Gems<'a> {
    lock: &'a str,
    gemfile: &'a str,
}

impl Gems<'_> {
    /// Whether a gem is wanted, by name.
    fn has(&self, gem: &str) -> bool {
        let in_lock = |line: &str| line.split([' ', '!', '(']).find(|w| !w.is_empty()) == Some(gem);
        let in_gemfile = |line: &str| {
            let rest = line.trim_start().strip_prefix("gem ");
            let name = rest.and_then(|rest| rest.trim_start().split(['"', '\'']).nth(1));
            name == Some(gem)
        };
        self.lock.lines().any(in_lock) || self.gemfile.lines().any(in_gemfile)
    }
}
