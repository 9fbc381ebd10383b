//! What is wrong with an address.

use crate::report::redact;

/// Says why an address cannot be used. Holds no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad address `{address}`: {problem}")]
pub struct AddressError {
    address: String,
    problem: String,
}

impl AddressError {
    pub(super) fn new(address: &str, problem: impl Into<String>) -> AddressError {
        let escaped = |text: &str| -> String {
            text.chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                .collect()
        };
        AddressError { address: escaped(&redact(address)), problem: escaped(&redact(&problem.into())) }
    }

    /// Makes the error of an address whose part before the path cannot be told apart from a password.
    pub(super) fn authority(scheme: &str, problem: impl Into<String>) -> AddressError {
        AddressError { address: format!("{scheme}://..."), problem: problem.into() }
    }

    /// Returns what is wrong, without the address.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}
