//! Between a step and an agent: passes on requests to list keys and to sign, and refuses the rest.
//!
//! The protocol is draft-miller-ssh-agent: messages of a length and a type. A step that could send
//! anything could remove the caller's keys, add its own, or lock the agent. `session-bind` passes: it
//! ties a connection to the server it is for, which only narrows what may be signed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};

use super::SshError;
use crate::store::TempDir;
use crate::sys::RootDir;

/// The types of messages: draft-miller-ssh-agent, "Message numbers".
const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION: u8 = 27;
const EXTENSION_FAILURE: u8 = 28;

/// The extension that passes: OpenSSH's PROTOCOL.agent.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";
/// The longest message; OpenSSH's agent takes no longer one.
const MAX_MESSAGE: usize = 256 * 1024;
/// How many connections a step may have at once.
const MAX_CONNECTIONS: usize = 64;
const SOCKET: &str = "agent";

/// A socket for one step; nobody can use it once it is dropped.
#[derive(Debug)]
pub struct Forwarded {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    place: TempDir,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    upstream: PathBuf,
    open: Mutex<Open>,
}

/// Both ends of what is connected, to be cut off at the end.
#[derive(Debug, Default)]
struct Open {
    ended: bool,
    next: u64,
    pairs: BTreeMap<u64, (UnixStream, UnixStream)>,
}

impl Forwarded {
    /// Makes the socket in a directory of its own, of this mode and owner (ids of the sandbox).
    pub fn start(
        place: TempDir,
        upstream: PathBuf,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Forwarded, SshError> {
        let directory = RootDir::open(place.path()).map_err(SshError::Socket)?;
        // By descriptor, for the path of a store may be longer than one of a socket can be: unix(7).
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.fd().as_raw_fd());
        let listener = UnixListener::bind(&path).map_err(SshError::Socket)?;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(|error| {
            match error.kind() == io::ErrorKind::InvalidInput {
                true => SshError::Owner { uid, gid },
                false => SshError::Socket(error),
            }
        })?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(SshError::Socket)?;
        let shared = Arc::new(Shared { listener, upstream, open: Mutex::default() });
        let theirs = shared.clone();
        let accepting = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || accept(&theirs))
            .map_err(SshError::Socket)?;
        Ok(Forwarded { shared, accepting: Some(accepting), place })
    }

    /// Opens the socket's name, to be mounted.
    pub fn open(&self) -> Result<OwnedFd, SshError> {
        let directory = RootDir::open(self.place.path()).map_err(SshError::Socket)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        directory.open_at(Path::new(SOCKET), flags, Mode::empty()).map_err(SshError::Socket)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.ended = true;
        for (client, agent) in open.pairs.values() {
            let _ = client.shutdown(Shutdown::Both);
            let _ = agent.shutdown(Shutdown::Both);
        }
        drop(open);
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(self.shared.listener.as_fd(), rustix::net::Shutdown::Both);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let client = match shared.listener.accept() {
            Ok((client, _)) => client,
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                continue;
            }
            Err(_) => break,
        };
        threads.retain(|thread| !thread.is_finished());
        if threads.len() >= MAX_CONNECTIONS {
            continue;
        }
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
            // Whatever goes wrong, the step sees its connection end.
            let _ = serve(&theirs, client);
        });
        threads.extend(thread);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(shared: &Shared, client: UnixStream) -> io::Result<()> {
    let agent = UnixStream::connect(&shared.upstream)?;
    let number = {
        let mut open = shared.open();
        if open.ended {
            return Ok(());
        }
        open.next += 1;
        let number = open.next;
        let pair = (client.try_clone()?, agent.try_clone()?);
        open.pairs.insert(number, pair);
        number
    };
    let served = relay(&client, &agent);
    shared.open().pairs.remove(&number);
    served
}

