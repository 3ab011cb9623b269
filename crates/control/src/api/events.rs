//! EventBridge's operations on rules, their targets and events.
//!
//! Every region has one bus, `default`. Targets are what [`Destination`] knows; others are refused, each for itself.

use std::collections::BTreeMap;

use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    error::ApiError,
    events::shapes::{
        DeleteRuleRequest, DescribeEventBusRequest, DescribeEventBusResponse, DescribeRuleRequest,
        DescribeRuleResponse, DisableRuleRequest, EnableRuleRequest, EventBus,
        ListEventBusesRequest, ListEventBusesResponse, ListRuleNamesByTargetRequest,
        ListRuleNamesByTargetResponse, ListRulesRequest, ListRulesResponse,
        ListTagsForResourceRequest, ListTagsForResourceResponse, ListTargetsByRuleRequest,
        ListTargetsByRuleResponse, Operation, PutEventsRequest, PutEventsRequestEntry,
        PutEventsResponse, PutEventsResultEntry, PutRuleRequest, PutRuleResponse,
        PutTargetsRequest, PutTargetsResponse, PutTargetsResultEntry, RemoveTargetsRequest,
        RemoveTargetsResponse, Rule as WireRule, Tag, TagResourceRequest, TagResourceResponse,
        Target, TestEventPatternRequest, TestEventPatternResponse, UntagResourceRequest,
        UntagResourceResponse,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_model::{event_pattern::EventPattern, time::Timestamp};
use ekiden_store::{
    StoreError,
    events::{EventRule, RuleError, StoredTarget},
};
use serde_json::Value;
use tracing::info;

use super::{Answer, Api, Call, Caller, store_error};
use crate::{
    clock,
    events::{CustomEvent, Destination, Input, Rule, rule_arn},
};

/// The one bus.
const BUS: &str = "default";

/// Rules of one region: EventBridge's.
const RULES_MAX: u64 = 300;

/// Targets of one rule: EventBridge's.
const TARGETS_MAX: u64 = 5;

/// Tags of one rule: AWS's.
const TAGS_MAX: usize = 50;

/// Entries of a page when a request does not say: EventBridge's.
const PAGE_DEFAULT: usize = 100;

/// Bytes of all events of one request: EventBridge's.
const ENTRIES_BYTES_MAX: usize = 256 << 10;

/// What an event's time counts for: EventBridge's.
const TIME_BYTES: usize = 14;

/// What events must have for a pattern to be tested with them: EventBridge's.
const EVENT_MEMBERS: [&str; 7] = [
    "id",
    "account",
    "source",
    "time",
    "region",
    "resources",
    "detail-type",
];

impl<E: Engine> Api<E> {
    /// EventBridge's requests to their handlers.
    pub(super) async fn event_bridge(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::PutRule => call.run(|r| self.put_rule(caller, r)).await,
            O::DescribeRule => call.run(|r| self.describe_rule(caller, r)).await,
            O::ListRules => call.run(|r| self.list_rules(caller, r)).await,
            O::EnableRule => call.run(|r| self.enable_rule(caller, r)).await,
            O::DisableRule => call.run(|r| self.disable_rule(caller, r)).await,
            O::DeleteRule => call.run(|r| self.delete_rule(caller, r)).await,
            O::PutTargets => call.run(|r| self.put_targets(caller, r)).await,
            O::RemoveTargets => call.run(|r| self.remove_targets(caller, r)).await,
            O::ListTargetsByRule => call.run(|r| self.list_targets_by_rule(caller, r)).await,
            O::ListRuleNamesByTarget => {
                call.run(|r| self.list_rule_names_by_target(caller, r))
                    .await
            }
            O::PutEvents => call.run(|r| self.put_events(caller, r)).await,
            O::TestEventPattern => call.run(test_event_pattern).await,
            O::DescribeEventBus => call.run(|r| self.describe_event_bus(caller, r)).await,
            O::ListEventBuses => call.run(|r| self.list_event_buses(caller, r)).await,
            O::TagResource => call.run(|r| self.tag_rule(caller, r)).await,
            O::UntagResource => call.run(|r| self.untag_rule(caller, r)).await,
            O::ListTagsForResource => call.run(|r| self.list_tags_of_rule(caller, r)).await,
        };
        answer.map_err(|error| error.internal_as(ApiError::internal))
    }

    async fn put_rule(
        &self,
        caller: &Caller,
        request: PutRuleRequest,
    ) -> Result<PutRuleResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let name = request.name.unwrap_or_default();
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if given(request.schedule_expression).is_some() {
            return Err(ApiError::validation(
                "ScheduleExpression is not supported: Ekiden runs no schedules. Give an EventPattern, and have \
                 what is to happen by the clock started by cron or a systemd timer.",
            ));
        }
        let pattern = given(request.event_pattern).ok_or_else(|| {
            ApiError::validation(
                "Parameter(s) EventPattern or ScheduleExpression must be specified.",
            )
        })?;
        EventPattern::parse(&pattern).map_err(|error| invalid_pattern(&error))?;
        let tags = new_tags(request.tags.unwrap_or_default())?;
        let rule = EventRule {
            pattern,
            description: given(request.description),
            state: request.state.unwrap_or_else(|| "ENABLED".to_owned()),
            role_arn: given(request.role_arn),
            created_by: Some(self.config.account_id.clone()),
            name,
        };
        let region = &caller.region;
        let put = self.store.put_event_rule(region, &rule, &tags, RULES_MAX);
        put.await
            .map_err(|error| rule_error(error, &rule.name, "rules"))?;
        self.reload().await?;
        info!(rule = rule.name, region, "rule set");
        Ok(PutRuleResponse {
            rule_arn: Some(rule_arn(region, &self.config.account_id, &rule.name)),
        })
    }

    async fn describe_rule(
        &self,
        caller: &Caller,
        request: DescribeRuleRequest,
    ) -> Result<DescribeRuleResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let rule = self.rule(caller, request.name.as_deref().unwrap_or_default())?;
        let facts = rule.stored.rule.clone();
        Ok(DescribeRuleResponse {
            arn: Some(rule.arn().to_owned()),
            name: Some(facts.name),
            event_pattern: Some(facts.pattern),
            state: Some(facts.state),
            description: facts.description,
            role_arn: facts.role_arn,
            created_by: facts.created_by,
            event_bus_name: Some(BUS.to_owned()),
            ..Default::default()
        })
    }

    async fn list_rules(
        &self,
        caller: &Caller,
        request: ListRulesRequest,
    ) -> Result<ListRulesResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let prefix = request.name_prefix.unwrap_or_default();
        let rules = self.rules_of(caller);
        let rules = rules.filter(|rule| rule.stored.rule.name.starts_with(&prefix));
        let list = format!("rules {prefix}");
        let (rules, next_token) = self.event_page(
            caller,
            &list,
            rules.collect(),
            request.limit,
            request.next_token,
        )?;
        let wire = |rule: Rule| {
            let arn = rule.arn().to_owned();
            let facts = rule.stored.rule;
            WireRule {
                arn: Some(arn),
                name: Some(facts.name),
                event_pattern: Some(facts.pattern),
                state: Some(facts.state),
                description: facts.description,
                role_arn: facts.role_arn,
                event_bus_name: Some(BUS.to_owned()),
                ..Default::default()
            }
        };
        Ok(ListRulesResponse {
            rules: Some(rules.into_iter().map(wire).collect()),
            next_token,
        })
    }

    async fn enable_rule(
        &self,
        caller: &Caller,
        request: EnableRuleRequest,
    ) -> Result<Nothing, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        self.set_state(caller, request.name, "ENABLED").await
    }

    async fn disable_rule(
        &self,
        caller: &Caller,
        request: DisableRuleRequest,
    ) -> Result<Nothing, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        self.set_state(caller, request.name, "DISABLED").await
    }

    async fn set_state(
        &self,
        caller: &Caller,
        name: Option<String>,
        state: &str,
    ) -> Result<Nothing, ApiError> {
        let name = name.unwrap_or_default();
        let state = state.to_owned();
        let set = move |rule: &mut EventRule, _: &mut Vec<(String, String)>| rule.state = state;
        let changed = self.store.change_event_rule(&caller.region, &name, set);
        changed
            .await
            .map_err(|error| rule_error(error, &name, "rules"))?;
        self.reload().await?;
        Ok(Nothing {})
    }

    async fn delete_rule(
        &self,
        caller: &Caller,
        request: DeleteRuleRequest,
    ) -> Result<Nothing, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let name = request.name.unwrap_or_default();
        let removed = self.store.remove_event_rule(&caller.region, &name).await;
        removed.map_err(|error| rule_error(error, &name, "rules"))?;
        self.reload().await?;
        Ok(Nothing {})
    }

    async fn put_targets(
        &self,
        caller: &Caller,
        request: PutTargetsRequest,
    ) -> Result<PutTargetsResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let name = request.rule.unwrap_or_default();
        self.rule(caller, &name)?;
        let (mut stored, mut failed) = (Vec::new(), Vec::new());
        for target in request.targets.unwrap_or_default() {
            let id = target.id.clone().unwrap_or_default();
            match self.check_target(caller, &target).await? {
                Ok(()) => stored.push(StoredTarget {
                    arn: target.arn.clone().unwrap_or_default(),
                    record: serde_json::to_string(&target)
                        .map_err(|error| ApiError::internal_service_error(error.to_string()))?,
                    id,
                }),
                Err(why) => failed.push(PutTargetsResultEntry {
                    target_id: Some(id),
                    error_code: Some("ValidationException".to_owned()),
                    error_message: Some(why),
                }),
            }
        }
        let put = self
            .store
            .put_event_targets(&caller.region, &name, &stored, TARGETS_MAX);
        put.await
            .map_err(|error| rule_error(error, &name, "targets of a rule"))?;
        self.reload().await?;
        Ok(PutTargetsResponse {
            failed_entry_count: Some(i32::try_from(failed.len()).unwrap_or(i32::MAX)),
            failed_entries: Some(failed),
        })
    }

    /// Whether events can go to a target; its fault if not.
    async fn check_target(
        &self,
        caller: &Caller,
        target: &Target,
    ) -> Result<Result<(), String>, ApiError> {
        let id = target.id.as_deref().unwrap_or_default();
        Input::of(target)
            .map_err(|error| ApiError::validation(format!("{error} for target {id}.")))?;
        let arn = target.arn.as_deref().unwrap_or_default();
        let destination = match Destination::parse(arn, &self.config.account_id) {
            Ok(destination) => destination,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let unused = [
            ("DeadLetterConfig", target.dead_letter_config.is_some()),
            ("HttpParameters", target.http_parameters.is_some()),
        ];
        if let Some((member, _)) = unused.iter().find(|(_, given)| *given) {
            return Ok(Err(format!("Ekiden does not support {member} of targets.")));
        }
        let Destination::Webhook { region, name, id } = destination else {
            return Ok(Ok(()));
        };
        let found = self.store.event_webhook(&region, &name).await;
        let found = found.map_err(|error| store_error(&error))?;
        let is_there = found.is_some_and(|found| found.webhook.id == id);
        Ok(match region == caller.region && is_there {
            true => Ok(()),
            false => Err(format!(
                "There is no webhook `{arn}` in {}; `Ekiden.PutWebhookTarget` makes one.",
                caller.region
            )),
        })
    }

    async fn remove_targets(
        &self,
        caller: &Caller,
        request: RemoveTargetsRequest,
    ) -> Result<RemoveTargetsResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let name = request.rule.unwrap_or_default();
        let ids = request.ids.unwrap_or_default();
        let removed = self.store.remove_event_targets(&caller.region, &name, &ids);
        removed
            .await
            .map_err(|error| rule_error(error, &name, "rules"))?;
        self.reload().await?;
        Ok(RemoveTargetsResponse {
            failed_entry_count: Some(0),
            failed_entries: Some(Vec::new()),
        })
    }

    async fn list_targets_by_rule(
        &self,
        caller: &Caller,
        request: ListTargetsByRuleRequest,
    ) -> Result<ListTargetsByRuleResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let name = request.rule.unwrap_or_default();
        let rule = self.rule(caller, &name)?;
        let targets = rule.stored.targets.iter().map(|target| {
            serde_json::from_str(&target.record)
                .map_err(|error| ApiError::internal_service_error(error.to_string()))
        });
        let targets = targets.collect::<Result<Vec<Target>, _>>()?;
        let list = format!("targets {name}");
        let (targets, next_token) =
            self.event_page(caller, &list, targets, request.limit, request.next_token)?;
        Ok(ListTargetsByRuleResponse {
            targets: Some(targets),
            next_token,
        })
    }

    async fn list_rule_names_by_target(
        &self,
        caller: &Caller,
        request: ListRuleNamesByTargetRequest,
    ) -> Result<ListRuleNamesByTargetResponse, ApiError> {
        self.check_bus(caller, request.event_bus_name.as_deref())?;
        let arn = request.target_arn.unwrap_or_default();
        let has = |rule: &Rule| rule.stored.targets.iter().any(|target| target.arn == arn);
        let names = self.rules_of(caller).filter(has);
        let names = names.map(|rule| rule.stored.rule.name).collect();
        let list = format!("rules of {arn}");
        let (names, next_token) =
            self.event_page(caller, &list, names, request.limit, request.next_token)?;
        Ok(ListRuleNamesByTargetResponse {
            rule_names: Some(names),
            next_token,
        })
    }

    async fn put_events(
        &self,
        caller: &Caller,
        request: PutEventsRequest,
    ) -> Result<PutEventsResponse, ApiError> {
        let entries = request.entries.unwrap_or_default();
        let bytes: usize = entries.iter().map(entry_bytes).sum();
        if bytes > ENTRIES_BYTES_MAX {
            return Err(ApiError::validation(format!(
                "Total size of the entries in the request is over the limit: {bytes} bytes of {ENTRIES_BYTES_MAX}."
            )));
        }
        let now = clock::now();
        let (mut events, mut results, mut failed) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            let bus = self.check_bus(caller, entry.event_bus_name.as_deref());
            let read = match bus {
                Ok(()) => custom_event(entry, now),
                Err(error) => Err(("InvalidArgument", error.message().to_owned())),
            };
            results.push(match read {
                Ok(event) => {
                    let event_id = Some(event.id.clone());
                    events.push(event);
                    PutEventsResultEntry {
                        event_id,
                        ..Default::default()
                    }
                }
                Err((code, message)) => {
                    failed += 1;
                    PutEventsResultEntry {
                        error_code: Some(code.to_owned()),
                        error_message: Some(message),
                        ..Default::default()
                    }
                }
            });
        }
        let put = self.events.put_custom(&caller.region, &events).await;
        put.map_err(|error| store_error(&error))?;
        Ok(PutEventsResponse {
            failed_entry_count: Some(failed),
            entries: Some(results),
        })
    }

    async fn describe_event_bus(
        &self,
        caller: &Caller,
        request: DescribeEventBusRequest,
    ) -> Result<DescribeEventBusResponse, ApiError> {
        self.check_bus(caller, request.name.as_deref())?;
        Ok(DescribeEventBusResponse {
            name: Some(BUS.to_owned()),
            arn: Some(self.bus_arn(caller)),
            ..Default::default()
        })
    }

    async fn list_event_buses(
        &self,
        caller: &Caller,
        request: ListEventBusesRequest,
    ) -> Result<ListEventBusesResponse, ApiError> {
        let bus = EventBus {
            name: Some(BUS.to_owned()),
            arn: Some(self.bus_arn(caller)),
            ..Default::default()
        };
        let wanted = BUS.starts_with(request.name_prefix.as_deref().unwrap_or_default());
        Ok(ListEventBusesResponse {
            event_buses: Some(wanted.then_some(bus).into_iter().collect()),
            next_token: None,
        })
    }

    async fn tag_rule(
        &self,
        caller: &Caller,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, ApiError> {
        let rule = self.rule_by_arn(caller, request.resource_arn.as_deref())?;
        let added = new_tags(request.tags.unwrap_or_default())?;
        let mut tags: BTreeMap<_, _> = rule.stored.tags.iter().cloned().collect();
        tags.extend(added);
        if tags.len() > TAGS_MAX {
            return Err(ApiError::validation(format!(
                "A rule may have {TAGS_MAX} tags; this one would have {}.",
                tags.len()
            )));
        }
        self.set_tags(caller, &rule, tags).await?;
        Ok(TagResourceResponse {})
    }

    async fn untag_rule(
        &self,
        caller: &Caller,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, ApiError> {
        let rule = self.rule_by_arn(caller, request.resource_arn.as_deref())?;
        let mut tags: BTreeMap<_, _> = rule.stored.tags.iter().cloned().collect();
        for key in request.tag_keys.unwrap_or_default() {
            tags.remove(&key);
        }
        self.set_tags(caller, &rule, tags).await?;
        Ok(UntagResourceResponse {})
    }

    async fn set_tags(
        &self,
        caller: &Caller,
        rule: &Rule,
        tags: BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let name = &rule.stored.rule.name;
        let set = move |_: &mut EventRule, stored: &mut Vec<(String, String)>| {
            *stored = tags.into_iter().collect();
        };
        let changed = self.store.change_event_rule(&caller.region, name, set);
        changed
            .await
            .map_err(|error| rule_error(error, name, "rules"))?;
        self.reload().await
    }

    async fn list_tags_of_rule(
        &self,
        caller: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, ApiError> {
        let arn = request.resource_arn.as_deref();
        if arn == Some(self.bus_arn(caller).as_str()) {
            return Ok(ListTagsForResourceResponse {
                tags: Some(Vec::new()),
            });
        }
        let rule = self.rule_by_arn(caller, arn)?;
        let tags = rule.stored.tags.iter().cloned().map(|(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        });
        Ok(ListTagsForResourceResponse {
            tags: Some(tags.collect()),
        })
    }

    fn bus_arn(&self, caller: &Caller) -> String {
        let (region, account) = (&caller.region, &self.config.account_id);
        format!("arn:aws:events:{region}:{account}:event-bus/{BUS}")
    }

    fn check_bus(&self, caller: &Caller, bus: Option<&str>) -> Result<(), ApiError> {
        match bus {
            None | Some(BUS) => Ok(()),
            Some(arn) if arn == self.bus_arn(caller) => Ok(()),
            Some(other) => Err(ApiError::resource_not_found(format!(
                "Event bus {other} does not exist. Ekiden has the bus `{BUS}` only."
            ))),
        }
    }

    fn rules_of(&self, caller: &Caller) -> impl Iterator<Item = Rule> + use<E> {
        let rules = self.events.rules();
        let region = caller.region.clone();
        let of_region = rules.iter().filter(|rule| rule.stored.region == region);
        of_region.cloned().collect::<Vec<_>>().into_iter()
    }

    fn rule(&self, caller: &Caller, name: &str) -> Result<Rule, ApiError> {
        let mut rules = self.rules_of(caller);
        rules
            .find(|rule| rule.stored.rule.name == name)
            .ok_or_else(|| unknown_rule(name))
    }

    fn rule_by_arn(&self, caller: &Caller, arn: Option<&str>) -> Result<Rule, ApiError> {
        let arn = arn.unwrap_or_default();
        let mut rules = self.rules_of(caller);
        rules.find(|rule| rule.arn() == arn).ok_or_else(|| {
            ApiError::resource_not_found(format!("There is no rule with the ARN {arn}."))
        })
    }

    async fn reload(&self) -> Result<(), ApiError> {
        let reloaded = self.events.reload().await;
        reloaded.map_err(|error: StoreError| store_error(&error))
    }

    /// A page of a list that is read whole; its places are counted.
    fn event_page<T>(
        &self,
        caller: &Caller,
        list: &str,
        mut all: Vec<T>,
        most: Option<i32>,
        token: Option<String>,
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let (list, region) = (format!("events {list}"), &caller.region);
        let most = most.map_or(PAGE_DEFAULT, |most| most.unsigned_abs() as usize);
        let first: usize = match token {
            None => 0,
            Some(token) => self
                .page_place(&list, region, &token)
                .and_then(|place| place.parse().ok())
                .ok_or_else(|| ApiError::validation("NextToken is not one of this list."))?,
        };
        let mut part = all.split_off(first.min(all.len()));
        let more = part.len() > most;
        part.truncate(most);
        let next = more.then(|| self.page_token(&list, region, &(first + most).to_string()));
        Ok((part, next))
    }
}

async fn test_event_pattern(
    request: TestEventPatternRequest,
) -> Result<TestEventPatternResponse, ApiError> {
    let pattern = EventPattern::parse(request.event_pattern.as_deref().unwrap_or_default());
    let pattern = pattern.map_err(|error| invalid_pattern(&error))?;
    let invalid =
        |why: String| ApiError::validation(format!("Parameter Event is not valid. Reason: {why}."));
    let event: Value = serde_json::from_str(request.event.as_deref().unwrap_or_default())
        .map_err(|error| invalid(format!("it is not JSON: {error}")))?;
    if let Some(missing) = EVENT_MEMBERS.iter().find(|name| event.get(name).is_none()) {
        return Err(invalid(format!("{missing} is a required member")));
    }
    Ok(TestEventPatternResponse {
        result: Some(pattern.matches(&event)),
    })
}

fn custom_event(
    entry: PutEventsRequestEntry,
    now: Timestamp,
) -> Result<CustomEvent, (&'static str, String)> {
    let required = |name: &str, value: Option<String>| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            let message =
                format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
            ("InvalidArgument", message)
        })
    };
    let source = required("Source", entry.source)?;
    let detail_type = required("DetailType", entry.detail_type)?;
    let detail = required("Detail", entry.detail)?;
    let theirs = ["aws.", "ekiden."]
        .iter()
        .any(|prefix| format!("{source}.").starts_with(prefix));
    if theirs {
        let message = "Not authorized for the source.".to_owned();
        return Err(("NotAuthorizedForSourceException", message));
    }
    let Ok(Value::Object(detail)) = serde_json::from_str(&detail) else {
        return Err(("MalformedDetail", "Detail is malformed.".to_owned()));
    };
    Ok(CustomEvent {
        id: uuid::Uuid::new_v4().to_string(),
        at: entry.time.map_or(now, |EpochSeconds(seconds)| {
            Timestamp::from_millis(seconds.saturating_mul(1000))
        }),
        source,
        detail_type,
        resources: entry.resources.unwrap_or_default(),
        detail,
    })
}

