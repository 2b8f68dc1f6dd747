//! Labelled images, their parts and their normalisation.

//! Your own images, as arrays of bytes and labels:
//!
//! ```
//! use evospike::prelude::*;
//!
//! type Stripes = data::Classify<1, 4, 2>; // 1 x 4 x 4 pixels, 2 classes: standing and lying
//! let pixel = |i: usize, place: usize| 255 * (place / [1, 4][i % 2] % 2) as u8;
//! let pixels = (0..200 * 16).map(|n| pixel(n / 16, n % 16)).collect();
//! let labels = (0..200).map(|i| i % 2).collect();
//! let images = Images::<data::Whole, Stripes>::from_arrays(pixels, labels)?;
//! let parts = images.split(Shares::default(), 0)?;
//!
//! network! {
//!     pub Net for Stripes = (Flatten<1, 4, 16>, UnbiasedLinear<16, 8>, Relu, UnbiasedLinear<8, 2>);
//! }
//! let mut ann = Ann::<Net>::new(0)?;
//! ann.train(&parts.training, &TrainSettings::default())?;
//! assert_eq!(ann.accuracy(&parts.test)?.percent(), 100.0);
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! Your own image files, `pets/train/cat/1.jpg` and so on, of any size:
//!
//! ```no_run
//! use evospike::prelude::*;
//!
//! type Pets = data::Classify<3, 32, 2>; // resized to 3 x 32 x 32 pixels, 2 classes
//! network! {
//!     pub Net for Pets = (
//!         (Conv3x3<3, 16, 32>, BatchNorm<16, 32>, AvgPool2<16, 32, 16>, Relu),
//!         (Conv3x3<16, 32, 16>, BatchNorm<32, 16>, AvgPool2<32, 16, 8>, Relu),
//!         (Flatten<32, 8, 2048>, UnbiasedLinear<2048, 2>),
//!     );
//! }
//! let pets = data::folder::<Pets>("pets")?.normalised(&data::Normalisation::IMAGENET)?;
//! let parts = pets.hold_out(0.2, 0)?;
//! let mut ann = Ann::<Net>::new(0)?;
//! ann.train(&parts.training, &TrainSettings { epochs: 20, ..TrainSettings::cifar() })?;
//! println!("{:.1} %", ann.accuracy(&parts.test)?.percent());
//! # Ok::<(), evospike::Error>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::ann::layers::Shape;
use crate::base::error::{Error, Result};
use crate::base::random::{Rng, Stream, rng};
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
    const SHAPE: Shape = {
        assert!(CHANNELS > 0 && SIDE > 0, "an image has pixels");
        Shape::new(CHANNELS, SIDE, SIDE)
    };
    const CLASSES: usize = {
        assert!(CLASSES > 0 && CLASSES <= 1 << 16, "labels are u16");
        CLASSES
    };
}

/// The UCI handwritten digits: 1 x 8 x 8 pixels, 10 classes.
pub type Digits = Classify<1, 8, 10>;
/// MNIST and its kin with ten classes (Fashion-MNIST, KMNIST): 1 x 28 x 28 pixels.
pub type Mnist = Classify<1, 28, 10>;
/// CIFAR-10: 3 x 32 x 32 pixels, 10 classes.
pub type Cifar10 = Classify<3, 32, 10>;
/// CIFAR-100: 3 x 32 x 32 pixels, 100 classes.
pub type Cifar100 = Classify<3, 32, 100>;
/// ImageNet: 3 x 224 x 224 pixels, 1,000 classes.
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
pub(super) struct Store {
    shape: Shape,
    pixels: Pixels,
    labels: Vec<u16>,
    class_names: Vec<String>,
}

/// Channels, rows, columns of one image after the other.
enum Pixels {
    /// As data sets have them.
    Bytes {
        values: Vec<u8>,
        /// What a pixel is divided by to lie in 0..=1.
        full_scale: f32,
    },
    /// In 0..=1, as attacks leave them: of some images only.
    Shares {
        values: Vec<f32>,
        /// For each image of the data set, the place of its pixels, where they are among them.
        places: Vec<u32>,
    },
}

/// The pixels of one image.
enum Image<'a> {
    Bytes(&'a [u8], f32),
    Shares(&'a [f32]),
}

impl Store {
    fn image(&self, index: usize) -> Image<'_> {
        let size = self.shape.size();
        match &self.pixels {
            Pixels::Bytes { values, full_scale } => {
                Image::Bytes(&values[index * size..][..size], *full_scale)
            }
            Pixels::Shares { values, places } => {
                Image::Shares(&values[places[index] as usize * size..][..size])
            }
        }
    }
}

#[cfg(test)]
impl Store {
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        match self.image(index) {
            Image::Bytes(pixels, _) => pixels,
            Image::Shares(_) => &[],
        }
    }
}

