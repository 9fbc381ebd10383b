//! What a name stands for in a repository: git ls-remote.
//!
//! A name is looked for as BuildKit does: `refs/NAME`, then the branch, then the tag.

use std::collections::BTreeMap;

use crate::remote;
use crate::remote::GitAddress;

use super::Commit;
use super::command::Output;
use super::command::REMOTE;
use super::command::Runner;
use super::error::GitError;

/// Asks the repository.
pub(super) fn ask(runner: &Runner<'_>, address: &GitAddress) -> Result<Commit, GitError> {
    let Some(wanted) = address.reference() else {
        let output = list(runner, address, &["--symref"], &["HEAD"])?;
        let empty = || GitError::Empty { remote: address.remote().to_owned() };
        return default_branch(&output.text()).ok_or_else(empty);
    };
    let peeled = format!("{wanted}^{{}}");
    let output = list(runner, address, &[], &[wanted, &peeled])?;
    match find(&output.text(), wanted) {
        Some(commit) => Ok(commit),
        None => Err(not_there(runner, address, wanted)?),
    }
}

fn list(
    runner: &Runner<'_>,
    address: &GitAddress,
    options: &[&str],
    patterns: &[&str],
) -> Result<Output, GitError> {
    let arguments = [&["ls-remote", "--quiet"], options, &["--", address.remote()], patterns].concat();
    let output = runner.run(&runner.options.home(), REMOTE, &arguments)?;
    match output.success {
        true => Ok(output),
        false => Err(GitError::from_output("ask", address, &output.stderr)),
    }
}

/// Yields object and name of each line; nothing that is no whole object name.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('\t')).filter(|(object, _)| remote::is_commit(object))
}

fn default_branch(text: &str) -> Option<Commit> {
    let (object, _) = lines(text).find(|(_, name)| *name == "HEAD")?;
    let symbolic = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    let reference = symbolic.filter(|name| name.starts_with("refs/")).map(str::to_owned);
    Some(Commit { id: object.to_owned(), object: object.to_owned(), reference })
}

fn find(text: &str, wanted: &str) -> Option<Commit> {
    let known: BTreeMap<&str, &str> = lines(text).map(|(object, name)| (name, object)).collect();
    let names = match wanted.starts_with("refs/") {
        true => vec![wanted.to_owned()],
        false => ["refs/", "refs/heads/", "refs/tags/"].map(|prefix| format!("{prefix}{wanted}")).to_vec(),
    };
    let name = names.into_iter().find(|name| known.contains_key(name.as_str()))?;
    let object = known.get(name.as_str())?;
    let id = known.get(format!("{name}^{{}}").as_str()).unwrap_or(object);
    Some(Commit { id: (*id).to_owned(), object: (*object).to_owned(), reference: Some(name) })
}

/// Makes the error of a name that is not there, with one that is like it.
fn not_there(runner: &Runner<'_>, address: &GitAddress, wanted: &str) -> Result<GitError, GitError> {
    let hint = match looks_like_commit(wanted) {
        true => Some(
            "the beginning of a commit cannot be asked for: give all of its digits, or a branch or tag it is \
             the newest commit of, and the digits as `checksum`"
                .to_owned(),
        ),
        false => {
            let output = list(runner, address, &["--heads", "--tags", "--refs"], &[])?;
            let text = output.text();
            let short = |name: &'_ str| -> Option<String> {
                Some(name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"))?.to_owned())
            };
            let names: Vec<String> = lines(&text).filter_map(|(_, name)| short(name)).collect();
            let plain = short(wanted).unwrap_or_else(|| wanted.to_owned());
            remote::nearest(&plain, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
        }
    };
    let (remote, reference) = (address.remote().to_owned(), wanted.to_owned());
    Ok(GitError::NoReference { remote, reference, hint })
}

fn looks_like_commit(word: &str) -> bool {
    word.len() >= 7 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Holds the commit against the checksum of the address. A tag's own object will do, as in BuildKit.
pub(super) fn check(address: &GitAddress, commit: &Commit) -> Result<(), GitError> {
    match address.checksum() {
        Some(expected) if !commit.id.starts_with(expected) && !commit.object.starts_with(expected) => {
            Err(GitError::Checksum {
                remote: address.remote().to_owned(),
                expected: expected.to_owned(),
                found: commit.id.clone(),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn finds_the_name_that_is_meant() {
        let check = |text: &str, wanted: &str, expect: Option<(&str, &str, &str)>| {
            let found = find(&text.replace('A', A).replace('B', B), wanted);
            let found =
                found.as_ref().map(|c| (c.id.as_str(), c.object.as_str(), c.reference.as_deref().unwrap()));
            assert_eq!(found, expect, "{wanted} in {text}");
        };
        check("A\trefs/heads/x", "x", Some((A, A, "refs/heads/x")));
        check("A\trefs/heads/x\nB\trefs/tags/x", "x", Some((A, A, "refs/heads/x")));
        check("A\trefs/heads/x\nB\trefs/tags/x", "tags/x", Some((B, B, "refs/tags/x")));
        check("A\trefs/heads/x\nB\trefs/tags/x", "refs/tags/x", Some((B, B, "refs/tags/x")));
        check("A\trefs/tags/x\nB\trefs/tags/x^{}", "x", Some((B, A, "refs/tags/x")));
        check("A\trefs/pull/1/head", "pull/1/head", Some((A, A, "refs/pull/1/head")));
        // ls-remote matches the end of names.
        check("A\trefs/heads/a/x", "x", None);
        check("A\trefs/heads/refs/tags/x", "refs/tags/x", None);
        check("evil\trefs/heads/x", "x", None);
        check("", "x", None);
    }

    #[test]
    fn finds_the_default_branch() {
        let check = |text: &str, expect: Option<Option<&str>>| {
            let found = default_branch(&text.replace("AA", A).replace("BB", B));
            assert_eq!(found.as_ref().map(|c| c.reference.as_deref()), expect, "{text}");
            assert!(found.is_none_or(|c| c.id == A));
        };
        check("ref: refs/heads/main\tHEAD\nAA\tHEAD", Some(Some("refs/heads/main")));
        check("BB\trefs/remotes/x/HEAD\nAA\tHEAD", Some(None));
        check("ref: evil\tHEAD\nAA\tHEAD", Some(None));
        check("ref: refs/heads/main\tHEAD", None);
        check("", None);
    }
}
