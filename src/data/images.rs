//! Labelled images, their parts and their normalisation.
//!
//! Images from arrays of bytes and labels:
//!
//! ```
//! use evospike::prelude::*;
//!
//! type Stripes = data::Classify<1, 4, 2>; // 1 x 4 x 4 pixels, 2 classes: vertical and horizontal
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
//! Images from files of any size, such as `pets/train/cat/1.jpg`:
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
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::augment::Augment;
use super::shape::Shape;
use super::tasks::Task;
use crate::base::heat_map::pictures;
use crate::base::{Chart, Error, Result, Rng, Table, not_empty, require, show, write_file};

/// Part of a data set: [`Whole`], [`Training`], [`HeldOut`] or [`Test`].
pub trait Part: 'static {
    /// Name of the part, for tables and errors.
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
    /// Data set that is not split yet.
    Whole = "whole",
    /// Images for training the network and setting the thresholds of its conversion.
    Training = "training",
    /// Images that the network was not trained on, for evolution.
    HeldOut = "held-out",
    /// Images for the final results, on which nothing is chosen.
    Test = "test",
}

/// Pixels and labels of a data set, shared by its parts.
pub(super) struct Store {
    shape: Shape,
    pixels: Pixels,
    pub(super) labels: Vec<u16>,
    class_names: Vec<String>,
}

/// Pixels, images x channels x rows x columns.
enum Pixels {
    /// Bytes of a data set.
    Bytes {
        values: Vec<u8>,
        /// Divisor that scales pixels to 0..=1.
        full_scale: f32,
    },
    /// Pixels in 0..=1, such as those of attacked images, of some images only.
    Shares {
        values: Vec<f32>,
        /// Position of each image of the data set in `values`, `u32::MAX` for images not in it.
        places: Vec<u32>,
    },
}

/// Pixels of one image.
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
    /// Pixels in 0..=1.
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

/// Normalisation of the pixels of each channel: (pixel - mean) / std, for pixels in 0..=1.
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
    /// Mean and standard deviation of the training images of Tiny-ImageNet, per channel.
    pub const TINY_IMAGENET: Self = Self::of(&[0.4802, 0.4481, 0.3975], &[0.2770, 0.2691, 0.2821]);
    /// Mean and standard deviation of the training images of MNIST.
    pub const MNIST: Self = Self::of(&[0.1307], &[0.3081]);
    /// Mean and standard deviation that torchvision's ImageNet networks were trained with, per
    /// channel.
    pub const IMAGENET: Self = Self::of(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);

    const fn of(mean: &'static [f32], std: &'static [f32]) -> Self {
        Self { mean: Cow::Borrowed(mean), std: Cow::Borrowed(std) }
    }

    /// Creates a normalisation with one mean and one standard deviation per channel.
    ///
    /// # Errors
    /// Returns an error if the lists have different lengths, a number is not finite, or a `std` is
    /// not positive.
    pub fn new(mean: impl Into<Vec<f32>>, std: impl Into<Vec<f32>>) -> Result<Self> {
        let normalisation = Self { mean: Cow::Owned(mean.into()), std: Cow::Owned(std.into()) };
        normalisation.check(normalisation.mean.len())?;
        Ok(normalisation)
    }

    /// Mean of each channel, where pixels lie in 0..=1.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviation of each channel, where pixels lie in 0..=1.
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

/// Conversion of pixels to inputs of a network.
struct Scale {
    normalisation: Option<Normalisation>,
    /// Inputs for the 256 values of a byte, one array per channel; empty for pixels that are no
    /// bytes.
    inputs: Vec<[f32; 256]>,
}

impl Scale {
    fn new(store: &Store, normalisation: Option<Normalisation>) -> Self {
        let mut scale = Self { inputs: Vec::new(), normalisation };
        if let Pixels::Bytes { full_scale, .. } = store.pixels {
            let inputs = |channel| {
                std::array::from_fn(|pixel| scale.input(channel, pixel as f32 / full_scale))
            };
            scale.inputs = (0..store.shape.channels).map(inputs).collect();
        }
        scale
    }

    /// Input for a pixel in 0..=1.
    fn input(&self, channel: usize, share: f32) -> f32 {
        let normalisation = self.normalisation.as_ref();
        normalisation.map_or(share, |n| (share - n.mean[channel]) / n.std[channel])
    }
}

