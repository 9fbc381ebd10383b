//! Downloads from real servers on the loopback.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::context::{SelectOptions, Source, select};
use crate::net::test_server::{Answer, Asked, Body, Server};
use crate::net::{Client, ClientOptions, RetryPolicy};
use crate::store::Store;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const SECONDS: i64 = 784_111_777;

struct Place {
    _directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::testing::open(directory.path());
        Place { _directory: directory, store }
    }

    /// One build that fetches one thing.
    fn fetch(&self, url: &str) -> Result<HttpFile, ContextError> {
        self.fetch_as(&request(url))
    }

    fn fetch_as(&self, request: &HttpRequest) -> Result<HttpFile, ContextError> {
        Downloads::new(&self.store).fetch(&client(), request, &|| false)
    }

    /// The files under the folder of downloads, but for locks, and those on their way.
    fn files(&self) -> Vec<String> {
        let tmp = self.store.root().join("v1/tmp");
        let files = |path: &Path| {
            walkdir::WalkDir::new(path)
                .into_iter()
                .filter_map(Result::ok)
                .filter(|e| e.file_type().is_file())
                .map(|e| e.file_name().to_str().unwrap().to_owned())
                .filter(|name| name != "lock")
                .collect::<Vec<_>>()
        };
        let mut all = files(self.store.downloads_dir());
        all.extend(files(&tmp));
        all.sort();
        all
    }
}

fn request(url: &str) -> HttpRequest<'_> {
    HttpRequest { url, filename: "file", checksum: None, secrets: None, limit: DEFAULT_LIMIT, progress: None }
}

fn client() -> Client {
    let retry = RetryPolicy {
        tries: 3,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        longest_asked: Duration::ZERO,
    };
    Client::new(ClientOptions { retry, ..ClientOptions::default() })
}

fn read(file: &HttpFile) -> String {
    String::from_utf8(file.tree.root().read_small(Path::new(&file.name), 1 << 20).unwrap()).unwrap()
}

/// A server that knows whether what it has is what the client has.
fn versioned(header: &'static str, version: Arc<AtomicUsize>) -> Server {
    let question = if header == "ETag" { "if-none-match" } else { "if-modified-since" };
    Server::start(move |asked: &Asked| {
        let version = version.load(Ordering::SeqCst);
        let tag = match header {
            "ETag" => format!("\"v{version}\""),
            _ => format!("Sun, 06 Nov 1994 08:49:3{version} GMT"),
        };
        match asked.header(question) == Some(&tag) {
            true => Answer::status(304),
            false => Answer::ok(format!("content {version}")).with(header, &tag),
        }
    })
}

