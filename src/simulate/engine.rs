//! The event-driven engine behind [`simulate`](mod@crate::simulate).
//!
//! In a feed-forward network a layer depends only on earlier layers in the same timestep, so the
//! engine computes a layer for a chunk of timesteps before the next layer. Within a layer it works on
//! one output position and [`LANES`] of its channels: their input current stays in registers while
//! the rows of weights of all spikes that reach the position are added. The list of these rows is the
//! same for all channels of the position. Spikes are sorted by timestep and neuron, so that those
//! under one row of a kernel are adjacent and the list is a copy of few pieces.
//!
//! Profile of a half-width VGG15 for CIFAR-10 (3.0 million additions per image and timestep, two Zen 4
//! cores, `perf`): two thirds of the time adds rows of weights, most of them from the second-level
//! cache; the rest makes lists, integrates and sorts spikes. On an idle machine both cores together
//! add 35 G weights per second; a loop that does nothing else adds 50 G from the first-level cache
//! and 30 G from the second (`cargo bench --bench limits`).
//!
//! With two levels and 3 timesteps (9.5 million additions per image and timestep), integrating and
//! sorting takes two fifths of the time, and the layers of 4 x 4 and 2 x 2 positions added a row in 6
//! to 10 ns where those of 8 x 8 take 2.9: so few spikes used their weights once for each time that
//! they came from the third-level cache. Images that are simulated together share them.
//!
//! One thread simulates an image, or a few, from beginning to end, and sums over images are of whole
//! numbers: results do not depend on the number of threads.

use std::borrow::Cow;
use std::ops::Range;

use super::lanes::{LANES, Row, Vectors, sum, sum_counted};
use super::neurons::{Activity, Neuron, Neurons, Reset, Spikes, State, step, step_graded};
use super::synapses::{MaxPool, Source, Stage, Stages, Synapses};
use crate::base::{Error, Result};

/// Largest number of timesteps for which a layer is computed before the next.
const CHUNK: usize = 128;
/// Number of listed rows of weights after which they are added: the lists of a tile stay in the cache.
const TILE: usize = 1 << 15;
/// Number of neurons of all images that are simulated at once, so that their state stays small.
const NEURONS: usize = 1 << 20;
/// Number of values copied at once, whether all are needed or not.
const COPY: usize = 16;

/// Network prepared for neurons of certain parameters.
pub(crate) struct Engine<'a> {
    stages: &'a [Stage],
    /// Those of layers of these stages.
    pools: &'a [MaxPool],
    layers: Vec<Prepared<'a>>,
    vectors: Vectors,
    /// Number of timesteps for which a layer is computed before the next.
    chunk: usize,
}

/// Parameters of one stage in the engine's order.
struct Prepared<'a> {
    /// Synapses from neurons; the image's current comes as a [`Drive`].
    synapses: Vec<Charged<'a>>,
    /// One for each [`LANES`] channels.
    blocks: Vec<Parameters>,
    /// None for the output, which integrates its input current.
    neurons: Option<Dynamics>,
}

/// Synapses, their weights, and the charge of each spike that arrives.
struct Charged<'a> {
    synapses: &'a Synapses,
    weight: Cow<'a, [Row]>,
    charge: f32,
    /// Whether these spikes are plain.
    plain: bool,
}

/// Parameters of [`LANES`] channels; where there is no channel, an infinite size.
struct Parameters {
    /// Sizes of a spike: thresholds over levels.
    size: [f32; LANES],
    leak: [f32; LANES],
    initial: [f32; LANES],
    bias: [f32; LANES],
}

/// Reset, refractory period in timesteps, and spikes of one layer.
#[derive(Clone, Copy)]
struct Dynamics {
    reset: Reset,
    refractory: u32,
    spikes: Spikes,
}

/// Spikes of one layer in a chunk of timesteps: neurons numbered by row, column, channel, sorted by
/// timestep and number.
#[derive(Default)]
pub(crate) struct Events {
    neurons: Vec<u32>,
    /// Number of spikes of each of these neurons, negative downwards; empty if they are plain.
    counts: Vec<f32>,
    /// First spike of each timestep and position, and the number of spikes.
    starts: Vec<u32>,
    positions: usize,
}

