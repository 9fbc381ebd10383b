//! The client against real servers on the loopback, good and bad.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::test_server::{self, Answer, Asked, Server};
use super::*;

fn never() -> bool {
    false
}

/// Repeats without pauses.
fn options() -> ClientOptions {
    let retry = RetryPolicy {
        tries: 3,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        longest_asked: Duration::ZERO,
    };
    ClientOptions { retry, ..ClientOptions::default() }
}

fn fetch_with(options: ClientOptions, request: &Request) -> Result<String, NetError> {
    let client = Client::new(options);
    let reply = client.send(request, &never)?;
    Ok(String::from_utf8(reply.bytes(1 << 20, &never)?).unwrap())
}

fn fetch(url: String) -> Result<String, NetError> {
    fetch_with(options(), &Request::get(url))
}

/// What a server said of itself at `/`, and where it sends all others.
fn redirector(status: u16, to: String) -> Server {
    Server::start(move |_| Answer::redirect(status, &to))
}

#[test]
fn gets_a_body_and_its_headers() {
    let server = Server::start(|_| Answer::ok("hello").with("ETag", "\"1\""));
    let client = Client::new(options());
    assert!(!client.is_used());
    let reply = client.send(&Request::get(server.url("/a?b=c#d")), &never).unwrap();
    assert!(client.is_used());
    assert_eq!((reply.status(), reply.header("etag")), (200, Some("\"1\"")));
    assert_eq!(reply.url(), server.url("/a?b=c"));
    assert_eq!(reply.bytes(5, &never).unwrap(), b"hello");
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(asked[0].header("host"), Some(server.host().as_str()));
    assert!(asked[0].header("user-agent").unwrap().starts_with("rbuild/"));
    assert_eq!(asked[0].header("accept-encoding"), None);
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn heads_have_no_body() {
    let server = Server::start(|_| Answer::ok("hello").with("ETag", "\"1\""));
    let client = Client::new(options());
    let reply = client.send(&Request::head(server.url("/")), &never).unwrap();
    assert_eq!(reply.header("etag"), Some("\"1\""));
    assert_eq!(server.asked()[0].method, "HEAD");
}

#[test]
fn asks_whether_it_changed() {
    let server = Server::start(|asked: &Asked| match asked.header("if-none-match") {
        Some("\"1\"") => Answer::status(304),
        _ => Answer::ok("new"),
    });
    let client = Client::new(options());
    let request = Request { if_none_match: Some("\"1\"".into()), ..Request::get(server.url("/")) };
    assert!(client.send(&request, &never).unwrap().is_not_modified());
    let request = Request { if_none_match: Some("\"2\"".into()), ..request };
    assert!(!client.send(&request, &never).unwrap().is_not_modified());
    let odd = Server::start(|_| Answer::status(304));
    let error = fetch(odd.url("/")).unwrap_err().to_string();
    assert!(error.contains("answered 304"), "{error}");
}

#[test]
fn follows_redirects_of_each_kind() {
    let last = Server::start(|asked: &Asked| Answer::ok(asked.target.clone()));
    for status in [301, 302, 303, 307, 308] {
        let server = redirector(status, last.url("/there"));
        assert_eq!(fetch(server.url("/")).unwrap(), "/there");
    }
    let server = Server::start(|asked: &Asked| match asked.target.as_str() {
        "/a/b" => Answer::redirect(302, "c?d"),
        target => Answer::ok(target.to_owned()),
    });
    assert_eq!(fetch(server.url("/a/b")).unwrap(), "/a/c?d");
}

#[test]
fn credentials_stay_with_their_host() {
    let other = Server::start(|_| Answer::ok("x"));
    let to = other.url("/away");
    let server = Server::start(move |asked: &Asked| match asked.target.as_str() {
        "/here" => Answer::redirect(302, "/still-here"),
        "/still-here" => Answer::redirect(302, &to),
        _ => Answer::ok("x"),
    });
    let request = Request {
        credentials: Some(Credentials::Header(b"Bearer secret".to_vec())),
        ..Request::get(server.url("/here"))
    };
    fetch_with(options(), &request).unwrap();
    let seen: Vec<_> = server.asked().iter().map(|a| a.header("authorization").map(str::to_owned)).collect();
    assert_eq!(seen, [Some("Bearer secret".to_owned()), Some("Bearer secret".to_owned())]);
    let away = &other.asked()[0];
    assert_eq!(away.target, "/away");
    for header in ["authorization", "cookie", "referer"] {
        assert_eq!(away.header(header), None);
    }
}

#[test]
fn user_info_is_for_its_host_alone() {
    let other = Server::start(|_| Answer::ok("x"));
    let server = redirector(302, other.url("/"));
    let url = server.url("/").replace("http://", "http://me:p%40ss@");
    fetch(url.clone()).unwrap();
    assert_eq!(server.asked()[0].header("authorization"), Some("Basic bWU6cEBzcw=="));
    assert_eq!(other.asked()[0].header("authorization"), None);
    // What the other server's URL brings is for the other server, and not sent back here.
    let back = redirector(302, server.url("/last"));
    let to = back.url("/").replace("http://", "http://them:x@");
    let start = redirector(302, to);
    let _ = fetch(start.url("/"));
    assert_eq!(back.asked()[0].header("authorization"), Some("Basic dGhlbTp4"));
    assert_eq!(server.asked()[1].header("authorization"), None);
}

#[test]
fn cookies_are_not_kept() {
    let server = Server::start(|asked: &Asked| match asked.target.as_str() {
        "/" => Answer::redirect(302, "/next").with("Set-Cookie", "a=b; Path=/"),
        _ => Answer::ok("x"),
    });
    fetch(server.url("/")).unwrap();
    assert_eq!(server.asked()[1].header("cookie"), None);
}

#[test]
fn redirects_end() {
    let server = Server::start(|_| Answer::redirect(302, "/again"));
    let error = fetch(server.url("/")).unwrap_err().to_string();
    assert!(error.contains("redirects more than 10 times"), "{error}");
    assert_eq!(server.count(), 11);
    for (to, expect) in [("file:///etc/passwd", "only http and https"), ("ftp://a/", "only http and https")] {
        let server = redirector(302, to.to_owned());
        let error = fetch(server.url("/")).unwrap_err().to_string();
        assert!(error.contains(expect) && server.count() == 1, "{error}");
    }
    let server = Server::start(|_| Answer::status(302));
    let error = fetch(server.url("/")).unwrap_err().to_string();
    assert!(error.contains("does not say where"), "{error}");
}

#[test]
fn answers_that_stay_bad_are_asked_once() {
    let check = |status: u16, expect: &str| {
        let server = Server::start(move |_| Answer::status(status));
        let url = server.url("/f?token=abc").replace("http://", "http://me:pass@");
        let error = fetch(url).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(error.contains(&format!("`{}`", server.url("/f?token=***"))), "{error}");
        assert!(!error.contains("pass") && !error.contains("abc"), "{error}");
        assert_eq!(server.count(), 1);
    };
    check(401, "401 (unauthorized");
    check(403, "403 (forbidden)");
    check(404, "404 (not found)");
    check(410, "410 (gone)");
    check(418, "answered 418");
    check(300, "answered 300");
}

#[test]
fn what_may_pass_is_asked_again() {
    for status in [408, 429, 500, 503] {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Answer::status(status),
            _ => Answer::ok("at last"),
        });
        assert_eq!(fetch(server.url("/")).unwrap(), "at last");
        assert_eq!(server.count(), 3);

        let server = Server::start(move |_| Answer::status(status).with("Retry-After", "7"));
        let error = fetch(server.url("/")).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.to_string().ends_with("tried 3 times"), "{error}");
        assert_eq!(server.count(), 3);
    }
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::bad(test_server::Body::Closed),
        _ => Answer::ok("at last"),
    });
    assert_eq!(fetch(server.url("/")).unwrap(), "at last");
}

