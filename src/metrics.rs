//! Accuracy, target and latency, defined once for all steps and results.
//!
//! - *Accuracy* after timestep t: share of images whose output, summed over timesteps 1..=t, is
//!   largest at the label (of equal outputs, the one of the lowest class counts).
//! - *Target*: the accuracy of the ANN on the same images, less a margin in percentage points
//!   (made by [`Model::target`](crate::ann::Model::target)).
//! - *Latency*: the first timestep from which the accuracy stays at or above the target,
//!   min { t : accuracy(u) >= target for all u in t..=T }, or none.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use flate2::Crc;
use plotters::prelude::*;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::base::chart::{
    Area, Axes, Drawn, Key, axes, band, colour, dots, draw, legend, levelled_axes, levels, line,
    table,
};
use crate::base::{
    Chart, Error, Result, Stream, latency_text, not_empty, one_line, require, rng, rounded, show,
    some_timesteps,
};

/// Classification accuracy: the number of correct images out of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of images classified correctly.
    pub correct: usize,
    /// Number of images, at least 1.
    pub images: usize,
}

impl Accuracy {
    /// Returns the accuracy in percent.
    pub fn percent(self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % ({} of {})", self.percent(), self.correct, self.images)
    }
}

/// Returns the class with the largest output; among equals, the lowest class.
pub fn predict(outputs: &[f32]) -> usize {
    let mut best = 0;
    for (class, output) in outputs.iter().enumerate() {
        if *output > outputs[best] {
            best = class;
        }
    }
    best
}

/// Returns whether a class is among those of the k largest outputs; of equal outputs, those of lower
/// classes count as larger, as for [`predict`].
pub fn is_among_top(k: usize, outputs: &[f32], class: usize) -> bool {
    let own = outputs[class];
    let before = |&(other, &output): &(usize, &f32)| output > own || output == own && other < class;
    outputs.iter().enumerate().filter(before).count() < k
}

/// Accuracy to reach on some images: the ANN's accuracy less a margin.
#[derive(Clone, PartialEq)]
pub struct Target {
    ann: Arc<[bool]>,
    margin_percent: f64,
    /// CRC-32 of which images they are; none if that is not known.
    images: Option<u32>,
    /// Name of the reference network in charts.
    whose: &'static str,
}

impl Target {
    /// Creates a target from the ANN's hits, one per image, and the margin in percentage points.
    ///
    /// # Errors
    /// Returns an error if there is no image, or the margin is negative or leaves nothing to reach.
    pub fn new(ann: impl Into<Arc<[bool]>>, margin_percent: f64) -> Result<Self> {
        let target = Self { ann: ann.into(), margin_percent, images: None, whose: "ANN" };
        not_empty("images", &target.ann)?;
        let leaves = target.percent() > ROUNDING;
        let holds = margin_percent == 0.0 || margin_percent > 0.0 && leaves;
        let most = target.ann();
        let expected = format!("0 or more, and less than the ANN's accuracy of {most}");
        require(holds, "margin_percent", margin_percent, expected)?;
        Ok(target)
    }

    /// Returns the target at another margin below the same ANN on the same images, in percentage
    /// points.
    ///
    /// # Errors
    /// Returns an error if the margin is negative or leaves nothing to reach.
    pub fn with_margin(&self, margin_percent: f64) -> Result<Self> {
        let Self { ann, images, whose, .. } = self.clone();
        Ok(Self { images, whose, ..Self::new(ann, margin_percent)? })
    }

    /// Returns the ANN's accuracy.
    pub fn ann(&self) -> Accuracy {
        Accuracy {
            correct: self.ann.iter().filter(|&&correct| correct).count(),
            images: self.ann.len(),
        }
    }

    /// Returns the target with the CRC-32 of which images it was made on.
    pub(crate) fn of_images(self, checksum: u32) -> Self {
        Self { images: Some(checksum), ..self }
    }

    /// Returns the same target with another reference network in place of the ANN.
    pub(crate) fn of_reference(self) -> Self {
        Self { whose: "reference", ..self }
    }

