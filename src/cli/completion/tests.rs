//! What is offered for a command line that is not finished.

use std::path::Path;

use super::*;

/// Checks that the words offered for a line are, among others, these; a blank at its end begins a new word.
fn offers(line: &str, expect: &[&str], lacks: &[&str]) {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let answer = complete(&words);
    for word in expect {
        assert!(answer.words.iter().any(|(offered, _)| offered == word), "{line}: {word}: {answer:?}");
    }
    for word in lacks {
        assert!(answer.words.iter().all(|(offered, _)| offered != word), "{line}: {word}: {answer:?}");
    }
}

fn paths(line: &str) -> Option<(bool, String)> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    complete(&words).paths.map(|paths| (paths.directories_only, paths.prefix))
}

#[test]
fn commands_and_options() {
    offers("", &["build", "images", "image", "help", "doctor"], &["__complete"]);
    offers("im", &["images", "image", "import"], &["build"]);
    offers("image ", &["ls", "rm", "prune"], &["images"]);
    offers("image l", &["ls", "load"], &["rm"]);
    offers("--root x i", &["images"], &[]);
    offers("help sys", &["system"], &[]);
    offers("--", &["--tag", "--target", "--root", "--help"], &["--entrypoint"]);
    offers("-t x --no", &["--no-cache", "--no-cache-filter", "--no-sync"], &[]);
    offers("run --e", &["--env", "--entrypoint"], &["--tag"]);
    offers("builds ", &["ls", "show", "logs"], &[]);
    offers("build --isolation ", &["default", "chroot"], &[]);
    offers("--snapshotter ", &["overlay", "fuse-overlayfs", "copy", "auto"], &[]);
    offers("run x --e", &[], &["--env"]);
    offers("", &["completion"], &[]);
    offers("completion ", &["bash", "zsh", "fish"], &[]);
}

#[test]
fn values_that_are_known() {
    offers("--progress ", &["plain", "tty"], &[]);
    offers("build --progress=p", &["--progress=plain"], &["--progress=tty"]);
    offers("check --format ", &["json", "sarif"], &[]);
    offers("--platform linux/a", &["linux/amd64", "linux/arm64"], &["linux/386"]);
    offers("-qo type=o", &["type=oci,dest="], &[]);
}

#[test]
fn paths_are_the_shells() {
    assert_eq!(paths("-f "), Some((false, String::new())));
    assert_eq!(paths("--file=su"), Some((false, "--file=".to_owned())));
    assert_eq!(paths("build x"), Some((true, String::new())));
    assert_eq!(paths("--secret id=a,src=x"), Some((false, "id=a,src=".to_owned())));
    assert_eq!(paths("-o type=oci,dest=o"), Some((false, "type=oci,dest=".to_owned())));
    assert_eq!(paths("--build-context lib=x"), Some((false, "lib=".to_owned())));
    assert_eq!(paths("images -"), None);
}

#[test]
fn what_the_dockerfile_has() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Other");
    let text = "ARG BASE=debian\nFROM $BASE AS deps\nARG VERSION\nRUN --mount=type=secret,id=token true\n\
                FROM deps AS test\nRUN --mount=type=ssh true\n";
    std::fs::write(&file, text).unwrap();
    let line = |rest: &str| format!("-f {} {rest}", file.display());
    offers(&line("--target "), &["deps", "test"], &[]);
    offers(&line("--target=t"), &["--target=test"], &["--target=deps"]);
    offers(&line("--no-cache-filter deps,"), &["deps,test"], &[]);
    offers(&line("--build-arg "), &["BASE=", "VERSION="], &[]);
    offers(&line("--secret "), &["id=token,src=", "id=token,env="], &[]);
    offers(&line("--ssh "), &["default"], &[]);
    std::fs::rename(&file, folder.path().join("Dockerfile")).unwrap();
    offers(&format!("build {} --target ", folder.path().display()), &["deps"], &[]);
}

#[test]
fn no_word_is_more_than_a_word_to_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Dockerfile");
    let text = "FROM a\x1b[31m\u{202e}b AS deps\nARG $(id)\nARG A_1\n\
                RUN --mount=type=secret,id=$(id) --mount=type=secret,id=`id` --mount=type=secret,id=a;b \
                --mount=type=secret,id=~ --mount=type=secret,id=k-1.x true\n";
    std::fs::write(&file, text).unwrap();
    let said = |option: &str| {
        let words = ["-f", &file.display().to_string(), option, ""].map(OsString::from);
        told(words.into_iter())
    };
    assert_eq!(said("--build-arg"), "A_1=\t\n");
    assert_eq!(said("--secret"), "id=k-1.x,src=\t\nid=k-1.x,env=\t\n");
    assert_eq!(said("--target"), "deps\tFROM a\u{241b}[31m\u{fffd}b\n");
}

#[test]
fn nothing_is_said_where_nothing_is_known() {
    let nowhere = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(complete(&words), Answer::default(), "{line}");
    };
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    nowhere(&format!("--root {} rmi ", store.display()));
    nowhere(&format!("--root {} builds show ", store.display()));
    nowhere("-f /proc/self/nothing --target ");
    nowhere("-f - --target ");
    nowhere(&format!("--root {} images --nope ", store.display()));
    assert!(!Path::new(&store).exists(), "completing makes no store");
}

/// An option of another command, as its value's name says what it is.
#[test]
fn points_of_a_build() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Dockerfile");
    std::fs::write(&file, "# x\nFROM scratch AS deps\nCOPY a \\\n  /\n").unwrap();
    let arg = |id: &'static str, name: &'static str| clap::Arg::new(id).long(id).value_name(name);
    let open = clap::Command::new("open").args([
        arg("file", "FILE").short('f'),
        arg("at", "STEP|:LINE|STAGE"),
        arg("line", "L"),
    ]);
    let parser = clap::Command::new("rbuild").subcommand(open);
    let check = |option: &str, expect: &[&str]| {
        let before = ["open".to_owned(), "-f".to_owned(), file.display().to_string(), option.to_owned()];
        let words: Vec<String> =
            values::of(&place::find(&parser, &before, "")).words.into_iter().map(|word| word.0).collect();
        assert_eq!(words, expect);
    };
    check("--at", &["deps", ":2", ":3"]);
    check("--line", &["2", "3"]);
}
