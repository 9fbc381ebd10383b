//! Users and groups as an image's own `/etc/passwd` and `/etc/group` name them.
//!
//! Both files are the image's, so nothing in them is trusted: they are read
//! through `RootDir`, must be regular and at most 1 MiB, and lines that make
//! no sense are skipped, as getpwent(3) does. The rules of look-up are
//! docker's (`USER`, `run -u`) and BuildKit's (`COPY --chown`).

use std::io;
use std::path::Path;

use crate::sys::RootDir;

/// The most bytes of `/etc/passwd` or `/etc/group` that are read.
const MAX_BYTES: usize = 1 << 20;

/// The most supplementary groups a process can have (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups, in the order of `/etc/group`; empty where a group was asked for.
    pub groups: Vec<u32>,
    /// The home directory; `/` where passwd does not say.
    pub home: String,
}

/// Who a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Says why a user or group could not be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user `{0}`: no matching entries in passwd file")]
    UnknownUser(String),
    #[error("unable to find group `{0}`: no matching entries in group file")]
    UnknownGroup(String),
    #[error("`{0}` is not a user: it must be `user`, `user:group`, or numbers from 0 to 4294967294")]
    Format(String),
    #[error("cannot read {path} of the image")]
    Read { path: &'static str, source: io::Error },
}

/// One line of `/etc/passwd`.
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// Finds the user a process runs as: `user[:group]`, names or numbers; an empty user is 0.
///
/// A number always is an id, and needs no entry; its group then is the
/// entry's, or 0. Without a group the user's supplementary groups are set.
pub fn lookup(root: &RootDir, spec: &str) -> Result<User, UserError> {
    let (user, group) = split(spec)?;
    let passwd = read(root, "/etc/passwd")?;
    let wanted = if user.is_empty() { Some(0) } else { number(user, spec)? };
    let entry = passwd_entries(&passwd).find(|entry| match wanted {
        Some(uid) => entry.uid == uid,
        None => entry.name == user.as_bytes(),
    });
    let (uid, primary, name, home) = match (&entry, wanted) {
        (Some(e), _) => (e.uid, e.gid, Some(e.name), String::from_utf8_lossy(e.home).into_owned()),
        (None, Some(uid)) => (uid, 0, None, String::new()),
        (None, None) => return Err(UserError::UnknownUser(user.to_owned())),
    };
    let home = if home.is_empty() { "/".to_owned() } else { home };
    if let Some(group) = group {
        let gid = find_group(root, group, spec)?;
        return Ok(User { uid, gid, groups: Vec::new(), home });
    }
    let groups = match name {
        Some(name) => member_of(&read(root, "/etc/group")?, name),
        None => Vec::new(),
    };
    Ok(User { uid, gid: primary, groups, home })
}

/// Finds the owner `--chown` names: a name alone has its passwd group, a number alone that number.
pub fn lookup_owner(root: &RootDir, spec: &str) -> Result<Owner, UserError> {
    let (user, group) = split(spec)?;
    let wanted = if user.is_empty() { Some(0) } else { number(user, spec)? };
    let (uid, primary) = match wanted {
        Some(uid) => (uid, uid),
        None => {
            let passwd = read(root, "/etc/passwd")?;
            let entry = passwd_entries(&passwd).find(|entry| entry.name == user.as_bytes());
            entry
                .map(|entry| (entry.uid, entry.gid))
                .ok_or_else(|| UserError::UnknownUser(user.to_owned()))?
        }
    };
    let gid = match group {
        Some(group) => find_group(root, group, spec)?,
        None => primary,
    };
    Ok(Owner { uid, gid })
}

/// Finds a group, by its name or as a number: `--group-add`.
pub fn lookup_group(root: &RootDir, group: &str) -> Result<u32, UserError> {
    find_group(root, group, group)
}

fn split(spec: &str) -> Result<(&str, Option<&str>), UserError> {
    match spec.split_once(':') {
        None => Ok((spec, None)),
        Some((_, group)) if group.contains(':') => Err(UserError::Format(spec.to_owned())),
        // `user:` is docker's way to say `user`.
        Some((user, "")) => Ok((user, None)),
        Some((user, group)) => Ok((user, Some(group))),
    }
}

/// Reads a number; `None` for a name. 4294967295 means "no id" to chown(2) and is refused.
fn number(word: &str, spec: &str) -> Result<Option<u32>, UserError> {
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(UserError::Format(spec.to_owned())),
    }
}

fn find_group(root: &RootDir, group: &str, spec: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(group, spec)? {
        return Ok(gid);
    }
    let bytes = read(root, "/etc/group")?;
    group_entries(&bytes)
        .find(|(name, ..)| *name == group.as_bytes())
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| UserError::UnknownGroup(group.to_owned()))
}

