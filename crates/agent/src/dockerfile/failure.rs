//! What buildah 1.28 says when a build fails, told so that its owner knows what to do.
//!
//! buildah has neither error codes nor a machine-readable form: the last line that begins with `Error: `
//! is all there is. What is not known is passed on as it is.

use super::DockerfileError;

/// Longer words of buildah's are cut: it prints whole requests of its file copier.
const PROBLEM_BYTES_MAX: usize = 500;

/// Lines of a failed step's output that its error brings along.
const LAST_LINES: usize = 20;

/// Says why `buildah build` ended with `code`, after it had written these lines last.
pub(super) fn classify(code: i32, tail: &[String]) -> DockerfileError {
    let at = tail.iter().rposition(|line| line.starts_with("Error: "));
    let Some((at, said)) = at.and_then(|at| Some((at, tail[at].strip_prefix("Error: ")?))) else {
        let last = tail.last().map_or("nothing", String::as_str);
        let problem = format!(
            "it ended with code {code}; the last it wrote was: {}",
            cut(last)
        );
        return DockerfileError::Buildah { problem };
    };
    let (step, cause) = step_and_cause(said);
    let has = |text: &str| cause.contains(text);
    if let Some(step) = step {
        let step = cut(step);
        if let Some((_, status)) = cause.rsplit_once("while running runtime: exit status ") {
            if is_busy(&tail[..at]) {
                return DockerfileError::RuntimeBusy { step };
            }
            if let Some(problem) = runtime_problem(&tail[..at]) {
                return DockerfileError::NotStarted { step, problem };
            }
            let code = status.trim().parse().unwrap_or(code);
            return DockerfileError::Step {
                step,
                code,
                last_lines: of_step(&tail[..at]).to_vec(),
            };
        }
        if has("no such file or directory") && (has("copier: stat:") || has("checking on sources"))
        {
            return DockerfileError::Source { step };
        }
        if has("Unknown instruction") {
            return invalid(
                format!("`{step}` is no instruction"),
                "check the spelling; here-documents (`RUN <<EOF`) are not supported: write the commands with `&& \\`",
            );
        }
        if has("only supports the") {
            return invalid(
                format!("`{step}`: {}", cut(cause)),
                "leave out the flags that only BuildKit knows, such as `--link` and `--network`",
            );
        }
    }
    if has("no space left on device") {
        return DockerfileError::Buildah {
            problem: "the disk is full".to_owned(),
        };
    }
    // An owner or a group above what the user namespace maps.
    if has("insufficient UIDs or GIDs") || (has("lchown") && has("invalid argument")) {
        return DockerfileError::Buildah {
            problem:
                "a file's owner or group has an id above 65535, the highest there is in a build"
                    .to_owned(),
        };
    }
    if let Some(problem) = base_problem(cause) {
        return problem;
    }
    if has("no FROM statement found") || has("no contents in") {
        return invalid(
            "it has no `FROM` with an image",
            "begin with `FROM <image>`; an argument in it needs a value",
        );
    }
    if has("no stage or image found with that name")
        || has("was not found in the provided Dockerfile")
    {
        return invalid(
            cut(said),
            "name a stage that the Dockerfile has (`FROM <image> AS <stage>`)",
        );
    }
    if has("secret required but no secret") || has("no secret with id") {
        return invalid(cut(cause), "give the build a secret with that id");
    }
    DockerfileError::Buildah { problem: cut(said) }
}

/// What came after the last step was begun, as far as it is the last.
fn of_step(lines: &[String]) -> &[String] {
    // `STEP 1/2: ...`, or `[1/2] STEP 1/2: ...`
    let is_step = |line: &String| {
        let line = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] "))
            .map_or(line.as_str(), |(_, line)| line);
        line.starts_with("STEP ")
    };
    let begun = lines.iter().rposition(is_step).map_or(0, |at| at + 1);
    &lines[begun.max(lines.len().saturating_sub(LAST_LINES))..]
}

/// `building at STEP "<step>": <cause>`, where the step may hold anything.
fn step_and_cause(said: &str) -> (Option<&str>, &str) {
    let Some(rest) = said.strip_prefix("building at STEP \"") else {
        return (None, said);
    };
    // The last place that can be the end: causes that quote are cut short, steps are not.
    const CAUSES: [&str; 6] = [
        "\": while running runtime: ",
        "\": checking on sources",
        "\": Build error: ",
        "\": reading ",
        "\": storing ",
        "\": resolving ",
    ];
    let end = CAUSES
        .iter()
        .find_map(|cause| rest.rfind(cause))
        .or_else(|| rest.find("\": "));
    match end {
        Some(end) => (Some(&rest[..end]), &rest[end + 3..]),
        None => (None, said),
    }
}

