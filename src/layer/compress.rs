//! Compression: gzip and zstd of layers, both ways; bzip2 and xz of other archives, to be read only.
//!
//! Told apart by their first bytes. Decoders run in this process, never a program
//! of the host or of an image. All four formats may be concatenated (RFC 1952
//! section 2.2, RFC 8878 section 3.1, bzip2(1), the xz file format section 2), and
//! all carry checksums, which are checked. The encoders write nothing of the clock
//! or the machine.

use std::io;
use std::io::{BufReader, Chain, Cursor, Read, Write};

use bzip2::bufread::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::LayerError;
use super::gzip::ParallelGzip;

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How an archive is compressed: as a layer may be, or in a way that only other archives are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    Layer(Compression),
    Bzip2,
    Xz,
}

/// How many first bytes are needed to tell the formats apart.
const SNIFF: usize = 10;

/// gzip's level where none is asked for. The scale is libdeflate's: its 2 makes layers as large as zlib's usual 6
/// to about a hundredth, in two fifths of the time.
const GZIP_LEVEL: u32 = 2;

/// The most memory an xz stream may ask for, in KiB: a dictionary of 128 MiB (`xz -9` takes
/// 64 MiB), as much as the window that zstd's library allows, and what the decoder itself needs.
const XZ_MEMORY_KIB: u32 = (128 + 4) * 1024;

/// The largest window of an archive in zstd, as a power of two: 128 MiB, the default of zstd's library.
const ARCHIVE_WINDOW_LOG: u32 = 27;

/// That of a layer: 32 MiB. Several are unpacked at once, and whoever makes an image chooses what memory
/// each takes. RFC 8878 (3.1.1.1.2) asks for 8 MiB, and what makes images writes no more than 32.
pub const LAYER_WINDOW_LOG: u32 = 25;

impl Packing {
    /// Tells the format from a file's first bytes (10 suffice); anything else is not compressed.
    ///
    /// Magic numbers: RFC 1952 (gzip), RFC 8878 (zstd, whose skippable frames may come first),
    /// the xz file format 2.1.1.1, and bzip2's `BZh`, level, and the digits of pi that begin a
    /// block, or the digits of its square root that end a stream without one.
    pub fn sniff(start: &[u8]) -> Packing {
        match start {
            [0x1f, 0x8b, 8, ..] => Packing::Layer(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Packing::Layer(Compression::Zstd)
            }
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Packing::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            _ => Packing::Layer(Compression::None),
        }
    }

    /// Returns the compression as a layer's; an error for what no layer may have.
    pub fn of_layer(self) -> Result<Compression, LayerError> {
        match self {
            Packing::Layer(compression) => Ok(compression),
            Packing::Bzip2 => Err(LayerError::UnsupportedCompression { kind: "bzip2" }),
            Packing::Xz => Err(LayerError::UnsupportedCompression { kind: "xz" }),
        }
    }
}

type Sniffed<R> = Chain<Cursor<Vec<u8>>, R>;
type Buffered<R> = BufReader<Sniffed<R>>;

/// Reads what a compressed stream holds.
pub struct Decoder<R: Read>(Inner<R>);

enum Inner<R: Read> {
    Plain(Sniffed<R>),
    Gzip(Box<MultiGzDecoder<Buffered<R>>>),
    /// With the largest window it may have, as a power of two.
    Zstd(Box<zstd::stream::read::Decoder<'static, Buffered<R>>>, u32),
    Bzip2(Box<MultiBzDecoder<Buffered<R>>>),
    Xz(Box<XzReader<Buffered<R>>>),
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(reader) => reader.read(buffer),
            Inner::Gzip(reader) => reader.read(buffer),
            Inner::Zstd(reader, window_log) => {
                reader.read(buffer).map_err(|error| explain_window(error, *window_log))
            }
            Inner::Bzip2(reader) => reader.read(buffer),
            Inner::Xz(reader) => reader.read(buffer),
        }
    }
}

/// Finds out how a stream is compressed, and returns a reader of what it holds.
///
/// A stream that ends too early fails with `UnexpectedEof` while it is read;
/// the checksums of the formats are checked.
pub fn decompress<R: Read>(reader: R) -> Result<(Packing, Decoder<R>), LayerError> {
    let (packing, whole) = sniffed(reader)?;
    Ok((packing, open(packing, whole, ARCHIVE_WINDOW_LOG)?))
}

