//! Data sets in the binary files they are published in, and lists of indices.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::images::{Cifar10, Cifar100, Images, Task, TrainTest, Whole, numbered};
use crate::base::error::{Error, Result};

const CIFAR10_CLASSES: &str = "airplane automobile bird cat deer dog frog horse ship truck";
const CIFAR100_CLASSES: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle \
    bowl boy bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud \
    cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster \
    house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle \
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree \
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew \
    skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank \
    telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf \
    woman worm";
/// Superclasses of CIFAR-100, whose labels are read past.
const COARSE_CLASSES: u8 = 20;

/// CIFAR-10 from its binary version: `data_batch_1.bin` to `data_batch_5.bin` and
/// `test_batch.bin`, in `folder` or in its `cifar-10-batches-bin`.
///
/// A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images;
/// <https://www.cs.toronto.edu/~kriz/cifar.html>.
///
/// ```no_run
/// # use evospike::prelude::*;
/// let cifar = data::cifar10("data")?.normalised(&data::Normalisation::CIFAR10)?;
/// let parts = cifar.hold_out(0.1, 0)?;
/// println!("{} {}", parts.training.len(), parts.test.len()); // 45000 10000
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// A file that cannot be read, is empty or does not consist of whole images; a label that is no
/// class.
pub fn cifar10(folder: impl AsRef<Path>) -> Result<TrainTest<Cifar10>> {
    let folder = inside(folder.as_ref(), "cifar-10-batches-bin");
    let training = [1, 2, 3, 4, 5].map(|number| folder.join(format!("data_batch_{number}.bin")));
    cifar(&training, folder.join("test_batch.bin"), CIFAR10_CLASSES, 1)
}

/// CIFAR-100, by its 100 fine classes, from its binary version: `train.bin` and `test.bin`, in
/// `folder` or in its `cifar-100-binary`. Source and use as for [`cifar10`].
///
/// ```no_run
/// # use evospike::prelude::*;
/// let cifar = data::cifar100("data")?.normalised(&data::Normalisation::CIFAR100)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// As for [`cifar10`].
pub fn cifar100(folder: impl AsRef<Path>) -> Result<TrainTest<Cifar100>> {
    let folder = inside(folder.as_ref(), "cifar-100-binary");
    let training = [folder.join("train.bin")];
    cifar(&training, folder.join("test.bin"), CIFAR100_CLASSES, 2)
}

/// The folder that the published archive unpacks to, where it is there.
fn inside(folder: &Path, unpacked: &str) -> PathBuf {
    let unpacked = folder.join(unpacked);
    match unpacked.is_dir() {
        true => unpacked,
        false => folder.into(),
    }
}

fn cifar<K: Task>(
    training: &[PathBuf],
    test: PathBuf,
    names: &str,
    label_bytes: usize,
) -> Result<TrainTest<K>> {
    let names: Vec<String> = names.split_whitespace().map(Into::into).collect();
    TrainTest::new(
        cifar_records(training, names.clone(), label_bytes)?,
        cifar_records(&[test], names, label_bytes)?,
    )
}

/// Records of `label_bytes` labels, the last of which counts, and the pixels of an image.
fn cifar_records<K: Task>(
    files: &[PathBuf],
    names: Vec<String>,
    label_bytes: usize,
) -> Result<Images<Whole, K>> {
    let record = label_bytes + K::SHAPE.size();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for file in files {
        let bytes = fs::read(file).map_err(Error::io(file))?;
        let wrong = |offset: usize, found: String, expected: String| {
            Error::data(file.display(), format!("byte {offset}"), found, expected)
        };
        let records = bytes.chunks_exact(record);
        let rest = records.remainder().len();
        if bytes.is_empty() || rest > 0 {
            return Err(wrong(
                bytes.len() - rest,
                match rest {
                    0 => "the end of the file".into(),
                    _ => format!("the file's last {rest} bytes"),
                },
                format!("an image of {record} bytes: label and {} pixels", K::SHAPE),
            ));
        }
        pixels.reserve_exact(bytes.len() - label_bytes * records.len());
        for (number, bytes) in records.enumerate() {
            let (label, image) = bytes.split_at(label_bytes);
            let limits = [COARSE_CLASSES.into(), K::CLASSES];
            for (place, (&label, &limit)) in
                label.iter().zip(&limits[2 - label_bytes..]).enumerate()
            {
                if usize::from(label) >= limit {
                    return Err(wrong(
                        number * record + place,
                        format!("label {label}"),
                        format!("a class below {limit}"),
                    ));
                }
            }
            labels.extend(label.last().map(|&label| u16::from(label)));
            pixels.extend_from_slice(image);
        }
    }
    Ok(Images::new(pixels, labels, 255.0, names))
}

