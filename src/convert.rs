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
use crate::neurons::Neurons;
use crate::report::{Table, show};
use crate::simulate::SpikingNetwork;

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
        Snn::new(
            Arc::clone(&self.stages),
            thresholds.map(|t| Neurons::new([t])).collect(),
        )
    }
}

impl<N: Network> Conversion<N> {
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }
}

/// Outputs of every ReLU on every image.
fn activations(stages: &Stages, images: Samples<'_>) -> Vec<Activations> {
    let of = |i: usize| {
        let pixels: Vec<f32> = images.input(i).collect();
        let mut image = vec![0.0; pixels.len()];
        to_channels_last(stages.input, &pixels, &mut image);
        stages.forward(&image)
    };
    let mut layers = vec![Vec::new(); stages.spiking()];
    let all: Vec<usize> = (0..images.len()).collect();
    for batch in all.chunks(64) {
        let currents: Vec<_> = batch.par_iter().map(|&i| of(i)).collect();
        for currents in currents {
            for (layer, current) in layers.iter_mut().zip(currents) {
                layer.extend(current.into_iter().map(|z| z.max(0.0)));
            }
        }
    }
    layers.into_iter().map(Activations::of).collect()
}

/// Network `N` as a spiking network; integrate-and-fire neurons with soft reset and an initial
/// membrane potential of 0 unless changed by [`with`](Self::with). Their equations are in
/// [`neurons`](mod@crate::neurons).
pub struct Snn<N: Network> {
    pub(crate) network: SpikingNetwork,
    name: PhantomData<fn() -> N>,
}

impl<N: Network> Clone for Snn<N> {
    fn clone(&self) -> Self {
        Self {
            network: self.network.clone(),
            name: PhantomData,
        }
    }
}

impl<N: Network> Snn<N> {
    fn new(stages: Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Ok(Self {
            network: SpikingNetwork::of(stages, neurons)?,
            name: PhantomData,
        })
    }

    /// The network without its type.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// Parameters of every layer of neurons.
    pub fn neurons(&self) -> &[Neurons] {
        self.network.neurons()
    }

    /// Threshold of every layer of neurons, in units of its ReLU's output; the mean where every
    /// channel has its own.
    pub fn thresholds(&self) -> Vec<f32> {
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let layers = self.neurons().iter();
        layers.map(|layer| mean(&layer.threshold)).collect()
    }

    /// Number of neurons in every layer of neurons.
    pub fn sizes(&self) -> Vec<usize> {
        let stages = &self.network.stages.stages[..self.neurons().len()];
        stages.iter().map(|stage| stage.output.size()).collect()
    }

    /// The same network with other neurons: `change` is called for every layer.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(snn: Snn<DigitsCnn>) -> evospike::Result<()> {
    /// let half = snn.with(|neurons| neurons.initial = 0.5)?; // start half a threshold up
    /// let leaky = snn.with(|neurons| neurons.leak = vec![0.99])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn with(&self, change: impl FnMut(&mut Neurons)) -> Result<Self> {
        let mut neurons = self.neurons().to_vec();
        neurons.iter_mut().for_each(change);
        self.with_neurons(neurons)
    }

    /// The same network with other neurons, one set of parameters a layer.
    ///
    /// # Errors
    /// Not one set a layer of neurons, or parameters out of range.
    pub fn with_neurons(&self, neurons: Vec<Neurons>) -> Result<Self> {
        Self::new(Arc::clone(&self.network.stages), neurons)
    }

    /// The same network with every threshold multiplied by its layer's scale.
    ///
    /// # Errors
    /// Not one scale a layer of neurons, or one that is not finite and above 0.
    pub fn scaled(&self, scales: &[f64]) -> Result<Self> {
        if scales.len() != self.neurons().len() {
            return Err(Error::parameter(
                "scales",
                format!("{} values", scales.len()),
                format!("{}, one a layer of neurons", self.neurons().len()),
            ));
        }
        self.with_neurons(scale(self.neurons(), scales))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            format!("{} as a spiking network, input {}", N::NAME, N::Task::SHAPE),
            ["layer", "synapses", "shape", "neurons", "threshold"],
        );
        for (i, stage) in self.network.stages.stages.iter().enumerate() {
            let (neurons, threshold) = match self.thresholds().get(i) {
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

/// Neurons with their thresholds times their layer's scale; of equal number.
pub(crate) fn scale(neurons: &[Neurons], scales: &[f64]) -> Vec<Neurons> {
    let mut scaled = neurons.to_vec();
    for (neurons, scale) in scaled.iter_mut().zip(scales) {
        for threshold in &mut neurons.threshold {
            *threshold = (f64::from(*threshold) * scale) as f32;
        }
    }
    scaled
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
        let error = message(snn.with_neurons(vec![Neurons::new([1.0]); 3]));
        assert_eq!(
            error,
            "neurons: found parameters of 3 layers, expected 6, one a layer of neurons"
        );
        let error = message(snn.scaled(&[1.0, 1.0, -1.0, 1.0, 1.0, 1.0]));
        assert!(
            error.starts_with("layer 2 (neurons): found threshold -"),
            "{error}"
        );
        assert!(convert(&ann, &digits.training.take(0)).is_err());
    }
}
