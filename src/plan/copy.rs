//! COPY and ADD: sources, destination, flags and history line.

use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Transfer;
use crate::dockerfile::ast::TransferSource;
use crate::dockerfile::ast::Word;
use crate::report::Diagnostic;

use super::graph::ContextOp;
use super::graph::CopyOp;
use super::graph::CopySource;
use super::graph::Op;
use super::graph::VertexId;
use super::lower::Place;
use super::path;
use super::stage::Builder;
use super::stages::Origin;

impl Builder<'_, '_> {
    /// Executes COPY, or ADD where `add`.
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        add: bool,
    ) -> Result<VertexId, Diagnostic> {
        let keyword = if add { "ADD" } else { "COPY" };
        let mut sources = Vec::with_capacity(transfer.sources.len());
        for source in &transfer.sources {
            sources.push(match source {
                TransferSource::Path(word) => {
                    let text = self.transfer_word(transfer, word)?;
                    self.check_remote(&text, word, add)?;
                    CopySource::Path(text)
                }
                TransferSource::Heredoc(heredoc) => {
                    let data = match heredoc.expand {
                        true => self.expand_body(heredoc)?,
                        false => heredoc.body.clone(),
                    };
                    CopySource::Inline { name: heredoc.name.clone(), data }
                }
            });
        }
        let written = self.transfer_word(transfer, &transfer.destination)?;
        if sources.len() > 1 && !transfer.parents && !path::is_directory(&written) {
            return Err(self
                .error(
                    "destination-not-a-directory",
                    transfer.destination.span,
                    format!("when {keyword} has more than one source, the destination `{written}` must be a directory"),
                )
                .with_hint(format!("end it with a slash: `{written}/`")));
        }
        if let Some(word) = &transfer.checksum {
            return Err(self.error("checksum", word.span, "checksum requires HTTP(S) or Git sources"));
        }
        if transfer.keep_git_dir == Some(true) {
            let flag = instruction.flags.iter().find(|flag| flag.name == "keep-git-dir");
            let span = flag.map_or(instruction.span, |flag| flag.span);
            self.warn("FlagWithoutEffect", span, "--keep-git-dir has an effect on Git sources only");
        }
        let chown = self.flag_word(transfer.chown.as_ref())?;
        let chmod = self.flag_word(transfer.chmod.as_ref())?;
        if let (Some(mode), Some(word)) = (&chmod, &transfer.chmod)
            && let Err(why) = check_mode(mode)
        {
            return Err(self.error("invalid-chmod", word.span, why));
        }
        let mut exclude = Vec::with_capacity(transfer.exclude.len());
        for word in &transfer.exclude {
            exclude.push(self.expand_bare(word)?);
        }

        let paths = sources.iter().any(|source| matches!(source, CopySource::Path(_)));
        let input = if paths { Some(self.source(transfer)?) } else { None };
        let line =
            history_line(keyword, transfer.parents, chown.as_deref(), chmod.as_deref(), &sources, &written);
        let op = CopyOp {
            add,
            sources,
            destination: path::destination(&self.image.config.working_dir, &written),
            chown,
            chmod,
            link: transfer.link,
            parents: transfer.parents,
            exclude,
            unpack: transfer.unpack,
            checksum: None,
            keep_git_dir: false,
        };
        let id = self.advance(Op::Copy(op), input)?;
        self.commit(line, true)?;
        Ok(id)
    }

    fn transfer_word(&mut self, transfer: &Transfer, word: &Word) -> Result<String, Diagnostic> {
        if transfer.json { self.expand_bare(word) } else { self.expand(word) }
    }

    fn flag_word(&mut self, word: Option<&Word>) -> Result<Option<String>, Diagnostic> {
        let Some(word) = word else { return Ok(None) };
        Ok(Some(self.expand_bare(word)?).filter(|text| !text.is_empty()))
    }

    /// Finds or makes the vertex that paths are read from; `None` is the empty state.
    fn source(&mut self, transfer: &Transfer) -> Result<Option<VertexId>, Diagnostic> {
        let mut place =
            Place { text: "context".to_owned(), span: self.span, line: self.line, stage: self.label.clone() };
        let Some(word) = &transfer.from else {
            let op = Op::Context(ContextOp { name: "context".to_owned() });
            return Ok(Some(self.shared.vertices.add(place.vertex(op))));
        };
        let at = self.at(word.span);
        match self.shared.plan.origin(word).map_err(|e| Diagnostic { span: Some(at), ..e })? {
            Origin::Scratch => Ok(None),
            Origin::Stage(index) => match self.shared.built.get(&index) {
                Some(built) => Ok(built.stage.output),
                None => Err(self.error(
                    "stage-failed",
                    word.span,
                    format!("the stage `{}` has errors", self.shared.plan.label(index)),
                )),
            },
            Origin::Image(reference) => {
                let platform = self.request.platform.clone();
                place.text = format!("FROM {reference}");
                if self.trigger.is_none() {
                    place.span = word.span;
                }
                let (id, _) = self.shared.image(&reference, &platform, at, place)?;
                Ok(Some(id))
            }
        }
    }

    /// Refuses what would have to be fetched.
    fn check_remote(&self, text: &str, word: &Word, add: bool) -> Result<(), Diagnostic> {
        let kind = match remote(text) {
            None => return Ok(()),
            Some(kind) => kind,
        };
        Err(match (add, kind) {
            (false, Remote::Url) => {
                self.error("copy-remote", word.span, "source can't be a URL for COPY").with_hint("use ADD")
            }
            (false, Remote::Git) => self
                .error("copy-remote", word.span, "source can't be a git ref for COPY")
                .with_hint("use ADD"),
            (true, Remote::Url) => self.error(
                "unsupported-source",
                word.span,
                format!("ADD of a URL is not supported yet by this version: `{text}`"),
            ),
            (true, Remote::Git) => self.error(
                "unsupported-source",
                word.span,
                format!("ADD of a Git repository is not supported yet by this version: `{text}`"),
            ),
        })
    }
}

