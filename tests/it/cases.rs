//! The corpus of conformance cases: `testdata/cases/TOPIC/NAME.case`, each a Dockerfile with its
//! context and what must come out, byte for byte of config, history and file system.
//!
//! `CASES=text` runs only cases whose name has this text. `UPDATE_CASES=1` writes what came out
//! as what is expected; read the difference before committing it. `CASES_PENDING=1` runs
//! `testdata/cases-pending/`: what is right and not yet so.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;

use super::common::Context;
use super::common::Exported;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;

mod case;
mod listing;
mod pieces;

use case::Case;
use listing::Tree;

/// The folders of the corpus; each is a test, so that they run beside each other.
macro_rules! topics {
    ($($name:ident)*) => {
        both! {$(
            fn $name(env) { run(env, &stringify!($name).replace('_', "-")) }
        )*}

        const TOPICS: &[&str] = &[$(stringify!($name)),*];
    };
}

topics! {
    parser expansion args env label run heredoc command shell expose volume user workdir
    stopsignal healthcheck onbuild maintainer copy_basic copy_owner copy_flags copy_from
    add ignore history targets errors link
}

#[test]
fn every_folder_is_a_topic() {
    if std::env::var_os("CASES_PENDING").is_some() {
        return;
    }
    let mut found: Vec<String> = files_in(&root())
        .iter()
        .map(|path| {
            path.strip_prefix(root()).unwrap().iter().next().unwrap().to_str().unwrap().replace('-', "_")
        })
        .collect();
    found.sort();
    found.dedup();
    let mut topics: Vec<&str> = TOPICS.to_vec();
    topics.sort();
    assert_eq!(found, topics);
}

fn root() -> PathBuf {
    let pending = std::env::var_os("CASES_PENDING").is_some();
    let folder = if pending { "testdata/cases-pending" } else { "testdata/cases" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok().map(walkdir::DirEntry::into_path))
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    files
}

/// Runs one folder of the corpus, and fails with all that is wrong in it.
fn run(env: &TestEnv, topic: &str) {
    let only = std::env::var("CASES").unwrap_or_default();
    let update = std::env::var_os("UPDATE_CASES").is_some() && env.who == Who::Root;
    let place = sharing_base(env.who);
    let mut wrong = String::new();
    for path in files_in(&root().join(topic)) {
        let case = Case::read(&root(), &path);
        if !case.name.contains(&only) || (case.root_only() && env.who == Who::User) {
            continue;
        }
        let found = build(&place, &case);
        if update {
            case.rewrite(&merged(&case, &found));
        } else {
            wrong.push_str(&compare(&case, &found));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A place with `busybox:test`; those of one mode share the store.
fn sharing_base(who: Who) -> TestEnv {
    static ROOT: Mutex<Option<TestEnv>> = Mutex::new(None);
    static USER: Mutex<Option<TestEnv>> = Mutex::new(None);
    let place = match who {
        Who::Root => &ROOT,
        Who::User => &USER,
    };
    let mut place = place.lock().unwrap_or_else(|e| e.into_inner());
    let env = place.get_or_insert_with(|| {
        let env = TestEnv::new(who).expect("this mode runs");
        env.busybox();
        env
    });
    env.sharing_store()
}

/// Builds a case: the sections that came out.
fn build(env: &TestEnv, case: &Case) -> BTreeMap<String, String> {
    let context =
        case.context.iter().fold(env.context(), |context, piece| pieces::add(env, context, piece, case));
    pieces::age(&context);
    let image = env.path_str("image.tar");
    let output = format!("type=oci,dest={image}");
    // No case shall depend on what another left in the cache.
    let mut words = vec!["build", "-q", "--no-cache", "--network", "none", "--no-sync", "-o", &output];
    words.extend(case.args());
    let outcome = env.rbuild(&words).args(&["."]).folder(context.path()).output();
    let sections = if outcome.code == Some(0) {
        let image = Exported::read(Path::new(&image));
        let (base, tree) = (base(case), Tree::of(&image));
        vec![
            ("config", listing::config(&image)),
            ("history", listing::history(&image)),
            ("files", tree.beside(&base)),
            ("deleted", tree.gone(&base)),
        ]
    } else {
        let code = outcome.code.map_or("none".to_owned(), |code| code.to_string());
        vec![("error", format!("exit {code}\n{}", outcome.fails().both))]
    };
    remove(env, context, &image);
    sections
        .into_iter()
        .filter(|(_, body)| !body.is_empty())
        .map(|(title, body)| (title.to_owned(), body))
        .collect()
}

/// Keeps the temporary folder small: the corpus is large.
fn remove(env: &TestEnv, context: Context, image: &str) {
    if std::env::var_os("RBUILD_TEST_KEEP").is_none() && env.who == Who::Root {
        let _ = std::fs::remove_dir_all(context.path());
        let _ = std::fs::remove_file(image);
    }
}

fn base(case: &Case) -> Tree {
    if !case.on_busybox() {
        return Tree::default();
    }
    Tree::of(&Exported {
        manifest: Default::default(),
        config: Default::default(),
        layers: vec![busybox_tar().to_vec()],
    })
}

/// What an update writes: an error keeps the words that it still has.
fn merged(case: &Case, found: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    match (case.expected.get("error"), found.get("error")) {
        (Some(expected), Some(_)) if missing(expected, found).is_empty() => case.expected.clone(),
        _ => found.clone(),
    }
}

fn missing(expected: &str, found: &BTreeMap<String, String>) -> Vec<String> {
    let said = found.get("error").map(String::as_str).unwrap_or_default();
    let mut lines = expected.lines();
    let code = lines.next().unwrap_or_default();
    let wrong_code = (said.lines().next() != Some(code)).then(|| code.to_owned());
    wrong_code.into_iter().chain(lines.filter(|line| !said.contains(line)).map(str::to_owned)).collect()
}

/// What is wrong with a case, or nothing.
fn compare(case: &Case, found: &BTreeMap<String, String>) -> String {
    if case.fails() && found.contains_key("error") {
        let missing = missing(&case.expected["error"], found);
        if missing.is_empty() {
            return String::new();
        }
        return format!("\n*** {}: `{}` expected in:\n{}", case.name, missing.join("`, `"), found["error"]);
    }
    let mut text = String::new();
    for title in case::TITLES {
        let of = |sections: &BTreeMap<String, String>| sections.get(title).cloned().unwrap_or_default();
        let (expected, found) = (of(&case.expected), of(found));
        if expected != found {
            text.push_str(&format!("\n*** {}: {title}\n{}", case.name, difference(&expected, &found)));
        }
    }
    text
}

/// The lines that only one of two texts has.
fn difference(expected: &str, found: &str) -> String {
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    let only = |a: &str, b: &str, mark: &str| -> String {
        a.lines().filter(|line| !has(b, line)).map(|line| format!("{mark} {line}\n")).collect()
    };
    let text = only(expected, found, "expected:") + &only(found, expected, "found:   ");
    if text.is_empty() { format!("order or number of lines; found:\n{found}") } else { text }
}