/// What runc said when the step's program could not even be started.
fn runtime_problem(before: &[String]) -> Option<String> {
    let line = before
        .iter()
        .rev()
        .take(3)
        .find(|line| line.contains("runc create failed: "))?;
    let (_, problem) = line.split_once("runc create failed: ")?;
    let problem = problem.trim_end_matches('"').replace("\\\"", "\"");
    let problem = problem
        .strip_prefix("unable to start container process: ")
        .unwrap_or(&problem);
    Some(cut(problem))
}

/// Whether runc could not seal the copy of itself that it runs from: while the kernel holds one of the copy's pages for
/// something else, sealing fails (Linux, `memfd_wait_for_pins` in mm/memfd.c), and runc gives up at once.
fn is_busy(before: &[String]) -> bool {
    let mut last = before.iter().rev().take(3);
    last.any(|line| {
        line.contains("level=fatal msg=\"nsexec[")
            && line.contains("could not ensure we are a cloned binary: Device or resource busy")
    })
}

fn base_problem(cause: &str) -> Option<DockerfileError> {
    let is_pull =
        cause.contains("initializing source") || cause.contains("creating build container");
    if !is_pull {
        return None;
    }
    let image = cause
        .split_once("initializing source ")
        .and_then(|(_, rest)| rest.split_once(": "))
        .map_or("", |(source, _)| source.trim_start_matches("docker://"))
        .to_owned();
    let any = |texts: &[&str]| texts.iter().any(|text| cause.contains(text));
    let hint = if any(&["is blocked in"]) {
        "no image of this name is on this host: import it with `ekiden image import`, or name one of a registry"
    } else if any(&["manifest unknown", "name unknown", "not found"]) {
        "there is no such image or tag: check its name"
    } else if any(&["unauthorized", "denied", "authentication required"]) {
        "it does not exist or is not public: builds pull without credentials"
    } else if any(&["toomanyrequests", "Too Many Requests"]) {
        "the registry limits pulls for a while: try again later"
    } else if any(&[
        "dial tcp",
        "lookup ",
        "timeout",
        "connection re",
        "x509",
        "tls:",
        "EOF",
    ]) {
        "the registry could not be reached from the build's network: check its name and the host's connection"
    } else {
        "see what buildah said"
    };
    Some(DockerfileError::Base {
        image,
        problem: cut(cause),
        hint,
    })
}

fn invalid(problem: impl Into<String>, hint: &'static str) -> DockerfileError {
    DockerfileError::Dockerfile {
        problem: problem.into(),
        hint,
    }
}

