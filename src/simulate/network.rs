//! Spiking networks: untyped ones, built from layers at run time, and typed ones.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use plotters::prelude::*;

use super::codes::InputCode;
use super::early_exit::Exit;
use super::engine::Engine;
use super::neurons::{Neurons, Spikes};
use super::settings::SimulateSettings;
use super::simulator::{Currents, Device, Simulation, Simulator, number};
use super::synapses::Stages;
use crate::ann::{Classifier, Graph};
use crate::base::chart::{COLOURS, dots, draw, named, named_axes, plain_number, table};
use crate::base::{
    Chart, Error, Result, Table, all_finite, not_empty, one_line, owned, require, show,
    some_timesteps,
};
use crate::data::{Images, Part, Task};

/// Untyped spiking network, built from layers at run time; every [`Snn`] contains one.
///
/// ```
/// use evospike::ann::graph::Graph;
/// use evospike::ann::layers::{CHANNELS_FIRST, Layer};
/// use evospike::data::Shape;
/// use evospike::simulate::neurons::Neurons;
/// use evospike::simulate::SpikingNetwork;
///
/// let linear = |weight, outputs| {
///     Layer::Linear { weight, bias: None, inputs: 1, outputs, order: CHANNELS_FIRST }
/// };
/// let layers = [linear(vec![0.5], 1), Layer::Neurons, linear(vec![1.0, 2.0], 2)];
/// let graph = Graph::chain(Shape::new(1, 1, 1), layers);
/// let network = SpikingNetwork::new(graph, vec![Neurons::new([1.0])])?;
/// let trace = network.trace(&[1.0], 4)?; // a current of 0.5 at every timestep
/// assert_eq!(trace.spikes[0], [vec![], vec![0], vec![], vec![0]]);
/// assert_eq!(trace.output[1], [1.0, 2.0]);
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Clone)]
pub struct SpikingNetwork {
    pub(crate) stages: Arc<Stages>,
    pub(crate) neurons: Vec<Neurons>,
    /// Device of its simulations; none for the CPU's engine.
    pub(crate) device: Option<Device>,
}

/// Returns an error unless there are `size` finite values, or `size` for each timestep.
pub(crate) fn check_frames(
    name: &'static str,
    values: &[f32],
    size: usize,
    timesteps: usize,
) -> Result<()> {
    let holds = values.len() == size || values.len() == size * timesteps;
    let found = format!("{} values", values.len());
    let expected = format!("{size}, or {size} for each of {timesteps} timesteps");
    require(holds, name, found, expected)?;
    all_finite(name, values)
}

/// Record of a run on one image.
#[derive(Clone, PartialEq)]
pub struct Trace {
    /// Neurons that fired, by layer and timestep, in ascending order; numbered by channel, row,
    /// column.
    pub spikes: Vec<Vec<Vec<usize>>>,
    /// Number of spikes of each of these neurons, negative downwards: 1 if spikes are plain.
    pub counts: Vec<Vec<Vec<i8>>>,
    /// Current into the output layer in each timestep, not summed over timesteps: one value per
    /// class.
    pub output: Vec<Vec<f32>>,
}

impl Trace {
    fn table(&self) -> Table {
        let title = "Spikes of one image; plot::raster draws a layer's";
        let mut table = Table::new(title, ["layer", "timesteps", "spikes"]);
        for (layer, timesteps) in self.spikes.iter().enumerate() {
            let counts = self.counts[layer].iter().flatten();
            let spikes: usize = counts.map(|count| usize::from(count.unsigned_abs())).sum();
            table.row([layer, timesteps.len(), spikes].map(|number| number.to_string()));
        }
        table
    }
}

show!(impl [] Trace as table);

one_line!(
    impl [] SpikingNetwork: network,
    "spiking network, input {}, {} layers of neurons",
    network.stages.input(),
    network.neurons.len()
);

impl SpikingNetwork {
    /// Creates a network of layers that return one value for each class, with the parameters of
    /// every layer of neurons in order.
    ///
    /// # Errors
    /// Returns an error if layers do not fit each other, weights are not finite, or parameters are
    /// out of range.
    pub fn new(graph: Graph, neurons: Vec<Neurons>) -> Result<Self> {
        Self::of(Stages::new(graph)?.into(), neurons)
    }

    pub(crate) fn of(stages: Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Engine::new(&stages, &neurons)?;
        Ok(Self { stages, neurons, device: None })
    }

