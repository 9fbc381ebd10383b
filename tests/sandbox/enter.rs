//! Further processes in a step that runs: what they are, what is seen of them, how they end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rbuild::sandbox::{
    CgroupLimits, DEFAULT_CAPABILITIES, EnterSpec, ExecFailure, Exit, Isolation, Launcher, Network, Profile,
    Running, SandboxError, Seccomp, Security, Stdio, StepEnvironment, StepError, TerminalSize, User,
    step_spec,
};
use rbuild::sys::users;

use super::{Said, World};

/// A step that waits until it is killed, after a first word that says that it is ready.
fn waiting(world: &World, first: &str, change: impl FnOnce(&mut StepEnvironment)) -> (Running, File) {
    let mut step = world.shell(&format!("{first}\necho ready; exec sleep 1000"));
    change(&mut step);
    let (running, mut output) = world.start(step_spec(step)).unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    (running, output)
}

fn shell(script: &str) -> EnterSpec {
    let mut spec = EnterSpec::new(["sh", "-c", script].map(OsString::from).into());
    spec.env = vec!["PATH=/bin".into()];
    spec
}

fn enter(world: &World, into: &Running, spec: EnterSpec) -> Result<Said, SandboxError> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer: OwnedFd = writer.into();
    let stderr = Some(writer.try_clone().unwrap());
    let entered = world.launcher.enter(into, spec, Stdio { stdin: None, stdout: Some(writer), stderr })?;
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    Ok(Said { exit: entered.wait()?, text })
}

fn output(world: &World, into: &Running, spec: EnterSpec) -> String {
    let said = enter(world, into, spec).unwrap();
    assert_eq!(said.exit, Exit::Code(0), "{}", said.text);
    said.text
}

fn end(running: &Running) {
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
}

pub fn is_inside(world: &World) {
    for host in [false, true] {
        let (step, _output) = waiting(world, "touch /tmp/mine", |step| {
            step.hostname = "inside".into();
            if host {
                step.network = Network::Host;
            }
        });
        let numbers = "for n in mnt pid net ipc uts cgroup; do stat -L -c %i /proc/$p/ns/$n; done";
        let script = format!("p=1; {numbers}; echo; p=self; {numbers}");
        let text = output(world, &step, shell(&script));
        let (first, own) = text.split_once("\n\n").unwrap();
        assert_eq!(first, own.trim_end());
        let script = "hostname; ls /tmp; ls /proc/self/fd | tr '\\n' ' '; pwd; umask; grep -E '^(PPid|Cap(Eff|Inh|Bnd)|\
                      Seccomp:|NoNew|SigBlk)' /proc/$$/status; env | grep -v -E '^(SHLVL|PWD)='";
        assert_eq!(
            output(world, &step, shell(script)),
            "inside\nmine\n0 1 2 3 /\n0022\nPPid:\t0\nSigBlk:\t0000000000000000\nCapInh:\t0000000000000000\n\
             CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\nPATH=/bin\n"
        );
        end(&step);
    }
}

pub fn is_who_was_asked_for(world: &World) {
    let (step, _output) =
        waiting(world, "mkdir /etc/x; echo a:x:7:8::/:/bin/sh >/etc/passwd; mkdir -m 700 /own", |_| ());
    let root = step.root().unwrap();
    let user = users::lookup(&root, "a").unwrap();
    assert_eq!((user.uid, user.gid), (7, 8));
    assert!(users::lookup(&root, "b").is_err());

    let mut spec = shell("id -u; grep -E '^(CapPrm|NoNew)' /proc/self/status; pwd");
    spec.cwd = "/tmp".into();
    spec.no_new_privs = true;
    if !world.identity.ids.single {
        spec.user = User { uid: 7, gid: 8, groups: vec![9] };
        let expect = "7\nCapPrm:\t0000000000000000\nNoNewPrivs:\t1\n/tmp\n";
        assert_eq!(output(world, &step, spec.clone()), expect);
        spec.cwd = "/own".into();
        // As with the step itself: whoever started it could enter.
        assert_eq!(output(world, &step, spec.clone()), expect.replace("/tmp", "/own"));
    }
    spec.user = User::default();
    for number in 0..20 {
        spec.cwd = format!("/proc/self/fd/{number}").into();
        let error = enter(world, &step, spec.clone()).unwrap_err();
        assert!(matches!(error, SandboxError::Step(StepError::WorkingDirectory { .. })), "{number}: {error}");
    }
    let spec = EnterSpec::new(vec!["nothing".into()]);
    let error = enter(world, &step, spec).unwrap_err();
    assert_eq!(error.exec().unwrap().failure, ExecFailure::NotInPath);
    // All that it may, and no filter: as trusted as the step's starter is.
    let mut spec = shell("mount -t tmpfs none /tmp && touch /tmp/x && ls /tmp");
    (spec.capabilities, spec.seccomp) = (u64::MAX, Seccomp::Unconfined);
    assert_eq!(output(world, &step, spec), "x\n");
    end(&step);
}

