//! The system call filter: what a sandbox may ask of the kernel, as a BPF program.
//!
//! The meaning is that of Docker's default profile: calls that reach outside of
//! a container are refused with EPERM unless a capability stands for them; calls
//! that are not known answer ENOSYS, so that libraries fall back; everything
//! else is allowed. Each mode of the processor has its own table (64-bit, 32-bit,
//! x32), so that 32-bit programs run and none can slip through another's numbers.
//! Numbers are looked up by bisection. `profile` makes programs of profiles that users bring.
//! Not here: the numbers (`sys::syscalls`).
//! Sources: seccomp(2), the kernel's Documentation/userspace-api/seccomp_filter.rst.

mod profile;

use std::collections::BTreeMap;

pub use self::profile::{Profile, ProfileError};

use super::isolation::Isolation;
use crate::sys::process::BpfInstruction;
use crate::sys::syscalls::{Architecture, X32_BIT, X32_OWN};

// Offsets in the kernel's `seccomp_data`; arguments are little-endian on all processors known here.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT_LOW: u32 = 16;

// Instructions: linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

// Capabilities: linux/capability.h.
const SYS_MODULE: u32 = 16;
const SYS_RAWIO: u32 = 17;
const SYS_PACCT: u32 = 20;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const SYS_BOOT: u32 = 22;
const SYS_NICE: u32 = 23;
const SYS_TIME: u32 = 25;
const SYS_TTY_CONFIG: u32 = 26;
const SYS_CHROOT: u32 = 18;
const DAC_READ_SEARCH: u32 = 2;
const SYSLOG: u32 = 34;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// `CLONE_NEW*` of linux/sched.h, time namespaces aside: their bit is that of an exit signal.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Address families that sockets may not have: obsolete ones, which nobody audits any more (DECnet,
/// Econet, ATMSVC, IrDA, WANPIPE, ISDN, CAIF), the kernel's own cryptography (ALG, CVE-2026-31431)
/// and the hypervisor (VSOCK). linux/socket.h.
const FAMILIES_REFUSED: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
/// The first family that is not known.
const FAMILIES_KNOWN: u32 = 46;
/// What personality(2) may be asked for: nothing new, Linux, 32-bit Linux, old uname, both.
const PERSONALITIES: [u32; 5] = [0x0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Calls that are refused to all but holders of one of these capabilities; none means to all.
const REFUSED: &[(&str, &[u32])] = &[
    ("_sysctl", &[]),
    ("acct", &[SYS_PACCT]),
    ("add_key", &[]),
    ("afs_syscall", &[]),
    ("bdflush", &[]),
    ("bpf", &[SYS_ADMIN, BPF]),
    ("break", &[]),
    ("chroot", &[SYS_CHROOT]),
    ("clock_adjtime", &[SYS_TIME]),
    ("clock_adjtime64", &[SYS_TIME]),
    ("clock_settime", &[SYS_TIME]),
    ("clock_settime64", &[SYS_TIME]),
    ("create_module", &[]),
    ("delete_module", &[SYS_MODULE]),
    ("fanotify_init", &[SYS_ADMIN]),
    ("finit_module", &[SYS_MODULE]),
    ("fsconfig", &[SYS_ADMIN]),
    ("fsmount", &[SYS_ADMIN]),
    ("fsopen", &[SYS_ADMIN]),
    ("fspick", &[SYS_ADMIN]),
    ("ftime", &[]),
    ("get_kernel_syms", &[]),
    ("get_mempolicy", &[SYS_NICE]),
    ("getpmsg", &[]),
    ("gtty", &[]),
    ("idle", &[]),
    ("init_module", &[SYS_MODULE]),
    ("io_uring_enter", &[]),
    ("io_uring_register", &[]),
    ("io_uring_setup", &[]),
    ("ioperm", &[SYS_RAWIO]),
    ("iopl", &[SYS_RAWIO]),
    ("kcmp", &[SYS_PTRACE]),
    ("kexec_file_load", &[SYS_BOOT]),
    ("kexec_load", &[SYS_BOOT]),
    ("keyctl", &[]),
    ("listmount", &[SYS_ADMIN]),
    ("listns", &[SYS_ADMIN]),
    ("lock", &[]),
    ("lookup_dcookie", &[SYS_ADMIN]),
    ("lsm_get_self_attr", &[SYS_ADMIN]),
    ("lsm_list_modules", &[SYS_ADMIN]),
    ("lsm_set_self_attr", &[SYS_ADMIN]),
    ("mbind", &[SYS_NICE]),
    ("migrate_pages", &[SYS_NICE]),
    ("mount", &[SYS_ADMIN]),
    ("mount_setattr", &[SYS_ADMIN]),
    ("move_mount", &[SYS_ADMIN]),
    ("move_pages", &[SYS_NICE]),
    ("mpx", &[]),
    ("nfsservctl", &[]),
    ("nice", &[]),
    ("oldfstat", &[]),
    ("oldlstat", &[]),
    ("oldolduname", &[]),
    ("oldstat", &[]),
    ("olduname", &[]),
    ("open_by_handle_at", &[DAC_READ_SEARCH]),
    ("open_tree", &[SYS_ADMIN]),
    ("open_tree_attr", &[SYS_ADMIN]),
    ("perf_event_open", &[SYS_ADMIN, PERFMON]),
    ("pidfd_getfd", &[SYS_PTRACE]),
    ("pivot_root", &[SYS_ADMIN]),
    ("process_madvise", &[SYS_PTRACE]),
    ("prof", &[]),
    ("profil", &[]),
    ("putpmsg", &[]),
    ("query_module", &[]),
    ("quotactl", &[SYS_ADMIN]),
    ("quotactl_fd", &[SYS_ADMIN]),
    ("readdir", &[]),
    ("reboot", &[SYS_BOOT]),
    ("request_key", &[]),
    ("security", &[]),
    ("set_mempolicy", &[SYS_NICE]),
    ("set_mempolicy_home_node", &[SYS_NICE]),
    ("setdomainname", &[SYS_ADMIN]),
    ("sethostname", &[SYS_ADMIN]),
    ("setns", &[SYS_ADMIN]),
    ("settimeofday", &[SYS_TIME]),
    ("sgetmask", &[]),
    ("sigaction", &[]),
    ("signal", &[]),
    ("sigpending", &[]),
    ("sigsuspend", &[]),
    ("ssetmask", &[]),
    ("statmount", &[SYS_ADMIN]),
    ("stime", &[SYS_TIME]),
    ("stty", &[]),
    ("swapoff", &[SYS_ADMIN]),
    ("swapon", &[SYS_ADMIN]),
    ("sysfs", &[]),
    ("syslog", &[SYS_ADMIN, SYSLOG]),
    ("tuxcall", &[]),
    ("ulimit", &[]),
    ("umount", &[SYS_ADMIN]),
    ("umount2", &[SYS_ADMIN]),
    ("unshare", &[SYS_ADMIN]),
    ("uselib", &[]),
    ("userfaultfd", &[]),
    ("ustat", &[]),
    ("vhangup", &[SYS_TTY_CONFIG]),
    ("vm86", &[SYS_ADMIN]),
    ("vm86old", &[SYS_ADMIN]),
    ("vserver", &[]),
];

/// What reaches into other processes, refused besides where steps share them with others.
const REACHING: [&str; 3] = ["ptrace", "process_vm_readv", "process_vm_writev"];

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Allow,
    /// Answers with this errno.
    Refuse(u32),
    /// Unless it makes namespaces.
    Clone,
    /// The few harmless ones.
    Personality,
    /// Of the families that are known and not refused.
    Socket,
}