/// Labelled images of part `P` of a data set for task `K`.
///
/// Clones are cheap, because they share the pixels.
pub struct Images<P: Part, K: Task> {
    pub(super) store: Arc<Store>,
    scale: Arc<Scale>,
    pub(super) indices: Arc<[usize]>,
    /// Indices of the held-out images, for the error of a list that names one of them.
    held_out: Arc<[usize]>,
    types: PhantomData<fn() -> (P, K)>,
}

impl<P: Part, K: Task> Clone for Images<P, K> {
    fn clone(&self) -> Self {
        self.part(Arc::clone(&self.indices))
    }
}

impl<P: Part, K: Task> Images<P, K> {
    /// The same images, of which those with these indices are held out.
    pub(super) fn holding_out(&self, held_out: Arc<[usize]>) -> Self {
        Self { held_out, ..self.clone() }
    }

    pub(super) fn part<Q: Part>(&self, indices: impl Into<Arc<[usize]>>) -> Images<Q, K> {
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

    /// True if there are no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Label of image `i`, below [`Task::CLASSES`].
    ///
    /// # Panics
    /// Panics if `i` is not below [`len`](Self::len).
    pub fn label(&self, i: usize) -> usize {
        self.view().label(i)
    }

    /// Index of image `i` in the order in which the data set is read, from 0. It is the same in
    /// every part, and is the one in lists of images ([`listed`](Self::listed)).
    ///
    /// # Panics
    /// Panics if `i` is not below [`len`](Self::len).
    pub fn index(&self, i: usize) -> usize {
        self.indices[i]
    }

    /// Pixels of image `i` in 0..=1 before normalisation, channels x rows x columns.
    ///
    /// # Panics
    /// Panics if `i` is not below [`len`](Self::len).
    pub fn pixels(&self, i: usize) -> Vec<f32> {
        self.store.image(self.indices[i]).shares()
    }

    /// Image `i` as a picture.
    ///
    /// # Errors
    /// Returns an error if there is no such image, or it has neither one channel nor three.
    pub fn picture(&self, i: usize) -> Result<Chart> {
        let expected = format!("less than {}, the images", self.len());
        require(i < self.len(), "i", i, expected)?;
        let Shape { channels, height, width } = K::SHAPE;
        let class = self.label(i);
        let class = self.class_names().get(class).map_or_else(|| class.to_string(), Clone::clone);
        let title = format!("Image {}, class {class}", self.index(i));
        pictures(&title, [channels, height, width], [("", self.pixels(i))])
    }

    /// CRC-32 of the networks' inputs and of the labels, in order: of use in the key of a
    /// [`sweep`](crate::sweep).
    pub fn checksum(&self) -> u32 {
        self.view().checksum()
    }

    /// Replaces the pixels, for example by attacked ones. `pixels` are values in 0..=1, images x
    /// channels x rows x columns.
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
    /// Returns an error if the number of pixels is not that of the images, or if a pixel is outside
    /// 0..=1.
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
            pixels: Pixels::Shares { values: pixels, places },
            labels: self.store.labels.clone(),
            class_names: self.store.class_names.clone(),
        };
        Ok(Self {
            scale: Arc::new(Scale::new(&store, self.normalisation().cloned())),
            store: Arc::new(store),
            ..self.clone()
        })
    }

    /// Input of a network for image `i`, channels x rows x columns: the normalised pixels, or
    /// [`pixels`](Self::pixels) if there is no normalisation.
    ///
    /// # Panics
    /// Panics if `i` is not below [`len`](Self::len).
    pub fn input(&self, i: usize) -> Vec<f32> {
        self.view().input(i)
    }

    /// Names of the classes.
    pub fn class_names(&self) -> &[String] {
        &self.store.class_names
    }

    /// Sets the normalisation: the input of a network is (pixel - mean) / std.
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// let digits = data::digits()?.normalised(&data::Normalisation::new([0.3], [0.4])?)?;
    /// assert_eq!(digits.input(0)[0], (0.0 - 0.3) / 0.4);
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the normalisation is for another number of channels.
    pub fn normalised(&self, normalisation: &Normalisation) -> Result<Self> {
        normalisation.check(K::SHAPE.channels)?;
        let scale = Scale::new(&self.store, Some(normalisation.clone()));
        Ok(Self { scale: Arc::new(scale), ..self.clone() })
    }

    /// Normalisation of the images; none if the input of a network is the pixels.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        self.scale.normalisation.as_ref()
    }

    /// Leaves out the images of these indices, which are sorted.
    pub(super) fn without(&self, indices: &[usize]) -> Self {
        let left = self.indices.iter().copied();
        self.part(left.filter(|index| indices.binary_search(index).is_err()).collect::<Vec<_>>())
    }

    /// Reorders the images like `others`, which must be the same images.
    pub(crate) fn in_order_of(&self, others: &Self) -> Self {
        self.part(Arc::clone(&others.indices))
    }

    /// Takes the first `count` images, or all if there are fewer.
    pub fn take(&self, count: usize) -> Self {
        self.range(0..count)
    }

    /// Takes the images of a range of positions, or those of them that exist.
    pub fn range(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.len());
        self.part(&self.indices[range.start.min(end)..end])
    }

    /// Takes the images listed in a file, in its order: one [`index`](Self::index) per line. A list by
    /// [`save_list`](Self::save_list) is of its images alone: for another data set, or the same one in
    /// another order, it is refused.
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
    /// Returns an error if the file cannot be read or is empty, or if a line is not an index,
    /// repeats one, or names an image that is not in this part, such as a held-out image, or if the
    /// images are not those that were listed.
    pub fn listed(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut mine = vec![false; self.store.labels.len()];
        for &index in &*self.indices {
            mine[index] = true;
        }
        let (indices, checksum) = super::lists::index_file(path, mine.len())?;
        for (line, &index) in indices.iter().enumerate() {
            if !mine[index] {
                let held_out = P::NAME != HeldOut::NAME && self.held_out.contains(&index);
                return Err(Error::data(
                    path.display(),
                    format!("line {}", line + 1 + checksum.iter().len()),
                    match held_out {
                        true => format!("image {index}, which is held out"),
                        false => format!("image {index}, which is not among them"),
                    },
                    format!("one of the {} images of the {} part", self.len(), P::NAME),
                ));
            }
        }
        let listed = self.part(indices);
        let found = listed.view().contents();
        match checksum.filter(|&expected| expected != found) {
            None => Ok(listed),
            Some(expected) => Err(Error::data(
                path.display(),
                "line 1",
                format!("images of the CRC-32 {found}: another data set, or in another order"),
                format!("those that were listed, {expected}"),
            )),
        }
    }

    /// Writes the images' indices into a file, one per line after their CRC-32, for
    /// [`listed`](Self::listed) and
    /// [`TrainTest::hold_out_listed`](crate::data::TrainTest::hold_out_listed).
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save_list(&self, path: impl AsRef<Path>) -> Result<()> {
        let text = super::lists::index_text(&self.indices, self.view().contents());
        write_file(path.as_ref(), text.as_bytes())
    }

    /// Indices of the images of each class.
    pub(super) fn classes(&self) -> Vec<Vec<usize>> {
        let mut classes = vec![Vec::new(); K::CLASSES];
        for i in 0..self.len() {
            classes[self.label(i)].push(self.indices[i]);
        }
        classes
    }

    /// View without types, for the engine.
    pub(crate) fn view(&self) -> Samples<'_> {
        Samples { store: &self.store, scale: &self.scale, indices: &self.indices }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            format!("{} images, {} part, {}", self.len(), P::NAME, K::SHAPE),
            ["class", "images"],
        );
        for (class, images) in self.class_names().iter().zip(self.classes()) {
            table.row([class.clone(), images.len().to_string()]);
        }
        table
    }
}

