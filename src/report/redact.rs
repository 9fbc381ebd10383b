//! Passwords of addresses taken out of text that is shown.
//!
//! Not here: secrets of a build, which no text may hold.

/// Removes `user:password@` from every URL in a text; of `ssh` only the password.
///
/// A user name alone goes too: it may be a token. When in doubt more is removed than needed.
pub fn redact(text: &str) -> String {
    replace(text, |name, _| if name.is_empty() { String::new() } else { format!("{name}@") })
}

/// Draws what [`redact`] removes as stars, as many as it has bytes: places in the text stay where they are.
pub fn mask(text: &str) -> String {
    replace(text, |name, hidden| format!("{name}{}@", "*".repeat(hidden)))
}

/// Replaces each `user:password@`, given the name that may stay and how many bytes may not, `@` apart.
fn replace(text: &str, with: impl Fn(&str, usize) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let run = &after[..after.find(|c: char| c.is_ascii_whitespace()).unwrap_or(after.len())];
        let cut = user_info(run);
        let scheme = &before[..at];
        if cut > 0 {
            let name = match scheme.ends_with("ssh") || scheme.ends_with("SSH") {
                true => run[..cut - 1].split([':', '/', '@', '?', '#']).next().unwrap_or_default(),
                false => "",
            };
            out.push_str(&with(name, cut - 1 - name.len()));
        }
        rest = &after[cut..];
    }
    out.push_str(rest);
    out
}

/// Returns how many bytes at the start of what follows `://` are a user's, with the `@`.
fn user_info(run: &str) -> usize {
    let mut cut = 0;
    loop {
        let left = &run[cut..];
        let authority = &left[..left.find(['/', '?', '#']).unwrap_or(left.len())];
        let at = match authority.rfind('@') {
            Some(at) => at,
            // No port: a password, with a character in it that should have been escaped.
            None if !port_is_number(authority) => match left.find('@') {
                Some(at) => at,
                None => return cut,
            },
            None => return cut,
        };
        cut += at + 1;
    }
}

/// Tells whether `host[:port]` can be one; text that follows an address in a sentence does not count.
fn port_is_number(authority: &str) -> bool {
    let after_host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest,
        None => authority,
    };
    let Some((_, port)) = after_host.split_once(':') else { return true };
    let port = port.trim_end_matches(|c: char| c.is_ascii_punctuation());
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hides_users_and_passwords() {
        let check = |text: &str, expect: &str| assert_eq!(redact(text), expect, "{text}");
        check("https://user:pass@host/a.git", "https://host/a.git");
        check("https://token@host/a.git", "https://host/a.git");
        check("https://user:p@ss@host:8443/a", "https://host:8443/a");
        check("https://user:pa/ss@host/a", "https://host/a");
        check("https://user:pa#ss?@host/a", "https://host/a");
        check("https://user:a://b@host/a", "https://host/a");
        check("ssh://git@host/a.git", "ssh://git@host/a.git");
        check("ssh://git:pass@host/a.git", "ssh://git@host/a.git");
        check("fatal: 'https://u:p@h/x': no, see http://v:q@i/", "fatal: 'https://h/x': no, see http://i/");
        check("https://h/?next=https://u:p@i/", "https://h/?next=https://i/");
        check("https://host/@scope/package", "https://host/@scope/package");
        check("https://[::1]:80/a@b", "https://[::1]:80/a@b");
        check("'https://host': user@mail", "'https://host': user@mail");
        check("git@host:a.git and :// and a://", "git@host:a.git and :// and a://");
    }

    #[test]
    fn masks_in_place() {
        let check = |text: &str, expect: &str| assert_eq!(mask(text), expect, "{text}");
        check("ADD https://user:pässword@host/a.git /", "ADD https://**************@host/a.git /");
        check("ssh://git:pass@host/a", "ssh://git*****@host/a");
        check("ssh://git@host/a", "ssh://git@host/a");
        check("https://host/a@b", "https://host/a@b");
    }

    proptest! {
        #[test]
        fn masking_keeps_places(text in "[a-z:/@# é]{0,60}") {
            prop_assert_eq!(mask(&text).len(), text.len());
        }

        #[test]
        fn no_password_is_left(
            before in "[^:]{0,20}",
            scheme in "(https?|ssh|git)",
            user in "[a-zA-Z0-9._%+-]{0,8}",
            // Of `/`, `?` and `#` after an `@` or after digits nobody can say that they are a password's.
            password in "([!-\"$-.0->@-~]{0,12}|[!-/:-?A-~][!-?A-~]{0,12})",
            path in "(/[a-z@:]{0,10}){0,3}",
            after in "( .{0,30})?",
        ) {
            let secret = format!("{password}SeCrEt");
            let text = format!("{before} {scheme}://{user}:{secret}@host{path}{after}");
            let shown = redact(&text);
            prop_assert!(!shown.contains("SeCrEt"), "{text} -> {shown}");
            prop_assert!(!mask(&text).contains("SeCrEt"), "{text}");
            prop_assert!(shown.contains("host") || path.contains('@') , "{text} -> {shown}");
            prop_assert_eq!(redact(&shown), shown.clone());
        }

        #[test]
        fn text_without_users_stays(text in "[^@]{0,60}") {
            prop_assert_eq!(redact(&text), text);
        }

        #[test]
        fn never_panics(text in ".{0,80}") {
            redact(&text);
        }
    }
}
