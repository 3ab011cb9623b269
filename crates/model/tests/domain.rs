//! Custom domains, event by event (specification, section 4.3), and which names can be one.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ekiden_model::{
    domain::{
        CustomDomain, DOMAIN_STATUSES, DomainEvent, DomainStatus, LOOK_WAIT_MAX, LOOK_WAIT_MIN,
        RecordStatus, VALIDATION_LIMIT, ValidationToken,
    },
    domain_name::{DOMAIN_BYTES_MAX, DomainName, InvalidDomainName},
    id::ServiceId,
    time::Timestamp,
};
use proptest::prelude::*;

use DomainEvent::{Bound, Disassociated, Failed, RecordsKnown, RemovalFailed, Validated};
use DomainStatus::{
    Active, BindingCertificate, CreateFailed, Creating, DeleteFailed, Deleting,
    PendingCertificateDnsValidation as Pending,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

const EVENTS: [DomainEvent; 6] = [
    RecordsKnown,
    Validated,
    Failed,
    Bound,
    Disassociated,
    RemovalFailed,
];

/// Every move there is; every other is refused.
const MOVES: [(DomainStatus, DomainEvent, DomainStatus); 13] = [
    (Creating, RecordsKnown, Pending),
    (Creating, Failed, CreateFailed),
    (Pending, Validated, BindingCertificate),
    (Pending, Failed, CreateFailed),
    (BindingCertificate, Bound, Active),
    (Creating, Disassociated, Deleting),
    (Pending, Disassociated, Deleting),
    (BindingCertificate, Disassociated, Deleting),
    (Active, Disassociated, Deleting),
    (CreateFailed, Disassociated, Deleting),
    (DeleteFailed, Disassociated, Deleting),
    (Deleting, Disassociated, Deleting),
    (Deleting, RemovalFailed, DeleteFailed),
];

#[test]
fn every_event_in_every_status_leads_where_the_table_says() {
    for from in DOMAIN_STATUSES {
        for event in EVENTS {
            let want = MOVES
                .iter()
                .find(|(status, on, _)| (*status, *on) == (from, event))
                .map(|(_, _, to)| *to);
            assert_eq!(from.next(event).ok(), want, "{event:?} while {from}");
        }
    }
}

#[test]
fn statuses_are_lower_case_words_and_read_back() {
    let words: Vec<_> = DOMAIN_STATUSES.iter().map(|s| s.as_str()).collect();
    assert_eq!(
        words,
        [
            "creating",
            "create_failed",
            "active",
            "deleting",
            "delete_failed",
            "pending_certificate_dns_validation",
            "binding_certificate",
        ]
    );
    for status in DOMAIN_STATUSES {
        assert_eq!(status.as_str().parse(), Ok(status));
        let stored = serde_json::to_string(&status).unwrap();
        assert_eq!(stored, format!("\"{status}\""));
    }
    assert!("ACTIVE".parse::<DomainStatus>().is_err());
}

fn token(name: &str) -> ValidationToken {
    ValidationToken {
        name: [name.len() as u8; 16],
        value: [0xab; 16],
        zone: [0, 1, 2, 3, 4, 5, 6, 7, 8, 255],
    }
}

fn domain(name: &str, www: bool) -> CustomDomain {
    let service = ServiceId::from_bytes([1; 16]);
    CustomDomain::new(name.parse().unwrap(), www, service, token, NOW)
}

fn pending(name: &str, www: bool) -> CustomDomain {
    let mut domain = domain(name, www);
    domain.apply(RecordsKnown, NOW).unwrap();
    domain
}

#[test]
fn there_is_one_record_for_each_name_of_the_certificate() {
    let domain = pending("example.com", true);
    let records = domain.records_shown();
    assert_eq!(
        records[0].name,
        "_0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b.example.com"
    );
    assert_eq!(
        records[0].value,
        "_abababababababababababababababab.abcdefghi9.acm-validations.aws."
    );
    assert_eq!(
        records[1].name,
        "_0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f.www.example.com"
    );
    assert_eq!(domain.hosts(), ["example.com", "www.example.com"]);

    let wildcard = pending("*.example.com", false);
    let names: Vec<_> = wildcard.records.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["_0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b.example.com"]);
    assert_eq!(wildcard.hosts(), ["*.example.com"]);
}

