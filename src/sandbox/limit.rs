//! Resource limits of a step: the kinds of setrlimit(2), and how Docker writes them.
//!
//! Not here: setting them (`child`), control groups (`cgroup`).

use std::fmt;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

/// A resource limit: setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub kind: LimitKind,
    /// `None` is no limit.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// What is limited; the units are those of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitKind {
    AddressSpace,
    Core,
    Cpu,
    Data,
    FileSize,
    Locks,
    LockedMemory,
    MessageQueues,
    Nice,
    OpenFiles,
    Processes,
    ResidentSet,
    RealTimePriority,
    RealTimeTime,
    PendingSignals,
    Stack,
}

/// The names that Docker takes.
const NAMES: [(&str, LimitKind); 15] = [
    ("core", LimitKind::Core),
    ("cpu", LimitKind::Cpu),
    ("data", LimitKind::Data),
    ("fsize", LimitKind::FileSize),
    ("locks", LimitKind::Locks),
    ("memlock", LimitKind::LockedMemory),
    ("msgqueue", LimitKind::MessageQueues),
    ("nice", LimitKind::Nice),
    ("nofile", LimitKind::OpenFiles),
    ("nproc", LimitKind::Processes),
    ("rss", LimitKind::ResidentSet),
    ("rtprio", LimitKind::RealTimePriority),
    ("rttime", LimitKind::RealTimeTime),
    ("sigpending", LimitKind::PendingSignals),
    ("stack", LimitKind::Stack),
];

/// Writes it as [`Limit::parse`] reads it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.values())
    }
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("invalid limit `{0}`: `NAME=SOFT[:HARD]` is expected, such as `nofile=1024:2048`")]
    Form(String),
    #[error("invalid limit type: `{name}` (there are {}){hint}", list())]
    Name { name: String, hint: String },
    #[error("invalid limit `{text}`: `{value}` is not a number (-1 is no limit)")]
    Value { text: String, value: String },
    #[error("invalid limit `{text}`: the soft limit ({soft}) is above the hard limit ({hard})")]
    SoftAboveHard { text: String, soft: String, hard: String },
}

fn list() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

impl Limit {
    /// Reads `NAME=SOFT[:HARD]`. -1 is no limit; without a hard limit it is the soft one.
    pub fn parse(text: &str) -> Result<Limit, LimitError> {
        let form = || LimitError::Form(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(form)?;
        let Some((_, kind)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let hint = near(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(LimitError::Name { name: name.to_owned(), hint });
        };
        let value = |value: &str| match value {
            "-1" => Ok(None),
            digits => digits
                .parse::<u64>()
                .ok()
                .filter(|&number| number <= i64::MAX as u64)
                .map(Some)
                .ok_or_else(|| LimitError::Value { text: text.to_owned(), value: digits.to_owned() }),
        };
        let (soft, hard) = match values.split_once(':') {
            None => (value(values)?, value(values)?),
            Some((_, hard)) if hard.contains(':') => return Err(form()),
            Some((soft, hard)) => (value(soft)?, value(hard)?),
        };
        if let Some(most) = hard
            && soft.is_none_or(|soft| soft > most)
        {
            let (soft, hard) = (shown(soft), shown(hard));
            return Err(LimitError::SoftAboveHard { text: text.to_owned(), soft, hard });
        }
        Ok(Limit { kind: *kind, soft, hard })
    }

    /// Writes the values as `SOFT:HARD`.
    pub(super) fn values(&self) -> String {
        format!("{}:{}", shown(self.soft), shown(self.hard))
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

/// Finds a name that is but one slip away: a letter too many, too few, another, or two swapped.
fn near(word: &str) -> Option<&'static str> {
    let slip = |name: &str| {
        let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), name.chars().collect());
        let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[start..], &b[start..]);
        let swapped = a.len() >= 2 && a.len() == b.len() && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..];
        swapped
            || a.get(1..).is_some_and(|rest| rest == b || b.get(1..) == Some(rest))
            || b.get(1..).is_some_and(|rest| rest == a)
    };
    NAMES.iter().map(|(name, _)| *name).find(|name| slip(name) || *name == word.to_ascii_lowercase())
}

impl LimitKind {
    /// Returns what the kernel calls it.
    pub(super) fn resource(self) -> Resource {
        match self {
            LimitKind::AddressSpace => Resource::As,
            LimitKind::Core => Resource::Core,
            LimitKind::Cpu => Resource::Cpu,
            LimitKind::Data => Resource::Data,
            LimitKind::FileSize => Resource::Fsize,
            LimitKind::Locks => Resource::Locks,
            LimitKind::LockedMemory => Resource::Memlock,
            LimitKind::MessageQueues => Resource::Msgqueue,
            LimitKind::Nice => Resource::Nice,
            LimitKind::OpenFiles => Resource::Nofile,
            LimitKind::Processes => Resource::Nproc,
            LimitKind::ResidentSet => Resource::Rss,
            LimitKind::RealTimePriority => Resource::Rtprio,
            LimitKind::RealTimeTime => Resource::Rttime,
            LimitKind::PendingSignals => Resource::Sigpending,
            LimitKind::Stack => Resource::Stack,
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, kind)| kind == self).map_or("as", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let check = |text: &str, kind: LimitKind, soft: Option<u64>, hard: Option<u64>| {
            assert_eq!(Limit::parse(text), Ok(Limit { kind, soft, hard }), "{text}");
        };
        check("nofile=1024:2048", LimitKind::OpenFiles, Some(1024), Some(2048));
        check("nofile=1024", LimitKind::OpenFiles, Some(1024), Some(1024));
        check("core=-1", LimitKind::Core, None, None);
        check("core=0:-1", LimitKind::Core, Some(0), None);
        for (name, kind) in NAMES {
            check(&format!("{name}=5:5"), kind, Some(5), Some(5));
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn no_limits() {
        let check = |text: &str, expect: &str| {
            let error = Limit::parse(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("nofile", "`NAME=SOFT[:HARD]` is expected");
        check("nofile=1:2:3", "`NAME=SOFT[:HARD]` is expected");
        check("nofil=1", "invalid limit type: `nofil` (there are core, cpu");
        check("nofil=1", "did you mean `nofile`?");
        check("NOFILE=1", "did you mean `nofile`?");
        check("nporc=1", "did you mean `nproc`?");
        check("statk=1", "did you mean `stack`?");
        check("cpux=1", "did you mean `cpu`?");
        assert!(!Limit::parse("xyz=1").unwrap_err().to_string().contains("mean"));
        check("nofile=", "`` is not a number");
        check("nofile=-2", "`-2` is not a number");
        check("nofile=1k", "`1k` is not a number");
        check("nofile=99999999999999999999", "is not a number");
        check("nofile=3:2", "the soft limit (3) is above the hard limit (2)");
        check("nofile=-1:2", "the soft limit (unlimited) is above the hard limit (2)");
    }
}
