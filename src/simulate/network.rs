//! Spiking networks: plain ones, made of layers at run time, and typed ones.

use crate::base::check::require;
use crate::base::table::one_line;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use plotters::prelude::*;

use crate::ann::layers::Layer;
use crate::ann::networks::Network;
use crate::base::chart::COLOURS;
use crate::base::chart::Chart;
use crate::base::chart::draw;
use crate::base::chart::named;
use crate::base::chart::named_axes;
use crate::base::chart::plain_number;
use crate::base::chart::table;
use crate::base::check::some_timesteps;
use crate::base::error::{Error, Result};
use crate::base::table::{Table, show};
use crate::data::images::{Images, Part};
use crate::data::shape::Shape;
use crate::data::tasks::Task;
use crate::simulate::codes::InputCode;
use crate::simulate::engine::Engine;
use crate::simulate::neurons::Neurons;
use crate::simulate::settings::SimulateSettings;
use crate::simulate::simulator::Currents;
use crate::simulate::simulator::Simulation;
use crate::simulate::simulator::Simulator;
use crate::simulate::simulator::number;
use crate::simulate::synapses::Stages;

/// A spiking network without types, as every [`Snn`] is one: made of plain layers at run time.
///
/// ```
/// use evospike::ann::layers::{Layer, Shape};
/// use evospike::simulate::neurons::Neurons;
/// use evospike::simulate::SpikingNetwork;
///
/// let linear = |weight: Vec<f32>, inputs, outputs| Layer::Linear { weight, bias: None, inputs, outputs };
/// let layers = [linear(vec![0.5], 1, 1), Layer::Neurons, linear(vec![1.0, 2.0], 1, 2)];
/// let network = SpikingNetwork::new(Shape::new(1, 1, 1), &layers, vec![Neurons::new([1.0])], 2)?;
/// let trace = network.trace(&[1.0], 4)?; // a current of 0.5 at every timestep
/// assert_eq!(trace.spikes[0], [vec![], vec![0], vec![], vec![0]]);
/// assert_eq!(trace.output[1], [1.0, 2.0]);
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Clone)]
pub struct SpikingNetwork {
    pub(crate) stages: std::sync::Arc<Stages>,
    pub(crate) neurons: Vec<Neurons>,
}

/// Whether these are the `size` values of one frame, or of one for each timestep.
pub(crate) fn check_frames(
    name: &'static str,
    values: &[f32],
    size: usize,
    timesteps: usize,
) -> Result<()> {
    if values.len() != size && values.len() != size * timesteps {
        return Err(Error::parameter(
            name,
            format!("{} values", values.len()),
            format!("{size}, or {size} for each of {timesteps} timesteps"),
        ));
    }
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        let found = format!("{} at place {i}", values[i]);
        return Err(Error::parameter(name, found, "finite values"));
    }
    Ok(())
}

/// Everything that a run on one image showed.
#[derive(Clone, PartialEq)]
pub struct Trace {
    /// Layer by layer and timestep by timestep, the neurons that fired, in order; numbered by
    /// channel, row, column.
    pub spikes: Vec<Vec<Vec<usize>>>,
    /// Current into the output layer in each timestep, not summed over them: one value a class.
    pub output: Vec<Vec<f32>>,
}

impl Trace {
    fn table(&self) -> Table {
        let title = "Spikes of one image; plot::raster draws a layer's";
        let mut table = Table::new(title, ["layer", "timesteps", "spikes"]);
        for (layer, timesteps) in self.spikes.iter().enumerate() {
            let spikes: usize = timesteps.iter().map(Vec::len).sum();
            table.row([layer, timesteps.len(), spikes].map(|number| number.to_string()));
        }
        table
    }
}

show!(impl [] Trace as table);

one_line!(
    impl [] SpikingNetwork: network,
    "spiking network, input {}, {} layers of neurons",
    network.stages.input,
    network.neurons.len()
);

