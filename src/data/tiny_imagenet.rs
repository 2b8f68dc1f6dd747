//! Tiny-ImageNet as published.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::folder::{FolderSettings, Listing, decode_all, entries};
use super::split::TrainTest;
use super::tasks::{Task, TinyImageNet};
use crate::base::{Error, Result};

/// Reads Tiny-ImageNet-200 as published: `tiny-imagenet-200.zip`, unpacked. `path` is the folder
/// `tiny-imagenet-200` or one that holds it.
///
/// The test part are the 10,000 validation images, since the labels of the test images were never
/// published. Classes are the WordNet IDs of `wnids.txt`, sorted, as torchvision's `ImageFolder`
/// sorts them; training images come class by class, sorted by the names of their files, and
/// validation images in the order of `val_annotations.txt`.
///
/// Y. Le and X. Yang (2015), Tiny ImageNet Visual Recognition Challenge, CS 231N;
/// <http://cs231n.stanford.edu/tiny-imagenet-200.zip>.
///
/// ```no_run
/// # use evospike::prelude::*;
/// let tiny = data::tiny_imagenet("data")?.normalised(&data::Normalisation::TINY_IMAGENET)?;
/// let parts = tiny.hold_out(0.1, 0)?;
/// println!("{} {}", parts.training.len(), parts.test.len()); // 90000 10000
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if a file is missing or is no JPEG image, if the number of classes is not 200,
/// a class has no training images, or a validation image has a class that is not one of them.
pub fn tiny_imagenet(path: impl AsRef<Path>) -> Result<TrainTest<TinyImageNet>> {
    let path = path.as_ref();
    let inner = path.join(FOLDER);
    let root = if inner.is_dir() { &inner } else { path };
    let ids = root.join("wnids.txt");
    let mut names: Vec<String> = text(&ids)?.split_whitespace().map(Into::into).collect();
    names.sort();
    names.dedup();
    if names.len() != TinyImageNet::CLASSES {
        let expected = format!("{}, one a line", TinyImageNet::CLASSES);
        return Err(Error::data(ids.display(), "classes", names.len(), expected));
    }
    // Both are listed first: decoding takes long, and an error should come before it.
    let training = training(&root.join("train"), &names)?;
    let test = validation(&root.join("val"), &names)?;
    // No file is skipped by these settings.
    let decode = |listing| decode_all(listing, &FolderSettings::default(), &mut Vec::new());
    TrainTest::new(decode(training)?, decode(test)?)
}

/// Name of the folder that the published archive unpacks to.
const FOLDER: &str = "tiny-imagenet-200";

fn text(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(Error::io(file))
}

/// The files of `train/<class>/images`.
fn training(folder: &Path, names: &[String]) -> Result<Listing> {
    let mut listing = Listing::new(folder, names);
    for (label, name) in names.iter().enumerate() {
        let files = entries(&folder.join(name).join("images"))?;
        listing.labels.extend(vec![label as u16; files.len()]);
        listing.files.extend(files);
    }
    Ok(listing)
}

/// The files of `val/images`, as `val/val_annotations.txt` lists them: name, class, and a box.
fn validation(folder: &Path, names: &[String]) -> Result<Listing> {
    let mut listing = Listing::new(folder, names);
    let labels: HashMap<_, _> = (0..).zip(names).map(|(label, name)| (&**name, label)).collect();
    let list = folder.join("val_annotations.txt");
    for (number, line) in text(&list)?.lines().enumerate() {
        let mut columns = line.split('\t');
        let (file, class) = (columns.next().unwrap_or_default(), columns.next());
        let Some(&label) = class.and_then(|class| labels.get(class)) else {
            let found = class.map_or("no class".into(), |class| format!("class `{class}`"));
            let place = format!("line {}", number + 1);
            return Err(Error::data(list.display(), place, found, "a class of `wnids.txt`"));
        };
        listing.labels.push(label);
        listing.files.push(folder.join("images").join(file));
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    /// A data set of one training and one validation image a class, in the published layout.
    fn published() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        let ids: Vec<String> = (0..200).map(|class| format!("n{:08}", 7 * class)).collect();
        let save = |value: usize, file: &Path| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let image = RgbImage::from_pixel(64, 64, Rgb([value as u8, 0, 0]));
            image.save_with_format(file, image::ImageFormat::Png).unwrap(); // told by content
        };
        let mut annotations = String::new();
        for (class, id) in ids.iter().enumerate() {
            save(class, &folder.join(format!("train/{id}/images/{id}_0.JPEG")));
            fs::write(folder.join(format!("train/{id}/{id}_boxes.txt")), "").unwrap();
        }
        for (image, id) in ids.iter().rev().enumerate() {
            save(100 + image % 100, &folder.join(format!("val/images/val_{image}.JPEG")));
            annotations += &format!("val_{image}.JPEG\t{id}\t0\t32\t44\t62\n");
        }
        fs::write(folder.join("val/val_annotations.txt"), annotations).unwrap();
        let backwards: Vec<&str> = ids.iter().rev().map(|id| &**id).collect();
        fs::write(folder.join("wnids.txt"), backwards.join("\n")).unwrap();
        root
    }

    #[test]
    fn classes_are_sorted_and_validation_images_have_their_own() {
        let root = published();
        let data = tiny_imagenet(root.path()).unwrap();
        assert_eq!((data.training.len(), data.test.len()), (200, 200));
        assert_eq!(data.training.class_names()[1], "n00000007");
        assert_eq!(data.training.label(150), 150);
        assert_eq!(data.training.store.bytes(150)[0], 150);
        assert_eq!(data.test.label(0), 199);
        assert_eq!(data.test.store.bytes(7)[0], 107);
        let inside = tiny_imagenet(root.path().join(FOLDER)).unwrap();
        assert_eq!(inside.test.label(0), 199);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let root = published();
        let folder = root.path().join(FOLDER);
        let error = || tiny_imagenet(root.path()).unwrap_err().to_string();
        let list = folder.join("val/val_annotations.txt");
        fs::write(&list, "val_0.JPEG\tn00000007\t0\t0\t9\t9\nval_1.JPEG\tdog\n").unwrap();
        let found = error();
        assert!(found.contains("val_annotations.txt") && found.contains("line 2"), "{found}");
        assert!(found.contains("class `dog`"), "{found}");
        fs::write(&list, "val_1000.JPEG\tn00000007\n").unwrap();
        let found = error();
        assert!(found.contains("val_1000.JPEG"), "{found}");
        fs::write(folder.join("wnids.txt"), "n00000007\n").unwrap();
        let found = error();
        assert!(found.contains("wnids.txt") && found.contains("200, one a line"), "{found}");
    }
}