#[test]
fn a_body_must_be_whole_and_not_too_long() {
    let once = ClientOptions { retry: RetryPolicy::none(), ..options() };
    let check = |body: test_server::Body, limit: u64, expect: &str| {
        let server = Server::start(move |_| Answer::bad(body.clone()));
        let client = Client::new(once.clone());
        let reply = client.send(&Request::get(server.url("/")), &never).unwrap();
        let mut came = 0;
        let result = reply.copy_to(limit, &never, &mut |piece| {
            came += piece.len() as u64;
            Ok(())
        });
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expect) && came <= limit, "{came} {error}");
    };
    check(test_server::Body::Short(b"abc".to_vec(), 10), 100, "broke before all of it came");
    check(test_server::Body::Endless, 100_000, "larger than 100000 bytes");
    check(test_server::Body::Whole(vec![0; 11]), 10, "larger than 10 bytes");
}

#[test]
fn a_sink_that_fails_ends_it() {
    let server = Server::start(|_| Answer::bad(test_server::Body::Endless));
    let client = Client::new(options());
    let reply = client.send(&Request::get(server.url("/")), &never).unwrap();
    let full = || std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    let error = reply.copy_to(u64::MAX, &never, &mut |_| Err(full())).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No space"), "{error}");
    assert!(!error.is_transient());
}

