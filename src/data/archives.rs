//! Packed files: gzip, and archives of tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use tar::Archive;

use crate::base::{Error, Result};

/// Opens a file that may be packed by gzip, and says whether it is.
pub(super) fn open(path: &Path) -> Result<(Box<dyn Read>, bool)> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let start = file.fill_buf().map_err(Error::io(path))?;
    let packed = start.starts_with(&[0x1f, 0x8b]); // the magic of gzip
    Ok(match packed {
        true => (Box::new(Members(Some(GzDecoder::new(file)))), true),
        false => (Box::new(file), false),
    })
}

/// The members of a gzip file, one after the other; none after the last.
struct Members(Option<GzDecoder<BufReader<File>>>);

impl Read for Members {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let count = member.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.0.take().map(GzDecoder::into_inner) else {
                break;
            };
            // Tapes and disks fill blocks with zeros, which gzip passes over.
            let mut zeros = usize::MAX;
            while zeros > 0 {
                zeros = rest.fill_buf()?.iter().take_while(|&&byte| byte == 0).count();
                rest.consume(zeros);
            }
            self.0 = (!rest.fill_buf()?.is_empty()).then(|| GzDecoder::new(rest));
        }
        Ok(0)
    }
}

/// Reads those files of a tar archive, packed by gzip or not, that have one of these names, in
/// whichever folder.
pub(super) fn files(path: &Path, names: &[String]) -> Result<HashMap<String, Vec<u8>>> {
    let damaged = |error: io::Error| {
        Error::data(path.display(), "archive", error, "a tar archive, packed by gzip or not")
    };
    let mut found = HashMap::new();
    let mut archive = Archive::new(open(path)?.0);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name =
            entry.path().map_err(damaged)?.file_name().map(|name| name.to_string_lossy().into());
        let Some(name) = name.filter(|name| names.contains(name)) else {
            continue;
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != entry.size() {
            let expected = format!("{} bytes of `{name}`", entry.size());
            return Err(Error::data(path.display(), "archive", bytes.len(), expected));
        }
        found.insert(name, bytes);
    }
    Ok(found)
}
