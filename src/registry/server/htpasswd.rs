//! Users and their passwords from a file as Apache's `htpasswd -B` writes it.
//!
//! Lines are `USER:HASH`, with hashes of bcrypt; blank lines and those with `#` in front say nothing. Not
//! here: how names and passwords come in a request, and what an answer says to those who are refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The most bytes that the file may have.
const LARGEST: u64 = 4 * 1024 * 1024;
/// The costs that are taken: those that htpasswd makes. More would let one request compute for minutes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=17;
/// What a file without users costs; htpasswd's own default is 5, most guides say 10.
const COST_OF_NONE: u32 = 10;
/// How long a password that was right is right without computing.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many of them are remembered at most.
const MOST_BELIEVED: usize = 1024;
/// A file that changed so shortly before it was read may change again within the same tick of its clock.
const TICK: Duration = Duration::from_secs(2);
/// How many passwords are computed at once at most; the same one never twice at once.
const GATES: usize = 4;

/// Says why a file of passwords cannot be used. No message holds a hash.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HtpasswdError {
    #[error("the file of passwords `{}` cannot be read: {source}", .path.display())]
    Read { path: PathBuf, source: Arc<io::Error> },
    #[error("the file of passwords `{}` cannot be used: line {line}: {why}", .path.display())]
    Line { path: PathBuf, line: usize, why: String },
}

/// Who may come in. Follows the file: what is written there counts from the next request on.
pub struct Htpasswd {
    path: PathBuf,
    /// For what is remembered of passwords; made anew by each process.
    key: [u8; 32],
    state: Mutex<State>,
    gates: [Mutex<()>; GATES],
}

struct State {
    /// What the file looked like; `None`: look again in any case.
    stamp: Option<Stamp>,
    users: Result<Arc<Users>, HtpasswdError>,
    /// Keyed digests of names with passwords that were right, and until when that holds.
    believed: HashMap<[u8; 32], Instant>,
}

#[derive(Default, PartialEq, Eq)]
struct Users {
    hashes: HashMap<String, Hash>,
}