/// A data set of the MNIST family in IDX files, plain or gzip: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, with or
/// without `.gz`. The classes are called "0", "1", ...
///
/// Format: Y. LeCun, C. Cortes and C. Burges, The MNIST database,
/// <http://yann.lecun.com/exdb/mnist/>.
///
/// ```no_run
/// # use evospike::prelude::*;
/// let fashion = data::idx::<data::Mnist>("fashion-mnist")?;
/// let parts = fashion.normalised(&data::Normalisation::new([0.286], [0.353])?)?.hold_out(0.1, 0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// As for [`idx_files`].
pub fn idx<K: Task>(folder: impl AsRef<Path>) -> Result<TrainTest<K>> {
    let folder = folder.as_ref();
    let read = |split: &str| {
        let find = |name: String| {
            let mut files = [folder.join(&name), folder.join(format!("{name}.gz"))].into_iter();
            files.find(|file| file.is_file()).ok_or_else(|| {
                let expected = format!("`{name}` or `{name}.gz`");
                Error::data(folder.display(), "files", "neither", expected)
            })
        };
        idx_files(
            find(format!("{split}-images-idx3-ubyte"))?,
            find(format!("{split}-labels-idx1-ubyte"))?,
        )
    };
    TrainTest::new(read("train")?, read("t10k")?)
}

/// Images and their labels from two IDX files, plain or gzip, of whatever name: images x rows x
/// columns bytes (images x channels x rows x columns, where there is more than one channel) and as
/// many bytes of labels.
///
/// ```no_run
/// # use evospike::prelude::*;
/// type Balanced = data::Classify<1, 28, 47>; // EMNIST
/// let training = data::idx_files::<Balanced>("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// A file that cannot be read or unpacked, is no IDX file of bytes, holds no image or images of
/// another size, is shorter or longer than it says; another number of labels than of images; a
/// label that is no class.
pub fn idx_files<K: Task>(
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
) -> Result<Images<Whole, K>> {
    let (images, file) = (images.as_ref(), labels.as_ref());
    let item = [K::SHAPE.channels, K::SHAPE.height, K::SHAPE.width];
    let pixels = idx_bytes(images, &item[usize::from(item[0] == 1)..])?;
    let labels = idx_bytes(file, &[])?;
    let count = pixels.len() / K::SHAPE.size();
    if labels.len() != count {
        return Err(Error::data(
            file.display(),
            "byte 4",
            format!("{} labels", labels.len()),
            format!("{count}, the number of images in {}", images.display()),
        ));
    }
    if let Some(i) = labels
        .iter()
        .position(|&label| label as usize >= K::CLASSES)
    {
        return Err(Error::data(
            file.display(),
            format!("byte {}", 8 + i),
            format!("label {}", labels[i]),
            format!("a class below {}", K::CLASSES),
        ));
    }
    let labels = labels.into_iter().map(u16::from).collect();
    Ok(Images::new(pixels, labels, 255.0, numbered(K::CLASSES)))
}

