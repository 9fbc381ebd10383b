//! What the registry keeps, as its users see it: also while others collect, delete and push.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::super::testing;
use super::*;

struct Place {
    directory: tempfile::TempDir,
    repositories: Arc<Repositories>,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let repositories = again(directory.path());
    Place { directory, repositories }
}

fn again(root: &Path) -> Arc<Repositories> {
    Arc::new(Repositories::open(&testing::open(root)).unwrap())
}

impl Place {
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("v1/registry").join(path)
    }

    fn files(&self, folder: &str) -> usize {
        let entries = walkdir::WalkDir::new(self.path(folder)).into_iter().filter_map(Result::ok);
        entries.filter(|entry| entry.file_type().is_file()).count()
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> TagName {
    text.parse().unwrap()
}

fn sha256(bytes: &[u8]) -> ContentDigest {
    ContentDigest::of(Algorithm::Sha256, bytes)
}

fn opened(repositories: &Arc<Repositories>, of: &RepositoryName, id: &UploadId) -> Upload {
    match repositories.upload(of, id).unwrap() {
        OpenUpload::Open(upload) => upload,
        other => panic!("{other:?}"),
    }
}

fn upload(repositories: &Arc<Repositories>, to: &RepositoryName, bytes: &[u8]) -> ContentDigest {
    let id = repositories.start_upload(to).unwrap();
    let mut upload = opened(repositories, to, &id);
    upload.write(bytes).unwrap();
    let digest = sha256(bytes);
    assert_eq!(upload.finish(&digest).unwrap(), FinishedUpload::Done);
    digest
}

fn content(repositories: &Repositories, of: &str, digest: &ContentDigest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    repositories.open_blob(&name(of), digest).unwrap()?.file.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

fn manifest(text: &str, blobs: &[&ContentDigest], manifests: &[&ContentDigest]) -> NewManifest {
    NewManifest {
        digest: sha256(text.as_bytes()),
        media_type: "application/x".into(),
        bytes: text.into(),
        blobs: blobs.iter().map(|digest| (*digest).clone()).collect(),
        manifests: manifests.iter().map(|digest| (*digest).clone()).collect(),
        subject: None,
        descriptor: Vec::new(),
    }
}

fn options(grace: Duration) -> CollectOptions {
    CollectOptions { dry_run: false, delete_untagged: false, grace, uploads: Duration::from_secs(3600) }
}

#[test]
fn a_blob_is_of_the_repositories_that_were_given_it() {
    let place = place();
    let of = &place.repositories;
    let digest = upload(of, &name("a/b"), b"content");
    assert_eq!(content(of, "a/b", &digest).unwrap(), b"content");
    assert_eq!(content(of, "a", &digest), None);
    assert!(!of.mount_blob(&name("x"), &name("c"), &digest).unwrap());
    assert_eq!(content(of, "c", &digest), None);
    assert!(of.mount_blob(&name("a/b"), &name("c"), &digest).unwrap());
    assert!(of.unlink_blob(&name("a/b"), &digest).unwrap());
    assert!(!of.unlink_blob(&name("a/b"), &digest).unwrap());
    assert_eq!(content(of, "a/b", &digest), None);
    assert_eq!(content(of, "c", &digest).unwrap(), b"content");
    assert_eq!(of.claim_blob(&name("c"), &digest).unwrap().unwrap().size, 7);
    assert!(of.claim_blob(&name("a/b"), &digest).unwrap().is_none());
}

#[test]
fn nothing_is_left_of_an_upload_that_is_not_what_it_should_be() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let id = of.start_upload(&to).unwrap();
    let mut started = opened(of, &to, &id);
    started.write(b"other").unwrap();
    assert_eq!(started.finish(&sha256(b"x")).unwrap(), FinishedUpload::WrongDigest(sha256(b"other")));
    assert!(matches!(of.upload(&to, &id).unwrap(), OpenUpload::Unknown));
    let id = of.start_upload(&to).unwrap();
    opened(of, &to, &id).cancel().unwrap();
    assert_eq!(of.upload_size(&to, &id).unwrap(), None);
    assert_eq!((place.files("uploads"), place.files("blobs"), place.files("tmp")), (0, 0, 0));
}

#[test]
fn an_upload_goes_on_after_a_restart() {
    let place = place();
    let to = name("a");
    let id = place.repositories.start_upload(&to).unwrap();
    opened(&place.repositories, &to, &id).write(b"first ").unwrap();
    // In the same process the digest goes on where it was.
    opened(&place.repositories, &to, &id).write(b"second ").unwrap();
    let later = again(place.directory.path());
    assert_eq!(later.upload_size(&to, &id).unwrap(), Some(13));
    assert_eq!(later.upload_size(&name("b"), &id).unwrap(), None);
    let mut upload = opened(&later, &to, &id);
    upload.write(b"third").unwrap();
    let digest = ContentDigest::of(Algorithm::Sha512, b"first second third");
    assert_eq!(upload.finish(&digest).unwrap(), FinishedUpload::Done);
    assert_eq!(content(&later, "a", &digest).unwrap(), b"first second third");
}

#[test]
fn uploads_that_nobody_goes_on_with_keep_no_digest_out() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let mut last = None;
    for _ in 0..300 {
        let id = of.start_upload(&to).unwrap();
        opened(of, &to, &id).write(b"x").unwrap();
        last = Some(id);
    }
    let kept = super::super::locked(&of.hashers);
    assert_eq!(kept.len(), 256);
    assert!(kept.contains_key(&last.unwrap()), "the newest is computed further");
}

