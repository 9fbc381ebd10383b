//! Mounts as `docker inspect` shows them (Engine API v1.43, MountPoint).

use serde::Serialize;

use super::{ContainerMount, MountKind};
use crate::store::Store;

/// One of `Mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub r#type: &'static str,
    /// Of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its files lie on this machine; empty for those in memory.
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<&'static str>,
    /// As `-v` had it.
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: &'static str,
}

/// Describes a container's mounts, in their order.
pub fn describe(store: &Store, mounts: &[ContainerMount]) -> Vec<MountPoint> {
    mounts.iter().map(|mount| point(store, mount)).collect()
}

fn point(store: &Store, mount: &ContainerMount) -> MountPoint {
    let (kind, name, source, driver, propagation) = match &mount.kind {
        MountKind::Bind { source, .. } => ("bind", None, source.clone(), None, "rprivate"),
        MountKind::Tmpfs { .. } => ("tmpfs", None, Default::default(), None, ""),
        MountKind::Volume { name, .. } => {
            let kept = name.as_deref().and_then(|name| store.volume(name).ok().flatten());
            let source = kept.map(|kept| store.volume_data(&kept)).unwrap_or_default();
            ("volume", name.clone(), source, Some("local"), "")
        }
    };
    MountPoint {
        r#type: kind,
        name,
        source: source.to_string_lossy().into_owned(),
        destination: mount.target.clone(),
        driver,
        mode: mount.mode.clone(),
        rw: !mount.read_only,
        propagation,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::volume;
    use super::*;

    #[test]
    fn mounts_are_shown_as_docker_shows_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(directory.path());
        let mounts = ["/h:/a:ro,z", "data:/b"].map(|text| volume(text, Path::new("/")).unwrap());
        let shown = serde_json::to_value(describe(&store, &mounts)).unwrap();
        let expect = serde_json::json!([
            { "Type": "bind", "Source": "/h", "Destination": "/a", "Mode": "ro,z", "RW": false,
              "Propagation": "rprivate" },
            { "Type": "volume", "Name": "data", "Source": "", "Destination": "/b", "Driver": "local",
              "Mode": "", "RW": true, "Propagation": "" },
        ]);
        assert_eq!(shown, expect);
    }
}
