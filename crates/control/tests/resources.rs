//! Everything that owners make beside services, over the real API.

#![allow(clippy::unwrap_used)]

mod support;

use ekiden_aws::client::ClientError;
use ekiden_control::{Handshake, References};
use ekiden_model::id::ResourceId;
use ekiden_store::{
    Store,
    resources::{Kind, Numbering, Resource},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{World, eventually};

const ACCOUNT: &str = "arn:aws:apprunner:us-east-1:100000000001";

/// Calls an operation and expects an answer.
async fn ok(world: &World, operation: &str, input: Value) -> Value {
    attempt(world, operation, input).await.unwrap()
}

async fn attempt(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world.call(&format!("AppRunner.{operation}"), &input).await
}

/// Calls an operation and expects it to be refused; answers the code and the message.
#[track_caller]
fn refused(answer: Result<Value, ClientError>) -> (String, String) {
    let error = answer.expect_err("it is refused");
    let code = error.code().unwrap_or_default().to_owned();
    (code, error.to_string())
}

async fn refusal(world: &World, operation: &str, input: Value) -> (String, String) {
    refused(attempt(world, operation, input).await)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

async fn create_scaling(world: &World, name: &str) -> Value {
    let input = json!({ "AutoScalingConfigurationName": name });
    ok(world, "CreateAutoScalingConfiguration", input).await["AutoScalingConfiguration"].take()
}

async fn describe_scaling(world: &World, arn: &str) -> Result<Value, ClientError> {
    let input = json!({ "AutoScalingConfigurationArn": arn });
    attempt(world, "DescribeAutoScalingConfiguration", input)
        .await
        .map(|mut answer| answer["AutoScalingConfiguration"].take())
}

async fn create_service(world: &World, name: &str, port: u16, more: Value) -> Value {
    let mut input = json!({
        "ServiceName": name,
        "SourceConfiguration": { "ImageRepository": {
            "ImageIdentifier": "localhost/ok",
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": { "Port": port.to_string() },
        } },
    });
    let more = more.as_object().unwrap().clone();
    input.as_object_mut().unwrap().extend(more);
    ok(world, "CreateService", input).await["Service"].take()
}

fn private() -> Value {
    json!({ "NetworkConfiguration": {
        "IngressConfiguration": { "IsPubliclyAccessible": false } } })
}

fn ingress(service: &Value, name: &str) -> Value {
    json!({
        "ServiceArn": service["ServiceArn"],
        "VpcIngressConnectionName": name,
        "IngressVpcConfiguration": { "VpcId": "vpc-1a2b3c4d", "VpcEndpointId": "vpce-5e6f7a8b" },
    })
}

/// Waits until an ingress connection has a status.
async fn ingress_status(world: &World, arn: &str, status: &str) -> Value {
    eventually(async || {
        let input = json!({ "VpcIngressConnectionArn": arn });
        let answer = ok(world, "DescribeVpcIngressConnection", input).await;
        let found = answer["VpcIngressConnection"].clone();
        (found["Status"] == status).then_some(found)
    })
    .await
}

#[tokio::test]
async fn auto_scaling_configurations_are_revised_and_deleted_by_the_rules() {
    let world = World::new().await;
    let first = create_scaling(&world, "fast").await;
    assert_eq!(first["Status"], "active");
    assert_eq!(first["Latest"], true);
    assert_eq!(first["IsDefault"], false);
    assert_eq!(first["HasAssociatedService"], false);
    assert_eq!(
        (
            &first["MaxConcurrency"],
            &first["MinSize"],
            &first["MaxSize"]
        ),
        (&json!(100), &json!(1), &json!(25))
    );
    let second = create_scaling(&world, "fast").await;
    assert_eq!(second["AutoScalingConfigurationRevision"], 2);
    let (one, two) = (
        text(&first["AutoScalingConfigurationArn"]),
        text(&second["AutoScalingConfigurationArn"]),
    );
    assert!(one.starts_with(&format!("{ACCOUNT}:autoscalingconfiguration/fast/1/")));
    assert_eq!(
        describe_scaling(&world, one).await.unwrap()["Latest"],
        false
    );
    let by_name = format!("{ACCOUNT}:autoscalingconfiguration/fast");
    let newest = describe_scaling(&world, &by_name).await.unwrap();
    assert_eq!(text(&newest["AutoScalingConfigurationArn"]), two);
    let by_number = describe_scaling(&world, &format!("{by_name}/1")).await;
    assert_eq!(by_number.unwrap()["AutoScalingConfigurationArn"], one);

    // Of a name alone the newest is deleted; the one before it is the newest then.
    let delete = "DeleteAutoScalingConfiguration";
    let of = |arn: &str| json!({ "AutoScalingConfigurationArn": arn });
    let deleted = ok(&world, delete, of(&by_name)).await["AutoScalingConfiguration"].take();
    assert_eq!(text(&deleted["AutoScalingConfigurationArn"]), two);
    assert_eq!(deleted["Status"], "inactive");
    assert_eq!(deleted["Latest"], false);
    assert!(deleted["DeletedAt"].is_number());
    assert_eq!(describe_scaling(&world, one).await.unwrap()["Latest"], true);
    let inactive = describe_scaling(&world, two).await.unwrap();
    assert_eq!(inactive["Status"], "inactive");
    let (code, _) = refused(describe_scaling(&world, &format!("{by_name}/2")).await);
    assert_eq!(code, "ResourceNotFoundException");
    let (code, message) = refusal(&world, delete, of(two)).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(
        message.contains("The auto scaling configuration you specified has been deleted"),
        "{message}"
    );
    let third = create_scaling(&world, "fast").await;
    assert_eq!(third["AutoScalingConfigurationRevision"], 3);

    let all = |arn: &str| json!({ "AutoScalingConfigurationArn": arn, "DeleteAllRevisions": true });
    let (code, _) = refusal(&world, delete, all(one)).await;
    assert_eq!(code, "InvalidRequestException");
    let answer = ok(&world, delete, all(&by_name)).await;
    assert_eq!(
        answer["AutoScalingConfiguration"],
        json!({
            "AutoScalingConfigurationArn": by_name,
            "AutoScalingConfigurationName": "fast",
            "Status": "inactive",
        })
    );
    let (code, _) = refused(describe_scaling(&world, &by_name).await);
    assert_eq!(code, "ResourceNotFoundException");
    let again = create_scaling(&world, "fast").await;
    assert_eq!(again["AutoScalingConfigurationRevision"], 4);
}

#[tokio::test]
async fn the_default_moves_and_decides_for_later_services_only() {
    let world = World::new().await;
    let list = |input: Value| {
        let world = &world;
        async move {
            let answer = ok(world, "ListAutoScalingConfigurations", input).await;
            let list = answer["AutoScalingConfigurationSummaryList"].clone();
            let row = |s: &Value| {
                (
                    text(&s["AutoScalingConfigurationName"]).to_owned(),
                    s["AutoScalingConfigurationRevision"].as_u64().unwrap(),
                    s["IsDefault"].as_bool().unwrap(),
                )
            };
            list.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
        }
    };
    let row = |name: &str, revision, is_default| (name.to_owned(), revision, is_default);
    assert_eq!(
        list(json!({})).await,
        [row("DefaultConfiguration", 1, true)]
    );
    let before = create_service(&world, "web1", 7101, json!({})).await;
    let summary = &before["AutoScalingConfigurationSummary"];
    assert_eq!(
        text(&summary["AutoScalingConfigurationArn"]),
        format!(
            "{ACCOUNT}:autoscalingconfiguration/DefaultConfiguration/1/00000000000000000000000000000001"
        )
    );
    let first = create_scaling(&world, "fast").await;
    create_scaling(&world, "fast").await;
    let of = |arn: &Value| json!({ "AutoScalingConfigurationArn": arn });
    let update = "UpdateDefaultAutoScalingConfiguration";
    let moved = ok(&world, update, of(&first["AutoScalingConfigurationArn"])).await;
    assert_eq!(moved["AutoScalingConfiguration"]["IsDefault"], true);
    // The default is visible though it is not the latest.
    assert_eq!(
        list(json!({})).await,
        [
            row("DefaultConfiguration", 1, false),
            row("fast", 1, true),
            row("fast", 2, false)
        ]
    );
    let revised = create_scaling(&world, "DefaultConfiguration").await;
    assert_eq!(revised["AutoScalingConfigurationRevision"], 2);
    let everything = list(json!({ "LatestOnly": false })).await;
    assert_eq!(everything.len(), 4);
    let named = json!({ "AutoScalingConfigurationName": "fast", "LatestOnly": true });
    assert_eq!(list(named).await.len(), 2);

    let after = create_service(&world, "web2", 7102, json!({})).await;
    let summary = &after["AutoScalingConfigurationSummary"];
    assert_eq!(
        summary["AutoScalingConfigurationArn"],
        first["AutoScalingConfigurationArn"]
    );
    let delete = "DeleteAutoScalingConfiguration";
    let (code, message) = refusal(&world, delete, of(&first["AutoScalingConfigurationArn"])).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("default"), "{message}");
    let built_in = before["AutoScalingConfigurationSummary"].clone();
    let (code, message) =
        refusal(&world, delete, of(&built_in["AutoScalingConfigurationArn"])).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("reserved"), "{message}");
}

