//! What every end-to-end test stands on.
//!
//! `env`: a hermetic place with its own store, and who runs in it. `command`:
//! one run of a program and what came of it. `context`: build contexts made
//! from text. `base`: base images. `archive`: what is in an exported image.
//! `cage`: what a command leaves behind. `http`: a server on the loopback.
//! `git`: one for repositories. `registry`: a registry of images, `tokens`: who lets in there,
//! `script`: one that lies and breaks off. `terminal`: what a program's bytes look like on a screen. `proxy`: names of hosts for what listens on the loopback.
//! `hold`: a proxy that stops at a byte. `peers`: other engines.

pub mod archive;
pub mod base;
pub mod cage;
pub mod command;
pub mod context;
pub mod env;
pub mod git;
pub mod hold;
pub mod http;
pub mod peers;
pub mod proxy;
pub mod registry;
pub mod script;
pub mod terminal;
pub mod tokens;

pub use archive::Exported;
pub use cage::Caged;
pub use command::Outcome;
pub use context::Context;
pub use env::TestEnv;
pub use env::Who;
pub use env::not_here;
pub use env::skip;
pub use peers::Docker;
pub use peers::Podman;

/// Makes of each function two tests, `name::root` and `name::user`.
///
/// The function gets a fresh [`TestEnv`]; a mode that cannot run here says why
/// (see [`env::skip`]).
macro_rules! both {
    ($($(#[$about:meta])* fn $name:ident($env:ident) $body:block)*) => {$(
        $(#[$about])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn test($env: &$crate::common::TestEnv) $body

            #[test]
            fn root() {
                $crate::common::env::run_as($crate::common::Who::Root, test);
            }

            #[test]
            fn user() {
                $crate::common::env::run_as($crate::common::Who::User, test);
            }
        }
    )*};
}
