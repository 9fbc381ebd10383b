//! A TCP proxy on the loopback that stops at a byte of the test's choice.
//!
//! Decides a moment by what was sent, and by no clock. Uses nothing of rbuild.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A proxy to one server; connections that are held end when it is dropped.
pub struct Hold {
    host: String,
    state: Arc<State>,
    reached: Receiver<()>,
}

struct State {
    upstream: String,
    limit: u64,
    /// Bytes from clients, of all connections.
    count: AtomicU64,
    stop: AtomicBool,
    reached: Mutex<Sender<()>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Hold {
    /// Passes on `limit` bytes from clients, and then nothing more.
    pub fn start(upstream: &str, limit: u64) -> Hold {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (send, reached) = channel();
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            limit,
            count: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            reached: Mutex::new(send),
            open: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { return };
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Hold { host, state, reached }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns what tells that the byte was reached; it ends with the proxy.
    pub fn is_reached(&self) -> bool {
        self.reached.try_recv().is_ok()
    }
}

impl State {
    fn serve(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        {
            let mut open = self.open.lock().unwrap();
            open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        }
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let (mut client, mut server) = (client, server);
        let mut buffer = [0; 4096];
        while let Ok(count) = client.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let before = self.count.fetch_add(count as u64, Ordering::SeqCst);
            let passed = self.limit.saturating_sub(before).min(count as u64) as usize;
            if server.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if passed < count {
                let _ = self.reached.lock().unwrap().send(());
                // The connection stays open: the client must not learn of it.
                return;
            }
        }
        let _ = server.shutdown(Shutdown::Write);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(&self.host);
    }
}
