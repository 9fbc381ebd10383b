//! Sandboxes for real: as root, as a user with subordinate ids, and as one with a single id.
//!
//! The usual harness runs tests in threads of a program that has others; the
//! sandbox needs a main that becomes its helper, and enters a user namespace
//! first. So this is a program of its own: a list of checks, run one by one.
//! `cargo test --test sandbox -- WORD` runs those with WORD in their name;
//! `-- --time` measures.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rbuild::sandbox::{
    BindSource, CgroupLimits, ExecFailure, Exit, Launcher, Limit, LimitKind, Mount, MountSource, Network,
    Note, Profile, Root, Running, SandboxError, Seccomp, Security, Spec, State, Stdio, StepEnvironment,
    StepError, StepMount, TerminalSize, Upper, User, Volume, run_helper_if_asked, step_spec,
};
use rbuild::sys::RootDir;
use rbuild::sys::mount::unshare_for_this_thread;
use rbuild::sys::overlay::MountWay;
use rbuild::sys::userns::{Identity, enter_if_needed};
use rustix::thread::UnshareFlags;

#[path = "sandbox/chroot.rs"]
mod chroot;
#[path = "sandbox/enter.rs"]
mod enter;
#[path = "sandbox/wishes.rs"]
mod wishes;

const APPLETS: [&str; 29] = [
    "chroot", "sh", "cat", "echo", "env", "grep", "head", "hostname", "id", "ifconfig", "kill", "ln",
    "logger", "ls", "mkdir", "mknod", "mount", "mv", "rm", "pwd", "sleep", "stat", "stty", "tail", "touch",
    "tr", "true", "tty", "unshare",
];
/// A 32-bit program for x86: `exit(42)`.
const EXIT_42_I386: [u8; 96] = [
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 4, 8,
    0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    0, 0x80, 4, 8, 0, 0x80, 4, 8, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, 0xb8, 1, 0, 0, 0,
    0xbb, 42, 0, 0, 0, 0xcd, 0x80,
];

