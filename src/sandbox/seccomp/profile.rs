//! Seccomp profiles of users, in Docker's format: JSON -> BPF program.
//!
//! The meaning is what Docker and runc (through libseccomp) give them: names that no
//! processor has are skipped; rules hold for the capabilities, processors and kernels they name;
//! calls newer than all that a refusing profile knows answer ENOSYS. Pure but for [`Profile::new`],
//! which asks for this machine's kernel. Sources: docs.docker.com/engine/security/seccomp, the OCI
//! runtime specification (config-linux, Seccomp), seccomp(2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::capability;
use super::{
    ALLOW, AND, ARCHITECTURE, Code, ENOSYS, EPERM, ERRNO, FIRST_ARGUMENT_LOW, JUMP, JUMP_EQUAL, JUMP_GREATER,
    JUMP_GREATER_OR_EQUAL, LOAD, NUMBER, RETURN, decide, ranges,
};
use crate::sys::process::BpfInstruction;
use crate::sys::syscalls::{Architecture, X32_BIT, X32_OWN};

// What a filter answers: linux/seccomp.h.
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
/// The most instructions that the kernel takes: linux/bpf_common.h, `BPF_MAXINSNS`.
const MOST_INSTRUCTIONS: usize = 4096;

/// A profile, compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub(in crate::sandbox) program: Vec<BpfInstruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(in crate::sandbox) flags: u32,
}

/// Why a text is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("it is no JSON of a seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "unknown action `{0}` (there are SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_TRACE and SCMP_ACT_TRAP)"
    )]
    Action(String),
    #[error("SCMP_ACT_NOTIFY needs a program that answers, which a build has none of")]
    Notify,
    #[error("unknown comparison `{0}` (there are SCMP_CMP_NE, LT, LE, EQ, GE, GT and MASKED_EQ)")]
    Operator(String),
    #[error("unknown flag `{0}`")]
    Flag(String),
    #[error("`{0}` has an argument of index {1}; a system call has six, from 0")]
    Index(String, u32),
    #[error("a rule has both `name` and `names`; use one of them")]
    NameAndNames,
    #[error("it has both `architectures` and `archMap`; use one of them")]
    Architectures,
    #[error("`minKernel` is `{0}`; two numbers are expected, such as 4.8")]
    MinKernel(String),
    #[error("the errno {0} does not exist")]
    Errno(u32),
    #[error("it is too long: {0} instructions, and the kernel takes {MOST_INSTRUCTIONS}")]
    TooLong(usize),
}

/// Lists may be written as `null`.
fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "list")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "list")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default, deserialize_with = "list")]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "list")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "list")]
    args: Vec<Argument>,
    #[serde(default)]
    includes: Option<Scope>,
    #[serde(default)]
    excludes: Option<Scope>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Scope {
    #[serde(default, deserialize_with = "list")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What a profile is compiled for.
struct Machine {
    capabilities: u64,
    kernel: (u32, u32),
}

/// What is done with a call, when all of the conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Condition>,
    action: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    index: u32,
    operator: Operator,
    value: u64,
    /// What is left of a masked argument.
    datum: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual,
}

impl Profile {
    /// Compiles a profile for a step with these capabilities, on this machine.
    pub fn new(text: &[u8], capabilities: u64) -> Result<Profile, ProfileError> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
        let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        compile(text, &Machine { capabilities, kernel })
    }
}

fn compile(text: &[u8], machine: &Machine) -> Result<Profile, ProfileError> {
    let file: File = serde_json::from_slice(text)?;
    let default = action(&file.default_action, file.default_errno_ret)?;
    let architectures = architectures(&file)?;
    let mut rules: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    for entry in &file.syscalls {
        let names = match (entry.name.as_str(), entry.names.as_slice()) {
            ("", names) => names,
            (_, []) => std::slice::from_ref(&entry.name),
            _ => return Err(ProfileError::NameAndNames),
        };
        let action = action(&entry.action, entry.errno_ret)?;
        let alternatives = alternatives(names.first().map_or("", String::as_str), &entry.args)?;
        if !applies(entry, machine)? || action == default {
            continue;
        }
        for name in names {
            let list = rules.entry(name).or_default();
            list.extend(
                alternatives.iter().map(|conditions| Rule { conditions: conditions.clone(), action }),
            );
        }
    }
    for list in rules.values_mut() {
        // One without conditions says what is done with the rest, wherever it stands.
        list.sort_by_key(|rule| rule.conditions.is_empty());
    }
    let program = program(&rules, default, &architectures).0;
    if program.len() > MOST_INSTRUCTIONS {
        return Err(ProfileError::TooLong(program.len()));
    }
    Ok(Profile { program, flags: flags(&file.flags)? })
}

