//! Steps without namespaces: what they see, what they may, what is left of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rbuild::sandbox::{
    BindSource, Exit, Isolation, Launcher, MountSource, Root, Running, SandboxError, Stdio, StepEnvironment,
    StepMount, User, step_spec,
};

use super::{Said, World, mount_at, process_with};

/// A root that is a directory, and the launcher of steps in it.
struct Chroot<'w> {
    world: &'w World,
    launcher: Launcher,
    root: PathBuf,
    aside: PathBuf,
}

impl<'w> Chroot<'w> {
    fn new(world: &'w World) -> Chroot<'w> {
        let place = world.fresh("chroot");
        let (root, aside) = (place.join("root"), place.join("aside"));
        let copied = std::process::Command::new("cp").arg("-a").args([&world.base(), &root]).status();
        assert!(copied.unwrap().success());
        fs::create_dir(&aside).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/resolv.conf"), "of the image\n").unwrap();
        let old =
            fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(7));
        for name in ["etc", "."] {
            File::open(root.join(name)).unwrap().set_times(old).unwrap();
        }
        let exe = std::env::current_exe().unwrap();
        let launcher = Launcher::start_with(&exe, Isolation::Chroot).unwrap();
        Chroot { world, launcher, root, aside }
    }

    fn shell(&self, script: &str) -> StepEnvironment {
        let root = Root::Directory {
            path: self.root.clone(),
            mount: None,
            scratch: self.aside.clone(),
            points: self.aside.with_extension("points"),
        };
        let mut step = StepEnvironment::new(root, ["sh", "-c", script].map(OsString::from).to_vec());
        step.env = vec!["PATH=/bin".into()];
        step.resolv_conf = b"nameserver 192.0.2.1\n".to_vec();
        step.network = rbuild::sandbox::Network::Host;
        step
    }

    fn start(&self, step: StepEnvironment) -> Result<(Running, File), SandboxError> {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer: OwnedFd = writer.into();
        let stderr = Some(writer.try_clone().unwrap());
        let stdio = Stdio { stdin: None, stdout: Some(writer), stderr };
        Ok((self.launcher.spawn(step_spec(step), stdio)?, File::from(OwnedFd::from(reader))))
    }

    fn run(&self, step: StepEnvironment) -> Result<Said, SandboxError> {
        let (running, mut output) = self.start(step)?;
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        Ok(Said { exit: running.wait()?, text })
    }

    fn output(&self, script: &str) -> String {
        self.output_of(self.shell(script))
    }

    fn output_of(&self, step: StepEnvironment) -> String {
        let said = self.run(step).unwrap();
        assert_eq!(said.exit, Exit::Code(0), "{}", said.text);
        said.text
    }

    /// Everything that a layer could hold of the root.
    fn files(&self) -> BTreeMap<PathBuf, (u32, u32, i64, u64)> {
        fn walk(path: &Path, found: &mut BTreeMap<PathBuf, (u32, u32, i64, u64)>) {
            let stat = fs::symlink_metadata(path).unwrap();
            let bytes = if stat.is_file() { fs::read(path).unwrap() } else { Vec::new() };
            let mut hash = std::hash::DefaultHasher::new();
            bytes.hash(&mut hash);
            found.insert(path.to_owned(), (stat.mode(), stat.uid(), stat.mtime(), hash.finish()));
            if stat.is_dir() {
                fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), found));
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.root, &mut found);
        found
    }
}

fn secret(target: &str) -> StepMount {
    let source = MountSource::File { content: b"hush".to_vec(), mode: 0o400, uid: 5, gid: 6 };
    mount_at(target, source)
}

fn bind(path: &Path, target: &str, cache: bool) -> StepMount {
    let source = BindSource::Fd(File::open(path).unwrap().into());
    mount_at(target, MountSource::Bind { source, read_only: !cache, make_points: cache })
}

pub fn leaves_no_trace(world: &World) {
    if world.identity.rootless {
        return;
    }
    let chroot = Chroot::new(world);
    let before = chroot.files();
    let given = world.fresh("given");
    fs::write(given.join("file"), "given").unwrap();
    let cache = world.fresh("cache");
    fs::write(cache.join("old"), "kept").unwrap();
    let mut step = chroot.shell(
        "cat /etc/resolv.conf; head -n 1 /etc/hosts; ls /proc; ls /sys; echo x > /dev/null; \
         head -c 3 /dev/zero | tr '\\0' z; echo; cat /run/secrets/deep/s; stat -c ' %a %u %g' /run/secrets/deep/s; \
         cat /given/file; echo mine > /given/file; cat /cache/old; echo new > /cache/new; echo y > /tmp/t/y; \
         echo z > /etc/resolv.conf",
    );
    step.mounts = vec![
        secret("/run/secrets/deep/s"),
        bind(&given, "/given", false),
        bind(&cache, "/cache", true),
        mount_at("/tmp/t", MountSource::Tmpfs { size: 0, mode: 0o1777 }),
    ];
    let said = chroot.output_of(step);
    assert_eq!(
        said,
        "nameserver 192.0.2.1\n127.0.0.1\tlocalhost buildkitsandbox\nzzz\nhush 400 5 6\ngivenkept"
    );
    assert_eq!(chroot.files(), before);
    assert_eq!(fs::read_to_string(given.join("file")).unwrap(), "given");
    assert_eq!(super::names(&cache), ["new", "old"]);
    assert_eq!(super::names(&chroot.aside), [""; 0]);
    // What the step makes beside stays, and the directory around a secret where it put something.
    let mut step = chroot.shell("echo 1 > /new; echo 2 > /run/secrets/own");
    step.mounts = vec![secret("/run/secrets/deep/s")];
    chroot.output_of(step);
    let after = chroot.files();
    let new: Vec<&str> = after
        .keys()
        .filter(|path| !before.contains_key(*path))
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(new, ["new", "run", "secrets", "own"]);
}

