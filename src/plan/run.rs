//! RUN: its command line, environment, network and history line.

use std::fmt::Write as _;

use crate::dockerfile::ast::CommandLine;
use crate::dockerfile::ast::Heredoc;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Run;
use crate::dockerfile::ast::Word;
use crate::report::Diagnostic;
use crate::report::Span;

use super::graph::EdgeKind;
use super::graph::Input;
use super::graph::MountKind;
use super::graph::NetworkMode;
use super::graph::Op;
use super::graph::RunMount;
use super::graph::RunOp;
use super::graph::Script;
use super::graph::Security;
use super::graph::VertexId;
use super::mount;
use super::mount::Type;
use super::path;
use super::scope;
use super::stage::Builder;

impl Builder<'_, '_> {
    /// Executes RUN.
    pub(super) fn run(&mut self, instruction: &Instruction, run: &Run) -> Result<VertexId, Diagnostic> {
        let flag = |name: &str| {
            let found = instruction.flags.iter().find(|flag| flag.name.eq_ignore_ascii_case(name));
            found.map_or(instruction.keyword_span, |flag| flag.span)
        };
        if !run.devices.is_empty() {
            return Err(self.error(
                "unsupported-device",
                flag("device"),
                "`RUN --device` is not supported yet by this version",
            ));
        }
        let security = self.security(run, flag("security"))?;
        let network = self.network(run, flag("network"))?;

        let (args, script) = match &run.command {
            CommandLine::Exec(args) => (args.clone(), None),
            CommandLine::Shell(text) => {
                let (command, script) = shell_command(text, &run.heredocs);
                (self.with_shell(command), script)
            }
        };
        if args.is_empty() {
            return Err(self.error("empty-command", instruction.span, "RUN needs a command"));
        }
        let (mounts, inputs) = self.mounts(run)?;
        let env_unkeyed = scope::proxies(&self.request.build_args)
            .into_iter()
            .filter(|(name, _)| !self.variables.is_visible(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = self.run_line(&args);
        let op = RunOp {
            args,
            env: self.variables.environment(),
            env_unkeyed,
            workdir: path::join("/", &self.image.config.working_dir),
            user: self.image.config.user.clone(),
            network,
            security,
            mounts,
            extra_hosts: self.request.extra_hosts.clone(),
            hostname: self.hostname()?,
            volumes: self.request.volumes.clone(),
            script,
            source_date_epoch: self.shared.plan.source_date_epoch,
        };
        let id = self.advance(Op::Run(op), EdgeKind::Base, inputs)?;
        self.commit(line, true)?;
        Ok(id)
    }

    fn network(&mut self, run: &Run, flag: Span) -> Result<NetworkMode, Diagnostic> {
        let Some(word) = &run.network else { return Ok(self.request.network) };
        let text = self.expand_bare(word)?;
        let allowed = self.request.network == NetworkMode::Host || self.request.entitlements.network_host;
        match text.as_str() {
            "default" | "" => Ok(self.request.network),
            "none" => Ok(NetworkMode::None),
            "host" if allowed => Ok(NetworkMode::Host),
            "host" => Err(self
                .error(
                    "network-not-allowed",
                    flag,
                    "network.host is not allowed; `RUN --network=host` needs the consent of the command line",
                )
                .with_hint("build with `--allow network.host`")),
            other => Err(self.error(
                "invalid-network",
                flag,
                format!("network mode `{other}` is not valid: expected default, none or host"),
            )),
        }
    }

    fn security(&mut self, run: &Run, flag: Span) -> Result<Security, Diagnostic> {
        let Some(word) = &run.security else { return Ok(Security::Sandbox) };
        let text = self.expand_bare(word)?;
        match text.as_str() {
            "sandbox" | "" => Ok(Security::Sandbox),
            "insecure" if self.request.entitlements.security_insecure => Ok(Security::Insecure),
            "insecure" => Err(self
                .error(
                    "security-not-allowed",
                    flag,
                    "security.insecure is not allowed; `RUN --security=insecure` needs the consent of the command line",
                )
                .with_hint("build with `--allow security.insecure`")),
            _ => {
                let message = format!("security `{text}` is not valid: expected sandbox or insecure");
                Err(self.error("invalid-security", flag, message))
            }
        }
    }

    /// Returns the name of the host that steps see, where the command line sets it.
    fn hostname(&self) -> Result<Option<String>, Diagnostic> {
        let Some(name) = self.request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") else { return Ok(None) };
        // It becomes a line of /etc/hosts; hostname(7) has the letters, sethostname(2) the length.
        let fits = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        match fits {
            true => Ok(Some(name.clone())),
            false => Err(self.error(
                "invalid-hostname",
                self.span,
                format!("BUILDKIT_SANDBOX_HOSTNAME `{name}` is no name of a host: letters, digits, `-`, `.` and `_`"),
            )),
        }
    }

    /// Reads the mounts, and finds what they show: the inputs after the base, in order.
    fn mounts(&mut self, run: &Run) -> Result<(Vec<RunMount>, Vec<Input>), Diagnostic> {
        let mut mounts = Vec::with_capacity(run.mounts.len());
        let mut inputs: Vec<Input> = Vec::new();
        let workdir = path::join("/", &self.image.config.working_dir);
        let mut agents = 0;
        for word in &run.mounts {
            let at = self.at(word.span);
            let mut expand =
                |value: &str| self.expand_bare(&Word { text: value.to_owned(), span: word.span });
            let mount = mount::parse(word, &mut expand).map_err(|e| Diagnostic { span: Some(at), ..e })?;
            let target = match mount.target {
                Some(_) => mount.target_in(&workdir),
                None => Some(String::new()),
            };
            let Some(mut target) = target else {
                let written = mount.target.unwrap_or_default();
                return Err(self.error(
                    "invalid-mount",
                    word.span,
                    format!("invalid mount target \"{written}\": it is the root"),
                ));
            };
            let mut edge = |builder: &mut Self, kind: EdgeKind| {
                let from = builder.mounted(mount.from.as_deref(), word)?;
                inputs.push(Input { kind, from });
                Ok::<usize, Diagnostic>(inputs.len())
            };
            let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            let kind = match mount.kind {
                Type::Bind => MountKind::Bind {
                    input: edge(self, EdgeKind::Mount)?,
                    source: mount.source_path(),
                    writable: mount.read_only == Some(false),
                },
                Type::Cache => {
                    let input = match mount.from {
                        Some(_) => Some(edge(self, EdgeKind::Seed)?),
                        None => None,
                    };
                    let id = mount.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| target.clone());
                    let id = match self.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
                        Some(namespace) => format!("{namespace}/{id}"),
                        None => id,
                    };
                    MountKind::Cache {
                        id,
                        sharing: mount.sharing.unwrap_or_default(),
                        input,
                        source: mount.source_path(),
                        read_only: mount.read_only == Some(true),
                        mode: mount.mode.unwrap_or(0o755),
                        uid: owner.0,
                        gid: owner.1,
                    }
                }
                Type::Tmpfs => MountKind::Tmpfs { size: mount.size },
                Type::Secret => {
                    let named = mount.id.clone().or_else(|| mount.source.clone()).filter(|id| !id.is_empty());
                    let id = named.unwrap_or_else(|| base_name(&target).to_owned());
                    if target.is_empty() {
                        target = format!("/run/secrets/{}", base_name(&id));
                    }
                    MountKind::Secret {
                        id,
                        file: mount.target.is_some() || mount.env.is_none(),
                        env: mount.env.clone(),
                        required: mount.required,
                        mode: mount.mode.unwrap_or(0o400),
                        uid: owner.0,
                        gid: owner.1,
                    }
                }
                Type::Ssh => {
                    let named = mount.id.clone().or_else(|| mount.source.clone()).filter(|id| !id.is_empty());
                    if target.is_empty() {
                        target = format!("/run/buildkit/ssh_agent.{agents}");
                    }
                    agents += 1;
                    MountKind::Ssh {
                        id: named.unwrap_or_else(|| "default".to_owned()),
                        required: mount.required,
                        mode: mount.mode.unwrap_or(0o600),
                        uid: owner.0,
                        gid: owner.1,
                    }
                }
            };
            mounts.push(RunMount { target, kind });
        }
        Ok((mounts, inputs))
    }

