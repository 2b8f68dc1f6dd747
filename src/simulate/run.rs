//! Runs of a spiking network on images.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::layers::{Layer, Shape, Source, Stage, Stages, to_channels_last};
use crate::ann::networks::Network;
use crate::base::error::{Error, Result};
use crate::convert::Snn;
use crate::data::images::{Images, Part, Samples, Task};
use crate::metrics::{AccuracyCurve, Hits, Target, predict};
use crate::plot;
use crate::report::{Table, show};
use crate::simulate::codes::InputCode;
use crate::simulate::engine::{Chunk, Drive, Engine, Scratch};
use crate::simulate::neurons::Neurons;

/// Settings of [`simulate`]. A number is one: so many timesteps, and the rest as usual.
///
/// ```
/// use evospike::prelude::*;
///
/// let settings = SimulateSettings { code: InputCode::Poisson { seed: 0 }, ..64.into() };
/// assert_eq!(settings.timesteps, 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulateSettings {
    /// 1 to 65,536.
    pub timesteps: usize,
    /// How images are given to the network.
    pub code: InputCode,
    /// Whether to count the spikes of every single neuron, which takes memory.
    pub per_neuron: bool,
}

show!(SimulateSettings as fields);

impl From<usize> for SimulateSettings {
    fn from(timesteps: usize) -> Self {
        Self {
            timesteps,
            code: InputCode::Direct,
            per_neuron: false,
        }
    }
}

/// What one run over some images gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// Accuracy after every timestep.
    pub curve: AccuracyCurve,
    /// Which images were right after every timestep.
    pub hits: Hits,
    /// Spikes of all images themselves in each timestep; none with direct coding.
    pub input: Option<Vec<u64>>,
    /// Activity of every layer of neurons, and last of the output layer, which does not spike.
    pub layers: Vec<LayerSpikes>,
}

/// Activity of one layer in a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpikes {
    /// Neurons in the layer; classes of the output layer.
    pub neurons: usize,
    /// Spikes of all its neurons on all images, in each timestep.
    pub spikes: Vec<u64>,
    /// Synaptic operations: weights that the spikes that arrive add to its input currents, on all
    /// images, in each timestep. Average pooling is part of the weights before it.
    pub operations: Vec<u64>,
    /// Spikes of each neuron on all images in the whole run, neurons numbered by channel, row,
    /// column; none unless [`SimulateSettings::per_neuron`] asks for it.
    pub per_neuron: Option<Vec<u64>>,
}

/// What threads count.
struct Counts {
    input: Vec<u64>,
    layers: Vec<LayerSpikes>,
}

