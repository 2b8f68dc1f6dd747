//! Simulator of a network on images that are prepared once, with counts of spikes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::codes::InputCode;
use super::engine::{Chunk, Drive, Engine, Saved, Scratch};
use super::neurons::Neurons;
use super::outputs::Outputs;
use super::settings::SimulateSettings;
use super::synapses::{Source, Stage, Stages, TOGETHER};
use super::unrolling::{TapeGradients, Unrolling, Wanted};
use crate::base::{Chart, Error, Result, note_slow_build, one_line, rounded, show, some_timesteps};
use crate::data::{Samples, Shape};
use crate::metrics::{AccuracyCurve, Hits, Target, predict};

/// Returns the index of a neuron by channel, row, column, from its index by row, column, channel.
pub(crate) fn number(shape: Shape, neuron: u32) -> usize {
    let neuron = neuron as usize;
    neuron % shape.channels * shape.height * shape.width + neuron / shape.channels
}

/// Counts of one thread.
struct Counts {
    input: Vec<u64>,
    layers: Vec<LayerSpikes>,
    pools: Vec<Vec<u64>>,
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
        self.pools.iter_mut().zip(&other.pools).for_each(|(to, from)| add(to, from));
    }
}

/// Result of one run on some images.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// Accuracy after each timestep.
    pub curve: AccuracyCurve,
    /// Hits: which images were correct after each timestep.
    pub hits: Hits,
    /// Number of input spikes of all images in each timestep; none with direct coding.
    pub input: Option<Vec<u64>>,
    /// Activity of every layer of neurons, followed by the output layer, which does not spike.
    pub layers: Vec<LayerSpikes>,
    /// Number of spikes that each max pool emits on all images, in each timestep.
    // Left out of files if there are none, as it was before they existed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Vec<u64>>,
    /// Outputs of every image after every timestep; none unless
    /// [`SimulateSettings::outputs`](crate::simulate::SimulateSettings::outputs) is set.
    // Left out of files if there are none, as it was before they existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
}

/// Activity of one layer in a whole run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpikes {
    /// Number of neurons in the layer; number of classes for the output layer.
    pub neurons: usize,
    /// Number of spikes of all its neurons on all images, in each timestep.
    pub spikes: Vec<u64>,
    /// Number of synaptic operations on all images, in each timestep: weights that arriving spikes
    /// add to the input currents of the layer. Average pooling is part of the weights before it.
    pub operations: Vec<u64>,
    /// Number of spikes of each neuron on all images in the whole run, with neurons by channel,
    /// row, column; none unless
    /// [`SimulateSettings::per_neuron`](crate::simulate::SimulateSettings::per_neuron) is set.
    pub per_neuron: Option<Vec<u64>>,
}

one_line!(impl [] Simulation: run, "simulation: {:?}", run.curve);

one_line!(
    impl [] LayerSpikes: layer,
    "spikes of {} neurons in {} timesteps: {}",
    layer.neurons,
    layer.spikes.len(),
    layer.spikes.iter().sum::<u64>()
);

impl Simulation {
    /// Returns the target for other networks on the same images: the accuracy of this run after its
    /// last timestep, less a margin in percentage points. It replaces the ANN's accuracy where that
    /// is meaningless, as under an attack on the ANN itself, which leaves it at chance.
    ///
    /// # Errors
    /// Returns an error if the margin is negative or leaves nothing to reach.
    pub fn target(&self, margin_percent: f64) -> Result<Target> {
        let last = self.hits.rows().filter_map(|row| row.last().copied());
        let target = Target::new(last.collect::<Vec<_>>(), margin_percent)?;
        Ok(target.of_reference())
    }

    /// Returns whether this can be a run on so many images for so many timesteps.
    pub(crate) fn is_of(&self, images: usize, timesteps: usize) -> bool {
        let sizes = [self.hits.images(), self.curve.images(), self.curve.timesteps()];
        let mut layers = self.layers.iter();
        sizes == [images, images, timesteps]
            && self.hits.curve() == self.curve
            && layers.all(|layer| layer.spikes.len() == timesteps)
    }

    /// Returns the mean number of spikes per image in layer `layer`.
    pub fn spikes_per_image(&self, layer: usize) -> f64 {
        self.layers[layer].spikes.iter().sum::<u64>() as f64 / self.curve.images() as f64
    }

