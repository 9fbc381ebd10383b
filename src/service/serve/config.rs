//! The server's configuration file: what is built, when, for whom. Errors have their place in the file.
//!
//! Not here: showing them (`cli`).

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::names::Kind;
use super::rules::Rule;
use super::verify::whsec;
use crate::image::Reference;
use crate::remote::{Address, parse_context};
use crate::report::{Diagnostic, Span};

/// The shortest token of an address, and of who may see and stop builds: 22 signs of 64 are 132 bits.
const TOKEN: usize = 22;
/// The shortest secret that bodies are signed with.
const SECRET: usize = 16;

/// Something that nobody is to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a project's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repository {
    /// An address that `context` fetches; `shown` has no password.
    Remote { address: String, shown: String },
    /// A repository of this machine.
    Local(PathBuf),
}

/// What is built of one repository.
#[derive(Debug)]
pub struct Project {
    pub name: String,
    pub repository: Repository,
    pub rules: Vec<Rule>,
    /// From the top of the repository; the same for the context.
    pub dockerfile: PathBuf,
    pub context: PathBuf,
    pub build_args: Vec<(String, String)>,
    pub target: Option<String>,
    pub platforms: Vec<String>,
    /// The image's name here, without a tag.
    pub image: String,
    /// The names to push to, without a tag.
    pub push: Vec<String>,
    /// What bodies are signed with.
    pub secret: Option<Secret>,
    /// The last part of the secret address.
    pub token: Option<Secret>,
    pub timeout: Duration,
    /// Triggers a minute.
    pub rate: u32,
}

/// The whole file.
#[derive(Debug)]
pub struct Config {
    pub listen: Option<String>,
    pub data: Option<PathBuf>,
    /// For who may see.
    pub status_token: Option<Secret>,
    /// For who may cancel and build again.
    pub control_token: Option<Secret>,
    /// How many builds run at once.
    pub concurrency: usize,
    /// How many builds may wait.
    pub queue: usize,
    /// How many builds of a project are kept.
    pub keep: usize,
    /// Certificate and key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub projects: Vec<Project>,
}

impl Config {
    /// Returns a project by its name.
    pub fn project(&self, name: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.name == name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<Spanned<String>>,
    data: Option<PathBuf>,
    status_token: Option<Spanned<String>>,
    status_token_file: Option<Spanned<PathBuf>>,
    control_token: Option<Spanned<String>>,
    control_token_file: Option<Spanned<PathBuf>>,
    concurrency: Option<Spanned<u64>>,
    queue: Option<Spanned<u64>>,
    keep: Option<Spanned<u64>>,
    tls_cert: Option<Spanned<PathBuf>>,
    tls_key: Option<PathBuf>,
    #[serde(default)]
    project: Vec<Spanned<ProjectFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    name: Spanned<String>,
    repository: Spanned<String>,
    dockerfile: Option<Spanned<PathBuf>>,
    context: Option<Spanned<PathBuf>>,
    #[serde(default)]
    build_args: std::collections::BTreeMap<Spanned<String>, String>,
    target: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
    image: Option<Spanned<String>>,
    #[serde(default)]
    push: Vec<Spanned<String>>,
    secret: Option<Spanned<String>>,
    secret_file: Option<Spanned<PathBuf>>,
    token: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    timeout: Option<Spanned<String>>,
    rate: Option<Spanned<u64>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    branch: Option<Spanned<String>>,
    git_tag: Option<Spanned<String>>,
    tag: Spanned<String>,
}

/// Where words of the file come from that are not in it.
pub struct Around<'a> {
    /// The folder that relative paths start from.
    pub folder: &'a Path,
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// Reads a length of time (`90s`, `1h30m`).
    pub duration: &'a dyn Fn(&str) -> Option<Duration>,
}

type Found<T> = Result<T, Box<Diagnostic>>;

