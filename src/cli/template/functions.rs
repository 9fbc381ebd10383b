//! What templates can call, and how values print and count as true.

use serde_json::{Map, Value};

use super::TemplateError;

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Shows a value as Go's `%v` does.
pub(super) fn show(value: &Value, top: bool) -> String {
    match value {
        Value::Null if top => "<no value>".to_owned(),
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| show(item, false)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => show_map(map),
    }
}

fn show_map(map: &Map<String, Value>) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", show(v, false))).collect();
    format!("map[{}]", entries.join(" "))
}

/// Calls a function by its name.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
    let count_wrong = |want: usize| {
        TemplateError::Run(format!("wrong number of args for {name}: want {want} got {}", arguments.len()))
    };
    let need = |want: usize| if arguments.len() == want { Ok(()) } else { Err(count_wrong(want)) };
    let text = |at: usize| show(&arguments[at], false);
    let strings = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(items) => items.iter().map(|item| show(item, false)).collect(),
            Value::Null => Vec::new(),
            other => vec![show(other, false)],
        }
    };
    Ok(match name {
        "json" => {
            need(1)?;
            Value::String(arguments[0].to_string())
        }
        // docker's own order is `join list sep`, and piping puts the list last.
        "join" => {
            need(2)?;
            let (list, separator) = match (&arguments[0], &arguments[1]) {
                (list @ (Value::Array(_) | Value::Null), separator) => (list, separator),
                (separator, list) => (list, separator),
            };
            Value::String(strings(list).join(&show(separator, false)))
        }
        "split" => {
            need(2)?;
            text(0).split(&text(1)).map(str::to_owned).collect::<Vec<_>>().into()
        }
        "upper" => {
            need(1)?;
            text(0).to_uppercase().into()
        }
        "lower" => {
            need(1)?;
            text(0).to_lowercase().into()
        }
        "title" => {
            need(1)?;
            let mut start = true;
            let titled: String = text(0)
                .chars()
                .map(|c| {
                    let shown = if start { c.to_ascii_uppercase() } else { c };
                    start = !c.is_alphanumeric();
                    shown
                })
                .collect();
            titled.into()
        }
        "pad" => {
            need(3)?;
            let width = |at: usize| arguments[at].as_u64().unwrap_or(0).min(1000) as usize;
            match text(0) {
                text if text.is_empty() => text.into(),
                text => format!("{}{text}{}", " ".repeat(width(1)), " ".repeat(width(2))).into(),
            }
        }
        "truncate" => {
            need(2)?;
            let length = arguments[1].as_u64().unwrap_or(0) as usize;
            text(0).chars().take(length).collect::<String>().into()
        }
        "print" => arguments.iter().map(|a| show(a, false)).collect::<String>().into(),
        "println" => {
            let words: Vec<String> = arguments.iter().map(|a| show(a, false)).collect();
            format!("{}\n", words.join(" ")).into()
        }
        "printf" => {
            if arguments.is_empty() {
                return Err(count_wrong(1));
            }
            printf(&text(0), &arguments[1..]).into()
        }
        "len" => {
            need(1)?;
            match &arguments[0] {
                Value::String(s) => s.len().into(),
                Value::Array(items) => items.len().into(),
                Value::Object(map) => map.len().into(),
                Value::Null => 0.into(),
                _ => return Err(TemplateError::Run("len of a value that has no length".to_owned())),
            }
        }
        "index" => {
            let Some((first, keys)) = arguments.split_first() else { return Err(count_wrong(1)) };
            let mut value = first.clone();
            for key in keys {
                value = match (&value, key) {
                    (Value::Array(items), Value::Number(at)) => {
                        let at = at.as_u64().map_or(usize::MAX, |at| at as usize);
                        items.get(at).cloned().ok_or_else(|| {
                            TemplateError::Run(format!("error calling index: index out of range: {key}"))
                        })?
                    }
                    (Value::Object(map), key) => match map.get(&show(key, false)) {
                        Some(found) => found.clone(),
                        // What Go has for a text that is not there is the empty one.
                        None if map.values().all(Value::is_string) => Value::String(String::new()),
                        None => Value::Null,
                    },
                    (Value::Null, Value::String(_)) => Value::String(String::new()),
                    (Value::Null, _) => {
                        return Err(TemplateError::Run("error calling index: index of nil".to_owned()));
                    }
                    _ => return Err(TemplateError::Run(format!("can't index with {key}"))),
                };
            }
            value
        }
        "slice" => {
            let Some(first) = arguments.first() else { return Err(count_wrong(1)) };
            let at = |n: usize, default: usize| {
                arguments.get(n).and_then(Value::as_u64).map_or(default, |v| v as usize)
            };
            let bounds = |length: usize| {
                let (from, to) = (at(1, 0), at(2, length));
                if from <= to && to <= length { Some(from..to) } else { None }
            };
            let out = || TemplateError::Run("error calling slice: index out of range".to_owned());
            match first {
                Value::String(s) => {
                    s.get(bounds(s.len()).ok_or_else(out)?).ok_or_else(out)?.to_owned().into()
                }
                Value::Array(items) => items[bounds(items.len()).ok_or_else(out)?].to_vec().into(),
                _ => return Err(TemplateError::Run("can't slice item".to_owned())),
            }
        }
        "eq" => match arguments.split_first() {
            Some((first, others)) if !others.is_empty() => others.iter().any(|o| o == first).into(),
            _ => return Err(count_wrong(2)),
        },
        "ne" => {
            need(2)?;
            (arguments[0] != arguments[1]).into()
        }
        "lt" | "le" | "gt" | "ge" => {
            need(2)?;
            let order = match (&arguments[0], &arguments[1]) {
                (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
                (a, b) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
            };
            let Some(order) = order else {
                return Err(TemplateError::Run("incompatible types for comparison".to_owned()));
            };
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into()
        }
        "and" => arguments.iter().find(|a| !truth(a)).or(arguments.last()).cloned().unwrap_or_default(),
        "or" => arguments.iter().find(|a| truth(a)).or(arguments.last()).cloned().unwrap_or_default(),
        "not" => {
            need(1)?;
            (!truth(&arguments[0])).into()
        }
        _ => {
            need(1)?;
            let escape: fn(char) -> Option<&'static str> = match name {
                "html" => |c| match c {
                    '<' => Some("&lt;"),
                    '>' => Some("&gt;"),
                    '&' => Some("&amp;"),
                    '"' => Some("&#34;"),
                    '\'' => Some("&#39;"),
                    _ => None,
                },
                "js" => |c| match c {
                    '\\' => Some("\\\\"),
                    '"' => Some("\\\""),
                    '\'' => Some("\\'"),
                    '<' => Some("\\u003C"),
                    '>' => Some("\\u003E"),
                    '\n' => Some("\\u000A"),
                    _ => None,
                },
                _ => return Ok(percent_encode(&text(0)).into()),
            };
            let mut out = String::new();
            for c in text(0).chars() {
                match escape(c) {
                    Some(escaped) => out.push_str(escaped),
                    None => out.push(c),
                }
            }
            out.into()
        }
    })
}

fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Formats with Go's verbs `%s %v %d %q %t %f %x %%`, width and `-`.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(&c) = chars.peek() {
            if !(c.is_ascii_digit() || "-+.# ".contains(c)) {
                break;
            }
            flags.push(c);
            chars.next();
        }
        let verb = match chars.next() {
            None => {
                out.push_str("%!(NOVERB)");
                break;
            }
            Some('%') => {
                out.push('%');
                continue;
            }
            Some(verb) => verb,
        };
        let Some(value) = arguments.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let (width, precision) = flags.split_once('.').unwrap_or((&flags, ""));
        let precision: Option<usize> = precision.parse().ok();
        let mut text = match verb {
            'q' => Value::String(show(value, false)).to_string(),
            'f' => format!("{:.*}", precision.unwrap_or(6).min(100), value.as_f64().unwrap_or(0.0)),
            'x' => match value {
                Value::Number(n) => format!("{:x}", n.as_i64().unwrap_or(0)),
                other => show(other, false).bytes().map(|b| format!("{b:02x}")).collect(),
            },
            's' | 'v' | 'd' | 't' => show(value, false),
            other => format!("%!{other}({})", show(value, false)),
        };
        if let (Some(precision), 's') = (precision, verb) {
            text = text.chars().take(precision).collect();
        }
        let left = width.starts_with('-');
        let width: usize = width.trim_start_matches(['-', '+', '#', ' ']).parse().unwrap_or(0);
        let fill = " ".repeat(width.min(1000).saturating_sub(text.chars().count()));
        match left {
            true => out.push_str(&format!("{text}{fill}")),
            false => out.push_str(&format!("{fill}{text}")),
        }
    }
    out
}