impl Image<'_> {
    /// In 0..=1.
    fn shares(&self) -> Vec<f32> {
        match *self {
            Image::Bytes(pixels, full_scale) => {
                let pixels = pixels.iter();
                pixels.map(|&pixel| f32::from(pixel) / full_scale).collect()
            }
            Image::Shares(pixels) => pixels.to_vec(),
        }
    }
}

/// How the pixels of each channel become the input of a network: (pixel - mean) / std, where the
/// pixel lies in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    mean: Cow<'static, [f32]>,
    std: Cow<'static, [f32]>,
}

impl Normalisation {
    /// Mean and standard deviation of the training images of CIFAR-10, per channel.
    pub const CIFAR10: Self = Self::of(&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]);
    /// Mean and standard deviation of the training images of CIFAR-100, per channel.
    pub const CIFAR100: Self = Self::of(&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]);
    /// Mean and standard deviation of the training images of MNIST.
    pub const MNIST: Self = Self::of(&[0.1307], &[0.3081]);
    /// The values that torchvision's ImageNet networks were trained with.
    pub const IMAGENET: Self = Self::of(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);

    const fn of(mean: &'static [f32], std: &'static [f32]) -> Self {
        Self {
            mean: Cow::Borrowed(mean),
            std: Cow::Borrowed(std),
        }
    }

    /// A mean and a standard deviation for each channel.
    ///
    /// # Errors
    /// Lists of different lengths, a number that is not finite, or a `std` that is not positive.
    pub fn new(mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Result<Self> {
        let normalisation = Self {
            mean: Cow::Owned(mean.into()),
            std: Cow::Owned(std.into()),
        };
        normalisation.check(normalisation.mean.len())?;
        Ok(normalisation)
    }

    /// Of each channel, in units of full scale.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Of each channel, in units of full scale.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    fn check(&self, channels: usize) -> Result<()> {
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            let values_are_good = values.iter().all(|value| value.is_finite());
            if values.len() != channels || !values_are_good {
                let expected = format!("{channels} finite numbers, one a channel");
                return Err(Error::parameter(name, format!("{values:?}"), expected));
            }
        }
        // A tiny divisor would turn pixels into infinities.
        if self.std.iter().any(|&std| std < 1e-6) {
            return Err(Error::parameter(
                "std",
                format!("{:?}", self.std),
                "positive numbers of at least 0.000001",
            ));
        }
        Ok(())
    }
}

/// What a network gets of a pixel.
struct Scale {
    normalisation: Option<Normalisation>,
    /// Of each of the 256 pixel values, for each channel; none of pixels that are no bytes.
    inputs: Vec<[f32; 256]>,
}

impl Scale {
    fn new(store: &Store, normalisation: Option<Normalisation>) -> Self {
        let mut scale = Self {
            inputs: Vec::new(),
            normalisation,
        };
        if let Pixels::Bytes { full_scale, .. } = store.pixels {
            let of = |channel| {
                std::array::from_fn(|pixel| scale.input(channel, pixel as f32 / full_scale))
            };
            scale.inputs = (0..store.shape.channels).map(of).collect();
        }
        scale
    }

    /// Of a pixel in 0..=1.
    fn input(&self, channel: usize, share: f32) -> f32 {
        let normalisation = self.normalisation.as_ref();
        normalisation.map_or(share, |n| (share - n.mean[channel]) / n.std[channel])
    }
}

/// Labelled images of task `K`, of which part `P` of the data set.
///
/// Cheap to clone: the pixels are shared.
pub struct Images<P: Part, K: Task> {
    pub(super) store: Arc<Store>,
    scale: Arc<Scale>,
    indices: Arc<[usize]>,
    /// Which images of the store evolution sees, so that a list that names one is told so.
    held_out: Arc<[usize]>,
    types: PhantomData<fn() -> (P, K)>,
}

impl<P: Part, K: Task> Clone for Images<P, K> {
    fn clone(&self) -> Self {
        self.part(Arc::clone(&self.indices))
    }
}

impl<P: Part, K: Task> Images<P, K> {
    fn part<Q: Part>(&self, indices: impl Into<Arc<[usize]>>) -> Images<Q, K> {
        Images {
            store: Arc::clone(&self.store),
            scale: Arc::clone(&self.scale),
            indices: indices.into(),
            held_out: Arc::clone(&self.held_out),
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

    /// Place of image `i` in the order in which the data set is read, from 0. Parts keep it, and
    /// index files ([`listed`](Self::listed)) mean it.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn index(&self, i: usize) -> usize {
        self.indices[i]
    }

    /// Pixels of image `i` in 0..=1, before any normalisation: channels, rows, columns.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn pixels(&self, i: usize) -> Vec<f32> {
        self.store.image(self.indices[i]).shares()
    }

