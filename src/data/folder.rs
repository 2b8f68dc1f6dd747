//! Images in folders, one folder a class.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, crop_imm, resize};
use image::{ImageBuffer, ImageReader, Limits, Pixel};
use rayon::prelude::*;

use super::images::{Images, Task, TrainTest, Whole};
use crate::ann::layers::Shape;
use crate::base::error::{Error, Result};
use crate::base::progress::Progress;

/// Images decoded between two steps of the progress.
const CHUNK: usize = 256;
/// Bytes that one decoded image may take: about 89 million pixels, ten times a large photograph's.
const DECODED_LIMIT: u64 = 256 << 20;
/// Of which for each byte of the file: deflate makes 1032 of one at most, and PNG 8 pixels of 4 bytes
/// of each of those. JPEG stays far below.
const DECODED_MOST: u64 = 1032 * 8 * 4;
/// Longer side of an image that is resized, in shorter sides: resizing takes memory with it.
const ASPECT_LIMIT: u32 = 32;

/// A data set in folders, as ImageNet comes: `train/<class>/*` and `test/<class>/*` (or `val`
/// where there is no `test`), JPEG or PNG.
///
/// Classes and files are taken in the order of their names, so an image's
/// [`index`](Images::index) is its place in the sorted list of all files of its split. Files whose
/// name starts with a dot are skipped. Images of the task's size are taken as they are. Others are
/// resized so that their shorter side is 256/224 of the task's (bilinear, antialiased), of which
/// the middle is cut out: for ImageNet, torchvision's `Resize(256)` and `CenterCrop(224)`. Grey and
/// colour are converted to what the task has, transparency and orientation tags are ignored.
///
/// All pixels stay in memory, a byte each: 150 kB an image for ImageNet.
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
/// As for [`class_folders`], and splits whose classes differ.
pub fn folder<K: Task>(folder: impl AsRef<Path>) -> Result<TrainTest<K>> {
    let folder = folder.as_ref();
    let test = ["test", "val"].map(|name| folder.join(name));
    let Some(test) = test.iter().find(|folder| folder.is_dir()) else {
        entries(folder)?; // a folder that is not there is told as such
        let expected = "a folder `test` or `val`";
        return Err(Error::data(
            folder.display(),
            "folders",
            "neither",
            expected,
        ));
    };
    // Both are listed before one is decoded, which takes longer.
    let (training, test) = (list::<K>(&folder.join("train"))?, list::<K>(test)?);
    let mut names = training.names.iter().zip(&test.names);
    if let Some((expected, found)) = names.find(|(training, test)| training != test) {
        return Err(Error::data(
            test.folder.display(),
            "classes",
            format!("`{found}`"),
            format!("`{expected}`, as in {}", training.folder.display()),
        ));
    }
    TrainTest::new(decode_all(training)?, decode_all(test)?)
}

/// Images in folders that are not divided into training and test images: `<class>/*`. Everything
/// else is as for [`folder`].
///
/// ```no_run
/// # use evospike::prelude::*;
/// let pets = data::class_folders::<data::Classify<3, 32, 2>>("pets")?; // pets/cat/1.jpg, ...
/// let parts = pets.split(Shares::default(), 0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// A task of neither 1 nor 3 channels; folders or files that cannot be read; another number of
/// classes than the task's; a class without images; a file that is no JPEG or PNG image, breaks
/// off, is damaged, has more than about 89 million pixels or than its bytes can hold, or, where it
/// must be resized, is more than 32 times as long as wide.
pub fn class_folders<K: Task>(folder: impl AsRef<Path>) -> Result<Images<Whole, K>> {
    decode_all(list::<K>(folder.as_ref())?)
}

struct Listing {
    folder: PathBuf,
    names: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u16>,
}

/// What a folder holds, sorted, less what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
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

fn list<K: Task>(folder: &Path) -> Result<Listing> {
    let mut listing = Listing {
        folder: folder.into(),
        names: Vec::new(),
        files: Vec::new(),
        labels: Vec::new(),
    };
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
            return Err(Error::data(
                other.display(),
                "name",
                "another kind",
                expected,
            ));
        }
        if files.is_empty() {
            let expected = "at least one image";
            return Err(Error::data(class.display(), "files", "none", expected));
        }
        listing.labels.extend(vec![label as u16; files.len()]);
        listing.files.extend(files);
        let name = class.file_name().unwrap_or_default();
        listing.names.push(name.to_string_lossy().into_owned());
    }
    Ok(listing)
}

