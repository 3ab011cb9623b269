//! The operations on alarms.

use ekiden_aws::{
    cloudwatch::shapes::{
        DeleteAlarmsInput, DescribeAlarmsForMetricInput, DescribeAlarmsForMetricOutput,
        DescribeAlarmsInput, DescribeAlarmsOutput, DisableAlarmActionsInput,
        EnableAlarmActionsInput, PutMetricAlarmInput, SetAlarmStateInput,
    },
    error::ApiError,
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_store::{
    alarms::{Alarm, AlarmChange, Standing, Watched},
    secrets::Found,
};

use super::{Api, Caller, alarm_settings, bad_token, pairs, tags::with_tags};
use crate::{
    alarms::{self, ALARMS_MAX, Evaluation, StateChange},
    api::store_error,
    clock,
};

/// Alarms of a page when a request does not say: CloudWatch's.
const PAGE_DEFAULT: usize = 50;

/// What page tokens are for.
const LIST: &str = "DescribeAlarms";

/// The state of an alarm that was not looked at yet.
const INSUFFICIENT_DATA: &str = "INSUFFICIENT_DATA";

impl<E: Engine> Api<E> {
    pub(super) fn alarm_arn(&self, region: &str, name: &str) -> String {
        alarms::alarm_arn(region, &self.config.account_id, name)
    }

    /// Makes an alarm, or configures it anew: then it keeps its state and its tags.
    pub(super) async fn put_metric_alarm(
        &self,
        caller: &Caller,
        mut request: PutMetricAlarmInput,
    ) -> Result<Nothing, ApiError> {
        let name = request.alarm_name.take().unwrap_or_default();
        let tags = with_tags(Default::default(), request.tags.take().unwrap_or_default())?;
        let config = alarm_settings::configuration(request)?;
        let now = clock::now();
        // What cannot be evaluated is refused now and not every minute in the log.
        let tried = config.clone();
        self.metric_work(move |store, _| Evaluation::of(store, &tried, INSUFFICIENT_DATA, now))
            .await?;
        let put = |found| match found {
            Found::None { others } if others >= ALARMS_MAX => {
                Err(ApiError::limit_exceeded_fault(format!(
                    "there are {ALARMS_MAX} alarms in {}, as many as there may be; delete some",
                    caller.region
                )))
            }
            Found::None { .. } => Ok(Alarm {
                name: name.clone(),
                config,
                configured_at: now,
                standing: Standing {
                    state: INSUFFICIENT_DATA.to_owned(),
                    reason: "Unchecked: Initial alarm creation".to_owned(),
                    reason_data: None,
                    updated_at: now,
                    transitioned_at: now,
                },
                tags,
            }),
            Found::One(alarm) => Ok(Alarm {
                config,
                configured_at: now,
                ..alarm
            }),
        };
        let put = |found| Ok::<_, ApiError>((AlarmChange::Put(Box::new(put(found)?)), ()));
        let stored = self.store.change_alarm(&caller.region, &name, put).await;
        stored.map_err(|error| store_error(&error))??;
        self.alarms.evaluate_one(&caller.region, &name).await;
        Ok(Nothing {})
    }

    pub(super) async fn describe_alarms(
        &self,
        caller: &Caller,
        request: DescribeAlarmsInput,
    ) -> Result<DescribeAlarmsOutput, ApiError> {
        let names = request.alarm_names.unwrap_or_default();
        if !names.is_empty() && request.alarm_name_prefix.is_some() {
            return Err(ApiError::invalid_parameter_combination(
                "The parameters AlarmNames and AlarmNamePrefix are mutually exclusive and you have specified both",
            ));
        }
        let place = |token: String| self.page_place(LIST, &caller.region, &token);
        let after = request
            .next_token
            .map(|token| place(token).ok_or_else(bad_token));
        let after = after.transpose()?.unwrap_or_default();
        let types = request.alarm_types.unwrap_or_default();
        let is_of_type = types.is_empty() || types.iter().any(|kind| kind == "MetricAlarm");
        // Only composite alarms have children, and are parents.
        let is_of_composite =
            request.children_of_alarm_name.is_some() || request.parents_of_alarm_name.is_some();
        let (prefix, state) = (request.alarm_name_prefix, request.state_value);
        let action = request.action_prefix;
        let mut found = self.region_alarms(caller).await?;
        found.retain(|alarm| {
            let name = &alarm.name;
            is_of_type
                && !is_of_composite
                && *name > after
                && (names.is_empty() || names.contains(name))
                && prefix
                    .as_ref()
                    .is_none_or(|prefix| name.starts_with(prefix))
                && state
                    .as_ref()
                    .is_none_or(|state| *state == alarm.standing.state)
                && action
                    .as_ref()
                    .is_none_or(|action| has_action(alarm, action))
        });
        let most = request.max_records.map(|most| most.unsigned_abs() as usize);
        let most = most.unwrap_or(PAGE_DEFAULT).max(names.len());
        let more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| more);
        Ok(DescribeAlarmsOutput {
            composite_alarms: Some(Vec::new()),
            next_token: last.map(|alarm| self.page_token(LIST, &caller.region, &alarm.name)),
            metric_alarms: Some(self.wire_alarms(caller, found)),
        })
    }

    pub(super) async fn describe_alarms_for_metric(
        &self,
        caller: &Caller,
        request: DescribeAlarmsForMetricInput,
    ) -> Result<DescribeAlarmsForMetricOutput, ApiError> {
        let (namespace, name) = (request.namespace, request.metric_name);
        let stat = request.statistic.or(request.extended_statistic);
        let period = request.period.map(i32::unsigned_abs);
        let mut dimensions = pairs(request.dimensions);
        dimensions.sort();
        let mut found = self.region_alarms(caller).await?;
        found.retain(|alarm| {
            let Watched::Metric(metric) = &alarm.config.watched else {
                return false;
            };
            let mut its = metric.dimensions.clone();
            its.sort();
            its == dimensions
                && namespace.as_ref() == Some(&metric.namespace)
                && name.as_ref() == Some(&metric.name)
                && stat.as_ref().is_none_or(|stat| *stat == metric.stat)
                && period.is_none_or(|period| period == metric.period_s)
                && request
                    .unit
                    .as_ref()
                    .is_none_or(|unit| Some(unit) == metric.unit.as_ref())
        });
        Ok(DescribeAlarmsForMetricOutput {
            metric_alarms: Some(self.wire_alarms(caller, found)),
        })
    }

    pub(super) async fn delete_alarms(
        &self,
        caller: &Caller,
        request: DeleteAlarmsInput,
    ) -> Result<Nothing, ApiError> {
        let names = request.alarm_names.unwrap_or_default();
        let deleted = self.store.delete_alarms(&caller.region, &names).await;
        match &deleted.map_err(|error| store_error(&error))?[..] {
            [] => Ok(Nothing {}),
            unknown => Err(ApiError::alarm_not_found(format!(
                "there is no alarm of the name `{}` in {}; nothing was deleted",
                unknown.join("`, `"),
                caller.region
            ))),
        }
    }

    /// Sets a state until the alarm is evaluated next.
    pub(super) async fn set_alarm_state(
        &self,
        caller: &Caller,
        request: SetAlarmStateInput,
    ) -> Result<Nothing, ApiError> {
        let name = request.alarm_name.unwrap_or_default();
        if let Some(data) = &request.state_reason_data
            && serde_json::from_str::<serde::de::IgnoredAny>(data).is_err()
        {
            return Err(ApiError::invalid_format(
                "the parameter StateReasonData is not JSON",
            ));
        }
        let now = clock::now();
        let set = |mut alarm: Alarm| {
            let previous = alarm.standing.clone();
            let state = request.state_value.unwrap_or_default();
            alarm.standing = Standing {
                transitioned_at: if state == previous.state {
                    previous.transitioned_at
                } else {
                    now
                },
                state,
                reason: request.state_reason.unwrap_or_default(),
                reason_data: request.state_reason_data,
                updated_at: now,
            };
            (alarm.clone(), (alarm, previous))
        };
        let Some((alarm, previous)) = self.change_alarm(caller, &name, set).await? else {
            return Err(ApiError::alarm_not_found(format!(
                "there is no alarm of the name `{name}` in {}",
                caller.region
            )));
        };
        if alarm.standing.state != previous.state {
            self.alarms.changed(StateChange {
                region: caller.region.clone(),
                alarm,
                previous,
            });
        }
        Ok(Nothing {})
    }

    pub(super) async fn enable_alarm_actions(
        &self,
        caller: &Caller,
        request: EnableAlarmActionsInput,
    ) -> Result<Nothing, ApiError> {
        self.switch_actions(caller, request.alarm_names, true).await
    }

    pub(super) async fn disable_alarm_actions(
        &self,
        caller: &Caller,
        request: DisableAlarmActionsInput,
    ) -> Result<Nothing, ApiError> {
        self.switch_actions(caller, request.alarm_names, false)
            .await
    }

    /// Of names that are no alarm's nothing is said, as by CloudWatch.
    async fn switch_actions(
        &self,
        caller: &Caller,
        names: Option<Vec<String>>,
        enabled: bool,
    ) -> Result<Nothing, ApiError> {
        for name in names.unwrap_or_default() {
            let switch = |mut alarm: Alarm| {
                alarm.config.actions_enabled = enabled;
                (alarm, ())
            };
            self.change_alarm(caller, &name, switch).await?;
        }
        Ok(Nothing {})
    }

    /// Changes the alarm of a name; `None` when there is no such one.
    async fn change_alarm<R>(
        &self,
        caller: &Caller,
        name: &str,
        change: impl FnOnce(Alarm) -> (Alarm, R),
    ) -> Result<Option<R>, ApiError> {
        let change = |found| match found {
            Found::None { .. } => (AlarmChange::None, None),
            Found::One(alarm) => {
                let (alarm, result) = change(alarm);
                (AlarmChange::Put(Box::new(alarm)), Some(result))
            }
        };
        let change = |found| Ok::<_, ApiError>(change(found));
        let changed = self.store.change_alarm(&caller.region, name, change).await;
        changed.map_err(|error| store_error(&error))?
    }

    /// Changes the tags of an alarm that an ARN names.
    pub(super) async fn change_alarm_tags(
        &self,
        caller: &Caller,
        arn: &str,
        change: impl FnOnce(&mut Alarm) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let unknown = || self.no_such_tagged(arn);
        let name = self.alarm_named(caller, arn).ok_or_else(unknown)?;
        let change = |found| match found {
            Found::None { .. } => Err(self.no_such_tagged(arn)),
            Found::One(mut alarm) => {
                change(&mut alarm)?;
                Ok((AlarmChange::Put(Box::new(alarm)), ()))
            }
        };
        let changed = self.store.change_alarm(&caller.region, name, change).await;
        changed.map_err(|error| store_error(&error))?
    }

    /// The name of the alarm that an ARN of this account and the caller's region names.
    pub(super) fn alarm_named<'a>(&self, caller: &Caller, arn: &'a str) -> Option<&'a str> {
        arn.strip_prefix(&*self.alarm_arn(&caller.region, ""))
    }

    pub(super) fn no_such_tagged(&self, arn: &str) -> ApiError {
        ApiError::tagged_not_found(format!(
            "there is no alarm with the ARN `{arn}`; an alarm's is such as {}",
            self.alarm_arn("us-east-1", "my-alarm")
        ))
    }

    async fn region_alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, ApiError> {
        let found = self.store.alarms(&caller.region).await;
        found.map_err(|error| store_error(&error))
    }

    fn wire_alarms(
        &self,
        caller: &Caller,
        alarms: Vec<Alarm>,
    ) -> Vec<ekiden_aws::cloudwatch::shapes::MetricAlarm> {
        let wire = |alarm: Alarm| {
            let arn = self.alarm_arn(&caller.region, &alarm.name);
            alarm_settings::wire(alarm, arn)
        };
        alarms.into_iter().map(wire).collect()
    }
}

fn has_action(alarm: &Alarm, prefix: &str) -> bool {
    let config = &alarm.config;
    let lists = [
        &config.ok_actions,
        &config.alarm_actions,
        &config.insufficient_data_actions,
    ];
    let mut all = lists.into_iter().flatten();
    all.any(|action| action.starts_with(prefix))
}
