//! Network namespaces: make one, look inside one.
//!
//! A network namespace belongs to a thread, so a short-lived thread makes it and
//! an fd keeps it alive; nothing is mounted anywhere. Not here: giving it a way
//! out (`sandbox::network`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

/// Makes a network namespace with its loopback up.
///
/// Needs CAP_SYS_ADMIN in the caller's user namespace, which owns the result.
pub fn create() -> io::Result<OwnedFd> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        bring_loopback_up()?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

/// Counts the sockets that processes (or unfinished connections) still hold in a namespace.
pub fn sockets(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    counted(namespace, &["used", "inuse"])
}

/// Tells whether a namespace has no socket at all, and no port that is still taken by a connection
/// that is over: the next to use it finds it as it was when it was new.
pub fn is_quiet(namespace: BorrowedFd<'_>) -> io::Result<bool> {
    counted(namespace, &["used", "inuse", "tw"]).map(|count| count == 0)
}

fn counted(namespace: BorrowedFd<'_>, words: &[&str]) -> io::Result<u64> {
    on_own_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let mut total = 0;
        for name in ["sockstat", "sockstat6"] {
            let mut text = String::with_capacity(4096);
            match File::open(format!("/proc/thread-self/net/{name}")) {
                Ok(mut file) => file.read_to_string(&mut text)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            total += count(&text, words);
        }
        Ok(total)
    })
}

/// Sums these values of a sockstat text (proc_net(5)).
///
/// A connection that its process has left is still `inuse` until it is over. `orphan` is left out,
/// since the kernel counts those of the whole machine there. Nobody can read or write through a
/// connection in TIME_WAIT (`tw`), which only keeps its port.
fn count(sockstat: &str, words: &[&str]) -> u64 {
    let mut total = 0;
    for line in sockstat.lines() {
        let pairs: Vec<&str> = line.split_whitespace().skip(1).collect();
        for pair in pairs.chunks(2) {
            if let [name, value] = pair
                && words.contains(name)
            {
                total += value.parse::<u64>().unwrap_or(0);
            }
        }
    }
    total
}

/// Runs `work` on a thread of its own, so that a changed namespace ends with it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread ended early")))
    })
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data for which all-zero is valid; the name fits with its zero byte,
    // and the ioctl (netdevice(7)) reads and writes only this structure. rustix has no call for it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_holds_a_namespace() {
        let text = "sockets: used 3\nTCP: inuse 1 orphan 2 tw 4 alloc 9 mem 9\nUDP: inuse 5 mem 7\n";
        let held = ["used", "inuse"];
        assert_eq!(count(text, &held), 3 + 1 + 5);
        assert_eq!(count(text, &["used", "inuse", "tw"]), 3 + 1 + 4 + 5);
        assert_eq!(count("sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\n", &held), 0);
        assert_eq!(count("garbage", &held), 0);
    }

    #[test]
    fn a_namespace_is_quiet_until_somebody_holds_a_socket_in_it() {
        let namespace = match create() {
            Ok(namespace) => namespace,
            Err(error) => return println!("left out: needs CAP_SYS_ADMIN ({error})"),
        };
        assert!(is_quiet(namespace.as_fd()).unwrap());
        let listener = on_own_thread(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            std::net::TcpListener::bind("127.0.0.1:0")
        });
        let listener = listener.unwrap();
        assert!(!is_quiet(namespace.as_fd()).unwrap());
        drop(listener);
        assert!(is_quiet(namespace.as_fd()).unwrap());
    }
}
