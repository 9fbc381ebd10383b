//! The life of a container: started, waited for, started again or not, and cleared away.
//!
//! Not here: how its program is started (`launch`).

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::clients::{accept_all, attach, hear, stop, thread};
use super::health;
use super::launch::{Launched, Launcher};
use super::prepare::Prepared;
use super::streams::{Streams, pump};
use super::{Live, Order, Shared, open_store, refuse};
use crate::container::ContainerError;
use crate::container::control::{self, Connection, Failure, Reply, Request};
use crate::container::log::{LogWriter, Stream};
use crate::container::mounts;
use crate::container::settings::Settings;
use crate::container::state::{State, Status};
use crate::report::chain;
use crate::sandbox::Exit;
use crate::store::{ContainerLock, StoreError};

/// How long is waited before a container is started again the first time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran so long starts anew without having failed.
const RAN_WELL: Duration = Duration::from_secs(10);
/// How long answers may take after the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Lives until the container has ended for good. Errors: nothing was started.
pub(super) fn live(
    order: Order,
    prepared: Prepared,
    starter: &Connection,
    attached: Option<(Request, Vec<std::os::fd::OwnedFd>)>,
) -> Result<(), Box<Failure>> {
    let Prepared { path, launcher, networks, network } = prepared;
    let store = open_store(&order, &path)?;
    let found = store.container(&order.id).map_err(|error| refuse(&error))?;
    let gone = || refuse(&crate::store::StoreError::NoContainer(order.id.short().to_owned()));
    let kept = found.ok_or_else(gone)?;
    let settings = Settings::of(&kept).map_err(|error| refuse(&error))?;
    let lock = store.lock_container(&order.id).map_err(|error| refuse(&error))?;
    let lock = lock.ok_or_else(|| Box::new(already_runs(&kept.name)))?;
    let directory = store.container_dir(&order.id);
    let log = LogWriter::open(&directory.join("log"), &settings.log).map_err(|error| refuse(&error))?;
    let listener = control::listen(&directory).map_err(|error| refuse(&error))?;
    let before = State::settle(&store, &order.id).unwrap_or_default();
    let first_time = before.started.is_none();
    let shared = Arc::new(Shared {
        store,
        kept,
        settings,
        launcher,
        streams: Streams::new(log),
        live: Mutex::new(Live { size: Some(order.terminal), ..Live::default() }),
        freeze: Mutex::default(),
        changed: Condvar::new(),
    });
    let number = attached.and_then(|(request, fds)| attach(&shared, starter, &request, fds));
    let mut starts = Launcher::new(&shared, &networks, network, order.resolv_conf, first_time);
    let launched = match starts.launch() {
        Ok(launched) => launched,
        Err(failure) => {
            never_started(&shared, before, &failure);
            // It hears of the failure, and of nothing else.
            number.inspect(|number| shared.streams.detach(*number));
            end(&shared, lock);
            return Err(Box::new(failure));
        }
    };
    if let Err(error) = begin(&shared, &launched, &mut starts) {
        let failure = *refuse(&error);
        give_up(&shared, launched, &starts);
        never_started(&shared, before, &failure);
        number.inspect(|number| shared.streams.detach(*number));
        end(&shared, lock);
        return Err(Box::new(failure));
    }
    let mut warnings = starts.warnings();
    let heard = accept_all(shared.clone(), listener);
    if let Err(error) = heard.and_then(|()| end_on_signals(&shared)) {
        // Nobody could end it.
        shared.change(|live| live.last = true);
        let _ = launched.running.kill();
        let what = "cannot listen for what it is told".to_owned();
        warnings.push(chain(&ContainerError::Io { what, source: error }));
    }
    let _ = starter.send(&Reply::Started { warnings }, &[]);
    if let Ok(starter) = starter.try_clone() {
        let shared = shared.clone();
        // Where no thread is left it hears of the end all the same.
        let _ = thread(move || hear(&shared, &starter, number));
    }
    go_on(&shared, launched, &mut starts);
    starts.leave();
    end(&shared, lock);
    Ok(())
}

fn already_runs(name: &str) -> Failure {
    Failure { message: format!("container {name} is running already"), hints: Vec::new(), exit_code: 125 }
}

/// Notes a first start that failed.
fn never_started(shared: &Shared, before: State, failure: &Failure) {
    shared.change(|live| {
        live.state = State {
            status: if before.started.is_some() { Status::Exited } else { Status::Created },
            exit_code: i32::from(failure.exit_code),
            error: failure.message.clone(),
            ..before
        };
    });
}

/// Notes that the program runs. Where that cannot be kept nobody would know, and it must not go on.
fn begin(shared: &Arc<Shared>, launched: &Launched, starts: &mut Launcher<'_>) -> Result<(), StoreError> {
    let ports = starts.ports();
    shared.change(|live| {
        let restarts = live.state.restarts;
        let health = health::at_start(shared, live.state.health.as_ref());
        live.state = State {
            status: Status::Running,
            pid: launched.running.pid(),
            started: Some(Timestamp::now()),
            restarts,
            ports,
            health,
            ..State::default()
        };
        live.running = Some(launched.running.clone());
        live.state.keep(&shared.store, &shared.kept.id)
    })?;
    health::watch(shared, &launched.running);
    Ok(())
}

/// Ends a program of which nothing could be noted.
fn give_up(shared: &Arc<Shared>, launched: Launched, starts: &Launcher<'_>) {
    shared.change(|live| live.running = None);
    let _ = launched.running.kill();
    let _ = launched.running.wait();
    let _ = starts.finish(launched);
}

