//! Images from git hooks: a hook that hands over each commit, and a worker that builds them one by one.
//!
//! `place` finds the repository, `install` and `script` write the hook, `queue` holds what is to be built,
//! `work` builds it, `log` keeps what was said. All that is kept lies in the folder `rbuild` of the
//! repository's git directory. Not here: the server (`serve`).

mod install;
mod log;
mod place;
mod queue;
mod script;
mod work;

pub use install::{Found, HookState, Kept, install, look, uninstall};
pub use log::{Follow, LOG_LIMIT};
pub use place::{Moment, Place, name_of_folder};
pub use queue::{Last, Order, Queue, Word};
pub use script::{Hook, Kind};
pub use work::{start, work};
