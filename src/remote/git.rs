//! The address of a git repository, and of what is wanted of it.
//!
//! Not here: the words of a query (`query`), fetching (`context::git`).

use std::fmt;

use super::error::AddressError;
use super::query;
use super::query::Wanted;
use super::url::Credentials;
use super::url::Scp;
use super::url::Url;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Http,
    Https,
    Ssh,
    /// git's own protocol, neither encrypted nor authenticated.
    Git,
}

impl Transport {
    pub(super) fn of_scheme(scheme: &str) -> Option<Transport> {
        Some(match scheme {
            "http" => Transport::Http,
            "https" => Transport::Https,
            "ssh" => Transport::Ssh,
            "git" => Transport::Git,
            _ => return None,
        })
    }

    /// Tells whether it is HTTP, encrypted or not.
    pub fn is_http(self) -> bool {
        matches!(self, Transport::Http | Transport::Https)
    }
}

/// What the times of files from a repository are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mtime {
    /// When they were written here.
    Checkout,
    /// The commit's time, for all.
    Commit,
}

/// A repository, and what is wanted of it.
///
/// `Debug` and `Display` show it without password (and without user, unless it is ssh's).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GitAddress {
    transport: Transport,
    remote: String,
    host: String,
    credentials: Option<Credentials>,
    wanted: Wanted,
}

impl GitAddress {
    pub(super) fn from_url(transport: Transport, url: &Url<'_>) -> Result<GitAddress, AddressError> {
        let fail = |problem: String| AddressError::new(url.text, problem);
        let mut remote = url.plain();
        let mut credentials = url.credentials.clone();
        if transport == Transport::Ssh {
            // ssh asks an agent and no password of an address; the name says whom to log in as.
            if let Some(Credentials { user, .. }) = credentials.take() {
                check_ssh_user(&user).map_err(fail)?;
                remote = format!("ssh://{user}@{}", &remote["ssh://".len()..]);
            }
        } else if !transport.is_http() {
            credentials = None;
        }
        if url.path.trim_matches('/').is_empty() {
            return Err(fail("it names no repository on that host".into()));
        }
        let wanted = query::read(url.fragment.as_deref(), url.query).map_err(fail)?;
        Ok(GitAddress { transport, remote, host: url.host.to_owned(), credentials, wanted })
    }

    pub(super) fn from_scp(scp: &Scp<'_>) -> Result<GitAddress, AddressError> {
        let fail = |problem: String| AddressError::new(scp.text, problem);
        if scp.text.contains(char::is_control) {
            return Err(fail("it holds a control character".into()));
        }
        if scp.host.starts_with('-') {
            return Err(fail("its host cannot be one".into()));
        }
        // gitremote-helpers(7): `ext::` runs a program, `fd::` takes over descriptors.
        if scp.path.starts_with(':') {
            return Err(fail("`::` calls a helper of git's, and none is run".into()));
        }
        if scp.path.is_empty() || scp.path.starts_with('-') {
            return Err(fail("it names no repository on that host".into()));
        }
        let mut remote = format!("{}:{}", scp.host, scp.path);
        if let Some(user) = scp.user {
            check_ssh_user(user).map_err(fail)?;
            remote = format!("{user}@{remote}");
        }
        let wanted = query::read(scp.fragment, scp.query).map_err(fail)?;
        let host = scp.host.to_owned();
        Ok(GitAddress { transport: Transport::Ssh, remote, host, credentials: None, wanted })
    }

    /// Returns how the repository is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Returns the repository as git takes it, without password, query and fragment: also for keys and people.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Returns the host, with the port if one is given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the user and password of an HTTP address; never to be shown or kept.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Returns the branch, tag, reference or commit that is wanted; `None` is the default branch.
    pub fn reference(&self) -> Option<&str> {
        self.wanted.reference.as_deref().or(self.wanted.checksum.as_deref())
    }

    /// Returns the beginning, in lower case, that the commit must have.
    pub fn checksum(&self) -> Option<&str> {
        self.wanted.checksum.as_deref()
    }

