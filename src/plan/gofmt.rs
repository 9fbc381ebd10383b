//! Go's ways to write strings, lists and durations: history lines are made of them.
//!
//! From the documentation of Go's packages `fmt`, `strconv` and `time`.

use std::fmt::Write as _;

/// Writes a string as `%q` does.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_control() && (c as u32) < 0x80 => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Writes a list of strings as `%q` does: `["a" "b"]`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Writes a list of strings as `%v` does: `[a b]`.
pub(super) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Writes a duration as `Duration.String` does: `1m30s`, `1.5s`, `100ms`.
pub(super) fn duration(nanos: i64) -> String {
    let fraction = |value: u64, unit: u64, digits: usize| {
        let text = format!("{:0digits$}", value % unit);
        let text = text.trim_end_matches('0');
        match text.is_empty() {
            true => (value / unit).to_string(),
            false => format!("{}.{text}", value / unit),
        }
    };
    let n = nanos.unsigned_abs();
    let text = match n {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(n, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(n, 1_000_000, 6)),
        _ => {
            let seconds = fraction(n % 60_000_000_000, 1_000_000_000, 9);
            let minutes = n / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    if nanos < 0 { format!("-{text}") } else { text }
}

/// Reads a duration as `ParseDuration` does, to nanoseconds: `1h15m30.5s`, `0`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => {
                let n = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                after.split_at(n)
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // Digits beyond the twelfth are below a nanosecond in every unit.
        let fraction = &fraction[..fraction.len().min(12)];
        if !fraction.is_empty() {
            let value: i128 = fraction.parse().ok()?;
            total = total.checked_add(value * unit / 10i128.pow(u32::try_from(fraction.len()).ok()?))?;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go() {
        for (text, nanos, shown) in [
            ("30s", 30_000_000_000, "30s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5m", 30_000_000_000, "30s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.25us", 1_250, "1.25µs"),
            ("0", 0, "0s"),
            ("-1s", -1_000_000_000, "-1s"),
            ("7ns", 7, "7ns"),
        ] {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
            assert_eq!(duration(nanos), shown);
        }
        for bad in ["", "1", "s", "1x", "-", "1s2", "99999999999999999999h", ".s", "9999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn strings_as_go() {
        assert_eq!(quote("a\"\\\n\x01é"), "\"a\\\"\\\\\\n\\x01é\"");
        assert_eq!(quoted_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
        assert_eq!(plain_list(&["a".into(), "b c".into()]), "[a b c]");
    }
}
