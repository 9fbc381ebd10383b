//! A proxy that gives names to what listens on the loopback, so that tests have a world of several hosts.
//!
//! Knows CONNECT and plain requests; hosts without a name here get 502. Uses nothing of rbuild.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

type Hosts = Vec<(String, String)>;

/// A running proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that leads from each `host:port` to an address.
    pub fn start(hosts: &[(&str, &str)]) -> Proxy {
        let own = |(name, to): &(&str, &str)| ((*name).to_owned(), (*to).to_owned());
        let hosts: Arc<Hosts> = Arc::new(hosts.iter().map(own).collect());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let (stop, seen) = (stop.clone(), seen.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (hosts, seen) = (hosts.clone(), seen.clone());
                    // A client that goes away ends its thread.
                    std::thread::spawn(move || drop(serve(stream, &hosts, &seen)));
                }
            }
        });
        Proxy { address, stop, thread: Some(thread), seen }
    }

    /// Returns its address for `HTTPS_PROXY` and the like.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the hosts that were asked for, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(client: TcpStream, hosts: &Hosts, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = match target.strip_prefix("http://") {
        None => target.to_owned(),
        Some(rest) => match rest.split('/').next().unwrap_or_default() {
            host if host.contains(':') => host.to_owned(),
            host => format!("{host}:80"),
        },
    };
    seen.lock().unwrap().push(host.clone());
    let mut client = client;
    let Some((_, to)) = hosts.iter().find(|(name, _)| *name == host) else {
        return client.write_all(b"HTTP/1.1 502 nobody\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut server = TcpStream::connect(to)?;
    match method {
        "CONNECT" => client.write_all(b"HTTP/1.1 200 ok\r\n\r\n")?,
        _ => server.write_all(head.as_bytes())?,
    }
    let (mut back, mut out) = (server.try_clone()?, client.try_clone()?);
    let returning = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut out);
        let _ = out.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = returning.join();
    Ok(())
}
