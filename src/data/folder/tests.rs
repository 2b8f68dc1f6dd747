use std::process::Command;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use rand::RngExt;

use super::super::*;
use super::*;
use crate::base::random::{Stream, rng};

type Tiny = Classify<3, 8, 2>;

/// A picture whose pixels all differ.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 9) as u8, (y * 9) as u8, (x + y) as u8]))
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
        fs::write(class.join("1.png"), encoded(picture(8, 8), ImageFormat::Png)).unwrap();
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
    let mut name = "test";
    for other in ["val", "valid", "validation", "other"] {
        fs::rename(root.path().join(name), root.path().join(other)).unwrap();
        name = other;
        if other != "other" {
            assert_eq!(folder::<Tiny>(root.path()).unwrap().test.len(), 2);
        }
    }
    assert!(error(root.path()).contains("expected a folder `test`, `val`, `valid` or"));
    let nowhere = error(&root.path().join("nowhere"));
    assert!(nowhere.contains("nowhere: "), "{nowhere}");
    fs::rename(root.path().join("other"), root.path().join("test")).unwrap();
    fs::remove_dir_all(root.path().join("train")).unwrap();
    assert!(error(root.path()).contains("train: "), "{}", error(root.path()));
}

#[test]
fn colours_and_sizes_are_fitted() {
    let decoded = |bytes: Vec<u8>, shape: Shape| {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x");
        fs::write(&file, bytes).unwrap();
        let mut out = vec![0; shape.size()];
        decode(&file, shape, FolderSettings::default().grey, &mut out).map(|()| out)
    };
    let grey = GrayImage::from_fn(8, 8, |x, y| image::Luma([(x + 8 * y) as u8]));
    let grey = encoded(grey, ImageFormat::Png);
    let channel: Vec<u8> = (0..64).collect();
    assert_eq!(decoded(grey.clone(), Shape::new(3, 8, 8)).unwrap(), channel.repeat(3));
    assert_eq!(decoded(grey, Shape::new(1, 8, 8)).unwrap(), channel);
    let white = RgbImage::from_pixel(8, 8, Rgb([255; 3]));
    let white = encoded(white, ImageFormat::Png);
    assert_eq!(decoded(white, Shape::new(1, 8, 8)).unwrap(), [255; 64]);
    // What Pillow's `convert("L")` gives.
    for (colour, expected) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([10, 20, 30], 18),
        ([200, 100, 50], 124),
        ([7; 3], 7),
    ] {
        let image = encoded(RgbImage::from_pixel(8, 8, Rgb(colour)), ImageFormat::Png);
        assert_eq!(decoded(image, Shape::new(1, 8, 8)).unwrap(), [expected; 64], "{colour:?}");
    }

    // 256 / 224 of 14 is 16: nothing is resized, and the middle 14 x 14 of 16 x 20 remain.
    let wide = encoded(picture(20, 16), ImageFormat::Png);
    let out = decoded(wide, Shape::new(3, 14, 14)).unwrap();
    assert_eq!((out[0], out[13]), (3 * 9, 16 * 9));
    assert_eq!((out[196], out[2 * 196 - 1]), (9, 14 * 9));
    // A step between black and white stays in the middle, and even areas stay even.
    for (width, height) in [(224, 224), (100, 300), (300, 100), (5, 5), (3, 90)] {
        let step =
            GrayImage::from_fn(width, height, |x, _| image::Luma([255 * u8::from(2 * x >= width)]));
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
    assert!(error(root).contains("c, files: found none"), "{}", error(root));
    fs::create_dir(root.join("train/c/1.png")).unwrap();
    assert!(error(root).contains("1.png, name: found another kind"));
    fs::remove_dir(root.join("train/c/1.png")).unwrap();
    fs::copy(root.join("test/b/1.png"), root.join("train/c/1.png")).unwrap();
    assert!(error(root).contains("test, classes: found `b`, expected `c`, as in "));
    let error = class_folders::<Classify<2, 8, 2>>(root.join("test")).unwrap_err();
    assert!(error.to_string().contains("expected 1 or 3 channels"));
}