    /// Finds or makes the vertex that a mount shows files of; without `from`, the build context.
    fn mounted(&mut self, from: Option<&str>, word: &Word) -> Result<Option<VertexId>, Diagnostic> {
        let named = from.map(|from| Word { text: from.to_owned(), span: word.span });
        self.files_of(named.as_ref())
    }

    /// Returns `RUN |2 A=1 B= /bin/sh -c command # buildkit`.
    fn run_line(&self, args: &[String]) -> String {
        let mut line = "RUN ".to_owned();
        let declared = self.variables.args();
        if !declared.is_empty() {
            let _ = write!(line, "|{} ", declared.len());
            for (name, _) in declared {
                let _ = write!(line, "{name}={} ", self.variables.value(name).unwrap_or_default());
            }
        }
        for word in args {
            line.push_str(word);
            line.push(' ');
        }
        line.push_str("# buildkit");
        line
    }
}

/// Returns the last part of a path.
fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Returns what the shell is given for a text with heredocs, and the script to place.
///
/// A heredoc alone is the command itself, or a program of its own when it starts
/// with `#!`; with a command in front the shell reads the heredocs, put back after it.
fn shell_command(text: &str, heredocs: &[Heredoc]) -> (String, Option<Script>) {
    match heredocs {
        [] => (text.to_owned(), None),
        [only] if is_only_heredoc(text, only) => match only.body.starts_with("#!") {
            true => {
                let script = Script { name: only.name.clone(), body: only.body.clone() };
                (format!("/dev/pipes/{}", only.name), Some(script))
            }
            false => (only.body.clone(), None),
        },
        several => {
            let mut command = text.to_owned();
            for heredoc in several {
                command.push('\n');
                command.push_str(&heredoc.body);
                command.push_str(&heredoc.name);
            }
            (command, None)
        }
    }
}

