//! Words for `/bin/sh`.

/// A word that the shell reads as this text; quoted only if it must be.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether it is words only: nothing that needs a shell, and no variables.
pub(crate) fn is_words(command: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:=@%+,".contains(c);
    !command.is_empty() && command.chars().all(plain)
}

/// Whether a command has this as a word of its own, as the name of a program would be.
pub(crate) fn has_word(command: &str, word: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || ";&|()".contains(c);
    command.split(ends).any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_read_otherwise_is_quoted() {
        assert_eq!(quote("flask==2.0"), "flask==2.0");
        assert_eq!(quote("flask>=2"), "'flask>=2'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
        assert!(is_words("node --enable-source-maps dist/main.js"));
        assert!(!is_words("node $FILE") && !is_words("a && b") && !is_words(""));
        assert!(has_word("sudo yum install -y gcc", "yum"));
        assert!(has_word("cd x&&yum install", "yum"));
        assert!(!has_word("cat yum.txt", "yum"));
    }
}
