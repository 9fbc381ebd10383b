//! Sizes and times as docker shows them.
//!
//! Sizes are decimal (docker's go-units `HumanSizeWithPrecision`, 3 digits);
//! times are rounded words (go-units `HumanDuration`).

/// Shows bytes: `1.24MB`, `0B`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(value), units[unit])
}

/// Formats with three significant digits, as C's `%.3g` does for values below 1000.
fn three_digits(value: f64) -> String {
    let decimals = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
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
