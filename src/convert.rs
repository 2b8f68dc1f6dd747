//! Conversion: a trained network becomes a spiking one, its thresholds balanced from activations.
//!
//! Every ReLU or [`Qcfs`](crate::ann::modules::Qcfs) becomes a layer of integrate-and-fire neurons. The weights stay as they are; a
//! layer's threshold is a statistic of its outputs on training images, and a spike carries
//! its layer's threshold as charge. That is the data-based normalisation of Diehl et al. (2015) and
//! Rueckauer et al. (2017), which divides the weights instead, without touching the weights:
//! dividing a layer's weights by its scale, times the scale before it, and its biases by its scale,
//! gives the same spikes with every threshold 1.
//!
//! Where timesteps are few, neurons that start half a threshold up help (Bu et al. 2022;
//! [`Snn::with`]), and currents that make up for what spikes lose on average
//! ([`Conversion::calibrated`]). A network that was trained with [`Qcfs`](crate::ann::modules::Qcfs)
//! already knows its thresholds, and converts with little error at very few timesteps
//! ([`Balance::Learned`]).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::layers::{Activation, Layer, Stage, Stages, to_channels_last};
use crate::ann::model::Ann;
use crate::ann::networks::Network;
use crate::base::error::{Error, Result};
use crate::data::images::{Images, Samples, Task, Training};
use crate::ops::backend::Backend;
use crate::plot::{self, Chart};
use crate::report::{Table, show};
use crate::simulate::codes::InputCode;
use crate::simulate::neurons::Neurons;
use crate::simulate::run::{Simulator, SpikingNetwork};

/// How a layer's threshold follows from the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Balance {
    /// The largest activation (Diehl et al. 2015).
    Max,
    /// A percentile of all activations of the layer, zeros included, interpolated linearly
    /// (Rueckauer et al. 2017, section 2.2.3, with 99.9 as a good choice); above 0, at most 100.
    Percentile(f64),
    /// For each channel, its largest activation (Kim et al. 2020, "Spiking-YOLO"). A channel whose
    /// statistic is 0 gets the layer's.
    MaxPerChannel,
    /// For each channel, a percentile of its activations, as with
    /// [`MaxPerChannel`](Self::MaxPerChannel); their 99.9 is that of Spiking-YOLO.
    PercentilePerChannel(f64),
    /// Spike-Norm (Sengupta et al. 2019, algorithm 1): layer after layer the largest input current
    /// at any of some timesteps, the layers before it spiking with the thresholds found so far.
    /// One simulation of the images a layer: some hundred images are enough.
    SpikeNorm {
        /// Timesteps of every simulation.
        timesteps: usize,
        /// How the images are given; Poisson in the paper.
        code: InputCode,
    },
    /// The threshold θ with the least squared error, over all activations a, of what a neuron can
    /// say in T timesteps, θ/T min(floor(T a/θ), T) (Li et al. 2021, "A Free Lunch From ANN",
    /// the MMSE threshold): of 1, 2, ... 100 percent of the largest activation.
    LeastSquares {
        /// T.
        timesteps: usize,
    },
    /// The bound λ that the activation learned in training, with neurons that start half a
    /// threshold up (Bu et al. 2022, "Optimal ANN-SNN Conversion for High-accuracy and
    /// Ultra-low-latency Spiking Neural Networks"): of a network of
    /// [`Qcfs`](crate::ann::modules::Qcfs). The one balance that sets an initial potential.
    Learned,
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
            Self::MaxPerChannel => f.write_str("max per channel"),
            Self::PercentilePerChannel(percent) => write!(f, "percentile {percent} per channel"),
            Self::SpikeNorm { timesteps, code } => {
                write!(f, "Spike-Norm over {timesteps} timesteps, {code} input")
            }
            Self::LeastSquares { timesteps } => {
                write!(f, "least squares at {timesteps} timesteps")
            }
            Self::Learned => f.write_str("learned"),
        }
    }
}

/// Activations of one layer on all images.
#[derive(Debug, Clone)]
struct Activations {
    /// Of each channel, zeros included.
    count: usize,
    /// Of each channel, those above 0; ascending.
    channels: Vec<Vec<f32>>,
}

impl Activations {
    /// As NumPy's `percentile` with its default, linear method, of all channels.
    fn percentile(&self, percent: f64) -> f32 {
        percentile(&self.channels, self.count, percent)
    }

    /// Of each channel.
    fn percentiles(&self, percent: f64) -> impl Iterator<Item = f32> {
        let channels = self.channels.chunks(1);
        channels.map(move |channel| percentile(channel, self.count, percent))
    }

