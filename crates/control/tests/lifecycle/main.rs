//! What can be asked of services and what comes of it, over the real API: configurations and their
//! checks, cancelling, revisions, crowds of requests, and restarts in the middle of everything.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod cancelling;
mod configurations;
mod crowds;
mod deliveries;
mod restarts;
mod revisions;
mod scaling;
mod usage;

use ekiden_aws::client::ClientError;
use serde_json::{Value, json};
use support::World;

/// Calls an operation with words, not types: what a client can send is more than our types hold.
async fn ask(world: &World, target: &str, input: Value) -> Result<Value, ClientError> {
    world.call(target, &input).await
}

/// A service of that image, as few words as possible.
fn wanted(name: &str, image: &str, port: u16) -> Value {
    json!({
        "ServiceName": name,
        "SourceConfiguration": { "ImageRepository": {
            "ImageIdentifier": image,
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": { "Port": port.to_string() },
        }},
    })
}

/// Puts members over those of a request.
fn with(mut request: Value, members: Value) -> Value {
    merge(&mut request, members);
    request
}

fn merge(whole: &mut Value, given: Value) {
    match (whole, given) {
        (Value::Object(whole), Value::Object(given)) => {
            for (name, value) in given {
                merge(whole.entry(name).or_insert(Value::Null), value);
            }
        }
        (whole, given) => *whole = given,
    }
}

/// Creates a service and waits until it runs; answers its ARN.
async fn running(world: &World, request: Value) -> String {
    let created = ask(world, "AppRunner.CreateService", request)
        .await
        .unwrap();
    let arn = created["Service"]["ServiceArn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    arn
}

#[track_caller]
fn refused(answer: Result<Value, ClientError>, code: &str, words: &str) {
    let error = answer.expect_err(words);
    assert_eq!(error.code(), Some(code), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}
