//! Constraints on inputs, and how their violations read.
//!
//! The service model gives members a required mark, lengths, patterns, ranges and enumerations. App
//! Runner checks them all and reports them together, in words that people search for and tools
//! match (specification, section 2.5):
//!
//! ```text
//! 2 validation errors detected: Value '0 GB' at 'instanceConfiguration.memory' failed to satisfy
//! constraint: Member must satisfy regular expression pattern: ...; Value '0 vCPU' at ...
//! ```
//!
//! Members are reported in the model's order; one member's pattern before its lengths. The value of
//! a sensitive member is left out (`Value at 'x' failed ...`), as AWS does. A long value is cut and
//! so is a long list of violations, but their number is always the true one.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::OnceLock,
};

use regex::Regex;

use crate::{blob::Blob, error::ApiError};

/// Characters of a value that a violation repeats; the rest is `...`.
const VALUE_CHARS_SHOWN_MAX: usize = 256;

/// Violations that are spelt out; more are only counted.
const VIOLATIONS_SHOWN_MAX: usize = 32;

/// An input whose members have constraints.
pub trait Validate {
    /// Adds to `violations` what is wrong with the members.
    fn validate(&self, violations: &mut Violations);
}

/// The error by which a service reports violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// `InvalidRequestException`: App Runner.
    InvalidRequest,
    /// `ValidationException`: most others.
    Validation,
    /// `InvalidParameterException`: ECR.
    InvalidParameter,
}

/// Checks an input.
///
/// # Errors
/// `InvalidRequestException` or `ValidationException` that names every violated constraint.
pub fn check<T: Validate>(input: &T, reported: Reported) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    input.validate(&mut violations);
    match violations.count {
        0 => Ok(()),
        _ => Err(match reported {
            Reported::InvalidRequest => ApiError::invalid_request(violations.to_string()),
            Reported::Validation => ApiError::validation(violations.to_string()),
            Reported::InvalidParameter => ApiError::invalid_parameter(violations.to_string()),
        }),
    }
}

/// What is wrong with an input, and where in it the check is.
#[derive(Debug, Default)]
pub struct Violations {
    path: Vec<String>,
    /// Whether what is looked at changes something that is there: then nothing is required.
    partial: bool,
    count: usize,
    shown: Vec<String>,
}

/// The constraints on a text.
#[derive(Debug)]
pub(crate) struct Texts {
    /// Characters.
    pub(crate) min: Option<usize>,
    /// Characters.
    pub(crate) max: Option<usize>,
    pub(crate) pattern: Option<Pattern>,
    /// The whole enumeration; empty when it is none.
    pub(crate) values: &'static [&'static str],
    pub(crate) sensitive: bool,
}

/// The constraints on a number.
#[derive(Debug)]
pub(crate) struct Integers {
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
}

/// The constraints on bytes.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) min: Option<usize>,
    pub(crate) max: Option<usize>,
}

/// The constraints on how many elements a list has.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) min: Option<usize>,
    pub(crate) max: Option<usize>,
}

/// A pattern that a whole text must match.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As the model has it, for messages.
    verbatim: &'static str,
    /// What a text must not start with: a look-ahead, which the regex crate does not have.
    refused_prefix: Option<&'static str>,
    /// The rest of the pattern, for the regex crate.
    expression: &'static str,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    pub(crate) const fn new(
        verbatim: &'static str,
        refused_prefix: Option<&'static str>,
        expression: &'static str,
    ) -> Self {
        Self {
            verbatim,
            refused_prefix,
            expression,
            compiled: OnceLock::new(),
        }
    }

    fn matches(&self, text: &str) -> bool {
        let refused = self
            .refused_prefix
            .is_some_and(|prefix| text.starts_with(prefix));
        !refused && self.compiled().is_match(text)
    }

    fn compiled(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            Regex::new(&format!(r"\A(?:{})\z", self.expression))
                .expect("generated with the crate, and compiled by a test")
        })
    }
}

