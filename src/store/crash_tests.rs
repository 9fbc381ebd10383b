//! Kill -9 at any moment leaves a store that works: shown with processes that are killed.
//!
//! The test binary runs itself as the child; the parent reads how far it came
//! and kills it there, wherever it then is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::image::{CacheKey, Digest, OpDigest, Reference};

use super::error::names_in;
use super::{Depth, Store, images, steps, testing};

/// Where the child finds its store; its presence makes the process a child.
const CHILD: &str = "RBUILD_TEST_STORE_CHILD";

/// Does all that a build does to the store, over and over; never ends by itself.
#[test]
fn child() {
    let Ok(root) = std::env::var(CHILD) else { return };
    let mut round = 0u64;
    loop {
        let store = testing::open(Path::new(&root));
        build(&store, round % 4);
        println!("round");
        round += 1;
    }
}

fn build(store: &Store, number: u64) {
    let text = number.to_string();
    println!("hold");
    store.hold().unwrap();
    println!("lock");
    let lock = store.step_lock(&Digest::of(&text), &|| false).unwrap();
    println!("draft");
    // A draft that is given up, and one that becomes a layer of an image.
    drop(store.draft().unwrap());
    println!("image");
    let id = images::testing::image(store, &text, &[&text, "shared"]);
    println!("record");
    let layers = match store.image(&id) {
        Ok(image) => image.layers,
        // Another process removed it meanwhile: a name did not keep it yet.
        Err(e) if e.is_not_found() => return,
        Err(e) => panic!("{e}"),
    };
    let key = CacheKey(Digest::of(&text));
    store.publish_record(&OpDigest(Digest::of("op")), &key, layers.first(), text.as_bytes()).unwrap();
    println!("step");
    store.put_step(&steps::example(layers, &text)).unwrap();
    drop(lock);
    println!("tag");
    let name: Reference = format!("image-{number}").parse().unwrap();
    match store.tag(&name, &id) {
        Ok(_) => {}
        Err(e) if e.is_not_found() => return,
        Err(e) => panic!("{e}"),
    }
    println!("remove");
    match store.remove_image(&format!("image-{}", (number + 1) % 4), false) {
        Ok(_) => {}
        Err(e) if e.is_not_found() => {}
        Err(e) => panic!("{e}"),
    }
}

fn start(root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash_tests::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Reads so many lines of a child, then kills it.
fn kill_after(mut child: Child, lines: usize) {
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut read = 0;
    for line in output.lines() {
        line.unwrap();
        read += 1;
        if read == lines {
            break;
        }
    }
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "the child failed by itself: {ended:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whatever was killed: nothing published is broken, and the store goes on working.
fn check(root: &Path) {
    let store = testing::open(root);
    assert_eq!(store.verify(Depth::Deep).unwrap(), []);
    for (name, id) in store.tags().unwrap() {
        store.image(&id).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    store.hold().unwrap();
    let lease = store.held().unwrap().id.clone();
    assert_eq!(names_in(&store.paths.leases).unwrap(), [lease]);
    assert_eq!(names_in(&store.paths.tmp).unwrap().len(), 0);
    store.step_lock(&Digest::of("0"), &|| panic!("the dead hold no lock")).unwrap();
}

#[test]
fn a_killed_process_leaves_a_store_that_works() {
    let directory = tempfile::tempdir().unwrap();
    // Every number of lines up to a few rounds: each kind of step is met.
    for lines in (4..60).step_by(3) {
        kill_after(start(directory.path()), lines);
        check(directory.path());
    }
    let store = testing::open(directory.path());
    build(&store, 0);
    assert!(store.find("image-0").is_ok());
}

#[test]
fn several_processes_share_the_store_and_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let children: Vec<Child> = (0..4).map(|_| start(directory.path())).collect();
        std::thread::scope(|scope| {
            for (index, child) in children.into_iter().enumerate() {
                scope.spawn(move || kill_after(child, 40 + 13 * index + 7 * round));
            }
        });
        check(directory.path());
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing_half_written() {
    let Some(disk) = small_disk() else { return };
    use std::os::fd::AsRawFd;
    let root = std::path::PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
    let store = testing::open(&root);
    let id = images::testing::image(&store, "before", &["a"]);
    store.tag(&"before".parse().unwrap(), &id).unwrap();
    let mut writer = store.blob_writer().unwrap();
    let error = loop {
        if let Err(e) = std::io::Write::write_all(&mut writer, &[7; 4096]) {
            break e;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let error = store.put_blob(&[1; 100_000]).unwrap_err().to_string();
    assert!(error.ends_with("no space left on the device"), "{error}");
    assert!(
        store
            .publish_record(&OpDigest(Digest::of("o")), &CacheKey(Digest::of("k")), None, &[1; 9000])
            .is_err()
    );
    drop(writer);
    assert_eq!(names_in(&store.paths.tmp).unwrap().len(), 0);
    assert_eq!(store.verify(Depth::Deep).unwrap(), []);
    let after = images::testing::image(&store, "after", &["b"]);
    store.tag(&"after".parse().unwrap(), &after).unwrap();
}

/// Makes a file system of one MiB, attached nowhere; `None` where this process may not.
fn small_disk() -> Option<std::os::fd::OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let made = (|| {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "size", "1m")?;
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    })();
    match made {
        Ok(disk) => Some(disk),
        Err(error) => {
            println!("left out: needs CAP_SYS_ADMIN ({error})");
            None
        }
    }
}
