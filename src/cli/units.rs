//! Sizes and times as docker shows them.
//!
//! Sizes are decimal (docker's go-units `HumanSizeWithPrecision`, 3 digits);
//! times are rounded words (go-units `HumanDuration`).

/// Shows bytes: `1.24MB`, `0B`.
pub fn size(bytes: u64) -> String {
    with_digits(bytes, 3)
}

/// Counts things: `1 step`, `2 steps`.
pub fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Shows bytes with four digits, as docker's reports of disk space do: `1.982MB`.
pub fn exact_size(bytes: u64) -> String {
    with_digits(bytes, 4)
}

fn with_digits(bytes: u64, digits: usize) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Formats with so many significant digits, as C's `%.3g` does for values below 1000.
fn significant(value: f64, digits: usize) -> String {
    // What the number before the point rounds to says how many digits are left behind it.
    let fits = |decimals: usize| {
        let text = format!("{value:.decimals$}");
        let point = text.find('.').unwrap_or(text.len());
        (point + decimals <= digits).then_some(text)
    };
    let text = (0..digits).rev().find_map(fits).unwrap_or_else(|| format!("{value:.0}"));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Shows bytes without loss, in the largest unit that divides them: `50GiB`; [`parse_size`] reads it.
pub fn whole_size(bytes: u64) -> String {
    let units = ["", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let zeros = if bytes == 0 { 0 } else { bytes.trailing_zeros() as usize / 10 };
    let power = zeros.min(units.len() - 1);
    format!("{}{}", bytes >> (10 * power), units[power])
}

/// Reads a number of bytes as docker's options have them: `512MB`, `1.5g`, `10GiB`, `100`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    // Memory and disk options of docker count in 1024.
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let bytes = number * 1024f64.powi(power as i32);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Shows how long ago something was: `3 minutes ago`.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", duration(seconds.max(0)))
}

/// Shows a duration in words.
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0).round() as i64;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_sizes() {
        for (bytes, text) in [(0, "0"), (1, "1"), (1536, "1536"), (50 << 30, "50GiB"), (3 << 60, "3072PiB")] {
            assert_eq!(whole_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
    }

    #[test]
    fn sizes_as_docker() {
        for (bytes, expect) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1240, "1.24kB"),
            (63_100_000, "63.1MB"),
            (192_700_000, "193MB"),
            (1_000_000_000, "1GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
    }

    #[test]
    fn sizes_of_reports() {
        for (bytes, expect) in [
            (0, "0B"),
            (5, "5B"),
            (1_982_268, "1.982MB"),
            (9_999_999, "10MB"),
            (63_100_000, "63.1MB"),
            (123_456_789, "123.5MB"),
        ] {
            assert_eq!(exact_size(bytes), expect);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expect) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("10b", Some(10)),
            ("1k", Some(1024)),
            ("1.5GB", Some(1_610_612_736)),
            ("2 MiB", Some(2 << 20)),
            ("", None),
            ("GB", None),
            ("1x", None),
            ("1.2.3", None),
            ("-1", None),
        ] {
            assert_eq!(parse_size(text), expect, "{text}");
        }
    }

    #[test]
    fn times_as_docker() {
        for (seconds, expect) in [
            (0, "Less than a second ago"),
            (5, "5 seconds ago"),
            (61, "About a minute ago"),
            (180, "3 minutes ago"),
            (3700, "About an hour ago"),
            (7200, "2 hours ago"),
            (86400 * 3, "3 days ago"),
            (86400 * 42, "6 weeks ago"),
            (86400 * 100, "3 months ago"),
            (86400 * 1000, "2 years ago"),
            (-5, "Less than a second ago"),
        ] {
            assert_eq!(ago(seconds), expect);
        }
    }
}
