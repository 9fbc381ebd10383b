//! File name patterns and ignore rules against their model, and pruning against what it spares.

use std::collections::BTreeSet;

use rbuild::pattern::{Ignore, matches};

use super::choices::Choices;
use super::pattern_model;

/// Reads the bytes both as text (first line: a path; the rest: the ignore file) and as
/// decisions that make both.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, rules) = text.split_once('\n').unwrap_or((&text, ""));
    agree(path, rules);
    let mut choices = Choices::new(bytes);
    let rules = made(&mut choices);
    let path = components(&choices.text(&['a', 'b', '/', 'é', ']', '*'], 9));
    agree(&path, &rules);
}

/// Makes rules whose characters often mean something.
fn made(choices: &mut Choices<'_>) -> String {
    const PIECES: [&str; 20] = [
        "a", "b", "*", "**", "/", "?", "[", "]", "^", "-", "\\", "é", "!", ".", "..", "**/", "/**", "[^a]",
        "[a-b]", " ",
    ];
    let mut rules = String::new();
    for _ in 0..1 + choices.below(4) {
        if choices.one_in(3) {
            rules.push('!');
        }
        for _ in 0..1 + choices.below(5) {
            rules.push_str(choices.of(&PIECES));
        }
        rules.push('\n');
    }
    rules
}

/// What the rules are asked about: no empty part, no `.` and `..`.
fn components(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).take(8).collect();
    parts.join("/")
}

fn agree(path: &str, rules: &str) {
    // The model takes pattern times path, and tries every path.
    if path.len() > 100 || rules.len() > 400 {
        return bounded(path, rules);
    }
    for line in rules.lines().take(8) {
        let found = matches(line, path).ok();
        let expect = pattern_model::name_matches(line, path);
        assert_eq!(found.is_some(), expect.is_some(), "{line:?}");
        if let Some(expect) = expect.flatten() {
            assert_eq!(found, Some(expect), "{line:?} {path:?}");
        }
    }
    let ignore = Ignore::parse(rules.as_bytes());
    let model = pattern_model::rules(rules);
    assert_eq!(ignore.is_ok(), model.is_some(), "{rules:?}: {ignore:?}");
    let (Ok(ignore), Some(model)) = (ignore, model) else { return };

    let path = components(path);
    for path in universe(&path, rules) {
        let found = ignore.excluded(&path);
        assert_eq!(found.excluded, pattern_model::excluded(&model, &path), "{rules:?} {path:?}");
        assert!(found.rule.is_some() || !found.excluded, "nothing decided {path:?}");
        assert!(found.rule.is_none_or(|rule| rule.negated != found.excluded), "{rules:?} {path:?}");
    }
    pruning(&ignore, &path, rules);
}

/// Long ones: an answer in time, and pruning that is in line with it.
fn bounded(path: &str, rules: &str) {
    let path = components(path);
    if let Ok(ignore) = Ignore::parse(rules.as_bytes())
        && ignore.prune(&path)
    {
        assert!(ignore.excluded(&path).excluded, "pruned but not excluded: {rules:?} {path:?}");
        assert!(ignore.excluded(&format!("{path}/a")).excluded, "{rules:?} {path:?}");
    }
}

/// Nothing below a directory that is pruned is included.
fn pruning(ignore: &Ignore, path: &str, rules: &str) {
    let all = universe(path, rules);
    for directory in &all {
        if !ignore.prune(directory) {
            continue;
        }
        assert!(ignore.excluded(directory).excluded, "{rules:?} prunes {directory:?}, which it includes");
        for below in &all {
            let path = format!("{directory}/{below}");
            assert!(ignore.excluded(&path).excluded, "{rules:?} prunes {directory:?}, but includes {path:?}");
        }
    }
}

/// Some paths: the given one, its parents, and those made of a few names the rules hold.
fn universe(path: &str, rules: &str) -> Vec<String> {
    let literal = rules.split(|c: char| "/*?[]\\!\n ".contains(c));
    let mut names: BTreeSet<&str> =
        literal.filter(|name| !matches!(*name, "" | "." | "..")).take(2).collect();
    names.insert("a");
    let mut all = vec![path.to_owned()];
    all.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    for first in &names {
        all.push((*first).to_owned());
        all.extend(names.iter().map(|second| format!("{first}/{second}")));
    }
    all.retain(|path| !path.is_empty());
    all
}