impl Texts {
    /// Compiles its pattern, or panics: for the tests of generated shapes.
    #[cfg(test)]
    pub(crate) fn compile(&self) {
        if let Some(pattern) = &self.pattern {
            pattern.compiled();
        }
    }

    /// The tails of the constraints that `text` violates.
    fn violated(&self, text: &str) -> Vec<String> {
        let length = text.chars().count();
        let mut tails = Vec::new();
        if let Some(pattern) = self
            .pattern
            .as_ref()
            .filter(|pattern| !pattern.matches(text))
        {
            tails.push(pattern_tail(pattern));
        }
        if let Some(max) = self.max.filter(|&max| length > max) {
            tails.push(max_length_tail(max));
        }
        if let Some(min) = self.min.filter(|&min| length < min) {
            tails.push(min_length_tail(min));
        }
        if !self.values.is_empty() && !self.values.contains(&text) {
            tails.push(values_tail(self.values));
        }
        tails
    }

    /// The tails of all constraints, as a violation by an element lists them.
    fn tails(&self) -> String {
        let mut tails = Vec::new();
        tails.extend(self.max.map(max_length_tail));
        tails.extend(self.min.map(min_length_tail));
        tails.extend(self.pattern.as_ref().map(pattern_tail));
        if !self.values.is_empty() {
            tails.push(values_tail(self.values));
        }
        tails.join(", ")
    }
}

impl Violations {
    pub(crate) fn required(&mut self, member: &str, present: bool) {
        if !present && !self.partial {
            self.add(member, "Value null", "Member must not be null");
        }
    }

    pub(crate) fn text(&mut self, member: &str, value: Option<&str>, texts: &Texts) {
        let Some(value) = value else { return };
        for tail in texts.violated(value) {
            self.add(member, &subject(texts.sensitive, value), &tail);
        }
    }

    pub(crate) fn integer(
        &mut self,
        member: &str,
        value: Option<impl Into<i64>>,
        integers: &Integers,
    ) {
        let Some(value) = value.map(Into::into) else {
            return;
        };
        let subject = format!("Value '{value}'");
        if let Some(max) = integers.max.filter(|&max| value > max) {
            self.add(
                member,
                &subject,
                &format!("Member must have value less than or equal to {max}"),
            );
        }
        if let Some(min) = integers.min.filter(|&min| value < min) {
            let tail = format!("Member must have value greater than or equal to {min}");
            self.add(member, &subject, &tail);
        }
    }

    /// Bytes are never shown: what is bytes is a secret as a rule.
    pub(crate) fn blob(&mut self, member: &str, value: Option<&Blob>, blobs: &Blobs) {
        let Some(value) = value else { return };
        self.length(member, value.0.len(), blobs.min, blobs.max);
    }

    /// How many elements a list has; what they are is checked apart.
    pub(crate) fn list<T>(&mut self, member: &str, values: Option<&[T]>, lists: &Lists) {
        let Some(values) = values else { return };
        self.length(member, values.len(), lists.min, lists.max);
    }

    fn length(&mut self, member: &str, length: usize, min: Option<usize>, max: Option<usize>) {
        if let Some(max) = max.filter(|&max| length > max) {
            self.add(member, "Value", &max_length_tail(max));
        }
        if let Some(min) = min.filter(|&min| length < min) {
            self.add(member, "Value", &min_length_tail(min));
        }
    }

    pub(crate) fn structure<T: Validate>(&mut self, member: &str, value: Option<&T>) {
        let Some(value) = value else { return };
        self.path.push(member.to_owned());
        value.validate(self);
        self.path.pop();
    }

    /// A structure that changes another: what is not given stays, so that nothing in it is required.
    pub(crate) fn partial<T: Validate>(&mut self, member: &str, value: Option<&T>) {
        let outer = std::mem::replace(&mut self.partial, true);
        self.structure(member, value);
        self.partial = outer;
    }