#[tokio::test]
async fn what_a_service_uses_cannot_be_deleted() {
    let world = World::new().await;
    let scaling = create_scaling(&world, "fast").await["AutoScalingConfigurationArn"].take();
    let input = json!({ "VpcConnectorName": "conn", "Subnets": ["subnet-1"] });
    let connector = ok(&world, "CreateVpcConnector", input).await["VpcConnector"].take();
    let connector = connector["VpcConnectorArn"].clone();
    let input = json!({ "ObservabilityConfigurationName": "traces",
        "TraceConfiguration": { "Vendor": "AWSXRAY" } });
    let traces = ok(&world, "CreateObservabilityConfiguration", input).await;
    let traces = traces["ObservabilityConfiguration"]["ObservabilityConfigurationArn"].clone();
    let more = json!({
        "AutoScalingConfigurationArn": scaling,
        "NetworkConfiguration": { "EgressConfiguration": {
            "EgressType": "VPC", "VpcConnectorArn": connector } },
        "ObservabilityConfiguration": { "ObservabilityEnabled": true,
            "ObservabilityConfigurationArn": traces },
    });
    let service = create_service(&world, "web1", 7111, more).await;
    let arn = text(&service["ServiceArn"]);
    world.settled(arn).await;

    let scaling_of = json!({ "AutoScalingConfigurationArn": scaling });
    let (code, message) =
        refusal(&world, "DeleteAutoScalingConfiguration", scaling_of.clone()).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(
        message.contains(
            "You can't delete the auto scaling configuration. It's used by one or more services. \
             To delete it, update the services to use other auto scaling configurations."
        ),
        "{message}"
    );
    let connector_of = json!({ "VpcConnectorArn": connector });
    let (code, message) = refusal(&world, "DeleteVpcConnector", connector_of.clone()).await;
    assert_eq!(code, "InvalidRequestException");
    let words = format!(
        "Provided VPC connector arn is being used by other services. ARN:  {}",
        text(&connector)
    );
    assert!(message.contains(&words), "{message}");
    let traces_of = json!({ "ObservabilityConfigurationArn": traces });
    let (code, _) = refusal(
        &world,
        "DeleteObservabilityConfiguration",
        traces_of.clone(),
    )
    .await;
    assert_eq!(code, "InvalidRequestException");
    let used = describe_scaling(&world, text(&scaling)).await.unwrap();
    assert_eq!(used["HasAssociatedService"], true);
    let users = "ListServicesForAutoScalingConfiguration";
    let answer = ok(&world, users, scaling_of.clone()).await;
    assert_eq!(answer, json!({ "ServiceArnList": [arn] }));

    world.simple("DeleteService", arn).await.unwrap();
    assert_eq!(world.settled(arn).await, "DELETED");
    let answer = ok(&world, users, scaling_of.clone()).await;
    assert_eq!(answer, json!({ "ServiceArnList": [] }));
    ok(&world, "DeleteAutoScalingConfiguration", scaling_of).await;
    let gone = ok(&world, "DeleteVpcConnector", connector_of.clone()).await;
    assert_eq!(gone["VpcConnector"]["Status"], "INACTIVE");
    let gone = ok(&world, "DescribeVpcConnector", connector_of.clone()).await;
    assert!(gone["VpcConnector"]["DeletedAt"].is_number());
    let (code, _) = refusal(&world, "DeleteVpcConnector", connector_of).await;
    assert_eq!(code, "ResourceNotFoundException");
    let gone = ok(&world, "DeleteObservabilityConfiguration", traces_of).await;
    assert_eq!(gone["ObservabilityConfiguration"]["Status"], "INACTIVE");
}

