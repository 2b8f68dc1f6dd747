//! Images and labels, and the three parts of them that must not mix.
//!
//! The part is in the type. [`Images<Training, K>`](Images) trains a network and sets its
//! thresholds, [`Images<HeldOut, K>`](Images) is what evolution and every other choice may look
//! at, and [`Images<Test, K>`](Images) can only be measured on: no function that trains, converts
//! or evolves takes it.
//!
//! ```compile_fail,E0308
//! # use evospike::prelude::*;
//! # fn main() -> evospike::Result<()> {
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let mut ann = Ann::<DigitsCnn>::new(0)?;
//! ann.train(&digits.test, &TrainSettings::default())?; // expected `Training`, found `Test`
//! # Ok(()) }
//! ```

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::sync::Arc;

use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::layers::Shape;
use crate::random::{Stream, rng};
use crate::report::{Table, show};

/// A classification task: the shape of its images and the number of its classes.
pub trait Task: 'static {
    /// Channels, height and width of an image.
    const SHAPE: Shape;
    /// Number of classes.
    const CLASSES: usize;
}

/// Square images of `CHANNELS` x `SIDE` x `SIDE` pixels in `CLASSES` classes.
#[derive(Debug, Clone, Copy)]
pub struct Classify<const CHANNELS: usize, const SIDE: usize, const CLASSES: usize>;

impl<const CHANNELS: usize, const SIDE: usize, const CLASSES: usize> Task
    for Classify<CHANNELS, SIDE, CLASSES>
{
    const SHAPE: Shape = Shape::new(CHANNELS, SIDE, SIDE);
    const CLASSES: usize = CLASSES;
}

/// The UCI handwritten digits: 1 x 8 x 8 pixels, 10 classes.
pub type Digits = Classify<1, 8, 10>;
/// CIFAR-10: 3 x 32 x 32 pixels, 10 classes.
pub type Cifar10 = Classify<3, 32, 10>;
/// CIFAR-100: 3 x 32 x 32 pixels, 100 classes.
pub type Cifar100 = Classify<3, 32, 100>;
/// ImageNet: 3 x 224 x 224 pixels, 1000 classes.
pub type ImageNet = Classify<3, 224, 1000>;

/// A part of a data set: [`Whole`], [`Training`], [`HeldOut`] or [`Test`].
pub trait Part: 'static {
    /// The part's name as people write it.
    const NAME: &'static str;
}

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident = $name:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $part {}
        impl Part for $part {
            const NAME: &'static str = $name;
        }
    )*};
}

parts! {
    /// A data set that was not divided yet.
    Whole = "whole",
    /// Images that train the network and set the thresholds of its conversion.
    Training = "training",
    /// Training images that the network was not trained on: evolution chooses by them.
    HeldOut = "held-out",
    /// Images that choose nothing: results are quoted on them.
    Test = "test",
}

/// Where the pixels of a data set are kept; its parts share it.
struct Store {
    shape: Shape,
    /// Channels, rows, columns of one image after the other.
    pixels: Vec<u8>,
    labels: Vec<u16>,
    /// What a pixel is divided by to lie in 0..=1.
    full_scale: f32,
}

impl Store {
    fn image(&self, index: usize) -> impl ExactSizeIterator<Item = f32> + '_ {
        let size = self.shape.size();
        let scale = self.full_scale;
        self.pixels[index * size..][..size]
            .iter()
            .map(move |&pixel| f32::from(pixel) / scale)
    }
}

/// Labelled images of task `K`, of which part `P` of the data set.
///
/// Cheap to clone: the pixels are shared.
pub struct Images<P: Part, K: Task> {
    store: Arc<Store>,
    indices: Arc<[usize]>,
    types: PhantomData<fn() -> (P, K)>,
}

impl<P: Part, K: Task> Clone for Images<P, K> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            indices: Arc::clone(&self.indices),
            types: PhantomData,
        }
    }
}

impl<P: Part, K: Task> Images<P, K> {
    fn part<Q: Part>(&self, indices: Vec<usize>) -> Images<Q, K> {
        Images {
            store: Arc::clone(&self.store),
            indices: indices.into(),
            types: PhantomData,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Label of image `i`, below [`Task::CLASSES`].
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn label(&self, i: usize) -> usize {
        self.store.labels[self.indices[i]].into()
    }

    /// Pixels of image `i` in 0..=1: channels, rows, columns.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn pixels(&self, i: usize) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.store.image(self.indices[i])
    }

    /// The first `count` images (all, where there are fewer).
    pub fn take(&self, count: usize) -> Self {
        self.part(self.indices[..count.min(self.len())].to_vec())
    }

    /// The parts' view without types, for the engine.
    pub(crate) fn view(&self) -> Samples<'_> {
        Samples {
            store: &self.store,
            indices: &self.indices,
        }
    }

