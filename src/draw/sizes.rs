//! Sizes, shares and times in words, as the command line's tables have them.

/// Shows bytes in units of 1000: `1.24 MB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would round up to four digits is one of the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// Shows a length of time: `3 ms`, `1.2 s`, `2 min 5 s`.
pub fn time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..59_950 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => {
            let seconds = ms.saturating_add(500) / 1000;
            match seconds / 3600 {
                0 => format!("{} min {} s", seconds / 60, seconds % 60),
                hours => format!("{hours} h {} min", seconds % 3600 / 60),
            }
        }
    }
}

/// Shows a part of a whole: `12.5%`.
pub fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "0%".to_owned(),
        whole => format!("{:.1}%", part as f64 * 100.0 / whole as f64),
    }
}

/// Counts things: `1 step`, `2 steps`.
pub fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let sizes =
            [(0, "0 B"), (999, "999 B"), (1240, "1.24 kB"), (63_100_000, "63.1 MB"), (999_600, "1.00 MB")];
        sizes.iter().for_each(|(value, expect)| assert_eq!(bytes(*value), *expect));
        let times = [
            (3, "3 ms"),
            (1234, "1.2 s"),
            (59_949, "59.9 s"),
            (125_000, "2 min 5 s"),
            (3_660_000, "1 h 1 min"),
        ];
        times.iter().for_each(|(value, expect)| assert_eq!(time(*value), *expect));
        assert_eq!((share(1, 8).as_str(), share(1, 0).as_str()), ("12.5%", "0%"));
        assert_eq!((count(1, "step"), count(0, "step")), ("1 step".into(), "0 steps".into()));
    }
}
