//! What can go wrong with a repository, told from what git prints.

use std::io;
use std::path::PathBuf;

use crate::context::show;
use crate::remote::GitAddress;
use crate::remote::redact;

/// Says why files could not be had from a repository. No password is in it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("the program git was not found in PATH")]
    Missing,
    #[error("git {0} is too old: 2.32 or newer is needed")]
    TooOld(String),
    #[error("cannot run git")]
    Run(#[source] io::Error),
    #[error("cannot keep the repository in `{}`", show(.path))]
    Files { path: PathBuf, source: io::Error },
    #[error("cancelled")]
    Cancelled,
    #[error("the secret {0} holds a line break or another control character")]
    Secret(String),
    #[error("the repository {remote} was not found")]
    NotFound { remote: String, hint: String },
    #[error("the repository {remote} wants authentication: {detail}")]
    Authentication { remote: String, detail: String, hint: String },
    #[error("the host of {remote} cannot be reached: {detail}")]
    Unreachable { remote: String, detail: String },
    #[error("the host of {remote} is not the one that is known: {detail}")]
    HostKey { remote: String, detail: String },
    #[error("the repository {remote} leads to an address that is not allowed: {detail}")]
    NotAllowed { remote: String, detail: String },
    #[error("the repository {remote} has no branch, tag or other reference `{reference}`")]
    NoReference { remote: String, reference: String, hint: Option<String> },
    #[error("the repository {remote} has no default branch: it is empty")]
    Empty { remote: String },
    #[error("the repository {remote} has no commit {commit}")]
    NoCommit { remote: String, commit: String },
    #[error("the commit of {remote} is {found}, and {expected} is required")]
    Checksum { remote: String, expected: String, found: String },
    #[error("`{subdir}` of {remote} {why}")]
    Subdir { remote: String, subdir: String, why: &'static str },
    #[error("git cannot {doing} {remote}: {detail}")]
    Failed { doing: &'static str, remote: String, detail: String },
}

impl GitError {
    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            GitError::Missing => Some("install git (the package is called git everywhere)"),
            GitError::NotFound { hint, .. } | GitError::Authentication { hint, .. } => Some(hint),
            GitError::NoReference { hint, .. } => hint.as_deref(),
            GitError::HostKey { .. } => Some("check the host's key, and the known_hosts file"),
            _ => None,
        }
    }

    /// Tells whether trying again may help: the connection failed or broke, or the server had no time.
    ///
    /// A host that is not known stays so; the words of a remote itself do not count.
    pub fn is_transient(&self) -> bool {
        let own = |detail: &str, phrases: &[&str]| {
            let words = detail.split("; ").filter(|line| !line.starts_with("remote:"));
            words.into_iter().any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
        };
        match self {
            GitError::Unreachable { detail, .. } => !own(detail, &["Could not resolve"]),
            GitError::Failed { detail, .. } => own(
                detail,
                &[
                    "early EOF",
                    "the remote end hung up unexpectedly",
                    "unexpected disconnect",
                    "returned error: 408",
                    "returned error: 429",
                    "returned error: 5",
                ],
            ),
            _ => false,
        }
    }

    /// Adds how often it was tried, where that was more than once.
    pub fn after(mut self, tries: u32) -> GitError {
        if let GitError::Unreachable { detail, .. } | GitError::Failed { detail, .. } = &mut self
            && tries > 1
        {
            detail.push_str(&format!(", tried {tries} times"));
        }
        self
    }

    /// Makes the error of a command that failed from what it printed.
    pub(super) fn from_output(doing: &'static str, address: &GitAddress, output: &str) -> GitError {
        let remote = address.remote().to_owned();
        let detail = summary(output);
        let has = |phrases: &[&str]| phrases.iter().any(|phrase| output.contains(phrase));
        // The remote's own words come with this prefix and could say anything.
        if has(&["' not allowed"]) && has(&["transport '"]) {
            return GitError::NotAllowed { remote, detail };
        }
        if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
            return GitError::HostKey { remote, detail };
        }
        if has(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "terminal prompts disabled",
            "returned error: 401",
            "returned error: 403",
            "Permission denied (",
        ]) {
            return GitError::Authentication { remote, detail, hint: authentication_hint(address) };
        }
        if has(&["returned error: 404", "does not appear to be a git repository"])
            || has(&["epository "]) && has(&["not found", "does not exist"])
            || has(&["access denied or repository not exported"])
        {
            let hint =
                format!("check the address; a private repository may hide: {}", authentication_hint(address));
            return GitError::NotFound { remote, hint };
        }
        if has(&[
            "Could not resolve",
            "Failed to connect",
            "Couldn't connect",
            "unable to connect",
            "Connection refused",
            "Connection timed out",
            "Connection reset",
            "Network is unreachable",
            "No route to host",
        ]) {
            return GitError::Unreachable { remote, detail };
        }
        GitError::Failed { doing, remote, detail }
    }
}

fn authentication_hint(address: &GitAddress) -> String {
    match address.transport().is_http() {
        true => format!(
            "give a token as the secret GIT_AUTH_TOKEN.{} or GIT_AUTH_TOKEN (`--secret id=GIT_AUTH_TOKEN,env=...`)",
            address.host()
        ),
        false => "give an ssh agent with the key (`--ssh default`)".into(),
    }
}

/// Returns the last lines of what git printed, made harmless: no passwords, no control characters.
pub(super) fn summary(output: &str) -> String {
    const LINES: usize = 6;
    const LINE: usize = 400;
    let lines: Vec<String> = redact(output)
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    match lines.is_empty() {
        true => "it says nothing of why".into(),
        false => lines[lines.len().saturating_sub(LINES)..].join("; "),
    }
}