    /// Returns the name of the reference network in charts.
    pub(crate) fn whose(&self) -> &'static str {
        self.whose
    }

    /// Returns whether the ANN classified each image correctly.
    pub(crate) fn ann_hits(&self) -> &[bool] {
        &self.ann
    }

    /// Returns the CRC-32 of the ANN's hits.
    pub(crate) fn checksum(&self) -> u32 {
        let mut checksum = Crc::new();
        let hits: Vec<u8> = self.ann.iter().map(|&hit| u8::from(hit)).collect();
        checksum.update(&hits);
        checksum.sum()
    }

    /// Returns an error if the target was not made on images of this number and checksum.
    pub(crate) fn check_on(&self, images: usize, checksum: u32) -> Result<()> {
        let expected = format!("the ANN's on these {images} held-out images");
        let found = match self.ann.len() == images {
            true => "one made on other images".into(),
            false => format!("one made on {} images", self.ann.len()),
        };
        let same = self.images.is_none_or(|own| own == checksum);
        require(self.ann.len() == images && same, "target", found, expected)
    }

    /// Returns the target on a range of its images.
    pub(crate) fn part(&self, images: std::ops::Range<usize>) -> Result<Self> {
        Ok(Self { whose: self.whose, ..Self::new(&self.ann[images], self.margin_percent)? })
    }

    /// Returns the margin below the ANN's accuracy, in percentage points.
    pub fn margin(&self) -> f64 {
        self.margin_percent
    }

    /// Returns the accuracy to reach, in percent.
    pub fn percent(&self) -> f64 {
        self.ann().percent() - self.margin_percent
    }

    /// Returns whether an accuracy in percent is at or above the target.
    pub fn is_reached(&self, percent: f64) -> bool {
        reaches(percent, self.percent())
    }
}

one_line!(impl [] Target: target, "{target}");

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, whose, own) = (self.percent(), self.whose, self.ann());
        write!(f, "{target:.1} %, {} points below the {whose}'s {own}", self.margin_percent)
    }
}

show!(Accuracy, Target as text);

/// Accuracy after each timestep of one run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccuracyCurve {
    images: usize,
    correct: Vec<usize>,
}

one_line!(
    impl [] AccuracyCurve: curve,
    "accuracy of {} images after each of {} timesteps",
    curve.images,
    curve.timesteps()
);

impl AccuracyCurve {
    /// Creates a curve from the number of correct images after each timestep.
    ///
    /// # Errors
    /// Returns an error if there is no image or no timestep, or more images are correct than there
    /// are.
    pub fn new(images: usize, correct: Vec<usize>) -> Result<Self> {
        let most = correct.iter().max();
        let holds = images > 0 && most.is_some_and(|&most| most <= images);
        let found = format!("{correct:?} of {images} images");
        let expected = "at least one timestep, and no more correct images than there are";
        require(holds, "correct", found, expected)?;
        Ok(Self { images, correct })
    }

    /// Draws this curve alone; [`plot::accuracy`](crate::plot::accuracy) draws several, and the
    /// target.
    pub(crate) fn chart(&self) -> Result<Chart> {
        let name = format!("{} images", self.images);
        accuracy_chart("Accuracy after every timestep", [(name, self)], None)
    }

    /// Returns the number of timesteps.
    pub fn timesteps(&self) -> usize {
        self.correct.len()
    }

    /// Returns the number of images.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Returns the accuracy after timestep `t`, counted from 1; none beyond the run.
    pub fn after(&self, t: usize) -> Option<Accuracy> {
        let correct = *self.correct.get(t.checked_sub(1)?)?;
        Some(Accuracy { correct, images: self.images })
    }

    /// Returns the accuracies after timesteps 1, 2, ...
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Accuracy> + DoubleEndedIterator + '_ {
        self.correct.iter().map(|&correct| Accuracy { correct, images: self.images })
    }

    /// Returns the first timestep from which the accuracy stays at or above the target.
    ///
    /// ```
    /// use evospike::metrics::{AccuracyCurve, Target};
    ///
    /// let ann = [true, true, true, true, true, true, true, true, true, false]; // 90 %
    /// let target = Target::new(ann, 10.0)?; // 80 %
    /// let curve = AccuracyCurve::new(10, vec![1, 8, 7, 8, 9])?;
    /// assert_eq!(curve.latency(&target), Some(4)); // 80 % after timestep 2, but it does not stay
    /// # Ok::<(), evospike::Error>(())
    /// ```
    pub fn latency(&self, target: &Target) -> Option<usize> {
        let (latency, _) = self.shortfall(target);
        (latency <= self.timesteps()).then_some(latency)
    }

    /// Returns the latency (the number of timesteps + 1 if the target is not reached) and the
    /// percentage points below the target, summed over the timesteps before the latency.
    pub(crate) fn shortfall(&self, target: &Target) -> (usize, f64) {
        let target = target.percent();
        let latency = first_to_stay(self.iter().map(Accuracy::percent), target);
        let before = self.iter().take(latency - 1);
        let below = before.map(|accuracy| (target - accuracy.percent()).max(0.0));
        (latency, below.sum())
    }
}

