//! Parameter Store's operations, of Systems Manager.
//!
//! What a parameter is and how its versions are numbered is `ekiden_model::parameter`. Values of every
//! type are sealed before they are stored; a `SecureString` is opened only for who asks for that.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    error::ApiError,
    ssm::shapes::{
        AddTagsToResourceRequest, AddTagsToResourceResult, DeleteParameterRequest,
        DeleteParameterResult, DeleteParametersRequest, DeleteParametersResult,
        DescribeParametersRequest, DescribeParametersResult, GetParameterHistoryRequest,
        GetParameterHistoryResult, GetParameterRequest, GetParameterResult,
        GetParametersByPathRequest, GetParametersByPathResult, GetParametersRequest,
        GetParametersResult, LabelParameterVersionRequest, LabelParameterVersionResult,
        ListTagsForResourceRequest, ListTagsForResourceResult, Operation,
        Parameter as WireParameter, ParameterHistory, ParameterMetadata, ParameterStringFilter,
        PutParameterRequest, PutParameterResult, RemoveTagsFromResourceRequest,
        RemoveTagsFromResourceResult, Tag,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    parameter::{
        LEVELS_MAX, Parameter, ParameterKind, ParameterRefusal, ParameterVersion, Tier,
        name_problem,
    },
    time::Timestamp,
};
use ekiden_store::{StoreError, parameters::ParameterChange, secrets::Found};
use regex::RegexBuilder;
use zeroize::Zeroizing;

use super::{Answer, Api, Call, Caller, store_error};
use crate::{
    clock,
    vault::{OpenError, split_selector},
    worker::Chain,
};

/// Tags of one parameter at most: Systems Manager's.
const TAGS_MAX: usize = 50;

/// What a page holds when a request does not say: Systems Manager's.
const PAGE_DEFAULT: usize = 10;
const HISTORY_PAGE_DEFAULT: usize = 50;

/// The longest name that a parameter can be given, in bytes: Parameter Store's.
const NAME_BYTES_MAX: usize = 1011;

/// Memory that a pattern of a parameter may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// The key that a `SecureString` is said to be sealed with when its owner names none.
const KEY_DEFAULT: &str = "alias/aws/ssm";

/// The only type of a parameter's data that is looked at.
const DATA_TYPE_DEFAULT: &str = "text";

/// How a parameter is named in a request.
struct Named {
    parameter: Parameter,
    /// The version or label after the colon.
    selector: Option<String>,
}

impl<E: Engine> Api<E> {
    /// Systems Manager's requests to their handlers.
    pub(super) async fn systems_manager(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        let answer = match operation {
            Operation::AddTagsToResource => {
                call.run(|r| self.add_tags_to_resource(caller, r)).await
            }
            Operation::DeleteParameter => call.run(|r| self.delete_parameter(caller, r)).await,
            Operation::DeleteParameters => call.run(|r| self.delete_parameters(caller, r)).await,
            Operation::DescribeParameters => {
                call.run(|r| self.describe_parameters(caller, r)).await
            }
            Operation::GetParameter => call.run(|r| self.get_parameter(caller, r)).await,
            Operation::GetParameterHistory => {
                call.run(|r| self.get_parameter_history(caller, r)).await
            }
            Operation::GetParameters => call.run(|r| self.get_parameters(caller, r)).await,
            Operation::GetParametersByPath => {
                call.run(|r| self.get_parameters_by_path(caller, r)).await
            }
            Operation::LabelParameterVersion => {
                call.run(|r| self.label_parameter_version(caller, r)).await
            }
            Operation::ListTagsForResource => {
                call.run(|r| self.list_tags_of_parameter(caller, r)).await
            }
            Operation::PutParameter => call.run(|r| self.put_parameter(caller, r)).await,
            Operation::RemoveTagsFromResource => {
                call.run(|r| self.remove_tags_from_resource(caller, r))
                    .await
            }
        };
        answer.map_err(|error| error.internal_as(ApiError::internal_server))
    }