#[tokio::test]
async fn a_service_that_begins_to_use_what_is_being_deleted_never_dangles() {
    let world = World::new().await;
    for round in 0..10 {
        let arn = create_scaling(&world, "fast").await["AutoScalingConfigurationArn"].take();
        let name = format!("web-{round}");
        let create = json!({
            "ServiceName": name,
            "AutoScalingConfigurationArn": arn,
            "SourceConfiguration": { "ImageRepository": {
                "ImageIdentifier": "localhost/missing", "ImageRepositoryType": "ECR" } },
        });
        let delete = json!({ "AutoScalingConfigurationArn": arn });
        let (created, deleted) = tokio::join!(
            attempt(&world, "CreateService", create),
            attempt(&world, "DeleteAutoScalingConfiguration", delete),
        );
        assert!(
            created.is_ok() != deleted.is_ok(),
            "{created:?} {deleted:?}"
        );
        for error in [created.err(), deleted.err()].into_iter().flatten() {
            assert_eq!(error.code(), Some("InvalidRequestException"), "{error}");
        }
    }
}

#[tokio::test]
async fn numbers_within_the_installations_bounds_are_taken_and_others_explained() {
    let world = World::configured(|config| {
        config.quotas.instances_per_service = 50;
        config.quotas.requests_per_instance = 500;
        config.quotas.auto_scaling_revisions = 3;
    })
    .await;
    let create = |min: i32, max: i32, concurrency: i32| {
        json!({ "AutoScalingConfigurationName": "wide", "MinSize": min, "MaxSize": max,
            "MaxConcurrency": concurrency })
    };
    let operation = "CreateAutoScalingConfiguration";
    let answer = ok(&world, operation, create(0, 50, 500)).await;
    assert_eq!(answer["AutoScalingConfiguration"]["MinSize"], 0);
    for (input, code, words) in [
        (
            create(3, 2, 1),
            "InvalidRequestException",
            "MinSize (3) must not be greater",
        ),
        (
            create(1, 51, 1),
            "ServiceQuotaExceededException",
            "quota.instances_per_service",
        ),
        (
            create(1, 5, 501),
            "ServiceQuotaExceededException",
            "quota.requests_per_instance",
        ),
    ] {
        let (got, message) = refusal(&world, operation, input).await;
        assert_eq!(got, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    ok(&world, operation, create(1, 1, 1)).await;
    ok(&world, operation, create(1, 1, 1)).await;
    let (code, message) = refusal(&world, operation, create(1, 1, 1)).await;
    assert_eq!(code, "ServiceQuotaExceededException");
    assert!(
        message.contains("quota.auto_scaling_revisions"),
        "{message}"
    );
}

#[tokio::test]
async fn observability_configurations_are_revised_like_the_others() {
    let world = World::new().await;
    let create = "CreateObservabilityConfiguration";
    let named = |name: &str| json!({ "ObservabilityConfigurationName": name });
    let first = ok(&world, create, named("traces")).await["ObservabilityConfiguration"].take();
    assert_eq!(first["Status"], "ACTIVE");
    assert_eq!(first["Latest"], true);
    assert!(first["TraceConfiguration"].is_null(), "{first}");
    let mut input = named("traces");
    input["TraceConfiguration"] = json!({ "Vendor": "AWSXRAY" });
    let second = ok(&world, create, input).await["ObservabilityConfiguration"].take();
    assert_eq!(second["ObservabilityConfigurationRevision"], 2);
    assert_eq!(second["TraceConfiguration"], json!({ "Vendor": "AWSXRAY" }));
    let (code, _) = refusal(&world, create, named("DefaultConfiguration")).await;
    assert_eq!(code, "InvalidRequestException");
    let list = ok(&world, "ListObservabilityConfigurations", json!({})).await;
    assert_eq!(
        list["ObservabilityConfigurationSummaryList"],
        json!([{
            "ObservabilityConfigurationArn": second["ObservabilityConfigurationArn"],
            "ObservabilityConfigurationName": "traces",
            "ObservabilityConfigurationRevision": 2,
        }])
    );
    let by_name = json!({ "ObservabilityConfigurationArn":
        format!("{ACCOUNT}:observabilityconfiguration/traces") });
    ok(&world, "DeleteObservabilityConfiguration", by_name.clone()).await;
    let left = ok(&world, "DescribeObservabilityConfiguration", by_name).await;
    assert_eq!(
        left["ObservabilityConfiguration"]["ObservabilityConfigurationRevision"],
        1
    );
    assert_eq!(left["ObservabilityConfiguration"]["Latest"], true);
}

#[tokio::test]
async fn a_connection_waits_for_its_handshake_and_is_found_by_name() {
    let world = World::new().await;
    let input = json!({ "ConnectionName": "main", "ProviderType": "GITHUB" });
    let made = ok(&world, "CreateConnection", input.clone()).await["Connection"].take();
    assert_eq!(made["Status"], "PENDING_HANDSHAKE");
    let (code, message) = refusal(&world, "CreateConnection", input.clone()).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(
        message.contains("Connection with the provided name already exists: main"),
        "{message}"
    );
    let arn = made["ConnectionArn"].clone();
    let completed: Value = world
        .call(
            "Ekiden.CompleteConnection",
            &json!({ "ConnectionArn": arn }),
        )
        .await
        .unwrap();
    assert_eq!(completed["Connection"]["Status"], "AVAILABLE");
    let find = |name: &str| {
        let input = json!({ "ConnectionName": name });
        let world = &world;
        async move { ok(world, "ListConnections", input).await["ConnectionSummaryList"].take() }
    };
    assert_eq!(find("main").await[0]["Status"], "AVAILABLE");
    assert_eq!(find("mail").await, json!([]));
    let deleted = ok(&world, "DeleteConnection", json!({ "ConnectionArn": arn })).await;
    assert_eq!(deleted["Connection"]["Status"], "DELETED");
    assert_eq!(find("main").await, json!([]));
    let (code, _) = refusal(&world, "DeleteConnection", json!({ "ConnectionArn": arn })).await;
    assert_eq!(code, "ResourceNotFoundException");
    ok(&world, "CreateConnection", input).await;
}

#[tokio::test]
async fn a_handshake_can_be_taken_as_done() {
    let world = World::configured(|config| config.handshake = Handshake::Automatic).await;
    let input = json!({ "ConnectionName": "main", "ProviderType": "BITBUCKET" });
    let made = ok(&world, "CreateConnection", input).await;
    assert_eq!(made["Connection"]["Status"], "AVAILABLE");
}

#[tokio::test]
async fn vpc_connectors_echo_what_they_were_given() {
    let world = World::new().await;
    let create = "CreateVpcConnector";
    let input = json!({ "VpcConnectorName": "conn", "Subnets": ["subnet-0a1b", "subnet-2c3d"] });
    let made = ok(&world, create, input.clone()).await["VpcConnector"].take();
    assert_eq!(made["Status"], "ACTIVE");
    assert_eq!(made["VpcConnectorRevision"], 1);
    assert_eq!(made["Subnets"], input["Subnets"]);
    let group = text(&made["SecurityGroups"][0]);
    assert!(group.starts_with("sg-") && group.len() == 20, "{group}");
    let (code, message) = refusal(&world, create, input).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("already exists: conn"), "{message}");
    let other = json!({ "VpcConnectorName": "other", "Subnets": ["subnet-0a1b"] });
    let other = ok(&world, create, other).await["VpcConnector"].take();
    assert_eq!(other["SecurityGroups"], made["SecurityGroups"]);
    for (subnets, groups) in [
        (json!([]), json!(["sg-1"])),
        (json!(["sn-1"]), json!(["sg-1"])),
        (json!(["subnet-"]), json!(["sg-1"])),
        (json!(["subnet-1"]), json!(["group"])),
    ] {
        let input = json!({ "VpcConnectorName": "third", "Subnets": subnets,
            "SecurityGroups": groups });
        let (code, _) = refusal(&world, create, input).await;
        assert_eq!(code, "InvalidRequestException");
    }
    let list = ok(&world, "ListVpcConnectors", json!({})).await;
    assert_eq!(list, json!({ "VpcConnectors": [made, other] }));
}

#[tokio::test]
async fn a_strict_installation_knows_no_subnets() {
    let world = World::configured(|config| config.references = References::Strict).await;
    let input = json!({ "VpcConnectorName": "conn", "Subnets": ["subnet-0a1b"] });
    let (code, message) = refusal(&world, "CreateVpcConnector", input).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("'subnet-0a1b' is not known"), "{message}");
}