/// Whoever is in the step sees at no time a process that may more than it will, nor what that has open.
pub fn shows_nothing(world: &World) {
    let script = "while :; do grep -h CapEff /proc/[0-9]*/status; ls -l /proc/[0-9]*/exe /proc/[0-9]*/fd; done >/tmp/seen 2>/dev/null &";
    let (step, _output) = waiting(world, script, |_| ());
    for _ in 0..100 {
        assert_eq!(enter(world, &step, shell("true")).unwrap().exit, Exit::Code(0));
    }
    // Links that could be read, save those of a shell and of what it was given.
    let script = "grep -E '^CapEff| -> ' /tmp/seen | grep -v -E ' -> (/bin/busybox|pipe:.*|/dev/null|/tmp/seen|/proc/.*)$'; true";
    let seen = output(world, &step, shell(script));
    let others: Vec<&str> = seen.lines().filter(|line| *line != "CapEff:\t00000000a80425fb").collect();
    assert_eq!(others, Vec::<&str>::new());
    assert!(seen.lines().count() > 10, "the observer saw nothing: {seen}");
    end(&step);
}

pub fn ends(world: &World) {
    let (step, _output) = waiting(world, "", |_| ());
    assert_eq!(enter(world, &step, shell("exit 3")).unwrap().exit, Exit::Code(3));
    let started = |script: &str| world.launcher.enter(&step, shell(script), Stdio::default()).unwrap();
    // Not the first of its namespace: what it does not handle ends it.
    let one = started("exec sleep 1000");
    one.signal(15).unwrap();
    assert_eq!(one.wait().unwrap(), Exit::Signal(15));
    let one = started("exec sleep 1000");
    one.kill().unwrap();
    assert_eq!(one.wait().unwrap(), Exit::Signal(9));
    // What one leaves behind stays, and is the step's.
    assert_eq!(started("sleep 1234 & exit 0").wait().unwrap(), Exit::Code(0));
    assert_eq!(
        output(world, &step, shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 123[4]'")),
        "1\n"
    );
    let last = started("exec sleep 1000");
    end(&step);
    assert_eq!(last.wait().unwrap(), Exit::Signal(9));
    let error = enter(world, &step, shell("true")).unwrap_err();
    assert!(matches!(error, SandboxError::Step(StepError::Ended)), "{error}");
    assert_eq!(step.root().unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

pub fn has_a_terminal(world: &World) {
    let (step, _output) = waiting(world, "", |_| ());
    let mut spec = shell("tty; stty size; read word; echo got $word");
    spec.terminal = Some(TerminalSize { rows: 11, columns: 22 });
    let mut entered = world.launcher.enter(&step, spec.clone(), Stdio::default()).unwrap();
    let control = entered.take_terminal().unwrap();
    File::from(control.try_clone().unwrap()).write_all(b"key\n").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    rbuild::sys::terminal::copy(&control, None, writer.as_fd(), Duration::from_secs(5), || None).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(entered.wait().unwrap(), Exit::Code(0), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| *line != "key").collect();
    assert_eq!(lines, ["/dev/pts/0", "11 22", "got key"]);
    end(&step);

    let hide = "mount -t tmpfs none /dev/pts; mkdir /dev/pts/ptmx";
    let (step, _output) = waiting(world, hide, |step| step.security = Security::Insecure);
    let error = enter(world, &step, spec).unwrap_err();
    assert!(matches!(error, SandboxError::Step(StepError::NoTerminals(_))), "{error}");
    end(&step);
}

pub fn has_the_limits_of_the_step(world: &World) {
    let limits = CgroupLimits { memory: Some(30 << 20), pids: Some(20), ..CgroupLimits::default() };
    let (step, _output) = waiting(world, "", |step| step.cgroup = Some(limits));
    if step.notes().is_empty() {
        let script =
            "cat /proc/1/cgroup >/tmp/a; cat /proc/self/cgroup >/tmp/b; grep -c -v -x -F -f /tmp/a /tmp/b";
        assert_eq!(enter(world, &step, shell(script)).unwrap().text, "0\n");
        assert_eq!(enter(world, &step, shell("tail /dev/zero")).unwrap().exit.code(), 137);
    } else {
        println!("only the start is checked: {}", step.notes()[0]);
        assert_eq!(enter(world, &step, shell("true")).unwrap().exit, Exit::Code(0));
    }
    end(&step);
}

pub fn keeps_to_a_profile(world: &World) {
    let (step, _output) = waiting(world, "", |_| ());
    // Not even what starts it may be called by it.
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
        {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],"syscalls":[
        {"names":["clone","clone3","fork","vfork","setsid"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let mut spec = shell("echo runs; (true); echo not");
    spec.seccomp = Seccomp::Profile(Profile::new(text.as_bytes(), DEFAULT_CAPABILITIES).unwrap());
    let said = enter(world, &step, spec).unwrap();
    assert!(said.text.starts_with("runs\n") && !said.text.contains("not\n"), "{said:?}");
    end(&step);
}

pub fn not_in_a_chroot(world: &World) {
    let (step, _output) = waiting(world, "", |_| ());
    let exe = std::env::current_exe().unwrap();
    let launcher = Launcher::start_with(Path::new(&exe), Isolation::Chroot).unwrap();
    let error = launcher.enter(&step, shell("true"), Stdio::default()).unwrap_err();
    assert!(error.to_string().contains("chroot"), "{error}");
    end(&step);
}

pub fn time(world: &World, kind: &str) {
    let (step, _output) = waiting(world, "", |_| ());
    let start = Instant::now();
    for _ in 0..30 {
        assert_eq!(enter(world, &step, shell("true")).unwrap().exit, Exit::Code(0));
    }
    println!("{kind}: 30 x `true` in a step that runs: {:?}", start.elapsed());
    end(&step);
}
