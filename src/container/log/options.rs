//! `--log-driver` and `--log-opt`: what is kept of a container's output.
//!
//! Names and meanings are docker's (docs.docker.com, "JSON File logging driver").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// Into a file of lines.
    #[default]
    #[serde(rename = "json-file")]
    JsonFile,
    /// Nowhere but to who is attached.
    #[serde(rename = "none")]
    Discard,
}

impl LogDriver {
    /// Returns docker's name.
    pub fn as_str(self) -> &'static str {
        match self {
            LogDriver::JsonFile => "json-file",
            LogDriver::Discard => "none",
        }
    }
}

/// How a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    pub driver: LogDriver,
    /// The options as they were given: docker shows them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Bytes of a file, from which on the next begins; `None` for no end.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// How many files there are at most, 1 or more; 0 counts as 1.
    #[serde(default)]
    pub max_file: u32,
    /// What stands beside every line.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Says what is wrong with the options.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogConfigError {
    #[error("logger: no log driver named '{0}' is here; there are json-file and none")]
    UnknownDriver(String),
    #[error("unknown log opt '{option}' for {driver} log driver")]
    UnknownOption { option: String, driver: &'static str },
    #[error("bad log opt `{0}`: it is written KEY=VALUE")]
    NoValue(String),
    #[error("max-size must be a positive number of bytes as `10m`, not `{0}`")]
    BadSize(String),
    #[error("max-file must be a number of files, 1 or more, not `{0}`")]
    BadCount(String),
    #[error("max-file without max-size: a file that has no end has none after it")]
    CountWithoutSize,
    #[error("log opt {option}={value} is not here: {why}")]
    NotHere { option: &'static str, value: String, why: &'static str },
}

impl LogConfig {
    /// Reads the options. `labels` and `environment` (`NAME=VALUE`) are the container's, of which the options
    /// `labels` and `env` name some.
    pub fn parse(
        driver: Option<&str>,
        options: &[String],
        labels: &BTreeMap<String, String>,
        environment: &[String],
    ) -> Result<LogConfig, LogConfigError> {
        let driver = match driver.unwrap_or("json-file") {
            "json-file" | "" => LogDriver::JsonFile,
            "none" => LogDriver::Discard,
            other => return Err(LogConfigError::UnknownDriver(other.to_owned())),
        };
        let mut config = LogConfig { driver, max_file: 1, ..LogConfig::default() };
        for option in options {
            let (key, value) =
                option.split_once('=').ok_or_else(|| LogConfigError::NoValue(option.clone()))?;
            config.options.insert(key.to_owned(), value.to_owned());
            if driver == LogDriver::Discard {
                let option = key.to_owned();
                return Err(LogConfigError::UnknownOption { option, driver: driver.as_str() });
            }
            config.set(key, value, labels, environment)?;
        }
        if config.max_file > 1 && config.max_size.is_none() {
            return Err(LogConfigError::CountWithoutSize);
        }
        Ok(config)
    }

    fn set(
        &mut self,
        key: &str,
        value: &str,
        labels: &BTreeMap<String, String>,
        environment: &[String],
    ) -> Result<(), LogConfigError> {
        let not_here = |option, why| Err(LogConfigError::NotHere { option, value: value.to_owned(), why });
        match key {
            "max-size" => {
                let bytes = decimal_size(value).filter(|bytes| *bytes > 0);
                self.max_size = Some(bytes.ok_or_else(|| LogConfigError::BadSize(value.to_owned()))?);
            }
            "max-file" => {
                let count = value.parse().ok().filter(|count| *count > 0);
                self.max_file = count.ok_or_else(|| LogConfigError::BadCount(value.to_owned()))?;
            }
            "labels" => {
                let named = names(value).filter_map(|name| Some((name, labels.get(name)?)));
                self.attributes.extend(named.map(|(name, value)| (name.to_owned(), value.clone())));
            }
            "env" => {
                let named = names(value).filter_map(|name| {
                    environment.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name))
                });
                self.attributes.extend(named.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "mode" if value == "blocking" => {}
            "mode" => return not_here("mode", "output is written as it comes"),
            "compress" if matches!(value, "false" | "0" | "f" | "F" | "False" | "FALSE") => {}
            "compress" => return not_here("compress", "files that are full stay as they are"),
            other => {
                let driver = self.driver.as_str();
                return Err(LogConfigError::UnknownOption { option: other.to_owned(), driver });
            }
        }
        Ok(())
    }

    /// Returns how many files the log has at most.
    pub(super) fn files(&self) -> u32 {
        self.max_file.max(1)
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Reads bytes as docker's log options have them, in powers of 1000: `10m`, `1.5GB`.
fn decimal_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim_start_matches(' ').to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let bytes = number * 1000f64.powi(power as i32);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: Option<&str>, options: &[&str]) -> Result<LogConfig, LogConfigError> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        LogConfig::parse(driver, &options, &labels, &["MODE=x=y".to_owned(), "P=1".to_owned()])
    }

    #[test]
    fn options_are_read() {
        let config = parse(None, &["max-size=10m", "max-file=3", "labels=team,none", "env=MODE"]).unwrap();
        assert_eq!((config.max_size, config.files()), (Some(10_000_000), 3));
        let attributes: Vec<_> = config.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(attributes, ["MODE=x=y", "team=a"]);
        assert_eq!(config.options["max-size"], "10m");
        assert_eq!(parse(Some("none"), &[]).unwrap().driver, LogDriver::Discard);
        assert_eq!(parse(Some("json-file"), &["mode=blocking", "compress=false"]).unwrap().files(), 1);
        assert_eq!(LogConfig::default().files(), 1);
    }

    #[test]
    fn what_is_not_here_is_said() {
        for (driver, options, words) in [
            (Some("syslog"), &[][..], "no log driver named 'syslog' is here; there are json-file and none"),
            (None, &["max-sise=1"], "unknown log opt 'max-sise' for json-file log driver"),
            (Some("none"), &["max-size=1"], "unknown log opt 'max-size' for none log driver"),
            (None, &["max-size"], "bad log opt `max-size`"),
            (None, &["max-size=0"], "max-size must be a positive number"),
            (None, &["max-size=-1"], "max-size must be a positive number"),
            (None, &["max-size=1m", "max-file=0"], "1 or more, not `0`"),
            (None, &["max-file=2"], "max-file without max-size"),
            (None, &["mode=non-blocking"], "log opt mode=non-blocking is not here"),
            (None, &["compress=true"], "log opt compress=true is not here"),
        ] {
            let error = parse(driver, options).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn sizes_count_in_thousands() {
        for (text, expect) in [
            ("1", Some(1)),
            ("1k", Some(1000)),
            ("1.5MB", Some(1_500_000)),
            ("2 GiB", Some(2_000_000_000)),
            ("x", None),
        ] {
            assert_eq!(decimal_size(text), expect, "{text}");
        }
    }
}