fn main() -> ExitCode {
    if let Some(code) = run_helper_if_asked() {
        return code;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--nocapture").collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let root = rustix::process::geteuid().is_root();
    let mut failed = 0;
    let as_user = words.iter().any(|word| word == "--as-user");
    if root && !as_user {
        for (uid, gid) in ordinary_users() {
            failed += run_as(uid, gid, &words);
        }
    }
    let identity = match enter_if_needed() {
        Ok(identity) => identity,
        Err(error) => {
            println!("left out: {error}");
            return ExitCode::SUCCESS;
        }
    };
    let kind = match (identity.rootless, identity.ids.single) {
        (false, _) => "root",
        (true, false) => "user",
        (true, true) => "user with a single id",
    };
    let world = World::new(identity);
    if words.iter().any(|word| word == "--time") {
        time(&world, kind);
        return if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    for (name, check) in CHECKS {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&world)));
        println!("{kind}: {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Finds a user with subordinate ids, and one without.
fn ordinary_users() -> Vec<(u32, u32)> {
    let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let owners: Vec<&str> = subuid.lines().filter_map(|line| line.split(':').next()).collect();
    let rich = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        owners.contains(&fields[0]).then(|| (fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    });
    if rich.is_none() {
        println!("left out: no user has subordinate ids (`/etc/subuid`)");
    }
    rich.into_iter().chain([(64_999, 64_999)]).collect()
}

fn run_as(uid: u32, gid: u32, words: &[String]) -> usize {
    // Where this program is built, others may not read.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("sandbox");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = Command::new(copy).arg("--as-user").args(words).uid(uid).gid(gid).current_dir("/").status();
    usize::from(!status.unwrap().success())
}

/// What every check works with.
struct World {
    identity: Identity,
    launcher: Launcher,
    directory: tempfile::TempDir,
}

/// How a step ended and what it said.
#[derive(Debug)]
struct Said {
    exit: Exit,
    text: String,
}

impl World {
    fn new(identity: Identity) -> World {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = directory.path().join("base");
        for name in ["bin", "root", "tmp"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", base.join("bin/busybox")).expect("the package busybox-static is installed");
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        let launcher = Launcher::start(&std::env::current_exe().unwrap()).unwrap();
        World { identity, launcher, directory }
    }

    fn base(&self) -> PathBuf {
        self.directory.path().join("base")
    }

    /// Makes a new directory that stays until the end.
    fn fresh(&self, name: &str) -> PathBuf {
        let path = tempfile::Builder::new().prefix(name).tempdir_in(self.directory.path()).unwrap().keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn root_over(&self, lowers: Vec<PathBuf>) -> Root {
        let (upper, work) = (self.fresh("upper"), self.fresh("work"));
        Root::Overlay { lowers, upper, work, xattrs: self.identity.xattrs, durable: false }
    }

    fn step(&self, args: &[&str]) -> StepEnvironment {
        let mut step = StepEnvironment::new(
            self.root_over(vec![self.base()]),
            args.iter().map(OsString::from).collect(),
        );
        step.env = vec!["PATH=/bin".into()];
        step.resolv_conf = b"nameserver 192.0.2.1\n".to_vec();
        step
    }

    fn shell(&self, script: &str) -> StepEnvironment {
        self.step(&["sh", "-c", script])
    }

    fn start(&self, spec: Spec) -> Result<(Running, File), SandboxError> {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer: OwnedFd = writer.into();
        let stderr = Some(writer.try_clone().unwrap());
        let running = self.launcher.spawn(spec, Stdio { stdin: None, stdout: Some(writer), stderr })?;
        Ok((running, File::from(OwnedFd::from(reader))))
    }

    fn run_spec(&self, spec: Spec) -> Result<Said, SandboxError> {
        let (running, mut output) = self.start(spec)?;
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        Ok(Said { exit: running.wait()?, text })
    }

    fn run(&self, step: StepEnvironment) -> Result<Said, SandboxError> {
        self.run_spec(step_spec(step))
    }

    /// Runs a script that must succeed, and returns what it said.
    fn output(&self, script: &str) -> String {
        self.output_of(self.shell(script))
    }

    fn output_of(&self, step: StepEnvironment) -> String {
        let said = self.run(step).unwrap();
        assert_eq!(said.exit, Exit::Code(0), "{}", said.text);
        said.text
    }

    fn error(&self, step: StepEnvironment) -> SandboxError {
        self.run(step).unwrap_err()
    }
}

fn upper_of(step: &StepEnvironment) -> PathBuf {
    let Root::Overlay { upper, .. } = &step.root else { panic!("an overlay") };
    upper.clone()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Tells whether any process has this word among its arguments.
fn process_with(word: &str) -> bool {
    let has = |entry: fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().any(has)
}

type Check = (&'static str, fn(&World));
const CHECKS: &[Check] = &[
    ("exit codes", exit_codes),
    ("the environment is the step's alone", environment),
    ("capabilities, signals, umask of root", status_of_root),
    ("an ordinary user", ordinary_user),
    ("host name, hosts, resolv.conf", names_of_the_host),
    ("proc and sys are protected", protected_paths),
    ("dev holds the harmless devices", devices),
    ("a device node that a step makes is of no use", device_nodes),
    ("only the standard descriptors are open", descriptors),
    ("working directories", working_directories),
    ("programs that cannot be started", exec_errors),
    ("kill leaves nothing", kill_leaves_nothing),
    ("background children die", background_children_die),
    ("signals arrive", signals_arrive),
    ("mount points leave no trace in the upper directory", upper_stays_clean),
    ("links of an image lead nowhere else", links_stay_inside),
    ("mount points that an image hides", hidden_mount_points),
    ("a mount point below a file", mount_point_below_a_file),
    ("volumes", volumes),
    ("files given as content", given_files),
    ("both ways to mount", mount_ways),
    ("a read-only root", read_only_root),
    ("layers cover each other", layers),
    ("too many layers", too_many_layers),
    ("networks", networks),
    ("a terminal", terminal),
    ("forbidden system calls", forbidden_calls),
    ("a 32-bit program", program_of_32_bits),
    ("the machine's facts", facts),
    ("many at once", many_at_once),
    ("out of memory is told apart", out_of_memory),
    ("limits of every kind", limits),
    ("limits of memory and processes", control_groups),
    ("what a control group cannot have is told", missing_control_groups),
    ("other states", other_states),
    ("other states lead nowhere else", other_states_stay_inside),
    ("secrets", secrets),
    ("sockets", sockets),
    ("caches", caches),
    ("mount points that a step replaces", replaced_mount_points),
    ("no descriptor is left of any mount", descriptors_with_mounts),
    ("a step that is trusted", insecure),
    ("a profile of system calls", profiles),
    ("hosts, shared memory, privileges", small_wishes),
    ("wishes: tmpfs with options", wishes::tmpfs_with_options),
    ("wishes: devices of the host", wishes::devices_of_the_host),
    ("wishes: settings of the kernel", wishes::settings_of_the_kernel),
    ("wishes: a first process", wishes::a_first_process),
    ("wishes: a first process passes signals on", wishes::a_first_process_passes_signals_on),
    ("the helper's program cannot be written", helper_is_protected),
    ("steps end with their launcher", steps_end_with_their_launcher),
    ("a further process is inside", enter::is_inside),
    ("a further process is who was asked for", enter::is_who_was_asked_for),
    ("a further process shows nothing", enter::shows_nothing),
    ("a further process ends", enter::ends),
    ("a further process has a terminal", enter::has_a_terminal),
    ("a further process has the limits of the step", enter::has_the_limits_of_the_step),
    ("a further process keeps to a profile", enter::keeps_to_a_profile),
    ("a further process not in a chroot", enter::not_in_a_chroot),
    ("a chroot leaves no trace", chroot::leaves_no_trace),
    ("a chroot after a failure", chroot::after_a_failure),
    ("the rights in a chroot", chroot::rights),
    ("of a chroot nobody is left", chroot::nobody_is_left),
    ("chroots at once", chroot::at_once),
];

fn exit_codes(world: &World) {
    let check = |script: &str, expect: Exit| assert_eq!(world.run(world.shell(script)).unwrap().exit, expect);
    check("true", Exit::Code(0));
    check("exit 3", Exit::Code(3));
    check("nosuchcommand", Exit::Code(127));
    check("sh -c 'kill -9 $$'; exit $?", Exit::Code(137));
    let said = world.run(world.shell("echo out; echo err >&2; exit 1")).unwrap();
    assert_eq!((said.exit, said.text.as_str()), (Exit::Code(1), "out\nerr\n"));
}

fn environment(world: &World) {
    let mut step = world.step(&["env"]);
    step.env = vec!["PATH=/bin".into(), "A=1 2".into(), "B=".into()];
    assert_eq!(world.output_of(step), "PATH=/bin\nA=1 2\nB=\nHOME=/root\n");
    assert_eq!(world.output("cat /proc/1/environ | tr '\\0' '\\n'"), "PATH=/bin\nHOME=/root\n");
    let numbers =
        world.output("ls /proc | grep -E '^[0-9]+$' | head -n 3; cat /proc/1/cmdline | tr '\\0' ' '");
    assert!(numbers.starts_with("1\n") && numbers.contains("sh -c "), "{numbers}");
}

fn status_of_root(world: &World) {
    let text = world.output("id; umask; grep -E '^(Cap|NoNew|Seccomp:|SigBlk|Groups)' /proc/self/status");
    let expect = "uid=0 gid=0 groups=0\n0022\nGroups:\t0 \nSigBlk:\t0000000000000000\n\
                  CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
                  CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
    // A shell ignores some itself.
    assert_eq!(
        world.output_of(world.step(&["grep", "SigIgn", "/proc/self/status"])),
        "SigIgn:\t0000000000000000\n"
    );
    if world.identity.ids.single {
        // The caller's groups cannot be given up there; they are nobody's inside.
        let without =
            |text: &str| text.lines().filter(|l| !l.starts_with("Groups")).collect::<Vec<_>>().join("\n");
        let text = text.replacen(text.lines().next().unwrap(), "uid=0 gid=0 groups=0", 1);
        assert_eq!(without(&text), without(expect));
    } else {
        assert_eq!(text, expect);
    }
}

fn ordinary_user(world: &World) {
    let user = || User { uid: 1000, gid: 1001, groups: vec![1001, 27, 44] };
    let script = "id; grep -E '^Cap' /proc/self/status; echo through >/dev/stdout; cat /dev/fd/0";
    let mut step = world.shell(script);
    step.user = user();
    if world.identity.ids.single {
        let error = world.error(step);
        assert!(
            matches!(
                error,
                SandboxError::Step(StepError::UnmappedUser { .. } | StepError::BecomeUser { .. })
            ),
            "{error}"
        );
        return;
    }
    let expect = "uid=1000 gid=1001 groups=1001,27,44\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                  CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nthrough\n";
    let text = world.output_of(step);
    assert_eq!(text.replace("groups=27,44,1001", "groups=1001,27,44"), expect);
    // What only root may enter is where root would be, but nothing in it is the user's.
    let mut step = world.shell("pwd; touch /root/x");
    step.user = user();
    assert_ne!(world.run(step).unwrap().exit, Exit::Code(0));
}

fn names_of_the_host(world: &World) {
    let expect = "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                  nameserver 192.0.2.1\n";
    assert_eq!(world.output("hostname; cat /etc/hosts /etc/resolv.conf"), expect);
    let said = world.run(world.shell("echo x >>/etc/hosts")).unwrap();
    assert!(said.exit != Exit::Code(0) && said.text.contains("Read-only"), "{said:?}");
    assert_ne!(world.run(world.shell("hostname other")).unwrap().exit, Exit::Code(0));
}

fn protected_paths(world: &World) {
    for path in
        ["/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper", "/sys/power/state"]
    {
        let said = world.run(world.shell(&format!("echo h >{path}"))).unwrap();
        assert!(said.exit != Exit::Code(0), "{path}: {said:?}");
    }
    let text = world.output(
        "for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware; do [ -e $d ] && ls -A $d; done
         for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do [ -e $f ] && cat $f; done; true",
    );
    assert_eq!(text, "");
    let mounts = world.output("cat /proc/self/mountinfo");
    let check = |path: &str, kind: &str, option: &str| {
        let line = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(path));
        let line = line.unwrap_or_else(|| panic!("{path} is not mounted:\n{mounts}"));
        assert!(line.contains(&format!(" - {kind} ")), "{line}");
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|word| word == option), "{line}");
    };
    check("/", "overlay", "rw");
    check("/", "overlay", "nodev");
    check("/proc", "proc", "rw");
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"] {
        check(path, "proc", "ro");
    }
    check("/sys", "sysfs", "ro");
    check("/dev/shm", "tmpfs", "noexec");
    check("/etc/hosts", "tmpfs", "ro");
    assert!(mounts.contains("/dev/shm") && mounts.contains("size=65536k"), "{mounts}");
    // Nothing of the host's paths shows.
    assert!(!mounts.contains(world.directory.path().to_str().unwrap()), "{mounts}");
    let writable =
        mounts.lines().filter(|line| line.contains(" /sys/fs/cgroup") && line.contains(" rw,nosuid"));
    assert_eq!(writable.count(), 0, "{mounts}");
}

fn devices(world: &World) {
    let listed = world.output("cd /dev; ls");
    let expect = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), expect);
    let script = "head -c 3 /dev/zero | tr '\\0' z; head -c 4 /dev/urandom >/dev/null; echo x 2>&1 >/dev/full || echo full";
    let text = world.output(script);
    assert!(text.starts_with("zzz") && text.ends_with("full\n"), "{text}");
    assert_eq!(world.output("stat -c %a /dev/shm /dev/mqueue; touch /dev/shm/x"), "1777\n1777\n");
}

