//! What a configuration may be, and how it is answered.

use std::collections::BTreeMap;

use ekiden_control::References;
use serde_json::{Value, json};

use crate::{ask, refused, running, support::World, wanted, with};

const ROLE: &str = "arn:aws:iam::123456789012:role/app";
const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ok:1";
const OWN_ECR: &str = "100000000001.dkr.ecr.us-east-1.amazonaws.com/ok:1";

async fn described(world: &World, arn: &str) -> Value {
    let request = json!({ "ServiceArn": arn });
    let answer = ask(world, "AppRunner.DescribeService", request).await;
    answer.unwrap()["Service"].clone()
}

async fn update(world: &World, arn: &str, members: Value) -> Value {
    let request = with(json!({ "ServiceArn": arn }), members);
    let answer = ask(world, "AppRunner.UpdateService", request).await;
    world.settled(arn).await;
    answer.unwrap()["Service"].clone()
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_words() {
    let world = World::new().await;
    let image = |members: Value| json!({ "SourceConfiguration": members });
    let repository = |members: Value| image(json!({ "ImageRepository": members }));
    let code = json!({
        "RepositoryUrl": "https://github.com/team/app",
        "SourceCodeVersion": { "Type": "BRANCH", "Value": "main" },
    });
    let cases = [
        (
            image(json!({ "ImageRepository": null })),
            "exactly one of CodeRepository and ImageRepository",
        ),
        (
            image(json!({ "CodeRepository": code })),
            "exactly one of CodeRepository and ImageRepository",
        ),
        (
            json!({ "InstanceConfiguration": { "Cpu": "1048576" } }),
            "is more than this host has",
        ),
        (
            json!({ "InstanceConfiguration": { "Memory": "9999 GB" } }),
            "is more than this host has",
        ),
        (
            repository(json!({ "ImageIdentifier": ECR })),
            "Authentication configuration is invalid.",
        ),
        (
            image(json!({ "AuthenticationConfiguration": {
                "ConnectionArn": "arn:aws:apprunner:us-east-1:100000000001:connection/a/b",
            }})),
            "Authentication configuration is invalid.",
        ),
        (
            image(json!({
                "ImageRepository": { "ImageRepositoryType": "ECR_PUBLIC" },
                "AutoDeploymentsEnabled": true,
            })),
            "App Runner doesn't support automatic deployments for an image in an ECR Public \
             repository.",
        ),
        (
            json!({ "AutoScalingConfigurationArn": "" }),
            "The auto scaling configuration ARN you specified isn't valid. ARN: ''",
        ),
        (
            json!({ "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "VPC" } } }),
            "must have a VpcConnectorArn",
        ),
        (
            json!({ "ObservabilityConfiguration": {
                "ObservabilityEnabled": false,
                "ObservabilityConfigurationArn":
                    "arn:aws:apprunner:us-east-1:100000000001:observabilityconfiguration/a",
            }}),
            "must not have an ObservabilityConfigurationArn",
        ),
        (
            repository(json!({ "ImageConfiguration": {
                "RuntimeEnvironmentVariables": { "PORT": "1" },
            }})),
            "Environment variable PORT is reserved",
        ),
        (
            repository(json!({ "ImageConfiguration": {
                "RuntimeEnvironmentVariables": { "AWSAPPRUNNER_X": "1" },
            }})),
            "Environment variable AWSAPPRUNNER_X is reserved",
        ),
        (
            repository(json!({ "ImageConfiguration": { "Port": "http" } })),
            "Port must be a number",
        ),
    ];
    for (members, words) in cases {
        let request = with(wanted("web1", "localhost/ok", 7100), members);
        let answer = ask(&world, "AppRunner.CreateService", request).await;
        refused(answer, "InvalidRequestException", words);
    }
    let request = json!({ "ServiceName": "web1", "SourceConfiguration": {
        "CodeRepository": code,
        "AuthenticationConfiguration": { "AccessRoleArn": ROLE },
    }});
    let answer = ask(&world, "AppRunner.CreateService", request).await;
    refused(
        answer,
        "InvalidRequestException",
        "must have a CodeConfiguration",
    );
    // A create needs what the model requires; nothing of all this was made.
    let request = with(
        wanted("web1", "localhost/ok", 7100),
        repository(json!({ "ImageRepositoryType": null })),
    );
    let answer = ask(&world, "AppRunner.CreateService", request).await;
    refused(
        answer,
        "InvalidRequestException",
        "1 validation error detected: Value null at \
         'sourceConfiguration.imageRepository.imageRepositoryType'",
    );
    let listed = ask(&world, "AppRunner.ListServices", json!({}))
        .await
        .unwrap();
    assert_eq!(listed["ServiceSummaryList"], json!([]));
}

#[tokio::test]
async fn answers_echo_what_was_configured() {
    let world = World::new().await;
    let plain = running(&world, wanted("plain", "localhost/ok", 7101)).await;
    let service = described(&world, &plain).await;
    assert_eq!(
        service["SourceConfiguration"],
        json!({
            "ImageRepository": {
                "ImageIdentifier": "localhost/ok",
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": { "Port": "7101" },
            },
            "AutoDeploymentsEnabled": true,
        })
    );
    assert_eq!(
        service["InstanceConfiguration"],
        json!({ "Cpu": "1024", "Memory": "2048" })
    );
    assert_eq!(
        service["HealthCheckConfiguration"],
        json!({
            "Protocol": "TCP", "Path": "/", "Interval": 5, "Timeout": 2, "HealthyThreshold": 1,
            "UnhealthyThreshold": 5,
        })
    );
    assert_eq!(
        service["NetworkConfiguration"],
        json!({
            "IpAddressType": "IPV4",
            "EgressConfiguration": { "EgressType": "DEFAULT" },
            "IngressConfiguration": { "IsPubliclyAccessible": true },
        })
    );
    // What was not given is left out: Terraform's second plan would take it away again.
    assert!(service["ObservabilityConfiguration"].is_null());
    assert!(service["EncryptionConfiguration"].is_null());
    assert_eq!(service["UpdatedAt"], service["CreatedAt"]);

    let key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let full = with(
        wanted("full", OWN_ECR, 7102),
        json!({
            "SourceConfiguration": {
                "AuthenticationConfiguration": { "AccessRoleArn": ROLE },
                "AutoDeploymentsEnabled": false,
            },
            "InstanceConfiguration": {
                "Cpu": "0.25 vCPU", "Memory": "0.5 GB", "InstanceRoleArn": ROLE,
            },
            "EncryptionConfiguration": { "KmsKey": key },
            "NetworkConfiguration": { "IpAddressType": "DUAL_STACK" },
        }),
    );
    let full = running(&world, full).await;
    let service = described(&world, &full).await;
    assert_eq!(
        service["InstanceConfiguration"],
        json!({ "Cpu": "256", "Memory": "512", "InstanceRoleArn": ROLE })
    );
    assert_eq!(service["EncryptionConfiguration"], json!({ "KmsKey": key }));
    let source = &service["SourceConfiguration"];
    assert_eq!(source["AuthenticationConfiguration"]["AccessRoleArn"], ROLE);
    assert_eq!(source["AutoDeploymentsEnabled"], false);
    assert_eq!(
        service["NetworkConfiguration"]["IpAddressType"],
        "DUAL_STACK"
    );
}

#[tokio::test]
async fn automatic_deployments_are_off_by_themselves_where_app_runner_has_none() {
    let world = World::new().await;
    let role = json!({ "SourceConfiguration": {
        "AuthenticationConfiguration": { "AccessRoleArn": ROLE },
    }});
    let public = json!({ "SourceConfiguration": { "ImageRepository": {
        "ImageRepositoryType": "ECR_PUBLIC",
    }}});
    let cases = [
        (wanted("own1", OWN_ECR, 7103), role.clone(), true),
        (wanted("other", ECR, 7104), role, false),
        (wanted("public", "public.ecr.aws/a/ok", 7105), public, false),
    ];
    for (request, members, want) in cases {
        let arn = running(&world, with(request, members)).await;
        let service = described(&world, &arn).await;
        assert_eq!(
            service["SourceConfiguration"]["AutoDeploymentsEnabled"], want,
            "{arn}"
        );
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let request = with(
        wanted("web1", "localhost/ok", 7106),
        json!({
            "SourceConfiguration": { "ImageRepository": { "ImageConfiguration": {
                "RuntimeEnvironmentVariables": { "A": "1", "B": "2" },
                "StartCommand": "serve --all",
            }}},
            "HealthCheckConfiguration": { "Interval": 3, "Timeout": 2 },
        }),
    );
    let arn = running(&world, request).await;
    let image = |service: &Value| service["SourceConfiguration"]["ImageRepository"].clone();

    let update_image = |members| json!({ "SourceConfiguration": { "ImageRepository": members } });
    let port = update_image(json!({ "ImageConfiguration": { "Port": "7107" } }));
    let service = update(&world, &arn, port).await;
    assert_eq!(service["Status"], "OPERATION_IN_PROGRESS");
    assert_eq!(
        image(&service),
        json!({
            "ImageIdentifier": "localhost/ok",
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": {
                "Port": "7107",
                "StartCommand": "serve --all",
                "RuntimeEnvironmentVariables": { "A": "1", "B": "2" },
            },
        })
    );
    let service = update(
        &world,
        &arn,
        update_image(json!({ "ImageConfiguration": {
            "RuntimeEnvironmentVariables": { "C": "3" },
        }})),
    )
    .await;
    assert_eq!(
        image(&service)["ImageConfiguration"]["RuntimeEnvironmentVariables"],
        json!({ "C": "3" })
    );
    let memory = json!({ "InstanceConfiguration": { "Memory": "3 GB" } });
    let service = update(&world, &arn, memory).await;
    assert_eq!(
        service["InstanceConfiguration"],
        json!({ "Cpu": "1024", "Memory": "3072" })
    );
    let health = json!({ "HealthCheckConfiguration": { "Protocol": "TCP", "Interval": 4 } });
    let service = update(&world, &arn, health).await;
    assert_eq!(service["HealthCheckConfiguration"]["Interval"], 4);
    assert_eq!(service["HealthCheckConfiguration"]["Timeout"], 2);
    assert_eq!(
        described(&world, &arn).await["SourceConfiguration"]["ImageRepository"],
        image(&service)
    );

    let other = update_image(json!({ "ImageRepositoryType": "ECR_PUBLIC" }));
    let code = json!({ "SourceConfiguration": { "CodeRepository": {} } });
    for (members, words) in [
        (
            other,
            "The image repository type cannot be changed in UpdateService request",
        ),
        (code, "cannot be changed to run code"),
        (
            json!({}),
            "No configurations provided in the UpdateService request.",
        ),
    ] {
        let request = with(json!({ "ServiceArn": arn }), members);
        let answer = ask(&world, "AppRunner.UpdateService", request).await;
        refused(answer, "InvalidRequestException", words);
    }
}

#[tokio::test]
async fn a_member_that_the_go_sdk_leaves_out_because_it_is_false_is_false() {
    let world = World::new().await;
    let silent = json!({ "NetworkConfiguration": { "IngressConfiguration": {} } });
    let public = json!({ "NetworkConfiguration": {
        "IngressConfiguration": { "IsPubliclyAccessible": true },
    }});
    let is_public = |service: Value| {
        service["NetworkConfiguration"]["IngressConfiguration"]["IsPubliclyAccessible"].clone()
    };
    let request = with(wanted("web1", "localhost/ok", 7113), silent.clone());
    let arn = running(&world, request).await;
    assert_eq!(is_public(described(&world, &arn).await), false);
    update(&world, &arn, public).await;
    assert_eq!(is_public(described(&world, &arn).await), true);
    update(&world, &arn, silent).await;
    assert_eq!(is_public(described(&world, &arn).await), false);
    // A structure that is not given at all leaves everything as it is.
    update(
        &world,
        &arn,
        json!({ "NetworkConfiguration": { "IpAddressType": "IPV4" } }),
    )
    .await;
    assert_eq!(is_public(described(&world, &arn).await), false);
}

#[tokio::test]
async fn a_private_service_serves_nobody_by_the_front_door() {
    let world = World::new().await;
    let network = |public: bool| {
        json!({ "NetworkConfiguration": {
            "IngressConfiguration": { "IsPubliclyAccessible": public },
        }})
    };
    let arn = running(
        &world,
        with(wanted("web1", "localhost/ok", 7108), network(false)),
    )
    .await;
    let service = described(&world, &arn).await;
    assert!(service["ServiceUrl"].is_null());
    let listed = ask(&world, "AppRunner.ListServices", json!({}))
        .await
        .unwrap();
    assert!(listed["ServiceSummaryList"][0]["ServiceUrl"].is_null());
    let route = world.route("web1").unwrap();
    assert_eq!((route.hosts.len(), route.upstreams.len()), (0, 1));

    update(&world, &arn, network(true)).await;
    let host = described(&world, &arn).await["ServiceUrl"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.route("web1").unwrap().hosts, [host.as_str()]);

    // What fails changes nothing, and the host is the same ever after.
    let failing = with(
        network(false),
        json!({ "SourceConfiguration": { "ImageRepository": {
            "ImageIdentifier": "localhost/missing",
        }}}),
    );
    update(&world, &arn, failing).await;
    assert_eq!(described(&world, &arn).await["ServiceUrl"], json!(host));
    assert_eq!(world.route("web1").unwrap().hosts, [host.as_str()]);
    update(&world, &arn, network(false)).await;
    assert!(world.route("web1").unwrap().hosts.is_empty());
    world.simple("PauseService", &arn).await.unwrap();
    world.settled(&arn).await;
    assert!(world.route("web1").unwrap().hosts.is_empty());
    world.simple("ResumeService", &arn).await.unwrap();
    world.settled(&arn).await;
    update(&world, &arn, network(true)).await;
    assert_eq!(world.route("web1").unwrap().hosts, [host.as_str()]);
}

#[tokio::test]
async fn strict_references_refuse_what_is_not_known() {
    let world = World::configured(|config| config.references = References::Strict).await;
    let key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let instance = format!("Error in assuming instance role {ROLE}");
    let access = format!("Error in assuming access role {ROLE}");
    let cases = [
        (
            json!({ "InstanceConfiguration": { "InstanceRoleArn": ROLE } }),
            instance.as_str(),
        ),
        (
            json!({ "SourceConfiguration": {
                "AuthenticationConfiguration": { "AccessRoleArn": ROLE },
            }}),
            access.as_str(),
        ),
        (
            json!({ "EncryptionConfiguration": { "KmsKey": key } }),
            "The KMS key you specified cannot be used",
        ),
        (
            json!({ "SourceConfiguration": {
                "ImageRepository": { "ImageIdentifier": ECR },
                "AuthenticationConfiguration": { "AccessRoleArn": ROLE },
                "AutoDeploymentsEnabled": true,
            }}),
            "of another account (123456789012)",
        ),
    ];
    for (members, words) in cases {
        let request = with(wanted("web1", "localhost/ok", 7109), members);
        let answer = ask(&world, "AppRunner.CreateService", request).await;
        refused(answer, "InvalidRequestException", words);
    }
}

/// An available connection.
async fn connection(world: &World) -> String {
    let request = json!({ "ConnectionName": "github", "ProviderType": "GITHUB" });
    let made = ask(world, "AppRunner.CreateConnection", request)
        .await
        .unwrap();
    made["Connection"]["ConnectionArn"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn code_world(config: &mut ekiden_control::ControlConfig) {
    config.handshake = ekiden_control::Handshake::Automatic;
    let image = "localhost/ok".parse().unwrap();
    config.prebuilt = BTreeMap::from([("https://github.com/team/app".to_owned(), image)]);
}

fn code(name: &str, url: &str, connection: &str, configuration: Value) -> Value {
    json!({
        "ServiceName": name,
        "SourceConfiguration": {
            "CodeRepository": {
                "RepositoryUrl": url,
                "SourceCodeVersion": { "Type": "BRANCH", "Value": "main" },
                "CodeConfiguration": configuration,
            },
            "AuthenticationConfiguration": { "ConnectionArn": connection },
        },
    })
}

#[tokio::test]
async fn a_code_service_runs_the_image_that_stands_for_its_repository() {
    let world = World::configured(code_world).await;
    let connection = connection(&world).await;
    let api = json!({
        "ConfigurationSource": "API",
        "CodeConfigurationValues": {
            "Runtime": "PYTHON_311",
            "BuildCommand": "make",
            "StartCommand": "python app.py",
            "Port": "7110",
            "RuntimeEnvironmentVariables": { "MODE": "x" },
        },
    });
    let url = "https://GitHub.com/team/app.git";
    let arn = running(&world, code("code", url, &connection, api.clone())).await;
    let service = described(&world, &arn).await;
    assert_eq!(
        service["SourceConfiguration"],
        json!({
            "CodeRepository": {
                "RepositoryUrl": url,
                "SourceCodeVersion": { "Type": "BRANCH", "Value": "main" },
                "CodeConfiguration": api,
                "SourceDirectory": "/",
            },
            "AuthenticationConfiguration": { "ConnectionArn": connection },
            "AutoDeploymentsEnabled": true,
        })
    );
    assert_eq!(
        world.route("code").unwrap().upstreams[0].address.port(),
        7110
    );

    // An update need not repeat what stays.
    let branch = json!({ "SourceConfiguration": { "CodeRepository": {
        "SourceCodeVersion": { "Value": "next" },
    }}});
    let service = update(&world, &arn, branch).await;
    let repository = &service["SourceConfiguration"]["CodeRepository"];
    assert_eq!(
        repository["SourceCodeVersion"],
        json!({ "Type": "BRANCH", "Value": "next" })
    );
    assert_eq!(repository["RepositoryUrl"], url);
    let image = json!({ "SourceConfiguration": { "ImageRepository": {
        "ImageIdentifier": "localhost/ok",
    }}});
    let request = with(json!({ "ServiceArn": arn }), image);
    let answer = ask(&world, "AppRunner.UpdateService", request).await;
    refused(
        answer,
        "InvalidRequestException",
        "cannot be changed to run an image",
    );

    let repository = json!({ "ConfigurationSource": "REPOSITORY" });
    let arn = running(&world, code("repo", url, &connection, repository.clone())).await;
    assert_eq!(
        world.route("repo").unwrap().upstreams[0].address.port(),
        8080
    );
    let service = described(&world, &arn).await;
    let shown = &service["SourceConfiguration"]["CodeRepository"]["CodeConfiguration"];
    assert_eq!(shown, &repository);

    for (url, why) in [
        ("ext::sh -c true", "CodeRepository: "),
        ("https://user:password@host.test/a", "password"),
        ("/etc", "CodeRepository: "),
        ("upload://other", "upload://none"),
    ] {
        let other = code("none", url, &connection, repository.clone());
        let answer = ask(&world, "AppRunner.CreateService", other).await;
        refused(answer, "InvalidRequestException", why);
    }
}

#[tokio::test]
async fn a_code_service_whose_create_failed_keeps_where_its_configuration_is() {
    let world = World::configured(|config| {
        code_world(config);
        let image = "localhost/crash".parse().unwrap();
        config
            .prebuilt
            .insert("https://github.com/team/app".to_owned(), image);
    })
    .await;
    let connection = connection(&world).await;
    let repository = json!({ "ConfigurationSource": "REPOSITORY" });
    let request = code(
        "code",
        "https://github.com/team/app",
        &connection,
        repository,
    );
    let created = ask(&world, "AppRunner.CreateService", request)
        .await
        .unwrap();
    let arn = created["Service"]["ServiceArn"].as_str().unwrap();
    assert_eq!(world.settled(arn).await, "CREATE_FAILED");
    let request = json!({ "ServiceArn": arn, "SourceConfiguration": { "CodeRepository": {
        "CodeConfiguration": {
            "ConfigurationSource": "API",
            "CodeConfigurationValues": { "Runtime": "PYTHON_3" },
        },
    }}});
    let answer = ask(&world, "AppRunner.UpdateService", request).await;
    refused(
        answer,
        "InvalidRequestException",
        "ConfigurationSource cannot be changed from REPOSITORY to API for CREATE_FAILED services.",
    );
}

#[tokio::test]
async fn egress_and_observability_are_looked_up_and_shown_whole() {
    let world = World::new().await;
    let request = json!({ "VpcConnectorName": "inside", "Subnets": ["subnet-1234"] });
    let made = ask(&world, "AppRunner.CreateVpcConnector", request)
        .await
        .unwrap();
    let connector = made["VpcConnector"]["VpcConnectorArn"].clone();
    let request = json!({ "ObservabilityConfigurationName": "trace" });
    let target = "AppRunner.CreateObservabilityConfiguration";
    let made = ask(&world, target, request.clone()).await.unwrap();
    let trace = made["ObservabilityConfiguration"]["ObservabilityConfigurationArn"].clone();
    let network = json!({ "NetworkConfiguration": { "EgressConfiguration": {
        "EgressType": "VPC", "VpcConnectorArn": connector,
    }}});
    let observability = json!({ "ObservabilityConfiguration": {
        "ObservabilityEnabled": true,
        "ObservabilityConfigurationArn":
            "arn:aws:apprunner:us-east-1:100000000001:observabilityconfiguration/trace",
    }});
    let request = with(
        wanted("web1", "localhost/ok", 7112),
        with(network, observability),
    );
    let arn = running(&world, request).await;
    let service = described(&world, &arn).await;
    let egress = &service["NetworkConfiguration"]["EgressConfiguration"];
    assert_eq!(
        egress,
        &json!({ "EgressType": "VPC", "VpcConnectorArn": connector })
    );
    let shown = |service: &Value| {
        service["ObservabilityConfiguration"]["ObservabilityConfigurationArn"].clone()
    };
    assert_eq!(shown(&service), trace);

    // A name without a revision is looked up again with every update.
    let made = ask(&world, target, request_named("trace")).await.unwrap();
    let newer = made["ObservabilityConfiguration"]["ObservabilityConfigurationArn"].clone();
    let memory = json!({ "InstanceConfiguration": { "Memory": "3 GB" } });
    assert_eq!(shown(&update(&world, &arn, memory).await), newer);

    // What belonged to a choice goes with it.
    let plain = json!({
        "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "DEFAULT" } },
        "ObservabilityConfiguration": { "ObservabilityEnabled": false },
    });
    let service = update(&world, &arn, plain).await;
    let egress = &service["NetworkConfiguration"]["EgressConfiguration"];
    assert_eq!(egress, &json!({ "EgressType": "DEFAULT" }));
    assert!(shown(&service).is_null());

    let unknown = "arn:aws:apprunner:us-east-1:100000000001:vpcconnector/none/1/\
                   00000000000000000000000000000001";
    let request = json!({ "ServiceArn": arn, "NetworkConfiguration": { "EgressConfiguration": {
        "EgressType": "VPC", "VpcConnectorArn": unknown,
    }}});
    let answer = ask(&world, "AppRunner.UpdateService", request).await;
    refused(answer, "InvalidRequestException", unknown);
}

fn request_named(name: &str) -> Value {
    json!({ "ObservabilityConfigurationName": name })
}