    /// Returns the bound of every layer of neurons, infinity unless it is a clipped ReLU.
    pub(crate) fn bounds(&self) -> Vec<f32> {
        let stages = &self.stages.stages[..self.neurons.len()];
        stages.iter().map(|stage| stage.activation.bound()).collect()
    }

    /// Returns the parameters of every layer of neurons.
    pub fn neurons(&self) -> &[Neurons] {
        &self.neurons
    }

    /// Simulates the network on every image, as [`simulate`](crate::simulate::simulate) does.
    ///
    /// # Errors
    /// Returns an error if there is no image or no timestep, the period of an input code is out of
    /// range, the images have another shape or more classes than the network, or its weights are so
    /// large that an output is infinite or no number.
    pub fn simulate<P: Part, K: Task>(
        &self,
        images: &Images<P, K>,
        settings: impl Into<SimulateSettings>,
    ) -> Result<Simulation> {
        let settings = settings.into();
        some_timesteps("timesteps", settings.timesteps)?;
        let mut simulator = self.simulator(images, settings.code)?;
        simulator.per_neuron = settings.per_neuron;
        simulator.outputs = settings.outputs;
        simulator.run(&self.neurons, settings.timesteps)
    }

    /// Simulates every image until the gap between its two largest summed outputs reaches `gap`, and
    /// for `timesteps` at the most: the result of [`Simulation::exit_at`] in the time that early exit
    /// takes. Choose the gap on held-out images with [`Simulation::early_exit`].
    ///
    /// # Errors
    /// Returns an error if the gap is not a number, and in the cases of
    /// [`simulate`](Self::simulate).
    pub fn simulate_until<P: Part, K: Task>(
        &self,
        images: &Images<P, K>,
        timesteps: usize,
        gap: f32,
    ) -> Result<Exit> {
        self.simulator(images, InputCode::Direct)?.run_until(&self.neurons, timesteps, gap)
    }

    /// Prepares images for runs of this network.
    pub(crate) fn simulator<'a, P: Part, K: Task>(
        &'a self,
        images: &'a Images<P, K>,
        code: InputCode,
    ) -> Result<Simulator<'a>> {
        self.check_task::<K>()?;
        Simulator::coded(&self.stages, images.view(), code, self.device)
    }

    /// Returns an error if the images are of another task.
    pub(crate) fn check_task<K: Task>(&self) -> Result<()> {
        let (input, classes) = (self.stages.input(), self.stages.classes());
        let holds = K::SHAPE == input && K::CLASSES == classes;
        let found = format!("{} of {} classes", K::SHAPE, K::CLASSES);
        let expected = format!("{input} of {classes} classes, as the network's");
        require(holds, "images", found, expected)
    }

    /// Simulates one input, the same at every timestep, or one input per timestep, one after the
    /// other; values by channel, row, column.
    ///
    /// # Errors
    /// Returns an error if there is no timestep, the number of values is neither that of one input
    /// nor that of one input per timestep, or a value is not finite.
    pub fn trace(&self, input: &[f32], timesteps: usize) -> Result<Trace> {
        some_timesteps("timesteps", timesteps)?;
        let size = self.stages.input().size();
        check_frames("input", input, size, timesteps)?;
        let currents = Currents::of(&self.stages, &[input]);
        let drives: Vec<_> = currents.iter().map(|of| of.drives(&self.stages)).collect();
        let engine = Engine::new(&self.stages, &self.neurons)?;
        let layers = self.neurons.len();
        let (spikes, counts) = (vec![Vec::new(); layers], vec![Vec::new(); layers]);
        let mut trace = Trace { spikes, counts, output: Vec::new() };
        engine.run(&drives, timesteps, &mut engine.scratch(1), |_, chunk| {
            for t in 0..chunk.timesteps {
                trace.output.push(chunk.output(t).collect());
                let layers = chunk.events.iter().zip(&self.stages.stages);
                for (i, (events, stage)) in layers.enumerate() {
                    let neurons = events.at(t).iter().map(|&neuron| number(stage.output, neuron));
                    let mut fired: Vec<(usize, i8)> = neurons.zip(events.counts(t)).collect();
                    fired.sort_unstable();
                    let (neurons, counts) = fired.into_iter().unzip();
                    trace.spikes[i].push(neurons);
                    trace.counts[i].push(counts);
                }
            }
            true
        });
        Ok(trace)
    }
}

