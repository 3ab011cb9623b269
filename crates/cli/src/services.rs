//! Looking at services and changing their state: `ps`, `describe`, `pause`, `resume`, `delete`.

use ekiden_aws::{
    apprunner::shapes::{
        DeleteServiceRequest, DeleteServiceResponse, PauseServiceRequest, PauseServiceResponse,
        ResumeServiceRequest, ResumeServiceResponse, Service,
    },
    native::{
        DescribeOperationRequest, DescribeOperationResponse, Instance, ListInstancesRequest,
        ListInstancesResponse, Operation,
    },
};
use serde::Serialize;

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    operation, operations,
    output::{OutputFormat, age, print, print_line, table, unix_now},
    progress::Progress,
};

/// What is shown for a URL of a service that the front door does not lead to.
const PRIVATE: &str = "(private)";

/// What `ps` shows of a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    status: String,
    url: String,
    instances_running: usize,
    instances: usize,
    created_at: u64,
    arn: String,
}

/// What `describe` shows.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    service: Service,
    instances: Vec<Instance>,
    operation: Option<Operation>,
}

/// Lists every service.
///
/// # Errors
/// The endpoint refuses or cannot be reached.
pub async fn list(api: &Api, format: OutputFormat) -> Outcome {
    let services = api.services().await?;
    let instances = instances(api, None).await?;
    let rows: Vec<_> = services
        .into_iter()
        .map(|service| {
            let arn = service.service_arn.unwrap_or_default();
            let own = || {
                instances
                    .iter()
                    .filter(|instance| instance.service_arn == arn)
            };
            Row {
                name: service.service_name.unwrap_or_default(),
                status: service.status.unwrap_or_default(),
                url: service
                    .service_url
                    .map_or_else(|| PRIVATE.to_owned(), |host| api.service_url(&host)),
                instances_running: own()
                    .filter(|instance| instance.status == "RUNNING")
                    .count(),
                instances: own().count(),
                created_at: service.created_at.map_or(0, |at| at.0),
                arn,
            }
        })
        .collect();
    Ok(print(format, &rows, |rows| list_text(rows))?)
}

fn list_text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no services; `ekiden deploy --image REF` makes one".to_owned();
    }
    let now = unix_now();
    let rows = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.status.clone(),
            format!("{}/{}", row.instances_running, row.instances),
            age(now.saturating_sub(row.created_at)),
            row.url.clone(),
        ]
    });
    table(&["NAME", "STATUS", "INSTANCES", "AGE", "URL"], rows)
}

/// Shows one service, its instances and its newest operation.
///
/// # Errors
/// As [`list`], and there is no such service.
pub async fn describe(api: &Api, name: &str, format: OutputFormat) -> Outcome {
    let arn = api.arn(name).await?;
    let request = DescribeOperationRequest {
        service_arn: arn.clone(),
        operation_id: None,
    };
    // A service has had an operation; one whose operations are forgotten is still worth showing.
    let operation = api
        .native::<_, DescribeOperationResponse>("DescribeOperation", &request)
        .await;
    let description = Description {
        service: api.service(&arn).await?,
        instances: instances(api, Some(arn)).await?,
        operation: operation.ok().map(|response| response.operation),
    };
    let host = description.service.service_url.as_deref();
    let url = host.map_or_else(|| PRIVATE.to_owned(), |host| api.service_url(host));
    Ok(print(format, &description, |description| {
        describe_text(description, url)
    })?)
}