    async fn put_parameter(
        &self,
        caller: &Caller,
        request: PutParameterRequest,
    ) -> Result<PutParameterResult, ApiError> {
        let name = request.name.clone().unwrap_or_default();
        check_new_name(&name)?;
        let value = Zeroizing::new(request.value.clone().unwrap_or_default());
        if value.is_empty() {
            return Err(ApiError::validation(
                "1 validation error detected: Value '' at 'value' failed to satisfy constraint: \
                 Member must have length greater than or equal to 1.",
            ));
        }
        if request
            .policies
            .as_deref()
            .is_some_and(|policies| policies != "[]")
        {
            return Err(ApiError::validation(
                "Policies are not offered by Ekiden: a parameter is kept until it is deleted.",
            ));
        }
        let overwrite = request.overwrite == Some(true);
        if overwrite && request.tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
            return Err(ApiError::validation(
                "Invalid request: tags and overwrite can't be used together. To create a parameter \
                 with tags, please remove overwrite flag. To update tags for an existing parameter, \
                 please use AddTagsToResource or RemoveTagsFromResource.",
            ));
        }
        let tags = with_tags(BTreeMap::new(), request.tags.clone())?;
        let quota = self.config.quotas.parameters;
        let put = |found: Found<Parameter>| {
            let mut parameter = match found {
                Found::None { others } if others >= quota => {
                    return Err(ApiError::parameter_limit_exceeded(format!(
                        "There are {quota} parameters, as many as there may be; delete some or \
                         raise `quotas.parameters`."
                    )));
                }
                Found::None { .. } => Parameter {
                    id: clock::random_hex(),
                    name: name.clone(),
                    tags,
                    versions: Vec::new(),
                },
                Found::One(_) if !overwrite => {
                    return Err(ApiError::parameter_already_exists(
                        "The parameter already exists. To overwrite this value, set the overwrite \
                         option in the request to true.",
                    ));
                }
                Found::One(parameter) => parameter,
            };
            let version = next_version(&parameter, &request, &value)?;
            let tier = version.tier;
            let number = parameter.put(version).map_err(refused)?;
            let sealed = self
                .vault
                .seal_parameter(&parameter.id, number, value.as_bytes());
            let change = ParameterChange::Put(Box::new(parameter), Some((number, sealed)));
            Ok((change, (number, tier)))
        };
        let changed = self
            .store
            .change_parameter(&caller.region, &name, put)
            .await;
        let (number, tier) = changed.map_err(|error| store_error(&error))??;
        Ok(PutParameterResult {
            version: Some(number as i64),
            tier: Some(tier.to_string()),
        })
    }

    async fn get_parameter(
        &self,
        caller: &Caller,
        request: GetParameterRequest,
    ) -> Result<GetParameterResult, ApiError> {
        let name = request.name.unwrap_or_default();
        let named = self.find_parameter(caller, &name).await?;
        let named = named.ok_or_else(|| not_found(&name))?;
        let open = request.with_decryption == Some(true);
        Ok(GetParameterResult {
            parameter: Some(self.wire_parameter(caller, &named, open).await?),
        })
    }

    async fn get_parameters(
        &self,
        caller: &Caller,
        request: GetParametersRequest,
    ) -> Result<GetParametersResult, ApiError> {
        let open = request.with_decryption == Some(true);
        let (mut parameters, mut invalid) = (Vec::new(), Vec::new());
        for name in request.names.unwrap_or_default() {
            let found = self.find_parameter(caller, &name).await?;
            let known = found.filter(|n| n.parameter.find(n.selector.as_deref()).is_ok());
            match known {
                Some(named) => {
                    parameters.push(self.wire_parameter(caller, &named, open).await?);
                }
                None => invalid.push(name),
            }
        }
        Ok(GetParametersResult {
            parameters: Some(parameters),
            invalid_parameters: Some(invalid),
        })
    }

    async fn get_parameters_by_path(
        &self,
        caller: &Caller,
        request: GetParametersByPathRequest,
    ) -> Result<GetParametersByPathResult, ApiError> {
        let path = request.path.unwrap_or_default();
        check_path(&path)?;
        let filters = request.parameter_filters.unwrap_or_default();
        check_filters(&filters, &["Type", "KeyId", "Label"])?;
        let recursive = request.recursive == Some(true);
        let list = format!("GetParametersByPath {recursive} {path}");
        let wanted = |parameter: &Parameter| {
            is_below(&parameter.name, &path, recursive)
                && filters.iter().all(|filter| fits(parameter, filter))
        };
        let count = page_size(request.max_results, PAGE_DEFAULT);
        let page = self.page_of_parameters(caller, &list, request.next_token, count, wanted);
        let (found, next_token) = page.await?;
        let open = request.with_decryption == Some(true);
        let mut parameters = Vec::new();
        for parameter in found {
            let named = Named {
                parameter,
                selector: None,
            };
            parameters.push(self.wire_parameter(caller, &named, open).await?);
        }
        Ok(GetParametersByPathResult {
            parameters: Some(parameters),
            next_token,
        })
    }

    async fn describe_parameters(
        &self,
        caller: &Caller,
        request: DescribeParametersRequest,
    ) -> Result<DescribeParametersResult, ApiError> {
        let mut filters = request.parameter_filters.unwrap_or_default();
        let old = request.filters.unwrap_or_default();
        if !filters.is_empty() && !old.is_empty() {
            return Err(ApiError::validation(
                "You can use either Filters or ParameterFilters in a single request.",
            ));
        }
        filters.extend(old.into_iter().map(|filter| ParameterStringFilter {
            // The older filters compare the beginnings of names.
            option: (filter.key.as_deref() == Some("Name")).then(|| "BeginsWith".to_owned()),
            key: filter.key,
            values: filter.values,
        }));
        let keys = ["Name", "Type", "KeyId", "Path", "Tier", "DataType"];
        check_filters(&filters, &keys)?;
        let wanted = |parameter: &Parameter| filters.iter().all(|filter| fits(parameter, filter));
        let count = page_size(request.max_results, PAGE_DEFAULT);
        let list = "DescribeParameters";
        let page = self.page_of_parameters(caller, list, request.next_token, count, wanted);
        let (found, next_token) = page.await?;
        let metadata = found.into_iter().filter_map(|parameter| {
            let version = parameter.newest()?;
            Some(ParameterMetadata {
                arn: Some(self.parameter_arn(caller, &parameter)),
                r#type: Some(version.kind.to_string()),
                key_id: version.key_id.clone(),
                last_modified_date: Some(seconds(version.modified_at)),
                last_modified_user: Some(self.modified_by()),
                description: version.description.clone(),
                allowed_pattern: version.allowed_pattern.clone(),
                version: Some(version.number as i64),
                tier: Some(version.tier.to_string()),
                policies: Some(Vec::new()),
                data_type: Some(data_type(version)),
                name: Some(parameter.name),
            })
        });
        Ok(DescribeParametersResult {
            parameters: Some(metadata.collect()),
            next_token,
        })
    }

    async fn get_parameter_history(
        &self,
        caller: &Caller,
        request: GetParameterHistoryRequest,
    ) -> Result<GetParameterHistoryResult, ApiError> {
        let name = request.name.unwrap_or_default();
        let named = self.find_parameter(caller, &name).await?;
        let Named { parameter, .. } = named.ok_or_else(|| not_found(&name))?;
        let list = format!("GetParameterHistory {}", parameter.id);
        let after: u64 = match request.next_token {
            None => 0,
            Some(token) => {
                let place = self.page_place(&list, &caller.region, &token);
                place
                    .and_then(|place| place.parse().ok())
                    .ok_or_else(bad_token)?
            }
        };
        let open = request.with_decryption == Some(true);
        let count = page_size(request.max_results, HISTORY_PAGE_DEFAULT);
        let mut left = parameter.versions.iter().filter(|v| v.number > after);
        let page: Vec<&ParameterVersion> = left.by_ref().take(count).collect();
        let more = left.next().is_some();
        let next_token = page
            .last()
            .filter(|_| more)
            .map(|last| self.page_token(&list, &caller.region, &last.number.to_string()));
        let mut history = Vec::new();
        for version in page {
            history.push(ParameterHistory {
                name: Some(parameter.name.clone()),
                r#type: Some(version.kind.to_string()),
                key_id: version.key_id.clone(),
                last_modified_date: Some(seconds(version.modified_at)),
                last_modified_user: Some(self.modified_by()),
                description: version.description.clone(),
                value: Some(self.shown_value(&parameter, version, open).await?),
                allowed_pattern: version.allowed_pattern.clone(),
                version: Some(version.number as i64),
                labels: Some(version.labels.clone()),
                tier: Some(version.tier.to_string()),
                policies: Some(Vec::new()),
                data_type: Some(data_type(version)),
            });
        }
        Ok(GetParameterHistoryResult {
            parameters: Some(history),
            next_token,
        })
    }

    async fn label_parameter_version(
        &self,
        caller: &Caller,
        request: LabelParameterVersionRequest,
    ) -> Result<LabelParameterVersionResult, ApiError> {
        let name = request.name.unwrap_or_default();
        let number = request.parameter_version.map(i64::unsigned_abs);
        let labels = request.labels.unwrap_or_default();
        let (labels, invalid): (Vec<String>, Vec<String>) =
            labels.into_iter().partition(|label| is_label(label));
        let changed = self
            .change_parameter(caller, &name, not_found, |parameter| {
                parameter.label(number, &labels).map_err(refused)
            })
            .await?;
        Ok(LabelParameterVersionResult {
            invalid_labels: Some(invalid),
            parameter_version: Some(changed as i64),
        })
    }

    async fn delete_parameter(
        &self,
        caller: &Caller,
        request: DeleteParameterRequest,
    ) -> Result<DeleteParameterResult, ApiError> {
        let name = request.name.unwrap_or_default();
        match self.remove_parameter(caller, &name).await? {
            true => Ok(DeleteParameterResult {}),
            false => Err(not_found(&name)),
        }
    }

    async fn delete_parameters(
        &self,
        caller: &Caller,
        request: DeleteParametersRequest,
    ) -> Result<DeleteParametersResult, ApiError> {
        let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
        for name in request.names.unwrap_or_default() {
            match self.remove_parameter(caller, &name).await? {
                true => deleted.push(name),
                false => invalid.push(name),
            }
        }
        Ok(DeleteParametersResult {
            deleted_parameters: Some(deleted),
            invalid_parameters: Some(invalid),
        })
    }

    async fn add_tags_to_resource(
        &self,
        caller: &Caller,
        request: AddTagsToResourceRequest,
    ) -> Result<AddTagsToResourceResult, ApiError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        self.change_parameter(caller, &name, no_resource, |parameter| {
            parameter.tags = with_tags(std::mem::take(&mut parameter.tags), request.tags)?;
            Ok(())
        })
        .await?;
        Ok(AddTagsToResourceResult {})
    }

    async fn remove_tags_from_resource(
        &self,
        caller: &Caller,
        request: RemoveTagsFromResourceRequest,
    ) -> Result<RemoveTagsFromResourceResult, ApiError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        let keys = request.tag_keys.unwrap_or_default();
        self.change_parameter(caller, &name, no_resource, |parameter| {
            parameter.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await?;
        Ok(RemoveTagsFromResourceResult {})
    }

    async fn list_tags_of_parameter(
        &self,
        caller: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResult, ApiError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        let named = self.find_parameter(caller, &name).await?;
        let named = named.ok_or_else(|| no_resource(&name))?;
        let tag = |(key, value): (&String, &String)| Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        Ok(ListTagsForResourceResult {
            tag_list: Some(named.parameter.tags.iter().map(tag).collect()),
        })
    }

    /// The parameter of a name or an ARN, with the version or label that may follow either.
    async fn find_parameter(&self, caller: &Caller, id: &str) -> Result<Option<Named>, ApiError> {
        let found = match id.strip_prefix("arn:") {
            None => {
                let (name, selector) = split_selector(id);
                let found = self.store.parameter(&caller.region, name).await;
                found.map(|found| (found, selector))
            }
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(5, ':').collect();
                let ours = match parts[..] {
                    [_, "ssm", region, account, resource]
                        if region == caller.region && account == self.config.account_id =>
                    {
                        resource.strip_prefix("parameter/")
                    }
                    _ => None,
                };
                let Some(resource) = ours else {
                    return Ok(None);
                };
                let (name, selector) = split_selector(resource);
                let found = self.vault.parameter_by_arn(&caller.region, name).await;
                found.map(|found| (found, selector))
            }
        };
        let (found, selector) = found.map_err(|error| store_error(&error))?;
        Ok(found.map(|parameter| Named {
            parameter,
            selector: selector.map(str::to_owned),
        }))
    }

    async fn change_parameter<R>(
        &self,
        caller: &Caller,
        name: &str,
        unknown: impl Fn(&str) -> ApiError,
        change: impl FnOnce(&mut Parameter) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let named = self.find_parameter(caller, name).await?;
        let wanted = named.ok_or_else(|| unknown(name))?.parameter;
        let changed =
            self.store
                .change_parameter(&caller.region, &wanted.name, |found| match found {
                    Found::One(mut parameter) if parameter.id == wanted.id => {
                        let result = change(&mut parameter)?;
                        Ok((ParameterChange::Put(Box::new(parameter), None), result))
                    }
                    Found::One(_) | Found::None { .. } => Err(unknown(name)),
                });
        changed.await.map_err(|error| store_error(&error))?
    }

    /// Whether there was one.
    async fn remove_parameter(&self, caller: &Caller, name: &str) -> Result<bool, ApiError> {
        let Some(named) = self.find_parameter(caller, name).await? else {
            return Ok(false);
        };
        let name = named.parameter.name;
        let removed: Result<Result<bool, ApiError>, StoreError> = self
            .store
            .change_parameter(&caller.region, &name, |found| {
                Ok(match found {
                    Found::One(_) => (ParameterChange::Remove, true),
                    Found::None { .. } => (ParameterChange::None, false),
                })
            })
            .await;
        removed.map_err(|error| store_error(&error))?
    }

    /// Parameters that are wanted, in the order of their names, and the token of the next page.
    async fn page_of_parameters(
        &self,
        caller: &Caller,
        list: &str,
        token: Option<String>,
        count: usize,
        wanted: impl Fn(&Parameter) -> bool,
    ) -> Result<(Vec<Parameter>, Option<String>), ApiError> {
        let after = token
            .map(|token| {
                self.page_place(list, &caller.region, &token)
                    .ok_or_else(bad_token)
            })
            .transpose()?;
        let all = self
            .store
            .parameters(&caller.region, after.as_deref())
            .await;
        let all = all.map_err(|error| store_error(&error))?;
        let mut left = all.into_iter().filter(wanted);
        let page: Vec<Parameter> = left.by_ref().take(count).collect();
        let more = left.next().is_some();
        let next_token = page
            .last()
            .filter(|_| more)
            .map(|last| self.page_token(list, &caller.region, &last.name));
        Ok((page, next_token))
    }

    async fn wire_parameter(
        &self,
        caller: &Caller,
        named: &Named,
        open: bool,
    ) -> Result<WireParameter, ApiError> {
        let Named {
            parameter,
            selector,
        } = named;
        let version = parameter.find(selector.as_deref()).map_err(refused)?;
        Ok(WireParameter {
            name: Some(parameter.name.clone()),
            r#type: Some(version.kind.to_string()),
            value: Some(self.shown_value(parameter, version, open).await?),
            version: Some(version.number as i64),
            selector: selector.as_ref().map(|selector| format!(":{selector}")),
            source_result: None,
            last_modified_date: Some(seconds(version.modified_at)),
            arn: Some(self.parameter_arn(caller, parameter)),
            data_type: Some(data_type(version)),
        })
    }

    /// A value; a `SecureString` as it is sealed, unless it was asked to be opened.
    async fn shown_value(
        &self,
        parameter: &Parameter,
        version: &ParameterVersion,
        open: bool,
    ) -> Result<String, ApiError> {
        let vault = &self.vault;
        let value = match version.kind {
            ParameterKind::SecureString if !open => vault
                .sealed_parameter(parameter, version)
                .await
                .map(|sealed| BASE64_STANDARD.encode(sealed)),
            ParameterKind::SecureString | ParameterKind::String | ParameterKind::StringList => {
                vault
                    .open_parameter(parameter, version)
                    .await
                    .map(|value| value.to_string())
            }
        };
        value.map_err(|error| match error {
            OpenError::Store(error) => store_error(&error),
            OpenError::DoesNotOpen(error) => {
                tracing::warn!(error = %Chain(&error), "a parameter does not open");
                ApiError::internal_server(
                    "the parameter was sealed with another installation's key",
                )
            }
        })
    }

    fn parameter_arn(&self, caller: &Caller, parameter: &Parameter) -> String {
        let name = parameter.name.trim_start_matches('/');
        let (region, account) = (&caller.region, &self.config.account_id);
        format!("arn:aws:ssm:{region}:{account}:parameter/{name}")
    }

    fn modified_by(&self) -> String {
        format!("arn:aws:iam::{}:root", self.config.account_id)
    }
}