pub(crate) fn add(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn add_layers(to: &mut [LayerSpikes], from: &[LayerSpikes]) {
    for (to, from) in to.iter_mut().zip(from) {
        add(&mut to.spikes, &from.spikes);
        add(&mut to.operations, &from.operations);
        if let (Some(to), Some(from)) = (&mut to.per_neuron, &from.per_neuron) {
            add(to, from);
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        add(&mut self.input, &other.input);
        add_layers(&mut self.layers, &other.layers);
    }
}

impl Simulation {
    /// Adds the run of the same network, for as many timesteps, on the images that follow.
    pub(crate) fn extend(&mut self, more: &Self) {
        self.hits.extend(&more.hits);
        self.curve = self.hits.curve();
        if let (Some(to), Some(from)) = (&mut self.input, &more.input) {
            add(to, from);
        }
        add_layers(&mut self.layers, &more.layers);
    }

    /// The accuracy that other networks are to reach on the same images: that of this run after its
    /// last timestep, less a margin in percentage points. It stands for the ANN's where that says
    /// nothing, as under an attack on the ANN itself, which leaves it at chance.
    ///
    /// # Errors
    /// A margin that is negative or leaves nothing to reach.
    pub fn target(&self, margin_percent: f64) -> Result<Target> {
        let last = self.hits.rows().filter_map(|row| row.last().copied());
        let target = Target::new(last.collect::<Vec<_>>(), margin_percent)?;
        Ok(target.of_reference())
    }

    /// Spikes of layer `layer` for each image.
    pub fn spikes_per_image(&self, layer: usize) -> f64 {
        self.layers[layer].spikes.iter().sum::<u64>() as f64 / self.curve.images() as f64
    }

    /// Spikes a neuron a timestep in layer `layer`, 0..=1.
    pub fn firing_rate(&self, layer: usize) -> f64 {
        let neurons = self.layers[layer].neurons;
        self.spikes_per_image(layer) / (neurons * self.curve.timesteps()) as f64
    }

    fn chart(&self) -> Result<plot::Chart> {
        let name = format!("{} images", self.curve.images());
        plot::accuracy(
            "Accuracy after every timestep",
            &[(&name, &self.curve)],
            None,
        )
    }
}

show!(impl [] Simulation as chart);

/// Runs the network on every image for some timesteps.
///
/// ```
/// # use evospike::prelude::*;
/// # let digits = data::digits()?.split(Shares::default(), 0)?;
/// # let ann = Ann::<DigitsCnn>::new(0)?;
/// # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
/// # let images = digits.test.take(4);
/// let run = simulate(&snn, &images, 64)?; // 64 timesteps
/// let code = InputCode::Poisson { seed: 0 };
/// let spikes = simulate(&snn, &images, SimulateSettings { code, ..64.into() })?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// No image, no timestep, or a code's period out of range.
pub fn simulate<N: Network, P: Part>(
    snn: &Snn<N>,
    images: &Images<P, N::Task>,
    settings: impl Into<SimulateSettings>,
) -> Result<Simulation> {
    snn.network.simulate(images, settings)
}

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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, PartialEq)]
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

    /// The same network with 16-bit weights, half the memory and 15 to 25 % less time: for each
    /// output channel the weights between neurons are rounded to multiples of the smallest power
    /// of two with which no sum of 32 of them can leave 16 bits. It is another network, simulated
    /// exactly; compare its accuracy.
    ///
    /// A channel whose weights are all small multiples of one of them keeps them as they are; where
    /// all channels of a layer do, as with [`Binary`](crate::ann::modules::Binary) weights, 8 bits are
    /// enough: a VGG15 of them takes half the time that it takes with 32 bits, one of half the width
    /// two thirds (`cargo bench --bench limits`).
    ///
    /// Layers whose neurons have a threshold for every channel, or that get the image itself, go on
    /// with 32 bits (the former with rounded weights).
    pub fn quantised(&self) -> Self {
        Self {
            stages: Stages::clone(&self.stages).quantised().into(),
            neurons: self.neurons.clone(),
        }
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

/// Timesteps of a run at most: each takes memory.
const MOST_TIMESTEPS: usize = 1 << 16;

pub(crate) fn some_timesteps(name: &'static str, timesteps: usize) -> Result<()> {
    let expected = match timesteps {
        0 => "1 or more".into(),
        1..=MOST_TIMESTEPS => return Ok(()),
        _ => format!("at most {MOST_TIMESTEPS}"),
    };
    Err(Error::parameter(name, timesteps, expected))
}

/// Number of a neuron by channel, row, column, from that by row, column, channel.
fn number(shape: Shape, neuron: u32) -> usize {
    let (position, channel) = (
        neuron as usize / shape.channels,
        neuron as usize % shape.channels,
    );
    channel * shape.height * shape.width + position
}

/// Currents that an input makes flow into each stage, without the bias; none into those that only
/// spikes reach.
#[derive(Clone)]
struct Currents {
    stages: Vec<Option<Vec<f32>>>,
    constant: bool,
    /// Values other than 0 of each timestep.
    spikes: Vec<u64>,
}

impl Currents {
    /// Of one input, or of some that come one after the other, timestep by timestep.
    fn of(stages: &Stages, inputs: &[f32]) -> Self {
        let mut image = vec![0.0; stages.input.size()];
        let from_image = |stage: &Stage| {
            let mut sources = stage.synapses.iter().map(|synapses| synapses.source);
            sources.any(|source| source == Source::Image)
        };
        let mut currents = |stage: &Stage| {
            let mut current = Vec::new();
            for input in inputs.chunks_exact(stages.input.size()) {
                to_channels_last(stages.input, input, &mut image);
                let start = current.len();
                current.resize(start + stage.output.size(), 0.0);
                for synapses in &stage.synapses {
                    if synapses.source == Source::Image {
                        synapses.add_dense(&image, &mut current[start..]);
                    }
                }
            }
            current
        };
        let of = |stage| from_image(stage).then(|| currents(stage));
        let frames = inputs.chunks_exact(stages.input.size());
        let spikes = |frame: &[f32]| frame.iter().filter(|&&x| x != 0.0).count() as u64;
        Self {
            spikes: frames.map(spikes).collect(),
            stages: stages.stages.iter().map(of).collect(),
            constant: inputs.len() == stages.input.size(),
        }
    }

    fn drives(&self) -> Vec<Option<Drive<'_>>> {
        let kind = match self.constant {
            true => Drive::Constant,
            false => Drive::Varying,
        };
        let stages = self.stages.iter();
        stages.map(|stage| stage.as_deref().map(kind)).collect()
    }
}

