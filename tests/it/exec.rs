//! `rbuild exec` and `top`: further processes in a container that runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::common::{Outcome, TestEnv};

/// A container that runs until this is dropped.
pub struct Up<'e> {
    env: &'e TestEnv,
    pub id: String,
}

impl<'e> Up<'e> {
    /// Starts one, with these options before the image and these words after it.
    #[track_caller]
    pub fn start(env: &'e TestEnv, options: &[&str], image: &str, command: &[&str]) -> Up<'e> {
        let args = [&["run", "-d"], options, &[image], command].concat();
        let id = env.rbuild(&args).ok().stdout.trim().to_owned();
        Up { env, id }
    }

    /// Starts one that does nothing.
    #[track_caller]
    pub fn idle(env: &'e TestEnv, options: &[&str]) -> Up<'e> {
        env.busybox();
        Up::start(env, options, "busybox:test", &["sleep", "86400"])
    }

    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        let at = args.iter().position(|arg| *arg == "@").expect("an @ stands for the container");
        let args = [&["exec"], &args[..at], &[self.id.as_str()], &args[at + 1..]].concat();
        self.env.rbuild(&args).output()
    }

    /// Runs a shell script in it, which must succeed, and returns what that printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["@", "sh", "-c", script]).ok().stdout
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.env.rbuild(&["rm", "-f", &self.id]).output();
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came to be that {what}");
        std::thread::yield_now();
    }
}

