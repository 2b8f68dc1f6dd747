//! Accuracy, target and latency: defined here, once, for every step and every result.
//!
//! - *Accuracy* after timestep t: share of images whose output, summed over timesteps 1..=t, is
//!   largest at the label (of equal outputs, the one of the lowest class counts).
//! - *Target*: the accuracy of the ANN on the same images, less a margin in percentage points
//!   (made by [`Ann::target`](crate::ann::Ann::target)).
//! - *Latency*: the first timestep from which the accuracy stays at or above the target,
//!   min { t : accuracy(u) >= target for all u in t..=T }, or none.

use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::Rng;

/// How many of some images were classified correctly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Images classified as their label.
    pub correct: usize,
    /// Images in all; not 0.
    pub images: usize,
}

impl Accuracy {
    /// In percent.
    pub fn percent(self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }

    /// Standard error of the percentage, as of a binomial proportion, in percentage points.
    pub fn standard_error(self) -> f64 {
        let share = self.correct as f64 / self.images as f64;
        100.0 * (share * (1.0 - share) / self.images as f64).sqrt()
    }
}

impl std::fmt::Display for Accuracy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} % ({} of {})",
            self.percent(),
            self.correct,
            self.images
        )
    }
}

/// The class of the largest output; of equal ones, the lowest class.
pub fn predict(outputs: &[f32]) -> usize {
    let mut best = 0;
    for (class, output) in outputs.iter().enumerate() {
        if *output > outputs[best] {
            best = class;
        }
    }
    best
}

/// The accuracy to reach on some images: the ANN's, less a margin.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    ann: Arc<[bool]>,
    margin_percent: f64,
}

impl Target {
    /// From whether the ANN classified each image correctly, and the margin in percentage points.
    ///
    /// # Errors
    /// A margin that is negative or leaves nothing to reach; no image.
    pub fn new(ann: impl Into<Arc<[bool]>>, margin_percent: f64) -> Result<Self> {
        let target = Self {
            ann: ann.into(),
            margin_percent,
        };
        if target.ann.is_empty() {
            return Err(Error::parameter("images", "none", "at least one"));
        }
        if !(margin_percent == 0.0 || margin_percent > 0.0 && target.percent() > 0.0) {
            let most = target.ann();
            let expected = format!("0 or more, and less than the ANN's accuracy of {most}");
            return Err(Error::parameter("margin_percent", margin_percent, expected));
        }
        Ok(target)
    }

    /// The ANN's accuracy.
    pub fn ann(&self) -> Accuracy {
        Accuracy {
            correct: self.ann.iter().filter(|&&correct| correct).count(),
            images: self.ann.len(),
        }
    }

    /// The accuracy to reach, in percent.
    pub fn percent(&self) -> f64 {
        self.ann().percent() - self.margin_percent
    }
}

/// Accuracy after every timestep of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccuracyCurve {
    images: usize,
    correct: Vec<usize>,
}

impl AccuracyCurve {
    /// A curve from the number of correct images after each timestep.
    ///
    /// # Errors
    /// No image, no timestep, or more correct images than images.
    pub fn new(images: usize, correct: Vec<usize>) -> Result<Self> {
        let most = correct.iter().copied().max();
        match most {
            Some(most) if most <= images && images > 0 => Ok(Self { images, correct }),
            _ => Err(Error::parameter(
                "correct",
                format!("{correct:?} of {images} images"),
                "at least one timestep, and no more correct images than there are",
            )),
        }
    }

    /// Number of timesteps.
    pub fn timesteps(&self) -> usize {
        self.correct.len()
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Accuracy after timestep `t`, counted from 1; none beyond the run.
    pub fn after(&self, t: usize) -> Option<Accuracy> {
        let correct = *self.correct.get(t.checked_sub(1)?)?;
        Some(Accuracy {
            correct,
            images: self.images,
        })
    }

    /// Accuracies after timesteps 1, 2, ...
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Accuracy> + DoubleEndedIterator + '_ {
        self.correct.iter().map(|&correct| Accuracy {
            correct,
            images: self.images,
        })
    }

    /// First timestep from which the accuracy stays at or above the target.
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
        let latency = first_to_stay(self.iter().map(Accuracy::percent), target.percent());
        (latency <= self.timesteps()).then_some(latency)
    }
}

/// First timestep from which all of these accuracies reach the target; one more than there are
/// timesteps where the last does not.
fn first_to_stay(
    percent: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator,
    target: f64,
) -> usize {
    let timesteps = percent.len();
    timesteps + 1 - percent.rev().take_while(|&p| p >= target).count()
}

/// Which images were classified correctly after each timestep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    timesteps: usize,
    rows: Vec<bool>, // a row of timesteps an image
}

impl Hits {
    /// From a row of `timesteps` values an image.
    pub(crate) fn new(timesteps: usize, rows: Vec<bool>) -> Self {
        Self { timesteps, rows }
    }

    /// Accuracy after every timestep.
    pub fn curve(&self) -> AccuracyCurve {
        let mut correct = vec![0; self.timesteps];
        for row in self.rows.chunks_exact(self.timesteps) {
            correct
                .iter_mut()
                .zip(row)
                .for_each(|(sum, &hit)| *sum += usize::from(hit));
        }
        AccuracyCurve {
            images: self.rows.len() / self.timesteps,
            correct,
        }
    }
}

