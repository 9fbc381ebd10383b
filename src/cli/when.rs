//! Points in time as docker's `until` filters have them: a duration back from now (`24h`, `1h30m`), a
//! date or a time (in UTC where no zone is named), or seconds since 1970.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Reads a point in time; `now` is what durations count back from.
pub fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(time) = seconds(text).or_else(|| text.parse().ok()) {
        return Some(time);
    }
    if let Some(nanos) = duration(text) {
        return Timestamp::from_nanosecond(now.as_nanosecond().checked_sub(nanos)?).ok();
    }
    let civil: DateTime = match text.parse::<Date>() {
        Ok(date) if !text.contains(['T', ' ']) => date.to_datetime(jiff::civil::Time::midnight()),
        _ => text.parse().ok()?,
    };
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Reads `SECONDS` or `SECONDS.NANOSECONDS` since 1970.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanos).ok()
}

/// Reads a duration as Go's `time.ParseDuration` does, in nanoseconds.
pub fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (value, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, left) = after.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value.parse::<f64>().ok()? * nanos;
        rest = left;
    }
    // Go's durations end here, too.
    let nanos = (total.abs() < i64::MAX as f64).then_some(total as i128)?;
    Some(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, expect) in [
            ("24h", Some("2026-11-20T12:00:00Z")),
            ("1h30m", Some("2026-11-21T10:30:00Z")),
            ("1.5h", Some("2026-11-21T10:30:00Z")),
            ("90s", Some("2026-11-21T11:58:30Z")),
            ("0s", Some("2026-11-21T12:00:00Z")),
            ("-1h", Some("2026-11-21T13:00:00Z")),
            ("2026-01-02", Some("2026-01-02T00:00:00Z")),
            ("2026-01-02T03:04:05", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04", Some("2026-01-02T03:04:00Z")),
            ("2026-01-02T03:04:05+02:00", Some("2026-01-02T01:04:05Z")),
            ("1000000000", Some("2001-09-09T01:46:40Z")),
            ("1000000000.5", Some("2001-09-09T01:46:40.5Z")),
            ("zz", None),
            ("", None),
            ("h", None),
            ("1d", None),
            ("1h1", None),
            ("99999999999h", None),
            ("2026-13-01", None),
        ] {
            assert_eq!(parse(text, now), expect.map(|time| time.parse().unwrap()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.hmsnuµTZ:]{0,24}") {
            let _ = parse(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
