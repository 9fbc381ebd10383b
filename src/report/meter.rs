//! Bytes counted as they pass, and told now and then: a transfer from its beginning to its end.
//!
//! Not here: drawing it (the sinks), and which bytes (who reads or writes them).

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{Event, Reporter, Transfer};

/// So many bytes are told at once: a screen is drawn ten times a second, a line of JSON is written each time.
const EVERY: u64 = 1 << 20;

/// Counts the bytes of one transfer; it ends when dropped.
pub struct Meter<'a> {
    reporter: &'a dyn Reporter,
    of: Arc<str>,
    part: String,
    done: u64,
    total: u64,
    told: u64,
}

impl<'a> Meter<'a> {
    /// Begins a transfer of one part; `total` is 0 where it is not known.
    ///
    /// `of` names it in a few words for people, without passwords, and is no other one's at that time.
    pub fn new(reporter: &'a dyn Reporter, of: &str, part: &str, total: u64) -> Meter<'a> {
        let meter = Meter { reporter, of: of.into(), part: part.to_owned(), done: 0, total, told: 0 };
        meter.tell(false);
        meter
    }

    /// Counts.
    pub fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        if self.done - self.told >= EVERY {
            self.told = self.done;
            self.tell(false);
        }
    }

    /// Has so many bytes of so many; fewer than before where it began anew.
    pub fn reach(&mut self, done: u64, total: u64) {
        if done < self.done || total != self.total {
            (self.done, self.told, self.total) = (0, 0, total);
        }
        self.add(done - self.done);
    }

    /// Counts what is read or written.
    pub fn of<T>(self, inner: T) -> Metered<'a, T> {
        Metered { inner, meter: self }
    }

    fn tell(&self, ended: bool) {
        let (of, part) = (self.of.clone(), self.part.clone());
        let (done, total) = (self.done, self.total);
        self.reporter.event(Event::Transfer(Transfer { of, part, done, total, ended }));
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.tell(true);
        self.reporter.event(Event::TransferEnded { of: self.of.clone() });
    }
}

/// A reader or writer whose bytes are counted.
pub struct Metered<'a, T> {
    inner: T,
    meter: Meter<'a>,
}

impl<T: Read> Read for Metered<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}

impl<T: Write> Write for Metered<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.meter.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(match event {
                Event::Transfer(t) => format!("{} {} {}/{} {}", t.of, t.part, t.done, t.total, t.ended),
                Event::TransferEnded { of } => format!("{of} ended"),
                other => panic!("{other:?}"),
            });
        }
    }

    #[test]
    fn bytes_are_told_now_and_then_and_at_the_end() {
        let heard = Heard::default();
        let mut out = Meter::new(&heard, "write f", "f", 0).of(Vec::new());
        for _ in 0..3 {
            out.write_all(&vec![0; 600 << 10]).unwrap();
        }
        assert_eq!(out.inner.len(), 1800 << 10);
        drop(out);
        let expect =
            ["write f f 0/0 false", "write f f 1228800/0 false", "write f f 1843200/0 true", "write f ended"];
        assert_eq!(*heard.0.lock().unwrap(), expect);
        let heard = Heard::default();
        let mut all = Vec::new();
        Meter::new(&heard, "fetch u", "u", 5).of(&b"bytes"[..]).read_to_end(&mut all).unwrap();
        let expect = ["fetch u u 0/5 false", "fetch u u 5/5 true", "fetch u ended"];
        assert_eq!(*heard.0.lock().unwrap(), expect);
    }
}
