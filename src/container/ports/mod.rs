//! Published ports: what `-p` and `-P` ask for, the sockets of the host that they take, and what is
//! carried between those and a container.
//!
//! `request` reads the words, `bind` takes the sockets before anything of a container is there,
//! `forward` carries (`tcp`, `udp`), `mapping` says what is published. Not here: the container's
//! network itself (`sandbox::network`), who keeps all this alive (the supervisor).

mod bind;
mod forward;
mod mapping;
mod request;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use bind::{BindError, BoundPorts};
pub use forward::Forwarder;
pub use mapping::{PortMapping, bindings_json, ports_json};
pub use request::{ContainerPort, PortError, PortRequest, Protocol, exposed, parse, with_all};
