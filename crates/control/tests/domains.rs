//! Custom domains over the real API: their states, records, routes and refusals.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, UdpSocket},
    sync::{Mutex, OnceLock},
    thread,
};

use ekiden_aws::{apprunner::shapes as wire, client::ClientError, native};
use ekiden_control::{ControlConfig, DomainValidation};
use ekiden_model::{
    domain::{CustomDomain, DomainEvent},
    domain_name::DomainName,
    route::RouteState,
};
use ekiden_store::Store;
use serde_json::{Value, json};

use self::support::{World, eventually};

fn assumed(config: &mut ControlConfig) {
    config.domain_validation = DomainValidation::Assumed;
}

fn by_dns(config: &mut ControlConfig) {
    config.domain_validation = DomainValidation::DnsAt(dns().address);
}

/// A name server that knows CNAME records only, and only those that tests give it.
struct Dns {
    address: SocketAddr,
    records: Mutex<HashMap<String, String>>,
}

fn dns() -> &'static Dns {
    static DNS: OnceLock<Dns> = OnceLock::new();
    DNS.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let answer = dns().answer(&query[..length]);
                let _ = socket.send_to(&answer, client);
            }
        });
        Dns {
            address,
            records: Mutex::default(),
        }
    })
}

impl Dns {
    fn set(&self, name: &str, value: &str) {
        let value = value.trim_end_matches('.').to_owned();
        self.records.lock().unwrap().insert(name.to_owned(), value);
    }

    /// RFC 1035, section 4.1: the header, the question as it was asked, and an answer if there is
    /// one; NXDOMAIN if not.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        let mut at = 12;
        while query[at] != 0 {
            let label = &query[at + 1..=at + usize::from(query[at])];
            name.push(String::from_utf8_lossy(label).to_lowercase());
            at += label.len() + 1;
        }
        let question = &query[12..at + 5];
        let records = self.records.lock().unwrap();
        let value = records.get(&name.join("."));
        let mut answer = query[..2].to_vec();
        let code = if value.is_some() { 0 } else { 3 };
        answer.extend([
            0x85,
            0x80 | code,
            0,
            1,
            0,
            u8::from(value.is_some()),
            0,
            0,
            0,
            0,
        ]);
        answer.extend(question);
        if let Some(value) = value {
            let mut data = Vec::new();
            for label in value.split('.') {
                data.push(label.len() as u8);
                data.extend(label.as_bytes());
            }
            data.push(0);
            // The name of the question, CNAME, IN, a minute.
            answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            answer.extend(data);
        }
        answer
    }
}

impl World {
    async fn serving(&self, name: &str, port: u16) -> String {
        let created = self.create(name, "ok", port).await;
        let arn = created.service.unwrap().service_arn.unwrap();
        assert_eq!(self.settled(&arn).await, "RUNNING");
        arn
    }

    async fn associate(
        &self,
        arn: &str,
        domain: &str,
    ) -> Result<wire::AssociateCustomDomainResponse, ClientError> {
        let request = json!({ "ServiceArn": arn, "DomainName": domain });
        self.call("AppRunner.AssociateCustomDomain", &request).await
    }

    async fn refused(&self, operation: &str, request: Value) -> (String, String) {
        let answer: Result<Value, _> = self.call(&format!("AppRunner.{operation}"), &request).await;
        let error = answer.unwrap_err();
        (error.code().unwrap().to_owned(), error.to_string())
    }

    async fn disassociate(&self, arn: &str, domain: &str) -> wire::CustomDomain {
        let request = json!({ "ServiceArn": arn, "DomainName": domain });
        let answer: wire::DisassociateCustomDomainResponse = self
            .call("AppRunner.DisassociateCustomDomain", &request)
            .await
            .unwrap();
        answer.custom_domain.unwrap()
    }

    async fn domains(&self, arn: &str) -> Vec<wire::CustomDomain> {
        let request = json!({ "ServiceArn": arn });
        let answer: wire::DescribeCustomDomainsResponse = self
            .call("AppRunner.DescribeCustomDomains", &request)
            .await
            .unwrap();
        assert!(answer.dns_target.unwrap().ends_with(".us-east-1.test"));
        assert_eq!(answer.next_token, None);
        answer.custom_domains.unwrap()
    }

