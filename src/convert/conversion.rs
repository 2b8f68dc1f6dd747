//! Thresholds of a spiking network from the activations of an ANN.

use std::cell::LazyCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::activations::{Activations, Channel};
use crate::ann::{Activation, Classifier, Model, TaskOf};
use crate::base::{Chart, Error, Result, Table, at_least, chart, require, show};
use crate::data::{Images, Training};
use crate::simulate::{InputCode, LayerByLayer, Neurons, Simulator, Snn, Stage, Stages};

/// Method that sets the threshold of a layer from the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Balance {
    /// Largest activation (Diehl et al. 2015).
    Max,
    /// Percentile of all activations of the layer, zeros included, interpolated linearly (Rueckauer
    /// et al. 2017, section 2.2.3, which recommends 99.9); above 0, at most 100.
    Percentile(f64),
    /// Largest activation per channel (Kim et al. 2020, "Spiking-YOLO"). A channel whose statistic
    /// is 0 gets that of the layer.
    MaxPerChannel,
    /// Percentile of the activations per channel, as with [`MaxPerChannel`](Self::MaxPerChannel);
    /// Spiking-YOLO uses 99.9.
    PercentilePerChannel(f64),
    /// Spike-Norm (Sengupta et al. 2019, algorithm 1): layer by layer, the largest input current in
    /// any timestep, while the layers before it spike with the thresholds found so far. A few
    /// hundred images are enough.
    SpikeNorm {
        /// Number of timesteps per simulation.
        timesteps: usize,
        /// Input coding of the images; Poisson in the paper.
        code: InputCode,
    },
    /// Threshold θ with the least squared error, over all activations a, of the value θ/T
    /// min(floor(T a/θ), T) that a neuron can represent in T timesteps (Li et al. 2021, "A Free
    /// Lunch From ANN", the MMSE threshold), among 1, 2, ... 100 percent of the largest activation.
    LeastSquares {
        /// Number of timesteps T.
        timesteps: usize,
    },
    /// Threshold θ per channel with the least squared error, over all activations a, of the value θ/n
    /// min(round(n a/θ), n) that a neuron can represent by n spikes, as neurons that start at half a
    /// spike do: [`LeastSquares`](Self::LeastSquares) for signed and graded neurons, which fire n =
    /// timesteps times spikes per timestep. Larger n give larger thresholds. A channel whose
    /// activations are all 0 gets the threshold of the layer.
    LeastSquaresPerChannel {
        /// Number of spikes n.
        spikes: usize,
    },
    /// Bound λ that the activation learned in training, with neurons that start at half a threshold
    /// (Bu et al. 2022, "Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency Spiking
    /// Neural Networks"). Only for networks of [`Qcfs`](crate::ann::modules::Qcfs); the only
    /// balance that sets an initial potential.
    Learned,
}

impl Balance {
    /// Statistics among which a baseline is chosen.
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
            Self::MaxPerChannel => f.write_str("max per channel"),
            Self::PercentilePerChannel(percent) => write!(f, "percentile {percent} per channel"),
            Self::SpikeNorm { timesteps, code } => {
                write!(f, "Spike-Norm over {timesteps} timesteps, {code} input")
            }
            Self::LeastSquares { timesteps } => {
                write!(f, "least squares at {timesteps} timesteps")
            }
            Self::LeastSquaresPerChannel { spikes } => {
                write!(f, "least squares at {spikes} spikes per channel")
            }
            Self::Learned => f.write_str("learned"),
        }
    }
}

/// Trained network with its activations, from which each [`Balance`] gives a spiking network.
pub struct Conversion<N: Classifier> {
    stages: Arc<Stages>,
    pub(crate) images: Images<Training, N::Task>,
    activations: Vec<Activations>,
    network: PhantomData<fn() -> N>,
}

show!(impl [N: Classifier] Conversion<N> as table);

/// Records the activations of every layer on training images.
///
/// Up to 50 million activations above 0 are kept, and their statistics are exact: those of 1,200
/// CIFAR images in a half-width VGG15. Of more, histograms are kept, of 512 bins between a power of
/// two and the next: memory does not grow with the images, and thresholds are within 0.1 % of the
/// exact ones.
///
/// # Errors
/// Returns an error if there is no image, a layer cannot be converted, or weights or activations
/// are not finite.
pub fn convert<M: Model>(
    model: &M,
    images: &Images<Training, TaskOf<M>>,
) -> Result<Conversion<M::Network>> {
    Conversion::of(Stages::of_task::<TaskOf<M>>(model.graph()?)?, images)
}