fn rule(name: &str, capabilities: u64, isolation: Isolation) -> Rule {
    let holds = |capability: u32| capabilities & (1 << capability) != 0;
    match name {
        _ if isolation == Isolation::Chroot && REACHING.contains(&name) => Rule::Refuse(EPERM),
        "clone" if !holds(SYS_ADMIN) => Rule::Clone,
        // Its flags are in memory, where a filter cannot look; libraries fall back to clone.
        "clone3" if !holds(SYS_ADMIN) => Rule::Refuse(ENOSYS),
        // New, and nobody's business yet: libraries fall back to ioctl.
        "file_getattr" | "file_setattr" => Rule::Refuse(ENOSYS),
        "personality" => Rule::Personality,
        "socket" => Rule::Socket,
        _ => match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, unless)) if !unless.iter().any(|&capability| holds(capability)) => Rule::Refuse(EPERM),
            _ => Rule::Allow,
        },
    }
}

/// Makes the filter for holders of these capabilities (bits by number).
pub(super) fn program(capabilities: u64, isolation: Isolation) -> Vec<BpfInstruction> {
    let mut code = Code::default();
    code.push(LOAD, 0, 0, ARCHITECTURE);
    for &architecture in Architecture::native() {
        let mut body = Code::default();
        body.push(LOAD, 0, 0, NUMBER);
        let mut rules: BTreeMap<u32, Rule> = architecture
            .calls()
            .map(|(name, number)| (number, rule(name, capabilities, isolation)))
            .collect();
        if architecture == Architecture::X86_64 {
            // x32 shares the numbers, with a bit set, and has some of its own. -1 stands for a call
            // that a tracer took away, and must not be taken for one of x32.
            let own = X32_OWN.iter().zip(512..);
            rules.extend(own.map(|(name, number)| (number, rule(name, capabilities, isolation))));
            body.push(JUMP_EQUAL, 0, 1, u32::MAX);
            body.push(RETURN, 0, 0, ERRNO | ENOSYS);
            body.push(AND, 0, 0, !X32_BIT);
        }
        body.append(decide(&ranges(rules, Rule::Refuse(ENOSYS)), &|rule| act(*rule)));
        code.append_for(architecture, body);
    }
    // A mode of the processor that is not known.
    code.push(RETURN, 0, 0, ERRNO | ENOSYS);
    code.0
}

