//! The fast engine: what [`simulate`](mod@crate::simulate) runs.
//!
//! Layers of a feed-forward network read only the layers before them in the same timestep, so the
//! engine computes a layer over a whole chunk of timesteps before it goes on to the next. Within
//! a layer everything is ordered around one output position and [`LANES`] of its channels: their
//! membrane potentials and the sum of their current stay in registers, and the spikes that reach
//! the position in a timestep come as a list of rows of weights to be added. That list is the same
//! for all channels of the position. Spikes are kept sorted by timestep and neuron, so the ones
//! that one row of a kernel sees are next to each other and the list is a copy of few pieces.
//!
//! Profile of a half-width VGG15 for CIFAR-10 (3.0 million additions an image and timestep, two Zen 4
//! cores, `perf`): about two thirds of the time adds rows of weights, which mostly come from the
//! second level of the cache; the rest makes lists, integrates and sorts spikes. Quiet, both cores
//! add 35 G weights a second in all; a loop that does nothing else adds 50 G from the first level of
//! the cache and 30 G from the second (`cargo bench --bench limits`).
//!
//! An image is simulated by one thread from beginning to end; images are shared out among threads.
//! What is added up across images are whole numbers. Results therefore do not depend on the number
//! of threads.

use std::borrow::Cow;
use std::ops::Range;

use crate::base::error::{Error, Result};
use crate::simulate::lanes::{Lanes, Plain, Vectors};
use crate::simulate::neurons::{Neurons, Reset};
use crate::simulate::synapses::{LANES, Row, Rows, Source, Stage, Stages, Synapses};

/// Timesteps that a layer is computed for at a time.
const CHUNK: usize = 64;
/// Rows of weights that are listed before they are added: lists of a tile stay in the cache.
const TILE: usize = 1 << 15;
/// Values that are copied at a time, whether needed or not.
const COPY: usize = 16;

/// A network made ready to run with certain neurons.
pub(crate) struct Engine<'a> {
    stages: &'a [Stage],
    layers: Vec<Prepared<'a>>,
    vectors: Vectors,
}

/// One stage's parameters in the engine's order.
struct Prepared<'a> {
    synapses: Vec<Charged<'a>>,
    blocks: Vec<Parameters>,
    neurons: Option<Dynamics>,
}

/// Synapses and what the spikes that arrive carry.
struct Charged<'a> {
    synapses: &'a Synapses,
    weight: Weights<'a>,
}

enum Weights<'a> {
    /// The charge of every spike.
    Real(Cow<'a, [Row]>, f32),
    /// For each block, the charge of every spike times the step of each channel.
    Whole(&'a Rows, Vec<[f32; LANES]>),
}

/// Parameters of [`LANES`] channels. Where there is no channel the threshold is never reached.
#[derive(Clone)]
struct Parameters {
    threshold: [f32; LANES],
    leak: [f32; LANES],
    initial: [f32; LANES],
    bias: [f32; LANES],
}

#[derive(Clone, Copy)]
struct Dynamics {
    reset: Reset,
    leaky: bool,
    refractory: u32,
}

/// The spikes of a layer in a chunk of timesteps: neurons (rows, columns, channels) in order.
#[derive(Default)]
pub(crate) struct Events {
    neurons: Vec<u32>,
    /// Where each timestep and position begins, and the end.
    starts: Vec<u32>,
    positions: usize,
}

impl Events {
    /// Neurons that fired in a timestep of the chunk.
    pub fn at(&self, timestep: usize) -> &[u32] {
        let [start, end] =
            [timestep, timestep + 1].map(|t| self.starts[t * self.positions] as usize);
        &self.neurons[start..end]
    }
}

/// What one thread works in.
pub(crate) struct Scratch {
    /// Of each layer: position, block, lane.
    potential: Vec<Vec<[f32; LANES]>>,
    waiting: Vec<Vec<[u32; LANES]>>,
    events: Vec<Events>,
    /// Which lanes fired: timestep, position, block.
    fired: Vec<u32>,
    lists: Lists,
    /// Input current of the output layer: timestep, position, block.
    output: Vec<[f32; LANES]>,
    /// Spikes that arrived times the outputs that each reached, by stage and timestep.
    operations: Vec<Vec<u64>>,
}

/// Rows to be added for each output position, timestep and kind of synapses of a tile.
#[derive(Default)]
struct Lists {
    rows: Vec<u32>,
    used: usize,
    ends: Vec<u32>,
}

/// Current that flows into the first layers whatever the spikes: the image's.
#[derive(Clone, Copy)]
pub(crate) enum Drive<'a> {
    /// The same at every timestep; one value an output of the stage.
    Constant(&'a [f32]),
    /// Of each timestep of the run, or of those before the same come again.
    Varying(&'a [f32]),
}

/// A chunk of timesteps that was computed.
pub(crate) struct Chunk<'a> {
    /// First timestep, from 0, and number of timesteps.
    pub first: usize,
    pub timesteps: usize,
    /// Spikes of every layer of neurons.
    pub events: &'a [Events],
    output: &'a [[f32; LANES]],
    blocks: usize,
    channels: usize,
    /// Synaptic operations by stage and timestep.
    pub operations: &'a [Vec<u64>],
}

impl Chunk<'_> {
    /// Input current of the output layer in a timestep of the chunk, one value a class; of a
    /// layer of positions, their channels one after the other.
    pub fn output(&self, timestep: usize) -> impl Iterator<Item = f32> + '_ {
        let each = self.output.len() / self.timesteps;
        let positions = self.output[timestep * each..][..each].chunks_exact(self.blocks);
        positions.flat_map(|blocks| blocks.iter().flatten().copied().take(self.channels))
    }
}