/// Tells whether a command is nothing but `<<NAME`.
fn is_only_heredoc(text: &str, heredoc: &Heredoc) -> bool {
    let text = text.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(word) = text.strip_prefix("<<") else { return false };
    let word = word.strip_prefix('-').unwrap_or(word);
    let bare: String = word.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    bare == heredoc.name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heredoc(name: &str, body: &str) -> Heredoc {
        Heredoc {
            name: name.to_owned(),
            expand: true,
            strip_tabs: false,
            descriptor: None,
            body: body.to_owned(),
            span: Span::default(),
        }
    }

    #[test]
    fn rebuilds_heredoc_commands() {
        let sh = heredoc("EOF", "echo a\n");
        let py = heredoc("EOF", "#!/usr/bin/python\n1\n");
        assert_eq!(shell_command("<<EOF", std::slice::from_ref(&sh)), ("echo a\n".to_owned(), None));
        assert_eq!(shell_command("<<-'EOF' ", std::slice::from_ref(&sh)), ("echo a\n".to_owned(), None));
        let (command, script) = shell_command("<<EOF", std::slice::from_ref(&py));
        assert_eq!(command, "/dev/pipes/EOF");
        assert_eq!(script.map(|s| s.body), Some(py.body.clone()));
        let (command, script) = shell_command("cat <<EOF >x", std::slice::from_ref(&py));
        assert_eq!(command, "cat <<EOF >x\n#!/usr/bin/python\n1\nEOF");
        assert_eq!(script, None);
        let two = [heredoc("A", "1\n"), heredoc("B", "2\n")];
        assert_eq!(shell_command("<<A <<B", &two).0, "<<A <<B\n1\nA\n2\nB");
    }
}
