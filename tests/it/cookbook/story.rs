//! Stories: what a user types, and what the terminal must show, from `tests/cookbook/*.txt`.
//!
//!     # What this part is about.
//!     $ rbuild build -t hi .
//!     ...
//!     Successfully built <id=id12>
//!     $ rbuild run --rm hi nope
//!     ...
//!     [exit 127]
//!
//! A line of its own: `$ ` and a command for `sh`, `> ` its further lines, below it what it prints (both
//! outputs, as a terminal shows them) and, where it is not 0, its exit code. `$~ ` repeats a command until
//! it prints that. `$& ` starts one that stays until the story ends, and waits until it has printed that.
//! What is kept by `<name=...>` is a variable of the commands that follow. Blank lines end an expectation.
//!
//! Each story has a place, a store with the image `busybox` and a network of its own, so that ports can be
//! those of the book and nothing listens outside. Not here: the words of expected lines (`pattern`).

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pattern::{Values, compare};
use crate::common::command::{Cmd, Job};
use crate::common::{Outcome, TestEnv, not_here};

/// For how long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network that is cut off: the loopback, with an address that stands for the machine's own.
const NETWORK: &str = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && echo ready && read -r end";

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Once,
    Until,
    Stays,
}

/// A command of a story, and what it must print.
struct Scene<'a> {
    /// Counted from 1.
    line: usize,
    how: How,
    command: String,
    expected: Vec<&'a str>,
    code: i32,
}

/// Reads a story.
fn scenes<'a>(file: &str, text: &'a str) -> Vec<Scene<'a>> {
    let mut scenes: Vec<Scene<'a>> = Vec::new();
    let mut begins = false;
    for (number, line) in text.lines().enumerate() {
        let asks = [("$ ", How::Once), ("$~ ", How::Until), ("$& ", How::Stays)];
        let asked = asks.into_iter().find_map(|(prompt, how)| Some((how, line.strip_prefix(prompt)?)));
        if let Some((how, command)) = asked {
            let command = command.to_owned();
            scenes.push(Scene { line: number + 1, how, command, expected: Vec::new(), code: 0 });
            begins = true;
            continue;
        }
        if line.starts_with("# ") || line == "#" {
            continue;
        }
        let Some(scene) = scenes.last_mut() else {
            assert!(line.is_empty(), "{file}:{}: a story begins with a command", number + 1);
            continue;
        };
        match line.strip_prefix('>').filter(|rest| begins && (rest.is_empty() || rest.starts_with(' '))) {
            Some(more) => scene.command += &format!("\n{}", more.strip_prefix(' ').unwrap_or_default()),
            None => {
                begins = false;
                match line.strip_prefix("[exit ").and_then(|rest| rest.strip_suffix(']')) {
                    Some(code) => scene.code = code.parse().expect("an exit code is a number"),
                    None => scene.expected.push(line.trim_end()),
                }
            }
        }
    }
    for scene in &mut scenes {
        while scene.expected.last().is_some_and(|line| line.is_empty()) {
            scene.expected.pop();
        }
    }
    scenes
}

/// A story while it is played.
struct Stage<'e> {
    env: &'e TestEnv,
    file: String,
    folder: String,
    network: Job,
    values: Values,
    staying: Vec<Job>,
}

/// Plays a story from its first line to its last.
pub fn play(env: &TestEnv, name: &str) {
    if !rustix::process::geteuid().is_root() {
        return not_here(
            "only root can give a story a network of its own and keep an ordinary user's id maps",
        );
    }
    let file = format!("tests/cookbook/{name}.txt");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file))
        .unwrap_or_else(|e| panic!("{file}: {e}"));
    let scenes = scenes(&file, &text);
    assert!(!scenes.is_empty(), "{file}: no story");
    env.busybox();
    env.rbuild(&["tag", "busybox:test", "busybox:latest"]).ok();
    env.rbuild(&["rmi", "busybox:test"]).ok();
    let place = env.context();
    let network = env.program("unshare", &["--net", "sh", "-c", NETWORK]).without_changing_user();
    let network = network.stdin_pipe().spawn();
    network.wait_for("ready");
    let folder = place.path().to_owned();
    let mut stage = Stage { env, file, folder, network, values: Values::new(), staying: Vec::new() };
    for scene in &scenes {
        stage.play(scene);
    }
    for job in stage.staying.drain(..) {
        job.signal(Signal::TERM);
        job.finish();
    }
}

