//! Images in folders, one folder per class.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageReader, Limits, Luma, Pixel, Rgb};
use rayon::prelude::*;

use super::images::{Images, Whole};
use super::shape::Shape;
use super::split::TrainTest;
use super::tasks::Task;
use crate::base::{Error, Progress, Result, require};

/// Number of images decoded per step of the progress bar.
const CHUNK: usize = 256;
/// Largest size of a decoded image in bytes: about 89 million pixels, ten times a large photograph.
const DECODED_LIMIT: u64 = 256 << 20;
/// Largest size of a decoded image in bytes per byte of its file: deflate expands a byte to at most
/// 1032, and PNG each of those to 8 pixels of 4 bytes. JPEG stays far below.
const DECODED_MOST: u64 = 1032 * 8 * 4;
/// Limit of an image's aspect ratio for resizing, which takes memory in proportion.
const ASPECT_LIMIT: u32 = 32;

/// Reads a data set of JPEG or PNG files in folders, like ImageNet: `train/<class>/*` and
/// `test/<class>/*` (or the first of `val`, `valid` and `validation` if there is no `test`).
///
/// Classes and files are sorted by name, as torchvision's `ImageFolder` does; an image's
/// [`index`](Images::index) is its position in the sorted list of all files of its split. Files whose
/// name starts with a dot are skipped. Images of the task's size are used unchanged. Others are
/// resized so that their shorter side is 256/224 of the task's (bilinear, antialiased) and cropped at
/// the centre: for ImageNet, torchvision's `Resize(256)` and `CenterCrop(224)`. Channels are red,
/// green and blue, in this order. For a task of one channel, colours become grey by
/// [`FolderSettings::grey`]; for one of three, grey is repeated. Transparency and orientation tags
/// are ignored.
///
/// All pixels stay in memory, one byte per value: 150 kB per image for ImageNet.
///
/// ```no_run
/// # use evospike::prelude::*;
/// type Pets = data::Classify<3, 32, 2>; // pets/train/cat/1.jpg, pets/train/dog/1.jpg, ...
/// let pets = data::folder::<Pets>("pets")?;
/// assert_eq!(pets.training.class_names(), ["cat", "dog"]);
/// let parts = pets.hold_out(0.2, 0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if [`class_folders`] does, or if the splits have different classes.
pub fn folder<K: Task>(folder: impl AsRef<Path>) -> Result<TrainTest<K>> {
    Ok(folder_with(folder, &FolderSettings::default())?.0)
}

/// Settings of reading images in folders.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderSettings {
    /// Largest number of files that are left out because they cannot be read as images.
    pub skip: usize,
    /// Largest number of classes without an image in each of the parts: for images of some of the
    /// classes that a trained network knows. The folders of these classes are there, but empty.
    pub empty_classes: usize,
    /// Weights of red, green and blue in the grey of a task of one channel: not below 0, and 1
    /// together. Those of ITU-R 601 are the default, as in Pillow, torchvision and OpenCV.
    pub grey: [f64; 3],
}

impl Default for FolderSettings {
    fn default() -> Self {
        Self { skip: 0, empty_classes: 0, grey: [0.299, 0.587, 0.114] }
    }
}

impl FolderSettings {
    fn check(&self) -> Result<()> {
        let holds = self.grey.iter().all(|&weight| weight >= 0.0)
            && (self.grey.iter().sum::<f64>() - 1.0).abs() < 1e-3;
        require(holds, "grey", format!("{:?}", self.grey), "weights from 0, 1 together")
    }
}

