//! A folder that is deployed, and its `ekiden.yaml`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ekiden_build::{
    ekiden_yaml::{self, EkidenYaml, FILE_BYTES_MAX, FILE_NAME},
    planner::Method,
};
use ekiden_model::name::ServiceName;

use super::{BuildWith, Deploy, Origin};
use crate::{failure::Failure, progress::Progress};

/// The longest answer to a question, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024;

/// A folder that is deployed.
pub(super) struct SourceFolder {
    path: PathBuf,
    /// Its `ekiden.yaml`, if it has one, as it is.
    text: Option<String>,
    /// What that says.
    file: EkidenYaml,
    /// The time of its newest file when it was uploaded, in seconds since the Unix epoch.
    pub(super) newest: Option<u64>,
}

/// What an uploaded `ekiden.yaml` is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileToUpload {
    /// All of it.
    pub(super) text: String,
    /// Whether it is the folder's own.
    pub(super) own: bool,
}

impl SourceFolder {
    /// Reads the folder's `ekiden.yaml`, and says on standard error what it says in vain.
    ///
    /// # Errors
    /// There is no such folder, or its file is not valid.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let metadata = fs::metadata(path);
        match metadata {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(format!("`{shown}` is not a folder"))
                    .hint("an image is deployed with `--image REF`"));
            }
            Err(error) => {
                return Err(
                    Failure::new(format!("cannot read the folder `{shown}`: {error}"))
                        .hint("an image is deployed with `--image REF`"),
                );
            }
        }
        let text = read_text(&path.join(FILE_NAME))?;
        let file = match &text {
            Some(text) => ekiden_yaml::parse(text)?,
            None => EkidenYaml::default(),
        };
        for warning in &file.build.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            file,
            newest: None,
        })
    }

    /// What its file says.
    pub(super) fn file(&self) -> &EkidenYaml {
        &self.file
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// `None` when there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file,
    };
    let mut text = String::new();
    // One byte more, so that a file that is too long is refused rather than cut.
    let read = file.and_then(|file| {
        file.take(FILE_BYTES_MAX as u64 + 1)
            .read_to_string(&mut text)
    });
    match read {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(Failure::new(format!(
            "cannot read `{}`: {error}",
            path.display()
        ))),
    }
}

impl Deploy {
    /// On a terminal, before a folder has a file, asks what nobody has said.
    pub(super) fn ask(&mut self, folder: &SourceFolder) -> Result<(), Failure> {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        if !terminal || folder.text.is_some() || self.name.is_some() {
            return Ok(());
        }
        let default = Origin::Folder(folder.path.clone()).service_name();
        self.name = Some(ask(
            &format!("name of the service [{default}]"),
            |answer| match answer {
                "" => Ok(default.clone()),
                name => match name.parse::<ServiceName>() {
                    Ok(name) => Ok(name.to_string()),
                    Err(error) => Err(error.to_string()),
                },
            },
        )?);
        if self.port.is_none() {
            let question = "port it listens on [as its source says, else 8080]";
            self.port = ask(question, |answer| match answer {
                "" => Ok(None),
                port => match port.parse::<u16>() {
                    Ok(1..) => Ok(port.parse().ok()),
                    _ => Err("a port is a number from 1 to 65535".to_owned()),
                },
            })?;
        }
        Ok(())
    }

    /// The folder's file with what the flags say over it.
    ///
    /// # Errors
    /// Flags, or flags and file, do not go together.
    pub(super) fn file_to_upload(
        &self,
        folder: &SourceFolder,
        name: &str,
    ) -> Result<FileToUpload, Failure> {
        let mut file = folder.file.clone();
        if folder.text.is_none() {
            // As it is kept afterwards, so that the same is uploaded the next time.
            file.service.name = Some(name.to_owned());
        }
        if let Some(port) = self.port {
            file.service.port = Some(port);
            file.build.port = Some(port);
        }
        put_variables(&mut file.service.env, &self.environment, &self.secrets);
        put_variables(&mut file.service.secrets, &self.secrets, &self.environment);
        let command = |given: &Option<String>, file: &mut Option<String>| {
            if given.is_some() {
                file.clone_from(given);
            }
        };
        command(&self.build_command, &mut file.build.build_command);
        command(&self.start_command, &mut file.build.start_command);
        if let Some(method) = self.method(&file.build.method)? {
            file.build.method = method;
        }
        match &folder.text {
            Some(text) if file == folder.file => Ok(FileToUpload {
                text: text.clone(),
                own: true,
            }),
            _ => {
                let text = ekiden_yaml::write(&file);
                // What the flags say must be as good as what a file says.
                ekiden_yaml::parse(&text)?;
                Ok(FileToUpload { text, own: false })
            }
        }
    }