/// Error of the arithmetic with percentages and margins, and far less than one image's share.
const ROUNDING: f64 = 1e-9;

/// Returns whether an accuracy is at or above a target, though both are rounded: 80.1 % reaches
/// 80.4 % less 0.3 points, which is 80.10000000000001.
fn reaches(accuracy: f64, target: f64) -> bool {
    accuracy >= target - ROUNDING
}

/// Returns the first timestep from which all accuracies reach the target; the number of timesteps +
/// 1 if the last one does not.
fn first_to_stay(
    accuracies: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator,
    target: f64,
) -> usize {
    let timesteps = accuracies.len();
    timesteps + 1 - accuracies.rev().take_while(|&accuracy| reaches(accuracy, target)).count()
}

show!(impl [] AccuracyCurve as chart);

/// Hits: whether each image was classified correctly after each timestep.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Changes", into = "Changes")]
pub struct Hits {
    timesteps: usize,
    rows: Vec<bool>, // one row of timesteps per image
}

/// Timesteps (from 0) at which each image turns correct or wrong: few, so the file is small.
#[derive(Serialize, Deserialize)]
struct Changes {
    timesteps: usize,
    images: Vec<Vec<usize>>,
}

impl From<Hits> for Changes {
    fn from(hits: Hits) -> Self {
        let changes = |row: &[bool]| {
            let before = std::iter::once(&false).chain(row);
            let pairs = before.zip(row).enumerate();
            pairs.filter(|(_, (a, b))| a != b).map(|(t, _)| t).collect()
        };
        Self { timesteps: hits.timesteps, images: hits.rows().map(changes).collect() }
    }
}

impl TryFrom<Changes> for Hits {
    type Error = Error;

    fn try_from(Changes { timesteps, images }: Changes) -> Result<Self> {
        some_timesteps("timesteps", timesteps)?; // or a few bytes would take any memory
        let row = |image: Vec<usize>| {
            (0..timesteps).map(move |t| image.iter().filter(|&&at| at <= t).count() % 2 == 1)
        };
        Ok(Self { timesteps, rows: images.into_iter().flat_map(row).collect() })
    }
}

one_line!(impl [] Hits: hits, "hits of {} images in {} timesteps", hits.images(), hits.timesteps);

impl Hits {
    /// Creates the hits from one row of `timesteps` values per image.
    pub(crate) fn new(timesteps: usize, rows: Vec<bool>) -> Self {
        Self { timesteps, rows }
    }

    /// Returns the number of images.
    pub fn images(&self) -> usize {
        self.rows.len() / self.timesteps
    }

    /// Returns for each image whether it was correct after timesteps 1, 2, ...
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[bool]> {
        self.rows.chunks_exact(self.timesteps)
    }

    /// Returns the accuracy after each timestep.
    pub fn curve(&self) -> AccuracyCurve {
        let images = self.images();
        let correct = self.counted(&vec![1; images]);
        AccuracyCurve { images, correct: correct.into_iter().map(|count| count as usize).collect() }
    }

    /// Returns the number of correct images after each timestep, with image i counted `count[i]`
    /// times.
    fn counted(&self, count: &[u32]) -> Vec<u32> {
        let mut correct = vec![0; self.timesteps];
        for (row, count) in self.rows().zip(count) {
            let sums = correct.iter_mut().zip(row);
            sums.for_each(|(sum, &hit)| *sum += u32::from(hit) * count);
        }
        correct
    }
}

/// Row of `accuracy.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// Seed of the run.
    pub seed: u64,
    /// Name of the network.
    pub network: String,
    /// Timestep, from 1.
    pub timestep: usize,
    /// Number of images classified.
    pub images: usize,
    /// Accuracy after this timestep, in percent.
    pub accuracy_percent: f64,
}