impl<N: Classifier> Conversion<N> {
    fn table(&self) -> Table {
        let images = self.images.len();
        let title = format!("Activations of {} on {images} training images", N::NAME);
        let header =
            ["layer", "synapses", "neurons", "zero (%)", "percentile 99", "99.9", "largest"];
        let mut table = Table::new(title, header);
        for (i, (activations, stage)) in
            self.activations.iter().zip(&self.stages.stages).enumerate()
        {
            let all = activations.len();
            let positive: usize = activations.channels.iter().map(Channel::len).sum();
            let zero = 100.0 * (all - positive) as f64 / all as f64;
            let [low, high, most] = [99.0, 99.9, 100.0].map(|p| activations.percentile(p));
            table.row([
                i.to_string(),
                stage.name.clone(),
                stage.output.size().to_string(),
                format!("{zero:.1}"),
                format!("{low:.4}"),
                format!("{high:.4}"),
                format!("{most:.4}"),
            ]);
        }
        table
    }

    fn of(stages: Stages, images: &Images<Training, N::Task>) -> Result<Self> {
        images.view().check_some()?;
        Ok(Self {
            activations: Activations::record(&stages, images.view())?,
            stages: Arc::new(stages),
            images: images.clone(),
            network: PhantomData,
        })
    }

    /// Returns the spiking network with the thresholds of this method.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(conversion: Conversion<DigitsCnn>) -> evospike::Result<()> {
    /// let snn = conversion.balance(Balance::PercentilePerChannel(99.9))?;
    /// let code = InputCode::Poisson { seed: 0 };
    /// let snn = conversion.balance(Balance::SpikeNorm { timesteps: 100, code })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if a percentile or a number of timesteps is out of range, a threshold is 0
    /// because most activations of its layer are, or the network has not learned any thresholds.
    pub fn balance(&self, balance: Balance) -> Result<Snn<N>> {
        let layers = self.activations.iter();
        let neurons = match balance {
            Balance::Max => return self.balance(Balance::Percentile(100.0)),
            Balance::Percentile(percent) => {
                check_percent(percent)?;
                layers.map(|a| Neurons::new([a.percentile(percent)])).collect()
            }
            Balance::MaxPerChannel => return self.balance(Balance::PercentilePerChannel(100.0)),
            Balance::PercentilePerChannel(percent) => {
                check_percent(percent)?;
                let all = |a: &Activations| a.percentile(percent);
                layers.map(|a| per_channel(a.percentiles(percent), || all(a))).collect()
            }
            Balance::SpikeNorm { timesteps, code } => {
                let simulator = Simulator::coded(&self.stages, self.images.view(), code, None)?;
                let mut prefix = LayerByLayer::new(simulator, timesteps)?;
                let mut neurons = Vec::new();
                for _ in layers {
                    let threshold = prefix.largest_current(&neurons)?;
                    let mut layer = Neurons::new([threshold]);
                    layer.clip(self.stages.stages[neurons.len()].activation.bound());
                    neurons.push(layer);
                }
                neurons
            }
            Balance::LeastSquares { timesteps } => {
                at_least(1, &[("timesteps", timesteps)])?;
                let threshold = |a: &Activations| a.least_squares(timesteps);
                layers.map(|a| Neurons::new([threshold(a)])).collect()
            }
            Balance::LeastSquaresPerChannel { spikes } => {
                at_least(1, &[("spikes", spikes)])?;
                let all = |a: &Activations| a.least_squares(spikes);
                layers.map(|a| per_channel(a.least_squares_rounded(spikes), || all(a))).collect()
            }
            Balance::Learned => {
                let stages = self.stages.stages[..layers.len()].iter();
                stages.enumerate().map(learned).collect::<Result<_>>()?
            }
        };
        Snn::new(Arc::clone(&self.stages), neurons)
    }

    /// Draws the distribution of the activations above 0 of a layer of neurons (from 0) on the
    /// training images, with percentiles of all its activations marked, to show where a threshold
    /// cuts off.
    ///
    /// # Errors
    /// Returns an error if the network has no such layer, or a percentile is out of range.
    pub fn histogram(&self, layer: usize, percentiles: &[f64]) -> Result<Chart> {
        const BINS: usize = 60;
        let Some(activations) = self.activations.get(layer) else {
            let layers = self.activations.len();
            let expected = format!("less than {layers}, the layers of neurons");
            return Err(Error::parameter("layer", layer, expected));
        };
        let most = f64::from(activations.percentile(100.0));
        let mut counts = [0usize; BINS];
        for (a, count) in activations.positive() {
            let bin = (f64::from(a) / most * BINS as f64) as usize;
            counts[bin.min(BINS - 1)] += count;
        }
        let all = activations.len() as f64;
        let shares = counts.map(|count| 100.0 * count as f64 / all);
        let mark = |&percent: &f64| {
            check_percent(percent)?;
            let at = activations.percentile(percent);
            Ok((format!("percentile {percent}: {at:.2}"), f64::from(at)))
        };
        let marks = percentiles.iter().map(mark).collect::<Result<Vec<_>>>()?;
        let zero = 100.0 - shares.iter().sum::<f64>();
        let title = format!("Activations of layer {layer} ({zero:.1} % are 0)");
        chart::histogram(&title, "activation", most, &shares, &marks)
    }