/// Waits for the program's end, and starts it again for as long as its policy says so.
fn go_on(shared: &Arc<Shared>, mut launched: Launched, starts: &mut Launcher<'_>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let mut trouble = None;
        for (from, stream) in
            [(launched.stdout.take(), Stream::Stdout), (launched.stderr.take(), Stream::Stderr)]
        {
            let Some(from) = from else { continue };
            if let Err(source) = pump(shared, &launched.running, from, stream) {
                let what = "cannot pass on what it writes".to_owned();
                trouble = Some(chain(&ContainerError::Io { what, source }));
                let _ = launched.running.kill();
            }
        }
        let exit = launched.running.wait();
        pass_on_the_rest(shared, exit.as_ref().ok());
        shared.streams.end_log();
        shared.streams.set_input(None);
        let trouble = starts.finish(launched).or(trouble);
        let again = shared.change(|live| {
            live.running = None;
            live.paused = None;
            health::at_end(live);
            live.state.pid = None;
            live.state.finished = Some(Timestamp::now());
            match &exit {
                Ok(exit) => {
                    live.state.exit_code = exit.code();
                    live.state.out_of_memory = *exit == Exit::OutOfMemory;
                }
                Err(error) => {
                    live.state.exit_code = 128 + crate::container::signal::KILL;
                    live.state.error = crate::report::chain(error);
                }
            }
            if let Some(trouble) = trouble {
                live.state.error = trouble;
            }
            let again =
                !live.last && shared.settings.restart.again(live.state.exit_code, live.state.restarts);
            live.state.status = if again { Status::Restarting } else { Status::Exited };
            if again {
                live.state.restarts += 1;
                live.ends += 1;
                let _ = live.state.keep(&shared.store, &shared.kept.id);
                shared.streams.ended(live.state.exit_code, live.state.out_of_memory);
            }
            again
        });
        if !again {
            return;
        }
        pause = if begun.elapsed() >= RAN_WELL { FIRST_PAUSE } else { pause };
        if !rest(shared, pause) {
            shared.change(|live| live.state.status = Status::Exited);
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        launched = match starts.launch() {
            Ok(launched) => launched,
            Err(failure) => {
                shared.change(|live| {
                    live.state.status = Status::Exited;
                    live.state.exit_code = i32::from(failure.exit_code);
                    live.state.error = failure.message;
                });
                return;
            }
        };
        if let Err(error) = begin(shared, &launched, starts) {
            give_up(shared, launched, starts);
            shared.change(|live| {
                live.state.status = Status::Exited;
                live.state.pid = None;
                live.state.exit_code = i32::from(refuse(&error).exit_code);
                live.state.error = chain(&error);
            });
            return;
        }
        // Who asked for its end meanwhile found nothing that runs.
        if shared.live().last {
            let _ = launched.running.signal(shared.settings.stop_signal);
        }
    }
}

/// Waits until all that the program wrote is passed on. When the container is to end for good, clients that
/// take nothing are not waited for long.
fn pass_on_the_rest(shared: &Shared, exit: Option<&Exit>) {
    let mut patience = None;
    let mut live = shared.live();
    while live.pumps > 0 {
        if !live.last {
            live = shared.wait(live);
            continue;
        }
        let until: Instant = *patience.get_or_insert_with(|| Instant::now() + LAST_WORDS);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let code = exit.map_or(128 + crate::container::signal::KILL, |exit| exit.code());
            shared.streams.abandon(code, exit == Some(&Exit::OutOfMemory));
            live = shared.wait(live);
            continue;
        }
        live = match shared.changed.wait_timeout(live, left) {
            Ok((live, _)) => live,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Waits before the next start; returns whether there is to be one.
fn rest(shared: &Shared, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    let mut live = shared.live();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if live.last || left.is_zero() {
            return !live.last;
        }
        live = match shared.changed.wait_timeout(live, left) {
            Ok((live, _)) => live,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Keeps the last state or removes the container, lets go of it, and then tells all who wait.
fn end(shared: &Arc<Shared>, lock: ContainerLock) {
    // It takes its time to end; meanwhile the rest is cleared away.
    shared.launcher.end();
    let mut state = shared.live().state.clone();
    state.ports.clear();
    if shared.settings.auto_remove {
        if let Err(error) = shared.store.remove_container(&shared.kept, lock) {
            state.error = crate::report::chain(&error);
            let _ = state.keep(&shared.store, &shared.kept.id);
        }
        // What cannot be removed is left to `volume prune`.
        let _ = mounts::remove_anonymous(&shared.store, &shared.settings.mounts);
    } else {
        let _ = state.keep(&shared.store, &shared.kept.id);
        drop(lock);
    }
    shared.store.close();
    let until = Instant::now() + LAST_WORDS;
    let mut live = shared.live();
    live.over = true;
    live.ends += 1;
    shared.streams.ended(state.exit_code, state.out_of_memory);
    shared.changed.notify_all();
    // Those whose answer is under way get it.
    while live.busy > 0 && Instant::now() < until {
        live = match shared.changed.wait_timeout(live, until.saturating_duration_since(Instant::now())) {
            Ok((live, _)) => live,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Ends the container when the machine does.
fn end_on_signals(shared: &Arc<Shared>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let shared = shared.clone();
    thread(move || {
        if signals.forever().next().is_some() {
            stop(&shared, None, None, false);
        }
    })
}
