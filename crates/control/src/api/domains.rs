//! App Runner's custom domain operations, and Ekiden's own about them.

use ekiden_aws::{
    apprunner::shapes::{
        AssociateCustomDomainRequest, AssociateCustomDomainResponse, CertificateValidationRecord,
        CustomDomain as WireDomain, DescribeCustomDomainsRequest, DescribeCustomDomainsResponse,
        DisassociateCustomDomainRequest, DisassociateCustomDomainResponse,
    },
    error::ApiError,
    native::{
        DescribeDomainRequest, DescribeDomainResponse, Domain, DomainRecord, ListDomainsRequest,
        ListDomainsResponse, MoveCustomDomainRequest, MoveCustomDomainResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    domain::{CustomDomain, ValidationRecord},
    domain_name::{DomainName, InvalidDomainName},
    service::ServiceStatus,
    time::Timestamp,
};
use ekiden_store::domains::{CreateDomainError, Holder};

use super::{Api, Caller, page::Page, store_error};
use crate::worker::Snapshot;

impl<E: Engine> Api<E> {
    pub(super) async fn associate_custom_domain(
        &self,
        caller: &Caller,
        request: AssociateCustomDomainRequest,
    ) -> Result<AssociateCustomDomainResponse, ApiError> {
        // The operation's contract has no ResourceNotFoundException (specification, section 2.4).
        let snapshot = self
            .find(caller, request.service_arn.as_deref())
            .map_err(|unknown| ApiError::invalid_request(unknown.message()))?;
        let given = request.domain_name.as_deref().unwrap_or_default();
        let name: DomainName = given.parse().map_err(bad_name)?;
        let www = name
            .with_www(request.enable_www_subdomain)
            .map_err(bad_name)?;
        name.outside(&self.config.domain).map_err(bad_name)?;
        if let Some(holder) = self
            .domains
            .holder(name.as_str())
            .await
            .map_err(|error| store_error(&error))?
        {
            return Err(taken(&name, name.as_str(), &holder));
        }
        running(&snapshot, "associated with")?;
        let service = snapshot.stored.service.id;
        let count_max = self.config.quotas.custom_domains;
        let domain = self
            .domains
            .associate(service, name.clone(), www, count_max)
            .await
            .map_err(|error| match error {
                CreateDomainError::Taken {
                    name: of_them,
                    holder,
                } => taken(&name, &of_them, &holder),
                CreateDomainError::Full { count } => full(count, count_max),
                CreateDomainError::ServiceGone => {
                    wrong_status(ServiceStatus::Deleted, "associated with")
                }
                CreateDomainError::Store(error) => store_error(&error),
            })?;
        Ok(AssociateCustomDomainResponse {
            dns_target: Some(dns_target(&snapshot)),
            service_arn: Some(self.arn(&snapshot.stored)),
            custom_domain: Some(wire(&domain)),
            vpc_dns_targets: Some(
                self.vpc_dns_targets(caller, snapshot.stored.service.id)
                    .await?,
            ),
        })
    }

    pub(super) async fn describe_custom_domains(
        &self,
        caller: &Caller,
        request: DescribeCustomDomainsRequest,
    ) -> Result<DescribeCustomDomainsResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let page: Page<(Timestamp, DomainName)> =
            self.page("DescribeCustomDomains", caller, &request)?;
        let mut found = self.domains_of(&snapshot).await?;
        found.retain(|domain| page.after().is_none_or(|after| place(domain) > *after));
        let (found, next_token) = page.cut(found, place);
        Ok(DescribeCustomDomainsResponse {
            dns_target: Some(dns_target(&snapshot)),
            service_arn: Some(self.arn(&snapshot.stored)),
            custom_domains: Some(found.iter().map(wire).collect()),
            vpc_dns_targets: Some(
                self.vpc_dns_targets(caller, snapshot.stored.service.id)
                    .await?,
            ),
            next_token,
        })
    }

    pub(super) async fn disassociate_custom_domain(
        &self,
        caller: &Caller,
        request: DisassociateCustomDomainRequest,
    ) -> Result<DisassociateCustomDomainResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let given = request.domain_name.unwrap_or_default();
        let known = self.domain_of(&snapshot, &given).await?;
        running(&snapshot, "disassociated from")?;
        let domain = self
            .domains
            .disassociate(known.service, &known.name)
            .await
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| self.no_such_domain(&snapshot, &given))?;
        Ok(DisassociateCustomDomainResponse {
            dns_target: Some(dns_target(&snapshot)),
            service_arn: Some(self.arn(&snapshot.stored)),
            custom_domain: Some(wire(&domain)),
            vpc_dns_targets: Some(
                self.vpc_dns_targets(caller, snapshot.stored.service.id)
                    .await?,
            ),
        })
    }

    pub(super) async fn list_domains(
        &self,
        caller: &Caller,
        request: ListDomainsRequest,
    ) -> Result<ListDomainsResponse, ApiError> {
        let snapshots = match request.service_arn.as_deref() {
            Some(arn) => vec![self.find(caller, Some(arn))?],
            None => self.services.list(&caller.region, None, usize::MAX),
        };
        let mut domains = Vec::new();
        for snapshot in snapshots {
            let own = self.domains_of(&snapshot).await?;
            domains.extend(
                own.iter()
                    .map(|domain| self.native_domain(&snapshot, domain)),
            );
        }
        Ok(ListDomainsResponse { domains })
    }

    pub(super) async fn describe_domain(
        &self,
        caller: &Caller,
        request: DescribeDomainRequest,
    ) -> Result<DescribeDomainResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let domain = self.domain_of(&snapshot, &request.domain_name).await?;
        Ok(DescribeDomainResponse {
            domain: self.native_domain(&snapshot, &domain),
        })
    }

    pub(super) async fn move_custom_domain(
        &self,
        caller: &Caller,
        request: MoveCustomDomainRequest,
    ) -> Result<MoveCustomDomainResponse, ApiError> {
        let from = self.find(caller, Some(&request.service_arn))?;
        let to = self.find(caller, Some(&request.target_service_arn))?;
        let known = self.domain_of(&from, &request.domain_name).await?;
        running(&from, "moved from")?;
        running(&to, "moved to")?;
        if known.service == to.stored.service.id {
            return Err(ApiError::invalid_request(
                "The target is the service that has the domain.",
            ));
        }
        let count_max = self.config.quotas.custom_domains;
        let moved = self
            .domains
            .move_to(&known.name, known.service, to.stored.service.id, count_max)
            .await
            .map_err(|error| match error {
                CreateDomainError::Full { count } => full(count, count_max),
                CreateDomainError::ServiceGone => wrong_status(ServiceStatus::Deleted, "moved to"),
                CreateDomainError::Store(error) => store_error(&error),
                CreateDomainError::Taken { name, holder } => taken(&known.name, &name, &holder),
            })?
            .ok_or_else(|| {
                ApiError::invalid_state(format!(
                    "Custom domain {} cannot be moved in the current state: {}. Wait until it is \
                     active.",
                    known.name, known.status
                ))
            })?;
        Ok(MoveCustomDomainResponse {
            domain: self.native_domain(&to, &moved),
        })
    }

    async fn domains_of(&self, snapshot: &Snapshot) -> Result<Vec<CustomDomain>, ApiError> {
        self.domains
            .of(snapshot.stored.service.id)
            .await
            .map_err(|error| store_error(&error))
    }

    async fn domain_of(&self, snapshot: &Snapshot, given: &str) -> Result<CustomDomain, ApiError> {
        let all = self.domains_of(snapshot).await?;
        let wanted = given.to_ascii_lowercase();
        all.into_iter()
            .find(|domain| domain.name.as_str() == wanted)
            .ok_or_else(|| self.no_such_domain(snapshot, given))
    }

    fn no_such_domain(&self, snapshot: &Snapshot, given: &str) -> ApiError {
        ApiError::resource_not_found(format!(
            "Custom domain {given} is not associated with the service. ARN: {}",
            self.arn(&snapshot.stored)
        ))
    }

    fn native_domain(&self, snapshot: &Snapshot, domain: &CustomDomain) -> Domain {
        let record = |record: &ValidationRecord| DomainRecord {
            name: record.name.clone(),
            value: record.value.clone(),
            status: record.status.to_string(),
        };
        Domain {
            domain_name: domain.name.to_string(),
            enable_www_subdomain: domain.www,
            service_arn: self.arn(&snapshot.stored),
            service_name: snapshot.stored.service.name.to_string(),
            dns_target: dns_target(snapshot),
            status: domain.status.to_string(),
            waiting_for: self
                .domains
                .waits_for(&domain.name)
                .filter(|_| !domain.status.is_settled()),
            reason: domain.failure.clone(),
            records: domain.records_shown().iter().map(record).collect(),
            created_at: domain.created_at.as_secs(),
            status_since: domain.status_since.as_secs(),
        }
    }
}