#[test]
fn one_writes_to_an_upload_at_a_time() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let id = of.start_upload(&to).unwrap();
    let mut first = opened(of, &to, &id);
    assert!(matches!(of.upload(&to, &id).unwrap(), OpenUpload::Busy));
    assert!(matches!(again(place.directory.path()).upload(&to, &id).unwrap(), OpenUpload::Busy));
    first.write(b"abc").unwrap();
    first.truncate(1).unwrap();
    drop(first);
    let upload = opened(of, &to, &id);
    assert_eq!(upload.finish(&sha256(b"a")).unwrap(), FinishedUpload::Done);
    assert!(matches!(of.upload(&to, &id).unwrap(), OpenUpload::Unknown));
}

#[test]
fn a_manifest_needs_what_it_names() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let (here, missing) = (upload(of, &to, b"here"), sha256(b"missing"));
    let elsewhere = upload(of, &name("b"), b"elsewhere");
    let wants = manifest("m", &[&here, &missing, &elsewhere], &[&sha256(b"child")]);
    let lacks = of.put_manifest(&to, &wants, &[tag("1")]).unwrap();
    assert_eq!(lacks, [missing, elsewhere, sha256(b"child")]);
    assert_eq!((place.files("repositories/a/_manifests"), of.tags(&to).unwrap()), (0, None));

    let good = manifest("m", &[&here], &[]);
    assert!(of.put_manifest(&to, &good, &[tag("1"), tag("2")]).unwrap().is_empty());
    assert_eq!(of.tags(&to).unwrap().unwrap(), [tag("1"), tag("2")]);
    let found = of.manifest(&to, &ManifestName::Tag(tag("2"))).unwrap().unwrap();
    assert_eq!((found.bytes.as_slice(), found.media_type.as_str()), (&b"m"[..], "application/x"));
    assert!(of.delete_tag(&to, &tag("1")).unwrap());
    assert!(!of.delete_tag(&to, &tag("1")).unwrap());
    assert!(of.delete_manifest(&to, &good.digest).unwrap());
    assert!(!of.delete_manifest(&to, &good.digest).unwrap());
    assert_eq!(of.tags(&to).unwrap().unwrap(), []);
    assert_eq!(of.repositories().unwrap(), []);
}

#[test]
fn what_refers_to_a_manifest_goes_with_itself() {
    let place = place();
    let (of, to, subject) = (&place.repositories, name("a"), sha256(b"not there"));
    let mut about = manifest("about", &[], &[]);
    (about.subject, about.descriptor) = (Some(subject.clone()), b"{}".to_vec());
    of.put_manifest(&to, &about, &[]).unwrap();
    assert_eq!(of.referrers(&to, &subject).unwrap(), [about.digest.clone()]);
    assert_eq!(of.referrer(&to, &subject, &about.digest).unwrap().unwrap().descriptor, b"{}");
    assert_eq!(of.referrers(&name("b"), &subject).unwrap(), []);
    of.delete_manifest(&to, &about.digest).unwrap();
    assert_eq!(of.referrers(&to, &subject).unwrap(), []);
}

