//! CloudWatch's alarms: each is looked at every minute and its state stored when it becomes another one.
//!
//! What is done for an alarm is not done here: whoever is to act listens to [`Alarms::changes`].

mod evaluation;
mod reason;

use std::{sync::Arc, time::Duration};

use ekiden_metrics::{error::Error, store::MetricStore};
use ekiden_model::time::Timestamp;
use ekiden_store::{
    Store, StoreError,
    alarms::{Alarm, AlarmChange, Standing},
    secrets::Found,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::evaluation::Evaluation;
use crate::{clock, worker::Chain};

/// Alarms of a region: CloudWatch's quota.
pub(crate) const ALARMS_MAX: u64 = 5000;

/// How often alarms are looked at.
const EVALUATE_EVERY: Duration = Duration::from_secs(60);

/// How long after a minute's end: by then what was measured in it is recorded.
const AFTER_MINUTE: Duration = Duration::from_secs(10);

/// Changes that a listener may be behind; it is told when it misses older ones.
const CHANGES_HELD_MAX: usize = 256;

/// An alarm whose state has become another one.
#[derive(Debug)]
pub(crate) struct StateChange {
    /// The alarm's region.
    pub(crate) region: String,
    /// The alarm as it is now.
    pub(crate) alarm: Alarm,
    /// How things stood before.
    pub(crate) previous: Standing,
}

/// The ARN of an alarm.
pub(crate) fn alarm_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:cloudwatch:{region}:{account}:alarm:{name}")
}

/// All alarms.
pub(crate) struct Alarms {
    store: Arc<Store>,
    metrics: MetricStore,
    changes: broadcast::Sender<Arc<StateChange>>,
}

impl Alarms {
    pub(crate) fn new(store: Arc<Store>, metrics: MetricStore) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_HELD_MAX);
        Self {
            store,
            metrics,
            changes,
        }
    }

    /// What changes from now on, by evaluation or by SetAlarmState.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<StateChange>> {
        self.changes.subscribe()
    }

    /// Tells whoever listens.
    pub(crate) fn changed(&self, change: StateChange) {
        info!(
            alarm = change.alarm.name,
            region = change.region,
            from = change.previous.state,
            to = change.alarm.standing.state,
            "an alarm changed its state"
        );
        // Nobody may be listening.
        let _ = self.changes.send(Arc::new(change));
    }

    /// Evaluates alarms each minute until the control plane stops.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(until_due(clock::now())) => {} // a timer
            }
            match self.store.all_alarms().await {
                Ok(alarms) => self.evaluate(alarms, clock::now()).await,
                Err(error) => warn!(error = %Chain(&error), "alarms could not be read"),
            }
        }
    }

    /// Evaluates one alarm, if there is such a one.
    pub(crate) async fn evaluate_one(&self, region: &str, name: &str) {
        match self.store.alarm(region, name).await {
            Ok(Some(alarm)) => {
                let alarms = vec![(region.to_owned(), alarm)];
                self.evaluate(alarms, clock::now()).await;
            }
            Ok(None) => {}
            Err(error) => warn!(error = %Chain(&error), alarm = name, "an alarm could not be read"),
        }
    }

    /// Evaluates alarms, and stores and tells of those whose state is another one now.
    async fn evaluate(&self, alarms: Vec<(String, Alarm)>, now: Timestamp) {
        let metrics = self.metrics.clone();
        let evaluated = tokio::task::spawn_blocking(move || {
            let evaluate = |(region, alarm): (String, Alarm)| {
                let evaluation = evaluate(&metrics, &alarm, now)?;
                Some((region, alarm, evaluation))
            };
            alarms.into_iter().filter_map(evaluate).collect::<Vec<_>>()
        });
        let changed = match evaluated.await {
            Ok(changed) => changed,
            Err(error) => std::panic::resume_unwind(error.into_panic()), // never aborted
        };
        for (region, alarm, evaluation) in changed {
            match self.put(&region, &alarm, evaluation, now).await {
                Ok(None) => {}
                Ok(Some(now)) => self.changed(StateChange {
                    region,
                    alarm: now,
                    previous: alarm.standing,
                }),
                Err(error) => {
                    warn!(error = %Chain(&error), alarm = alarm.name, "an alarm's state could not be stored");
                }
            }
        }
    }

    /// Stores what was found, unless the alarm was changed meanwhile: then that is evaluated next time.
    async fn put(
        &self,
        region: &str,
        evaluated: &Alarm,
        evaluation: Evaluation,
        now: Timestamp,
    ) -> Result<Option<Alarm>, StoreError> {
        let put = |found: Found<Alarm>| match found {
            Found::One(alarm)
                if (&alarm.config, &alarm.standing) == (&evaluated.config, &evaluated.standing) =>
            {
                let standing = Standing {
                    state: evaluation.state.to_owned(),
                    reason: evaluation.reason,
                    reason_data: Some(evaluation.reason_data),
                    updated_at: now,
                    transitioned_at: now,
                };
                let alarm = Alarm { standing, ..alarm };
                (AlarmChange::Put(Box::new(alarm.clone())), Some(alarm))
            }
            Found::One(_) | Found::None { .. } => (AlarmChange::None, None),
        };
        let put = |found| Ok::<_, std::convert::Infallible>(put(found));
        let stored = self
            .store
            .change_alarm(region, &evaluated.name, put)
            .await?;
        let Ok(stored) = stored;
        Ok(stored)
    }
}