/// Images made ready for many runs with other neurons.
pub(crate) struct Simulator<'a> {
    stages: &'a Stages,
    images: Samples<'a>,
    code: InputCode,
    /// Whether to count each neuron's spikes.
    pub per_neuron: bool,
    /// What each image makes flow; kept where that takes little memory and is the same in every
    /// run, as with direct coding.
    kept: Option<Vec<Currents>>,
}

/// Values that a [`Simulator`] keeps: half a GiB.
const KEPT: usize = 1 << 27;

impl<'a> Simulator<'a> {
    /// With direct coding.
    pub fn new(stages: &'a Stages, images: Samples<'a>) -> Result<Self> {
        Self::coded(stages, images, InputCode::Direct)
    }

    pub fn coded(stages: &'a Stages, images: Samples<'a>, code: InputCode) -> Result<Self> {
        images.check_some()?;
        code.check()?;
        let mut simulator = Self {
            stages,
            images,
            code,
            per_neuron: false,
            kept: None,
        };
        let values = images.len().saturating_mul(stages.stages[0].output.size());
        if code == InputCode::Direct && values <= KEPT {
            let all = (0..images.len()).into_par_iter();
            let currents = |image| simulator.currents(image, 1).into_owned();
            simulator.kept = Some(all.map(currents).collect());
        }
        Ok(simulator)
    }

    fn currents(&self, image: usize, timesteps: usize) -> Cow<'_, Currents> {
        if let Some(kept) = &self.kept {
            return Cow::Borrowed(&kept[image]);
        }
        let pixels = self.images.input(image);
        let (peak, index) = (self.images.peak(), self.images.index(image));
        let frames = self.code.frames(&pixels, peak, timesteps, index);
        Cow::Owned(Currents::of(self.stages, &frames))
    }

    pub fn run(&self, neurons: &[Neurons], timesteps: usize) -> Result<Simulation> {
        self.run_on(0..self.images.len(), neurons, timesteps)
    }

    /// On some of the images.
    pub fn run_on(
        &self,
        images: Range<usize>,
        neurons: &[Neurons],
        timesteps: usize,
    ) -> Result<Simulation> {
        some_timesteps("timesteps", timesteps)?;
        let engine = Engine::new(self.stages, neurons)?;
        let stages = &self.stages.stages;
        let none = |(layer, stage): (usize, &Stage)| LayerSpikes {
            neurons: stage.output.size(),
            spikes: vec![0; timesteps],
            operations: vec![0; timesteps],
            per_neuron: (self.per_neuron && layer < neurons.len())
                .then(|| vec![0; stage.output.size()]),
        };
        let nothing = || Counts {
            input: vec![0; timesteps],
            layers: stages.iter().enumerate().map(none).collect(),
        };
        let mut hits = vec![false; images.len() * timesteps];
        // Whole numbers add up to the same in any order: any number of threads gives the same.
        let counts = hits
            .par_chunks_exact_mut(timesteps)
            .enumerate()
            .fold(
                || (nothing(), engine.scratch()),
                |(mut counts, mut scratch), (i, hits)| {
                    let image = images.start + i;
                    let currents = self.currents(image, timesteps);
                    let spikes = currents.spikes.iter().cycle();
                    let input = counts.input.iter_mut().zip(spikes);
                    input.for_each(|(sum, spikes)| *sum += spikes);
                    let label = self.images.label(image);
                    let mut sum = vec![0.0; stages[neurons.len()].output.size()];
                    engine.run(&currents.drives(), timesteps, &mut scratch, |chunk| {
                        for t in 0..chunk.timesteps {
                            sum.iter_mut()
                                .zip(chunk.output(t))
                                .for_each(|(sum, z)| *sum += z);
                            hits[chunk.first + t] = predict(&sum) == label;
                            for (i, counts) in counts.layers.iter_mut().enumerate() {
                                let spikes = chunk.events.get(i).map_or(&[][..], |e| e.at(t));
                                counts.spikes[chunk.first + t] += spikes.len() as u64;
                                counts.operations[chunk.first + t] += chunk.operations[i][t];
                                if let Some(of) = &mut counts.per_neuron {
                                    let shape = stages[i].output;
                                    spikes.iter().for_each(|&n| of[number(shape, n)] += 1);
                                }
                            }
                        }
                    });
                    (counts, scratch)
                },
            )
            .map(|(counts, _)| counts)
            .reduce(nothing, |mut sum, counts| {
                sum.add(&counts);
                sum
            });
        let hits = Hits::new(timesteps, hits);
        Ok(Simulation {
            curve: hits.curve(),
            hits,
            input: (self.code != InputCode::Direct).then_some(counts.input),
            layers: counts.layers,
        })
    }
}