#[test]
fn repositories_are_listed_at_every_depth() {
    let place = place();
    let of = &place.repositories;
    for to in ["b", "a/b/c", "a-b", "a"] {
        of.put_manifest(&name(to), &manifest("m", &[], &[]), &[]).unwrap();
    }
    upload(of, &name("blobs/only"), b"x");
    let listed = of.repositories().unwrap();
    assert_eq!(listed.iter().map(RepositoryName::as_str).collect::<Vec<_>>(), ["a", "a-b", "a/b/c", "b"]);
}

#[test]
fn nothing_outside_is_served() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let outside = place.directory.path().join("secret");
    std::fs::write(&outside, "secret").unwrap();
    let digest = upload(of, &to, b"content");
    let blob = place.path("blobs").join(place_of(&digest));
    std::fs::remove_file(&blob).unwrap();
    for target in [outside.clone(), PathBuf::from("../../../../../../secret"), PathBuf::from("/etc/hostname")]
    {
        symlink(&target, &blob).unwrap();
        assert!(of.open_blob(&to, &digest).unwrap().is_none(), "{}", target.display());
        std::fs::remove_file(&blob).unwrap();
    }
    std::fs::create_dir(&blob).unwrap();
    assert!(of.open_blob(&to, &digest).unwrap().is_none());
    let stored = manifest("m", &[], &[]);
    of.put_manifest(&to, &stored, &[tag("1")]).unwrap();
    let file = place.path("repositories/a/_manifests").join(place_of(&stored.digest));
    std::fs::write(&file, "{\"mediaType\":\"x\"}\nother").unwrap();
    let error = of.manifest(&to, &ManifestName::Tag(tag("1"))).unwrap_err();
    assert!(matches!(error, StoreError::Broken { .. }), "{error}");
    std::fs::write(&file, "garbage").unwrap();
    assert!(of.manifest(&to, &ManifestName::Tag(tag("1"))).is_err());
    assert!(of.collect(&options(Duration::ZERO)).is_err(), "what it needs is not known");
    assert!(of.delete_manifest(&to, &stored.digest).unwrap());
}

#[test]
fn what_none_needs_is_collected_after_its_time() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let (used, unused) = (upload(of, &to, b"used"), upload(of, &to, b"unused"));
    of.put_manifest(&to, &manifest("m", &[&used], &[]), &[tag("1")]).unwrap();
    let id = of.start_upload(&to).unwrap();
    assert_eq!(of.collect(&options(Duration::from_secs(60))).unwrap(), Collected::default());

    let dry = of.collect(&CollectOptions { dry_run: true, ..options(Duration::ZERO) }).unwrap();
    assert_eq!((dry.blobs.as_slice(), dry.freed), (&[unused.clone()][..], 6));
    assert_eq!(content(of, "a", &unused).unwrap(), b"unused");

    let done = of.collect(&CollectOptions { uploads: Duration::ZERO, ..options(Duration::ZERO) }).unwrap();
    assert_eq!((done.blobs.as_slice(), done.uploads, done.freed), (&[unused.clone()][..], 1, 6));
    assert_eq!(content(of, "a", &unused), None);
    assert_eq!(content(of, "a", &used).unwrap(), b"used");
    assert_eq!(of.upload_size(&to, &id).unwrap(), None);
    assert_eq!(place.files("blobs"), 1);
    of.delete_manifest(&to, &sha256(b"m")).unwrap();
    assert_eq!(of.collect(&options(Duration::ZERO)).unwrap().blobs, [used]);
}

