//! Readers of published data sets in binary files: CIFAR and the MNIST family.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::images::{Images, TrainTest, Whole, numbered};
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

/// Reads CIFAR-10 in its binary version: `data_batch_1.bin` to `data_batch_5.bin` and
/// `test_batch.bin`, in `folder` or in `folder/cifar-10-batches-bin`.
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
/// Returns an error if a file cannot be read, is empty or does not consist of whole images, or if a
/// label is out of range.
pub fn cifar10(folder: impl AsRef<Path>) -> Result<TrainTest<Cifar10>> {
    let folder = inside(folder.as_ref(), "cifar-10-batches-bin");
    let training = [1, 2, 3, 4, 5].map(|number| folder.join(format!("data_batch_{number}.bin")));
    cifar(&training, folder.join("test_batch.bin"), CIFAR10_CLASSES, 1)
}

/// Reads CIFAR-100 with its 100 fine classes in its binary version: `train.bin` and `test.bin`, in
/// `folder` or in `folder/cifar-100-binary`. The source is that of [`cifar10`].
///
/// ```no_run
/// # use evospike::prelude::*;
/// let cifar = data::cifar100("data")?.normalised(&data::Normalisation::CIFAR100)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error in the same cases as [`cifar10`].
pub fn cifar100(folder: impl AsRef<Path>) -> Result<TrainTest<Cifar100>> {
    let folder = inside(folder.as_ref(), "cifar-100-binary");
    let training = [folder.join("train.bin")];
    cifar(&training, folder.join("test.bin"), CIFAR100_CLASSES, 2)
}

/// Folder to which the published archive unpacks if it exists, otherwise `folder`.
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

/// Reads records of `label_bytes` labels, of which the last is used, and the pixels of an image.
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

/// Reads a data set of the MNIST family in IDX files, plain or gzip: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, with or
/// without `.gz`. The names of classes are "0", "1", ...
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
    if let Some(i) = labels.iter().position(|&label| label as usize >= K::CLASSES) {
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

/// Reads the bytes of an IDX file whose dimensions after the first are `item`. Memory grows with
/// the bytes that are read, never with the sizes in the header.
fn idx_bytes(path: &Path, item: &[usize]) -> Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let start = file.fill_buf().map_err(Error::io(path))?;
    let packed = start.starts_with(&[0x1f, 0x8b]); // the magic of gzip
    let mut reader: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
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
