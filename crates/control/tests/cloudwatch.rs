//! CloudWatch's operations over real sockets: in its three protocols, what is refused, and alarms.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use ekiden_aws::{
    client::ClientError,
    epoch_seconds::EpochSeconds,
    sigv4::{
        credentials::{Credentials, SecretAccessKey},
        signer::sign,
    },
};
use http::Request;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use support::World;

const TARGET: &str = "GraniteServiceVersion20100801";
const NAMESPACE: &str = "Shop";

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs()
}

/// The beginning of the minute that began so many minutes before the running one.
fn minute(back: u64) -> u64 {
    now() / 60 * 60 - back * 60
}

async fn call(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world.call(&format!("{TARGET}.{operation}"), &input).await
}

async fn done(world: &World, operation: &str, input: Value) -> Value {
    call(world, operation, input).await.unwrap()
}

/// Puts data in the namespace of the tests.
async fn put(world: &World, data: Value) {
    let input = json!({"Namespace": NAMESPACE, "MetricData": data});
    done(world, "PutMetricData", input).await;
}

async fn refused(world: &World, operation: &str, input: Value, code: &str, says: &str) {
    let error = call(world, operation, input.clone()).await.unwrap_err();
    assert_eq!(error.code(), Some(code), "{error} {input}");
    let text = error.to_string();
    assert!(text.contains(says), "{text}");
}

fn till(value: &str) -> Value {
    json!([{"Name": "Till", "Value": value}])
}

fn orders_stat(stat: &str) -> Value {
    json!({"Metric": {"Namespace": NAMESPACE, "MetricName": "Orders", "Dimensions": till("1")},
           "Period": 60, "Stat": stat})
}

/// Statistics of the orders of till 1 in the last 20 minutes.
fn statistics_of(stats: &[&str]) -> Value {
    json!({"Namespace": NAMESPACE, "MetricName": "Orders", "Dimensions": till("1"),
           "StartTime": minute(20), "EndTime": minute(0), "Period": 60, "Statistics": stats})
}

#[tokio::test]
async fn what_is_put_is_listed_and_read() {
    let mut world = World::new().await;
    let at = minute(3);
    put(
        &world,
        json!([
            {"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": at, "Value": 2, "Unit": "Count"},
            {"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": at + 30, "Value": 4.5, "Unit": "Count"},
            {"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": at + 60, "Unit": "Count",
             "StatisticValues": {"SampleCount": 3, "Sum": 9, "Minimum": 1, "Maximum": 5}},
            {"MetricName": "Orders", "Dimensions": till("2"), "Timestamp": at, "Unit": "Count",
             "Values": [1, 10], "Counts": [3, 1], "StorageResolution": 1},
            {"MetricName": "Queue", "Value": 1},
        ]),
    )
    .await;
    world.restart().await;

    let listed = done(&world, "ListMetrics", json!({"Namespace": NAMESPACE})).await;
    let names: Vec<&Value> = listed["Metrics"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 3, "{listed}");
    let filter = json!({"Dimensions": [{"Name": "Till", "Value": "2"}], "RecentlyActive": "PT3H"});
    let listed = done(&world, "ListMetrics", filter).await;
    let wanted = json!([{"Namespace": NAMESPACE, "MetricName": "Orders", "Dimensions": till("2")}]);
    assert_eq!(listed["Metrics"], wanted);

    let all = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"];
    let found = done(&world, "GetMetricStatistics", statistics_of(&all)).await;
    assert_eq!(found["Label"], "Orders");
    let wanted = json!([
        {"Timestamp": at, "SampleCount": 2.0, "Average": 3.25, "Sum": 6.5, "Minimum": 2.0, "Maximum": 4.5,
         "Unit": "Count"},
        {"Timestamp": at + 60, "SampleCount": 3.0, "Average": 3.0, "Sum": 9.0, "Minimum": 1.0, "Maximum": 5.0,
         "Unit": "Count"},
    ]);
    assert_eq!(found["Datapoints"], wanted);
    let mut extended = statistics_of(&[]);
    extended["Statistics"] = Value::Null;
    extended["ExtendedStatistics"] = json!(["p50", "p99.9"]);
    let found = done(&world, "GetMetricStatistics", extended).await;
    // Those of a statistic set are not known.
    let wanted = json!([{"Timestamp": at, "Unit": "Count", "ExtendedStatistics": {"p50": 2.0, "p99.9": 4.5}}]);
    assert_eq!(found["Datapoints"], wanted);
}

