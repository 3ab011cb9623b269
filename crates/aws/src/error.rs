//! The errors a client can be given.
//!
//! The five that App Runner's model names, and the ones every AWS front end has in common, with the
//! status each goes out with (specification, section 2.4). An error is an answer to a client: its
//! message is public, and holds no secret.

use http::StatusCode;

/// An error for a client: a code it can act on and a message that a person can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.code())]
pub struct ApiError {
    kind: Kind,
    message: String,
}

macro_rules! errors {
    (
        $(
            $(#[$doc:meta])*
            $constructor:ident, $variant:ident, $code:literal $(/ $query:literal)?, $status:ident;
        )*
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Kind {
            $($variant,)*
        }

        impl Kind {
            const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            const fn query_code(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => errors!(@query $($query)?),)*
                }
            }

            const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)*
                }
            }
        }

        impl ApiError {
            $(
                $(#[$doc])*
                pub fn $constructor(message: impl Into<String>) -> Self {
                    Self { kind: Kind::$variant, message: message.into() }
                }
            )*

            #[cfg(test)]
            fn every() -> Vec<Self> {
                vec![$(Self::$constructor("why"),)*]
            }
        }
    };
    (@query) => { None };
    (@query $query:literal) => { Some($query) };
}

errors! {
    /// A parameter is bad, alone or with others.
    invalid_request, InvalidRequest, "InvalidRequestException" / "ValidationError", BAD_REQUEST;
    /// An ARN names nothing in this account and region. Not 404: App Runner answers 400.
    resource_not_found, ResourceNotFound, "ResourceNotFoundException", BAD_REQUEST;
    /// A parameter is bad, said by a service whose model has this name for it.
    validation, Validation, "ValidationException" / "ValidationError", BAD_REQUEST;
    /// The resource exists, and its state forbids the action.
    invalid_state, InvalidState, "InvalidStateException", BAD_REQUEST;
    /// As many as there may be exist already.
    service_quota_exceeded, ServiceQuotaExceeded, "ServiceQuotaExceededException", BAD_REQUEST;
    /// We failed. The message says nothing of how; the log does.
    internal_service_error, InternalServiceError, "InternalServiceErrorException" / "InternalFailure", INTERNAL_SERVER_ERROR;

    /// Secrets Manager: a parameter is bad.
    invalid_parameter, InvalidParameter, "InvalidParameterException", BAD_REQUEST;
    /// Secrets Manager: there is one already.
    resource_exists, ResourceExists, "ResourceExistsException", BAD_REQUEST;
    /// Secrets Manager: as many as there may be exist already.
    limit_exceeded, LimitExceeded, "LimitExceededException", BAD_REQUEST;
    /// Secrets Manager: a value does not open with the installation's key.
    decryption_failure, DecryptionFailure, "DecryptionFailure", BAD_REQUEST;
    /// Secrets Manager: a page token is not one of ours.
    invalid_next_token_exception, InvalidNextTokenException, "InvalidNextTokenException", BAD_REQUEST;
    /// Secrets Manager: we failed.
    internal_service, InternalService, "InternalServiceError", INTERNAL_SERVER_ERROR;

    /// Systems Manager: we failed.
    internal_server, InternalServer, "InternalServerError", INTERNAL_SERVER_ERROR;
    /// Systems Manager: a parameter's pattern cannot be used.
    invalid_allowed_pattern, InvalidAllowedPattern, "InvalidAllowedPatternException", BAD_REQUEST;
    /// Systems Manager: nothing can be filtered by that.
    invalid_filter_key, InvalidFilterKey, "InvalidFilterKey", BAD_REQUEST;
    /// Systems Manager: a filter does not compare so.
    invalid_filter_option, InvalidFilterOption, "InvalidFilterOption", BAD_REQUEST;
    /// Systems Manager: a filter's value is none.
    invalid_filter_value, InvalidFilterValue, "InvalidFilterValue", BAD_REQUEST;
    /// Systems Manager: a page token is not one of ours.
    invalid_next_token, InvalidNextToken, "InvalidNextToken", BAD_REQUEST;
    /// Systems Manager: no such resource to tag.
    invalid_resource_id, InvalidResourceId, "InvalidResourceId", BAD_REQUEST;
    /// Systems Manager: nothing of that type can be tagged here.
    invalid_resource_type, InvalidResourceType, "InvalidResourceType", BAD_REQUEST;
    /// Systems Manager: too many levels in a name.
    hierarchy_level_limit_exceeded, HierarchyLevelLimitExceeded, "HierarchyLevelLimitExceededException", BAD_REQUEST;
    /// Systems Manager: the type of a parameter does not change.
    hierarchy_type_mismatch, HierarchyTypeMismatch, "HierarchyTypeMismatchException", BAD_REQUEST;
    /// Systems Manager: there is one already.
    parameter_already_exists, ParameterAlreadyExists, "ParameterAlreadyExists", BAD_REQUEST;
    /// Systems Manager: as many as there may be exist already.
    parameter_limit_exceeded, ParameterLimitExceeded, "ParameterLimitExceeded", BAD_REQUEST;
    /// Systems Manager: the oldest version cannot make room, for it has a label.
    parameter_max_version_limit_exceeded, ParameterMaxVersionLimitExceeded, "ParameterMaxVersionLimitExceeded", BAD_REQUEST;
    /// Systems Manager: no such parameter.
    parameter_not_found, ParameterNotFound, "ParameterNotFound", BAD_REQUEST;
    /// Systems Manager: a value is not of the pattern.
    parameter_pattern_mismatch, ParameterPatternMismatch, "ParameterPatternMismatchException", BAD_REQUEST;
    /// Systems Manager: more labels than a version may have.
    parameter_version_label_limit_exceeded, ParameterVersionLabelLimitExceeded, "ParameterVersionLabelLimitExceeded", BAD_REQUEST;
    /// Systems Manager: the parameter has no such version.
    parameter_version_not_found, ParameterVersionNotFound, "ParameterVersionNotFound", BAD_REQUEST;
    /// Systems Manager: more tags than a resource may have.
    too_many_tags, TooManyTags, "TooManyTagsError", BAD_REQUEST;
    /// Systems Manager: a parameter has no such type.
    unsupported_parameter_type, UnsupportedParameterType, "UnsupportedParameterType", BAD_REQUEST;

    /// ECR: the tag is of that image already.
    image_already_exists, ImageAlreadyExists, "ImageAlreadyExistsException", BAD_REQUEST;
    /// ECR: an image is not of the digest that was said.
    image_digest_does_not_match, ImageDigestDoesNotMatch, "ImageDigestDoesNotMatchException", BAD_REQUEST;
    /// ECR: no such image.
    image_not_found, ImageNotFound, "ImageNotFoundException", BAD_REQUEST;
    /// ECR: the tag stays with the image that has it.
    image_tag_already_exists, ImageTagAlreadyExists, "ImageTagAlreadyExistsException", BAD_REQUEST;
    /// ECR: nothing came of a layer.
    empty_upload, EmptyUpload, "EmptyUploadException", BAD_REQUEST;
    /// ECR: a layer is not of the digest that was said.
    invalid_layer, InvalidLayer, "InvalidLayerException", BAD_REQUEST;
    /// ECR: a part does not begin where the one before ended.
    invalid_layer_part, InvalidLayerPart, "InvalidLayerPartException", BAD_REQUEST;
    /// ECR: a label cannot be.
    invalid_tag_parameter, InvalidTagParameter, "InvalidTagParameterException", BAD_REQUEST;
    /// ECR: the repository has the layer already.
    layer_already_exists, LayerAlreadyExists, "LayerAlreadyExistsException", BAD_REQUEST;
    /// ECR: the repository does not have the layer.
    layer_inaccessible, LayerInaccessible, "LayerInaccessibleException", BAD_REQUEST;
    /// ECR: a manifest names a layer that was not pushed.
    layers_not_found, LayersNotFound, "LayersNotFoundException", BAD_REQUEST;
    /// ECR: the repository has no lifecycle policy.
    lifecycle_policy_not_found, LifecyclePolicyNotFound, "LifecyclePolicyNotFoundException", BAD_REQUEST;
    /// ECR: an index names an image that was not pushed.
    referenced_images_not_found, ReferencedImagesNotFound, "ReferencedImagesNotFoundException", BAD_REQUEST;
    /// ECR: there is one already.
    repository_already_exists, RepositoryAlreadyExists, "RepositoryAlreadyExistsException", BAD_REQUEST;
    /// ECR: it has images.
    repository_not_empty, RepositoryNotEmpty, "RepositoryNotEmptyException", BAD_REQUEST;
    /// ECR: no such repository.
    repository_not_found, RepositoryNotFound, "RepositoryNotFoundException", BAD_REQUEST;
    /// ECR: the repository has no policy.
    repository_policy_not_found, RepositoryPolicyNotFound, "RepositoryPolicyNotFoundException", BAD_REQUEST;
    /// ECR: more labels than there may be.
    too_many_labels, TooManyLabels, "TooManyTagsException", BAD_REQUEST;
    /// ECR: no such upload.
    upload_not_found, UploadNotFound, "UploadNotFoundException", BAD_REQUEST;
    /// ECR: we failed.
    server, Server, "ServerException", INTERNAL_SERVER_ERROR;

    /// CloudWatch Logs: events of that batch were taken already.
    data_already_accepted, DataAlreadyAccepted, "DataAlreadyAcceptedException", BAD_REQUEST;
    /// CloudWatch Logs: what is asked for cannot be done to that.
    invalid_operation, InvalidOperation, "InvalidOperationException", BAD_REQUEST;
    /// CloudWatch Logs: a query cannot be understood.
    malformed_query, MalformedQuery, "MalformedQueryException", BAD_REQUEST;
    /// CloudWatch Logs: another request changes the same thing.
    operation_aborted, OperationAborted, "OperationAbortedException", BAD_REQUEST;
    /// CloudWatch Logs, EventBridge: there is one already.
    resource_already_exists, ResourceAlreadyExists, "ResourceAlreadyExistsException", BAD_REQUEST;
    /// CloudWatch Logs: we failed. Clients try again.
    logs_unavailable, LogsUnavailable, "ServiceUnavailableException", INTERNAL_SERVER_ERROR;

    /// CloudWatch: a text, such as a dashboard or a page token, is not of its form.
    invalid_format, InvalidFormat, "InvalidFormatFault" / "InvalidFormat", BAD_REQUEST;
    /// CloudWatch: parameters that do not go together.
    invalid_parameter_combination, InvalidParameterCombination, "InvalidParameterCombinationException" / "InvalidParameterCombination", BAD_REQUEST;
    /// CloudWatch: a parameter's value is bad.
    invalid_parameter_value, InvalidParameterValue, "InvalidParameterValueException" / "InvalidParameterValue", BAD_REQUEST;
    /// CloudWatch: a parameter is missing.
    missing_parameter, MissingParameter, "MissingRequiredParameterException" / "MissingParameter", BAD_REQUEST;
    /// CloudWatch: as many as there may be exist already.
    limit_exceeded_fault, LimitExceededFault, "LimitExceededFault" / "LimitExceeded", BAD_REQUEST;
    /// CloudWatch: no such alarm.
    alarm_not_found, AlarmNotFound, "ResourceNotFound", NOT_FOUND;
    /// CloudWatch: nothing with such an ARN has tags.
    tagged_not_found, TaggedNotFound, "ResourceNotFoundException", NOT_FOUND;
    /// CloudWatch: we failed.
    internal_service_fault, InternalServiceFault, "InternalServiceFault" / "InternalServiceError", INTERNAL_SERVER_ERROR;

    /// EventBridge: another request changes the same thing.
    concurrent_modification, ConcurrentModification, "ConcurrentModificationException", BAD_REQUEST;
    /// EventBridge: a pattern cannot be understood.
    invalid_event_pattern, InvalidEventPattern, "InvalidEventPatternException", BAD_REQUEST;
    /// EventBridge: the rule is not the caller's to change.
    managed_rule, ManagedRule, "ManagedRuleException", BAD_REQUEST;
    /// EventBridge: we failed.
    internal, Internal, "InternalException", INTERNAL_SERVER_ERROR;

    /// Whoever asks is known and may not.
    access_denied, AccessDenied, "AccessDeniedException" / "AccessDenied", FORBIDDEN;
    /// A session token is over.
    expired_token, ExpiredToken, "ExpiredTokenException" / "ExpiredToken", FORBIDDEN;
    /// A signature lacks a part, or has one that cannot be read.
    incomplete_signature, IncompleteSignature, "IncompleteSignature", FORBIDDEN;
    /// A signature is not the one the key makes, or not of this time, region or service.
    invalid_signature, InvalidSignature, "InvalidSignatureException" / "SignatureDoesNotMatch", FORBIDDEN;
    /// There is no signature.
    missing_authentication_token, MissingAuthenticationToken, "MissingAuthenticationTokenException" / "MissingAuthenticationToken", FORBIDDEN;
    /// Nobody has this access key.
    unrecognized_client, UnrecognizedClient, "UnrecognizedClientException" / "InvalidClientTokenId", FORBIDDEN;
    /// The request is not one of the protocol.
    malformed_http_request, MalformedHttpRequest, "MalformedHttpRequestException" / "MalformedQueryString", BAD_REQUEST;
    /// The body is over the bound.
    request_entity_too_large, RequestEntityTooLarge, "RequestEntityTooLargeException" / "RequestEntityTooLarge", PAYLOAD_TOO_LARGE;
    /// The body did not come in time.
    request_timeout, RequestTimeout, "RequestTimeoutException" / "RequestTimeout", REQUEST_TIMEOUT;
    /// The body is not one of the protocol, or a member is of the wrong type.
    serialization, Serialization, "SerializationException" / "MalformedInput", BAD_REQUEST;
    /// Not now; try again.
    service_unavailable, ServiceUnavailable, "ServiceUnavailable", SERVICE_UNAVAILABLE;
    /// Too many at once; clients slow down and try again.
    throttling, Throttling, "ThrottlingException" / "Throttling", BAD_REQUEST;
    /// Nobody has heard of this operation.
    unknown_operation, UnknownOperation, "UnknownOperationException" / "InvalidAction", NOT_FOUND;
}

