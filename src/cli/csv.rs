//! A line of CSV (RFC 4180), as options of docker are written: `type=image,"name=a,b"`.
//!
//! Not here: what the fields mean.

/// Takes a line of CSV apart; `None` where a quote is not closed.
pub fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => last.extend(chars.next()),
            '"' if quoted || last.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => last.push(c),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let found = fields(text);
            assert_eq!(
                found.as_ref().map(|f| f.iter().map(String::as_str).collect::<Vec<_>>()).as_deref(),
                expect
            );
        };
        check("", Some(&[""]));
        check("a=1,b", Some(&["a=1", "b"]));
        check("\"name=a,b\",c", Some(&["name=a,b", "c"]));
        check("\"say \"\"x\"\"\"", Some(&["say \"x\""]));
        check("\"a", None);
    }
}