impl AccuracyRow {
    /// Returns the rows of one curve.
    pub fn of<'a>(
        seed: u64,
        network: &'a str,
        curve: &'a AccuracyCurve,
    ) -> impl Iterator<Item = Self> + 'a {
        curve.iter().enumerate().map(move |(t, accuracy)| Self {
            seed,
            network: network.into(),
            timestep: t + 1,
            images: accuracy.images,
            accuracy_percent: rounded(accuracy.percent()),
        })
    }

    /// Returns the curve of one network from its rows, as read by
    /// [`read_csv`](crate::report::read_csv).
    ///
    /// # Errors
    /// Returns an error if there is no row of this seed and network, or the rows do not form a
    /// curve.
    pub fn curve(rows: &[Self], seed: u64, network: &str) -> Result<AccuracyCurve> {
        let is_own = |row: &&Self| row.seed == seed && row.network == network;
        let own: Vec<&Self> = rows.iter().filter(is_own).collect();
        let Some(first) = own.first() else {
            let mut names: Vec<&str> = rows.iter().map(|row| &*row.network).collect();
            names.dedup();
            let expected = format!("a network of the rows: {}", names.join("; "));
            let found = format!("{network}, seed {seed}");
            return Err(Error::parameter("network", found, expected));
        };
        let correct = own.iter().enumerate().map(|(t, row)| {
            let holds = row.timestep == t + 1 && row.images == first.images;
            let found = format!("timestep {} of {} images", row.timestep, row.images);
            let expected = format!("timestep {} of {}", t + 1, first.images);
            require(holds, "rows", found, expected)?;
            Ok((row.accuracy_percent / 100.0 * row.images as f64).round() as usize)
        });
        AccuracyCurve::new(first.images, correct.collect::<Result<_>>()?)
    }

    /// Returns the curves of some networks, each with its name, as [`curve`](Self::curve) does.
    ///
    /// # Errors
    /// Those of [`curve`](Self::curve).
    pub fn curves(
        rows: &[Self],
        seed: u64,
        networks: impl IntoIterator<Item: Into<String>>,
    ) -> Result<Vec<(String, AccuracyCurve)>> {
        let curve = |name: String| Self::curve(rows, seed, &name).map(|curve| (name, curve));
        networks.into_iter().map(|name| curve(name.into())).collect()
    }
}

/// Name and curve of a network, owned or borrowed.
pub trait NamedCurve {
    /// Both, owned.
    fn named(self) -> (String, AccuracyCurve);
}

impl<N: Into<String>, C: Borrow<AccuracyCurve>> NamedCurve for (N, C) {
    fn named(self) -> (String, AccuracyCurve) {
        (self.0.into(), self.1.borrow().clone())
    }
}

impl<N: Clone + Into<String>, C: Borrow<AccuracyCurve>> NamedCurve for &(N, C) {
    fn named(self) -> (String, AccuracyCurve) {
        (self.0.clone(), self.1.borrow()).named()
    }
}