/// Joins neighbours with the same rule; what lies between them is not known.
fn ranges<R: Clone + PartialEq>(rules: BTreeMap<u32, R>, unknown: R) -> Vec<(u32, R)> {
    let mut starts: Vec<(u32, R)> = Vec::new();
    let mut push = |start, rule: R| match starts.last() {
        Some((_, last)) if *last == rule => {}
        _ => starts.push((start, rule)),
    };
    let mut next = 0;
    for (number, rule) in rules {
        if number > next {
            push(next, unknown.clone());
        }
        push(number, rule);
        next = number + 1;
    }
    push(next, unknown);
    starts
}

/// Makes the code that finds the range of the loaded number and does what its rule says.
fn decide<R>(ranges: &[(u32, R)], act: &impl Fn(&R) -> Code) -> Code {
    let mut code = Code::default();
    match ranges {
        [] => code.push(RETURN, 0, 0, ERRNO | ENOSYS),
        [(_, rule)] => code.append(act(rule)),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let low = decide(low, act);
            match u8::try_from(low.0.len()) {
                Ok(over) => code.push(JUMP_GREATER_OR_EQUAL, over, 0, high[0].0),
                Err(_) => {
                    code.push(JUMP_GREATER_OR_EQUAL, 0, 1, high[0].0);
                    code.push(JUMP, 0, 0, low.0.len() as u32);
                }
            }
            code.append(low);
            code.append(decide(high, act));
        }
    }
    code
}

fn act(rule: Rule) -> Code {
    let mut code = Code::default();
    match rule {
        Rule::Allow => code.push(RETURN, 0, 0, ALLOW),
        Rule::Refuse(errno) => code.push(RETURN, 0, 0, ERRNO | errno),
        Rule::Clone => {
            code.push(LOAD, 0, 0, FIRST_ARGUMENT_LOW);
            code.push(JUMP_SET, 0, 1, CLONE_NAMESPACES);
            code.push(RETURN, 0, 0, ERRNO | EPERM);
            code.push(RETURN, 0, 0, ALLOW);
        }
        Rule::Personality => {
            code.push(LOAD, 0, 0, FIRST_ARGUMENT_LOW);
            for allowed in PERSONALITIES {
                code.push(JUMP_EQUAL, 0, 1, allowed);
                code.push(RETURN, 0, 0, ALLOW);
            }
            code.push(RETURN, 0, 0, ERRNO | EPERM);
        }
        Rule::Socket => {
            code.push(LOAD, 0, 0, FIRST_ARGUMENT_LOW);
            for refused in FAMILIES_REFUSED {
                code.push(JUMP_EQUAL, 0, 1, refused);
                code.push(RETURN, 0, 0, ERRNO | EPERM);
            }
            code.push(JUMP_GREATER_OR_EQUAL, 0, 1, FAMILIES_KNOWN);
            code.push(RETURN, 0, 0, ERRNO | EPERM);
            code.push(RETURN, 0, 0, ALLOW);
        }
    }
    code
}

#[derive(Default)]
struct Code(Vec<BpfInstruction>);

