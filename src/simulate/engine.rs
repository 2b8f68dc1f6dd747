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
//! sorting took two fifths of the time while the numbers of spikes of a whole layer went through memory;
//! they are packed a tile at a time, in the cache. The layers of 4 x 4 and 2 x 2 positions added a row in
//! 6 to 10 ns where those of 8 x 8 take 2.9: so few spikes used their weights once for each time that
//! they came from the third-level cache. Images that are simulated together share them.
//!
//! One thread simulates an image, or a few, from beginning to end, and sums over images are of whole
//! numbers: results do not depend on the number of threads.

use std::borrow::Cow;
use std::ops::Range;

use super::lanes::{LANES, Row, Vectors, sum, sum_counted, total};
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
    /// First stage to compute; the spikes of those before it are given as [`Saved`].
    first: usize,
}

/// Spikes of one image in a whole run: of the layers and the max pools, by number, that stages from a
/// certain one on take from those before it.
#[derive(Default)]
pub(crate) struct Saved([Vec<(usize, Events)>; 2]);

impl Saved {
    /// Number of bytes that the spikes take.
    pub fn bytes(&self) -> usize {
        let events = self.0.iter().flatten().flat_map(|(_, events)| &events.timesteps);
        let values =
            events.map(|s| s.neurons.len() + s.counts.len() + s.starts.len() + s.before.len());
        4 * values.sum::<usize>()
    }
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

/// Spikes of one layer or max pool in a chunk of timesteps.
#[derive(Default)]
pub(crate) struct Events {
    /// As many as the longest chunk so far has timesteps.
    timesteps: Vec<Spiking>,
}

/// Spikes of one layer in one timestep: neurons numbered by row, column, channel, sorted.
#[derive(Default)]
struct Spiking {
    /// Neurons that fire, and what no longer counts behind them.
    neurons: Vec<u32>,
    /// Number of spikes of each of these neurons, negative downwards; empty if they are plain.
    counts: Vec<f32>,
    /// First of them of each position, and their number.
    starts: Vec<u32>,
    /// Number of spikes, up and down, before each position, and of all; empty if they are plain.
    before: Vec<u32>,
}

impl Spiking {
    /// Number of neurons that fire.
    fn len(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    /// Number of spikes, up and down, before each position, and of all.
    fn before(&self) -> &[u32] {
        if self.before.is_empty() { &self.starts } else { &self.before }
    }

    fn clear(&mut self) {
        self.starts.clear();
        self.starts.push(0);
        self.before.clear();
    }
}

impl Events {
    /// Neurons that fire in timestep `timestep` of the chunk, sorted.
    pub fn at(&self, timestep: usize) -> &[u32] {
        let spiking = &self.timesteps[timestep];
        &spiking.neurons[..spiking.len()]
    }

    /// Number of spikes of each of these neurons, negative downwards.
    pub fn counts(&self, timestep: usize) -> impl Iterator<Item = i8> + '_ {
        let spiking = &self.timesteps[timestep];
        (0..spiking.len()).map(|i| spiking.counts.get(i).map_or(1, |&count| count as i8))
    }

    /// Number of spikes in timestep `timestep` of the chunk, up and down.
    pub fn spikes(&self, timestep: usize) -> u64 {
        self.timesteps[timestep].before().last().map_or(0, |&all| all.into())
    }

    /// A copy of the first timesteps, no larger than the spikes.
    fn saved(&self, timesteps: usize) -> Self {
        let copy = |spiking: &Spiking| Spiking {
            neurons: spiking.neurons[..spiking.len()].to_vec(),
            counts: spiking.counts[..spiking.len().min(spiking.counts.len())].to_vec(),
            starts: spiking.starts.clone(),
            before: spiking.before.clone(),
        };
        Self { timesteps: self.timesteps[..timesteps].iter().map(copy).collect() }
    }

    /// Takes the spikes of a copy.
    fn restore(&mut self, saved: &Self) {
        self.clear(saved.timesteps.len());
        for (to, from) in self.timesteps.iter_mut().zip(&saved.timesteps) {
            let enough = from.len() + LANES;
            to.neurons.clone_from(&from.neurons);
            to.neurons.resize(enough, 0);
            to.counts.clone_from(&from.counts);
            to.counts.resize(if from.counts.is_empty() { 0 } else { enough }, 0.0);
            to.starts.clone_from(&from.starts);
            to.before.clone_from(&from.before);
        }
    }