/// Reads the text of a configuration file.
pub fn read(text: &str, around: &Around<'_>) -> Found<Config> {
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().map_or(Span::new(0, 0), |span| Span::new(span.start, span.end));
        Box::new(Diagnostic::error("config", span, error.message().trim().to_owned()))
    })?;
    let mut projects: Vec<Project> = Vec::new();
    for given in file.project {
        let (at, name) = (given.span(), given.get_ref().name.clone());
        if projects.iter().any(|other| other.name == *name.get_ref()) {
            return Err(wrong(&name, "there is a project of that name already"));
        }
        projects.push(project(given.into_inner(), at, around)?);
    }
    if projects.is_empty() {
        let none = Diagnostic::error("config", Span::new(0, 0), "it has no project: nothing could be built");
        return Err(Box::new(none.with_hint("describe one under [[project]]")));
    }
    if let Some(listen) = &file.listen
        && listen.get_ref().parse::<std::net::SocketAddr>().is_err()
    {
        return Err(wrong(listen, "this is no address to listen on: write 127.0.0.1:8080"));
    }
    let tls = match (file.tls_cert, file.tls_key) {
        (Some(cert), Some(key)) => Some((around.folder.join(cert.into_inner()), around.folder.join(key))),
        (None, None) => None,
        (Some(cert), None) => return Err(wrong(&cert, "tls_cert needs tls_key")),
        (None, Some(_)) => {
            return Err(Box::new(Diagnostic::error("config", Span::new(0, 0), "tls_key needs tls_cert")));
        }
    };
    Ok(Config {
        listen: file.listen.map(Spanned::into_inner),
        data: file.data.map(|data| around.folder.join(data)),
        status_token: token(file.status_token, file.status_token_file, around)?,
        control_token: token(file.control_token, file.control_token_file, around)?,
        concurrency: number(file.concurrency, 1, 1..=64)?,
        queue: number(file.queue, 100, 1..=10_000)?,
        keep: number(file.keep, 50, 1..=10_000)?,
        tls,
        projects,
    })
}

fn project(file: ProjectFile, at: std::ops::Range<usize>, around: &Around<'_>) -> Found<Project> {
    let name = file.name.get_ref().clone();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(word) || name.starts_with(['.', '-']) {
        return Err(wrong(
            &file.name,
            "a project's name is 1 to 64 of a-z 0-9 - _ ., as it is part of addresses",
        ));
    }
    let secret = secret(file.secret, file.secret_file, around)?;
    let token = token(file.token, file.token_file, around)?;
    if secret.is_none() && token.is_none() {
        return Err(wrong_at(at, "nobody could start a build: the project has neither `secret` nor `token`"));
    }
    if file.rule.is_empty() {
        return Err(wrong_at(
            at,
            "the project has no [[project.rule]], so that nothing of it would be built",
        ));
    }
    let rules: Found<Vec<Rule>> = file.rule.into_iter().map(rule).collect();
    let push: Found<Vec<String>> = file.push.iter().map(image_name).collect();
    let push = push?;
    let image = match &file.image {
        Some(image) => image_name(image)?,
        None => match push.first() {
            Some(push) => push.clone(),
            None => crate::service::hook::name_of_folder(name.as_ref()),
        },
    };
    let timeout = match file.timeout {
        None => Duration::from_secs(3600),
        Some(text) => match (around.duration)(text.get_ref()).filter(|timeout| !timeout.is_zero()) {
            Some(timeout) => timeout,
            None => return Err(wrong(&text, "this is no length of time: write 30m or 1h30m")),
        },
    };
    for name in file.build_args.keys() {
        if name.get_ref().is_empty() || name.get_ref().contains('=') {
            return Err(wrong(name, "this is no name of a build argument"));
        }
    }
    Ok(Project {
        repository: repository(&file.repository, around)?,
        rules: rules?,
        dockerfile: below(file.dockerfile, "Dockerfile")?,
        context: below(file.context, ".")?,
        build_args: file.build_args.into_iter().map(|(name, value)| (name.into_inner(), value)).collect(),
        target: file.target,
        platforms: file.platforms,
        image,
        push,
        secret,
        token,
        timeout,
        rate: u32::try_from(number(file.rate, 30, 1..=6000)?).unwrap_or(u32::MAX),
        name,
    })
}

fn repository(text: &Spanned<String>, around: &Around<'_>) -> Found<Repository> {
    let word = text.get_ref();
    if word.starts_with('/') || word.starts_with("./") || word.starts_with("../") {
        return Ok(Repository::Local(around.folder.join(word)));
    }
    match parse_context(word) {
        Some(Ok(Address::Git(address))) => {
            if address.reference().is_some() || address.subdir().is_some() || word.contains(['?', '#']) {
                return Err(wrong(
                    text,
                    "the address says more than the repository: rules say what is built of it",
                ));
            }
            Ok(Repository::Remote { address: word.clone(), shown: address.to_string() })
        }
        Some(Ok(Address::Http(_))) => {
            Err(wrong(text, "this is no repository's address: one of http ends in .git"))
        }
        Some(Err(error)) => Err(wrong(text, error.to_string())),
        None => {
            Err(wrong(text, "this is neither a repository's address nor a path that starts with / or ./"))
        }
    }
}

