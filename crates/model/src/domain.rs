//! A custom domain of a service: the durable facts, and the only functions that move them.
//!
//! An association goes
//!
//! ```text
//! creating -> pending_certificate_dns_validation -> binding_certificate -> active
//!     \                    \
//!      +--------------------+--> create_failed
//!
//! active -> binding_certificate, of another service
//!
//! (any) -> deleting -> gone
//!              \
//!               +--> delete_failed
//! ```
//!
//! (specification, section 4.3). Whoever asks for a domain proves that it is theirs by records in
//! its DNS, one for each name that a certificate would have; they are shown from
//! `pending_certificate_dns_validation` on and never change. `binding_certificate` lasts until the
//! edge serves the domain's names; it is where a certificate will be waited for.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{domain_name::DomainName, id::ServiceId, time::Timestamp};

/// How long validation records are waited for before the association has failed: as long as
/// Amazon's certificate manager waits.
pub const VALIDATION_LIMIT: Duration = Duration::from_secs(72 * 3600);

/// The shortest time between two looks for a domain's validation records.
pub const LOOK_WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest time between two looks for a domain's validation records.
pub const LOOK_WAIT_MAX: Duration = Duration::from_secs(300);

/// A domain that has waited for its records for so many times as long is looked at again after one
/// more: the wait grows with the time that has passed, so that nothing needs to be remembered for
/// it over a restart.
const LOOK_WAIT_FRACTION: u32 = 10;

/// Where an association is, in App Runner's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainStatus {
    /// Asked for; its records are not known yet.
    Creating,
    /// It cannot become active.
    CreateFailed,
    /// Its names lead to the service.
    Active,
    /// Its names lead nowhere any more; it is about to be gone.
    Deleting,
    /// It could not be taken away; it can be asked again.
    DeleteFailed,
    /// Its records are waited for in the DNS.
    PendingCertificateDnsValidation,
    /// Its names are being brought to the edge.
    BindingCertificate,
}

/// Every status.
pub const DOMAIN_STATUSES: [DomainStatus; 7] = [
    DomainStatus::Creating,
    DomainStatus::CreateFailed,
    DomainStatus::Active,
    DomainStatus::Deleting,
    DomainStatus::DeleteFailed,
    DomainStatus::PendingCertificateDnsValidation,
    DomainStatus::BindingCertificate,
];

/// What happens to an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainEvent {
    /// Its validation records are known and can be shown.
    RecordsKnown,
    /// Every record was found.
    Validated,
    /// It will not become active.
    Failed,
    /// The edge serves its names.
    Bound,
    /// Its owner wants it gone.
    Disassociated,
    /// It cannot be taken away.
    RemovalFailed,
    /// Its owner wants it to lead to another service.
    Moved,
}

/// An event that cannot happen to an association where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a custom domain that is {from}")]
pub struct IllegalMove {
    from: DomainStatus,
    event: DomainEvent,
}

impl DomainStatus {
    /// Where an event leads.
    ///
    /// # Errors
    /// [`IllegalMove`]: it cannot happen here. So what was begun before an association was asked
    /// to go cannot bring it back.
    pub const fn next(self, event: DomainEvent) -> Result<Self, IllegalMove> {
        use {DomainEvent as E, DomainStatus as S};
        Ok(match (self, event) {
            (S::Creating, E::RecordsKnown) => S::PendingCertificateDnsValidation,
            (S::PendingCertificateDnsValidation, E::Validated) => S::BindingCertificate,
            (S::Creating | S::PendingCertificateDnsValidation, E::Failed) => S::CreateFailed,
            (S::BindingCertificate, E::Bound) => S::Active,
            // Asked again while it goes: as it was asked.
            (
                S::Creating
                | S::CreateFailed
                | S::Active
                | S::Deleting
                | S::DeleteFailed
                | S::PendingCertificateDnsValidation
                | S::BindingCertificate,
                E::Disassociated,
            ) => S::Deleting,
            (S::Deleting, E::RemovalFailed) => S::DeleteFailed,
            (S::Active, E::Moved) => S::BindingCertificate,
            (
                S::Creating
                | S::CreateFailed
                | S::Active
                | S::Deleting
                | S::DeleteFailed
                | S::PendingCertificateDnsValidation
                | S::BindingCertificate,
                E::RecordsKnown | E::Validated | E::Failed | E::Bound | E::RemovalFailed | E::Moved,
            ) => return Err(IllegalMove { from: self, event }),
        })
    }