/// Reads one of the two files; one that is missing is empty.
fn read(root: &RootDir, path: &'static str) -> Result<Vec<u8>, UserError> {
    match root.read_small(Path::new(path), MAX_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(source) => Err(UserError::Read { path, source }),
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#')
}

fn id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok().filter(|&id| id != u32::MAX)
}

fn passwd_entries(bytes: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

/// Yields name, gid and the comma-separated members of each group.
fn group_entries(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn member_of(bytes: &[u8], user: &[u8]) -> Vec<u32> {
    let mut groups = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (_, gid, members) in group_entries(bytes) {
        let is_member = members.split(|&b| b == b',').any(|member| member == user);
        if is_member && groups.len() < MAX_GROUPS && seen.insert(gid) {
            groups.push(gid);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\n# comment\nbroken\nbad:x:notanumber:1::/:\n\
        app:x:1000:1001:App,,,:/home/app:/bin/sh\r\nshort:x:7:8\n1234:x:55:56::/odd:\nminus:x:-1:4294967295::/:\n";
    const GROUP: &str =
        "root:x:0:\naudio:x:29:other,app\nvideo:x:44:app\nagain:x:44:app\napp:x:1001:\nbad:x:y:app\n";

    fn image(passwd: &str, group: &str) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), group).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn finds_who_a_process_runs_as() {
        let (_dir, root) = image(PASSWD, GROUP);
        let check = |spec: &str, uid, gid, groups: &[u32], home: &str| {
            let expect = User { uid, gid, groups: groups.to_vec(), home: home.to_owned() };
            assert_eq!(lookup(&root, spec).unwrap(), expect, "{spec}");
        };
        check("", 0, 0, &[], "/root");
        check("root", 0, 0, &[], "/root");
        check("app", 1000, 1001, &[29, 44], "/home/app");
        check("1000", 1000, 1001, &[29, 44], "/home/app");
        check("app:audio", 1000, 29, &[], "/home/app");
        check("app:", 1000, 1001, &[29, 44], "/home/app");
        check(":audio", 0, 29, &[], "/root");
        check("4242", 4242, 0, &[], "/");
        check("4242:7", 4242, 7, &[], "/");
        check("short", 7, 8, &[], "/");
        // A number is an id even where a user of that name exists.
        check("1234", 1234, 0, &[], "/");
        for bad in ["nosuch", "app:nosuch", "a:b:c", "4294967295", "99999999999", "bad", "minus", "-1"] {
            assert!(lookup(&root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn finds_who_a_file_belongs_to() {
        let (_dir, root) = image(PASSWD, GROUP);
        let check = |spec: &str, uid, gid| {
            assert_eq!(lookup_owner(&root, spec).unwrap(), Owner { uid, gid }, "{spec}");
        };
        check("app", 1000, 1001);
        check("1000", 1000, 1000);
        check("1234", 1234, 1234);
        check("app:video", 1000, 44);
        check("0:0", 0, 0);
        assert!(lookup_owner(&root, "nosuch").is_err());
        assert!(lookup_owner(&root, "app:nosuch").is_err());
    }

    #[test]
    fn files_of_the_image_are_not_trusted() {
        // A file of the host behind a link, a FIFO, and more than a MiB.
        let (dir, root) = image("", "");
        let passwd = dir.path().join("etc/passwd");
        assert_eq!(lookup(&root, "0").unwrap().uid, 0);
        fs::remove_file(&passwd).unwrap();
        assert!(matches!(lookup(&root, "root"), Err(UserError::UnknownUser(_))));
        std::os::unix::fs::symlink("../../../../../../etc/passwd", &passwd).unwrap();
        assert!(lookup(&root, "root").is_err());
        fs::remove_file(&passwd).unwrap();
        root.make_node(Path::new("etc/passwd"), rustix::fs::FileType::Fifo, 0o644, 0).unwrap();
        assert!(matches!(lookup(&root, "root"), Err(UserError::Read { .. })));
        fs::remove_file(&passwd).unwrap();
        fs::write(&passwd, vec![b'a'; MAX_BYTES + 1]).unwrap();
        assert!(matches!(lookup(&root, "root"), Err(UserError::Read { .. })));
        assert_eq!(lookup_owner(&root, "5:6").unwrap(), Owner { uid: 5, gid: 6 });
    }

    proptest::proptest! {
        #[test]
        fn never_panics(passwd: Vec<u8>, spec in "[a-z0-9:]{0,6}") {
            passwd_entries(&passwd).for_each(drop);
            member_of(&passwd, b"a");
            let _ = split(&spec).and_then(|(user, _)| number(user, &spec));
        }
    }
}
