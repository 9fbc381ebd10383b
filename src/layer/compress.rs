//! Compression of layers: gzip and zstd, told apart by their first bytes.
//!
//! Decoders run in this process, never a program of the host or of an image.
//! Both formats may be concatenated (RFC 1952 section 2.2, RFC 8878 section
//! 3.1). The encoders write nothing of the clock or the machine.

use std::io;
use std::io::{BufReader, Chain, Cursor, Read, Write};

use flate2::GzBuilder;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::LayerError;

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How many first bytes are needed to tell the formats apart.
const SNIFF: usize = 6;

impl Compression {
    /// Tells the compression from a file's first bytes (6 suffice); formats rbuild cannot read are errors.
    pub fn sniff(start: &[u8]) -> Result<Compression, LayerError> {
        let unsupported = |kind| Err(LayerError::UnsupportedCompression { kind });
        match start {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            // A frame, or a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [0x1f, 0x9d, ..] => unsupported("compress(1)"),
            _ => Ok(Compression::None),
        }
    }
}

type Sniffed<R> = Chain<Cursor<Vec<u8>>, R>;

/// Reads what a compressed stream holds.
pub struct Decoder<R: Read>(Inner<R>);

enum Inner<R: Read> {
    Plain(Sniffed<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Sniffed<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Sniffed<R>>>>),
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(reader) => reader.read(buffer),
            Inner::Gzip(reader) => reader.read(buffer),
            Inner::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// Finds out how a stream is compressed, and returns a reader of what it holds.
///
/// A stream that ends too early fails with `UnexpectedEof` while it is read;
/// the checksums of both formats are checked.
pub fn decompress<R: Read>(mut reader: R) -> Result<(Compression, Decoder<R>), LayerError> {
    let mut start = Vec::with_capacity(SNIFF);
    let read = reader.by_ref().take(SNIFF as u64).read_to_end(&mut start);
    read.map_err(|source| LayerError::Read { offset: 0, source })?;
    let compression = Compression::sniff(&start)?;
    let whole = Cursor::new(start).chain(reader);
    let inner = match compression {
        Compression::None => Inner::Plain(whole),
        Compression::Gzip => {
            Inner::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, whole))))
        }
        Compression::Zstd => {
            let buffered = BufReader::with_capacity(64 * 1024, whole);
            let decoder = zstd::stream::read::Decoder::with_buffer(buffered);
            // Windows above 128 MiB (zstd --long=28 and up) are refused by the library's default.
            Inner::Zstd(Box::new(decoder.map_err(|source| LayerError::Decoder { kind: "zstd", source })?))
        }
    };
    Ok((compression, Decoder(inner)))
}

/// Compresses what is written to it.
pub struct Encoder<W: Write>(Output<W>);

enum Output<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Starts compressing into `out`; `level` is the format's own, `None` its default.
///
/// The same bytes and level give the same output everywhere: gzip's header
/// holds no time and says "unknown" for the operating system.
pub fn compress<W: Write>(kind: Compression, level: Option<i32>, out: W) -> io::Result<Encoder<W>> {
    Ok(Encoder(match kind {
        Compression::None => Output::Plain(out),
        Compression::Gzip => {
            let level = match level.map(|level| u32::try_from(level).unwrap_or(0).min(9)) {
                Some(level) => flate2::Compression::new(level),
                None => flate2::Compression::default(),
            };
            Output::Gzip(GzBuilder::new().mtime(0).operating_system(255).write(out, level))
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, level.unwrap_or(0))?;
            encoder.include_checksum(true)?;
            Output::Zstd(encoder)
        }
    }))
}

impl<W: Write> Encoder<W> {
    /// Writes what is still held back, and returns the receiver.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Output::Plain(out) => Ok(out),
            Output::Gzip(encoder) => encoder.finish(),
            Output::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Output::Plain(out) => out.write(bytes),
            Output::Gzip(encoder) => encoder.write(bytes),
            Output::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Output::Plain(out) => out.flush(),
            Output::Gzip(encoder) => encoder.flush(),
            Output::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(kind: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = compress(kind, None, Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (kind, mut reader) = decompress(bytes).unwrap();
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((kind, out))
    }

    #[test]
    fn reads_what_it_writes_also_concatenated() {
        for kind in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let one = packed(kind, b"one ");
            assert_eq!(one, packed(kind, b"one "));
            assert_eq!(unpacked(&one).unwrap(), (kind, b"one ".to_vec()));
            let two = [one, packed(kind, b"two")].concat();
            assert_eq!(unpacked(&two).unwrap(), (kind, b"one two".to_vec()));
        }
        assert_eq!(unpacked(b"").unwrap(), (Compression::None, Vec::new()));
        assert_eq!(unpacked(b"abc").unwrap(), (Compression::None, b"abc".to_vec()));
        assert_eq!(packed(Compression::Gzip, b"")[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }

    #[test]
    fn damage_is_an_error() {
        for kind in [Compression::Gzip, Compression::Zstd] {
            let whole = packed(kind, &[7; 100_000]);
            for end in [7, whole.len() / 2, whole.len() - 1] {
                assert_eq!(
                    unpacked(&whole[..end]).unwrap_err().kind(),
                    io::ErrorKind::UnexpectedEof,
                    "{kind:?} {end}"
                );
            }
            let mut bad = whole.clone();
            let middle = bad.len() - 3;
            bad[middle] ^= 0xff;
            assert!(unpacked(&bad).is_err());
            assert!(unpacked(&[whole, b"garbage!".to_vec()].concat()).is_err());
        }
        for bad in [&b"BZh91AY"[..], b"\xfd7zXZ\0", b"\x1f\x9d\x90"] {
            assert!(decompress(bad).is_err());
        }
    }
}
