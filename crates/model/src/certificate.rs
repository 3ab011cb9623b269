//! Certificates: what is recorded of each, and every decision about them.
//!
//! When one is renewed, when a failed attempt is made again and with which authority, what is
//! presented for a name, and when somebody has to look. The old certificate is presented until a new
//! one is there, whatever happens in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{id::CertificateId, time::Timestamp};

/// A certificate is told of as about to end from so long before its end; one of a short life from a
/// sixth of its life before, which is well after it should have been renewed.
pub const WARNING_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The wait after the first failed attempt; doubled by each further one until [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_secs(30);

/// The longest wait between two attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);

/// So many attempts with one authority fail before the other one is tried.
pub const FAILURES_PER_AUTHORITY: u32 = 3;

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// This installation's own authority.
    Local,
    /// An authority that speaks ACME.
    Acme {
        /// The URL of its directory.
        directory: String,
    },
    /// Its owner brought it; nobody renews it but its owner.
    Imported,
}

/// What is recorded of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Which.
    pub id: CertificateId,
    /// The names in it: lower case; `*.example.com` is for every name one label below.
    pub names: Vec<String>,
    /// Where it comes from.
    pub source: Source,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// When its life begins.
    pub not_before: Timestamp,
    /// When its life ends.
    pub not_after: Timestamp,
    /// From when on a new one is wanted.
    pub renew_at: Timestamp,
    /// When it was revoked; not presented since, unless nothing else is there.
    pub revoked_at: Option<Timestamp>,
    /// Whether a client's asking was what it was made for.
    pub on_demand: bool,
}

/// Which authority a certificate is wanted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// This installation's own.
    Local,
    /// One that speaks ACME.
    Acme,
}

/// A certificate that is to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The names in it, all in one.
    pub names: Vec<String>,
    /// From whom.
    pub authority: Authority,
    /// Whether a client's asking is the reason.
    pub on_demand: bool,
}

/// An order with an authority that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The URL of the authority's directory.
    pub directory: String,
    /// The order's own.
    pub url: String,
}

/// How the attempts to get one certificate went since one succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// How many failed.
    pub failures: u32,
    /// Why the last did.
    pub reason: Option<String>,
    /// Not before this is the next.
    pub next_at: Timestamp,
    /// What is under way.
    pub order: Option<Order>,
}

/// What is to be done about a wanted certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Get one.
    Now,
    /// Nothing until then.
    At(Timestamp),
    /// Nothing: its owner brought one.
    Never,
}

/// When to renew a certificate whose authority does not say: at two thirds of its life, or up to a
/// thirtieth of it earlier, so that many issued at once are not renewed at once. `draw` is any number.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, draw: u64) -> Timestamp {
    let life = not_after.since(not_before).as_millis() as u64;
    let earlier = part(life / 30, draw);
    Timestamp::from_millis(not_before.as_millis() + life / 3 * 2 - earlier)
}

/// When to renew within the window that an authority suggests (RFC 9773, section 4.2): anywhere in
/// it, but never later than by the certificate's life alone.
pub fn renew_within(start: Timestamp, end: Timestamp, by_life: Timestamp, draw: u64) -> Timestamp {
    let length = end.since(start).as_millis() as u64;
    Timestamp::from_millis(start.as_millis() + part(length, draw)).min(by_life)
}

/// A number from 0 to `whole`.
fn part(whole: u64, draw: u64) -> u64 {
    draw % whole.saturating_add(1).max(1)
}

impl Attempts {
    /// One failed: another is made after a wait that doubles and is up to a quarter shorter, by
    /// `draw`.
    pub fn failed(&mut self, reason: String, now: Timestamp, draw: u64) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait = (RETRY_MIN * (1 << doublings)).min(RETRY_MAX).as_millis() as u64;
        let wait = wait - part(wait / 4, draw);
        self.next_at = now.plus(Duration::from_millis(wait));
        self.reason = Some(reason);
        self.order = None;
    }

    /// Which of `count` authorities is next: each is given [`FAILURES_PER_AUTHORITY`] attempts, in
    /// turn.
    pub fn authority(&self, count: usize) -> usize {
        (self.failures / FAILURES_PER_AUTHORITY) as usize % count.max(1)
    }
}

impl Wanted {
    /// What tells it from others, in the store too.
    pub fn key(&self) -> String {
        self.names.join(",")
    }