/// Reads a data set as [`folder`] does, by other settings: it can leave out files that cannot be
/// read as images, and gives an error for each of them. The others keep their
/// [`index`](Images::index).
///
/// ```no_run
/// # use evospike::prelude::*;
/// let settings = data::FolderSettings { skip: 10, ..Default::default() };
/// let (pets, skipped) = data::folder_with::<data::Classify<3, 32, 2>>("pets", &settings)?;
/// println!("{} images left out: {skipped:?}", skipped.len());
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error in the same cases as [`folder`], but for the first `skip` files that cannot be
/// read; if nothing is left of a class, or if the weights of grey are out of range.
pub fn folder_with<K: Task>(
    folder: impl AsRef<Path>,
    settings: &FolderSettings,
) -> Result<(TrainTest<K>, Vec<Error>)> {
    let folder = folder.as_ref();
    let test = ["test", "val", "valid", "validation"].map(|name| folder.join(name));
    let Some(test) = test.iter().find(|folder| folder.is_dir()) else {
        entries(folder)?; // reports a missing folder as such
        let expected = "a folder `test`, `val`, `valid` or `validation`";
        return Err(Error::data(folder.display(), "folders", "none", expected));
    };
    // Both are listed first: decoding takes long, and an error should come before it.
    let list = |folder: &Path| list::<K>(folder, settings);
    let (training, test) = (list(&folder.join("train"))?, list(test)?);
    let mut names = training.names.iter().zip(&test.names);
    if let Some((expected, found)) = names.find(|(training, test)| training != test) {
        return Err(Error::data(
            test.folder.display(),
            "classes",
            format!("`{found}`"),
            format!("`{expected}`, as in {}", training.folder.display()),
        ));
    }
    let mut skipped = Vec::new();
    let training = decode_all(training, settings, &mut skipped)?;
    let test = decode_all(test, settings, &mut skipped)?;
    Ok((TrainTest::new(training, test)?, skipped))
}

/// Reads images in folders without a division into training and test images: `<class>/*`. Otherwise
/// the same as [`folder`].
///
/// ```no_run
/// # use evospike::prelude::*;
/// let pets = data::class_folders::<data::Classify<3, 32, 2>>("pets")?; // pets/cat/1.jpg, ...
/// let parts = pets.split(Shares::default(), 0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if the task has neither 1 nor 3 channels, a folder or file cannot be read, the
/// number of classes is not the task's, a class has no images, or a file is not a JPEG or PNG
/// image, is truncated or damaged, has more than about 89 million pixels or more than its bytes can
/// hold, or must be resized and has an aspect ratio above 32.
pub fn class_folders<K: Task>(folder: impl AsRef<Path>) -> Result<Images<Whole, K>> {
    Ok(class_folders_with(folder, &FolderSettings::default())?.0)
}

/// Reads images as [`class_folders`] does, by other settings, as [`folder_with`] does.
///
/// # Errors
/// Returns an error in the same cases as [`class_folders`] and [`folder_with`].
pub fn class_folders_with<K: Task>(
    folder: impl AsRef<Path>,
    settings: &FolderSettings,
) -> Result<(Images<Whole, K>, Vec<Error>)> {
    let mut skipped = Vec::new();
    let images = decode_all(list::<K>(folder.as_ref(), settings)?, settings, &mut skipped)?;
    Ok((images, skipped))
}

/// Files of images and their classes.
pub(super) struct Listing {
    pub folder: PathBuf,
    /// Names of the classes.
    pub names: Vec<String>,
    pub files: Vec<PathBuf>,
    pub labels: Vec<u16>,
}

impl Listing {
    /// No files yet.
    pub fn new(folder: &Path, names: &[String]) -> Self {
        Self { folder: folder.into(), names: names.into(), files: Vec::new(), labels: Vec::new() }
    }
}

/// Lists the files and folders in a folder, sorted, without hidden ones.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn list<K: Task>(folder: &Path, settings: &FolderSettings) -> Result<Listing> {
    let mut empty = 0;
    let mut listing = Listing::new(folder, &[]);
    let classes = entries(folder)?;
    if let Some(file) = classes.iter().find(|path| !path.is_dir()) {
        let expected = "nothing but a folder for each class";
        return Err(Error::data(file.display(), "folder", "a file", expected));
    }
    if classes.len() != K::CLASSES {
        return Err(Error::data(
            folder.display(),
            "classes",
            format!("{} folders", classes.len()),
            format!("{}, one a class", K::CLASSES),
        ));
    }
    for (label, class) in classes.iter().enumerate() {
        let files = entries(class)?;
        let is_image = |path: &&PathBuf| {
            let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
            let named = ending.is_some_and(|e| e == "jpg" || e == "jpeg" || e == "png");
            named && path.is_file()
        };
        if let Some(other) = files.iter().find(|path| !is_image(path)) {
            let expected = "a file .jpg, .jpeg or .png";
            return Err(Error::data(other.display(), "name", "another kind", expected));
        }
        empty += usize::from(files.is_empty());
        if empty > settings.empty_classes {
            return Err(no_image(class, "none", settings));
        }
        listing.labels.extend(vec![label as u16; files.len()]);
        listing.files.extend(files);
        let name = class.file_name().unwrap_or_default();
        listing.names.push(name.to_string_lossy().into_owned());
    }
    Ok(listing)
}

