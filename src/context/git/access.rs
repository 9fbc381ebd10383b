//! Who one is to a server: headers from secrets for HTTP, and the command for ssh.
//!
//! Nothing of it is ever an argument of a program, where all processes could read it, or in a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::remote::GitAddress;
use crate::remote::Transport;

use super::GitAccess;
use super::error::GitError;

/// Returns settings of git's that log in over HTTP; they hold for the address's host alone.
///
/// As BuildKit's git source: the secrets `GIT_AUTH_HEADER.HOST`, `GIT_AUTH_TOKEN.HOST`,
/// `GIT_AUTH_HEADER`, `GIT_AUTH_TOKEN`; the first there is; else the user of the address.
pub(super) fn http_settings(
    address: &GitAddress,
    access: &GitAccess<'_>,
) -> Result<Vec<(String, String)>, GitError> {
    let scheme = match address.transport() {
        Transport::Http => "http",
        Transport::Https => "https",
        Transport::Ssh | Transport::Git => return Ok(Vec::new()),
    };
    let Some(value) = authorization(address, access)? else { return Ok(Vec::new()) };
    let key = format!("http.{scheme}://{}/.extraHeader", address.host());
    Ok(vec![(key, format!("Authorization: {value}"))])
}

fn authorization(address: &GitAddress, access: &GitAccess<'_>) -> Result<Option<String>, GitError> {
    let host = address.host();
    for (name, token) in [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ] {
        let Some(secret) = (access.secret)(&name) else { continue };
        let secret = secret.trim_ascii();
        if secret.iter().any(|b| b.is_ascii_control()) {
            return Err(GitError::Secret(name));
        }
        return Ok(Some(match token {
            true => basic(&[b"x-access-token:", secret].concat()),
            // A header is ASCII; another byte would be refused by the server.
            false => String::from_utf8_lossy(secret).into_owned(),
        }));
    }
    Ok(address
        .credentials()
        .map(|who| basic(format!("{}:{}", who.user, who.password.as_deref().unwrap_or_default()).as_bytes())))
}

fn basic(text: &[u8]) -> String {
    format!("Basic {}", base64(text))
}

/// Encodes as RFC 4648, section 4, says.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            match at <= chunk.len() {
                true => out.push(char::from(LETTERS[(word >> (18 - 6 * at)) as usize & 63])),
                false => out.push('='),
            }
        }
    }
    out
}

/// Returns the value of GIT_SSH_COMMAND, which a shell reads.
///
/// No file of the user's is read: neither settings nor keys; keys come from the agent. With
/// `known_hosts` an unknown host is refused; without, its first key is kept in `own_hosts`.
pub(super) fn ssh_command(known_hosts: Option<&Path>, own_hosts: &Path) -> OsString {
    let (file, checking) = match known_hosts {
        Some(file) => (file, "yes"),
        None => (own_hosts, "accept-new"),
    };
    let mut command = OsString::from(
        "ssh -F /dev/null -a -x -o BatchMode=yes -o IdentityFile=none -o PermitLocalCommand=no \
         -o ClearAllForwardings=yes -o ConnectTimeout=30",
    );
    command.push(format!(" -o StrictHostKeyChecking={checking} -o "));
    // Quoted for ssh, whose `%` are tokens, then for the shell.
    let mut option = b"UserKnownHostsFile=\"".to_vec();
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'%' => option.extend(b"%%"),
            b'"' | b'\\' => option.extend([b'\\', *byte]),
            _ => option.push(*byte),
        }
    }
    option.push(b'"');
    command.push("'");
    for (at, part) in option.split(|b| *b == b'\'').enumerate() {
        if at > 0 {
            command.push(r"'\''");
        }
        command.push(std::ffi::OsStr::from_bytes(part));
    }
    command.push("'");
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote;

    #[test]
    fn encodes_base64() {
        // RFC 4648, section 10.
        let check = |text: &str, expect: &str| assert_eq!(base64(text.as_bytes()), expect, "{text}");
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
        check("\u{ff}\u{3ff}", "w7/Pvw==");
    }

    #[test]
    fn the_nearest_secret_wins_and_holds_for_its_host() {
        let check = |address: &str, secrets: &[(&str, &str)], expect: Option<(&str, &str)>| {
            let Some(Ok(remote::Address::Git(address))) = remote::parse(address) else { panic!("{address}") };
            let find = |name: &str| {
                secrets.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes().to_vec())
            };
            let access = GitAccess { secret: &find, cancelled: &|| false };
            let found = http_settings(&address, &access).unwrap();
            let found = found.first().map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(found, expect, "{address}");
        };
        let url = "https://joe:pw@h:8443/x.git";
        let key = "http.https://h:8443/.extraHeader";
        check("https://h/x.git", &[], None);
        check(url, &[], Some((key, "Authorization: Basic am9lOnB3")));
        check(
            url,
            &[("GIT_AUTH_TOKEN", "t\n")],
            Some((key, "Authorization: Basic eC1hY2Nlc3MtdG9rZW46dA==")),
        );
        let both = [("GIT_AUTH_TOKEN", "t"), ("GIT_AUTH_HEADER", "Bearer b")];
        check(url, &both, Some((key, "Authorization: Bearer b")));
        let near = [("GIT_AUTH_HEADER", "Bearer b"), ("GIT_AUTH_HEADER.h:8443", "Bearer n")];
        check(url, &near, Some((key, "Authorization: Bearer n")));
        check(url, &[("GIT_AUTH_TOKEN.other", "t")], Some((key, "Authorization: Basic am9lOnB3")));
        check("ssh://h/x.git", &[("GIT_AUTH_TOKEN", "t")], None);
        check("git://h/x.git", &[("GIT_AUTH_TOKEN", "t")], None);
    }

    #[test]
    fn a_header_cannot_become_two() {
        let Some(Ok(remote::Address::Git(address))) = remote::parse("https://h/x.git") else { panic!() };
        let access = GitAccess { secret: &|_| Some(b"a\r\nEvil: b".to_vec()), cancelled: &|| false };
        assert!(matches!(http_settings(&address, &access), Err(GitError::Secret(_))));
    }

    #[test]
    fn quotes_for_ssh_and_the_shell() {
        let check = |file: &str, expect: &str| {
            let command = ssh_command(Some(Path::new(file)), Path::new("/own")).into_string().unwrap();
            assert!(command.ends_with(expect), "{command}");
            assert!(command.contains("StrictHostKeyChecking=yes"));
        };
        check("/a b/k", r#" -o 'UserKnownHostsFile="/a b/k"'"#);
        check("/a'; x/50%", r#" -o 'UserKnownHostsFile="/a'\''; x/50%%"'"#);
        let own = ssh_command(None, Path::new("/own")).into_string().unwrap();
        assert!(own.contains("accept-new") && own.ends_with(r#"'UserKnownHostsFile="/own"'"#), "{own}");
    }
}
