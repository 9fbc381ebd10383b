//! A small HTTP server on the loopback, for tests: one thread accepts, one serves each connection.
//!
//! Each connection carries one request. A server can misbehave in the ways of [`Body`]; none of
//! them takes time of its own. Uses nothing of rbuild: the unit tests include this file too.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// The path, or a whole URL where the server is asked as a proxy.
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// What came with it, as far as its length was announced or it came in chunks.
    pub body: Vec<u8>,
}

impl Asked {
    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What follows the headers of an answer.
#[derive(Debug, Clone)]
pub enum Body {
    Whole(Vec<u8>),
    /// Fewer bytes than the Content-Length says.
    Short(Vec<u8>, u64),
    /// Without a Content-Length, for ever.
    Endless,
    /// These bytes of many more, then nothing.
    Stuck(Vec<u8>),
    /// These bytes of so many, then nothing until the client has gone.
    Held(Vec<u8>, u64),
    /// Not even headers.
    Silent,
    /// The connection is closed at once.
    Closed,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Answer {
    /// Answers 200.
    pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// Answers with a status and no body.
    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::ok("") }
    }

    /// Answers 200 in one of the bad ways.
    pub fn bad(body: Body) -> Answer {
        Answer { body, ..Answer::ok("") }
    }

    /// Redirects.
    pub fn redirect(status: u16, to: &str) -> Answer {
        Answer::status(status).with("Location", to)
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// A running server; it ends when dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The certificate (PEM) that a client must trust, of a server with TLS.
    pub ca_pem: Option<String>,
}

impl Server {
    /// Starts a server for http.
    pub fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        Server::run("http", None, None, Arc::new(handler))
    }

    /// Starts a server for https, whose certificate is for `name` and signed by an authority made for it.
    pub fn start_tls(name: &str, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // Authorities of one name would be taken for each other.
        let subject = format!("authority for {name}");
        authority.distinguished_name.push(rcgen::DnType::CommonName, subject);
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertifiedIssuer::self_signed(authority, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let pem = authority.pem();
        Server::run("https", Some(Arc::new(config)), Some(pem), Arc::new(handler))
    }

    fn run(
        scheme: &'static str,
        tls: Option<Arc<rustls::ServerConfig>>,
        ca_pem: Option<String>,
        handler: Handler,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (asked, stop) = (asked.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let (asked, handler, tls) = (asked.clone(), handler.clone(), tls.clone());
                    // A client that goes away ends its thread.
                    std::thread::spawn(move || {
                        let _ = match tls {
                            None => serve(stream, &asked, &handler),
                            Some(config) => rustls::ServerConnection::new(config)
                                .map_err(std::io::Error::other)
                                .and_then(|c| serve(rustls::StreamOwned::new(c, stream), &asked, &handler)),
                        };
                    });
                }
            }
        });
        Server { address, scheme, asked, stop, thread: Some(thread), ca_pem }
    }

    /// Returns the URL of a path; the path starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Returns `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns all requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns how many requests came.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: impl Read + Write, asked: &Mutex<Vec<Asked>>, handler: &Handler) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    // One who tries TLS where there is none: a handshake's record begins with 22 (RFC 8446, 5.1).
    if stream.fill_buf()?.first() == Some(&22) {
        return Ok(());
    }
    let mut first = String::new();
    stream.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut request = Asked { method, target, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    request.body = read_body(&mut stream, &request)?;
    asked.lock().unwrap().push(request.clone());
    answer(stream.get_mut(), request.method == "HEAD", handler(&request))?;
    // Until the client has closed too: closing first could take the answer away from it.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    Ok(())
}

fn read_body(stream: &mut impl BufRead, request: &Asked) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim(), 16).map_err(|_| bad())?;
            stream.take(length).read_to_end(&mut body)?;
            stream.read_line(&mut line)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(|_| bad())?;
    stream.take(length).read_to_end(&mut body)?;
    Ok(body)
}

fn answer(stream: &mut (impl Read + Write), head: bool, answer: Answer) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let length = match &answer.body {
        Body::Whole(bytes) if answer.status != 304 => Some(bytes.len() as u64),
        Body::Whole(_) | Body::Endless => None,
        Body::Short(_, announced) | Body::Held(_, announced) => Some(*announced),
        Body::Stuck(_) => Some(1 << 20),
        Body::Silent => return Ok(()),
        Body::Closed => return Err(std::io::ErrorKind::ConnectionAborted.into()),
    };
    if let Some(length) = length {
        text += &format!("Content-Length: {length}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()?;
    match answer.body {
        _ if head => {}
        Body::Whole(bytes) | Body::Stuck(bytes) | Body::Held(bytes, _) => stream.write_all(&bytes)?,
        Body::Short(bytes, _) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Body::Endless => loop {
            stream.write_all(&[b'x'; 4096])?;
        },
        Body::Silent | Body::Closed => {}
    }
    stream.flush()
}

/// The `Last-Modified` of what [`Files`] serves, and the same in seconds since 1970.
pub const DATE: &str = "Sat, 01 Jan 2022 00:00:00 GMT";
pub const DATE_SECONDS: u64 = 1_640_995_200;

/// A file by its path on the server.
type Served = (String, Vec<u8>);

/// A server of files, as most are: with ETag, Last-Modified, and 304 for who has the file.
pub struct Files {
    server: Server,
    files: Arc<Mutex<Vec<Served>>>,
}

impl Files {
    /// Starts a server of these files; the names start with `/`.
    pub fn start(files: &[(&str, &[u8])]) -> Files {
        let own = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
        let files: Arc<Mutex<Vec<Served>>> = Arc::new(Mutex::new(files.iter().map(own).collect()));
        let served = files.clone();
        let server = Server::start(move |asked| {
            let path = asked.target.split('?').next().unwrap_or_default();
            let files = served.lock().unwrap();
            // What was put last counts.
            let Some((_, bytes)) = files.iter().rev().find(|(name, _)| name == path) else {
                return Answer::status(404);
            };
            let sum =
                bytes.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            let tag = format!("\"{sum:x}\"");
            let answer = match asked.header("if-none-match") == Some(tag.as_str()) {
                true => Answer::status(304),
                false => Answer::ok(bytes.clone()),
            };
            answer.with("ETag", &tag).with("Last-Modified", DATE)
        });
        Files { server, files }
    }

    /// Puts a file there, or another in its place.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.files.lock().unwrap().push((name.to_owned(), bytes.to_vec()));
    }

    /// Returns the URL of a file.
    pub fn url(&self, name: &str) -> String {
        self.server.url(name)
    }

    /// Returns `host:port`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Returns how many requests came, and how many of them said that they have a file.
    pub fn count(&self) -> (usize, usize) {
        let asked = self.server.asked();
        (asked.len(), asked.iter().filter(|asked| asked.header("if-none-match").is_some()).count())
    }
}
