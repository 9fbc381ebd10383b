//! What the fuzzer found worth keeping, and random bytes, through the fuzz targets' checks.
//!
//! The checks themselves are in `fuzz/src/`, the corpus in `fuzz/corpus/`; how to fuzz:
//! `docs/testing.md`.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../fuzz/src/lib.rs"]
mod properties;

use properties::TARGETS;

/// Runs a check; a panic says which input it was.
fn named(name: &str, input: &str, check: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(panic) = std::panic::catch_unwind(check) {
        eprintln!("fuzz target {name}: {input}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn corpus_holds() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() > 10, "{} is nearly empty", folder.display());
        for path in paths {
            let bytes = std::fs::read(&path).unwrap();
            named(name, &path.display().to_string(), move || check(&bytes));
        }
    }
}

/// The corpus stays small enough for a repository.
#[test]
fn corpus_is_small() {
    for (name, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let sizes: Vec<u64> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(sizes.len() <= 300 && sizes.iter().sum::<u64>() <= 500_000, "{name}: minimise it");
    }
}

fn random(name: &str, cases: u32) {
    let (_, check) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    // The bytes that fail are printed; a fixed case belongs into the corpus or a unit test.
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let bytes = proptest::collection::vec(any::<u8>(), 0..120);
    TestRunner::new(config)
        .run(&bytes, |bytes| {
            check(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn words_mean_what_their_trees_mean() {
    random("words", 4000);
}

#[test]
fn patterns_and_ignore_rules_agree_with_their_model() {
    random("ignore", 4000);
}

#[test]
fn instructions_are_read_as_written() {
    random("dockerfile", 2000);
}

#[test]
fn references_are_shown_as_read() {
    random("reference", 4000);
}

#[test]
fn archives_of_images_say_one_thing() {
    random("load", 1000);
}
