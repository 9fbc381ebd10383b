//! Command lines that are read, and those that are refused.

use super::*;
use crate::build::ArchivePlace;

fn wanted(tags: &[&str]) -> Vec<Wanted> {
    vec![Wanted { target: None, tags: tags.iter().map(|tag| tag.parse().unwrap()).collect() }]
}

fn outputs(texts: &[&str], tags: &[&str]) -> Result<Outputs, String> {
    let args =
        OutputArgs { outputs: texts.iter().map(|t| (*t).to_owned()).collect(), ..OutputArgs::default() };
    read(&args, &[], Some("linux/amd64"), &wanted(tags)).map_err(|error| error.text())
}

fn one(text: &str) -> Output {
    let mut list = outputs(&[text], &["app"]).unwrap().list;
    assert_eq!(list.len(), 1, "{text}");
    list.remove(0)
}

fn archive(text: &str) -> ArchiveOutput {
    match one(text) {
        Output::Archive(archive) => archive,
        other => panic!("{text}: {other:?}"),
    }
}

fn pushed(text: &str) -> PushOutput {
    match one(text) {
        Output::Push(push) => push,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn each_type_becomes_its_output() {
    assert!(matches!(one("dir"), Output::Local { delete: false, dest } if dest == Path::new("dir")));
    assert!(matches!(one("type=local,dest=no-such,mode=delete"), Output::Local { delete: true, .. }));
    assert!(
        matches!(one("type=tar,dest=a"), Output::Tar { dest: Dest::File(file) } if file == Path::new("a"))
    );
    let oci = archive("type=oci,dest=a.tar");
    let packing = |compression, level, force| Packing { compression, level, force };
    assert_eq!(oci.packing, packing(Compression::Gzip, None, false));
    assert_eq!(oci.place, ArchivePlace::Tar(Dest::File("a.tar".into())));
    assert_eq!(archive("type=docker,dest=a").packing, packing(Compression::None, None, true));
    let zstd = archive("type=oci,dest=a,compression=zstd,compression-level=19,force-compression=true");
    assert_eq!(zstd.packing, packing(Compression::Zstd, Some(19), true));
    assert_eq!(archive("type=oci,dest=a,tar=false").place, ArchivePlace::Directory("a".into()));
    let named = archive("type=oci,dest=a,\"name=x,y:2\",oci-mediatypes=false");
    assert_eq!(named.names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x:latest", "y:2"]);
    assert!(named.descriptions.manifest.docker_types);
    let described = archive("type=oci,dest=a,annotation.k=v,annotation-index.i=j").descriptions;
    assert_eq!((described.manifest.annotations["k"].as_str(), described.index["i"].as_str()), ("v", "j"));

    let push = pushed("type=registry");
    assert_eq!((push.names.len(), push.by_digest, push.packing), (0, false, None));
    assert_eq!(pushed("type=image,push=true,name=h.example/x").names[0].to_string(), "h.example/x:latest");
    assert!(pushed("type=image,name=h.example/x,push-by-digest=true,push=true").by_digest);
    assert!(matches!(one("type=image,name=other"), Output::Names(names) if names.len() == 1));
    for nothing in ["type=image", "type=cacheonly"] {
        assert!(outputs(&[nothing], &[]).unwrap().list.is_empty(), "{nothing}");
    }
}

#[test]
fn what_is_wrong_is_found_before_anything_is_built() {
    let check = |texts: &[&str], tags: &[&str], expect: &str| {
        let error = outputs(texts, tags).unwrap_err();
        assert!(error.contains(expect), "{texts:?}: {error}");
    };
    check(&["type=oci"], &[], "it has no dest");
    check(&["type=tar"], &[], "it has no dest");
    check(&["type=local,dest=-"], &[], "standard output");
    check(&["type=local,dest=/,mode=delete"], &[], "--allow buildx.local.delete");
    check(&["type=local,dest=x,mode=move"], &[], "none of copy and delete");
    check(&["type=local,dest=/etc/passwd"], &[], "is no directory");
    check(&["type=oci,dest=/no/such/a.tar"], &[], "there is no directory");
    check(&["type=oci,dest=/tmp"], &[], "it is a directory");
    check(&["type=oci,dest=-,tar=false"], &[], "a directory cannot be written");
    check(&["-", "type=oci,dest=-"], &[], "two outputs cannot both be standard output");
    check(&["type=oci,dest=a,compression=estargz"], &[], "`estargz` is not supported");
    check(&["type=oci,dest=a,compression=xz"], &[], "the compressions are");
    check(&["type=oci,dest=a,compression-level=10"], &[], "0 to 9");
    check(&["type=oci,dest=a,compression=zstd,compression-level=23"], &[], "0 to 22");
    check(&["type=docker,dest=a,compression-level=1"], &[], "is not compressed");
    check(&["type=oci,dest=a,compression=zstd,oci-mediatypes=false"], &[], "no name for zstd");
    check(&["type=oci,dest=a,annotation.x=y,oci-mediatypes=false"], &[], "have no annotations");
    check(&["type=oci,dest=a,tar=perhaps"], &[], "true or false");
    check(&["type=oci,dest=a,name=Bad"], &[], "Bad");
    check(&["type=oci,dest=a,annotation-layer.x=y"], &[], "no annotation type `layer`");
    check(&["type=docker,compression=gzip"], &[], "without dest the image is loaded");
    check(&["type=registry"], &[], "tag is needed when pushing");
    check(&["type=registry,annotation-index.a=b"], &["x"], "not supported for single platform");
    check(&["type=registry,name=x:1,push-by-digest=true"], &[], "can't push tagged ref by digest");
}

#[test]
fn several_targets_have_outputs_of_all_images_only() {
    let two: Vec<Wanted> = ["a", "b"]
        .map(|name| Wanted { target: Some(name.to_owned()), tags: vec![name.parse().unwrap()] })
        .to_vec();
    let check = |text: &str, expect: Option<&str>| {
        let args = OutputArgs { outputs: vec![text.to_owned()], ..OutputArgs::default() };
        let found = read(&args, &[], None, &two).map(|_| ()).map_err(|error| error.text());
        match expect {
            None => assert_eq!(found, Ok(()), "{text}"),
            Some(expect) => assert!(found.clone().unwrap_err().contains(expect), "{text}: {found:?}"),
        }
    };
    check("type=oci,dest=a", None);
    check("type=registry", None);
    check("dir", Some("several targets"));
    check("-", Some("several targets"));
    check("type=registry,name=x", Some("whose name it is"));
}

#[test]
fn options_are_short_for_outputs() {
    let read = |args: OutputArgs| read(&args, &[], Some("linux/amd64"), &wanted(&["app"])).unwrap();
    let push = || OutputArgs { push: true, ..OutputArgs::default() };
    assert!(matches!(&read(push()).list[..], [Output::Push(_)]));
    // An image that is asked for anyway is the one that is pushed.
    let image = OutputArgs { outputs: vec!["type=image,compression=zstd".to_owned()], ..push() };
    assert!(matches!(&read(image).list[..], [Output::Push(push)] if push.packing.is_some()));
    let annotated = OutputArgs { annotations: vec!["a=b".to_owned()], ..push() };
    let found = read(annotated);
    assert!(matches!(&found.list[..], [Output::Push(push)] if push.manifest.annotations["a"] == "b"));
    let useless = read(OutputArgs { annotations: vec!["a=b".to_owned()], ..OutputArgs::default() });
    assert!(useless.notes[0].contains("--annotation has no effect"), "{:?}", useless.notes);
    let note = read(OutputArgs { load: Some(false), ..OutputArgs::default() });
    assert!(note.list.is_empty() && note.notes.len() == 1);
    let insecure = outputs(&["type=registry,registry.insecure=true"], &["h.example:5000/app"]).unwrap();
    assert_eq!(insecure.insecure_hosts(&wanted(&["h.example:5000/app"])), ["h.example:5000"]);
    assert!(
        outputs(&["type=registry"], &["h.example/a"]).unwrap().insecure_hosts(&wanted(&["a"])).is_empty()
    );
}