    /// A list of structures: the path of an element is `tags.1.member`, counted from 1.
    pub(crate) fn structures<T: Validate>(&mut self, member: &str, values: Option<&[T]>) {
        for (index, value) in values.unwrap_or_default().iter().enumerate() {
            self.path.push(format!("{member}.{}.member", index + 1));
            value.validate(self);
            self.path.pop();
        }
    }

    /// A list of texts: one violation for the list, whichever its elements are wrong.
    pub(crate) fn texts(&mut self, member: &str, values: Option<&[String]>, texts: &Texts) {
        let values = values.unwrap_or_default();
        if values.iter().any(|value| !texts.violated(value).is_empty()) {
            let subject = subject(texts.sensitive, &format!("[{}]", values.join(", ")));
            let tail = format!("Member must satisfy constraint: [{}]", texts.tails());
            self.add(member, &subject, &tail);
        }
    }

    /// A map of texts: at most one violation for its keys and one for its values.
    pub(crate) fn text_map(
        &mut self,
        member: &str,
        map: Option<&BTreeMap<String, String>>,
        keys: &Texts,
        values: &Texts,
    ) {
        let Some(map) = map else { return };
        let entries: Vec<String> = map
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let entries = format!("{{{}}}", entries.join(", "));
        let subject = subject(keys.sensitive || values.sensitive, &entries);
        if map.keys().any(|key| !keys.violated(key).is_empty()) {
            let tail = format!("Map keys must satisfy constraint: [{}]", keys.tails());
            self.add(member, &subject, &tail);
        }
        if map.values().any(|value| !values.violated(value).is_empty()) {
            let tail = format!("Map value must satisfy constraint: [{}]", values.tails());
            self.add(member, &subject, &tail);
        }
    }