#[test]
fn records_are_shown_once_they_are_known() {
    assert!(domain("example.com", false).records_shown().is_empty());
    assert_eq!(pending("example.com", false).records_shown().len(), 1);
}

#[test]
fn a_domain_is_validated_when_each_record_was_found_once() {
    let mut domain = pending("example.com", true);
    domain.looked(&[true, false], NOW).unwrap();
    assert_eq!(domain.status, Pending);
    let statuses = |domain: &CustomDomain| {
        domain
            .records
            .iter()
            .map(|record| record.status)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        statuses(&domain),
        [RecordStatus::Success, RecordStatus::PendingValidation]
    );
    domain.looked(&[false, true], NOW).unwrap();
    assert_eq!(domain.status, BindingCertificate);
    assert_eq!(
        statuses(&domain),
        [RecordStatus::Success, RecordStatus::Success]
    );
    assert!(domain.looked(&[true, true], NOW).is_err(), "that is over");
}

#[test]
fn a_domain_whose_records_do_not_come_fails_with_their_names() {
    let mut domain = pending("example.com", true);
    let just_before = NOW.plus(VALIDATION_LIMIT - Duration::from_millis(1));
    domain.looked(&[true, false], just_before).unwrap();
    assert_eq!(domain.status, Pending);
    domain
        .looked(&[false, false], NOW.plus(VALIDATION_LIMIT))
        .unwrap();
    assert_eq!(domain.status, CreateFailed);
    assert_eq!(domain.records[0].status, RecordStatus::Success);
    assert_eq!(domain.records[1].status, RecordStatus::Failed);
    let reason = domain.failure.clone().unwrap();
    assert!(
        reason.contains(".www.example.com was not found within 72 hours"),
        "{reason}"
    );
    assert!(!reason.contains("_0b"), "{reason}");

    domain.apply(Disassociated, NOW).unwrap();
    assert_eq!(domain.failure, None);
}

#[test]
fn a_record_found_at_the_last_moment_counts() {
    let mut domain = pending("example.com", false);
    domain
        .looked(&[true], NOW.plus(VALIDATION_LIMIT * 2))
        .unwrap();
    assert_eq!(domain.status, BindingCertificate);
}

#[test]
fn the_longer_a_domain_has_waited_the_longer_it_waits_for_the_next_look() {
    let domain = pending("example.com", false);
    let wait = |seconds| domain.look_again_in(NOW.plus(Duration::from_secs(seconds)));
    assert_eq!(wait(0), LOOK_WAIT_MIN);
    assert_eq!(wait(5), LOOK_WAIT_MIN);
    assert_eq!(wait(60), Duration::from_secs(6));
    assert_eq!(wait(100_000), LOOK_WAIT_MAX);
}

#[track_caller]
fn good(text: &str, want: &str) -> DomainName {
    let name: DomainName = text.parse().unwrap();
    assert_eq!(name.as_str(), want);
    name
}

#[test]
fn domains_are_lower_case_labels_with_a_wildcard_in_front_at_most() {
    good("example.com", "example.com");
    good("WWW.Example.COM", "www.example.com");
    good("a-b.1.xn--p1ai", "a-b.1.xn--p1ai");
    assert!(good("*.example.com", "*.example.com").is_wildcard());
    good(
        &format!("{}.com", "a".repeat(63)),
        &format!("{}.com", "a".repeat(63)),
    );
}

