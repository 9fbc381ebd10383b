//! The only room with `unsafe`: what the kernel offers, made safe to call.
//!
//! System calls, mounts, namespaces, identities, capabilities, and what is
//! safe to build on them: `RootDir`, look-ups of users, extended attributes.
//! Everything else in rbuild goes through here. It knows nothing of images,
//! layers or Dockerfiles.

pub mod atomic;
pub mod browser;
pub mod clock;
pub mod copy;
pub mod descendants;
pub mod dir;
pub mod landlock;
pub mod lock;
pub mod message;
pub mod mount;
pub mod netns;
pub mod overlay;
pub mod process;
pub mod read;
pub mod root_dir;
pub mod snapshotter;
pub mod spawn;
pub mod stall;
pub mod syscalls;
pub mod terminal;
pub mod title;
pub mod upper;
pub mod userns;
pub mod users;
pub mod watch;
pub mod xattr;

pub use overlay::OverlayXattrs;
pub use root_dir::{RootDir, Stat};
pub use snapshotter::Snapshotter;