    /// How the flags want it built, if they say so.
    fn method(&self, file: &Method) -> Result<Option<Method>, Failure> {
        let args: BTreeMap<_, _> = self.build_args.iter().cloned().collect();
        let of_dockerfile = self.dockerfile.is_some() || self.target.is_some() || !args.is_empty();
        let chosen = match self.build_with {
            None if !of_dockerfile => return Ok(None),
            Some(BuildWith::AppRunnerYaml | BuildWith::Detect) if of_dockerfile => {
                return Err(Failure::new(
                    "`--dockerfile`, `--target` and `--build-arg` are for a Dockerfile, and \
                     `--build-with` says otherwise",
                )
                .hint("give `--build-with dockerfile`, or leave it out"));
            }
            Some(BuildWith::Auto) if !of_dockerfile => Method::Auto,
            Some(BuildWith::AppRunnerYaml) => Method::AppRunnerYaml,
            Some(BuildWith::Detect) => Method::Detect,
            // Whoever says how to use a Dockerfile wants one.
            None | Some(BuildWith::Auto | BuildWith::Dockerfile) => {
                let (path, target, mut all) = match file.clone() {
                    Method::Dockerfile { path, target, args } => (path, target, args),
                    _ => ("Dockerfile".to_owned(), None, BTreeMap::new()),
                };
                all.extend(args);
                Method::Dockerfile {
                    path: self.dockerfile.clone().unwrap_or(path),
                    target: self.target.clone().or(target),
                    args: all,
                }
            }
        };
        Ok(Some(chosen))
    }

    /// After a success: writes what the folder is deployed as into it, if it has no file; and says
    /// what flags were of this deployment only. Deployed is deployed: what fails here is only said.
    pub(super) fn keep(&self, folder: &SourceFolder, name: &str, progress: &mut Progress) {
        let mut kept = EkidenYaml::default();
        kept.service.name = Some(name.to_owned());
        kept.service.port = self.port;
        let path = folder.path.join(FILE_NAME);
        if folder.text.is_none() {
            match write_new(&path, &ekiden_yaml::write(&kept), folder.newest) {
                Ok(()) => progress.done(&format!(
                    "wrote {}: `ekiden deploy` knows the service from now on",
                    path.display()
                )),
                Err(error) => progress.done(&format!(
                    "warning: cannot write `{}`: {error}; the next time give `--name {name}`",
                    path.display()
                )),
            }
        }
        let flags = self.flags_of_this_deployment(folder.text.is_some());
        if !flags.is_empty() {
            progress.done(&format!(
                "{} of this deployment only; what is to stay belongs into {}",
                match flags.as_slice() {
                    [flag] => format!("{flag} is"),
                    _ => format!("{} are", flags.join(", ")),
                },
                path.display()
            ));
        }
    }

    /// Flags that only the uploaded copy of the file has.
    fn flags_of_this_deployment(&self, has_file: bool) -> Vec<&'static str> {
        let given = [
            (self.build_with.is_some(), "`--build-with`"),
            (self.dockerfile.is_some(), "`--dockerfile`"),
            (self.target.is_some(), "`--target`"),
            (!self.build_args.is_empty(), "`--build-arg`"),
            (self.build_command.is_some(), "`--build-command`"),
            (self.start_command.is_some(), "`--start-command`"),
            (self.port.is_some() && has_file, "`--port`"),
            (!self.environment.is_empty(), "`--env`"),
            (!self.secrets.is_empty(), "`--secret`"),
        ];
        let given = given.into_iter().filter(|(given, _)| *given);
        given.map(|(_, flag)| flag).collect()
    }
}

