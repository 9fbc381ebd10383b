//! End-to-end tests: the real binary against real namespaces, files and peers.
//!
//! One binary, so that it links once. `common` makes a hermetic place for each
//! test; the other modules hold the tests, by subject. Most tests run twice, as
//! root and as an ordinary user (`both!`). How to run them: `docs/testing.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod common;

mod archives;
mod attack;
mod bad_input;
mod bench;
mod build;
mod builds;
mod cache;
mod cache_mounts;
mod cancel;
mod cases;
mod check;
mod container_files;
mod container_life;
mod containers;
mod context;
mod contexts;
mod cookbook;
mod copy;
mod copy_again;
mod corpus;
mod diff_images;
mod disk;
mod errors;
mod exec;
mod export;
mod flags;
mod fuzz_corpus;
mod grammar;
mod graph;
mod harness;
mod health;
mod home;
mod hook;
mod images;
mod import;
mod layering;
mod layers;
mod link;
mod login;
mod look;
mod mounts;
mod network;
mod offline;
mod outputs;
mod parse;
mod pause;
mod perf_guard;
mod ports;
mod progress;
mod prune;
mod registry;
mod registry_auth;
mod registry_hostile;
mod registry_pull;
mod registry_push;
mod registry_serve;
mod registry_server;
mod remote;
mod remote_cache;
mod remote_cache_hosts;
mod reproducible;
mod run;
mod sandbox;
mod search;
mod serve;
mod shell;
mod snapshotters;
mod targets;
mod user;
mod volumes;
mod why;
