//! One run of a program: how it is started, what it said, how it ended.
//!
//! Waiting is always for an event (output, end of output, exit). The one clock
//! is a guard that turns a hang into a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use super::env::TestEnv;

/// After this long a command counts as hanging.
const HANG: Duration = Duration::from_secs(900);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
    Pipe,
}

/// A command not yet started.
#[must_use]
pub struct Cmd<'e> {
    env: &'e TestEnv,
    argv: Vec<String>,
    input: Input,
    folder: PathBuf,
    vars: BTreeMap<String, String>,
    keep_user: bool,
}

impl<'e> Cmd<'e> {
    pub(super) fn new(env: &'e TestEnv, program: &str) -> Cmd<'e> {
        let text = |path: &Path| path.to_str().expect("made of ASCII").to_owned();
        let vars = [
            ("PATH", PATH.to_owned()),
            ("HOME", text(&env.dir().join("home"))),
            ("TMPDIR", text(&env.tmp())),
            ("RBUILD_ROOT", text(env.store())),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        Cmd {
            env,
            argv: vec![program.to_owned()],
            input: Input::Nothing,
            folder: env.dir().to_owned(),
            vars: vars.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            keep_user: false,
        }
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.argv.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Puts another program and its arguments in front.
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.argv.splice(0..0, words.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Sets a variable.
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes a variable away.
    pub fn without_var(mut self, name: &str) -> Self {
        self.vars.remove(name);
        self
    }

    /// Starts in another folder.
    pub fn folder(mut self, path: impl AsRef<Path>) -> Self {
        self.folder = path.as_ref().to_owned();
        self
    }

    /// Gives bytes on standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Gives a file as standard input.
    pub fn stdin_file(mut self, path: impl AsRef<Path>) -> Self {
        self.input = Input::File(path.as_ref().to_owned());
        self
    }

    /// Keeps standard input open, for [`Job::write`].
    pub fn stdin_pipe(mut self) -> Self {
        self.input = Input::Pipe;
        self
    }

    /// Stays who runs the suite, whatever the test's mode.
    pub fn without_changing_user(mut self) -> Self {
        self.keep_user = true;
        self
    }

    /// Returns the words of the command.
    pub fn words(&self) -> Vec<&str> {
        self.argv.iter().map(String::as_str).collect()
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(self) -> Job {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(&self.vars).current_dir(&self.folder);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(match &self.input {
            Input::Nothing => Stdio::null(),
            Input::Bytes(_) | Input::Pipe => Stdio::piped(),
            Input::File(path) => {
                File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
            }
        });
        if let (Some(ids), false) = (self.env.ids(), self.keep_user) {
            command.uid(ids.uid).gid(ids.gid);
        }
        let line = self.argv.join(" ");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start `{line}`: {e}"));

        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let readers = vec![
            read_into(child.stdout.take().expect("piped"), &seen, |s| &mut s.stdout),
            read_into(child.stderr.take().expect("piped"), &seen, |s| &mut s.stderr),
        ];
        let mut stdin = child.stdin.take();
        if let Input::Bytes(bytes) = self.input
            && let Some(mut pipe) = stdin.take()
        {
            // A command that fails early leaves its input unread: no error of the test.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        Job { line, child, seen, readers, stdin, reaped: false }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn output(self) -> Outcome {
        self.spawn().finish()
    }

    /// Runs it to its end, which must be a success.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.output().ok()
    }

    /// Runs it to its end, which must be a failure of its own (no signal, no panic).
    #[track_caller]
    pub fn fails(self) -> Outcome {
        self.output().fails()
    }

    /// Runs it to its end, which must have this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        self.output().exits(code)
    }
}

/// What a running command has said so far.
#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Both, in the order in which they were read.
    both: Vec<u8>,
    /// How many of the two have ended.
    ended: usize,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

fn read_into(
    mut from: impl Read + Send + 'static,
    seen: &Shared,
    part: fn(&mut Seen) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let (lock, news) = &*seen;
            let mut all = lock.lock().unwrap();
            part(&mut all).extend(&buffer[..count]);
            all.both.extend(&buffer[..count]);
            all.ended += usize::from(count == 0);
            news.notify_all();
            if count == 0 {
                return;
            }
        }
    })
}

/// A command that runs; killed when dropped.
pub struct Job {
    line: String,
    child: Child,
    seen: Shared,
    readers: Vec<JoinHandle<()>>,
    stdin: Option<ChildStdin>,
    reaped: bool,
}

impl Job {
    /// The process's id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Waits until `done` likes what was said; `false` when the output ended before.
    fn wait_until(&self, done: impl Fn(&Seen) -> bool) -> bool {
        let start = Instant::now();
        let (lock, news) = &*self.seen;
        let mut seen = lock.lock().unwrap();
        while !done(&seen) {
            if seen.ended == 2 {
                return false;
            }
            let left = HANG.saturating_sub(start.elapsed());
            if left.is_zero() {
                let said = String::from_utf8_lossy(&seen.both).into_owned();
                drop(seen);
                panic!("`{}` hangs; so far:\n{said}", self.line);
            }
            seen = news.wait_timeout(seen, left).unwrap().0;
        }
        true
    }

    /// Waits until the command has said `text` (on either output).
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        if !self.wait_until(|seen| String::from_utf8_lossy(&seen.both).contains(text)) {
            panic!("`{}` ended without saying `{text}`:\n{}", self.line, self.said());
        }
    }

