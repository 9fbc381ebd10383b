//! SOURCE_DATE_EPOCH: a number, or the name of something whose time it is.
//!
//! The specification: <https://reproducible-builds.org/specs/source-date-epoch/>. Names are BuildKit's:
//! `context`, a named context, or a stage on scratch that fetches exactly one thing. Not here: finding
//! out those times (`build`).

use crate::dockerfile::ast::Kind;
use crate::report::Diagnostic;
use crate::report::Severity;

use super::Bases;
use super::NamedContext;
use super::graph::Op;
use super::outline::EpochNeed;
use super::stage;
use super::stage::Shared;
use super::stages::Origin;
use super::stages::Plan;

const NAME: &str = "SOURCE_DATE_EPOCH";

impl Plan<'_> {
    /// Reads the variable: sets the time, or what must be known for it.
    pub(super) fn read_epoch(&mut self) -> Result<(), Diagnostic> {
        let value = match self.request.build_args.get(NAME) {
            Some(value) => value.as_str(),
            None => self.globals.get(NAME).unwrap_or_default(),
        };
        if value.is_empty() {
            return Ok(());
        }
        if let Ok(seconds) = value.parse::<i64>() {
            self.source_date_epoch = Some(seconds);
            return Ok(());
        }
        self.epoch = Some(self.epoch_named(value)?);
        Ok(())
    }

    fn epoch_named(&self, value: &str) -> Result<EpochNeed, Diagnostic> {
        let error = |message: String, hint: &str| Diagnostic {
            severity: Severity::Error,
            code: "source-date-epoch",
            message,
            span: None,
            hint: Some(hint.to_owned()),
        };
        if value == "context" {
            return Ok(EpochNeed::Context(value.to_owned()));
        }
        match self.request.contexts.get(value) {
            Some(NamedContext::Files) => return Ok(EpochNeed::Context(value.to_owned())),
            Some(NamedContext::Image(_)) => {
                return Err(error(
                    format!("SOURCE_DATE_EPOCH `{value}` is an image, which has no time of its own"),
                    "name a context of files, or give a number of seconds since 1970",
                ));
            }
            None => {}
        }
        let Some(index) = self.stage_named(value) else {
            return Err(error(
                format!("SOURCE_DATE_EPOCH `{value}` is not a number of seconds since 1970"),
                "it may also be `context`, a named context, or a stage that fetches one thing onto scratch",
            ));
        };
        let stage = &self.stages[index];
        let only_fetches = || {
            error(
                format!(
                    "SOURCE_DATE_EPOCH `{value}`: the stage must be `FROM scratch` with one ADD of one remote source"
                ),
                "a stage has a time only when it is one thing that is fetched",
            )
        };
        let fits = stage.base == Ok(Origin::Scratch)
            && stage.body.iter().all(|i| matches!(i.kind, Kind::Add(_) | Kind::Arg(_) | Kind::Label(_)));
        if !fits {
            return Err(only_fetches());
        }
        let bases = Bases::new();
        let mut shared = Shared::new(self, &bases);
        stage::build(&mut shared, index, &[]);
        if let Some(first) = shared.findings.iter().find(|finding| finding.is_error()) {
            return Err(first.clone());
        }
        let mut sources = shared.vertices.list().iter().filter(|v| !matches!(v.op, Op::Copy(_)));
        match (sources.next().map(|v| &v.op), sources.next()) {
            (Some(op @ (Op::Http(_) | Op::Git(_))), None) => Ok(EpochNeed::Source(Box::new(op.clone()))),
            _ => Err(only_fetches()),
        }
    }
}