    /// Mean of each channel.
    fn means(&self) -> impl Iterator<Item = f64> {
        self.channels.iter().map(|channel| {
            let sum: f64 = channel.iter().map(|&a| f64::from(a)).sum();
            sum / self.count as f64
        })
    }

    /// Of thresholds of 1 to 100 percent of the largest activation, the one with the least squared
    /// error at T timesteps; of equal ones, the largest. 0 where every activation is.
    fn least_squares(&self, timesteps: usize) -> f32 {
        let most = self.percentile(100.0);
        if most == 0.0 {
            return 0.0;
        }
        let steps = timesteps as f32;
        let error = |threshold: f32| -> f64 {
            let (per_step, step) = (steps / threshold, threshold / steps);
            let of = |&a: &f32| {
                let said = (a * per_step).floor().min(steps) * step;
                f64::from((a - said) * (a - said))
            };
            self.channels.iter().flatten().map(of).sum()
        };
        let candidates: Vec<(f32, f64)> = (1..=100u8)
            .into_par_iter()
            .rev()
            .map(|percent| most * f32::from(percent) / 100.0)
            .map(|threshold| (threshold, error(threshold)))
            .collect();
        let best = candidates.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0.0, |best| best.0)
    }
}

/// Of the values of some channels, `count` each, of which those above 0 are given.
fn percentile(channels: &[Vec<f32>], count: usize, percent: f64) -> f32 {
    let all = count * channels.len();
    let zeros = all - channels.iter().map(Vec::len).sum::<usize>();
    // Positive floats are in the order of their bits: the least value that enough do not exceed.
    let nth = |rank: usize| {
        let Some(rank) = rank.checked_sub(zeros) else {
            return 0.0;
        };
        let (mut low, mut high) = (0, f32::INFINITY.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            let up_to = |channel: &Vec<f32>| channel.partition_point(|a| a.to_bits() <= middle);
            match channels.iter().map(up_to).sum::<usize>() > rank {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        f32::from_bits(low)
    };
    let rank = percent / 100.0 * (all - 1) as f64;
    let (low, high) = (nth(rank.floor() as usize), nth(rank.ceil() as usize));
    low + (high - low) * rank.fract() as f32
}

/// A trained network and its activations: one spiking network for every [`Balance`].
pub struct Conversion<N: Network> {
    stages: Arc<Stages>,
    images: Images<Training, N::Task>,
    activations: Vec<Activations>,
    network: PhantomData<fn() -> N>,
}

show!(impl [N: Network] Conversion<N> as table);

/// Records the activations of every layer on training images.
///
/// # Errors
/// No image; layers that do not convert or hold weights that are not finite; activations that are
/// not.
pub fn convert<N: Network, D: Backend>(
    ann: &Ann<N, D>,
    images: &Images<Training, N::Task>,
) -> Result<Conversion<N>> {
    Conversion::of(ann.stages()?, images)
}

impl<N: Network> Conversion<N> {
    fn table(&self) -> Table {
        let images = self.images.len();
        let title = format!("Activations of {} on {images} training images", N::NAME);
        let header = [
            "layer",
            "synapses",
            "neurons",
            "zero (%)",
            "percentile 99",
            "99.9",
            "largest",
        ];
        let mut table = Table::new(title, header);
        for (i, (activations, stage)) in
            self.activations.iter().zip(&self.stages.stages).enumerate()
        {
            let all = activations.count * activations.channels.len();
            let positive: usize = activations.channels.iter().map(Vec::len).sum();
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
            activations: activations(&stages, images.view())?,
            stages: Arc::new(stages),
            images: images.clone(),
            network: PhantomData,
        })
    }

    /// The spiking network with these thresholds.
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
    /// A percentile or a number of timesteps out of range, a threshold that is 0 since most of a
    /// layer's activations are, or learned thresholds of a network that learned none.
    pub fn balance(&self, balance: Balance) -> Result<Snn<N>> {
        let layers = self.activations.iter();
        let neurons = match balance {
            Balance::Max => layers
                .map(|a| Neurons::new([a.percentile(100.0)]))
                .collect(),
            Balance::Percentile(percent) => {
                check_percent(percent)?;
                layers
                    .map(|a| Neurons::new([a.percentile(percent)]))
                    .collect()
            }
            Balance::MaxPerChannel => layers.map(|a| per_channel(a, 100.0)).collect(),
            Balance::PercentilePerChannel(percent) => {
                check_percent(percent)?;
                layers.map(|a| per_channel(a, percent)).collect()
            }
            Balance::SpikeNorm { timesteps, code } => {
                let simulator = Simulator::coded(&self.stages, self.images.view(), code)?;
                let mut neurons = Vec::new();
                for _ in layers {
                    let threshold = simulator.largest_current(&neurons, timesteps)?;
                    neurons.push(Neurons::new([threshold]));
                }
                neurons
            }
            Balance::LeastSquares { timesteps: 0 } => {
                return Err(Error::parameter("timesteps", 0, "1 or more"));
            }
            Balance::LeastSquares { timesteps } => layers
                .map(|a| Neurons::new([a.least_squares(timesteps)]))
                .collect(),
            Balance::Learned => {
                let stages = self.stages.stages[..layers.len()].iter();
                stages.enumerate().map(learned).collect::<Result<_>>()?
            }
        };
        Snn::new(Arc::clone(&self.stages), neurons)
    }

    /// How the activations of a layer of neurons (from 0) above 0 are spread over the training
    /// images, with some percentiles of all of them marked: where a threshold cuts off.
    ///
    /// # Errors
    /// A layer that the network does not have; a percentile out of range.
    pub fn histogram(&self, layer: usize, percentiles: &[f64]) -> Result<Chart> {
        const BINS: usize = 60;
        let Some(activations) = self.activations.get(layer) else {
            let layers = self.activations.len();
            let expected = format!("less than {layers}, the layers of neurons");
            return Err(Error::parameter("layer", layer, expected));
        };
        let most = f64::from(activations.percentile(100.0));
        let above = activations.channels.iter().flatten();
        let mut counts = [0usize; BINS];
        for &a in above {
            let bin = (f64::from(a) / most * BINS as f64) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
        let all = (activations.count * activations.channels.len()) as f64;
        let shares = counts.map(|count| 100.0 * count as f64 / all);
        let mark = |&percent: &f64| {
            check_percent(percent)?;
            let at = activations.percentile(percent);
            Ok((format!("percentile {percent}: {at:.2}"), f64::from(at)))
        };
        let marks = percentiles.iter().map(mark).collect::<Result<Vec<_>>>()?;
        let zero = 100.0 - shares.iter().sum::<f64>();
        let title = format!("Activations of layer {layer} ({zero:.1} % are 0)");
        plot::histogram(&title, "activation", most, &shares, &marks)
    }

    /// A network of this conversion with a current into every channel that makes up for what its
    /// spikes lose on average (Li et al. 2021, "A Free Lunch From ANN", bias calibration): layer
    /// after layer, the mean activation less the mean charge a timestep over so many timesteps, on
    /// the training images and with the layers before it calibrated. Added to the currents that
    /// are there. The output layer stays as it is.
    ///
    /// With [`Balance::LeastSquares`] before, this is the paper's light pipeline but for its
    /// thresholds by channel; its advanced one, which calibrates weights and the potential of every
    /// neuron, is left out.
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
    /// No timestep, or a network of another conversion.
    pub fn calibrated(&self, snn: &Snn<N>, timesteps: usize) -> Result<Snn<N>> {
        if !Arc::ptr_eq(&self.stages, &snn.network.stages) {
            let expected = "one that this conversion balanced";
            return Err(Error::parameter("snn", "another network", expected));
        }
        let simulator = Simulator::new(&self.stages, self.images.view())?;
        let mut neurons = snn.neurons().to_vec();
        for (layer, activations) in self.activations.iter().enumerate() {
            let spikes = simulator.channel_spikes(&neurons[..=layer], timesteps)?;
            let all = (activations.count * timesteps) as f64;
            let neurons = &mut neurons[layer];
            let charges = neurons.charges().iter().cycle();
            let currents = neurons.current.iter().cycle();
            let means = activations.means().zip(spikes).zip(charges.zip(currents));
            let means = means.map(|((activation, spikes), (&charge, &current))| {
                let charge = f64::from(charge) * spikes as f64 / all;
                current + (activation - charge) as f32
            });
            neurons.current = means.collect();
        }
        snn.with_neurons(neurons)
    }
}

fn check_percent(percent: f64) -> Result<()> {
    if percent > 0.0 && percent <= 100.0 {
        return Ok(());
    }
    Err(Error::parameter(
        "percentile",
        percent,
        "above 0, at most 100",
    ))
}

fn per_channel(activations: &Activations, percent: f64) -> Neurons {
    let layer = activations.percentile(percent);
    let thresholds = activations.percentiles(percent);
    let thresholds = thresholds.map(|threshold| match threshold {
        0.0 => layer,
        threshold => threshold,
    });
    Neurons::new(thresholds.collect::<Vec<f32>>())
}

fn learned((layer, stage): (usize, &Stage)) -> Result<Neurons> {
    match stage.activation {
        Activation::Qcfs { bound, .. } => Ok(Neurons {
            initial: 0.5,
            ..Neurons::new([bound])
        }),
        _ => {
            let found = format!("learned, of a network whose layer {layer} of neurons is a ReLU");
            let expected = "another, or a network of Qcfs, which learns its thresholds";
            Err(Error::parameter("balance", found, expected))
        }
    }
}

/// Outputs of every ReLU or Qcfs on every image.
fn activations(stages: &Stages, images: Samples<'_>) -> Result<Vec<Activations>> {
    let of = |i: usize| {
        let pixels = images.input(i);
        let mut image = vec![0.0; pixels.len()];
        to_channels_last(stages.input, &pixels, &mut image);
        stages.forward(&image)
    };
    let layers = stages.stages[..stages.spiking()].iter();
    let mut layers: Vec<Activations> = layers
        .map(|stage| Activations {
            count: images.len() * stage.output.height * stage.output.width,
            channels: vec![Vec::new(); stage.output.channels],
        })
        .collect();
    let all: Vec<usize> = (0..images.len()).collect();
    for batch in all.chunks(64) {
        let currents: Vec<_> = batch.par_iter().map(|&i| of(i)).collect();
        for currents in currents {
            for (number, (layer, current)) in layers.iter_mut().zip(currents).enumerate() {
                let activation = stages.stages[number].activation;
                for position in current.chunks_exact(layer.channels.len()) {
                    for (channel, &z) in layer.channels.iter_mut().zip(position) {
                        if !z.is_finite() {
                            let found = format!("activation {z}");
                            return Err(Error::layer(number, "neurons", found, "finite ones"));
                        }
                        let a = activation.of(z);
                        if a > 0.0 {
                            channel.push(a);
                        }
                    }
                }
            }
        }
    }
    let channels = layers.par_iter_mut().flat_map(|layer| &mut layer.channels);
    channels.for_each(|channel| channel.sort_unstable_by(f32::total_cmp));
    Ok(layers)
}

/// Network `N` as a spiking network; integrate-and-fire neurons with soft reset and an initial
/// membrane potential of 0 unless changed by [`with`](Self::with). Their equations are in
/// [`neurons`](mod@crate::simulate::neurons).
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
    pub(crate) fn new(stages: Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Ok(Self {
            network: SpikingNetwork::of(stages, neurons)?,
            name: PhantomData,
        })
    }

    /// Of layers that no longer are an ANN's.
    pub(crate) fn from_layers(layers: &[Layer], neurons: Vec<Neurons>) -> Result<Self> {
        let stages = Stages::new(N::Task::SHAPE, layers, N::Task::CLASSES)?;
        Self::new(Arc::new(stages), neurons)
    }

    /// The network without its type.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// Parameters of every layer of neurons.
    pub fn neurons(&self) -> &[Neurons] {
        self.network.neurons()
    }

    /// Threshold of every layer of neurons, in units of its activations; the mean where every
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
        let mut neurons = self.neurons().to_vec();
        for (neurons, &scale) in neurons.iter_mut().zip(scales) {
            neurons.scale_thresholds(scale);
        }
        self.with_neurons(neurons)
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

show!(impl [N: Network] Snn<N> as table);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::TrainSettings;
    use crate::ann::layers::{Layer, Shape};
    use crate::ann::networks::DigitsCnn;
    use crate::data::{Shares, Whole, digits};
    use crate::simulate::neurons::Charge;
    use crate::simulate::{Trace, simulate};

    fn activations_of(channels: &[&[f32]]) -> Activations {
        let positive = |channel: &&[f32]| {
            let mut values = channel.to_vec();
            values.retain(|&a| a > 0.0);
            values.sort_unstable_by(f32::total_cmp);
            values
        };
        Activations {
            count: channels[0].len(),
            channels: channels.iter().map(positive).collect(),
        }
    }

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([0, 0, 0, 0, 1, 2, 4, 8, 16, 32], p), as one channel and as two
        let one = activations_of(&[&[4.0, 0.0, 32.0, 0.0, 1.0, 0.0, 16.0, 8.0, 0.0, 2.0]]);
        let two = activations_of(&[&[4.0, 0.0, 32.0, 0.0, 1.0], &[0.0, 16.0, 8.0, 0.0, 2.0]]);
        for (percent, expected) in [
            (100.0, 32.0),
            (99.9, 31.856),
            (90.0, 17.6),
            (50.0, 1.5),
            (40.0, 0.6),
            (30.0, 0.0),
        ] {
            for activations in [&one, &two] {
                let found = activations.percentile(percent);
                assert!((found - expected).abs() < 1e-4, "{percent}: {found}");
            }
        }
        let medians: Vec<f32> = two.percentiles(50.0).collect();
        assert_eq!(medians, [1.0, 2.0]);
        let means: Vec<f64> = two.means().collect();
        assert_eq!(means, [37.0 / 5.0, 26.0 / 5.0]);
    }

    #[test]
    fn a_channel_that_is_silent_takes_its_layers_threshold() {
        let activations = activations_of(&[&[1.0, 2.0, 3.0], &[0.0; 3], &[0.0, 0.0, 8.0]]);
        assert_eq!(per_channel(&activations, 100.0).threshold, [3.0, 8.0, 8.0]);
        assert_eq!(per_channel(&activations, 50.0).threshold, [2.0, 0.0, 0.0]);
    }

    #[test]
    fn least_squares_weighs_clipping_against_steps() {
        // At one timestep a neuron says 0 or its threshold. For one value of 4 beside n of 1 that
        // is an error of n for the threshold 4, and of 9 for 1.
        let mut values = vec![1.0; 5];
        values.extend([4.0, 0.0, 0.0]);
        assert_eq!(activations_of(&[&values]).least_squares(1), 4.0);
        values.extend([1.0; 5]);
        assert_eq!(activations_of(&[&values]).least_squares(1), 1.0);
        // At four timesteps 4 says 1 as well.
        assert_eq!(activations_of(&[&values]).least_squares(4), 4.0);
        assert_eq!(activations_of(&[&[0.0; 3]]).least_squares(4), 0.0);
    }

    #[test]
    fn channels_have_thresholds_of_their_own() {
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let images = digits.training.take(30);
        let ann = Ann::<DigitsCnn>::new(0).unwrap();
        let conversion = convert(&ann, &images).unwrap();
        let snn = conversion.balance(Balance::MaxPerChannel).unwrap();
        let stages = ann.stages().unwrap();
        for (layer, neurons) in snn.neurons().iter().enumerate() {
            let channels = stages.stages[layer].output.channels;
            let mut most = vec![0f32; channels];
            for i in 0..images.len() {
                // One colour: rows, columns, channels is the same order.
                for (j, z) in stages.forward(&images.input(i))[layer].iter().enumerate() {
                    most[j % channels] = most[j % channels].max(*z);
                }
            }
            let all = most.iter().copied().fold(0.0, f32::max);
            let expected = most.iter().map(|&z| if z > 0.0 { z } else { all });
            assert_eq!(neurons.threshold, expected.collect::<Vec<_>>());
        }
        let same = conversion.balance(Balance::PercentilePerChannel(100.0));
        assert_eq!(same.unwrap().neurons(), snn.neurons());
    }

    /// The largest current into each layer, found by the plain simulator of the layers before it.
    #[test]
    fn spike_norm_thresholds_are_the_largest_currents_of_the_spiking_network() {
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let (images, timesteps) = (digits.training.take(5), 70);
        let ann = Ann::<DigitsCnn>::new(0).unwrap();
        let conversion = convert(&ann, &images).unwrap();
        let code = InputCode::Poisson { seed: 2 };
        let snn = conversion.balance(Balance::SpikeNorm { timesteps, code });
        let neurons = snn.unwrap().neurons().to_vec();
        let frames: Vec<_> = (0..images.len())
            .map(|i| images.encoded(i, code, timesteps).unwrap())
            .collect();
        let at = |t: usize| frames.iter().flat_map(move |f| &f[t * 64..][..64]);
        let inputs: Vec<f32> = (0..timesteps).flat_map(at).copied().collect();
        let layers = ann.layers().unwrap();
        let ends = (0..layers.len()).filter(|&i| layers[i] == Layer::Neurons);
        for (layer, end) in ends.enumerate() {
            let traces = crate::through_time::reference::trace(
                &dfdx::prelude::Cpu::default(),
                Shape::new(1, 8, 8),
                &layers[..end],
                &neurons[..layer],
                &inputs,
                images.len(),
                timesteps,
            );
            let traces = traces.unwrap();
            let currents = traces
                .iter()
                .flat_map(|trace| trace.output.iter().flatten());
            let expected = currents.copied().fold(0.0, f32::max);
            let found = neurons[layer].threshold[0];
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{layer}: {found}, expected {expected}"
            );
        }
    }

    type Pixel = crate::data::Classify<1, 1, 2>;
    crate::network! {
        Tiny for Pixel = (
            (Flatten<1, 1, 1>, UnbiasedLinear<1, 2>, Relu),
            (UnbiasedLinear<2, 1>, Relu),
            UnbiasedLinear<1, 2>,
        );
    }
    use crate::ann::modules::{Flatten, Relu, UnbiasedLinear};

    /// Two neurons, then one, on images of one pixel of 0.6.
    fn tiny(first: [f32; 2], second: f32) -> Result<Conversion<Tiny>> {
        let linear = |weight: &[f32], inputs: usize| Layer::Linear {
            weight: weight.to_vec(),
            bias: None,
            inputs,
            outputs: weight.len() / inputs,
        };
        let layers = [
            linear(&first, 1),
            Layer::Neurons,
            linear(&[second; 2], 2),
            Layer::Neurons,
            linear(&[1.0, 0.0], 1),
        ];
        let images = Images::<Whole, Pixel>::from_arrays(vec![153; 8], vec![0; 8])?;
        let images = images.split(Shares::default(), 0)?.training;
        Conversion::of(Stages::new(Shape::new(1, 1, 1), &layers, 2)?, &images)
    }

    #[test]
    fn calibration_makes_up_for_what_spikes_lose() {
        let conversion = tiny([1.0, 0.5], 0.5).unwrap();
        let snn = conversion.balance(Balance::Max).unwrap();
        let snn = snn.with(|neurons| neurons.threshold = vec![1.0]).unwrap();
        let calibrated = conversion.calibrated(&snn, 2).unwrap();
        // In two timesteps, 0.6 and 0.3 give one spike and none: 0.1 and 0.3 are lost. With them,
        // 0.7 and 0.6, both spike in the second timestep, and so does the last neuron: a mean of
        // 0.5 where the activation is 0.45. Uncalibrated layers before it would leave it silent.
        let currents = |layer: usize| &calibrated.neurons()[layer].current;
        let near = |found: &[f32], expected: &[f32]| {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-6)
        };
        assert!(near(currents(0), &[0.1, 0.3]), "{:?}", currents(0));
        assert!(near(currents(1), &[-0.05]), "{:?}", currents(1));
        let trace = calibrated.network().trace(&[0.6], 2).unwrap();
        assert_eq!(trace.spikes[0], [vec![], vec![0, 1]]);
        // A second calibration adds to the first: one spike for 0.6 again, and one too much for 0.3.
        let twice = conversion.calibrated(&calibrated, 2).unwrap();
        let currents = &twice.neurons()[0].current;
        assert!(near(currents, &[0.2, 0.1]), "{currents:?}");
    }

    #[test]
    fn what_cannot_be_calibrated_is_named() {
        let conversion = tiny([1.0, 0.5], 0.5).unwrap();
        let snn = conversion.balance(Balance::Max).unwrap();
        let message = |result: Result<Snn<Tiny>>| result.err().unwrap().to_string();
        let other = tiny([1.0, 0.5], 0.5).unwrap().calibrated(&snn, 2);
        assert_eq!(
            message(other),
            "snn: found another network, expected one that this conversion balanced"
        );
        let code = InputCode::Direct;
        for result in [
            conversion.calibrated(&snn, 0),
            conversion.balance(Balance::SpikeNorm { timesteps: 0, code }),
            conversion.balance(Balance::LeastSquares { timesteps: 0 }),
        ] {
            assert_eq!(message(result), "timesteps: found 0, expected 1 or more");
        }
        assert!(
            message(conversion.balance(Balance::PercentilePerChannel(0.0)))
                .starts_with("percentile: found 0")
        );
        let error = message(snn.with(|neurons| neurons.current = vec![f32::NAN]));
        assert_eq!(
            error,
            "layer 0 (neurons): found current NaN, expected finite currents"
        );
        let error = message(conversion.balance(Balance::Learned));
        assert!(
            error.starts_with("balance: found learned, of a network whose layer 0"),
            "{error}"
        );
        // Neurons that nothing reaches: no threshold is right.
        let silent = tiny([-1.0, -0.5], 0.5).unwrap();
        for balance in [
            Balance::MaxPerChannel,
            Balance::SpikeNorm { timesteps: 4, code },
            Balance::LeastSquares { timesteps: 4 },
        ] {
            let error = message(silent.balance(balance));
            let start = "layer 0 (neurons): found threshold ";
            assert!(error.starts_with(start), "{balance}: {error}");
        }
        let error = tiny([f32::NAN, 0.5], 0.5).err().unwrap().to_string();
        assert_eq!(
            error,
            "layer 0 (linear): found weight NaN, expected finite weights"
        );
        let error = tiny([f32::MAX, f32::MAX], 1.0).err().unwrap().to_string();
        assert_eq!(
            error,
            "layer 1 (neurons): found activation inf, expected finite ones"
        );
    }

    /// Rueckauer et al. 2017, section 2.2.3: weights times the scale before them over their own,
    /// biases over their own, every threshold 1. By powers of two the same numbers up to an
    /// exponent, so the same spikes; by any others the same up to rounding.
    #[test]
    fn thresholds_as_charges_are_normalised_weights_and_biases() {
        let noise = |n: usize, seed: usize| -> Vec<f32> {
            let value = |i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1000.0 - 0.44;
            (0..n).map(value).collect()
        };
        let network = |scales: [f32; 3], normalised: bool| {
            // Into each layer, and out of it.
            let [a, b, c] = scales.map(|scale| if normalised { scale } else { 1.0 });
            let times = |values: Vec<f32>, factor: f32| -> Vec<f32> {
                values.into_iter().map(|w| w * factor).collect()
            };
            let conv = |inputs: usize, outputs: usize, seed, before: f32, own: f32| Layer::Conv {
                weight: times(noise(outputs * inputs * 9, seed), before / own),
                bias: Some(times(noise(outputs, seed + 1), 1.0 / own)),
                inputs,
                outputs,
                kernel: 3,
                stride: 1,
                padding: 1,
            };
            let linear =
                |inputs: usize, outputs: usize, seed, before: f32, own: f32| Layer::Linear {
                    weight: times(noise(outputs * inputs, seed), before / own),
                    bias: Some(times(noise(outputs, seed + 1), 1.0 / own)),
                    inputs,
                    outputs,
                };
            let layers = [
                conv(2, 5, 1, 1.0, a),
                Layer::Neurons,
                conv(5, 7, 3, a, b),
                Layer::AvgPool { size: 2 },
                Layer::Neurons,
                linear(28, 9, 5, b, c),
                Layer::Neurons,
                linear(9, 4, 7, c, 1.0),
            ];
            let neurons = |scale| Neurons {
                initial: 0.5,
                ..match normalised {
                    true => Neurons {
                        charge: Charge::Unit,
                        ..Neurons::new([1.0])
                    },
                    false => Neurons::new([scale]),
                }
            };
            let neurons = scales.map(neurons).to_vec();
            SpikingNetwork::new(Shape::new(2, 4, 4), &layers, neurons, 4).unwrap()
        };
        let (input, timesteps) = (noise(32, 9), 100);
        let run = |scales, normalised| {
            let trace = network(scales, normalised).trace(&input, timesteps);
            trace.unwrap()
        };
        let exact = [0.5, 4.0, 2.0];
        let ours = run(exact, false);
        assert_eq!(ours, run(exact, true));
        let spikes = |trace: &Trace| -> Vec<usize> {
            let layers = trace.spikes.iter();
            layers
                .map(|layer| layer.iter().map(Vec::len).sum())
                .collect()
        };
        assert!(
            spikes(&ours).iter().all(|&spikes| spikes > 50),
            "{:?}",
            spikes(&ours)
        );
        let rounded = [0.3, 1.7, 0.9];
        let pairs = spikes(&run(rounded, false))
            .into_iter()
            .zip(spikes(&run(rounded, true)));
        for (ours, theirs) in pairs {
            assert!(ours.abs_diff(theirs) * 50 <= theirs, "{ours} {theirs}");
        }
    }

    /// Two timesteps of a neuron that starts half a threshold up say what two levels do.
    #[test]
    fn learned_thresholds_say_what_quantised_activations_do() {
        let (bound, levels) = (0.5, 2);
        let linear = |weight: &[f32], inputs: usize| Layer::Linear {
            weight: weight.to_vec(),
            bias: None,
            inputs,
            outputs: weight.len() / inputs,
        };
        let weights = [-1.0, 0.0, 0.24, 0.26, 0.7, 0.8, 9.0];
        let layers = [
            linear(&weights, 1),
            Layer::Qcfs { bound, levels },
            linear(&[[1.0; 7], [0.0; 7]].concat(), 7),
        ];
        let stages = Stages::new(Shape::new(1, 1, 1), &layers, 2).unwrap();
        let of_ann: Vec<f32> = stages.forward(&[0.5])[0]
            .iter()
            .map(|&z| stages.stages[0].activation.of(z))
            .collect();
        assert_eq!(of_ann, [0.0, 0.0, 0.0, 0.25, 0.25, 0.5, 0.5]);
        let images = Images::<Whole, Pixel>::from_arrays(vec![128; 8], vec![0; 8]).unwrap();
        let images = images.split(Shares::default(), 0).unwrap().training;
        let conversion = Conversion::<Tiny>::of(stages, &images).unwrap();
        let snn = conversion.balance(Balance::Learned).unwrap();
        let expected = Neurons {
            initial: 0.5,
            ..Neurons::new([bound])
        };
        assert_eq!(snn.neurons(), [expected]);
        let trace = snn.network().trace(&[0.5], levels).unwrap();
        for (neuron, a) in of_ann.iter().enumerate() {
            let fired = trace.spikes[0].iter().filter(|s| s.contains(&neuron));
            assert_eq!(bound * fired.count() as f32 / levels as f32, *a, "{neuron}");
        }
        // The statistics are those of the activation, which no image takes above its bound.
        let max = conversion.balance(Balance::Max).unwrap();
        assert_eq!(max.thresholds(), [bound]);
    }

    #[test]
    fn a_network_trained_with_its_bounds_needs_few_timesteps() {
        use crate::ann::networks::DigitsQcfs;
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let mut ann = Ann::<DigitsQcfs>::new(0).unwrap();
        let settings = TrainSettings {
            epochs: 6,
            ..TrainSettings::default()
        };
        ann.train(&digits.training, &settings).unwrap();
        let bounds: Vec<f32> = (ann.layers().unwrap().iter())
            .filter_map(|layer| match layer {
                Layer::Qcfs { bound, .. } => Some(*bound),
                _ => None,
            })
            .collect();
        assert!(bounds.iter().all(|&bound| bound != 2.0), "{bounds:?}");
        // The engine and dfdx see the same network, up to rounding.
        let stages = ann.stages().unwrap();
        let images = digits.held_out.take(50);
        let logits = ann.logits(&images).unwrap();
        let differ = logits.iter().enumerate().filter(|(i, logits)| {
            let ours = stages.forward(&images.input(*i)).pop().unwrap();
            ours.iter().zip(*logits).any(|(a, b)| (a - b).abs() > 1e-3)
        });
        assert!(differ.count() <= 2); // where a value lies on a step
        let conversion = convert(&ann, &digits.training).unwrap();
        let snn = conversion.balance(Balance::Learned).unwrap();
        assert_eq!(snn.thresholds(), bounds);
        assert!(snn.neurons().iter().all(|neurons| neurons.initial == 0.5));
        let at = |snn: &Snn<DigitsQcfs>, timesteps: usize| {
            let run = simulate(snn, &digits.held_out, timesteps).unwrap();
            run.curve.after(timesteps).unwrap().percent()
        };
        let reached = ann.accuracy(&digits.held_out).unwrap().percent();
        let (learned, max) = (at(&snn, 4), conversion.balance(Balance::Max).unwrap());
        assert!(learned > reached - 4.0, "{learned}, ANN {reached}");
        let max = at(&max, 4);
        assert!(max < learned, "{max}, learned {learned}, ANN {reached}");
    }

    /// What calibration is for: a trained network's accuracy where timesteps are few.
    #[test]
    fn calibrated_networks_are_better_early() {
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let mut ann = Ann::<DigitsCnn>::new(0).unwrap();
        let settings = TrainSettings {
            epochs: 6,
            ..TrainSettings::default()
        };
        ann.train(&digits.training, &settings).unwrap();
        let conversion = convert(&ann, &digits.training).unwrap();
        let timesteps = 6;
        let accuracy = |snn: &Snn<DigitsCnn>| {
            let run = simulate(snn, &digits.held_out, timesteps).unwrap();
            run.curve.after(timesteps).unwrap().percent()
        };
        let max = conversion.balance(Balance::Max).unwrap();
        let least = conversion
            .balance(Balance::LeastSquares { timesteps })
            .unwrap();
        let code = InputCode::Direct;
        let norm = conversion
            .balance(Balance::SpikeNorm { timesteps, code })
            .unwrap();
        let channels = conversion.balance(Balance::MaxPerChannel).unwrap();
        let half = least.with(|neurons| neurons.initial = 0.5).unwrap();
        let calibrated = conversion.calibrated(&least, timesteps).unwrap();
        let both = conversion.calibrated(&half, timesteps).unwrap();
        let networks = [&max, &norm, &channels, &least, &half, &calibrated, &both];
        let found = networks.map(accuracy);
        let ann = ann.accuracy(&digits.held_out).unwrap().percent();
        let [max, _, channels, least, half, calibrated, both] = found;
        assert!(channels > max && least > max, "{ann}, {found:?}");
        assert!(half > least && calibrated > least, "{ann}, {found:?}");
        assert!(both > least && both > ann - 5.0, "{ann}, {found:?}");
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