    /// Waits until the command has written so many lines (on either output), has said all of
    /// `texts`, or `end`, or has ended.
    pub fn wait_for_lines(&self, count: usize, texts: &[&str], end: &str) {
        self.wait_until(|seen| {
            let said = String::from_utf8_lossy(&seen.both);
            said.lines().count() >= count
                || texts.iter().all(|text| said.contains(text))
                || said.contains(end)
        });
    }

    /// Waits until the command has said one of two texts, and tells whether it was the first.
    pub fn wait_for_either(&self, text: &str, other: &str) -> bool {
        let said = |seen: &Seen, text: &str| String::from_utf8_lossy(&seen.both).contains(text);
        self.wait_until(|seen| said(seen, text) || said(seen, other));
        self.said().contains(text)
    }

    /// Tells whether both outputs have ended.
    pub fn ended(&self) -> bool {
        self.seen.0.lock().unwrap().ended == 2
    }

    /// What was said so far, on both outputs.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap().both).into_owned()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a pid is not 0");
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Writes to standard input, which must be a pipe.
    pub fn write(&mut self, bytes: &[u8]) {
        let pipe = self.stdin.as_mut().expect("`stdin_pipe` was called");
        pipe.write_all(bytes).unwrap();
        pipe.flush().unwrap();
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end. Whoever inherited its outputs must have ended, too.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        self.stdin = None;
        self.wait_until(|seen| seen.ended == 2);
        let status = self.child.wait().unwrap();
        self.reaped = true;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let seen = self.seen.0.lock().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            line: self.line.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: text(&seen.stdout),
            stderr: text(&seen.stderr),
            both: text(&seen.both),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Both outputs, in the order in which they came.
    pub both: String,
}

impl Outcome {
    /// Requires success.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.exits(0)
    }

    /// Requires an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert!(self.code == Some(code), "exit code {code} expected\n{self}");
        self
    }

    /// Requires a failure with a message: a code of its own, words on stderr, no panic.
    #[track_caller]
    pub fn fails(self) -> Outcome {
        assert!(self.code.is_some_and(|c| c != 0), "a failing exit code expected\n{self}");
        assert!(!self.both.contains("panicked at"), "a panic is no error message\n{self}");
        assert!(!self.stderr.trim().is_empty(), "an error message on stderr expected\n{self}");
        self
    }

    /// Requires a text on either output.
    #[track_caller]
    pub fn has(self, text: &str) -> Outcome {
        assert!(self.both.contains(text), "`{text}` expected\n{self}");
        self
    }

    /// Requires each of these texts on either output.
    #[track_caller]
    pub fn has_all(self, texts: &[&str]) -> Outcome {
        texts.iter().fold(self, |outcome, text| outcome.has(text))
    }

    /// Requires a text to be absent from both outputs.
    #[track_caller]
    pub fn lacks(self, text: &str) -> Outcome {
        assert!(!self.both.contains(text), "`{text}` not expected\n{self}");
        self
    }

    /// Requires standard output to be exactly this.
    #[track_caller]
    pub fn prints(self, stdout: &str) -> Outcome {
        assert!(self.stdout == stdout, "stdout {stdout:?} expected\n{self}");
        self
    }

    /// Tells whether a step's command printed a line that ends so.
    /// The `Step` lines, which repeat the command, and the reasons, which may, do not count.
    pub fn printed(&self, end: &str) -> bool {
        let tells = |line: &str| line.contains("Step ") || line.contains(" ---> Not cached: ");
        self.both.lines().any(|line| line.trim_end().ends_with(end) && !tells(line))
    }

    /// Requires that a step printed this, so that it ran.
    #[track_caller]
    pub fn ran(self, printed: &str) -> Outcome {
        assert!(self.printed(printed), "the step that prints `{printed}` should have run\n{self}");
        self
    }

    /// Requires that no step printed this, so that it came from the cache.
    #[track_caller]
    pub fn did_not_run(self, printed: &str) -> Outcome {
        assert!(!self.printed(printed), "the step that prints `{printed}` should be cached\n{self}");
        self
    }

    /// The `Step n/m : text` lines, texts only.
    pub fn steps(&self) -> Vec<&str> {
        self.both
            .lines()
            .filter_map(|line| line.split_once("Step ")?.1.split_once(" : "))
            .map(|(_, text)| text)
            .collect()
    }

    /// How many steps came from the cache.
    pub fn cached(&self) -> usize {
        self.both.matches("---> Using cache").count()
    }

    /// The steps' ids, ` ---> <12 hex>`.
    pub fn step_ids(&self) -> Vec<&str> {
        self.both
            .lines()
            .filter_map(|line| Some(line.split_once("---> ")?.1.trim()))
            .filter(|id| super::env::is_hex(id, 12))
            .collect()
    }

    /// The id in `Successfully built <12 hex>`.
    #[track_caller]
    pub fn built(&self) -> &str {
        let id = self.both.lines().find_map(|line| Some(line.split_once("Successfully built ")?.1.trim()));
        id.unwrap_or_else(|| panic!("`Successfully built` expected\n{self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        write!(f, "--- {}\n--- {end}; stdout:\n{}\n--- stderr:\n{}\n---", self.line, self.stdout, self.stderr)
    }
}
