//! Volumes: directories that outlive the containers they are mounted in.
//!
//! A volume is a directory `volumes/NAME/`: `meta` (JSON, written once) and `data/`, what containers see. It is
//! made whole and renamed to its place. One that a container's record names is never removed: both are
//! decided under `names.lock`, and a container names its volumes before it makes them. What is in `data` was
//! written by containers: nothing here follows a link in it. Not here: where volumes are mounted (`container`).

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::layer::{Become, merge_layer};
use crate::sys::RootDir;
use crate::sys::atomic;
use crate::sys::dir::read_dir;
use crate::sys::lock::FileLock;
use crate::sys::root_dir::{fstat, open_no_follow};

use super::error::{failed, names_in, read_if_there};
use super::measure::measured;
use super::temporary::remove_tree;
use super::{ContainerId, Store, StoreError};

/// The longest name of a volume, in bytes: a file's.
const MAX_NAME: usize = 255;

/// What is kept of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVolume {
    pub name: String,
    /// `local`, always.
    pub driver: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    pub created: Timestamp,
    /// Whether it was made for one container, whose user gave it no name.
    #[serde(default)]
    pub anonymous: bool,
}

/// What a new volume is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeRequest {
    /// `None`: 64 random digits.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// As `docker volume create --opt` has them; see [`VolumeRequest::device`].
    pub options: BTreeMap<String, String>,
    pub anonymous: bool,
}

impl VolumeRequest {
    /// Returns the directory of this machine that the options make the volume stand for.
    ///
    /// That is what they can say: `type=none` (or nothing), `o=bind` or `o=rbind`, `device=/DIRECTORY`. Errors:
    /// anything else, with what does it instead.
    fn device(&self) -> Result<Option<PathBuf>, StoreError> {
        device_of(&self.options).map_err(StoreError::VolumeOptions)
    }
}

fn device_of(options: &BTreeMap<String, String>) -> Result<Option<PathBuf>, String> {
    let known = "a volume's options are type=none, o=bind and device=/DIRECTORY, all three";
    if options.is_empty() {
        return Ok(None);
    }
    if let Some(key) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        return Err(format!("invalid option: \"{key}\": {known}"));
    }
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    match option("type") {
        "none" | "" => {}
        "tmpfs" => {
            let why =
                "files in memory are mounted by the container itself: `--tmpfs` or `--mount type=tmpfs`";
            return Err(format!("the volume type \"tmpfs\" is not supported: {why}"));
        }
        other => return Err(format!("the volume type \"{other}\" is not supported: {known}")),
    }
    if !option("o").split(',').all(|word| matches!(word, "bind" | "rbind" | "rw")) {
        return Err(format!("the mount options \"{}\" are not supported: {known}", option("o")));
    }
    match option("device") {
        "" => Err(format!("missing device in volume options: {known}")),
        device if device.starts_with('/') => Ok(Some(PathBuf::from(device))),
        device => Err(format!("the device \"{device}\" is no absolute path: {known}")),
    }
}

/// Checks a volume's name: two characters or more, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, as docker's local driver does.
pub fn check_volume_name(name: &str) -> Result<(), StoreError> {
    let bad = |why: &str| Err(StoreError::VolumeName { name: name.to_owned(), why: why.to_owned() });
    if name.len() == 1 {
        return bad("volume name is too short, names should be at least two alphanumeric characters");
    }
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return bad(&format!(
            "\"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute \
             path"
        ));
    }
    match name.len() > MAX_NAME {
        true => bad(&format!("volume name is too long, {MAX_NAME} characters are the most")),
        false => Ok(()),
    }
}