    /// The same images with other pixels, such as attacked ones: in 0..=1, channels, rows, columns
    /// of one image after the other.
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// let digits = data::digits()?.take(2);
    /// let brighter = |pixel: f32| (pixel + 0.1).min(1.0);
    /// let pixels = (0..2).flat_map(|i| digits.pixels(i)).map(brighter).collect();
    /// let digits = digits.with_pixels(pixels)?;
    /// assert_eq!(digits.pixels(0)[0], 0.1);
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// A number of pixels that is not the images', or a pixel outside 0..=1.
    pub fn with_pixels(&self, pixels: Vec<f32>) -> Result<Self> {
        let size = K::SHAPE.size();
        if pixels.len() != self.len() * size {
            return Err(Error::parameter(
                "pixels",
                format!("{} values", pixels.len()),
                format!("{size} for each of {} images", self.len()),
            ));
        }
        if let Some(i) = pixels.iter().position(|x| !(0.0..=1.0).contains(x)) {
            let found = format!("{} in image {}", pixels[i], i / size);
            return Err(Error::parameter("pixels", found, "values in 0..=1"));
        }
        let mut places = vec![u32::MAX; self.store.labels.len()];
        for (place, &index) in (0..).zip(&*self.indices) {
            places[index] = place;
        }
        let store = Store {
            shape: self.store.shape,
            pixels: Pixels::Shares {
                values: pixels,
                places,
            },
            labels: self.store.labels.clone(),
            class_names: self.store.class_names.clone(),
        };
        Ok(Self {
            scale: Arc::new(Scale::new(&store, self.normalisation().cloned())),
            store: Arc::new(store),
            ..self.clone()
        })
    }

    /// What a network sees of image `i`: its normalised pixels, or those of
    /// [`pixels`](Self::pixels) where there is no normalisation. Channels, rows, columns.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn input(&self, i: usize) -> Vec<f32> {
        self.view().input(i)
    }

    /// What every class is called.
    pub fn class_names(&self) -> &[String] {
        &self.store.class_names
    }

    /// The same images, given to networks as (pixel - mean) / std.
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// let digits = data::digits()?.normalised(&data::Normalisation::new([0.3], [0.4])?)?;
    /// assert_eq!(digits.input(0)[0], (0.0 - 0.3) / 0.4);
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// A normalisation for another number of channels.
    pub fn normalised(&self, normalisation: &Normalisation) -> Result<Self> {
        normalisation.check(K::SHAPE.channels)?;
        let scale = Scale::new(&self.store, Some(normalisation.clone()));
        Ok(Self {
            scale: Arc::new(scale),
            ..self.clone()
        })
    }

    /// The normalisation of the images, where they have one.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        self.scale.normalisation.as_ref()
    }

    /// These images in the order of others, which are the same ones.
    pub(crate) fn in_order_of(&self, others: &Self) -> Self {
        self.part(Arc::clone(&others.indices))
    }

    /// The first `count` images (all, where there are fewer).
    pub fn take(&self, count: usize) -> Self {
        self.range(0..count)
    }

    /// The images of a range of places (as far as there are).
    pub fn range(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.len());
        self.part(&self.indices[range.start.min(end)..end])
    }

    /// The images that a file lists, in its order: one [`index`](Self::index) a line.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// let cifar = data::folder::<data::Cifar10>("cifar10")?;
    /// let parts = cifar.hold_out_listed("held-out-5000.txt", 0)?;
    /// let calibration = parts.training.listed("balance-train-1000.txt")?;
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file that cannot be read or lists nothing; a line that is no index, names an image twice,
    /// or names one that is not in this part, such as a held-out image.
    pub fn listed(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut mine = vec![false; self.store.labels.len()];
        for &index in &*self.indices {
            mine[index] = true;
        }
        let indices = super::formats::index_file(path, mine.len())?;
        for (line, &index) in indices.iter().enumerate() {
            if !mine[index] {
                let held_out = P::NAME != HeldOut::NAME && self.held_out.contains(&index);
                return Err(Error::data(
                    path.display(),
                    format!("line {}", line + 1),
                    match held_out {
                        true => format!("image {index}, which is held out"),
                        false => format!("image {index}, which is not among them"),
                    },
                    format!("one of the {} images of the {} part", self.len(), P::NAME),
                ));
            }
        }
        Ok(self.part(indices))
    }

    /// Images of the store by class.
    fn classes(&self) -> Vec<Vec<usize>> {
        let mut classes = vec![Vec::new(); K::CLASSES];
        for i in 0..self.len() {
            classes[self.label(i)].push(self.indices[i]);
        }
        classes
    }

    /// The parts' view without types, for the engine.
    pub(crate) fn view(&self) -> Samples<'_> {
        Samples {
            store: &self.store,
            scale: &self.scale,
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
        for (class, count) in self.class_names().iter().zip(counts) {
            table.row([class.clone(), count.to_string()]);
        }
        table
    }
}

impl<K: Task> Images<HeldOut, K> {
    /// The held-out images to train on: for a method that is to have seen what evolution sees.
    /// Nothing can be chosen on them any more.
    pub fn into_training(self) -> Images<Training, K> {
        Images {
            store: self.store,
            scale: self.scale,
            indices: self.indices,
            held_out: Arc::default(),
            types: PhantomData,
        }
    }
}

