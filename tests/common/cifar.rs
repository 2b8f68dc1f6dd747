//! CIFAR's files as published, small.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// A batch as Python 2 pickles it; the labels are `[count - 1, ..., 0]`.
pub fn pickle(count: u8, key: &str) -> Vec<u8> {
    let text = |text: &str| [&[b'U', text.len() as u8], text.as_bytes()].concat();
    let array = b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\x09K\x00\x85U\x01b\
        \x87Rq\x0a(K\x01K";
    let kind =
        b"M\x00\x0c\x86cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87Rq\x0c(K\x03U\x01|NNNJ\xff\xff\
        \xff\xffJ\xff\xff\xff\xffK\x00tb\x89T";
    let bytes: Vec<u8> = (0..usize::from(count) * 3072).map(|i| i as u8).collect();
    [
        b"\x80\x02}q\x01(".to_vec(),
        text("batch_label"),
        b"q\x02".to_vec(),
        text("training batch 1 of 5"),
        b"q\x03".to_vec(),
        text(key),
        b"q\x04]q\x05(".to_vec(),
        (0..count).rev().flat_map(|label| [b'K', label]).collect(),
        b"e".to_vec(),
        text("data"),
        b"q\x07".to_vec(),
        array.to_vec(),
        vec![count],
        kind.to_vec(),
        (bytes.len() as u32).to_le_bytes().to_vec(),
        bytes,
        b"tb".to_vec(),
        text("again"),
        b"h\x05u.".to_vec(),
    ]
    .concat()
}

/// A tar archive in gzip.
pub fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&archive.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap()
}
