//! Tests of which texts are addresses, and of what they say.

use proptest::prelude::*;

use super::*;

fn git(text: &str) -> GitAddress {
    match parse_context(text) {
        Some(Ok(Address::Git(address))) => address,
        other => panic!("{text}: {other:?}"),
    }
}

fn http(text: &str) -> HttpAddress {
    match parse(text) {
        Some(Ok(Address::Http(address))) => address,
        other => panic!("{text}: {other:?}"),
    }
}

fn fails(text: &str, expect: &str) {
    let error = parse_context(text).unwrap_or_else(|| panic!("{text} is local")).expect_err(text).to_string();
    assert!(error.contains(expect), "{text}: {error}");
}

#[test]
fn tells_git_from_http_from_local() {
    let check = |text: &str, expect: &str| {
        let found = match parse(text) {
            None => "local",
            Some(Ok(Address::Http(_))) => "http",
            Some(Ok(Address::Git(_))) => "git",
            Some(Err(_)) => "error",
        };
        assert_eq!(found, expect, "{text}");
    };
    check("https://example.com/", "http");
    check("https://example.com", "http");
    check("https://example.com/foo", "http");
    check("https://example.com/foo#x", "http");
    check("https://example.com/foo?ref=x", "http");
    check("https://example.com/foo.git", "git");
    check("https://example.com/foo.git#deadbeef", "git");
    check("https://example.com/foo%2egit", "git");
    check("HTTPS://example.com/foo.git", "git");
    check("https://example.com/foo.git/", "http");
    check("https://example.com/foo.git.bar", "http");
    check("http://github.com/docker/docker.git:#branch", "http");
    check("https://github.com/moby/buildkit", "http");
    check("git://example.com/foo", "git");
    check("ssh://git@example.com/foo", "git");
    check("git@github.com:moby/buildkit", "git");
    check("git@github.com:moby/buildkit.git#main:docs", "git");
    check("git@host:/srv/x", "git");
    check("github.com:moby/buildkit.git", "git");
    check("name:text", "git");
    check("name:/text", "local");
    check("name:", "local");
    check("custom.xyz/moby/buildkit.git", "local");
    check("github.com/moby/buildkit", "local");
    check("./.git", "local");
    check(".git", "local");
    check("./git@host:x", "local");
    check("../https://x/y.git", "local");
    check("a/b:c", "local");
    check("ftp://example.com/foo.git", "local");
    check("file:///srv/foo.git", "local");
    check("a b@c:d", "local");
    check("a\nb:c", "local");
    check("", "local");
    check("https://", "error");
    check("https:///foo.git", "error");
    check("git@host:", "error");
    check("ext::sh -c touch% /tmp/x", "error");
    check("ext::ssh://host/x.git", "error");
    check("fd::17", "error");
    check("foo::/srv/x", "error");
    check("ssh://-oProxyCommand=x/foo", "error");
    check("-oProxyCommand:x", "error");
    check("https://host:99999/x", "error");
    check("https://host/%zz", "error");
}

