//! What a layer says less what the ANN says, divided by cause.

use serde::{Deserialize, Serialize};

use crate::base::chart;
use crate::base::chart::Chart;
use crate::base::error::{Error, Result};
use crate::base::files::rounded;
use crate::data::images::{Images, Part};
use crate::data::tasks::Task;
use crate::explain::scales::{LAYER, lines, one};
use crate::simulate::codes::InputCode;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::{Neurons, Reset};
use crate::simulate::synapses::to_channels_last;

/// A cause of conversion error; see [`conversion_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorPart {
    /// The layers before say something else than the ANN's, or a current was added.
    Inherited,
    /// A spike carries another charge than the threshold.
    Gain,
    /// No more than a spike a timestep can be said.
    Clipping,
    /// Only whole spikes can be said.
    Quantisation,
    /// The input is not the same at every timestep.
    Unevenness,
    /// All of them: what the layer says less what the ANN's says.
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

/// One part of the conversion error of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversionErrorRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// T: what was said in timesteps 1..=T.
    pub timestep: usize,
    /// The cause.
    pub part: ErrorPart,
    /// Mean over neurons and images, in percent of the root mean square of the ANN's activations.
    pub mean_percent: f64,
    /// Root mean square over neurons and images, in percent of that of the ANN's activations.
    pub rms_percent: f64,
    /// Mean magnitude of what is left of the input in the membrane, |v(T) - v(0)| / θ, neurons that
    /// are held below 0 and those that are clipped included; only where the part is the total.
    pub residual_thresholds: Option<f64>,
}

/// How far computed potentials may be from the engine's, which adds up single-precision currents in
/// another order: in thresholds, for each timestep. A potential so near to a whole number of
/// thresholds counts as on the side on which the neuron was.
const TOLERANCE: f64 = 1e-5;

/// The difference between what a layer says and what the ANN's says, divided by cause (after Bu et
/// al. 2022, "Optimal ANN-SNN Conversion", section 3, whose parts are clipping, quantisation and
/// unevenness).
///
/// Of a neuron let z be the mean input current over timesteps 1..=T, given the charges that arrived
/// from the layers before, with the bias and its own current; θ the threshold, c the charge of a
/// spike, v the initial potential, n the number of spikes, and a the ANN's activation on the same
/// image (with the weights of the spiking network). With clip(z) = z limited to 0..=θ
/// and m = floor((zT + v) / θ) limited to 0..=T, the spikes that an even input would cause,
/// c n / T - a is the sum of
///
/// ```text
/// inherited     max(z, 0) - a
/// gain          (c / θ - 1) clip(z)
/// clipping      clip(z) - max(z, 0)
/// quantisation  c (m / T - clip(z) / θ)
/// unevenness    c (n - m) / T
/// ```
///
/// exactly. (A [`Qcfs`](crate::ann::modules::Qcfs) quantises a itself: what that changes is inherited.) A
/// potential within 1e-5 T thresholds of a whole number counts as on the side on which
/// the neuron was, so that rounding makes no unevenness. An initial potential outside 0..θ shows as
/// unevenness too, where a neuron starts later or goes on longer than m supposes. Images are given
/// directly. Each timestep asked for costs a dense pass an image besides the simulation: some ten
/// images are enough.
///
/// # Errors
/// Neurons with leak, hard reset or refractory period; a layer whose activations are all 0; no
/// image, no timestep; images of another shape, or of more classes, than the network's.
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
    if timesteps.first().is_none_or(|&first| first == 0) {
        let found = format!("{timesteps:?}");
        return Err(Error::parameter("timesteps", found, "some, 1 or more each"));
    }
    let simulator = snn.simulator(images, InputCode::Direct)?;
    let sums = simulator.spikes_up_to(snn.neurons(), &timesteps, |image, spikes| {
        error_sums(snn, &images.input(image), &timesteps, spikes)
    })?;
    let mut rows = Vec::new();
    for (i, &timestep) in timesteps.iter().enumerate() {
        for (layer, stage) in snn.stages.stages[..snn.neurons().len()].iter().enumerate() {
            // Of images in order, so that the sums are the same with any number of threads.
            let mut all = ErrorSums::default();
            sums.iter().for_each(|sums| all.add(&sums[i][layer]));
            let count = (stage.output.size() * images.len()) as f64;
            let activation = (all.activation / count).sqrt();
            if !(activation > 0.0 && activation.is_finite()) {
                let found = format!("activations of root mean square {activation}");
                return Err(Error::layer(layer, "neurons", found, "one above 0, finite"));
            }
            let of = |(part, [sum, squares]): (ErrorPart, [f64; 2])| ConversionErrorRow {
                network: network.into(),
                layer,
                timestep,
                part,
                mean_percent: rounded(100.0 * sum / count / activation),
                rms_percent: rounded(100.0 * (squares / count).sqrt() / activation),
                residual_thresholds: (part == ErrorPart::Total)
                    .then(|| rounded(all.residual / count)),
            };
            rows.extend(ErrorPart::ALL.into_iter().zip(all.parts).map(of));
        }
    }
    Ok(rows)
}