impl Store {
    /// Makes a volume; one of this name that is there already is returned as it is.
    pub fn create_volume(&self, request: &VolumeRequest) -> Result<KeptVolume, StoreError> {
        let name = match &request.name {
            Some(name) => name.clone(),
            None => ContainerId::random()?.to_string(),
        };
        check_volume_name(&name)?;
        if let Some(there) = self.volume(&name)? {
            return Ok(there);
        }
        request.device()?;
        let volumes = &self.paths.volumes;
        DirBuilder::new().recursive(true).mode(0o700).create(volumes).map_err(failed("make", volumes))?;
        let kept = KeptVolume {
            name: name.clone(),
            driver: "local".to_owned(),
            labels: request.labels.clone(),
            options: request.options.clone(),
            created: Timestamp::now(),
            anonymous: request.anonymous,
        };
        let temporary = self.temp_dir()?;
        let (data, meta) = (temporary.path().join("data"), temporary.path().join("meta"));
        std::fs::create_dir(&data).map_err(failed("make", &data))?;
        // Whatever the umask is.
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).map_err(failed("make", &data))?;
        let bytes = serde_json::to_vec(&kept).expect("strings");
        atomic::publish(&temporary.path().join("new"), &meta, &bytes, false)
            .map_err(failed("write", &meta))?;
        let _lock = self.names_lock()?;
        let place = self.volume_dir(&name);
        match atomic::rename_new(temporary.path(), &place).map_err(failed("make", &place))? {
            true => {
                temporary.keep();
                Ok(kept)
            }
            // Somebody else was first.
            false => self.volume(&name)?.ok_or(StoreError::NoVolume(name)),
        }
    }

    /// Returns what is kept of a volume; `None` where there is none of this name.
    pub fn volume(&self, name: &str) -> Result<Option<KeptVolume>, StoreError> {
        if check_volume_name(name).is_err() {
            return Ok(None);
        }
        let Some(bytes) = read_if_there(&self.volume_dir(name).join("meta"))? else { return Ok(None) };
        let kept = serde_json::from_slice(&bytes);
        kept.map(Some).map_err(|error| StoreError::broken(format!("volume {name}"), error))
    }

    /// Lists all volumes by their names. One whose description cannot be read is left out.
    pub fn volumes(&self) -> Result<Vec<KeptVolume>, StoreError> {
        let names = names_in(&self.paths.volumes)?;
        Ok(names.iter().filter_map(|name| self.volume(name).ok().flatten()).collect())
    }

    /// Returns where a volume's files lie: in the store, or where its options say.
    pub fn volume_data(&self, volume: &KeptVolume) -> PathBuf {
        device_of(&volume.options)
            .ok()
            .flatten()
            .unwrap_or_else(|| self.volume_dir(&volume.name).join("data"))
    }

    /// Opens a volume's directory.
    pub fn open_volume(&self, volume: &KeptVolume) -> Result<RootDir, StoreError> {
        let path = self.volume_data(volume);
        RootDir::open(&path).map_err(failed("mount the volume's directory", &path))
    }

    /// Returns the bytes of a volume's files; `None` where they are not in the store.
    pub fn volume_size(&self, volume: &KeptVolume) -> Option<u64> {
        let own = device_of(&volume.options).ok().flatten().is_none();
        own.then(|| measured(&self.volume_dir(&volume.name).join("data")).all())
    }

    /// Returns which containers use each volume, by its name.
    pub fn volume_users(&self) -> Result<BTreeMap<String, Vec<ContainerId>>, StoreError> {
        let mut users: BTreeMap<String, Vec<ContainerId>> = BTreeMap::new();
        for container in self.containers()? {
            for volume in container.kept.volumes {
                users.entry(volume).or_default().push(container.kept.id.clone());
            }
        }
        Ok(users)
    }

    /// Removes a volume with all that is in it; a directory that its options name stays.
    ///
    /// Errors: [`StoreError::NoVolume`], [`StoreError::VolumeInUse`].
    pub fn remove_volume(&self, name: &str) -> Result<(), StoreError> {
        let (aside, _hold) = self.temp_path()?;
        {
            let _lock = self.names_lock()?;
            if self.volume(name).is_ok_and(|kept| kept.is_none()) {
                return Err(StoreError::NoVolume(name.to_owned()));
            }
            if let Some(containers) = self.volume_users()?.remove(name) {
                return Err(StoreError::VolumeInUse { name: name.to_owned(), containers: InUse(containers) });
            }
            let place = self.volume_dir(name);
            // Moved first: half a volume must never be seen.
            std::fs::rename(&place, &aside).map_err(failed("remove", &place))?;
        }
        remove_tree(&aside).map_err(failed("remove", &aside))
    }

    /// Gives an empty volume what is at a place in an image, with owners, modes and times; tells whether it did.
    ///
    /// `from` is a directory of the image. Of several containers that start at once one does it. What is in
    /// the volume already stays, and then nothing is copied.
    pub fn fill_volume(&self, volume: &KeptVolume, from: &RootDir) -> Result<bool, StoreError> {
        let data = self.volume_data(volume);
        let meta = self.volume_dir(&volume.name).join("meta");
        let _lock = FileLock::exclusive(&meta).map_err(failed("lock", &meta))?;
        let read = failed("read", &data);
        let is_empty = |root: &RootDir| -> io::Result<bool> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            Ok(read_dir(open_no_follow(root.fd(), ".", flags, Mode::empty())?)?.is_empty())
        };
        let into = RootDir::open(&data).map_err(failed("open", &data))?;
        if !is_empty(&into).map_err(read)? {
            return Ok(false);
        }
        // Beside it first: a copy that is cut short must not look like a volume that is in use.
        let temporary = self.temp_dir()?;
        let beside = temporary.path().join("data");
        std::fs::create_dir(&beside).map_err(failed("make", &beside))?;
        let copy = RootDir::open(&beside).map_err(failed("open", &beside))?;
        merge_layer(from, self.options.xattrs, &copy, Become::Copies).map_err(StoreError::FillVolume)?;
        let move_in = || -> io::Result<()> {
            for (name, _) in copy.entries(Path::new("."))? {
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(copy.fd(), &name, into.fd(), &name, flags)?;
            }
            // Last, as it shows that all is there.
            let like = fstat(copy.fd())?;
            let owner = (rustix::fs::Uid::from_raw(like.uid), rustix::fs::Gid::from_raw(like.gid));
            match rustix::fs::fchown(into.fd(), Some(owner.0), Some(owner.1)) {
                // One that the user namespace does not have.
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
            Ok(rustix::fs::fchmod(into.fd(), Mode::from_raw_mode(like.mode))?)
        };
        move_in().map_err(failed("fill", &data))?;
        Ok(true)
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.paths.volumes.join(name)
    }
}

