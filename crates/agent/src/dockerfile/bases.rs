//! The images that a Dockerfile names, found without building it.
//!
//! Read as buildah 1.28 reads it: no here-documents, whose lines it takes for instructions. What is
//! not understood names nothing; buildah says what is wrong with it.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

/// More images than this are not looked for; a real Dockerfile names a handful.
pub(crate) const BASES_MAX: usize = 32;

/// A longer name is none (255 bytes of name and 128 of tag, and a digest).
const NAME_BYTES_MAX: usize = 512;

/// Arguments that stand for something without being declared (BuildKit's "global scope").
const PLATFORM_ARGS: [(&str, &str); 6] = [
    ("TARGETPLATFORM", PLATFORM),
    ("BUILDPLATFORM", PLATFORM),
    ("TARGETOS", "linux"),
    ("BUILDOS", "linux"),
    ("TARGETARCH", ARCH),
    ("BUILDARCH", ARCH),
];

#[cfg(target_arch = "x86_64")]
const PLATFORM: &str = "linux/amd64";
#[cfg(target_arch = "x86_64")]
const ARCH: &str = "amd64";
#[cfg(target_arch = "aarch64")]
const PLATFORM: &str = "linux/arm64";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "arm64";

/// The images that `FROM`, `COPY --from` and `RUN --mount=from=` name, build arguments put in, each once
/// and as it is written; neither `scratch` nor the Dockerfile's own stages. At most [`BASES_MAX`].
pub(crate) fn bases(dockerfile: &str, args: &BTreeMap<String, String>) -> Vec<String> {
    let mut bases = Vec::new();
    let mut stages: Vec<String> = Vec::new();
    let mut scope: BTreeMap<String, String> = PLATFORM_ARGS
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    for instruction in instructions(dockerfile) {
        let mut words = instruction.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let named: Vec<&str> = match keyword.as_str() {
            // Those before the first stage are what `FROM` may use.
            "ARG" if stages.is_empty() => {
                declare(words, args, &mut scope);
                continue;
            }
            "FROM" => words
                .clone()
                .find(|word| !word.starts_with("--"))
                .into_iter()
                .collect(),
            "COPY" => flags(words.clone())
                .filter_map(|flag| flag.strip_prefix("--from="))
                .collect(),
            "RUN" => flags(words.clone())
                .filter_map(|flag| flag.strip_prefix("--mount="))
                .flat_map(|mount| mount.split(','))
                .filter_map(|option| option.strip_prefix("from="))
                .collect(),
            _ => continue,
        };
        for name in named {
            let name = expand(unquoted(name), &scope);
            let is_stage = stages.iter().any(|stage| stage.eq_ignore_ascii_case(&name))
                || (keyword != "FROM" && name.bytes().all(|byte| byte.is_ascii_digit()));
            let is_image = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != "scratch";
            if is_image && !is_stage && !bases.contains(&name) && bases.len() < BASES_MAX {
                bases.push(name);
            }
        }
        if keyword == "FROM" {
            let mut rest = words.skip_while(|word| !word.eq_ignore_ascii_case("as"));
            // A stage without a name has a number.
            let name = rest
                .nth(1)
                .map_or_else(|| stages.len().to_string(), str::to_owned);
            stages.push(name);
        }
    }
    bases
}

/// Whole instructions: lines put together, comments and empty lines left out.
fn instructions(dockerfile: &str) -> Vec<String> {
    let escape = escape_character(dockerfile);
    let mut instructions = Vec::new();
    let mut whole = String::new();
    for line in dockerfile.lines() {
        let line = line.trim();
        // Within an instruction as well.
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_suffix(escape) {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
            }
            None => {
                whole.push_str(line);
                instructions.push(std::mem::take(&mut whole));
            }
        }
    }
    if !whole.is_empty() {
        instructions.push(whole);
    }
    instructions
}

/// `# escape=` may be among the comments at the top.
fn escape_character(dockerfile: &str) -> char {
    let directives = dockerfile
        .lines()
        .map_while(|line| line.trim().strip_prefix('#'))
        .filter_map(|directive| directive.split_once('='));
    for (name, value) in directives {
        if name.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            return '`';
        }
    }
    '\\'
}

fn flags<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    words.take_while(|word| word.starts_with("--"))
}

fn declare<'a>(
    words: impl Iterator<Item = &'a str>,
    args: &BTreeMap<String, String>,
    scope: &mut BTreeMap<String, String>,
) {
    for word in words {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(expand(unquoted(default), scope))),
            None => (word, None),
        };
        if let Some(value) = args.get(name).cloned().or(default) {
            scope.insert(name.to_owned(), value);
        }
    }
}