/// Spiking network with the layers of `N`: integrate-and-fire neurons with soft reset and an
/// initial membrane potential of 0 unless changed by [`with`](Self::with). Their equations are in
/// [`neurons`](mod@crate::simulate::neurons).
pub struct Snn<N: Classifier> {
    pub(crate) network: SpikingNetwork,
    name: PhantomData<fn() -> N>,
}

/// Value for all layers of neurons, or one value per layer.
#[derive(Debug, Clone, PartialEq)]
pub struct PerLayer(Vec<f32>);

impl From<f32> for PerLayer {
    fn from(value: f32) -> Self {
        Self(vec![value])
    }
}

impl From<Vec<f32>> for PerLayer {
    fn from(values: Vec<f32>) -> Self {
        Self(values)
    }
}

impl<const N: usize> From<[f32; N]> for PerLayer {
    fn from(values: [f32; N]) -> Self {
        Self(values.into())
    }
}

impl<N: Classifier> Deref for Snn<N> {
    type Target = SpikingNetwork;

    fn deref(&self) -> &SpikingNetwork {
        &self.network
    }
}

impl<N: Classifier> Clone for Snn<N> {
    fn clone(&self) -> Self {
        Self { network: self.network.clone(), name: PhantomData }
    }
}

impl<N: Classifier> Snn<N> {
    pub(crate) fn new(stages: Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Ok(Self { network: SpikingNetwork::of(stages, neurons)?, name: PhantomData })
    }

    /// Creates a network of layers that do not come from an ANN.
    pub(crate) fn from_graph(graph: Graph, neurons: Vec<Neurons>) -> Result<Self> {
        Self::new(Arc::new(Stages::of_task::<N::Task>(graph)?), neurons)
    }

    /// Returns the untyped network, whose methods an `Snn` has as well.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// Returns the threshold of every layer of neurons, in units of its activations; the mean if
    /// every channel has its own.
    pub fn thresholds(&self) -> Vec<f32> {
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let layers = self.neurons().iter();
        layers.map(|layer| mean(&layer.threshold)).collect()
    }

    /// Returns the number of neurons in every layer of neurons.
    pub fn sizes(&self) -> Vec<usize> {
        let stages = &self.network.stages.stages[..self.neurons().len()];
        stages.iter().map(|stage| stage.output.size()).collect()
    }

    /// Returns the network with other neurons: `change` is called for every layer.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(snn: Snn<DigitsCnn>) -> evospike::Result<()> {
    /// let hard = snn.with(|neurons| neurons.reset = Reset::Zero)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if a parameter is out of range.
    pub fn with(&self, change: impl FnMut(&mut Neurons)) -> Result<Self> {
        let mut neurons = self.neurons().to_vec();
        neurons.iter_mut().for_each(change);
        self.with_neurons(neurons)
    }

    /// Returns the network with neurons that start at this membrane potential, in thresholds: one
    /// number for all layers, or one per layer.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(snn: Snn<DigitsCnn>) -> evospike::Result<()> {
    /// let half = snn.with_initial(0.5)?; // half a threshold up, in all six layers
    /// let leaky = snn.with_leak([1.0, 1.0, 0.99, 0.99, 0.98, 0.98])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is not one value per layer, or a value is out of range.
    pub fn with_initial(&self, initial: impl Into<PerLayer>) -> Result<Self> {
        self.with_values("initial", initial.into(), |neurons, x| neurons.initial = x)
    }

    /// Returns the network with neurons that keep this share of their membrane potential per
    /// timestep (leak), above 0 and at most 1: one number for all layers, or one per layer.
    ///
    /// # Errors
    /// Returns an error if there is not one value per layer, or a value is out of range.
    pub fn with_leak(&self, leak: impl Into<PerLayer>) -> Result<Self> {
        self.with_values("leak", leak.into(), |neurons, x| neurons.leak = vec![x])
    }

    /// Returns the network with these thresholds, in units of the layer's activations: one number
    /// for all layers, or one per layer.
    ///
    /// # Errors
    /// Returns an error if there is not one value per layer, or a value is out of range.
    pub fn with_threshold(&self, threshold: impl Into<PerLayer>) -> Result<Self> {
        self.with_values("threshold", threshold.into(), |neurons, x| neurons.threshold = vec![x])
    }