/// Decodes all files but those that cannot be, whose errors it adds to `skipped`.
pub(super) fn decode_all<K: Task>(
    listing: Listing,
    settings: &FolderSettings,
    skipped: &mut Vec<Error>,
) -> Result<Images<Whole, K>> {
    settings.check()?;
    let (size, count) = (K::SHAPE.size(), listing.files.len());
    if ![1, 3].contains(&K::SHAPE.channels) {
        return Err(Error::parameter("task", K::SHAPE, "1 or 3 channels"));
    }
    let mut pixels = Vec::new();
    let total = count.checked_mul(size);
    if total.is_none_or(|total| pixels.try_reserve_exact(total).is_err()) {
        return Err(Error::data(
            listing.folder.display(),
            "files",
            format!("{count} images of {}", K::SHAPE),
            "images that fit into memory",
        ));
    }
    pixels.resize(count * size, 0);
    let label = format!("images of {}", listing.folder.display());
    let mut progress = Progress::new(label, count.div_ceil(CHUNK));
    let chunks = listing.files.chunks(CHUNK);
    let mut missing = Vec::new();
    for (number, (files, pixels)) in chunks.zip(pixels.chunks_mut(CHUNK * size)).enumerate() {
        let images = files.par_iter().zip(pixels.par_chunks_exact_mut(size));
        // In the order of files, so that every run reports the same.
        let errors = images.enumerate().filter_map(|(i, (file, out))| {
            let error = decode(file, K::SHAPE, settings.grey, out).err()?;
            Some((i, error))
        });
        for (i, error) in errors.collect::<Vec<_>>() {
            if skipped.len() == settings.skip {
                return Err(error);
            }
            skipped.push(error);
            missing.push(number * CHUNK + i);
        }
        progress.step(|| format!("{} images", number * CHUNK + files.len()));
    }
    let (left, out) = (count - missing.len(), missing.len());
    progress.finish(|| format!("{left} images, {out} left out"));
    let images = Images::new(pixels, listing.labels, 255.0, listing.names).without(&missing);
    // A network cannot learn or be tested on a class that is there in name only.
    let classes = images.classes();
    let mut empty = classes.iter().zip(images.class_names()).filter(|(own, _)| own.is_empty());
    match empty.nth(settings.empty_classes) {
        None => Ok(images),
        Some((_, name)) => {
            let class = listing.folder.join(name);
            Err(no_image(&class, "none that can be read", settings))
        }
    }
}

/// Error of a class without an image, one more than are allowed.
fn no_image(class: &Path, found: &str, settings: &FolderSettings) -> Error {
    let expected = match settings.empty_classes {
        0 => "at least one image (`empty_classes` allows classes without)".to_owned(),
        most => format!("at least one image in all but {most} classes"),
    };
    Error::data(class.display(), "files", found, expected)
}