#[tokio::test]
async fn a_private_service_has_one_ingress_connection_and_is_deleted_after_it() {
    let world = World::new().await;
    let create = "CreateVpcIngressConnection";
    let unknown = json!({ "ServiceArn": format!("{ACCOUNT}:service/nope/{}", "0".repeat(32)) });
    let (code, _) = refusal(&world, create, ingress(&unknown, "vic1")).await;
    assert_eq!(code, "InvalidRequestException");

    let public = create_service(&world, "web1", 7121, json!({})).await;
    let service = create_service(&world, "web2", 7122, private()).await;
    let (code, _) = refusal(&world, create, ingress(&service, "vic1")).await;
    assert_eq!(code, "InvalidStateException", "it is being created");
    world.settled(text(&public["ServiceArn"])).await;
    let arn = text(&service["ServiceArn"]);
    world.settled(arn).await;
    let (code, message) = refusal(&world, create, ingress(&public, "vic1")).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("publicly accessible"), "{message}");

    let made = ok(&world, create, ingress(&service, "vic1")).await["VpcIngressConnection"].take();
    assert_eq!(made["Status"], "PENDING_CREATION");
    assert_eq!(made["AccountId"], "100000000001");
    let host = text(&made["DomainName"]).to_owned();
    assert!(host.ends_with(".vpc-1a2b3c4d.us-east-1.test"), "{host}");
    let vic = text(&made["VpcIngressConnectionArn"]);
    let available = ingress_status(&world, vic, "AVAILABLE").await;
    assert_eq!(available["DomainName"], made["DomainName"]);
    let (code, message) = refusal(&world, create, ingress(&service, "vic2")).await;
    assert_eq!(code, "ServiceQuotaExceededException", "{message}");
    let (code, message) = refused(world.simple("DeleteService", arn).await);
    assert_eq!(code, "InvalidStateException", "{message}");
    assert_eq!(world.describe(arn).await.status.as_deref(), Some("RUNNING"));

    let list = |filter: Value| {
        let world = &world;
        async move {
            let input = json!({ "Filter": filter });
            let answer = ok(world, "ListVpcIngressConnections", input).await;
            answer["VpcIngressConnectionSummaryList"].clone()
        }
    };
    let summary = json!([{ "VpcIngressConnectionArn": vic, "ServiceArn": arn }]);
    assert_eq!(list(json!({})).await, summary);
    let both = json!({ "ServiceArn": arn, "VpcEndpointId": "vpce-5e6f7a8b" });
    assert_eq!(list(both).await, summary);
    assert_eq!(list(json!({ "VpcEndpointId": "vpce-0" })).await, json!([]));
    assert_eq!(
        list(json!({ "ServiceArn": public["ServiceArn"] })).await,
        json!([])
    );

    let update = json!({ "VpcIngressConnectionArn": vic,
        "IngressVpcConfiguration": { "VpcEndpointId": "vpce-9c9d" } });
    let updated = ok(&world, "UpdateVpcIngressConnection", update).await;
    assert_eq!(updated["VpcIngressConnection"]["Status"], "PENDING_UPDATE");
    let available = ingress_status(&world, vic, "AVAILABLE").await;
    assert_eq!(
        available["IngressVpcConfiguration"],
        json!({ "VpcId": "vpc-1a2b3c4d", "VpcEndpointId": "vpce-9c9d" })
    );

    let of = json!({ "VpcIngressConnectionArn": vic });
    let going = ok(&world, "DeleteVpcIngressConnection", of.clone()).await;
    assert_eq!(going["VpcIngressConnection"]["Status"], "PENDING_DELETION");
    assert!(going["VpcIngressConnection"]["DeletedAt"].is_number());
    ingress_status(&world, vic, "DELETED").await;
    assert_eq!(list(json!({})).await, json!([]));
    let (code, _) = refusal(&world, "DeleteVpcIngressConnection", of).await;
    assert_eq!(code, "ResourceNotFoundException");
    world.simple("DeleteService", arn).await.unwrap();
    assert_eq!(world.settled(arn).await, "DELETED");
}

