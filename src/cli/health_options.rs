//! The options of `run` and `create` about health checks.
//!
//! Not here: running the checks (`container`).

use clap::Args;

use super::error::CommandError;
use crate::container::health;
use crate::image::{ContainerConfig, Healthcheck};
use crate::plan::parse_duration;

/// The shortest time, in nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// What the command line says of checks; what it leaves out is the image's.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// Check with this shell command whether the container works
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// The time between checks, as in 1m30s [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub health_interval: Option<String>,
    /// How long a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub health_timeout: Option<String>,
    /// How long after the start failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub health_start_period: Option<String>,
    /// The time between checks in that period [default: 5s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub health_start_interval: Option<String>,
    /// How many failures in a row make it unhealthy [default: 3]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub health_retries: Option<i64>,
    /// Do not check, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
}

impl HealthArgs {
    /// Makes a config's checks as the command line has them.
    pub fn apply(&self, config: &mut ContainerConfig) -> Result<(), CommandError> {
        let own = Healthcheck {
            test: match self.health_cmd.as_deref() {
                None | Some("") => Vec::new(),
                Some(command) => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            },
            interval: time("interval", "Interval", self.health_interval.as_deref())?,
            timeout: time("timeout", "Timeout", self.health_timeout.as_deref())?,
            start_period: time("start-period", "StartPeriod", self.health_start_period.as_deref())?,
            start_interval: time("start-interval", "StartInterval", self.health_start_interval.as_deref())?,
            retries: self.health_retries.unwrap_or(0),
        };
        if own.retries < 0 {
            return Err(CommandError::usage("--health-retries cannot be negative"));
        }
        let said = own != Healthcheck::default();
        if self.no_healthcheck {
            if said {
                return Err(CommandError::usage("--no-healthcheck conflicts with --health-* options"));
            }
            let none = Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
            config.healthcheck = Some(none);
        } else if said {
            config.healthcheck = Some(health::merge(own, config.healthcheck.take()));
        }
        Ok(())
    }
}

fn time(option: &str, field: &str, text: Option<&str>) -> Result<i64, CommandError> {
    let Some(text) = text else { return Ok(0) };
    match parse_duration(text) {
        None => {
            Err(CommandError::usage(format!("invalid argument \"{text}\" for \"--health-{option}\" flag"))
                .hint("write a number with a unit: 500ms, 30s, 1m30s, 2h"))
        }
        Some(nanos) if nanos < 0 => Err(CommandError::usage(format!("--health-{option} cannot be negative"))),
        Some(nanos) if nanos > 0 && nanos < SHORTEST => {
            Err(CommandError::usage(format!("{field} in Healthcheck cannot be less than 1ms")))
        }
        Some(nanos) => Ok(nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(change: impl FnOnce(&mut HealthArgs)) -> HealthArgs {
        let mut args = HealthArgs::default();
        change(&mut args);
        args
    }

    #[test]
    fn what_they_make() {
        let check = |change: fn(&mut HealthArgs), expect: Option<(&str, i64)>| {
            let image =
                Healthcheck { test: vec!["CMD".into(), "i".into()], retries: 7, ..Default::default() };
            let mut config = ContainerConfig { healthcheck: Some(image), ..Default::default() };
            args(change).apply(&mut config).unwrap();
            let made = config.healthcheck.map(|check| (check.test.join(" "), check.interval));
            assert_eq!(made.as_ref().map(|(test, interval)| (test.as_str(), *interval)), expect);
        };
        check(|_| (), Some(("CMD i", 0)));
        check(|args| args.health_cmd = Some("a b".into()), Some(("CMD-SHELL a b", 0)));
        check(|args| args.health_interval = Some("2s".into()), Some(("CMD i", 2_000_000_000)));
        check(|args| args.no_healthcheck = true, Some(("NONE", 0)));
    }

    #[test]
    fn mistakes() {
        let check = |change: fn(&mut HealthArgs), expect: &str| {
            let error = args(change).apply(&mut ContainerConfig::default()).unwrap_err().message;
            assert_eq!(error, expect);
        };
        check(
            |args| args.health_interval = Some("5".into()),
            "invalid argument \"5\" for \"--health-interval\" flag",
        );
        check(|args| args.health_timeout = Some("-1s".into()), "--health-timeout cannot be negative");
        check(
            |args| args.health_start_period = Some("1us".into()),
            "StartPeriod in Healthcheck cannot be less than 1ms",
        );
        check(|args| args.health_retries = Some(-1), "--health-retries cannot be negative");
        check(
            |args| (args.no_healthcheck, args.health_cmd) = (true, Some("x".into())),
            "--no-healthcheck conflicts with --health-* options",
        );
    }
}