/// The version that a request makes; what it does not say stays as it was.
fn next_version(
    parameter: &Parameter,
    request: &PutParameterRequest,
    value: &str,
) -> Result<ParameterVersion, ApiError> {
    let before = parameter.newest();
    let kind = match request.r#type.as_deref() {
        Some(name) => Some(ParameterKind::from_name(name).ok_or_else(|| {
            ApiError::unsupported_parameter_type(format!("There is no type `{name}`."))
        })?),
        None => before.map(|before| before.kind),
    };
    let kind = kind.ok_or_else(|| {
        ApiError::validation("A parameter type is required when you create a parameter.")
    })?;
    let given = |given: &Option<String>, before: Option<&Option<String>>| {
        given.clone().or_else(|| before.cloned().flatten())
    };
    let allowed_pattern = given(
        &request.allowed_pattern,
        before.map(|before| &before.allowed_pattern),
    )
    .filter(|pattern| !pattern.is_empty());
    if let Some(pattern) = &allowed_pattern {
        check_pattern(pattern, value)?;
    }
    let data_type = given(&request.data_type, before.map(|before| &before.data_type));
    if let Some(name) = data_type
        .as_deref()
        .filter(|name| *name != DATA_TYPE_DEFAULT)
        && name != "aws:ec2:image"
    {
        return Err(ApiError::validation(format!(
            "The following data type is not supported: {name} (Data type names are all lowercase.)"
        )));
    }
    let key_id = match kind {
        ParameterKind::SecureString => Some(
            given(&request.key_id, before.map(|before| &before.key_id))
                .unwrap_or_else(|| KEY_DEFAULT.to_owned()),
        ),
        ParameterKind::String | ParameterKind::StringList => None,
    };
    Ok(ParameterVersion {
        number: 0,
        kind,
        description: given(
            &request.description,
            before.map(|before| &before.description),
        ),
        key_id,
        allowed_pattern,
        data_type,
        tier: tier(request.tier.as_deref(), before, value)?,
        labels: Vec::new(),
        modified_at: clock::now(),
    })
}