impl Events {
    /// Neurons that fire in timestep `timestep` of the chunk, sorted.
    pub fn at(&self, timestep: usize) -> &[u32] {
        let [start, end] =
            [timestep, timestep + 1].map(|t| self.starts[t * self.positions] as usize);
        &self.neurons[start..end]
    }

    /// Number of spikes of each of these neurons, negative downwards.
    pub fn counts(&self, timestep: usize) -> impl Iterator<Item = i8> + '_ {
        let start = self.starts[timestep * self.positions] as usize;
        let counts = (start..).map(|i| self.counts.get(i).map_or(1, |&count| count as i8));
        counts.take(self.at(timestep).len())
    }

    /// Number of spikes in timestep `timestep` of the chunk, up and down.
    pub fn spikes(&self, timestep: usize) -> u64 {
        match self.counts.is_empty() {
            true => self.at(timestep).len() as u64,
            false => self.counts(timestep).map(|count| u64::from(count.unsigned_abs())).sum(),
        }
    }
}

/// Memory of one thread.
pub(crate) struct Scratch {
    /// One for each of the images that are simulated at once.
    states: Vec<ImageState>,
    /// Lanes that fire, one bit each: image, timestep, position, block.
    fired: Vec<u32>,
    /// Numbers of spikes in the same order, if they are not plain.
    counts: Vec<[f32; LANES]>,
    lists: Lists,
}

/// State of a network that simulates one image.
struct ImageState {
    /// Membrane potentials of each layer: position, block, lane.
    potential: Vec<Vec<[f32; LANES]>>,
    /// Remaining timesteps of the refractory period in the same order, of layers that have one.
    waiting: Vec<Vec<[u32; LANES]>>,
    /// Sums of the spikes so far in the same order, of layers whose spikes are not plain.
    sums: Vec<Vec<[f32; LANES]>>,
    events: Vec<Events>,
    /// Sums of spikes of each max pool's inputs and outputs, by row, column and channel.
    pools: Vec<[Vec<f32>; 2]>,
    /// Spikes that each max pool emits.
    pooled: Vec<Events>,
    /// Input current of the output layer: timestep, position, block, lane.
    output: Vec<[f32; LANES]>,
    /// Number of synaptic operations (spikes times the outputs each reaches) of each stage and
    /// timestep.
    operations: Vec<Vec<u64>>,
}

/// Rows of weights to be added: lists of each position, timestep and synapses of a tile.
#[derive(Default)]
struct Lists {
    rows: Vec<u32>,
    /// How often each row is added, where spikes are not plain.
    counts: Vec<f32>,
    used: usize,
    ends: Vec<u32>,
}

/// Input current that the image itself gives a stage, bias excluded.
#[derive(Clone, Copy)]
pub(crate) enum Drive<'a> {
    /// The same at every timestep: one value for each output.
    Constant(&'a [f32]),
    /// One value for each timestep and output; after the last timestep the first follows again.
    Varying(&'a [f32]),
}

impl<'a> Drive<'a> {
    /// Input current of each of `size` outputs in timestep `t` of the run.
    #[inline(always)]
    fn at(self, t: usize, size: usize) -> &'a [f32] {
        match self {
            Self::Constant(values) => values,
            Self::Varying(values) => &values[t * size % values.len()..][..size],
        }
    }
}

/// Results of a chunk of timesteps.
pub(crate) struct Chunk<'a> {
    /// First timestep, from 0.
    pub first: usize,
    /// Number of timesteps.
    pub timesteps: usize,
    /// Spikes of each layer of neurons.
    pub events: &'a [Events],
    /// Spikes of each max pool.
    pub pooled: &'a [Events],
    output: &'a [[f32; LANES]],
    blocks: usize,
    channels: usize,
    /// Number of synaptic operations of each stage and timestep.
    pub operations: &'a [Vec<u64>],
}

impl Chunk<'_> {
    /// Input current of the output layer in timestep `timestep` of the chunk: one value for each
    /// position and channel.
    pub fn output(&self, timestep: usize) -> impl Iterator<Item = f32> + '_ {
        let each = self.output.len() / self.timesteps;
        let positions = self.output[timestep * each..][..each].chunks_exact(self.blocks);
        positions.flat_map(|blocks| blocks.iter().flatten().copied().take(self.channels))
    }
}