#[test]
fn cancelling_ends_whatever_it_waits_for() {
    for body in [test_server::Body::Silent, test_server::Body::Stuck(b"abc".to_vec())] {
        // Cancelled once the server has been asked, so that it is really being waited for.
        let asked = std::sync::Arc::new(AtomicBool::new(false));
        let server = Server::start({
            let asked = asked.clone();
            move |_| {
                asked.store(true, Ordering::SeqCst);
                Answer::bad(body.clone())
            }
        });
        let client = Client::new(options());
        let cancel = || asked.load(Ordering::SeqCst);
        let request = Request::get(server.url("/"));
        let result = client.send(&request, &cancel).and_then(|reply| reply.bytes(1 << 20, &cancel));
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(server.count(), 1);
    }
    // While connecting: this one's queue is full, so that it never answers.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let listener = listener.unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    rustix::net::bind(&listener, &any).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    let looks = AtomicUsize::new(0);
    let cancel = || looks.fetch_add(1, Ordering::SeqCst) >= 3;
    let client = Client::new(options());
    let error = client.send(&Request::get(format!("http://{address}/")), &cancel).err().unwrap();
    assert!(error.is_cancelled(), "{error}");
    // And between two tries.
    let busy = Server::start(|_| Answer::status(503));
    let tries = AtomicUsize::new(0);
    let client = Client::new(ClientOptions::default());
    let cancel = || tries.load(Ordering::SeqCst) > 0;
    let result = client.retrying(&cancel, || {
        let result = client.send_once(&Request::get(busy.url("/")), &never).map(drop);
        tries.fetch_add(1, Ordering::SeqCst);
        result
    });
    assert!(result.unwrap_err().is_cancelled());
    assert_eq!(busy.count(), 1);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let short = ClientOptions {
        connect_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        retry: RetryPolicy::none(),
        ..options()
    };
    let server = Server::start(|_| Answer::bad(test_server::Body::Silent));
    let error = fetch_with(short.clone(), &Request::get(server.url("/"))).unwrap_err();
    assert!(matches!(error.problem(), Problem::NoAnswer(_)) && error.is_transient(), "{error}");
    let server = Server::start(|_| Answer::bad(test_server::Body::Stuck(b"abc".to_vec())));
    let error = fetch_with(short, &Request::get(server.url("/"))).unwrap_err();
    assert!(matches!(error.problem(), Problem::Stalled(_)) && error.is_transient(), "{error}");
}

