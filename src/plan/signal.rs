//! Names of Linux signals, as STOPSIGNAL takes them. From signal(7).

const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Tells whether a text names a signal: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|n| (1..=64).contains(&n));
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if NAMES.contains(&name) {
        return true;
    }
    let offset = |prefix: &str, limit: u32| {
        name.strip_prefix(prefix)
            .filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|rest| rest.parse::<u32>().ok())
            .is_some_and(|n| (1..=limit).contains(&n))
    };
    offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_and_numbers() {
        for good in ["9", "TERM", "SIGTERM", "sigusr1", "RTMIN", "SIGRTMIN+3", "RTMAX-14", "64"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+16", "RTMIN+", "SIGSIGTERM", "99999999999"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