/// The containers that use something, as docker lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse(pub Vec<ContainerId>);

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.0.iter().map(ContainerId::as_str).collect();
        write!(f, "[{}]", ids.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::{containers, testing};
    use super::*;

    fn request(name: &str) -> VolumeRequest {
        VolumeRequest { name: Some(name.to_owned()), ..VolumeRequest::default() }
    }

    #[test]
    fn names_are_checked() {
        for good in ["ab", "A1", "a_.-", "0a"] {
            check_volume_name(good).unwrap();
        }
        for bad in ["", "a", ".a", "_a", "-a", "a/b", "..", "a b", "ä2", &"a".repeat(256)] {
            assert!(check_volume_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_are_those_of_a_bind() {
        let check = |options: &[(&str, &str)], expect: Result<Option<&str>, &str>| {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            match (device_of(&options), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect.map(PathBuf::from)),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                (found, expect) => panic!("{found:?}, not {expect:?}"),
            }
        };
        check(&[], Ok(None));
        check(&[("type", "none"), ("o", "bind"), ("device", "/x")], Ok(Some("/x")));
        check(&[("type", "none"), ("o", "bind")], Err("missing device"));
        check(&[("type", "none"), ("device", "/x")], Err("are not supported"));
        check(&[("type", "none"), ("o", "bind"), ("device", "x")], Err("no absolute path"));
        check(&[("type", "tmpfs"), ("o", "size=1m"), ("device", "tmpfs")], Err("--tmpfs"));
        check(&[("type", "nfs"), ("o", "addr=1.2.3.4"), ("device", ":/x")], Err("\"nfs\" is not supported"));
        check(&[("size", "1m")], Err("invalid option: \"size\""));
    }

    #[test]
    fn a_volume_is_made_once_and_kept_while_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        assert_eq!(store.volumes().unwrap(), []);
        let made = store.create_volume(&request("data")).unwrap();
        let again = VolumeRequest { anonymous: true, ..request("data") };
        assert_eq!(store.create_volume(&again).unwrap(), made);
        let anonymous =
            store.create_volume(&VolumeRequest { anonymous: true, ..Default::default() }).unwrap();
        assert_eq!(anonymous.name.len(), 64);
        assert_eq!(store.volumes().unwrap().len(), 2);
        std::fs::write(store.volume_data(&made).join("f"), "12345").unwrap();
        assert_eq!(store.volume_size(&made), Some(5));

        let mut container = containers::testing::container("c", vec![]);
        container.volumes = vec!["data".to_owned()];
        store.create_container(&container).unwrap();
        let error = store.remove_volume("data").unwrap_err().to_string();
        assert_eq!(error, format!("remove data: volume is in use - [{}]", container.id));
        let lock = store.lock_container(&container.id).unwrap().unwrap();
        store.remove_container(&container, lock).unwrap();
        store.remove_volume("data").unwrap();
        assert!(matches!(store.remove_volume("data"), Err(StoreError::NoVolume(_))));
        assert!(matches!(store.remove_volume("../tmp"), Err(StoreError::NoVolume(_))));
        assert!(!directory.path().join("v1/volumes/data").exists());
    }

    #[test]
    fn an_empty_volume_is_filled_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let source = tempfile::tempdir().unwrap();
        let image = |name: &str| source.path().join(name);
        std::fs::create_dir(image("sub")).unwrap();
        std::fs::write(image("sub/f"), "1").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", image("link")).unwrap();
        std::fs::set_permissions(source.path(), PermissionsExt::from_mode(0o1770)).unwrap();
        let from = RootDir::open(source.path()).unwrap();
        let volume = store.create_volume(&request("data")).unwrap();
        let data = store.volume_data(&volume);
        assert!(store.fill_volume(&volume, &from).unwrap());
        assert_eq!(std::fs::read_to_string(data.join("sub/f")).unwrap(), "1");
        assert_eq!(std::fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::metadata(&data).unwrap().mode() & 0o7777, 0o1770);
        std::fs::write(image("new"), "").unwrap();
        assert!(!store.fill_volume(&volume, &from).unwrap());
        assert!(!data.join("new").exists());
    }

    #[test]
    fn a_volume_of_a_directory_leaves_that_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("mine"), "1").unwrap();
        let mut request = request("bound");
        let device = host.path().to_str().unwrap();
        request.options = [("type", "none"), ("o", "bind"), ("device", device)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let volume = store.create_volume(&request).unwrap();
        assert!(store.open_volume(&volume).unwrap().try_stat(Path::new("mine"), true).unwrap().is_some());
        assert_eq!(store.volume_size(&volume), None);
        store.remove_volume("bound").unwrap();
        assert!(host.path().join("mine").exists());
    }
}
