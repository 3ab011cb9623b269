//! Sessions that stay with their instance.
//!
//! A cookie names the instance by a tag: a hash of its id and its service's, so that it tells
//! nothing of addresses and is worth nothing with another service. It is no secret and not signed:
//! whoever makes one up reaches an instance that any client can reach.
//!
//! Staying is a preference. A client whose instance is gone, full, or cannot be reached is served by
//! another; gone for good, it is given a new cookie.

use aws_lc_rs::digest;
use ekiden_model::{
    id::{InstanceId, ServiceId},
    ingress::Sticky,
    route::Route,
};

use crate::{client_address::Scheme, forward::number};

/// The length of a tag, in bytes: 64 bits are enough to tell a service's instances apart.
const TAG_BYTES: usize = 16;

/// Cookies of one request that are looked at.
const COOKIES_MAX: usize = 128;

/// How the sessions of a service stay.
#[derive(Debug)]
pub(crate) struct Sessions {
    cookie: Box<str>,
    seconds: u32,
    /// Each instance's, in the order of the route.
    tags: Box<[[u8; TAG_BYTES]]>,
}

impl Sessions {
    /// Those of a route, if it is to have any.
    pub(crate) fn of(route: &Route) -> Option<Self> {
        let Sticky { cookie, seconds } = route.ingress.sticky.as_ref()?;
        let tags = route.upstreams.iter();
        let tags = tags.map(|upstream| tag(route.service, upstream.instance));
        Some(Self {
            cookie: cookie.as_str().into(),
            seconds: *seconds,
            tags: tags.collect(),
        })
    }

    /// The place in the route of the instance that a request stays with. `cookies` are the values of
    /// `Cookie`.
    pub(crate) fn place<'v>(&self, cookies: impl Iterator<Item = &'v [u8]>) -> Option<usize> {
        let mut pairs = cookies.flat_map(|value| value.split(|byte| *byte == b';'));
        let value = pairs.by_ref().take(COOKIES_MAX).find_map(|pair| {
            let pair = pair.trim_ascii_start();
            let value = pair.strip_prefix(self.cookie.as_bytes())?;
            Some(value.strip_prefix(b"=")?.trim_ascii_end())
        })?;
        self.tags.iter().position(|tag| tag == value)
    }

    /// Appends the value of the `Set-Cookie` that makes a client stay with the instance at a place.
    pub(crate) fn set_cookie(&self, place: usize, scheme: Scheme, out: &mut Vec<u8>) {
        let Some(tag) = self.tags.get(place) else {
            return;
        };
        out.extend_from_slice(self.cookie.as_bytes());
        out.push(b'=');
        out.extend_from_slice(tag);
        out.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
        if scheme == Scheme::Https {
            out.extend_from_slice(b"; Secure");
        }
        if self.seconds > 0 {
            out.extend_from_slice(b"; Max-Age=");
            number(out, self.seconds.into());
        }
    }
}

fn tag(service: ServiceId, instance: InstanceId) -> [u8; TAG_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(service.to_string().as_bytes());
    context.update(instance.to_string().as_bytes());
    let digest = context.finish();
    let mut tag = [0; TAG_BYTES];
    for (pair, byte) in tag.chunks_mut(2).zip(digest.as_ref()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    tag
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        ingress::Ingress,
        instance::RevisionNumber,
        route::{RouteState, Upstream},
    };

    use super::*;

    fn sessions(service: u8, instances: &[u8]) -> Sessions {
        let upstreams = instances.iter().map(|number| Upstream {
            instance: InstanceId::from_bytes([*number; 16]),
            revision: RevisionNumber(1),
            address: ([10, 0, 0, *number], 8080).into(),
        });
        let ingress = r#"{"sticky":{"cookie":"stay","seconds":60}}"#;
        let ingress: Ingress = serde_json::from_str(ingress).unwrap();
        Sessions::of(&Route {
            service: ServiceId::from_bytes([service; 16]),
            service_name: "web1".parse().unwrap(),
            hosts: Vec::new(),
            private_hosts: Vec::new(),
            state: RouteState::Serving,
            concurrency_per_instance: 1,
            upstreams: upstreams.collect(),
            ingress: Box::new(ingress),
        })
        .unwrap()
    }

    fn cookie(sessions: &Sessions, place: usize, scheme: Scheme) -> String {
        let mut out = Vec::new();
        sessions.set_cookie(place, scheme, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn place(sessions: &Sessions, cookies: &[&str]) -> Option<usize> {
        sessions.place(cookies.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn a_cookie_leads_back_to_its_instance_wherever_that_is_in_the_route() {
        let (before, after) = (sessions(1, &[1, 2]), sessions(1, &[2, 3]));
        let set = cookie(&before, 1, Scheme::Http);
        let pair = set.split(';').next().unwrap();
        assert_eq!(place(&before, &[pair]), Some(1));
        assert_eq!(
            place(&after, &["a=b; c", &format!("x=y;{pair} ; z=1")]),
            Some(0)
        );
        assert_eq!(place(&sessions(1, &[1, 3]), &[pair]), None);
        assert_eq!(place(&sessions(2, &[1, 2]), &[pair]), None);
    }

    #[test]
    fn what_is_no_such_cookie_leads_nowhere() {
        let sessions = sessions(1, &[1]);
        for value in ["", "stay", "stay=", "stay=0", "sta=1", "stayed=1", ";;=;"] {
            assert_eq!(place(&sessions, &[value]), None, "{value}");
        }
    }

    #[test]
    fn a_cookie_is_kept_from_scripts_and_names_no_address() {
        let sessions = sessions(1, &[1]);
        let plain = cookie(&sessions, 0, Scheme::Http);
        assert!(
            plain.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"),
            "{plain}"
        );
        assert!(
            !plain.contains("10.0") && !plain.contains("0101"),
            "{plain}"
        );
        assert!(cookie(&sessions, 0, Scheme::Https).contains("; Secure"));
        assert_eq!(cookie(&sessions, 1, Scheme::Http), "");
    }
}
