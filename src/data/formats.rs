//! Readers of published data sets: CIFAR and the MNIST family.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archives::{files, open};
use super::images::{Images, Whole, numbered};
use super::pickle::Pickle;
use super::split::TrainTest;
use super::tasks::{Cifar10, Cifar100, Task};
use crate::base::{Error, Result};

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
/// Number of superclasses of CIFAR-100, whose labels are checked and skipped.
const COARSE_CLASSES: u8 = 20;

/// What is known of the files of a CIFAR data set.
struct Cifar {
    classes: &'static str,
    /// Bytes of labels before an image, of which the last is its class.
    label_bytes: usize,
    /// Key of the classes in the Python version.
    labels: &'static str,
    /// Folders and archives as published, the binary version first.
    places: [&'static str; 4],
    /// Names of the files, which in the binary version end in `.bin`.
    training: &'static [&'static str],
    test: &'static str,
}

/// Reads CIFAR-10 as published, in its binary or Python version: `cifar-10-binary.tar.gz` or
/// `cifar-10-python.tar.gz`, or what they unpack to. `path` is the archive, the folder with its files
/// (`data_batch_1.bin` or `data_batch_1`, and so on), or a folder that holds either.
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
/// Returns an error if a file cannot be read or unpacked, is empty or does not consist of whole
/// images, or if a label is out of range.
pub fn cifar10(path: impl AsRef<Path>) -> Result<TrainTest<Cifar10>> {
    cifar(path.as_ref(), &CIFAR10)
}

const CIFAR10: Cifar = Cifar {
    classes: CIFAR10_CLASSES,
    label_bytes: 1,
    labels: "labels",
    places: [
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
    ],
    training: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
    test: "test_batch",
};

/// Reads CIFAR-100 with its 100 fine classes as published, in its binary or Python version:
/// `cifar-100-binary.tar.gz` or `cifar-100-python.tar.gz`, or what they unpack to. `path` and the
/// source are those of [`cifar10`].
///
/// ```no_run
/// # use evospike::prelude::*;
/// let cifar = data::cifar100("data")?.normalised(&data::Normalisation::CIFAR100)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error in the same cases as [`cifar10`].
pub fn cifar100(path: impl AsRef<Path>) -> Result<TrainTest<Cifar100>> {
    cifar(path.as_ref(), &CIFAR100)
}

const CIFAR100: Cifar = Cifar {
    classes: CIFAR100_CLASSES,
    label_bytes: 2,
    labels: "fine_labels",
    places: [
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
    ],
    training: &["train"],
    test: "test",
};

fn cifar<K: Task>(path: &Path, set: &Cifar) -> Result<TrainTest<K>> {
    fs::metadata(path).map_err(Error::io(path))?;
    let published = set.places.map(|place| path.join(place));
    let place = published.into_iter().find(|place| place.exists()).unwrap_or_else(|| path.into());
    let mut packed = match place.is_file() {
        false => None,
        true => {
            let names = set.training.iter().chain([&set.test]);
            let names = names.flat_map(|name| [format!("{name}.bin"), (*name).into()]);
            Some(files(&place, &names.collect::<Vec<_>>())?)
        }
    };
    let mut find = |name: &str| {
        let file = place.join(name);
        Ok(match &mut packed {
            Some(files) => files.remove(name).map(|bytes| (file, bytes)),
            None if file.is_file() => {
                let bytes = fs::read(&file).map_err(Error::io(&file))?;
                Some((file, bytes))
            }
            None => None,
        })
    };
    let mut read = |name: &&str| {
        let binary = format!("{name}.bin");
        if let Some((file, bytes)) = find(&binary)? {
            return cifar_records::<K>(&file, &bytes, set);
        }
        if let Some((file, bytes)) = find(name)? {
            return cifar_pickle::<K>(&file, &bytes, set);
        }
        let expected = format!("`{binary}` or `{name}`");
        Err(Error::data(place.display(), "files", "neither", expected))
    };
    let mut images = |files: &[&str]| {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in files {
            let (more_pixels, more_labels) = read(file)?;
            pixels.extend(more_pixels);
            labels.extend(more_labels);
        }
        let classes = set.classes.split_whitespace().map(Into::into).collect();
        Ok(Images::new(pixels, labels, 255.0, classes))
    };
    TrainTest::new(images(set.training)?, images(&[set.test])?)
}

/// Pixels and labels of a file of the Python version.
fn cifar_pickle<K: Task>(file: &Path, bytes: &[u8], set: &Cifar) -> Result<(Vec<u8>, Vec<u16>)> {
    let pickle = Pickle::read(file, bytes)?;
    let (pixels, labels) = (pickle.array("data", K::SHAPE.size())?, pickle.numbers(set.labels)?);
    let images = pixels.len() / K::SHAPE.size();
    let wrong = |found: String, expected: String| {
        Err(Error::data(file.display(), format!("`{}`", set.labels), found, expected))
    };
    if images == 0 || labels.len() != images {
        let expected = format!("{images}, as many as images, and at least one");
        return wrong(format!("{} labels", labels.len()), expected);
    }
    match labels.iter().find(|&&label| !(0..K::CLASSES as i64).contains(&label)) {
        None => Ok((pixels.to_vec(), labels.iter().map(|&label| label as u16).collect())),
        Some(bad) => wrong(format!("label {bad}"), format!("a class below {}", K::CLASSES)),
    }
}

