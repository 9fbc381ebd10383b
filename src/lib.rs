//! rbuild: a daemonless, rootless Dockerfile build engine.
//!
//! The rooms and what may use what: `docs/architecture.md`. The way of the
//! data: bytes -> `dockerfile` -> `plan` -> `solve` with `worker` -> `build`.

pub mod archive;
pub mod build;
pub mod cli;
pub mod container;
pub mod content;
pub mod context;
pub mod dockerfile;
pub mod draw;
pub mod image;
pub mod layer;
pub mod net;
pub mod pattern;
pub mod plan;
pub mod registry;
pub mod remote;
pub mod remote_cache;
pub mod report;
pub mod sandbox;
pub mod service;
pub mod solve;
pub mod store;
pub mod sys;
pub mod worker;