impl Simulator<'_> {
    /// Runs the first layers of neurons, with `neurons`, and the currents into `more` stages after
    /// them, 0 or 1, on every image; each chunk of timesteps changes a value of the image, and the
    /// values are put together in whatever order.
    fn prefix<T: Send>(
        &self,
        (neurons, more): (&[Neurons], usize),
        timesteps: usize,
        start: impl Fn() -> T + Sync,
        chunk: impl Fn(&mut T, &Chunk<'_>) + Sync,
        join: impl Fn(T, T) -> T + Sync + Send,
    ) -> Result<T> {
        some_timesteps("timesteps", timesteps)?;
        let engine = Engine::of(&self.stages.stages[..neurons.len() + more], neurons)?;
        let images = (0..self.images.len()).into_par_iter();
        let run = |(mut value, mut scratch), image| {
            let currents = self.currents(image, timesteps);
            let drives = currents.drives();
            engine.run(&drives, timesteps, &mut scratch, |part| {
                chunk(&mut value, part)
            });
            (value, scratch)
        };
        let values = images.fold(|| (start(), engine.scratch()), run);
        Ok(values.map(|(value, _)| value).reduce(&start, join))
    }

    /// The largest current into the layer after those with `neurons`, at any timestep.
    pub fn largest_current(&self, neurons: &[Neurons], timesteps: usize) -> Result<f32> {
        let largest = |most: &mut f32, chunk: &Chunk<'_>| {
            for t in 0..chunk.timesteps {
                *most = chunk.output(t).fold(*most, f32::max);
            }
        };
        let least = || f32::NEG_INFINITY;
        self.prefix((neurons, 1), timesteps, least, largest, f32::max)
    }

    /// Spikes of each channel of the last layer with `neurons`, on all images.
    pub fn channel_spikes(&self, neurons: &[Neurons], timesteps: usize) -> Result<Vec<u64>> {
        let layer = neurons.len() - 1;
        let channels = self.stages.stages[layer].output.channels;
        let count = |spikes: &mut Vec<u64>, chunk: &Chunk<'_>| {
            let events = (0..chunk.timesteps).flat_map(|t| chunk.events[layer].at(t));
            events.for_each(|&neuron| spikes[neuron as usize % channels] += 1);
        };
        let add = |mut sum: Vec<u64>, spikes: Vec<u64>| {
            sum.iter_mut().zip(spikes).for_each(|(sum, n)| *sum += n);
            sum
        };
        self.prefix((neurons, 0), timesteps, || vec![0; channels], count, add)
    }

    /// Of each layer with `neurons`, how many neurons first fire in each timestep, on all images.
    pub fn first_spikes(&self, neurons: &[Neurons], timesteps: usize) -> Result<Vec<Vec<u64>>> {
        let stages = &self.stages.stages[..neurons.len()];
        let none = |stage: &Stage| (vec![false; stage.output.size()], vec![0; timesteps]);
        let start = || stages.iter().map(none).collect();
        let count = |layers: &mut Vec<(Vec<bool>, Vec<u64>)>, chunk: &Chunk<'_>| {
            for ((fired, first), events) in layers.iter_mut().zip(chunk.events) {
                if chunk.first == 0 {
                    fired.fill(false); // another image begins
                }
                for t in 0..chunk.timesteps {
                    for &neuron in events.at(t) {
                        let before = std::mem::replace(&mut fired[neuron as usize], true);
                        first[chunk.first + t] += u64::from(!before);
                    }
                }
            }
        };
        let join = |mut sum: Vec<(Vec<bool>, Vec<u64>)>, more: Vec<(Vec<bool>, Vec<u64>)>| {
            let layers = sum.iter_mut().zip(&more);
            layers.for_each(|(sum, more)| add(&mut sum.1, &more.1));
            sum
        };
        let layers = self.prefix((neurons, 0), timesteps, start, count, join)?;
        Ok(layers.into_iter().map(|(_, first)| first).collect())
    }

    /// What `of` makes of each image and its spikes, in the order of the images. The spikes are
    /// those of each neuron (rows, columns, channels) of each layer up to each of some timesteps,
    /// which ascend.
    pub fn spikes_up_to<T: Send>(
        &self,
        neurons: &[Neurons],
        timesteps: &[usize],
        of: impl Fn(usize, &[Vec<Vec<u32>>]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let last = timesteps.last().copied().unwrap_or(0);
        some_timesteps("timesteps", last)?;
        let stages = &self.stages.stages[..neurons.len()];
        let engine = Engine::of(stages, neurons)?;
        let run = |scratch: &mut Scratch, image: usize| {
            let currents = self.currents(image, last);
            let none = stages.iter().map(|stage| vec![0; stage.output.size()]);
            let (mut counts, mut found): (Vec<Vec<u32>>, _) = (none.collect(), Vec::new());
            engine.run(&currents.drives(), last, scratch, |chunk| {
                for t in 0..chunk.timesteps {
                    for (counts, events) in counts.iter_mut().zip(chunk.events) {
                        let fired = events.at(t).iter();
                        fired.for_each(|&neuron| counts[neuron as usize] += 1);
                    }
                    if timesteps.contains(&(chunk.first + t + 1)) {
                        found.push(counts.clone());
                    }
                }
            });
            of(image, &found)
        };
        let images = (0..self.images.len()).into_par_iter();
        Ok(images.map_init(|| engine.scratch(), run).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::layers::linear;
    use crate::data::{Classify, Whole};

    type Pixels = Classify<1, 2, 2>; // 1 x 2 x 2, 2 classes

    /// Two neurons; class 0 sums what the first pixels give, class 1 the last.
    fn network() -> SpikingNetwork {
        #[rustfmt::skip]
        let first = vec![
            1.0, 0.5, 0.0, 0.0,
            0.0, 0.0, 0.5, 1.0,
        ];
        let layers = [
            linear(first, 4),
            Layer::Neurons,
            linear(vec![1.0, 0.0, 0.0, 1.0], 2),
        ];
        let neurons = vec![Neurons::new([2.0])];
        SpikingNetwork::new(Shape::new(1, 2, 2), &layers, neurons, 2).unwrap()
    }

    fn images() -> Images<Whole, Pixels> {
        let pixels = vec![255, 51, 0, 0, 0, 0, 102, 255, 204, 0, 51, 0];
        Images::from_arrays(pixels, vec![0, 1, 0]).unwrap()
    }

    #[test]
    fn coded_images_give_the_spikes_of_their_frames() {
        for code in [
            InputCode::Direct,
            InputCode::Poisson { seed: 5 },
            InputCode::Phase { period: 4 },
            InputCode::Latency { period: 200 },
        ] {
            // More timesteps than the engine computes at a time.
            let (images, timesteps) = (images(), 150);
            let settings = SimulateSettings {
                code,
                ..timesteps.into()
            };
            let run = network().simulate(&images, settings).unwrap();
            let mut spikes = vec![0; timesteps];
            let mut correct = vec![0; timesteps];
            for i in 0..images.len() {
                let frames = images.encoded(i, code, timesteps).unwrap();
                let trace = network().trace(&frames, timesteps).unwrap();
                let mut sum = [0.0; 2];
                for t in 0..timesteps {
                    spikes[t] += trace.spikes[0][t].len() as u64;
                    sum[0] += trace.output[t][0];
                    sum[1] += trace.output[t][1];
                    correct[t] += usize::from(predict(&sum) == images.label(i));
                }
            }
            assert_eq!(run.layers[0].spikes, spikes, "{code}");
            assert_eq!(run.curve, AccuracyCurve::new(3, correct).unwrap(), "{code}");
            assert!(spikes.iter().sum::<u64>() > 100, "{code}");
        }
    }

    #[test]
    fn each_neuron_is_counted() {
        let settings = SimulateSettings {
            per_neuron: true,
            ..100.into()
        };
        let run = network().simulate(&images(), settings).unwrap();
        let mut expected = [0, 0];
        for i in 0..3 {
            let trace = network().trace(&images().input(i), 100).unwrap();
            trace.spikes[0]
                .iter()
                .flatten()
                .for_each(|&neuron| expected[neuron] += 1);
        }
        assert!(expected[0] != expected[1]);
        assert_eq!(run.layers[0].per_neuron, Some(expected.to_vec()));
        assert_eq!(run.layers[1].per_neuron, None); // the output does not spike
        let sum: u64 = run.layers[0].spikes.iter().sum();
        assert_eq!(sum, expected.iter().sum::<u64>());
        assert_eq!(run.spikes_per_image(0), sum as f64 / 3.0);
        let plain = network().simulate(&images(), 100).unwrap();
        assert_eq!(plain.layers[0].per_neuron, None);
        assert_eq!((plain.curve, plain.input), (run.curve, None));
    }

    #[test]
    fn random_spikes_depend_on_neither_threads_nor_other_images() {
        let settings = || SimulateSettings {
            code: InputCode::Poisson { seed: 1 },
            ..40.into()
        };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let run = || network().simulate(&images(), settings()).unwrap();
            pool.build().unwrap().install(run)
        };
        assert_eq!(run(1), run(2));
        let first = network().simulate(&images().take(2), settings()).unwrap();
        let all = run(2);
        assert!((0..40).all(|t| first.layers[0].spikes[t] <= all.layers[0].spikes[t]));
        let list = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(list.path(), "2\n").unwrap();
        let last = images().listed(list.path()).unwrap();
        let last = network().simulate(&last, settings()).unwrap();
        for t in 0..40 {
            let apart = first.layers[0].spikes[t] + last.layers[0].spikes[t];
            assert_eq!(apart, all.layers[0].spikes[t]);
        }
    }

    #[test]
    fn nothing_runs_on_bad_input() {
        let error = |result: Result<Simulation>| result.unwrap_err().to_string();
        assert_eq!(
            error(network().simulate(&images(), 0)),
            "timesteps: found 0, expected 1 or more"
        );
        assert_eq!(
            error(network().simulate(&images(), 65_537)),
            "timesteps: found 65537, expected at most 65536"
        );
        assert_eq!(
            error(network().simulate(&images().take(0), 8)),
            "images: found none, expected at least one"
        );
        let code = InputCode::Phase { period: 40 };
        let settings = SimulateSettings { code, ..8.into() };
        assert_eq!(
            error(network().simulate(&images(), settings)),
            "code.period: found 40, expected 1..=16 timesteps"
        );
        let digits = crate::data::digits().unwrap();
        let message = error(network().simulate(&digits, 8));
        assert!(message.starts_with("images: found 1 x 8 x 8"), "{message}");
        let error = |input: &[f32]| network().trace(input, 3).unwrap_err().to_string();
        assert_eq!(
            error(&[0.0, 1.0, f32::NAN, 0.0]),
            "input: found NaN at place 2, expected finite values"
        );
        assert!(error(&[0.0; 8]).starts_with("input: found 8 values, expected 4, or 4 for each"));
    }
}