    /// Returns the network with neurons that fire these spikes, in all layers.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(conversion: Conversion<DigitsCnn>) -> evospike::Result<()> {
    /// let snn = conversion.balance(Balance::PercentilePerChannel(99.5))?.with_initial(0.5)?;
    /// let graded = snn.with_spikes(Spikes::levels(2))?; // up to two half-sized spikes, up or down
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if a parameter is out of range, or the neurons have hard reset or a
    /// refractory period.
    pub fn with_spikes(&self, spikes: Spikes) -> Result<Self> {
        self.with(|neurons| neurons.spikes = spikes)
    }

    fn with_values(
        &self,
        name: &'static str,
        PerLayer(values): PerLayer,
        set: impl Fn(&mut Neurons, f32),
    ) -> Result<Self> {
        let layers = self.neurons().len();
        let holds = values.len() == 1 || values.len() == layers;
        let found = format!("{} values", values.len());
        let expected = format!("1, or {layers}, one per layer of neurons");
        require(holds, name, found, expected)?;
        let mut values = values.into_iter().cycle();
        self.with(|neurons| values.by_ref().take(1).for_each(|x| set(neurons, x)))
    }

    /// Returns the network with other neurons, one set of parameters per layer.
    ///
    /// # Errors
    /// Returns an error if there is not one set per layer of neurons, or a parameter is out of
    /// range.
    pub fn with_neurons(&self, neurons: Vec<Neurons>) -> Result<Self> {
        let mut snn = Self::new(Arc::clone(&self.network.stages), neurons)?;
        snn.network.device = self.network.device;
        Ok(snn)
    }

    /// Returns the network with every threshold multiplied by the scale of its layer; the threshold
    /// of a clipped ReLU stays at or below its bound.
    ///
    /// # Errors
    /// Returns an error if there is not one scale per layer of neurons, or a scale is not finite
    /// and above 0.
    pub fn scaled(&self, scales: &[f64]) -> Result<Self> {
        let (layers, found) = (self.neurons().len(), format!("{} values", scales.len()));
        let expected = format!("{layers}, one a layer of neurons");
        require(scales.len() == layers, "scales", found, expected)?;
        let mut neurons = self.neurons().to_vec();
        for ((neurons, &scale), bound) in neurons.iter_mut().zip(scales).zip(self.bounds()) {
            neurons.scale_thresholds(scale);
            neurons.clip(bound);
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

show!(impl [N: Classifier] Snn<N> as table);

/// Draws the spikes of chosen neurons of one layer, one dot per neuron that fires: timestep against
/// neuron, with the first chosen one at the bottom. Negative spikes have another colour. `layer` counts from 0; neurons are numbered as in
/// [`Trace::spikes`].
///
/// # Errors
/// Returns an error if the trace has no such layer or no neuron is chosen, and [`Error::Chart`] if
/// plotters fails.
pub fn raster_chart(
    title: &str,
    trace: &Trace,
    layer: usize,
    neurons: impl IntoIterator<Item: Borrow<usize>>,
) -> Result<Chart> {
    let neurons: Vec<usize> = owned(neurons);
    let Some(spikes) = trace.spikes.get(layer) else {
        let expected = format!("less than {}, the layers of neurons", trace.spikes.len());
        return Err(Error::parameter("layer", layer, expected));
    };
    not_empty("neurons", &neurons)?;
    draw(title, 0, |area| {
        // Rows are numbered separately, since the chosen neurons need not be consecutive.
        let names: Vec<String> = neurons.iter().map(usize::to_string).collect();
        let mut axes = named_axes(
            area,
            title,
            ["timestep", &format!("neuron of layer {layer}")],
            0.0..spikes.len() as f64 + 1.0,
            -0.5..neurons.len() as f64 - 0.5,
            [&plain_number, &named(&names)],
        )?;
        let fired = spikes.iter().zip(&trace.counts[layer]).enumerate();
        let fired = fired.flat_map(|(t, (fired, counts))| {
            neurons.iter().enumerate().filter_map(move |(row, neuron)| {
                let at = fired.binary_search(neuron).ok()?;
                Some((t + 1, row, counts[at]))
            })
        });
        for (t, row, count) in fired.clone() {
            let colour = COLOURS[usize::from(count < 0)];
            dots(&mut axes, [(t as f64, row as f64)], 2, colour.filled())?;
        }
        let cells = |(t, row, count): (usize, usize, i8)| {
            [t.to_string(), names[row].clone(), count.to_string()]
        };
        table(["timestep", "neuron", "spikes"], fired.map(cells))
    })
}
