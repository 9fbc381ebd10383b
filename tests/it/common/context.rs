//! Build contexts made from text.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::env::TestEnv;

/// A folder that a test fills; its files belong to who runs the test.
pub struct Context<'e> {
    env: &'e TestEnv,
    path: PathBuf,
}

impl<'e> Context<'e> {
    pub(super) fn new(env: &'e TestEnv) -> Context<'e> {
        let path = env.path("context");
        fs::create_dir(&path).unwrap();
        env.give(&path);
        Context { env, path }
    }

    /// The folder, for an argument.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("made of ASCII")
    }

    /// The place of a file in it, for an argument.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.path())
    }

    /// Makes the folders above a file, and returns its path.
    fn place(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        let mut missing: Vec<&Path> = path.ancestors().skip(1).take_while(|p| !p.exists()).collect();
        missing.reverse();
        for folder in missing {
            fs::create_dir(folder).unwrap();
            self.env.give(folder);
        }
        path
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a file of mode 0644.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(name, 0o644, content)
    }

    /// Writes a file.
    pub fn file_with_mode(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.write(name, content);
        let path = self.path.join(name);
        Self::set_mode(&path, mode);
        self
    }

    /// Writes a file that a test changes between two builds.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.place(name);
        fs::write(&path, content).unwrap();
        self.env.give(&path);
    }

    /// Makes a folder of mode 0755.
    pub fn dir(self, name: &str) -> Self {
        self.dir_with_mode(name, 0o755)
    }

    /// Makes a folder.
    pub fn dir_with_mode(self, name: &str, mode: u32) -> Self {
        let path = self.place(name);
        fs::create_dir_all(&path).unwrap();
        Self::set_mode(&path, mode);
        self.env.give(&path);
        self
    }

    /// Makes a symbolic link.
    pub fn link(self, name: &str, target: &str) -> Self {
        let path = self.place(name);
        std::os::unix::fs::symlink(target, &path).unwrap();
        self.env.give(&path);
        self
    }

    /// Makes another name for a file.
    pub fn hard_link(self, name: &str, existing: &str) -> Self {
        let path = self.place(name);
        fs::hard_link(self.path.join(existing), path).unwrap();
        self
    }

    /// Makes a FIFO.
    pub fn fifo(self, name: &str) -> Self {
        let path = self.place(name);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&path, mode).unwrap();
        self.env.give(&path);
        self
    }

    /// Makes a socket.
    pub fn socket(self, name: &str) -> Self {
        let path = self.place(name);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        self.env.give(&path);
        self
    }

    /// Copies what a folder of `testdata/` holds, with its modes.
    pub fn testdata(self, folder: &str) -> Self {
        self.copy(&Path::new("testdata").join(folder), "")
    }

    /// Copies a folder of the project to the same place in this one, with its modes.
    pub fn project(self, folder: &str) -> Self {
        self.copy(Path::new(folder), folder)
    }

    fn copy(self, from: &Path, to: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
        for entry in walkdir::WalkDir::new(&from).min_depth(1).sort_by_file_name() {
            let entry = entry.unwrap();
            let inside = entry.path().strip_prefix(&from).unwrap();
            let path = self.place(Path::new(to).join(inside).to_str().expect("made of ASCII"));
            if entry.file_type().is_dir() {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::copy(entry.path(), &path).unwrap();
            }
            self.env.give(&path);
        }
        self
    }
}
