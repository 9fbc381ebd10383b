//! Other states of images in a step: mounted out of its sight, and of each the part it is to see.
//!
//! Runs in the child, before the root is mounted. The overlay of a state lies in the scratch file
//! system, which goes with the old root; a path in it is resolved strictly inside (openat2,
//! `RESOLVE_IN_ROOT`), so that no link of a layer reaches the host. Not here: putting the part
//! at its target (`mounts`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::error::StepError;
use super::spec::{BindSource, Mount, State, Upper};
use super::stub;
use crate::sys::overlay::{self, MountWay, Writable};

/// Mounts other states where the step never sees them, and takes out what it is to see.
pub(super) struct OtherStates<'a> {
    scratch: &'a OwnedFd,
    way: MountWay,
    count: usize,
}

impl<'a> OtherStates<'a> {
    /// `scratch` is a file system that only this mount namespace sees.
    pub(super) fn new(scratch: &'a OwnedFd, way: MountWay) -> OtherStates<'a> {
        OtherStates { scratch, way, count: 0 }
    }

    /// Turns a mount of another state into one of an open file; leaves others as they are.
    pub(super) fn open(&mut self, mount: Mount) -> Result<Mount, StepError> {
        let Mount::Overlay { state, source, target, read_only } = mount else { return Ok(mount) };
        let root = self.mount(&state).map_err(|error| StepError::OtherState {
            target: target.display().to_string(),
            error: error.into(),
        })?;
        let taken = stub::open_inside(&root, &source, OFlags::PATH).and_then(|found| {
            // Bound from the attached mount: in a detached one a file cannot be before Linux 6.15.
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            rustix::mount::open_tree(&found, "", flags)
        });
        let fd = taken.map_err(|errno| StepError::NotInState {
            source_path: source.display().to_string(),
            target: target.display().to_string(),
            error: errno.into(),
        })?;
        let source = BindSource::Fd(fd);
        // What is written to it is thrown away, so mount points may be made in it too.
        let make_points = state.upper.is_some() && !read_only;
        Ok(Mount::Bind { source, target, read_only, recursive: false, make_points })
    }

    fn mount(&mut self, state: &State) -> std::io::Result<OwnedFd> {
        self.count += 1;
        let name = format!("state{}", self.count);
        let directory = |name: &str| -> std::io::Result<OwnedFd> {
            match rustix::fs::mkdirat(self.scratch, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(self.scratch, name, flags, Mode::empty())?)
        };
        directory(&name)?;
        let mut lowers =
            state.lowers.iter().map(|path| overlay::open_layer(path)).collect::<std::io::Result<Vec<_>>>()?;
        // Overlayfs wants two without an upper directory, and one with it.
        let least = if state.upper.is_some() { 1 } else { 2 };
        for filler in ["void1", "void2"].iter().take(least - lowers.len().min(least)) {
            lowers.push(directory(filler)?);
        }
        let Some(Upper { upper, work }) = &state.upper else {
            let scratch = self.scratch.as_fd();
            let view = overlay::attach_read_only(
                &overlay::borrowed(&lowers),
                state.xattrs,
                scratch,
                &name,
                self.way,
            )?;
            if self.way == MountWay::Auto
                && rustix::fs::fstat(&view)?.st_dev != rustix::fs::fstat(&directory(&name)?)?.st_dev
            {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(&view, "", self.scratch, name.as_str(), flags)?;
            }
            return Ok(view);
        };
        let (upper, work) = (overlay::open_layer(upper)?, overlay::open_layer(work)?);
        let lowers = overlay::borrowed(&lowers);
        let writable = Writable {
            lowers: &lowers,
            upper: upper.as_fd(),
            work: work.as_fd(),
            xattrs: state.xattrs,
            durable: false,
        };
        overlay::attach_writable(&writable, self.scratch.as_fd(), &name, self.way)
    }
}
