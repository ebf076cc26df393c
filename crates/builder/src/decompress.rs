//! Streams that may be compressed: what counts is how they begin, never what they are called.

use std::io::{self, BufReader, Chain, Cursor, Read};

/// What xz may take of memory to unpack: files made with its highest level need 65 MiB (xz(1)).
const XZ_MEMORY: u64 = 128 << 20;

type Stream<'a> = Box<dyn Read + Send + 'a>;
type Source<'a> = BufReader<Chain<Cursor<Vec<u8>>, Stream<'a>>>;
type Open = for<'a> fn(Source<'a>) -> io::Result<Stream<'a>>;

/// The compressions that are recognised, by the bytes a stream begins with.
const COMPRESSIONS: [(&[u8], Open); 4] = [
    (b"\x1f\x8b", |stream| Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stream)))),
    (b"BZh", |stream| Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(stream)))),
    (b"\xfd7zXZ\0", |stream| {
        let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
        Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder)))
    }),
    (b"\x28\xb5\x2f\xfd", |stream| Ok(Box::new(zstd::stream::read::Decoder::with_buffer(stream)?))),
];

/// The plain bytes of a stream. One in none of the known compressions is plain already.
pub(crate) fn decompressed(mut stream: Stream<'_>) -> io::Result<Stream<'_>> {
    let mut magic = Vec::new();
    stream.by_ref().take(6).read_to_end(&mut magic)?;
    let known = COMPRESSIONS.iter().find(|(start, _)| magic.starts_with(start));
    let whole = BufReader::with_capacity(64 << 10, Cursor::new(magic).chain(stream));
    match known {
        Some((_, open)) => open(whole),
        None => Ok(Box::new(whole)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(Box::new(Cursor::new(bytes.to_vec())))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn a_stream_is_known_by_how_it_begins_and_may_have_several_parts() {
        let text = b"text ".repeat(10_000);
        let twice = text.repeat(2);
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(plain(&gzip.repeat(2)).unwrap(), twice);
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&text).unwrap();
        assert_eq!(plain(&encoder.finish().unwrap().repeat(2)).unwrap(), twice);
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&text).unwrap();
        assert_eq!(plain(&encoder.finish().unwrap().repeat(2)).unwrap(), twice);
        assert_eq!(plain(&zstd::encode_all(&text[..], 1).unwrap().repeat(2)).unwrap(), twice);
        for short in [&b""[..], b"BZ", b"no more than this"] {
            assert_eq!(plain(short).unwrap(), short);
        }
    }

    #[test]
    fn an_xz_stream_that_asks_for_too_much_memory_is_an_error() {
        // The header alone says what unpacking takes: an encoder with such a dictionary would need gigabytes.
        let mut small = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        small.dict_size(4096);
        let mut small_filters = liblzma::stream::Filters::new();
        small_filters.lzma2(&small);
        let stream = liblzma::stream::Stream::new_stream_encoder(&small_filters, liblzma::stream::Check::None).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(b"text").unwrap();
        let mut bytes = encoder.finish().unwrap();
        // Block header (xz file format 3.1): size, flags, filter 0x21, one property byte, the dictionary's size code.
        let code = 12 + 4;
        bytes[code] = 38;
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[12..20]);
        bytes[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        assert!(plain(&bytes).is_err());
    }
}
