//! An error and its causes as one line.

use std::error::Error;

/// Joins an error and its causes with `: `; a cause that was said already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Link {
            text: &'static str,
            source: Option<Box<Link>>,
        }
        let link = |text, source: Option<Link>| Link { text, source: source.map(Box::new) };
        let last = link("no space", None);
        let error = link("cannot build", Some(link("cannot write: no space", Some(last))));
        assert_eq!(chain(&error), "cannot build: cannot write: no space");
        assert_eq!(chain(&link("alone", None)), "alone");
    }
}