    async fn domain(&self, arn: &str, name: &str) -> native::Domain {
        let request = json!({ "ServiceArn": arn, "DomainName": name });
        let answer: native::DescribeDomainResponse =
            self.call("Ekiden.DescribeDomain", &request).await.unwrap();
        answer.domain
    }

    async fn until_domain(
        &self,
        arn: &str,
        name: &str,
        is_so: impl Fn(&native::Domain) -> bool,
    ) -> native::Domain {
        eventually(async || Some(self.domain(arn, name).await).filter(&is_so)).await
    }

    async fn until_active(&self, arn: &str, name: &str) -> native::Domain {
        self.until_domain(arn, name, |domain| domain.status == "active")
            .await
    }

    async fn until_gone(&self, arn: &str) {
        eventually(async || self.domains(arn).await.is_empty().then_some(())).await;
    }

    fn hosts(&self, service: &str) -> Vec<String> {
        self.route(service).unwrap().hosts[1..].to_vec()
    }
}

fn is_record(name: &str, value: &str, domain: &str) -> bool {
    let is_label = |text: &str, len: usize| {
        text.len() == len
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    let name = name.strip_prefix('_').and_then(|name| name.split_once('.'));
    let value = value
        .strip_prefix('_')
        .and_then(|value| value.strip_suffix(".acm-validations.aws."))
        .and_then(|value| value.split_once('.'));
    name.is_some_and(|(label, rest)| is_label(label, 32) && rest == domain)
        && value.is_some_and(|(label, zone)| is_label(label, 32) && is_label(zone, 10))
}

#[tokio::test]
async fn a_domain_becomes_active_and_leads_to_its_service_until_it_is_disassociated() {
    let world = World::configured(assumed).await;
    let arn = world.serving("web1", 7301).await;
    let own = world.describe(&arn).await.service_url;
    let answer = world.associate(&arn, "Example.com").await.unwrap();
    assert_eq!(answer.dns_target, own);
    assert_eq!(answer.vpc_dns_targets, Some(vec![]));
    let domain = answer.custom_domain.unwrap();
    assert_eq!(domain.domain_name.as_deref(), Some("example.com"));
    assert_eq!(domain.enable_www_subdomain, Some(true));
    assert_eq!(domain.status.as_deref(), Some("creating"));
    assert_eq!(domain.certificate_validation_records, Some(vec![]));

    world.until_active(&arn, "example.com").await;
    assert_eq!(world.hosts("web1"), ["example.com", "www.example.com"]);
    let route = world.route("web1").unwrap();
    assert_eq!(route.hosts.first(), own.as_ref());
    let domains = world.domains(&arn).await;
    assert_eq!(domains[0].status.as_deref(), Some("active"));
    let records = domains[0].certificate_validation_records.clone().unwrap();
    for (record, domain) in records.iter().zip(["example.com", "www.example.com"]) {
        let (name, value) = (record.name.clone().unwrap(), record.value.clone().unwrap());
        assert!(is_record(&name, &value, domain), "{record:?}");
        assert_eq!(record.r#type.as_deref(), Some("CNAME"));
        assert_eq!(record.status.as_deref(), Some("SUCCESS"));
    }
    assert_eq!(records.len(), 2);

    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    assert_eq!(world.route("web1").unwrap().state, RouteState::Paused);
    assert_eq!(world.hosts("web1"), ["example.com", "www.example.com"]);
    let request = json!({ "ServiceArn": arn, "DomainName": "example.com" });
    let (code, message) = world.refused("DisassociateCustomDomain", request).await;
    assert_eq!(code, "InvalidStateException");
    assert!(message.contains("PAUSED"), "{message}");
    world.simple("ResumeService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");

    let gone = world.disassociate(&arn, "EXAMPLE.com").await;
    assert_eq!(gone.status.as_deref(), Some("deleting"));
    assert_eq!(gone.certificate_validation_records, Some(records.clone()));
    world.until_gone(&arn).await;
    world.until(|world| world.hosts("web1").is_empty()).await;

    // The records of a domain stay what they were, whoever asks for it next.
    world.associate(&arn, "example.com").await.unwrap();
    world.until_active(&arn, "example.com").await;
    let again = world.domains(&arn).await;
    assert_eq!(again[0].certificate_validation_records, Some(records));
}

#[tokio::test]
async fn a_domain_is_validated_by_its_records_in_the_dns() {
    let mut world = World::configured(by_dns).await;
    let arn = world.serving("web1", 7302).await;
    world.associate(&arn, "by-dns.example.com").await.unwrap();
    let name = "by-dns.example.com";
    let pending = world
        .until_domain(&arn, name, |domain| {
            let waits = domain.waiting_for.as_deref().unwrap_or_default();
            domain.status == "pending_certificate_dns_validation"
                && waits.contains("has no CNAME record yet")
        })
        .await;
    assert_eq!(pending.records.len(), 2);
    assert!(
        pending
            .records
            .iter()
            .all(|record| record.status == "PENDING_VALIDATION")
    );
    assert!(world.hosts("web1").is_empty());

    dns().set(&pending.records[0].name, "somewhere.else.example.com");
    dns().set(
        &pending.records[1].name,
        &pending.records[1].value.to_uppercase(),
    );
    let half = world
        .until_domain(&arn, name, |domain| {
            let waits = domain.waiting_for.as_deref().unwrap_or_default();
            waits.contains("is a CNAME for `somewhere.else.example.com.`")
                && domain.records[1].status == "SUCCESS"
        })
        .await;
    assert_eq!(half.status, "pending_certificate_dns_validation");
    assert_eq!(half.records[0].status, "PENDING_VALIDATION");

    world.restart().await;
    let after = world.domain(&arn, name).await;
    let texts = |domain: &native::Domain| {
        let records = domain.records.iter();
        records
            .map(|record| {
                (
                    record.name.clone(),
                    record.value.clone(),
                    record.status.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&after), texts(&half));
    dns().set(&half.records[0].name, &half.records[0].value);
    world.until_active(&arn, name).await;
    assert_eq!(world.hosts("web1"), [name, "www.by-dns.example.com"]);
}

#[tokio::test]
async fn a_domain_that_waits_for_the_dns_can_be_disassociated() {
    let world = World::configured(by_dns).await;
    let arn = world.serving("web1", 7303).await;
    world.associate(&arn, "waits.example.com").await.unwrap();
    world
        .until_domain(&arn, "waits.example.com", |domain| {
            !domain.records.is_empty()
        })
        .await;
    world.disassociate(&arn, "waits.example.com").await;
    world.until_gone(&arn).await;
}

#[tokio::test]
async fn a_wildcard_has_one_record_and_no_www_name() {
    let world = World::configured(assumed).await;
    let arn = world.serving("web1", 7304).await;
    world.associate(&arn, "*.example.com").await.unwrap();
    let domain = world.until_active(&arn, "*.example.com").await;
    assert!(!domain.enable_www_subdomain);
    assert_eq!(domain.records.len(), 1);
    let record = &domain.records[0];
    assert!(
        is_record(&record.name, &record.value, "example.com"),
        "{record:?}"
    );
    assert_eq!(world.hosts("web1"), ["*.example.com"]);
}

#[tokio::test]
async fn what_cannot_be_associated_is_refused_in_app_runners_words() {
    let world = World::configured(|config| {
        assumed(config);
        config.quotas.custom_domains = 2;
    })
    .await;
    let arn = world.serving("web1", 7305).await;
    let other = world.serving("web2", 7306).await;
    world.associate(&arn, "example.com").await.unwrap();
    let unknown = arn.replace("web1", "web9");
    for (arn, domain, www, code, words) in [
        (
            &arn,
            "example.com",
            None,
            "InvalidRequest",
            "example.com is already associated with",
        ),
        (
            &other,
            "EXAMPLE.com",
            None,
            "InvalidRequest",
            "example.com is already associated with the service web1 in us-east-1",
        ),
        (
            &other,
            "www.example.com",
            None,
            "InvalidRequest",
            "www.example.com is already associated with the service web1 in us-east-1, as the www name of example.com",
        ),
        (
            &other,
            "*.example.com",
            Some(true),
            "InvalidRequest",
            "has no www name",
        ),
        (
            &other,
            "example.com.",
            None,
            "InvalidRequest",
            "ends in a dot",
        ),
        (
            &other,
            "192.0.2.7",
            None,
            "InvalidRequest",
            "is an IP address",
        ),
        (
            &other,
            "web.*.com",
            None,
            "InvalidRequest",
            "has a `*` where none can be",
        ),
        (
            &other,
            "us-east-1.test",
            None,
            "InvalidRequest",
            "the installation's own domain",
        ),
        (
            &other,
            "bad name",
            None,
            "InvalidRequest",
            "validation error detected",
        ),
        (
            &unknown,
            "example.org",
            None,
            "InvalidRequest",
            "cannot be found",
        ),
    ] {
        let request = json!({ "ServiceArn": arn, "DomainName": domain, "EnableWWWSubdomain": www });
        let (got, message) = world.refused("AssociateCustomDomain", request).await;
        assert_eq!(got, format!("{code}Exception"), "{domain}: {message}");
        assert!(message.contains(words), "{domain}: {message}");
    }

    // Copilot would take the words for a www name for success.
    world.associate(&other, "www.example.org").await.unwrap();
    let request = json!({ "ServiceArn": other, "DomainName": "example.org" });
    let (_, message) = world.refused("AssociateCustomDomain", request).await;
    assert!(
        !message.contains("example.org is already associated with"),
        "{message}"
    );
    assert!(message.contains("EnableWWWSubdomain"), "{message}");

    world.associate(&arn, "second.example.net").await.unwrap();
    let request = json!({ "ServiceArn": arn, "DomainName": "third.example.net" });
    let (code, message) = world.refused("AssociateCustomDomain", request).await;
    assert_eq!(code, "InvalidRequestException");
    assert!(message.contains("quota.custom_domains"), "{message}");

    for (arn, domain) in [
        (&unknown, "example.com"),
        (&other, "example.com"),
        (&arn, "nobody.example"),
    ] {
        let request = json!({ "ServiceArn": arn, "DomainName": domain });
        let (code, message) = world.refused("DisassociateCustomDomain", request).await;
        assert_eq!(code, "ResourceNotFoundException", "{domain}: {message}");
    }
    world.simple("PauseService", &other).await.unwrap();
    let request = json!({ "ServiceArn": other, "DomainName": "late.example.net" });
    let (code, message) = world.refused("AssociateCustomDomain", request).await;
    assert_eq!(code, "InvalidStateException", "{message}");
}

#[tokio::test]
async fn domains_are_paged_and_a_token_is_good_for_its_own_service_only() {
    let world = World::configured(assumed).await;
    let arn = world.serving("web1", 7307).await;
    let other = world.serving("web2", 7308).await;
    for number in 0..5 {
        let name = format!("{number}.example.com");
        world.associate(&arn, &name).await.unwrap();
    }
    let mut names = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let request = json!({ "ServiceArn": arn, "MaxResults": 2, "NextToken": token });
        let page: wire::DescribeCustomDomainsResponse = world
            .call("AppRunner.DescribeCustomDomains", &request)
            .await
            .unwrap();
        names.extend(
            page.custom_domains
                .unwrap()
                .into_iter()
                .map(|d| d.domain_name.unwrap()),
        );
        if let Some(token) = &page.next_token {
            let request = json!({ "ServiceArn": other, "MaxResults": 2, "NextToken": token });
            let (code, _) = world.refused("DescribeCustomDomains", request).await;
            assert_eq!(code, "InvalidRequestException");
        }
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    names.sort();
    let want: Vec<_> = (0..5)
        .map(|number| format!("{number}.example.com"))
        .collect();
    assert_eq!(names, want);
    for bad in [
        json!({ "MaxResults": 6 }),
        json!({ "NextToken": "d1-nonsense" }),
    ] {
        let mut request = bad;
        request["ServiceArn"] = arn.clone().into();
        let (code, _) = world.refused("DescribeCustomDomains", request).await;
        assert_eq!(code, "InvalidRequestException");
    }
    let all: native::ListDomainsResponse =
        world.call("Ekiden.ListDomains", &json!({})).await.unwrap();
    assert_eq!(all.domains.len(), 5);
    let none: native::ListDomainsResponse = world
        .call("Ekiden.ListDomains", &json!({ "ServiceArn": other }))
        .await
        .unwrap();
    assert!(none.domains.is_empty());
}

/// No host name is ever in two routes, and none of a domain's is anywhere without its owner.
fn watch_owners(world: &World) -> tokio::task::JoinHandle<()> {
    let mut routes = world.routes.clone();
    tokio::spawn(async move {
        while routes.changed().await.is_ok() {
            let mut owners = BTreeMap::new();
            for (service, route) in routes.borrow().iter() {
                for host in &route.hosts {
                    let other = owners.insert(host.clone(), service.clone());
                    assert_eq!(other, None, "{host} leads to two services");
                }
            }
        }
    })
}

#[tokio::test]
async fn a_domain_that_moves_to_another_service_never_leads_to_both() {
    let world = World::configured(assumed).await;
    let one = world.serving("web1", 7309).await;
    let two = world.serving("web2", 7310).await;
    let owners = watch_owners(&world);
    world.associate(&one, "example.com").await.unwrap();
    world.until_active(&one, "example.com").await;
    for _ in 0..5 {
        for (from, to) in [(&one, &two), (&two, &one)] {
            world.disassociate(from, "example.com").await;
            // Until the old owner has lost it, it cannot be had.
            eventually(async || {
                let refused = world.associate(to, "example.com").await.err();
                let text = refused.map(|error| error.to_string());
                let is_early = |text: &String| text.contains("is already associated with");
                assert!(text.iter().all(is_early), "{text:?}");
                text.is_none().then_some(())
            })
            .await;
            world.until_active(to, "example.com").await;
        }
    }
    assert_eq!(world.hosts("web1"), ["example.com", "www.example.com"]);
    assert!(world.hosts("web2").is_empty());
    assert!(!owners.is_finished(), "see its panic");
    owners.abort();
}

#[tokio::test]
async fn the_domains_of_a_deleted_service_are_free() {
    let world = World::configured(assumed).await;
    let one = world.serving("web1", 7311).await;
    let two = world.serving("web2", 7312).await;
    world.associate(&one, "example.com").await.unwrap();
    world.until_active(&one, "example.com").await;
    world.simple("DeleteService", &one).await.unwrap();
    assert_eq!(world.settled(&one).await, "DELETED");
    assert!(world.domains(&one).await.is_empty());
    world.associate(&two, "example.com").await.unwrap();
    world.until_active(&two, "example.com").await;
    assert_eq!(world.hosts("web2"), ["example.com", "www.example.com"]);
}

/// Stops the control plane, moves a domain by hand as if it had been killed there, and starts it.
async fn restart_with(world: &mut World, name: &DomainName, events: &[DomainEvent]) {
    world.stop().await;
    let store = Store::open(&world.dir.path().join("control/ekiden.db"))
        .await
        .unwrap();
    for event in events {
        let service = store.domain(name).await.unwrap().unwrap().service;
        let apply = |domain: &mut CustomDomain| domain.apply(*event, domain.created_at);
        store
            .update_domain(service, name, apply)
            .await
            .unwrap()
            .unwrap();
    }
    drop(store);
    world.start().await;
}

#[tokio::test]
async fn a_restarted_control_plane_brings_every_domain_to_its_end() {
    // Its records never come: so it stays where it is put.
    let mut world = World::configured(by_dns).await;
    let arn = world.serving("web1", 7313).await;
    let name: DomainName = "restart.example.com".parse().unwrap();
    world.associate(&arn, name.as_str()).await.unwrap();
    world.restart().await;
    world
        .until_domain(&arn, name.as_str(), |domain| {
            domain.status == "pending_certificate_dns_validation"
        })
        .await;

    // Killed after its records were found, before anything followed from it.
    restart_with(&mut world, &name, &[DomainEvent::Validated]).await;
    world.until_active(&arn, name.as_str()).await;
    assert_eq!(
        world.hosts("web1"),
        [name.as_str(), "www.restart.example.com"]
    );

    // Active: it stays so, and its route too.
    world.restart().await;
    assert_eq!(world.domain(&arn, name.as_str()).await.status, "active");
    assert_eq!(world.hosts("web1").len(), 2);

    // Killed after it was asked to go, before anything followed from it.
    restart_with(&mut world, &name, &[DomainEvent::Disassociated]).await;
    world.until_gone(&arn).await;
    world.until(|world| world.hosts("web1").is_empty()).await;
}