/// As EventBridge counts ("Calculating PutEvents event entry size").
fn entry_bytes(entry: &PutEventsRequestEntry) -> usize {
    let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let resources = entry.resources.iter().flatten().map(String::len);
    let time = entry.time.map_or(0, |_| TIME_BYTES);
    time + of(&entry.source) + of(&entry.detail_type) + of(&entry.detail) + resources.sum::<usize>()
}

/// Sorted by key.
fn new_tags(given: Vec<Tag>) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags = BTreeMap::new();
    for tag in given {
        let key = tag.key.unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ApiError::validation(format!(
                "The tag key {key} begins with `aws:`, which AWS keeps for itself."
            )));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    match tags.len() > TAGS_MAX {
        true => Err(ApiError::validation(format!(
            "A rule may have {TAGS_MAX} tags; these are {}.",
            tags.len()
        ))),
        false => Ok(tags.into_iter().collect()),
    }
}

fn invalid_pattern(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::invalid_event_pattern(format!("Event pattern is not valid. Reason: {error}."))
}

fn unknown_rule(name: &str) -> ApiError {
    ApiError::resource_not_found(format!("Rule {name} does not exist on EventBus {BUS}."))
}

fn rule_error(error: RuleError, name: &str, what: &str) -> ApiError {
    match error {
        RuleError::Unknown => unknown_rule(name),
        RuleError::Full => ApiError::limit_exceeded(format!(
            "The requested resource exceeds the maximum number allowed: there are as many {what} as there may be."
        )),
        RuleError::InUse(_) => ApiError::validation("Rule can't be deleted since it has targets."),
        RuleError::Store(error) => store_error(&error),
    }
}
