//! Secrets and parameters over the real API: how they are kept, and how services get them.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ekiden_aws::{apprunner::shapes as wire, client::ClientError};
use ekiden_engine::Engine;
use ekiden_model::instance::InstanceState;
use serde_json::{Value, json};

use crate::support::{World, source};

/// What must be found nowhere.
const VALUE: &str = "hunter2-correct-horse";

async fn sm(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world
        .call(&format!("secretsmanager.{operation}"), &input)
        .await
}

async fn ssm(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world.call(&format!("AmazonSSM.{operation}"), &input).await
}

#[track_caller]
fn refused(result: Result<Value, ClientError>, code: &str, message: &str) {
    match result.unwrap_err() {
        ClientError::Api {
            code: got,
            message: text,
            status,
            ..
        } => {
            assert_eq!(got, code, "{text}");
            assert_eq!(status, 400);
            assert!(text.contains(message), "{text}");
        }
        other => panic!("{other}"),
    }
}

/// A service's source with these secret variables.
fn secret_source(port: u16, secrets: &[(&str, &str)]) -> wire::SourceConfiguration {
    let mut source = source("ok", port);
    let image = source.image_repository.as_mut().unwrap();
    let pair = |(name, reference): &(&str, &str)| ((*name).into(), (*reference).into());
    image
        .image_configuration
        .as_mut()
        .unwrap()
        .runtime_environment_secrets = Some(secrets.iter().map(pair).collect());
    source
}

async fn create(
    world: &World,
    name: &str,
    port: u16,
    secrets: &[(&str, &str)],
) -> Result<String, ClientError> {
    let request = wire::CreateServiceRequest {
        service_name: Some(name.into()),
        source_configuration: Some(secret_source(port, secrets)),
        ..Default::default()
    };
    let answer: wire::CreateServiceResponse =
        world.call("AppRunner.CreateService", &request).await?;
    Ok(answer.service.unwrap().service_arn.unwrap())
}

/// The secret variables of the instances that run.
fn environments(world: &World) -> Vec<BTreeMap<String, String>> {
    let seen = world.engine.observe().borrow().clone();
    let runs = seen
        .instances
        .iter()
        .filter(|instance| matches!(instance.state, InstanceState::Running { .. }));
    runs.map(|instance| {
        let spec = world.engine.spec(instance.id).unwrap();
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        for value in spec.env.values() {
            assert!(!value.contains(VALUE), "it is among the plain variables");
        }
        spec.secret_env.iter().map(own).collect()
    })
    .collect()
}

