//! `ekiden domain`: the custom domains of services.

use std::time::Duration;

use clap::Subcommand;
use ekiden_aws::{
    apprunner::shapes::{
        AssociateCustomDomainRequest, AssociateCustomDomainResponse,
        DisassociateCustomDomainRequest, DisassociateCustomDomainResponse,
    },
    native::{
        DescribeDomainRequest, DescribeDomainResponse, Domain as Shown, ListDomainsRequest,
        ListDomainsResponse, MoveCustomDomainRequest, MoveCustomDomainResponse,
    },
};

use crate::{
    api::{Api, RETRIES_MAX, RETRY_WAIT, may_pass},
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, print_line, table, unix_now},
    progress::Progress,
};

/// How often a domain that is waited for is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What to do with custom domains.
#[derive(Debug, Clone, Subcommand)]
pub enum Domain {
    /// List the custom domains
    #[command(alias = "list")]
    Ls {
        /// Only this service's
        service: Option<String>,
    },
    /// Lead a domain to a service, and print the DNS records to create
    #[command(after_help = "Examples:\n  \
        ekiden domain add website example.com --wait\n  \
        ekiden domain add website '*.example.com'")]
    Add {
        /// The service
        service: String,
        /// The domain: `example.com`, `app.example.com`, or `*.example.com`
        domain: String,
        /// Leave out the name with `www.` in front
        #[arg(long)]
        no_www: bool,
        /// Wait until the domain leads to the service
        #[arg(long)]
        wait: bool,
    },
    /// Lead a domain to another service, from one request to the next
    #[command(after_help = "Example:\n  \
        ekiden domain move website example.com website-2")]
    Move {
        /// The service that has it
        service: String,
        /// The domain
        domain: String,
        /// The service that is to have it
        target: String,
    },
    /// Lead a domain to a service no more
    #[command(alias = "remove")]
    Rm {
        /// The service
        service: String,
        /// The domain
        domain: String,
    },
}

impl Domain {
    /// Does it.
    ///
    /// # Errors
    /// The endpoint refuses or cannot be reached, there is no such service or domain, or what is
    /// waited for fails.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Ls { service } => list(api, service.as_deref(), format).await,
            Self::Add {
                service,
                domain,
                no_www,
                wait,
            } => {
                let arn = api.arn(service).await?;
                let request = AssociateCustomDomainRequest {
                    service_arn: Some(arn.clone()),
                    domain_name: Some(domain.clone()),
                    enable_www_subdomain: no_www.then_some(false),
                };
                let _: AssociateCustomDomainResponse =
                    api.call("AssociateCustomDomain", &request).await?;
                added(api, &arn, domain, *wait, format).await
            }
            Self::Move {
                service,
                domain,
                target,
            } => {
                let to = api.arn(target).await?;
                let request = MoveCustomDomainRequest {
                    service_arn: api.arn(service).await?,
                    domain_name: domain.clone(),
                    target_service_arn: to.clone(),
                };
                let _: MoveCustomDomainResponse = api.native("MoveCustomDomain", &request).await?;
                let mut progress = Progress::new();
                let active = |status: &str| status == "active";
                let moved = until(api, &to, domain, &mut progress, active).await?;
                Ok(print(format, &moved, |_| {
                    format!("{domain} leads to {target}")
                })?)
            }
            Self::Rm { service, domain } => {
                let request = DisassociateCustomDomainRequest {
                    service_arn: Some(api.arn(service).await?),
                    domain_name: Some(domain.clone()),
                };
                let _: DisassociateCustomDomainResponse =
                    api.call("DisassociateCustomDomain", &request).await?;
                Ok(print_line(&format!("{domain} leads to {service} no more"))?)
            }
        }
    }
}

async fn list(api: &Api, service: Option<&str>, format: OutputFormat) -> Outcome {
    let service_arn = match service {
        Some(name) => Some(api.arn(name).await?),
        None => None,
    };
    let request = ListDomainsRequest { service_arn };
    let response: ListDomainsResponse = api.native("ListDomains", &request).await?;
    Ok(print(format, &response.domains, |domains| {
        list_text(domains)
    })?)
}

