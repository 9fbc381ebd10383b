//! The fields of tar headers, and the records of pax headers: bytes to values.
//!
//! Source: POSIX.1-2024, pax; the GNU tar manual, "Basic Tar Format". Not here:
//! which headers belong to which entry (`tar_read`).

pub(super) const BLOCK: usize = 512;

/// Tells whether a block is a tar header: its checksum is right (and it is not all zeros).
pub fn is_tar_header(block: &[u8]) -> bool {
    match block.first_chunk::<BLOCK>() {
        Some(block) => checksum_matches(block),
        None => false,
    }
}

/// Sums the header with its checksum as blanks; old programs summed signed bytes.
pub(super) fn checksum_matches(block: &[u8; BLOCK]) -> bool {
    let Some(stated) = octal(&block[148..156]) else { return false };
    let bytes = block[..148].iter().chain([b' '; 8].iter()).chain(&block[156..]);
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for &byte in bytes {
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    let blank = block.iter().all(|&b| b == 0);
    !blank && (i64::try_from(stated) == Ok(unsigned) || i64::try_from(stated) == Ok(signed))
}

/// Reads an octal field: blanks or zeros around digits; an empty field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let is_fill = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_fill(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_fill).unwrap_or(digits.len());
    let mut value = 0u64;
    for &digit in &digits[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Reads a number: octal, or GNU's base 256 (first bit set; two's complement).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    let negative = first & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, &byte) in field.iter().enumerate() {
        let byte = match (i, negative) {
            (0, false) => byte & 0x7f,
            _ => byte,
        };
        value = value << 8 | i128::from(byte);
        // Twelve bytes of sign and zeros still fit.
        if i64::try_from(value).is_err() {
            return None;
        }
    }
    i64::try_from(value).ok()
}

/// Returns a text field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// The records of one pax header, in order.
#[derive(Debug, Default)]
pub(super) struct Pax(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Pax {
    /// Parses `LENGTH KEY=VALUE\n` records (POSIX.1-2024, pax, "pax Extended Header").
    pub fn parse(mut bytes: &[u8]) -> Result<Pax, &'static str> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let blank = bytes.iter().take(10).position(|&b| b == b' ').ok_or("a pax record has no length")?;
            let digits = &bytes[..blank];
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err("a pax record has no length");
            }
            let length = digits.iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
            if length > bytes.len() || length < blank + 3 || bytes[length - 1] != b'\n' {
                return Err("a pax record has a wrong length");
            }
            let record = &bytes[blank + 1..length - 1];
            let equals = record.iter().position(|&b| b == b'=').ok_or("a pax record has no `=`")?;
            if equals == 0 || record[..equals].contains(&0) {
                return Err("a pax record has a bad keyword");
            }
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = &bytes[length..];
        }
        Ok(Pax(records))
    }

    /// Returns the last value of a keyword; an empty value means that there is none.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rev().find(|(k, _)| k == key.as_bytes())?;
        (!value.is_empty()).then_some(value.as_slice())
    }

    /// Returns a value that is a text.
    pub fn text(&self, key: &str) -> Result<Option<&[u8]>, String> {
        match self.get(key) {
            Some(value) if value.contains(&0) => Err(format!("the pax record `{key}` holds a NUL")),
            other => Ok(other),
        }
    }

    /// Returns a value that is a number.
    pub fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key)
            .map(|v| decimal(v).ok_or_else(|| format!("the pax record `{key}` is no number")))
            .transpose()
    }
}

/// Reads decimal digits.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(bytes).ok()?.parse().ok()).flatten()
}

/// Reads a pax time: seconds since 1970 with an optional fraction.
pub(super) fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// Returns the name in a header, with the prefix where the format has one.
pub(super) fn header_name(block: &[u8; BLOCK], posix: bool) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = match (posix, &block[508..512]) {
        (false, _) => &b""[..],
        // star's own header: two times follow the shorter prefix.
        (true, b"tar\0") => text(&block[345..476]),
        (true, _) => text(&block[345..500]),
    };
    match prefix.is_empty() {
        true => name.to_vec(),
        false => [prefix, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        for (field, expect) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"8\0\0\0\0\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf9", Some(-7)),
        ] {
            assert_eq!(number(field), expect, "{}", field.escape_ascii());
        }
        for (value, expect) in [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("1e5", None),
            ("", None),
            (".5", None),
            ("--5", None),
        ] {
            assert_eq!(pax_time(value.as_bytes()), expect, "{value}");
        }
    }

    #[test]
    fn pax_records_may_hold_anything_but_wrong_lengths() {
        let pax = Pax::parse(b"19 SCHILY.x=a\nb=\0c\n6 a=b\n6 a=c\n5 b=\n").unwrap();
        assert_eq!(pax.get("SCHILY.x"), Some(&b"a\nb=\0c"[..]));
        assert_eq!((pax.get("a"), pax.get("b")), (Some(&b"c"[..]), None));
        for bad in [
            "7 a=b\n",
            "5 a=b\n",
            " a=b\n",
            "a=b\n",
            "99999999999999999999 a=b\n",
            "4 a\n",
            "5 =b\n",
            "6 a=b",
        ] {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