/// The only running instance's.
#[track_caller]
fn environment(world: &World) -> BTreeMap<String, String> {
    let all = environments(world);
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

async fn deploy(world: &World, arn: &str) {
    world.simple("StartDeployment", arn).await.unwrap();
    assert_eq!(world.settled(arn).await, "RUNNING");
    // What served before is stopped behind the operation.
    world.until(|world| environments(world).len() == 1).await;
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

/// Looks for the value in every file of the control plane.
fn assert_nowhere_on_disk(world: &World) {
    let control = world.dir.path().join("control");
    // A database that is being closed moves what is in its log to the database, and the log is gone:
    // then all of it is read again.
    let files = loop {
        let paths = files_below(&control);
        let read = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes));
        match paths
            .into_iter()
            .map(read)
            .collect::<std::io::Result<Vec<_>>>()
        {
            Ok(files) => break files,
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(files.len() > 1, "there is a database");
    for (path, bytes) in files {
        let found = bytes
            .windows(VALUE.len())
            .any(|window| window == VALUE.as_bytes());
        assert!(!found, "the value is in {}", path.display());
    }
}

#[tokio::test]
async fn every_form_of_reference_reaches_the_instance() {
    let mut world = World::new().await;
    let text = format!(r#"{{"user":"ekiden","password":"{VALUE}","port":5432}}"#);
    let first = json!({"Name": "prod/db", "SecretString": "first"});
    let arn = sm(&world, "CreateSecret", first).await.unwrap()["ARN"].clone();
    let secret = arn.as_str().unwrap();
    let put = json!({"SecretId": secret, "SecretString": text});
    let version = sm(&world, "PutSecretValue", put).await.unwrap()["VersionId"].clone();
    let put = json!({"Name": "/web/key", "Value": VALUE, "Type": "SecureString"});
    ssm(&world, "PutParameter", put).await.unwrap();
    let put = json!({"Name": "plain", "Value": "a,b", "Type": "StringList"});
    ssm(&world, "PutParameter", put).await.unwrap();
    // Another region's, by its ARN.
    let elsewhere = json!({"Name": "far", "SecretString": "away"});
    let far: Value = world
        .client_in("eu-west-1")
        .call("secretsmanager.CreateSecret", &elsewhere)
        .await
        .unwrap();
    let without_suffix = &secret[..secret.len() - 7];
    let parameter = "arn:aws:ssm:us-east-1:100000000001:parameter";
    let references = [
        ("WHOLE", secret.to_owned()),
        ("USER", format!("{secret}:user::")),
        ("PORT_OF_DB", format!("{secret}:port::")),
        ("BEFORE", format!("{secret}::AWSPREVIOUS:")),
        (
            "EXACT",
            format!("{secret}:password:AWSCURRENT:{}", version.as_str().unwrap()),
        ),
        ("BARE", format!("{without_suffix}:user::")),
        ("BY_ARN", format!("{parameter}/web/key")),
        ("BY_NAME", "/web/key".to_owned()),
        ("OLD", "/web/key:1".to_owned()),
        ("LIST", format!("{parameter}/plain")),
        ("FAR", far["ARN"].as_str().unwrap().to_owned()),
    ];
    let references: Vec<(&str, &str)> = references.iter().map(|(n, r)| (*n, r.as_str())).collect();
    let service = create(&world, "web1", 7601, &references).await.unwrap();
    assert_eq!(world.settled(&service).await, "RUNNING");
    let got = environment(&world);
    let want = [
        ("WHOLE", text.as_str()),
        ("USER", "ekiden"),
        ("PORT_OF_DB", "5432"),
        ("BEFORE", "first"),
        ("EXACT", VALUE),
        ("BARE", "ekiden"),
        ("BY_ARN", VALUE),
        ("BY_NAME", VALUE),
        ("OLD", VALUE),
        ("LIST", "a,b"),
        ("FAR", "away"),
    ];
    for (name, value) in want {
        assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(got.len(), want.len());

    // Answers have the references, and nothing has the values.
    let described = serde_json::to_string(&world.describe(&service).await).unwrap();
    assert!(described.contains("AWSPREVIOUS") && !described.contains(VALUE));
    assert_nowhere_on_disk(&world);
    world.stop().await;
    assert_nowhere_on_disk(&world);
}

#[tokio::test]
async fn a_rotated_secret_shows_at_the_next_deployment_only() {
    let mut world = World::new().await;
    let put =
        |value: &str| json!({"Name": "key", "Value": value, "Type": "String", "Overwrite": true});
    ssm(&world, "PutParameter", put("one")).await.unwrap();
    let arn = create(&world, "web1", 7602, &[("KEY", "key")])
        .await
        .unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    ssm(&world, "PutParameter", put("two")).await.unwrap();

    // A replacement, after a restart, has the deployment's value.
    world.restart().await;
    let id = world.engine.observe().borrow().instances[0].id;
    world.engine.crash(id, 1);
    world
        .until(|world| world.running() == 1 && world.engine.spec(id).is_some())
        .await;
    assert_eq!(environment(&world)["KEY"], "one");
    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    world.simple("ResumeService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    assert_eq!(environment(&world)["KEY"], "one");

    deploy(&world, &arn).await;
    assert_eq!(environment(&world)["KEY"], "two");
}

#[tokio::test]
async fn a_deleted_secret_fails_the_next_deployment_and_nothing_that_runs() {
    let world = World::new().await;
    let made = json!({"Name": "db", "SecretString": VALUE});
    let made = sm(&world, "CreateSecret", made).await.unwrap();
    let secret = made["ARN"].as_str().unwrap();
    let references = [("KEY", secret), ("OTHER", "/no/such")];
    let arn = create(&world, "web1", 7603, &references[..1])
        .await
        .unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let gone = json!({"SecretId": "db", "ForceDeleteWithoutRecovery": true});
    sm(&world, "DeleteSecret", gone).await.unwrap();

    let id = world.engine.observe().borrow().instances[0].id;
    world.engine.crash(id, 1);
    world.until(|world| world.running() == 1).await;
    assert_eq!(environment(&world)["KEY"], VALUE);

    world.simple("StartDeployment", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let operation = world.newest_operation(&arn).await;
    assert_eq!(operation.status, "ROLLBACK_SUCCEEDED");
    let reason = operation.failure.unwrap().reason;
    let want = format!("Failed to retrieve secrets: KEY: {secret}: there is no such secret");
    assert_eq!(reason, want);
    assert_eq!(environment(&world)["KEY"], VALUE);

    // A first deployment says every variable that lacks.
    let failed = create(&world, "web2", 7604, &references).await.unwrap();
    assert_eq!(world.settled(&failed).await, "CREATE_FAILED");
    let reason = world
        .newest_operation(&failed)
        .await
        .failure
        .unwrap()
        .reason;
    assert!(
        reason.ends_with("; OTHER: /no/such: there is no such parameter"),
        "{reason}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_variable_fails_without_its_value() {
    let world = World::new().await;
    let made = json!({"Name": "plain", "SecretString": VALUE});
    let plain = sm(&world, "CreateSecret", made).await.unwrap()["ARN"].clone();
    let made = json!({"Name": "bytes", "SecretBinary": "aHVudGVyMg=="});
    let bytes = sm(&world, "CreateSecret", made).await.unwrap()["ARN"].clone();
    let made = json!({"Name": "nul", "SecretString": format!("{VALUE}\0")});
    let nul = sm(&world, "CreateSecret", made).await.unwrap()["ARN"].clone();
    let made = json!({"Name": "empty"});
    let empty = sm(&world, "CreateSecret", made).await.unwrap()["ARN"].clone();
    let text = |arn: &Value| arn.as_str().unwrap().to_owned();
    for (number, (reference, why)) in [
        (
            format!("{}:user::", text(&plain)),
            "it is no JSON object, and so has no key `user`",
        ),
        (text(&bytes), "it is bytes, and a variable holds text"),
        (text(&nul), "it has a zero byte, which no variable can hold"),
        (
            text(&empty),
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
        ),
        (
            text(&plain).replace("100000000001", "123456789012"),
            "it belongs to another account; this installation's is 100000000001",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("web{number}");
        let arn = create(&world, &name, 7605, &[("KEY", &reference)])
            .await
            .unwrap();
        assert_eq!(world.settled(&arn).await, "CREATE_FAILED");
        let reason = world.newest_operation(&arn).await.failure.unwrap().reason;
        let want = format!("Failed to retrieve secrets: KEY: {reference}: {why}");
        assert_eq!(reason, want);
    }
}

#[tokio::test]
async fn references_are_checked_with_the_request() {
    let world = World::new().await;
    for (secrets, want) in [
        (
            &[("KEY", "arn:aws:s3:us-east-1:100000000001:secret:x")][..],
            "the value of KEY is not a reference to a secret",
        ),
        (&[("PORT", "/a")], "Environment variable PORT is reserved"),
    ] {
        let refused = create(&world, "web1", 7606, secrets).await.unwrap_err();
        assert_eq!(refused.code(), Some("InvalidRequestException"));
        assert!(refused.to_string().contains(want), "{refused}");
    }
}

#[tokio::test]
async fn secrets_live_as_secrets_manager_has_them() {
    let world = World::new().await;
    let token = "a".repeat(32);
    let create = json!({"Name": "db", "SecretString": "one", "ClientRequestToken": token,
        "Tags": [{"Key": "team", "Value": "blue"}]});
    let made = sm(&world, "CreateSecret", create.clone()).await.unwrap();
    let arn = made["ARN"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:100000000001:secret:db-"));
    assert_eq!(arn.rsplit('-').next().unwrap().len(), 6);
    assert_eq!(made["VersionId"], token);
    assert_eq!(
        sm(&world, "CreateSecret", create).await.unwrap(),
        made,
        "the same again"
    );
    let other = json!({"Name": "db", "SecretString": "other"});
    refused(
        sm(&world, "CreateSecret", other).await,
        "ResourceExistsException",
        "The operation failed because the secret db already exists.",
    );

    for id in ["db", arn, &arn[..arn.len() - 7]] {
        let got = sm(&world, "GetSecretValue", json!({"SecretId": id}))
            .await
            .unwrap();
        assert_eq!(
            (&got["SecretString"], &got["ARN"]),
            (&json!("one"), &json!(arn))
        );
        assert_eq!(got["VersionStages"], json!(["AWSCURRENT"]));
    }
    refused(
        sm(&world, "GetSecretValue", json!({"SecretId": "no"})).await,
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    );
    let put = json!({"SecretId": "db", "SecretString": "two", "ClientRequestToken": token});
    refused(
        sm(&world, "PutSecretValue", put).await,
        "ResourceExistsException",
        &token,
    );
    let put = json!({"SecretId": "db", "SecretBinary": "AAEC"});
    let second = sm(&world, "PutSecretValue", put).await.unwrap();
    let got = sm(&world, "GetSecretValue", json!({"SecretId": "db"}))
        .await
        .unwrap();
    assert_eq!(
        (&got["SecretBinary"], &got["SecretString"]),
        (&json!("AAEC"), &Value::Null)
    );
    let previous = json!({"SecretId": "db", "VersionStage": "AWSPREVIOUS"});
    let got = sm(&world, "GetSecretValue", previous).await.unwrap();
    assert_eq!(got["SecretString"], "one");
    let swap = json!({"SecretId": "db", "VersionStage": "AWSCURRENT", "MoveToVersionId": token,
        "RemoveFromVersionId": second["VersionId"]});
    sm(&world, "UpdateSecretVersionStage", swap).await.unwrap();
    let update = json!({"SecretId": "db", "Description": "of the shop"});
    sm(&world, "UpdateSecret", update).await.unwrap();
    let described = sm(&world, "DescribeSecret", json!({"SecretId": arn}))
        .await
        .unwrap();
    assert_eq!(
        described["VersionIdsToStages"][&token],
        json!(["AWSCURRENT"])
    );
    assert_eq!(described["Description"], "of the shop");
    assert_eq!(described["Tags"], json!([{"Key": "team", "Value": "blue"}]));
    assert!(!described.to_string().contains("one"));

    let tag = json!({"SecretId": "db", "Tags": [{"Key": "k", "Value": "v"}]});
    assert_eq!(sm(&world, "TagResource", tag).await.unwrap(), json!({}));
    let untag = json!({"SecretId": "db", "TagKeys": ["team"]});
    sm(&world, "UntagResource", untag).await.unwrap();
    let listed = sm(&world, "ListSecrets", json!({})).await.unwrap();
    assert_eq!(
        listed["SecretList"][0]["Tags"],
        json!([{"Key": "k", "Value": "v"}])
    );
    let policy = sm(&world, "GetResourcePolicy", json!({"SecretId": "db"}))
        .await
        .unwrap();
    assert_eq!(
        (&policy["Name"], &policy["ResourcePolicy"]),
        (&json!("db"), &Value::Null)
    );

    let days = json!({"SecretId": "db", "RecoveryWindowInDays": 6});
    refused(
        sm(&world, "DeleteSecret", days).await,
        "InvalidParameterException",
        "between 7 and 30",
    );
    sm(&world, "DeleteSecret", json!({"SecretId": "db"}))
        .await
        .unwrap();
    refused(
        sm(&world, "GetSecretValue", json!({"SecretId": "db"})).await,
        "InvalidRequestException",
        "marked for deletion",
    );
    let again = json!({"Name": "db", "SecretString": "x"});
    refused(
        sm(&world, "CreateSecret", again).await,
        "InvalidRequestException",
        "already scheduled",
    );
    let described = sm(&world, "DescribeSecret", json!({"SecretId": "db"}))
        .await
        .unwrap();
    assert!(described["DeletedDate"].is_u64());
    sm(&world, "RestoreSecret", json!({"SecretId": "db"}))
        .await
        .unwrap();
    let got = sm(&world, "GetSecretValue", json!({"SecretId": "db"}))
        .await
        .unwrap();
    assert_eq!(got["SecretString"], "one");
    let force = json!({"SecretId": "db", "ForceDeleteWithoutRecovery": true});
    sm(&world, "DeleteSecret", force.clone()).await.unwrap();
    sm(&world, "DeleteSecret", force).await.unwrap();
    let renewed = json!({"Name": "db", "SecretString": "x"});
    let renewed = sm(&world, "CreateSecret", renewed).await.unwrap();
    assert_ne!(renewed["ARN"], arn, "another suffix");
    let old = sm(&world, "GetSecretValue", json!({"SecretId": arn})).await;
    refused(old, "ResourceNotFoundException", "can't find");
}

#[tokio::test]
async fn bad_input_of_secrets_is_refused_and_never_repeated() {
    let world = World::new().await;
    let name = json!({"Name": "a b", "SecretString": "x"});
    refused(
        sm(&world, "CreateSecret", name).await,
        "InvalidParameterException",
        "Invalid name",
    );
    let long = json!({"Name": "x", "SecretString": VALUE.repeat(4000)});
    let refusal = sm(&world, "CreateSecret", long).await.unwrap_err();
    assert_eq!(refusal.code(), Some("ValidationException"));
    assert!(!refusal.to_string().contains(VALUE), "{refusal}");
    let both = json!({"Name": "x", "SecretString": "x", "SecretBinary": "AAEC"});
    refused(
        sm(&world, "CreateSecret", both).await,
        "InvalidParameterException",
        "both",
    );
    let bytes = json!({"Name": "x", "SecretBinary": VALUE});
    let refusal = sm(&world, "CreateSecret", bytes).await.unwrap_err();
    assert_eq!(refusal.code(), Some("SerializationException"));
    assert!(!refusal.to_string().contains(VALUE), "{refusal}");
    let token = json!({"NextToken": "made up"});
    refused(
        sm(&world, "ListSecrets", token).await,
        "InvalidNextTokenException",
        "NextToken",
    );
    let nothing = sm(&world, "RotateSecret", json!({})).await.unwrap_err();
    assert_eq!(nothing.code(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn lists_go_on_from_page_to_page_and_quotas_end_them() {
    let world = World::configured(|config| {
        config.quotas.secrets = 5;
        config.quotas.parameters = 5;
    })
    .await;
    for number in 0..5 {
        let name = format!("s{number}");
        sm(
            &world,
            "CreateSecret",
            json!({"Name": name, "SecretString": "x"}),
        )
        .await
        .unwrap();
        let put = json!({"Name": format!("/p/{number}"), "Value": "x", "Type": "String"});
        ssm(&world, "PutParameter", put).await.unwrap();
    }
    let more = json!({"Name": "more", "Value": "x", "Type": "String", "SecretString": "x"});
    refused(
        sm(&world, "CreateSecret", more.clone()).await,
        "LimitExceededException",
        "quotas.secrets",
    );
    let more = json!({"Name": "more", "Value": "x", "Type": "String"});
    refused(
        ssm(&world, "PutParameter", more).await,
        "ParameterLimitExceeded",
        "quotas.parameters",
    );

    let mut names = Vec::new();
    let mut input = json!({"MaxResults": 2, "SortBy": "name", "SortOrder": "desc"});
    loop {
        let page = sm(&world, "ListSecrets", input.clone()).await.unwrap();
        let list = page["SecretList"].as_array().unwrap();
        names.extend(
            list.iter()
                .map(|secret| secret["Name"].as_str().unwrap().to_owned()),
        );
        if page["NextToken"].is_null() {
            break;
        }
        input["NextToken"] = page["NextToken"].clone();
    }
    assert_eq!(names, ["s4", "s3", "s2", "s1", "s0"]);
    let of_another_list = json!({"NextToken": input["NextToken"], "SortBy": "name"});
    let taken = sm(&world, "ListSecrets", of_another_list).await;
    refused(taken, "InvalidNextTokenException", "NextToken");

    let mut names = Vec::new();
    let mut input = json!({"Path": "/p", "MaxResults": 2});
    loop {
        let page = ssm(&world, "GetParametersByPath", input.clone())
            .await
            .unwrap();
        let list = page["Parameters"].as_array().unwrap();
        names.extend(
            list.iter()
                .map(|found| found["Name"].as_str().unwrap().to_owned()),
        );
        if page["NextToken"].is_null() {
            break;
        }
        input["NextToken"] = page["NextToken"].clone();
    }
    assert_eq!(names, ["/p/0", "/p/1", "/p/2", "/p/3", "/p/4"]);
}

#[tokio::test]
async fn parameters_live_as_parameter_store_has_them() {
    let world = World::new().await;
    let put = json!({"Name": "/web/key", "Value": VALUE, "Type": "SecureString",
        "Description": "of the shop", "Tags": [{"Key": "team", "Value": "blue"}]});
    let made = ssm(&world, "PutParameter", put.clone()).await.unwrap();
    assert_eq!(made, json!({"Version": 1, "Tier": "Standard"}));
    refused(
        ssm(&world, "PutParameter", put).await,
        "ParameterAlreadyExists",
        "already exists",
    );
    let get = |open: bool| json!({"Name": "/web/key", "WithDecryption": open});
    let got = ssm(&world, "GetParameter", get(true)).await.unwrap();
    let got = &got["Parameter"];
    assert_eq!(
        (&got["Value"], &got["Type"]),
        (&json!(VALUE), &json!("SecureString"))
    );
    assert_eq!(
        got["ARN"],
        "arn:aws:ssm:us-east-1:100000000001:parameter/web/key"
    );
    assert_eq!(
        (&got["Version"], &got["DataType"]),
        (&json!(1), &json!("text"))
    );
    let sealed = ssm(&world, "GetParameter", get(false)).await.unwrap();
    assert_ne!(sealed["Parameter"]["Value"], VALUE);
    refused(
        ssm(&world, "GetParameter", json!({"Name": "no"})).await,
        "ParameterNotFound",
        "Parameter no not found.",
    );

    let put = json!({"Name": "/web/key", "Value": "two", "Overwrite": true});
    let made = ssm(&world, "PutParameter", put).await.unwrap();
    assert_eq!(made["Version"], 2);
    let label = json!({"Name": "/web/key", "ParameterVersion": 1, "Labels": ["old", "1no"]});
    let labelled = ssm(&world, "LabelParameterVersion", label).await.unwrap();
    assert_eq!(
        labelled,
        json!({"InvalidLabels": ["1no"], "ParameterVersion": 1})
    );
    for selector in ["1", "old"] {
        let get = json!({"Name": format!("/web/key:{selector}"), "WithDecryption": true});
        let got = ssm(&world, "GetParameter", get).await.unwrap();
        assert_eq!(got["Parameter"]["Value"], VALUE);
        assert_eq!(got["Parameter"]["Selector"], format!(":{selector}"));
    }
    let none = json!({"Name": "/web/key:9"});
    refused(
        ssm(&world, "GetParameter", none).await,
        "ParameterVersionNotFound",
        "version 9",
    );
    let names = json!({"Names": ["/web/key", "no", "/web/key:9"], "WithDecryption": true});
    let got = ssm(&world, "GetParameters", names).await.unwrap();
    assert_eq!(got["Parameters"][0]["Value"], "two");
    assert_eq!(got["InvalidParameters"], json!(["no", "/web/key:9"]));
    let history = json!({"Name": "/web/key", "WithDecryption": true});
    let history = ssm(&world, "GetParameterHistory", history).await.unwrap();
    assert_eq!(history["Parameters"][0]["Labels"], json!(["old"]));
    assert_eq!(history["Parameters"][1]["Value"], "two");

    let filter = json!({"ParameterFilters":
        [{"Key": "Name", "Option": "Equals", "Values": ["/web/key"]}]});
    let described = ssm(&world, "DescribeParameters", filter).await.unwrap();
    let metadata = &described["Parameters"][0];
    assert_eq!(
        (&metadata["Version"], &metadata["KeyId"]),
        (&json!(2), &json!("alias/aws/ssm"))
    );
    assert_eq!(metadata["Description"], "of the shop");
    assert!(metadata["Value"].is_null());
    let filter = json!({"ParameterFilters": [{"Key": "Label", "Values": ["x"]}]});
    refused(
        ssm(&world, "DescribeParameters", filter).await,
        "InvalidFilterKey",
        "Label",
    );

    let resource = json!({"ResourceType": "Parameter", "ResourceId": "/web/key"});
    let tags = ssm(&world, "ListTagsForResource", resource.clone())
        .await
        .unwrap();
    assert_eq!(tags["TagList"], json!([{"Key": "team", "Value": "blue"}]));
    let mut change = resource.clone();
    change["TagKeys"] = json!(["team"]);
    ssm(&world, "RemoveTagsFromResource", change).await.unwrap();
    let mut change = resource.clone();
    change["Tags"] = json!([{"Key": "a", "Value": "b"}]);
    ssm(&world, "AddTagsToResource", change).await.unwrap();
    let tags = ssm(&world, "ListTagsForResource", resource.clone())
        .await
        .unwrap();
    assert_eq!(tags["TagList"], json!([{"Key": "a", "Value": "b"}]));

    let large = json!({"Name": "l", "Value": "x".repeat(5000), "Type": "String"});
    refused(
        ssm(&world, "PutParameter", large.clone()).await,
        "ValidationException",
        "4096",
    );
    let mut large = large;
    large["Tier"] = json!("Intelligent-Tiering");
    let made = ssm(&world, "PutParameter", large).await.unwrap();
    assert_eq!(made["Tier"], "Advanced");
    let bad = json!({"Name": "n", "Value": "12a", "Type": "String", "AllowedPattern": "[0-9]+"});
    refused(
        ssm(&world, "PutParameter", bad).await,
        "ParameterPatternMismatchException",
        "[0-9]+",
    );
    let many: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let many = ssm(&world, "GetParameters", json!({"Names": many})).await;
    refused(
        many,
        "ValidationException",
        "'names' failed to satisfy constraint",
    );

    assert_nowhere_on_disk(&world);
    let delete = json!({"Names": ["/web/key", "no"]});
    let deleted = ssm(&world, "DeleteParameters", delete).await.unwrap();
    assert_eq!(
        deleted,
        json!({"DeletedParameters": ["/web/key"], "InvalidParameters": ["no"]})
    );
    let delete = ssm(&world, "DeleteParameter", json!({"Name": "/web/key"})).await;
    refused(delete, "ParameterNotFound", "/web/key");
    refused(
        ssm(&world, "ListTagsForResource", resource).await,
        "InvalidResourceId",
        "Invalid Resource Id",
    );
}

#[tokio::test]
async fn two_puts_at_one_time_are_one_after_the_other() {
    let world = World::new().await;
    let put =
        |value: &str| json!({"Name": "n", "Value": value, "Type": "String", "Overwrite": true});
    ssm(&world, "PutParameter", put("0")).await.unwrap();
    let puts = (1..=20).map(|number| {
        let input = put(&number.to_string());
        let client = world.client();
        tokio::spawn(async move {
            let made: Value = client.call("AmazonSSM.PutParameter", &input).await.unwrap();
            made["Version"].as_u64().unwrap()
        })
    });
    let mut versions = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        versions.push(put.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..=21).collect::<Vec<u64>>());
}