/// An ingress connection as the store has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Recorded(Value);

impl Kind for Recorded {
    const NAME: &'static str = "vpcingressconnection";
    const NUMBERING: Numbering = Numbering::Single;

    fn is_pending(&self) -> bool {
        self.0["state"] != "available"
    }
}

#[tokio::test]
async fn an_ingress_connection_goes_on_after_a_restart() {
    let mut world = World::new().await;
    let service = create_service(&world, "web1", 7131, private()).await;
    world.settled(text(&service["ServiceArn"])).await;
    let made = ok(
        &world,
        "CreateVpcIngressConnection",
        ingress(&service, "vic1"),
    )
    .await;
    let arn = text(&made["VpcIngressConnection"]["VpcIngressConnectionArn"]).to_owned();
    world.restart().await;
    ingress_status(&world, &arn, "AVAILABLE").await;
    let id: ResourceId = arn.rsplit_once('/').unwrap().1.parse().unwrap();
    for (state, status) in [
        ("pending_creation", "AVAILABLE"),
        ("pending_update", "AVAILABLE"),
        ("pending_deletion", "DELETED"),
    ] {
        world.stop().await;
        let path = world.dir.path().join("control/ekiden.db");
        let store = Store::open(&path).await.unwrap();
        let stopped_in = |found: &mut Resource<Recorded>| {
            found.record.0["state"] = state.into();
            Ok::<(), std::convert::Infallible>(())
        };
        store
            .change_resource("us-east-1", id, stopped_in)
            .await
            .unwrap();
        drop(store);
        world.start().await;
        ingress_status(&world, &arn, status).await;
    }
}

