//! What rights a step has beyond or below the usual: `--security` and `--security-opt`.
//!
//! Words are those of docs.docker.com (`docker run`, "Security configuration"). Not here: what the
//! rights are made of (`step`), compiling filters (`seccomp`).

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::note::Note;
use super::seccomp::{Profile, ProfileError};
use super::spec::Seccomp;
use super::step::StepEnvironment;

/// The options there are.
const KNOWN: &str = "seccomp=unconfined|builtin|FILE, no-new-privileges[=true|false], apparmor=PROFILE|unconfined, \
                     label=disable, systempaths=unconfined";

/// How far a step is kept from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    #[default]
    Sandbox,
    /// `RUN --security=insecure`: all capabilities that the caller has, no filter, `/proc` and `/sys`
    /// as they are, and the host's devices. Whoever lets a step have this trusts it with the machine.
    Insecure,
}

/// What `--security-opt` asks for, for every step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityOptions {
    pub seccomp: Seccomp,
    pub no_new_privs: bool,
    /// A profile that is loaded in the kernel.
    pub apparmor: Option<String>,
    /// Nothing of `/proc` and `/sys` is hidden or made read-only.
    pub system_paths_unconfined: bool,
}

/// Why an option is refused.
#[derive(Debug, thiserror::Error)]
pub enum SecurityOptionError {
    #[error("invalid --security-opt `{0}` (there are {KNOWN})")]
    Unknown(String),
    #[error("invalid --security-opt `{option}`: {why}")]
    Value { option: String, why: &'static str },
    #[error("cannot read the seccomp profile `{file}`: {source}")]
    Read { file: String, source: io::Error },
    #[error("the seccomp profile `{file}` cannot be used: {source}")]
    Profile { file: String, source: ProfileError },
    #[error(
        "--security-opt `{0}` is not supported: SELinux labels are not set by rbuild; `label=disable` is"
    )]
    Label(String),
}

/// What of security this machine's kernel has switched on.
struct Machine {
    apparmor: bool,
    selinux: bool,
}

impl SecurityOptions {
    /// Reads the values of `--security-opt`. Returns with them what has no effect here, for warnings.
    ///
    /// `capabilities` are those of the step, on which rules of a profile depend; `read` reads its file.
    pub fn parse(
        options: &[String],
        capabilities: u64,
        read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<(SecurityOptions, Vec<Note>), SecurityOptionError> {
        let machine = Machine {
            apparmor: fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|is| is.starts_with(b"Y")),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        };
        parse(options, capabilities, read, &machine)
    }

    /// Makes a step as these options say. A step that is [`Security::Insecure`] keeps no filter all the same.
    pub fn apply(&self, step: &mut StepEnvironment) {
        step.seccomp = self.seccomp.clone();
        step.no_new_privs = self.no_new_privs;
        step.apparmor = self.apparmor.clone();
        step.system_paths_unconfined = self.system_paths_unconfined;
    }
}

fn parse(
    options: &[String],
    capabilities: u64,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    machine: &Machine,
) -> Result<(SecurityOptions, Vec<Note>), SecurityOptionError> {
    let mut parsed = SecurityOptions::default();
    let mut notes = Vec::new();
    for option in options {
        let unknown = || SecurityOptionError::Unknown(option.clone());
        let invalid = |why| SecurityOptionError::Value { option: option.clone(), why };
        // `=`, or the `:` of old.
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true" | "1" | "t" | "T" | "TRUE" | "True")) => {
                parsed.no_new_privs = true;
            }
            ("no-new-privileges", Some("false" | "0" | "f" | "F" | "FALSE" | "False")) => {
                parsed.no_new_privs = false;
            }
            ("no-new-privileges", Some(_)) => return Err(invalid("`true` or `false` is expected")),
            ("seccomp" | "apparmor" | "label" | "systempaths", None | Some("")) => {
                return Err(invalid("a value is expected"));
            }
            ("seccomp", Some("unconfined")) => parsed.seccomp = Seccomp::Unconfined,
            ("seccomp", Some("builtin")) => parsed.seccomp = Seccomp::Default,
            ("seccomp", Some(file)) => {
                let text = read(Path::new(file))
                    .map_err(|source| SecurityOptionError::Read { file: file.to_owned(), source })?;
                let profile = Profile::new(&text, capabilities)
                    .map_err(|source| SecurityOptionError::Profile { file: file.to_owned(), source })?;
                parsed.seccomp = Seccomp::Profile(profile);
            }
            ("apparmor", Some("unconfined")) => parsed.apparmor = None,
            ("apparmor", Some(profile)) if machine.apparmor => parsed.apparmor = Some(profile.to_owned()),
            ("apparmor", Some(_)) => notes.push(no_effect(option, "AppArmor is not enabled on this machine")),
            ("label", Some(_)) if !machine.selinux => {
                notes.push(no_effect(option, "SELinux is not enabled on this machine"));
            }
            ("label", Some("disable")) => notes.push(no_effect(option, "rbuild sets no SELinux labels")),
            ("label", Some(_)) => return Err(SecurityOptionError::Label(option.clone())),
            ("systempaths", Some("unconfined")) => parsed.system_paths_unconfined = true,
            ("systempaths", Some(_)) => return Err(invalid("only `unconfined` is known")),
            _ => return Err(unknown()),
        }
    }
    Ok((parsed, notes))
}

