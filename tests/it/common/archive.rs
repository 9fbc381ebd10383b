//! What is in an exported OCI archive, read with `tar` and nothing of rbuild's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use super::context::Context;
use super::env::TestEnv;

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub kind: tar::EntryType,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: Option<String>,
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// An image read from an OCI archive. Every digest in it has been checked.
pub struct Exported {
    pub manifest: Value,
    pub config: Value,
    /// Lowest first, as unpacked tar bytes.
    pub layers: Vec<Vec<u8>>,
}

impl TestEnv {
    /// Builds a context and reads the image back from an OCI archive.
    #[track_caller]
    pub fn export(&self, context: &Context, args: &[&str]) -> Exported {
        let file = self.path_str("image.tar");
        let output = format!("type=oci,dest={file}");
        self.build(context, &[&["-o", &output], args].concat());
        Exported::read(Path::new(&file))
    }
}

impl Exported {
    /// Reads an OCI archive with one image.
    #[track_caller]
    pub fn read(path: &Path) -> Exported {
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().trim_start_matches("./").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let layout: Value = serde_json::from_slice(&files["oci-layout"]).unwrap();
        assert_eq!(layout["imageLayoutVersion"], "1.0.0");
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifest: Value = serde_json::from_slice(blob(&files, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();

        let descriptors = manifest["layers"].as_array().unwrap();
        let layers: Vec<Vec<u8>> = descriptors.iter().map(|d| unpacked(blob(&files, d))).collect();
        let diff_ids: Vec<Value> = layers.iter().map(|layer| Value::String(sha256(layer))).collect();
        assert_eq!(config["rootfs"]["diff_ids"], Value::Array(diff_ids), "DiffIDs are those of the tars");
        Exported { manifest, config, layers }
    }

    /// The entries of one layer, in the order of the archive.
    pub fn entries(&self, layer: usize) -> Vec<Entry> {
        entries_of(&self.layers[layer])
    }

    /// The entries of the last layer.
    pub fn last(&self) -> Vec<Entry> {
        self.entries(self.layers.len() - 1)
    }

    /// The paths of the last layer, without the first and last slash.
    pub fn last_paths(&self) -> Vec<String> {
        self.last().into_iter().map(|e| e.path).filter(|p| !p.is_empty()).collect()
    }

    /// The topmost entry of a path in any layer; whiteouts are not looked at.
    #[track_caller]
    pub fn entry(&self, path: &str) -> Entry {
        let found =
            (0..self.layers.len()).rev().find_map(|l| self.entries(l).into_iter().find(|e| e.path == path));
        found.unwrap_or_else(|| panic!("`{path}` is in no layer"))
    }
}

/// The entries of a plain tar, in its order.
pub fn entries_of(tar: &[u8]) -> Vec<Entry> {
    tar::Archive::new(tar).entries().unwrap().map(|entry| read_entry(entry.unwrap())).collect()
}

fn read_entry<R: Read>(mut entry: tar::Entry<'_, R>) -> Entry {
    let mut xattrs = BTreeMap::new();
    if let Some(records) = entry.pax_extensions().unwrap() {
        for record in records.map(Result::unwrap) {
            if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let header = entry.header();
    let path = entry.path().unwrap().to_str().unwrap().to_owned();
    Entry {
        path: path.trim_start_matches("./").trim_matches('/').to_owned(),
        kind: header.entry_type(),
        mode: header.mode().unwrap() & 0o7777,
        uid: header.uid().unwrap(),
        gid: header.gid().unwrap(),
        mtime: header.mtime().unwrap(),
        link: entry.link_name().unwrap().map(|l| l.to_str().unwrap().to_owned()),
        content,
        xattrs,
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns the blob of a descriptor, after checking its size and digest.
fn blob<'f>(files: &'f BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'f [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64), "size of {digest}");
    assert_eq!(sha256(bytes), digest);
    bytes
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match blob {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut bytes).unwrap(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(blob).unwrap().read_to_end(&mut bytes).unwrap(),
        _ => return blob.to_vec(),
    };
    bytes
}
