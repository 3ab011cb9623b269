//! What a service's configuration says of secrets, checked for form when it is accepted; whether
//! there are such secrets shows when it is deployed.

use std::collections::BTreeMap;

use ekiden_aws::error::ApiError;
use ekiden_model::secret_reference::SecretReference;

use super::configuration::{Configuration, check_env};

impl Configuration {
    /// The references that it was given, of an image or of code.
    ///
    /// # Errors
    /// `InvalidRequestException` that names the variable; never with what it was given, which may be
    /// a secret that was put where a reference belongs.
    pub(super) fn secret_references(&self) -> Result<BTreeMap<String, SecretReference>, ApiError> {
        let application = self.application();
        let (Some(secrets), variables) = (application.secrets, application.env) else {
            return Ok(BTreeMap::new());
        };
        check_env(secrets)?;
        secrets
            .iter()
            .map(|(name, reference)| {
                if variables.is_some_and(|variables| variables.contains_key(name)) {
                    return Err(ApiError::invalid_request(format!(
                        "Environment variable {name} is in both RuntimeEnvironmentVariables and \
                         RuntimeEnvironmentSecrets; give it in one of them."
                    )));
                }
                let reference = reference.parse().map_err(|error| {
                    ApiError::invalid_request(format!(
                        "RuntimeEnvironmentSecrets: the value of {name} is {error}."
                    ))
                })?;
                Ok((name.clone(), reference))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::apprunner::shapes::{
        CodeConfiguration, CodeConfigurationValues, CodeRepository, ImageConfiguration,
        ImageRepository, SourceConfiguration,
    };

    use super::*;

    /// A variable's name, and what is said of it.
    type Names = BTreeMap<String, String>;

    fn names(pairs: &[(&str, &str)]) -> Option<Names> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Some(pairs.iter().map(pair).collect())
    }

    fn of_image(variables: &[(&str, &str)], secrets: &[(&str, &str)]) -> Configuration {
        let image_configuration = ImageConfiguration {
            runtime_environment_variables: names(variables),
            runtime_environment_secrets: names(secrets),
            ..ImageConfiguration::default()
        };
        Configuration {
            source_configuration: SourceConfiguration {
                image_repository: Some(ImageRepository {
                    image_configuration: Some(image_configuration),
                    ..ImageRepository::default()
                }),
                ..SourceConfiguration::default()
            },
            ..Configuration::default()
        }
    }

    #[test]
    fn references_of_images_and_of_code_are_found() {
        let references = of_image(&[("A", "1")], &[("B", "/web/b")]).secret_references();
        assert_eq!(references.unwrap()["B"].to_string(), "/web/b");
        let values = CodeConfigurationValues {
            runtime_environment_secrets: names(&[("C", "c")]),
            ..CodeConfigurationValues::default()
        };
        let code = Configuration {
            source_configuration: SourceConfiguration {
                code_repository: Some(CodeRepository {
                    code_configuration: Some(CodeConfiguration {
                        configuration_source: Some("API".to_owned()),
                        code_configuration_values: Some(values),
                    }),
                    ..CodeRepository::default()
                }),
                ..SourceConfiguration::default()
            },
            ..Configuration::default()
        };
        assert_eq!(code.secret_references().unwrap()["C"].to_string(), "c");
        assert!(
            Configuration::default()
                .secret_references()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_variable_and_without_the_value() {
        for (variables, secrets, want) in [
            (
                &[("A", "1")][..],
                &[("A", "/a")][..],
                "Environment variable A is in both RuntimeEnvironmentVariables and \
                 RuntimeEnvironmentSecrets; give it in one of them.",
            ),
            (
                &[],
                &[("PORT", "/a")],
                "Environment variable PORT is reserved; choose another name.",
            ),
            (
                &[],
                &[("AWSAPPRUNNER_X", "/a")],
                "Environment variable AWSAPPRUNNER_X is reserved; choose another name.",
            ),
            (
                &[],
                &[("A", "my secret!")],
                "RuntimeEnvironmentSecrets: the value of A is not a reference to a secret: a \
                 parameter's name must be 1 to 2048 letters, digits and `_.-/`.",
            ),
        ] {
            let refused = of_image(variables, secrets)
                .secret_references()
                .unwrap_err();
            assert_eq!(refused.message(), want);
            assert_eq!(refused.code(), "InvalidRequestException");
        }
    }
}