/// Decodes a file to channels x rows x columns.
fn decode(file: &Path, shape: Shape, weights: [f64; 3], out: &mut [u8]) -> Result<()> {
    let wrong = |place: &str, found: String, expected: &str| {
        Error::data(file.display(), place, found, expected)
    };
    let bytes = fs::read(file).map_err(Error::io(file))?;
    if let Some(offset) = jpeg_breaks_off(&bytes) {
        let place = format!("byte {offset}");
        return Err(wrong(&place, "the end of the file".into(), "the rest of a JPEG image"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_LIMIT.min(DECODED_MOST * bytes.len() as u64));
    let image = ImageReader::new(Cursor::new(&bytes))
        .with_guessed_format() // by content: some PNG images of ImageNet are called .JPEG
        .map_err(Error::io(file))
        .and_then(|mut reader| {
            reader.limits(limits);
            let image = reader.decode();
            image.map_err(|e| wrong("image", format!("`{e}`"), "a whole JPEG or PNG image"))
        })?;
    let (long, short) = (image.width().max(image.height()), image.width().min(image.height()));
    if long / short.max(1) >= ASPECT_LIMIT {
        let found = format!("{} x {} pixels", image.height(), image.width());
        return Err(wrong("size", found, "sides that differ by less than a factor of 32"));
    }
    match shape.channels {
        1 => place(fit(grey(image, weights), shape), out),
        _ => place(fit(image.into_rgb8(), shape), out),
    }
    Ok(())
}

/// Converts to grey in whole numbers, as Pillow does; the image crate's own conversion has the
/// weights of Rec. 709.
fn grey(image: DynamicImage, weights: [f64; 3]) -> GrayImage {
    if !image.color().has_color() {
        return image.into_luma8();
    }
    let [red, green, blue] = weights.map(|weight| (weight * 65_536.0).round() as u32);
    let value = |pixel: &Rgb<u8>| {
        let [r, g, b] = pixel.0.map(u32::from);
        (red * r + green * g + blue * b + 0x8000) >> 16
    };
    let rgb = image.into_rgb8();
    GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| Luma([value(rgb.get_pixel(x, y)) as u8]))
}

type Raster<P> = ImageBuffer<P, Vec<u8>>;

/// Resizes and crops an image to the task's size.
fn fit<P: Pixel<Subpixel = u8> + 'static>(image: Raster<P>, shape: Shape) -> Raster<P> {
    let (height, width) = (shape.height as u32, shape.width as u32);
    if image.dimensions() == (width, height) {
        return image;
    }
    let enlarged = |side: u32| (f64::from(side) * 256.0 / 224.0).round();
    let (tall, wide) = (f64::from(image.height()), f64::from(image.width()));
    let (least_tall, least_wide) = (enlarged(height), enlarged(width));
    let scale = (least_tall / tall).max(least_wide / wide);
    // The shorter side is exact, the other is rounded down, as in torchvision.
    let side = |old: f64, least: f64| ((old * scale + 1e-9) as u32).max(least as u32);
    let (new_tall, new_wide) = (side(tall, least_tall), side(wide, least_wide));
    let resized = resize(&image, new_wide, new_tall, FilterType::Triangle);
    let margin = |new: u32, side: u32| (f64::from(new - side) / 2.0).round_ties_even() as u32;
    let (left, top) = (margin(new_wide, width), margin(new_tall, height));
    crop_imm(&resized, left, top, width, height).to_image()
}

/// Copies interleaved channels to one channel after the other.
fn place<P: Pixel<Subpixel = u8>>(image: Raster<P>, out: &mut [u8]) {
    let channels = usize::from(P::CHANNEL_COUNT);
    let area = out.len() / channels;
    for (i, pixel) in image.as_raw().chunks_exact(channels).enumerate() {
        for (channel, &value) in pixel.iter().enumerate() {
            out[channel * area + i] = value;
        }
    }
}

/// Offset at which a truncated JPEG file ends; none for whole files and other formats. The decoder
/// would fill the missing part with grey without an error.
fn jpeg_breaks_off(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    let mut at = 2;
    loop {
        // In the pixel data, 0xff 0x00 is a byte and 0xd0..=0xd7 are restart markers.
        let rest = bytes.get(at..).unwrap_or_default();
        let marker = rest
            .windows(2)
            .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7));
        let Some(marker) = marker else {
            return Some(bytes.len());
        };
        at += marker + 2;
        match (bytes[at - 1], bytes.get(at..at + 2)) {
            (0xd9, _) => return None,
            (0x01 | 0xd8, _) => {} // markers without a segment
            (_, Some(size)) => at += usize::from(u16::from_be_bytes([size[0], size[1]])).max(2),
            (_, None) => return Some(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests;
