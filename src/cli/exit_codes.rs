//! The exit codes, as a table for help, manual pages and `docs/exit-codes.md`. Not here: who gives them (`error`).

use super::wrap::wrap;

/// Code, who gives it, what it means.
pub const EXIT_CODES: [(&str, &str, &str); 11] = [
    ("0", "all", "done"),
    ("1", "all", "the command failed: a step of the build, an image that cannot be had, a full disk"),
    ("1", "check", "something was found"),
    ("1", "doctor", "something is missing that nothing can be built without"),
    ("1", "expand", "the word is wrong, or says that a variable must be set"),
    ("2", "all", "the command line, a configuration file or the Dockerfile is wrong; nothing was run"),
    ("125", "run", "the container could not be started, or the command line is wrong"),
    ("126", "run, exec, shell", "the command could not be executed"),
    ("127", "run, exec, shell", "the command was not found"),
    ("any", "run, exec, shell", "the command's own; 128 + n where signal n ended it"),
    ("129, 130, 143", "all", "ended by SIGHUP, by Ctrl-C (SIGINT), by SIGTERM; nothing is left behind"),
];

/// Writes the table for people.
pub fn text(columns: Option<usize>) -> String {
    let mut text = String::from("The exit codes of rbuild:\n\n");
    let room = columns.map(|columns| columns.saturating_sub(27).max(24));
    text.push_str("  CODE           OF       MEANING\n");
    for (code, of, meaning) in EXIT_CODES {
        for (i, line) in wrap(meaning, room).iter().enumerate() {
            let (code, of) = if i == 0 { (code, of) } else { ("", "") };
            text.push_str(format!("  {code:13}  {of:7}  {line}\n").as_str());
        }
    }
    text.push_str(
        "\nA RUN that fails gives 1, whatever its own code, which is in the message: one that ends with 2 or 125\n\
         does not look like a wrong command line.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-codes.md");
        let document = std::fs::read_to_string(path).unwrap();
        for (code, of, meaning) in EXIT_CODES {
            let row = format!("| {code} | {of} | {meaning} |");
            assert!(document.contains(&row), "{path} lacks `{row}`");
        }
        assert_eq!(document.lines().filter(|line| line.starts_with("| ")).count(), EXIT_CODES.len() + 1);
        assert!(text(Some(60)).lines().take(14).all(|line| line.len() <= 60), "{}", text(Some(60)));
    }
}
