//! The server that builds what is pushed: it is told of pushes over HTTP, builds what its rules say, and shows
//! what came of it.
//!
//! `config` reads what is to be built, `rules` say which branches and tags become which images. `verify` decides
//! who may start a build, `payload` and `names` what of a request counts. `record` is what is known of a build,
//! `books` keeps all of them on disk, `service` is the queue, `run` does one build, `http` answers, `pages` draws.
//! Not here: TLS and addresses to listen on are the caller's words (`cli`).

mod bodies;
mod books;
mod config;
mod http;
mod listen;
mod log;
mod names;
mod pages;
mod payload;
mod rate;
mod record;
mod rules;
mod run;
mod seen;
mod service;
mod status;
mod verify;

pub use config::{Around, Config, Project, Repository, Secret, read as read_config};
pub use listen::{Listening, serve};
pub use service::{Service, ServiceOptions};
