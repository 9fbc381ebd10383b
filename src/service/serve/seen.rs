//! What was delivered before: ids that count once, in a file that a restart reads again.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys::atomic::publish;

/// How many are remembered; the file has twice as many at most.
const MOST: usize = 10_000;

/// The ids, oldest first.
#[derive(Debug)]
pub struct Seen {
    path: PathBuf,
    file: File,
    lines: usize,
    order: VecDeque<String>,
    all: HashSet<String>,
}

impl Seen {
    /// Reads what was seen before.
    pub fn open(path: &Path) -> io::Result<Seen> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let first = lines.len().saturating_sub(MOST);
        let order: VecDeque<String> = lines.drain(first..).map(str::to_owned).collect();
        let mut whole: String = order.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        if whole.is_empty() {
            whole.push('\n');
        }
        publish(&path.with_extension("new"), path, whole.as_bytes(), false)?;
        let file = OpenOptions::new().append(true).mode(0o600).open(path)?;
        let all = order.iter().cloned().collect();
        Ok(Seen { path: path.to_owned(), file, lines: order.len(), order, all })
    }

    /// Tells whether any of these was seen.
    pub fn any(&self, ids: &[String]) -> bool {
        ids.iter().any(|id| self.all.contains(id))
    }

    /// Remembers these.
    pub fn add(&mut self, ids: &[String]) -> io::Result<()> {
        if self.lines + ids.len() > 2 * MOST {
            *self = Seen::open(&self.path)?;
        }
        let text: String = ids.iter().flat_map(|id| [id.as_str(), "\n"]).collect();
        self.file.write_all(text.as_bytes())?;
        self.lines += ids.len();
        for id in ids {
            if self.all.insert(id.clone()) {
                self.order.push_back(id.clone());
            }
        }
        while self.order.len() > MOST {
            if let Some(old) = self.order.pop_front() {
                self.all.remove(&old);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        let id = |number: usize| vec![format!("id {number}")];
        let mut seen = Seen::open(&path).unwrap();
        assert!(!seen.any(&id(0)));
        for number in 0..2 * MOST + 10 {
            seen.add(&id(number)).unwrap();
        }
        for seen in [seen, Seen::open(&path).unwrap()] {
            assert!(seen.any(&id(2 * MOST + 9)) && seen.any(&id(MOST + 10)) && !seen.any(&id(9)));
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 2 * MOST, "{lines}");
    }
}