fn decode_all<K: Task>(listing: Listing) -> Result<Images<Whole, K>> {
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
    for (number, (files, pixels)) in chunks.zip(pixels.chunks_mut(CHUNK * size)).enumerate() {
        let images = files.par_iter().zip(pixels.par_chunks_exact_mut(size));
        // The first, so that the same error is reported every time.
        let error = images.find_map_first(|(file, out)| decode(file, K::SHAPE, out).err());
        if let Some(error) = error {
            return Err(error);
        }
        progress.step(|| format!("{} images", number * CHUNK + files.len()));
    }
    progress.finish(|| format!("{count} images"));
    Ok(Images::new(pixels, listing.labels, 255.0, listing.names))
}

/// Writes the image of a file as channels, rows, columns.
fn decode(file: &Path, shape: Shape, out: &mut [u8]) -> Result<()> {
    let wrong = |place: &str, found: String, expected: &str| {
        Error::data(file.display(), place, found, expected)
    };
    let bytes = fs::read(file).map_err(Error::io(file))?;
    if let Some(offset) = jpeg_breaks_off(&bytes) {
        let place = format!("byte {offset}");
        return Err(wrong(
            &place,
            "the end of the file".into(),
            "the rest of a JPEG image",
        ));
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
    let (long, short) = (
        image.width().max(image.height()),
        image.width().min(image.height()),
    );
    if long / short.max(1) >= ASPECT_LIMIT {
        let found = format!("{} x {} pixels", image.height(), image.width());
        return Err(wrong(
            "size",
            found,
            "sides that differ by less than a factor of 32",
        ));
    }
    match shape.channels {
        1 => place(fit(image.into_luma8(), shape), out),
        _ => place(fit(image.into_rgb8(), shape), out),
    }
    Ok(())
}

type Raster<P> = ImageBuffer<P, Vec<u8>>;

/// The image in the task's size.
fn fit<P: Pixel<Subpixel = u8> + 'static>(image: Raster<P>, shape: Shape) -> Raster<P> {
    let (height, width) = (shape.height as u32, shape.width as u32);
    if image.dimensions() == (width, height) {
        return image;
    }
    let enlarged = |side: u32| (f64::from(side) * 256.0 / 224.0).round();
    let (tall, wide) = (f64::from(image.height()), f64::from(image.width()));
    let (least_tall, least_wide) = (enlarged(height), enlarged(width));
    let scale = (least_tall / tall).max(least_wide / wide);
    // One side is met exactly, the other is cut to whole pixels as torchvision does.
    let side = |old: f64, least: f64| ((old * scale + 1e-9) as u32).max(least as u32);
    let (new_tall, new_wide) = (side(tall, least_tall), side(wide, least_wide));
    let resized = resize(&image, new_wide, new_tall, FilterType::Triangle);
    let margin = |new: u32, side: u32| (f64::from(new - side) / 2.0).round_ties_even() as u32;
    let (left, top) = (margin(new_wide, width), margin(new_tall, height));
    crop_imm(&resized, left, top, width, height).to_image()
}

/// From interleaved channels to one channel after the other.
fn place<P: Pixel<Subpixel = u8>>(image: Raster<P>, out: &mut [u8]) {
    let channels = usize::from(P::CHANNEL_COUNT);
    let area = out.len() / channels;
    for (i, pixel) in image.as_raw().chunks_exact(channels).enumerate() {
        for (channel, &value) in pixel.iter().enumerate() {
            out[channel * area + i] = value;
        }
    }
}