fn device_nodes(world: &World) {
    let said =
        world.run(world.shell("mknod /tmp/n c 1 3 && cat /tmp/n; mknod /dev/n c 1 3 && cat /dev/n; true"));
    let text = said.unwrap().text;
    let refused =
        text.lines().filter(|l| l.contains("Permission denied") || l.contains("not permitted")).count();
    assert_eq!(refused, 2, "{text}");
}

fn descriptors(world: &World) {
    // The third is the directory that `ls` reads.
    assert_eq!(world.output("ls /proc/self/fd").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    assert_eq!(world.output("cat; echo end"), "end\n");
}

fn working_directories(world: &World) {
    let at = |cwd: &str| {
        let mut step = world.shell("pwd; cat /proc/self/stat >/dev/null");
        step.cwd = cwd.into();
        step
    };
    assert_eq!(world.output_of(at("/tmp")), "/tmp\n");
    for number in 0..40 {
        let error = world.error(at(&format!("/proc/self/fd/{number}")));
        assert!(
            matches!(
                error,
                SandboxError::Step(StepError::WorkingDirectory { .. } | StepError::OutsideRoot { .. })
            ),
            "{number}: {error}"
        );
    }
    let error = world.error(at("/no/such"));
    assert_eq!(error.to_string(), "cannot enter the working directory `/no/such`: No such file or directory");
}

fn exec_errors(world: &World) {
    let layer = world.fresh("layer");
    fs::create_dir(layer.join("bin")).unwrap();
    let file = |name: &str, text: &[u8], mode: u32| {
        fs::write(layer.join("bin").join(name), text).unwrap();
        fs::set_permissions(layer.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", b"text", 0o644);
    file("text", b"no program", 0o755);
    file("script", b"#!/no/such/shell\n", 0o755);
    file("loop", b"#!/bin/loop\n", 0o755);
    let check = |args: &[&str], code: u8, expect: ExecFailure| {
        let mut step = world.step(args);
        step.root = world.root_over(vec![layer.clone(), world.base()]);
        let error = world.error(step);
        let exec = error.exec().unwrap_or_else(|| panic!("{args:?}: {error}"));
        assert_eq!((&exec.failure, exec.exit_code()), (&expect, code), "{args:?}");
    };
    check(&["nosuch"], 127, ExecFailure::NotInPath);
    check(&["/bin/nosuch"], 127, ExecFailure::NotFound("/bin/nosuch".into()));
    check(&["/bin/plain"], 126, ExecFailure::PermissionDenied);
    check(&["plain"], 126, ExecFailure::PermissionDenied);
    check(&["/bin"], 126, ExecFailure::IsDirectory);
    check(&["text"], 126, ExecFailure::NotExecutable);
    check(&["script"], 127, ExecFailure::MissingInterpreter("/no/such/shell".into()));
    check(&["a\0b"], 126, ExecFailure::NulByte);
    let long = "x".repeat(200_000);
    check(&["true", &long], 126, ExecFailure::TooLong);
}

fn kill_leaves_nothing(world: &World) {
    let word = format!("9{}.1", std::process::id());
    let script = "sleep $0 & sleep $0 & echo up; wait";
    let (running, mut output) = world.start(step_spec(world.step(&["sh", "-c", script, &word]))).unwrap();
    let mut line = [0; 3];
    output.read_exact(&mut line).unwrap();
    assert!(process_with(&word));
    assert!(Path::new(&format!("/proc/{}", running.pid().unwrap())).exists());
    running.stop_handle().unwrap().kill().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    assert!(!process_with(&word));
    // Once more, now that it is gone.
    running.kill().unwrap();
    assert_eq!(output.read(&mut line).unwrap(), 0);
}

fn background_children_die(world: &World) {
    let word = format!("8{}.1", std::process::id());
    let text = world.output(&format!("sleep {word} & sleep {word} & echo started"));
    assert_eq!(text, "started\n");
    assert!(!process_with(&word));
}

fn signals_arrive(world: &World) {
    let script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let (running, mut output) = world.start(step_spec(world.shell(script))).unwrap();
    let mut line = [0; 3];
    output.read_exact(&mut line).unwrap();
    running.signal(15).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!((running.wait().unwrap(), text.as_str()), (Exit::Code(5), "got\n"));
}

fn volume(source: &Path, target: &str, read_only: bool) -> Volume {
    Volume {
        source: BindSource::Path(source.to_owned()),
        target: target.into(),
        read_only,
        make_points: false,
    }
}

fn upper_stays_clean(world: &World) {
    let host = world.fresh("host");
    fs::write(host.join("file"), "text").unwrap();
    let mut step = world.shell("cat /a/b/c/file /run/rbuild/ca.crt /f; echo $SSL_CERT_FILE");
    step.volumes = vec![volume(&host, "/a/b/c", true), volume(&host.join("file"), "/f", true)];
    step.ca_cert = Some(host.join("file"));
    let upper = upper_of(&step);
    assert_eq!(world.output_of(step), "texttexttext/run/rbuild/ca.crt\n");
    assert_eq!(names(&upper), Vec::<String>::new());
    let step = world.shell("echo x >/etc/new; mkdir /run2");
    let upper = upper_of(&step);
    world.output_of(step);
    assert_eq!(
        (names(&upper), names(&upper.join("etc"))),
        (vec!["etc".into(), "run2".into()], vec!["new".into()])
    );
    let etc = fs::metadata(upper.join("etc")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o755, 0, 0));
}

fn links_stay_inside(world: &World) {
    let host = world.fresh("host");
    let layer = world.fresh("layer");
    // As seen from a host that would follow them, they all lead to `host`.
    symlink(&host, layer.join("etc")).unwrap();
    symlink(&host, layer.join("absolute")).unwrap();
    symlink(format!("../../../../../../../..{}", host.display()), layer.join("relative")).unwrap();
    let mut step = world.shell("cat /etc/hosts /absolute/x /relative/y >/dev/null && echo through");
    step.root = world.root_over(vec![layer, world.base()]);
    let source = world.fresh("source").join("file");
    fs::write(&source, "text").unwrap();
    step.volumes = vec![volume(&source, "/absolute/x", false), volume(&source, "/relative/y", false)];
    let upper = upper_of(&step);
    assert_eq!(world.output_of(step), "through\n");
    assert_eq!((names(&host), names(&upper)), (vec![], vec![]));

    // And an image where the kernel's own file systems belong behind links is refused.
    for name in ["proc", "sys", "dev"] {
        let layer = world.fresh("layer");
        fs::create_dir(layer.join("elsewhere")).unwrap();
        symlink("elsewhere", layer.join(name)).unwrap();
        let mut step = world.shell("true");
        step.root = world.root_over(vec![layer, world.base()]);
        let error = world.error(step);
        assert!(matches!(error, SandboxError::Step(StepError::LinkedMountPoint(_))), "{name}: {error}");
    }
}

fn hidden_mount_points(world: &World) {
    let below = world.fresh("below");
    fs::create_dir_all(below.join("opaque/old")).unwrap();
    fs::create_dir_all(below.join("gone/old")).unwrap();
    let layer = world.fresh("layer");
    fs::create_dir(layer.join("opaque")).unwrap();
    fs::set_permissions(layer.join("opaque"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(layer.join("opaque/kept"), "").unwrap();
    let opaque = world.identity.xattrs.opaque();
    rustix::fs::setxattr(layer.join("opaque"), opaque, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let whiteout = layer.join("gone");
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, &whiteout, rustix::fs::FileType::CharacterDevice, mode, 0).unwrap();
    let host = world.fresh("host");
    fs::write(host.join("file"), "text").unwrap();
    for way in [MountWay::Auto, MountWay::Old] {
        let mut step =
            world.shell("cat /opaque/new/file /gone/new/file; ls /opaque /gone; stat -c %a /opaque");
        step.root = world.root_over(vec![layer.clone(), below.clone(), world.base()]);
        step.volumes = vec![volume(&host, "/opaque/new", true), volume(&host, "/gone/new", true)];
        step.mount_way = way;
        let upper = upper_of(&step);
        assert_eq!(world.output_of(step), "texttext/gone:\nnew\n\n/opaque:\nkept\nnew\n700\n", "{way:?}");
        assert_eq!(names(&upper), Vec::<String>::new());
    }
}

fn mount_point_below_a_file(world: &World) {
    let host = world.fresh("host");
    let mut step = world.shell("true");
    step.volumes = vec![volume(&host, "/bin/busybox/x", true)];
    let error = world.error(step);
    assert_eq!(error.to_string(), "cannot make the mount point `/bin/busybox/x`: Not a directory");
    let mut step = world.shell("true");
    step.volumes = vec![volume(&host.join("missing"), "/x", true)];
    let error = world.error(step).to_string();
    assert!(error.ends_with("missing` to mount it at `/x`: No such file or directory"), "{error}");
}

fn volumes(world: &World) {
    let host = world.fresh("host");
    let inner = world.fresh("inner");
    fs::write(inner.join("in"), "inner").unwrap();
    fs::create_dir(host.join("sub")).unwrap();
    let mut step = world
        .shell("echo written >/v/file; cat /v/sub/in; touch /v/sub/no 2>&1; touch /ro/no 2>&1; cat /fd/in");
    let open = OwnedFd::from(File::open(&inner).unwrap());
    let by_fd =
        Volume { source: BindSource::Fd(open), target: "/fd".into(), read_only: true, make_points: false };
    step.volumes =
        vec![volume(&inner, "/v/sub", true), volume(&host, "/v", false), volume(&host, "/ro", true), by_fd];
    let text = world.output_of(step);
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.starts_with("inner") && text.ends_with("inner"), "{text}");
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "written\n");
    assert_eq!(names(&inner), ["in"]);
    // A missing mount point inside a volume is not made on the host.
    let mut step = world.shell("true");
    step.volumes = vec![volume(&host, "/v", false), volume(&inner, "/v/missing", false)];
    let error = world.error(step);
    assert_eq!(error.to_string(), "cannot make the mount point `/v/missing`: No such file or directory");
    assert_eq!(names(&host), ["file", "sub"]);
}

fn given_files(world: &World) {
    let mut step = world.step(&["/dev/pipes/EOF"]);
    step.script = Some(("EOF".into(), b"#!/bin/sh\necho from $0\n".to_vec()));
    assert_eq!(world.output_of(step), "from /dev/pipes/EOF\n");
    let mut spec = step_spec(world.shell("cat /t/f; stat -c %a /t/f; touch /t/g"));
    spec.mounts.push(Mount::Tmpfs { target: "/t".into(), size: 1 << 20, mode: 0o700 });
    spec.mounts.push(Mount::Tmpfs { target: "/x".into(), size: 0, mode: 0o700 });
    let error = world.run_spec(spec).unwrap();
    assert_eq!(error.exit, Exit::Code(0), "{error:?}");
}

fn mount_ways(world: &World) {
    for way in [MountWay::Auto, MountWay::Old] {
        let mut step = world.shell("echo x >/tmp/new; cat /etc/hosts | head -n 1; ls /; sleep 0");
        step.mount_way = way;
        let upper = upper_of(&step);
        let expect = "127.0.0.1\tlocalhost buildkitsandbox\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n";
        assert_eq!(world.output_of(step), expect, "{way:?}");
        assert_eq!(fs::read_to_string(upper.join("tmp/new")).unwrap(), "x\n");
    }
}

fn read_only_root(world: &World) {
    let mut step = world.shell("touch /x 2>&1; touch /dev/shm/x && echo shm");
    step.read_only_root = true;
    let text = world.output_of(step);
    assert!(text.contains("Read-only file system") && text.ends_with("shm\n"), "{text}");
}

fn layers(world: &World) {
    let (top, middle) = (world.fresh("top"), world.fresh("middle"));
    fs::write(top.join("a"), "top").unwrap();
    fs::write(middle.join("a"), "middle").unwrap();
    fs::write(middle.join("b"), "middle").unwrap();
    let mut step = world.shell("cat /a /b");
    step.root = world.root_over(vec![top, middle, world.base()]);
    assert_eq!(world.output_of(step), "topmiddle");
    let mut step = world.shell("true");
    step.root = world.root_over(vec![PathBuf::from("/no/such/layer")]);
    assert_eq!(
        world.error(step).to_string(),
        "cannot open layer `/no/such/layer`: No such file or directory"
    );
}

fn too_many_layers(world: &World) {
    let mut step = world.shell("true");
    step.root = world.root_over(vec![world.base(); 498]);
    let error = world.error(step).to_string();
    assert_eq!(error, "498 layers are too many: the kernel merges at most 500");
    let lowers: Vec<PathBuf> = (0..496).map(|_| world.fresh("many")).chain([world.base()]).collect();
    for way in [MountWay::Auto, MountWay::Old] {
        let mut step = world.shell("echo fits");
        step.root = world.root_over(lowers.clone());
        step.mount_way = way;
        assert_eq!(world.output_of(step), "fits\n");
    }
}

fn networks(world: &World) {
    let interfaces = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    };
    let text =
        world.output("cat /proc/net/dev; ls /sys/class/net; ifconfig lo | grep -c 'UP LOOPBACK RUNNING'");
    assert_eq!(interfaces(&text), ["lo"], "{text}");
    assert!(text.ends_with("\nlo\n1\n"), "{text}");

    let mut step = world.shell("cat /proc/net/dev");
    step.network = Network::Host;
    let host = interfaces(&fs::read_to_string("/proc/net/dev").unwrap());
    assert_eq!(interfaces(&world.output_of(step)), host);

    let namespace = std::thread::spawn(|| {
        unshare_for_this_thread(UnshareFlags::NEWNET).unwrap();
        let file = File::open("/proc/thread-self/ns/net").unwrap();
        (file.metadata().unwrap().ino(), OwnedFd::from(file))
    });
    let (number, namespace) = namespace.join().unwrap();
    let mut step = world.shell("stat -L -c %i /proc/self/ns/net; ls /sys/class/net");
    step.network = Network::Join(namespace);
    assert_eq!(world.output_of(step), format!("{number}\nlo\n"));
}

fn terminal(world: &World) {
    let mut step = world.shell("tty; stty size; read word; echo got $word; test -t 1 && ls /dev/console");
    step.terminal = Some(TerminalSize { rows: 11, columns: 22 });
    let mut running = world.launcher.spawn(step_spec(step), Stdio::default()).unwrap();
    let control = running.take_terminal().unwrap();
    assert!(running.take_terminal().is_none());
    let mut file = File::from(control.try_clone().unwrap());
    file.write_all(b"key\n").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let copied = rbuild::sys::terminal::copy(&control, None, writer.as_fd(), Duration::from_secs(5), || None);
    copied.unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| *line != "key").collect();
    assert_eq!(lines, ["/dev/pts/0", "11 22", "got key", "/dev/console"]);
}