/// Does the same for a layer that came from elsewhere, with less memory ([`LAYER_WINDOW_LOG`]).
pub fn decompress_layer<R: Read>(reader: R) -> Result<(Packing, Decoder<R>), LayerError> {
    let (packing, whole) = sniffed(reader)?;
    Ok((packing, open(packing, whole, LAYER_WINDOW_LOG)?))
}

/// Takes a compression off that no layer may have (bzip2, xz); leaves every other stream as it is.
pub fn as_layer<R: Read>(reader: R) -> Result<Decoder<R>, LayerError> {
    let (packing, whole) = sniffed(reader)?;
    match packing {
        Packing::Layer(_) => open(Packing::Layer(Compression::None), whole, ARCHIVE_WINDOW_LOG),
        Packing::Bzip2 | Packing::Xz => open(packing, whole, ARCHIVE_WINDOW_LOG),
    }
}

fn open<R: Read>(packing: Packing, whole: Sniffed<R>, window_log: u32) -> Result<Decoder<R>, LayerError> {
    let buffered = |whole| BufReader::with_capacity(64 * 1024, whole);
    Ok(Decoder(match packing {
        Packing::Layer(Compression::None) => Inner::Plain(whole),
        Packing::Layer(Compression::Gzip) => Inner::Gzip(Box::new(MultiGzDecoder::new(buffered(whole)))),
        Packing::Layer(Compression::Zstd) => {
            let bounded = zstd::stream::read::Decoder::with_buffer(buffered(whole))
                .and_then(|mut decoder| decoder.window_log_max(window_log).map(|()| decoder));
            let decoder = bounded.map_err(|source| LayerError::Decoder { kind: "zstd", source })?;
            Inner::Zstd(Box::new(decoder), window_log)
        }
        Packing::Bzip2 => Inner::Bzip2(Box::new(MultiBzDecoder::new(buffered(whole)))),
        Packing::Xz => Inner::Xz(Box::new(XzReader::new_mem_limit(buffered(whole), true, XZ_MEMORY_KIB))),
    }))
}

/// Says in our words that a window is too large.
fn explain_window(error: io::Error, window_log: u32) -> io::Error {
    match error.to_string().contains("requires too much memory") {
        true => {
            let why = format!(
                "its zstd stream needs a window of more than {} MiB to be unpacked; pack it without `--ultra` \
                 and `--long`",
                1u64 << (window_log - 20)
            );
            io::Error::new(io::ErrorKind::OutOfMemory, why)
        }
        false => error,
    }
}

fn sniffed<R: Read>(mut reader: R) -> Result<(Packing, Sniffed<R>), LayerError> {
    let mut start = Vec::with_capacity(SNIFF);
    let read = reader.by_ref().take(SNIFF as u64).read_to_end(&mut start);
    read.map_err(|source| LayerError::Read { offset: 0, source })?;
    Ok((Packing::sniff(&start), Cursor::new(start).chain(reader)))
}

/// Compresses what is written to it.
pub struct Encoder<W: Write>(Output<W>);