#[test]
fn reads_what_is_wanted() {
    let check = |text: &str, remote: &str, reference: Option<&str>, subdir: Option<&str>| {
        let address = git(text);
        assert_eq!(
            (address.remote(), address.reference(), address.subdir()),
            (remote, reference, subdir),
            "{text}"
        );
    };
    let kit = "https://github.com/moby/buildkit.git";
    check(kit, kit, None, None);
    check(&format!("{kit}#baz/qux:quux/quuz"), kit, Some("baz/qux"), Some("quux/quuz"));
    check(&format!("{kit}#:folder"), kit, None, Some("folder"));
    check(&format!("{kit}#"), kit, None, None);
    check(&format!("{kit}#a%2Db:"), kit, Some("a-b"), None);
    check(&format!("{kit}?ref=v1.0.0&subdir=/sub//./x/../dir/"), kit, Some("v1.0.0"), Some("sub/dir"));
    check(&format!("{kit}?subdir=/"), kit, None, None);
    check(&format!("{kit}?subdir=/subdir#v1.0.0"), kit, Some("v1.0.0"), Some("subdir"));
    check(&format!("{kit}?ref=a#a"), kit, Some("a"), None);
    check(&format!("{kit}?tag=v1.0.0"), kit, Some("refs/tags/v1.0.0"), None);
    check(&format!("{kit}?tag=refs/tags/v1.0.0"), kit, Some("refs/tags/v1.0.0"), None);
    check(&format!("{kit}?branch=v1.0"), kit, Some("refs/heads/v1.0"), None);
    check(&format!("{kit}?branch=v1.0&ref=refs/heads/v1.0"), kit, Some("refs/heads/v1.0"), None);
    check(&format!("{kit}?checksum=ABC"), kit, Some("abc"), None);
    check(&format!("{kit}?ref=pull/1/head&commit=abc"), kit, Some("pull/1/head"), None);
    check("github.com/moby/buildkit#master", "https://github.com/moby/buildkit", Some("master"), None);
    check("github.com/a/b?tag=v1", "https://github.com/a/b", Some("refs/tags/v1"), None);
    check("git@h:a/b.git?subdir=/s#v1", "git@h:a/b.git", Some("v1"), Some("s"));
    check("ssh://git:pass@h:22/a", "ssh://git@h:22/a", None, None);
    check("git://user@h/a#b", "git://h/a", Some("b"), None);
}

#[test]
fn reads_options() {
    let kit = "https://h/kit.git";
    let with = |query: &str| git(&format!("{kit}?{query}"));
    assert!(with("").submodules() && !with("").keeps_git_dir() && with("").mtime().is_none());
    assert!(!with("submodules=false").submodules() && with("submodules").submodules());
    assert!(with("keep-git-dir").keeps_git_dir() && with("keep-git-dir=T").keeps_git_dir());
    assert!(!with("keep-git-dir=1&subdir=x").keeps_git_dir());
    assert_eq!(with("mtime=commit").mtime(), Some(Mtime::Commit));
    assert_eq!(with("mtime=checkout").with_default_mtime(Mtime::Commit).mtime(), Some(Mtime::Checkout));
    let sha = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(with(&format!("ref=main&commit={sha}")).commit(), None);
    assert_eq!(with(&format!("ref=main&commit={sha}&fetch-by-commit=true")).commit(), Some(sha));
    assert_eq!(git(&format!("{kit}#{sha}:x")).commit(), Some(sha));
    assert_eq!(with(&format!("checksum={sha}")).commit(), Some(sha));
    assert_eq!(with("checksum=0123").commit(), None);
    assert_eq!(git(kit).with_checksum("AB12").unwrap().checksum(), Some("ab12"));
    assert!(with("checksum=ab12").with_checksum("ab12").is_ok());
    assert!(with("checksum=ab12").with_checksum("ab13").is_err());
    assert!(git(kit).with_checksum("sha256:00").is_err());
    assert!(with("keep-git-dir=0").with_keep_git_dir(true).is_err());
    assert!(!with("keep-git-dir=0").with_default_keep_git_dir(true).keeps_git_dir());
    assert!(git(kit).with_default_keep_git_dir(true).keeps_git_dir());
    assert!(git(kit).with_keep_git_dir(true).unwrap().keeps_git_dir());
}