#[test]
fn a_file_is_what_add_expects() {
    let place = Place::new();
    let server = Server::start(|_| Answer::ok("hello").with("Last-Modified", DATE));
    let file = place.fetch(&server.url("/file")).unwrap();
    assert_eq!(read(&file), "hello");
    assert_eq!((file.digest, file.size, file.kind), (Digest::of("hello"), 5, Kind::Other));
    assert_eq!(file.last_modified, Some(SECONDS));
    let stat = file.tree.root().stat(Path::new("file"), false).unwrap();
    assert_eq!((stat.mode, stat.mtime_seconds, stat.mtime_nanos), (0o600, SECONDS, 0));
    assert_eq!(file.tree.root().entries(Path::new("")).unwrap().len(), 1);

    let plain = Server::start(|_| Answer::ok("x"));
    let file = place.fetch(&plain.url("/file")).unwrap();
    assert_eq!(file.last_modified, None);
    assert_eq!(file.tree.root().stat(Path::new("file"), false).unwrap().mtime_seconds, 0);

    let sources = [Source::Path("file".into())];
    let selection = select(&file.tree, &sources, &SelectOptions::default()).unwrap();
    std::fs::write(place.store.root().join("file"), "x").unwrap();
    std::fs::set_permissions(place.store.root().join("file"), PermissionsExt::from_mode(0o600)).unwrap();
    let same = crate::context::open_directory(place.store.root(), None).unwrap();
    let expect = select(&same, &sources, &SelectOptions::default()).unwrap();
    assert_eq!(selection.digest, expect.digest, "as of a local file");
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    for header in ["ETag", "Last-Modified"] {
        let place = Place::new();
        let version = Arc::new(AtomicUsize::new(0));
        let server = versioned(header, version.clone());
        let url = server.url("/file");
        let first = place.fetch(&url).unwrap();
        let again = place.fetch(&url).unwrap();
        assert_eq!((read(&first), read(&again)), ("content 0".into(), "content 0".into()));
        let ino = |file: &HttpFile| file.tree.root().stat(Path::new("file"), false).unwrap().ino;
        assert_eq!(ino(&first), ino(&again));
        assert_eq!(server.count(), 2);

        version.store(1, Ordering::SeqCst);
        let new = place.fetch(&url).unwrap();
        assert_eq!(read(&new), "content 1");
        assert_eq!(read(&first), "content 0", "whoever uses the old one keeps it");
        assert_eq!(place.files(), ["file", "file", "meta"]);
        drop((first, again, new));
        assert_eq!(read(&place.fetch(&url).unwrap()), "content 1");
        assert_eq!(place.files(), ["file", "meta"]);
    }
}

#[test]
fn a_server_that_sends_all_again_is_not_listened_to() {
    let place = Place::new();
    let full = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let full = full.clone();
        move |_| match full.load(Ordering::SeqCst) {
            true => Answer::ok("hello").with("ETag", "\"1\""),
            false => Answer::bad(Body::Endless).with("ETag", "W/\"1\""),
        }
    });
    place.fetch(&server.url("/")).unwrap();
    full.store(false, Ordering::SeqCst);
    assert_eq!(read(&place.fetch(&server.url("/")).unwrap()), "hello");
}

#[test]
fn within_a_build_the_first_answer_counts() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| Answer::ok(format!("{}", count.fetch_add(1, Ordering::SeqCst))));
    let (downloads, client, url) = (Downloads::new(&place.store), client(), server.url("/"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let file = downloads.fetch(&client, &request(&url), &|| false).unwrap();
                assert_eq!(read(&file), "0");
            });
        }
    });
    assert_eq!(server.count(), 1);
    let wrong = HttpRequest { checksum: Some(Digest::of("1")), ..request(&url) };
    assert!(matches!(downloads.fetch(&client, &wrong, &|| false), Err(ContextError::Checksum { .. })));
}

#[test]
fn a_checksum_must_match_and_needs_no_server_then() {
    let place = Place::new();
    let server = Server::start(|_| Answer::ok("hello").with("ETag", "\"1\""));
    let url = server.url("/f?token=abc");
    let with = |content: &str| HttpRequest { checksum: Some(Digest::of(content)), ..request(&url) };
    let error = place.fetch_as(&with("other")).unwrap_err().to_string();
    let expect = format!(
        "the checksum of `{}` is {}, not {} as it should be",
        server.url("/f?token=***"),
        Digest::of("hello"),
        Digest::of("other")
    );
    assert_eq!(error, expect);
    assert_eq!((place.files(), server.count()), (vec![], 1));
    place.fetch_as(&with("hello")).unwrap();
    place.fetch_as(&with("hello")).unwrap();
    assert_eq!(server.count(), 2);
    place.fetch_as(&with("other")).unwrap_err();
    assert_eq!(server.count(), 3);
    drop(server);
    place.fetch_as(&with("hello")).unwrap();
    let error = place.fetch(&url).unwrap_err();
    assert!(error.to_string().contains("refused") && error.hint().is_some(), "{error}");
}

