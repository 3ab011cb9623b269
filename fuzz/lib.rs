//! What targets have in common: requests as text, so that seeds can be read and written by hand.

#![forbid(unsafe_code)]

use ekiden_aws::{
    apprunner::shapes::*,
    constraint::{self, Validate},
    decode::Tree,
    error::ApiError,
    protocol::APP_RUNNER,
};
use http::{Request, request::Parts};
use serde::de::DeserializeOwned;

/// Reads `METHOD address`, lines of headers, an empty line, and a body.
///
/// The head has been through an HTTP parser when the API sees it, so what that refuses is no
/// request here either.
pub fn request(data: &[u8]) -> Option<(Parts, &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (&data[..end], &data[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, address) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(address);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        request = request.header(name, value);
    }
    Some((request.body(()).ok()?.into_parts().0, body))
}

/// Reads an operation's input from a tree and checks it, as the control plane does.
pub fn read_input(operation: Operation, tree: Tree) -> Result<(), ApiError> {
    macro_rules! read {
        ($($name:ident => $input:ident,)*) => {
            match operation {
                $(Operation::$name => checked::<$input>(tree),)*
            }
        };
    }
    read! {
        AssociateCustomDomain => AssociateCustomDomainRequest,
        CreateAutoScalingConfiguration => CreateAutoScalingConfigurationRequest,
        CreateConnection => CreateConnectionRequest,
        CreateObservabilityConfiguration => CreateObservabilityConfigurationRequest,
        CreateService => CreateServiceRequest,
        CreateVpcConnector => CreateVpcConnectorRequest,
        CreateVpcIngressConnection => CreateVpcIngressConnectionRequest,
        DeleteAutoScalingConfiguration => DeleteAutoScalingConfigurationRequest,
        DeleteConnection => DeleteConnectionRequest,
        DeleteObservabilityConfiguration => DeleteObservabilityConfigurationRequest,
        DeleteService => DeleteServiceRequest,
        DeleteVpcConnector => DeleteVpcConnectorRequest,
        DeleteVpcIngressConnection => DeleteVpcIngressConnectionRequest,
        DescribeAutoScalingConfiguration => DescribeAutoScalingConfigurationRequest,
        DescribeCustomDomains => DescribeCustomDomainsRequest,
        DescribeObservabilityConfiguration => DescribeObservabilityConfigurationRequest,
        DescribeService => DescribeServiceRequest,
        DescribeVpcConnector => DescribeVpcConnectorRequest,
        DescribeVpcIngressConnection => DescribeVpcIngressConnectionRequest,
        DisassociateCustomDomain => DisassociateCustomDomainRequest,
        ListAutoScalingConfigurations => ListAutoScalingConfigurationsRequest,
        ListConnections => ListConnectionsRequest,
        ListObservabilityConfigurations => ListObservabilityConfigurationsRequest,
        ListOperations => ListOperationsRequest,
        ListServices => ListServicesRequest,
        ListServicesForAutoScalingConfiguration => ListServicesForAutoScalingConfigurationRequest,
        ListTagsForResource => ListTagsForResourceRequest,
        ListVpcConnectors => ListVpcConnectorsRequest,
        ListVpcIngressConnections => ListVpcIngressConnectionsRequest,
        PauseService => PauseServiceRequest,
        ResumeService => ResumeServiceRequest,
        StartDeployment => StartDeploymentRequest,
        TagResource => TagResourceRequest,
        UntagResource => UntagResourceRequest,
        UpdateDefaultAutoScalingConfiguration => UpdateDefaultAutoScalingConfigurationRequest,
        UpdateService => UpdateServiceRequest,
        UpdateVpcIngressConnection => UpdateVpcIngressConnectionRequest,
    }
}

fn checked<T: DeserializeOwned + Validate>(tree: Tree) -> Result<(), ApiError> {
    let input: T = tree.read()?;
    constraint::check(&input, APP_RUNNER.violations)
}
