//! A client for HTTP/1.1 that sends what it is told, sound or not, and reads the answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// After this long without a byte a server counts as hanging.
const HANG: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns a header that may be there once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let first = found.next();
        assert!(found.next().is_none(), "{name} is there twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    /// Returns a header that must be there.
    #[track_caller]
    pub fn need(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// Checks the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{self:?}\n{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Checks that it is an error of the specification's form, with this code.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str) -> Reply {
        self.fails_with(&[status], code)
    }

    /// Does the same where the specification leaves a choice.
    #[track_caller]
    pub fn fails_with(self, statuses: &[u16], code: &str) -> Reply {
        let text = String::from_utf8_lossy(&self.body);
        assert!(statuses.contains(&self.status), "{statuses:?} {code}, not {self:?}\n{text}");
        let kind = self.need("content-type");
        assert!(kind.starts_with("application/json"), "{kind}");
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "{text}");
        for error in &errors {
            assert_eq!(error["code"], code, "{text}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
        }
        self
    }

    /// Reads the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `host:port`.
    pub fn open(host: &str) -> Connection {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.set_write_timeout(Some(HANG)).unwrap();
        Connection { stream: BufReader::new(stream) }
    }

    /// Sends bytes; a server that has closed already is no fault of the test.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Connection {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Says that no more bytes come.
    pub fn end(&mut self) -> &mut Connection {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
        self
    }

    /// Reads an answer; `None` where the server closed instead.
    #[track_caller]
    pub fn answer(&mut self, to_head: bool) -> Option<Reply> {
        let mut line = String::new();
        // A connection that is reset is closed, too.
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) if line.is_empty() => return None,
            _ => {}
        }
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("headers");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if !to_head && !matches!(status, 100..200 | 204 | 304) {
            reply.body = self.body(&reply);
        }
        Some(reply)
    }

    #[track_caller]
    fn body(&mut self, reply: &Reply) -> Vec<u8> {
        let mut body = Vec::new();
        if reply.header("transfer-encoding").is_some_and(|how| how.eq_ignore_ascii_case("chunked")) {
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).expect("a chunk");
                let size = u64::from_str_radix(line.trim(), 16).expect("a chunk's size");
                let mut chunk = Vec::new();
                self.stream.by_ref().take(size + 2).read_to_end(&mut chunk).expect("a chunk");
                assert!(chunk.ends_with(b"\r\n"));
                chunk.truncate(chunk.len() - 2);
                body.extend(chunk);
                if size == 0 {
                    return body;
                }
            }
        }
        match reply.header("content-length") {
            Some(length) => {
                let length: u64 = length.parse().expect("a length");
                let read = self.stream.by_ref().take(length).read_to_end(&mut body).expect("a body");
                assert_eq!(read as u64, length, "the body is short");
            }
            None => {
                let _ = self.stream.read_to_end(&mut body);
            }
        }
        body
    }

    /// Reads so many bytes of whatever comes.
    pub fn some(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.by_ref().take(count).read_to_end(&mut bytes).expect("more of it");
        bytes
    }

    /// Waits until the server closes; returns what it sent before.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        let hangs = read.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock));
        assert!(!hangs, "the server does not close the connection");
        rest
    }
}

/// Writes a request, with what every sound one has.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// Asks on a connection of its own.
#[track_caller]
pub fn ask(host: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut connection = Connection::open(host);
    connection.send(request(method, target, &[headers, &[("Connection", "close")]].concat(), body));
    connection.answer(method == "HEAD").unwrap_or_else(|| panic!("no answer to {method} {target}"))
}
