//! One line of a log file: `{"log":"text\n","stream":"stdout","time":"2026-01-31T12:00:00.5Z"}`.
//!
//! The fields are those of docker's `json-file` driver (docs.docker.com, "JSON File logging driver"), so that
//! what collects docker's logs reads these, too. A JSON text is UTF-8: bytes that are none are shown by U+FFFD
//! in `log`, as docker does, and such an entry has all its bytes once more in `raw`, base64, which our reader
//! takes. `lost` counts entries that could not be written before this one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

/// Where a process wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Returns the word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What a process wrote: a line, or a piece of one that is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub stream: Stream,
    pub time: Timestamp,
    /// The bytes as the process wrote them, with the line's end where they have it.
    pub bytes: Vec<u8>,
    /// What `--log-opt labels` and `env` put beside every line.
    pub attributes: BTreeMap<String, String>,
    /// How many entries before this one the disk did not take.
    pub lost: u64,
}

/// What is beside the bytes in a line to be written.
pub(super) struct Beside<'a> {
    pub stream: Stream,
    /// RFC 3339, in UTC, with as many digits as it has.
    pub time: &'a str,
    /// A JSON object, or nothing.
    pub attributes: &'a str,
    pub lost: u64,
}

/// Appends the line of an entry.
pub(super) fn encode(out: &mut Vec<u8>, bytes: &[u8], beside: &Beside<'_>) {
    out.extend_from_slice(b"{\"log\":\"");
    let whole = escape_text(out, bytes);
    out.push(b'"');
    if !whole {
        out.extend_from_slice(b",\"raw\":\"");
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(beside.stream.as_str().as_bytes());
    out.push(b'"');
    if !beside.attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(beside.attributes.as_bytes());
    }
    if beside.lost > 0 {
        let _ = write!(out, ",\"lost\":{}", beside.lost);
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(beside.time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Appends bytes as the inside of a JSON string; returns whether they were UTF-8.
fn escape_text(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let mut whole = true;
    for chunk in bytes.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
            whole = false;
        }
    }
    whole
}

/// Appends UTF-8 as the inside of a JSON string (RFC 8259, section 7).
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' && *byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                let digit = |four_bits: u8| b"0123456789abcdef"[usize::from(four_bits)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(other >> 4), digit(other & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// A line as it is read.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    raw: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(default)]
    lost: u64,
}

/// Reads a line; `None` for what is none, as one is that a full disk or a lost machine cut short.
pub(super) fn decode(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match &*line.stream {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let bytes = match line.raw {
        Some(raw) => STANDARD.decode(raw.as_bytes()).ok()?,
        None => line.log.into_owned().into_bytes(),
    };
    let time = line.time.parse().ok()?;
    Some(Entry { stream, time, bytes, attributes: line.attrs, lost: line.lost })
}

/// Returns the time of a line without reading the rest, where it is at its end as in those written here.
pub(super) fn time_of(line: &[u8]) -> Option<Timestamp> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let quoted = line.strip_suffix(b"\"}")?;
    let start = quoted.iter().rposition(|byte| *byte == b'"')?;
    // Nothing but the name of the field ends so: inside of a text its quotes have a `\` before them.
    match quoted[..start].ends_with(b",\"time\":") {
        true => std::str::from_utf8(&quoted[start + 1..]).ok()?.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-31T12:00:00.000000005Z";

    fn line(bytes: &[u8], attributes: &str, lost: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, bytes, &Beside { stream: Stream::Stderr, time: TIME, attributes, lost });
        out
    }

    fn check(bytes: &[u8], expect: &str) {
        let written = line(bytes, "", 0);
        let expect = format!("{{{expect},\"stream\":\"stderr\",\"time\":\"{TIME}\"}}\n");
        assert_eq!(String::from_utf8_lossy(&written), expect);
        let read = decode(&written).unwrap();
        assert_eq!((read.bytes.as_slice(), read.stream), (bytes, Stream::Stderr));
        assert_eq!(time_of(&written), Some(TIME.parse().unwrap()));
    }

    #[test]
    fn lines_are_those_of_json_file() {
        check(b"hello\n", r#""log":"hello\n""#);
        check(b"", r#""log":"""#);
        check(b"a\"b\\c\td\r\n\x1b[0m\x00\x7f", r#""log":"a\"b\\c\td\r\n\u001b[0m\u0000\u007f""#);
        check("grüße 漢字 <&>\n".as_bytes(), "\"log\":\"grüße 漢字 <&>\\n\"");
        check(br#"","time":"x"}"#, r#""log":"\",\"time\":\"x\"}""#);
    }

    #[test]
    fn bytes_that_are_no_text_are_not_lost() {
        check(b"a\xff\xfeb\n", "\"log\":\"a\u{fffd}\u{fffd}b\\n\",\"raw\":\"Yf/+Ygo=\"");
    }

    #[test]
    fn what_is_beside_a_line() {
        let written = line(b"x\n", r#"{"a":"b"}"#, 7);
        let text = String::from_utf8(written.clone()).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{{\"a\":\"b\"}},\"lost\":7,\"time\":\"{TIME}\"}}\n"
            )
        );
        let read = decode(&written).unwrap();
        assert_eq!((read.lost, read.attributes["a"].as_str()), (7, "b"));
    }

    #[test]
    fn dockers_own_lines_are_read() {
        let docker =
            br#"{"log":"\u003cb\u003e\ufffd\n","stream":"stdout","time":"2020-10-01T10:00:00.123Z"}"#;
        let read = decode(docker).unwrap();
        assert_eq!((read.bytes.as_slice(), read.stream), ("<b>\u{fffd}\n".as_bytes(), Stream::Stdout));
        // Fields in another order are read too; only the short cut to the time is none.
        let other = br#"{"time":"2020-10-01T10:00:00Z","stream":"stdout","log":"x"}"#;
        assert_eq!(decode(other).unwrap().bytes, b"x");
        assert_eq!(time_of(other), None);
    }

    #[test]
    fn what_is_no_line_is_none() {
        for bad in
            ["", "{", "{}", "null", "{\"log\":\"x\",\"stream\":\"out\",\"time\":\"2020-10-01T10:00:00Z\"}"]
        {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(br#"{"log":"x","stream":"stdout","time":"now"}"#), None);
        assert_eq!(time_of(b"\"}"), None);
    }

    proptest::proptest! {
        #[test]
        fn all_bytes_come_back(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let written = line(&bytes, "", 0);
            proptest::prop_assert_eq!(written.iter().filter(|b| **b == b'\n').count(), 1);
            proptest::prop_assert_eq!(decode(&written).map(|entry| entry.bytes), Some(bytes));
        }
    }
}