    /// Returns the firing rate of layer `layer`: spikes per neuron and timestep, 0..=1 if spikes are
    /// plain.
    pub fn firing_rate(&self, layer: usize) -> f64 {
        let neurons = self.layers[layer].neurons;
        self.spikes_per_image(layer) / (neurons * self.curve.timesteps()) as f64
    }

    fn chart(&self) -> Result<Chart> {
        self.curve.chart()
    }
}

impl AsRef<Hits> for Simulation {
    fn as_ref(&self) -> &Hits {
        &self.hits
    }
}

show!(impl [] Simulation as chart);

/// Input currents of each stage, without the bias of its channels; none for stages that only spikes
/// reach.
#[derive(Clone)]
pub(super) struct Currents {
    stages: Vec<Option<Vec<f32>>>,
    constant: bool,
    /// Number of values other than 0 in each timestep.
    spikes: Vec<u64>,
}

impl Currents {
    /// Computes the currents of images, each one input, or one input per timestep, one after the
    /// other.
    pub(super) fn of<I: AsRef<[f32]>>(stages: &Stages, images: &[I]) -> Vec<Self> {
        let size = stages.input().size();
        let all = images.iter().flat_map(|image| image.as_ref().chunks_exact(size));
        let all: Vec<Vec<f32>> = all.map(|frame| stages.channels_last(frame)).collect();
        let of = |stage: &Stage| {
            let synapses = stage.synapses.iter().filter(|s| s.source == Source::Image);
            let mut currents = Vec::new();
            for synapses in synapses {
                if currents.is_empty() {
                    let mut rest = stage.place_bias.clone();
                    rest.resize(stage.output.size(), 0.0);
                    currents.resize(all.len(), rest);
                }
                synapses.add_dense_to_all(&all, &mut currents);
            }
            currents.into_iter()
        };
        let mut currents: Vec<_> = stages.stages.iter().map(of).collect();
        let of = |image: &I| {
            let timesteps = image.as_ref().len() / size;
            let stage = |currents: &mut std::vec::IntoIter<Vec<f32>>| match timesteps {
                1 => currents.next(),
                _ => Some(currents.take(timesteps).collect::<Vec<_>>().concat())
                    .filter(|currents| !currents.is_empty()),
            };
            let frames = image.as_ref().chunks_exact(size);
            Self {
                stages: currents.iter_mut().map(stage).collect(),
                constant: timesteps == 1,
                spikes: frames.map(|f| f.iter().filter(|&&x| x != 0.0).count() as u64).collect(),
            }
        };
        images.iter().map(of).collect()
    }

    /// Those of no input, for engines of stages that only spikes reach.
    fn nothing(stages: &Stages) -> Self {
        Self { stages: vec![None; stages.stages.len()], constant: true, spikes: vec![0] }
    }

    /// What drives each stage besides spikes: the image, and biases that differ from place to place.
    pub(super) fn drives<'a>(&'a self, stages: &'a Stages) -> Vec<Option<Drive<'a>>> {
        let kind = match self.constant {
            true => Drive::Constant,
            false => Drive::Varying,
        };
        let drive = |(current, stage): (&'a Option<Vec<f32>>, &'a Stage)| {
            let constant = Some(&stage.place_bias[..]).filter(|bias| !bias.is_empty());
            current.as_deref().map(kind).or(constant.map(Drive::Constant))
        };
        self.stages.iter().zip(&stages.stages).map(drive).collect()
    }
}

/// Error of a network whose outputs overflow.
pub(crate) fn overflow(stages: &Stages) -> Error {
    let found = "sums that are infinite or no numbers";
    Error::layer(stages.spiking(), "output", found, "finite sums")
}