fn forbidden_calls(world: &World) {
    for script in
        ["mount -t tmpfs none /tmp", "unshare -n true", "unshare -U true", "mount -o remount,rw /proc/sys"]
    {
        let said = world.run(world.shell(script)).unwrap();
        assert!(said.exit != Exit::Code(0), "{script}: {said:?}");
        assert!(["not permitted", "permission denied"].iter().any(|no| said.text.contains(no)), "{said:?}");
    }
    let mut step = world.shell("grep Seccomp: /proc/self/status");
    step.seccomp = rbuild::sandbox::Seccomp::Unconfined;
    step.capabilities = u64::MAX;
    let before = fs::read_to_string("/proc/self/status").unwrap();
    let ours = before.lines().find(|line| line.starts_with("Seccomp:")).unwrap();
    assert_eq!(world.output_of(step).trim_end(), ours);
}

fn program_of_32_bits(world: &World) {
    if !cfg!(target_arch = "x86_64") {
        println!("left out: not x86_64");
        return;
    }
    let layer = world.fresh("layer");
    let program = layer.join("exit42");
    fs::write(&program, EXIT_42_I386).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    if Command::new(&program).status().is_err() {
        println!("left out: this kernel runs no 32-bit programs");
        return;
    }
    let mut step = world.step(&["/exit42"]);
    step.root = world.root_over(vec![layer, world.base()]);
    assert_eq!(world.run(step).unwrap().exit, Exit::Code(42));
}