impl<P: Part, K: Task> fmt::Debug for Images<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({} {}, {})", self.len(), P::NAME, K::SHAPE)
    }
}

show!(impl [P: Part, K: Task] Images<P, K> as table);
show!(impl [K: Task] Split<K> as table);
show!(impl [K: Task] TrainTest<K> as table);
show!(Normalisation, Augment, Shares as fields);

/// How many images there are in the parts of a data set.
fn parts<K: Task>(parts: &[(&str, usize)]) -> Table {
    let title = format!("{} classes, {}", K::CLASSES, K::SHAPE);
    let mut table = Table::new(title, ["part", "images"]);
    for (part, images) in parts {
        table.row([(*part).into(), images.to_string()]);
    }
    table
}

impl<K: Task> Split<K> {
    fn table(&self) -> Table {
        parts::<K>(&[
            ("training", self.training.len()),
            ("held-out", self.held_out.len()),
            ("test", self.test.len()),
        ])
    }
}

impl<K: Task> TrainTest<K> {
    fn table(&self) -> Table {
        parts::<K>(&[("training", self.training.len()), ("test", self.test.len())])
    }
}

/// Images without the types: what the compiled engine reads.
#[derive(Clone, Copy)]
pub(crate) struct Samples<'a> {
    store: &'a Store,
    scale: &'a Scale,
    indices: &'a [usize],
}

impl<'a> Samples<'a> {
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Refuses no images.
    pub fn check_some(&self) -> Result<()> {
        match self.len() {
            0 => Err(Error::parameter("images", "none", "at least one")),
            _ => Ok(()),
        }
    }

    pub fn shape(&self) -> Shape {
        self.store.shape
    }

    pub fn label(&self, i: usize) -> usize {
        self.store.labels[self.indices[i]].into()
    }

    /// Place of image `i` in the data set.
    pub fn index(&self, i: usize) -> usize {
        self.indices[i]
    }

    /// The largest magnitude that an input of a network can have, whichever the image.
    pub fn peak(&self) -> f32 {
        let extremes = (0..self.store.shape.channels)
            .flat_map(|channel| [0.0, 1.0].map(|share| self.scale.input(channel, share)));
        extremes.fold(0.0, |peak, input| peak.max(input.abs()))
    }

    /// Image `i` as the network sees it: channels, rows, columns.
    pub fn input(&self, i: usize) -> Vec<f32> {
        let area = self.store.shape.height * self.store.shape.width;
        let mut input = Vec::with_capacity(self.store.shape.size());
        match self.store.image(self.indices[i]) {
            Image::Bytes(pixels, _) => {
                for (pixels, inputs) in pixels.chunks_exact(area).zip(&self.scale.inputs) {
                    input.extend(pixels.iter().map(|&pixel| inputs[usize::from(pixel)]));
                }
            }
            Image::Shares(pixels) => {
                for (channel, pixels) in pixels.chunks_exact(area).enumerate() {
                    input.extend(pixels.iter().map(|&x| self.scale.input(channel, x)));
                }
            }
        }
        input
    }

    /// CRC-32 of what a network sees of the images and of their labels, in their order.
    pub fn checksum(&self) -> u32 {
        let mut checksum = flate2::Crc::new();
        for input in self.scale.inputs.iter().flatten() {
            checksum.update(&input.to_le_bytes());
        }
        for (i, &index) in self.indices.iter().enumerate() {
            checksum.update(&self.store.labels[index].to_le_bytes());
            match self.store.image(index) {
                Image::Bytes(pixels, _) => checksum.update(pixels),
                Image::Shares(_) => {
                    let inputs = self.input(i);
                    let bytes = inputs.iter().flat_map(|input| input.to_le_bytes());
                    checksum.update(&bytes.collect::<Vec<u8>>());
                }
            }
        }
        checksum.sum()
    }

    /// Some images, one after the other.
    pub fn batch(&self, of: &[usize]) -> Vec<f32> {
        let mut batch = Vec::with_capacity(of.len() * self.store.shape.size());
        of.iter().for_each(|&i| batch.extend(self.input(i)));
        batch
    }

    /// Some images, one after the other, each moved and mirrored at random. `augment` was checked.
    pub fn augmented(&self, of: &[usize], augment: Augment, rng: &mut Rng) -> Vec<f32> {
        if augment == Augment::NONE {
            return self.batch(of);
        }
        let shape = self.store.shape;
        // Padding is black: what the network gets of a pixel of 0, not an input of 0.
        let black: Vec<f32> = (0..shape.channels)
            .map(|c| self.scale.input(c, 0.0))
            .collect();
        let mut batch = Vec::with_capacity(of.len() * shape.size());
        for &i in of {
            augment.vary(&self.input(i), shape, &black, rng, &mut batch);
        }
        batch
    }
}

