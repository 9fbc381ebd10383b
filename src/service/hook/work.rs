//! The worker: builds what waits in a repository's queue, one commit after another, and pushes it.
//!
//! It is a process of its own that nothing of the commit reaches: another session, no terminal, none of the
//! variables that git sets for hooks.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::log::{LOG_LIMIT, Log, Tail};
use super::queue::{Last, Order, Queue};
use crate::service::ServiceError;
use crate::service::checkout::{self, Checkout};
use crate::service::child::{End, Start};
use crate::service::git::LocalGit;
use crate::sys::spawn;

/// Starts a worker, unless there is one: who holds the lock looks at the queue once more after it.
///
/// `program` is rbuild, `hidden` are the variables that no build is to see.
pub fn start(queue: &Queue, program: &Path, hidden: &[OsString]) -> Result<(), ServiceError> {
    if queue.try_lock()?.is_none() {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.args(["hook", "work"]).arg(&queue.folder).current_dir(&queue.folder);
    for name in hidden {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn::own_session(&mut command);
    command.spawn().map_err(ServiceError::at("start", program))?;
    Ok(())
}

/// Builds until nothing waits. Where another worker is at it, it does nothing.
pub fn work(queue: &Queue, program: &Path, hidden: &[OsString]) -> Result<(), ServiceError> {
    loop {
        let Some(lock) = queue.try_lock()? else { return Ok(()) };
        let path = queue.log();
        let mut log = Log::open(&path, LOG_LIMIT).map_err(ServiceError::at("write", &path))?;
        let worker = Worker { queue, program, hidden };
        while let Some((name, order)) = worker.next(&mut log)? {
            worker.one(&order, &mut log);
            queue.remove(&name);
        }
        drop(lock);
        if queue.is_empty()? {
            return Ok(());
        }
    }
}

struct Worker<'a> {
    queue: &'a Queue,
    program: &'a Path,
    hidden: &'a [OsString],
}

impl Worker<'_> {
    /// Returns what is to be built now; drops what a newer one makes unwanted.
    fn next(&self, log: &mut Log) -> Result<Option<(OsString, Order)>, ServiceError> {
        let mut orders = self.queue.orders()?;
        if let Some(last) = orders.iter().rposition(|(_, order)| order.latest_only) {
            for (name, order) in orders.drain(..last) {
                log.note(&format!("{}: not built, since there is a newer commit", order.short));
                self.queue.remove(&name);
            }
        }
        Ok(if orders.is_empty() { None } else { Some(orders.swap_remove(0)) })
    }

    /// Builds one commit, and keeps what came of it.
    fn one(&self, order: &Order, log: &mut Log) {
        let started = Instant::now();
        let image = format!("{}:{}", order.name, order.short);
        log.note(&format!("{}: building {image}", order.short));
        let error = self.build(order, &image, log).err();
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let seconds = milliseconds as f64 / 1000.0;
        match &error {
            None => log.note(&format!("{}: finished in {seconds:.1} s", order.short)),
            Some(error) => log.note(&format!("{}: failed after {seconds:.1} s: {error}", order.short)),
        }
        let ended = jiff::Timestamp::now().as_second();
        self.queue.keep_last(&Last { short: order.short.clone(), image, error, milliseconds, ended });
    }

    fn build(&self, order: &Order, image: &str, log: &mut Log) -> Result<(), String> {
        let words = |error: ServiceError| match error.hint() {
            None => crate::report::chain(&error),
            Some(hint) => format!("{} ({hint})", crate::report::chain(&error)),
        };
        let top = self.files(order).map_err(words)?;
        let inside = |path: &Path| match path.is_absolute() {
            true => Ok(path.to_owned()),
            // The user's own work tree may have links where it likes.
            false if order.work_tree => Ok(top.join(path)),
            false => checkout::inside(&top, path).map_err(words),
        };
        let pushed = order.push.as_ref().map(|name| format!("{name}:{}", order.short));
        let mut build: Vec<OsString> = order.globals.iter().map(|word| word.0.clone()).collect();
        let globals = build.clone();
        build.extend(["build", "--progress=plain", "-t", image].map(OsString::from));
        if let Some(pushed) = pushed.as_ref().filter(|pushed| *pushed != image) {
            build.extend(["-t".into(), pushed.into()]);
        }
        if let Some(file) = &order.file {
            build.extend(["-f".into(), inside(file.as_ref())?.into_os_string()]);
        }
        build.extend(["--".into(), inside(order.context.as_ref())?.into_os_string()]);
        if order.work_tree {
            // The log may lie in the context, where nothing may change while it is copied.
            let mut tail = Tail::default();
            let done = self.run("the build", &build, &top, &mut tail);
            tail.write_to(log);
            done?;
        } else {
            self.run("the build", &build, &top, log)?;
        }
        let Some(pushed) = pushed else { return Ok(()) };
        log.note(&format!("{}: pushing {pushed}", order.short));
        self.run("the push", &[globals, vec!["push".into(), pushed.into()]].concat(), &top, log)
    }

    /// Returns the folder with the files to build.
    fn files(&self, order: &Order) -> Result<PathBuf, ServiceError> {
        if order.work_tree {
            return Ok(PathBuf::from(&order.top.0));
        }
        let git = LocalGit {
            git_dir: Some(PathBuf::from(&order.git_dir.0)),
            hidden: self.hidden.to_vec(),
            ..LocalGit::default()
        };
        Checkout::at(self.queue.folder.join("checkout")).update(&git, &order.commit)
    }

    fn run(
        &self,
        what: &str,
        arguments: &[OsString],
        folder: &Path,
        output: &mut (dyn Write + Send),
    ) -> Result<(), String> {
        let start =
            Start { program: self.program, arguments, folder: folder.to_owned(), hidden: self.hidden };
        match start.run(output, &mut |_| {}, &|| false) {
            Ok(End::Success) => Ok(()),
            Ok(End::Code(code)) => Err(format!("{what} ended with exit code {code}")),
            Ok(End::Signal(signal)) => Err(format!("{what} was killed by signal {signal}")),
            Ok(End::Stopped) => Err(format!("{what} was stopped")),
            Err(error) => Err(no_start(what, &error)),
        }
    }
}

fn no_start(what: &str, error: &io::Error) -> String {
    format!("{what} could not be done: {error}")
}