/// Draws accuracy over timesteps for some named networks, with the ANN's accuracy and the target as
/// lines and the latency of every network marked (the paper's figure of accuracy over timesteps).
/// Networks whose names differ in nothing but their seed (`evolved, seed 0`) share a colour: a line for
/// their median, a band from the lowest to the highest.
///
/// ```no_run
/// # use evospike::prelude::*;
/// # fn example(before: Simulation, after: Simulation, target: Target) -> evospike::Result<()> {
/// let curves = [("baseline", &before.curve), ("evolved", &after.curve)];
/// plot::accuracy("Digits", curves, Some(&target))?.save("digits.svg")?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns [`Error::Chart`] if plotters fails.
pub fn accuracy_chart(
    title: &str,
    curves: impl IntoIterator<Item: NamedCurve>,
    target: Option<&Target>,
) -> Result<Chart> {
    let curves: Vec<_> = curves.into_iter().map(NamedCurve::named).collect();
    let groups = by_seeds(&curves);
    draw(title, groups.len(), |area| {
        let last = curves.iter().map(|(_, c)| c.timesteps()).max().unwrap_or(1) as f64;
        let titles = ["timestep", "accuracy (%)"];
        let (x, y) = (0.0..last, decisive(&curves, target));
        let mut axes = match target {
            Some(_) => levelled_axes(area, title, titles, x, y)?,
            None => axes(area, title, titles, x, y)?,
        };
        let mut entries = Vec::new();
        for (i, (name, members)) in groups.iter().enumerate() {
            let percents = |curve: &AccuracyCurve| curve.iter().map(Accuracy::percent).collect();
            let percents: Vec<Vec<f64>> = members.iter().map(|curve| percents(curve)).collect();
            // Accuracies of all members after each timestep, in order.
            let at = |t: usize| {
                let mut at: Vec<f64> = percents.iter().map(|curve| curve[t]).collect();
                at.sort_by(f64::total_cmp);
                at
            };
            let all: Vec<Vec<f64>> = (0..percents[0].len()).map(at).collect();
            let points = |of: fn(&[f64]) -> f64| {
                (1..).zip(&all).map(move |(t, at)| (f64::from(t), of(at))).collect::<Vec<_>>()
            };
            let (low, high) = (points(|at| at[0]), points(|at| at[at.len() - 1]));
            if members.len() > 1 {
                band(&mut axes, low.into_iter(), high.into_iter(), colour(i).mix(0.2).filled())?;
            }
            let middle = |at: &[f64]| (at[(at.len() - 1) / 2] + at[at.len() / 2]) / 2.0;
            line(&mut axes, i, points(middle))?;
            if all.len() == 1 {
                dots(&mut axes, points(middle), 3, colour(i).filled())?; // too few for a line
            }
            let Some(target) = target else {
                entries.push((name.clone(), Key::Line(i)));
                continue;
            };
            let latencies: Vec<_> = members.iter().map(|curve| curve.latency(target)).collect();
            for (latency, percents) in latencies.iter().zip(&percents) {
                let Some(latency) = latency else { continue };
                let (at, height) = (*latency as f64, percents[latency - 1]);
                let (x, y) = (axes.x_range(), axes.y_range());
                if at >= x.start && at <= x.end && height > y.start {
                    let style = colour(i).mix(0.6).stroke_width(1);
                    let drop = [(at, y.start), (at, height.min(y.end))];
                    axes.draw_series([PathElement::new(drop, style)])?;
                    dots(&mut axes, [(at, height)], 5, colour(i).filled())?;
                }
            }
            let label = match &latencies[..] {
                [None] => format!("{name}: target not reached"),
                all => {
                    let all: Vec<String> =
                        all.iter().map(|&latency| latency_text(latency)).collect();
                    format!("{name}: latency {}", all.join(", "))
                }
            };
            entries.push((label, Key::Line(i)));
        }
        if let Some(target) = target {
            target.draw(area, &mut axes)?;
        }
        legend(area, &entries)?;
        let rows = curves.iter().flat_map(|(name, curve)| {
            let row = |(t, accuracy): (usize, Accuracy)| {
                let (timestep, percent) = (t + 1, accuracy.percent());
                [name.clone(), timestep.to_string(), percent.to_string()]
            };
            curve.iter().enumerate().map(row)
        });
        table(["network", "timestep", "accuracy_percent"], rows)
    })
}

/// Curves whose names differ in nothing but `, seed` and a number, in the order of the first of each:
/// `evolved, seed 0` and `evolved, seed 1` are `evolved, seeds 0, 1`.
fn by_seeds(curves: &[(String, AccuracyCurve)]) -> Vec<(String, Vec<&AccuracyCurve>)> {
    const SEED: &str = ", seed ";
    type Group<'a> = (Option<[&'a str; 2]>, Vec<&'a str>, Vec<&'a AccuracyCurve>);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (name, curve) in curves {
        let parts = name.split_once(SEED).and_then(|(before, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            (end > 0).then(|| ([before, &rest[end..]], &rest[..end]))
        });
        let (frame, seed) = parts.map_or((None, &name[..]), |(frame, seed)| (Some(frame), seed));
        let known = groups.iter_mut().find(|(other, _, curves)| {
            frame.is_some() && *other == frame && curves[0].timesteps() == curve.timesteps()
        });
        match known {
            Some((_, seeds, curves)) => {
                seeds.push(seed);
                curves.push(curve);
            }
            None => groups.push((frame, vec![seed], vec![curve])),
        }
    }
    let named = groups.into_iter().map(|(frame, seeds, curves)| {
        let many = if seeds.len() > 1 { ", seeds " } else { SEED };
        let seeds = seeds.join(", ");
        let [before, after] = frame.unwrap_or_default();
        let name = frame.map_or(seeds.clone(), |_| format!("{before}{many}{seeds}{after}"));
        (name, curves)
    });
    named.collect()
}