/// How training images vary from epoch to epoch, before they are normalised: torchvision's
/// `RandomCrop` with padding, then `RandomHorizontalFlip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augment {
    /// Black pixels around an image out of which a part of its old size is cut at random; 0 leaves
    /// it in its place. Less than the image's height and width.
    pub crop_padding: usize,
    /// Whether every second image is mirrored, left to right.
    pub flip: bool,
}

impl Augment {
    /// Images as they are.
    pub const NONE: Self = Self {
        crop_padding: 0,
        flip: false,
    };
    /// What networks for CIFAR-10 and CIFAR-100 are commonly trained with.
    pub const CIFAR: Self = Self {
        crop_padding: 4,
        flip: true,
    };

    /// Appends the image, moved and mirrored at random, its padding black: so much in each channel.
    fn vary(&self, image: &[f32], shape: Shape, black: &[f32], rng: &mut Rng, to: &mut Vec<f32>) {
        let Shape { height, width, .. } = shape;
        let padding = self.crop_padding;
        let (mut down, mut right) = (padding, padding);
        if padding > 0 {
            down = rng.random_range(0..=2 * padding);
            right = rng.random_range(0..=2 * padding);
        }
        let mirrored = self.flip && rng.random::<bool>();
        for (pixels, &black) in image.chunks_exact(height * width).zip(black) {
            for row in down..down + height {
                let row = row.checked_sub(padding).filter(|&row| row < height);
                let row = row.map(|row| &pixels[row * width..][..width]);
                let pixel = |column: usize| {
                    // Out of the image lies black, as where it is padded before it is cropped.
                    let column = (right + column).checked_sub(padding);
                    let pixel = column.and_then(|column| row?.get(column));
                    pixel.copied().unwrap_or(black)
                };
                match mirrored {
                    true => to.extend((0..width).rev().map(pixel)),
                    false => to.extend((0..width).map(pixel)),
                }
            }
        }
    }

    pub(crate) fn check(&self, shape: Shape) -> Result<()> {
        let limit = shape.height.min(shape.width);
        if self.crop_padding < limit {
            return Ok(());
        }
        Err(Error::parameter(
            "augment.crop_padding",
            self.crop_padding,
            format!("less than {limit}, the side of an image"),
        ))
    }
}

impl Default for Augment {
    /// [`Augment::NONE`].
    fn default() -> Self {
        Self::NONE
    }
}

/// Which share of each class goes where; the rest is the training part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// For evolution, 0..1.
    pub held_out: f64,
    /// For the results, 0..1.
    pub test: f64,
}

impl Default for Shares {
    /// A quarter each.
    fn default() -> Self {
        Self {
            held_out: 0.25,
            test: 0.25,
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
        let mut classes = self.classes();
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
        self.divide(training, held_out, (self, test), &mut rng)
            .map_err(|part| {
                Error::parameter(
                    "shares",
                    format!("{shares:?}, which leaves no image to the part `{part}`"),
                    "shares that leave images to every part",
                )
            })
    }

    /// The parts, each in a random order; the name of a part without images.
    fn divide<P: Part>(
        &self,
        mut training: Vec<usize>,
        mut held_out: Vec<usize>,
        (test_of, mut test): (&Images<P, K>, Vec<usize>),
        rng: &mut Rng,
    ) -> Result<Split<K>, &'static str> {
        for (name, part) in [
            ("training", &mut training),
            ("held_out", &mut held_out),
            ("test", &mut test),
        ] {
            if part.is_empty() {
                return Err(name);
            }
            // Mixed classes, so that the first n images of a part are a fair sample of it.
            part.shuffle(rng);
        }
        let held_out: Arc<[usize]> = held_out.into();
        let of_training = Self {
            held_out: Arc::clone(&held_out),
            ..self.clone()
        };
        Ok(Split {
            training: of_training.part(training),
            held_out: of_training.part(held_out),
            test: test_of.part(test),
        })
    }

    /// Images from arrays: `pixels` of 0..=255 as channels, rows, columns of one image after the
    /// other, and a label for each. The classes are called "0", "1", ...
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// type Tiny = data::Classify<1, 2, 3>; // 1 x 2 x 2 pixels, 3 classes
    /// let images = Images::<data::Whole, Tiny>::from_arrays(vec![0, 255, 0, 9], vec![2])?;
    /// assert_eq!((images.len(), images.label(0)), (1, 2));
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// No image, a number of pixels that is not the images', or a label that is no class.
    pub fn from_arrays(pixels: Vec<u8>, labels: Vec<u16>) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::parameter("labels", "none", "at least one"));
        }
        if labels.len().checked_mul(K::SHAPE.size()) != Some(pixels.len()) {
            return Err(Error::parameter(
                "pixels",
                format!("{} values", pixels.len()),
                format!("{} for each of {} images", K::SHAPE.size(), labels.len()),
            ));
        }
        let wrong = labels
            .iter()
            .position(|&label| label as usize >= K::CLASSES);
        if let Some(image) = wrong {
            return Err(Error::parameter(
                "labels",
                format!("{} for image {image}", labels[image]),
                format!("a class below {}", K::CLASSES),
            ));
        }
        Ok(Self::new(pixels, labels, 255.0, numbered(K::CLASSES)))
    }

    /// All checks are the caller's.
    pub(super) fn new(
        values: Vec<u8>,
        labels: Vec<u16>,
        full_scale: f32,
        class_names: Vec<String>,
    ) -> Self {
        let store = Store {
            shape: K::SHAPE,
            pixels: Pixels::Bytes { values, full_scale },
            labels,
            class_names,
        };
        Self {
            indices: (0..store.labels.len()).collect(),
            scale: Arc::new(Scale::new(&store, None)),
            store: Arc::new(store),
            held_out: Arc::new([]),
            types: PhantomData,
        }
    }
}