#[test]
fn manifests_without_a_tag_go_only_where_that_is_said() {
    let place = place();
    let (of, to) = (&place.repositories, name("a"));
    let layer = upload(of, &to, b"layer");
    let child = manifest("child", &[&layer], &[]);
    let index = manifest("index", &[], &[&child.digest]);
    let lone = manifest("lone", &[], &[]);
    let mut signature = manifest("signature", &[], &[]);
    signature.subject = Some(index.digest.clone());
    for (stored, tags) in [(&child, vec![]), (&index, vec![tag("1")]), (&lone, vec![]), (&signature, vec![])]
    {
        of.put_manifest(&to, stored, &tags).unwrap();
    }
    assert_eq!(of.collect(&options(Duration::ZERO)).unwrap(), Collected::default());
    let all = CollectOptions { delete_untagged: true, ..options(Duration::ZERO) };
    assert_eq!(of.collect(&all).unwrap().manifests, [(to.clone(), lone.digest)]);
    of.delete_tag(&to, &tag("1")).unwrap();
    let gone = of.collect(&all).unwrap();
    assert_eq!((gone.manifests.len(), gone.blobs.as_slice()), (3, &[layer][..]));
    assert_eq!(of.repositories().unwrap(), []);
}

/// Pushes, mounts, deletions and collections without any grace, all at once: a manifest that was taken has all
/// that it names, for as long as nobody deletes it.
#[test]
fn collections_take_nothing_from_those_who_push() {
    let place = place();
    let of = &place.repositories;
    let (done, taken, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let all = CollectOptions { delete_untagged: true, ..options(Duration::ZERO) };
            while !done.load(Ordering::SeqCst) {
                of.collect(&all).unwrap();
            }
        });
        let pushers: Vec<_> = (0..3)
            .map(|thread| {
                let (taken, refused) = (&taken, &refused);
                scope.spawn(move || {
                    for turn in 0..30 {
                        let to = name(&format!("r{}", (thread + turn) % 2));
                        // The same bytes from everybody, so that what one gives up another relies on.
                        let shared = upload(of, &to, format!("shared {}", turn % 3).as_bytes());
                        let own = upload(of, &to, format!("own {thread} {turn}").as_bytes());
                        let text = format!("m {thread} {turn}");
                        let wanted = manifest(&text, &[&shared, &own], &[]);
                        let mark = tag(&format!("t{thread}"));
                        let lacks = of.put_manifest(&to, &wanted, std::slice::from_ref(&mark)).unwrap();
                        if !lacks.is_empty() {
                            refused.fetch_add(1, Ordering::SeqCst);
                            assert!(
                                of.manifest(&to, &ManifestName::Digest(wanted.digest)).unwrap().is_none()
                            );
                            continue;
                        }
                        taken.fetch_add(1, Ordering::SeqCst);
                        for digest in [&shared, &own] {
                            assert!(of.open_blob(&to, digest).unwrap().is_some(), "{text} lost {digest}");
                        }
                        assert!(of.manifest(&to, &ManifestName::Tag(mark)).unwrap().is_some());
                        if turn % 4 == 0 {
                            of.delete_manifest(&to, &wanted.digest).unwrap();
                        }
                    }
                })
            })
            .collect();
        // All are joined before the first failure is told, so that the collector ends.
        let ended: Vec<_> = pushers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        collector.join().unwrap();
        ended.into_iter().for_each(|end| end.unwrap());
    });
    assert_eq!(taken.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst), 90);
    assert!(taken.load(Ordering::SeqCst) > 0);
    for to in of.repositories().unwrap() {
        for mark in of.tags(&to).unwrap().unwrap() {
            let digest = of.tagged(&to, &mark).unwrap().unwrap();
            let (head, _) = of.read_manifest(&to, &digest).unwrap().unwrap();
            assert!(head.blobs.iter().all(|blob| of.open_blob(&to, blob).unwrap().is_some()));
        }
    }
}

#[test]
fn what_is_put_over_another_was_touched_last() {
    let place = place();
    let (of, to) = (&place.repositories, name("r"));
    let blob = upload(of, &to, b"x");
    let image = manifest("m", &[&blob], &[]);
    for _ in 0..20 {
        let before = SystemTime::now();
        upload(of, &to, b"x");
        assert!(of.put_manifest(&to, &image, &[]).unwrap().is_empty());
        of.unlink_blob(&to, &blob).unwrap();
        upload(of, &to, b"x");
        let files = [
            place.path(format!("blobs/{}", place_of(&blob).display())),
            place.path(format!("repositories/r/_layers/{}", place_of(&blob).display())),
            place.path(format!("repositories/r/_manifests/{}", place_of(&image.digest).display())),
        ];
        for file in files {
            assert!(std::fs::metadata(&file).unwrap().modified().unwrap() >= before, "{}", file.display());
        }
    }
}

