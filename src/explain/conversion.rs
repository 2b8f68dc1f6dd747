//! Conversion error of each layer, split by cause.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::charts::{LAYER, lines, one};
use crate::base::{Chart, Error, Result, chart, owned, require, rounded};
use crate::data::{Images, Part, Task};
use crate::simulate::{InputCode, Neurons, Reset, SpikingNetwork};

/// A cause of conversion error; see [`conversion_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorPart {
    /// Errors of the layers before, or an added current.
    Inherited,
    /// Charges of spikes other than the threshold.
    Gain,
    /// Clipping: a neuron fires at most once per timestep.
    Clipping,
    /// Quantisation: the number of spikes is an integer.
    Quantisation,
    /// Unevenness: the input is not the same in every timestep.
    Unevenness,
    /// Sum of all causes: output of the spiking layer minus activation of the ANN's.
    Total,
}

impl ErrorPart {
    const ALL: [Self; 6] = [
        Self::Inherited,
        Self::Gain,
        Self::Clipping,
        Self::Quantisation,
        Self::Unevenness,
        Self::Total,
    ];
}

/// Part of the conversion error of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversionErrorRow {
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// T, the last of the timesteps 1..=T over which spikes are counted.
    pub timestep: usize,
    /// Cause of this part.
    pub part: ErrorPart,
    /// Mean over neurons and images, in percent of the root mean square of the ANN's activations.
    pub mean_percent: f64,
    /// Root mean square over neurons and images, in percent of that of the ANN's activations.
    pub rms_percent: f64,
    /// Mean of |v(T) - v(0)| / θ, the input that is left in the membrane, including neurons that
    /// are held below 0 and those that are clipped. Only for [`ErrorPart::Total`].
    pub residual_thresholds: Option<f64>,
}

/// Tolerance of computed potentials, in thresholds per timestep, since the engine adds up currents
/// in single precision and in another order. A potential this close to an integer number of
/// thresholds counts as on the side on which the neuron was.
const TOLERANCE: f64 = 1e-5;

/// Computes the difference between the output of each spiking layer and the activation of the ANN's
/// layer, split by cause (after Bu et al. 2022, "Optimal ANN-SNN Conversion", section 3, whose
/// parts are clipping, quantisation and unevenness).
///
/// For a neuron, let z be the mean input current over timesteps 1..=T, from the charges that
/// arrived from the layers before, the bias and the neuron's own current; θ the threshold, c the
/// charge of a spike, v the initial potential, n the number of spikes, and a the ANN's activation
/// on the same image (with the weights of the spiking network). The output of the neuron is c n /
/// T. With clip(z) = z limited to 0..=θ, and m = floor((zT + v) / θ) limited to 0..=T, the number
/// of spikes for an even input, the error c n / T - a is the sum of
///
/// ```text
/// inherited     max(z, 0) - a
/// gain          (c / θ - 1) clip(z)
/// clipping      clip(z) - max(z, 0)
/// quantisation  c (m / T - clip(z) / θ)
/// unevenness    c (n - m) / T
/// ```
///
/// exactly. (A [`Qcfs`](crate::ann::modules::Qcfs) quantises a itself; the effect counts as
/// inherited.) A potential within 1e-5 T thresholds of an integer counts as on the side on which
/// the neuron was, so that rounding causes no unevenness. An initial potential outside 0..θ shows
/// as unevenness too, because the neuron fires for a shorter or longer time than m assumes. The
/// input code is direct. Each of `timesteps` costs a dense forward pass per image besides the
/// simulation; some ten images are enough.
///
/// # Errors
/// Returns an error for neurons with leak, hard reset or refractory period, for a layer whose
/// activations are all 0, if there are no images or timesteps, or if the images have another shape
/// or more classes than the network.
pub fn conversion_error<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    timesteps: &[usize],
) -> Result<Vec<ConversionErrorRow>> {
    for (layer, neurons) in snn.neurons().iter().enumerate() {
        check_plain(layer, neurons)?;
    }
    let mut timesteps = timesteps.to_vec();
    timesteps.sort_unstable();
    timesteps.dedup();
    let good = timesteps.first().is_some_and(|&first| first > 0);
    let found = format_args!("{timesteps:?}");
    require(good, "timesteps", found, "some, 1 or more each")?;
    let simulator = snn.simulator(images, InputCode::Direct)?;
    let sums = simulator.spikes_up_to(snn.neurons(), &timesteps, |image, spikes| {
        error_sums(snn, &images.input(image), &timesteps, spikes)
    })?;
    let mut rows = Vec::new();
    for (i, &timestep) in timesteps.iter().enumerate() {
        for (layer, stage) in snn.stages.stages[..snn.neurons().len()].iter().enumerate() {
            // In the order of the images, so that sums do not depend on the number of threads.
            let mut all = ErrorSums::default();
            sums.iter().for_each(|sums| all.add(&sums[i][layer]));
            let count = (stage.output.size() * images.len()) as f64;
            let activation = (all.activation / count).sqrt();
            if !(activation > 0.0 && activation.is_finite()) {
                let found = format!("activations of root mean square {activation}");
                return Err(Error::layer(layer, "neurons", found, "one above 0, finite"));
            }
            let row = |(part, [sum, squares]): (ErrorPart, [f64; 2])| ConversionErrorRow {
                network: network.into(),
                layer,
                timestep,
                part,
                mean_percent: rounded(100.0 * sum / count / activation),
                rms_percent: rounded(100.0 * (squares / count).sqrt() / activation),
                residual_thresholds: (part == ErrorPart::Total)
                    .then(|| rounded(all.residual / count)),
            };
            rows.extend(ErrorPart::ALL.into_iter().zip(all.parts).map(row));
        }
    }
    Ok(rows)
}

