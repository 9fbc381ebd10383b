//! `config.json`, read and changed.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn parse(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("config.json"), text).unwrap()
}

fn password(user: &str, password: &str) -> Secret {
    Secret::Password { user: user.to_owned(), password: password.to_owned() }
}

#[test]
fn finds_credentials_in_each_form() {
    let check = |entry: &str, expect: Option<Secret>| {
        let file = parse(&format!(r#"{{"auths":{{"r.example.com:5000":{entry}}}}}"#));
        assert_eq!(file.secret("r.example.com:5000").unwrap(), expect, "{entry}");
        assert_eq!(file.secret("r.example.com").unwrap(), None);
    };
    check(r#"{"auth":"bWU6cDpxCg=="}"#, Some(password("me", "p:q\n")));
    check(r#"{"username":"me","password":"p"}"#, Some(password("me", "p")));
    check(r#"{"auth":"","identitytoken":"t"}"#, Some(Secret::Identity("t".into())));
    check(r#"{"auth":"bWU6cA==","identitytoken":"t"}"#, Some(Secret::Identity("t".into())));
    check(r#"{"registrytoken":"t"}"#, Some(Secret::Registry("t".into())));
    check(r#"{"username":"<token>","password":"t"}"#, Some(Secret::Identity("t".into())));
    check("{}", None);
    check("null", None);
    check(r#"{"email":"x"}"#, None);
}

#[test]
fn keys_may_be_urls() {
    let check = |key: &str, host: &str, expect: bool| {
        let file = parse(&format!(r#"{{"auths":{{"{key}":{{"auth":"bWU6cA=="}}}}}}"#));
        assert_eq!(file.secret(host).unwrap().is_some(), expect, "{key} {host}");
    };
    check("https://r.example.com", "r.example.com", true);
    check("https://r.example.com:5000/v2/", "r.example.com:5000", true);
    check("http://r.example.com/v1/", "r.example.com", true);
    check("r.example.com/v1/", "r.example.com", true);
    check("https://index.docker.io/v1/", "https://index.docker.io/v1/", true);
    check("https://index.docker.io/v1/", "r.example.com", false);
    check("r.example.com", "r.example.com:5000", false);
    check("evil.com/r.example.com", "r.example.com", false);
    check("https://r.example.com@evil.com/", "r.example.com", false);
}

#[test]
fn helpers_are_for_their_hosts() {
    let file =
        parse(r#"{"credHelpers":{"a.example.com":"one","https://b.example.com":"two"},"credsStore":"all"}"#);
    assert_eq!(file.helper("a.example.com").unwrap().as_deref(), Some("one"));
    assert_eq!(file.helper("b.example.com").unwrap().as_deref(), Some("two"));
    assert_eq!(file.helper("c.example.com").unwrap().as_deref(), Some("all"));
    let file = parse(r#"{"credHelpers":{"a":""},"credsStore":""}"#);
    assert_eq!(file.helper("a").unwrap(), None);
    assert_eq!(file.helper("b").unwrap(), None);
}

#[test]
fn what_is_wrong_is_said_without_secrets() {
    let check = |text: &str, expect: &str| {
        let found = ConfigFile::parse(Path::new("/x/config.json"), text).and_then(|file| file.secret("r"));
        let error = found.unwrap_err().to_string();
        assert!(error.contains("/x/config.json") && error.contains(expect), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    check(r#"{"auths":{"r":{"auth":"hunter2"}}}"#, "not base64");
    check(r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#, "not base64");
    check(r#"{"auths":{"r":{"auth":["hunter2"]}}}"#, "not of docker's form");
    check(r#"{"auths":{"r":"hunter2"}}"#, "not of docker's form");
    check(r#"{"auths":"hunter2"}"#, "`auths`");
    check("hunter2", "not JSON");
    check("[]", "not JSON");
}

#[test]
fn a_change_leaves_all_else_as_it_is() {
    let before = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {\n\t\t\"a\": {\n\t\t\t\"auth\": \"YTpi\"\n\t\t},\n\t\t\"z\": {\n\t\t\t\"email\": \"e\",\n\t\t\t\"auth\": \"YTpi\"\n\t\t}\n\t},\n\t\"unknown\": {\"x\":   [1]}\n}";
    let mut file = parse(before);
    assert_eq!(file.fields.pretty(0), before);
    file.set("z", Some(&password("me", "p"))).unwrap();
    file.set("new", Some(&Secret::Identity("t".into()))).unwrap();
    assert!(file.remove("a").unwrap() && !file.remove("a").unwrap());
    let after = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {\n\t\t\"z\": {\n\t\t\t\"email\": \"e\",\n\t\t\t\"auth\": \"bWU6cA==\"\n\t\t},\n\t\t\"new\": {\n\t\t\t\"identitytoken\": \"t\"\n\t\t}\n\t},\n\t\"unknown\": {\"x\":   [1]}\n}";
    assert_eq!(file.fields.pretty(0), after);
    file.set("z", None).unwrap();
    assert_eq!(file.secret("z").unwrap(), None);
    let names: Vec<String> = file.auths().unwrap().names().map(str::to_owned).collect();
    assert_eq!(names, ["z", "new"]);
}

#[test]
fn is_written_whole_private_and_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real/config.json");
    let link = folder.path().join("config.json");
    std::os::unix::fs::symlink("real/config.json", &link).unwrap();
    let mut file = ConfigFile::read(&link).unwrap();
    file.set("r", Some(&password("me", "p"))).unwrap();
    file.save().unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(real.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(real.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(ConfigFile::read(&real).unwrap().secret("r").unwrap(), Some(password("me", "p")));
}

#[test]
fn proxies_and_headers() {
    let file = parse(
        r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"x"},"tcp://h":{"httpProxy":"q"}},
            "HttpHeaders":{"X-Meta-Who":"me","Authorization":"secret"}}"#,
    );
    let proxies = file.proxies().unwrap();
    assert_eq!((proxies.http.as_deref(), proxies.no_proxy.as_deref()), (Some("http://p:1"), Some("x")));
    assert_eq!(file.headers().unwrap(), [("X-Meta-Who".to_owned(), "me".to_owned())]);
}

proptest::proptest! {
    #[test]
    fn never_panics(text in ".*", key in ".*") {
        if let Ok(mut file) = ConfigFile::parse(Path::new("x"), &text) {
            let _ = (file.secret(&key), file.helper(&key), file.set(&key, None));
        }
        hostname(&key);
    }
}
