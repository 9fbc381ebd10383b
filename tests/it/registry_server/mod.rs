//! `rbuild registry` against the OCI distribution specification, version 1.1: endpoint by endpoint (end-1 to
//! end-14), error by error, asked by a client that sends any bytes at all.
//!
//! What the specification leaves open is taken from RFC 9110 and 9112. `client` asks and reads answers, `served`
//! starts a registry and tells what it keeps; the others hold the tests, by subject.

mod client;
mod served;

mod callers;
mod catalog;
mod hostile;
mod local;
mod manifests;
mod pull;
mod referrers;
mod tags;
mod upload_faults;
mod uploads;