#[test]
fn nothing_is_kept_of_what_failed() {
    let check = |answer: Answer, limit: u64, tries: usize, expect: &str| {
        let place = Place::new();
        let server = Server::start(move |_| answer.clone());
        let url = server.url("/");
        let error = place.fetch_as(&HttpRequest { limit, ..request(&url) }).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert_eq!((place.files(), server.count()), (vec![], tries));
    };
    check(Answer::bad(Body::Short(b"abc".to_vec(), 10)), 100, 3, "broke before all of it came");
    check(Answer::bad(Body::Endless), 1 << 20, 1, "larger than 1048576 bytes");
    check(Answer::status(404), 100, 1, "404");
    check(Answer::status(503), 100, 3, "503");
}

#[test]
fn a_body_that_broke_is_fetched_again() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::bad(Body::Short(b"hel".to_vec(), 5)),
        _ => Answer::ok("hello"),
    });
    assert_eq!(read(&place.fetch(&server.url("/")).unwrap()), "hello");
}

#[test]
fn cancelling_a_body_leaves_nothing() {
    let place = Place::new();
    let asked = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let asked = asked.clone();
        move |_| {
            asked.store(true, Ordering::SeqCst);
            Answer::bad(Body::Stuck(b"abc".to_vec()))
        }
    });
    let url = server.url("/");
    let result =
        Downloads::new(&place.store).fetch(&client(), &request(&url), &|| asked.load(Ordering::SeqCst));
    assert!(matches!(result, Err(ContextError::Net(e)) if e.is_cancelled()));
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn secrets_go_to_their_host() {
    let other = Server::start(|_| Answer::ok("x"));
    let to = other.url("/");
    let server = Server::start(move |asked: &Asked| match asked.target.as_str() {
        "/away" => Answer::redirect(302, &to),
        _ => Answer::ok("x"),
    });
    let check = |secret: &[(&str, &str)], path: &str, expect: Option<&str>| {
        let find = |id: &str| secret.iter().find(|(name, _)| *name == id).map(|(_, v)| v.as_bytes().to_vec());
        let url = server.url(path);
        Place::new().fetch_as(&HttpRequest { secrets: Some(&find), ..request(&url) }).unwrap();
        assert_eq!(server.asked().last().unwrap().header("authorization"), expect);
    };
    check(&[], "/", None);
    check(&[("HTTP_AUTH_TOKEN_example.com", "t")], "/", None);
    check(&[("HTTP_AUTH_TOKEN_127.0.0.1", "t\n")], "/", Some("Bearer t"));
    check(&[("HTTP_AUTH_HEADER_127.0.0.1", "Basic abc")], "/", Some("Basic abc"));
    let both = [("HTTP_AUTH_HEADER_127.0.0.1", "Basic abc"), ("HTTP_AUTH_TOKEN_127.0.0.1", "t")];
    check(&both, "/away", Some("Bearer t"));
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[test]
fn a_kept_file_that_was_changed_is_fetched_again() {
    let place = Place::new();
    let version = Arc::new(AtomicUsize::new(0));
    let server = versioned("ETag", version);
    place.fetch(&server.url("/")).unwrap();
    let find = |name: &str| {
        let all = walkdir::WalkDir::new(place.store.downloads_dir()).into_iter().map(Result::unwrap);
        all.map(|e| e.into_path()).find(|p| p.file_name().unwrap() == name).unwrap()
    };
    let path = find("file");
    let meta = std::fs::metadata(&path).unwrap();
    // The same content with another ctime is read through and still good.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    place.fetch(&server.url("/")).unwrap();
    assert!(server.asked()[1].header("if-none-match").is_some());
    // Another content of the same length and mtime is not.
    std::fs::write(&path, "CONTENT 0").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    assert_eq!(read(&place.fetch(&server.url("/")).unwrap()), "content 0");
    assert!(server.asked()[2].header("if-none-match").is_none());
    // Nor is one that another start of the kernel wrote and did not finish.
    let note = std::fs::read_to_string(find("meta")).unwrap();
    std::fs::write(find("meta"), note.replace(&crate::sys::atomic::boot_id(), "earlier")).unwrap();
    place.fetch(&server.url("/")).unwrap();
    assert!(server.asked()[3].header("if-none-match").is_some());
    std::fs::write(find("meta"), "{").unwrap();
    assert_eq!(read(&place.fetch(&server.url("/")).unwrap()), "content 0");
    assert_eq!(std::fs::metadata(find("file")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_nobody_asks_for_goes() {
    let place = Place::new();
    let server = Server::start(|_| Answer::ok("x"));
    let (old, used) = (place.fetch(&server.url("/old")).unwrap(), place.fetch(&server.url("/used")).unwrap());
    let age = |days: u64| {
        for entry in std::fs::read_dir(place.store.downloads_dir()).unwrap() {
            let lock = std::fs::File::options().write(true).open(entry.unwrap().path().join("lock")).unwrap();
            lock.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
        }
    };
    let count = || std::fs::read_dir(place.store.downloads_dir()).unwrap().count();
    drop(old);
    age(29);
    place.fetch(&server.url("/1")).unwrap();
    assert_eq!(count(), 3);
    age(31);
    place.fetch(&server.url("/2")).unwrap();
    assert_eq!(count(), 2, "the one in use, and the new one");
    assert_eq!(read(&used), "x");
}

#[test]
fn many_at_once_do_each_other_no_harm() {
    let place = Place::new();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| Answer::ok("y".repeat(count.fetch_add(1, Ordering::SeqCst) + 1)));
    let url = server.url("/");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..10 {
                    // As separate processes: each with its own store and build.
                    let store = crate::store::testing::open(place.store.root());
                    let file = Downloads::new(&store).fetch(&client(), &request(&url), &|| false).unwrap();
                    let text = read(&file);
                    assert_eq!((text.len() as u64, Digest::of(&text)), (file.size, file.digest));
                }
            });
        }
    });
    place.fetch(&url).unwrap();
    place.fetch(&url).unwrap();
    assert_eq!(place.files().iter().filter(|name| *name == "meta").count(), 1);
}