/// Device that networks run on, by its work. It is made where this work is defined, in
/// [`through_time`](crate::through_time).
#[derive(Clone, Copy)]
pub(crate) struct Device {
    /// Name of its type.
    pub name: &'static str,
    /// Simulates neurons on images.
    pub run: fn(&Stages, &[Neurons], Samples<'_>, SimulateSettings) -> Result<Simulation>,
    /// Logits of inputs, one after the other.
    pub logits: fn(&Unrolling<'_>, &[f32]) -> Result<Vec<f32>>,
    /// Gradients of the mean cross-entropy of inputs with class probabilities, one row an input.
    pub gradients: GradientsOn,
}

type GradientsOn = fn(&Unrolling<'_>, &[f32], &[f32], Wanted) -> Result<Vec<TapeGradients>>;

/// Simulator with prepared images, for many runs with different neurons.
pub(crate) struct Simulator<'a> {
    pub(super) stages: &'a Stages,
    pub(super) images: Samples<'a>,
    code: InputCode,
    /// Whether to count each neuron's spikes.
    pub per_neuron: bool,
    /// Whether to keep the outputs of each image.
    pub outputs: bool,
    /// Device of whole runs.
    pub device: Option<Device>,
    /// Currents of each image; kept if they take little memory and are the same in every run, as
    /// with direct coding.
    kept: Option<Vec<Currents>>,
}

/// Maximum number of values that a [`Simulator`] keeps: half a GiB.
const KEPT: usize = 1 << 27;

impl<'a> Simulator<'a> {
    /// Creates a simulator with direct coding.
    pub fn new(stages: &'a Stages, images: Samples<'a>) -> Result<Self> {
        Self::coded(stages, images, InputCode::Direct, None)
    }

    pub fn coded(
        stages: &'a Stages,
        images: Samples<'a>,
        code: InputCode,
        device: Option<Device>,
    ) -> Result<Self> {
        images.check_some()?;
        code.check()?;
        note_slow_build();
        let (per_neuron, outputs, kept) = (false, false, None);
        let mut simulator = Self { stages, images, code, per_neuron, outputs, device, kept };
        let values = images.len().saturating_mul(stages.stages[0].output.size());
        if code.is_direct() && values <= KEPT && device.is_none() {
            let all: Vec<usize> = (0..images.len()).collect();
            let currents = all.par_chunks(TOGETHER).map(|images| simulator.computed(images, 1));
            simulator.kept = Some(currents.flatten_iter().collect());
        }
        Ok(simulator)
    }

    /// Currents of images, computed together.
    fn computed(&self, images: &[usize], timesteps: usize) -> Vec<Currents> {
        let frames = |&image: &usize| {
            let (peak, index) = (self.images.peak(), self.images.index(image));
            self.code.frames(&self.images.input(image), peak, timesteps, index)
        };
        Currents::of(self.stages, &images.iter().map(frames).collect::<Vec<_>>())
    }

    pub fn run(&self, neurons: &[Neurons], timesteps: usize) -> Result<Simulation> {
        let Some(device) = self.device else {
            return self.run_on(0..self.images.len(), neurons, timesteps);
        };
        some_timesteps("timesteps", timesteps)?;
        let Self { code, per_neuron, outputs, .. } = *self;
        let settings = SimulateSettings { timesteps, code, per_neuron, outputs };
        (device.run)(self.stages, neurons, self.images, settings)
    }

    /// Runs on a range of the images.
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
            pools: vec![vec![0; timesteps]; self.stages.pools.len()],
        };
        let classes = stages[neurons.len()].output.size();
        let mut hits = vec![false; images.len() * timesteps];
        // Where outputs are not kept, there are as many empty pieces as images.
        let kept = if self.outputs { timesteps } else { 0 };
        let mut outputs = Outputs {
            classes,
            sums: vec![0.0; images.len() * kept * classes],
            spikes: vec![0; images.len() * kept],
        };
        // Weights that are finite can overflow; a sum that did stays infinite or no number.
        let overflows = AtomicBool::new(false);
        // Sums of integers do not depend on their order: any number of threads gives the same
        // result.
        let together = engine.together(images.len(), timesteps);
        let pieces = outputs.pieces(images.len());
        let mut results: Vec<_> =
            images.zip(hits.chunks_exact_mut(timesteps).zip(pieces)).collect();
        let counts = results
            .par_chunks_mut(together)
            .fold(
                || (nothing(), engine.scratch(together)),
                |(mut counts, mut scratch), results| {
                    let numbers: Vec<usize> = results.iter().map(|(image, _)| *image).collect();
                    let mut summed = vec![vec![0.0; classes]; results.len()];
                    let show = |i: usize, chunk: &Chunk<'_>| {
                        let (sum, (image, (hits, (sums, spikes)))) =
                            (&mut summed[i], &mut results[i]);
                        let label = self.images.label(*image);
                        for t in 0..chunk.timesteps {
                            let output = sum.iter_mut().zip(chunk.output(t));
                            output.for_each(|(sum, z)| *sum += z);
                            hits[chunk.first + t] = predict(sum) == label;
                            if self.outputs {
                                let fired = chunk.events.iter().map(|events| events.spikes(t));
                                spikes[chunk.first + t] = fired.sum::<u64>() as u32;
                                sums[(chunk.first + t) * classes..][..classes].copy_from_slice(sum);
                            }
                            for (counts, events) in counts.pools.iter_mut().zip(chunk.pooled) {
                                counts[chunk.first + t] += events.spikes(t);
                            }
                            for (i, counts) in counts.layers.iter_mut().enumerate() {
                                counts.operations[chunk.first + t] += chunk.operations[i][t];
                                let Some(events) = chunk.events.get(i) else {
                                    continue; // the output
                                };
                                counts.spikes[chunk.first + t] += events.spikes(t);
                                if let Some(of) = &mut counts.per_neuron {
                                    let shape = stages[i].output;
                                    for (&neuron, count) in
                                        events.at(t).iter().zip(events.counts(t))
                                    {
                                        of[number(shape, neuron)] +=
                                            u64::from(count.unsigned_abs());
                                    }
                                }
                            }
                        }
                        true
                    };
                    let run = self.simulate(&engine, &numbers, timesteps, &mut scratch, show);
                    for currents in run {
                        let arrive = currents.spikes.iter().cycle();
                        let input = counts.input.iter_mut().zip(arrive);
                        input.for_each(|(sum, spikes)| *sum += spikes);
                    }
                    if summed.iter().flatten().any(|sum| !sum.is_finite()) {
                        overflows.store(true, Ordering::Relaxed);
                    }
                    (counts, scratch)
                },
            )
            .map(|(counts, _)| counts)
            .reduce(nothing, |mut sum, counts| {
                sum.add(&counts);
                sum
            });
        if overflows.into_inner() {
            return Err(overflow(self.stages));
        }
        let hits = Hits::new(timesteps, hits);
        Ok(Simulation {
            curve: hits.curve(),
            hits,
            input: (!self.code.is_direct()).then_some(counts.input),
            layers: counts.layers,
            pools: counts.pools,
            outputs: self.outputs.then_some(outputs),
        })
    }

    /// Simulates images at once and shows their chunks as [`Engine::run`] does. Returns their currents.
    fn simulate(
        &self,
        engine: &Engine<'_>,
        images: &[usize],
        timesteps: usize,
        scratch: &mut Scratch,
        show: impl FnMut(usize, &Chunk<'_>) -> bool,
    ) -> Vec<Cow<'_, Currents>> {
        let currents: Vec<_> = match &self.kept {
            _ if !engine.takes_image() => {
                vec![Cow::Owned(Currents::nothing(self.stages)); images.len()]
            }
            Some(kept) => images.iter().map(|&image| Cow::Borrowed(&kept[image])).collect(),
            None => self.computed(images, timesteps).into_iter().map(Cow::Owned).collect(),
        };
        let drives: Vec<_> = currents.iter().map(|currents| currents.drives(self.stages)).collect();
        engine.run(&drives, timesteps, scratch, show);
        currents
    }

    /// Returns the ANN's logits of every image, one value per class.
    pub fn logits(&self) -> Vec<f32> {
        self.stages.logits(self.images.len(), |image| self.images.input(image)).concat()
    }

    /// Returns the label of an image.
    pub fn label(&self, image: usize) -> usize {
        self.images.label(image)
    }
}