    /// Whether a certificate is what is wanted.
    pub fn met_by(&self, certificate: &Certificate) -> bool {
        let right = match (&certificate.source, self.authority) {
            (Source::Imported, Authority::Local | Authority::Acme)
            | (Source::Local, Authority::Local)
            | (Source::Acme { .. }, Authority::Acme) => true,
            (Source::Local, Authority::Acme) | (Source::Acme { .. }, Authority::Local) => false,
        };
        right
            && certificate.revoked_at.is_none()
            && self
                .names
                .iter()
                .all(|name| covers(&certificate.names, name))
    }

    /// What to do about it, with the certificates there are.
    pub fn due(&self, there: &[Certificate], attempts: &Attempts, now: Timestamp) -> Due {
        let fits = there
            .iter()
            .filter(|certificate| self.met_by(certificate) && now < certificate.not_after);
        let mut renew_at = None;
        for certificate in fits {
            if certificate.source == Source::Imported {
                return Due::Never;
            }
            renew_at = renew_at.max(Some(certificate.renew_at));
        }
        let from = renew_at.unwrap_or_default().max(attempts.next_at);
        match from <= now {
            true => Due::Now,
            false => Due::At(from),
        }
    }
}

impl Certificate {
    /// What people should know of it, as a sentence: that its end is near, or past.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let life = self.not_after.since(self.not_before);
        let left = self.not_after.since(now);
        if left.is_zero() {
            return Some("it has expired".to_owned());
        }
        let near = WARNING_BEFORE.min(life / 6);
        (left < near).then(|| match left.as_secs() / 3600 {
            hours if hours >= 48 => format!("it expires in {} days", hours / 24),
            hours => format!("it expires in {hours} hours"),
        })
    }

    /// Which of two is rather presented, all else equal: the greater.
    fn rank(&self, now: Timestamp) -> (bool, bool, u8, Timestamp, CertificateId) {
        let source = match self.source {
            Source::Imported => 2,
            Source::Acme { .. } => 1,
            Source::Local => 0,
        };
        (
            now < self.not_after,
            self.revoked_at.is_none(),
            source,
            self.not_after,
            self.id,
        )
    }
}

/// Whether one of `names` is for `name`, or is the same wildcard.
pub fn covers(names: &[String], name: &str) -> bool {
    let above = name.split_once('.').map(|(_, above)| above);
    names.iter().any(|own| {
        let wildcard = own.strip_prefix("*.");
        own == name || (wildcard.is_some() && wildcard == above)
    })
}

