//! Inside other people's containers: with what docker and podman give by default, and with more or less.
//!
//! Real engines, with the containers' files on overlayfs, and so the store. The image that comes out is
//! compared, layer by layer, with that of a build in namespaces on the machine.

use std::fs;
use std::path::Path;

use super::common::base::{Tar, busybox_tar};
use super::common::{Docker, Outcome, Podman, TestEnv, Who, skip};

/// What apt, pip and the like do to files, as one user and as another; and something left running.
const DOCKERFILE: &str = "FROM busybox:test AS one
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /opt/a /var/lib/x && echo one > /opt/a/f && chmod 640 /opt/a/f && ln -s f /opt/a/l \\
    && ln /opt/a/f /opt/a/h && rm /usr/bin/env && touch /var/lib/x/lock && mv /var/lib/x/lock /var/lib/x/done
RUN --mount=type=cache,target=/var/cache/x echo c >> /var/cache/x/n; cat /var/cache/x/n | wc -l
FROM busybox:test
ARG SOURCE_DATE_EPOCH
COPY --from=one /opt /opt
WORKDIR /work
COPY --chown=app app.txt .
RUN --mount=type=cache,target=/var/cache/x echo cached''$(wc -l < /var/cache/x/n)
RUN --mount=type=secret,id=s wc -c < /run/secrets/s > /len
RUN --mount=type=bind,from=one,target=/one cp -a /one/opt/a /copied; touch /one/thrown; true
RUN --mount=type=tmpfs,target=/t echo x > /t/x; echo 127.0.0.2 mine >> /etc/hosts; true
USER app
RUN id -u > /tmp/id; echo y >> app.txt; (sleep 5000 &) ; test -c /dev/null && echo up
USER root
RUN <<EOT
rm -rf /opt/a
echo heredoc > /here
EOT
";
/// The same for whoever has but one id.
const ONE_ID: &str = "FROM busybox:test
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /opt/a && echo one > /opt/a/f && rm /usr/bin/env
WORKDIR /work
COPY app.txt .
RUN --mount=type=secret,id=s wc -c < /run/secrets/s > /len; rm -rf /opt/a
";
const SECRET: &str = "sh''h-never-told";

/// What a container says whose steps are in a chroot.
const IN_CHROOT: &str = "warning: no namespaces are used here, so RUN steps run in a chroot";

/// The place of what containers see at `/d`.
struct Place<'e> {
    env: &'e TestEnv,
    dir: String,
}