#[tokio::test]
async fn tags_are_on_every_kind_and_end_with_it() {
    let world = World::new().await;
    let tags = json!([{ "Key": "team", "Value": "web" }]);
    let service = create_service(&world, "web1", 7141, {
        let mut more = private();
        more["Tags"] = tags.clone();
        more
    })
    .await;
    world.settled(text(&service["ServiceArn"])).await;
    let mut vic = ingress(&service, "vic1");
    vic["Tags"] = tags.clone();
    let make =
        |operation: &'static str, mut input: Value, kind: &'static str, arn: &'static str| {
            input["Tags"] = tags.clone();
            let world = &world;
            async move { ok(world, operation, input).await[kind][arn].take() }
        };
    let arns = [
        service["ServiceArn"].clone(),
        make(
            "CreateVpcIngressConnection",
            vic,
            "VpcIngressConnection",
            "VpcIngressConnectionArn",
        )
        .await,
        make(
            "CreateConnection",
            json!({ "ConnectionName": "main", "ProviderType": "GITHUB" }),
            "Connection",
            "ConnectionArn",
        )
        .await,
        make(
            "CreateAutoScalingConfiguration",
            json!({ "AutoScalingConfigurationName": "fast" }),
            "AutoScalingConfiguration",
            "AutoScalingConfigurationArn",
        )
        .await,
        make(
            "CreateObservabilityConfiguration",
            json!({ "ObservabilityConfigurationName": "traces" }),
            "ObservabilityConfiguration",
            "ObservabilityConfigurationArn",
        )
        .await,
        make(
            "CreateVpcConnector",
            json!({ "VpcConnectorName": "conn", "Subnets": ["subnet-1"] }),
            "VpcConnector",
            "VpcConnectorArn",
        )
        .await,
    ];
    let list = |arn: &Value| {
        let (world, input) = (&world, json!({ "ResourceArn": arn }));
        async move { ok(world, "ListTagsForResource", input).await["Tags"].take() }
    };
    for arn in &arns {
        assert_eq!(list(arn).await, tags, "{arn}");
        let given = json!({ "ResourceArn": arn, "Tags": [
            { "Key": "team", "Value": "data" }, { "Key": "a" }] });
        assert_eq!(ok(&world, "TagResource", given).await, json!({}));
        let all = json!([{ "Key": "a", "Value": "" }, { "Key": "team", "Value": "data" }]);
        assert_eq!(list(arn).await, all, "{arn}");
        let keys = json!({ "ResourceArn": arn, "TagKeys": ["team", "nope"] });
        assert_eq!(ok(&world, "UntagResource", keys).await, json!({}));
        let left = json!([{ "Key": "a", "Value": "" }]);
        assert_eq!(list(arn).await, left, "{arn}");

        let many: Vec<_> = (0..50).map(|n| json!({ "Key": format!("k{n}") })).collect();
        for bad in [
            json!(many),
            json!([{ "Key": "aws:x" }]),
            json!([{ "Key": "x" }, { "Key": "x" }]),
        ] {
            let input = json!({ "ResourceArn": arn, "Tags": bad });
            let (code, message) = refusal(&world, "TagResource", input).await;
            assert_eq!(code, "InvalidRequestException", "{message}");
        }
        assert_eq!(list(arn).await, left, "{arn}");
    }
    let connection = json!({ "ConnectionArn": arns[2] });
    ok(&world, "DeleteConnection", connection).await;
    for (operation, more) in [
        ("TagResource", json!({ "Tags": [{ "Key": "a" }] })),
        ("UntagResource", json!({ "TagKeys": ["a"] })),
        ("ListTagsForResource", json!({})),
    ] {
        let mut input = more;
        input["ResourceArn"] = arns[2].clone();
        let (code, _) = refusal(&world, operation, input).await;
        assert_eq!(code, "InvalidStateException", "{operation}");
    }
}

