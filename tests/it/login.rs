//! `rbuild login` and `rbuild logout`, as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::common::TestEnv;
use super::common::registry::{PASSWORD, Registry, Setup, TokenServer, USER};
use super::common::tokens::IDENTITY;

fn config(env: &TestEnv) -> PathBuf {
    env.dir().join("home/.docker/config.json")
}

fn put_config(env: &TestEnv, text: &str) {
    let path = config(env);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    env.give(path.parent().unwrap());
    env.give(&path);
}

/// A credential helper that keeps what it is given in a folder; returns the value of PATH to find it.
fn helper(env: &TestEnv) -> (PathBuf, String) {
    let program = env.path("docker-credential-fake");
    let folder = program.parent().unwrap().to_owned();
    let kept = folder.display();
    let script = format!(
        "#!/bin/sh\nf={kept}/kept\necho \"$1\" >>{kept}/log\ncase $1 in\nstore) cat >\"$f\" ;;\n\
         erase) rm -f \"$f\" ;;\nget) cat >/dev/null; cat \"$f\" 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\nesac\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    (folder.clone(), format!("{}:{path}", folder.display()))
}

both! {
    fn in_and_out(env) {
        let registry = Registry::basic();
        let host = registry.host();
        put_config(env, "{\n\t\"auths\": {},\n\t\"psFormat\": \"x\"\n}");
        let outcome = env.rbuild(&["login", "-u", USER, "--password-stdin", host]).stdin("secret\n").ok();
        outcome.prints("Login Succeeded\n").has("stored unencrypted").lacks(PASSWORD);
        let expect = format!(
            "{{\n\t\"auths\": {{\n\t\t\"{host}\": {{\n\t\t\t\"auth\": \"bWU6c2VjcmV0\"\n\t\t}}\n\t}},\n\t\"psFormat\": \"x\"\n}}"
        );
        assert_eq!(fs::read_to_string(config(env)).unwrap(), expect);
        let meta = fs::metadata(config(env)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        if let Some(ids) = env.ids() {
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), ids.uid);
        }
        env.rbuild(&["login", host]).ok().has("Authenticating with existing credentials").has("Login Succeeded");
        env.rbuild(&["logout", &format!("https://{host}")]).ok()
            .prints(&format!("Removing login credentials for {host}\n"));
        env.rbuild(&["logout", host]).ok().prints(&format!("Not logged in to {host}\n"));
        env.rbuild(&["logout"]).ok().prints("Not logged in to https://index.docker.io/v1/\n");
        assert!(!fs::read_to_string(config(env)).unwrap().contains("bWU6"));
    }

    fn what_does_not_succeed_is_not_kept(env) {
        let registry = Registry::basic();
        let host = registry.host();
        env.rbuild(&["login", "-u", USER, "-p", "wrong", host]).fails()
            .has("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
            .has("was not accepted").lacks("wrong");
        env.rbuild(&["login", "-u", USER, "-p", "x", "--password-stdin", host]).exits(2).has("mutually exclusive");
        env.rbuild(&["login", "--password-stdin", host]).exits(2).has("Must provide --username");
        env.rbuild(&["login", "-u", USER, "--password-stdin", host]).fails().has("password is required");
        env.rbuild(&["login", host]).fails().has("Cannot perform an interactive login from a non TTY device");
        env.rbuild(&["login", "-u", "a", "-p", "b", "not a host"]).fails().has("is not the host of a registry");
        env.rbuild(&["login", "-u", "a", "-p", "b", "127.0.0.1:1"]).fails().has("refused");
        assert!(!config(env).exists());
    }

    fn a_helper_keeps_them(env) {
        let registry = Registry::basic();
        let host = registry.host();
        let (folder, path) = helper(env);
        put_config(env, &format!("{{\"credHelpers\": {{\"{host}\": \"fake\"}}}}"));
        let login = |path: &str| {
            env.rbuild(&["login", "-u", USER, "--password-stdin", host]).stdin(PASSWORD).var("PATH", path)
        };
        login(&path).ok().prints("Login Succeeded\n").lacks("unencrypted");
        let kept = fs::read_to_string(folder.join("kept")).unwrap();
        assert_eq!(kept, format!(r#"{{"ServerURL":"{host}","Username":"me","Secret":"secret"}}"#));
        assert!(!fs::read_to_string(config(env)).unwrap().contains("bWU6"));
        env.rbuild(&["login", host]).var("PATH", &path).ok().has("existing credentials").has("Login Succeeded");
        env.rbuild(&["logout", host]).var("PATH", &path).ok().has("Removing login credentials");
        assert!(!folder.join("kept").exists());
        let none = std::env::var("PATH").unwrap();
        login(&none).fails().has("docker-credential-fake").has("not in PATH").lacks(PASSWORD);
    }

    fn identity_tokens_are_kept_instead_of_passwords(env) {
        let tokens = TokenServer::with_identities();
        let registry = Registry::start(&Setup { tokens: Some(&tokens), ..Setup::default() });
        let host = registry.host();
        env.rbuild(&["login", "-u", USER, "--password-stdin", host]).stdin(PASSWORD).ok().lacks(IDENTITY);
        let text = fs::read_to_string(config(env)).unwrap();
        assert!(text.contains(IDENTITY) && !text.contains("bWU6"), "{text}");
        env.rbuild(&["login", host]).ok().has("Login Succeeded");
    }

    fn on_a_terminal_the_password_is_not_shown(env) {
        let registry = Registry::basic();
        let line = format!("{} login {}", env.exe().display(), registry.host());
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.wait_for("Username: ");
        job.write(b"me\n");
        job.wait_for("Password: ");
        job.write(b"secret\n");
        job.wait_for("Login Succeeded");
        job.close_stdin();
        job.finish().ok().lacks(PASSWORD);
    }
}
