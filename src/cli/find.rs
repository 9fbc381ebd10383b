//! What the commands share in finding images: docker's messages, sizes, times.

use super::error::CommandError;
use crate::image::SnapshotId;
use crate::store::{Found, Store};

/// Finds what a user calls an image: a name, an id, a unique part of one, a step's id.
pub fn find(store: &Store, name: &str) -> Result<Found, CommandError> {
    store.find(name).map_err(|error| if error.is_not_found() { no_such(name) } else { error.into() })
}

/// Makes docker's error for a name that leads nowhere.
pub fn no_such(name: &str) -> CommandError {
    let shown = match name.parse::<crate::image::Reference>() {
        Ok(reference) => reference.with_default_tag().to_string(),
        Err(_) => name.to_owned(),
    };
    CommandError::new(format!("No such image: {shown}"))
}

/// Returns the bytes of the files in layers, as far as they are known.
pub fn size(store: &Store, layers: &[SnapshotId]) -> u64 {
    layers.iter().filter_map(|layer| store.digests(layer).ok().flatten()).map(|d| d.file_bytes).sum()
}

/// Returns the seconds since an RFC 3339 time; `None` where it is not one.
pub fn seconds_since(time: &str) -> Option<i64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(jiff::Timestamp::now().as_second() - time.as_second())
}

/// Shows an RFC 3339 time in UTC, in a format of strftime(3); what is not one as it is.
pub fn utc(time: &str, format: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => time.to_owned(),
    }
}
