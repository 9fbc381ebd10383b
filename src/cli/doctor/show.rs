//! How the facts are printed: for people in groups, for scripts as JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::{Format, works};
use crate::cli::error::CommandError;
use crate::cli::{ui, wrap};
use crate::report::clean::{clean_text, without_codes};
use crate::sandbox::facts::{Fact, Group};

/// Prints the facts.
pub fn show(facts: &[Fact], format: Format) -> Result<(), CommandError> {
    match format {
        Format::Text => ui::out(&text(facts, ui::out_columns(), ui::out_in_colour())),
        Format::Json => {
            let list: Vec<_> = facts
                .iter()
                .map(|fact| {
                    json!({
                        "group": fact.group.name(), "name": fact.name, "status": status(fact),
                        "needed_for": fact.purpose, "detail": fact.detail, "fix": fact.fix,
                    })
                })
                .collect();
            ui::line(&serde_json::to_string_pretty(&json!({"works": works(facts), "facts": list}))?);
        }
    }
    Ok(())
}

/// `ok`; `missing` where nothing can be built without it; else `note`.
fn status(fact: &Fact) -> &'static str {
    match (fact.ok, fact.required) {
        (true, _) => "ok",
        (false, true) => "missing",
        (false, false) => "note",
    }
}

/// Writes the facts in groups; `columns` is the width of the terminal, `None` for no limit.
fn text(facts: &[Fact], columns: Option<usize>, colour: bool) -> String {
    let name_width = facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
    let indent = 2 + "missing".len() + 2 + name_width + 2;
    let mut out = String::new();
    for group in Group::ALL {
        let mut of_group = facts.iter().filter(|fact| fact.group == group).peekable();
        if of_group.peek().is_none() {
            continue;
        }
        let _ = writeln!(out, "{}", painted(group.name(), "1", colour));
        for fact in of_group {
            let status = status(fact);
            let code = if fact.ok {
                "32"
            } else if fact.required {
                "31"
            } else {
                "33"
            };
            let mark = painted(&format!("{status:7}"), code, colour);
            let detail = without_codes(&clean_text(&fact.detail));
            let mut lines = vec![detail];
            if !fact.ok {
                lines.push(format!("needed for {}", fact.purpose));
                lines.push(format!("fix: {}", without_codes(&clean_text(&fact.fix))));
            }
            // Beside the name while there is room for a sentence, below it else.
            let narrow = columns.is_some_and(|columns| columns < indent + 30);
            let indent = if narrow { 4 } else { indent };
            let width = columns.map(|columns| columns.saturating_sub(indent).max(20));
            let all: Vec<String> = lines.iter().flat_map(|line| wrap::wrap(line, width)).collect();
            let mut rest = all.iter();
            let beside = if narrow { None } else { rest.next() };
            let head = format!("  {mark}  {:name_width$}  {}", fact.name, beside.map_or("", |line| line));
            let _ = writeln!(out, "{}", head.trim_end());
            for line in rest {
                let _ = writeln!(out, "{:indent$}{line}", "");
            }
        }
    }
    let lacking = facts.iter().filter(|fact| !fact.ok && fact.required).count();
    let notes = facts.iter().filter(|fact| !fact.ok && !fact.required).count();
    let things = |count: usize| if count == 1 { "1 thing".to_owned() } else { format!("{count} things") };
    let summary = match (lacking, notes) {
        (0, 0) => "builds work here, and nothing is missing".to_owned(),
        (0, _) => format!("builds work here; {} that some builds need: see `note`", things(notes)),
        _ => format!("builds cannot work here: {} missing, see `missing`", things(lacking)),
    };
    let _ = writeln!(out, "\n{summary}");
    out
}

fn painted(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<Fact> {
        vec![
            Fact::new("kernel", true, "Linux 6.1", "").of(Group::Kernel, "everything").required(),
            Fact::new("git", false, "not in PATH", "install the package `git`")
                .of(Group::Programs, "Git contexts"),
        ]
    }

    #[test]
    fn groups_with_what_to_do() {
        let wide = text(&example(), None, false);
        assert_eq!(
            wide,
            "kernel\n  ok       kernel  Linux 6.1\nprograms\n  note     git     not in PATH\n                   \
             needed for Git contexts\n                   fix: install the package `git`\n\n\
             builds work here; 1 thing that some builds need: see `note`\n"
        );
        let narrow = text(&example(), Some(30), false);
        assert!(narrow.lines().all(|line| line.len() <= 60), "{narrow}");
        assert!(narrow.contains("  ok       kernel\n    Linux 6.1\n"), "{narrow}");
        assert!(text(&example(), None, true).contains("\x1b[33mnote"));
    }

    #[test]
    fn what_nothing_works_without_is_missing() {
        let mut facts = example();
        facts[0].ok = false;
        let shown = text(&facts, None, false);
        assert!(
            shown.contains("missing  kernel") && shown.contains("cannot work here: 1 thing missing"),
            "{shown}"
        );
        assert!(!works(&facts) && works(&example()));
    }
}