/// The bytes of an IDX file whose dimensions after the first are `item`. Memory grows with what is
/// read, never with what a header says.
fn idx_bytes(path: &Path, item: &[usize]) -> Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let start = file.fill_buf().map_err(Error::io(path))?;
    let packed = start.starts_with(&[0x1f, 0x8b]); // the magic of gzip
    let mut reader: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let wrong = |offset: usize, found: String, expected: String| {
        let of = if packed { " unpacked" } else { "" };
        Error::data(
            path.display(),
            format!("byte {offset}{of}"),
            found,
            expected,
        )
    };
    let mut read = |offset: usize, limit: u64| {
        let mut bytes = Vec::new();
        match reader.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) if packed => Err(wrong(
                offset + bytes.len(),
                error.to_string(),
                "gzip data".into(),
            )),
            Err(error) => Err(Error::io(path)(error)),
        }
    };
    let header_size = 8 + 4 * item.len();
    let header = read(0, header_size as u64)?;
    let magic = [0, 0, 8, 1 + item.len() as u8];
    if !header.starts_with(&magic) {
        return Err(wrong(
            0,
            format!("{:?}", &header[..header.len().min(4)]),
            format!("{magic:?}, the start of an IDX file of bytes"),
        ));
    }
    if header.len() < header_size {
        let expected = format!("{header_size} bytes of header");
        return Err(wrong(header.len(), "the end of the file".into(), expected));
    }
    let sizes: Vec<usize> = header[4..]
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    if let Some(i) = (0..item.len()).find(|&i| sizes[1 + i] != item[i]) {
        return Err(wrong(
            8 + 4 * i,
            format!("dimensions {sizes:?}"),
            format!("images of {item:?}"),
        ));
    }
    let total = item
        .iter()
        .try_fold(sizes[0], |n, &side| n.checked_mul(side));
    let promised = format!("{} items, as the header says", sizes[0]);
    let Some(total) = total.filter(|&total| total > 0) else {
        let expected = "at least one, and no more than memory holds".into();
        return Err(wrong(4, format!("{} items", sizes[0]), expected));
    };
    let bytes = read(header_size, (total as u64).saturating_add(1))?;
    if bytes.len() != total {
        let found = match bytes.len() < total {
            true => "the end of the file",
            false => "more bytes",
        };
        let offset = header_size + bytes.len().min(total);
        return Err(wrong(offset, found.into(), promised));
    }
    Ok(bytes)
}

/// The lines of a file as indices below `images`, each at most once.
pub(super) fn index_file(path: &Path, images: usize) -> Result<Vec<usize>> {
    let wrong = |place: String, found: String, expected: String| {
        Error::data(path.display(), place, found, expected)
    };
    // Indices come once each, so a longer file is something else; it is not read to its end.
    let limit = 32 * (images as u64 + 1);
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    if read.map_err(Error::io(path))? as u64 > limit {
        return Err(wrong(
            format!("byte {limit}"),
            "more bytes".into(),
            format!("at most one index for each of {images} images"),
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let place = format!("byte {}", error.valid_up_to());
        wrong(place, "no text".into(), "one index a line".into())
    })?;
    let mut seen = vec![false; images];
    let mut indices = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("line {}", number + 1);
        let index = line.trim().parse().ok();
        let Some(index) = index.filter(|&index: &usize| index < images) else {
            let expected = format!("an index below {images}");
            return Err(wrong(place, format!("`{}`", shown(line)), expected));
        };
        if std::mem::replace(&mut seen[index], true) {
            let found = format!("index {index} a second time");
            return Err(wrong(place, found, "every index at most once".into()));
        }
        indices.push(index);
    }
    if indices.is_empty() {
        let expected = "at least one index".into();
        return Err(wrong(
            "line 1".into(),
            "the end of the file".into(),
            expected,
        ));
    }
    Ok(indices)
}