/// The tier that a value gets. `Intelligent-Tiering` takes the smallest that holds it.
fn tier(
    given: Option<&str>,
    before: Option<&ParameterVersion>,
    value: &str,
) -> Result<Tier, ApiError> {
    let fits = value.len() <= Tier::Standard.value_bytes_max();
    let tier = match given {
        Some("Advanced") => Tier::Advanced,
        Some("Intelligent-Tiering") if !fits => Tier::Advanced,
        Some("Standard" | "Intelligent-Tiering") => Tier::Standard,
        Some(_) | None => before.map_or(Tier::Standard, |before| before.tier),
    };
    if value.len() <= tier.value_bytes_max() {
        return Ok(tier);
    }
    Err(ApiError::validation(match tier {
        Tier::Standard => {
            "Standard tier parameters support a maximum parameter value of 4096 characters. To create \
             a larger parameter value, upgrade the parameter to use the advanced-parameter tier. For \
             more information, see \
             https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
        }
        Tier::Advanced => {
            "Advanced tier parameters support a maximum parameter value of 8192 characters."
        }
    }))
}

fn check_new_name(name: &str) -> Result<(), ApiError> {
    if let Some(problem) = name_problem(name) {
        return Err(ApiError::validation(problem));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(ApiError::validation(format!(
            "Parameter name: can be at most {NAME_BYTES_MAX} characters long."
        )));
    }
    match name.trim_start_matches('/').split('/').count() > LEVELS_MAX {
        true => Err(ApiError::hierarchy_level_limit_exceeded(format!(
            "Parameter name must not exceed {LEVELS_MAX} levels."
        ))),
        false => Ok(()),
    }
}