fn check_plain(layer: usize, neurons: &Neurons) -> Result<()> {
    let found = match neurons {
        Neurons { leak, .. } if leak.iter().any(|&leak| leak != 1.0) => "a leak",
        Neurons { reset: Reset::Zero, .. } => "hard reset",
        Neurons { refractory: 1.., .. } => "a refractory period",
        _ => return Ok(()),
    };
    let expected = "integrate-and-fire neurons with soft reset, without leak or refractory period";
    Err(Error::layer(layer, "neurons", found, expected))
}

/// Sums over neurons and images.
#[derive(Default)]
struct ErrorSums {
    /// Sum and sum of squares of each of [`ErrorPart::ALL`].
    parts: [[f64; 2]; 6],
    /// Sum of squares of the ANN's activations.
    activation: f64,
    residual: f64,
}

impl ErrorSums {
    fn add(&mut self, more: &Self) {
        let parts = self.parts.iter_mut().flatten();
        parts.zip(more.parts.iter().flatten()).for_each(|(sum, x)| *sum += x);
        self.activation += more.activation;
        self.residual += more.residual;
    }

    fn neuron(&mut self, neuron: &Neuron, spikes: u32, timesteps: usize) {
        let (parts, steps) = (neuron.parts(spikes, timesteps), timesteps as f64);
        let output = neuron.charge * f64::from(spikes) / steps;
        let all = parts.into_iter().chain([output - neuron.activation]);
        for ([sum, squares], part) in self.parts.iter_mut().zip(all) {
            *sum += part;
            *squares += part * part;
        }
        self.activation += neuron.activation * neuron.activation;
        self.residual += (neuron.input * steps / neuron.size - f64::from(spikes)).abs();
    }
}

/// One neuron on one image.
pub(super) struct Neuron {
    /// Mean input current per timestep.
    pub(super) input: f64,
    /// Size of a spike: the threshold over the levels.
    pub(super) size: f64,
    pub(super) charge: f64,
    /// Largest number of spikes in a timestep.
    pub(super) most: f64,
    /// Initial potential, in sizes of a spike.
    pub(super) initial: f64,
    /// Activation of the ANN.
    pub(super) activation: f64,
}

impl Neuron {
    /// Computes all parts but the total.
    pub(super) fn parts(&self, spikes: u32, timesteps: usize) -> [f64; 5] {
        let (steps, spikes) = (timesteps as f64, f64::from(spikes));
        let relu = self.input.max(0.0);
        let share = (self.input / self.size).clamp(0.0, self.most);
        let potential = self.input * steps / self.size + self.initial;
        let slack = TOLERANCE * steps;
        let [least, most] = [potential - slack, potential + slack];
        let [least, most] = [least, most].map(|x| x.floor().clamp(0.0, steps * self.most));
        let even = spikes.max(least).min(most);
        [
            relu - self.activation,
            (self.charge - self.size) * share,
            self.size * share - relu,
            self.charge * (even / steps - share),
            self.charge * (spikes - even) / steps,
        ]
    }
}

/// Sums over the neurons of one image for each timestep and layer, from the spikes of each neuron.
fn error_sums(
    snn: &SpikingNetwork,
    input: &[f32],
    timesteps: &[usize],
    spikes: &[Vec<Vec<u32>>],
) -> Vec<Vec<ErrorSums>> {
    let stages = &snn.stages;
    let image = stages.channels_last(input);
    let ann = stages.forward(&image);
    let at = |(&timesteps, spikes): (&usize, &Vec<Vec<u32>>)| {
        let output = |layer: usize, _: &[f32]| {
            let charges = snn.neurons()[layer].charges();
            let spikes = spikes[layer].iter().zip(charges.iter().cycle());
            let mean = |(&n, &c)| (f64::from(c) * f64::from(n) / timesteps as f64) as f32;
            spikes.map(mean).collect()
        };
        let inputs = stages.currents(&image, output);
        let ann = stages.stages.iter().zip(&ann);
        let layers = snn.neurons().iter().zip(spikes).zip(ann.zip(inputs));
        let sums = layers.map(|((neurons, spikes), ((stage, ann), inputs))| {
            // One value per layer or one per channel; channels vary fastest.
            let own = |values: &[f32], i: usize| f64::from(values[i % values.len()]);
            let (sizes, charges) = (neurons.spike_sizes(), neurons.charges());
            let mut sums = ErrorSums::default();
            for (i, (&input, &spikes)) in inputs.iter().zip(spikes).enumerate() {
                let neuron = Neuron {
                    input: f64::from(input) + own(&neurons.current, i),
                    size: own(&sizes, i),
                    charge: own(&charges, i),
                    most: neurons.spikes.most.into(),
                    initial: f64::from(neurons.initial)
                        + own(&neurons.potential, i) / own(&sizes, i),
                    activation: stage.activation.of(ann[i]).into(),
                };
                sums.neuron(&neuron, spikes, timesteps);
            }
            sums
        });
        sums.collect()
    };
    timesteps.iter().zip(spikes).map(at).collect()
}

/// Draws the root mean square of every part over layers, for one network and timestep.
///
/// # Errors
/// Returns an error for rows of several networks or timesteps or no rows, or if plotters fails.
pub fn conversion_error_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<ConversionErrorRow>>,
) -> Result<Chart> {
    let rows: Vec<ConversionErrorRow> = owned(rows);
    one("networks", rows.iter().map(|row| &row.network))?;
    one("timesteps", rows.iter().map(|row| row.timestep))?;
    let lines = lines(rows.iter().map(|row| {
        let at = (row.layer as f64, row.rms_percent);
        (format!("{:?}", row.part).to_lowercase(), at)
    }));
    let rms = "root mean square error (% of the activations')";
    chart::lines(title, [LAYER, rms], lines)
}
