//! Whether a container works: the checks of HEALTHCHECK, what came of them, and the words for it.
//!
//! Pure. The rules are docker's: so many failures in a row make it unhealthy, one success healthy, and
//! failures soon after the start do not count. Not here: running the checks (`supervisor`).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::{ContainerConfig, Healthcheck};

/// How many results are kept.
const KEPT: usize = 5;
/// How many bytes of a check's output are kept.
pub const OUTPUT_LIMIT: usize = 4096;

/// What is known of a container that has checks; docker's `State.Health`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    pub status: HealthStatus,
    /// How many checks in a row failed.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<Probed>,
}

impl Health {
    /// Notes that the container has ended: who does not run is not well.
    pub fn ended(&mut self) {
        self.status = HealthStatus::Unhealthy;
    }
}

/// Whether it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It is not known yet.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// Returns the word that filters and templates have for it.
    pub fn name(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// As the list of containers has it: `health: starting`, `healthy`, `unhealthy`.
impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HealthStatus::Starting => f.write_str("health: starting"),
            other => f.write_str(other.name()),
        }
    }
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probed {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 is success; -1 where it did not start or took too long.
    pub exit_code: i32,
    pub output: String,
}

/// How a container is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Never empty.
    pub args: Vec<String>,
    interval: Duration,
    pub timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Checks {
    /// Reads the checks of a config, with docker's defaults; `None` where there are none.
    pub fn of(config: &ContainerConfig) -> Option<Checks> {
        let check = config.healthcheck.as_ref()?;
        let args = match check.test.split_first()? {
            (kind, args) if kind == "CMD" && !args.is_empty() => args.to_vec(),
            (kind, [command, ..]) if kind == "CMD-SHELL" => {
                let shell = config.shell.clone().filter(|shell| !shell.is_empty());
                let mut args = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                args.push(command.clone());
                args
            }
            _ => return None,
        };
        let time = |nanos: i64, else_s| match u64::try_from(nanos) {
            Ok(0) | Err(_) => Duration::from_secs(else_s),
            Ok(nanos) => Duration::from_nanos(nanos),
        };
        Some(Checks {
            args,
            interval: time(check.interval, 30),
            timeout: time(check.timeout, 30),
            start_period: time(check.start_period, 0),
            start_interval: time(check.start_interval, 5),
            retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0).unwrap_or(3),
        })
    }

    /// Returns how long the next check waits, so long after the start.
    pub fn pause(&self, health: &Health, age: Duration) -> Duration {
        match health.status == HealthStatus::Starting && age < self.start_period {
            true => self.start_interval,
            false => self.interval,
        }
    }

    /// Notes what came of a check that began so long after the start.
    pub fn note(&self, health: &mut Health, age: Duration, probed: Probed) {
        if probed.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if health.status != HealthStatus::Starting || age >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        health.log.push(probed);
        let old = health.log.len().saturating_sub(KEPT);
        health.log.drain(..old);
    }
}