    fn add(&mut self, member: &str, subject: &str, tail: &str) {
        self.count += 1;
        if self.shown.len() == VIOLATIONS_SHOWN_MAX {
            return;
        }
        let mut at = self.path.join(".");
        if !at.is_empty() {
            at.push('.');
        }
        self.shown.push(format!(
            "{subject} at '{at}{member}' failed to satisfy constraint: {tail}"
        ));
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = if self.count == 1 { "error" } else { "errors" };
        write!(
            f,
            "{} validation {errors} detected: {}",
            self.count,
            self.shown.join("; ")
        )?;
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

fn subject(sensitive: bool, value: &str) -> String {
    if sensitive {
        return "Value".to_owned();
    }
    let mut shown: String = value.chars().take(VALUE_CHARS_SHOWN_MAX).collect();
    if shown.len() < value.len() {
        shown.push_str("...");
    }
    format!("Value '{shown}'")
}

fn pattern_tail(pattern: &Pattern) -> String {
    format!(
        "Member must satisfy regular expression pattern: {}",
        pattern.verbatim
    )
}

fn max_length_tail(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn min_length_tail(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn values_tail(values: &[&str]) -> String {
    let mut tail = "Member must satisfy enum value set: [".to_owned();
    // Writing to a string cannot fail.
    let _ = write!(tail, "{}]", values.join(", "));
    tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apprunner::shapes::{
        AssociateCustomDomainRequest, CreateAutoScalingConfigurationRequest, CreateServiceRequest,
        ImageConfiguration, ImageRepository, InstanceConfiguration, ListServicesRequest,
        SourceConfiguration, Tag, TagResourceRequest, UntagResourceRequest, UpdateServiceRequest,
    };

    const ARN: &str =
        "arn:aws:apprunner:us-east-1:123456789012:service/web-app/8fe1e10304f84fd2b0df550fe98a71fa";

    fn check<T: Validate>(input: &T) -> Result<(), ApiError> {
        super::check(input, Reported::InvalidRequest)
    }

    #[track_caller]
    fn refused<T: Validate>(input: &T, want: &str) {
        let refusal = check(input).unwrap_err();
        assert_eq!(refusal.message(), want);
        assert_eq!(refusal.code(), "InvalidRequestException");
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn an_update_need_not_repeat_what_stays_and_what_it_gives_is_checked() {
        let source = |image| {
            Some(SourceConfiguration {
                image_repository: Some(image),
                ..SourceConfiguration::default()
            })
        };
        let update = |image| UpdateServiceRequest {
            service_arn: text(ARN),
            source_configuration: source(image),
            ..UpdateServiceRequest::default()
        };
        check(&update(ImageRepository::default())).unwrap();
        refused(
            &update(ImageRepository {
                image_repository_type: text("GCR"),
                ..ImageRepository::default()
            }),
            "1 validation error detected: Value 'GCR' at \
             'sourceConfiguration.imageRepository.imageRepositoryType' failed to satisfy \
             constraint: Member must satisfy enum value set: [ECR, ECR_PUBLIC]",
        );
        let create = CreateServiceRequest {
            service_name: text("web1"),
            source_configuration: source(ImageRepository::default()),
            ..CreateServiceRequest::default()
        };
        let refusal = check(&create).unwrap_err();
        assert!(
            refusal.message().starts_with("2 validation errors"),
            "{refusal:?}"
        );
    }

    #[test]
    fn an_empty_auto_scaling_arn_is_left_to_the_operation() {
        let update = |arn: &str| UpdateServiceRequest {
            service_arn: text(ARN),
            auto_scaling_configuration_arn: text(arn),
            ..UpdateServiceRequest::default()
        };
        check(&update("")).unwrap();
        assert!(check(&update("x")).is_err());
    }

    fn instance(cpu: &str, memory: &str) -> UpdateServiceRequest {
        UpdateServiceRequest {
            service_arn: text(ARN),
            instance_configuration: Some(InstanceConfiguration {
                cpu: text(cpu),
                memory: text(memory),
                instance_role_arn: None,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn violations_are_collected_in_the_published_form() {
        refused(
            &CreateAutoScalingConfigurationRequest {
                auto_scaling_configuration_name: Some("a".repeat(33)),
                ..Default::default()
            },
            "2 validation errors detected: Value 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' at \
             'autoScalingConfigurationName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: [A-Za-z0-9][A-Za-z0-9\\-_]{3,31}; Value \
             'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' at 'autoScalingConfigurationName' failed to \
             satisfy constraint: Member must have length less than or equal to 32",
        );
        refused(
            &ListServicesRequest {
                max_results: Some(21),
                next_token: None,
            },
            "1 validation error detected: Value '21' at 'maxResults' failed to satisfy constraint: \
             Member must have value less than or equal to 20",
        );
    }

    #[test]
    fn a_service_may_report_violations_by_another_name() {
        let input = ListServicesRequest {
            max_results: Some(21),
            next_token: None,
        };
        let refusal = super::check(&input, Reported::Validation).unwrap_err();
        assert_eq!(refusal.code(), "ValidationException");
        assert_eq!(refusal.message(), check(&input).unwrap_err().message());
    }

    #[test]
    fn nested_and_missing_members_have_a_path() {
        let input = CreateServiceRequest {
            service_name: text("web-app"),
            source_configuration: Some(SourceConfiguration {
                image_repository: Some(ImageRepository {
                    image_repository_type: text("DOCKER"),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            tags: Some(vec![
                Tag::default(),
                Tag {
                    key: text("aws:x"),
                    value: None,
                },
            ]),
            ..Default::default()
        };
        refused(
            &input,
            "3 validation errors detected: Value null at \
             'sourceConfiguration.imageRepository.imageIdentifier' failed to satisfy constraint: \
             Member must not be null; Value 'DOCKER' at \
             'sourceConfiguration.imageRepository.imageRepositoryType' failed to satisfy \
             constraint: Member must satisfy enum value set: [ECR, ECR_PUBLIC]; Value 'aws:x' at \
             'tags.2.member.key' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: ^(?!aws:).+",
        );
    }

    #[test]
    fn list_of_texts_is_one_violation() {
        refused(
            &UntagResourceRequest {
                resource_arn: text(ARN),
                tag_keys: Some(vec!["ok".to_owned(), "aws:a".to_owned(), String::new()]),
            },
            "1 validation error detected: Value '[ok, aws:a, ]' at 'tagKeys' failed to satisfy \
             constraint: Member must satisfy constraint: [Member must have length less than or \
             equal to 128, Member must have length greater than or equal to 1, Member must satisfy \
             regular expression pattern: ^(?!aws:).+]",
        );
    }

    #[test]
    fn sensitive_values_are_in_no_message_and_no_debug() {
        let configuration = ImageConfiguration {
            runtime_environment_variables: Some(BTreeMap::from([(
                "HUSH".to_owned(),
                "hush\0".to_owned(),
            )])),
            start_command: text("hush\nhush"),
            ..Default::default()
        };
        assert!(!format!("{configuration:?}").to_lowercase().contains("hush"));
        let refusal = check(&configuration).unwrap_err();
        assert!(!refusal.message().to_lowercase().contains("hush"));
        assert!(refusal.message().starts_with(
            "2 validation errors detected: Value at 'runtimeEnvironmentVariables' failed to \
             satisfy constraint: Map value must satisfy constraint: [Member must have length less \
             than or equal to 51200"
        ));
    }

    #[test]
    fn cpu_and_memory_have_aws_forms_and_any_other_amount() {
        for (cpu, memory) in [
            ("1024", "2048"),
            ("0.25 vCPU", "0.5 GB"),
            ("100", "64"),
            ("3 vCPU", "1.75 GB"),
            ("0.05 vCPU", "0.125 GB"),
        ] {
            check(&instance(cpu, memory)).unwrap();
        }
        for (cpu, memory) in [
            ("0 vCPU", "0 GB"),
            ("0", "000"),
            ("0.0 vCPU", "0.00 GB"),
            ("1vCPU", "1GB"),
            ("-1", "1 MB"),
            ("1. vCPU", ".5 GB"),
            ("", "1\n"),
            ("٣ vCPU", "٣"),
        ] {
            let message = check(&instance(cpu, memory))
                .unwrap_err()
                .message()
                .to_owned();
            assert!(message.contains("'instanceConfiguration.cpu'"), "{message}");
            assert!(
                message.contains("'instanceConfiguration.memory'"),
                "{message}"
            );
        }
    }

    #[test]
    fn patterns_match_the_whole_text_as_java_would() {
        let domain = |name: &str| AssociateCustomDomainRequest {
            service_arn: text(ARN),
            domain_name: text(name),
            enable_www_subdomain: None,
        };
        check(&domain("*.example.com")).unwrap();
        for name in ["example.com\n", "exam ple.com", "exämple.com", ""] {
            assert!(check(&domain(name)).is_err(), "{name:?}");
        }
        let tag = |value: &str| TagResourceRequest {
            resource_arn: text(ARN),
            tags: Some(vec![Tag {
                key: text("k"),
                value: text(value),
            }]),
        };
        check(&tag("ünï")).unwrap();
        for value in ["a\nb", "a\rb", "a\u{85}b", "a\u{2028}b"] {
            assert!(check(&tag(value)).is_err(), "{value:?}");
        }
    }

    #[test]
    fn message_is_bounded_and_the_count_is_true() {
        let tag = Tag {
            key: text("k"),
            value: Some("v".repeat(100_000)),
        };
        let input = TagResourceRequest {
            resource_arn: text(ARN),
            tags: Some(vec![tag; VIOLATIONS_SHOWN_MAX + 8]),
        };
        let message = check(&input).unwrap_err().message().to_owned();
        assert!(message.starts_with("40 validation errors detected: "));
        assert!(message.ends_with("; and 8 more"));
        assert!(message.len() < VIOLATIONS_SHOWN_MAX * (VALUE_CHARS_SHOWN_MAX + 256));
    }
}