    fn table(&self) -> Table {
        let mut counts = vec![0usize; K::CLASSES];
        for i in 0..self.len() {
            counts[self.label(i)] += 1;
        }
        let mut table = Table::new(
            format!("{} images, {} part, {}", self.len(), P::NAME, K::SHAPE),
            ["class", "images"],
        );
        for (class, count) in counts.iter().enumerate() {
            table.row([class.to_string(), count.to_string()]);
        }
        table
    }
}

impl<P: Part, K: Task> fmt::Debug for Images<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({} {}, {})", self.len(), P::NAME, K::SHAPE)
    }
}

show!(impl [P: Part, K: Task] Images<P, K> as table);

/// Images without the types: what the compiled engine reads.
#[derive(Clone, Copy)]
pub(crate) struct Samples<'a> {
    store: &'a Store,
    indices: &'a [usize],
}

impl Samples<'_> {
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn label(&self, i: usize) -> usize {
        self.store.labels[self.indices[i]].into()
    }

    /// Image `i` as channels, rows, columns.
    pub fn pixels(&self, i: usize) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.store.image(self.indices[i])
    }

    /// Some images, one after the other.
    pub fn batch(&self, of: &[usize]) -> Vec<f32> {
        of.iter().flat_map(|&i| self.pixels(i)).collect()
    }
}

/// Which share of each class goes where; the rest is the training part.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Shares {
    /// For evolution, 0..1.
    pub held_out: f64,
    /// For the results, 0..1.
    pub test: f64,
}

impl Default for Shares {
    /// A fifth each.
    fn default() -> Self {
        Self {
            held_out: 0.2,
            test: 0.2,
        }
    }
}

/// A data set divided into its three parts.
#[derive(Debug, Clone)]
pub struct Split<K: Task> {
    /// Trains the network and sets its thresholds.
    pub training: Images<Training, K>,
    /// Guides evolution.
    pub held_out: Images<HeldOut, K>,
    /// Measures the result.
    pub test: Images<Test, K>,
}

impl<K: Task> Images<Whole, K> {
    /// Divides every class in the same shares, at random.
    ///
    /// # Errors
    /// A share outside 0..1, shares that leave no training image, or a part without images.
    pub fn split(&self, shares: Shares, seed: u64) -> Result<Split<K>> {
        for (name, share) in [
            ("shares.held_out", shares.held_out),
            ("shares.test", shares.test),
        ] {
            if !(share > 0.0 && share < 1.0) {
                return Err(Error::parameter(name, share, "a share between 0 and 1"));
            }
        }
        let mut classes = vec![Vec::new(); K::CLASSES];
        for i in 0..self.len() {
            classes[self.label(i)].push(self.indices[i]);
        }
        let mut rng = rng(seed, Stream::Split);
        let (mut training, mut held_out, mut test) = (Vec::new(), Vec::new(), Vec::new());
        for class in &mut classes {
            class.shuffle(&mut rng);
            let count = |share: f64| (share * class.len() as f64).round() as usize;
            let (for_test, for_held_out) = (count(shares.test), count(shares.held_out));
            if for_test + for_held_out > class.len() {
                break; // reported below: nothing is left to train on
            }
            let (first, rest) = class.split_at(for_test);
            let (second, third) = rest.split_at(for_held_out);
            test.extend_from_slice(first);
            held_out.extend_from_slice(second);
            training.extend_from_slice(third);
        }
        for (name, part) in [
            ("training", &mut training),
            ("held_out", &mut held_out),
            ("test", &mut test),
        ] {
            if part.is_empty() {
                return Err(Error::parameter(
                    "shares",
                    format!("{shares:?}, which leaves no image to the part `{name}`"),
                    "shares that leave images to every part",
                ));
            }
            // Mixed classes, so that the first n images of a part are a fair sample of it.
            part.shuffle(&mut rng);
        }
        Ok(Split {
            training: self.part(training),
            held_out: self.part(held_out),
            test: self.part(test),
        })
    }
}