/// Fills what the command line did not say of the checks from the image's.
pub fn merge(own: Healthcheck, of_image: Option<Healthcheck>) -> Healthcheck {
    let image = of_image.unwrap_or_default();
    let or = |own: i64, image: i64| if own == 0 { image } else { own };
    Healthcheck {
        test: if own.test.is_empty() { image.test } else { own.test },
        interval: or(own.interval, image.interval),
        timeout: or(own.timeout, image.timeout),
        start_period: or(own.start_period, image.start_period),
        start_interval: or(own.start_interval, image.start_interval),
        retries: or(own.retries, image.retries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str], shell: Option<&[&str]>) -> ContainerConfig {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let healthcheck = Some(Healthcheck { test: words(test), retries: 2, ..Healthcheck::default() });
        ContainerConfig { healthcheck, shell: shell.map(words), ..ContainerConfig::default() }
    }

    #[test]
    fn what_is_run() {
        let check = |test: &[&str], shell, expect: Option<&str>| {
            let args = Checks::of(&config(test, shell)).map(|checks| checks.args.join("|"));
            assert_eq!(args.as_deref(), expect, "{test:?}");
        };
        check(&["CMD", "a", "b c"], None, Some("a|b c"));
        check(&["CMD-SHELL", "a b"], None, Some("/bin/sh|-c|a b"));
        check(&["CMD-SHELL", "a b"], Some(&["ash", "-ec"]), Some("ash|-ec|a b"));
        for none in [&["NONE"][..], &[], &["CMD"], &["CMD-SHELL"], &["other", "x"]] {
            check(none, None, None);
        }
        assert_eq!(Checks::of(&ContainerConfig::default()), None);
    }

    fn run(checks: &Checks, codes: &[(u64, i32)]) -> Health {
        let mut health = Health::default();
        for &(age, exit_code) in codes {
            let now = Timestamp::UNIX_EPOCH;
            let probed = Probed { start: now, end: now, exit_code, output: age.to_string() };
            checks.note(&mut health, Duration::from_secs(age), probed);
        }
        health
    }

    #[test]
    fn results_add_up() {
        let mut checks = Checks::of(&config(&["CMD", "x"], None)).unwrap();
        let check = |checks: &Checks, codes: &[(u64, i32)], status, streak| {
            let health = run(checks, codes);
            assert_eq!((health.status, health.failing_streak), (status, streak), "{codes:?}");
        };
        use HealthStatus::{Healthy, Starting, Unhealthy};
        check(&checks, &[], Starting, 0);
        check(&checks, &[(1, 1)], Starting, 1);
        check(&checks, &[(1, 1), (2, -1)], Unhealthy, 2);
        check(&checks, &[(1, 1), (2, 0)], Healthy, 0);
        check(&checks, &[(1, 0), (2, 1)], Healthy, 1);
        check(&checks, &[(1, 0), (2, 1), (3, 7), (4, 1)], Unhealthy, 3);
        checks.start_period = Duration::from_secs(10);
        check(&checks, &[(1, 1), (2, 1), (9, 1)], Starting, 0);
        check(&checks, &[(9, 1), (10, 1), (11, 1)], Unhealthy, 2);
        // Once it worked, failures count.
        check(&checks, &[(1, 0), (2, 1), (3, 1)], Unhealthy, 2);
        let log = run(&checks, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]).log;
        assert_eq!(log.iter().map(|probed| probed.output.as_str()).collect::<String>(), "23456");
    }

    #[test]
    fn pauses() {
        let mut config = config(&["CMD", "x"], None);
        let check = config.healthcheck.as_mut().unwrap();
        (check.interval, check.start_period, check.start_interval) =
            (7_000_000_000, 9_000_000_000, 2_000_000);
        let checks = Checks::of(&config).unwrap();
        let (mut health, age) = (Health::default(), Duration::from_secs);
        assert_eq!(checks.pause(&health, age(8)), Duration::from_millis(2));
        assert_eq!(checks.pause(&health, age(9)), age(7));
        health.status = HealthStatus::Healthy;
        assert_eq!(checks.pause(&health, age(1)), age(7));
        assert_eq!(Checks::of(&self::config(&["CMD", "x"], None)).unwrap().timeout, age(30));
    }

    #[test]
    fn as_docker_writes_it() {
        let mut health = Health { status: HealthStatus::Healthy, ..Health::default() };
        let now: Timestamp = "2024-01-02T03:04:05Z".parse().unwrap();
        health.log.push(Probed { start: now, end: now, exit_code: 0, output: "x\n".into() });
        assert_eq!(
            serde_json::to_string(&health).unwrap(),
            r#"{"Status":"healthy","FailingStreak":0,"Log":[{"Start":"2024-01-02T03:04:05Z","End":"2024-01-02T03:04:05Z","ExitCode":0,"Output":"x\n"}]}"#
        );
        assert_eq!(HealthStatus::Starting.to_string(), "health: starting");
    }

    #[test]
    fn what_is_not_said_is_the_images() {
        let image = Healthcheck {
            test: vec!["CMD".into(), "i".into()],
            interval: 5,
            retries: 4,
            ..Default::default()
        };
        let own = Healthcheck { interval: 6, ..Default::default() };
        let merged = merge(own.clone(), Some(image.clone()));
        assert_eq!(merged, Healthcheck { interval: 6, ..image });
        assert_eq!(merge(own.clone(), None), own);
    }
}
