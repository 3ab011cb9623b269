//! Form parameters of the AWS query protocol into a tree.
//!
//! A parameter's name is a path: `A.B` is member `B` of structure `A`, `L.member.2` the second
//! element of list `L`, and `M.entry.1.key` and `M.entry.1.value` the first entry of map `M`. Which
//! of these a path is only the input's type can say, so names become nested
//! [forms](Tree::Form) here and are read as what is asked for by the tree's deserializer.

use std::collections::BTreeMap;

use super::tree::{Bounds, Tree, shown};

/// Why a body is not a form: a sentence without a value.
type Refusal = String;

/// Reads all parameters of a body.
pub(super) fn parse(body: &[u8]) -> Result<Tree, Refusal> {
    let bounds = Bounds::default();
    let mut root = BTreeMap::new();
    for pair in pairs(body) {
        let (name, value) = pair?;
        insert(&mut root, &name, value, &bounds)?;
    }
    Ok(Tree::Form(root))
}

/// The value of the one parameter of that name; `None` when there is none.
///
/// # Errors
/// The body is no form, or has the parameter twice.
pub(crate) fn parameter(body: &[u8], wanted: &str) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for pair in pairs(body) {
        let (name, value) = pair?;
        if name == wanted && found.replace(value).is_some() {
            return Err(format!("`{wanted}` is given twice"));
        }
    }
    Ok(found)
}

fn pairs(body: &[u8]) -> impl Iterator<Item = Result<(String, String), Refusal>> {
    let parts = body.split(|&byte| byte == b'&');
    parts.filter(|part| !part.is_empty()).map(|part| {
        let middle = part.iter().position(|&byte| byte == b'=');
        let (name, value) = part.split_at(middle.unwrap_or(part.len()));
        Ok((decoded(name)?, decoded(value.get(1..).unwrap_or_default())?))
    })
}

fn insert(
    root: &mut BTreeMap<String, Tree>,
    path: &str,
    value: String,
    bounds: &Bounds,
) -> Result<(), Refusal> {
    let (mut form, mut rest, mut depth) = (root, path, 0);
    while let Some((first, later)) = rest.split_once('.') {
        depth = Bounds::deeper(depth)?;
        if !form.contains_key(first) {
            bounds.count()?;
            form.insert(first.to_owned(), Tree::Form(BTreeMap::new()));
        }
        match form.get_mut(first) {
            Some(Tree::Form(inner)) => (form, rest) = (inner, later),
            _ => return Err(clash(path)),
        }
    }
    bounds.count()?;
    match form.insert(rest.to_owned(), Tree::Plain(value)) {
        None => Ok(()),
        Some(_) => Err(clash(path)),
    }
}

fn clash(path: &str) -> Refusal {
    format!("`{}` is given twice", shown(path))
}

/// Undoes form encoding (URL standard, "application/x-www-form-urlencoded parsing"), but refuses
/// what is not well formed instead of guessing.
fn decoded(text: &[u8]) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    // Two hexadecimal digits fit a byte.
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err("a `%` of the body is not followed by two digits".to_owned()),
                }
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| "the body is not UTF-8".to_owned())
}