#[test]
fn says_why_there_is_no_connection() {
    // A port that was just free, and is held so that nobody listens on it.
    let held = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let held = held.unwrap();
    rustix::net::bind(&held, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&held).unwrap().try_into().unwrap();
    let error = fetch(format!("http://{address}/a")).unwrap_err();
    let expect = format!("cannot fetch `http://{address}/a`: the connection was refused, tried 3 times");
    assert_eq!(error.to_string(), expect);
    assert!(error.hint().unwrap().contains("HTTP_PROXY"));

    let error = fetch("http://does-not-exist.invalid/a".into()).unwrap_err();
    assert!(error.to_string().contains("the host `does-not-exist.invalid` was not found"), "{error}");

    let error = fetch("ftp://a/b".into()).unwrap_err().to_string();
    assert!(error.contains("only http and https"), "{error}");
}

#[test]
fn an_answer_that_is_not_http_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let error = fetch_with(ClientOptions { retry: RetryPolicy::none(), ..options() }, &Request::get(url));
    let error = error.unwrap_err();
    assert!(error.to_string().contains("not HTTP") && !error.is_transient(), "{error}");
    thread.join().unwrap();
}

#[test]
fn goes_through_the_proxy_it_is_told() {
    let proxy = Server::start(|_| Answer::ok("from the proxy").with("Connection", "close"));
    let through = |no_proxy: &str, proxy: &Server| ClientOptions {
        proxies: ProxySettings {
            http: Some(format!("http://me:secret@{}", proxy.host())),
            no_proxy: Some(no_proxy.to_owned()),
            ..ProxySettings::default()
        },
        ..options()
    };
    let request = Request::get("http://example.invalid/a");
    assert_eq!(fetch_with(through("", &proxy), &request).unwrap(), "from the proxy");
    let asked = &proxy.asked()[0];
    assert_eq!(asked.target, "http://example.invalid/a");
    assert_eq!(asked.header("proxy-authorization"), Some("Basic bWU6c2VjcmV0"));
    // Not through it: the name cannot be found.
    let error = fetch_with(through("invalid", &proxy), &request).unwrap_err().to_string();
    assert!(error.contains("was not found") && !error.contains("proxy"), "{error}");
    assert_eq!(proxy.count(), 1);
    let refusing = Server::start(|_| Answer::status(407));
    let error = fetch_with(through("", &refusing), &request).unwrap_err().to_string();
    let expect = format!("through the proxy `http://{}/`: the server answered 407", refusing.host());
    assert!(error.contains(&expect) && !error.contains("secret"), "{error}");
    // https asks for a tunnel.
    let proxies =
        ProxySettings { https: Some(format!("http://{}", refusing.host())), ..ProxySettings::default() };
    let options = ClientOptions { proxies, retry: RetryPolicy::none(), ..options() };
    let error = fetch_with(options, &Request::get("https://example.invalid/a")).unwrap_err().to_string();
    assert_eq!(refusing.asked()[1].method, "CONNECT");
    assert!(error.contains("proxy authorization required"), "{error}");
}