/// Enough of a line to know it by.
fn shown(line: &str) -> String {
    line.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    type Tiny = Classify<1, 2, 3>;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Records as CIFAR's: the labels, then pixels that count up from the number of the record.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let record = |(number, labels): (usize, &&[u8])| {
            let pixels = (0..3072).map(move |i| (number + i) as u8);
            labels.iter().copied().chain(pixels).collect::<Vec<u8>>()
        };
        labels.iter().enumerate().flat_map(record).collect()
    }

    #[test]
    fn cifar_files_are_read_in_order() {
        let root = tempfile::tempdir().unwrap();
        for (number, labels) in [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]].iter().enumerate() {
            let file = root.path().join(format!("data_batch_{}.bin", number + 1));
            fs::write(file, records(&[&labels[..1], &labels[1..]])).unwrap();
        }
        fs::write(root.path().join("test_batch.bin"), records(&[&[9]])).unwrap();
        let cifar = cifar10(root.path()).unwrap();
        assert_eq!((cifar.training.len(), cifar.test.len()), (10, 1));
        assert!((0..10).all(|i| cifar.training.label(i) == i));
        assert_eq!(cifar.training.store.bytes(9)[..3], [1, 2, 3]);
        assert_eq!(cifar.test.class_names()[9], "truck");

        let root100 = tempfile::tempdir().unwrap();
        let folder = root100.path().join("cifar-100-binary");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("train.bin"), records(&[&[19, 99], &[0, 1]])).unwrap();
        fs::write(folder.join("test.bin"), records(&[&[3, 50]])).unwrap();
        let cifar = cifar100(root100.path()).unwrap();
        assert_eq!(cifar.training.label(0), 99);
        assert_eq!(cifar.training.class_names()[99], "worm");
        assert_eq!(cifar.training.class_names().len(), 100);
        assert_eq!(cifar.training.store.bytes(1)[0], 1);
        for (broken, place) in [
            (
                records(&[&[20, 0]]),
                "byte 0: found label 20, expected a class below 20",
            ),
            (records(&[&[0, 0], &[1, 100]]), "byte 3075: found label 100"),
        ] {
            fs::write(folder.join("test.bin"), broken).unwrap();
            let error = cifar100(root100.path()).unwrap_err().to_string();
            assert!(
                error.contains("test.bin") && error.contains(place),
                "{error}"
            );
        }

        let whole = records(&[&[0], &[1]]);
        for (broken, place) in [
            (&whole[..0], "byte 0: found the end of the file"),
            (&whole[..3072], "byte 0: found the file's last 3072 bytes"),
            (
                &whole[..6000],
                "byte 3073: found the file's last 2927 bytes",
            ),
            (&records(&[&[0], &[10]]), "byte 3073: found label 10"),
        ] {
            fs::write(root.path().join("data_batch_3.bin"), broken).unwrap();
            let error = cifar10(root.path()).unwrap_err().to_string();
            assert!(error.contains("data_batch_3.bin"), "{error}");
            assert!(error.contains(place), "{error}");
        }
        fs::remove_file(root.path().join("data_batch_3.bin")).unwrap();
        let error = cifar10(root.path()).unwrap_err().to_string();
        assert!(error.contains("data_batch_3.bin"), "{error}");
    }

    /// An IDX file of bytes.
    fn idx_of(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        file.extend(bytes);
        file
    }

    #[test]
    fn idx_files_are_read_plain_and_packed() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
        let images = idx_of(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
        write("train-images-idx3-ubyte", &images);
        write("train-labels-idx1-ubyte.gz", &gzip(&idx_of(&[2], &[2, 0])));
        write(
            "t10k-images-idx3-ubyte.gz",
            &gzip(&idx_of(&[1, 2, 2], &[9; 4])),
        );
        write("t10k-labels-idx1-ubyte", &idx_of(&[1], &[1]));
        let tiny = idx::<Tiny>(root.path()).unwrap();
        assert_eq!((tiny.training.label(0), tiny.training.label(1)), (2, 0));
        assert_eq!(tiny.training.store.bytes(1), [5, 6, 7, 8]);
        assert_eq!(tiny.test.store.bytes(0), [9; 4]);

        fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).unwrap();
        let error = idx::<Tiny>(root.path()).unwrap_err().to_string();
        assert!(error.contains("`t10k-labels-idx1-ubyte` or"), "{error}");

        let colours = idx_of(&[1, 2, 1, 1], &[5, 6]);
        write("colours", &colours);
        write("label", &idx_of(&[1], &[0]));
        let [file, label] = ["colours", "label"].map(|name| root.path().join(name));
        let colours = idx_files::<Classify<2, 1, 3>>(file, label).unwrap();
        assert_eq!(colours.store.bytes(0), [5, 6]);
    }

    #[test]
    fn broken_idx_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        let [images, labels] = ["images", "labels"].map(|name| root.path().join(name));
        let pixels = [0; 8];
        let good = (idx_of(&[2, 2, 2], &pixels), idx_of(&[2], &[0, 2]));
        let read = |files: &(Vec<u8>, Vec<u8>)| {
            fs::write(&images, &files.0).unwrap();
            fs::write(&labels, &files.1).unwrap();
            idx_files::<Tiny>(&images, &labels).map_err(|error| error.to_string())
        };
        read(&good).unwrap();
        let huge = u32::MAX;
        for (broken, place) in [
            (vec![], "images, byte 0: found []"),
            (vec![0, 0], "images, byte 0: found [0, 0]"),
            (good.1.clone(), "images, byte 0: found [0, 0, 8, 1]"),
            (
                vec![0, 0, 13, 3, 0, 0, 0, 1],
                "images, byte 0: found [0, 0, 13, 3]",
            ),
            (
                good.0[..9].into(),
                "images, byte 9: found the end of the file",
            ),
            (
                good.0[..20].into(),
                "images, byte 20: found the end of the file",
            ),
            (
                idx_of(&[2, 2, 2], &[0; 9]),
                "images, byte 24: found more bytes",
            ),
            (idx_of(&[0, 2, 2], &[]), "images, byte 4: found 0 items"),
            (
                idx_of(&[2, 3, 2], &pixels),
                "images, byte 8: found dimensions [2, 3, 2]",
            ),
            (
                idx_of(&[2, 2, huge], &pixels),
                "images, byte 12: found dimensions",
            ),
            (
                idx_of(&[huge, 2, 2], &pixels),
                "images, byte 24: found the end of the file",
            ),
        ] {
            let error = read(&(broken.clone(), good.1.clone())).unwrap_err();
            assert!(error.contains(place), "{error}");
            if !broken.is_empty() {
                let error = read(&(gzip(&broken), good.1.clone())).unwrap_err();
                assert!(
                    error.contains(&place.replace(": f", " unpacked: f")),
                    "{error}"
                );
            }
        }
        for (broken, place) in [
            (
                idx_of(&[3], &[0, 1, 2]),
                "labels, byte 4: found 3 labels, expected 2",
            ),
            (idx_of(&[2], &[0, 3]), "labels, byte 9: found label 3"),
        ] {
            let error = read(&(good.0.clone(), broken)).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
        let packed = gzip(&good.0);
        let mut damaged = packed.clone();
        let checksum = damaged.len() - 6;
        damaged[checksum] ^= 1;
        for broken in [
            packed[..packed.len() - 9].to_vec(),
            damaged,
            packed[..4].to_vec(),
        ] {
            let error = read(&(broken, good.1.clone())).unwrap_err();
            assert!(
                error.contains("images, byte ") && error.contains("gzip data"),
                "{error}"
            );
        }
        let error = idx_files::<Tiny>(root.path(), &labels)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&*root.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn index_files_say_what_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("list.txt");
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            index_file(&file, 10).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"3\n9\n0\n").unwrap(), [3, 9, 0]);
        assert_eq!(read(b"3\r\n9").unwrap(), [3, 9]);
        for (broken, place) in [
            (&b""[..], "line 1: found the end of the file"),
            (b"3\n\n4", "line 2: found ``"),
            (b"3\n10\n", "line 2: found `10`, expected an index below 10"),
            (b"3\n-1\n", "line 2: found `-1`"),
            (b"3,4\n", "line 1: found `3,4`"),
            (b"3\n4\n3\n", "line 3: found index 3 a second time"),
            (b"3\n\xff\n", "byte 2: found no text"),
            (&[b'1'; 1000], "byte 352: found more bytes"),
        ] {
            let error = read(broken).unwrap_err();
            assert!(
                error.contains("list.txt") && error.contains(place),
                "{error}"
            );
        }
    }
}