impl SpikingNetwork {
    /// Layers that take an input of this shape and give one value for each of `classes`, with the
    /// parameters of every layer of neurons in order.
    ///
    /// # Errors
    /// Layers that do not fit each other, weights that are not finite, parameters out of range.
    pub fn new(
        input: Shape,
        layers: &[Layer],
        neurons: Vec<Neurons>,
        classes: usize,
    ) -> Result<Self> {
        Self::of(Stages::new(input, layers, classes)?.into(), neurons)
    }

    pub(crate) fn of(stages: std::sync::Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Engine::new(&stages, &neurons)?;
        Ok(Self { stages, neurons })
    }

    // To be deleted with the last lines of src/ann/networks/tests.rs, its only caller.
    #[cfg(test)]
    pub(crate) fn quantised(&self) -> Self {
        self.clone()
    }

    /// Parameters of every layer of neurons.
    pub fn neurons(&self) -> &[Neurons] {
        &self.neurons
    }

    /// Runs on every image for some timesteps, as [`simulate`] does.
    ///
    /// # Errors
    /// No image, no timestep, or a code's period out of range; images of another shape, or of more
    /// classes, than the network's.
    pub fn simulate<P: Part, K: Task>(
        &self,
        images: &Images<P, K>,
        settings: impl Into<SimulateSettings>,
    ) -> Result<Simulation> {
        let settings = settings.into();
        some_timesteps("timesteps", settings.timesteps)?;
        let mut simulator = self.simulator(images, settings.code)?;
        simulator.per_neuron = settings.per_neuron;
        simulator.run(&self.neurons, settings.timesteps)
    }

    /// Images made ready for runs of this network.
    pub(crate) fn simulator<'a, P: Part, K: Task>(
        &'a self,
        images: &'a Images<P, K>,
        code: InputCode,
    ) -> Result<Simulator<'a>> {
        self.check_task::<K>()?;
        Simulator::coded(&self.stages, images.view(), code)
    }

    /// Refuses images of another task.
    pub(crate) fn check_task<K: Task>(&self) -> Result<()> {
        let classes = self.stages.stages[self.neurons.len()].output.size();
        if K::SHAPE != self.stages.input || K::CLASSES != classes {
            return Err(Error::parameter(
                "images",
                format!("{} of {} classes", K::SHAPE, K::CLASSES),
                format!(
                    "{} of {classes} classes, as the network's",
                    self.stages.input
                ),
            ));
        }
        Ok(())
    }

    /// Runs on one input, the same at every timestep, or one for each timestep after the other:
    /// channels, rows, columns.
    ///
    /// # Errors
    /// No timestep; not as many values as an input has, or as all timesteps' inputs have; values
    /// that are not finite.
    pub fn trace(&self, input: &[f32], timesteps: usize) -> Result<Trace> {
        some_timesteps("timesteps", timesteps)?;
        let size = self.stages.input.size();
        check_frames("input", input, size, timesteps)?;
        let drives = Currents::of(&self.stages, input);
        let drives = drives.drives();
        let engine = Engine::new(&self.stages, &self.neurons)?;
        let mut trace = Trace {
            spikes: vec![Vec::new(); self.neurons.len()],
            output: Vec::new(),
        };
        engine.run(&drives, timesteps, &mut engine.scratch(), |chunk| {
            for t in 0..chunk.timesteps {
                trace.output.push(chunk.output(t).collect());
                let layers = chunk.events.iter().zip(&self.stages.stages);
                for ((events, stage), spikes) in layers.zip(&mut trace.spikes) {
                    let neurons = events.at(t).iter();
                    let mut fired: Vec<usize> = neurons.map(|&i| number(stage.output, i)).collect();
                    fired.sort_unstable();
                    spikes.push(fired);
                }
            }
        });
        Ok(trace)
    }
}