fn facts(world: &World) {
    let facts =
        rbuild::sandbox::facts::inspect(&world.identity, world.directory.path(), "/usr/sbin:/usr/bin");
    let fact = |name: &str| facts.iter().find(|fact| fact.name == name).unwrap();
    for name in ["kernel", "user namespaces", "overlayfs", "seccomp"] {
        assert!(fact(name).ok, "{:?}", fact(name));
    }
    assert_eq!(fact("subordinate ids").ok, !world.identity.ids.single);
    assert!(names(world.directory.path()).iter().all(|name| !name.starts_with("doctor-")));
}

fn many_at_once(world: &World) {
    std::thread::scope(|scope| {
        for number in 0..24 {
            scope.spawn(move || {
                let said = world.run(world.shell(&format!("echo {number}; exit {number}"))).unwrap();
                assert_eq!((said.exit, said.text), (Exit::Code(number), format!("{number}\n")));
            });
        }
    });
}

fn out_of_memory(world: &World) {
    let group = PathBuf::from(format!("/sys/fs/cgroup/memory/rbuild-test-{}", std::process::id()));
    let limit = group.join("memory.limit_in_bytes");
    if fs::create_dir(&group).is_err() || fs::write(&limit, "20000000").is_err() {
        println!("left out: no memory control group (version 1) can be made here");
        return;
    }
    let (keys, mut typist) = std::io::pipe().unwrap();
    let spec = step_spec(world.shell("read word; tail /dev/zero"));
    let stdio = Stdio { stdin: Some(keys.into()), stdout: None, stderr: None };
    let running = world.launcher.spawn(spec, stdio).unwrap();
    fs::write(group.join("cgroup.procs"), running.pid().unwrap().to_string()).unwrap();
    typist.write_all(b"go\n").unwrap();
    let exit = running.wait();
    fs::remove_dir(&group).unwrap();
    assert_eq!(exit.unwrap(), Exit::OutOfMemory);
}

/// Runs a step to its end, and returns what it could not be given too.
fn run_noted(world: &World, step: StepEnvironment) -> (Said, Vec<Note>, bool) {
    let (running, mut output) = world.start(step_spec(step)).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let exit = running.wait().unwrap();
    (Said { exit, text }, running.notes().to_vec(), running.oom_killed())
}

fn limits(world: &World) {
    // Lower than what there is anywhere, so that nobody needs a right for it.
    let kinds = [
        ("core=0:0", "Max core file size", "0 0"),
        ("cpu=50:60", "Max cpu time", "50 60"),
        ("data=500000000:600000000", "Max data size", "500000000 600000000"),
        ("fsize=70000000:80000000", "Max file size", "70000000 80000000"),
        ("locks=90:91", "Max file locks", "90 91"),
        ("memlock=4096:8192", "Max locked memory", "4096 8192"),
        ("msgqueue=1000:2000", "Max msgqueue size", "1000 2000"),
        ("nice=0:0", "Max nice priority", "0 0"),
        ("nofile=101:102", "Max open files", "101 102"),
        ("nproc=1001:1002", "Max processes", "1001 1002"),
        ("rss=50000000", "Max resident set", "50000000 50000000"),
        ("rtprio=0", "Max realtime priority", "0 0"),
        ("rttime=5000:6000", "Max realtime timeout", "5000 6000"),
        ("sigpending=11:12", "Max pending signals", "11 12"),
        ("stack=1000000:2000000", "Max stack size", "1000000 2000000"),
    ];
    let mut step = world.step(&["cat", "/proc/self/limits"]);
    step.limits = kinds.iter().map(|(text, _, _)| Limit::parse(text).unwrap()).collect();
    let (said, notes, _) = run_noted(world, step);
    assert_eq!((said.exit, notes), (Exit::Code(0), vec![]), "{}", said.text);
    for (text, name, expect) in kinds {
        let line = said.text.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values.join(" "), expect, "{text}");
    }

    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let mut step = world.step(&["grep", "Max open files", "/proc/self/limits"]);
    step.limits = vec![Limit { kind: LimitKind::OpenFiles, soft: Some(hard + 1), hard: Some(hard + 2) }];
    let (said, notes, _) = run_noted(world, step);
    let values: Vec<&str> = said.text.split_whitespace().skip(3).take(2).collect();
    let (asked, there) = (format!("{} {}", hard + 1, hard + 2), format!("{hard} {hard}"));
    match notes.as_slice() {
        [] => assert_eq!(values.join(" "), asked),
        [note] => {
            assert_eq!(values.join(" "), there);
            let expect = format!(
                "the limit nofile={}:{} has no effect: raising it is not permitted here; it is {hard}:{hard}",
                hard + 1,
                hard + 2
            );
            assert_eq!(note.to_string(), expect);
        }
        more => panic!("{more:?}"),
    }
}