    /// Whether nothing more happens to it by itself.
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Active | Self::CreateFailed | Self::DeleteFailed => true,
            Self::Creating
            | Self::Deleting
            | Self::PendingCertificateDnsValidation
            | Self::BindingCertificate => false,
        }
    }

    /// Its word on the wire: lower case, whatever the service model says (specification, section
    /// 3.5).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::CreateFailed => "create_failed",
            Self::Active => "active",
            Self::Deleting => "deleting",
            Self::DeleteFailed => "delete_failed",
            Self::PendingCertificateDnsValidation => "pending_certificate_dns_validation",
            Self::BindingCertificate => "binding_certificate",
        }
    }
}

impl fmt::Display for DomainStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status of a custom domain")]
pub struct UnknownDomainStatus(String);

impl FromStr for DomainStatus {
    type Err = UnknownDomainStatus;

    fn from_str(word: &str) -> Result<Self, UnknownDomainStatus> {
        DOMAIN_STATUSES
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownDomainStatus(word.to_owned()))
    }
}

/// How far a validation record is, in App Runner's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecordStatus {
    /// It has not been found yet.
    PendingValidation,
    /// It was found.
    Success,
    /// It was not found in time.
    Failed,
}

impl fmt::Display for RecordStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingValidation => "PENDING_VALIDATION",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        })
    }
}

/// What an owner puts into the DNS to prove that a name is theirs: a CNAME record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// `_{32 hexadecimal digits}.{name}`, without a dot at its end.
    pub name: String,
    /// `_{32 hexadecimal digits}.{10 letters and digits}.acm-validations.aws.`
    pub value: String,
    /// How far it is.
    pub status: RecordStatus,
}

/// What a validation record is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationToken {
    /// Becomes the first label of its name.
    pub name: [u8; 16],
    /// Becomes the first label of its value.
    pub value: [u8; 16],
    /// Becomes the second label of its value.
    pub zone: [u8; 10],
}

impl ValidationRecord {
    /// The record that proves `name`.
    pub fn new(name: &str, token: &ValidationToken) -> Self {
        const LETTERS_AND_DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let hex = |bytes| format!("{:032x}", u128::from_be_bytes(bytes));
        let zone: String = token
            .zone
            .iter()
            .map(|byte| char::from(LETTERS_AND_DIGITS[usize::from(byte % 32)]))
            .collect();
        Self {
            name: format!("_{}.{name}", hex(token.name)),
            value: format!("_{}.{zone}.acm-validations.aws.", hex(token.value)),
            status: RecordStatus::PendingValidation,
        }
    }
}

/// A domain that leads, or is to lead, to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomDomain {
    /// The domain; unique over the whole installation, because the `Host` field routes globally.
    pub name: DomainName,
    /// Whether its www name leads there too.
    pub www: bool,
    /// Whose it is.
    pub service: ServiceId,
    /// Where it is.
    pub status: DomainStatus,
    /// One for each name of its certificate.
    pub records: Vec<ValidationRecord>,
    /// Why it is where it is, in `create_failed` and `delete_failed`.
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it came into its status.
    pub status_since: Timestamp,
    /// Which service had it before, while its names may still be that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<ServiceId>,
}