/// Where a JPEG file ends before its image does; none for other files. The decoder would fill the
/// missing part with grey and say nothing.
fn jpeg_breaks_off(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    let mut at = 2;
    loop {
        // In the pixel data, 0xff 0x00 is a byte and 0xd0..=0xd7 are marks to resume at.
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
            (0x01 | 0xd8, _) => {} // nothing belongs to them
            (_, Some(size)) => at += usize::from(u16::from_be_bytes([size[0], size[1]])).max(2),
            (_, None) => return Some(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::base::random::{Stream, rng};
    use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
    use rand::RngExt;
    use std::process::Command;

    type Tiny = Classify<3, 8, 2>;

    /// A picture whose pixels all differ.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 9) as u8, (y * 9) as u8, (x + y) as u8])
        })
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Two classes with an image each in both splits.
    fn tiny() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (split, class) in [("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")] {
            let class = root.path().join(split).join(class);
            fs::create_dir_all(&class).unwrap();
            fs::write(
                class.join("1.png"),
                encoded(picture(8, 8), ImageFormat::Png),
            )
            .unwrap();
        }
        root
    }

    fn error(root: &Path) -> String {
        folder::<Tiny>(root).unwrap_err().to_string()
    }

    #[test]
    fn classes_and_files_come_in_the_order_of_their_names() {
        let root = tiny();
        let root = root.path();
        for (name, value) in [("train/b/10.png", 10), ("train/b/09.PNG", 9)] {
            let image = RgbImage::from_pixel(8, 8, Rgb([value, 0, 0]));
            fs::write(root.join(name), encoded(image, ImageFormat::Png)).unwrap();
        }
        fs::write(root.join("train/.DS_Store"), "").unwrap();
        fs::write(root.join("train/a/.DS_Store"), "").unwrap();
        let tiny = folder::<Tiny>(root).unwrap();
        assert_eq!(tiny.training.class_names(), ["a", "b"]);
        let labels: Vec<usize> = (0..4).map(|i| tiny.training.label(i)).collect();
        assert_eq!(labels, [0, 1, 1, 1]);
        assert_eq!((tiny.training.len(), tiny.test.len()), (4, 2));
        let first: Vec<u8> = (0..4).map(|i| tiny.training.store.bytes(i)[0]).collect();
        assert_eq!(first, [0, 9, 0, 10]); // 09, 1, 10 within b
        // Channels, rows, columns.
        let image = tiny.training.store.bytes(0);
        assert_eq!(image[8 + 2], 2 * 9);
        assert_eq!(image[64 + 8 + 2], 9);
        assert_eq!(image[128 + 8 + 2], 3);
    }

    #[test]
    fn val_stands_for_test() {
        let root = tiny();
        fs::rename(root.path().join("test"), root.path().join("val")).unwrap();
        assert_eq!(folder::<Tiny>(root.path()).unwrap().test.len(), 2);
        fs::rename(root.path().join("val"), root.path().join("other")).unwrap();
        assert!(error(root.path()).contains("expected a folder `test` or `val`"));
        let nowhere = error(&root.path().join("nowhere"));
        assert!(nowhere.contains("nowhere: "), "{nowhere}");
        fs::rename(root.path().join("other"), root.path().join("test")).unwrap();
        fs::remove_dir_all(root.path().join("train")).unwrap();
        assert!(
            error(root.path()).contains("train: "),
            "{}",
            error(root.path())
        );
    }

    #[test]
    fn colours_and_sizes_are_fitted() {
        let decoded = |bytes: Vec<u8>, shape: Shape| {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join("x");
            fs::write(&file, bytes).unwrap();
            let mut out = vec![0; shape.size()];
            decode(&file, shape, &mut out).map(|()| out)
        };
        let grey = GrayImage::from_fn(8, 8, |x, y| image::Luma([(x + 8 * y) as u8]));
        let grey = encoded(grey, ImageFormat::Png);
        let channel: Vec<u8> = (0..64).collect();
        assert_eq!(
            decoded(grey.clone(), Shape::new(3, 8, 8)).unwrap(),
            channel.repeat(3)
        );
        assert_eq!(decoded(grey, Shape::new(1, 8, 8)).unwrap(), channel);
        let white = RgbImage::from_pixel(8, 8, Rgb([255; 3]));
        let white = encoded(white, ImageFormat::Png);
        assert_eq!(decoded(white, Shape::new(1, 8, 8)).unwrap(), [255; 64]);

        // 256 / 224 of 14 is 16: nothing is resized, and the middle 14 x 14 of 16 x 20 remain.
        let wide = encoded(picture(20, 16), ImageFormat::Png);
        let out = decoded(wide, Shape::new(3, 14, 14)).unwrap();
        assert_eq!((out[0], out[13]), (3 * 9, 16 * 9));
        assert_eq!((out[196], out[2 * 196 - 1]), (9, 14 * 9));
        // A step between black and white stays in the middle, and even areas stay even.
        for (width, height) in [(224, 224), (100, 300), (300, 100), (5, 5), (3, 90)] {
            let step = GrayImage::from_fn(width, height, |x, _| {
                image::Luma([255 * u8::from(2 * x >= width)])
            });
            let out = decoded(encoded(step, ImageFormat::Png), Shape::new(1, 28, 28)).unwrap();
            assert_eq!((out[28], out[55]), (0, 255), "{width} x {height}");
        }
        let thin = encoded(picture(1, 32), ImageFormat::Png);
        let error = decoded(thin, Shape::new(3, 8, 8)).unwrap_err().to_string();
        assert!(error.contains("size: found 32 x 1 pixels"), "{error}");
    }

    #[test]
    fn what_is_wrong_in_a_folder_is_named() {
        for (broken, expected) in [
            ("train/a/notes.txt", "notes.txt, name: found another kind"),
            ("train/a/no-ending", "no-ending, name: found another kind"),
            ("train/labels.csv", "labels.csv, folder: found a file"),
            ("train/a/2.png", "2.png, image: found `"),
            ("train/a/2.jpg", "2.jpg, image: found `"),
        ] {
            let root = tiny();
            fs::write(root.path().join(broken), "").unwrap();
            let error = error(root.path());
            assert!(error.contains(expected), "{error}");
        }
        let root = tiny();
        let root = root.path();
        fs::create_dir(root.join("train/c")).unwrap();
        assert!(error(root).contains("train, classes: found 3 folders, expected 2"));
        fs::remove_dir_all(root.join("train/b")).unwrap();
        assert!(
            error(root).contains("c, files: found none"),
            "{}",
            error(root)
        );
        fs::create_dir(root.join("train/c/1.png")).unwrap();
        assert!(error(root).contains("1.png, name: found another kind"));
        fs::remove_dir(root.join("train/c/1.png")).unwrap();
        fs::copy(root.join("test/b/1.png"), root.join("train/c/1.png")).unwrap();
        assert!(error(root).contains("test, classes: found `b`, expected `c`, as in "));
        let error = class_folders::<Classify<2, 8, 2>>(root.join("test")).unwrap_err();
        assert!(error.to_string().contains("expected 1 or 3 channels"));
    }

    #[test]
    fn broken_images_are_named_and_never_panic() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("image");
        let shape = Shape::new(3, 40, 40);
        let mut out = vec![0; shape.size()];
        let mut decoded = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            decode(&file, shape, &mut out).map_err(|error| error.to_string())
        };
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let whole = encoded(picture(40, 40), format);
            decoded(&whole).unwrap();
            let mut padded = whole.clone();
            padded.extend([0; 9]); // cameras do this
            decoded(&padded).unwrap();
            for end in 0..whole.len() - 1 {
                // A PNG image is whole before its last, empty chunk.
                if format == ImageFormat::Jpeg || end < whole.len() - 12 {
                    let error = decoded(&whole[..end]).unwrap_err();
                    assert!(error.contains("image, "), "{error}");
                }
            }
            // Whatever a byte becomes, there is an image or an error.
            let mut rng = rng(0, Stream::Split);
            for _ in 0..1000 {
                let mut broken = whole.clone();
                for _ in 0..rng.random_range(1..4) {
                    let at = rng.random_range(0..broken.len());
                    broken[at] = rng.random();
                }
                let _ = decoded(&broken);
            }
        }
        // A header that promises 65,535 x 65,535 pixels.
        let mut forged = encoded(picture(40, 40), ImageFormat::Jpeg);
        let frame = forged.windows(2).position(|b| b == [0xff, 0xc0]).unwrap();
        forged[frame + 5..frame + 9].fill(0xff);
        let error = decoded(&forged).unwrap_err();
        assert!(error.contains("image, image: found `"), "{error}");
        let mut cut = encoded(picture(40, 40), ImageFormat::Jpeg);
        let end = cut.len() - 5;
        cut.truncate(end);
        let error = decoded(&cut).unwrap_err();
        assert!(
            error.contains(&format!("image, byte {end}: found the end")),
            "{error}"
        );
    }

    /// The images that PyTorch's reference network saw, against this reader's.
    #[test]
    fn real_cifar_images_are_read_as_elsewhere() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        let archive = shared.join("cifar10/cifar10-jpeg.tar.xz");
        let root = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.arg("xJf")
            .arg(&archive)
            .arg("-C")
            .arg(root.path())
            .arg("test");
        if !archive.exists() || !tar.status().is_ok_and(|status| status.success()) {
            println!("skipped: no {} or no tar and xz", archive.display());
            return;
        }
        let images = class_folders::<Cifar10>(root.path().join("test")).unwrap();
        let names = "airplane automobile bird cat deer dog frog horse ship truck";
        assert_eq!(images.class_names().join(" "), names);
        assert_eq!(images.len(), 10_000);
        assert!((0..10_000).all(|i| images.label(i) == i / 1000));

        let models = shared.join("models");
        let (list, file) = (
            models.join("test-subset-1000.txt"),
            models.join("vgg15-w0.5-cifar10-reference.safetensors"),
        );
        if !list.exists() || !file.exists() {
            println!("skipped: no {} or {}", list.display(), file.display());
            return;
        }
        let listed = images.listed(list).unwrap();
        let file = fs::read(file).unwrap();
        let (size, rest) = file.split_at(8);
        let size = u64::from_le_bytes(size.try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&rest[..size]).unwrap();
        let start = header["images"]["data_offsets"][0].as_u64().unwrap() as usize;
        let expected = rest[size + start..].chunks_exact(3072).take(64);
        let (mut equal, mut most) = (0, 0);
        for (i, expected) in expected.enumerate() {
            let image = images.store.bytes(listed.index(i));
            for (&a, &b) in image.iter().zip(expected) {
                equal += usize::from(a == b);
                most = most.max(a.abs_diff(b));
            }
        }
        println!(
            "{equal} of {} pixels equal, the rest within {most}",
            64 * 3072
        );
        assert!(most <= 4 && equal > 64 * 3072 / 2);
    }
}