/// The pattern's language is Rust's, which is Java's but for look-around and back references.
fn check_pattern(pattern: &str, value: &str) -> Result<(), ApiError> {
    let compiled = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    let compiled = compiled.map_err(|_| {
        ApiError::invalid_allowed_pattern(
            "AllowedPattern is not a regular expression that can be used here: it must be within \
             bounds and have no look-around and no back references.",
        )
    })?;
    match compiled.is_match(value) {
        true => Ok(()),
        false => Err(ApiError::parameter_pattern_mismatch(format!(
            "Parameter value, cannot be validated against allowedPattern: {pattern}"
        ))),
    }
}

fn check_path(path: &str) -> Result<(), ApiError> {
    let sane = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    match path.starts_with('/') && path.chars().all(sane) && !path.contains("//") {
        true => Ok(()),
        false => Err(ApiError::validation(
            "The parameter doesn't meet the parameter name requirements. The parameter name must \
             begin with a forward slash \"/\". It can't be prefixed with \"aws\" or \"ssm\" \
             (case-insensitive). It must use only letters, numbers, or the following symbols: . \
             (period), - (hyphen), _ (underscore). Special characters are not allowed. All sub-paths, \
             if specified, must use the forward slash symbol \"/\". Valid example: \
             /get/parameters2-/by1./path0_.",
        )),
    }
}