fn list_text(domains: &[Shown]) -> String {
    if domains.is_empty() {
        return "no custom domains; `ekiden domain add SERVICE DOMAIN` adds one".to_owned();
    }
    let now = unix_now();
    let rows = domains.iter().map(|domain| {
        let why = domain.reason.clone().or_else(|| domain.waiting_for.clone());
        vec![
            domain.domain_name.clone(),
            domain.service_name.clone(),
            domain.status.clone(),
            if domain.enable_www_subdomain {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
            age(now.saturating_sub(domain.created_at)),
            why.unwrap_or_default(),
        ]
    });
    let header = [
        "DOMAIN",
        "SERVICE",
        "STATUS",
        "WWW",
        "AGE",
        "WAITS FOR OR FAILED",
    ];
    table(&header, rows)
}

/// Prints the records as soon as they are known, and then waits if that was asked for.
async fn added(api: &Api, arn: &str, domain: &str, wait: bool, format: OutputFormat) -> Outcome {
    let mut progress = Progress::new();
    let known = until(api, arn, domain, &mut progress, |status| {
        status != "creating"
    })
    .await?;
    if !wait {
        return Ok(print(format, &known, records_text)?);
    }
    // What to create is needed while it is waited for, whatever the output is for.
    progress.done(&records_text(&known));
    let active = until(api, arn, domain, &mut progress, |status| status == "active").await?;
    drop(progress);
    Ok(print(format, &active, |active| {
        format!("{} leads to {}", active.domain_name, active.service_name)
    })?)
}

/// Waits for a status of a domain; says on standard error what it waits for.
async fn until(
    api: &Api,
    arn: &str,
    domain: &str,
    progress: &mut Progress,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Shown, Failure> {
    let request = DescribeDomainRequest {
        service_arn: arn.to_owned(),
        domain_name: domain.to_owned(),
    };
    let mut failures = 0;
    loop {
        match api
            .native::<_, DescribeDomainResponse>("DescribeDomain", &request)
            .await
        {
            Ok(DescribeDomainResponse { domain }) => {
                failures = 0;
                if domain.status == "create_failed" {
                    return Err(failed(&domain));
                }
                if is_wanted(&domain.status) {
                    return Ok(domain);
                }
                progress.say(&match &domain.waiting_for {
                    Some(what) => format!("{}: {what}", domain.status),
                    None => domain.status.clone(),
                });
            }
            Err(failure) if failures < RETRIES_MAX && may_pass(&failure) => {
                failures += 1;
                progress.say(&format!("waiting for the API: {}", failure.sentence()));
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn failed(domain: &Shown) -> Failure {
    let reason = domain.reason.as_deref().unwrap_or("it does not say why");
    Failure::new(format!("{} failed: {reason}", domain.domain_name))
}

/// What to create in the DNS.
fn records_text(domain: &Shown) -> String {
    let mut rows: Vec<_> = domain
        .records
        .iter()
        .map(|record| {
            [
                record.name.as_str(),
                record.value.as_str(),
                "proves that the name is yours",
            ]
        })
        .collect();
    let www = format!("www.{}", domain.domain_name);
    rows.push([
        &domain.domain_name,
        &domain.dns_target,
        "leads to the service",
    ]);
    if domain.enable_www_subdomain {
        rows.push([&www, &domain.dns_target, "leads to the service"]);
    }
    let rows = rows.into_iter().map(|[name, value, what]| {
        vec![
            name.to_owned(),
            "CNAME".to_owned(),
            value.to_owned(),
            what.to_owned(),
        ]
    });
    format!(
        "create these records in the DNS of {}:\n{}",
        domain.domain_name,
        table(&["NAME", "TYPE", "VALUE", "FOR"], rows)
    )
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native::DomainRecord;

    use super::*;

    fn domain() -> Shown {
        Shown {
            domain_name: "example.com".into(),
            enable_www_subdomain: true,
            service_name: "web1".into(),
            dns_target: "abc.us-east-1.ekiden.localhost".into(),
            status: "pending_certificate_dns_validation".into(),
            waiting_for: Some("a record".into()),
            records: vec![DomainRecord {
                name: "_1.example.com".into(),
                value: "_2.x.acm-validations.aws.".into(),
                status: "PENDING_VALIDATION".into(),
            }],
            created_at: unix_now(),
            ..Shown::default()
        }
    }

    #[test]
    fn the_records_to_create_are_told_with_what_they_are_for() {
        let text = records_text(&domain());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].starts_with("_1.example.com"), "{text}");
        assert!(lines[4].starts_with("www.example.com"), "{text}");
        assert!(
            lines[4].contains("abc.us-east-1.ekiden.localhost"),
            "{text}"
        );
    }

    #[test]
    fn the_list_says_what_is_waited_for_and_why_it_failed() {
        let mut other = domain();
        other.status = "create_failed".into();
        other.reason = Some("not found within 72 hours".into());
        let text = list_text(&[domain(), other.clone()]);
        assert!(text.contains("a record"), "{text}");
        assert!(text.contains("not found within 72 hours"), "{text}");
        assert!(list_text(&[]).contains("ekiden domain add"));
        assert_eq!(
            failed(&other).sentence(),
            "example.com failed: not found within 72 hours"
        );
    }
}