impl Target {
    /// Draws the reference network's accuracy and the target as named lines.
    pub(crate) fn draw<'a, 'b: 'a>(&self, area: &Area<'b>, axes: &mut Axes<'a, 'b>) -> Drawn {
        let (ann, target) = (self.ann().percent(), self.percent());
        let names = [format!("{} {ann:.1} %", self.whose()), format!("target {target:.1} %")];
        let [ann_name, target_name] = names;
        levels(area, axes, &[(ann, ann_name), (target, target_name)])
    }
}

/// Accuracies that a chart shows, in percent: without a target all; with one those that decide, from
/// 12 points or 6 margins below it, and of every curve its 5 highest points.
fn decisive(curves: &[(String, AccuracyCurve)], target: Option<&Target>) -> Range<f64> {
    let Some(target) = target else {
        return 0.0..104.0;
    };
    let highest = curves.iter().map(|(_, curve)| curve.iter().map(Accuracy::percent));
    let highest = highest.map(|accuracies| accuracies.fold(0.0, f64::max));
    let most = highest.clone().fold(target.ann().percent(), f64::max);
    let low = target.percent() - f64::max(12.0, 6.0 * target.margin());
    let low = highest.map(|highest| highest - 5.0).fold(low, f64::min).floor().max(0.0);
    low..most + 0.05 * (most - low).max(1.0)
}

/// Latency improvement of a network over a baseline, on the same images and for the same target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Improvement {
    /// Latency of the baseline in timesteps; none if it does not reach the target.
    pub before: Option<usize>,
    /// Latency of the other network in timesteps; none if it does not reach the target.
    pub after: Option<usize>,
    /// Improvement 100 (1 - after / before) in percent; none if either latency is none.
    pub percent: Option<f64>,
    /// 95 % confidence interval of the improvement in percent: the 2.5 and 97.5 percentiles over
    /// bootstrap resamples of the images (Efron 1979), each of as many images as there are, drawn
    /// with replacement. The ANN's accuracy, and so the target, is that on the same resample; where
    /// the target is not reached, the latency counts as the number of timesteps + 1.
    pub interval: [f64; 2],
}

impl Improvement {
    /// Returns it with the percentages rounded as in CSV files.
    pub(crate) fn rounded(mut self) -> Self {
        self.percent = self.percent.map(rounded);
        self.interval = self.interval.map(rounded);
        self
    }
}

show!(Improvement as text);

impl fmt::Display for Improvement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = [self.before, self.after].map(latency_text);
        let text = |percent| format!("{percent:.1} %");
        let undefined = || "undefined, as one never stays at the target".into();
        let percent = self.percent.map_or_else(undefined, text);
        let [low, high] = self.interval;
        write!(
            f,
            "{before} -> {after} timesteps, improvement {percent} (95 % interval {low:.0} to {high:.0} %)"
        )
    }
}

impl AsRef<Hits> for Hits {
    fn as_ref(&self) -> &Hits {
        self
    }
}

impl Target {
    /// Returns the latency improvement of the run `after` over the run `before`, both on the images
    /// of this target.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(before: Simulation, after: Simulation, target: Target) -> evospike::Result<()> {
    /// println!("{}", target.improvement(&before, &after)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the runs are of other images than the target, or of different lengths.
    pub fn improvement(
        &self,
        before: &impl AsRef<Hits>,
        after: &impl AsRef<Hits>,
    ) -> Result<Improvement> {
        self.improvement_of(before.as_ref(), after.as_ref(), 0)
    }