/// Which certificate is presented for which names: for each name the best there is, so that no name
/// is in two. One that still lives comes before one that has ended or was revoked, its owner's own
/// before an ACME authority's before the local one's, then the one that ends last.
///
/// Names that nobody wants are presented of imported certificates only.
pub fn presented<'a>(
    there: impl IntoIterator<Item = &'a Certificate>,
    wanted: &BTreeSet<String>,
    now: Timestamp,
) -> BTreeMap<CertificateId, Vec<String>> {
    let mut best: BTreeMap<&str, &Certificate> = BTreeMap::new();
    for certificate in there {
        for name in &certificate.names {
            if certificate.source != Source::Imported && !wanted.contains(name) {
                continue;
            }
            let held = best.entry(name).or_insert(certificate);
            if held.rank(now) < certificate.rank(now) {
                *held = certificate;
            }
        }
    }
    let mut presented: BTreeMap<CertificateId, Vec<String>> = BTreeMap::new();
    for (name, certificate) in best {
        presented
            .entry(certificate.id)
            .or_default()
            .push(name.to_owned());
    }
    presented
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_millis(day * DAY)
    }

    fn certificate(number: u8, names: &[&str], source: Source, ends: u64) -> Certificate {
        Certificate {
            id: CertificateId::from_bytes([number; 16]),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            source,
            serial: "01".to_owned(),
            not_before: at(ends - 90),
            not_after: at(ends),
            renew_at: at(ends - 30),
            revoked_at: None,
            on_demand: false,
        }
    }

    fn acme() -> Source {
        Source::Acme {
            directory: "https://acme.test/dir".to_owned(),
        }
    }

    fn wanted(names: &[&str], authority: Authority) -> Wanted {
        Wanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            authority,
            on_demand: false,
        }
    }

    #[test]
    fn a_certificate_is_got_once_and_renewed_in_time() {
        let want = wanted(&["a.test"], Authority::Acme);
        let have = [certificate(1, &["a.test"], acme(), 100)];
        let none = Attempts::default();
        assert_eq!(want.due(&[], &none, at(50)), Due::Now);
        assert_eq!(want.due(&have, &none, at(50)), Due::At(at(70)));
        assert_eq!(want.due(&have, &none, at(70)), Due::Now);
        let waiting = Attempts {
            next_at: at(71),
            ..Attempts::default()
        };
        assert_eq!(want.due(&have, &waiting, at(70)), Due::At(at(71)));
        let other = [certificate(1, &["b.test"], acme(), 100)];
        assert_eq!(want.due(&other, &none, at(50)), Due::Now);
        // Another authority's is not it; one that its owner brought is.
        let local = [certificate(1, &["a.test"], Source::Local, 100)];
        assert_eq!(want.due(&local, &none, at(50)), Due::Now);
        let own = [certificate(1, &["*.test"], Source::Imported, 100)];
        assert_eq!(want.due(&own, &none, at(99)), Due::Never);
        assert_eq!(want.due(&own, &none, at(100)), Due::Now);
        let mut revoked = have.clone();
        revoked[0].revoked_at = Some(at(40));
        assert_eq!(want.due(&revoked, &none, at(50)), Due::Now);
    }

    #[test]
    fn what_is_presented_is_the_best_for_each_name() {
        let there = [
            certificate(1, &["a.test", "b.test"], Source::Local, 100),
            certificate(2, &["a.test"], acme(), 95),
            certificate(3, &["a.test"], acme(), 120),
            certificate(4, &["c.test"], Source::Imported, 93),
            certificate(5, &["d.test"], acme(), 120),
        ];
        let names = ["a.test", "b.test"].map(str::to_owned).into();
        let mut want = BTreeMap::from([
            (there[0].id, vec!["b.test".to_owned()]),
            (there[2].id, vec!["a.test".to_owned()]),
            (there[3].id, vec!["c.test".to_owned()]),
        ]);
        assert_eq!(presented(&there, &names, at(91)), want);
        let mut revoked = there.clone();
        revoked[2].revoked_at = Some(at(91));
        want.remove(&there[2].id);
        want.insert(there[1].id, vec!["a.test".to_owned()]);
        assert_eq!(presented(&revoked, &names, at(91)), want);
        // What has ended is better than nothing.
        let ended = [certificate(1, &["a.test"], acme(), 90)];
        assert_eq!(presented(&ended, &names, at(91)).len(), 1);
    }

    #[test]
    fn an_end_that_is_near_is_told() {
        let long = certificate(1, &["a.test"], acme(), 100);
        assert_eq!(long.warning(at(86)), None);
        let told = |day| long.warning(at(day)).unwrap();
        assert_eq!(told(87), "it expires in 13 days");
        assert_eq!(told(99), "it expires in 24 hours");
        assert_eq!(told(100), "it has expired");
        let mut short = long.clone();
        short.not_before = at(94);
        assert_eq!(short.warning(at(98)), None);
        assert!(
            short
                .warning(Timestamp::from_millis(99 * DAY + 1))
                .is_some()
        );
    }

    #[test]
    fn authorities_take_turns() {
        let turn = |failures| {
            Attempts {
                failures,
                ..Attempts::default()
            }
            .authority(2)
        };
        assert_eq!([0, 1, 2, 3, 5, 6, 9].map(turn), [0, 0, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn a_wildcard_is_for_one_label() {
        let names = ["*.a.test".to_owned(), "a.test".to_owned()];
        for (name, want) in [
            ("a.test", true),
            ("b.a.test", true),
            ("*.a.test", true),
            ("c.b.a.test", false),
            ("test", false),
        ] {
            assert_eq!(covers(&names, name), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn renewal_is_well_before_the_end(begin in 0..1u64 << 40, life in 60_000..1u64 << 40, draw: u64) {
            let (from, to) = (Timestamp::from_millis(begin), Timestamp::from_millis(begin + life));
            let renew = renew_at(from, to, draw);
            prop_assert!(renew.since(from).as_millis() as u64 >= life / 30 * 18);
            prop_assert!(to.since(renew).as_millis() as u64 >= life / 3);
        }

        #[test]
        fn a_suggested_window_never_delays(start in 0..1u64 << 40, length in 0..1u64 << 40, limit in 0..1u64 << 41, draw: u64) {
            let (from, to) = (Timestamp::from_millis(start), Timestamp::from_millis(start + length));
            let limit = Timestamp::from_millis(limit);
            let renew = renew_within(from, to, limit, draw);
            prop_assert!(renew <= to && renew <= limit && (renew >= from || renew == limit));
        }

        #[test]
        fn waits_grow_within_bounds(failures in 0u32..40, draw: u64) {
            let mut attempts = Attempts { failures, ..Attempts::default() };
            attempts.failed("no".to_owned(), at(1), draw);
            let wait = attempts.next_at.since(at(1));
            prop_assert!(wait <= RETRY_MAX && wait >= RETRY_MIN * 3 / 4);
            prop_assert!(failures < 12 || wait >= RETRY_MAX * 3 / 4);
        }
    }
}