fn check_plain(layer: usize, neurons: &Neurons) -> Result<()> {
    let found = match neurons {
        Neurons { leak, .. } if leak.iter().any(|&leak| leak != 1.0) => "a leak",
        Neurons {
            reset: Reset::Zero, ..
        } => "hard reset",
        Neurons {
            refractory: 1.., ..
        } => "a refractory period",
        _ => return Ok(()),
    };
    let expected = "integrate-and-fire neurons with soft reset, without leak or refractory period";
    Err(Error::layer(layer, "neurons", found, expected))
}

/// Over neurons and images.
#[derive(Default)]
struct ErrorSums {
    /// Of each of [`ErrorPart::ALL`] the sum, and that of squares.
    parts: [[f64; 2]; 6],
    /// Sum of squares of the ANN's.
    activation: f64,
    residual: f64,
}

impl ErrorSums {
    fn add(&mut self, more: &Self) {
        let parts = self.parts.iter_mut().flatten();
        parts
            .zip(more.parts.iter().flatten())
            .for_each(|(sum, x)| *sum += x);
        self.activation += more.activation;
        self.residual += more.residual;
    }

    fn neuron(&mut self, neuron: &Neuron, spikes: u32, timesteps: usize) {
        let (parts, steps) = (neuron.parts(spikes, timesteps), timesteps as f64);
        let said = neuron.charge * f64::from(spikes) / steps;
        let all = parts.into_iter().chain([said - neuron.activation]);
        for ([sum, squares], part) in self.parts.iter_mut().zip(all) {
            *sum += part;
            *squares += part * part;
        }
        self.activation += neuron.activation * neuron.activation;
        self.residual += (neuron.input * steps / neuron.threshold - f64::from(spikes)).abs();
    }
}

/// One neuron on one image.
pub(super) struct Neuron {
    /// Mean current.
    pub(super) input: f64,
    pub(super) threshold: f64,
    pub(super) charge: f64,
    /// Potential at first, in thresholds.
    pub(super) initial: f64,
    /// The ANN's.
    pub(super) activation: f64,
}

impl Neuron {
    /// All but the total.
    pub(super) fn parts(&self, spikes: u32, timesteps: usize) -> [f64; 5] {
        let (steps, spikes) = (timesteps as f64, f64::from(spikes));
        let said = self.input.max(0.0);
        let share = (self.input / self.threshold).clamp(0.0, 1.0);
        let potential = self.input * steps / self.threshold + self.initial;
        let slack = TOLERANCE * steps;
        let [least, most] = [potential - slack, potential + slack];
        let [least, most] = [least, most].map(|x| x.floor().clamp(0.0, steps));
        let even = spikes.max(least).min(most);
        [
            said - self.activation,
            (self.charge - self.threshold) * share,
            self.threshold * share - said,
            self.charge * (even / steps - share),
            self.charge * (spikes - even) / steps,
        ]
    }
}

/// Sums over the neurons of one image, by timestep and layer, from the spikes of each neuron.
fn error_sums(
    snn: &SpikingNetwork,
    input: &[f32],
    timesteps: &[usize],
    spikes: &[Vec<Vec<u32>>],
) -> Vec<Vec<ErrorSums>> {
    let stages = &snn.stages;
    let mut image = vec![0.0; input.len()];
    to_channels_last(stages.input, input, &mut image);
    let ann = stages.forward(&image);
    let at = |(&timesteps, spikes): (&usize, &Vec<Vec<u32>>)| {
        let said = |layer: usize, _: &[f32]| {
            let charges = snn.neurons()[layer].charges().iter().cycle();
            let said = spikes[layer].iter().zip(charges);
            said.map(|(&n, &charge)| (f64::from(charge) * f64::from(n) / timesteps as f64) as f32)
                .collect()
        };
        let inputs = stages.currents(&image, said);
        let ann = stages.stages.iter().zip(&ann);
        let layers = snn.neurons().iter().zip(spikes).zip(ann.zip(inputs));
        let sums = layers.map(|((neurons, spikes), ((stage, ann), inputs))| {
            // One value for the layer or one a channel, and channels vary fastest.
            let own = |values: &[f32], i: usize| f64::from(values[i % values.len()]);
            let mut sums = ErrorSums::default();
            for (i, (&input, &spikes)) in inputs.iter().zip(spikes).enumerate() {
                let neuron = Neuron {
                    input: f64::from(input) + own(&neurons.current, i),
                    threshold: own(&neurons.threshold, i),
                    charge: own(neurons.charges(), i),
                    initial: neurons.initial.into(),
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

/// The root mean square of every part in each layer, of one network after one timestep.
///
/// # Errors
/// Rows of several networks or timesteps, or none; [`Error::Chart`] when plotters fails.
pub fn conversion_error_chart(title: &str, rows: &[ConversionErrorRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    one("timesteps", rows.iter().map(|row| row.timestep))?;
    let lines = lines(rows.iter().map(|row| {
        let at = (row.layer as f64, row.rms_percent);
        (format!("{:?}", row.part).to_lowercase(), at)
    }));
    let rms = "root mean square error (% of the activations')";
    chart::lines(title, [LAYER, rms], lines)
}