impl<'e> Place<'e> {
    fn new(env: &'e TestEnv) -> Place<'e> {
        let dir = env.path_str("d");
        for (name, content) in [
            ("bb.tar", busybox_tar()),
            ("s", SECRET.as_bytes()),
            ("ctx/app.txt", b"app\n"),
            ("ctx/Dockerfile", DOCKERFILE.as_bytes()),
            ("one/app.txt", b"app\n"),
            ("one/Dockerfile", ONE_ID.as_bytes()),
        ] {
            let path = Path::new(&dir).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(Path::new(&dir).join("build"), SCRIPT).unwrap();
        fs::write(Path::new(&dir).join("killed"), KILLED).unwrap();
        Place { env, dir }
    }

    /// Builds on the machine; returns the layers.
    fn here(&self, context: &str) -> String {
        let context = format!("{}/{context}", self.dir);
        let secret = format!("id=s,src={}/s", self.dir);
        let epoch = "SOURCE_DATE_EPOCH=1700000000";
        let args = ["build", "-q", "--build-arg", epoch, "--secret", &secret, "-t", "app", &context];
        self.env.rbuild(&args).ok();
        self.env.inspect("app")["RootFS"]["Layers"].to_string()
    }

    /// The options that every container gets.
    fn options(&self) -> Vec<String> {
        let exe = self.env.exe();
        let options = ["--rm".to_owned(), "--network=none".to_owned(), format!("-v={}:/d:ro", self.dir)];
        let program = format!("-v={}:/bin/rbuild:ro", exe.display());
        options.into_iter().chain([program, "-e=HOME=/tmp".to_owned()]).collect()
    }
}

/// Builds `/d/$1` and prints the layers; then whether anything is left of the step or of the secret.
const SCRIPT: &str = r#"
context=$1; shift
rbuild import /d/bb.tar busybox:test > /dev/null || exit 9
rbuild build --progress plain --build-arg SOURCE_DATE_EPOCH=1700000000 --secret id=s,src=/d/s -t app "$@" \
    /d/$context || exit $?
echo "layers $(rbuild inspect app -f '{{json .RootFS.Layers}}')"
ps -o pid,args | grep '[s]leep 5000' && echo LEFT
grep -rl 'h-never-told' /tmp /root /var 2> /dev/null && echo TOLD
rbuild build --progress plain --build-arg SOURCE_DATE_EPOCH=1700000000 --secret id=s,src=/d/s "$@" /d/$context \
    2>&1 | grep -c 'Using cache'
"#;

/// Kills a build, and waits until nothing is left of its step.
const KILLED: &str = r#"
rbuild import /d/bb.tar busybox:test > /dev/null || exit 9
mkdir /tmp/c; printf 'FROM busybox:test
RUN (sleep 6000 &); sleep 6000 & echo u''p; sleep 6000
' > /tmp/c/Dockerfile
rbuild build --progress plain /tmp/c > /tmp/log 2>&1 &
until grep -q 'up$' /tmp/log; do :; done
kill -9 $!
while ps -o args | grep -q '^[s]leep 6000'; do :; done
echo ended
"#;

/// The tar of a system that has a shell, and what the program is linked with.
fn system(env: &TestEnv) -> Vec<u8> {
    let exe = env.exe();
    let linked = env.program("ldd", &[exe.to_str().unwrap()]).output().stdout;
    let mut tar = Tar::new()
        .dir("dev/", 0o755)
        .dir("proc/", 0o755)
        .dir("sys/", 0o755)
        .dir("var/", 0o755)
        .dir("d/", 0o755)
        .dir("tmp/", 0o1777)
        .dir("etc/", 0o755)
        .dir("root/", 0o700);
    let mut folders = std::collections::BTreeSet::new();
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let name = &path[1..];
        for folder in Path::new(name).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let folder = folder.to_str().unwrap();
            if !folder.is_empty() && folders.insert(folder.to_owned()) {
                tar = tar.dir(&format!("{folder}/"), 0o755);
            }
        }
        tar = tar.file(name, 0o755, fs::read(path).unwrap());
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
    tar = tar.dir("bin/", 0o755).file("bin/busybox", 0o755, fs::read(busybox).unwrap());
    for applet in ["sh", "ps", "grep", "mkdir", "cat", "kill", "printf"] {
        tar = tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.bytes()
}

#[track_caller]
fn same_image(outcome: Outcome, layers: &str) -> Outcome {
    let outcome = outcome.ok().has(&format!("layers {layers}\n")).lacks("LEFT").lacks("TOLD");
    assert!(outcome.stdout.lines().last().unwrap().parse::<u32>().unwrap() > 2, "not cached\n{outcome}");
    outcome
}

fn warnings(outcome: &Outcome) -> usize {
    let lines = outcome.stdout.lines().chain(outcome.stderr.lines());
    lines.filter(|line| line.contains("warning:")).count()
}

#[test]
fn in_docker() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let docker = match Docker::with_storage(&env, "overlay2") {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let place = Place::new(&env);
    let (layers, one_id) = (place.here("ctx"), place.here("one"));
    let image = env.path_str("system.tar");
    fs::write(&image, system(&env)).unwrap();
    docker.run(&["import", &image, "system"]).ok();
    let own = place.options();
    let run = |options: &[&str], words: &[&str]| {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        docker.run(&[&["run"], &own[..], options, &["system"], words].concat())
    };
    let build = ["sh", "/d/build", "ctx"];

    // What docker gives, and nothing more: no namespaces, and one line that says so.
    let outcome = same_image(run(&[], &build), &layers).has(IN_CHROOT).has("up");
    assert_eq!(warnings(&outcome), 1, "{outcome}");
    run(&[], &["sh", "/d/killed"]).ok().has("ended");
    run(&[], &["rbuild", "doctor"]).has("this is one, as `/.dockerenv` shows").has("chroot, with");

    // With namespaces, by one option or another; the root's own ids are all there.
    same_image(run(&["--security-opt", "seccomp=unconfined"], &build), &layers).lacks(IN_CHROOT);
    let small = ["sh", "/d/build", "one"];
    same_image(run(&["--cap-add=SYS_ADMIN"], &small), &one_id).lacks(IN_CHROOT);
    // A single id, and no program that gives more.
    let options = ["--security-opt", "seccomp=unconfined", "--user=1000"];
    same_image(run(&options, &small), &one_id).lacks(IN_CHROOT);
    run(&options, &build).fails().has("more than one user id");

    // Never weaker than what was asked for, and no riddles.
    run(&["--user=1000"], &build)
        .fails()
        .has("only root can have steps run in a chroot")
        .has("seccomp=unconfined");
    run(&["--cap-drop=MKNOD"], &build).fails().has("lacks: MKNOD").has("--cap-add MKNOD");
    let asked = ["sh", "/d/build", "ctx", "--isolation", "namespaces"];
    run(&[], &asked).fails().has("cannot make a user namespace").lacks(IN_CHROOT);
    run(&[], &["sh", "/d/build", "ctx", "--network", "none"]).fails().has("`--network none` cannot be had");
    docker.stop();
}

#[test]
fn in_podman() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let place = Place::new(&env);
    let layers = place.here("ctx");
    let podman = Podman::with_storage(&env, "overlay");
    let image = env.path_str("system.tar");
    fs::write(&image, system(&env)).unwrap();
    podman.run(&["import", "-q", &image, "system"]).ok();
    let own = place.options();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    // Its own limits are more than a container around the test may have.
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"];
    let build = ["system", "sh", "/d/build", "ctx"];
    // Its filter lets containers make namespaces, but hides parts of /proc.
    let outcome = same_image(podman.run(&[&["run"], &own[..], &limits, &build].concat()), &layers);
    outcome.lacks(IN_CHROOT).has("hides parts of /proc").has("itself on overlayfs");
    podman.run(&["rmi", "-f", "system"]).ok();
}

/// On a machine of one's own a chroot is only what one asks for, and the same image comes out.
#[test]
fn asked_for() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let place = Place::new(&env);
    let layers = place.here("ctx");
    let (context, secret) = (format!("{}/ctx", place.dir), format!("id=s,src={}/s", place.dir));
    let args = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--secret", &secret, &context];
    let build = |more: &[&str]| env.rbuild(&[&["build", "-t", "chroot"], more, &args].concat());
    build(&["--isolation", "chroot"]).ok().has(" run in a chroot").has("cached2");
    assert_eq!(env.inspect("chroot")["RootFS"]["Layers"].to_string(), layers);
    build(&[]).var("RBUILD_ISOLATION", "chroot").ok().has(" run in a chroot");
    build(&["--isolation", "oci"]).var("RBUILD_ISOLATION", "chroot").ok().lacks(" run in a chroot");
    build(&["--isolation", "hyperv"]).exits(2).has("does not exist on Linux");
}