impl Simulator<'_> {
    /// Folds what the engine shows of all images into one value. `show` gets the place of an image
    /// among those that are simulated at once, and its number, and says whether the image goes on.
    /// `saved` has the spikes of each image that the engine does not compute, if there are any.
    pub(super) fn fold<T: Send>(
        &self,
        engine: &Engine<'_>,
        timesteps: usize,
        saved: &[Saved],
        start: impl Fn() -> T + Sync,
        show: impl Fn(&mut T, (usize, usize), &Chunk<'_>) -> bool + Sync,
        join: impl Fn(T, T) -> T + Sync + Send,
    ) -> T {
        let together = engine.together(self.images.len(), timesteps);
        let images: Vec<usize> = (0..self.images.len()).collect();
        let run = |(mut value, mut scratch), images: &[usize]| {
            for (place, &image) in images.iter().enumerate().filter(|_| !saved.is_empty()) {
                engine.restore(&mut scratch, place, &saved[image]);
            }
            self.simulate(engine, images, timesteps, &mut scratch, |place, chunk| {
                show(&mut value, (place, images[place]), chunk)
            });
            (value, scratch)
        };
        let parts = images.par_chunks(together);
        let parts = parts.fold(|| (start(), engine.scratch(together)), run);
        parts.map(|(value, _)| value).reduce(&start, join)
    }

    /// Returns for each layer with `neurons` how many neurons first fire in each timestep, on all
    /// images.
    pub fn first_spikes(&self, neurons: &[Neurons], timesteps: usize) -> Result<Vec<Vec<u64>>> {
        some_timesteps("timesteps", timesteps)?;
        let stages = &self.stages.stages[..neurons.len()];
        let none = |stage: &Stage| (vec![false; stage.output.size()], vec![0; timesteps]);
        let start = || stages.iter().map(none).collect();
        let show =
            |layers: &mut Vec<(Vec<bool>, Vec<u64>)>, _: (usize, usize), chunk: &Chunk<'_>| {
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
                true
            };
        let join = |mut sum: Vec<(Vec<bool>, Vec<u64>)>, more: Vec<(Vec<bool>, Vec<u64>)>| {
            let layers = sum.iter_mut().zip(&more);
            layers.for_each(|(sum, more)| add(&mut sum.1, &more.1));
            sum
        };
        let engine = Engine::of(self.stages, neurons.len(), neurons)?;
        let layers = self.fold(&engine, timesteps, &[], start, show, join);
        Ok(layers.into_iter().map(|(_, first)| first).collect())
    }

    /// Returns the result of `of` for each image and its spike counts, in the order of the images.
    /// The counts are those of each neuron (rows, columns, channels) of each layer up to each of
    /// the timesteps, which ascend; negative spikes are subtracted.
    pub fn spikes_up_to<T: Send>(
        &self,
        neurons: &[Neurons],
        timesteps: &[usize],
        of: impl Fn(usize, &[Vec<Vec<u32>>]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let last = timesteps.last().copied().unwrap_or(0);
        some_timesteps("timesteps", last)?;
        let stages = &self.stages.stages[..neurons.len()];
        let engine = Engine::of(self.stages, neurons.len(), neurons)?;
        let run = |scratch: &mut Scratch, image: usize| {
            let none = stages.iter().map(|stage| vec![0; stage.output.size()]);
            let (mut counts, mut found): (Vec<Vec<u32>>, _) = (none.collect(), Vec::new());
            self.simulate(&engine, &[image], last, scratch, |_, chunk| {
                for t in 0..chunk.timesteps {
                    for (counts, events) in counts.iter_mut().zip(chunk.events) {
                        for (&neuron, count) in events.at(t).iter().zip(events.counts(t)) {
                            let sum = &mut counts[neuron as usize]; // never below 0
                            *sum = sum.wrapping_add_signed(count.into());
                        }
                    }
                    if timesteps.contains(&(chunk.first + t + 1)) {
                        found.push(counts.clone());
                    }
                }
                true
            });
            of(image, &found)
        };
        let images = (0..self.images.len()).into_par_iter();
        Ok(images.map_init(|| engine.scratch(1), run).collect())
    }
}