both! {
    fn a_command_in_a_container(env) {
        let up = Up::idle(env, &["-e", "A=own", "-w", "/tmp", "--name", "web"]);
        let outcome = up.exec(&["@", "sh", "-c", "echo out; echo err >&2; exit 3"]).exits(3);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
        up.exec(&["@", "sh", "-c", "kill -TERM $$"]).exits(143);
        env.rbuild(&["exec", "-i", "web", "cat"]).stdin("typed\n").ok().prints("typed\n");
        env.rbuild(&["container", "exec", &up.id[..12], "cat"]).stdin("not typed\n").ok().prints("");
        assert_eq!(up.exec(&["@", "head", "-c", "3000000", "/dev/zero"]).ok().stdout.len(), 3_000_000);

        // It is in the container: of its name, its processes, its files.
        assert_eq!(up.sh("cat /proc/1/cmdline | tr '\\0' ' '; hostname; touch /x"), format!("sleep 86400 {}\n", &up.id[..12]));
        let seen = "for n in mnt pid net ipc uts cgroup; do [ /proc/1/ns/$n -ef /proc/self/ns/$n ] || echo $n; done";
        assert_eq!(up.sh(seen), "");
        assert_eq!(up.sh("ls /x; pwd; echo $A $HOME; ls /proc/self/fd | tr '\\n' ' '"), "/x\n/tmp\nown /root\n0 1 2 3 ");

        let file = env.context().file("env", "# a comment\nB=file\nA=file\n");
        let show = ["@", "sh", "-c", "echo $(id -u):$(id -g) $(id -G) $PWD $A $B $HOME"];
        up.exec(&[&["-u", "app", "-w", "/etc", "-e", "A=1", "--env-file", &file.at("env")], &show[..]].concat())
            .ok()
            .has(" /etc 1 file /home/app\n");
        up.exec(&[&["-u", "7:8"], &show[..]].concat()).ok().prints("7:8 8 /tmp own /\n");
        let refused = up.exec(&["@", "mount", "-t", "tmpfs", "none", "/tmp"]).fails();
        assert!(refused.stderr.contains("permi"), "{}", refused.stderr);
        up.exec(&["--privileged", "@", "mount", "-t", "tmpfs", "none", "/tmp"]).ok();
    }

    fn what_cannot_be_executed(env) {
        let up = Up::idle(env, &[]);
        up.exec(&["@", "no-such"]).exits(127).has("exec: \"no-such\": executable file not found in $PATH");
        up.exec(&["@", "/no/such"]).exits(127).has("no such file or directory");
        up.exec(&["@", "/etc/passwd"]).exits(126).has("permission denied");
        up.exec(&["-w", "/no/such", "@", "true"]).exits(126).has("/no/such");
        up.exec(&["-w", "tmp", "@", "true"]).exits(126).has("Cwd must be an absolute path");
        up.exec(&["-u", "nosuch", "@", "true"]).exits(126).has("unable to find user");
        up.exec(&["-it", "@", "true"]).exits(1).has("the input device is not a TTY");
        up.exec(&["-e", "=x", "@", "true"]).fails().has("invalid environment variable: =x");
        env.rbuild(&["exec", "nosuch", "true"]).exits(1).has("No such container: nosuch");
        env.rbuild(&["exec", &up.id]).exits(2);
        env.rbuild(&["kill", &up.id]).ok();
        env.rbuild(&["wait", &up.id]).ok();
        let not = format!("Container {} is not running", up.id);
        up.exec(&["@", "true"]).exits(1).has(&not);
        env.rbuild(&["top", &up.id]).exits(1).has(&not);
    }

    fn a_command_line_as_long_as_the_kernel_takes(env) {
        let up = Up::idle(env, &[]);
        let long = "\u{1}".repeat(100_000);
        let words = ["@", "sh", "-c", "echo $# ${#1}", "sh"].into_iter().chain(std::iter::repeat_n(long.as_str(), 9));
        up.exec(&words.collect::<Vec<_>>()).ok().prints("9 100000\n");
    }

    fn what_it_leaves_behind_is_not_waited_for(env) {
        let up = Up::idle(env, &[]);
        let outcome = env.rbuild(&["exec", &up.id, "sh", "-c", "echo mine; yes & exit 3"]).exits(3);
        assert!(outcome.stdout.starts_with("mine\n"), "{}", &outcome.stdout[..outcome.stdout.len().min(80)]);
    }

    fn it_hears_signals_and_outlives_its_client(env) {
        let up = Up::idle(env, &[]);
        let script = "trap 'echo got-it; exit 7' TERM; echo rea''dy; sleep 86400 & wait";
        let job = env.rbuild(&["exec", &up.id, "sh", "-c", script]).spawn();
        job.wait_for("ready\n");
        job.signal(Signal::TERM);
        job.finish().exits(7).has("got-it");

        let script = "echo rea''dy; until [ -e /go ]; do sleep 0.01; done; head -c 300000 /dev/zero && touch /done";
        let job = env.rbuild(&["exec", &up.id, "sh", "-c", script]).spawn();
        job.wait_for("ready\n");
        job.signal(Signal::KILL);
        // Its outputs end: nobody keeps them.
        job.finish();
        up.sh("touch /go");
        until("it goes on", || up.exec(&["@", "test", "-e", "/done"]).code == Some(0));

        up.exec(&["-d", "@", "sh", "-c", "echo said; touch /detached"]).ok().prints("");
        until("it has run", || up.exec(&["@", "test", "-e", "/detached"]).code == Some(0));
        up.exec(&["-d", "@", "no-such"]).exits(127);
        // Who leaves something behind is not waited for.
        up.exec(&["@", "sh", "-c", "sleep 86400 & echo left"]).ok().prints("left\n");

        let job = env.rbuild(&["exec", &up.id, "sh", "-c", "echo rea''dy; exec sleep 86400"]).spawn();
        job.wait_for("ready\n");
        env.rbuild(&["kill", &up.id]).ok();
        job.finish().exits(137);
    }

    fn it_has_a_terminal(env) {
        let up = Up::idle(env, &[]);
        up.exec(&["-t", "@", "sh", "-c", "tty; test -t 2 && echo $TERM"]).ok().prints("/dev/pts/0\r\nxterm\r\n");
        let exe = env.exe();
        let line = format!("stty rows 33 cols 44; {} --root {} exec -it {} sh", exe.display(), env.store().display(), up.id);
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.write(b"echo rea''dy; stty size\n");
        job.wait_for("33 44");
        // Left, it goes on; and its end is not ours.
        job.write(b"sleep 5''432\n\x10\x11");
        job.wait_for("read escape sequence");
        job.finish().ok();
        until("it sleeps", || env.rbuild(&["top", &up.id]).ok().stdout.contains("sleep 5432"));
    }

    fn top_shows_the_processes(env) {
        let up = Up::idle(env, &[]);
        up.exec(&["-d", "@", "sleep", "1234"]).ok();
        let check = |text: &str, titles: &[&str]| {
            let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!(lines[0], titles, "{text}");
            let last: Vec<String> = lines[1..].iter().map(|line| line[titles.len() - 1..].join(" ")).collect();
            assert_eq!(last, ["sleep 86400", "sleep 1234"], "{text}");
        };
        let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        let own = env.rbuild(&["top", &up.id]).ok().stdout;
        check(&own, &titles);
        assert!(own.starts_with("UID                 PID                 PPID                C "), "{own}");
        assert!(own.lines().nth(1).unwrap().starts_with("root "), "{own}");
        // What the machine's ps says of the same.
        check(&env.rbuild(&["container", "top", &up.id, "-eo", "pid,args"]).ok().stdout, &["PID", "COMMAND"]);
        env.rbuild(&["top", &up.id, "-eo", "comm"]).exits(1).has("Couldn't find PID field in ps output");
        env.rbuild(&["top", &up.id, "--no-such-option"]).exits(1).has("error running ps");
    }
}