impl<'a> Engine<'a> {
    /// Engine of a whole network.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless there is one set of parameters within range for each layer.
    pub fn new(stages: &'a Stages, neurons: &[Neurons]) -> Result<Self> {
        if neurons.len() != stages.spiking() {
            return Err(Error::parameter(
                "neurons",
                format!("parameters of {} layers", neurons.len()),
                format!("{}, one a layer of neurons", stages.spiking()),
            ));
        }
        Self::of(stages, stages.stages.len(), neurons)
    }

    /// Engine of the first `count` stages of a network. With one stage more than `neurons`, the last
    /// one is the output.
    ///
    /// # Errors
    /// [`Error::Parameter`] for parameters out of range.
    pub fn of(all: &'a Stages, count: usize, neurons: &[Neurons]) -> Result<Self> {
        let stages = &all.stages[..count];
        for (layer, (neurons, stage)) in neurons.iter().zip(stages).enumerate() {
            neurons.check(layer, stage.output.channels)?;
            neurons.check_bound(layer, stage.activation.bound())?;
        }
        let prepare = |(layer, stage): (usize, &'a Stage)| {
            let synapses = stage.synapses.iter();
            Prepared {
                synapses: synapses.filter_map(|s| Charged::new(s, all, neurons)).collect(),
                blocks: Parameters::of(stage.output.channels, &stage.bias, neurons.get(layer)),
                neurons: neurons.get(layer).map(|neurons| Dynamics {
                    reset: neurons.reset,
                    refractory: neurons.refractory.try_into().unwrap_or(u32::MAX),
                    spikes: neurons.spikes,
                }),
            }
        };
        Ok(Self {
            layers: stages.iter().enumerate().map(prepare).collect(),
            stages,
            pools: &all.pools[..all.pools.partition_point(|pool| pool.layer < neurons.len())],
            vectors: Vectors::widest(),
            chunk: CHUNK,
        })
    }

    /// Shows every timestep by itself, so that an image can end after any.
    pub fn by_timestep(self) -> Self {
        Self { chunk: 1, ..self }
    }

    /// Number of images to simulate at once, of so many: the weights of a late layer, which few
    /// spikes of one image reach, are then read from memory once for all of them. It decides no
    /// result. One where a chunk does not hold all timesteps.
    pub fn together(&self, images: usize, timesteps: usize) -> usize {
        const MOST: usize = 8;
        let neurons: usize = self.stages.iter().map(|stage| stage.output.size()).sum();
        let most = MOST.min(CHUNK / 2 / timesteps.max(1)).min(NEURONS / neurons.max(1));
        most.min(images / rayon::current_num_threads() / 2).max(1)
    }

    /// Memory of one thread that simulates so many images at once.
    pub fn scratch(&self, images: usize) -> Scratch {
        Scratch {
            states: (0..images).map(|_| self.state()).collect(),
            fired: Vec::new(),
            counts: Vec::new(),
            lists: Lists::default(),
        }
    }

    fn state(&self) -> ImageState {
        let stages = self.stages.iter().zip(&self.layers);
        let spiking = stages.filter_map(|(stage, layer)| Some((stage, layer, layer.neurons?)));
        let layers: Vec<(usize, Dynamics)> = spiking
            .map(|(stage, layer, neurons)| {
                let positions = stage.output.height * stage.output.width;
                (positions * layer.blocks.len(), neurons)
            })
            .collect();
        let only = |needed: bool, count: usize| if needed { count } else { 0 };
        ImageState {
            potential: layers.iter().map(|&(n, _)| vec![[0.0; LANES]; n]).collect(),
            waiting: layers
                .iter()
                .map(|&(n, neurons)| vec![[0; LANES]; only(neurons.refractory > 0, n)])
                .collect(),
            sums: layers
                .iter()
                .map(|&(n, neurons)| vec![[0.0; LANES]; only(!neurons.spikes.is_plain(), n)])
                .collect(),
            events: layers.iter().map(|_| Events::default()).collect(),
            pools: self
                .pools
                .iter()
                .map(|pool| [pool.input, pool.output].map(|shape| vec![0.0; shape.size()]))
                .collect(),
            pooled: self.pools.iter().map(|_| Events::default()).collect(),
            output: Vec::new(),
            operations: vec![Vec::new(); self.stages.len()],
        }
    }