/// Whether a name is one level below a path, or any number of levels.
fn is_below(name: &str, path: &str, recursive: bool) -> bool {
    let path = path.trim_end_matches('/');
    let rest = name
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix('/'));
    // A name without a slash is at the root.
    let rest = rest.or_else(|| (path.is_empty() && !name.contains('/')).then_some(name));
    rest.is_some_and(|rest| !rest.is_empty() && (recursive || !rest.contains('/')))
}

fn check_filters(filters: &[ParameterStringFilter], keys: &[&str]) -> Result<(), ApiError> {
    for filter in filters {
        let key = filter.key.as_deref().unwrap_or_default();
        let is_tag = key.starts_with("tag:") && keys.contains(&"Name");
        if !keys.contains(&key) && !is_tag {
            return Err(ApiError::invalid_filter_key(format!(
                "The following filter key is not valid: {key}. Valid filter keys include: [{}].",
                keys.join(", ")
            )));
        }
        let options: &[&str] = match key {
            "Name" => &["Equals", "BeginsWith", "Contains"],
            "Path" => &["Recursive", "OneLevel"],
            _ => &["Equals", "BeginsWith"],
        };
        if let Some(option) = filter.option.as_deref().filter(|o| !options.contains(o)) {
            return Err(ApiError::invalid_filter_option(format!(
                "The following filter option is not valid: {option}. Valid options include: [{}].",
                options.join(", ")
            )));
        }
        if filter.values.as_ref().is_none_or(Vec::is_empty) && !is_tag {
            return Err(ApiError::invalid_filter_value(format!(
                "The following filter values are missing : null for filter key {key}."
            )));
        }
    }
    Ok(())
}

