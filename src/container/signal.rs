//! Signals by name and number, as `stop --signal` and STOPSIGNAL take them. From signal(7).

use std::str::FromStr;

use nix::sys::signal::Signal;

/// SIGTERM's number: how a container is stopped where nothing else is said.
pub const TERM: i32 = 15;
/// SIGKILL's number.
pub const KILL: i32 = 9;

/// glibc's first and last real-time signals.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a signal: a number, or a name with or without `SIG`, in any case; `None` where it is none.
pub fn parse(text: &str) -> Option<i32> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=RTMAX).contains(number));
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<i32>().ok());
    match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        "CLD" => Some(Signal::SIGCHLD as i32),
        "IOT" => Some(Signal::SIGABRT as i32),
        "POLL" => Some(Signal::SIGIO as i32),
        "UNUSED" => Some(Signal::SIGSYS as i32),
        _ if name.starts_with("RTMIN+") => offset("RTMIN+").map(|n| RTMIN + n).filter(|n| *n <= RTMAX),
        _ if name.starts_with("RTMAX-") => offset("RTMAX-").map(|n| RTMAX - n).filter(|n| *n >= RTMIN),
        _ => Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let check = |text: &str, expect| assert_eq!(parse(text), expect, "{text}");
        check("9", Some(9));
        check("TERM", Some(15));
        check("SIGTERM", Some(15));
        check("sigusr1", Some(10));
        check("RTMIN+3", Some(37));
        check("SIGRTMAX-1", Some(63));
        check("CLD", Some(17));
        for bad in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+99", "SIGSIGTERM"] {
            check(bad, None);
        }
    }
}