/// The 1,797 UCI handwritten digits, embedded in the crate.
///
/// E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49,
/// CC BY 4.0. Pixels are the shares 0, 1/16, ..., 1 of ink.
///
/// # Errors
/// None but a damaged build: the embedded bytes are read with every check.
pub fn digits() -> Result<Images<Whole, Digits>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/digits.csv.gz")[..])
        .read_to_string(&mut text)
        .map_err(|error| Error::data("digits.csv.gz", "gzip", error, "a gzip file"))?;
    from_csv("digits.csv.gz", text.as_bytes(), 16)
}

/// Reads lines of pixels, each 0..=`full_scale`, followed by a label.
fn from_csv<K: Task>(file: &str, text: impl Read, full_scale: u8) -> Result<Images<Whole, K>> {
    let size = K::SHAPE.size();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    for (number, record) in reader.records().enumerate() {
        let place = format!("line {}", number + 1);
        let record = record.map_err(|e| Error::data(file, &place, e, "comma-separated values"))?;
        if record.len() != size + 1 {
            return Err(Error::data(
                file,
                place,
                format!("{} values", record.len()),
                format!("{size} pixels and a label"),
            ));
        }
        for (column, value) in record.iter().enumerate() {
            let limit = if column < size {
                usize::from(full_scale)
            } else {
                K::CLASSES - 1
            };
            match value.parse::<u16>() {
                Ok(value) if usize::from(value) <= limit && column < size => {
                    pixels.push(value as u8);
                }
                Ok(value) if usize::from(value) <= limit => labels.push(value),
                _ => {
                    let place = format!("line {}, value {}", number + 1, column + 1);
                    let expected = format!("a whole number from 0 to {limit}");
                    return Err(Error::data(file, place, format!("`{value}`"), expected));
                }
            }
        }
    }
    if labels.is_empty() {
        return Err(Error::data(file, "end", "no line", "at least one image"));
    }
    Ok(Images {
        indices: (0..labels.len()).collect(),
        store: Arc::new(Store {
            shape: K::SHAPE,
            pixels,
            labels,
            full_scale: full_scale.into(),
        }),
        types: PhantomData,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    type Tiny = Classify<1, 2, 3>;

    fn tiny(text: &str) -> Result<Images<Whole, Tiny>> {
        from_csv("tiny.csv", text.as_bytes(), 16)
    }

    #[test]
    fn the_digits_are_whole() {
        let digits = digits().unwrap();
        assert_eq!(digits.len(), 1797);
        assert_eq!(digits.label(0), 0);
        let first: Vec<f32> = digits.pixels(0).collect();
        assert_eq!(first[..4], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0]);
        let total: f64 = (0..1797)
            .flat_map(|i| digits.pixels(i))
            .map(f64::from)
            .sum();
        assert_eq!(total * 16.0, 561_718.0); // numpy: load_digits().data.sum()
    }

    #[test]
    fn a_split_is_stratified_disjoint_complete_and_seeded() {
        let digits = digits().unwrap();
        let split = |seed| digits.split(Shares::default(), seed).unwrap();
        let parts = split(3);
        let all: Vec<usize> = [
            &parts.training.indices,
            &parts.held_out.indices,
            &parts.test.indices,
        ]
        .into_iter()
        .flat_map(|part| part.iter().copied())
        .collect();
        assert_eq!(all.len(), 1797);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1797);
        for class in 0..10 {
            let in_all = (0..1797).filter(|&i| digits.label(i) == class).count();
            let in_test = (0..parts.test.len())
                .filter(|&i| parts.test.label(i) == class)
                .count();
            assert_eq!(in_test, (0.2 * in_all as f64).round() as usize);
        }
        assert_eq!(split(3).test.indices, parts.test.indices);
        assert_ne!(split(4).test.indices, parts.test.indices);
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        let digits = digits().unwrap();
        for (held_out, test) in [
            (0.0, 0.2),
            (0.2, 1.0),
            (f64::NAN, 0.2),
            (0.6, 0.6),
            (0.5, 0.5),
        ] {
            let error = digits.split(Shares { held_out, test }, 0).unwrap_err();
            assert!(error.to_string().contains("shares"), "{error}");
        }
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, place) in [
            ("1,2,3,4,2\n1,2,3\n", "line 2: found 3 values"),
            ("1,2,17,4,2\n", "line 1, value 3: found `17`"),
            ("1,2,3,4,3\n", "line 1, value 5: found `3`"),
            ("1,2,x,4,0\n", "line 1, value 3: found `x`"),
            ("1,-2,1,4,0\n", "line 1, value 2: found `-2`"),
            ("", "end: found no line"),
        ] {
            let error = tiny(text).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
            assert!(error.contains("tiny.csv"), "{error}");
        }
    }
}