fn describe_text(description: &Description, url: String) -> String {
    let service = &description.service;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let source = service.source_configuration.as_ref();
    let image = source.and_then(|source| source.image_repository.as_ref());
    let code = source.and_then(|source| source.code_repository.as_ref());
    let image_port = image
        .and_then(|image| image.image_configuration.as_ref())
        .and_then(|configuration| configuration.port.clone());
    let code_port = code
        .and_then(|code| code.code_configuration.as_ref())
        .and_then(|code| code.code_configuration_values.as_ref())
        .and_then(|values| values.port.clone());
    let source = match (image, code) {
        (Some(image), _) => ("image", text(&image.image_identifier)),
        (None, Some(code)) => ("source", text(&code.repository_url)),
        (None, None) => ("image", String::new()),
    };
    let size = service
        .instance_configuration
        .as_ref()
        .map_or_else(String::new, |size| {
            format!("{} CPU units, {} MiB", text(&size.cpu), text(&size.memory))
        });
    let mut rows = vec![
        ("name", text(&service.service_name)),
        ("status", text(&service.status)),
        ("url", url),
        source,
        ("port", image_port.or(code_port).unwrap_or_default()),
        ("size", size),
        ("arn", text(&service.service_arn)),
    ];
    if let Some(operation) = &description.operation {
        let state = format!("{} {}", operation.r#type, operation.status);
        rows.push(("operation", state));
        rows.extend(operations::rows(operation));
    }
    let mut output = String::new();
    for (key, value) in rows {
        output += &format!("{key:<10} {value}\n");
    }
    output + "\n" + &instances_text(&description.instances)
}

fn instances_text(instances: &[Instance]) -> String {
    if instances.is_empty() {
        return "no instances".to_owned();
    }
    let now = unix_now();
    let rows = instances.iter().map(|instance| {
        vec![
            instance.instance_id.clone(),
            instance.revision.to_string(),
            instance.status.clone(),
            if instance.routed { "yes" } else { "no" }.to_owned(),
            instance.activity.clone().unwrap_or_else(|| "-".to_owned()),
            instance.address.clone().unwrap_or_else(|| "-".to_owned()),
            age(now.saturating_sub(instance.created_at)),
            instance.reason.clone().unwrap_or_default(),
        ]
    });
    table(
        &[
            "INSTANCE", "REVISION", "STATUS", "ROUTED", "ACTIVITY", "ADDRESS", "AGE", "REASON",
        ],
        rows,
    )
}

async fn instances(api: &Api, service_arn: Option<String>) -> Result<Vec<Instance>, Failure> {
    let request = ListInstancesRequest { service_arn };
    let response: ListInstancesResponse = api.native("ListInstances", &request).await?;
    Ok(response.instances)
}

/// Stops a service's instances; its configuration stays.
///
/// # Errors
/// As [`describe`], and the operation failed.
pub async fn pause(api: &Api, name: &str) -> Outcome {
    let arn = api.arn(name).await?;
    let request = PauseServiceRequest {
        service_arn: Some(arn.clone()),
    };
    let response: PauseServiceResponse = api.call("PauseService", &request).await?;
    follow(api, &arn, response.operation_id, &format!("paused {name}")).await
}

/// Starts a paused service.
///
/// # Errors
/// As [`pause`].
pub async fn resume(api: &Api, name: &str) -> Outcome {
    let arn = api.arn(name).await?;
    let request = ResumeServiceRequest {
        service_arn: Some(arn.clone()),
    };
    let response: ResumeServiceResponse = api.call("ResumeService", &request).await?;
    follow(api, &arn, response.operation_id, &format!("resumed {name}")).await
}

/// Deletes a service and everything of it.
///
/// # Errors
/// As [`pause`].
pub async fn delete(api: &Api, name: &str, wait: bool) -> Outcome {
    let arn = api.arn(name).await?;
    let request = DeleteServiceRequest {
        service_arn: Some(arn.clone()),
    };
    let response: DeleteServiceResponse = api.call("DeleteService", &request).await?;
    if !wait {
        return Ok(print_line(&format!("deleting {name}"))?);
    }
    follow(api, &arn, response.operation_id, &format!("deleted {name}")).await
}

async fn follow(api: &Api, arn: &str, id: Option<String>, said: &str) -> Outcome {
    if let Some(id) = id {
        operation::wait(api, arn, &id, &mut Progress::new()).await?;
    }
    Ok(print_line(said)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_how_many_instances_run() {
        let row = Row {
            name: "web1".into(),
            status: "RUNNING".into(),
            url: "abc.us-east-1.ekiden.localhost".into(),
            instances_running: 1,
            instances: 2,
            created_at: unix_now(),
            arn: String::new(),
        };
        let text = list_text(&[row]);
        assert!(
            text.starts_with("NAME  STATUS   INSTANCES  AGE  URL\nweb1  RUNNING  1/2        "),
            "{text}"
        );
        assert!(list_text(&[]).contains("ekiden deploy"));
    }
}
