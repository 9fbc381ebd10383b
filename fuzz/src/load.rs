//! Archives of images: every file lies inside the archive, and what an archive says it holds is what its
//! bytes are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use rbuild::archive::{TarFiles, contents};
use rbuild::image::{Digest, Platform};

use super::archive::seal;

/// An archive made of the input: which part of it the input is.
const PARTS: [&str; 4] = ["manifest.json", "index.json", "config.json", "blob"];

/// Reads the first byte: a whole tar (checksums put right, an end marker added), or one file of a tar that
/// is otherwise good.
pub fn check(bytes: &[u8]) {
    let Some((&choice, input)) = bytes.split_first() else { return };
    let archive = match usize::from(choice) % (PARTS.len() + 1) {
        4 => {
            let mut archive = input.to_vec();
            seal(&mut archive);
            archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
            archive
        }
        part => with(PARTS[part], input),
    };
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&archive).expect("room for it");
    inside(file.try_clone().expect("a second handle"), archive.len() as u64);
    let platform = (choice & 128 != 0).then(Platform::host);
    let Ok(images) = contents(file, platform.as_ref()) else { return };
    assert!(!images.is_empty(), "an archive without images is an error");
    let mut names = BTreeSet::new();
    for (id, own) in &images {
        let digest = id.0;
        let is_there = find(&archive, &digest);
        assert!(is_there, "the image {id} is not in the archive");
        for name in own {
            assert_eq!(name.to_string().parse().as_ref(), Ok(name), "a name that is no name");
            assert!(name.tag().is_some() && name.digest().is_none(), "{name}");
            assert!(names.insert(name.clone()), "{name} is that of two images");
        }
    }
}

/// Makes a tar with one image, of which one file is the input.
fn with(part: &str, input: &[u8]) -> Vec<u8> {
    let config = match part {
        "config.json" => input.to_vec(),
        _ => br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
    };
    let (id, size) = (Digest::of(&config).hex(), config.len());
    let blob = match part {
        "blob" => input.to_vec(),
        _ => format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{id}","size":{size}}},"layers":[]}}"#
        )
        .into_bytes(),
    };
    let (hex, size) = (Digest::of(&blob).hex(), blob.len());
    let index = match part {
        "index.json" => input.to_vec(),
        _ => format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{hex}","size":{size}}}]}}"#
        )
        .into_bytes(),
    };
    let manifest = match part {
        "manifest.json" => input.to_vec(),
        _ => br#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":[]}]"#.to_vec(),
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).expect("it is written to memory");
    };
    put("config.json", &config);
    if matches!(part, "index.json" | "blob") {
        put(&format!("blobs/sha256/{id}"), &config);
        put(&format!("blobs/sha256/{hex}"), &blob);
        put("index.json", &index);
        put("oci-layout", b"{}");
    } else {
        put("manifest.json", &manifest);
    }
    tar.into_inner().expect("it is written to memory")
}

/// No file begins before the first header or ends beyond the end.
fn inside(file: File, length: u64) {
    let Ok(files) = TarFiles::index(file) else { return };
    for (name, offset, size) in files.regular_files() {
        assert!(offset >= 512 && offset + size <= length, "{name} is not in the archive");
        let climbs = name.split('/').any(|part| matches!(part, "" | "." | ".."));
        assert!(!climbs, "`{name}` is not clean");
    }
}

/// Tells whether a file of the archive has this digest, as another reader of tars sees them.
fn find(archive: &[u8], digest: &Digest) -> bool {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(archive).expect("room for it");
    let files = TarFiles::index(file.try_clone().expect("a second handle")).expect("it was read before");
    files.regular_files().any(|(_, offset, size)| {
        let mut file = &file;
        file.seek(SeekFrom::Start(offset)).expect("a regular file");
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes).expect("a regular file");
        Digest::of(bytes) == *digest
    })
}