enum Output<W: Write> {
    Plain(W),
    Gzip(ParallelGzip<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Starts compressing into `out`; `level` is the format's own, `None` its default.
///
/// The same bytes and level give the same output everywhere: gzip's header
/// holds no time and says "unknown" for the operating system. Large gzip streams are made by
/// several threads.
pub fn compress<W: Write>(kind: Compression, level: Option<i32>, out: W) -> io::Result<Encoder<W>> {
    Ok(Encoder(match kind {
        Compression::None => Output::Plain(out),
        Compression::Gzip => {
            let level = level.map_or(GZIP_LEVEL, |level| u32::try_from(level).unwrap_or(0).min(9));
            Output::Gzip(ParallelGzip::new(out, level))
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, level.unwrap_or(0))?;
            // Levels 21 and 22 would take windows that layers may not have.
            if level.is_some_and(|level| level > 20) {
                encoder.window_log(LAYER_WINDOW_LOG)?;
            }
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
    use proptest::prelude::*;

    use super::*;

    const ALL: [Packing; 5] = [
        Packing::Layer(Compression::None),
        Packing::Layer(Compression::Gzip),
        Packing::Layer(Compression::Zstd),
        Packing::Bzip2,
        Packing::Xz,
    ];

    fn packed(kind: Packing, bytes: &[u8]) -> Vec<u8> {
        match kind {
            Packing::Layer(kind) => {
                let mut encoder = compress(kind, None, Vec::new()).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpacked(bytes: &[u8]) -> io::Result<(Packing, Vec<u8>)> {
        let (kind, mut reader) = decompress(bytes).unwrap();
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((kind, out))
    }

    #[test]
    fn reads_all_formats_also_concatenated() {
        for kind in ALL {
            let one = packed(kind, b"one ");
            assert_eq!(one, packed(kind, b"one "));
            assert_eq!(unpacked(&one).unwrap(), (kind, b"one ".to_vec()));
            let two = [one, packed(kind, b"two")].concat();
            assert_eq!(unpacked(&two).unwrap(), (kind, b"one two".to_vec()));
        }
        let plain = Packing::Layer(Compression::None);
        for bytes in [&b""[..], b"abc", b"BZh9 is a fine first line", b"\x1f\x8b"] {
            assert_eq!(unpacked(bytes).unwrap(), (plain, bytes.to_vec()));
        }
        let empty = packed(Packing::Layer(Compression::Gzip), b"");
        assert_eq!(empty[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(unpacked(&packed(Packing::Bzip2, b"")).unwrap(), (Packing::Bzip2, Vec::new()));
        // Padding between and after streams: the xz file format, section 2.2.
        let padded = [packed(Packing::Xz, b"a"), vec![0; 4], packed(Packing::Xz, b"b"), vec![0; 8]].concat();
        assert_eq!(unpacked(&padded).unwrap().1, b"ab");
    }

    #[test]
    fn damage_is_an_error() {
        // Noise, so that every format holds it over some length.
        let mut noise = vec![0u8; 100_000];
        let mut state = 1u32;
        for byte in &mut noise {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        for kind in &ALL[1..] {
            let whole = packed(*kind, &noise);
            for end in [15, whole.len() / 2, whole.len() - 1] {
                let error = unpacked(&whole[..end]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{kind:?} {end}: {error}");
            }
            let mut bad = whole.clone();
            let middle = bad.len() - 3;
            bad[middle] ^= 0xff;
            assert!(unpacked(&bad).is_err(), "{kind:?}");
            let mut bad = whole.clone();
            bad[whole.len() / 2] ^= 0xff;
            assert!(unpacked(&bad).is_err(), "{kind:?}");
            assert!(unpacked(&[whole, b"garbage!".to_vec()].concat()).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn an_xz_stream_cannot_ask_for_any_memory() {
        let mut options = lzma_rust2::XzOptions::with_preset(0);
        options.lzma_options.dict_size = 512 << 20;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(b"x").unwrap();
        let error = unpacked(&encoder.finish().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    }

    #[test]
    fn a_zstd_stream_cannot_ask_for_any_memory() {
        let read = |bytes: &[u8], is_layer| {
            let opened = if is_layer { decompress_layer(bytes) } else { decompress(bytes) };
            opened.unwrap().1.read_to_end(&mut Vec::new()).map_err(|error| error.to_string())
        };
        let with_window = |log| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.long_distance_matching(true).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"x").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read(&with_window(25), true), Ok(1));
        let error = read(&with_window(26), true).unwrap_err();
        assert!(error.contains("more than 32 MiB"), "{error}");
        assert_eq!(read(&with_window(27), false), Ok(1));
        let error = read(&with_window(28), false).unwrap_err();
        assert!(error.contains("more than 128 MiB"), "{error}");
        // What is written here is read here.
        for level in [1, 19, 20, 21, 22] {
            let mut encoder = compress(Compression::Zstd, Some(level), Vec::new()).unwrap();
            encoder.write_all(b"x").unwrap();
            assert_eq!(read(&encoder.finish().unwrap(), true), Ok(1), "{level}");
        }
    }

    #[test]
    fn only_what_no_layer_has_is_taken_off() {
        for kind in ALL {
            let bytes = packed(kind, b"text");
            let mut out = Vec::new();
            as_layer(bytes.as_slice()).unwrap().read_to_end(&mut out).unwrap();
            match kind.of_layer() {
                Ok(_) => assert_eq!(out, bytes),
                Err(_) => assert_eq!(out, b"text"),
            }
        }
    }

    proptest! {
        /// What was damaged anywhere is an error or what it was, never a panic.
        #[test]
        fn survives_damage(kind in proptest::sample::select(&ALL[..]), at: prop::sample::Index, bits in 1u8..,
            bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bad = packed(kind, &bytes);
            if !bad.is_empty() {
                let at = at.index(bad.len());
                bad[at] ^= bits;
                let _ = unpacked(&bad);
                let _ = unpacked(&bad[..at]);
            }
        }
    }
}