fn flags(names: &[String]) -> Result<u32, ProfileError> {
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                // Of use to programs with threads; the child has one.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => 2,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
                _ => return Err(ProfileError::Flag(name.clone())),
            })
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    let errno = errno.unwrap_or(EPERM);
    if errno > 4095 {
        return Err(ProfileError::Errno(errno));
    }
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_TRACE" => TRACE | errno,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => return Err(ProfileError::Notify),
        _ => return Err(ProfileError::Action(name.to_owned())),
    })
}

/// Says which modes of this processor get tables: the native one always, others by their names.
fn architectures(file: &File) -> Result<Vec<String>, ProfileError> {
    if !file.architectures.is_empty() && !file.arch_map.is_empty() {
        return Err(ProfileError::Architectures);
    }
    let native = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    let mut named = vec![native.to_owned()];
    named.extend(file.architectures.iter().cloned());
    // Only the entry of this processor counts; the others are for other machines.
    for map in file.arch_map.iter().filter(|map| map.architecture == native) {
        named.extend(map.sub_architectures.iter().cloned());
    }
    Ok(named)
}

fn applies(entry: &Entry, machine: &Machine) -> Result<bool, ProfileError> {
    let here = |arches: &[String]| {
        let names = if cfg!(target_arch = "x86_64") { ["amd64", "x86_64"] } else { ["arm64", "aarch64"] };
        arches.iter().any(|arch| names.contains(&arch.as_str()))
    };
    let holds = |name: &String| capability::bit(name).is_some_and(|bit| machine.capabilities & bit != 0);
    let new_enough = |text: &String| {
        let numbers = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match numbers {
            Some((Ok(major), Ok(minor))) => Ok(machine.kernel >= (major, minor)),
            _ => Err(ProfileError::MinKernel(text.clone())),
        }
    };
    let (none, also_none) = (Scope::default(), Scope::default());
    let (includes, excludes) =
        (entry.includes.as_ref().unwrap_or(&none), entry.excludes.as_ref().unwrap_or(&also_none));
    let included = (includes.arches.is_empty() || here(&includes.arches))
        && includes.caps.iter().all(holds)
        && includes.min_kernel.as_ref().map_or(Ok(true), new_enough)?;
    let excluded = here(&excludes.arches)
        || excludes.caps.iter().any(holds)
        || excludes.min_kernel.as_ref().map_or(Ok(false), new_enough)?;
    Ok(included && !excluded)
}

/// Turns arguments into alternatives: all hold together, unless two are of the same index; then any.
fn alternatives(name: &str, args: &[Argument]) -> Result<Vec<Vec<Condition>>, ProfileError> {
    let condition = |argument: &Argument| {
        if argument.index > 5 {
            return Err(ProfileError::Index(name.to_owned(), argument.index));
        }
        let operator = match argument.op.as_str() {
            "SCMP_CMP_NE" => Operator::NotEqual,
            "SCMP_CMP_LT" => Operator::Less,
            "SCMP_CMP_LE" => Operator::LessOrEqual,
            "SCMP_CMP_EQ" => Operator::Equal,
            "SCMP_CMP_GE" => Operator::GreaterOrEqual,
            "SCMP_CMP_GT" => Operator::Greater,
            "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
            other => return Err(ProfileError::Operator(other.to_owned())),
        };
        let datum = argument.value_two & argument.value;
        Ok(Condition { index: argument.index, operator, value: argument.value, datum })
    };
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice =
        conditions.iter().enumerate().any(|(at, c)| conditions[..at].iter().any(|d| d.index == c.index));
    Ok(if twice { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] })
}

