//! Certificates for one registry, in docker's folders: `certs.d/HOST[:PORT]/`.
//!
//! `*.crt` are authorities, `NAME.cert` with `NAME.key` is what is shown to the server. Not here: what
//! TLS does with them (`net`).

use std::io;
use std::path::{Path, PathBuf};

use super::error::RegistryError;
use crate::net::TlsOptions;

/// Collects the certificates for a `host[:port]` from all folders, the first client's pair counts.
pub fn find(folders: &[PathBuf], host: &str) -> Result<TlsOptions, RegistryError> {
    let mut tls = TlsOptions::default();
    for folder in folders {
        // The host comes from outside; it must not lead elsewhere.
        if host.contains('/') || host.starts_with('.') {
            break;
        }
        let folder = folder.join(host);
        let fail = |why: String| RegistryError::Settings { path: folder.clone(), why };
        let names = names(&folder).map_err(|e| fail(e.to_string()))?;
        let has = |name: &str| names.iter().any(|other| other == name);
        for name in &names {
            if name.ends_with(".crt") {
                tls.ca_files.push(folder.join(name));
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = format!("{stem}.key");
                if !has(&key) {
                    return Err(fail(format!("the key `{key}` of the certificate `{name}` is missing")));
                }
                tls.client.get_or_insert_with(|| (folder.join(name), folder.join(key)));
            } else if let Some(stem) = name.strip_suffix(".key")
                && !has(&format!("{stem}.cert"))
            {
                return Err(fail(format!(
                    "the certificate `{stem}.cert` of the key `{name}` is missing (authorities are *.crt, \
                     the client's own certificates *.cert)"
                )));
            }
        }
    }
    Ok(tls)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A folder that is root's alone is for root; without it the server is not believed, which is said.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_what_is_for_a_host() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for path in
            ["one/r:5000/b.crt", "one/r:5000/a.crt", "two/r:5000/c.cert", "two/r:5000/c.key", "one/r/x.crt"]
        {
            put(path);
        }
        let folders = [root.path().join("one"), root.path().join("two"), root.path().join("none")];
        let at = |path: &str| root.path().join(path);
        let found = find(&folders, "r:5000").unwrap();
        assert_eq!(found.ca_files, [at("one/r:5000/a.crt"), at("one/r:5000/b.crt")]);
        assert_eq!(found.client, Some((at("two/r:5000/c.cert"), at("two/r:5000/c.key"))));
        assert!(!found.any_certificate);
        assert_eq!(find(&folders, "../one/r").unwrap(), TlsOptions::default());
        assert_eq!(find(&folders, "other").unwrap(), TlsOptions::default());
        put("one/bad/x.cert");
        assert!(find(&folders, "bad").unwrap_err().to_string().contains("`x.key`"));
        put("one/bad2/x.key");
        assert!(find(&folders, "bad2").unwrap_err().to_string().contains("`x.cert`"));
    }
}