#[derive(PartialEq, Eq)]
struct Hash {
    text: String,
    cost: u32,
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What tells one state of a file from another: device, inode, size, times of content and inode.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Htpasswd {
    /// Reads a file; one that cannot be used is an error here, and later lets nobody in.
    pub fn open(path: &Path) -> Result<Htpasswd, HtpasswdError> {
        let failed =
            |source: io::Error| HtpasswdError::Read { path: path.to_owned(), source: Arc::new(source) };
        let mut key = [0; 32];
        fill(&mut key).map_err(failed)?;
        let (stamp, users) = read(path)?;
        let state = State { stamp, users: Ok(Arc::new(users)), believed: HashMap::new() };
        Ok(Htpasswd { path: path.to_owned(), key, state: Mutex::new(state), gates: Default::default() })
    }

    /// Tells whether a name and a password belong together.
    ///
    /// Takes as long for a name that is not there as for one that is, whatever the costs of the hashes:
    /// as much is always computed as the dearest needs. Blocks for that long (50 ms and more), except
    /// where the same was right within the last minute and the file is as it was.
    pub fn check(&self, user: &str, password: &str) -> bool {
        let Ok(users) = self.current() else { return false };
        let tag = self.tag(user, password);
        if self.believes(&tag) {
            return true;
        }
        let gate = &self.gates[usize::from(tag[0]) % GATES];
        let _alone = gate.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have computed the same meanwhile.
        if self.believes(&tag) {
            return true;
        }
        let right = users.check(user, password);
        if right {
            self.believe(tag, &users);
        }
        right
    }

    /// Tells whether the same was right within the last minute, without computing; `false` says nothing.
    pub fn remembers(&self, user: &str, password: &str) -> bool {
        self.current().is_ok() && self.believes(&self.tag(user, password))
    }

    /// Returns what is wrong with the file now, if it cannot be used; nobody is let in then.
    pub fn fault(&self) -> Option<HtpasswdError> {
        self.current().err()
    }

    /// Returns the users, read again if the file changed.
    fn current(&self) -> Result<Arc<Users>, HtpasswdError> {
        let mut state = self.state();
        let now = std::fs::metadata(&self.path).ok().map(|meta| stamp(&meta));
        if now.is_none() || now != state.stamp {
            let (stamp, users) = match read(&self.path) {
                Ok((stamp, users)) => (stamp, Ok(users)),
                Err(error) => (None, Err(error)),
            };
            state.stamp = stamp;
            let same = matches!((&state.users, &users), (Ok(old), Ok(new)) if **old == *new);
            if !same {
                state.believed.clear();
                state.users = users.map(Arc::new);
            }
        }
        state.users.clone()
    }

    fn believes(&self, tag: &[u8; 32]) -> bool {
        self.state().believed.get(tag).is_some_and(|until| Instant::now() < *until)
    }

    fn believe(&self, tag: [u8; 32], users: &Arc<Users>) {
        let mut state = self.state();
        if !matches!(&state.users, Ok(now) if Arc::ptr_eq(now, users)) {
            return;
        }
        let now = Instant::now();
        if state.believed.len() >= MOST_BELIEVED {
            state.believed.retain(|_, until| now < *until);
        }
        if state.believed.len() < MOST_BELIEVED {
            state.believed.insert(tag, now + BELIEVED);
        }
    }

    /// Returns what is remembered in place of a password: it says nothing without the key of this process.
    fn tag(&self, user: &str, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC takes keys of any length");
        mac.update(&(user.len() as u64).to_be_bytes());
        mac.update(user.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn parse(text: &[u8], path: &Path) -> Result<Users, HtpasswdError> {
        let mut users = Users::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let refuse = |why: String| HtpasswdError::Line { path: path.to_owned(), line: number, why };
            let Ok(line) = std::str::from_utf8(line) else {
                return Err(refuse("it is not UTF-8".to_owned()));
            };
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((user, hash)) = line.split_once(':') else {
                return Err(refuse("it is not USER:HASH".to_owned()));
            };
            if user.is_empty() {
                return Err(refuse("it names no user".to_owned()));
            }
            let hash = Hash::read(hash.trim_end()).map_err(|why| refuse(format!("user `{user}`: {why}")))?;
            if users.hashes.insert(user.to_owned(), hash).is_some() {
                return Err(refuse(format!("the user `{user}` is there for the second time")));
            }
        }
        Ok(users)
    }

    fn check(&self, user: &str, password: &str) -> bool {
        let dearest = self.hashes.values().map(|hash| hash.cost).max().unwrap_or(COST_OF_NONE);
        // C's bcrypt ends at a NUL, and what repeats after one would be the same key.
        let sound = !password.contains('\0');
        let hash = self.hashes.get(user);
        let right = hash.is_some_and(|hash| bcrypt::verify(password, &hash.text).unwrap_or(false));
        for cost in missing_work(hash.map(|hash| hash.cost), dearest) {
            compute(cost, password);
        }
        right & sound
    }
}

/// Returns the costs of what is computed besides a user's own hash, if there is one, so that all take as
/// long as the dearest: 2^c + 2^c + 2^(c+1) + … + 2^(n-1) = 2^n.
fn missing_work(own: Option<u32>, dearest: u32) -> std::ops::Range<u32> {
    match own {
        Some(own) => own..dearest,
        None => dearest..dearest + 1,
    }
}

impl Hash {
    fn read(text: &str) -> Result<Hash, String> {
        let bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| text.starts_with(prefix));
        if !bcrypt {
            return Err(format!(
                "its password is kept as {}; only bcrypt is taken: make the line with `htpasswd -nbB`",
                kind(text)
            ));
        }
        let Ok(parts) = text.parse::<bcrypt::HashParts>() else {
            return Err("its bcrypt hash is not whole".to_owned());
        };
        let cost = parts.get_cost();
        match COSTS.contains(&cost) {
            true => Ok(Hash { text: text.to_owned(), cost }),
            false => Err(format!(
                "its bcrypt hash has the cost {cost}, and only {} to {} are taken",
                COSTS.start(),
                COSTS.end()
            )),
        }
    }
}

/// Names the other ways in which htpasswd and its like keep passwords.
fn kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 9] = [
        ("$apr1$", "Apache's MD5"),
        ("$1$", "MD5"),
        ("{SHA}", "SHA-1"),
        ("{SSHA}", "SHA-1"),
        ("$5$", "SHA-256 (crypt)"),
        ("$6$", "SHA-512 (crypt)"),
        ("$y$", "yescrypt"),
        ("$argon2", "Argon2"),
        ("$2x$", "the faulty bcrypt of old PHP"),
    ];
    let named = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix));
    named.map_or("plain text or crypt()", |(_, name)| name)
}

/// Computes as long as a hash of this cost takes.
fn compute(cost: u32, password: &str) {
    let mut key = [0; 72];
    let length = password.len().min(key.len());
    key[..length].copy_from_slice(&password.as_bytes()[..length]);
    let used = (length + 1).min(key.len());
    std::hint::black_box(bcrypt::bcrypt(cost, [0; 16], &key[..used]));
}