    /// Returns the network with a current into every channel that compensates for what its spikes
    /// lose on average (Li et al. 2021, "A Free Lunch From ANN", bias calibration). Layer by layer,
    /// the current is the mean activation minus the mean charge per timestep in `timesteps`, on the
    /// training images and with the layers before it calibrated. It is added to existing currents.
    /// The output layer stays as it is.
    ///
    /// After [`Balance::LeastSquares`], this is the paper's light pipeline except for its
    /// thresholds per channel; its advanced pipeline, which calibrates weights and the potential of
    /// every neuron, is left out.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(conversion: Conversion<DigitsCnn>) -> evospike::Result<()> {
    /// let snn = conversion.balance(Balance::LeastSquares { timesteps: 16 })?;
    /// let snn = conversion.calibrated(&snn.with(|neurons| neurons.initial = 0.5)?, 16)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is no timestep, or the network is of another conversion.
    pub fn calibrated(&self, snn: &Snn<N>, timesteps: usize) -> Result<Snn<N>> {
        self.compensated(snn, timesteps, |neurons| (&mut neurons.current, 1.0))
    }

    /// Returns the network with an initial membrane potential of every channel that compensates for
    /// what its spikes lose on average in `timesteps`, layer by layer like
    /// [`calibrated`](Self::calibrated). Its effect on the mean output fades with the timesteps,
    /// where that of a current stays: for networks that must be right early and late.
    ///
    /// # Errors
    /// Returns an error if there is no timestep, or the network is of another conversion.
    pub fn calibrated_potentials(&self, snn: &Snn<N>, timesteps: usize) -> Result<Snn<N>> {
        self.compensated(snn, timesteps, |neurons| (&mut neurons.potential, timesteps as f64))
    }

    /// Adds to values of the neurons the mean activation minus the mean charge per timestep, times a
    /// factor.
    fn compensated(
        &self,
        snn: &Snn<N>,
        timesteps: usize,
        values: impl Fn(&mut Neurons) -> (&mut Vec<f32>, f64),
    ) -> Result<Snn<N>> {
        let holds = Arc::ptr_eq(&self.stages, &snn.network.stages);
        let expected = "one that this conversion balanced";
        require(holds, "snn", "another network", expected)?;
        let simulator = Simulator::new(&self.stages, self.images.view())?;
        let mut prefix = LayerByLayer::new(simulator, timesteps)?;
        let mut neurons = snn.neurons().to_vec();
        for (layer, activations) in self.activations.iter().enumerate() {
            let spikes = prefix.channel_spikes(&neurons[..=layer])?;
            let all = (activations.count * timesteps) as f64;
            let charges = neurons[layer].charges().into_owned();
            let (values, factor) = values(&mut neurons[layer]);
            let means = activations.means().zip(spikes);
            let means = means.zip(charges.iter().cycle().zip(values.iter().cycle()));
            let changed = means.map(|((activation, spikes), (&charge, &value))| {
                let charge = f64::from(charge) * spikes as f64 / all;
                value + ((activation - charge) * factor) as f32
            });
            *values = changed.collect();
        }
        snn.with_neurons(neurons)
    }
}

fn check_percent(percent: f64) -> Result<()> {
    let holds = percent > 0.0 && percent <= 100.0;
    require(holds, "percentile", percent, "above 0, at most 100")
}

/// Neurons with these thresholds, and that of the layer for channels that have none.
fn per_channel(thresholds: impl IntoIterator<Item = f32>, layer: impl Fn() -> f32) -> Neurons {
    let layer = LazyCell::new(layer); // once, however many channels are silent
    let given = |threshold| if threshold == 0.0 { *layer } else { threshold };
    Neurons::new(thresholds.into_iter().map(given).collect::<Vec<f32>>())
}

fn learned((layer, stage): (usize, &Stage)) -> Result<Neurons> {
    match stage.activation {
        Activation::Qcfs { bound, .. } => Ok(Neurons { initial: 0.5, ..Neurons::new([bound]) }),
        _ => {
            let found = format!("learned, of a network whose layer {layer} of neurons is a ReLU");
            let expected = "another, or a network of Qcfs, which learns its thresholds";
            Err(Error::parameter("balance", found, expected))
        }
    }
}

#[cfg(test)]
mod tests;