/// A chroot takes devices, which only root can make; what runs nothing does not mind the setting.
#[test]
fn asked_for_by_an_ordinary_user() {
    let env = match TestEnv::new(Who::User) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let ctx = env.dockerfile("FROM busybox:test\nRUN true\n");
    env.rbuild(&["build", "--isolation", "chroot", ctx.path()])
        .exits(1)
        .has("only root can have steps run in a chroot")
        .has("hint: leave it out")
        .lacks("seccomp");
    env.rbuild(&["images"]).var("RBUILD_ISOLATION", "chroot").ok().has("busybox");
}

/// In a chroot nothing is `nodev`: a device that came with the files would open the machine's own.
#[test]
fn no_foreign_devices_in_a_chroot() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let context = env.dockerfile("FROM busybox:test\n");
    let archive = |name: &str, entries: &[(&str, tar::EntryType, u32, u32)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, major, minor) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_path(path).unwrap();
            header.set_entry_type(*kind);
            header.set_mode(0o666);
            header.set_device_major(*major).unwrap();
            header.set_device_minor(*minor).unwrap();
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, &[][..]).unwrap();
        }
        context.write(name, archive.into_inner().unwrap());
    };
    use tar::EntryType::{Block, Char};
    // What is below /dev is covered; what steps have anyway does no harm.
    archive("fine.tar", &[("dev/sda", Block, 8, 0), ("jail/dev/null", Char, 1, 3)]);
    archive("tun.tar", &[("srv/tun", Char, 10, 200)]);
    archive("disk.tar", &[("disk", Block, 8, 0)]);
    let build = |add: &str, run: &str| {
        context.write("Dockerfile", format!("FROM busybox:test\n{add}\nRUN {run}\n"));
        env.rbuild(&["build", "--isolation", "chroot", "--no-cache", context.path()])
    };
    build("ADD fine.tar /", "echo x > /jail/dev/null && test ! -e /dev/sda").ok();
    build("ADD tun.tar /", "true").exits(1).has("`/srv/tun` (10:200) is among the step's files");
    env.rbuild(&["cache", "mounts", "import", "c", &format!("{}/disk.tar", context.path())]).ok();
    build("", "--mount=type=cache,id=c,target=/c true").exits(1).has("`/c/disk` (8:0) is among");
    // Nothing was lost by that.
    env.rbuild(&["build", "--isolation", "oci", "--no-cache", context.path()]).ok();
}