fn rule(rule: Spanned<RuleFile>) -> Found<Rule> {
    let at = rule.span();
    let rule = rule.into_inner();
    let (kind, pattern) = match (rule.branch, rule.git_tag) {
        (Some(branch), None) => (Kind::Branch, branch),
        (None, Some(tag)) => (Kind::Tag, tag),
        _ => return Err(wrong_at(at, "a rule has `branch` or `git_tag`, one of the two")),
    };
    let span = Span::new(pattern.span().start, pattern.span().end);
    let span = span.join(Span::new(rule.tag.span().start, rule.tag.span().end));
    Rule::new(kind, pattern.get_ref(), rule.tag.get_ref())
        .map_err(|why| Box::new(Diagnostic::error("config", span, why)))
}

fn image_name(text: &Spanned<String>) -> Found<String> {
    let name: Reference = text.get_ref().parse().map_err(|error| wrong(text, format!("{error}")))?;
    match name.tag().is_none() && name.digest().is_none() {
        true => Ok(name.familiar_name()),
        false => Err(wrong(text, "rules give the tags: leave it out here")),
    }
}

/// Reads a path that stays where it is.
fn below(path: Option<Spanned<PathBuf>>, default: &str) -> Found<PathBuf> {
    let Some(path) = path else { return Ok(PathBuf::from(default)) };
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match path.get_ref().components().all(stays) && !path.get_ref().as_os_str().is_empty() {
        true => Ok(path.into_inner()),
        false => Err(wrong(&path, "this is no path inside the repository")),
    }
}

fn number(
    given: Option<Spanned<u64>>,
    default: usize,
    allowed: std::ops::RangeInclusive<u64>,
) -> Found<usize> {
    match given {
        None => Ok(default),
        Some(number) if allowed.contains(number.get_ref()) => {
            Ok(usize::try_from(number.into_inner()).unwrap_or(usize::MAX))
        }
        Some(number) => {
            Err(wrong(&number, format!("it must be from {} to {}", allowed.start(), allowed.end())))
        }
    }
}

/// Reads what is given in the file itself or in another one.
fn given(
    text: Option<Spanned<String>>,
    file: Option<Spanned<PathBuf>>,
    around: &Around<'_>,
) -> Found<Option<Spanned<Vec<u8>>>> {
    match (text, file) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Spanned::new(text.span(), text.into_inner().into_bytes()))),
        (Some(text), Some(_)) => Err(wrong(&text, "it is given twice: here and as a file")),
        (None, Some(file)) => {
            let path = around.folder.join(file.get_ref());
            let bytes = (around.read)(&path)
                .map_err(|error| wrong(&file, format!("cannot read `{}`: {error}", path.display())))?;
            Ok(Some(Spanned::new(file.span(), bytes.trim_ascii().to_vec())))
        }
    }
}

fn secret(
    text: Option<Spanned<String>>,
    file: Option<Spanned<PathBuf>>,
    around: &Around<'_>,
) -> Found<Option<Secret>> {
    let Some(bytes) = given(text, file, around)? else { return Ok(None) };
    if bytes.get_ref().len() < SECRET {
        let error =
            *wrong(&bytes, format!("a secret has {SECRET} signs at least: this one could be guessed"));
        return Err(Box::new(error.with_hint("`openssl rand -hex 32` makes one")));
    }
    if bytes.get_ref().starts_with(b"whsec_") && whsec(bytes.get_ref()).is_none() {
        return Err(wrong(&bytes, "after whsec_ comes a key in base64"));
    }
    Ok(Some(Secret(bytes.into_inner())))
}

fn token(
    text: Option<Spanned<String>>,
    file: Option<Spanned<PathBuf>>,
    around: &Around<'_>,
) -> Found<Option<Secret>> {
    let Some(bytes) = given(text, file, around)? else { return Ok(None) };
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let different: std::collections::BTreeSet<u8> = bytes.get_ref().iter().copied().collect();
    // Hexadecimal digits alone carry four bits each.
    let hex = bytes.get_ref().iter().all(u8::is_ascii_hexdigit);
    let enough = bytes.get_ref().len() >= if hex { 32 } else { TOKEN };
    if !bytes.get_ref().iter().all(word) || !enough || different.len() < 8 {
        let why =
            format!("a token is {TOKEN} or more of A-Z a-z 0-9 - _ (32 of hexadecimal digits), at random");
        let error = *wrong(&bytes, why);
        return Err(Box::new(error.with_hint("`openssl rand -hex 32` makes one")));
    }
    Ok(Some(Secret(bytes.into_inner())))
}

fn wrong<T>(at: &Spanned<T>, message: impl Into<String>) -> Box<Diagnostic> {
    wrong_at(at.span(), message)
}

fn wrong_at(at: std::ops::Range<usize>, message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("config", Span::new(at.start, at.end), message))
}

#[cfg(test)]
pub(super) mod tests;
