//! Accuracy, target and latency: defined here, once, for every step and every result.
//!
//! - *Accuracy* after timestep t: share of images whose output, summed over timesteps 1..=t, is
//!   largest at the label (of equal outputs, the one of the lowest class counts).
//! - *Target*: the accuracy of the ANN on the same images, less a margin in percentage points.
//! - *Latency*: the first timestep from which the accuracy stays at or above the target,
//!   min { t : accuracy(u) >= target for all u in t..=T }, or none.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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

    /// The accuracy to reach: this one less `margin_percent` percentage points.
    ///
    /// # Errors
    /// A margin that is negative or leaves nothing to reach.
    pub fn less(self, margin_percent: f64) -> Result<Target> {
        let percent = self.percent() - margin_percent;
        if !(margin_percent >= 0.0 && percent > 0.0) {
            return Err(Error::parameter(
                "margin_percent",
                margin_percent,
                format!(
                    "0 or more, and less than the accuracy of {:.1} %",
                    self.percent()
                ),
            ));
        }
        Ok(Target { percent })
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

/// An accuracy to reach, made by [`Accuracy::less`].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Target {
    percent: f64,
}

impl Target {
    /// In percent.
    pub fn percent(self) -> f64 {
        self.percent
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
    /// use evospike::metrics::{Accuracy, AccuracyCurve};
    ///
    /// let target = Accuracy { correct: 9, images: 10 }.less(10.0)?; // 80 %
    /// let curve = AccuracyCurve::new(10, vec![1, 8, 7, 8, 9])?;
    /// assert_eq!(curve.latency(target), Some(4)); // 80 % after timestep 2, but it does not stay
    /// # Ok::<(), evospike::Error>(())
    /// ```
    pub fn latency(&self, target: Target) -> Option<usize> {
        let tail = self
            .iter()
            .rev()
            .take_while(|a| a.percent() >= target.percent);
        match tail.count() {
            0 => None,
            stays => Some(self.timesteps() - stays + 1),
        }
    }

    /// How far the accuracy is below the target, summed over the timesteps before the latency
    /// (all timesteps, where the target is never reached), in percentage points.
    pub fn deficit(&self, target: Target) -> f64 {
        let before = self.latency(target).map_or(self.timesteps(), |l| l - 1);
        self.iter()
            .take(before)
            .map(|a| (target.percent - a.percent()).max(0.0))
            .sum()
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

    fn target(percent: f64) -> Target {
        Target { percent }
    }

    #[test]
    fn latency_is_where_accuracy_starts_to_stay() {
        let curve = |correct: &[usize]| AccuracyCurve::new(10, correct.to_vec()).unwrap();
        assert_eq!(curve(&[9, 9, 9]).latency(target(90.0)), Some(1));
        assert_eq!(curve(&[1, 9, 8, 9]).latency(target(90.0)), Some(4));
        assert_eq!(curve(&[1, 9, 9, 8]).latency(target(90.0)), None);
        assert_eq!(curve(&[1, 9, 9, 8]).latency(target(80.0)), Some(2));
    }

    #[test]
    fn deficit_counts_timesteps_before_the_latency_only() {
        let curve = AccuracyCurve::new(10, vec![5, 9, 7, 8, 10]).unwrap();
        assert_eq!(curve.deficit(target(80.0)), 30.0 + 0.0 + 10.0);
        assert_eq!(curve.latency(target(101.0)), None);
        assert_eq!(curve.deficit(target(90.0)), 40.0 + 0.0 + 20.0 + 10.0);
    }

    #[test]
    fn equal_outputs_count_for_the_lowest_class() {
        assert_eq!(predict(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(predict(&[0.0, 0.0]), 0);
    }

    #[test]
    fn margins_must_leave_a_target() {
        let accuracy = Accuracy {
            correct: 9,
            images: 10,
        };
        assert!(accuracy.less(0.0).is_ok());
        for margin in [-1.0, 90.0, f64::NAN] {
            let error = accuracy.less(margin).unwrap_err().to_string();
            assert!(error.starts_with("margin_percent"), "{error}");
        }
    }

    #[test]
    fn improvement_needs_both_latencies() {
        assert_eq!(improvement_percent(Some(40), Some(10)), Some(75.0));
        assert_eq!(improvement_percent(None, Some(10)), None);
        assert_eq!(improvement_percent(Some(40), None), None);
    }
}