impl Code {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.0.push(BpfInstruction { code, jt, jf, k });
    }

    fn append(&mut self, mut other: Code) {
        self.0.append(&mut other.0);
    }

    /// Adds what is done where the loaded architecture is this one.
    fn append_for(&mut self, architecture: Architecture, body: Code) {
        // Jumps of conditions reach 255 instructions, a plain one any number.
        self.push(JUMP_EQUAL, 1, 0, architecture.audit());
        self.push(JUMP, 0, 0, body.0.len() as u32);
        self.append(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::DEFAULT_CAPABILITIES;

    /// Runs a program as the kernel does.
    fn run(program: &[BpfInstruction], architecture: u32, number: u32, argument: u32) -> u32 {
        run_with(program, architecture, number, [u64::from(argument), 0, 0, 0, 0, 0])
    }

    pub(super) fn run_with(
        program: &[BpfInstruction],
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let BpfInstruction { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                LOAD => {
                    value = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        _ => {
                            let argument = arguments[((k - FIRST_ARGUMENT_LOW) / 8) as usize];
                            if k % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
                        }
                    };
                }
                AND => value &= k,
                JUMP => at += k as usize,
                JUMP_EQUAL => at += jump(value == k),
                JUMP_GREATER => at += jump(value > k),
                JUMP_GREATER_OR_EQUAL => at += jump(value >= k),
                JUMP_SET => at += jump(value & k != 0),
                RETURN => return k,
                _ => panic!("instruction {code}"),
            }
        }
    }

    fn answer(result: u32) -> Rule {
        if result == ALLOW { Rule::Allow } else { Rule::Refuse(result & 0xffff) }
    }

    #[test]
    fn every_call_of_every_mode_gets_its_rule() {
        for capabilities in [DEFAULT_CAPABILITIES, u64::MAX, 0] {
            let program = program(capabilities, Isolation::Namespaces);
            assert!(program.len() <= 4096, "the kernel takes no more: {}", program.len());
            for &architecture in Architecture::native() {
                for (name, number) in architecture.calls() {
                    let expect = match rule(name, capabilities, Isolation::Namespaces) {
                        Rule::Refuse(errno) => Rule::Refuse(errno),
                        _ => Rule::Allow,
                    };
                    assert_eq!(answer(run(&program, architecture.audit(), number, 0)), expect, "{name}");
                    if architecture == Architecture::X86_64 {
                        let x32 = run(&program, architecture.audit(), number | X32_BIT, 0);
                        assert_eq!(answer(x32), expect, "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn calls_by_name() {
        let program = program(DEFAULT_CAPABILITIES, Isolation::Namespaces);
        let check = |name: &str, argument: u32, expect: Rule| {
            for &architecture in Architecture::native() {
                if let Some((_, number)) = architecture.calls().find(|(known, _)| *known == name) {
                    let result = run(&program, architecture.audit(), number, argument);
                    assert_eq!(answer(result), expect, "{name} {argument:#x} {architecture:?}");
                }
            }
        };
        for name in ["read", "execve", "ptrace", "chroot", "mknodat", "socketcall", "setresuid", "capset"] {
            check(name, 0, Rule::Allow);
        }
        for name in ["mount", "unshare", "setns", "keyctl", "bpf", "io_uring_setup", "open_by_handle_at"] {
            check(name, 0, Rule::Refuse(EPERM));
        }
        check("clone3", 0, Rule::Refuse(ENOSYS));
        check("clone", 0x0120_0011, Rule::Allow);
        for namespace in
            [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            check("clone", namespace | 17, Rule::Refuse(EPERM));
        }
        check("personality", 0x0008, Rule::Allow);
        check("personality", u32::MAX, Rule::Allow);
        check("personality", 0x0004_0000, Rule::Refuse(EPERM));
        for known in [1, 2, 10, 16, 17, 39, 44, 45] {
            check("socket", known, Rule::Allow);
        }
        for refused in FAMILIES_REFUSED.into_iter().chain([46, 47, u32::MAX]) {
            check("socket", refused, Rule::Refuse(EPERM));
        }
    }

    #[test]
    fn what_is_not_known_does_not_exist() {
        let program = program(u64::MAX, Isolation::Namespaces);
        let native = Architecture::native()[0].audit();
        for number in [5000, u32::MAX, 0x4000_1388] {
            assert_eq!(answer(run(&program, native, number, 0)), Rule::Refuse(ENOSYS), "{number}");
        }
        assert_eq!(answer(run(&program, 0x1234, 0, 0)), Rule::Refuse(ENOSYS));
    }

    #[test]
    fn refused_names_exist() {
        let known = |name: &str| Architecture::ALL.iter().any(|a| a.calls().any(|(call, _)| call == name));
        for (name, _) in REFUSED {
            assert!(known(name), "{name}");
        }
    }
}
