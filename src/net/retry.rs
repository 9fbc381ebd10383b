//! When a request is tried again, and after how long.
//!
//! Not here: waiting (`client`), and which errors pass (`error`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// How often and how fast a request is repeated that may yet succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; 1 for no repetition.
    pub tries: u32,
    /// The pause after the first; doubled after each further one.
    pub first_pause: Duration,
    /// The longest pause of our own choice.
    pub longest_pause: Duration,
    /// The longest pause that a server's `Retry-After` may ask for.
    pub longest_asked: Duration,
}

impl Default for RetryPolicy {
    /// Four tries, with pauses of 0.5, 1 and 2 s, or up to a minute each where the server asks for it.
    fn default() -> RetryPolicy {
        RetryPolicy {
            tries: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            longest_asked: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// Tries once.
    pub fn none() -> RetryPolicy {
        RetryPolicy { tries: 1, ..RetryPolicy::default() }
    }

    /// Returns the pause after the try of this number (the first is 1); `None` when it was the last.
    pub fn pause(&self, tried: u32, asked: Option<Duration>) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1 << tried.saturating_sub(1).min(16));
        Some(match asked {
            Some(asked) => asked.min(self.longest_asked).max(self.first_pause),
            None => doubled.min(self.longest_pause),
        })
    }
}

type Hear = dyn Fn(&str) + Send + Sync;

/// Hears, a line each, of what is to be tried again; the default hears nothing.
#[derive(Clone, Default)]
pub struct RetryListener(Option<Arc<Hear>>);

impl RetryListener {
    /// Makes one that calls `hear` with a line for people, on the thread that then waits.
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> RetryListener {
        RetryListener(Some(Arc::new(hear)))
    }

    /// Tells that the try of number `tried` of `policy` failed with `error`, and another comes after `pause`.
    ///
    /// `error` is for people, and without passwords.
    pub fn tell(&self, error: &dyn fmt::Display, tried: u32, policy: &RetryPolicy, pause: Duration) {
        if let Some(hear) = &self.0 {
            let (number, all) = (tried, policy.tries.saturating_sub(1));
            hear(&format!("retry {number} of {all} in {}: {error}", shown(pause)));
        }
    }
}

impl fmt::Debug for RetryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetryListener({})", self.0.is_some())
    }
}

/// Shows a pause: `0.5s`, `2s`, `1m0s`.
fn shown(pause: Duration) -> String {
    match (pause.as_secs(), pause.subsec_millis()) {
        (0, millis) if millis < 100 => format!("{millis}ms"),
        (whole, millis) if whole < 60 && millis >= 100 => format!("{whole}.{}s", millis / 100),
        (whole, _) if whole < 60 => format!("{whole}s"),
        (whole, _) => format!("{}m{}s", whole / 60, whole % 60),
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let policy = RetryPolicy { tries: 8, ..RetryPolicy::default() };
        let pauses: Vec<_> = (1..9).map(|n| policy.pause(n, None).map(|p| p.as_millis())).collect();
        let expect =
            [Some(500), Some(1000), Some(2000), Some(4000), Some(8000), Some(10000), Some(10000), None];
        assert_eq!(pauses, expect);
        let check = |asked: u64, expect: u128| {
            let pause = policy.pause(1, Some(Duration::from_secs(asked)));
            assert_eq!(pause.map(|p| p.as_millis()), Some(expect));
        };
        check(0, 500);
        check(7, 7000);
        check(3600, 60000);
        assert_eq!(RetryPolicy::none().pause(1, None), None);
        assert_eq!(
            RetryPolicy { tries: u32::MAX, ..policy }.pause(1 << 30, None),
            Some(policy.longest_pause)
        );
    }

    #[test]
    fn each_retry_is_a_line() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let own = heard.clone();
        let listener = RetryListener::new(move |line| own.lock().unwrap().push(line.to_owned()));
        let policy = RetryPolicy::default();
        for (tried, pause) in [(1, 500), (2, 1000), (3, 75_000)] {
            listener.tell(&"it broke", tried, &policy, Duration::from_millis(pause));
        }
        RetryListener::default().tell(&"nobody hears", 1, &policy, Duration::ZERO);
        let expect = [
            "retry 1 of 3 in 0.5s: it broke",
            "retry 2 of 3 in 1s: it broke",
            "retry 3 of 3 in 1m15s: it broke",
        ];
        assert_eq!(*heard.lock().unwrap(), expect);
        assert_eq!(shown(Duration::from_millis(10)), "10ms");
    }

    #[test]
    fn reads_what_the_server_asks_for() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let check = |value: &str, expect: Option<u64>| {
            assert_eq!(retry_after(value, now), expect.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(37));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
        check("99999999999999999999999", None);
    }
}