#[tokio::test]
async fn metric_data_come_in_pages_with_labels_and_expressions() {
    let world = World::new().await;
    let times: Vec<u64> = (0..5).map(|n| minute(10 - n)).collect();
    let data: Vec<Value> = (times.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]))
        .map(|(at, value)| {
            json!({"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": at, "Value": value})
        })
        .collect();
    put(&world, json!(data)).await;
    let queries = json!([
        {"Id": "orders", "MetricStat": orders_stat("Sum"), "Label": "till ${PROP('Dim.Till')}: ${LAST}"},
        {"Id": "double", "Expression": "orders * 2"},
        {"Id": "plain", "MetricStat": orders_stat("Maximum"), "ReturnData": false},
    ]);
    let mut input = json!({"MetricDataQueries": queries, "StartTime": minute(15), "EndTime": minute(0),
                           "ScanBy": "TimestampAscending"});
    let found = done(&world, "GetMetricData", input.clone()).await;
    let wanted = json!([
        {"Id": "orders", "Label": "till 1: 5", "Timestamps": times, "Values": [1.0, 2.0, 3.0, 4.0, 5.0],
         "StatusCode": "Complete"},
        {"Id": "double", "Label": "double", "Timestamps": times, "Values": [2.0, 4.0, 6.0, 8.0, 10.0],
         "StatusCode": "Complete"},
    ]);
    assert_eq!(found["MetricDataResults"], wanted);
    assert_eq!(
        (&found["NextToken"], &found["Messages"]),
        (&Value::Null, &json!([]))
    );

    input["MaxDatapoints"] = json!(3);
    let (mut values, mut pages) = (Vec::new(), 0);
    loop {
        let found = done(&world, "GetMetricData", input.clone()).await;
        for result in found["MetricDataResults"].as_array().unwrap() {
            values.extend(result["Values"].as_array().unwrap().clone());
        }
        pages += 1;
        if found["NextToken"].is_null() {
            break;
        }
        input["NextToken"] = found["NextToken"].clone();
    }
    assert_eq!(pages, 4);
    assert_eq!(
        json!(values),
        json!([1.0, 2.0, 3.0, 4.0, 5.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    );
    input["NextToken"] = json!("bm8");
    let value = "InvalidParameterValueException";
    refused(&world, "GetMetricData", input.clone(), value, "NextToken").await;
    input["NextToken"] = Value::Null;
    input["MaxDatapoints"] = json!(100_801);
    refused(&world, "GetMetricData", input, value, "MaxDatapoints").await;
}

#[tokio::test]
async fn queries_that_cannot_be_answered_are_refused() {
    let world = World::new().await;
    let query = |query: Value| json!({"MetricDataQueries": [query], "StartTime": minute(15), "EndTime": minute(0)});
    let validation = "ValidationException";
    for (bad, says) in [
        (json!({"Id": "a"}), "either MetricStat or Expression"),
        (
            json!({"Id": "A", "Expression": "1"}),
            "the id `A` is not valid",
        ),
        (
            json!({"Id": "a", "Expression": "b + 1"}),
            "no query with the id `b`",
        ),
        (json!({"Id": "a", "Expression": "SEARCH('x')"}), "SEARCH"),
        (
            json!({"Id": "a", "MetricStat": orders_stat("Sum"), "AccountId": "1"}),
            "the account 1",
        ),
        (
            json!({"MetricStat": orders_stat("Sum")}),
            "metricDataQueries.1.member.id",
        ),
    ] {
        refused(&world, "GetMetricData", query(bad), validation, says).await;
    }
    let bad = query(json!({"Id": "a", "MetricStat": orders_stat("TM(1%:2%)")}));
    let value = "InvalidParameterValueException";
    refused(&world, "GetMetricData", bad, value, "not supported here").await;
    let combination = "InvalidParameterCombinationException";
    for (change, code, says) in [
        (json!({"Statistics": []}), validation, "statistics"),
        (
            json!({"Statistics": null}),
            combination,
            "Must specify either",
        ),
        (
            json!({"ExtendedStatistics": ["p50"]}),
            combination,
            "mutually exclusive",
        ),
        (
            json!({"Statistics": null, "ExtendedStatistics": ["Sum"]}),
            value,
            "percentile",
        ),
        (json!({"StartTime": minute(0)}), value, "must be less than"),
        (json!({"Period": 61}), value, "multiple of 60"),
        (
            json!({"StartTime": minute(1441)}),
            combination,
            "exceeds the limit of 1,440",
        ),
        (json!({"Unit": "Orders"}), validation, "unit"),
        (json!({"Namespace": ":x"}), validation, "namespace"),
    ] {
        let mut input = statistics_of(&["Sum"]);
        for (name, changed) in change.as_object().unwrap() {
            input[name] = changed.clone();
        }
        refused(&world, "GetMetricStatistics", input, code, says).await;
    }
    let filters = vec![json!({"Name": "n"}); 11];
    refused(
        &world,
        "ListMetrics",
        json!({"Dimensions": filters}),
        validation,
        "dimensions",
    )
    .await;
}

#[tokio::test]
async fn data_that_cannot_be_are_refused_and_nothing_of_them_is_kept() {
    let world = World::new().await;
    let value = "InvalidParameterValueException";
    let combination = "InvalidParameterCombinationException";
    let missing = "MissingRequiredParameterException";
    let ours = json!([{"MetricName": "m", "Value": 1}]);
    let input = json!({"Namespace": "AWS/AppRunner", "MetricData": ours});
    let says = "The value AWS/AppRunner for parameter Namespace is invalid.";
    refused(&world, "PutMetricData", input, value, says).await;
    let input = json!({"Namespace": NAMESPACE});
    let says = "The parameter MetricData is required.";
    refused(&world, "PutMetricData", input, missing, says).await;
    let many = vec![json!({"MetricName": "m", "Value": 1}); 1001];
    let input = json!({"Namespace": NAMESPACE, "MetricData": many});
    let says = "The collection MetricData must not have a size greater than 1000.";
    refused(&world, "PutMetricData", input, value, says).await;
    let set = json!({"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1});
    let two_weeks = 14 * 24 * 3600;
    for (datum, code, says) in [
        (
            json!({}),
            missing,
            "MetricData.member.2.Value, MetricData.member.2.Values and",
        ),
        (
            json!({"Value": 1, "Values": [1]}),
            combination,
            "The parameters MetricData.member.2.Value and MetricData.member.2.Values are mutually exclusive",
        ),
        (
            json!({"Value": 1, "StatisticValues": set}),
            combination,
            "mutually exclusive",
        ),
        (
            json!({"Counts": [1], "Value": 1}),
            combination,
            "Counts requires",
        ),
        (
            json!({"Values": [1], "Counts": [1, 2]}),
            combination,
            "as many members",
        ),
        (
            json!({"Values": [1], "Counts": [0]}),
            value,
            "greater than 0",
        ),
        (
            json!({"Values": vec![1; 151]}),
            value,
            "The collection MetricData.member.2.Values must not have a size greater than 150.",
        ),
        (
            json!({"Value": 1e200}),
            value,
            "MetricData.member.2.Value is invalid",
        ),
        (
            json!({"StatisticValues": {"SampleCount": 0, "Sum": 0, "Minimum": 0, "Maximum": 0}}),
            value,
            "SampleCount",
        ),
        (
            json!({"Value": 1, "StorageResolution": 5}),
            value,
            "StorageResolution is invalid",
        ),
        (
            json!({"Value": 1, "Timestamp": now() - two_weeks - 60}),
            value,
            "The parameter MetricData.member.2.Timestamp must specify a time within the past two weeks.",
        ),
        (
            json!({"Value": 1, "Timestamp": now() + 7260}),
            value,
            "must specify a time no more than two hours in the future.",
        ),
        (
            json!({"Value": "NaN"}),
            "SerializationException",
            "expected f64, found a string",
        ),
    ] {
        let mut second = datum;
        second["MetricName"] = json!("m");
        let data = json!([{"MetricName": "m", "Value": 1}, second]);
        let input = json!({"Namespace": NAMESPACE, "MetricData": data});
        refused(&world, "PutMetricData", input, code, says).await;
    }
    let listed = done(&world, "ListMetrics", json!({})).await;
    let of_ours = listed["Metrics"].as_array().unwrap().iter();
    assert_eq!(
        of_ours
            .filter(|metric| metric["Namespace"] == NAMESPACE)
            .count(),
        0
    );
    // At the bounds all is taken.
    put(
        &world,
        json!(vec![json!({"MetricName": "m", "Value": 1}); 1000]),
    )
    .await;
    for at in [now() - two_weeks + 60, now() + 7140] {
        put(
            &world,
            json!([{"MetricName": "m", "Values": vec![1; 150], "Timestamp": at}]),
        )
        .await;
    }
}

fn alarm(change: Value) -> Value {
    let mut alarm = json!({
        "AlarmName": "orders", "Namespace": NAMESPACE, "MetricName": "Orders", "Dimensions": till("1"),
        "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 0.1,
        "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "missing",
    });
    for (name, changed) in change.as_object().unwrap() {
        alarm[name] = changed.clone();
    }
    alarm
}

async fn described(world: &World, name: &str) -> Value {
    let found = done(world, "DescribeAlarms", json!({"AlarmNames": [name]})).await;
    found["MetricAlarms"][0].clone()
}

#[tokio::test]
async fn an_alarm_lives_from_put_to_delete() {
    let mut world = World::new().await;
    let arn = "arn:aws:cloudwatch:us-east-1:100000000001:alarm:orders";
    let topic = "arn:aws:sns:us-east-1:100000000001:topic";
    let first = alarm(json!({
        "AlarmActions": [topic], "AlarmDescription": "too few", "Tags": [{"Key": "a", "Value": "1"}]
    }));
    done(&world, "PutMetricAlarm", first).await;
    world.restart().await;
    let found = described(&world, "orders").await;
    for (name, wanted) in [
        ("AlarmArn", json!(arn)),
        ("AlarmDescription", json!("too few")),
        ("ActionsEnabled", json!(true)),
        ("AlarmActions", json!([topic])),
        ("OKActions", json!([])),
        ("Statistic", json!("Sum")),
        ("Threshold", json!(0.1)),
        ("Dimensions", till("1")),
        ("TreatMissingData", json!("missing")),
        ("StateValue", json!("INSUFFICIENT_DATA")),
        ("StateReason", json!("Unchecked: Initial alarm creation")),
        ("DatapointsToAlarm", Value::Null),
    ] {
        assert_eq!(found[name], wanted, "{name} {found}");
    }

    // What it is configured as anew is looked at at once.
    let datum = json!([{"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": minute(1), "Value": 3}]);
    put(&world, datum).await;
    done(
        &world,
        "PutMetricAlarm",
        alarm(json!({"Threshold": 2, "EvaluationPeriods": 3})),
    )
    .await;
    let found = described(&world, "orders").await;
    assert_eq!(
        (&found["StateValue"], &found["AlarmDescription"]),
        (&json!("INSUFFICIENT_DATA"), &Value::Null)
    );
    let again = json!({"Threshold": 2, "EvaluationPeriods": 3, "DatapointsToAlarm": 1, "TreatMissingData": "ignore"});
    done(&world, "PutMetricAlarm", alarm(again)).await;
    let found = described(&world, "orders").await;
    assert_eq!(found["StateValue"], "ALARM", "{found}");
    let data: Value = serde_json::from_str(found["StateReasonData"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&data["recentDatapoints"], &data["threshold"]),
        (&json!([3.0]), &json!(2.0))
    );

    let set = json!({"AlarmName": "orders", "StateValue": "OK", "StateReason": "a test"});
    done(&world, "SetAlarmState", set).await;
    done(
        &world,
        "DisableAlarmActions",
        json!({"AlarmNames": ["orders", "nobody's"]}),
    )
    .await;
    let found = described(&world, "orders").await;
    let seen = (
        &found["StateValue"],
        &found["StateReason"],
        &found["ActionsEnabled"],
    );
    assert_eq!(seen, (&json!("OK"), &json!("a test"), &json!(false)));
    done(
        &world,
        "EnableAlarmActions",
        json!({"AlarmNames": ["orders"]}),
    )
    .await;
    assert_eq!(described(&world, "orders").await["ActionsEnabled"], true);

    let tag = json!({"ResourceARN": arn, "Tags": [{"Key": "b", "Value": "2"}]});
    done(&world, "TagResource", tag).await;
    done(
        &world,
        "UntagResource",
        json!({"ResourceARN": arn, "TagKeys": ["a", "z"]}),
    )
    .await;
    let tags = done(&world, "ListTagsForResource", json!({"ResourceARN": arn})).await;
    assert_eq!(tags["Tags"], json!([{"Key": "b", "Value": "2"}]));

    // Another region has alarms of its own.
    let other = world.client_in("eu-west-1");
    let elsewhere: Value = other
        .call(&format!("{TARGET}.DescribeAlarms"), &json!({}))
        .await
        .unwrap();
    assert_eq!(elsewhere["MetricAlarms"], json!([]));

    let delete = json!({"AlarmNames": ["orders", "nobody's"]});
    refused(
        &world,
        "DeleteAlarms",
        delete,
        "ResourceNotFound",
        "nobody's",
    )
    .await;
    done(&world, "DeleteAlarms", json!({"AlarmNames": ["orders"]})).await;
    assert_eq!(described(&world, "orders").await, Value::Null);
    let set = json!({"AlarmName": "orders", "StateValue": "OK", "StateReason": "a test"});
    refused(&world, "SetAlarmState", set, "ResourceNotFound", "orders").await;
    let gone = "ResourceNotFoundException";
    refused(
        &world,
        "ListTagsForResource",
        json!({"ResourceARN": arn}),
        gone,
        arn,
    )
    .await;
}

#[tokio::test]
async fn alarms_are_found_by_what_they_are() {
    let world = World::new().await;
    let topic = "arn:aws:sns:us-east-1:100000000001:topic";
    for n in 0..7 {
        let change = json!({"AlarmName": format!("a{n}"), "OKActions": if n == 3 { vec![topic] } else { vec![] }});
        done(&world, "PutMetricAlarm", alarm(change)).await;
    }
    let other = json!({"AlarmName": "b", "Dimensions": till("2"), "Statistic": null, "ExtendedStatistic": "p99",
                       "Period": 300});
    done(&world, "PutMetricAlarm", alarm(other)).await;
    done(
        &world,
        "SetAlarmState",
        json!({"AlarmName": "a5", "StateValue": "ALARM", "StateReason": ""}),
    )
    .await;
    let names = async |operation: &str, input: Value| {
        let found = done(&world, operation, input).await;
        let all = found["MetricAlarms"].as_array().unwrap().iter();
        let names: Vec<String> = all
            .map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), found["NextToken"].clone())
    };
    for (input, wanted) in [
        (json!({"AlarmNames": ["b", "a1", "no"]}), "a1 b"),
        (json!({"AlarmNamePrefix": "b"}), "b"),
        (json!({"StateValue": "ALARM"}), "a5"),
        (json!({"ActionPrefix": "arn:aws:sns"}), "a3"),
        (json!({"AlarmTypes": ["CompositeAlarm"]}), ""),
        (json!({}), "a0 a1 a2 a3 a4 a5 a6 b"),
    ] {
        assert_eq!(
            names("DescribeAlarms", input).await,
            (wanted.to_owned(), Value::Null)
        );
    }
    let (page, token) = names("DescribeAlarms", json!({"MaxRecords": 5})).await;
    assert_eq!(page, "a0 a1 a2 a3 a4");
    let rest = names(
        "DescribeAlarms",
        json!({"MaxRecords": 5, "NextToken": token}),
    )
    .await;
    assert_eq!(rest, ("a5 a6 b".to_owned(), Value::Null));
    let metric = json!({"Namespace": NAMESPACE, "MetricName": "Orders", "Dimensions": till("2")});
    assert_eq!(
        names("DescribeAlarmsForMetric", metric.clone()).await.0,
        "b"
    );
    for (name, value, wanted) in [
        ("ExtendedStatistic", json!("p99"), "b"),
        ("Statistic", json!("Sum"), ""),
        ("Period", json!(300), "b"),
        ("Period", json!(60), ""),
        ("Unit", json!("Count"), ""),
    ] {
        let mut metric = metric.clone();
        metric[name] = value;
        assert_eq!(
            names("DescribeAlarmsForMetric", metric).await.0,
            wanted,
            "{name}"
        );
    }
    let both = json!({"AlarmNames": ["b"], "AlarmNamePrefix": "b"});
    refused(
        &world,
        "DescribeAlarms",
        both,
        "InvalidParameterCombinationException",
        "AlarmNamePrefix",
    )
    .await;
}

#[tokio::test]
async fn an_alarm_can_be_on_an_expression() {
    let world = World::new().await;
    let orders = |till: &str, value: f64| {
        json!({"MetricName": "Orders", "Dimensions": [{"Name": "Till", "Value": till}], "Timestamp": minute(1),
               "Value": value})
    };
    put(&world, json!([orders("1", 3.0), orders("2", 1.0)])).await;
    let stat = |till: &str| {
        let mut stat = orders_stat("Sum");
        stat["Metric"]["Dimensions"][0]["Value"] = json!(till);
        stat
    };
    let metrics = json!([
        {"Id": "share", "Expression": "100 * a / (a + b)", "Label": "of till 1"},
        {"Id": "a", "MetricStat": stat("1"), "ReturnData": false},
        {"Id": "b", "MetricStat": stat("2"), "ReturnData": false},
    ]);
    let input = json!({"AlarmName": "share", "EvaluationPeriods": 1, "Threshold": 75,
                       "ComparisonOperator": "GreaterThanOrEqualToThreshold", "Metrics": metrics});
    done(&world, "PutMetricAlarm", input.clone()).await;
    let found = described(&world, "share").await;
    assert_eq!(
        (&found["StateValue"], &found["Metrics"]),
        (&json!("ALARM"), &input["Metrics"]),
        "{found}"
    );
}

#[tokio::test]
async fn alarms_that_cannot_be_evaluated_are_refused() {
    let world = World::new().await;
    let validation = "ValidationException";
    for (change, says) in [
        (json!({"Threshold": null}), "Threshold is required"),
        (json!({"MetricName": null}), "MetricName is required"),
        (json!({"Period": 10}), "multiple of 60"),
        (json!({"Period": 90}), "multiple of 60"),
        (json!({"DatapointsToAlarm": 2}), "at most EvaluationPeriods"),
        (json!({"EvaluationPeriods": 1441}), "across more than a day"),
        (
            json!({"EvaluationPeriods": 169, "Period": 3600}),
            "more than seven days",
        ),
        (
            json!({"TreatMissingData": "no"}),
            "TreatMissingData is `no`",
        ),
        (
            json!({"EvaluateLowSampleCountPercentile": "no"}),
            "must be evaluate or ignore",
        ),
        (
            json!({"ComparisonOperator": "LessThanLowerThreshold"}),
            "not supported here",
        ),
        (json!({"ComparisonOperator": "Equal"}), "comparisonOperator"),
        (
            json!({"ThresholdMetricId": "a"}),
            "ThresholdMetricId is not offered",
        ),
        (
            json!({"AlarmActions": ["mail me"]}),
            "Invalid arn syntax: mail me",
        ),
        (json!({"AlarmActions": vec!["arn:x"; 6]}), "alarmActions"),
        (
            json!({"Metrics": [{"Id": "a", "Expression": "1"}]}),
            "mutually exclusive",
        ),
    ] {
        refused(&world, "PutMetricAlarm", alarm(change), validation, says).await;
    }
    let value = "InvalidParameterValueException";
    let change = json!({"Statistic": null, "ExtendedStatistic": "tm90"});
    refused(
        &world,
        "PutMetricAlarm",
        alarm(change),
        value,
        "not supported here",
    )
    .await;
    let change = json!({"Statistic": null});
    let missing = "MissingRequiredParameterException";
    refused(
        &world,
        "PutMetricAlarm",
        alarm(change),
        missing,
        "ExtendedStatistic",
    )
    .await;
    let change = json!({"Tags": [{"Key": "aws:x", "Value": ""}]});
    refused(&world, "PutMetricAlarm", alarm(change), value, "reserved").await;
    let mut metrics = json!({"AlarmName": "m", "EvaluationPeriods": 1, "Threshold": 1,
                             "ComparisonOperator": "GreaterThanThreshold"});
    for (queries, says) in [
        (
            json!([{"Id": "a", "Expression": "b"}]),
            "no query with the id `b`",
        ),
        (
            json!([{"Id": "a", "Expression": "1", "ReturnData": false}]),
            "exactly one member",
        ),
        (json!([{"Id": "a"}]), "either MetricStat or Expression"),
    ] {
        metrics["Metrics"] = queries;
        refused(&world, "PutMetricAlarm", metrics.clone(), validation, says).await;
    }
    let found = done(&world, "DescribeAlarms", json!({})).await;
    assert_eq!(found["MetricAlarms"], json!([]));
}

// ---- the other protocols

const CBOR: [(&str, &str); 3] = [
    ("smithy-protocol", "rpc-v2-cbor"),
    ("content-type", "application/cbor"),
    ("accept", "application/cbor"),
];
const FORM: (&str, &str) = (
    "content-type",
    "application/x-www-form-urlencoded; charset=utf-8",
);

/// A signed request and its answer: status, head and body.
async fn exchange(
    world: &World,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let key = std::fs::read(world.dir.path().join("control/admin-key.json")).unwrap();
    let key: BTreeMap<String, String> = serde_json::from_slice(&key).unwrap();
    let credentials = Credentials {
        access_key_id: key["access_key_id"].clone(),
        secret_access_key: SecretAccessKey::new(key["secret_access_key"].clone()),
        session_token: None,
    };
    let mut request = Request::post(path).header("host", world.address().to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    let at = EpochSeconds(now());
    sign(
        &mut parts,
        body,
        &credentials,
        "us-east-1",
        "monitoring",
        at,
    )
    .unwrap();
    let mut bytes = format!("POST {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    let end = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(body);
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

async fn form(world: &World, parameters: &str) -> (u16, String) {
    let body = format!("{parameters}&Version=2010-08-01");
    let (status, _, body) = exchange(world, "/", &[FORM], body.as_bytes()).await;
    (status, String::from_utf8(body).unwrap())
}

async fn cbor(world: &World, operation: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let path = format!("/service/{TARGET}/operation/{operation}");
    exchange(world, &path, &CBOR, body).await
}

/// A value in CBOR; the numbers of members that are times get the tag of times.
fn to_cbor(value: &Value, is_time: bool, out: &mut Vec<u8>) {
    let head = |major: u8, number: u64, out: &mut Vec<u8>| {
        out.push(major << 5 | 27);
        out.extend_from_slice(&number.to_be_bytes());
    };
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(is) => out.push(0xf4 + u8::from(*is)),
        Value::Number(number) => {
            if is_time {
                out.push(0xc1);
            }
            match number.as_u64() {
                Some(number) => head(0, number, out),
                None => {
                    out.push(0xfb);
                    out.extend_from_slice(&number.as_f64().unwrap().to_be_bytes());
                }
            }
        }
        Value::String(text) => {
            head(3, text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(all) => {
            head(4, all.len() as u64, out);
            all.iter().for_each(|one| to_cbor(one, false, out));
        }
        Value::Object(members) => {
            head(5, members.len() as u64, out);
            for (name, member) in members {
                to_cbor(&json!(name), false, out);
                to_cbor(
                    member,
                    name.starts_with("Time") || name.ends_with("Time"),
                    out,
                );
            }
        }
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|found| found == part)
}

#[tokio::test]
async fn forms_are_understood_and_answered_in_xml() {
    let world = World::new().await;
    let at = minute(3);
    let put = format!(
        "Action=PutMetricData&Namespace=Shop&MetricData.member.1.MetricName=Orders&\
         MetricData.member.1.Dimensions.member.1.Name=Till&MetricData.member.1.Dimensions.member.1.Value=1&\
         MetricData.member.1.Timestamp={at}&MetricData.member.1.Values.member.1=2.5&\
         MetricData.member.1.Values.member.2=4&MetricData.member.1.Counts.member.1=1&\
         MetricData.member.1.Counts.member.2=2&MetricData.member.1.Unit=Count",
        at = iso(at)
    );
    let (status, body) = form(&world, &put).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<PutMetricDataResponse xmlns="), "{body}");
    let (status, body) = form(&world, "Action=ListMetrics&Namespace=Shop").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<MetricName>Orders</MetricName>"), "{body}");
    let get = format!(
        "Action=GetMetricStatistics&Namespace=Shop&MetricName=Orders&Dimensions.member.1.Name=Till&\
         Dimensions.member.1.Value=1&StartTime={}&EndTime={}&Period=60&Statistics.member.1=Sum&\
         Statistics.member.2=SampleCount",
        iso(minute(5)),
        iso(minute(0))
    );
    let (status, body) = form(&world, &get).await;
    assert_eq!(status, 200, "{body}");
    for part in ["<Sum>10.5</Sum>", "<SampleCount>3", "<Unit>Count</Unit>"] {
        assert!(body.contains(part), "{part} {body}");
    }
    let get = format!(
        "Action=GetMetricData&MetricDataQueries.member.1.Id=m&\
         MetricDataQueries.member.1.MetricStat.Metric.Namespace=Shop&\
         MetricDataQueries.member.1.MetricStat.Metric.MetricName=Orders&\
         MetricDataQueries.member.1.MetricStat.Metric.Dimensions.member.1.Name=Till&\
         MetricDataQueries.member.1.MetricStat.Metric.Dimensions.member.1.Value=1&\
         MetricDataQueries.member.1.MetricStat.Period=60&MetricDataQueries.member.1.MetricStat.Stat=p50&\
         StartTime={}&EndTime={}",
        iso(minute(5)),
        iso(minute(0))
    );
    let (status, body) = form(&world, &get).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("<Values><member>4"), "{body}");
    let bad = put.replace("=2.5", "=NaN");
    let (status, body) = form(&world, &bad).await;
    assert_eq!(status, 400);
    let says = "The value NaN for parameter MetricData.member.1.Values.member.1 is invalid.";
    assert!(
        body.contains("<Code>InvalidParameterValue</Code>") && body.contains(says),
        "{body}"
    );
    let alarm = "Action=PutMetricAlarm&AlarmName=a&Namespace=Shop&MetricName=Orders&Statistic=Sum&Period=60&\
                 EvaluationPeriods=1&Threshold=1&ComparisonOperator=GreaterThanThreshold";
    assert_eq!(form(&world, alarm).await.0, 200);
    let (_, body) = form(&world, "Action=DescribeAlarms&AlarmNames.member.1=a").await;
    assert!(
        body.contains("<StateValue>INSUFFICIENT_DATA</StateValue>"),
        "{body}"
    );
    let (status, body) = form(&world, "Action=DeleteAlarms&AlarmNames.member.1=b").await;
    assert_eq!(status, 404);
    assert!(body.contains("<Code>ResourceNotFound</Code>"), "{body}");
}

#[tokio::test]
async fn cbor_is_understood_and_answered_in_cbor() {
    let world = World::new().await;
    let at = minute(3);
    let datum =
        json!({"MetricName": "Orders", "Dimensions": till("1"), "Timestamp": at, "Value": 2.5});
    let encoded = |value: &Value| {
        let mut out = Vec::new();
        to_cbor(value, false, &mut out);
        out
    };
    let put = encoded(&json!({"Namespace": NAMESPACE, "MetricData": [datum]}));
    let (status, head, _) = cbor(&world, "PutMetricData", &put).await;
    assert_eq!(status, 200, "{head}");
    assert!(
        head.to_lowercase().contains("smithy-protocol: rpc-v2-cbor"),
        "{head}"
    );
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let place = put
            .windows(8)
            .position(|eight| eight == 2.5_f64.to_be_bytes())
            .unwrap();
        let mut put = put.clone();
        put[place..place + 8].copy_from_slice(&bad.to_be_bytes());
        let (status, head, body) = cbor(&world, "PutMetricData", &put).await;
        assert_eq!(status, 400);
        let code = "x-amzn-query-error: InvalidParameterValue;Sender";
        assert!(head.to_lowercase().contains(&code.to_lowercase()), "{head}");
        assert!(has(&body, b"MetricData.member.1.Value is invalid"));
    }
    let queries = json!([{"Id": "m", "MetricStat": orders_stat("Average")}]);
    let get = json!({"MetricDataQueries": queries, "StartTime": minute(5), "EndTime": minute(0)});
    let (status, _, body) = cbor(&world, "GetMetricData", &encoded(&get)).await;
    assert_eq!(status, 200);
    // A double, and a time of four bytes under its tag.
    assert!(
        has(&body, &[&[0xfb][..], &2.5_f64.to_be_bytes()].concat()),
        "{body:?}"
    );
    let time = [&[0xc1, 0x1a][..], &(at as u32).to_be_bytes()].concat();
    assert!(has(&body, &time), "{body:?}");
    let (status, _, body) = cbor(
        &world,
        "ListMetrics",
        &encoded(&json!({"Namespace": NAMESPACE})),
    )
    .await;
    assert_eq!(status, 200);
    assert!(has(&body, b"Orders"));
    let (status, _, _) = cbor(&world, "PutMetricAlarm", &encoded(&alarm(json!({})))).await;
    assert_eq!(status, 200);
    let (status, _, body) = cbor(&world, "DescribeAlarms", &encoded(&json!({}))).await;
    assert_eq!(status, 200);
    assert!(
        has(&body, &[&[0xfb][..], &0.1_f64.to_be_bytes()].concat()),
        "{body:?}"
    );
}

/// ISO 8601, as forms have times.
fn iso(seconds: u64) -> String {
    let at = jiff::Timestamp::from_second(seconds as i64).unwrap();
    at.to_string()
}