/// Lists the control groups that this process has made and not removed.
fn own_groups() -> Vec<PathBuf> {
    let mark = format!("-{}-", std::process::id());
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().into_string().unwrap();
                if name.starts_with("rbuild-") && name.contains(&mark) {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found
}

fn control_groups(world: &World) {
    let limits = || CgroupLimits { memory: Some(20 << 20), pids: Some(20), ..CgroupLimits::default() };
    let limited = |script: &str, limits: CgroupLimits| {
        let mut step = world.shell(script);
        step.cgroup = Some(limits);
        run_noted(world, step)
    };
    let (said, notes, _) = limited("echo runs", limits());
    assert_eq!((said.exit, said.text.as_str()), (Exit::Code(0), "runs\n"));
    if !notes.is_empty() {
        // Then every wish is told, and the reason.
        let what: Vec<&str> = notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(what, ["the memory limit", "the limit of processes"], "{notes:?}");
        assert!(notes.iter().all(|note| !note.why.is_empty()));
        println!("only the notes are checked: {}", notes[0]);
        return;
    }
    let (said, _, oom) = limited("tail /dev/zero", limits());
    assert_eq!((said.exit, oom), (Exit::OutOfMemory, true), "{said:?}");
    let (said, _, oom) = limited("(tail /dev/zero); exit 3", limits());
    assert_eq!((said.exit, oom), (Exit::Code(3), true), "{said:?}");
    let (said, _, oom) = limited("sh -c 'kill -9 $$'; exit $?", limits());
    assert_eq!((said.exit, oom), (Exit::Code(137), false), "{said:?}");
    let (said, _, _) =
        limited("for n in 1 2 3 4 5 6 7 8 9 10; do sleep 9 & sleep 9 & sleep 9 & done; true", limits());
    assert_ne!(said.exit, Exit::Code(0), "{said:?}");

    // It sees itself at the top, and its limits there.
    let all = CgroupLimits {
        parent: Some(format!("rbuild-test-{}", std::process::id())),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".into()),
        ..limits()
    };
    let parent = all.parent.clone().unwrap();
    let script = "grep -E 'memory|pids|cpu' /proc/self/cgroup; cd /sys/fs/cgroup; \
                  cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpuset/cpuset.cpus";
    let (said, notes, _) = limited(script, all);
    assert_eq!(notes, [], "{said:?}");
    if Path::new("/sys/fs/cgroup/memory").exists() {
        let expect = format!("{}\n20\n512\n25000\n0\n", 20 << 20);
        assert!(said.text.ends_with(&expect), "{said:?}");
        let ours = said.text.lines().filter(|line| {
            ["memory", "pids", "cpu", "cpuset"].contains(&line.split(':').nth(1).unwrap_or(""))
        });
        assert!(ours.clone().count() == 4 && ours.clone().all(|line| line.ends_with(":/")), "{said:?}");
    }
    for folder in ["memory", "pids", "cpu", "cpuset", "."] {
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(folder).join(&parent));
    }
    let mut step = world.shell("true");
    step.cgroup = Some(CgroupLimits { cpuset_cpus: Some("4000-5000".into()), ..limits() });
    let error = world.error(step).to_string();
    assert!(error.starts_with("the kernel refuses `4000-5000` for the set of CPUs"), "{error}");
    assert_eq!(own_groups(), Vec::<PathBuf>::new());
}

fn missing_control_groups(world: &World) {
    let mut step = world.shell("true");
    step.cgroup = Some(CgroupLimits { memory_swap: Some(5), ..CgroupLimits::default() });
    assert_eq!(world.error(step).to_string(), "a limit of memory and swap needs a memory limit too");
    let mut step = world.shell("echo runs");
    step.cgroup = Some(CgroupLimits::default());
    let (said, notes, oom) = run_noted(world, step);
    assert_eq!((said.text.as_str(), notes, oom), ("runs\n", vec![], false));
}

fn mount_at(target: &str, source: MountSource) -> StepMount {
    StepMount { target: target.into(), source }
}

fn state_at(world: &World, target: &str, lowers: &[&Path], upper: Option<Upper>, path: &str) -> StepMount {
    let read_only = upper.is_none();
    let lowers = lowers.iter().map(|&path| path.to_owned()).collect();
    let state = State { lowers, upper, xattrs: world.identity.xattrs };
    mount_at(target, MountSource::State { state, path: path.into(), read_only })
}

fn other_states(world: &World) {
    let (top, bottom) = (world.fresh("top"), world.fresh("bottom"));
    fs::create_dir_all(bottom.join("dir/sub")).unwrap();
    fs::write(bottom.join("dir/sub/f"), "below ").unwrap();
    fs::write(bottom.join("file"), "file ").unwrap();
    fs::create_dir(top.join("dir")).unwrap();
    fs::write(top.join("dir/g"), "above ").unwrap();
    symlink("/dir/sub", top.join("link")).unwrap();
    for way in [MountWay::Auto, MountWay::Old] {
        let mut step = world.shell(
            "cat /a/sub/f /a/g /b /c/f /one/f; touch /a/x 2>&1; echo new >/w/sub/new; echo changed >/w/sub/f; ls /empty; cat /w/sub/f
             grep -E ' /(a|b|w) ' /proc/self/mountinfo | grep -c overlay; ls /",
        );
        let (upper, work) = (world.fresh("upper"), world.fresh("work"));
        let writable = Some(Upper { upper: upper.clone(), work });
        step.mounts = vec![
            state_at(world, "/a", &[&top, &bottom], None, "/dir"),
            state_at(world, "/b", &[&top, &bottom], None, "file"),
            state_at(world, "/c", &[&top, &bottom], None, "/link"),
            state_at(world, "/one", &[&bottom], None, "/dir/sub"),
            state_at(world, "/empty", &[], None, "/"),
            state_at(world, "/w", &[&top, &bottom], writable, "/dir"),
            // Missing there; made where it is thrown away with the rest.
            mount_at("/w/inner", MountSource::Tmpfs { size: 0, mode: 0o755 }),
        ];
        step.mount_way = way;
        let own = upper_of(&step);
        let text = world.output_of(step);
        assert!(text.starts_with("below above file below below touch: /a/x: Read-only"), "{text}");
        assert!(
            text.ends_with("changed\n3\na\nb\nbin\nc\ndev\nempty\netc\none\nproc\nroot\nsys\ntmp\nw\n"),
            "{way:?} {text}"
        );
        assert_eq!((names(&own), names(&upper.join("dir/sub"))), (vec![], vec!["f".into(), "new".into()]));
        assert_eq!(fs::read_to_string(bottom.join("dir/sub/f")).unwrap(), "below ");
    }
    let mut step = world.shell("true");
    step.mounts = vec![state_at(world, "/a", &[&bottom], None, "/nosuch")];
    assert_eq!(
        world.error(step).to_string(),
        "cannot mount `/nosuch` of the other state at `/a`: No such file or directory"
    );
}