pub(super) fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

/// A data set that comes with a test part of its own, in reading order.
#[derive(Debug, Clone)]
pub struct TrainTest<K: Task> {
    /// To be divided into training and held-out images.
    pub training: Images<Whole, K>,
    /// Chooses nothing.
    pub test: Images<Test, K>,
}

impl<K: Task> TrainTest<K> {
    /// Makes `test` the test part of `training`.
    ///
    /// # Errors
    /// Parts that differ in the names of their classes or in their normalisation.
    pub fn new(training: Images<Whole, K>, test: Images<Whole, K>) -> Result<Self> {
        let mut names = training.class_names().iter().zip(test.class_names());
        if let Some((expected, found)) = names.find(|(training, test)| training != test) {
            return Err(Error::parameter(
                "test",
                format!("class `{found}`"),
                format!("`{expected}`, as in the training images"),
            ));
        }
        if training.normalisation() != test.normalisation() {
            return Err(Error::parameter(
                "test",
                format!("{:?}", test.normalisation()),
                format!("the training images' {:?}", training.normalisation()),
            ));
        }
        Ok(Self {
            test: test.part(Arc::clone(&test.indices)),
            training,
        })
    }

    /// Both parts with [`Images::normalised`].
    ///
    /// # Errors
    /// A normalisation for another number of channels.
    pub fn normalised(&self, normalisation: &Normalisation) -> Result<Self> {
        Ok(Self {
            training: self.training.normalised(normalisation)?,
            test: self.test.normalised(normalisation)?,
        })
    }

