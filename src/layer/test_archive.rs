//! Archives for tests, made field by field: honest programs would not write most of them.

use crate::sys::OverlayXattrs;

/// Tells whether the test is user 0, perhaps only of a user namespace.
pub(super) fn is_user_0() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells whether the test is root of the machine: all ids, device nodes, `trusted` attributes.
pub(super) fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    is_user_0() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn marks() -> OverlayXattrs {
    if is_root() { OverlayXattrs::Trusted } else { OverlayXattrs::User }
}

/// A tar being put together.
#[derive(Default, Clone)]
pub(super) struct Archive(pub Vec<u8>);

/// The fields of a header that tests change.
#[derive(Clone)]
pub(super) struct Header<'a> {
    pub name: &'a [u8],
    pub flag: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: u64,
    pub link: &'a [u8],
    pub major: u32,
    pub minor: u32,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header {
            name: b"",
            flag: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_000_000_000,
            link: b"",
            major: 0,
            minor: 0,
        }
    }
}

impl Header<'_> {
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        block[..self.name.len()].copy_from_slice(self.name);
        let mut octal = |at: usize, width: usize, value: u64| {
            let digits = format!("{value:0width$o}", width = width - 1);
            block[at..at + width - 1].copy_from_slice(digits.as_bytes());
        };
        octal(100, 8, self.mode.into());
        octal(108, 8, self.uid.into());
        octal(116, 8, self.gid.into());
        octal(124, 12, self.size);
        octal(136, 12, self.mtime);
        octal(329, 8, self.major.into());
        octal(337, 8, self.minor.into());
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        block
    }
}

/// Gives a header block its checksum.
pub(super) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u64 = block[..512].iter().map(|&b| u64::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Archive {
    pub fn new() -> Archive {
        Archive::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Archive {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn data(mut self, bytes: &[u8]) -> Archive {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(self, header: Header<'_>) -> Archive {
        self.raw(&header.block())
    }

    pub fn file(self, name: &str, bytes: &[u8]) -> Archive {
        let size = bytes.len() as u64;
        self.header(Header { name: name.as_bytes(), size, ..Header::default() }).data(bytes)
    }

    pub fn dir(self, name: &str) -> Archive {
        self.header(Header { name: name.as_bytes(), flag: b'5', mode: 0o755, ..Header::default() })
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.header(Header { name, flag: b'2', mode: 0o777, link, ..Header::default() })
    }

    pub fn hard_link(self, name: &str, target: &str) -> Archive {
        self.header(Header {
            name: name.as_bytes(),
            flag: b'1',
            link: target.as_bytes(),
            ..Header::default()
        })
    }

    pub fn char_device(self, name: &str, major: u32, minor: u32) -> Archive {
        self.header(Header { name: name.as_bytes(), flag: b'3', major, minor, ..Header::default() })
    }

    /// Adds an extension entry (`x`, `g`, `L`, `K`) with these bytes.
    pub fn extension(self, flag: u8, bytes: &[u8]) -> Archive {
        let size = bytes.len() as u64;
        self.header(Header { name: b"extension", flag, size, ..Header::default() }).data(bytes)
    }

    /// Adds a pax header with these records.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|n| rest + n.to_string().len() == *n).unwrap();
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.extension(b'x', &bytes)
    }

    /// Adds the end marker and returns the archive's bytes.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}