impl ApiError {
    /// The name clients know the error by, `__type` in JSON and CBOR.
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The name clients of the AWS query protocol know it by, where that is another.
    pub fn query_code(&self) -> &'static str {
        self.kind.query_code().unwrap_or(self.code())
    }

    /// The status it goes out with.
    pub const fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// `Sender` or `Receiver`, as the AWS query protocol says who must act.
    pub fn whose_fault(&self) -> &'static str {
        match self.status().is_server_error() {
            true => "Receiver",
            false => "Sender",
        }
    }

    /// The same error, but a failure of ours as another service calls it.
    #[must_use]
    pub fn internal_as(self, internal: fn(String) -> Self) -> Self {
        match self.kind {
            Kind::InternalServiceError => internal(self.message),
            _ => self,
        }
    }

    /// What a person reads.
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_model_is_here_with_its_status() {
        check(include_str!("../models/apprunner.json"), &[]);
    }

    /// What Ekiden has not (policies, replicas, other keys) cannot go wrong.
    #[test]
    fn every_error_of_the_companions_that_can_happen_is_here_with_its_status() {
        let secrets_manager = [
            "EncryptionFailure",
            "MalformedPolicyDocumentException",
            "PreconditionNotMetException",
        ];
        check(
            include_str!("../models/secretsmanager.json"),
            &secrets_manager,
        );
        let ssm = [
            "IncompatiblePolicyException",
            "InvalidKeyId",
            "InvalidPolicyAttributeException",
            "InvalidPolicyTypeException",
            "PoliciesLimitExceededException",
            "TooManyUpdates",
        ];
        check(include_str!("../models/ssm.json"), &ssm);
        let ecr = [
            "KmsException",
            "LayerPartTooSmallException",
            "UnableToGetUpstreamImageException",
            "UnableToGetUpstreamLayerException",
        ];
        check(include_str!("../models/ecr.json"), &ecr);
        let logs = [
            // Every service's, with a status of their own.
            "AccessDeniedException",
            "UnrecognizedClientException",
            // Sequence tokens are not asked for; live tails are refused.
            "InvalidSequenceTokenException",
            "SessionStreamingException",
            "SessionTimeoutException",
        ];
        check(include_str!("../models/logs.json"), &logs);
        check(include_str!("../models/events.json"), &[]);
        // Tags are changed one request after another.
        let cloudwatch = ["ConcurrentModificationException", "ConflictException"];
        check(include_str!("../models/cloudwatch.json"), &cloudwatch);
    }

    #[track_caller]
    fn check(model: &str, never: &[&str]) {
        let model: serde_json::Value = serde_json::from_str(model).unwrap();
        for (name, shape) in model["shapes"].as_object().unwrap() {
            if shape["exception"] != true || never.contains(&name.as_str()) {
                continue;
            }
            let of_model = shape["error"]["httpStatusCode"].as_u64();
            let status = of_model.unwrap_or(if shape["fault"] == true { 500 } else { 400 });
            let query_code = shape["error"]["code"].as_str();
            let is_ours = |error: &ApiError| {
                error.code() == name
                    && u64::from(error.status().as_u16()) == status
                    && query_code.is_none_or(|code| error.query_code() == code)
            };
            assert!(ApiError::every().iter().any(is_ours), "{name}");
        }
    }
}