impl CustomDomain {
    /// A new association; `token` makes what proves a name.
    pub fn new(
        name: DomainName,
        www: bool,
        service: ServiceId,
        token: impl Fn(&str) -> ValidationToken,
        now: Timestamp,
    ) -> Self {
        let mut proved = vec![name.base().to_owned()];
        if www {
            proved.push(name.www());
        }
        let records = proved
            .iter()
            .map(|name| ValidationRecord::new(name, &token(name)))
            .collect();
        Self {
            name,
            www,
            service,
            status: DomainStatus::Creating,
            records,
            failure: None,
            created_at: now,
            status_since: now,
            moved_from: None,
        }
    }

    /// Makes it another service's; its names go there from the one that has it in one step.
    ///
    /// # Errors
    /// As [`CustomDomain::apply`]: it is not active.
    pub fn move_to(&mut self, service: ServiceId, now: Timestamp) -> Result<(), IllegalMove> {
        self.apply(DomainEvent::Moved, now)?;
        self.moved_from = Some(self.service);
        self.service = service;
        Ok(())
    }

    /// The host names that lead to the service while it is active.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts = vec![self.name.to_string()];
        if self.www {
            hosts.push(self.name.www());
        }
        hosts
    }

    /// The records, once they are known.
    pub fn records_shown(&self) -> &[ValidationRecord] {
        match self.status {
            DomainStatus::Creating => &[],
            DomainStatus::CreateFailed
            | DomainStatus::Active
            | DomainStatus::Deleting
            | DomainStatus::DeleteFailed
            | DomainStatus::PendingCertificateDnsValidation
            | DomainStatus::BindingCertificate => &self.records,
        }
    }

    /// Moves it.
    ///
    /// # Errors
    /// [`IllegalMove`]; then nothing was changed.
    pub fn apply(&mut self, event: DomainEvent, now: Timestamp) -> Result<(), IllegalMove> {
        let next = self.status.next(event)?;
        if next != self.status {
            self.status = next;
            self.status_since = now;
            self.failure = None;
        }
        if event == DomainEvent::Bound {
            self.moved_from = None;
        }
        Ok(())
    }

    /// Moves it to where it has failed, and says why.
    ///
    /// # Errors
    /// As [`CustomDomain::apply`].
    pub fn fail(&mut self, reason: String, now: Timestamp) -> Result<(), IllegalMove> {
        self.apply(DomainEvent::Failed, now)?;
        for record in &mut self.records {
            record.status = match record.status {
                RecordStatus::Success => RecordStatus::Success,
                RecordStatus::PendingValidation | RecordStatus::Failed => RecordStatus::Failed,
            };
        }
        self.failure = Some(reason);
        Ok(())
    }

    /// Takes in a look for its records: `found` says of each, in their order, whether it is there.
    /// What was found once counts as found. With all of them it is validated; without, it fails
    /// once the time is over.
    ///
    /// # Errors
    /// As [`CustomDomain::apply`]: its records are not waited for.
    pub fn looked(&mut self, found: &[bool], now: Timestamp) -> Result<(), IllegalMove> {
        self.status.next(DomainEvent::Validated)?;
        for (record, found) in self.records.iter_mut().zip(found) {
            if *found {
                record.status = RecordStatus::Success;
            }
        }
        let missing: Vec<&str> = self
            .records
            .iter()
            .filter(|record| record.status != RecordStatus::Success)
            .map(|record| record.name.as_str())
            .collect();
        if missing.is_empty() {
            return self.apply(DomainEvent::Validated, now);
        }
        if now.since(self.status_since) < VALIDATION_LIMIT {
            return Ok(());
        }
        let reason = format!(
            "the CNAME record {} was not found within {} hours; disassociate the domain, create the \
             record, and associate it again",
            missing.join(" and "),
            VALIDATION_LIMIT.as_secs() / 3600
        );
        self.fail(reason, now)
    }

    /// How long to wait, after a look at `now`, before the next.
    pub fn look_again_in(&self, now: Timestamp) -> Duration {
        let waited = now.since(self.status_since);
        (waited / LOOK_WAIT_FRACTION).clamp(LOOK_WAIT_MIN, LOOK_WAIT_MAX)
    }
}