/// What an alarm's state is, when that is another one than before. Blocks.
fn evaluate(metrics: &MetricStore, alarm: &Alarm, now: Timestamp) -> Option<Evaluation> {
    match Evaluation::of(metrics, &alarm.config, &alarm.standing.state, now) {
        Ok(evaluation) => (evaluation.state != alarm.standing.state).then_some(evaluation),
        Err(error @ Error::Io { .. }) => {
            warn!(error = %Chain(&error), alarm = alarm.name, "an alarm could not be evaluated");
            None
        }
        Err(error) => {
            warn!(%error, alarm = alarm.name, "an alarm cannot be evaluated as it is configured");
            None
        }
    }
}

/// How long until alarms are to be evaluated next.
fn until_due(now: Timestamp) -> Duration {
    let every = EVALUATE_EVERY.as_millis() as u64;
    let past = (now.as_millis() + every - AFTER_MINUTE.as_millis() as u64) % every;
    Duration::from_millis(every - past)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ekiden_metrics::{
        datum::Datum,
        series::{Metric, Unit},
        settings::Settings,
    };
    use ekiden_store::alarms::{Configuration, Watched, WatchedMetric};

    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const REGION: &str = "us-east-1";

    #[test]
    fn alarms_are_due_ten_seconds_after_each_minute() {
        let due = |millis| until_due(Timestamp::from_millis(millis)).as_millis();
        assert_eq!(due(600_000), 10_000);
        assert_eq!(due(609_999), 1);
        assert_eq!(due(610_000), 60_000);
        assert_eq!(due(659_000), 11_000);
    }

    struct World {
        _dir: tempfile::TempDir,
        alarms: Alarms,
        now_ms: u64,
    }

    impl World {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("ekiden.db")).await.unwrap();
            let now_ms = clock::now().as_millis();
            let metrics = dir.path().join("metrics");
            let metrics = MetricStore::open(&metrics, Settings::default(), now_ms).unwrap();
            Self {
                _dir: dir,
                alarms: Alarms::new(Arc::new(store), metrics),
                now_ms,
            }
        }

        /// Records a value in the minute before the last one's end.
        fn measure(&self, value: f64) {
            let metric = Metric::new("Shop", "Orders", [("Till", "1")]).unwrap();
            let at = self.now_ms - MINUTE_MS;
            let metrics = &self.alarms.metrics;
            metrics
                .record(
                    &metric.in_unit(Unit::COUNT),
                    at,
                    &Datum::value(value),
                    self.now_ms,
                )
                .unwrap();
        }

        async fn configure(&self, name: &str, threshold: f64, treat_missing_data: &str) {
            let at = Timestamp::from_millis(1);
            let alarm = Alarm {
                name: name.to_owned(),
                config: Configuration {
                    description: None,
                    actions_enabled: true,
                    ok_actions: vec![],
                    alarm_actions: vec![],
                    insufficient_data_actions: vec![],
                    watched: Watched::Metric(WatchedMetric {
                        namespace: "Shop".to_owned(),
                        name: "Orders".to_owned(),
                        dimensions: vec![("Till".to_owned(), "1".to_owned())],
                        stat: "Sum".to_owned(),
                        period_s: 60,
                        unit: None,
                    }),
                    evaluation_periods: 1,
                    datapoints_to_alarm: None,
                    threshold,
                    comparison: "GreaterThanThreshold".to_owned(),
                    treat_missing_data: Some(treat_missing_data.to_owned()),
                    evaluate_low_sample_count_percentile: None,
                },
                configured_at: at,
                standing: Standing {
                    state: "INSUFFICIENT_DATA".to_owned(),
                    reason: "Unchecked: Initial alarm creation".to_owned(),
                    reason_data: None,
                    updated_at: at,
                    transitioned_at: at,
                },
                tags: BTreeMap::new(),
            };
            let put = AlarmChange::Put(Box::new(alarm));
            let put = |_| Ok::<_, ()>((put, ()));
            let store = &self.alarms.store;
            store
                .change_alarm(REGION, name, put)
                .await
                .unwrap()
                .unwrap();
        }

        /// Evaluates all, so many minutes from now; what the alarm is then, and why.
        async fn later(&self, name: &str, minutes: u64) -> (String, String) {
            let now = Timestamp::from_millis(self.now_ms + minutes * MINUTE_MS);
            let all = self.alarms.store.all_alarms().await.unwrap();
            self.alarms.evaluate(all, now).await;
            let alarm = self.alarms.store.alarm(REGION, name).await.unwrap();
            let standing = alarm.unwrap().standing;
            (standing.state, standing.reason)
        }
    }

    #[tokio::test]
    async fn an_alarm_goes_where_its_metric_goes_and_tells() {
        let world = World::new().await;
        let mut changes = world.alarms.changes();
        world.configure("orders", 4.0, "notBreaching").await;
        world.measure(3.0);
        let (state, reason) = world.later("orders", 0).await;
        assert_eq!(state, "OK");
        let wanted = "Threshold Crossed: 1 out of the last 1 datapoints [3.0 (";
        assert!(reason.starts_with(wanted), "{reason}");
        let wanted = ")] was not greater than the threshold (4.0) (minimum 1 datapoint for ALARM -> OK transition).";
        assert!(reason.ends_with(wanted), "{reason}");
        world.measure(1.5);
        let (state, reason) = world.later("orders", 0).await;
        assert_eq!(state, "ALARM");
        let wanted = ")] was greater than the threshold (4.0) (minimum 1 datapoint for OK -> ALARM transition).";
        assert!(
            reason.contains("[4.5 (") && reason.ends_with(wanted),
            "{reason}"
        );
        let (state, reason) = world.later("orders", 10).await;
        assert_eq!(state, "OK");
        let wanted = "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was \
                      treated as [NonBreaching].";
        assert_eq!(reason, wanted);
        world.later("orders", 11).await;

        let mut seen = Vec::new();
        while let Ok(change) = changes.try_recv() {
            assert_eq!((&*change.region, &*change.alarm.name), (REGION, "orders"));
            let (from, to) = (&change.previous.state, &change.alarm.standing.state);
            seen.push(format!("{from} {to}"));
        }
        assert_eq!(seen, ["INSUFFICIENT_DATA OK", "OK ALARM", "ALARM OK"]);
    }

    #[tokio::test]
    async fn nothing_known_is_insufficient_data() {
        let world = World::new().await;
        world.configure("orders", 4.0, "missing").await;
        world.measure(5.0);
        assert_eq!(world.later("orders", 0).await.0, "ALARM");
        let (state, reason) = world.later("orders", 10).await;
        assert_eq!(state, "INSUFFICIENT_DATA");
        assert_eq!(reason, "Insufficient Data: 1 datapoint was unknown.");
    }

    #[tokio::test]
    async fn what_was_found_of_an_older_configuration_is_not_stored() {
        let world = World::new().await;
        world.configure("orders", 4.0, "breaching").await;
        let old = world.alarms.store.all_alarms().await.unwrap();
        world.configure("orders", 4.0, "notBreaching").await;
        let now = Timestamp::from_millis(world.now_ms);
        world.alarms.evaluate(old, now).await;
        let alarm = world.alarms.store.alarm(REGION, "orders").await.unwrap();
        assert_eq!(alarm.unwrap().standing.state, "INSUFFICIENT_DATA");
        assert_eq!(world.later("orders", 0).await.0, "OK");
    }
}
