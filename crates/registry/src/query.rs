//! The parameters of a request.

use ekiden_model::image::Digest;
use http::StatusCode;

use crate::{PAGE_MAX, error::Refusal, path::digest_in};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn read(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn digest(&self) -> Result<Option<Digest>, Refusal> {
        self.get("digest").map(digest_in).transpose()
    }

    /// How many entries at most, and after which.
    pub(crate) fn page(&self) -> Result<(u32, &str), Refusal> {
        let most = match self.get("n") {
            None => PAGE_MAX,
            Some(text) => text.parse().map_err(|_| {
                Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "PAGINATION_NUMBER_INVALID",
                    "`n` is not a whole number",
                )
            })?,
        };
        Ok((most.min(PAGE_MAX), self.get("last").unwrap_or_default()))
    }
}

/// Text as the value of a parameter.
pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::read("digest=sha256%3Aab&from=a%2Fb&x&n=3");
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("from"), Some("a/b"));
        assert_eq!(query.page().unwrap(), (3, ""));
        let odd = "a/b+c% é";
        let read = Query::read(&format!("x={}", encoded(odd)));
        assert_eq!(read.get("x"), Some(odd));
    }
}