impl Stage<'_> {
    /// A command as it is typed there; its two outputs are one.
    fn cmd(&self, script: &str) -> Cmd<'_> {
        let inside = format!("--net=/proc/{}/ns/net", self.network.pid());
        let become_user = self.env.ids().map_or(Vec::new(), |ids| {
            let ids = [format!("--reuid={}", ids.uid), format!("--regid={}", ids.gid)];
            ["setpriv".to_owned()].into_iter().chain(ids).chain(["--clear-groups".to_owned()]).collect()
        });
        let words: Vec<&str> =
            ["nsenter", &inside].into_iter().chain(become_user.iter().map(String::as_str)).collect();
        let programs = self.env.exe();
        let programs = programs.parent().expect("a file is in a folder").display();
        let cmd = self.env.program("sh", &["-c", &format!("exec 2>&1\n{script}")]).behind(&words);
        let cmd = cmd.without_changing_user().folder(&self.folder);
        let cmd = cmd
            .var("PATH", &format!("{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        self.values.iter().fold(cmd, |cmd, (name, value)| cmd.var(name, value))
    }

    fn play(&mut self, scene: &Scene<'_>) {
        let begun = Instant::now();
        match scene.how {
            How::Once => {
                let outcome = self.cmd(&scene.command).output();
                match self.found(scene, &outcome) {
                    Ok(values) => self.values = values,
                    Err(at) => self.fail(scene, at, &outcome.both, outcome.code),
                }
            }
            How::Until => loop {
                let outcome = self.cmd(&scene.command).output();
                match self.found(scene, &outcome) {
                    Ok(values) => break self.values = values,
                    Err(at) if begun.elapsed() > PATIENCE => {
                        self.fail(scene, at, &outcome.both, outcome.code)
                    }
                    Err(_) => std::thread::yield_now(),
                }
            },
            How::Stays => {
                let job = self.cmd(&format!("exec {}", scene.command)).spawn();
                loop {
                    let (ended, said) = (job.ended(), job.said());
                    match compare(&scene.expected, &lines(&said), &self.values) {
                        Ok(values) => break self.values = values,
                        Err(at) if ended || begun.elapsed() > PATIENCE => self.fail(scene, at, &said, None),
                        Err(_) => std::thread::yield_now(),
                    }
                }
                self.staying.push(job);
            }
        }
    }

    /// Tells whether a command did what it must; an error is the number of lines that were right.
    fn found(&self, scene: &Scene<'_>, outcome: &Outcome) -> Result<Values, usize> {
        let values = compare(&scene.expected, &lines(&outcome.both), &self.values)?;
        if outcome.code == Some(scene.code) { Ok(values) } else { Err(scene.expected.len()) }
    }

    fn fail(&self, scene: &Scene<'_>, at: usize, got: &str, code: Option<i32>) -> ! {
        let first = scene.expected.get(at).map_or_else(
            || format!("all expected lines are there, then others, or not exit code {}", scene.code),
            |line| format!("not found: {line}"),
        );
        let indent = |lines: &[&str]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
        panic!(
            "{}:{}: {}\n  expected:\n{}  got (exit code {code:?}):\n{}  {first}\n  known: {:?}",
            self.file,
            scene.line,
            scene.command,
            indent(&scene.expected),
            indent(&lines(got)),
            self.values
        );
    }
}

/// The lines of an output, without the blanks that end them.
fn lines(output: &str) -> Vec<&str> {
    output.lines().map(str::trim_end).collect()
}

impl Drop for Stage<'_> {
    /// Ends what the story's containers still do, so that the place can be removed.
    fn drop(&mut self) {
        let Ok(folders) = std::fs::read_dir(self.env.store().join("v1/containers")) else { return };
        for folder in folders.flatten() {
            let id = folder.file_name().to_string_lossy().into_owned();
            self.env.rbuild(&["rm", "-f", &id]).output();
        }
    }
}

#[test]
fn stories_are_read() {
    let text = "# About\n\n$ echo a\n> echo b\na\n> b\n\n$~ cat\n...\n[exit 3]\n# more\n$& cat\n";
    let read = scenes("f", text);
    let commands: Vec<_> =
        read.iter().map(|scene| (scene.line, scene.command.as_str(), scene.code)).collect();
    assert_eq!(commands, [(3, "echo a\necho b", 0), (8, "cat", 3), (12, "cat", 0)]);
    assert_eq!(read[0].expected, ["a", "> b"]);
    assert!(read[1].how == How::Until && read[2].how == How::Stays && read[2].expected.is_empty());
}