/// Answers requests until the client ends.
fn relay(mut client: impl Read + Write, mut agent: impl Read + Write) -> io::Result<()> {
    while let Some(request) = receive(&mut client)? {
        if !is_allowed(&request) {
            send(&mut client, &[FAILURE])?;
            continue;
        }
        send(&mut agent, &request)?;
        let answer = receive(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match answers(&request, &answer) {
            true => send(&mut client, &answer)?,
            false => send(&mut client, &[FAILURE])?,
        }
    }
    Ok(())
}

fn is_allowed(request: &[u8]) -> bool {
    match request.split_first() {
        Some((&REQUEST_IDENTITIES, rest)) => rest.is_empty(),
        Some((&SIGN_REQUEST, _)) => true,
        Some((&EXTENSION, rest)) => {
            let Some((length, name)) = rest.split_first_chunk::<4>() else { return false };
            name.get(..u32::from_be_bytes(*length) as usize) == Some(SESSION_BIND)
        }
        _ => false,
    }
}

fn answers(request: &[u8], answer: &[u8]) -> bool {
    matches!(
        (request.first(), answer.first()),
        (_, Some(&FAILURE))
            | (Some(&REQUEST_IDENTITIES), Some(&IDENTITIES_ANSWER))
            | (Some(&SIGN_REQUEST), Some(&SIGN_RESPONSE))
            | (Some(&EXTENSION), Some(&SUCCESS | &EXTENSION_FAILURE))
    )
}

/// Reads a message; `None` at the end between two.
fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match from.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => got += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    to.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    fn extension(name: &[u8]) -> Vec<u8> {
        let mut message = vec![EXTENSION];
        message.extend((name.len() as u32).to_be_bytes());
        message.extend(name);
        message.extend(b"rest");
        message
    }

    #[test]
    fn what_passes() {
        let check = |request: &[u8], expect: bool| assert_eq!(is_allowed(request), expect, "{request:?}");
        check(&[REQUEST_IDENTITIES], true);
        check(&[REQUEST_IDENTITIES, 0], false);
        check(&[SIGN_REQUEST, 0, 0, 0, 0], true);
        check(&extension(SESSION_BIND), true);
        check(&extension(b"query"), false);
        check(&[EXTENSION, 0xff, 0xff, 0xff, 0xff, b's'], false);
        check(&[EXTENSION], false);
        check(&[], false);
        // Of the whole protocol: add, remove, remove all, lock, unlock, smart cards, and what nobody knows.
        for kind in (0..=255).filter(|kind| ![REQUEST_IDENTITIES, SIGN_REQUEST, EXTENSION].contains(kind)) {
            check(&[kind], false);
            check(&[kind, 0, 0, 0, 0], false);
        }
    }

    #[test]
    fn answers_fit_their_requests() {
        assert!(answers(&[REQUEST_IDENTITIES], &[IDENTITIES_ANSWER, 0, 0, 0, 0]));
        assert!(answers(&[SIGN_REQUEST], &[SIGN_RESPONSE]));
        assert!(answers(&[SIGN_REQUEST], &[FAILURE]));
        assert!(!answers(&[SIGN_REQUEST], &[IDENTITIES_ANSWER]));
        assert!(!answers(&[SIGN_REQUEST], &[]));
    }

    #[test]
    fn messages_are_bounded() {
        let read = |bytes: &[u8]| receive(&mut { bytes });
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[0, 0, 0, 2, 7, 8]).unwrap(), Some(vec![7, 8]));
        for bad in [&[0][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 7], &[0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    /// An agent that tells what it was asked.
    #[test]
    fn a_step_and_an_agent() {
        let directory = tempfile::tempdir().unwrap();
        let upstream = directory.path().join("upstream");
        let agent = UnixListener::bind(&upstream).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = agent.accept().unwrap();
            let mut asked = Vec::new();
            while let Some(request) = receive(&mut stream).unwrap_or(None) {
                asked.push(request[0]);
                send(&mut stream, &[IDENTITIES_ANSWER, 0, 0, 0, 0]).unwrap();
            }
            asked
        });
        let store = testing::open(&directory.path().join("store"));
        let place = store.temp_dir().unwrap();
        let path = place.path().to_owned();
        let forwarded = Forwarded::start(place, upstream, (0o620, 0, 0)).unwrap();
        let socket = path.join(SOCKET);
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o620);
        let mut client = UnixStream::connect(&socket).unwrap();
        for (request, expect) in [
            (&[REQUEST_IDENTITIES][..], IDENTITIES_ANSWER),
            (&[19], FAILURE),
            (&[SIGN_REQUEST, 1], FAILURE),
            (&[REQUEST_IDENTITIES], IDENTITIES_ANSWER),
        ] {
            send(&mut client, request).unwrap();
            assert_eq!(receive(&mut client).unwrap().unwrap()[0], expect, "{request:?}");
        }
        // Even with a connection open it ends, and the socket with it.
        drop(forwarded);
        assert_eq!(receive(&mut client).unwrap_or(None), None);
        assert_eq!(asked.join().unwrap(), [REQUEST_IDENTITIES, SIGN_REQUEST, REQUEST_IDENTITIES]);
        assert!(!path.exists());
        assert!(UnixStream::connect(&socket).is_err());
    }
}
