//! What Go's types say of a value beyond its JSON: fields that are there though they are left out,
//! how empty ones print, and the order in which they are written.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::TemplateError;
use super::functions::show;

/// What an empty field is in Go, and so how it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// ``
    Text,
    /// `<nil>`; nothing can be asked of it.
    Pointer,
    /// `[]`
    List,
    /// `map[]`
    Map,
    /// `false`
    Bool,
    /// A time; one that is there prints as Go prints times.
    Time,
}

/// The fields of a type, wherever they stand in it.
#[derive(Debug, Default)]
pub struct Shape {
    /// By their names, or as `ABOVE.NAME` where only one beneath that is meant.
    pub fields: &'static [(&'static str, Zero)],
    /// The order of names; others follow by the alphabet.
    pub order: &'static [&'static str],
}

impl Shape {
    fn zero(&self, above: Option<&str>, name: &str) -> Option<Zero> {
        let is_it = |known: &str| match (known.split_once('.'), above) {
            (None, _) => known == name,
            (Some(both), Some(above)) => both == (above, name),
            (Some(_), None) => false,
        };
        self.fields.iter().find(|(known, _)| is_it(known)).map(|(_, zero)| *zero)
    }

    /// Follows names from a value.
    pub(super) fn lookup(&self, value: &Value, names: &[String]) -> Result<Value, TemplateError> {
        let mut value = value;
        let mut above: Option<&str> = None;
        let mut zero_above = None;
        for name in names {
            let zero = self.zero(above, name);
            value = match value {
                Value::Object(map) => match (map.get(name), zero) {
                    (Some(found), _) => found,
                    (None, _) if zero_above == Some(Zero::Map) => &Value::Null,
                    (None, Some(Zero::Text)) => &EMPTY,
                    (None, Some(Zero::Bool)) => &Value::Bool(false),
                    (None, Some(_)) => &Value::Null,
                    (None, None) => {
                        return Err(TemplateError::Run(format!("map has no entry for key {name:?}")));
                    }
                },
                Value::Null if zero_above == Some(Zero::Pointer) => {
                    return Err(TemplateError::Run(format!("nil pointer evaluating {name}")));
                }
                Value::Null => &Value::Null,
                _ => return Err(TemplateError::Run(format!("can't evaluate field {name}"))),
            };
            above = Some(name);
            zero_above = zero;
        }
        Ok(value.clone())
    }

    /// Shows a field as Go shows one of its type; `None` where that is as any value is shown.
    pub(super) fn show(&self, names: &[String], value: &Value) -> Option<String> {
        let (name, above) = names.split_last()?;
        Some(match (self.zero(above.last().map(String::as_str), name)?, value) {
            (Zero::Pointer, Value::Null) => "<nil>".to_owned(),
            (Zero::List, Value::Null) => "[]".to_owned(),
            (Zero::Map, Value::Null) => "map[]".to_owned(),
            (Zero::Map, Value::Object(map)) if map.is_empty() => "map[]".to_owned(),
            (Zero::Time, Value::String(time)) => go_time(time)?,
            _ => return None,
        })
    }
}

static EMPTY: Value = Value::String(String::new());

/// Shows a time as Go's `%v` does.
fn go_time(time: &str) -> Option<String> {
    let time: jiff::Timestamp = time.parse().ok()?;
    let text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let nanos = format!("{:09}", time.subsec_nanosecond().unsigned_abs());
    let fraction = nanos.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{text}{dot}{fraction} +0000 UTC"))
}

/// Writes a value as JSON in one line, its names in an order.
pub fn ordered(value: &Value, order: &'static [&'static str]) -> String {
    serde_json::to_string(&Ordered { value, order }).unwrap_or_else(|_| show(value, false))
}

/// A value whose names are written in an order.
pub struct Ordered<'a> {
    pub value: &'a Value,
    pub order: &'static [&'static str],
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let order = self.order;
        let inner = |value| Ordered { value, order };
        match self.value {
            Value::Array(list) => serializer.collect_seq(list.iter().map(inner)),
            Value::Object(map) => {
                let rank = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by_key(|(name, _)| (rank(name), *name));
                serializer.collect_map(entries.into_iter().map(|(name, value)| (name, inner(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Template;
    use super::*;

    const SHAPE: Shape = Shape {
        fields: &[
            ("Healthcheck", Zero::Pointer),
            ("Labels", Zero::Map),
            ("Cmd", Zero::List),
            ("Variant", Zero::Text),
            ("Time", Zero::Time),
            ("Log.Config", Zero::Map),
        ],
        order: &["Z", "A"],
    };

    #[test]
    fn empty_fields_print_as_go_prints_them() {
        let value = json!({"Cmd": null, "Labels": {"a": "b"}, "Time": "2026-11-21T14:31:11.450Z", "C": {"Labels": null}});
        let render = |text: &str| Template::parse(text)?.render_as(&value, &SHAPE);
        let check = |text: &str, expect: &str| assert_eq!(render(text).as_deref(), Ok(expect), "{text}");
        check("{{.Healthcheck}} {{.Cmd}} {{.Variant}}|{{.C.Labels}} {{.Labels}}", "<nil> [] |map[] map[a:b]");
        check("{{json .Healthcheck}} {{json .Variant}} {{json .C.Labels}}", "null \"\" null");
        check("{{if .Healthcheck}}x{{else}}none{{end}} {{len .Cmd}}", "none 0");
        check("{{.Labels.nope}} {{.C.Labels.nope}} {{index .Labels \"nope\"}}|", "<no value> <no value> |");
        check("{{index .C.Labels \"x\"}}|{{.Time}}", "|2026-11-21 14:31:11.45 +0000 UTC");
        for bad in ["{{.Nope}}", "{{.Healthcheck.Test}}", "{{index .Cmd 0}}"] {
            assert!(render(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_may_be_a_map_in_one_place_alone() {
        let value =
            json!({"Config": {"Image": "x"}, "Log": {"Config": {"max": "1"}}, "A": {"Log": {"Config": {}}}});
        let render = |text: &str| Template::parse(text)?.render_as(&value, &SHAPE);
        let check = |text: &str, expect: &str| assert_eq!(render(text).as_deref(), Ok(expect), "{text}");
        check("{{.A.Log.Config}}", "map[]");
        check("{{.Config.Image}} {{.Log.Config.max}} {{.Log.Config.nope}}", "x 1 <no value>");
        assert!(render("{{.Config.Nope}}").is_err());
    }

    #[test]
    fn names_are_written_in_order() {
        assert_eq!(
            ordered(&json!({"A": 1, "B": [{"A": 1, "Z": 2}], "Z": 3}), SHAPE.order),
            r#"{"Z":3,"A":1,"B":[{"Z":2,"A":1}]}"#
        );
    }
}