fn program(rules: &BTreeMap<&str, Vec<Rule>>, default: u32, architectures: &[String]) -> Code {
    let has = |name: &str| architectures.iter().any(|known| known == name);
    let table = |calls: &mut dyn Iterator<Item = (&'static str, u32)>| {
        let found: BTreeMap<u32, Vec<Rule>> =
            calls.filter_map(|(name, number)| Some((number, rules.get(name)?.clone()))).collect();
        let last = found.keys().next_back().copied();
        let mut starts = ranges(found, Vec::new());
        // What is newer than the whole profile does not exist, so that libraries fall back.
        if let Some(last) = last
            && ![ALLOW, LOG].contains(&default)
            && default & 0x7fff_0000 != TRACE
        {
            starts.retain(|(start, _)| *start <= last);
            starts.push((last + 1, vec![Rule { conditions: Vec::new(), action: ERRNO | ENOSYS }]));
        }
        decide(&starts, &|rules: &Vec<Rule>| {
            let mut code = Code::default();
            for rule in rules {
                code.append(entry(rule));
            }
            if rules.last().is_none_or(|rule| !rule.conditions.is_empty()) {
                code.push(RETURN, 0, 0, default);
            }
            code
        })
    };
    let mut code = Code::default();
    code.push(LOAD, 0, 0, ARCHITECTURE);
    for &architecture in Architecture::native() {
        if architecture == Architecture::I386 && !has("SCMP_ARCH_X86") {
            continue;
        }
        let mut body = Code::default();
        body.push(LOAD, 0, 0, NUMBER);
        if architecture == Architecture::X86_64 {
            let mut x32 = Code::default();
            if has("SCMP_ARCH_X32") {
                let own = |name: &str| X32_OWN.iter().position(|known| *known == name);
                let mut calls = architecture
                    .calls()
                    .map(|(name, number)| (name, own(name).map_or(number, |at| 512 + at as u32)));
                x32.push(AND, 0, 0, !X32_BIT);
                x32.append(table(&mut calls));
            } else {
                x32.push(RETURN, 0, 0, KILL_PROCESS);
            }
            // -1 is a call that a tracer took away, and none of x32.
            body.push(JUMP_EQUAL, 0, 1, u32::MAX);
            body.push(RETURN, 0, 0, default);
            body.push(JUMP_GREATER_OR_EQUAL, 1, 0, X32_BIT);
            body.push(JUMP, 0, 0, x32.0.len() as u32);
            body.append(x32);
        }
        body.append(table(&mut architecture.calls()));
        code.append_for(architecture, body);
    }
    // A mode of the processor that the profile does not name.
    code.push(RETURN, 0, 0, KILL_PROCESS);
    code
}

/// Makes the code of one rule, which goes on behind it when a condition does not hold.
fn entry(rule: &Rule) -> Code {
    let mut code = Code::default();
    code.push(RETURN, 0, 0, rule.action);
    for condition in rule.conditions.iter().rev() {
        let mut before = compare(condition, code.0.len());
        before.append(code);
        code = before;
    }
    code
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// Behind the comparison: it holds.
    Holds,
    /// Behind the whole rule.
    Fails,
}