    /// Returns the commit where the address itself says it in full (40 or 64 digits): nothing to ask then.
    pub fn commit(&self) -> Option<&str> {
        match self.wanted.fetch_by_commit {
            true => self.checksum(),
            false => self.reference().filter(|reference| is_commit(reference)),
        }
    }

    /// Returns the directory inside the repository, without leading `/`; `None` is all of it.
    pub fn subdir(&self) -> Option<&str> {
        self.wanted.subdir.as_deref()
    }

    /// Tells whether submodules are fetched; they are unless the address says `submodules=false`.
    pub fn submodules(&self) -> bool {
        self.wanted.submodules.unwrap_or(true)
    }

    /// Tells whether `.git` stays: never with a [`GitAddress::subdir`], as in BuildKit.
    pub fn keeps_git_dir(&self) -> bool {
        self.wanted.keep_git_dir.unwrap_or(false) && self.wanted.subdir.is_none()
    }

    /// Returns what the address says of file times, if it does.
    pub fn mtime(&self) -> Option<Mtime> {
        self.wanted.mtime
    }

    /// Returns the repository's last name without `.git`.
    pub fn short_name(&self) -> &str {
        let path = self.remote.trim_end_matches('/');
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        name.strip_suffix(".git").unwrap_or(name)
    }

    /// Returns all that decides which files it stands for, as one text: equal for equal addresses.
    pub fn identity(&self) -> String {
        format!(
            "{} ref={:?} commit={:?} subdir={:?} submodules={} keep-git-dir={} mtime={:?}",
            self.remote,
            self.wanted.reference,
            self.wanted.checksum,
            self.wanted.subdir,
            self.submodules(),
            self.keeps_git_dir(),
            self.mtime(),
        )
    }

    /// Requires the commit to begin so (`ADD --checksum`); an error where the address says another.
    pub fn with_checksum(mut self, checksum: &str) -> Result<GitAddress, AddressError> {
        let fail = |problem: String| AddressError::new(&self.to_string(), problem);
        let checksum = query::checksum(checksum).map_err(fail)?;
        match &self.wanted.checksum {
            Some(own) if *own != checksum => {
                Err(fail(format!("checksum conflicts: `{own}` in the address and `{checksum}`")))
            }
            _ => {
                self.wanted.checksum = Some(checksum);
                Ok(self)
            }
        }
    }

    /// Keeps `.git` or not (`ADD --keep-git-dir`); an error where the address says otherwise.
    pub fn with_keep_git_dir(mut self, keep: bool) -> Result<GitAddress, AddressError> {
        match self.wanted.keep_git_dir {
            Some(own) if own != keep => Err(AddressError::new(
                &self.to_string(),
                format!("its keep-git-dir={own} conflicts with {keep}"),
            )),
            _ => {
                self.wanted.keep_git_dir = Some(keep);
                Ok(self)
            }
        }
    }

    /// Keeps `.git` or not where the address says nothing of it (`BUILDKIT_CONTEXT_KEEP_GIT_DIR`).
    pub fn with_default_keep_git_dir(mut self, keep: bool) -> GitAddress {
        self.wanted.keep_git_dir.get_or_insert(keep);
        self
    }

    /// Sets the file times where the address says nothing of them.
    pub fn with_default_mtime(mut self, mtime: Mtime) -> GitAddress {
        self.wanted.mtime.get_or_insert(mtime);
        self
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)?;
        match (self.reference(), self.subdir()) {
            (None, None) => Ok(()),
            (reference, None) => write!(f, "#{}", reference.unwrap_or_default()),
            (reference, Some(subdir)) => write!(f, "#{}:{subdir}", reference.unwrap_or_default()),
        }
    }
}

impl fmt::Debug for GitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitAddress({self}, {:?})", self.wanted)
    }
}

/// Tells whether a word is a whole object name: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, in lower case.
pub fn is_commit(word: &str) -> bool {
    matches!(word.len(), 40 | 64) && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Programs would take some names for an option, and ssh for more than a name.
fn check_ssh_user(user: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    match !user.is_empty() && !user.starts_with('-') && user.chars().all(good) {
        true => Ok(()),
        false => Err("its user name cannot be one".into()),
    }
}