    /// Simulates an image for each item of `drives` and shows every chunk of timesteps of each, in
    /// order, until `show` returns false for it. The item holds the input current of each stage from
    /// the image; none for stages that only neurons reach.
    pub fn run(
        &self,
        drives: &[Vec<Option<Drive<'_>>>],
        timesteps: usize,
        scratch: &mut Scratch,
        mut show: impl FnMut(usize, &Chunk<'_>) -> bool,
    ) {
        for state in &mut scratch.states[..drives.len()] {
            for (layer, potential) in self.layers.iter().zip(&mut state.potential) {
                for position in potential.chunks_exact_mut(layer.blocks.len()) {
                    for (potential, lanes) in position.iter_mut().zip(&layer.blocks) {
                        *potential = lanes.initial;
                    }
                }
            }
            for waiting in &mut state.waiting {
                waiting.fill([0; LANES]);
            }
            for sums in &mut state.sums {
                sums.fill([0.0; LANES]);
            }
            for sums in state.pools.iter_mut().flatten() {
                sums.fill(0.0);
            }
        }
        // Images that go on, in the order of their states.
        let mut images: Vec<usize> = (0..drives.len()).collect();
        for first in (0..timesteps).step_by(self.chunk) {
            let chunk = first..timesteps.min(first + self.chunk);
            let drives: Vec<_> = images.iter().map(|&image| &drives[image][..]).collect();
            for stage in 0..self.layers.len() {
                self.vectors.run(
                    #[inline(always)]
                    || self.stage(stage, chunk.clone(), &drives, scratch),
                );
                let Scratch { states, fired, counts, .. } = scratch;
                for (pool, of) in self.pools.iter().enumerate() {
                    if of.layer == stage {
                        for state in &mut states[..images.len()] {
                            self.vectors.run(
                                #[inline(always)]
                                || self.pool(pool, chunk.len(), state, fired, counts),
                            );
                        }
                    }
                }
            }
            for at in (0..images.len()).rev() {
                let state = &scratch.states[at];
                let chunk = Chunk {
                    first,
                    timesteps: chunk.len(),
                    events: &state.events,
                    pooled: &state.pooled,
                    output: &state.output,
                    blocks: self.layers[self.layers.len() - 1].blocks.len(),
                    channels: self.stages[self.layers.len() - 1].output.channels,
                    operations: &state.operations,
                };
                if !show(images[at], &chunk) {
                    images.swap_remove(at);
                    scratch.states.swap(at, images.len());
                }
            }
        }
    }

    /// Computes one stage over a chunk of timesteps.
    #[inline(always)]
    fn stage(
        &self,
        stage: usize,
        chunk: Range<usize>,
        drives: &[&[Option<Drive<'_>>]],
        scratch: &mut Scratch,
    ) {
        let layer = &self.layers[stage];
        let output = self.stages[stage].output;
        let (positions, blocks) = (output.height * output.width, layer.blocks.len());
        let (timesteps, kinds) = (chunk.len(), layer.synapses.len());
        let Scratch { states, fired, counts, lists } = scratch;
        let states = &mut states[..drives.len()];
        let each = timesteps * positions * blocks;
        for state in states.iter_mut() {
            let operations = &mut state.operations[stage];
            operations.clear();
            operations.resize(timesteps, 0);
            if layer.neurons.is_none() {
                state.output.resize(each, [0.0; LANES]);
            }
        }
        let plain = layer.neurons.is_none_or(|neurons| neurons.spikes.is_plain());
        fired.resize(if layer.neurons.is_some() { states.len() * each } else { 0 }, 0);
        counts.resize(if plain { 0 } else { states.len() * each }, [0.0; LANES]);
        // Places are the positions of one image after the other.
        let (mut next, all) = (0, states.len() * positions);
        while next < all {
            let first = next;
            lists.clear();
            while next < all && lists.used < TILE {
                let ImageState { events, pooled, operations, .. } = &mut states[next / positions];
                for (t, operations) in operations[stage].iter_mut().enumerate() {
                    for charged in &layer.synapses {
                        let events = match charged.synapses.source {
                            Source::Image => continue,
                            Source::Neurons(layer) => &events[layer],
                            Source::Pool(pool) => &pooled[pool],
                        };
                        let arrived = lists.add(charged.synapses, next % positions, t, events);
                        *operations += (arrived * charged.synapses.reach) as u64;
                    }
                }
                next += 1;
            }
            for (block, parameters) in layer.blocks.iter().enumerate() {
                let lanes = block * LANES..output.channels.min((block + 1) * LANES);
                for place in first..next {
                    let (image, at) = (place / positions, place % positions);
                    let state = &mut states[image];
                    // An engine of a network's first stages leaves out the other drives.
                    let drive = drives[image][stage];
                    let rest = |t: usize| {
                        let mut z = parameters.bias;
                        if let Some(drive) = drive {
                            let drive = drive.at(chunk.start + t, output.size());
                            let drive = &drive[at * output.channels..][lanes.clone()];
                            z.iter_mut().zip(drive).for_each(|(z, drive)| *z += drive);
                        }
                        z
                    };
                    let constant = rest(0);
                    for t in 0..timesteps {
                        let mut z = match drive {
                            Some(Drive::Varying(_)) => rest(t),
                            _ => constant,
                        };
                        for (kind, charged) in layer.synapses.iter().enumerate() {
                            let rows = charged.synapses.rows;
                            let weight = &charged.weight[block * rows..][..rows];
                            let list = lists.of(((place - first) * timesteps + t) * kinds + kind);
                            let rows = &lists.rows[list.clone()];
                            let sum = match charged.plain {
                                true => sum(weight, rows),
                                false => sum_counted(weight, rows, &lists.counts[list]),
                            };
                            for lane in 0..LANES {
                                z[lane] += sum[lane] * charged.charge;
                            }
                        }
                        let to = (t * positions + at) * blocks + block;
                        let lane = at * blocks + block;
                        match layer.neurons {
                            None => state.output[to] = z,
                            Some(Dynamics { spikes, .. }) if !plain => {
                                let values = [
                                    &mut state.potential[stage][lane],
                                    &mut state.sums[stage][lane],
                                ];
                                let constants = [&parameters.size, &parameters.leak];
                                let to = image * each + to;
                                counts[to] = step_graded(&spikes, constants, values, &z);
                                fired[to] = nonzero(&counts[to]);
                            }
                            Some(Dynamics { reset, refractory, .. }) => {
                                let potential = &mut state.potential[stage][lane];
                                // For a constant of 0 the compiler leaves out `waiting`.
                                fired[image * each + to] = match refractory {
                                    0 => fire(potential, &mut [0; LANES], &z, parameters, reset, 0),
                                    n => {
                                        let waiting = &mut state.waiting[stage][lane];
                                        fire(potential, waiting, &z, parameters, reset, n)
                                    }
                                };
                            }
                        }
                    }
                }
            }
        }
        if layer.neurons.is_some() {
            let all = fired.chunks_exact(each).enumerate().zip(states);
            for ((image, fired), state) in all {
                let counts = if plain { &[][..] } else { &counts[image * each..][..each] };
                state.events[stage].collect(fired, counts, positions, blocks, output.channels);
            }
        }
    }
}

impl Engine<'_> {
    /// Computes one max pool over a chunk of timesteps: adds up the spikes of its inputs, and emits
    /// the change of the largest sum of each window.
    #[inline(always)]
    fn pool(
        &self,
        number: usize,
        timesteps: usize,
        state: &mut ImageState,
        fired: &mut Vec<u32>,
        counts: &mut Vec<[f32; LANES]>,
    ) {
        let pool = &self.pools[number];
        let ImageState { events, pools, pooled, .. } = state;
        let [sums, most] = &mut pools[number];
        let (before, after) = pooled.split_at_mut(number);
        let source = match pool.source {
            Source::Pool(pool) => &before[pool],
            _ => &events[pool.layer],
        };
        let (channels, plain) = (pool.input.channels, source.counts.is_empty());
        let positions = pool.output.height * pool.output.width;
        let blocks = channels.div_ceil(LANES);
        let all = timesteps * positions * blocks;
        fired.clear();
        fired.resize(all, 0);
        counts.clear();
        counts.resize(if plain { 0 } else { all }, [0.0; LANES]);
        for t in 0..timesteps {
            for (i, &neuron) in source.at(t).iter().enumerate() {
                let start = source.starts[t * source.positions] as usize;
                sums[neuron as usize] += source.counts.get(start + i).copied().unwrap_or(1.0);
            }
            let starts = &source.starts[t * source.positions..][..=source.positions];
            for position in 0..positions {
                let window = pool.window(position);
                let silent = |&from: &u32| starts[from as usize] == starts[from as usize + 1];
                if window.iter().all(silent) {
                    continue; // no sum has changed
                }
                for block in 0..blocks {
                    let lanes = block * LANES..channels.min((block + 1) * LANES);
                    let mut largest = [f32::NEG_INFINITY; LANES];
                    for &from in window {
                        let sums = &sums[from as usize * channels..][lanes.clone()];
                        largest.iter_mut().zip(sums).for_each(|(to, sum)| *to = to.max(*sum));
                    }
                    let most = &mut most[position * channels..][lanes];
                    let mut change = [0.0; LANES];
                    for ((change, most), largest) in change.iter_mut().zip(most).zip(largest) {
                        *change = largest - std::mem::replace(most, largest);
                    }
                    let to = (t * positions + position) * blocks + block;
                    fired[to] = nonzero(&change);
                    if !plain {
                        counts[to] = change;
                    }
                }
            }
        }
        after[0].collect(fired, counts, positions, blocks, channels);
    }
}

/// Returns one bit for each number that is not 0.
#[inline(always)]
fn nonzero(counts: &[f32; LANES]) -> u32 {
    let mut bits = 0;
    for (lane, &count) in counts.iter().enumerate() {
        bits |= u32::from(count != 0.0) << lane;
    }
    bits
}

/// Advances [`LANES`] plain neurons by one timestep with input current `z`. Returns one bit for each
/// that fires.
#[inline(always)]
fn fire(
    potential: &mut [f32; LANES],
    waiting: &mut [u32; LANES],
    z: &[f32; LANES],
    parameters: &Parameters,
    reset: Reset,
    refractory: u32,
) -> u32 {
    let mut fired = 0;
    for lane in 0..LANES {
        let neuron = Neuron {
            threshold: parameters.size[lane],
            leak: parameters.leak[lane],
            current: 0.0, // part of the bias
            reset,
            refractory,
        };
        let state = State { potential: potential[lane], waiting: waiting[lane] };
        let (state, _, activity) = step(&neuron, state, z[lane]);
        potential[lane] = state.potential;
        waiting[lane] = state.waiting;
        fired |= u32::from(activity == Activity::Fired) << lane;
    }
    fired
}

impl Lists {
    fn clear(&mut self) {
        self.used = 0;
        self.ends.clear();
    }

    /// Makes room for some more rows, what is copied beyond them, and a row of zeros.
    #[inline(always)]
    fn reserve(&mut self, more: usize, plain: bool) {
        let enough = self.used + more + COPY + 1;
        if self.rows.len() < enough {
            self.rows.resize(2 * enough, 0);
        }
        if !plain && self.counts.len() < self.rows.len() {
            self.counts.resize(self.rows.len(), 0.0);
        }
    }

    fn of(&self, list: usize) -> Range<usize> {
        let start = list.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[list] as usize
    }

    /// Lists the rows to be added at a position in a timestep, and a row of zeros where their number
    /// is odd. Returns the number of spikes that arrive.
    #[inline(always)]
    fn add(&mut self, synapses: &Synapses, position: usize, t: usize, events: &Events) -> usize {
        let start = self.used;
        let plain = events.counts.is_empty();
        self.reserve(0, plain); // also where nothing reaches the position
        let starts = &events.starts[t * events.positions..];
        for run in synapses.runs(position) {
            let from = starts[run.start as usize] as usize;
            let count = starts[run.end as usize] as usize - from;
            self.reserve(count, plain);
            for i in (0..count).step_by(COPY) {
                let mut copy = [0; COPY];
                copy.copy_from_slice(&events.neurons[from + i..][..COPY]);
                let copy = copy.map(|neuron| neuron.wrapping_add(run.offset));
                self.rows[self.used + i..][..COPY].copy_from_slice(&copy);
                if !plain {
                    let copy = &events.counts[from + i..][..COPY];
                    self.counts[self.used + i..][..COPY].copy_from_slice(copy);
                }
            }
            self.used += count;
        }
        let listed = start..self.used;
        let spikes = match plain {
            true => listed.len(),
            // Whole numbers are added many at a time, unlike floats, whose order matters.
            false => {
                let counts = &self.counts[listed.clone()];
                counts.iter().map(|count| count.abs() as u32).sum::<u32>() as usize
            }
        };
        if listed.len() % 2 == 1 {
            self.rows[self.used] = synapses.rows as u32 - 1;
            if !plain {
                self.counts[self.used] = 0.0;
            }
            self.used += 1;
        }
        self.ends.push(self.used as u32);
        spikes
    }
}

/// Places of the ones in each byte, from the lowest bit.
const PLACES: [[u8; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                places[byte][count] = bit;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    places
};

impl Events {
    /// Numbers the neurons that fire, given as bits of lanes: timestep, position, block. `counts` holds
    /// the numbers of their spikes in the same order, if they are not plain.
    #[inline(always)]
    fn collect(
        &mut self,
        marks: &[u32],
        counts: &[[f32; LANES]],
        positions: usize,
        blocks: usize,
        channels: usize,
    ) {
        let spikes: usize = marks.iter().map(|mark| mark.count_ones() as usize).sum();
        // Room for what is written beyond the last, and read beyond it when lists are made.
        self.neurons.resize(spikes + COPY, 0);
        self.counts.resize(if counts.is_empty() { 0 } else { spikes + COPY }, 0.0);
        self.starts.clear();
        self.positions = positions;
        let (mut used, mut counts) = (0, counts.iter());
        for marks in marks.chunks_exact(positions * blocks) {
            for (position, marks) in marks.chunks_exact(blocks).enumerate() {
                self.starts.push(used as u32);
                for (block, mark) in marks.iter().enumerate() {
                    let counts = counts.next();
                    for (byte, ones) in mark.to_le_bytes().into_iter().enumerate() {
                        let first = (position * channels + block * LANES + byte * 8) as u32;
                        let places = PLACES[usize::from(ones)];
                        self.neurons[used..][..8]
                            .copy_from_slice(&places.map(|place| first + u32::from(place)));
                        if let Some(counts) = counts {
                            let counts = &counts[byte * 8..][..8];
                            // No `map`, which the compiler does not inline.
                            for (to, place) in self.counts[used..][..8].iter_mut().zip(places) {
                                *to = counts[usize::from(place % 8)];
                            }
                        }
                        used += ones.count_ones() as usize;
                    }
                }
            }
        }
        self.starts.push(used as u32);
    }
}

impl<'a> Charged<'a> {
    /// None for synapses from the image.
    fn new(synapses: &'a Synapses, stages: &Stages, neurons: &[Neurons]) -> Option<Self> {
        let source = match synapses.source {
            Source::Image => return None,
            Source::Neurons(layer) => layer,
            Source::Pool(pool) => stages.pools[pool].layer,
        };
        let (weight, charge) = match &*neurons[source].charges() {
            [charge] => (Cow::Borrowed(&synapses.weight[..]), *charge),
            charges => {
                let mut weight = synapses.weight.clone();
                for block in weight.chunks_exact_mut(synapses.rows) {
                    // The last row, of zeros, belongs to no channel.
                    for (row, charge) in block.iter_mut().zip(charges.iter().cycle()) {
                        row.0.iter_mut().for_each(|w| *w *= charge);
                    }
                }
                (Cow::Owned(weight), 1.0)
            }
        };
        Some(Self { synapses, weight, charge, plain: neurons[source].spikes.is_plain() })
    }
}

impl Parameters {
    /// Parameters of each block of a stage.
    fn of(channels: usize, bias: &[f32], neurons: Option<&Neurons>) -> Vec<Self> {
        let of = |values: &[f32], channel: usize| match values {
            [one] => *one,
            values => values[channel],
        };
        let sizes = neurons.map(Neurons::spike_sizes);
        let lanes = (0..channels).collect::<Vec<_>>();
        let block = |channels: &[usize]| {
            let mut lanes = Self {
                size: [f32::INFINITY; LANES],
                leak: [1.0; LANES],
                initial: [0.0; LANES],
                bias: [0.0; LANES],
            };
            for (lane, &channel) in channels.iter().enumerate() {
                lanes.bias[lane] = bias.get(channel).copied().unwrap_or(0.0);
                if let (Some(neurons), Some(sizes)) = (neurons, &sizes) {
                    lanes.bias[lane] += of(&neurons.current, channel);
                    lanes.size[lane] = of(sizes, channel);
                    lanes.leak[lane] = of(&neurons.leak, channel);
                    lanes.initial[lane] =
                        neurons.initial * lanes.size[lane] + of(&neurons.potential, channel);
                }
            }
            lanes
        };
        lanes.chunks(LANES).map(block).collect()
    }
}

#[cfg(test)]
mod tests;