fn cut(text: &str) -> String {
    // What the copier was asked for, in Go's own form.
    let text = match text.split_once("error during bulk transfer for copier.request{") {
        Some((before, rest)) => match rest.rsplit_once("}: ") {
            Some((_, after)) => format!("{before}{after}"),
            None => before.to_owned(),
        },
        None => text
            .split(" &imagebuilder.Step{")
            .next()
            .unwrap_or(text)
            .to_owned(),
    };
    match text.char_indices().nth(PROBLEM_BYTES_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    /// What buildah 1.28.2 wrote, and what is made of it.
    #[track_caller]
    fn check(code: i32, said: &str, want: &[&str]) {
        let error = classify(code, &lines(said));
        let text = error.to_string();
        for want in want {
            assert!(text.contains(want), "{want}: {text}");
        }
    }

    #[test]
    fn failed_step_has_its_code_and_last_lines() {
        let said = "STEP 2/2: RUN echo a; echo err >&2; exit 7\na\nerr\nError: building at STEP \"RUN echo a; echo err >&2; exit 7\": while running runtime: exit status 7";
        let DockerfileError::Step {
            step,
            code,
            last_lines,
        } = classify(7, &lines(said))
        else {
            panic!("a step has failed");
        };
        assert_eq!(
            (step.as_str(), code),
            ("RUN echo a; echo err >&2; exit 7", 7)
        );
        assert_eq!(last_lines, ["a", "err"]);
        // A step that looks like an error is told from one by its end.
        let said = "Error: building at STEP \"RUN echo \": while running runtime: exit status 1\": while running runtime: exit status 9";
        assert!(matches!(
            classify(9, &lines(said)),
            DockerfileError::Step { code: 9, .. }
        ));
    }

    #[test]
    fn program_that_is_not_there_is_told_from_one_that_failed() {
        check(
            1,
            "error running container: from /usr/bin/runc creating container for [/nosuch]: time=\"2026-11-27T22:18:09Z\" level=error msg=\"runc create failed: unable to start container process: exec: \\\"/nosuch\\\": stat /nosuch: no such file or directory\"\n: exit status 1\nError: building at STEP \"RUN /nosuch\": while running runtime: exit status 1",
            &[
                "`RUN /nosuch`",
                "could not be started",
                "exec: \"/nosuch\": stat /nosuch: no such file",
            ],
        );
    }

    #[test]
    fn a_runtime_that_met_a_busy_kernel_is_told_from_a_missing_program() {
        let said = "STEP 2/2: RUN make
error running container: from /usr/bin/runc creating container for [/bin/sh -c make]: time=\"2026-11-28T09:41:51Z\" \
level=fatal msg=\"nsexec[78]: could not ensure we are a cloned binary: Device or resource busy\"
time=\"2026-11-28T09:41:51Z\" level=error msg=\"runc create failed: unable to start container process: waiting for \
init preliminary setup: read init-p: connection reset by peer\"
: exit status 1
Error: building at STEP \"RUN make\": while running runtime: exit status 1";
        let found = classify(1, &lines(said));
        assert!(
            matches!(&found, DockerfileError::RuntimeBusy { step } if step == "RUN make"),
            "{found:?}"
        );
    }

    #[test]
    fn missing_source_is_named() {
        check(
            125,
            "Error: building at STEP \"COPY missing.txt /x\": checking on sources under \"/context/app\": copier: stat: \"/missing.txt\": no such file or directory",
            &["`COPY missing.txt /x`", ".dockerignore"],
        );
    }

    #[test]
    fn bases_that_cannot_be_had_are_told_apart() {
        check(
            125,
            "Error: creating build container: initializing source docker://nosuch:1: reading manifest 1 in docker.io/library/nosuch: name unknown",
            &["`nosuch:1`", "no such image"],
        );
        check(
            125,
            "Error: creating build container: initializing source docker://private/x:latest: reading manifest latest in docker.io/private/x: unauthorized",
            &["`private/x:latest`", "without credentials"],
        );
        check(
            125,
            "Error: creating build container: initializing source docker://localhost/nosuch:latest: registry localhost is blocked in /etc/containers/registries.conf",
            &["`localhost/nosuch:latest`", "ekiden image import"],
        );
        check(
            125,
            "Error: creating build container: initializing source docker://quay.io/a/b:latest: pinging container registry quay.io: Get \"https://quay.io/v2/\": dial tcp: lookup quay.io on [::1]:53: read udp: connection refused",
            &["`quay.io/a/b:latest`", "could not be reached"],
        );
    }

    #[test]
    fn mistakes_in_the_dockerfile_are_explained() {
        check(
            125,
            "Error: building at STEP \"RUNN \": Build error: Unknown instruction: \"RUNN\" &imagebuilder.Step{Env:[]string{}}",
            &["`RUNN ` is no instruction", "here-documents"],
        );
        check(125, "Error: no FROM statement found", &["no `FROM`"]);
        check(
            125,
            "Error: no contents in \"/context/app/DE\"",
            &["no `FROM`"],
        );
        check(
            125,
            "Error: The target \"zz\" was not found in the provided Dockerfile",
            &["zz", "AS <stage>"],
        );
        check(
            125,
            "Error: COPY --from=nostage: no stage or image found with that name",
            &["nostage"],
        );
        check(
            125,
            "Error: building at STEP \"COPY --chmod=755 --link hello.txt /x\": COPY only supports the --chmod=<permissions> flags",
            &["--link", "BuildKit"],
        );
        check(
            125,
            "Error: building at STEP \"RUN --mount=type=secret,id=none,required=true cat\": resolving mountpoints for container \"24\": secret required but no secret with id none found",
            &["id none", "give the build a secret"],
        );
    }

    #[test]
    fn what_is_not_known_is_passed_on_and_bounded() {
        check(125, "Error: something new", &["something new"]);
        check(137, "", &["code 137"]);
        let long = format!("Error: {}", "é".repeat(100_000));
        assert!(classify(125, &lines(&long)).to_string().len() < 2 * 1200);
        check(
            125,
            "Error: building at STEP \"COPY a /x\": reading \"/context/a\": error during bulk transfer for copier.request{Request:\"GET\", Root:\"/\"}: copier: get: \"/a\": permission denied",
            &["reading \"/context/a\": copier: get: \"/a\": permission denied"],
        );
    }
}