#[test]
fn folders_go_with_what_was_in_them() {
    let place = place();
    let of = &place.repositories;
    let (gone, stays) = (name("a/b/c"), name("a/b"));
    let blob = upload(of, &stays, b"x");
    upload(of, &gone, b"x");
    let mut about = manifest("about", &[&blob], &[]);
    (about.subject, about.descriptor) = (Some(sha256(b"subject")), b"{}".to_vec());
    for to in [&gone, &stays] {
        assert!(of.put_manifest(to, &about, &[tag("1")]).unwrap().is_empty());
    }
    assert!(of.delete_manifest(&gone, &about.digest).unwrap());
    assert!(of.unlink_blob(&gone, &blob).unwrap());
    let dry_run = CollectOptions { dry_run: true, ..options(Duration::ZERO) };
    of.collect(&dry_run).unwrap();
    assert!(place.path("repositories/a/b/c/_tags").exists());
    of.collect(&options(Duration::ZERO)).unwrap();
    assert!(!place.path("repositories/a/b/c").exists());
    assert_eq!(of.tags(&stays).unwrap().unwrap(), [tag("1")]);
    assert_eq!(of.referrers(&stays, &sha256(b"subject")).unwrap(), [about.digest.clone()]);
    // What was emptied can be filled again, and all of it can go.
    upload(of, &gone, b"y");
    assert!(of.delete_manifest(&stays, &about.digest).unwrap());
    for (of_name, digest) in [(&gone, sha256(b"y")), (&stays, blob)] {
        of.unlink_blob(of_name, &digest).unwrap();
    }
    of.collect(&options(Duration::ZERO)).unwrap();
    assert_eq!(std::fs::read_dir(place.path("repositories")).unwrap().count(), 0);
}

#[test]
fn folders_are_not_taken_from_who_fills_them() {
    let place = place();
    let (of, over) = (place.repositories.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                of.collect(&options(Duration::from_secs(3600))).unwrap();
            }
        });
        for number in 0..100 {
            let to = name(&format!("many/n{number}"));
            let blob = upload(&of, &to, b"x");
            let wants = manifest(&format!("m{number}"), &[&blob], &[]);
            assert!(of.put_manifest(&to, &wants, &[tag("1")]).unwrap().is_empty());
            assert!(of.delete_manifest(&to, &wants.digest).unwrap());
            assert!(of.unlink_blob(&to, &blob).unwrap());
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn what_it_takes_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(directory.path());
    assert_eq!(Repositories::usage_in(&store).unwrap(), None);
    assert!(!directory.path().join("v1/registry").exists(), "measuring makes nothing");
    let of = Arc::new(Repositories::open(&store).unwrap());
    let (here, orphan) = (vec![1; 50_000], vec![2; 30_000]);
    let blob = upload(&of, &name("a"), &here);
    let unlinked = upload(&of, &name("b"), &orphan);
    of.put_manifest(&name("a"), &manifest("m", &[&blob], &[]), &[tag("1")]).unwrap();
    of.put_manifest(&name("b"), &manifest("n", &[&unlinked], &[]), &[]).unwrap();
    of.unlink_blob(&name("b"), &unlinked).unwrap();
    let usage = store.usage().unwrap().registry.unwrap();
    assert_eq!((usage.repositories, usage.tagged), (2, 1));
    assert!((80_000..200_000).contains(&usage.size), "{usage:?}");
    assert!((30_000..40_000).contains(&usage.reclaimable), "{usage:?}");
}

#[test]
fn limits_of_the_store_hold_for_what_is_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let quota =
        super::super::Quota { max_used_space: Some(1 << 20), min_free_space: Some(0), ..Default::default() };
    let store = Arc::new(testing::open(directory.path()).with_quota(quota));
    let of = Arc::new(Repositories::open(&store).unwrap().within_limits(store.clone()));
    upload(&of, &name("a"), &vec![1; 100_000]);
    let id = of.start_upload(&name("a")).unwrap();
    let mut large = opened(&of, &name("a"), &id);
    let error = large.write(&vec![2; 2 << 20]).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom(_)) && error.to_string().contains("the registry "), "{error}");
    assert_eq!(large.size(), 0);
}