fn other_states_stay_inside(world: &World) {
    let state = world.fresh("state");
    fs::create_dir_all(state.join("etc")).unwrap();
    fs::write(state.join("etc/mark"), "inside\n").unwrap();
    let secret = world.fresh("host");
    fs::write(secret.join("mark"), "host\n").unwrap();
    symlink("/", state.join("root")).unwrap();
    symlink("../../../../../..", state.join("up")).unwrap();
    symlink("../../../../../../etc", state.join("etc2")).unwrap();
    symlink(&secret, state.join("host")).unwrap();
    symlink("/proc/self/root", state.join("magic")).unwrap();
    for way in [MountWay::Auto, MountWay::Old] {
        for (source, file) in
            [("root", "etc/mark"), ("up", "etc/mark"), ("etc2", "mark"), ("../../etc", "mark")]
        {
            let mut step = world.shell(&format!("cat /m/{file}; ls /m"));
            step.mounts = vec![state_at(world, "/m", &[&state], None, source)];
            step.mount_way = way;
            let text = world.output_of(step);
            assert!(text.starts_with("inside\n") && !text.contains("passwd"), "{source}: {text}");
        }
        for source in ["host", "magic/etc", "host/mark"] {
            let mut step = world.shell("ls /m");
            step.mounts = vec![state_at(world, "/m", &[&state], None, source)];
            step.mount_way = way;
            let error = world.error(step);
            assert!(matches!(error, SandboxError::Step(StepError::NotInState { .. })), "{source}: {error}");
        }
        // And a target that is a link of the image.
        let layer = world.fresh("layer");
        symlink("../../../../etc", layer.join("mnt")).unwrap();
        symlink(&secret, layer.join("out")).unwrap();
        let mut step = world.shell("cat /etc/new/mark; ls /tmp; cat /etc/secret /out/a");
        step.root = world.root_over(vec![layer, world.base()]);
        let file =
            |content: &[u8]| MountSource::File { content: content.into(), mode: 0o400, uid: 0, gid: 0 };
        step.mounts = vec![
            state_at(world, "/mnt/new", &[&state], None, "/etc"),
            mount_at("/mnt/secret", file(b"s")),
            mount_at("/out/a", file(b"a")),
        ];
        let upper = upper_of(&step);
        assert_eq!(world.output_of(step), "inside\nsa");
        assert_eq!((names(&secret), names(&upper)), (vec!["mark".into()], vec![]));
        assert!(!Path::new("/etc/new").exists() && !Path::new("/etc/secret").exists());
    }
}

fn secrets(world: &World) {
    let canary = format!("canary-{}", std::process::id());
    let secret = |uid, gid| MountSource::File { content: canary.clone().into(), mode: 0o400, uid, gid };
    let mut step =
        world.shell("stat -c '%a %u %g %s' /run/secrets/s; cat /run/secrets/s; echo >>/run/secrets/s");
    step.mounts = vec![mount_at("/run/secrets/s", secret(0, 0))];
    let (upper, Root::Overlay { work, .. }) = (upper_of(&step), &step.root) else { panic!("an overlay") };
    let work = work.clone();
    let said = world.run(step).unwrap();
    assert!(said.text.starts_with(&format!("400 0 0 {}\n{canary}", canary.len())), "{said:?}");
    assert!(said.exit != Exit::Code(0) && said.text.contains("Read-only"), "{said:?}");
    assert_eq!((names(&upper), names(&work).len() <= 1), (vec![], true));

    let mut step =
        world.shell("stat -c '%a %u %g' /s; cat /s; grep ' /s ' /proc/self/mountinfo | grep -c tmpfs");
    step.mounts = vec![mount_at("/s", secret(1000, 1001))];
    step.user = User { uid: 1000, gid: 1000, groups: vec![] };
    if world.identity.ids.single {
        let error = world.error(step);
        assert!(
            error.to_string().starts_with("user 1000 or group 1001, which is to own `/s`, does not exist"),
            "{error}"
        );
        return;
    }
    assert_eq!(world.output_of(step), format!("400 1000 1001\n{canary}1\n"));
    let mut step = world.shell("cat /s");
    step.mounts = vec![mount_at("/s", secret(1000, 1001))];
    step.user = User { uid: 1001, gid: 1001, groups: vec![] };
    let said = world.run(step).unwrap();
    assert!(said.exit != Exit::Code(0) && said.text.contains("Permission denied"), "{said:?}");
}

fn sockets(world: &World) {
    let path = world.fresh("socket").join("agent");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut step = world.shell("test -S /run/deep/agent.0 && logger through");
    let bind = |read_only| {
        let source = BindSource::Path(path.clone());
        MountSource::Bind { source, read_only, make_points: false }
    };
    step.mounts = vec![mount_at("/run/deep/agent.0", bind(false)), mount_at("/dev/log", bind(true))];
    let upper = upper_of(&step);
    world.output_of(step);
    let mut bytes = [0; 200];
    let length = socket.recv(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..length]).contains("through"));
    assert_eq!(names(&upper), Vec::<String>::new());
}

fn caches(world: &World) {
    let all = world.fresh("caches");
    fs::create_dir_all(all.join("one/sub")).unwrap();
    let root = RootDir::open(&all).unwrap();
    let bind = |path: &str, read_only| {
        let fd = root.open_dir(Path::new(path)).unwrap().fd().try_clone_to_owned().unwrap();
        MountSource::Bind { source: BindSource::Fd(fd), read_only, make_points: true }
    };
    let mut step =
        world.shell("echo kept >/c/f; cat /ro/f; touch /ro/x 2>&1; cat /c/s; echo >/c/t/x; ls /c/t");
    step.mounts = vec![
        mount_at("/c/s", MountSource::File { content: b"inner\n".into(), mode: 0o444, uid: 0, gid: 0 }),
        mount_at("/c", bind("one/sub", false)),
        mount_at("/ro", bind("/one/sub", true)),
        mount_at("/c/t", MountSource::Tmpfs { size: 1 << 20, mode: 0o700 }),
    ];
    let upper = upper_of(&step);
    let text = world.output_of(step);
    assert!(text.starts_with("kept\ntouch: /ro/x: Read-only") && text.ends_with("inner\nx\n"), "{text}");
    assert_eq!(names(&upper), Vec::<String>::new());
    // The mount points are left in the cache, and nothing of what was there.
    assert_eq!(names(&all.join("one/sub")), ["f", "s", "t"]);
    assert_eq!(fs::read(all.join("one/sub/s")).unwrap(), b"");
    assert_eq!(names(&all.join("one/sub/t")), Vec::<String>::new());
    // In one that may not be written, none is made.
    let mut step = world.shell("true");
    step.mounts = vec![
        mount_at("/ro", bind("one", true)),
        mount_at("/ro/new", MountSource::Tmpfs { size: 0, mode: 0o700 }),
    ];
    assert_eq!(
        world.error(step).to_string(),
        "cannot make the mount point `/ro/new`: No such file or directory"
    );
}

fn replaced_mount_points(world: &World) {
    let host = world.fresh("host");
    fs::create_dir(host.join("x")).unwrap();
    fs::write(host.join("x/precious"), "p").unwrap();
    fs::write(host.join("file"), "p").unwrap();
    let script = format!(
        "rm -rf /made /other; mv /made /gone; mv /other /gone2; rmdir /made/x; rm /other/file
         ln -s {0} /made; ln -s {0}/file /other/file; ln -s {0} /other; cat /other/file",
        host.display()
    );
    let mut step = world.shell(&script);
    step.mounts = vec![
        mount_at("/made/x", MountSource::Tmpfs { size: 0, mode: 0o755 }),
        mount_at(
            "/other/file",
            MountSource::File { content: b"content".into(), mode: 0o400, uid: 0, gid: 0 },
        ),
    ];
    let upper = upper_of(&step);
    let said = world.run(step).unwrap();
    assert_eq!((said.exit, names(&host)), (Exit::Code(0), vec!["file".into(), "x".into()]), "{said:?}");
    assert!(said.text.ends_with("\ncontent"), "{said:?}");
    assert_eq!(names(&host.join("x")), ["precious"]);
    assert_eq!(fs::read(host.join("file")).unwrap(), b"p");
    // Whatever the step made of them, what was mounted did not get into its layer.
    let kept = fs::read(upper.join("other/file")).unwrap_or_default();
    assert!(kept.is_empty(), "{kept:?}");
}