    /// Takes a `share` of every class out of the training images, at random, for evolution. The
    /// images of each part come in a random order.
    ///
    /// A network that was trained elsewhere has memorised its training images: use
    /// [`hold_out_listed`](Self::hold_out_listed) with those it was not trained on.
    ///
    /// # Errors
    /// A share outside 0..1, or one that leaves a part without images.
    pub fn hold_out(&self, share: f64, seed: u64) -> Result<Split<K>> {
        let expected = "a share between 0 and 1 that leaves images to every part";
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::parameter("share", share, expected));
        }
        let mut rng = rng(seed, Stream::Split);
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        for class in &mut self.training.classes() {
            class.shuffle(&mut rng);
            let (first, rest) = class.split_at((share * class.len() as f64).round() as usize);
            held_out.extend_from_slice(first);
            training.extend_from_slice(rest);
        }
        self.divide(training, held_out, &mut rng)
            .map_err(|_| Error::parameter("share", share, expected))
    }

    /// Takes the training images that a file lists, one [`index`](Images::index) a line, for
    /// evolution: for a network that was trained elsewhere, those it was not trained on. The
    /// images of each part come in a random order, by `seed`.
    ///
    /// # Errors
    /// As for [`Images::listed`], and a list that leaves no image to train on.
    pub fn hold_out_listed(&self, path: impl AsRef<Path>, seed: u64) -> Result<Split<K>> {
        let path = path.as_ref();
        let held_out = self.training.listed(path)?.indices.to_vec();
        let mut taken = vec![false; self.training.store.labels.len()];
        for &index in &held_out {
            taken[index] = true;
        }
        let indices = self.training.indices.iter().copied();
        let training = indices.filter(|&index| !taken[index]).collect();
        let listed = held_out.len();
        self.divide(training, held_out, &mut rng(seed, Stream::Split))
            .map_err(|part| {
                Error::data(
                    path.display(),
                    "end",
                    format!("{listed} images, which leaves none to the part `{part}`"),
                    "a list that leaves images to every part",
                )
            })
    }

    fn divide(
        &self,
        training: Vec<usize>,
        held_out: Vec<usize>,
        rng: &mut Rng,
    ) -> Result<Split<K>, &'static str> {
        let test = (&self.test, self.test.indices.to_vec());
        self.training.divide(training, held_out, test, rng)
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
    flate2::read::GzDecoder::new(&include_bytes!("digits.csv.gz")[..])
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
    let names = numbered(K::CLASSES);
    Ok(Images::new(pixels, labels, full_scale.into(), names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    type Tiny = Classify<1, 2, 3>;

    fn tiny(text: &str) -> Result<Images<Whole, Tiny>> {
        from_csv("tiny.csv", text.as_bytes(), 16)
    }

    proptest::proptest! {
        #[test]
        fn damaged_lines_are_named(
            changes in proptest::collection::vec(
                (0..24usize, 0..6usize, "[-0-9a-f,.\"é\r\n]{0,6}"),
                1..5,
            ),
        ) {
            let mut text = b"0,1,16,3,2\n4,4,4,4,0\n".to_vec();
            for (at, size, new) in changes {
                let at = at.min(text.len());
                let to = text.len().min(at + size);
                text.splice(at..to, new.into_bytes());
            }
            if let Err(error) = from_csv::<Tiny>("tiny.csv", &text[..], 16) {
                proptest::prop_assert!(error.to_string().starts_with("tiny.csv, "), "{}", error);
            }
        }
    }

    #[test]
    fn the_digits_are_whole() {
        let digits = digits().unwrap();
        assert_eq!(digits.len(), 1797);
        assert_eq!(digits.label(0), 0);
        let first: Vec<f32> = digits.pixels(0);
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
            assert_eq!(in_test, (0.25 * in_all as f64).round() as usize);
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

    /// `count` images of the three classes in turn, numbered by their first pixel.
    fn numbered_images(count: u8) -> Images<Whole, Tiny> {
        let pixels = (0..count).flat_map(|i| [i, 50, 100, 150]).collect();
        Images::from_arrays(pixels, (0..u16::from(count)).map(|i| i % 3).collect()).unwrap()
    }

    fn train_test() -> TrainTest<Tiny> {
        TrainTest::new(numbered_images(30), numbered_images(6)).unwrap()
    }

    fn indices<P: Part>(images: &Images<P, Tiny>) -> Vec<usize> {
        (0..images.len()).map(|i| images.index(i)).collect()
    }

    #[test]
    fn a_set_with_a_test_part_holds_out_of_its_training_part() {
        let set = train_test();
        let parts = set.hold_out(0.2, 1).unwrap();
        let lengths = (parts.training.len(), parts.held_out.len(), parts.test.len());
        assert_eq!(lengths, (24, 6, 6));
        let mut all = [indices(&parts.training), indices(&parts.held_out)].concat();
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        for class in 0..3 {
            let labels = (0..6).map(|i| parts.held_out.label(i));
            assert_eq!(labels.filter(|&label| label == class).count(), 2);
        }
        for i in 0..6 {
            let first = parts.held_out.pixels(i)[0];
            assert_eq!(first, parts.held_out.index(i) as f32 / 255.0);
        }
        let again = |seed| indices(&set.hold_out(0.2, seed).unwrap().held_out);
        assert_eq!(again(1), indices(&parts.held_out));
        assert_ne!(again(2), indices(&parts.held_out));
        for share in [0.0, 1.0, -1.0, f64::NAN, 0.01, 0.99] {
            let error = set.hold_out(share, 0).unwrap_err().to_string();
            assert!(error.starts_with("share: found"), "{error}");
        }
    }

    #[test]
    fn lists_hold_out_and_pick_by_reading_order() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let set = train_test();
        let held_out = list("held-out.txt", "7\n3\n20\n");
        let parts = set.hold_out_listed(&held_out, 0).unwrap();
        let mut found = indices(&parts.held_out);
        found.sort_unstable();
        assert_eq!((found, parts.training.len()), (vec![3, 7, 20], 27));

        let picked = parts.training.listed(list("some.txt", "29\n0\n")).unwrap();
        assert_eq!(indices(&picked), [29, 0]);
        assert_eq!(picked.pixels(0)[0], 29.0 / 255.0);
        let test = parts.test.listed(list("test.txt", "5\n3\n")).unwrap();
        assert_eq!(indices(&test), [5, 3]);
        let held_out = parts.held_out.listed(list("one.txt", "20\n")).unwrap();
        assert_eq!(indices(&held_out), [20]);

        let bad = list("bad.txt", "1\n20\n");
        let error = parts.training.listed(&bad).unwrap_err().to_string();
        let expected = "bad.txt, line 2: found image 20, which is held out, expected one of the 27";
        assert!(error.contains(expected), "{error}");
        let error = picked.listed(&bad).unwrap_err().to_string();
        assert!(
            error.contains("line 1: found image 1, which is not among"),
            "{error}"
        );
        let error = parts.held_out.listed(&bad).unwrap_err().to_string();
        assert!(
            error.contains("line 1: found image 1, which is not among"),
            "{error}"
        );
        let all: String = (0..30).map(|i| format!("{i}\n")).collect();
        let error = set.hold_out_listed(list("all.txt", &all), 0).unwrap_err();
        assert!(
            error.to_string().contains("all.txt, end: found 30 images"),
            "{error}"
        );
    }

    #[test]
    fn arrays_are_checked() {
        let from = |pixels: &[u8], labels: &[u16]| {
            let images = Images::<Whole, Tiny>::from_arrays(pixels.into(), labels.into());
            images.unwrap_err().to_string()
        };
        assert!(from(&[], &[]).starts_with("labels: found none"));
        assert!(from(&[1; 7], &[0, 1]).starts_with("pixels: found 7 values, expected 4 for"));
        assert!(from(&[1; 8], &[0, 3]).starts_with("labels: found 3 for image 1"));
    }

    #[test]
    fn normalisation_is_what_networks_see_of_the_pixels() {
        type Colours = Classify<3, 1, 2>;
        let images = Images::<Whole, Colours>::from_arrays(vec![0, 128, 255], vec![1]).unwrap();
        let raw = [0.0, 128.0 / 255.0, 1.0];
        assert_eq!(images.input(0), raw);
        let set = TrainTest::new(images.clone(), images).unwrap();
        let set = set.normalised(&Normalisation::CIFAR10).unwrap();
        let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
        let expected: Vec<f32> = (0..3).map(|c| (raw[c] - mean[c]) / std[c]).collect();
        assert_eq!(set.test.input(0), expected);
        assert_eq!(set.test.view().batch(&[0, 0]), expected.repeat(2));
        assert_eq!(set.test.pixels(0), raw);
        assert_eq!(
            set.test.take(1).normalisation(),
            Some(&Normalisation::CIFAR10)
        );

        let error = set
            .test
            .normalised(&Normalisation::MNIST)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("mean: found [0.1307], expected 3 finite"),
            "{error}"
        );
        for (mean, std) in [
            (vec![0.5, 0.5], vec![1.0]),
            (vec![0.5], vec![0.0]),
            (vec![0.5], vec![-1.0]),
            (vec![0.5], vec![f32::NAN]),
            (vec![f32::INFINITY], vec![1.0]),
        ] {
            assert!(Normalisation::new(mean, std).is_err());
        }
    }

    #[test]
    fn augmentation_moves_and_mirrors_before_normalisation() {
        let pixels = (1..=8).collect();
        let images = Images::<Whole, Classify<2, 2, 1>>::from_arrays(pixels, vec![0]).unwrap();
        let draws = |images: &Images<Whole, Classify<2, 2, 1>>, augment, seed| {
            let mut rng = rng(seed, Stream::Batches);
            let batch = images.view().augmented(&[0; 900], augment, &mut rng);
            batch.chunks(8).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let rounded = |image: &[f32]| -> [u8; 8] {
            std::array::from_fn(|i| (image[i] * 255.0).round() as u8)
        };
        let count = |images: &[Vec<f32>], image: [u8; 8]| {
            images.iter().filter(|i| rounded(i) == image).count()
        };
        assert_eq!(draws(&images, Augment::NONE, 0)[0], images.input(0));

        let (crop_padding, flip) = (1, true);
        let flips = draws(
            &images,
            Augment {
                flip,
                ..Augment::NONE
            },
            0,
        );
        let mirrored = count(&flips, [2, 1, 4, 3, 6, 5, 8, 7]);
        assert!((390..510).contains(&mirrored), "{mirrored}"); // 450 +- 4 sigma
        assert_eq!(mirrored + count(&flips, [1, 2, 3, 4, 5, 6, 7, 8]), 900);

        let crops = draws(
            &images,
            Augment {
                crop_padding,
                ..Augment::NONE
            },
            0,
        );
        for moved in [
            [1, 2, 3, 4, 5, 6, 7, 8], // in place
            [4, 0, 0, 0, 8, 0, 0, 0], // up and left
            [0, 1, 0, 3, 0, 5, 0, 7], // right
            [0, 0, 1, 2, 0, 0, 5, 6], // down
        ] {
            let count = count(&crops, moved);
            assert!((62..138).contains(&count), "{count}"); // 100 +- 4 sigma
        }
        let both = Augment { crop_padding, flip };
        assert_eq!(draws(&images, both, 5), draws(&images, both, 5));
        assert_ne!(draws(&images, both, 5), draws(&images, both, 6));

        // What comes in from outside is black, which normalisation makes -mean / std.
        let normalisation = Normalisation::new([0.5, 0.25], [0.5, 0.5]).unwrap();
        let normalised = draws(&images.normalised(&normalisation).unwrap(), both, 5);
        for (normalised, raw) in normalised.iter().zip(draws(&images, both, 5)) {
            for (i, (&normalised, raw)) in normalised.iter().zip(raw).enumerate() {
                assert_eq!(normalised, (raw - [0.5, 0.25][i / 4]) / 0.5);
            }
        }

        let shape = Shape::new(1, 8, 9);
        let padded = |crop_padding| Augment { crop_padding, flip }.check(shape);
        padded(7).unwrap();
        let error = padded(8).unwrap_err().to_string();
        assert!(
            error.contains("augment.crop_padding: found 8, expected less than 8"),
            "{error}"
        );
    }
}
