//! `Procfile`: one process to a line, `name: command`.

/// The file's name.
pub const FILE_NAME: &str = "Procfile";

/// Processes of an application, in the file's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Procfile {
    processes: Vec<(String, String)>,
}

/// A line that names no process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Procfile, line {line}: {problem}; write `name: command`, such as `web: node server.js`")]
pub struct InvalidProcfile {
    line: usize,
    problem: String,
}

impl Procfile {
    /// Reads one. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line without a name, without a command, or with a name that was there before.
    pub fn parse(text: &str) -> Result<Self, InvalidProcfile> {
        let mut processes: Vec<(String, String)> = Vec::new();
        let text = text.trim_start_matches('\u{feff}');
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = |problem: String| InvalidProcfile {
                line: index + 1,
                problem,
            };
            let Some((name, command)) = line.split_once(':') else {
                return Err(invalid("there is no `:`".to_owned()));
            };
            let (name, command) = (name.trim(), command.trim());
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                let problem = "the name must be of letters, digits, `-` and `_`";
                return Err(invalid(problem.to_owned()));
            }
            if command.is_empty() {
                return Err(invalid(format!("`{name}` has no command")));
            }
            if processes.iter().any(|(other, _)| other == name) {
                return Err(invalid(format!("`{name}` is there twice")));
            }
            processes.push((name.to_owned(), command.to_owned()));
        }
        Ok(Self { processes })
    }

    /// The command of a process.
    pub fn command(&self, name: &str) -> Option<&str> {
        let found = self.processes.iter().find(|(other, _)| other == name);
        found.map(|(_, command)| command.as_str())
    }

    /// The command that serves requests.
    pub fn web(&self) -> Option<&str> {
        self.command("web")
    }

    /// Names of all processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_names_and_commands() {
        let text = "\u{feff}# what runs\n\nweb: gunicorn -b :$PORT app:app\r\nworker:python w.py\n";
        let procfile = Procfile::parse(text).unwrap();
        assert_eq!(procfile.web(), Some("gunicorn -b :$PORT app:app"));
        assert_eq!(procfile.command("worker"), Some("python w.py"));
        assert_eq!(procfile.command("release"), None);
        assert_eq!(procfile.names().collect::<Vec<_>>(), ["web", "worker"]);
        assert_eq!(Procfile::parse("").unwrap(), Procfile::default());
    }

    #[test]
    fn other_lines_are_refused_in_words() {
        for (text, want) in [
            (
                "web: a\nnode server.js",
                "Procfile, line 2: there is no `:`",
            ),
            ("web:\n", "line 1: `web` has no command"),
            ("my web: a", "line 1: the name must be"),
            ("web: a\nweb: b", "line 2: `web` is there twice"),
        ] {
            let why = Procfile::parse(text).unwrap_err().to_string();
            assert!(why.contains(want), "{why}");
        }
    }
}
