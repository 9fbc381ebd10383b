//! The instructions that change the config: ENV, ARG, CMD, EXPOSE and the like, and WORKDIR.
//!
//! History lines are written as BuildKit writes them, so that tools that read
//! them find what they know.

use crate::dockerfile::ast::ArgDefinition;
use crate::dockerfile::ast::CommandLine;
use crate::dockerfile::ast::Healthcheck;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::ast::Pair;
use crate::dockerfile::ast::Word;
use crate::image;
use crate::report::Diagnostic;
use crate::report::Span;

use super::change::Change;
use super::gofmt;
use super::graph::EdgeKind;
use super::graph::Op;
use super::graph::VertexId;
use super::graph::WorkdirOp;
use super::path;
use super::scope;
use super::signal;
use super::stage::Builder;

/// Every port of every protocol.
const MAX_PORTS: usize = 3 * 65536;

impl Builder<'_, '_> {
    /// Executes an instruction that makes no vertex.
    pub(super) fn configure(&mut self, instruction: &Instruction, kind: &Kind) -> Result<(), Diagnostic> {
        match kind {
            Kind::Arg(definitions) => self.arg(definitions),
            Kind::Env(pairs) => self.env(pairs),
            Kind::Label(pairs) => self.label(pairs),
            Kind::User(word) => self.user(word),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Expose(words) => self.expose(words),
            Kind::Volume(words) => self.volume(words, instruction),
            Kind::Shell(words) => {
                self.change(Change::Shell(words.clone()));
                self.commit(format!("SHELL {}", gofmt::plain_list(words)), false)?;
                Ok(())
            }
            Kind::Stopsignal(word) => self.stopsignal(word),
            Kind::Healthcheck(check) => self.healthcheck(check),
            Kind::Onbuild(inner) => {
                self.change(Change::OnBuild(inner.text()));
                Ok(())
            }
            Kind::Maintainer(name) => {
                self.image.author = Some(name.clone());
                self.commit(format!("MAINTAINER {name}"), false)?;
                Ok(())
            }
            Kind::From(_)
            | Kind::Run(_)
            | Kind::Copy(_)
            | Kind::Add(_)
            | Kind::Workdir(_)
            | Kind::Invalid => Ok(()),
        }
    }

    fn arg(&mut self, definitions: &[ArgDefinition]) -> Result<(), Diagnostic> {
        let mut line = String::from("ARG");
        for definition in definitions {
            let name = &definition.name;
            self.check_secret("ARG", name, definition.span);
            let given = self.request.build_args.get(name).cloned();
            let value = match (given, &definition.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.shared.plan.globals.get(name).map(str::to_owned),
            };
            line.push(' ');
            line.push_str(name);
            if let Some(value) = &value {
                line.push('=');
                line.push_str(value);
            }
            self.shared.declared.push(name.clone());
            self.variables.declare(name, value);
        }
        self.commit(line, false)?;
        Ok(())
    }

    fn env(&mut self, pairs: &[Pair]) -> Result<(), Diagnostic> {
        let set = self.pairs("ENV", pairs)?;
        for ((key, _), pair) in set.iter().zip(pairs) {
            self.check_secret("ENV", key, pair.key.span);
        }
        self.change(Change::Env(set));
        Ok(())
    }

    fn label(&mut self, pairs: &[Pair]) -> Result<(), Diagnostic> {
        let set = self.pairs("LABEL", pairs)?;
        self.change(Change::Labels(set));
        Ok(())
    }

