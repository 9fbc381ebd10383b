//! Images as a directory in OCI layout (image-spec, image-layout.md), which may hold others already.
//!
//! Not here: which blobs and entries (`export`), reading layouts (`layout`).

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::content::{Blob, METADATA_LIMIT};
use crate::store::Store;

use super::ArchiveError;
use super::whole_file::write_whole;

/// The annotation by which tools of OCI tell images of a layout apart.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Puts blobs and the entries of an index into a directory; the index comes last.
///
/// Entries that were there stay, but those of the same name or the same digest. After an error
/// there may be blobs that no entry names.
pub fn write_layout<'a>(
    store: &Store,
    directory: &Path,
    blobs: impl Iterator<Item = &'a Blob>,
    index: &Value,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::WriteFile { path: directory.to_owned(), source };
    let folder = directory.join("blobs/sha256");
    DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(failed)?;
    let sync = store.options().sync;
    for blob in blobs {
        let path = folder.join(blob.digest.hex());
        if path.metadata().is_ok_and(|there| there.is_file() && there.len() == blob.size) {
            continue;
        }
        write_whole(&path, 0o644, sync, |file| {
            let mut out = BufWriter::with_capacity(1 << 16, file);
            blob.write(store, &mut out)?;
            out.flush().map_err(ArchiveError::Write)
        })?;
    }
    let put = |name: &str, value: &Value| {
        let bytes = serde_json::to_vec(value).expect("JSON values are JSON");
        let write = |mut file: &File| file.write_all(&bytes).map_err(ArchiveError::Write);
        write_whole(&directory.join(name), 0o644, sync, write)
    };
    put("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    put("index.json", &merged(index, there(&directory.join("index.json"))?))
}

/// Reads the index that is there; an error for what cannot be added to.
fn there(path: &Path) -> Result<Option<Value>, ArchiveError> {
    let unusable = |why: String| ArchiveError::Layout { path: PathBuf::from(path), why };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(e.to_string())),
    };
    if size > METADATA_LIMIT {
        return Err(unusable(format!("its index has {size} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|e| unusable(e.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| unusable(e.to_string()))?;
    match value["manifests"].is_array() {
        true => Ok(Some(value)),
        false => Err(unusable("its index has no manifests".to_owned())),
    }
}

/// Puts the old entries that the new ones do not replace before them.
fn merged(new: &Value, old: Option<Value>) -> Value {
    let entries = |index: &Value| index["manifests"].as_array().cloned().unwrap_or_default();
    let Some(old) = old else { return new.clone() };
    let added = entries(new);
    let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
    let replaces = |old: &Value| {
        added.iter().any(|new| match (name(new), name(old)) {
            (Some(new), Some(old)) => new == old,
            (None, None) => new["digest"] == old["digest"],
            _ => false,
        })
    };
    let mut all: Vec<Value> = entries(&old).into_iter().filter(|entry| !replaces(entry)).collect();
    all.extend(added);
    let mut index = old;
    for (key, value) in new.as_object().into_iter().flatten() {
        index[key] = value.clone();
    }
    index["manifests"] = Value::Array(all);
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, Option<&str>)]) -> Value {
        let entry = |(digest, name): &(&str, Option<&str>)| match name {
            Some(name) => json!({"digest": digest, "annotations": {REF_NAME: name}}),
            None => json!({ "digest": digest }),
        };
        json!({"schemaVersion": 2, "manifests": entries.iter().map(entry).collect::<Vec<_>>()})
    }

    #[test]
    fn entries_are_added_and_replaced() {
        let check =
            |old: &[(&str, Option<&str>)], new: &[(&str, Option<&str>)], expect: &[(&str, Option<&str>)]| {
                assert_eq!(merged(&index(new), Some(index(old))), index(expect));
            };
        check(&[], &[("1", Some("a"))], &[("1", Some("a"))]);
        check(&[("1", Some("a"))], &[("2", Some("a"))], &[("2", Some("a"))]);
        check(&[("1", Some("a"))], &[("1", Some("b"))], &[("1", Some("a")), ("1", Some("b"))]);
        check(&[("1", None), ("2", None)], &[("1", None)], &[("2", None), ("1", None)]);
        check(&[("1", Some("a"))], &[("1", None)], &[("1", Some("a")), ("1", None)]);
        assert_eq!(merged(&index(&[("1", None)]), None), index(&[("1", None)]));
    }
}