/// A variable is one or the other: what is given takes the place of what there was.
fn put_variables(
    variables: &mut BTreeMap<String, String>,
    given: &[(String, String)],
    others: &[(String, String)],
) {
    variables.retain(|name, _| !others.iter().any(|(other, _)| other == name));
    variables.extend(given.iter().cloned());
}

/// Asks on standard error until the answer makes sense. The end of standard input is an empty answer.
fn ask<T>(question: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    loop {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question}: ")?;
        stderr.flush()?;
        let mut answer = String::new();
        let length = io::stdin()
            .lock()
            .take(ANSWER_BYTES_MAX)
            .read_line(&mut answer)?;
        match read(answer.trim()) {
            Ok(answer) => return Ok(answer),
            Err(problem) if length > 0 => writeln!(stderr, "{problem}")?,
            Err(problem) => return Err(Failure::new(problem)),
        }
    }
}

/// A new file, as old as the tree was: so the tree is the same that was deployed.
fn write_new(path: &Path, text: &str, newest: Option<u64>) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    match newest {
        Some(newest) => file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(newest)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::deploy, *};

    fn folder(text: Option<&str>) -> (tempfile::TempDir, SourceFolder) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            fs::write(dir.path().join(FILE_NAME), text).unwrap();
        }
        let read = SourceFolder::read(dir.path()).unwrap();
        (dir, read)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_file_is_uploaded_as_it_is_unless_flags_say_more() {
        let text = "# mine\nservice: {name: shop, env: {A: 1, B: 2}}\n";
        let (_dir, folder) = folder(Some(text));
        let mut deploy = deploy();
        deploy.cpu = Some("2 vCPU".into());
        let file = deploy.file_to_upload(&folder, "shop").unwrap();
        assert_eq!((file.text.as_str(), file.own), (text, true));
        deploy.environment = vec![pair("A", "3")];
        deploy.secrets = vec![pair("B", "/b")];
        deploy.target = Some("web".into());
        deploy.start_command = Some("./web".into());
        deploy.port = Some(80);
        let file = deploy.file_to_upload(&folder, "shop").unwrap();
        assert_eq!(
            file.text,
            "service:\n  name: shop\n  port: 80\n  env:\n    A: 3\n  secrets:\n    B: /b\nbuild:\n  \
             with: dockerfile\n  dockerfile: Dockerfile\n  target: web\nrun:\n  command: \"./web\"\n"
        );
        assert_eq!(
            deploy.flags_of_this_deployment(true),
            [
                "`--target`",
                "`--start-command`",
                "`--port`",
                "`--env`",
                "`--secret`"
            ]
        );
    }

    #[test]
    fn what_is_kept_is_what_was_uploaded() {
        let (dir, mut folder) = folder(None);
        folder.newest = Some(1_700_000_000);
        let mut deploy = deploy();
        deploy.port = Some(9000);
        let file = deploy.file_to_upload(&folder, "shop").unwrap();
        deploy.keep(&folder, "shop", &mut Progress::new());
        let kept = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(kept, file.text);
        let modified = fs::metadata(dir.path().join(FILE_NAME)).unwrap().modified();
        let since = modified.unwrap().duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since.unwrap().as_secs(), 1_700_000_000);
        // Nobody's file is written over.
        let error = write_new(&dir.path().join(FILE_NAME), "", None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        let (_dir, folder) = folder(None);
        let mut wrong = deploy();
        wrong.build_with = Some(BuildWith::Detect);
        wrong.dockerfile = Some("Dockerfile".into());
        assert!(wrong.file_to_upload(&folder, "shop").is_err());
        let mut wrong = deploy();
        wrong.environment = vec![pair("PORT", "1")];
        let failure = wrong.file_to_upload(&folder, "shop").unwrap_err();
        assert!(failure.sentence().contains("`PORT` is set by Ekiden"));
        let failure = SourceFolder::read(Path::new("/nowhere")).err().unwrap();
        assert!(failure.hint.unwrap().contains("--image"));
    }
}