pub fn after_a_failure(world: &World) {
    if world.identity.rootless {
        return;
    }
    let chroot = Chroot::new(world);
    let before = chroot.files();
    let cache = world.fresh("cache");
    for script in ["exit 3", "kill -9 $$", "rm -rf /cache /etc; mkdir /etc"] {
        let mut step = chroot.shell(script);
        step.mounts = vec![secret("/s"), bind(&cache, "/cache", true)];
        let _ = chroot.run(step).unwrap();
        assert!(cache.is_dir(), "{script}");
    }
    assert!(!chroot.root.join("s").exists() && !chroot.root.join("dev").exists());
    // The program is not found: nothing ran, and all is taken out.
    let chroot = Chroot::new(world);
    let mut step = chroot.shell("");
    step.args = vec!["/no/such".into()];
    step.mounts = vec![secret("/s"), bind(&cache, "/cache", true)];
    assert!(chroot.run(step).unwrap_err().exec().is_some());
    assert_eq!(chroot.files().len(), before.len());
    assert!(cache.is_dir());
}

pub fn rights(world: &World) {
    if world.identity.rootless {
        return;
    }
    let chroot = Chroot::new(world);
    let said = chroot.output(
        "chroot / true 2>/dev/null && echo chroot; mknod /n b 8 0 2>/dev/null && echo mknod; \
         mount -t tmpfs x /tmp 2>/dev/null && echo mount; unshare -m true 2>/dev/null && echo unshare; \
         ls -d /proc/1 2>/dev/null; id -u; pwd",
    );
    assert_eq!(said, "0\n/\n");
    if rbuild::sys::landlock::version().is_some_and(|version| version >= 6) {
        // Neither its keeper nor who runs this can be ended by it.
        let own = std::process::id();
        let said = chroot.output(&format!("kill -9 $PPID {own} 2>/dev/null || echo not permitted"));
        assert_eq!(said, "not permitted\n");
    }
    let mut step = chroot.shell("id -u; id -g; id -G; touch /root/x 2>/dev/null || echo no; cat /s");
    step.user = User { uid: 5, gid: 7, groups: vec![8] };
    step.mounts = vec![secret("/s")];
    assert_eq!(chroot.output_of(step), "5\n7\n7 8\nno\nhush");
    let impossible = |change: fn(&mut StepEnvironment)| {
        let mut step = chroot.shell("true");
        change(&mut step);
        let error = chroot.run(step).unwrap_err().to_string();
        assert!(error.contains("cannot be had where steps run in a chroot"), "{error}");
    };
    impossible(|step| step.network = rbuild::sandbox::Network::None);
    impossible(|step| step.security = rbuild::sandbox::Security::Insecure);
    impossible(|step| step.read_only_root = true);
}

pub fn nobody_is_left(world: &World) {
    if world.identity.rootless {
        return;
    }
    let chroot = Chroot::new(world);
    let word = format!("30{}", std::process::id());
    // The end of the program ends what it left, however far it went away.
    let script = format!(
        "(sleep {word} & (sleep {word} & ) ) ; exec >/dev/null 2>&1; unshare true; sleep {word} & echo"
    );
    chroot.output(&script);
    assert!(!process_with(&word));
    // A kill of the step does.
    let (running, mut output) =
        chroot.start(chroot.shell(&format!("sleep {word} & echo up; sleep {word}"))).unwrap();
    let mut up = [0; 3];
    output.read_exact(&mut up).unwrap();
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    assert!(!process_with(&word));
    // One that nobody waits for.
    let (running, mut output) = chroot.start(chroot.shell(&format!("echo up; sleep {word}"))).unwrap();
    output.read_exact(&mut up).unwrap();
    drop(running);
    assert!(!process_with(&word) && !chroot.root.join("dev").exists());
    // And the end of the launcher.
    let (running, mut output) =
        chroot.start(chroot.shell(&format!("sleep {word} & echo up; sleep {word}"))).unwrap();
    output.read_exact(&mut up).unwrap();
    let Chroot { launcher, .. } = chroot;
    drop(launcher);
    assert!(!process_with(&word));
    drop(running);
}

pub fn at_once(world: &World) {
    if world.identity.rootless {
        return;
    }
    std::thread::scope(|scope| {
        let chroots: Vec<_> = (0..4).map(|_| Chroot::new(world)).collect();
        for (number, chroot) in chroots.into_iter().enumerate() {
            scope.spawn(move || {
                let _ = chroot.world;
                assert_eq!(chroot.output(&format!("echo {number} > /n; cat /n")), format!("{number}\n"));
                let mode = fs::metadata(chroot.root.join("n")).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o644);
            });
        }
    });
}