/// Where a domain is in the list of its service.
fn place(domain: &CustomDomain) -> (Timestamp, DomainName) {
    (domain.created_at, domain.name.clone())
}

/// What the domain's own record points to: the service's own host name, which a private service
/// has too, although nobody finds it at the front door.
fn dns_target(snapshot: &Snapshot) -> String {
    let hosts = &snapshot.stored.service.hosts;
    hosts.first().cloned().unwrap_or_default()
}

fn wire(domain: &CustomDomain) -> WireDomain {
    let record = |record: &ValidationRecord| CertificateValidationRecord {
        name: Some(record.name.clone()),
        r#type: Some("CNAME".to_owned()),
        value: Some(record.value.clone()),
        status: Some(record.status.to_string()),
    };
    WireDomain {
        domain_name: Some(domain.name.to_string()),
        enable_www_subdomain: Some(domain.www),
        certificate_validation_records: Some(domain.records_shown().iter().map(record).collect()),
        status: Some(domain.status.to_string()),
    }
}

/// A service takes domains, and gives them up, while it runs (specification, section 4.1.1).
fn running(snapshot: &Snapshot, verb: &str) -> Result<(), ApiError> {
    match snapshot.stored.service.status() {
        ServiceStatus::Running => Ok(()),
        other => Err(wrong_status(other, verb)),
    }
}

