//! Where what is deployed comes from, as flags and as the API say it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use ekiden_aws::apprunner::shapes::{
    CodeConfiguration, CodeRepository, ImageConfiguration, ImageRepository, SourceCodeVersion,
    SourceConfiguration,
};
use ekiden_model::source::UPLOAD_SCHEME;

use super::Deploy;
use crate::failure::Failure;

/// Characters of a service's name.
const NAME_MAX: usize = 40;
const NAME_MIN: usize = 4;

/// Where what is deployed comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// An image.
    Image(String),
    /// A git remote.
    Git {
        /// Where it is.
        url: String,
        /// A branch, a tag or a commit.
        branch: String,
    },
    /// A folder of this machine.
    Folder(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(reference) => f.write_str(reference),
            Self::Git { url, branch } => write!(f, "{url}, {branch}"),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Origin {
    /// What a service is called that nobody has named. An image's name is taken as it is: whoever gave
    /// it meant it.
    pub(super) fn service_name(&self) -> String {
        match self {
            Self::Image(reference) => last_part(reference).to_owned(),
            Self::Git { url, .. } => {
                let url = url.trim_end_matches('/').trim_end_matches(".git");
                made_valid(url.rsplit(['/', ':']).next().unwrap_or(url))
            }
            Self::Folder(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                let name = path.file_name().unwrap_or_default();
                made_valid(&name.to_string_lossy())
            }
        }
    }
}

impl Deploy {
    /// What the flags mean.
    ///
    /// # Errors
    /// They do not go together.
    pub(super) fn origin(&self) -> Result<Origin, Failure> {
        match (&self.image, &self.git, &self.branch) {
            (Some(image), ..) => Ok(Origin::Image(image.clone())),
            (None, Some(url), Some(branch)) => {
                self.check_flags_of_git()?;
                let (url, branch) = (url.clone(), branch.clone());
                Ok(Origin::Git { url, branch })
            }
            (None, ..) if self.auto_deploy == Some(true) => Err(Failure::new(
                "`--auto-deploy` is for images and git remotes: a folder is deployed by `ekiden deploy` only",
            )),
            (None, ..) => {
                let folder = self.folder.clone();
                Ok(Origin::Folder(folder.unwrap_or_else(|| PathBuf::from("."))))
            }
        }
    }

    /// How a remote is built is said by files in it: the API has no place for it.
    fn check_flags_of_git(&self) -> Result<(), Failure> {
        let given = [
            (self.build_with.is_some(), "--build-with", "build.with"),
            (
                self.dockerfile.is_some(),
                "--dockerfile",
                "build.dockerfile",
            ),
            (self.target.is_some(), "--target", "build.target"),
            (!self.build_args.is_empty(), "--build-arg", "build.args"),
            (
                self.build_command.is_some(),
                "--build-command",
                "build.command",
            ),
            (
                self.start_command.is_some(),
                "--start-command",
                "run.command",
            ),
            (self.port.is_some(), "--port", "service.port"),
            (!self.environment.is_empty(), "--env", "service.env"),
            (!self.secrets.is_empty(), "--secret", "service.secrets"),
        ];
        match given.iter().find(|(given, ..)| *given) {
            None => Ok(()),
            Some((_, flag, key)) => Err(Failure::new(format!(
                "`{flag}` is not for a git remote: its own files say so"
            ))
            .hint(format!(
                "put `{key}` into its ekiden.yaml and push that (docs/ekiden-yaml.md)"
            ))),
        }
    }

    pub(super) fn source_of_git(
        &self,
        url: &str,
        branch: &str,
        connection: Option<String>,
        now: Option<&SourceConfiguration>,
    ) -> SourceConfiguration {
        let mut source = now.cloned().unwrap_or_default();
        let code = source.code_repository.get_or_insert_default();
        let before = code.source_directory.take();
        let uploaded = is_upload(code);
        code.repository_url = Some(url.to_owned());
        code.source_code_version = Some(version(branch));
        let directory = self.source_directory.clone().or(before);
        code.source_directory = directory.or_else(|| Some("/".to_owned()));
        // What was configured for a remote by others stays.
        if uploaded || code.code_configuration.is_none() {
            code.code_configuration = Some(by_repository());
        }
        let before = source.auto_deployments_enabled;
        source.auto_deployments_enabled = Some(self.auto_deploy.or(before).unwrap_or(false));
        if let Some(arn) = connection {
            let authentication = source.authentication_configuration.get_or_insert_default();
            authentication.connection_arn = Some(arn);
        }
        source
    }

    pub(super) fn source_of_image(
        &self,
        reference: &str,
        now: Option<&SourceConfiguration>,
    ) -> SourceConfiguration {
        let mut source = now.cloned().unwrap_or_default();
        let image = source
            .image_repository
            .get_or_insert_with(ImageRepository::default);
        image.image_identifier = Some(reference.to_owned());
        image
            .image_repository_type
            .get_or_insert_with(|| "ECR".to_owned());
        let how = image
            .image_configuration
            .get_or_insert_with(ImageConfiguration::default);
        if let Some(port) = self.port {
            how.port = Some(port.to_string());
        }
        if let Some(command) = &self.start_command {
            how.start_command = Some(command.clone());
        }
        if !self.environment.is_empty() {
            let variables = how
                .runtime_environment_variables
                .get_or_insert_with(BTreeMap::new);
            variables.extend(self.environment.iter().cloned());
        }
        if !self.secrets.is_empty() {
            let secrets = how
                .runtime_environment_secrets
                .get_or_insert_with(BTreeMap::new);
            secrets.extend(self.secrets.iter().cloned());
        }
        // A variable is one or the other: what is given now takes the place of what there was.
        forget(&mut how.runtime_environment_variables, &self.secrets);
        forget(&mut how.runtime_environment_secrets, &self.environment);
        let before = source.auto_deployments_enabled;
        source.auto_deployments_enabled = Some(self.auto_deploy.or(before).unwrap_or(false));
        if let Some(role) = &self.access_role {
            let authentication = source.authentication_configuration.get_or_insert_default();
            authentication.access_role_arn = Some(role.clone());
        }
        source
    }
}

/// What was uploaded; everything about it is in its own files.
pub(super) fn of_upload(
    name: &str,
    uploaded: &str,
    now: Option<&SourceConfiguration>,
) -> SourceConfiguration {
    SourceConfiguration {
        code_repository: Some(CodeRepository {
            repository_url: Some(format!("{UPLOAD_SCHEME}{name}")),
            source_code_version: Some(version(uploaded)),
            code_configuration: Some(by_repository()),
            source_directory: Some("/".to_owned()),
        }),
        auto_deployments_enabled: Some(false),
        ..now.cloned().unwrap_or_default()
    }
}

/// App Runner refuses to make one kind of the other, without saying what to do.
///
/// # Errors
/// The service runs the other kind.
pub(super) fn check_kind(
    name: &str,
    origin: &Origin,
    now: Option<&SourceConfiguration>,
) -> Result<(), Failure> {
    let has_image = now.is_some_and(|now| now.image_repository.is_some());
    let has_code = now.is_some_and(|now| now.code_repository.is_some());
    let (runs, cannot) = match origin {
        Origin::Image(_) if has_code => ("source code", "an image"),
        Origin::Folder(_) | Origin::Git { .. } if has_image => ("an image", "source code"),
        Origin::Image(_) | Origin::Folder(_) | Origin::Git { .. } => return Ok(()),
    };
    Err(Failure::new(format!(
        "service \"{name}\" runs {runs}, and cannot be changed to run {cannot}"
    ))
    .hint(format!(
        "give another name with `--name`, or delete it first with `ekiden delete {name} --wait`"
    )))
}

fn by_repository() -> CodeConfiguration {
    CodeConfiguration {
        configuration_source: Some("REPOSITORY".to_owned()),
        code_configuration_values: None,
    }
}

/// `BRANCH` is the only type that App Runner has, whatever it is really.
fn version(value: &str) -> SourceCodeVersion {
    SourceCodeVersion {
        r#type: Some("BRANCH".to_owned()),
        value: Some(value.to_owned()),
    }
}

fn is_upload(code: &CodeRepository) -> bool {
    let url = code.repository_url.as_deref().unwrap_or_default();
    url.starts_with(UPLOAD_SCHEME)
}

pub(super) fn forget(names: &mut Option<BTreeMap<String, String>>, given: &[(String, String)]) {
    if let Some(names) = names {
        names.retain(|name, _| !given.iter().any(|(other, _)| other == name));
    }
}

/// `web` of `registry.example:5000/team/web:1@sha256:…`.
fn last_part(image: &str) -> &str {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(':').next().unwrap_or(last)
}

/// A name as a service can have it, as much like this one as possible.
fn made_valid(name: &str) -> String {
    let valid = |c: char| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '_' => c,
        _ => '-',
    };
    let name: String = name.chars().map(valid).collect();
    let name = name.trim_matches(['-', '_']);
    let name: String = name.chars().take(NAME_MAX).collect();
    match name.len() {
        0 => "service".to_owned(),
        1..NAME_MIN => format!("{name}-service"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_called_like_its_origin() {
        let git = |url: &str| Origin::Git {
            url: url.to_owned(),
            branch: "main".to_owned(),
        };
        for (origin, want) in [
            (Origin::Image("hello".into()), "hello"),
            (Origin::Image("localhost/hello:2".into()), "hello"),
            (
                Origin::Image("r.example:5000/a/hello@sha256:00".into()),
                "hello",
            ),
            (Origin::Image("r:1/hello:2@sha256:0".into()), "hello"),
            (git("https://git.example/team/shop.git"), "shop"),
            (git("git@git.example:shop.git"), "shop"),
            (Origin::Folder("/nowhere/my shop".into()), "my-shop"),
            (Origin::Folder("/nowhere/web".into()), "web-service"),
            (Origin::Folder("/nowhere/.é".into()), "service"),
        ] {
            assert_eq!(origin.service_name(), want, "{origin}");
        }
        let long = Origin::Folder(format!("/nowhere/{}", "a".repeat(60)).into());
        assert_eq!(long.service_name().len(), NAME_MAX);
    }

    #[test]
    fn a_service_stays_of_its_kind() {
        let folder = Origin::Folder(".".into());
        let image = Origin::Image("i".into());
        let code = of_upload("shop", "v1", None);
        let of_image = SourceConfiguration {
            image_repository: Some(ImageRepository::default()),
            ..SourceConfiguration::default()
        };
        for origin in [&folder, &image] {
            assert!(check_kind("shop", origin, None).is_ok());
        }
        assert!(check_kind("shop", &folder, Some(&code)).is_ok());
        assert!(check_kind("shop", &image, Some(&of_image)).is_ok());
        let failure = check_kind("shop", &image, Some(&code)).unwrap_err();
        assert_eq!(
            failure.sentence(),
            "service \"shop\" runs source code, and cannot be changed to run an image"
        );
        assert!(check_kind("shop", &folder, Some(&of_image)).is_err());
    }

    #[test]
    fn the_same_upload_again_is_the_same_source() {
        let first = of_upload("shop", "v1", None);
        assert_eq!(of_upload("shop", "v1", Some(&first)), first);
        assert_ne!(of_upload("shop", "v2", Some(&first)), first);
        let code = first.code_repository.unwrap();
        assert_eq!(code.repository_url.as_deref(), Some("upload://shop"));
    }
}