enum Remote {
    Url,
    Git,
}

/// Tells a source that is fetched from one that is a path.
fn remote(text: &str) -> Option<Remote> {
    let http = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if let Some(rest) = http {
        let path = rest.split(['#', '?']).next().unwrap_or_default();
        return Some(if path.ends_with(".git") { Remote::Git } else { Remote::Url });
    }
    let git = text.starts_with("git://")
        || text.starts_with("ssh://")
        || text.strip_prefix("git@").is_some_and(|rest| rest.contains(':'));
    git.then_some(Remote::Git)
}

/// Returns the line as BuildKit writes it: `--from`, `--link` and `--exclude` are not in it.
fn history_line(
    keyword: &str,
    parents: bool,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[CopySource],
    destination: &str,
) -> String {
    let mut words = vec![keyword.to_owned()];
    words.extend(parents.then(|| "--parents".to_owned()));
    words.extend(chown.map(|owner| format!("--chown={owner}")));
    words.extend(chmod.map(|mode| format!("--chmod={mode}")));
    words.extend(sources.iter().filter_map(|source| match source {
        CopySource::Path(path) => Some(path.clone()),
        CopySource::Inline { .. } => None,
    }));
    words.extend(sources.iter().filter_map(|source| match source {
        CopySource::Inline { name, .. } => Some(format!("<<{name}")),
        CopySource::Path(_) => None,
    }));
    words.push(destination.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// Checks `--chmod`: octal up to 7777, or symbolic as chmod(1) takes it.
fn check_mode(mode: &str) -> Result<(), String> {
    let octal =
        || format!("invalid chmod parameter: `{mode}`: it should be octal string and between 0 and 07777");
    if mode.bytes().all(|b| b.is_ascii_digit()) {
        return match u32::from_str_radix(mode, 8) {
            Ok(value) if value <= 0o7777 => Ok(()),
            _ => Err(octal()),
        };
    }
    let clause = |clause: &str| {
        let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let starts = actions.starts_with(['+', '-', '=']);
        starts
            && actions.split(['+', '-', '=']).skip(1).all(|permissions| {
                matches!(permissions, "u" | "g" | "o")
                    || permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't'))
            })
    };
    match mode.split(',').all(clause) {
        true => Ok(()),
        false => Err(format!(
            "invalid chmod parameter: `{mode}`: expected octal as 755 or symbolic as u=rwX,go=rX"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_modes() {
        for good in ["0", "755", "07777", "u=rwX,go=rX", "+x", "g=u", "a-w", "u+s,+t", "u=", "u+x-w"] {
            assert_eq!(check_mode(good), Ok(()), "{good}");
        }
        for bad in ["8", "10000", "99999999999999", "u", "rwx", "u=rq", ",", "u+x,", "ug"] {
            assert!(check_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tells_remotes() {
        for (text, expect) in [
            ("a/b", "path"),
            ("http://a/b", "url"),
            ("https://a/b.git#main", "git"),
            ("https://a/b.git?ref=x", "git"),
            ("git@github.com:a/b", "git"),
            ("git@here", "path"),
            ("github.com/a/b", "path"),
            ("git://a/b", "git"),
        ] {
            let kind = match remote(text) {
                None => "path",
                Some(Remote::Url) => "url",
                Some(Remote::Git) => "git",
            };
            assert_eq!(kind, expect, "{text}");
        }
    }
}
