//! COPY and ADD: sources, destination, flags and history line.

use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Transfer;
use crate::dockerfile::ast::TransferSource;
use crate::dockerfile::ast::Word;
use crate::image::Digest;
use crate::remote;
use crate::remote::Address;
use crate::remote::AddressError;
use crate::remote::Mtime;
use crate::report::Diagnostic;

use super::graph::ContextOp;
use super::graph::CopyOp;
use super::graph::CopySource;
use super::graph::EdgeKind;
use super::graph::GitOp;
use super::graph::HttpOp;
use super::graph::Input;
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
        let mut inputs = Vec::new();
        let mut shown = Vec::new();
        let mut fetched = Remotes::default();
        // The input of the paths, once there is one.
        let mut paths = None;
        for source in &transfer.sources {
            sources.push(match source {
                TransferSource::Path(word) => {
                    let text = self.transfer_word(transfer, word)?;
                    shown.push(remote::redact(&text));
                    match self.remote(transfer, &text, word, add)? {
                        Some(op) => {
                            let place = self.place(format!("{keyword} {}", remote::redact(&text)));
                            let from = Some(self.shared.vertices.add(place.vertex(op.clone())));
                            inputs.push(Input { kind: EdgeKind::Source, from });
                            fetched.add(op, inputs.len())
                        }
                        None => {
                            let input = match paths {
                                Some(input) => input,
                                None => {
                                    let from = self.files_of(transfer.from.as_ref())?;
                                    inputs.push(Input { kind: EdgeKind::Source, from });
                                    *paths.insert(inputs.len())
                                }
                            };
                            CopySource::Path { input, path: text }
                        }
                    }
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
        self.check_remotes(instruction, transfer, &fetched)?;
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

        let line = history_line(
            keyword,
            transfer.parents,
            chown.as_deref(),
            chmod.as_deref(),
            &shown,
            &sources,
            &written,
        );
        // Names are looked up in the state below; numbers need nothing of it.
        let free = transfer.link && chown.as_deref().is_none_or(is_numeric_owner);
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
            source_date_epoch: self.shared.plan.source_date_epoch,
        };
        let under = if free { EdgeKind::Below } else { EdgeKind::Base };
        let id = self.advance(Op::Copy(op), under, inputs)?;
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

    /// Finds or makes the vertex that files are read from: what `--from` or `from=` names, or the
    /// build context; `None` is the empty state.
    pub(super) fn files_of(&mut self, from: Option<&Word>) -> Result<Option<VertexId>, Diagnostic> {
        let Some(word) = from else {
            return Ok(Some(self.context("context")));
        };
        let at = self.at(word.span);
        match self.shared.plan.origin(word).map_err(|e| Diagnostic { span: Some(at), ..e })? {
            Origin::Scratch => Ok(None),
            Origin::Context(name) => Ok(Some(self.context(&name))),
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
                let mut place = self.place(format!("FROM {reference}"));
                if self.trigger.is_none() {
                    place.span = word.span;
                }
                let (id, _) = self.shared.image(&reference, &platform, at, place)?;
                Ok(Some(id))
            }
        }
    }

    fn context(&mut self, name: &str) -> VertexId {
        let op = Op::Context(ContextOp { name: name.to_owned() });
        let place = self.place(name.to_owned());
        self.shared.vertices.add(place.vertex(op))
    }

    fn place(&self, text: String) -> Place {
        Place { text, span: self.span, line: self.line, stage: self.label.clone() }
    }

    /// Returns what there is to fetch for a source; `None` for a path.
    fn remote(
        &mut self,
        transfer: &Transfer,
        text: &str,
        word: &Word,
        add: bool,
    ) -> Result<Option<Op>, Diagnostic> {
        let Some(address) = remote::parse(text) else { return Ok(None) };
        let bad = |builder: &Self, span, error: AddressError| {
            builder.error("remote-source", span, error.to_string())
        };
        match (add, address) {
            // A word with a colon is also the name of a file, and nothing else for COPY.
            (false, _) if !text.contains("://") && !text.starts_with("git@") => Ok(None),
            (_, Err(error)) => Err(bad(self, word.span, error)),
            (false, Ok(Address::Http(_))) => Err(self
                .error("copy-remote", word.span, "source can't be a URL for COPY")
                .with_hint("use ADD")),
            (false, Ok(Address::Git(_))) => Err(self
                .error("copy-remote", word.span, "source can't be a git ref for COPY")
                .with_hint("use ADD")),
            (true, Ok(Address::Http(address))) => {
                let checksum = match self.flag_word(transfer.checksum.as_ref())? {
                    None => None,
                    Some(text) => Some(text.parse::<Digest>().map_err(|e| {
                        let span = transfer.checksum.as_ref().map_or(word.span, |word| word.span);
                        self.error("checksum", span, format!("invalid checksum `{text}`: {e}"))
                    })?),
                };
                let file_name = address.added_name().to_owned();
                let op = HttpOp { url: text.to_owned(), file_name, checksum };
                Ok(Some(Op::Http(op)))
            }
            (true, Ok(Address::Git(mut address))) => {
                if let Some(checksum) = self.flag_word(transfer.checksum.as_ref())? {
                    let span = transfer.checksum.as_ref().map_or(word.span, |word| word.span);
                    address = address.with_checksum(&checksum).map_err(|e| bad(self, span, e))?;
                }
                if let Some(keep) = transfer.keep_git_dir {
                    address = address.with_keep_git_dir(keep).map_err(|e| bad(self, word.span, e))?;
                }
                if self.shared.plan.source_date_epoch.is_some() {
                    address = address.with_default_mtime(Mtime::Commit);
                }
                Ok(Some(Op::Git(GitOp { address })))
            }
        }
    }

    /// Refuses flags that ask something of sources which are not there.
    fn check_remotes(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        remote: &Remotes,
    ) -> Result<(), Diagnostic> {
        if let Some(word) = &transfer.checksum {
            if remote.http + remote.git == 0 {
                return Err(self.error("checksum", word.span, "checksum requires HTTP(S) or Git sources"));
            }
            if transfer.sources.len() > 1 {
                return Err(self.error(
                    "checksum",
                    word.span,
                    "checksum can't be specified for multiple sources",
                ));
            }
        }
        if transfer.keep_git_dir == Some(true) && remote.git == 0 {
            let flag = instruction.flags.iter().find(|flag| flag.name == "keep-git-dir");
            let span = flag.map_or(instruction.span, |flag| flag.span);
            self.warn("FlagWithoutEffect", span, "--keep-git-dir has an effect on Git sources only");
        }
        Ok(())
    }
}

/// How many sources of each sort an instruction has.
#[derive(Default)]
struct Remotes {
    http: usize,
    git: usize,
}

impl Remotes {
    fn add(&mut self, op: Op, input: usize) -> CopySource {
        match op {
            Op::Http(http) => {
                self.http += 1;
                CopySource::Download { input, name: http.file_name }
            }
            _ => {
                self.git += 1;
                CopySource::Path { input, path: "/".to_owned() }
            }
        }
    }
}

/// Tells whether an owner is numbers alone.
fn is_numeric_owner(owner: &str) -> bool {
    owner.split(':').all(|part| part.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the line as BuildKit writes it: `--from`, `--link` and `--exclude` are not in it.
fn history_line(
    keyword: &str,
    parents: bool,
    chown: Option<&str>,
    chmod: Option<&str>,
    shown: &[String],
    sources: &[CopySource],
    destination: &str,
) -> String {
    let mut words = vec![keyword.to_owned()];
    words.extend(parents.then(|| "--parents".to_owned()));
    words.extend(chown.map(|owner| format!("--chown={owner}")));
    words.extend(chmod.map(|mode| format!("--chmod={mode}")));
    words.extend(shown.iter().cloned());
    words.extend(sources.iter().filter_map(|source| match source {
        CopySource::Inline { name, .. } => Some(format!("<<{name}")),
        CopySource::Path { .. } | CopySource::Download { .. } => None,
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
}