#[test]
fn unreadable_images_are_left_out_by_choice() {
    let root = tiny();
    let root = root.path();
    for name in ["train/a/0.png", "train/b/2.jpg", "test/a/0.png"] {
        fs::write(root.join(name), "no image").unwrap();
    }
    let settings = |skip| FolderSettings { skip, ..FolderSettings::default() };
    let (tiny, skipped) = folder_with::<Tiny>(root, &settings(3)).unwrap();
    let names: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    assert!(names[0].contains("train/a/0.png") && names[1].contains("train/b/2.jpg"), "{names:?}");
    assert!(names[2].contains("test/a/0.png") && names.len() == 3, "{names:?}");
    assert_eq!((tiny.training.len(), tiny.test.len()), (2, 2));
    let training = &tiny.training;
    assert_eq!([training.index(0), training.index(1)], [1, 2]);
    assert_eq!([training.label(0), training.label(1)], [0, 1]);
    assert_eq!(training.pixels(1)[8 + 2], 18.0 / 255.0);
    let error = folder_with::<Tiny>(root, &settings(2)).err().unwrap().to_string();
    assert!(error.contains("test/a/0.png, image: found"), "{error}");
    assert!(self::error(root).contains("train/a/0.png, image: found"));

    let whole = class_folders_with::<Tiny>(root.join("train"), &settings(2)).unwrap();
    assert_eq!((whole.0.len(), whole.0.index(1), whole.1.len()), (2, 2, 2));
    let error = class_folders::<Tiny>(root.join("train")).unwrap_err().to_string();
    assert!(error.contains("train/a/0.png, image: found"), "{error}");
    // A class that is left with nothing is an error, however many may be left out.
    fs::write(root.join("test/a/1.png"), "no image").unwrap();
    let error = folder_with::<Tiny>(root, &settings(9)).err().unwrap().to_string();
    assert!(error.contains("test/a, files: found none that can be read"), "{error}");
    // Unless as many may be empty, of files that cannot be read or from the start.
    let partial = FolderSettings { empty_classes: 1, ..settings(9) };
    assert_eq!(folder_with::<Tiny>(root, &partial).unwrap().0.test.len(), 1);
    for file in ["test/b", "test/a"] {
        fs::remove_dir_all(root.join(file)).unwrap();
        fs::create_dir(root.join(file)).unwrap();
    }
    let error = folder_with::<Tiny>(root, &partial).err().unwrap().to_string();
    let expected = "test/b, files: found none, expected at least one image in all but 1 classes";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn grey_has_the_weights_that_are_asked_for() {
    let root = tempfile::tempdir().unwrap();
    for (class, colour) in [("a", [255, 0, 0]), ("b", [10, 20, 30])] {
        fs::create_dir(root.path().join(class)).unwrap();
        let image = RgbImage::from_pixel(8, 8, Rgb(colour));
        let file = root.path().join(class).join("1.png");
        fs::write(file, encoded(image, ImageFormat::Png)).unwrap();
    }
    let read = |grey| {
        let settings = FolderSettings { grey, ..FolderSettings::default() };
        let read = class_folders_with::<Classify<1, 8, 2>>(root.path(), &settings);
        read.map(|(images, _)| [0, 1].map(|i| images.store.bytes(i)[0]))
    };
    assert_eq!(read(FolderSettings::default().grey).unwrap(), [76, 18]);
    assert_eq!(read([0.2126, 0.7152, 0.0722]).unwrap(), [54, 19]); // Rec. 709
    assert_eq!(read([1.0, 0.0, 0.0]).unwrap(), [255, 10]);
    for grey in [[0.3, 0.6, 0.2], [-0.5, 1.0, 0.5], [f64::NAN, 0.5, 0.5], [0.0; 3]] {
        let error = read(grey).unwrap_err().to_string();
        assert!(error.contains("grey: found ["), "{error}");
    }
}

#[test]
fn broken_images_are_named_and_never_panic() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("image");
    let shape = Shape::new(3, 40, 40);
    let mut out = vec![0; shape.size()];
    let mut decoded = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        decode(&file, shape, FolderSettings::default().grey, &mut out)
            .map_err(|error| error.to_string())
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
    assert!(error.contains(&format!("image, byte {end}: found the end")), "{error}");
}

/// The images that PyTorch's reference network saw, against this reader's.
#[test]
fn real_cifar_images_are_read_as_elsewhere() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let archive = shared.join("cifar10/cifar10-jpeg.tar.xz");
    let root = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("xJf").arg(&archive).arg("-C").arg(root.path()).arg("test");
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
    println!("{equal} of {} pixels equal, the rest within {most}", 64 * 3072);
    assert!(most <= 4 && equal > 64 * 3072 / 2);
}
