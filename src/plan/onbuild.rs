//! ONBUILD: the triggers a base brings, read.
//!
//! Not here: executing them, which is `stage`'s like every other instruction.

use crate::dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::report::Diagnostic;
use crate::report::Span;

/// Reads a trigger; `place` is the FROM that brought it.
pub(super) fn parse(text: &str, place: Span) -> Result<Instruction, Diagnostic> {
    let fail = |why: String| {
        Diagnostic::error(
            "onbuild",
            place,
            format!("the base's trigger `ONBUILD {}` {why}", first_line(text)),
        )
    };
    let instruction = dockerfile::parse_onbuild(text)
        .map_err(|error| fail(format!("cannot be read: {}", error.message)))?;
    match instruction.kind {
        Kind::Onbuild(_) | Kind::From(_) | Kind::Maintainer(_) => {
            Err(fail("is not allowed: FROM, MAINTAINER and ONBUILD cannot be triggers".to_owned()))
        }
        Kind::Invalid => Err(fail("cannot be read".to_owned())),
        _ => Ok(instruction),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