fn unquoted(word: &str) -> &str {
    let inner = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(word)
}

/// `$NAME`, `${NAME}`, `${NAME:-otherwise}` and `${NAME:+instead}` (Dockerfile reference,
/// "Environment replacement"); what is not set is empty.
fn expand(text: &str, scope: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '$' if rest.next_if_eq(&'{').is_some() => {
                let inner = inside_braces(&mut rest);
                let end = inner.find(':').unwrap_or(inner.len());
                let (name, modifier) = inner.split_at(end);
                let value = scope.get(name).filter(|value| !value.is_empty());
                match (modifier.get(..2), modifier.get(2..), value) {
                    (Some(":+"), Some(instead), Some(_)) => expanded.push_str(instead),
                    (Some(":+"), ..) => {}
                    (Some(":-"), Some(otherwise), None) => {
                        // One level: nothing that nests deeper is worth a stack.
                        expanded.push_str(otherwise);
                    }
                    (.., value) => expanded.push_str(value.map_or("", String::as_str)),
                }
            }
            '$' => {
                let name = name(&mut rest);
                expanded.push_str(scope.get(&name).map_or("", String::as_str));
            }
            other => expanded.push(other),
        }
        if expanded.len() > NAME_BYTES_MAX {
            break;
        }
    }
    expanded
}

fn inside_braces(rest: &mut Peekable<Chars<'_>>) -> String {
    rest.take_while(|character| *character != '}').collect()
}

fn name(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(character) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(character);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dockerfile: &str, args: &[(&str, &str)], want: &[&str]) {
        let args = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(bases(dockerfile, &args), want, "{dockerfile}");
    }

    #[test]
    fn images_are_named_by_from_copy_and_run() {
        check("FROM debian:12\n", &[], &["debian:12"]);
        check(
            "from localhost/a as x\nFROM x\nfrom scratch\n",
            &[],
            &["localhost/a"],
        );
        check(
            "FROM --platform=$BUILDPLATFORM golang AS build\nRUN --mount=type=cache,target=/c --mount=type=bind,from=localhost/tools,target=/t true\nFROM scratch\nCOPY --chown=1:1 --from=build /a /b\nCOPY --from=0 /a /b\nCOPY --from=busybox /a /b\n",
            &[],
            &["golang", "localhost/tools", "busybox"],
        );
        check("RUN --mount=type=bind true --mount=from=x\n", &[], &[]);
    }

    #[test]
    fn arguments_are_put_in() {
        let dockerfile =
            "ARG BASE=debian\nARG TAG\nARG WHOLE=\"$BASE:${TAG:-12}\"\nFROM ${WHOLE}\n";
        check(dockerfile, &[], &["debian:12"]);
        check(dockerfile, &[("TAG", "13")], &["debian:13"]);
        check(dockerfile, &[("WHOLE", "localhost/x")], &["localhost/x"]);
        check("FROM a${X:+b}c$Y\n", &[("X", "1")], &["ac"]);
        check("ARG X\nFROM a${X:+-b}\n", &[("X", "1")], &["a-b"]);
        check("ARG X\nFROM $X\n", &[], &[]);
        check("FROM a\nARG X=b\nFROM $X\n", &[], &["a"]);
        check("FROM app-$TARGETOS\n", &[], &["app-linux"]);
    }

    #[test]
    fn lines_are_continued_and_comments_left_out() {
        check(
            "# c\n\n  FROM \\\n# inside\n\n  debian\\\n",
            &[],
            &["debian"],
        );
        check("# escape=`\nFROM `\ndebian\n", &[], &["debian"]);
        check("FROM debian \\", &[], &["debian"]);
    }

    #[test]
    fn hostile_files_are_bounded() {
        let many: String = (0..10_000).map(|n| format!("FROM i{n}\n")).collect();
        assert_eq!(bases(&many, &BTreeMap::new()).len(), BASES_MAX);
        check(&format!("FROM {}\n", "a".repeat(100_000)), &[], &[]);
        check(
            "FROM ${\nFROM ${A:\nFROM $\nFROM ${A:é}\nFROM\nCOPY --from=\nRUN --mount=from=\n",
            &[],
            &[],
        );
        let doubling: String = (1..100).fold("ARG A0=xxxx\n".to_owned(), |text, n| {
            text + &format!("ARG A{n}=$A{}$A{}\n", n - 1, n - 1)
        });
        check(&(doubling + "FROM $A99\n"), &[], &[]);
    }
}