/// Runs of more and more layers on the same images, for thresholds or currents that are found layer by
/// layer. Each run takes the spikes of the layers before from the one before it, if they take little
/// memory, so that the time of all does not grow with the square of the layers.
pub(crate) struct LayerByLayer<'a> {
    simulator: Simulator<'a>,
    timesteps: usize,
    /// First stage that the saved spikes leave to be computed.
    first: usize,
    saved: Vec<Saved>,
}

/// Maximum number of bytes of spikes that [`LayerByLayer`] saves, twice while a run replaces them.
const SAVED: usize = 1 << 30;

impl<'a> LayerByLayer<'a> {
    pub fn new(simulator: Simulator<'a>, timesteps: usize) -> Result<Self> {
        some_timesteps("timesteps", timesteps)?;
        Ok(Self { simulator, timesteps, first: 0, saved: Vec::new() })
    }

    /// Runs the first `count` stages with `neurons`, where all but the last stage are as they will be
    /// in later runs. `chunk` adds each chunk of timesteps to a value, and `join` combines the values
    /// in any order.
    fn run<T: Send>(
        &mut self,
        (neurons, count): (&[Neurons], usize),
        start: impl Fn() -> T + Sync,
        chunk: impl Fn(&mut T, &Chunk<'_>) + Sync,
        join: impl Fn(T, T) -> T + Sync + Send,
    ) -> Result<T> {
        let Self { simulator, timesteps, first, saved } = self;
        let engine = Engine::of(simulator.stages, count, neurons)?.starting_at(*first);
        let final_stages = count - 1;
        let most = SAVED / simulator.images.len();
        let saves = engine.shows_at_once(*timesteps) && final_stages > *first;
        let show =
            |(value, images): &mut (T, Vec<_>), (_, image): (usize, usize), part: &Chunk<'_>| {
                chunk(value, part);
                if saves {
                    let spikes = engine.saved(simulator.stages, final_stages, part);
                    // Where one image has too many, none are saved.
                    images.push((image, Some(spikes).filter(|spikes| spikes.bytes() <= most)));
                }
                true
            };
        let start = || (start(), Vec::new());
        let join = |(a, mut images): (T, Vec<_>), (b, mut more): (T, Vec<_>)| {
            images.append(&mut more);
            (join(a, b), images)
        };
        let (value, mut images) = simulator.fold(&engine, *timesteps, saved, start, show, join);
        images.sort_unstable_by_key(|(image, _)| *image);
        let spikes: Option<Vec<Saved>> = images.into_iter().map(|(_, spikes)| spikes).collect();
        if let Some(spikes) = spikes.filter(|_| saves) {
            (*first, *saved) = (final_stages, spikes);
        }
        Ok(value)
    }