#[tokio::test]
async fn arns_of_the_wrong_kind_and_of_elsewhere_are_told_apart() {
    let world = World::new().await;
    let id = "0".repeat(32);
    let scaling = create_scaling(&world, "fast").await;
    let scaling = text(&scaling["AutoScalingConfigurationArn"]);
    for (operation, member, own) in [
        (
            "DescribeAutoScalingConfiguration",
            "AutoScalingConfigurationArn",
            "autoscalingconfiguration/none/1",
        ),
        (
            "DeleteAutoScalingConfiguration",
            "AutoScalingConfigurationArn",
            "autoscalingconfiguration/none/1",
        ),
        (
            "ListServicesForAutoScalingConfiguration",
            "AutoScalingConfigurationArn",
            "autoscalingconfiguration/none/1",
        ),
        (
            "UpdateDefaultAutoScalingConfiguration",
            "AutoScalingConfigurationArn",
            "autoscalingconfiguration/none/1",
        ),
        (
            "DescribeObservabilityConfiguration",
            "ObservabilityConfigurationArn",
            "observabilityconfiguration/none/1",
        ),
        (
            "DeleteObservabilityConfiguration",
            "ObservabilityConfigurationArn",
            "observabilityconfiguration/none/1",
        ),
        ("DeleteConnection", "ConnectionArn", "connection/none"),
        (
            "DescribeVpcConnector",
            "VpcConnectorArn",
            "vpcconnector/none/1",
        ),
        (
            "DeleteVpcConnector",
            "VpcConnectorArn",
            "vpcconnector/none/1",
        ),
        (
            "DescribeVpcIngressConnection",
            "VpcIngressConnectionArn",
            "vpcingressconnection/none",
        ),
        (
            "DeleteVpcIngressConnection",
            "VpcIngressConnectionArn",
            "vpcingressconnection/none",
        ),
        ("ListTagsForResource", "ResourceArn", "connection/none"),
    ] {
        let wrong = [
            format!("{ACCOUNT}:service/web1/{id}"),
            format!("{ACCOUNT}:{own}/{id}/more/than/that"),
            "arn:aws:apprunner:us-east-1:100000000001:thing/x".to_owned(),
        ];
        for arn in &wrong {
            if operation == "ListTagsForResource" && arn.contains(":service/") {
                continue; // a kind of its own there
            }
            let (code, message) = refusal(&world, operation, json!({ member: arn })).await;
            assert_eq!(
                code, "InvalidRequestException",
                "{operation} {arn} {message}"
            );
        }
        for arn in [
            format!("{ACCOUNT}:{own}/{id}"),
            format!("arn:aws:apprunner:eu-west-1:100000000001:{own}/{id}"),
            format!("arn:aws:apprunner:us-east-1:200000000002:{own}/{id}"),
        ] {
            let (code, message) = refusal(&world, operation, json!({ member: arn })).await;
            assert_eq!(
                code, "ResourceNotFoundException",
                "{operation} {arn} {message}"
            );
        }
    }
    // The id is right, what stands before it is not.
    for other in [
        scaling.replace("/fast/", "/slow/"),
        scaling.replace("/1/", "/2/"),
    ] {
        let (code, _) = refused(describe_scaling(&world, &other).await);
        assert_eq!(code, "ResourceNotFoundException");
    }
    // Another region is another name space.
    let client = world.client_in("eu-west-1");
    let input = json!({ "AutoScalingConfigurationArn": scaling });
    let target = "AppRunner.DescribeAutoScalingConfiguration";
    let elsewhere: Result<Value, _> = client.call(target, &input).await;
    assert_eq!(refused(elsewhere).0, "ResourceNotFoundException");
    let more = json!({ "AutoScalingConfigurationArn": scaling.replace("/fast/", "/slow/") });
    let mut create = json!({ "ServiceName": "web1", "SourceConfiguration": {
        "ImageRepository": { "ImageIdentifier": "localhost/ok", "ImageRepositoryType": "ECR" } } });
    create["AutoScalingConfigurationArn"] = more["AutoScalingConfigurationArn"].clone();
    let (code, message) = refusal(&world, "CreateService", create).await;
    assert_eq!(code, "InvalidRequestException");
    let words = format!(
        "The auto scaling configuration ARN you specified isn't valid. ARN: '{}'",
        text(&more["AutoScalingConfigurationArn"])
    );
    assert!(message.contains(&words), "{message}");
}