impl<'a> Engine<'a> {
    /// # Errors
    /// Not one set of parameters a layer of neurons, or parameters out of range.
    pub fn new(stages: &'a Stages, neurons: &[Neurons]) -> Result<Self> {
        if neurons.len() != stages.spiking() {
            return Err(Error::parameter(
                "neurons",
                format!("parameters of {} layers", neurons.len()),
                format!("{}, one a layer of neurons", stages.spiking()),
            ));
        }
        Self::of(&stages.stages, neurons)
    }

    /// Of a network's first stages: with neurons each, or one stage more, whose input currents are
    /// then the output.
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn of(stages: &'a [Stage], neurons: &[Neurons]) -> Result<Self> {
        for (layer, (neurons, stage)) in neurons.iter().zip(stages).enumerate() {
            neurons.check(layer, stage.output.channels)?;
        }
        let prepare = |(layer, stage): (usize, &'a Stage)| {
            let synapses = stage.synapses.iter();
            Prepared {
                synapses: synapses.filter_map(|s| Charged::new(s, neurons)).collect(),
                blocks: Parameters::of(stage.output.channels, &stage.bias, neurons.get(layer)),
                neurons: neurons.get(layer).map(|neurons| Dynamics {
                    reset: neurons.reset,
                    leaky: neurons.leak.iter().any(|&leak| leak != 1.0),
                    refractory: neurons.refractory.try_into().unwrap_or(u32::MAX),
                }),
            }
        };
        Ok(Self {
            layers: stages.iter().enumerate().map(prepare).collect(),
            stages,
            vectors: Vectors::widest(),
        })
    }

    pub fn scratch(&self) -> Scratch {
        let each = |stage: &Stage| {
            stage.output.height * stage.output.width * stage.output.channels.div_ceil(LANES)
        };
        let stages = self.stages;
        let spiking = self.layers.iter().take_while(|l| l.neurons.is_some());
        let spiking = &stages[..spiking.count()];
        let refractory = |layer: &Prepared| layer.neurons.is_some_and(|n| n.refractory > 0);
        Scratch {
            potential: spiking
                .iter()
                .map(|s| vec![[0.0; LANES]; each(s)])
                .collect(),
            waiting: (spiking.iter().zip(&self.layers))
                .map(|(s, layer)| vec![[0; LANES]; if refractory(layer) { each(s) } else { 0 }])
                .collect(),
            events: spiking.iter().map(|_| Events::default()).collect(),
            fired: Vec::new(),
            lists: Lists::default(),
            output: Vec::new(),
            operations: vec![Vec::new(); stages.len()],
        }
    }