    /// Returns the same, with resamples drawn from `seed`.
    pub(crate) fn improvement_of(
        &self,
        before: &Hits,
        after: &Hits,
        seed: u64,
    ) -> Result<Improvement> {
        const RESAMPLES: usize = 2000;
        let images = self.ann.len();
        for hits in [before, after] {
            let (timesteps, values) = (before.timesteps, images * before.timesteps);
            let holds = hits.timesteps == timesteps && hits.rows.len() == values;
            let found = format!("{} images", hits.images());
            let expected = format!("{images} images, {timesteps} timesteps");
            require(holds, "hits", found, expected)?;
        }
        let mut rng = rng(seed, Stream::Bootstrap);
        let mut count = vec![0u32; images];
        let mut improvements: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                count.fill(0);
                (0..images).for_each(|_| count[rng.random_range(0..images)] += 1);
                let ann = self.ann.iter().zip(&count);
                let ann: u32 = ann.map(|(&hit, count)| u32::from(hit) * count).sum();
                let target = f64::from(ann) - self.margin_percent / 100.0 * images as f64;
                let [before, after] = [before, after].map(|hits| {
                    let correct = hits.counted(&count);
                    first_to_stay(correct.into_iter().map(f64::from), target) as f64
                });
                100.0 * (1.0 - after / before)
            })
            .collect();
        improvements.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| improvements[(share * (RESAMPLES - 1) as f64).round() as usize];
        let [was, is] = [before, after].map(|hits| hits.curve().latency(self));
        let won = |(was, is)| 100.0 * (1.0 - is as f64 / was as f64);
        Ok(Improvement {
            before: was,
            after: is,
            percent: was.zip(is).map(won),
            interval: [at(0.025), at(0.975)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ANN that is always right, so that the target is 100 % less the margin.
    fn target(percent: f64) -> Target {
        Target::new([true; 10], 100.0 - percent).unwrap()
    }

    #[test]
    fn latency_is_where_accuracy_starts_to_stay() {
        let curve = |correct: &[usize]| AccuracyCurve::new(10, correct.to_vec()).unwrap();
        assert_eq!(curve(&[9, 9, 9]).latency(&target(90.0)), Some(1));
        assert_eq!(curve(&[1, 9, 8, 9]).latency(&target(90.0)), Some(4));
        assert_eq!(curve(&[1, 9, 9, 8]).latency(&target(90.0)), None);
        assert_eq!(curve(&[1, 9, 9, 8]).latency(&target(80.0)), Some(2));
    }

    #[test]
    fn a_chart_marks_latencies_up_to_the_last_timestep() {
        let curve = |correct: &[usize]| AccuracyCurve::new(10, correct.to_vec()).unwrap();
        let chart = |correct: &[usize]| {
            accuracy_chart("", [("a", curve(correct))], Some(&target(90.0))).unwrap()
        };
        assert_eq!(chart(&[1, 9]).svg().matches("<circle").count(), 1);
        assert_eq!(chart(&[9]).svg().matches("<circle").count(), 2);
        let seeds = ["a, seed 0, x", "b", "a, seed 1, x", "a, seed 2", "a, seed "];
        let seeds = seeds.map(|name| (name.to_string(), curve(&[1, 9])));
        let names: Vec<String> = by_seeds(&seeds).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a, seeds 0, 1, x", "b", "a, seed 2", "a, seed "]);
    }

    #[test]
    fn a_chart_shows_what_decides() {
        let curve = |correct: &[usize]| AccuracyCurve::new(10, correct.to_vec()).unwrap();
        let curves = |last| vec![("a".into(), curve(&[1, last, 9]))];
        assert_eq!(decisive(&curves(9), None), 0.0..104.0);
        assert_eq!(decisive(&curves(9), Some(&target(99.0))), 85.0..100.75);
        assert_eq!(decisive(&curves(9), Some(&target(90.0))), 30.0..103.5);
        let poor = vec![("poor".into(), curve(&[1, 2, 3]))];
        assert_eq!(decisive(&poor, Some(&target(99.0))), 25.0..103.75);
    }

    /// The ANN's accuracy less the margin is one that so many images have, which reaches the target
    /// however both are rounded; one image less does not.
    #[test]
    fn the_target_itself_is_reached() {
        let mut rounded_up = 0;
        for (images, margin, points) in [(1000, 1.0, 10), (1000, 0.3, 3), (10_000, 0.5, 50)] {
            for right in points + 1..=images {
                let hits = (0..images).map(|image| image < right).collect::<Vec<_>>();
                let target = Target::new(hits, margin).unwrap();
                let just = right - points;
                let percent = Accuracy { correct: just, images }.percent();
                rounded_up += usize::from(percent < target.percent());
                let curve = |correct| AccuracyCurve::new(images, vec![correct]).unwrap();
                assert_eq!(curve(just).latency(&target), Some(1), "{just} for {target}");
                assert_eq!(curve(just - 1).latency(&target), None, "{just} for {target}");
                assert!(target.is_reached(percent));
            }
        }
        assert!(rounded_up > 300, "{rounded_up}");
        // Nothing is left of 2.9 % less 2.9 points.
        let hits = (0..1000).map(|image| image < 29).collect::<Vec<_>>();
        assert!(Target::new(hits, 2.9).is_err());
    }

    /// Image i is right from timestep `from[i]`, of 5.
    fn hits(from: &[usize]) -> Hits {
        let rows = from.iter().flat_map(|&from| (1..=5).map(move |t| t >= from));
        Hits::new(5, rows.collect())
    }

    #[test]
    fn shortfall_is_latency_and_what_was_missing_before() {
        let hits = hits(&[1, 1, 1, 1, 1, 2, 2, 2, 3, 5]);
        assert_eq!(hits.curve().correct, [5, 8, 9, 9, 10]);
        assert_eq!(hits.curve().shortfall(&target(90.0)), (3, 40.0 + 10.0));
        assert_eq!(hits.curve().shortfall(&target(50.0)), (1, 0.0));
        let worse = AccuracyCurve::new(10, vec![10, 0]).unwrap();
        assert_eq!(worse.shortfall(&target(90.0)), (3, 90.0));
    }

    #[test]
    fn hits_come_back_from_a_file() {
        let rows = [[true, false, true], [false; 3], [true; 3]];
        let hits = Hits::new(3, rows.concat());
        let text = serde_json::to_string(&hits).unwrap();
        assert_eq!(text, r#"{"timesteps":3,"images":[[0,1,2],[],[0]]}"#);
        assert_eq!(serde_json::from_str::<Hits>(&text).unwrap(), hits);
        for timesteps in ["0", "4294967296"] {
            let text = text.replace('3', timesteps);
            assert!(serde_json::from_str::<Hits>(&text).is_err());
        }
    }

    #[test]
    fn the_interval_is_wide_where_few_images_decide() {
        let interval = |before: &[usize], after: &[usize], percent| {
            let (before, after) = (hits(before), hits(after));
            target(percent).improvement(&before, &after).unwrap().interval
        };
        // All images alike: every resample is the same.
        assert_eq!(interval(&[4; 10], &[2; 10], 90.0), [50.0, 50.0]);
        // The one late image is in the share 1 - (9/10)^10 = 0.65 of resamples.
        let mut late = [2; 10];
        late[3] = 4;
        assert_eq!(interval(&[4; 10], &late, 100.0), [0.0, 50.0]);
        // A target never reached counts as the timestep after the last, here the sixth.
        assert_eq!(interval(&[9; 10], &[3; 10], 100.0), [50.0, 50.0]);
        let shorter = Hits::new(4, vec![true; 40]);
        let error = target(90.0).improvement(&shorter, &hits(&[1; 10]));
        assert!(error.unwrap_err().to_string().starts_with("hits: found"));
    }

    #[test]
    fn equal_outputs_count_for_the_lowest_class() {
        assert_eq!(predict(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(predict(&[0.0, 0.0]), 0);
    }

    #[test]
    fn the_top_k_hold_as_many_classes() {
        let outputs = [0.0, 2.0, 1.0, 2.0, 0.5];
        for (k, top) in [(1, vec![1]), (2, vec![1, 3]), (3, vec![1, 2, 3]), (9, (0..5).collect())] {
            let found: Vec<_> = (0..5).filter(|&c| is_among_top(k, &outputs, c)).collect();
            assert_eq!(found, top, "{k}");
        }
    }

    #[test]
    fn margins_must_leave_a_target() {
        let ann = [true, true, false, true]; // 75 %
        assert_eq!(Target::new(ann, 5.0).unwrap().percent(), 70.0);
        for margin in [-1.0, 75.0, f64::NAN] {
            let error = Target::new(ann, margin).unwrap_err().to_string();
            assert!(error.starts_with("margin_percent: found"), "{error}");
        }
        assert!(Target::new([], 1.0).is_err());
    }

    #[test]
    fn a_target_is_of_its_images() {
        let error = |target: Target, images| {
            target.check_on(10, images).err().map(|error| error.to_string())
        };
        assert_eq!(error(target(90.0), 7), None); // of images that nobody named
        assert_eq!(error(target(90.0).of_images(7), 7), None);
        let other = error(target(90.0).of_images(7), 8).unwrap();
        assert!(other.starts_with("target: found one made on other images"), "{other}");
        assert!(target(90.0).check_on(9, 7).is_err());
    }

    #[test]
    fn improvement_needs_both_latencies() {
        let percent = |before, after| {
            let (before, after) = (hits(&[before; 10]), hits(&[after; 10]));
            target(90.0).improvement(&before, &after).unwrap().percent
        };
        assert_eq!(percent(4, 1), Some(75.0));
        assert_eq!(percent(9, 1), None);
        assert_eq!(percent(4, 9), None);
    }
}
