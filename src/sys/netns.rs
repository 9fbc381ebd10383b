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

/// Puts the calling thread into a network namespace, for as long as it lives: to be called first of all on
/// a thread that is made for it.
///
/// Needs CAP_SYS_ADMIN in the caller's user namespace and in that of the network namespace.
pub fn enter(namespace: &OwnedFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Counts the sockets that processes (or unfinished connections) still hold in a namespace.
pub fn sockets(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    on_own_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        count_sockets()
    })
}

/// Tells whether who uses a namespace next finds it as it was when it was new: it has no socket, no
/// packet ever went through it, and no flow label is left.
///
/// Packets leave more than what counts them, and a raw socket may forge any of them: ports in
/// TIME_WAIT, measures of TCP, what a route can carry (ICMP says), fragments that wait for the
/// rest. Flow labels outlive their socket, for as long as was asked for (ipv6(7)).
pub fn is_quiet(namespace: BorrowedFd<'_>) -> io::Result<bool> {
    on_own_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(count_sockets()? == 0
            && is_untouched(&read("dev")?.unwrap_or_default())
            && read("ip6_flowlabel")?.unwrap_or_default().lines().count() <= 1)
    })
}

fn count_sockets() -> io::Result<u64> {
    let mut total = 0;
    for name in ["sockstat", "sockstat6"] {
        total += count(&read(name)?.unwrap_or_default());
    }
    Ok(total)
}

/// Reads a file about this thread's network namespace; `None` where the kernel has none.
fn read(name: &str) -> io::Result<Option<String>> {
    let mut text = String::with_capacity(4096);
    match File::open(format!("/proc/thread-self/net/{name}")) {
        Ok(mut file) => file.read_to_string(&mut text).map(|_| Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Tells whether a text of /proc/net/dev (proc_net(5)) has devices, all of whose counters are 0.
fn is_untouched(dev: &str) -> bool {
    let mut devices =
        dev.lines().filter_map(|line| line.split_once(':')).map(|(_, counters)| counters).peekable();
    devices.peek().is_some() && devices.all(|counters| counters.split_whitespace().all(|n| n == "0"))
}

/// Sums the sockets of a sockstat text (proc_net(5)).
///
/// A connection that its process has left is still `inuse` until it is over. `orphan` is left out,
/// since the kernel counts those of the whole machine there. Nobody can read or write through a
/// connection in TIME_WAIT (`tw`), which only keeps its port.
fn count(sockstat: &str) -> u64 {
    let mut total = 0;
    for line in sockstat.lines() {
        let pairs: Vec<&str> = line.split_whitespace().skip(1).collect();
        for pair in pairs.chunks(2) {
            if let [name, value] = pair
                && matches!(*name, "used" | "inuse")
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
        assert_eq!(count(text), 3 + 1 + 5);
        assert_eq!(count("sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\n"), 0);
        assert_eq!(count("garbage"), 0);
    }

    #[test]
    fn packets_are_seen_at_any_device() {
        let dev = |lo: &str, sit: &str| {
            format!("Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n    lo: {lo}\n  sit0:{sit}\n")
        };
        assert!(is_untouched(&dev("0 0", "0 0")));
        assert!(!is_untouched(&dev("84 1", "0 0")));
        assert!(!is_untouched(&dev("0 0", "0 1")));
        assert!(!is_untouched("what it cannot read"));
    }

    /// Makes a namespace, does something in it, and tells whether it is quiet while what that returned
    /// is there and afterwards; `None` where none can be made.
    fn quiet<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> Option<(bool, bool)> {
        let namespace = match create() {
            Ok(namespace) => namespace,
            Err(error) => {
                println!("left out: needs CAP_SYS_ADMIN ({error})");
                return None;
            }
        };
        assert!(is_quiet(namespace.as_fd()).unwrap());
        let held = on_own_thread(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        });
        let held = held.unwrap();
        let meanwhile = is_quiet(namespace.as_fd()).unwrap();
        drop(held);
        Some((meanwhile, is_quiet(namespace.as_fd()).unwrap()))
    }

    #[test]
    fn a_namespace_is_quiet_until_somebody_holds_a_socket_in_it() {
        let found = quiet(|| std::net::TcpListener::bind("127.0.0.1:0"));
        assert!(found.is_none_or(|found| found == (false, true)), "{found:?}");
    }

    #[test]
    fn a_namespace_in_which_packets_were_sent_is_never_quiet_again() {
        let found = quiet(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(b"x", socket.local_addr()?)
        });
        assert!(found.is_none_or(|found| found == (false, false)), "{found:?}");
    }

    /// linux/in6.h: `struct in6_flowlabel_req`.
    #[repr(C)]
    struct FlowLabel {
        destination: [u8; 16],
        label: u32,
        action: u8,
        share: u8,
        flags: u16,
        expires: u16,
        linger: u16,
        padding: u32,
    }

    #[test]
    fn a_namespace_with_a_flow_label_is_not_quiet() {
        if !std::path::Path::new("/proc/net/ip6_flowlabel").exists() {
            return println!("left out: needs IPv6");
        }
        let mut destination = [0; 16];
        destination[15] = 1;
        // IPV6_FL_A_GET with IPV6_FL_F_CREATE, for everybody (IPV6_FL_S_ANY).
        let (label, flags) = (0x12345u32.to_be(), 1);
        let (expires, linger) = (60, 60);
        let asked =
            FlowLabel { destination, label, action: 0, share: 255, flags, expires, linger, padding: 0 };
        let found = quiet(|| {
            let socket = std::net::UdpSocket::bind("[::1]:0")?;
            const IPV6_FLOWLABEL_MGR: libc::c_int = 32;
            let size = size_of::<FlowLabel>() as libc::socklen_t;
            // SAFETY: the option (ipv6(7), linux/in6.h) reads and writes one such structure.
            let done = unsafe {
                let value = (&raw const asked).cast();
                libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, value, size)
            };
            if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
        assert!(found.is_none_or(|(meanwhile, afterwards)| !meanwhile && !afterwards), "{found:?}");
    }
}
