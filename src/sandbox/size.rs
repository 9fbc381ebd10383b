//! Sizes in bytes as people write them: `512m`, `1.5GiB`. The rules of Docker's options.
//!
//! Units are powers of 1024: b, k, m, g, t, p, with `b` or `ib` behind, in any case.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("invalid size: `{0}` (a number and a unit are expected, such as `512m` or `1.5g`)")]
    Number(String),
    #[error("invalid suffix: `{suffix}` in the size `{text}` (there are b, k, m, g, t and p)")]
    Suffix { text: String, suffix: String },
    #[error("the size `{0}` is too large")]
    TooLarge(String),
}

/// Reads a size in bytes. Fractions are allowed, and cut off at the byte.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let invalid = || SizeError::Number(text.to_owned());
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    // One blank may stand between the number and its unit.
    let number = if text[end..].starts_with(' ') { &text[..end] } else { &text[..=end] };
    let suffix = &text[end + 1..];
    let number: f64 = number.parse().map_err(|_| invalid())?;
    if !number.is_finite() || number < 0.0 {
        return Err(invalid());
    }
    let bytes = number
        * factor(suffix)
            .ok_or_else(|| SizeError::Suffix { text: text.to_owned(), suffix: suffix.to_owned() })?;
    // The kernel and the peers count in signed numbers.
    if bytes >= i64::MAX as f64 {
        return Err(SizeError::TooLarge(text.to_owned()));
    }
    Ok(bytes as u64)
}

/// Reads a size that may be `-1`, which is no limit: `--memory-swap`.
pub fn parse_bytes_or_unlimited(text: &str) -> Result<i64, SizeError> {
    if text == "-1" {
        return Ok(-1);
    }
    parse_bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn factor(suffix: &str) -> Option<f64> {
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let Some(unit) = letters.next() else { return Some(1.0) };
    let rest = letters.as_str();
    if unit == 'b' {
        return rest.is_empty().then_some(1.0);
    }
    let power = "kmgtp".find(unit)? as i32 + 1;
    matches!(rest, "" | "b" | "ib").then(|| 1024_f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expect: u64| assert_eq!(parse_bytes(text), Ok(expect), "{text}");
        for (text, expect) in [
            ("0", 0),
            ("42", 42),
            ("42b", 42),
            ("42B", 42),
            ("1k", 1 << 10),
            ("1kb", 1 << 10),
            ("1KiB", 1 << 10),
            ("512m", 512 << 20),
            ("512 MB", 512 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            ("0.1k", 102),
        ] {
            check(text, expect);
        }
    }

    #[test]
    fn no_sizes() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse_bytes(text).unwrap_err().to_string().split(" (").next(), Some(expect), "{text}");
        };
        check("", "invalid size: ``");
        check("m", "invalid size: `m`");
        check("-1", "invalid size: `-1`");
        check("1.2.3", "invalid size: `1.2.3`");
        check(" ", "invalid size: ` `");
        check("3x", "invalid suffix: `x` in the size `3x`");
        check("3bb", "invalid suffix: `bb` in the size `3bb`");
        check("3mbs", "invalid suffix: `mbs` in the size `3mbs`");
        check("3é", "invalid suffix: `é` in the size `3é`");
        check("9999999p", "the size `9999999p` is too large");
        assert_eq!(parse_bytes_or_unlimited("-1"), Ok(-1));
        assert_eq!(parse_bytes_or_unlimited("1k"), Ok(1024));
    }
}