fn no_effect(option: &str, why: &str) -> Note {
    Note::new(format!("--security-opt {option}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::DEFAULT_CAPABILITIES;

    const BARE: Machine = Machine { apparmor: false, selinux: false };
    const FULL: Machine = Machine { apparmor: true, selinux: true };

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("good.json") => Ok(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_vec()),
            Some("bad.json") => Ok(b"{}".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn ask(options: &[&str], machine: &Machine) -> Result<(SecurityOptions, Vec<Note>), SecurityOptionError> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        parse(&options, DEFAULT_CAPABILITIES, read, machine)
    }

    #[test]
    fn options() {
        let check = |options: &[&str], change: fn(&mut SecurityOptions)| {
            let mut expect = SecurityOptions::default();
            change(&mut expect);
            assert_eq!(ask(options, &FULL).unwrap(), (expect, Vec::new()), "{options:?}");
        };
        check(&[], |_| {});
        for yes in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            check(&[yes], |o| o.no_new_privs = true);
        }
        check(&["no-new-privileges", "no-new-privileges=false"], |_| {});
        check(&["seccomp=unconfined"], |o| o.seccomp = Seccomp::Unconfined);
        check(&["seccomp:unconfined"], |o| o.seccomp = Seccomp::Unconfined);
        check(&["seccomp=unconfined", "seccomp=builtin"], |_| {});
        check(&["apparmor=mine"], |o| o.apparmor = Some("mine".into()));
        check(&["apparmor=unconfined"], |_| {});
        check(&["systempaths=unconfined"], |o| o.system_paths_unconfined = true);
        let (parsed, _) = ask(&["seccomp=good.json"], &BARE).unwrap();
        assert!(matches!(parsed.seccomp, Seccomp::Profile(_)));
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let check = |option: &str, machine: &Machine, expect: &str| {
            let (parsed, notes) = ask(&[option], machine).unwrap();
            assert_eq!(parsed, SecurityOptions::default());
            let texts: Vec<String> = notes.iter().map(Note::to_string).collect();
            assert_eq!(texts, [format!("--security-opt {option} has no effect: {expect}")]);
        };
        check("apparmor=mine", &BARE, "AppArmor is not enabled on this machine");
        check("label=type:x_t", &BARE, "SELinux is not enabled on this machine");
        check("label:disable", &FULL, "rbuild sets no SELinux labels");
    }

    #[test]
    fn mistakes() {
        let check = |option: &str, expect: &str| {
            let error = ask(&[option], &FULL).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check("seccom=x", "invalid --security-opt `seccom=x` (there are seccomp=");
        check("", "invalid --security-opt `` (there are");
        check("seccomp", "invalid --security-opt `seccomp`: a value is expected");
        check("no-new-privileges=maybe", "invalid --security-opt `no-new-privileges=maybe`: `true` or");
        check("systempaths=x", "invalid --security-opt `systempaths=x`: only `unconfined`");
        check("seccomp=none.json", "cannot read the seccomp profile `none.json`: ");
        check(
            "seccomp=bad.json",
            "the seccomp profile `bad.json` cannot be used: it is no JSON of a seccomp",
        );
        check("label=type:x_t", "--security-opt `label=type:x_t` is not supported");
    }
}
