//! How many triggers a minute a project takes: a bucket of tokens that fills steadily. Pure.

use std::time::Duration;

/// A bucket; full at first.
#[derive(Debug)]
pub struct Bucket {
    /// How many it holds, and gets in a minute.
    size: f64,
    left: f64,
    /// When `left` was true, since some start.
    at: Duration,
}

impl Bucket {
    /// Makes a full bucket for so many a minute.
    pub fn new(a_minute: u32, now: Duration) -> Bucket {
        let size = f64::from(a_minute);
        Bucket { size, left: size, at: now }
    }

    /// Takes one; an error says after how many seconds there is one again.
    pub fn take(&mut self, now: Duration) -> Result<(), u64> {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.size / 60.0).min(self.size);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        // What calculating rounds is no second.
        Err(((1.0 - self.left) * 60.0 / self.size - 1e-6).ceil().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_steadily() {
        let mut bucket = Bucket::new(2, Duration::ZERO);
        let mut take = |seconds| bucket.take(Duration::from_secs(seconds));
        assert_eq!((take(0), take(0), take(0)), (Ok(()), Ok(()), Err(30)));
        assert_eq!((take(20), take(30), take(30)), (Err(10), Ok(()), Err(30)));
        assert_eq!((take(1000), take(1000), take(1000)), (Ok(()), Ok(()), Err(30)));
    }
}
