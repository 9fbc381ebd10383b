//! What containers may ask for and steps do not: devices, settings of the kernel, a first process that reaps.

use std::path::PathBuf;

use rbuild::sandbox::tmpfs::TmpfsOptions;
use rbuild::sandbox::{Exit, MountSource, StepMount, Sysctl, step_spec};

use super::World;

fn tmpfs(text: &str) -> StepMount {
    let (target, options) = TmpfsOptions::parse(text).unwrap();
    StepMount { target, source: MountSource::TmpfsWith(options) }
}

pub fn tmpfs_with_options(world: &World) {
    let mut step = world.shell(
        "grep -E ' /(run|x|ro) ' /proc/self/mountinfo; stat -c %a /run /x; cp /bin/busybox /run; cp /bin/busybox /x; \
         /run/busybox true 2>&1; /x/busybox true && echo ran; touch /ro/f 2>&1",
    );
    step.mounts = vec![tmpfs("/run"), tmpfs("/x:exec,size=5m,mode=700"), tmpfs("/ro:ro")];
    let said = world.run(step).unwrap();
    for part in
        ["nosuid,nodev,noexec", "size=5120k", "1777\n700\n", "Permission denied", "ran\n", "Read-only file"]
    {
        assert!(said.text.contains(part), "{part}: {}", said.text);
    }
}

pub fn devices_of_the_host(world: &World) {
    let mut step = world.shell("ls /dev/mine; echo x > /dev/mine && echo written; stat -c %F /dev/mine");
    step.devices = vec![(PathBuf::from("/dev/null"), PathBuf::from("/dev/mine"))];
    let text = world.output_of(step);
    assert!(text.ends_with("written\ncharacter special file\n"), "{text}");
    let mut step = world.shell("true");
    step.devices = vec![(PathBuf::from("/etc/passwd"), PathBuf::from("/dev/mine"))];
    let error = world.error(step).to_string();
    assert!(error.contains("/etc/passwd"), "{error}");
}

pub fn settings_of_the_kernel(world: &World) {
    let mut step =
        world.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /proc/sys/net/x 2>&1; true");
    step.sysctls = vec![Sysctl::parse("net.ipv4.ip_unprivileged_port_start=7").unwrap()];
    let text = world.output_of(step);
    assert!(text.starts_with("7\n"), "{text}");
    let outside = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_ne!(outside, "7\n");
    let mut step = world.shell("true");
    step.sysctls = vec![Sysctl::parse("net.core.no_such_setting=1").unwrap()];
    let error = world.error(step).to_string();
    assert!(error.contains("net.core.no_such_setting"), "{error}");
}

/// The program is not the first process, what it leaves is reaped, its code and its errors are its own.
pub fn a_first_process(world: &World) {
    let run = |script: &str| {
        let mut step = world.shell(script);
        step.init = true;
        world.run(step).unwrap()
    };
    let said = run("echo $$; exit 3");
    assert_eq!((said.exit, said.text.trim() != "1"), (Exit::Code(3), true), "{}", said.text);
    assert_eq!(run("kill -TERM $$").exit, Exit::Code(143));
    // An orphan that ends is no zombie.
    let said = run("(sh -c 'echo $$ > /dev/shm/pid' &) ; while [ ! -s /dev/shm/pid ]; do :; done; \
                    while [ -e /proc/$(cat /dev/shm/pid) ]; do :; done; echo gone");
    assert!(said.text.ends_with("gone\n"), "{}", said.text);
    let mut step = world.step(&["nosuch"]);
    step.init = true;
    assert_eq!(world.error(step).exec().map(|exec| exec.exit_code()), Some(127));
}

pub fn a_first_process_passes_signals_on(world: &World) {
    let mut step = world.shell("trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.01; done");
    step.init = true;
    let (running, output) = world.start(step_spec(step)).unwrap();
    let mut output = std::io::BufReader::new(output);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    running.signal(rustix::process::Signal::USR1.as_raw()).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(9));
}