    /// Returns the largest current into the layer after those with `neurons`, in any timestep.
    pub fn largest_current(&mut self, neurons: &[Neurons]) -> Result<f32> {
        let largest = |most: &mut f32, chunk: &Chunk<'_>| {
            for t in 0..chunk.timesteps {
                *most = chunk.output(t).fold(*most, f32::max);
            }
        };
        let least = || f32::NEG_INFINITY;
        self.run((neurons, neurons.len() + 1), least, largest, f32::max)
    }

    /// Returns the number of spikes of each channel of the last layer with `neurons`, on all images;
    /// negative ones are subtracted.
    pub fn channel_spikes(&mut self, neurons: &[Neurons]) -> Result<Vec<i64>> {
        let layer = neurons.len() - 1;
        let channels = self.simulator.stages.stages[layer].output.channels;
        let count = |spikes: &mut Vec<i64>, chunk: &Chunk<'_>| {
            for t in 0..chunk.timesteps {
                let events = &chunk.events[layer];
                for (&neuron, count) in events.at(t).iter().zip(events.counts(t)) {
                    spikes[neuron as usize % channels] += i64::from(count);
                }
            }
        };
        let join = |mut sum: Vec<i64>, spikes: Vec<i64>| {
            sum.iter_mut().zip(&spikes).for_each(|(sum, spikes)| *sum += spikes);
            sum
        };
        self.run((neurons, neurons.len()), || vec![0; channels], count, join)
    }
}

/// Row of `spikes.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpikesRow {
    /// Seed of the run.
    pub seed: u64,
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Number of neurons in the layer.
    pub neurons: usize,
    /// Number of timesteps of the run.
    pub timesteps: usize,
    /// Mean number of spikes per image, of all neurons in all timesteps.
    pub spikes_per_image: f64,
    /// Firing rate: spikes per neuron and timestep, in percent.
    pub firing_rate_percent: f64,
}

impl SpikesRow {
    /// Returns the rows of one run, one per layer.
    pub fn of<'a>(
        seed: u64,
        network: &'a str,
        run: &'a Simulation,
    ) -> impl Iterator<Item = Self> + 'a {
        // The output layer, the last, does not spike.
        (0..run.layers.len() - 1).map(move |layer| Self {
            seed,
            network: network.into(),
            layer,
            neurons: run.layers[layer].neurons,
            timesteps: run.curve.timesteps(),
            spikes_per_image: rounded(run.spikes_per_image(layer)),
            firing_rate_percent: rounded(100.0 * run.firing_rate(layer)),
        })
    }
}