#[test]
fn refuses_what_cannot_be_wanted() {
    let check = |rest: &str, expect: &str| fails(&format!("https://h/kit.git{rest}"), expect);
    check("?ref=v1.0.0#v1.2.3", "ref conflicts: `v1.2.3` and `v1.0.0`");
    check("?ref=v1.0.0&tag=v1.2.3", "ref conflicts");
    check("?tag=v1.0.0&branch=v1.0", "branch conflicts with tag");
    check("?subdir=a#:b", "subdir conflicts");
    check("?checksum=ab&commit=cd", "checksum conflicts");
    check("?invalid=123", "unexpected query `invalid`");
    check("?sub-dir=123", "unexpected query `sub-dir` (did you mean subdir?)");
    check("?Submodule=0", "did you mean submodules?");
    check("?ref=a&ref=a", "query `ref` has multiple values");
    check("?ref=", "query `ref` has no value");
    check("?subdir", "query `subdir` has no value");
    check("?submodules=yes", "invalid submodules value `yes`");
    check("?mtime=now", "it can be checkout or commit");
    check("?fetch-by-commit=1", "needs a whole commit");
    check("?fetch-by-commit=1&commit=abcd", "needs a whole commit");
    check("?checksum=xyz", "invalid checksum `xyz`");
    check("#--upload-pack=touch", "it begins with `-`");
    check("?branch=../../x", "cannot hold `..`");
    check("?ref=main:refs/heads/x", "cannot hold `:`");
    check("?ref=refs/*", "cannot hold `*`");
    check("#a%0ab", "cannot hold `\\n`");
    check("#a%20b", "cannot hold ` `");
    check("#v1^{}", "cannot hold `^`");
    check("#main:../x", "leads out of the repository");
    check("?subdir=a/../../x", "leads out of the repository");
    check("#main:a%00", "control character");
    fails("https://h/%ff.git", "no UTF-8");
    fails("ssh://h/", "names no repository");
    fails("ssh://-l@h/x", "user name");
    fails("git@h:-x", "names no repository");
    fails("-u@h:x", "user name");
}

#[test]
fn names() {
    let check = |text: &str, expect: &str| assert_eq!(git(text).short_name(), expect, "{text}");
    check("https://h/a/kit.git#x:y", "kit");
    check("git@h:kit.git", "kit");
    check("git://h/a/kit/", "kit");
    let check = |text: &str, expect: &str| assert_eq!(http(text).file_name(), expect, "{text}");
    check("https://h/a/b.tar.gz?x=/y#z", "b.tar.gz");
    check("https://h/a%20b/", "a b");
    check("https://h/a%2Fb", "b");
    check("https://h", "context");
    check("https://h/..", "context");
    check("https://h/%00", "context");
    let check = |text: &str, expect: &str| assert_eq!(http(text).added_name(), expect, "{text}");
    check("https://h/dir/", "dir");
    check("https://h/a%20b?f=x#/z", "a b");
    for text in
        ["https://h", "https://h/?f=x", "https://h/a/%2e%2e", "https://h/a/%2e%2e%2f", "https://h/a%00b"]
    {
        check(text, "__unnamed__");
    }
}

#[test]
fn keeps_passwords_to_itself() {
    for text in ["https://joe:s3cret@h/x.git?ref=a", "http://joe:s3cret@h/x?y"] {
        let address = parse(text).unwrap().unwrap();
        let shown = format!("{address} {address:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("joe"), "{shown}");
        let credentials = match &address {
            Address::Http(address) => address.credentials(),
            Address::Git(address) => address.credentials(),
        };
        let credentials = credentials.unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_deref()), ("joe", Some("s3cret")));
        assert!(!format!("{credentials:?}").contains("s3cret"));
    }
    for text in
        ["https://joe:s3c/ret@h/x.git", "https://joe:s3c ret@h/x.git", "https://u:s3cret@h/x.git?bad=1"]
    {
        let error = parse(text).unwrap().unwrap_err().to_string();
        assert!(!error.contains("s3c") && !error.contains("joe"), "{error}");
    }
    assert_eq!(http("http://joe:x@h:80/a b?q=\"#f").redacted(), "http://h:80/a%20b?q=%22");
    assert_eq!(git("https://t%40k:@h/x.git").credentials().unwrap().user, "t@k");
}

proptest! {
    #[test]
    fn never_panics(text in "(https?://|git://|ssh://|git@|github.com/|)[ -~\u{0}\u{a}é]{0,40}(.git)?[#?:=&%@/a-z.-]{0,30}") {
        if let Some(Ok(address)) = parse_context(&text) {
            prop_assert!(!address.to_string().contains('\n'));
        }
    }

    #[test]
    fn passwords_are_never_shown(password in "([!-\"$-.0->@-~]{0,12}|[!-/:-?A-~][!-?A-~]{0,12})", tail in "[!-~]{0,20}") {
        let text = format!("https://joe:{password}SeCrEt@host/kit.git{tail}");
        let shown = match parse(&text).unwrap() {
            Ok(address) => format!("{address} {address:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains("SeCrEt"), "{}", shown);
    }
}