fn read(path: &Path) -> Result<(Option<Stamp>, Users), HtpasswdError> {
    let failed = |source: io::Error| HtpasswdError::Read { path: path.to_owned(), source: Arc::new(source) };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let mut text = Vec::new();
    (&file).take(LARGEST + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(failed(io::Error::other("it is too large for what it should be")));
    }
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let settled = age.is_some_and(|age| age > TICK);
    Ok((settled.then(|| stamp(&meta)), Users::parse(&text, path)?))
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    (
        meta.dev(),
        meta.ino(),
        meta.size(),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    )
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut file = File::open("/dev/urandom")?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As `htpasswd -nbB -C COST` makes it.
    fn line(user: &str, password: &str, cost: u32) -> String {
        let hash = bcrypt::hash_with_salt(password, cost, [7; 16]).unwrap();
        format!("{user}:{}\n", hash.format_for_version(bcrypt::Version::TwoY))
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn lets_in_who_has_the_password() {
        let text =
            format!("# users\n\n{}{}\r\n", line("ann", "open sesame", 4), line("bo", "käse", 5).trim());
        let (_folder, path) = file(&text);
        let users = Htpasswd::open(&path).unwrap();
        let check = |user: &str, password: &str, expect: bool| {
            assert_eq!(users.check(user, password), expect, "{user}:{password}");
            // What is remembered changes nothing.
            assert_eq!(users.check(user, password), expect, "again {user}:{password}");
        };
        check("ann", "open sesame", true);
        check("bo", "käse", true);
        check("ann", "käse", false);
        check("ann", "", false);
        check("", "open sesame", false);
        check("nobody", "open sesame", false);
        check("annopen", " sesame", false);
        check("ann", "open sesame\0open sesame", false);
        check("ann", &"x".repeat(1000), false);
    }

    #[test]
    fn takes_what_apache_made() {
        // htpasswd -nbB -C 5 myName myPassword
        let (_folder, path) = file("myName:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n");
        let users = Htpasswd::open(&path).unwrap();
        assert!(users.check("myName", "myPassword"));
        assert!(!users.check("myName", "mypassword"));
    }

    #[test]
    fn follows_the_file() {
        let (_folder, path) = file(&line("ann", "one", 4));
        let users = Htpasswd::open(&path).unwrap();
        assert!(users.check("ann", "one"));
        std::fs::write(&path, line("ann", "two", 4)).unwrap();
        assert!(!users.check("ann", "one"), "what was right before is forgotten");
        assert!(users.check("ann", "two"));
        std::fs::write(&path, "ann:secret\n").unwrap();
        assert!(!users.check("ann", "two") && !users.check("ann", "secret"));
        assert!(users.fault().unwrap().to_string().contains("line 1"));
        std::fs::remove_file(&path).unwrap();
        assert!(!users.check("ann", "two"));
        std::fs::write(&path, line("ann", "two", 4)).unwrap();
        assert!(users.check("ann", "two") && users.fault().is_none());
    }

    #[test]
    fn remembers_no_password() {
        let (_folder, path) = file(&line("ann", "one", 4));
        let users = Htpasswd::open(&path).unwrap();
        assert!(!users.check("ann", "two") && users.state().believed.is_empty());
        assert!(users.check("ann", "one"));
        assert_eq!(users.state().believed.len(), 1);
        let other = Htpasswd::open(&path).unwrap();
        assert_ne!(users.tag("ann", "one"), other.tag("ann", "one"), "the key is this process's own");
        assert!(!format!("{users:?}").contains("$2y$"));
        let past = Instant::now();
        users.state().believed.values_mut().for_each(|until| *until = past);
        assert!(!users.believes(&users.tag("ann", "one")));
        assert!(users.check("ann", "one"));
    }

    #[test]
    fn one_process_computes_the_same_once() {
        let (_folder, path) = file(&line("ann", "one", 4));
        let users = Htpasswd::open(&path).unwrap();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..32).map(|_| scope.spawn(|| users.check("ann", "one"))).collect();
            assert!(all.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert_eq!(users.state().believed.len(), 1);
    }

    #[test]
    fn refuses_lines_by_name() {
        let check = |text: &str, expect: &str| {
            let (_folder, path) = file(text);
            let error = Htpasswd::open(&path).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        };
        let good = line("ann", "one", 4);
        check(&format!("{good}bo:$apr1$SECRET\n"), "line 2: user `bo`: its password is kept as Apache's MD5");
        check("bo:{SHA}SECRET=", "kept as SHA-1");
        check("bo:$6$SECRET", "SHA-512");
        check("bo:SECRET", "plain text or crypt()");
        check("bo:$2x$05$SECRET", "faulty");
        check("bo:$2y$05$SECRET", "not whole");
        check("bo", "not USER:HASH");
        check(":$2y$", "names no user");
        check(&format!("{good}\n{good}"), "line 3: the user `ann` is there for the second time");
        check(&line("bo", "x", 4).replace("$04$", "$31$"), "cost 31, and only 4 to 17");
        let missing = Htpasswd::open(Path::new("/nonexistent/htpasswd")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/htpasswd") && missing.contains("No such file"), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        assert!(Htpasswd::open(folder.path()).is_err());
        let path = folder.path().join("f");
        std::fs::write(&path, b"ann:\xff\n").unwrap();
        assert!(Htpasswd::open(&path).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn the_work_is_the_same_for_all() {
        // Rounds of bcrypt, of the own hash and of what is added.
        let work = |own: Option<u32>, dearest: u32| {
            own.map_or(0, |own| 1u64 << own)
                + missing_work(own, dearest).map(|cost| 1u64 << cost).sum::<u64>()
        };
        for own in 4..=12 {
            assert_eq!(work(Some(own), 12), work(None, 12));
        }
    }
}
