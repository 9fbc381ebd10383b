//! Builds that start by themselves: from git hooks, and from a server that is told of pushes.
//!
//! `hook` writes hooks into repositories and does what they ask for; `serve` is the server. Both start
//! `rbuild build` and `rbuild push` as programs of their own (`child`), so that a build that is cancelled,
//! killed or out of memory takes nothing else with it. `git` and `checkout` read repositories of this
//! machine. Not here: building (`build`), repositories elsewhere (`context`), pages (`draw`).

mod checkout;
mod child;
mod error;
mod git;
pub mod hook;
pub mod serve;

pub use error::ServiceError;
