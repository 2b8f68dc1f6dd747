//! Conversion: a trained network becomes a spiking one, its thresholds balanced from activations.
//!
//! Every ReLU becomes a layer of integrate-and-fire neurons. The weights stay as they are; a
//! layer's threshold is a statistic of its ReLU's outputs on training images, and a spike carries
//! its layer's threshold as charge. That is the data-based normalisation of Diehl et al. (2015),
//! which divides the weights instead, without touching the weights: dividing a layer's weights by
//! its scale, times the scale before it, gives the same spikes with every threshold 1.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::Ann;
use crate::data::{Images, Samples, Task, Training};
use crate::error::{Error, Result};
use crate::layers::{Stages, to_channels_last};
use crate::networks::Network;
use crate::report::{Table, show};

/// Which statistic of a layer's activations becomes its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Balance {
    /// The largest activation (Diehl et al. 2015).
    Max,
    /// A percentile of all activations of the layer, zeros included, interpolated linearly
    /// (Rueckauer et al. 2017, section 2.2.3, with 99.9 as a good choice); above 0, at most 100.
    Percentile(f64),
}

impl Balance {
    /// The statistics that a baseline is chosen from.
    pub const SWEEP: [Self; 9] = [
        Self::Max,
        Self::Percentile(99.9),
        Self::Percentile(99.7),
        Self::Percentile(99.5),
        Self::Percentile(99.0),
        Self::Percentile(98.0),
        Self::Percentile(97.0),
        Self::Percentile(95.0),
        Self::Percentile(90.0),
    ];
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Percentile(percent) => write!(f, "percentile {percent}"),
        }
    }
}

/// Activations of one ReLU layer: the zeros as a number, the rest in order.
#[derive(Debug, Clone)]
struct Activations {
    zeros: usize,
    positive: Vec<f32>, // ascending
}

impl Activations {
    fn of(mut values: Vec<f32>) -> Self {
        let all = values.len();
        values.retain(|&value| value > 0.0);
        values.par_sort_unstable_by(f32::total_cmp);
        Self {
            zeros: all - values.len(),
            positive: values,
        }
    }

    fn nth(&self, rank: usize) -> f32 {
        rank.checked_sub(self.zeros)
            .map_or(0.0, |i| self.positive[i])
    }

    /// As NumPy's `percentile` with its default, linear method.
    fn percentile(&self, percent: f64) -> f32 {
        let rank = percent / 100.0 * (self.zeros + self.positive.len() - 1) as f64;
        let (low, high) = (
            self.nth(rank.floor() as usize),
            self.nth(rank.ceil() as usize),
        );
        low + (high - low) * rank.fract() as f32
    }
}

/// A trained network and its activations: one spiking network for every [`Balance`].
pub struct Conversion<N: Network> {
    stages: Arc<Stages>,
    activations: Vec<Activations>,
    network: PhantomData<fn() -> N>,
}

/// Records the activations of every ReLU on training images.
///
/// # Errors
/// No image; layers that do not convert or hold weights that are not finite.
pub fn convert<N: Network>(
    ann: &Ann<N>,
    images: &Images<Training, N::Task>,
) -> Result<Conversion<N>> {
    if images.is_empty() {
        return Err(Error::parameter("images", "none", "at least one"));
    }
    let stages = ann.stages()?;
    Ok(Conversion {
        activations: activations(&stages, images.view()),
        stages: Arc::new(stages),
        network: PhantomData,
    })
}

impl<N: Network> Conversion<N> {
    /// The spiking network whose thresholds are this statistic of the activations.
    ///
    /// # Errors
    /// A percentile out of range, or a threshold that is 0 since most of a layer's activations are.
    pub fn balance(&self, balance: Balance) -> Result<Snn<N>> {
        let percent = match balance {
            Balance::Max => 100.0,
            Balance::Percentile(percent) => percent,
        };
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(Error::parameter(
                "percentile",
                percent,
                "above 0, at most 100",
            ));
        }
        let thresholds = self.activations.iter().map(|a| a.percentile(percent));
        Snn::new(Arc::clone(&self.stages), thresholds.collect())
    }
}

impl<N: Network> Conversion<N> {
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }
}

/// Outputs of every ReLU on every image.
fn activations(stages: &Stages, images: Samples<'_>) -> Vec<Activations> {
    let inputs = images_channels_last(stages, images);
    let mut layers = Vec::with_capacity(stages.spiking());
    let mut values = inputs;
    for stage in &stages.stages[..stages.spiking()] {
        let mut next = vec![0.0; images.len() * stage.output.size()];
        next.par_chunks_exact_mut(stage.output.size())
            .zip(values.par_chunks_exact(stage.input.size()))
            .for_each(|(out, image)| {
                stage.forward(image, out);
                out.iter_mut().for_each(|value| *value = value.max(0.0));
            });
        layers.push(Activations::of(next.clone()));
        values = next;
    }
    layers
}

/// The images in the engine's order.
pub(crate) fn images_channels_last(stages: &Stages, images: Samples<'_>) -> Vec<f32> {
    let size = stages.input.size();
    let mut out = vec![0.0; images.len() * size];
    for (i, out) in out.chunks_exact_mut(size).enumerate() {
        let image: Vec<f32> = images.input(i).collect();
        to_channels_last(stages.input, &image, out);
    }
    out
}

