//! Between the fields of HTTP/2 and the lines of HTTP/1.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{body::for_each_trailer, forward::field};

/// Appends every field as a line.
pub(crate) fn lines(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        field(out, name.as_str(), value.as_bytes());
    }
}

/// Adds lines of the edge's own: one field to a line, the name, `: `.
pub(crate) fn read_lines(lines: &[u8], fields: &mut HeaderMap) {
    for line in lines.split(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
        if let Some((name, value)) = text.split_once(": ")
            && let Some((name, value)) = pair(name, value.as_bytes())
        {
            fields.append(name, value);
        }
    }
}

/// A field of HTTP/2, if the name and the value can be one.
pub(crate) fn pair(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// The trailers of a section that may be passed on.
pub(crate) fn trailers(section: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if !section.is_empty() {
        // The pump has read it before, and found it good.
        let _ = for_each_trailer(section, |name, value| fields.extend(pair(name, value)));
    }
    fields
}
