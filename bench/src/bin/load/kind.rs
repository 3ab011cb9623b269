//! The kinds of requests, and what a right answer to each is.

use crate::{
    connection::{Answer, Failure},
    payload::{LARGE_BYTES, Payload},
};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// A few bytes each way.
    Small,
    /// 1 MB from the application.
    Download,
    /// 1 MB to the application, which answers with its hash.
    Upload,
}

impl RequestKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    /// The head, and the body to send after it.
    pub(crate) fn encode<'a>(
        self,
        host: &str,
        tag: &str,
        fresh: bool,
        payload: &'a Payload,
    ) -> (String, &'a [u8]) {
        let connection = if fresh { "connection: close\r\n" } else { "" };
        let rest = format!("host: {host}\r\nx-tag: {tag}\r\n{connection}");
        match self {
            Self::Small => (format!("GET /echo/{tag} HTTP/1.1\r\n{rest}\r\n"), &[]),
            Self::Download => (format!("GET /large HTTP/1.1\r\n{rest}\r\n"), &[]),
            Self::Upload => {
                let length = payload.bytes.len();
                let head = format!(
                    "POST /hash HTTP/1.1\r\n{rest}content-type: application/octet-stream\r\n\
                     content-length: {length}\r\n\r\n"
                );
                (head, &payload.bytes)
            }
        }
    }

    /// Whether the answer is the right one.
    pub(crate) fn check(
        self,
        answer: &Answer,
        tag: &str,
        payload: &Payload,
    ) -> Result<(), Failure> {
        if answer.status != 200 {
            let kind = match &answer.cause {
                Some(cause) => format!("{} {cause}", answer.status),
                None => answer.status.to_string(),
            };
            return Err(answer.failure(&kind, &text(&answer.body)));
        }
        if answer.tag.as_deref() != Some(tag) {
            let got = answer.tag.as_deref().unwrap_or("none");
            return Err(answer.failure("wrong tag", &format!("sent {tag}, got {got}")));
        }
        let right = match self {
            Self::Small => answer.body == format!("{tag}\n").as_bytes(),
            Self::Download => answer.body.len() == LARGE_BYTES && answer.body == payload.bytes,
            Self::Upload => answer.body == format!("{}\n", payload.hash).as_bytes(),
        };
        match right {
            true => Ok(()),
            false => Err(answer.failure("bad body", &text(&answer.body))),
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned()
}

/// Spreads the kinds evenly and the same way in each run.
pub(crate) struct Mix {
    fresh: Share,
    large: Share,
    upload: bool,
}

impl Mix {
    /// How many of a hundred requests are on fresh connections, and how many are large.
    pub(crate) fn new(fresh: u32, large: u32) -> Self {
        Self {
            fresh: Share::new(fresh),
            large: Share::new(large),
            upload: false,
        }
    }

    pub(crate) fn next_kind(&mut self) -> RequestKind {
        if !self.large.next() {
            return RequestKind::Small;
        }
        self.upload = !self.upload;
        if self.upload {
            RequestKind::Upload
        } else {
            RequestKind::Download
        }
    }

    pub(crate) fn next_fresh(&mut self) -> bool {
        self.fresh.next()
    }
}

/// True for so many of each hundred, evenly spread (an error accumulator, as in Bresenham's lines).
struct Share {
    percent: u32,
    error: u32,
}

impl Share {
    fn new(percent: u32) -> Self {
        Self {
            percent: percent.min(100),
            error: 0,
        }
    }

    fn next(&mut self) -> bool {
        self.error += self.percent;
        let due = self.error >= 100;
        if due {
            self.error -= 100;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hundred_requests_have_their_share_of_each_kind() {
        let mut mix = Mix::new(30, 4);
        let kinds: Vec<_> = (0..100)
            .map(|_| (mix.next_kind(), mix.next_fresh()))
            .collect();
        let count = |kind| kinds.iter().filter(|(k, _)| *k == kind).count();
        assert_eq!(count(RequestKind::Upload), 2);
        assert_eq!(count(RequestKind::Download), 2);
        assert_eq!(kinds.iter().filter(|(_, fresh)| *fresh).count(), 30);
    }
}
