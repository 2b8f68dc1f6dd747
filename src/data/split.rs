//! Data sets split into training, held-out and test images.

use std::path::Path;
use std::sync::Arc;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::images::{HeldOut, Images, Normalisation, Part, Test, Training, Whole};
use super::tasks::Task;
use crate::base::{Error, Result, Rng, Stream, Table, rng, show};

/// Shares of each class that become the held-out and the test part; the rest is for training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Share for evolution, between 0 and 1.
    pub held_out: f64,
    /// Share for the final results, between 0 and 1.
    pub test: f64,
}

impl Default for Shares {
    /// A quarter for each.
    fn default() -> Self {
        Self { held_out: 0.25, test: 0.25 }
    }
}

/// Data set split into its three parts.
#[derive(Clone)]
pub struct Split<K: Task> {
    /// Images for training the network and setting its thresholds.
    pub training: Images<Training, K>,
    /// Images for evolution.
    pub held_out: Images<HeldOut, K>,
    /// Images for the final results.
    pub test: Images<Test, K>,
}

impl<K: Task> Images<Whole, K> {
    /// Splits every class at random in the same shares.
    ///
    /// # Errors
    /// Returns an error if a share is not between 0 and 1, or a part would have no images.
    pub fn split(&self, shares: Shares, seed: u64) -> Result<Split<K>> {
        for (name, share) in [("shares.held_out", shares.held_out), ("shares.test", shares.test)] {
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
        self.divide(training, held_out, (self, test), &mut rng).map_err(|part| {
            Error::parameter(
                "shares",
                format!("{shares:?}, which leaves no image to the part `{part}`"),
                "shares that leave images to every part",
            )
        })
    }

    /// Shuffles each part.
    ///
    /// # Errors
    /// Returns the name of a part without images.
    fn divide<P: Part>(
        &self,
        mut training: Vec<usize>,
        mut held_out: Vec<usize>,
        (test_images, mut test): (&Images<P, K>, Vec<usize>),
        rng: &mut Rng,
    ) -> Result<Split<K>, &'static str> {
        for (name, part) in
            [("training", &mut training), ("held_out", &mut held_out), ("test", &mut test)]
        {
            if part.is_empty() {
                return Err(name);
            }
            // Classes are mixed, so that the first n images of a part are a random sample of it.
            part.shuffle(rng);
        }
        let held_out: Arc<[usize]> = held_out.into();
        let training_images = self.holding_out(Arc::clone(&held_out));
        Ok(Split {
            training: training_images.part(training),
            held_out: training_images.part(held_out),
            test: test_images.part(test),
        })
    }
}

/// Data set with a test part of its own, in the order of its files.
#[derive(Clone)]
pub struct TrainTest<K: Task> {
    /// Images to be split into training and held-out images.
    pub training: Images<Whole, K>,
    /// Images for the final results.
    pub test: Images<Test, K>,
}

impl<K: Task> TrainTest<K> {
    /// Combines training and test images to a data set.
    ///
    /// # Errors
    /// Returns an error if the names of classes or the normalisations differ.
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
        Ok(Self { test: test.part(Arc::clone(&test.indices)), training })
    }

    /// Sets the normalisation of both parts, see [`Images::normalised`].
    ///
    /// # Errors
    /// Returns an error if the normalisation is for another number of channels.
    pub fn normalised(&self, normalisation: &Normalisation) -> Result<Self> {
        Ok(Self {
            training: self.training.normalised(normalisation)?,
            test: self.test.normalised(normalisation)?,
        })
    }

    /// Holds out a random `share` of the training images of every class, for evolution. The images
    /// of each part are in a random order.
    ///
    /// A network that was trained elsewhere has seen its training images: use
    /// [`hold_out_listed`](Self::hold_out_listed) with images that it was not trained on.
    ///
    /// # Errors
    /// Returns an error if the share is not between 0 and 1, or a part would have no images.
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

    /// Holds out the training images that a file lists, one [`index`](Images::index) per line, for
    /// evolution: for a network that was trained elsewhere, the images that it was not trained on.
    /// The images of each part are in a random order, which depends on `seed`.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Images::listed`], or if no training images remain.
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
        self.divide(training, held_out, &mut rng(seed, Stream::Split)).map_err(|part| {
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

show!(impl [K: Task] Split<K> as table);

show!(impl [K: Task] TrainTest<K> as table);

show!(Shares as fields);

/// Table of the number of images in the parts of a data set.
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
