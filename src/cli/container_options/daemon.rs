//! What docker's daemon.json says of containers: the address that ports are published on.
//!
//! Not here: what it says of registries (`registry`).

use std::net::IpAddr;

use serde::Deserialize;

use crate::cli::error::CommandError;
use crate::registry::SettingsFile;

#[derive(Deserialize)]
struct DaemonJson {
    ip: Option<String>,
}

/// Reads `ip` of the files that are docker's, the last one that says it counts; the address of nobody
/// (`0.0.0.0`) is that address, of IPv4 alone, as with docker.
///
/// A file that is not there, or not to be read by this user, says nothing.
pub fn publish_address(files: &[SettingsFile]) -> Result<Option<IpAddr>, CommandError> {
    let mut address = None;
    for file in files.iter().filter(|file| file.is_dockers) {
        let Ok(text) = std::fs::read_to_string(&file.path) else { continue };
        let bad = |why: String| CommandError::usage(format!("cannot use `{}`: {why}", file.path.display()));
        if text.trim().is_empty() {
            continue;
        }
        let read: DaemonJson = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if let Some(ip) = read.ip.filter(|ip| !ip.is_empty()) {
            address = Some(ip.parse().map_err(|_| bad(format!("`ip`: `{ip}` is no IP address")))?);
        }
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_publish_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.json");
        let read = |text: &str, is_dockers: bool| {
            std::fs::write(&path, text).unwrap();
            let file = SettingsFile { path: path.clone(), is_dockers, required: false };
            publish_address(&[file]).map(|found| found.map(|ip| ip.to_string())).map_err(|error| error.text())
        };
        assert_eq!(read(r#"{"ip": "127.0.0.1", "debug": true}"#, true), Ok(Some("127.0.0.1".to_owned())));
        assert_eq!(read(r#"{"ip": "::1"}"#, true), Ok(Some("::1".to_owned())));
        assert_eq!(read(r#"{"ip": ""}"#, true), Ok(None));
        assert_eq!(read("", true), Ok(None));
        assert_eq!(read(r#"{"ip": "127.0.0.1"}"#, false), Ok(None));
        assert!(read(r#"{"ip": "x"}"#, true).unwrap_err().contains("`x` is no IP address"));
        assert!(read("{", true).unwrap_err().contains("daemon.json"));
    }
}
