//! What a configuration file may say, and where it is said to be wrong.

use super::*;

/// A whole project, but for what is added.
pub const PROJECT: &str = "[[project]]\nname = \"app\"\nrepository = \"https://git.example/a/app.git\"\n\
    secret = \"0123456789abcdef\"\n";
const RULE: &str = "[[project.rule]]\nbranch = \"main\"\ntag = \"latest\"\n";

pub fn read_text(text: &str) -> Found<Config> {
    let read = |path: &Path| match path.ends_with("there") {
        true => Ok(b"0123456789abcdefghijkl\n".to_vec()),
        false => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let duration = |text: &str| Some(Duration::from_secs(text.strip_suffix('s')?.parse().ok()?));
    super::read(text, &Around { folder: Path::new("/etc/x"), read: &read, duration: &duration })
}

#[test]
fn defaults() {
    let config = read_text(&format!("{PROJECT}{RULE}")).unwrap();
    let project = config.project("app").unwrap();
    assert_eq!((config.concurrency, config.queue, config.keep), (1, 100, 50));
    assert_eq!((project.image.as_str(), project.rate, project.timeout.as_secs()), ("app", 30, 3600));
    assert!(!format!("{config:?}").contains("0123456789abcdef"), "secrets are in no message");
}

#[test]
fn everything() {
    let text = format!(
        "listen = \"127.0.0.1:1\"\ndata = \"data\"\nconcurrency = 4\nstatus_token_file = \"there\"\n{PROJECT}\
         dockerfile = \"docker/Dockerfile\"\ncontext = \"sub\"\nplatforms = [\"linux/arm64\"]\ntimeout = \"5s\"\n\
         push = [\"registry.lan:5000/team/app\"]\ntoken = \"0123456789abcdefABCDEF_x\"\nrate = 2\n\
         build_args = {{ A = \"1\" }}\ntarget = \"t\"\n{RULE}\
         [[project.rule]]\ngit_tag = \"/^v(.*)/\"\ntag = \"{{1}}\"\n"
    );
    let config = read_text(&text).unwrap();
    let project = config.project("app").unwrap();
    assert_eq!(config.data.as_deref(), Some(Path::new("/etc/x/data")));
    assert_eq!(config.status_token, Some(Secret(b"0123456789abcdefghijkl".to_vec())));
    assert_eq!(project.image, "registry.lan:5000/team/app");
    assert_eq!((project.rules.len(), project.timeout.as_secs(), project.rate), (2, 5, 2));
}

#[test]
fn repositories() {
    let check = |repository: &str, expect: &str| {
        let text = format!("{PROJECT}{RULE}").replace("https://git.example/a/app.git", repository);
        let shown = match read_text(&text).map(|config| config.projects[0].repository.clone()) {
            Ok(Repository::Local(path)) => path.display().to_string(),
            Ok(Repository::Remote { shown, .. }) => shown,
            Err(error) => error.message,
        };
        assert!(shown.contains(expect), "{repository}: {shown}");
    };
    check("/srv/app.git", "/srv/app.git");
    check("./app", "/etc/x/./app");
    check("https://me:secret@git.example/app.git", "https://git.example/app.git");
    check("git@git.example:a/app.git", "git@git.example:a/app.git");
    check("https://git.example/app.git#main", "rules say what");
    check("https://git.example/app.git?ref=main", "rules say what");
    check("https://git.example/app", "ends in .git");
    check("app", "neither");
    check("ext::sh -c id", "helper");
    check("fd::17/x", "helper");
    check("file:///srv/app.git", "neither");
}

#[test]
fn what_is_wrong_has_its_place() {
    let check = |text: &str, marked: &str, words: &str| {
        let error = read_text(text).unwrap_err();
        let span = error.span.unwrap();
        assert!(error.message.contains(words), "{text}: {error:?}");
        assert!(text[span.range(text.len())].contains(marked), "{text}: {error:?}");
    };
    check("", "", "no project");
    check("[[project]\n", "", "");
    check("lissten = \"x\"\n", "lissten", "unknown field");
    check("listen = \"x\"\n[[project]]\n", "", "missing field `name`");
    check(&format!("listen = \"here\"\n{PROJECT}{RULE}"), "\"here\"", "no address to listen on");
    check(&format!("concurrency = 0\n{PROJECT}{RULE}"), "0", "from 1 to 64");
    check(&format!("status_token = \"short\"\n{PROJECT}{RULE}"), "\"short\"", "a token is");
    check(&format!("status_token = \"{}\"\n{PROJECT}{RULE}", "a".repeat(40)), "aaa", "a token is");
    check(&format!("status_token_file = \"gone\"\n{PROJECT}{RULE}"), "\"gone\"", "cannot read `/etc/x/gone`");
    check(&format!("tls_cert = \"c\"\n{PROJECT}{RULE}"), "\"c\"", "needs tls_key");
    check(&format!("{PROJECT}{RULE}{PROJECT}{RULE}"), "\"app\"", "already");
    check(PROJECT, "", "no [[project.rule]]");
    let changed = |from: &str, to: &str| format!("{PROJECT}{RULE}").replace(from, to);
    check(&changed("\"app\"", "\"../app\""), "\"../app\"", "a project's name");
    check(&changed("0123456789abcdef", "short"), "\"short\"", "could be guessed");
    check(&changed("secret = \"0123456789abcdef\"\n", ""), "", "neither `secret` nor `token`");
    check(&changed("0123456789abcdef", "whsec_!!!!!!!!!!!!"), "whsec_", "base64");
    check(&changed("branch", "git_tag = \"x\"\nbranch"), "", "one of the two");
    check(&changed("\"latest\"", "\"{x}\""), "\"{x}\"", "stands for nothing");
    check(&format!("{PROJECT}dockerfile = \"../x\"\n{RULE}"), "\"../x\"", "inside the repository");
    check(&format!("{PROJECT}context = \"/etc\"\n{RULE}"), "\"/etc\"", "inside the repository");
    check(&format!("{PROJECT}push = [\"a:b\"]\n{RULE}"), "\"a:b\"", "leave it out");
    check(&format!("{PROJECT}push = [\"A\"]\n{RULE}"), "\"A\"", "lowercase");
    check(&format!("{PROJECT}timeout = \"soon\"\n{RULE}"), "\"soon\"", "no length of time");
}