impl<K: Task> Images<HeldOut, K> {
    /// Turns the held-out images into training images, for a method that may train on the images
    /// that evolution uses. They can no longer be used for choices.
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

show!(impl [P: Part, K: Task] Images<P, K> as table);

show!(Normalisation, Augment as fields);

/// Images without types, for the engine.
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

    /// Returns an error if there are no images.
    pub fn check_some(&self) -> Result<()> {
        not_empty("images", self.indices)
    }

    pub fn shape(&self) -> Shape {
        self.store.shape
    }

    pub fn label(&self, i: usize) -> usize {
        self.store.labels[self.indices[i]].into()
    }

    /// Index of image `i` in the data set.
    pub fn index(&self, i: usize) -> usize {
        self.indices[i]
    }

    /// Largest magnitude of an input for any image.
    pub fn peak(&self) -> f32 {
        let extremes = (0..self.store.shape.channels)
            .flat_map(|channel| [0.0, 1.0].map(|share| self.scale.input(channel, share)));
        extremes.fold(0.0, |peak, input| peak.max(input.abs()))
    }

    /// Input of a network for image `i`, channels x rows x columns.
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

    /// CRC-32 of the images' indices and labels, in order: which images they are, also where their
    /// pixels are attacked.
    pub fn which(&self) -> u32 {
        let mut checksum = flate2::Crc::new();
        for &index in self.indices {
            checksum.update(&(index as u64).to_le_bytes());
            checksum.update(&self.store.labels[index].to_le_bytes());
        }
        checksum.sum()
    }

