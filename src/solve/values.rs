//! Values of fields as texts for people: read from their flat form, cut to a line, without secrets.
//!
//! Not here: comparing steps (`difference`).

use crate::plan::looks_secret;
use crate::report::redact;

use super::key::{Fields, Value};

/// What stands for a value that is not shown.
pub(super) const HIDDEN: &str = "***";
/// How much of a value a line has, in characters.
const LONGEST: usize = 60;
/// Shorter values are looked for nowhere else: they would be found by chance.
const SHORTEST_SECRET: usize = 4;

/// Says how a text changed: both, where they are short; else the words that differ.
pub(super) fn words_changed(before: &str, now: &str) -> String {
    const SHORT: usize = 30;
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split_whitespace().collect(), now.split_whitespace().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let left = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    let (gone, come) = (old[same..old.len() - tail].join(" "), new[same..new.len() - tail].join(" "));
    match (gone.is_empty(), come.is_empty()) {
        (true, true) => "spaces or line ends".to_owned(),
        _ if before.chars().count() <= SHORT && now.chars().count() <= SHORT => {
            format!("{} -> {}", cut(before), cut(now))
        }
        (true, false) => format!("+ {}", cut(&come)),
        (false, true) => format!("- {}", cut(&gone)),
        (false, false) => format!("{} -> {}", cut(&gone), cut(&come)),
    }
}

/// Returns name and text of the here-documents of a `sources` field.
pub(super) fn documents(list: &[String]) -> Vec<(String, String)> {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(kind) = list.get(at) {
        match (kind.as_str(), list.get(at + 1), list.get(at + 2)) {
            ("inline", Some(name), Some(text)) => {
                out.push((name.clone(), text.clone()));
                at += 3;
            }
            ("download", ..) => at += 3,
            _ => at += 2,
        }
    }
    out
}

/// Writes the mounts of a `mounts` field as options have them. A secret is its id.
pub(super) fn mounts(list: &[String]) -> Vec<String> {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(kind) = list.get(at) {
        let word = |n: usize| list.get(at + n).map(String::as_str).unwrap_or_default();
        let (length, text) = match kind.as_str() {
            "bind" => (3, format!("type=bind,{},target={}", word(1), word(2))),
            "cache" => (2, format!("type=cache,target={}", word(1))),
            "tmpfs" if word(1).is_empty() => (3, format!("type=tmpfs,target={}", word(2))),
            "tmpfs" => (3, format!("type=tmpfs,size={},target={}", word(1), word(2))),
            "secret" => {
                let variable = if word(2).is_empty() { "" } else { ",env=" };
                let file = if word(3).is_empty() { "" } else { ",target=" };
                (5, format!("type=secret,id={}{variable}{}{file}{} {}", word(1), word(2), word(3), word(4)))
            }
            "ssh" => (4, format!("type=ssh,id={},target={} {}", word(1), word(2), word(3))),
            // Of a later version: as it is.
            _ => (list.len(), list[at..].join(" ")),
        };
        out.push(text);
        at += length;
    }
    out
}

/// Writes volumes as options have them: destination and mode.
pub(super) fn pairs(list: &[String]) -> Vec<String> {
    list.chunks(2).map(|pair| pair.join(":")).collect()
}

/// Returns the texts of a list; of another value its own.
pub(super) fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::List(values)) => values.iter().map(show).collect(),
        Some(value) => vec![show(value)],
        None => Vec::new(),
    }
}

/// Writes a value, whole.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::List(values) => values.iter().map(show).collect::<Vec<_>>().join(" "),
    }
}

/// Returns a text as one line that does not fill the screen.
pub(super) fn cut(text: &str) -> String {
    let text = text.trim();
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    if line.is_empty() { "\"\"".to_owned() } else { line }
}

/// Hides the values of variables that look like secrets, wherever they stand.
pub(super) struct Mask(Vec<String>);

impl Mask {
    /// Finds the secrets among the variables of two steps.
    pub(super) fn of(sides: [&Fields; 2]) -> Mask {
        let entries = sides.iter().flat_map(|fields| list(fields.get("env")));
        let secret = |entry: String| {
            let (name, value) = entry.split_once('=')?;
            (looks_secret(name) && value.len() >= SHORTEST_SECRET).then(|| value.to_owned())
        };
        let mut values: Vec<String> = entries.filter_map(secret).collect();
        // The longest first: one may begin another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Mask(values)
    }

    /// Hides them in a text, and the passwords of addresses.
    pub(super) fn apply(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        redact(&hidden)
    }
}
