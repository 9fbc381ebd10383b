//! Rows of the listing commands: as docker's tables, as JSON, or through a Go template.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::CommandError;
use super::template::Template;
use super::{table, ui};

/// Headings that are not the field's name in capitals.
const HEADINGS: [(&str, &str); 7] = [
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("VirtualSize", "SIZE"),
    ("TotalCount", "TOTAL"),
    ("LastUsedSince", "LAST USED"),
    ("LastUsedAt", "LAST USED AT"),
    ("UsageCount", "USAGE"),
];

/// Prints rows as a table of these columns (field, heading), or through the format the user gave.
pub fn print(rows: &[Value], format: Option<&str>, columns: &[(&str, &str)]) -> Result<(), CommandError> {
    print_labelled(rows, &[], format, columns)
}

/// The same of rows that have labels each, of which a template asks as `{{.Label "key"}}`.
pub fn print_labelled(
    rows: &[Value],
    labels: &[BTreeMap<String, String>],
    format: Option<&str>,
    columns: &[(&str, &str)],
) -> Result<(), CommandError> {
    ui::out(&draw(rows, labels, format, columns)?);
    Ok(())
}

/// Draws what is printed.
fn draw(
    rows: &[Value],
    labels: &[BTreeMap<String, String>],
    format: Option<&str>,
    columns: &[(&str, &str)],
) -> Result<String, CommandError> {
    let (is_table, body) = match format {
        None | Some("table") => {
            let header = columns.iter().map(|(_, title)| (*title).to_owned()).collect();
            let lines = rows.iter().map(|row| columns.iter().map(|(key, _)| text(row, key)).collect());
            return Ok(table::listing(&std::iter::once(header).chain(lines).collect::<Vec<_>>()));
        }
        Some("json") => return Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
        Some(format) => match format.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, format),
        },
    };
    let body = body.replace("\\t", "\t").replace("\\n", "\n");
    let template = Template::parse(&body).map_err(|e| CommandError::usage(e.to_string()))?;
    let mut labels = labels.iter();
    let mut render = |row: &Value| {
        let own = labels.next();
        template.render_with(row, &|name, given| match (own, name, given) {
            (Some(own), "Label", [Value::String(key)]) => {
                Some(json!(own.get(key).cloned().unwrap_or_default()))
            }
            _ => None,
        })
    };
    if !is_table {
        let lines: Result<Vec<String>, _> = rows.iter().map(render).collect();
        return Ok(lines?.iter().map(|line| format!("{line}\n")).collect());
    }
    let titles: serde_json::Map<String, Value> = match rows.first().and_then(Value::as_object) {
        Some(row) => row.keys().map(|key| (key.clone(), title(key, columns))).collect(),
        None => columns.iter().map(|(key, title)| ((*key).to_owned(), json!(title))).collect(),
    };
    let split = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    // The heading of a label is the last part of its name.
    let label_title = |name: &str, given: &[Value]| match (name, given) {
        ("Label", [Value::String(key)]) => {
            key.rsplit('.').next().map(|last| json!(last.replace(['-', '_'], " ")))
        }
        _ => None,
    };
    let mut lines = vec![split(template.render_with(&Value::Object(titles), &label_title)?)];
    for row in rows {
        lines.push(split(render(row)?));
    }
    Ok(table::listing(&lines))
}

/// Returns the heading of a field: the table's own, or the name in capitals.
fn title(key: &str, columns: &[(&str, &str)]) -> Value {
    if let Some((_, title)) = columns.iter().chain(&HEADINGS).find(|(known, _)| *known == key) {
        return json!(title);
    }
    let mut words = String::new();
    let mut lower = false;
    for c in key.chars() {
        if c.is_uppercase() && lower {
            words.push(' ');
        }
        lower = c.is_lowercase();
        words.extend(c.to_uppercase());
    }
    json!(words)
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_as_asked() {
        let rows = [json!({"ID": "a", "Size": "1B"}), json!({"ID": "b", "Size": "22B"})];
        let columns = [("ID", "IMAGE ID"), ("Size", "SIZE")];
        let labels = [BTreeMap::from([("org.team".to_owned(), "x".to_owned())]), BTreeMap::new()];
        let check = |format: Option<&str>, expect: &str| {
            assert_eq!(draw(&rows, &labels, format, &columns).unwrap(), expect, "{format:?}");
        };
        check(None, "IMAGE ID   SIZE\na          1B\nb          22B\n");
        check(Some("{{.ID}}\\t{{.Size}}"), "a\t1B\nb\t22B\n");
        check(Some("table {{.Size}}\\t{{.ID}}"), "SIZE      IMAGE ID\n1B        a\n22B       b\n");
        check(Some("{{.Label \"org.team\"}}"), "x\n\n");
        check(
            Some("table {{.ID}}\\t{{.Label \"org.team\"}}"),
            "IMAGE ID   team\na          x\nb          \n",
        );
        check(Some("json"), "{\"ID\":\"a\",\"Size\":\"1B\"}\n{\"ID\":\"b\",\"Size\":\"22B\"}\n");
        assert!(draw(&rows, &[], Some("{{.Nope}}"), &columns).is_err());
        assert!(draw(&rows, &[], Some("{{"), &columns).is_err());
    }

    #[test]
    fn headings() {
        let columns = [("ID", "CACHE ID")];
        assert_eq!(title("ID", &columns), "CACHE ID");
        assert_eq!(title("CreatedAt", &columns), "CREATED AT");
        assert_eq!(title("CreatedSince", &columns), "CREATED");
    }
}