/// Network `N` as a spiking network: integrate-and-fire neurons with soft reset, whose initial
/// membrane potential is 0. See [`simulate`](crate::simulate::simulate) for their equations.
pub struct Snn<N: Network> {
    pub(crate) stages: Arc<Stages>,
    thresholds: Vec<f32>,
    network: PhantomData<fn() -> N>,
}

impl<N: Network> Clone for Snn<N> {
    fn clone(&self) -> Self {
        Self {
            stages: Arc::clone(&self.stages),
            thresholds: self.thresholds.clone(),
            network: PhantomData,
        }
    }
}

impl<N: Network> Snn<N> {
    fn new(stages: Arc<Stages>, thresholds: Vec<f32>) -> Result<Self> {
        if thresholds.len() != stages.spiking() {
            return Err(Error::parameter(
                "thresholds",
                format!("{} values", thresholds.len()),
                format!("{}, one a layer of neurons", stages.spiking()),
            ));
        }
        for (layer, &threshold) in thresholds.iter().enumerate() {
            if !(threshold > 0.0 && threshold.is_finite()) {
                return Err(Error::layer(
                    layer,
                    "neurons",
                    format!("threshold {threshold}"),
                    "a finite threshold above 0",
                ));
            }
        }
        Ok(Self {
            stages,
            thresholds,
            network: PhantomData,
        })
    }

    /// Threshold of every layer of neurons, in units of its ReLU's output.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// Number of neurons in every layer of neurons.
    pub fn neurons(&self) -> Vec<usize> {
        let stages = &self.stages.stages[..self.stages.spiking()];
        stages.iter().map(|stage| stage.output.size()).collect()
    }

    /// The same network with other thresholds.
    ///
    /// # Errors
    /// Not one threshold a layer of neurons, or one that is not finite and above 0.
    pub fn with_thresholds(&self, thresholds: Vec<f32>) -> Result<Self> {
        Self::new(Arc::clone(&self.stages), thresholds)
    }

    /// The same network with every threshold multiplied by its layer's scale.
    ///
    /// # Errors
    /// As [`with_thresholds`](Self::with_thresholds).
    pub fn scaled(&self, scales: &[f64]) -> Result<Self> {
        if scales.len() != self.thresholds.len() {
            return Err(Error::parameter(
                "scales",
                format!("{} values", scales.len()),
                format!("{}, one a layer of neurons", self.thresholds.len()),
            ));
        }
        self.with_thresholds(scale(&self.thresholds, scales))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            format!("{} as a spiking network, input {}", N::NAME, N::Task::SHAPE),
            ["layer", "synapses", "shape", "neurons", "threshold"],
        );
        for (i, stage) in self.stages.stages.iter().enumerate() {
            let (neurons, threshold) = match self.thresholds.get(i) {
                Some(threshold) => (stage.output.size().to_string(), format!("{threshold:.4}")),
                None => ("integrates its input".into(), String::new()),
            };
            table.row([
                i.to_string(),
                stage.name.clone(),
                stage.output.to_string(),
                neurons,
                threshold,
            ]);
        }
        table
    }
}

/// Thresholds times scales; of equal number.
pub(crate) fn scale(thresholds: &[f32], scales: &[f64]) -> Vec<f32> {
    let scaled = thresholds.iter().zip(scales);
    scaled.map(|(&t, &s)| (f64::from(t) * s) as f32).collect()
}

show!(impl [N: Network] Snn<N> as table);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shares, digits};
    use crate::networks::DigitsCnn;

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([0, 0, 0, 0, 1, 2, 4, 8, 16, 32], p)
        let values = vec![4.0, 0.0, 32.0, 0.0, 1.0, 0.0, 16.0, 8.0, 0.0, 2.0];
        let activations = Activations::of(values);
        for (percent, expected) in [
            (100.0, 32.0),
            (99.9, 31.856),
            (90.0, 17.6),
            (50.0, 1.5),
            (40.0, 0.6),
            (30.0, 0.0),
        ] {
            let found = activations.percentile(percent);
            assert!((found - expected).abs() < 1e-4, "{percent}: {found}");
        }
    }

    #[test]
    fn impossible_thresholds_are_named() {
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let ann = Ann::<DigitsCnn>::new(0).unwrap();
        let conversion = convert(&ann, &digits.training.take(20)).unwrap();
        let snn = conversion.balance(Balance::Max).unwrap();
        let message = |error: Result<Snn<DigitsCnn>>| error.err().unwrap().to_string();
        for percent in [0.0, -1.0, 100.1, f64::NAN] {
            let error = message(conversion.balance(Balance::Percentile(percent)));
            assert!(error.starts_with("percentile: found"), "{error}");
        }
        let error = message(conversion.balance(Balance::Percentile(1e-9)));
        assert!(
            error.starts_with("layer 0 (neurons): found threshold 0"),
            "{error}"
        );
        let error = message(snn.with_thresholds(vec![1.0; 3]));
        assert_eq!(
            error,
            "thresholds: found 3 values, expected 6, one a layer of neurons"
        );
        let error = message(snn.scaled(&[1.0, 1.0, -1.0, 1.0, 1.0, 1.0]));
        assert!(
            error.starts_with("layer 2 (neurons): found threshold -"),
            "{error}"
        );
        assert!(convert(&ann, &digits.training.take(0)).is_err());
    }
}
