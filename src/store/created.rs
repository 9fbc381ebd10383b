//! When a config was first assembled: what makes equal builds equal images.

use jiff::Timestamp;

use crate::image::Digest;

use super::error::read_if_there;
use super::{Store, StoreError};

impl Store {
    /// Returns the time a config was first assembled here, if it was.
    pub fn known_created(&self, config: &Digest) -> Result<Option<Timestamp>, StoreError> {
        Ok(read_if_there(&self.paths.created.join(config.hex()))?.and_then(|bytes| parse(&bytes)))
    }

    /// Returns the time a config (its digest without times) was first assembled here.
    ///
    /// Remembers `now` where it never was. Two processes that ask at once get the same answer.
    pub fn first_created(&self, config: &Digest, now: Timestamp) -> Result<Timestamp, StoreError> {
        let path = self.paths.created.join(config.hex());
        let text = now.to_string();
        loop {
            match read_if_there(&path)? {
                // The line end shows that the file is whole.
                Some(bytes) => match parse(&bytes) {
                    Some(time) => return Ok(time),
                    None => self.publish(&path, format!("{text}\n").as_bytes())?,
                },
                None => {
                    self.publish_new(&path, format!("{text}\n").as_bytes())?;
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_first_time_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (one, two): (Timestamp, Timestamp) =
            ("2024-01-01T00:00:00.5Z".parse().unwrap(), "2025-01-01T00:00:00Z".parse().unwrap());
        let config = Digest::of("config");
        assert_eq!(store.known_created(&config).unwrap(), None);
        assert_eq!(store.first_created(&config, one).unwrap(), one);
        assert_eq!(store.known_created(&config).unwrap(), Some(one));
        assert_eq!(store.first_created(&config, two).unwrap(), one);
        assert_eq!(store.first_created(&Digest::of("other"), two).unwrap(), two);
        std::fs::write(store.paths.created.join(config.hex()), "2024-01-01T00:00:0").unwrap();
        assert_eq!(store.first_created(&config, two).unwrap(), two);
    }
}