fn fits(parameter: &Parameter, filter: &ParameterStringFilter) -> bool {
    let Some(version) = parameter.newest() else {
        return false;
    };
    let values = filter.values.clone().unwrap_or_default();
    let option = filter.option.as_deref().unwrap_or("Equals");
    let compare = |text: &str| {
        values.iter().any(|value| match option {
            "BeginsWith" => text.starts_with(value.as_str()),
            "Contains" => text.contains(value.as_str()),
            _ => text == value,
        })
    };
    match filter.key.as_deref().unwrap_or_default() {
        // A name may be given with its slash or without.
        "Name" => {
            let bare = parameter.name.trim_start_matches('/');
            compare(&parameter.name) || compare(bare) || compare(&format!("/{bare}"))
        }
        "Type" => compare(&version.kind.to_string()),
        "KeyId" => version.key_id.as_deref().is_some_and(compare),
        "Tier" => compare(&version.tier.to_string()),
        "DataType" => compare(&data_type(version)),
        "Label" => version.labels.iter().any(|label| compare(label)),
        "Path" => values
            .iter()
            .any(|path| is_below(&parameter.name, path, option == "Recursive")),
        key => {
            let tag = key
                .strip_prefix("tag:")
                .and_then(|key| parameter.tags.get(key));
            tag.is_some_and(|tag| values.is_empty() || compare(tag))
        }
    }
}