    /// Empties the timesteps of a chunk.
    fn clear(&mut self, timesteps: usize) {
        if self.timesteps.len() < timesteps {
            self.timesteps.resize_with(timesteps, Spiking::default);
        }
        self.timesteps[..timesteps].iter_mut().for_each(Spiking::clear);
    }
}

impl Spiking {
    /// Adds the neurons that fire at the next positions, given as bits of the lanes of each block of
    /// `channels`, and the numbers of their spikes in the same order, if they are not plain.
    #[inline(always)]
    fn push(&mut self, vectors: Vectors, channels: usize, fired: &[u32], counts: &[[f32; LANES]]) {
        let (mut used, blocks) = (self.len(), channels.div_ceil(LANES));
        let more: usize = fired.iter().map(|bits| bits.count_ones() as usize).sum();
        // Room for what is written beyond the last, and read beyond it when lists are made.
        let enough = used + more + LANES;
        if self.neurons.len() < enough {
            self.neurons.resize(2 * enough, 0);
        }
        if !counts.is_empty() && self.counts.len() < enough {
            self.counts.resize(2 * enough, 0.0);
        }
        let (mut spikes, graded) = (self.before().last().copied().unwrap_or(0), !counts.is_empty());
        if graded && self.before.is_empty() {
            self.before.push(0);
        }
        let mut counts = counts.iter();
        for fired in fired.chunks_exact(blocks) {
            let first = (self.starts.len() - 1) * channels;
            for (block, &fired) in fired.iter().enumerate() {
                if let Some(counts) = counts.next() {
                    vectors.pack(fired, counts, &mut self.counts[used..]);
                    spikes += total(counts);
                }
                let first = (first + block * LANES) as u32;
                used += vectors.places(fired, first, &mut self.neurons[used..]);
            }
            self.starts.push(used as u32);
            if graded {
                self.before.push(spikes);
            }
        }
    }
}

/// Memory of one thread.
pub(crate) struct Scratch {
    /// One for each of the images that are simulated at once.
    states: Vec<ImageState>,
    /// Lanes that fire, one bit each, in a tile: timestep, place, block.
    fired: Vec<u32>,
    /// Numbers of spikes in the same order, if they are not plain.
    counts: Vec<[f32; LANES]>,
    lists: Lists,
}

/// State of a network that simulates one image.
struct ImageState {
    /// Neurons of each layer between two chunks of timesteps: position, block.
    neurons: Vec<Vec<Lanes>>,
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

/// State of [`LANES`] neurons.
#[derive(Clone, Copy, Default)]
struct Lanes {
    potential: [f32; LANES],
    /// Sums of the spikes so far, unless they are plain.
    sums: [f32; LANES],
    /// Remaining timesteps of the refractory period.
    waiting: [u32; LANES],
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
            first: 0,
        })
    }

    /// Computes only the stages from `first` on; [`restore`](Self::restore) gives the spikes before.
    pub fn starting_at(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// Whether a stage that is computed takes the image.
    pub fn takes_image(&self) -> bool {
        let mut synapses = self.stages[self.first..].iter().flat_map(|stage| &stage.synapses);
        synapses.any(|synapses| synapses.source == Source::Image)
    }

    /// Whether [`Saved`] can hold a run of so many timesteps.
    pub fn shows_at_once(&self, timesteps: usize) -> bool {
        timesteps <= self.chunk
    }

    /// Spikes of a whole run that stages from `first` on take from those before it.
    pub fn saved(&self, all: &Stages, first: usize, chunk: &Chunk<'_>) -> Saved {
        let taken = |source: Source| {
            let mut later = all.stages[first..].iter().flat_map(|stage| &stage.synapses);
            let mut pools = all.pools.iter().filter(|pool| pool.layer >= first);
            later.any(|synapses| synapses.source == source)
                || pools.any(|pool| pool.source == source)
        };
        let save = |events: &[Events], source: fn(usize) -> Source| {
            let taken = (0..events.len()).filter(|&number| taken(source(number)));
            taken.map(|number| (number, events[number].saved(chunk.timesteps))).collect()
        };
        let layers = &chunk.events[..first.min(chunk.events.len())];
        let pools = all.pools.partition_point(|pool| pool.layer < first);
        let pooled = &chunk.pooled[..pools.min(chunk.pooled.len())];
        Saved([save(layers, Source::Neurons), save(pooled, Source::Pool)])
    }

    /// Gives an image the spikes of the stages that are not computed.
    pub fn restore(&self, scratch: &mut Scratch, image: usize, saved: &Saved) {
        let state = &mut scratch.states[image];
        for (to, saved) in [&mut state.events, &mut state.pooled].into_iter().zip(&saved.0) {
            saved.iter().for_each(|(number, events)| to[*number].restore(events));
        }
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
        let spiking = self.layers.iter().filter(|layer| layer.neurons.is_some()).count();
        ImageState {
            neurons: vec![Vec::new(); spiking],
            events: (0..spiking).map(|_| Events::default()).collect(),
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
            state.pools.iter_mut().flatten().for_each(|sums| sums.fill(0.0));
        }
        // Images that go on, in the order of their states.
        let mut images: Vec<usize> = (0..drives.len()).collect();
        for first in (0..timesteps).step_by(self.chunk) {
            let chunk = first..timesteps.min(first + self.chunk);
            let drives: Vec<_> = images.iter().map(|&image| &drives[image][..]).collect();
            for stage in self.first..self.layers.len() {
                self.vectors.run(
                    #[inline(always)]
                    || self.stage(stage, chunk.clone(), timesteps, &drives, scratch),
                );
                for (pool, of) in self.pools.iter().enumerate() {
                    if of.layer == stage {
                        for state in &mut scratch.states[..images.len()] {
                            self.vectors.run(
                                #[inline(always)]
                                || self.pool(pool, chunk.len(), state),
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

    /// Computes one stage over a chunk of the timesteps of a run.
    #[inline(always)]
    fn stage(
        &self,
        stage: usize,
        chunk: Range<usize>,
        end: usize,
        drives: &[&[Option<Drive<'_>>]],
        scratch: &mut Scratch,
    ) {
        let layer = &self.layers[stage];
        let output = self.stages[stage].output;
        let (positions, blocks) = (output.height * output.width, layer.blocks.len());
        let (timesteps, kinds) = (chunk.len(), layer.synapses.len());
        let Scratch { states, fired, counts, lists } = scratch;
        let states = &mut states[..drives.len()];
        let keeps = layer.neurons.is_some() && chunk.end < end;
        for state in states.iter_mut() {
            let operations = &mut state.operations[stage];
            operations.clear();
            operations.resize(timesteps, 0);
            match layer.neurons {
                None => state.output.resize(timesteps * positions * blocks, [0.0; LANES]),
                Some(_) => {
                    state.events[stage].clear(timesteps);
                    if keeps {
                        state.neurons[stage].resize(positions * blocks, Lanes::default());
                    }
                }
            }
        }
        let plain = layer.neurons.is_none_or(|neurons| neurons.spikes.is_plain());
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
                        let events = &events.timesteps[t];
                        let arrived = lists.add(charged, next % positions, events);
                        *operations += (arrived * charged.synapses.reach) as u64;
                    }
                }
                next += 1;
            }
            if layer.neurons.is_some() {
                let each = (next - first) * timesteps * blocks;
                fired.resize(each, 0);
                counts.resize(if plain { 0 } else { each }, [0.0; LANES]);
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
                    let kept = at * blocks + block;
                    let mut neurons = match chunk.start > 0 && layer.neurons.is_some() {
                        true => state.neurons[stage][kept],
                        false => parameters.start(),
                    };
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
                        let to = (t * (next - first) + place - first) * blocks + block;
                        match layer.neurons {
                            None => state.output[(t * positions + at) * blocks + block] = z,
                            Some(Dynamics { spikes, .. }) if !plain => {
                                let values = [&mut neurons.potential, &mut neurons.sums];
                                let constants = [&parameters.size, &parameters.leak];
                                counts[to] = step_graded(&spikes, constants, values, &z);
                                fired[to] = self.vectors.nonzero(&counts[to]);
                            }
                            Some(Dynamics { reset, refractory, .. }) => {
                                // For a constant of 0 the compiler leaves out what waits.
                                let spikes = match refractory {
                                    0 => fire(&mut neurons, &z, parameters, reset, 0),
                                    n => fire(&mut neurons, &z, parameters, reset, n),
                                };
                                fired[to] = self.vectors.nonzero(&spikes);
                            }
                        }
                    }
                    if keeps {
                        state.neurons[stage][kept] = neurons;
                    }
                }
            }
            if layer.neurons.is_some() {
                for (image, state) in states.iter_mut().enumerate() {
                    let places = first.max(image * positions)..next.min((image + 1) * positions);
                    let events = state.events[stage].timesteps[..timesteps].iter_mut();
                    for (t, events) in events.enumerate().filter(|_| !places.is_empty()) {
                        let from = (t * (next - first) + places.start - first) * blocks;
                        let marks = from..from + places.len() * blocks;
                        let counts = if plain { &[][..] } else { &counts[marks.clone()] };
                        events.push(self.vectors, output.channels, &fired[marks], counts);
                    }
                }
            }
        }
    }
}

impl Engine<'_> {
    /// Computes one max pool over a chunk of timesteps: adds up the spikes of its inputs, and emits
    /// the change of the largest sum of each window.
    #[inline(always)]
    fn pool(&self, number: usize, timesteps: usize, state: &mut ImageState) {
        let pool = &self.pools[number];
        let ImageState { events, pools, pooled, .. } = state;
        let [sums, most] = &mut pools[number];
        let (before, after) = pooled.split_at_mut(number);
        let source = match pool.source {
            Source::Pool(pool) => &before[pool],
            _ => &events[pool.layer],
        };
        let channels = pool.input.channels;
        let positions = pool.output.height * pool.output.width;
        let blocks = channels.div_ceil(LANES);
        let (mut fired, mut counts) = (vec![0; blocks], vec![[0.0; LANES]; blocks]);
        after[0].clear(timesteps);
        for (source, to) in source.timesteps[..timesteps].iter().zip(&mut after[0].timesteps) {
            let plain = source.counts.is_empty();
            for (i, &neuron) in source.neurons[..source.len()].iter().enumerate() {
                sums[neuron as usize] += source.counts.get(i).copied().unwrap_or(1.0);
            }
            let silent =
                |&from: &u32| source.starts[from as usize] == source.starts[from as usize + 1];
            for position in 0..positions {
                let window = pool.window(position);
                if window.iter().all(silent) {
                    // No sum has changed.
                    fired.fill(0);
                    counts.fill([0.0; LANES]);
                } else {
                    for (block, (fired, change)) in fired.iter_mut().zip(&mut counts).enumerate() {
                        let lanes = block * LANES..channels.min((block + 1) * LANES);
                        let mut largest = [f32::NEG_INFINITY; LANES];
                        for &from in window {
                            let sums = &sums[from as usize * channels..][lanes.clone()];
                            largest.iter_mut().zip(sums).for_each(|(to, sum)| *to = to.max(*sum));
                        }
                        let most = &mut most[position * channels..][lanes];
                        for ((change, most), largest) in change.iter_mut().zip(most).zip(largest) {
                            *change = largest - std::mem::replace(most, largest);
                        }
                        *fired = self.vectors.nonzero(change);
                    }
                }
                let counts = if plain { &[][..] } else { &counts };
                to.push(self.vectors, channels, &fired, counts);
            }
        }
    }
}

/// Advances [`LANES`] plain neurons by one timestep with input current `z`. Returns the number of
/// spikes of each.
#[inline(always)]
fn fire(
    neurons: &mut Lanes,
    z: &[f32; LANES],
    parameters: &Parameters,
    reset: Reset,
    refractory: u32,
) -> [f32; LANES] {
    let mut fired = [0.0; LANES];
    for lane in 0..LANES {
        let neuron = Neuron {
            threshold: parameters.size[lane],
            leak: parameters.leak[lane],
            current: 0.0, // part of the bias
            reset,
            refractory,
        };
        let state = State { potential: neurons.potential[lane], waiting: neurons.waiting[lane] };
        let (state, _, activity) = step(&neuron, state, z[lane]);
        neurons.potential[lane] = state.potential;
        neurons.waiting[lane] = state.waiting;
        fired[lane] = f32::from(activity == Activity::Fired);
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
    fn add(&mut self, charged: &Charged<'_>, position: usize, events: &Spiking) -> usize {
        let Charged { synapses, plain, .. } = *charged;
        let start = self.used;
        self.reserve(0, plain); // also where nothing reaches the position
        let (starts, before) = (&events.starts, events.before());
        let mut spikes = 0;
        for run in synapses.runs(position) {
            spikes += before[run.end as usize] - before[run.start as usize];
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
        if (self.used - start) % 2 == 1 {
            self.rows[self.used] = synapses.rows as u32 - 1;
            if !plain {
                self.counts[self.used] = 0.0;
            }
            self.used += 1;
        }
        self.ends.push(self.used as u32);
        spikes as usize
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

    /// Neurons before the first timestep.
    #[inline(always)]
    fn start(&self) -> Lanes {
        Lanes { potential: self.initial, sums: [0.0; LANES], waiting: [0; LANES] }
    }
}

#[cfg(test)]
mod tests;
