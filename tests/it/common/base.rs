//! Base images that need no registry.
//!
//! `busybox:test` is made here from the machine's static busybox; it is small
//! enough to be imported by each test. `debian:bookworm` is made once by
//! mmdebstrap, kept in `target/test-cache/` between runs and imported once per
//! mode into a store that those tests share.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::OnceLock;

use super::env::TestEnv;
use super::env::Who;

/// The users of `busybox:test`: `app` has a group of its own and is a member of `extra`.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                      app:x:1000:1001:app:/home/app:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\napp:x:1001:\nextra:x:2000:app\nnogroup:x:65534:\n";

/// Writes tar archives in memory, entry by entry; for hostile ones, too.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    /// Adds any entry; the name is written as it is, `..` and `/` included.
    pub fn entry(mut self, kind: tar::EntryType, name: &str, mode: u32, link: &str, content: &[u8]) -> Tar {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        // Set by hand: `tar` itself refuses the names that hostile archives have.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// Adds a file.
    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Tar {
        self.entry(tar::EntryType::Regular, name, mode, "", content.as_ref())
    }

    /// Adds a folder.
    pub fn dir(self, name: &str, mode: u32) -> Tar {
        self.entry(tar::EntryType::Directory, name, mode, "", b"")
    }

    /// Adds a symbolic link.
    pub fn link(self, name: &str, target: &str) -> Tar {
        self.entry(tar::EntryType::Symlink, name, 0o777, target, b"")
    }

    /// Adds another name of a file.
    pub fn hard_link(self, name: &str, existing: &str) -> Tar {
        self.entry(tar::EntryType::Link, name, 0o644, existing, b"")
    }

    /// Adds a PAX record for the entry that follows.
    pub fn pax(mut self, key: &str, value: &[u8]) -> Tar {
        self.0.append_pax_extensions([(key, value)]).unwrap();
        self
    }

    /// Ends the archive.
    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Returns the archive of `busybox:test`.
pub fn busybox_tar() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let path = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
        let path = path.expect("busybox is installed (the package busybox-static)");
        let busybox = fs::read(path).unwrap();
        let list = Command::new(path).arg("--list").output().unwrap().stdout;
        let list = String::from_utf8(list).unwrap();
        let mut tar = Tar::new()
            .dir("./", 0o755)
            .dir("bin/", 0o755)
            .dir("etc/", 0o755)
            .dir("home/", 0o755)
            .dir("root/", 0o700)
            .dir("tmp/", 0o1777)
            .dir("usr/", 0o755)
            .dir("usr/bin/", 0o755)
            .file("bin/busybox", 0o755, &busybox)
            .file("etc/passwd", 0o644, PASSWD)
            .file("etc/group", 0o644, GROUP)
            .link("usr/bin/env", "/bin/busybox");
        for applet in list.lines().filter(|a| *a != "busybox") {
            tar = tar.link(&format!("bin/{applet}"), "busybox");
        }
        tar.bytes()
    })
}

impl TestEnv {
    /// Imports `busybox:test` into this place's store; returns the image's ID.
    #[track_caller]
    pub fn busybox(&self) -> String {
        let outcome = self.rbuild(&["import", "-", "busybox:test"]).stdin(busybox_tar()).ok();
        outcome.stdout.trim().to_owned()
    }

    /// Makes a place whose store holds `debian:bookworm`; the tests of one mode share the store.
    /// An error says why there is none (no mmdebstrap, no network).
    pub fn debian(who: Who) -> Result<TestEnv, String> {
        static ROOT: Mutex<Option<TestEnv>> = Mutex::new(None);
        static USER: Mutex<Option<TestEnv>> = Mutex::new(None);
        let mut place = match who {
            Who::Root => &ROOT,
            Who::User => &USER,
        }
        .lock()
        .unwrap_or_else(|e| e.into_inner());
        if place.is_none() {
            let env = TestEnv::new(who)?;
            let tar = debian_tar()?;
            env.rbuild(&["import", "-", "debian:bookworm"]).stdin_file(tar).ok();
            *place = Some(env);
        }
        Ok(place.as_ref().expect("just put there").sharing_store())
    }
}

/// Returns the path of the root file system of Debian 12, made when it is not there.
fn debian_tar() -> Result<PathBuf, String> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-cache");
    let path = cache.join("debian-bookworm.tar");
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let part = cache.join("debian-bookworm.part.tar");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "bookworm"])
        .arg(&part)
        .output()
        .map_err(|e| format!("mmdebstrap: {e}"))?;
    if !made.status.success() {
        return Err(format!("mmdebstrap: {}", String::from_utf8_lossy(&made.stderr)));
    }
    fs::rename(&part, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

/// The arguments that let `RUN` steps trust this machine's private CA, where it has one.
pub fn ca_cert_args() -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/private-ca");
    let found = Command::new(script).output().expect("scripts/private-ca runs");
    let path = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    if path.is_empty() { Vec::new() } else { vec!["--ca-cert".to_owned(), path] }
}
