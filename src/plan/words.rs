//! Expansion of words with their place: `dockerfile::expand` with diagnostics.

use crate::dockerfile::ast::Heredoc;
use crate::dockerfile::ast::Word;
use crate::dockerfile::expand;
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::expand::Expanded;
use crate::dockerfile::expand::ExpandedWords;
use crate::dockerfile::expand::Lookup;
use crate::report::Diagnostic;
use crate::report::Span;

/// Expands a word to one text and removes its quotes.
pub(super) fn plain(word: &Word, escape: char, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
    expand::expand(&word.text, escape, lookup).map_err(at(word.span))
}

/// Expands a word of a JSON list or a flag's value: its quotes are characters of the text.
pub(super) fn bare(word: &Word, escape: char, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
    expand::expand_json(&word.text, escape, lookup).map_err(at(word.span))
}

/// Expands a heredoc's body: variables are replaced, quotes stay.
pub(super) fn body(heredoc: &Heredoc, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
    expand::expand_text(&heredoc.body, lookup).map_err(at(heredoc.span))
}

/// Expands a word that may become several, split at blanks outside quotes.
pub(super) fn several(word: &Word, escape: char, lookup: Lookup<'_>) -> Result<ExpandedWords, Diagnostic> {
    expand::expand_words(&word.text, escape, lookup).map_err(at(word.span))
}

fn at(span: Span) -> impl FnOnce(ExpandError) -> Diagnostic {
    move |error| Diagnostic::error("bad-substitution", span, error.to_string())
}
