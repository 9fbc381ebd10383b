//! Which program of this machine an image is loaded into: docker where it answers, else podman.
//!
//! Not here: loading (`build`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::build::Loader;

/// How long docker may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts the program, which waits for the image; `None` where there is none, with a note.
pub fn start(notes: &mut Vec<String>) -> Option<Loader> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let docker = find("docker", &path).filter(|_| answers(host.as_deref()));
    let found = match docker {
        Some(program) => Some(("docker", program)),
        None => find("podman", &path).map(|program| ("podman", program)),
    };
    let Some((name, program)) = found else {
        let why = "there is no docker that answers, and no podman";
        notes.push(format!("note: the image is loaded into nothing else: {why}; it is in rbuild's store"));
        return None;
    };
    match Loader::start(name, &program) {
        Ok(loader) => Some(loader),
        Err(error) => {
            notes
                .push(format!("note: the image is loaded into nothing else: {}: {error}", program.display()));
            None
        }
    }
}

fn find(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

/// Asks docker's daemon whether it is there (its API's `/_ping`).
fn answers(host: Option<&str>) -> bool {
    let host = host.unwrap_or("unix:///var/run/docker.sock");
    if let Some(path) = host.strip_prefix("unix://") {
        let ping = |path: &Path| -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            let mut start = [0; 12];
            stream.read_exact(&mut start)?;
            Ok(start.starts_with(b"HTTP/1.") && start.ends_with(b" 200"))
        };
        return ping(Path::new(path)).unwrap_or(false);
    }
    if let Some(address) = host.strip_prefix("tcp://") {
        let address = address.trim_end_matches('/');
        let Ok(addresses) = std::net::ToSocketAddrs::to_socket_addrs(address) else { return false };
        // It may want certificates, which the program has.
        return addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok());
    }
    // By ssh: the program itself will tell.
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn docker_is_there_where_it_answers() {
        let directory = tempfile::tempdir().unwrap();
        let check = |reply: &'static [u8], expect: bool| {
            let path = directory.path().join("socket");
            let listener = UnixListener::bind(&path).unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 14];
                stream.read_exact(&mut request).unwrap();
                assert_eq!(&request, b"GET /_ping HTT");
                stream.write_all(reply).unwrap();
            });
            assert_eq!(answers(Some(&format!("unix://{}", path.display()))), expect);
            server.join().unwrap();
            std::fs::remove_file(&path).unwrap();
        };
        check(b"HTTP/1.0 200 OK\r\n\r\nOK", true);
        check(b"HTTP/1.1 500 No\r\n\r\n", false);
        check(b"hello", false);
        assert!(!answers(Some("unix:///no/such/socket")) && !answers(Some("tcp://no-port")));
        assert!(answers(Some("ssh://user@host")));
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        assert!(find("sh", "/no/such:/bin:/usr/bin".as_ref()).is_some());
        assert_eq!(find("sh", "relative:/no/such".as_ref()), None);
        assert_eq!(find("passwd", "/etc".as_ref()), None, "not executable");
    }
}