/// Pixels and labels of a file of the binary version: records of labels, of which the last is used,
/// and the pixels of an image.
fn cifar_records<K: Task>(file: &Path, bytes: &[u8], set: &Cifar) -> Result<(Vec<u8>, Vec<u16>)> {
    let label_bytes = set.label_bytes;
    let record = label_bytes + K::SHAPE.size();
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
    let mut pixels = Vec::with_capacity(bytes.len() - label_bytes * records.len());
    let mut all = Vec::with_capacity(records.len());
    for (number, bytes) in records.enumerate() {
        let (labels, image) = bytes.split_at(label_bytes);
        let limits = &[COARSE_CLASSES.into(), K::CLASSES][2 - label_bytes..];
        for (place, (&label, &limit)) in labels.iter().zip(limits).enumerate() {
            if usize::from(label) >= limit {
                let (offset, found) = (number * record + place, format!("label {label}"));
                return Err(wrong(offset, found, format!("a class below {limit}")));
            }
        }
        all.extend(labels.last().map(|&label| u16::from(label)));
        pixels.extend_from_slice(image);
    }
    Ok((pixels, all))
}

/// Reads a data set of the MNIST family in IDX files, plain or gzip: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, also with a dot
/// before `idx`, with `test` in place of `t10k`, and with `.gz`. The names of classes are "0", "1", ...
///
/// `path` is the folder, or the start that the names of EMNIST's files have in common:
/// `emnist/emnist-balanced` for `emnist/emnist-balanced-train-images-idx3-ubyte` and the other
/// three. EMNIST's images are stored with rows and columns exchanged and stay so, as in torchvision;
/// the labels of its letters begin at 1, so that they are a task of 27 classes.
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
/// Returns an error if a file is missing, or in the same cases as [`idx_files`].
pub fn idx<K: Task>(path: impl AsRef<Path>) -> Result<TrainTest<K>> {
    let path = path.as_ref();
    let mut start = path.as_os_str().to_owned();
    start.push(if path.is_dir() { "/" } else { "-" });
    let find = |splits: &[&str], kind: &str, dimensions: usize| {
        let mut names = Vec::new();
        for split in splits {
            for mark in ["-", "."] {
                let name = format!("{split}-{kind}{mark}idx{dimensions}-ubyte");
                names.extend([name.clone(), name + ".gz"]);
            }
        }
        let file = |name: &String| {
            let mut file = start.clone();
            file.push(name);
            PathBuf::from(file)
        };
        names.iter().map(file).find(|file| file.is_file()).ok_or_else(|| {
            let expected = format!("`{}`", names.join("` or `"));
            Error::data(path.display(), "files", "none", expected)
        })
    };
    let read = |splits: &[&str]| idx_files(find(splits, "images", 3)?, find(splits, "labels", 1)?);
    TrainTest::new(read(&["train"])?, read(&["t10k", "test"])?)
}

/// Reads images and labels from two IDX files of any name, plain or gzip: images x rows x columns
/// bytes (images x channels x rows x columns for more than one channel), and one byte per label.
///
/// ```no_run
/// # use evospike::prelude::*;
/// type Balanced = data::Classify<1, 28, 47>; // EMNIST
/// let training = data::idx_files::<Balanced>("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if a file cannot be read or unpacked, is not an IDX file of bytes, has no
/// images or images of another size, or is shorter or longer than its header says, if the numbers
/// of labels and images differ, or if a label is out of range.
pub fn idx_files<K: Task>(
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
) -> Result<Images<Whole, K>> {
    let opened = |path| open(path).map(|(reader, packed)| IdxFile { path, reader, packed });
    let files = [opened(images.as_ref())?, opened(labels.as_ref())?];
    idx_of(files, numbered(K::CLASSES))
}

/// An open IDX file.
pub(super) struct IdxFile<'a, R> {
    pub path: &'a Path,
    pub reader: R,
    /// Whether the reader unpacks the file.
    pub packed: bool,
}

/// Reads images and labels, whose classes have these names, from two IDX files.
pub(super) fn idx_of<K: Task, R: Read>(
    [images, labels]: [IdxFile<'_, R>; 2],
    names: Vec<String>,
) -> Result<Images<Whole, K>> {
    let (images_path, file) = (images.path, labels.path);
    let item = [K::SHAPE.channels, K::SHAPE.height, K::SHAPE.width];
    let pixels = idx_bytes(images, &item[usize::from(item[0] == 1)..])?;
    let labels = idx_bytes(labels, &[])?;
    let count = pixels.len() / K::SHAPE.size();
    if labels.len() != count {
        return Err(Error::data(
            file.display(),
            "byte 4",
            format!("{} labels", labels.len()),
            format!("{count}, the number of images in {}", images_path.display()),
        ));
    }
    if let Some(i) = labels.iter().position(|&label| label as usize >= K::CLASSES) {
        return Err(Error::data(
            file.display(),
            format!("byte {}", 8 + i),
            format!("label {}", labels[i]),
            format!("a class below {}", K::CLASSES),
        ));
    }
    let labels = labels.into_iter().map(u16::from).collect();
    Ok(Images::new(pixels, labels, 255.0, names))
}

/// Reads the bytes of an IDX file whose dimensions after the first are `item`. Memory grows with
/// the bytes that are read, never with the sizes in the header.
fn idx_bytes<R: Read>(file: IdxFile<'_, R>, item: &[usize]) -> Result<Vec<u8>> {
    let IdxFile { path, mut reader, packed } = file;
    let wrong = |offset: usize, found: String, expected: String| {
        let unpacked = if packed { " unpacked" } else { "" };
        let place = format!("byte {offset}{unpacked}");
        Error::data(path.display(), place, found, expected)
    };
    let mut read = |offset: usize, limit: u64| {
        let mut bytes = Vec::new();
        match reader.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) if packed => {
                Err(wrong(offset + bytes.len(), error.to_string(), "gzip data".into()))
            }
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
    let total = item.iter().try_fold(sizes[0], |n, &side| n.checked_mul(side));
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

#[cfg(test)]
mod tests;
