//! One run of rbuild itself: its output goes to a writer, and it ends when it is told to.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// How long a program may take to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How a program is started.
#[derive(Debug)]
pub struct Start<'a> {
    pub program: &'a Path,
    pub arguments: &'a [OsString],
    pub folder: PathBuf,
    /// Variables that it is not to see.
    pub hidden: &'a [OsString],
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Success,
    Code(i32),
    Signal(i32),
    /// It was told to end.
    Stopped,
}

impl Start<'_> {
    /// Runs it to its end in a process group of its own. Both its outputs go to `output`, in the order they come.
    ///
    /// `started` gets its number. `stop` is asked about twenty times a second; once it says so, the whole group
    /// is ended, gently first.
    pub fn run(
        &self,
        output: &mut (dyn Write + Send),
        started: &mut dyn FnMut(u32),
        stop: &dyn Fn() -> bool,
    ) -> io::Result<End> {
        let (mut reader, writer) = io::pipe()?;
        let mut command = Command::new(self.program);
        command.args(self.arguments).current_dir(&self.folder).process_group(0);
        for name in self.hidden {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // It holds the writing end, which would keep the reader waiting.
        drop(command);
        started(child.id());
        std::thread::scope(|scope| {
            let copied = scope.spawn(move || copy(&mut reader, output));
            let end = wait(&mut child, stop);
            let copied = copied.join().unwrap_or_else(|_| Err(io::Error::other("the output was not read")));
            let end = end?;
            copied?;
            Ok(end)
        })
    }
}

/// Reads to the end, whether the writer takes it or not: a program that nobody reads would wait.
fn copy(reader: &mut impl Read, output: &mut dyn Write) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let mut result = Ok(());
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return result,
            Ok(count) if result.is_ok() => {
                result = output.write_all(&buffer[..count]).and_then(|()| output.flush());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait(child: &mut Child, stop: &dyn Fn() -> bool) -> io::Result<End> {
    let group = Pid::from_child(child);
    let mut asked: Option<Instant> = None;
    let mut tick = Duration::from_millis(1);
    loop {
        if has_ended(group)? {
            // Its helpers end with it; before it is reaped its number is nobody else's.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            let status = child.wait()?;
            return Ok(match (asked, status.code()) {
                (Some(_), _) => End::Stopped,
                (None, Some(0)) => End::Success,
                (None, Some(code)) => End::Code(code),
                (None, None) => End::Signal(status.signal().unwrap_or(0)),
            });
        }
        match asked {
            None if stop() => {
                let _ = rustix::process::kill_process_group(group, Signal::TERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
        std::thread::sleep(tick);
        tick = (tick * 2).min(Duration::from_millis(50));
    }
}

/// Tells whether a child has ended, and leaves it to be reaped.
fn has_ended(child: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(child), options)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, stop: bool) -> (End, String) {
        let arguments = ["-c".into(), script.into()];
        let start = Start {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            folder: "/".into(),
            hidden: &["SECRET".into()],
        };
        let mut output = Vec::new();
        let end = start.run(&mut output, &mut |_| {}, &|| stop).unwrap();
        (end, String::from_utf8(output).unwrap())
    }

    #[test]
    fn says_how_it_ended_and_what_was_said() {
        assert_eq!(run("echo a; echo b >&2; pwd", false), (End::Success, "a\nb\n/\n".to_owned()));
        assert_eq!(run("exit 3", false).0, End::Code(3));
        assert_eq!(run("kill -9 $$", false).0, End::Signal(9));
        assert_eq!(run("exec sleep 600", true).0, End::Stopped);
    }
}