    /// Expands all pairs of an instruction, then writes its line: none sees another's value.
    fn pairs(&mut self, keyword: &str, pairs: &[Pair]) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut set = Vec::with_capacity(pairs.len());
        let mut line = keyword.to_owned();
        for pair in pairs {
            let key = self.expand(&pair.key)?;
            let value = self.expand(&pair.value)?;
            if key.is_empty() {
                return Err(self.error(
                    "blank-name",
                    pair.key.span,
                    format!("{keyword} names can not be blank"),
                ));
            }
            line.push_str(&format!(" {key}={value}"));
            set.push((key, value));
        }
        self.commit(line, false)?;
        Ok(set)
    }

    fn check_secret(&mut self, keyword: &str, name: &str, span: Span) {
        if scope::looks_secret(name) {
            self.warn(
                "SecretsUsedInArgOrEnv",
                span,
                format!("do not use ARG or ENV instructions for sensitive data ({keyword} `{name}`)"),
            );
        }
    }

    fn user(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(word)?;
        self.commit(format!("USER {user}"), false)?;
        self.change(Change::User(user));
        Ok(())
    }

    fn command(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Shell(text) => self.with_shell(text.clone()),
            CommandLine::Exec(args) => args.clone(),
        }
    }

    fn cmd(&mut self, command: &CommandLine) -> Result<(), Diagnostic> {
        let args = self.command(command);
        self.commit(format!("CMD {}", gofmt::quoted_list(&args)), false)?;
        self.change(Change::Cmd(args));
        self.cmd_set = true;
        Ok(())
    }

    fn entrypoint(&mut self, command: &CommandLine) -> Result<(), Diagnostic> {
        let args = self.command(command);
        self.commit(format!("ENTRYPOINT {}", gofmt::quoted_list(&args)), false)?;
        self.change(Change::Entrypoint(args));
        if !self.cmd_set {
            self.change(Change::NoCmd);
        }
        Ok(())
    }

    fn expose(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        let mut sorted: Vec<&Word> = words.iter().collect();
        sorted.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ports = Vec::new();
        for word in sorted {
            for text in self.expand_several(word)? {
                let exposed = parse_ports(&text).map_err(|why| self.error("invalid-port", word.span, why))?;
                let protocol = text.rsplit_once('/').map_or("", |(_, protocol)| protocol);
                if protocol.contains(|c: char| c.is_ascii_uppercase()) {
                    self.warn(
                        "ExposeProtoCasing",
                        word.span,
                        format!("defined protocol `{text}` in EXPOSE instruction should be lowercase"),
                    );
                }
                if exposed.with_host {
                    self.warn(
                        "ExposeInvalidFormat",
                        word.span,
                        format!("EXPOSE instruction should not define an IP address or host-port mapping, found `{text}`"),
                    );
                }
                if ports.len() + exposed.ports.len() > MAX_PORTS {
                    let message = format!("one EXPOSE can not name more than {MAX_PORTS} ports");
                    return Err(self.error("invalid-port", word.span, message));
                }
                // Also stands for the time they take: ranges are the shortest way to write much.
                self.shared.spend(64 * exposed.ports.len(), self.at(word.span))?;
                ports.extend(exposed.ports);
            }
        }
        self.commit(format!("EXPOSE {}", gofmt::plain_list(&ports)), false)?;
        self.change(Change::Ports(ports));
        Ok(())
    }

    fn volume(&mut self, words: &[Word], instruction: &Instruction) -> Result<(), Diagnostic> {
        let rest = instruction.original.trim_start().get(instruction.keyword.len()..).unwrap_or_default();
        let json = rest.trim_start().starts_with('[');
        let mut volumes = Vec::with_capacity(words.len());
        for word in words {
            let volume = if json { self.expand_bare(word)? } else { self.expand(word)? };
            if volume.is_empty() {
                return Err(self.error("blank-volume", word.span, "VOLUME can not be an empty string"));
            }
            volumes.push(volume);
        }
        self.commit(format!("VOLUME {}", gofmt::plain_list(&volumes)), false)?;
        self.change(Change::Volumes(volumes));
        Ok(())
    }

    fn stopsignal(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let signal = self.expand(word)?;
        if !signal::is_signal(&signal) {
            return Err(self
                .error("invalid-signal", word.span, format!("invalid signal: `{signal}`"))
                .with_hint("a signal is a number from 1 to 64 or a name as in signal(7), such as SIGTERM"));
        }
        self.commit(format!("STOPSIGNAL {signal}"), false)?;
        self.change(Change::StopSignal(signal));
        Ok(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Diagnostic> {
        let health = match check {
            Healthcheck::None => image::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
            Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } => {
                let test = match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandLine::Exec(args) => [vec!["CMD".to_owned()], args.clone()].concat(),
                };
                image::Healthcheck {
                    test,
                    interval: self.duration("interval", interval.as_ref())?,
                    timeout: self.duration("timeout", timeout.as_ref())?,
                    start_period: self.duration("start-period", start_period.as_ref())?,
                    start_interval: self.duration("start-interval", start_interval.as_ref())?,
                    retries: self.retries(retries.as_ref())?,
                }
            }
        };
        self.commit(
            format!(
                "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
                gofmt::plain_list(&health.test),
                gofmt::duration(health.interval),
                gofmt::duration(health.timeout),
                gofmt::duration(health.start_period),
                gofmt::duration(health.start_interval),
                health.retries,
            ),
            false,
        )?;
        self.change(Change::Healthcheck(health));
        Ok(())
    }

    /// Reads a duration: zero, or a millisecond and more.
    fn duration(&mut self, flag: &str, word: Option<&Word>) -> Result<i64, Diagnostic> {
        let Some(word) = word else { return Ok(0) };
        let text = self.expand_bare(word)?;
        match gofmt::parse_duration(&text) {
            Some(0) => Ok(0),
            Some(n) if n >= 1_000_000 => Ok(n),
            Some(_) => Err(self.error(
                "invalid-duration",
                word.span,
                format!("--{flag} `{text}` cannot be less than 1ms"),
            )),
            None => Err(self
                .error("invalid-duration", word.span, format!("--{flag} `{text}` is not a duration"))
                .with_hint("write a number with a unit: 500ms, 30s, 1m30s, 2h")),
        }
    }

    fn retries(&mut self, word: Option<&Word>) -> Result<i64, Diagnostic> {
        let Some(word) = word else { return Ok(0) };
        let text = self.expand_bare(word)?;
        match text.parse::<i32>() {
            Ok(n) if n >= 0 => Ok(i64::from(n)),
            Ok(_) => Err(self.error(
                "invalid-retries",
                word.span,
                format!("--retries cannot be negative (`{text}`)"),
            )),
            Err(_) => {
                Err(self.error("invalid-retries", word.span, format!("--retries `{text}` is not a number")))
            }
        }
    }

    /// Executes WORKDIR; `/` is always there and makes no vertex.
    pub(super) fn workdir(&mut self, word: &Word) -> Result<Option<VertexId>, Diagnostic> {
        let text = self.expand(word)?;
        if !self.workdir_set && !text.starts_with('/') {
            self.warn(
                "WorkdirRelativePath",
                word.span,
                format!("relative workdir `{text}` can have unexpected results if the base image changes"),
            );
        }
        self.workdir_set = true;
        let workdir = path::join(&self.image.config.working_dir, &text);
        self.change(Change::WorkingDir(workdir.clone()));
        let vertex = match workdir.as_str() {
            "/" => None,
            path => {
                let user = self.image.config.user.clone();
                let source_date_epoch = self.shared.plan.source_date_epoch;
                let op = WorkdirOp { path: path.to_owned(), user, source_date_epoch };
                Some(self.advance(Op::Workdir(op), EdgeKind::Base, Vec::new())?)
            }
        };
        self.commit(format!("WORKDIR {workdir}"), vertex.is_some())?;
        Ok(vertex)
    }
}