#[tokio::test]
async fn lists_are_walked_whole_in_pages_of_one_while_things_are_deleted() {
    let world = World::new().await;
    for number in 0..6 {
        let input = json!({ "ConnectionName": format!("conn{number}"), "ProviderType": "GITHUB" });
        ok(&world, "CreateConnection", input).await;
    }
    let (mut seen, mut tokens) = (Vec::new(), Vec::new());
    let mut input = json!({ "MaxResults": 1 });
    loop {
        let page = ok(&world, "ListConnections", input.clone()).await;
        let listed = page["ConnectionSummaryList"].as_array().unwrap();
        assert!(listed.len() == 1 || page["NextToken"].is_null(), "{page}");
        seen.extend(listed.iter().map(|c| text(&c["ConnectionName"]).to_owned()));
        // What the next page begins behind is deleted, and something before it is made.
        if let Some(last) = listed.first().filter(|_| seen.len() == 3) {
            let arn = &last["ConnectionArn"];
            ok(&world, "DeleteConnection", json!({ "ConnectionArn": arn })).await;
            let early = json!({ "ConnectionName": "conn0a", "ProviderType": "GITHUB" });
            ok(&world, "CreateConnection", early).await;
        }
        let Some(token) = page["NextToken"].as_str() else {
            break;
        };
        assert!((1..=1024).contains(&token.len()));
        assert!(!tokens.contains(&token.to_owned()), "a token comes twice");
        tokens.push(token.to_owned());
        input["NextToken"] = token.into();
    }
    let want: Vec<_> = (0..6).map(|number| format!("conn{number}")).collect();
    assert_eq!(seen, want);

    // A token is good for its own list only.
    let token = &tokens[0];
    for (operation, input) in [
        (
            "ListConnections",
            json!({ "MaxResults": 2, "NextToken": token }),
        ),
        ("ListConnections", json!({ "NextToken": token })),
        (
            "ListVpcConnectors",
            json!({ "MaxResults": 1, "NextToken": token }),
        ),
        (
            "ListServices",
            json!({ "MaxResults": 1, "NextToken": token }),
        ),
        (
            "ListConnections",
            json!({ "MaxResults": 1, "NextToken": "made up" }),
        ),
        (
            "ListConnections",
            json!({ "MaxResults": 1, "NextToken": &token[1..] }),
        ),
    ] {
        let (code, message) = refusal(&world, operation, input).await;
        assert_eq!(code, "InvalidRequestException", "{operation} {message}");
    }
    let elsewhere: Result<Value, _> = world
        .client_in("eu-west-1")
        .call(
            "AppRunner.ListConnections",
            &json!({ "MaxResults": 1, "NextToken": token }),
        )
        .await;
    assert_eq!(refused(elsewhere).0, "InvalidRequestException");
}

#[tokio::test]
async fn quotas_hold_when_many_ask_at_once_and_name_their_setting() {
    let world = World::configured(|config| {
        config.quotas.services = 10;
        config.quotas.connections = 10;
    })
    .await;
    let mut services = tokio::task::JoinSet::new();
    let mut connections = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = world.client();
        services.spawn(async move {
            let input = json!({ "ServiceName": format!("web-{number}"), "SourceConfiguration": {
                "ImageRepository": { "ImageIdentifier": "localhost/missing",
                    "ImageRepositoryType": "ECR" } } });
            let created: Result<Value, _> = client.call("AppRunner.CreateService", &input).await;
            created
        });
        let client = world.client();
        connections.spawn(async move {
            let name = format!("conn-{number}");
            let input = json!({ "ConnectionName": name, "ProviderType": "GITHUB" });
            let created: Result<Value, _> = client.call("AppRunner.CreateConnection", &input).await;
            created
        });
    }
    for (answers, setting) in [
        (services.join_all().await, "quota.services"),
        (connections.join_all().await, "quota.connections"),
    ] {
        let (made, not): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), not.len()), (10, 10), "{setting}");
        for answer in not {
            let (code, message) = refused(answer);
            assert_eq!(code, "ServiceQuotaExceededException", "{message}");
            assert!(
                message.contains(setting) && message.contains("10"),
                "{message}"
            );
        }
    }
    // A name that is taken is said before a quota that is reached; a deleted service makes room.
    let list = ok(&world, "ListServices", json!({})).await;
    let one = list["ServiceSummaryList"][0].clone();
    let (name, arn) = (text(&one["ServiceName"]), text(&one["ServiceArn"]));
    let again = |name: &str| {
        json!({ "ServiceName": name, "SourceConfiguration": { "ImageRepository": {
            "ImageIdentifier": "localhost/missing", "ImageRepositoryType": "ECR" } } })
    };
    let (code, message) = refusal(&world, "CreateService", again(name)).await;
    assert_eq!(code, "InvalidRequestException", "{message}");
    assert_eq!(world.settled(arn).await, "CREATE_FAILED");
    let (code, _) = refusal(&world, "CreateService", again("other")).await;
    assert_eq!(code, "ServiceQuotaExceededException");
    world.simple("DeleteService", arn).await.unwrap();
    assert_eq!(world.settled(arn).await, "DELETED");
    ok(&world, "CreateService", again("other")).await;
    let (code, _) = refusal(&world, "CreateService", again("more")).await;
    assert_eq!(code, "ServiceQuotaExceededException");
}