#[test]
fn what_cannot_be_a_domain_is_refused_with_the_reason() {
    use InvalidDomainName as I;
    let too_long = format!("{}com", "a.".repeat(DOMAIN_BYTES_MAX / 2));
    for (text, is_so) in [
        (
            "",
            (|error| matches!(error, I::Label { .. })) as fn(&I) -> bool,
        ),
        (".", |error| matches!(error, I::Label { .. })),
        ("example.com.", |error| matches!(error, I::TrailingDot(_))),
        ("example..com", |error| matches!(error, I::Label { .. })),
        (".example.com", |error| matches!(error, I::Label { .. })),
        ("-a.example.com", |error| matches!(error, I::Label { .. })),
        ("a-.example.com", |error| matches!(error, I::Label { .. })),
        ("a_b.example.com", |error| matches!(error, I::Label { .. })),
        ("bücher.example.com", |error| {
            matches!(error, I::Label { .. })
        }),
        (&format!("{}.com", "a".repeat(64)), |error| {
            matches!(error, I::Label { .. })
        }),
        ("a.*.example.com", |error| matches!(error, I::Wildcard(_))),
        ("*a.example.com", |error| matches!(error, I::Wildcard(_))),
        ("*.*.example.com", |error| matches!(error, I::Wildcard(_))),
        ("*", |error| matches!(error, I::Wildcard(_))),
        ("*.", |error| matches!(error, I::TrailingDot(_))),
        ("*.com", |error| matches!(error, I::SingleLabel(_))),
        ("localhost", |error| matches!(error, I::SingleLabel(_))),
        ("192.0.2.1", |error| matches!(error, I::Address(_))),
        ("1.2", |error| matches!(error, I::Address(_))),
        ("*.0.2.1", |error| matches!(error, I::Address(_))),
        (&too_long, |error| matches!(error, I::TooLong { .. })),
    ] {
        let error = text.parse::<DomainName>().unwrap_err();
        assert!(is_so(&error), "`{text}`: {error:?}");
        assert!(error.to_string().len() <= 600, "{error}");
    }
}

#[test]
fn domains_but_wildcards_have_a_www_name_unless_told_otherwise() {
    let plain = good("example.com", "example.com");
    assert_eq!(plain.with_www(None), Ok(true));
    assert_eq!(plain.with_www(Some(false)), Ok(false));
    let wildcard = good("*.example.com", "*.example.com");
    assert_eq!(wildcard.with_www(None), Ok(false));
    assert_eq!(wildcard.with_www(Some(false)), Ok(false));
    assert!(matches!(
        wildcard.with_www(Some(true)),
        Err(InvalidDomainName::WildcardWithWww(_))
    ));
    let long: DomainName = format!("{}b.com", "a.".repeat(DOMAIN_BYTES_MAX / 2 - 3))
        .parse()
        .unwrap();
    assert!(long.with_www(None).is_err());
    assert_eq!(long.with_www(Some(false)), Ok(false));
}

#[test]
fn the_installation_keeps_its_own_domain() {
    for (name, inside) in [
        ("ekiden.localhost", true),
        ("abc.us-east-1.ekiden.localhost", true),
        ("*.us-east-1.ekiden.localhost", true),
        ("*.ekiden.localhost", true),
        ("myekiden.localhost", false),
        ("ekiden.localhost.example.com", false),
    ] {
        let name: DomainName = name.parse().unwrap();
        assert_eq!(name.outside("ekiden.localhost").is_err(), inside, "{name}");
    }
}

proptest! {
    #[test]
    fn whatever_is_a_domain_is_a_good_host_and_reads_back(text in "[A-Za-z0-9*.-]{0,70}") {
        if let Ok(name) = text.parse::<DomainName>() {
            prop_assert_eq!(name.as_str(), text.to_ascii_lowercase());
            prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
            prop_assert!(name.base().contains('.') && !name.base().contains('*'));
            prop_assert!(name.base().split('.').all(|label| (1..=63).contains(&label.len())));
            prop_assert!(name.base().parse::<std::net::IpAddr>().is_err());
            let www = name.with_www(None).unwrap();
            let domain = CustomDomain::new(name, www, ServiceId::from_bytes([1; 16]), token, NOW);
            for record in &domain.records {
                prop_assert!(record.name.len() <= 253, "{}", record.name);
            }
        }
    }

    #[test]
    fn anything_at_all_is_read_or_refused(text in ".{0,300}") {
        let _ = text.parse::<DomainName>();
    }

    #[test]
    fn labels_joined_by_dots_are_a_domain(
        labels in prop::collection::vec("[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", 1..4),
        top in "[a-z]{2,10}",
        wildcard in any::<bool>(),
    ) {
        let name = format!("{}{}.{top}", if wildcard { "*." } else { "" }, labels.join("."));
        let parsed: DomainName = name.parse().unwrap();
        prop_assert_eq!(parsed.is_wildcard(), wildcard);
    }
}
