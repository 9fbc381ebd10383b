//! The supervisor: our own program again, one process for each container that runs.
//!
//! It loads and prepares what every container needs (`prepare`) while the client still makes the container;
//! then it holds the container's lock, starts its program (`launch`) in its network (`connection`), keeps its
//! streams (`streams`), hears clients (`clients`), holds it still (`pause`), and starts it again as its policy says
//! (`life`). It reads no environment: all it
//! needs comes as an [`Order`]. When it is killed, the sandbox's helper ends and with it every process of
//! the container. Decision 028. Not here: who starts it (`start`), what is said to it (`control`).

mod clients;
mod connection;
mod exec;
mod health;
mod launch;
mod life;
mod pause;
mod prepare;
mod streams;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::control::{Connection, Failure, Reply, Request};
use super::files::Freeze;
use super::settings::Settings;
use super::state::State;
use crate::report::chain;
use crate::sandbox::{LazyLauncher, Running, TerminalSize};
use crate::store::{ContainerId, KeptContainer, Store, StoreOptions};
use crate::sys::{OverlayXattrs, Snapshotter, title};
use prepare::Prepared;
use streams::Streams;

/// The name (argument 0) that asks this program to be a supervisor.
pub const SUPERVISOR_NAME: &str = "rbuild-container";
/// How many bytes of arguments a supervisor is started with beside its own: its container's name comes there.
pub const NAME_ROOM: usize = 64;

/// What a supervisor can do before it knows its container; the first message on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Preparation {
    /// A PATH value: where programs are looked for.
    pub path: String,
    /// Whether there are no namespaces here.
    pub chroot: bool,
    /// Whether the container will likely have a private network.
    pub network: bool,
}

/// What a supervisor needs to know of its container; the second message.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub id: ContainerId,
    /// What the container is called now.
    pub name: String,
    pub store_root: PathBuf,
    pub xattrs: OverlayXattrs,
    pub sync: bool,
    /// The name of a snapshotter, where the user asked for one.
    pub snapshotter: Option<String>,
    /// The host's /etc/resolv.conf.
    pub resolv_conf: String,
    /// Whether a request to attach follows, to be heard before the program starts.
    pub attached: bool,
    /// The size of the terminal, where the container has one.
    pub terminal: TerminalSize,
}

/// What the threads of a supervisor share.
struct Shared {
    store: Store,
    kept: KeptContainer,
    settings: Settings,
    launcher: Arc<LazyLauncher>,
    streams: Streams,
    live: Mutex<Live>,
    /// Those who hold the processes of the program with this number still share it: who lets go last lets
    /// them run.
    freeze: Mutex<(u32, Weak<Freeze>)>,
    /// Rung when `live` changes.
    changed: Condvar,
}

/// What happens right now.
#[derive(Default)]
struct Live {
    state: State,
    running: Option<Arc<Running>>,
    /// Its processes are held still for as long as a user wants.
    paused: Option<Arc<Freeze>>,
    size: Option<TerminalSize>,
    /// It is not to be started again.
    last: bool,
    /// Threads that pass on what the program writes.
    pumps: usize,
    /// How often its program has ended.
    ends: u64,
    /// Nothing more will happen.
    over: bool,
    /// Requests that are being answered.
    busy: usize,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what happens, and tells all who wait for that.
    fn change<T>(&self, change: impl FnOnce(&mut Live) -> T) -> T {
        let result = change(&mut self.live());
        self.changed.notify_all();
        result
    }

    /// Waits for the next change.
    fn wait<'a>(&self, live: MutexGuard<'a, Live>) -> MutexGuard<'a, Live> {
        self.changed.wait(live).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Becomes a supervisor when this process was started as one; returns the code to exit with.
///
/// Must be called before anything else is done in main.
pub fn run_supervisor_if_asked() -> Option<ExitCode> {
    if std::env::args_os().next()? != SUPERVISOR_NAME {
        return None;
    }
    title::set_name(SUPERVISOR_NAME);
    Some(match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn supervise() -> io::Result<()> {
    // A terminal's signals are for the client; it tells us of them.
    let _ = rustix::process::setsid();
    // Whatever else was open where we were started is none of a container's: a pipe would never end.
    crate::sys::process::close_all_from(3)?;
    let starter = Connection::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    // The connection must end when we say so.
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let Some((preparation, _)) = starter.receive::<Preparation>()? else { return Ok(()) };
    let prepared = Prepared::begin(preparation);
    // Without one: the container was not made, for whatever reason.
    let Some((order, _)) = starter.receive::<Order>()? else { return Ok(()) };
    // For whoever looks at the list of processes.
    let _ = title::set_arguments(&[SUPERVISOR_NAME, &order.name]);
    let attach = match order.attached {
        true => starter.receive::<Request>()?,
        false => None,
    };
    match life::live(order, prepared, &starter, attach) {
        Ok(()) => Ok(()),
        Err(failure) => starter.send(&Reply::Failed(*failure), &[]),
    }
}

/// Makes the answer to who started it of an error before anything ran.
fn refuse(error: &(dyn std::error::Error + 'static)) -> Box<Failure> {
    Box::new(Failure { message: chain(error), hints: Vec::new(), exit_code: 125 })
}

fn open_store(order: &Order, path: &str) -> Result<Store, Box<Failure>> {
    let options = StoreOptions { xattrs: order.xattrs, sync: order.sync };
    let store = Store::open(&order.store_root, options).map_err(|error| refuse(&error))?;
    let wish = order.snapshotter.as_deref().and_then(Snapshotter::parse);
    store.use_snapshotter(wish, path.to_owned());
    Ok(store)
}