fn descriptors_with_mounts(world: &World) {
    let state = world.fresh("state");
    let upper = Upper { upper: world.fresh("upper"), work: world.fresh("work") };
    let mut step = world.shell("ls /proc/self/fd; ls -l /proc/1/fd | grep -vE 'pipe|null|total'; true");
    let fd = OwnedFd::from(File::open(&state).unwrap());
    let bind = MountSource::Bind { source: BindSource::Fd(fd), read_only: false, make_points: true };
    step.mounts = vec![
        state_at(world, "/a", &[&state], None, "/"),
        state_at(world, "/b", &[&state], Some(upper), "/"),
        mount_at("/c", bind),
        mount_at("/d", MountSource::Tmpfs { size: 0, mode: 0o755 }),
        mount_at("/e", MountSource::File { content: b"c".into(), mode: 0o400, uid: 0, gid: 0 }),
    ];
    step.cgroup = Some(CgroupLimits { memory: Some(1 << 30), ..CgroupLimits::default() });
    step.limits = vec![Limit { kind: LimitKind::Core, soft: Some(0), hard: Some(0) }];
    step.network = Network::Host;
    // The third is the directory that `ls` reads.
    assert_eq!(world.output_of(step).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

fn insecure(world: &World) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let mut step = world.shell(
        "cat /proc/self/status; mount -t tmpfs none /tmp && echo mounted; cat /proc/self/mountinfo; ls /dev; \
         mknod /n c 1 5 && head -c 1 /n >/dev/null && echo node; true",
    );
    step.security = Security::Insecure;
    let text = world.output_of(step);
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(&text, name), field(&status, name), "{name}");
    }
    for name in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(&text, name), "0000000000000000");
    }
    assert_eq!(field(&text, "Seccomp:"), field(&status, "Seccomp:"));
    assert!(text.contains("mounted\n"), "{text}");
    let at = |path: &str| text.lines().rfind(|line| line.split(' ').nth(4) == Some(path));
    assert_eq!([at("/proc/sys"), at("/proc/kcore"), at("/proc/keys"), at("/sys/firmware")], [None; 4]);
    assert!(at("/sys").unwrap().split(' ').nth(5).unwrap().starts_with("rw"), "{text}");
    if !world.identity.rootless {
        assert!(text.contains("\nnode\n"), "{text}");
        assert!(!Path::new("/dev/loop-control").exists() || text.contains("\nloop-control\n"), "{text}");
    } else if rustix::fs::access("/dev/fuse", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
        .is_ok()
    {
        assert!(text.contains("\nfuse\n"), "{text}");
    }
    // The next one is an ordinary step again.
    assert!(world.run(world.shell("mount -t tmpfs none /tmp")).unwrap().exit != Exit::Code(0));

    let mut step = world.shell("cat /proc/self/mountinfo; grep Seccomp: /proc/self/status");
    step.system_paths_unconfined = true;
    let text = world.output_of(step);
    assert!(!text.contains(" /proc/") && text.ends_with("Seccomp:\t2\n"), "{text}");
}

fn profiles(world: &World) {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
        {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],"syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28},
        {"names":["kill"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":10,"op":"SCMP_CMP_EQ"}]}]}"#;
    let profile = Profile::new(text.as_bytes(), rbuild::sandbox::DEFAULT_CAPABILITIES).unwrap();
    let mut step = world.shell(
        "mkdir /x 2>&1; touch /y && echo touched; kill -10 1 2>&1; kill -12 $$; grep Seccomp: /proc/self/status",
    );
    step.seccomp = Seccomp::Profile(profile);
    let text = world.output_of(step);
    assert!(text.contains("No space left") && text.contains("touched\n"), "{text}");
    assert!(text.contains("not permitted") && text.ends_with("Seccomp:\t2\n"), "{text}");
}

fn small_wishes(world: &World) {
    let mut step = world.shell(
        "tail -n 2 /etc/hosts; grep ' /dev/shm ' /proc/self/mountinfo; grep NoNewPrivs /proc/self/status; \
         stat -c %a /t; grep ' /t ' /proc/self/mountinfo",
    );
    step.extra_hosts = vec![("one".into(), "192.0.2.7".into()), ("two".into(), "::2".into())];
    step.shm_size = 3 << 20;
    step.no_new_privs = true;
    step.mounts = vec![mount_at("/t", MountSource::Tmpfs { size: 2 << 20, mode: 0o1770 })];
    let text = world.output_of(step);
    assert!(text.starts_with("192.0.2.7\tone\n::2\ttwo\n"), "{text}");
    for part in ["size=3072k", "NoNewPrivs:\t1\n1770\n", "size=2048k"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn helper_is_protected(world: &World) {
    // A descriptor that is not closed by exec, as a careless caller leaves one.
    let (_reader, writer) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
    let leaked =
        fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer))).unwrap();
    let launcher = Launcher::start(&std::env::current_exe().unwrap()).unwrap();
    // Once it answers, its start is behind it.
    let spec = step_spec(world.shell("true"));
    launcher.spawn(spec, Stdio::default()).unwrap().wait().unwrap();
    let own = std::process::id().to_string();
    let helper = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        stat.split(") ").nth(1).and_then(|rest| rest.split(' ').nth(1)) == Some(&own)
            && command.starts_with(b"rbuild-sandbox-helper")
    });
    let helper = helper.expect("the helper is our child").path();
    let mut open = fs::read_dir(helper.join("fd")).unwrap().flatten();
    assert!(open.all(|fd| fs::read_link(fd.path()).is_ok_and(|name| name != leaked)), "{leaked:?} is open");
    let exe = helper.join("exe");
    let flags = rustix::fs::OFlags::PATH;
    let exe = rustix::fs::open(&exe, flags, rustix::fs::Mode::empty()).unwrap();
    let mount = rustix::fs::fstatvfs(&exe).unwrap().f_flag;
    assert!(mount.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{mount:?}");
    drop(launcher);
}

fn steps_end_with_their_launcher(world: &World) {
    let launcher = Launcher::start(&std::env::current_exe().unwrap()).unwrap();
    let word = format!("7{}.1", std::process::id());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let spec = step_spec(world.shell(&format!("sleep {word} & echo up; sleep {word}")));
    let stdio = Stdio { stdin: None, stdout: Some(writer.into()), stderr: None };
    let running = launcher.spawn(spec, stdio).unwrap();
    let mut line = [0; 3];
    reader.read_exact(&mut line).unwrap();
    drop(launcher);
    assert_eq!(reader.read(&mut line).unwrap(), 0);
    assert!(matches!(running.wait(), Err(SandboxError::HelperGone)));
    assert!(!process_with(&word));
}

/// Prints how long steps take; no check.
fn time(world: &World, kind: &str) {
    for (name, host) in [("own network", false), ("host network", true)] {
        let specs: Vec<Spec> = (0..30)
            .map(|_| {
                let mut step = world.step(&["true"]);
                if host {
                    step.network = Network::Host;
                }
                step_spec(step)
            })
            .collect();
        let start = Instant::now();
        for spec in specs {
            assert_eq!(world.run_spec(spec).unwrap().exit, Exit::Code(0));
        }
        println!("{kind}: 30 x `true`, {name}: {:?}", start.elapsed());
    }
    enter::time(world, kind);
}
