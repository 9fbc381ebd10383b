//! Tests of the options, as they are typed.

use clap::Parser;

use super::*;
use crate::container::options::{ExtraHost, NetworkMode};
use crate::sandbox::DEFAULT_CAPABILITIES;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ContainerOptionArgs,
}

fn read(words: &[&str]) -> Result<Given, String> {
    let line = Line::try_parse_from(["run"].iter().chain(words)).map_err(|error| error.to_string())?;
    line.args.read(false).map_err(|error| error.text())
}

#[track_caller]
fn good(words: &str) -> Given {
    read(&words.split_whitespace().collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{words}: {error}"))
}

#[track_caller]
fn bad(words: &str, expect: &str) {
    let error = read(&words.split_whitespace().collect::<Vec<_>>()).map(|_| ()).unwrap_err();
    assert!(error.contains(expect), "{words}: {error}");
}

#[test]
fn nothing_said() {
    let given = good("");
    assert_eq!(given.options, ContainerOptions::default());
    assert!(given.notes.is_empty());
}

#[test]
fn networks() {
    let mode = |words: &str| good(words).options.network.mode;
    assert_eq!(mode("--network bridge"), NetworkMode::Default);
    assert_eq!(mode("--net host"), NetworkMode::Host);
    assert_eq!(mode("--network=container:web"), NetworkMode::Container("web".to_owned()));
    bad("--network mine", "network mine not found");
    bad("--network container:", "invalid container format");
    bad(
        "--network container:a -p 80",
        "conflicting options: port publishing and the container type network mode",
    );
    bad("--network container:a -P", "conflicting options: port publishing");
    bad("--network container:a -h x", "conflicting options: hostname and the network mode");
    bad("--network container:a --dns 1.1.1.1", "conflicting options: dns and the network mode");
    bad("--network container:a --add-host a:1.1.1.1", "conflicting options: custom host-to-IP mapping");
    bad("--network container:a --expose 80", "conflicting options: port exposing");
    bad("--link db:db", "--add-host db:host-gateway");
    bad("--link db", "--network container:db");
}

#[test]
fn ports_without_a_network_are_discarded_with_a_word() {
    for (mode, words) in [("host", "--network host -p 80:80"), ("none", "--network none -P")] {
        let given = good(words);
        let expect = format!("WARNING: Published ports are discarded when using {mode} network mode");
        assert_eq!(given.notes, [expect]);
        assert!(given.options.network.ports.is_empty() && !given.options.network.publish_all);
    }
    bad("-p x:80:80", "Invalid ip address: x");
    assert!(good("-P").options.network.publish_all);
    assert_eq!(good("-p 80 -p 81:81/udp").options.network.ports.len(), 2);
}

#[test]
fn names_and_addresses() {
    let network = good("-h web.example --add-host db:::1 --add-host=gw=host-gateway").options.network;
    assert_eq!(network.hostname.as_deref(), Some("web.example"));
    let host = |name: &str, address: &str| ExtraHost { name: name.to_owned(), address: address.to_owned() };
    assert_eq!(network.extra_hosts, [host("db", "::1"), host("gw", "host-gateway")]);
    bad("--add-host db", "bad format for add-host");
    bad("--add-host db:x", "invalid IP address in add-host");
    bad("--hostname a..b", "invalid hostname format");
    bad("--dns x", "bad --dns `x`");
    assert!(good("--dns 127.0.0.53").notes[0].contains("Localhost DNS"));
    assert!(good("--dns 192.0.2.1 --dns-search . --dns-opt ndots:1").notes.is_empty());
}

#[test]
fn limits() {
    let resources =
        good("-m 64m --memory-swap -1 --cpus 1 -c 512 --pids-limit 50 --shm-size 1m").options.resources;
    let cgroup = resources.cgroup.unwrap();
    assert_eq!((cgroup.memory, cgroup.memory_swap), (Some(64 << 20), Some(-1)));
    assert_eq!((cgroup.cpu_period, cgroup.cpu_quota), (Some(100_000), Some(100_000)));
    assert_eq!((cgroup.cpu_shares, cgroup.pids, resources.shm_size), (Some(512), Some(50), Some(1 << 20)));
    bad("-m 1m", "Minimum memory limit allowed is 6MB");
    bad("--memory-swap 1g", "needs a memory limit too");
    bad("--cpus 1 --cpu-quota 5", "Nano CPUs and CPU Quota");
    bad("--cpus 9999", "Range of CPUs is from 0.01");
    bad("--ulimit nofil=1", "did you mean `nofile`?");
    assert!(good("--oom-kill-disable").notes[0].contains("has no effect"));
    assert!(good("--pids-limit 0").options.resources.cgroup.is_none());
}

#[test]
fn rights() {
    let rights = good("--cap-add net_admin --cap-drop MKNOD --group-add 5 --security-opt no-new-privileges")
        .options
        .rights;
    assert_eq!(rights.capabilities, DEFAULT_CAPABILITIES & !(1 << 27) | 1 << 12);
    assert!(rights.security.no_new_privs && !rights.privileged);
    assert_eq!((rights.groups.join(","), rights.cap_add.join(",")), ("5".to_owned(), "net_admin".to_owned()));
    assert!(good("--privileged").options.rights.privileged);
    assert!(good("--privileged=true").options.rights.privileged);
    assert!(!good("--privileged=false").options.rights.privileged);
    bad("--cap-add NO_SUCH", "unknown capability: \"CAP_NO_SUCH\"");
    bad("--pid host", "--pid=host is not supported");
    bad("--ipc host", "--ipc=host is not supported");
    bad("--uts host", "--uts=host is not supported");
    bad("--userns keep-id", "invalid USER mode: keep-id");
    assert!(good("--userns=host --pid private").notes.is_empty());
}

#[test]
fn settings_of_the_kernel() {
    assert_eq!(good("--sysctl net.core.somaxconn=5").options.sysctls.len(), 1);
    bad("--sysctl kernel.core_pattern=x", "not whitelisted");
    bad("--network host --sysctl net.core.somaxconn=5", "not allowed with host network mode");
}

#[test]
fn the_rest() {
    let options = good("--read-only --tmpfs /run:size=1m --device /dev/null:/dev/x --init --stop-signal INT --stop-timeout -1").options;
    assert!(options.files.read_only && options.init);
    assert_eq!((options.files.tmpfs.len(), options.files.devices.len()), (1, 1));
    assert_eq!((options.stop_signal.as_deref(), options.stop_timeout), (Some("INT"), Some(-1)));
    bad("--platform linux/s390x", "no other is emulated");
    bad("--platform x/y/z/w", "invalid --platform");
    assert!(good(&format!("--platform {}", Platform::host())).notes.is_empty());
}

#[test]
fn files_of_labels() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let labels = file("labels", "# of the team\na=1\n  b=2\n\nc\n");
    let given = read(&["--label-file", &labels, "-l", "a=3"]).unwrap();
    let expect: std::collections::BTreeMap<String, String> =
        [("a", "3"), ("b", "2"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(given.options.labels, expect);
    let missing = read(&["--label-file", "/no/such/file"]).map(|_| ()).unwrap_err();
    assert!(missing.contains("cannot read `/no/such/file`"), "{missing}");
}