/// Bootstrap resamples of some images: each draws as many images as there are, with replacement
/// (Efron 1979). What holds on most of them is more than luck with these images.
pub(crate) struct Resamples {
    count: usize,
    /// How often each resample holds each image: a row of resamples an image.
    weights: Vec<u32>,
}

impl Resamples {
    /// `count` resamples of `images` images; with 0, the images themselves once.
    pub fn new(images: usize, count: usize, rng: &mut Rng) -> Self {
        if count == 0 {
            return Self {
                count: 1,
                weights: vec![1; images],
            };
        }
        let mut weights = vec![0; images * count];
        for resample in 0..count {
            for _ in 0..images {
                weights[rng.random_range(0..images) * count + resample] += 1;
            }
        }
        Self { count, weights }
    }

    /// Of every resample: the latency to the target, one more than the timesteps where it is never
    /// reached, and how many percentage points the accuracy was below the target, summed over the
    /// timesteps before. The ANN's accuracy is that on the same resample.
    pub fn latencies(&self, hits: &Hits, target: &Target) -> Vec<(usize, f64)> {
        let (count, timesteps) = (self.count, hits.timesteps);
        let mut correct = vec![0u32; timesteps * count];
        let mut ann = vec![0u32; count];
        let rows = hits.rows.chunks_exact(timesteps).zip(&*target.ann);
        for ((row, &ann_hit), weights) in rows.zip(self.weights.chunks_exact(count)) {
            let add = |sums: &mut [u32]| {
                sums.iter_mut()
                    .zip(weights)
                    .for_each(|(sum, weight)| *sum += weight);
            };
            if ann_hit {
                add(&mut ann);
            }
            for (sums, _) in correct
                .chunks_exact_mut(count)
                .zip(row)
                .filter(|(_, hit)| **hit)
            {
                add(sums);
            }
        }
        let percent = |correct: u32| 100.0 * f64::from(correct) / target.ann.len() as f64;
        let of = |resample: usize| {
            let goal = percent(ann[resample]) - target.margin_percent;
            let curve = (0..timesteps).map(|t| percent(correct[t * count + resample]));
            let latency = first_to_stay(curve.clone(), goal);
            let deficits = curve
                .take(latency - 1)
                .map(|percent| (goal - percent).max(0.0));
            (latency, deficits.sum())
        };
        (0..count).map(of).collect()
    }
}

/// The latency won, in percent of the baseline's: 100 (1 - evolved / baseline).
/// None where either never reaches the target.
pub fn improvement_percent(baseline: Option<usize>, evolved: Option<usize>) -> Option<f64> {
    Some(100.0 * (1.0 - evolved? as f64 / baseline? as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, rng};

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

    /// Image i is right from timestep `from[i]`, of 5.
    fn hits(from: &[usize]) -> Hits {
        let rows = from
            .iter()
            .flat_map(|&from| (1..=5).map(move |t| t >= from));
        Hits::new(5, rows.collect())
    }

    #[test]
    fn without_resampling_the_images_count_once() {
        let hits = hits(&[1, 1, 1, 1, 1, 2, 2, 2, 3, 5]);
        assert_eq!(hits.curve().correct, [5, 8, 9, 9, 10]);
        let once = Resamples::new(10, 0, &mut rng(0, Stream::Bootstrap));
        assert_eq!(once.latencies(&hits, &target(90.0)), [(3, 40.0 + 10.0)]);
        assert_eq!(once.latencies(&hits, &target(50.0)), [(1, 0.0)]);
        let worse = Hits::new(2, [true, false].repeat(10));
        assert_eq!(once.latencies(&worse, &target(90.0)), [(3, 90.0)]);
    }

    #[test]
    fn resamples_pair_the_network_with_the_ann() {
        let resamples = Resamples::new(10, 200, &mut rng(0, Stream::Bootstrap));
        for resample in 0..200 {
            let weights = resamples.weights.iter().skip(resample).step_by(200);
            assert_eq!(weights.sum::<u32>(), 10);
        }
        // Right exactly where the ANN is: at the target from the start, whatever is drawn.
        let ann = [true, true, false, true, true, true, true, true, true, true];
        let same = Hits::new(3, ann.iter().flat_map(|&hit| [hit; 3]).collect());
        let target = Target::new(ann, 0.0).unwrap();
        assert!(
            resamples
                .latencies(&same, &target)
                .iter()
                .all(|&(l, d)| l == 1 && d == 0.0)
        );
        // One image late: late in the share 1 - (9/10)^10 of resamples, those that hold it.
        let late = resamples.latencies(&hits(&[4, 1, 9, 1, 1, 1, 1, 1, 1, 1]), &target);
        let late = late.iter().filter(|(l, _)| *l == 4).count();
        assert!(
            (100..160).contains(&late),
            "{late} of 200, expected about 130"
        );
    }

    #[test]
    fn equal_outputs_count_for_the_lowest_class() {
        assert_eq!(predict(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(predict(&[0.0, 0.0]), 0);
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
    fn improvement_needs_both_latencies() {
        assert_eq!(improvement_percent(Some(40), Some(10)), Some(75.0));
        assert_eq!(improvement_percent(None, Some(10)), None);
        assert_eq!(improvement_percent(Some(40), None), None);
    }
}