    /// Simulates one image and shows every chunk of timesteps, in order. `drive` is the current
    /// into each stage that the image itself makes flow, bias left out; none where it reaches only
    /// neurons.
    pub fn run(
        &self,
        drive: &[Option<Drive<'_>>],
        timesteps: usize,
        scratch: &mut Scratch,
        mut show: impl FnMut(&Chunk<'_>),
    ) {
        for (layer, potential) in self.layers.iter().zip(&mut scratch.potential) {
            for position in potential.chunks_exact_mut(layer.blocks.len()) {
                for (potential, lanes) in position.iter_mut().zip(&layer.blocks) {
                    *potential = lanes.initial;
                }
            }
        }
        scratch
            .waiting
            .iter_mut()
            .for_each(|waiting| waiting.fill([0; LANES]));
        for first in (0..timesteps).step_by(CHUNK) {
            let chunk = first..timesteps.min(first + CHUNK);
            // Of a network's first stages only, the engine has no more.
            for (stage, &drive) in drive.iter().take(self.layers.len()).enumerate() {
                self.stage(stage, chunk.clone(), drive, scratch);
            }
            show(&Chunk {
                first,
                timesteps: chunk.len(),
                events: &scratch.events,
                output: &scratch.output,
                blocks: self.layers[self.layers.len() - 1].blocks.len(),
                channels: self.stages[self.layers.len() - 1].output.channels,
                operations: &scratch.operations,
            });
        }
    }

    #[allow(unsafe_code)]
    fn stage(
        &self,
        stage: usize,
        chunk: Range<usize>,
        drive: Option<Drive<'_>>,
        scratch: &mut Scratch,
    ) {
        match self.vectors {
            Vectors::Plain => self.stage_with::<Plain>(stage, chunk, drive, scratch),
            // SAFETY: `Vectors` names only what the processor has.
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => unsafe { self.stage_avx2(stage, chunk, drive, scratch) },
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => unsafe { self.stage_avx512(stage, chunk, drive, scratch) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx2,bmi1,bmi2,popcnt")]
    fn stage_avx512(
        &self,
        stage: usize,
        chunk: Range<usize>,
        drive: Option<Drive<'_>>,
        scratch: &mut Scratch,
    ) {
        self.stage_with::<crate::simulate::lanes::Avx512>(stage, chunk, drive, scratch);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn stage_avx2(
        &self,
        stage: usize,
        chunk: Range<usize>,
        drive: Option<Drive<'_>>,
        scratch: &mut Scratch,
    ) {
        self.stage_with::<crate::simulate::lanes::Avx2>(stage, chunk, drive, scratch);
    }

    /// One stage over a chunk of timesteps; the same sums in the same order on every processor.
    #[inline(always)]
    fn stage_with<L: Lanes>(
        &self,
        stage: usize,
        chunk: Range<usize>,
        drive: Option<Drive<'_>>,
        scratch: &mut Scratch,
    ) {
        let layer = &self.layers[stage];
        let output = self.stages[stage].output;
        let (positions, blocks) = (output.height * output.width, layer.blocks.len());
        let timesteps = chunk.len();
        let Scratch {
            potential,
            waiting,
            events,
            fired: marks,
            lists,
            output: sums,
            operations,
        } = scratch;
        let operations = &mut operations[stage];
        operations.clear();
        operations.resize(timesteps, 0);
        match layer.neurons {
            Some(_) => marks.resize(timesteps * positions * blocks, 0),
            None => sums.resize(timesteps * positions * blocks, [0.0; LANES]),
        }
        let mut position = 0;
        while position < positions {
            let first = position;
            lists.clear();
            while position < positions && lists.used < TILE {
                for (t, operations) in operations.iter_mut().enumerate() {
                    for charged in &layer.synapses {
                        let Source::Neurons(source) = charged.synapses.source else {
                            continue;
                        };
                        let arrived = lists.add(charged.synapses, position, t, &events[source]);
                        *operations += (arrived * output.channels) as u64;
                    }
                }
                position += 1;
            }
            for (block, lanes) in layer.blocks.iter().enumerate() {
                for at in first..position {
                    let inflow = Inflow {
                        layer,
                        block,
                        lists,
                        first_list: (at - first) * timesteps * layer.synapses.len(),
                        drive,
                        channels: at * output.channels
                            ..at * output.channels + output.channels.min((block + 1) * LANES),
                        size: output.size(),
                        first: chunk.start,
                    };
                    let rest = L::load(&inflow.rest(0));
                    let Some(dynamics) = layer.neurons else {
                        for t in 0..timesteps {
                            let sum = &mut sums[(t * positions + at) * blocks + block];
                            inflow.current(t, rest).store(sum);
                        }
                        continue;
                    };
                    let place = at * blocks + block;
                    let potential = &mut potential[stage][place];
                    let mark_at = |t: usize| (t * positions + at) * blocks + block;
                    if dynamics.refractory > 0 {
                        let waiting = &mut waiting[stage][place];
                        for t in 0..timesteps {
                            let mut z = [0.0; LANES];
                            inflow.current(t, rest).store(&mut z);
                            marks[mark_at(t)] =
                                step_refractory(potential, waiting, &z, lanes, dynamics);
                        }
                        continue;
                    }
                    let mut v = L::load(potential);
                    let (leak, threshold) = (L::load(&lanes.leak), L::load(&lanes.threshold));
                    for t in 0..timesteps {
                        let z = inflow.current(t, rest);
                        if dynamics.leaky {
                            v = v.times(leak);
                        }
                        v = v.add(z);
                        (marks[mark_at(t)], v) = match dynamics.reset {
                            Reset::Subtract => v.fire_and_subtract(threshold),
                            Reset::Zero => v.fire_and_clear(threshold),
                        };
                    }
                    v.store(potential);
                }
            }
        }
        if layer.neurons.is_some() {
            let marks = &marks[..timesteps * positions * blocks];
            events[stage].collect(marks, positions, blocks, output.channels);
        }
    }
}

/// Where the input current of one block of channels of one output position comes from.
struct Inflow<'a> {
    layer: &'a Prepared<'a>,
    block: usize,
    lists: &'a Lists,
    /// List of the chunk's first timestep.
    first_list: usize,
    drive: Option<Drive<'a>>,
    /// Outputs of the stage, from the position's first to the block's last.
    channels: Range<usize>,
    /// Outputs of the stage.
    size: usize,
    /// The chunk's first timestep in the run.
    first: usize,
}

// Closures are not compiled for the processor of the function that they stand in.
impl Inflow<'_> {
    /// The current without any spike.
    #[inline(always)]
    fn rest(&self, t: usize) -> [f32; LANES] {
        let mut rest = self.layer.blocks[self.block].bias;
        let values = match self.drive {
            None => return rest,
            Some(Drive::Constant(values)) => values,
            Some(Drive::Varying(values)) => {
                &values[(self.first + t) * self.size % values.len()..][..self.size]
            }
        };
        let values = &values[self.channels.clone()][self.block * LANES..];
        rest.iter_mut().zip(values).for_each(|(rest, z)| *rest += z);
        rest
    }

    /// The current in timestep `t` of the chunk; `rest` is [`rest`](Self::rest) where it is the
    /// same at every timestep.
    #[inline(always)]
    fn current<L: Lanes>(&self, t: usize, rest: L) -> L {
        let mut z = match self.drive {
            Some(Drive::Varying(_)) => L::load(&self.rest(t)),
            _ => rest,
        };
        let kinds = &self.layer.synapses[..];
        for (i, charged) in kinds.iter().enumerate() {
            let list = self.lists.of(self.first_list + t * kinds.len() + i);
            let rows = charged.synapses.rows;
            let block = self.block * rows..(self.block + 1) * rows;
            z = z.add(match &charged.weight {
                Weights::Real(weight, charge) => {
                    L::sum(&weight[block], list).times(L::all(*charge))
                }
                Weights::Whole(weight, charge) => match weight {
                    Rows::Sixteen(rows) => L::sum16(&rows[block], list),
                    Rows::Eight(rows, piece) => L::sum8(&rows[block], list, *piece),
                }
                .times(L::load(&charge[self.block])),
            });
        }
        z
    }
}

/// A timestep of neurons that may have to wait after a spike. Where there is no channel the
/// threshold is infinite.
fn step_refractory(
    v: &mut [f32; LANES],
    waiting: &mut [u32; LANES],
    z: &[f32; LANES],
    lanes: &Parameters,
    dynamics: Dynamics,
) -> u32 {
    let mut mark = 0;
    for i in 0..LANES {
        v[i] *= lanes.leak[i];
        if waiting[i] > 0 {
            waiting[i] -= 1;
            continue;
        }
        v[i] += z[i];
        if v[i] >= lanes.threshold[i] {
            v[i] = match dynamics.reset {
                Reset::Subtract => v[i] - lanes.threshold[i],
                Reset::Zero => 0.0,
            };
            waiting[i] = dynamics.refractory;
            mark |= 1 << i;
        }
    }
    mark
}

impl Lists {
    fn clear(&mut self) {
        self.used = 0;
        self.ends.clear();
    }

    fn of(&self, list: usize) -> &[u32] {
        let start = list.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start as usize..self.ends[list] as usize]
    }

    /// Lists the rows that are to be added at a position in a timestep, and one of zeros where
    /// their number is odd. Gives their number.
    #[inline(always)]
    fn add(&mut self, synapses: &Synapses, position: usize, t: usize, events: &Events) -> usize {
        let start = self.used;
        let starts = &events.starts[t * events.positions..];
        for run in synapses.runs(position) {
            let from = starts[run.start as usize] as usize;
            let count = starts[run.end as usize] as usize - from;
            let enough = self.used + count + COPY + 1;
            if self.rows.len() < enough {
                self.rows.resize(2 * enough, 0);
            }
            for i in (0..count).step_by(COPY) {
                let mut copy = [0; COPY];
                copy.copy_from_slice(&events.neurons[from + i..][..COPY]);
                let copy = copy.map(|neuron| neuron.wrapping_add(run.offset));
                self.rows[self.used + i..][..COPY].copy_from_slice(&copy);
            }
            self.used += count;
        }
        let arrived = self.used - start;
        if arrived % 2 == 1 {
            self.rows[self.used] = synapses.rows as u32 - 1;
            self.used += 1;
        }
        self.ends.push(self.used as u32);
        arrived
    }
}

/// For each byte, the places of its ones.
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
    /// From marks of each timestep, position and block.
    #[inline(always)]
    fn collect(&mut self, marks: &[u32], positions: usize, blocks: usize, channels: usize) {
        let spikes: usize = marks.iter().map(|mark| mark.count_ones() as usize).sum();
        // Room for what is written beyond the last, and read beyond it when lists are made.
        self.neurons.resize(spikes + COPY, 0);
        self.starts.clear();
        self.positions = positions;
        let mut used = 0;
        for marks in marks.chunks_exact(positions * blocks) {
            for (position, marks) in marks.chunks_exact(blocks).enumerate() {
                self.starts.push(used as u32);
                for (block, mark) in marks.iter().enumerate() {
                    for (byte, ones) in mark.to_le_bytes().into_iter().enumerate() {
                        let first = (position * channels + block * LANES + byte * 8) as u32;
                        let places = PLACES[usize::from(ones)];
                        self.neurons[used..][..8]
                            .copy_from_slice(&places.map(|place| first + u32::from(place)));
                        used += ones.count_ones() as usize;
                    }
                }
            }
        }
        self.starts.push(used as u32);
    }
}

impl<'a> Charged<'a> {
    /// None of synapses from the image, whose current comes from outside the engine.
    fn new(synapses: &'a Synapses, neurons: &[Neurons]) -> Option<Self> {
        let Source::Neurons(source) = synapses.source else {
            return None;
        };
        let weight = match (neurons[source].charges(), &synapses.integers) {
            ([charge], None) => Weights::Real(Cow::Borrowed(&synapses.weight), *charge),
            ([charge], Some(integers)) => {
                let steps = integers.steps.iter();
                let steps = steps.map(|steps| steps.map(|step| step * charge)).collect();
                Weights::Whole(&integers.rows, steps)
            }
            (charges, _) => {
                let mut weight = synapses.weight.clone();
                for block in weight.chunks_exact_mut(synapses.rows) {
                    // The last row, zeros, belongs to no channel.
                    for (row, charge) in block.iter_mut().zip(charges.iter().cycle()) {
                        row.0.iter_mut().for_each(|w| *w *= charge);
                    }
                }
                Weights::Real(Cow::Owned(weight), 1.0)
            }
        };
        Some(Self { synapses, weight })
    }
}

impl Parameters {
    /// Of a stage, block after block.
    fn of(channels: usize, bias: &[f32], neurons: Option<&Neurons>) -> Vec<Self> {
        let of = |values: &[f32], channel: usize| match values {
            [one] => *one,
            values => values[channel],
        };
        let lanes = (0..channels).collect::<Vec<_>>();
        let block = |channels: &[usize]| {
            let mut lanes = Self {
                threshold: [f32::INFINITY; LANES],
                leak: [1.0; LANES],
                initial: [0.0; LANES],
                bias: [0.0; LANES],
            };
            for (lane, &channel) in channels.iter().enumerate() {
                lanes.bias[lane] = bias.get(channel).copied().unwrap_or(0.0);
                if let Some(neurons) = neurons {
                    lanes.bias[lane] += of(&neurons.current, channel);
                    lanes.threshold[lane] = of(&neurons.threshold, channel);
                    lanes.leak[lane] = of(&neurons.leak, channel);
                    lanes.initial[lane] = neurons.initial * lanes.threshold[lane];
                }
            }
            lanes
        };
        lanes.chunks(LANES).map(block).collect()
    }
}

#[cfg(test)]
mod tests;
