//! Capabilities by name, as `--cap-add` and `--cap-drop` write them: capabilities(7).
//!
//! Not here: giving them to a process (`child`).

use super::spec::DEFAULT_CAPABILITIES;

/// The names by number, without `CAP_`: linux/capability.h.
pub(super) const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All that have a name.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {option}: unknown capability: \"CAP_{name}\"{hint}")]
pub struct UnknownCapability {
    option: &'static str,
    name: String,
    hint: String,
}

/// Returns the bit of a capability, by its name with or without `CAP_`.
pub(super) fn bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// Returns the capabilities of a container that adds and drops these; the rules are docker's.
///
/// `ALL` is each of them. Who adds all keeps those that are not dropped by name, who drops all has those
/// that are added by name.
pub fn chosen(add: &[String], drop: &[String]) -> Result<u64, UnknownCapability> {
    let read = |option: &'static str, words: &[String]| {
        let mut bits = 0;
        let mut all = false;
        for word in words {
            let name = word.to_ascii_uppercase();
            match bit(&name) {
                Some(bit) => bits |= bit,
                None if name == "ALL" => all = true,
                None => return Err(unknown(option, &name)),
            }
        }
        Ok((bits, all))
    };
    let (added, adds_all) = read("CapAdd", add)?;
    let (dropped, drops_all) = read("CapDrop", drop)?;
    Ok(match (adds_all, drops_all) {
        (true, true) => ALL & added,
        (true, false) => ALL & !dropped,
        (false, true) => added,
        (false, false) => DEFAULT_CAPABILITIES & !dropped | added,
    })
}

fn unknown(option: &'static str, name: &str) -> UnknownCapability {
    let name = name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let near = NAMES.iter().find(|known| known.contains(&name) && name.len() > 2);
    let hint = near.map(|near| format!(" (is it `{near}`?)")).unwrap_or_default();
    UnknownCapability { option, name, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(add: &str, drop: &str) -> Result<u64, String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        chosen(&words(add), &words(drop)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_added_and_dropped() {
        let bits = |names: &str| names.split_whitespace().map(|name| bit(name).unwrap()).sum::<u64>();
        assert_eq!(choose("", ""), Ok(DEFAULT_CAPABILITIES));
        assert_eq!(choose("net_admin", ""), Ok(DEFAULT_CAPABILITIES | 1 << 12));
        assert_eq!(choose("CAP_NET_ADMIN", "MKNOD"), Ok(DEFAULT_CAPABILITIES & !(1 << 27) | 1 << 12));
        assert_eq!(choose("", "ALL"), Ok(0));
        assert_eq!(choose("CHOWN SETUID", "all"), Ok(bits("CHOWN SETUID")));
        assert_eq!(choose("ALL", "SYS_ADMIN"), Ok(ALL & !(1 << 21)));
        assert_eq!(choose("ALL", "ALL"), Ok(0));
        assert_eq!(choose("x", "").unwrap_err(), "invalid CapAdd: unknown capability: \"CAP_X\"");
        let near = choose("", "ADMIN").unwrap_err();
        assert!(near.starts_with("invalid CapDrop: unknown capability: \"CAP_ADMIN\" (is it `"), "{near}");
    }
}