#[test]
fn believes_only_known_authorities() {
    let server = Server::start_tls("127.0.0.1", |asked: &Asked| match asked.target.as_str() {
        "/down" => Answer::redirect(302, "http://127.0.0.1:1/"),
        _ => Answer::ok("sealed"),
    });
    let other = Server::start_tls("elsewhere.test", |_| Answer::ok("x"));
    let directory = tempfile::tempdir().unwrap();
    let trusting = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        ClientOptions {
            tls: TlsOptions { ca_files: vec![path], ..TlsOptions::default() },
            retry: RetryPolicy::none(),
            ..options()
        }
    };
    let own = trusting("own", server.ca_pem.as_ref().unwrap());
    let foreign = trusting("foreign", other.ca_pem.as_ref().unwrap());
    assert_eq!(fetch_with(own.clone(), &Request::get(server.url("/"))).unwrap(), "sealed");

    let error = fetch_with(foreign.clone(), &Request::get(server.url("/"))).unwrap_err();
    assert!(error.to_string().contains("signed by an authority not known here"), "{error}");
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE") && !error.is_transient());
    let error = fetch_with(foreign, &Request::get(other.url("/"))).unwrap_err();
    assert!(error.to_string().contains("for another host"), "{error}");

    let plain = Server::start(|_| Answer::ok("plain"));
    let error =
        fetch_with(own.clone(), &Request::get(plain.url("/").replace("http:", "https:"))).unwrap_err();
    assert!(error.to_string().contains("tls handshake eof"), "{error}");
    let bad = trusting("bad", "nothing");
    assert_eq!(fetch_with(bad.clone(), &Request::get(plain.url("/"))).unwrap(), "plain");
    let error = fetch_with(bad, &Request::get(server.url("/"))).unwrap_err().to_string();
    assert!(error.contains("no certificate"), "{error}");

    // With credentials, not down to http.
    let request = Request {
        credentials: Some(Credentials::Header(b"x".to_vec())),
        ..Request::get(server.url("/down"))
    };
    let error = fetch_with(own.clone(), &request).unwrap_err().to_string();
    assert!(error.contains("does not go on without TLS"), "{error}");
    let error = fetch_with(own, &Request::get(server.url("/down"))).unwrap_err();
    assert!(matches!(error.problem(), Problem::Refused), "{error}");
}

#[test]
fn many_threads_share_one() {
    let server = Server::start(|asked: &Asked| Answer::ok(asked.target.clone()));
    let client = Client::new(options());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (client, server) = (&client, &server);
            scope.spawn(move || {
                for i in 0..10 {
                    let path = format!("/{thread}/{i}");
                    let reply = client.send(&Request::get(server.url(&path)), &never).unwrap();
                    assert_eq!(reply.bytes(100, &never).unwrap(), path.as_bytes());
                }
            });
        }
    });
    assert_eq!(server.count(), 80);
}

fn send(url: String, method: Method, body: Body<'_>) -> Result<u16, NetError> {
    let request = Request { answers: Answers::Any, ..Request::new(method, url) };
    Client::new(options()).send_body(&request, body, &never).map(|reply| reply.status())
}

#[test]
fn sends_bodies_with_a_length_and_in_chunks() {
    let server = Server::start(|_| Answer::status(201));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut write =
        |out: &mut dyn std::io::Write| bytes.chunks(7001).try_for_each(|piece| out.write_all(piece));
    let length = Some(bytes.len() as u64);
    assert_eq!(send(server.url("/1"), Method::Put, Body::Bytes(b"hello".to_vec())).unwrap(), 201);
    assert_eq!(send(server.url("/2"), Method::Put, Body::Stream { length, write: &mut write }).unwrap(), 201);
    assert_eq!(
        send(server.url("/3"), Method::Patch, Body::Stream { length: None, write: &mut write }).unwrap(),
        201
    );
    assert_eq!(send(server.url("/4"), Method::Post, Body::None).unwrap(), 201);
    assert_eq!(send(server.url("/5"), Method::Delete, Body::None).unwrap(), 201);
    let asked = server.asked();
    let methods: Vec<&str> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["PUT", "PUT", "PATCH", "POST", "DELETE"]);
    assert_eq!((asked[0].body.as_slice(), asked[0].header("content-length")), (&b"hello"[..], Some("5")));
    assert!(asked[1].body == bytes && asked[1].header("content-length") == Some("3000000"));
    assert!(asked[2].body == bytes && asked[2].header("transfer-encoding") == Some("chunked"));
    assert_eq!(asked[3].header("content-length"), Some("0"));
}