/// What one word of EXPOSE means.
struct Exposed {
    /// Each as `80/tcp`.
    ports: Vec<String>,
    /// Whether an address or a port of the host was given too.
    with_host: bool,
}

/// Reads `[[ip:]host:]port[-last][/protocol]`.
fn parse_ports(text: &str) -> Result<Exposed, String> {
    let (host, rest) = match text.rsplit_once(':') {
        Some((host, rest)) => (Some(host), rest),
        None => (None, text),
    };
    let (range, protocol) = rest.split_once('/').unwrap_or((rest, ""));
    if range.is_empty() {
        return Err(format!("no port specified: `{text}`"));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid proto: `{protocol}`: expected tcp, udp or sctp")),
    };
    let (first, last) = port_range(range).ok_or_else(|| {
        format!("invalid containerPort: `{range}`: expected a port from 0 to 65535 or a range")
    })?;
    if let Some(host) = host {
        let (ip, port) = match host.rsplit_once(':') {
            Some((ip, port)) => (ip, port),
            None => ("", host),
        };
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: `{ip}`"));
        }
        if !port.is_empty() {
            let (from, to) = port_range(port).ok_or_else(|| format!("invalid hostPort: `{port}`"))?;
            if to - from != last - first && last != first {
                return Err(format!(
                    "invalid ranges specified for container and host Ports: `{range}` and `{port}`"
                ));
            }
        }
    }
    let ports = (first..=last).map(|port| format!("{port}/{protocol}")).collect();
    Ok(Exposed { ports, with_host: host.is_some() })
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let port =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports() {
        for (text, ports, with_host) in [
            ("80", "80/tcp", false),
            ("53/UDP", "53/udp", false),
            ("80-82", "80/tcp 81/tcp 82/tcp", false),
            ("8080:80", "80/tcp", true),
            ("127.0.0.1:8080:80/tcp", "80/tcp", true),
            ("[::1]:8080:80", "80/tcp", true),
            ("0", "0/tcp", false),
            ("8000-9000:80", "80/tcp", true),
        ] {
            let exposed = parse_ports(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((exposed.ports.join(" ").as_str(), exposed.with_host), (ports, with_host), "{text}");
        }
        for bad in ["", "/tcp", "65536", "80/foo", "9-8", "a", "80-", "x:80:80", "1-2:80-90", "+1", "1-2-3"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