fn with_tags(
    mut tags: BTreeMap<String, String>,
    given: Option<Vec<Tag>>,
) -> Result<BTreeMap<String, String>, ApiError> {
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.starts_with("aws:") {
            return Err(ApiError::validation(
                "A tag's key must not begin with `aws:`.",
            ));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    match tags.len() > TAGS_MAX {
        true => Err(ApiError::too_many_tags(format!(
            "A parameter can have at most {TAGS_MAX} tags."
        ))),
        false => Ok(tags),
    }
}

/// The name of the parameter that a request on tags is about.
fn tagged(kind: Option<String>, id: Option<String>) -> Result<String, ApiError> {
    match kind.as_deref() {
        Some("Parameter") => Ok(id.unwrap_or_default()),
        Some(_) | None => Err(ApiError::invalid_resource_type("Invalid Resource Type")),
    }
}

/// Letters, digits and `._-`, neither a number at the beginning nor AWS's own.
fn is_label(label: &str) -> bool {
    let sane = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let lower = label.to_ascii_lowercase();
    label.chars().all(sane)
        && !label.starts_with(|c: char| c.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

fn data_type(version: &ParameterVersion) -> String {
    let data_type = version.data_type.as_deref();
    data_type.unwrap_or(DATA_TYPE_DEFAULT).to_owned()
}

fn page_size(max_results: Option<i32>, default: usize) -> usize {
    max_results.map_or(default, |count| count.unsigned_abs() as usize)
}

fn seconds(at: Timestamp) -> EpochSeconds {
    EpochSeconds(at.as_secs())
}

fn not_found(name: &str) -> ApiError {
    ApiError::parameter_not_found(format!("Parameter {name} not found."))
}

fn no_resource(_: &str) -> ApiError {
    ApiError::invalid_resource_id("Invalid Resource Id")
}

fn bad_token() -> ApiError {
    ApiError::invalid_next_token("The specified token isn't valid.")
}

fn refused(refusal: ParameterRefusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        ParameterRefusal::NoVersion { .. } => ApiError::parameter_version_not_found(message),
        ParameterRefusal::OldestHasLabel { .. } => {
            ApiError::parameter_max_version_limit_exceeded(message)
        }
        ParameterRefusal::TooManyLabels => {
            ApiError::parameter_version_label_limit_exceeded(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_one_level_or_all() {
        for (name, path, recursive, want) in [
            ("/a/b", "/a", false, true),
            ("/a/b", "/a/", false, true),
            ("/a/b/c", "/a", false, false),
            ("/a/b/c", "/a", true, true),
            ("/ab", "/a", true, false),
            ("/a", "/a", true, false),
            ("/a", "/", false, true),
            ("a", "/", false, true),
            ("/a/b", "/", true, true),
        ] {
            let got = is_below(name, path, recursive);
            assert_eq!(got, want, "{name} {path} {recursive}");
        }
    }

    #[test]
    fn the_tier_is_the_smallest_that_was_asked_for_and_holds_the_value() {
        let (small, large, huge) = ("x".repeat(4096), "x".repeat(4097), "x".repeat(8193));
        for (given, value, want) in [
            (None, &small, Some(Tier::Standard)),
            (None, &large, None),
            (Some("Intelligent-Tiering"), &small, Some(Tier::Standard)),
            (Some("Intelligent-Tiering"), &large, Some(Tier::Advanced)),
            (Some("Advanced"), &small, Some(Tier::Advanced)),
            (Some("Advanced"), &huge, None),
        ] {
            assert_eq!(tier(given, None, value).ok(), want, "{given:?}");
        }
    }

    #[test]
    fn patterns_are_bounded_and_compare_the_whole_value() {
        assert!(check_pattern("[0-9]+", "12").is_ok());
        let code = |pattern| check_pattern(pattern, "12a").unwrap_err().code();
        assert_eq!(code("[0-9]+"), "ParameterPatternMismatchException");
        for pattern in ["(", "(?=x)", r"(a)\1", "(((a{99}){99}){99})"] {
            assert_eq!(code(pattern), "InvalidAllowedPatternException");
        }
    }
}