/// Makes the code of one comparison of 64 bits, which are loaded in halves.
fn compare(condition: &Condition, rest: usize) -> Code {
    use To::{Fails, Holds, Next};
    let low = FIRST_ARGUMENT_LOW + 8 * condition.index;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high_value, low_value) = halves(condition.value);
    let (high_datum, low_datum) = halves(condition.datum);
    let load = |from| (LOAD, Next, Next, from);
    let jump = |code, yes, no, value| (code, yes, no, value);
    let steps: Vec<(u16, To, To, u32)> = match condition.operator {
        Operator::Equal => vec![
            load(low + 4),
            jump(JUMP_EQUAL, Next, Fails, high_value),
            load(low),
            jump(JUMP_EQUAL, Next, Fails, low_value),
        ],
        Operator::NotEqual => vec![
            load(low + 4),
            jump(JUMP_EQUAL, Next, Holds, high_value),
            load(low),
            jump(JUMP_EQUAL, Fails, Next, low_value),
        ],
        Operator::MaskedEqual => vec![
            load(low + 4),
            (AND, Next, Next, high_value),
            jump(JUMP_EQUAL, Next, Fails, high_datum),
            load(low),
            (AND, Next, Next, low_value),
            jump(JUMP_EQUAL, Next, Fails, low_datum),
        ],
        Operator::Greater | Operator::GreaterOrEqual => vec![
            load(low + 4),
            jump(JUMP_GREATER, Holds, Next, high_value),
            jump(JUMP_EQUAL, Next, Fails, high_value),
            load(low),
            match condition.operator {
                Operator::Greater => jump(JUMP_GREATER, Next, Fails, low_value),
                _ => jump(JUMP_GREATER_OR_EQUAL, Next, Fails, low_value),
            },
        ],
        Operator::Less | Operator::LessOrEqual => vec![
            load(low + 4),
            jump(JUMP_GREATER, Fails, Next, high_value),
            jump(JUMP_EQUAL, Next, Holds, high_value),
            load(low),
            match condition.operator {
                Operator::Less => jump(JUMP_GREATER_OR_EQUAL, Fails, Next, low_value),
                _ => jump(JUMP_GREATER, Fails, Next, low_value),
            },
        ],
    };
    let mut code = Code::default();
    let length = steps.len();
    for (at, (instruction, yes, no, value)) in steps.into_iter().enumerate() {
        // Six comparisons of six instructions: no jump is longer than 255.
        let far = |to| match to {
            Next => 0,
            Holds => (length - at - 1) as u8,
            Fails => (length - at - 1 + rest) as u8,
        };
        code.push(instruction, far(yes), far(no), value);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::tests::run_with;
    use super::*;

    const MACHINE: Machine = Machine { capabilities: 1 << 21, kernel: (5, 10) };

    fn number(name: &str) -> u32 {
        Architecture::native()[0].calls().find(|(known, _)| *known == name).unwrap().1
    }

    fn answer(profile: &str, name: &str, arguments: [u64; 6]) -> u32 {
        let profile = compile(profile.as_bytes(), &MACHINE).unwrap();
        run_with(&profile.program, Architecture::native()[0].audit(), number(name), arguments)
    }

    fn allowing(entry: &str) -> String {
        format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"action":"SCMP_ACT_ALLOW",{entry}}}]}}"#)
    }

    #[test]
    fn names_and_defaults() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"comment":"x","syscalls":[
            {"names":["read","no_such_call","zzz"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{},"excludes":{}},
            {"name":"write","action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["close"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["openat"],"action":"SCMP_ACT_LOG"},
            {"names":["statx"],"action":"SCMP_ACT_TRAP"}]}"#;
        for (name, expect) in [
            ("read", ALLOW),
            ("write", ERRNO | 5),
            ("close", KILL_PROCESS),
            ("openat", LOG),
            ("statx", TRAP),
            ("mount", ERRNO | 13),
            // Newer than all that are named.
            ("listmount", ERRNO | ENOSYS),
        ] {
            assert_eq!(answer(profile, name, [0; 6]), expect, "{name}");
        }
        let profile =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdirat","action":"SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(answer(profile, "mkdirat", [0; 6]), ERRNO | EPERM);
        assert_eq!(answer(profile, "listmount", [0; 6]), ALLOW);
    }

    #[test]
    fn arguments_are_compared() {
        let big = 5_u64 << 32 | 7;
        let check = |operator: &str, value: u64, two: u64, holds: &[u64], fails: &[u64]| {
            let arg = format!(r#"{{"index":3,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{operator}"}}"#);
            let profile = allowing(&format!(r#""names":["read"],"args":[{arg}]"#));
            for (values, expect) in [(holds, ALLOW), (fails, ERRNO | EPERM)] {
                for &value in values {
                    assert_eq!(
                        answer(&profile, "read", [9, 9, 9, value, 9, 9]),
                        expect,
                        "{operator} {value:#x}"
                    );
                }
            }
        };
        let (below, above) = ([0, 7, big - 1, 4 << 32 | 9], [big + 1, 6 << 32, u64::MAX]);
        let with = |list: &[u64]| list.iter().copied().chain([big]).collect::<Vec<_>>();
        check("EQ", big, 0, &[big], &[&below[..], &above].concat());
        check("NE", big, 0, &[&below[..], &above].concat(), &[big]);
        check("GT", big, 0, &above, &with(&below));
        check("GE", big, 0, &with(&above), &below);
        check("LT", big, 0, &below, &with(&above));
        check("LE", big, 0, &with(&below), &above);
        let mask = 0xff_0000_00ff;
        check("MASKED_EQ", mask, 5 << 32, &[5 << 32, 5 << 32 | 0xf00], &[0, big, 5]);
    }

    #[test]
    fn conditions_add_up_and_the_same_index_means_any() {
        let arg =
            |index: u32, value: u32| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
        let both = allowing(&format!(r#""names":["read"],"args":[{},{}]"#, arg(0, 1), arg(1, 2)));
        assert_eq!(answer(&both, "read", [1, 2, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&both, "read", [1, 3, 0, 0, 0, 0]), ERRNO | EPERM);
        let any = allowing(&format!(r#""names":["read"],"args":[{},{}]"#, arg(0, 1), arg(0, 2)));
        for (value, expect) in [(1, ALLOW), (2, ALLOW), (3, ERRNO | EPERM)] {
            assert_eq!(answer(&any, "read", [value, 0, 0, 0, 0, 0]), expect);
        }
    }

    #[test]
    fn scopes() {
        let check = |scope: &str, expect: bool| {
            let result = answer(&allowing(&format!(r#""names":["read"],{scope}"#)), "read", [0; 6]);
            assert_eq!(result == ALLOW, expect, "{scope}");
        };
        check(r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true);
        check(r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, false);
        check(r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, false);
        check(r#""excludes":{"caps":["CAP_BPF","CAP_NONE"]}"#, true);
        check(r#""includes":{"arches":["amd64","arm64"]}"#, true);
        check(r#""includes":{"arches":["s390"]}"#, false);
        check(r#""excludes":{"arches":["amd64","arm64"]}"#, false);
        check(r#""includes":{"minKernel":"5.10"}"#, true);
        check(r#""includes":{"minKernel":"5.11"}"#, false);
        check(r#""excludes":{"minKernel":"4.8"}"#, false);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn modes_of_the_processor() {
        let profile = |sub: &str| {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"SCMP_ARCH_X86_64","subArchitectures":[{sub}]}}],
                "syscalls":[{{"names":["read","ioctl"],"action":"SCMP_ACT_ALLOW"}}]}}"#
            );
            compile(text.as_bytes(), &MACHINE).unwrap().program
        };
        let (alone, all) = (profile(""), profile(r#""SCMP_ARCH_X86","SCMP_ARCH_X32""#));
        let (x64, i386) = (Architecture::X86_64.audit(), Architecture::I386.audit());
        let run = |program: &[BpfInstruction], audit, number| run_with(program, audit, number, [0; 6]);
        for (audit, number, one, other) in [
            (x64, 0, ALLOW, ALLOW),
            (x64, X32_BIT, KILL_PROCESS, ALLOW),
            (x64, X32_BIT | 514, KILL_PROCESS, ALLOW),
            (i386, 3, KILL_PROCESS, ALLOW),
            (0x1234, 0, KILL_PROCESS, KILL_PROCESS),
            (x64, u32::MAX, ERRNO | EPERM, ERRNO | EPERM),
        ] {
            assert_eq!((run(&alone, audit, number), run(&all, audit, number)), (one, other), "{number:#x}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let check = |text: &str, expect: &str| {
            let error = compile(text.as_bytes(), &MACHINE).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("{", "it is no JSON of a seccomp profile: EOF");
        check("{}", "missing field `defaultAction`");
        check(r#"{"defaultAction":"ALLOW"}"#, "unknown action `ALLOW`");
        check(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY needs");
        check(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "errno 5000");
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "unknown flag `X`");
        let both =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["A"],"archMap":[{"architecture":"B"}]}"#;
        check(both, "both `architectures` and `archMap`");
        check(&allowing(r#""name":"a","names":["b"]"#), "both `name` and `names`");
        check(
            &allowing(r#""names":["b"],"args":[{"index":6,"op":"SCMP_CMP_EQ"}]"#),
            "an argument of index 6",
        );
        check(&allowing(r#""names":["b"],"args":[{"index":0,"op":"EQ"}]"#), "unknown comparison `EQ`");
        check(&allowing(r#""names":["b"],"includes":{"minKernel":"new"}"#), "`minKernel` is `new`");
    }
}
