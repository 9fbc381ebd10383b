//! Secrets: their bytes, read when a step needs them, and kept in memory only.
//!
//! Not here: where they come from (`step_options`), how a step sees them (`mount`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::MountError;
use crate::worker::step_options::SecretSource;

/// The largest secret, in bytes: what BuildKit takes.
pub const MAX_SECRET_BYTES: u64 = 500 * 1024;

/// The secrets that were read: a pipe can be read only once.
#[derive(Default)]
pub struct Secrets(Mutex<BTreeMap<String, Arc<[u8]>>>);

impl Secrets {
    /// Returns the bytes of a secret, or `None` where none has this id.
    pub fn get(
        &self,
        sources: &BTreeMap<String, SecretSource>,
        id: &str,
    ) -> Result<Option<Arc<[u8]>>, MountError> {
        let path = match sources.get(id) {
            None => return Ok(None),
            Some(SecretSource::Value(bytes)) => return within_limit(id, bytes.clone()).map(Some),
            Some(SecretSource::File(path)) => path,
        };
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = read.get(id) {
            return Ok(Some(bytes.clone()));
        }
        let failed = |source| MountError::ReadSecret { id: id.to_owned(), path: path.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let bytes = within_limit(id, bytes.into())?;
        read.insert(id.to_owned(), bytes.clone());
        Ok(Some(bytes))
    }
}

fn within_limit(id: &str, bytes: Arc<[u8]>) -> Result<Arc<[u8]>, MountError> {
    match bytes.len() as u64 > MAX_SECRET_BYTES {
        true => Err(MountError::SecretTooLarge { id: id.to_owned() }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_once_and_not_too_much() {
        let directory = tempfile::tempdir().unwrap();
        let (small, large) = (directory.path().join("small"), directory.path().join("large"));
        std::fs::write(&small, "1").unwrap();
        std::fs::write(&large, vec![0; MAX_SECRET_BYTES as usize + 1]).unwrap();
        let sources: BTreeMap<String, SecretSource> = [
            ("small", SecretSource::File(small.clone())),
            ("large", SecretSource::File(large.clone())),
            ("gone", SecretSource::File(directory.path().join("gone"))),
            ("most", SecretSource::Value(vec![0; MAX_SECRET_BYTES as usize].into())),
            ("more", SecretSource::Value(vec![0; MAX_SECRET_BYTES as usize + 1].into())),
        ]
        .map(|(id, source)| (id.to_owned(), source))
        .into();
        let secrets = Secrets::default();
        let get = |id: &str| secrets.get(&sources, id);
        assert_eq!(get("small").unwrap().as_deref(), Some(&b"1"[..]));
        std::fs::write(&small, "2").unwrap();
        assert_eq!(get("small").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(get("none").unwrap().is_none());
        assert!(matches!(get("large"), Err(MountError::SecretTooLarge { .. })));
        assert!(matches!(get("more"), Err(MountError::SecretTooLarge { .. })));
        assert!(matches!(get("gone"), Err(MountError::ReadSecret { .. })));
        assert!(get("most").is_ok());
    }
}
