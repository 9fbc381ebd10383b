//! How the configs of two images differ, field by field: what a container of one would get that one of the
//! other would not.
//!
//! Not here: history, times and layers, which differ wherever anything was built anew.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::image::ImageConfig;

/// One field, or one entry of a field that is a list or a map.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// `Cmd`, `Env.PATH`, `Labels.version`.
    pub field: String,
    /// None where it was added.
    pub old: Option<String>,
    /// None where it was removed.
    pub new: Option<String>,
}

/// Compares two configs.
pub fn compare(old: &ImageConfig, new: &ImageConfig) -> Vec<ConfigChange> {
    let (old, new) = (entries(old), entries(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let change = |name: &String| ConfigChange {
        field: name.clone(),
        old: old.get(name).cloned(),
        new: new.get(name).cloned(),
    };
    changes.map(change).collect()
}

/// Takes a config apart, by the names that `inspect` gives its fields.
fn entries(config: &ImageConfig) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let whole = serde_json::from_slice(&config.to_bytes()).unwrap_or(Value::Null);
    for name in ["architecture", "os", "variant", "os.version", "author"] {
        if let Some(text) = whole[name].as_str() {
            found.insert(name.to_owned(), text.to_owned());
        }
    }
    for (name, value) in whole["config"].as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("Env", Value::Array(list)) => {
                for entry in list.iter().filter_map(Value::as_str) {
                    let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
                    found.insert(format!("Env.{key}"), value.to_owned());
                }
            }
            ("Labels", Value::Object(map)) => {
                let label = |(key, value): (&String, &Value)| (format!("Labels.{key}"), text(value));
                found.extend(map.iter().map(label));
            }
            ("ExposedPorts" | "Volumes", Value::Object(map)) => {
                found.extend(map.keys().map(|key| (format!("{name}.{key}"), String::new())));
            }
            (_, value) if !is_empty(value) => {
                found.insert(name.clone(), text(value));
            }
            _ => {}
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

impl ConfigChange {
    /// Returns the letter of the change, as for files.
    pub fn letter(&self) -> char {
        match (&self.old, &self.new) {
            (None, _) => 'A',
            (_, None) => 'D',
            _ => 'C',
        }
    }

    /// Says it in one line, without the letter.
    pub fn line(&self) -> String {
        let value = |value: &str| if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() };
        let field = &self.field;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("{field}: {} -> {}", value(old), value(new)),
            (None, Some(new)) if !new.is_empty() => format!("{field}: {new}"),
            (Some(old), None) if !old.is_empty() => format!("{field}: {old}"),
            _ => field.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ImageConfig {
        let whole = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{text},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        serde_json::from_str(&whole).unwrap()
    }

    fn check(old: &str, new: &str, expect: &[&str]) {
        let found = compare(&config(old), &config(new));
        let lines: Vec<String> =
            found.iter().map(|change| format!("{} {}", change.letter(), change.line())).collect();
        assert_eq!(lines, expect);
    }

    #[test]
    fn fields_and_entries() {
        check("{}", "{}", &[]);
        check(
            r#"{"Env":["A=1","B=2","C"]}"#,
            r#"{"Env":["B=3","A=1","D=4"]}"#,
            &["C Env.B: 2 -> 3", "D Env.C", "A Env.D: 4"],
        );
        check(r#"{"Cmd":["a","b"]}"#, r#"{"Cmd":["a"]}"#, &[r#"C Cmd: ["a","b"] -> ["a"]"#]);
        check("{}", r#"{"User":"app","WorkingDir":"/w"}"#, &["A User: app", "A WorkingDir: /w"]);
        check(r#"{"Labels":{"a.b":"1"}}"#, r#"{"Labels":{"a.b":""}}"#, &["C Labels.a.b: 1 -> \"\""]);
        check(
            r#"{"ExposedPorts":{"80/tcp":{}}}"#,
            r#"{"Volumes":{"/v":{}}}"#,
            &["D ExposedPorts.80/tcp", "A Volumes./v"],
        );
    }
}