    /// CRC-32 of which images they are, the same in any order.
    pub fn which_sorted(&self) -> u32 {
        let mut indices = self.indices.to_vec();
        indices.sort_unstable();
        Samples { indices: &indices, ..*self }.which()
    }

    /// CRC-32 of the images' inputs and labels, in order.
    pub fn checksum(&self) -> u32 {
        let mut checksum = flate2::Crc::new();
        for input in self.scale.inputs.iter().flatten() {
            checksum.update(&input.to_le_bytes());
        }
        self.add_to(checksum, |i, _| self.input(i))
    }

    /// CRC-32 of the images' pixels, before normalisation, and labels, in order.
    pub fn contents(&self) -> u32 {
        self.add_to(flate2::Crc::new(), |_, shares| shares.to_vec())
    }

    /// Adds labels and pixels to a checksum, or what `of` gives for pixels that are not bytes.
    fn add_to(&self, mut checksum: flate2::Crc, of: impl Fn(usize, &[f32]) -> Vec<f32>) -> u32 {
        for (i, &index) in self.indices.iter().enumerate() {
            checksum.update(&self.store.labels[index].to_le_bytes());
            match self.store.image(index) {
                Image::Bytes(pixels, _) => checksum.update(pixels),
                Image::Shares(shares) => {
                    let values = of(i, shares);
                    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                    checksum.update(&bytes.collect::<Vec<u8>>());
                }
            }
        }
        checksum.sum()
    }

    /// Inputs of a batch of images, images x channels x rows x columns.
    pub fn batch(&self, images: &[usize]) -> Vec<f32> {
        let mut batch = Vec::with_capacity(images.len() * self.store.shape.size());
        images.iter().for_each(|&i| batch.extend(self.input(i)));
        batch
    }

    /// Inputs of a batch of images, each augmented at random. `augment` must have been checked.
    pub fn augmented(&self, images: &[usize], augment: Augment, rng: &mut Rng) -> Vec<f32> {
        if augment == Augment::NONE {
            return self.batch(images);
        }
        let shape = self.store.shape;
        // Padding is black: the input for a pixel of 0, which is not 0 with a normalisation.
        let black: Vec<f32> = (0..shape.channels).map(|c| self.scale.input(c, 0.0)).collect();
        let mut batch = Vec::with_capacity(images.len() * shape.size());
        for &i in images {
            augment.vary(&self.input(i), shape, &black, rng, &mut batch);
        }
        batch
    }
}

impl<K: Task> Images<Whole, K> {
    /// Creates images from arrays: `pixels` of 0..=255, images x channels x rows x columns, and one
    /// label per image. The names of the classes are "0", "1", ...
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
    /// Returns an error if there are no images, the number of pixels is not that of the images, or
    /// a label is out of range.
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
        let wrong = labels.iter().position(|&label| label as usize >= K::CLASSES);
        if let Some(image) = wrong {
            return Err(Error::parameter(
                "labels",
                format!("{} for image {image}", labels[image]),
                format!("a class below {}", K::CLASSES),
            ));
        }
        Ok(Self::new(pixels, labels, 255.0, numbered(K::CLASSES)))
    }

    /// Creates images without checks.
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

#[cfg(test)]
mod tests;