#[test]
fn a_writer_that_fails_ends_the_request() {
    let server = Server::start(|_| Answer::status(201));
    let check = |length: Option<u64>, write: WriteBody<'_>, expect: &str| {
        let error = send(server.url("/"), Method::Put, Body::Stream { length, write }).unwrap_err();
        assert!(matches!(error.problem(), Problem::Source(_)) && !error.is_transient(), "{error}");
        let text = crate::report::chain(&error);
        assert!(text.contains("cannot send to") && text.contains(expect), "{text}");
    };
    check(Some(3), &mut |_| Err(std::io::Error::other("no disk")), "no disk");
    check(None, &mut |_| Err(std::io::Error::other("no disk")), "no disk");
    check(Some(3), &mut |out| out.write_all(b"ab"), "1 bytes less");
    check(Some(3), &mut |out| out.write_all(b"abcd"), "more bytes");
}

#[test]
fn a_writer_does_not_wait_for_who_stopped_reading() {
    // The server answers nothing and reads no more than what fits in the buffers between.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let started = AtomicBool::new(false);
    let request = Request::new(Method::Put, url);
    let mut write = |out: &mut dyn std::io::Write| loop {
        out.write_all(&[0; 65536])?;
        started.store(true, Ordering::SeqCst);
    };
    let body = Body::Stream { length: None, write: &mut write };
    let error = Client::new(options()).send_body(&request, body, &|| started.load(Ordering::SeqCst)).err();
    assert!(error.unwrap().is_cancelled());
    let quick = ClientOptions { idle_timeout: Duration::from_millis(200), ..options() };
    let quick = ClientOptions { connect_timeout: Duration::from_millis(200), ..quick };
    let body = Body::Stream { length: None, write: &mut write };
    let error = Client::new(quick).send_body(&request, body, &never).err().unwrap();
    assert!(matches!(error.problem(), Problem::NoAnswer(_)), "{error}");
}

#[test]
fn any_status_is_an_answer_where_that_is_asked_for() {
    let server = Server::start(|asked: &Asked| match asked.target.as_str() {
        "/401" => Answer { status: 401, ..Answer::ok("why") },
        _ => Answer::redirect(307, "/401"),
    });
    let client = Client::new(options());
    let ask = |path: &str, answers, follow| {
        client.send(&Request { answers, follow, ..Request::get(server.url(path)) }, &never)
    };
    let reply = ask("/401", Answers::Any, true).unwrap();
    assert_eq!(reply.status(), 401);
    assert_eq!(reply.bytes_up_to(2, &never), b"wh");
    assert_eq!(ask("/", Answers::Any, false).unwrap().status(), 307);
    assert_eq!(ask("/", Answers::Also(&[401]), true).unwrap().status(), 401);
    assert!(ask("/401", Answers::Also(&[404]), true).is_err());
    // A redirect of what changes something is an answer or an error, but never followed.
    assert_eq!(send(server.url("/"), Method::Post, Body::None).unwrap(), 307);
}

#[test]
fn a_body_can_be_read_as_a_stream() {
    use std::io::Read;
    let server = Server::start(|asked: &Asked| match asked.target.as_str() {
        "/short" => Answer::bad(test_server::Body::Short(b"he".to_vec(), 5)),
        "/endless" => Answer::bad(test_server::Body::Endless),
        _ => Answer::ok("hello"),
    });
    let client = Client::new(options());
    let read = |path: &str| {
        let reply = client.send(&Request::get(server.url(path)), &never).unwrap();
        let mut bytes = Vec::new();
        let read = reply.into_reader(8192, &never).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|error| NetError::from_io(error).unwrap())
    };
    assert_eq!(read("/").unwrap(), b"hello");
    assert!(matches!(read("/short").unwrap_err().problem(), Problem::Interrupted(_)));
    assert!(matches!(read("/endless").unwrap_err().problem(), Problem::TooLarge(8192)));
}
