//! Holds a container's processes still: for a user (`pause`), and for whoever reads its files meanwhile.
//!
//! Not here: how that is done (`files::freeze`).

use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Live, Shared};
use crate::container::control::Reply;
use crate::container::files::Freeze;
use crate::container::state::Status;
use crate::report::chain;

/// Holds all processes still until a user lets them go, or the container is to end.
pub(super) fn pause(shared: &Shared) -> Reply {
    if shared.live().paused.is_some() {
        return Reply::Refused(format!("Container {} is already paused", shared.kept.id));
    }
    match freeze(shared) {
        Ok((_, live)) if live.last => Reply::Refused(format!("Container {} is to end", shared.kept.id)),
        Ok((freeze, mut live)) => {
            live.paused = Some(freeze);
            live.state.status = Status::Paused;
            let _ = live.state.keep(&shared.store, &shared.kept.id);
            Reply::Done
        }
        Err(why) => Reply::Refused(why),
    }
}

/// Lets go what a user holds still.
pub(super) fn unpause(shared: &Shared) -> Reply {
    let mut live = shared.live();
    if live.paused.is_none() {
        return Reply::Refused(format!("Container {} is not paused", shared.kept.id));
    }
    let_go(shared, &mut live);
    shared.changed.notify_all();
    Reply::Done
}

/// Lets go what a user holds still, where one does.
pub(super) fn let_go(shared: &Shared, live: &mut Live) {
    if live.paused.take().is_some() {
        live.state.status = Status::Running;
        let _ = live.state.keep(&shared.store, &shared.kept.id);
    }
}

/// Holds all processes still for as long as `held` is kept.
pub(super) fn hold(shared: &Shared, held: &mut Option<Arc<Freeze>>) -> Reply {
    match freeze(shared) {
        Ok((freeze, _)) => {
            *held = Some(freeze);
            Reply::Done
        }
        Err(why) => Reply::Refused(why),
    }
}

/// Holds all processes still. Where somebody does already it is shared: one that found them stopped would
/// not know that they are to be let go.
fn freeze(shared: &Shared) -> Result<(Arc<Freeze>, MutexGuard<'_, Live>), String> {
    let id = &shared.kept.id;
    let running = {
        let live = shared.live();
        if live.state.status == Status::Restarting {
            return Err(format!("Container {id} is restarting, wait until the container is running"));
        }
        live.running.clone()
    };
    let gone = || format!("Container {id} is not running");
    let running = running.ok_or_else(gone)?;
    let pid = running.pid().ok_or_else(gone)?;
    // One after another: two at once would each have stopped some. Not under the lock of what happens: a
    // process that waits for a disk takes its time.
    let mut shared_freeze = shared.freeze.lock().unwrap_or_else(PoisonError::into_inner);
    let freeze = match (shared_freeze.0 == pid, shared_freeze.1.upgrade()) {
        (true, Some(freeze)) => freeze,
        _ => Arc::new(Freeze::new(pid).map_err(|error| chain(&error))?),
    };
    *shared_freeze = (pid, Arc::downgrade(&freeze));
    let live = shared.live();
    match live.running.as_ref().is_some_and(|now| Arc::ptr_eq(now, &running)) {
        true => Ok((freeze, live)),
        false => Err(gone()),
    }
}