/// Network `N` as a spiking network; integrate-and-fire neurons with soft reset and an initial
/// membrane potential of 0 unless changed by [`with`](Self::with). Their equations are in
/// [`neurons`](mod@crate::simulate::neurons).
pub struct Snn<N: Network> {
    pub(crate) network: SpikingNetwork,
    name: PhantomData<fn() -> N>,
}

/// One number for all layers of neurons, or one per layer.
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

impl<N: Network> Deref for Snn<N> {
    type Target = SpikingNetwork;

    fn deref(&self) -> &SpikingNetwork {
        &self.network
    }
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

    /// The network without its type, whose methods an `Snn` has as well.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
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

    /// Network with other neurons: `change` is called for every layer.
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

    /// Network whose neurons start at this membrane potential, in thresholds: one number for all
    /// layers, or one per layer.
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

    /// Network whose neurons keep this share of their membrane potential in a timestep, above 0 and
    /// at most 1: one number for all layers, or one per layer.
    ///
    /// # Errors
    /// Returns an error if there is not one value per layer, or a value is out of range.
    pub fn with_leak(&self, leak: impl Into<PerLayer>) -> Result<Self> {
        self.with_values("leak", leak.into(), |neurons, x| neurons.leak = vec![x])
    }

    /// Network with these thresholds, in units of the layer's activations: one number for all
    /// layers, or one per layer.
    ///
    /// # Errors
    /// Returns an error if there is not one value per layer, or a value is out of range.
    pub fn with_threshold(&self, threshold: impl Into<PerLayer>) -> Result<Self> {
        self.with_values("threshold", threshold.into(), |neurons, x| {
            neurons.threshold = vec![x]
        })
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
        require(
            holds,
            name,
            found,
            format!("1, or {layers}, one per layer of neurons"),
        )?;
        let mut values = values.into_iter().cycle();
        self.with(|neurons| values.by_ref().take(1).for_each(|x| set(neurons, x)))
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
        let (layers, found) = (self.neurons().len(), format!("{} values", scales.len()));
        let expected = format!("{layers}, one a layer of neurons");
        require(scales.len() == layers, "scales", found, expected)?;
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

/// Spikes of chosen neurons of one layer, a dot each: timestep against neuron, the first chosen one
/// at the bottom. `layer` counts from 0; neurons are numbered as in [`Trace::spikes`].
///
/// # Errors
/// A layer that the trace does not have, no neuron, or [`Error::Chart`] when plotters fails.
pub fn raster_chart(title: &str, trace: &Trace, layer: usize, neurons: &[usize]) -> Result<Chart> {
    let Some(spikes) = trace.spikes.get(layer) else {
        let expected = format!("less than {}, the layers of neurons", trace.spikes.len());
        return Err(Error::parameter("layer", layer, expected));
    };
    if neurons.is_empty() {
        return Err(Error::parameter("neurons", "none", "at least one"));
    }
    draw(title, 0, |area| {
        // Rows have numbers of their own, since neurons need not be next to each other.
        let names: Vec<String> = neurons.iter().map(usize::to_string).collect();
        let mut axes = named_axes(
            area,
            title,
            ["timestep", &format!("neuron of layer {layer}")],
            0.0..spikes.len() as f64 + 1.0,
            -0.5..neurons.len() as f64 - 0.5,
            [&plain_number, &named(&names)],
        )?;
        let dots = spikes.iter().enumerate().flat_map(|(t, fired)| {
            let rows = neurons.iter().enumerate();
            let rows = rows.filter(|(_, neuron)| fired.binary_search(neuron).is_ok());
            rows.map(move |(row, _)| (t + 1, row))
        });
        let dot = |(t, row)| Circle::new((t as f64, row as f64), 2, COLOURS[0].filled());
        axes.draw_series(dots.clone().map(dot))?;
        table(
            ["timestep", "neuron"],
            dots.map(|(t, row)| [t.to_string(), names[row].clone()]),
        )
    })
}