fn wrong_status(status: ServiceStatus, verb: &str) -> ApiError {
    ApiError::invalid_state(format!(
        "Custom domain cannot be {verb} the service in the current state: {status}."
    ))
}

fn bad_name(error: InvalidDomainName) -> ApiError {
    ApiError::invalid_request(format!("The domain name isn't valid: {error}."))
}

/// Copilot takes `{domain} is already associated with` for success (specification, section 5.2):
/// it must not stand in what is said about the www name of a domain that is nobody's.
fn taken(asked: &DomainName, name: &str, holder: &Holder) -> ApiError {
    let Holder {
        domain,
        service_name,
        region,
    } = holder;
    let of = match domain.as_str() == name {
        true => String::new(),
        false => format!(", as the www name of {domain}"),
    };
    ApiError::invalid_request(match asked.as_str() == name {
        true => {
            format!("{name} is already associated with the service {service_name} in {region}{of}.")
        }
        false => format!(
            "{asked} can't have its www name: {name} belongs to the service {service_name} in \
             {region}{of}. Set EnableWWWSubdomain to false, or disassociate {domain} first."
        ),
    })
}

/// App Runner's model lists no ServiceQuotaExceededException for the operation.
fn full(count: u64, count_max: u64) -> ApiError {
    ApiError::invalid_request(format!(
        "The service has {count} custom domains, and may have {count_max}: the quota \
         custom_domains. Disassociate one, or raise the setting quota.custom_domains."
    ))
}