#[test]
fn names_that_are_none_are_refused() {
    let place = Place::new();
    for name in ["", ".", "..", "a/b", "a\0b", &"n".repeat(256)] {
        let wrong = HttpRequest { filename: name, ..request("http://127.0.0.1:1/") };
        assert!(matches!(place.fetch_as(&wrong), Err(ContextError::DownloadName { .. })), "{name}");
    }
}

#[test]
fn a_url_is_a_context_or_a_dockerfile() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    let context = |body: Vec<u8>| {
        let server = Server::start(move |_| Answer::ok(body.clone()));
        http_context(&place.fetch(&server.url("/")).unwrap(), folder.path())
    };
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(12);
    header.set_mode(0o644);
    builder.append_data(&mut header, "Dockerfile", &b"FROM scratch"[..]).unwrap();
    // It must not get out, whatever it is called.
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..10].copy_from_slice(b"../outside");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    let tar = builder.into_inner().unwrap();
    let mut encoder = crate::layer::compress(crate::layer::Compression::Gzip, None, Vec::new()).unwrap();
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    let gzip = encoder.finish().unwrap();
    for body in [tar, gzip] {
        let HttpContext::Tree(tree) = context(body).unwrap() else { panic!("a tar is a context") };
        assert_eq!(tree.root().read_small(Path::new("Dockerfile"), 100).unwrap(), b"FROM scratch");
        assert!(!folder.path().join("outside").exists());
    }
    assert!(
        matches!(context(b"FROM scratch".to_vec()).unwrap(), HttpContext::Dockerfile(t) if t == b"FROM scratch")
    );
    assert!(matches!(context(b"\xfd7zXZ\0 x".to_vec()), Err(ContextError::Unpack(_))));
    assert!(matches!(context(vec![b'x'; MAX_DOCKERFILE + 1]), Err(ContextError::NoContext(_))));
}
