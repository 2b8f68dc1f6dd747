//! Stages, into which a network is compiled for the engine.
//!
//! A *stage* is all synapses up to and including one layer of neurons, or the output. Everything
//! linear in it is one map of each layer of neurons that reaches it, exactly but for rounding; max
//! pools stand between neurons and synapses.

use std::convert::Infallible;
use std::sync::Arc;
use std::{array, mem};

use rayon::prelude::*;

use super::lanes::{LANES, Row, Vectors, add_rows};
use super::maps::Map;
use crate::ann::{Activation, Graph};
use crate::base::{Error, Result};
use crate::data::Shape;

/// Network compiled for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    /// Layers that the stages were compiled from.
    pub graph: Arc<Graph>,
    /// One stage for each layer of neurons and, last, the output, which integrates its input current.
    pub stages: Vec<Stage>,
    /// Max pools, each after the pools whose output it takes.
    pub pools: Vec<MaxPool>,
}

/// One layer of neurons (or the output) and all synapses that end in it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Name for tables, such as `conv 3x3, average pooling`.
    pub name: String,
    pub output: Shape,
    pub activation: Activation,
    /// Synapses whose currents add up: more than one where a sum or a concatenation precedes them.
    pub synapses: Vec<Synapses>,
    /// Bias of each output channel, or empty for none.
    pub bias: Vec<f32>,
    /// Biases of a stage whose positions have different ones, as behind a shift and then zeros of
    /// padding; else empty.
    pub place_bias: Vec<f32>,
    /// Number of multiply-accumulates of the ANN's layers, pooling not folded into them.
    pub products: u64,
}

/// Origin of synapses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Image,
    /// Layer of neurons, from 0.
    Neurons(usize),
    /// Max pool, from 0.
    Pool(usize),
}

/// Max pooling of spikes: emits the change of the largest sum of spikes so far in each window, so
/// that the sum of what it emits is the largest.
#[derive(Debug, Clone)]
pub(crate) struct MaxPool {
    /// Neurons, or another pool.
    pub source: Source,
    /// Layer of neurons that the spikes come from.
    pub layer: usize,
    /// Number in the order of the graph; those of one node are in the order of its channels.
    pub number: usize,
    pub input: Shape,
    pub output: Shape,
    /// Input positions of each window.
    positions: Vec<u32>,
    /// First of each window, and the number of positions.
    starts: Vec<usize>,
}

impl MaxPool {
    pub fn new((source, layer): (Source, usize), number: usize, windows: &Map) -> Self {
        let all = 0..windows.positions();
        let mut starts = vec![0];
        let mut positions = Vec::new();
        for out in all {
            positions.extend(windows.of(out).iter().map(|read| read.position));
            starts.push(positions.len());
        }
        let (input, output) = (windows.input, windows.output);
        Self { source, layer, number, input, output, positions, starts }
    }

    /// Input positions of a window.
    pub fn window(&self, position: usize) -> &[u32] {
        &self.positions[self.starts[position]..self.starts[position + 1]]
    }

    /// Largest value of each window, by row, column and channel.
    pub fn largest(&self, values: &[f32]) -> Vec<f32> {
        let channels = self.input.channels;
        let mut most = vec![f32::NEG_INFINITY; self.output.size()];
        for (position, most) in most.chunks_exact_mut(channels).enumerate() {
            for &from in self.window(position) {
                let values = &values[from as usize * channels..][..channels];
                most.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(*value));
            }
        }
        most
    }
}

/// Number of images on which the ANN runs at once: their sums fill half the registers of AVX-512.
pub(crate) const TOGETHER: usize = 4;
/// Number of output positions of a tile.
const TILE: usize = 64;

/// Linear map from the spikes of one source. Values are numbered by row, column, channel.
#[derive(Debug, Clone)]
pub(crate) struct Synapses {
    pub source: Source,
    pub input: Shape,
    pub output: Shape,
    /// Number of rows of weights in a block: matrices x input channels, and one row of zeros.
    pub rows: usize,
    /// Blocks of [`LANES`] output channels with [`rows`](Self::rows) rows each; 0 where there is no
    /// channel.
    pub weight: Vec<Row>,
    /// Number of multiply-accumulates of the layer of weights, pooling not folded into it; 0 for a
    /// shortcut without weights.
    pub products: u64,
    /// Number of output channels that a spike reaches at an output position.
    pub reach: usize,
    runs: Vec<Run>,
    /// First run of each output position, and the number of runs.
    run_start: Vec<u32>,
}

/// Adjacent inputs that reach an output position through adjacent rows of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First input position.
    pub start: u32,
    /// Input position after the last.
    pub end: u32,
    /// Row of weights minus number of the input, wrapping.
    pub offset: u32,
}

impl Stages {
    /// Number of layers of neurons.
    pub fn spiking(&self) -> usize {
        self.stages.len() - 1
    }

    /// Shape of the images.
    pub fn input(&self) -> Shape {
        self.graph.input
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.stages[self.spiking()].output.size()
    }

    /// Pixels in the order row, column, channel, which the stages take, from channel, row, column.
    pub fn channels_last(&self, pixels: &[f32]) -> Vec<f32> {
        let mut image = vec![0.0; pixels.len()];
        to_channels_last(self.input(), pixels, &mut image);
        image
    }

    /// Input currents of each layer of neurons and the output in the ANN, for an image in the order
    /// row, column, channel.
    pub fn forward(&self, image: &[f32]) -> Vec<Vec<f32>> {
        self.currents(image, |layer, current| {
            let mut output = current.to_vec();
            self.activate(layer, &mut output);
            output
        })
    }

    /// Input currents of each stage for an image, where `output` gives the output of a layer of
    /// neurons for its input current.
    pub fn currents(
        &self,
        image: &[f32],
        output: impl Fn(usize, &[f32]) -> Vec<f32>,
    ) -> Vec<Vec<f32>> {
        let mut currents = Vec::new();
        let Ok([last]) = self.pass([image], |layer, [current]| {
            let output = output(layer, current);
            currents.push(mem::replace(current, output));
            Ok::<_, Infallible>(())
        });
        currents.push(last);
        currents
    }

    /// Logits of the ANN for images, given by number as pixels in the order channel, row, column.
    pub fn logits(
        &self,
        images: usize,
        pixels: impl Fn(usize) -> Vec<f32> + Sync,
    ) -> Vec<Vec<f32>> {
        let Ok(logits) = self.forward_all(images, pixels, |layer, currents| {
            currents.iter_mut().for_each(|current| self.activate(layer, current));
            Ok::<_, Infallible>(())
        });
        logits
    }

    /// Returns the logits of the ANN for images as [`logits`](Self::logits) takes them. `output` turns
    /// the input currents of a few images in a layer of neurons, in the order row, column, channel,
    /// into the layer's outputs.
    pub fn forward_all<E: Send>(
        &self,
        images: usize,
        pixels: impl Fn(usize) -> Vec<f32> + Sync,
        output: impl Fn(usize, &mut [Vec<f32>]) -> Result<(), E> + Sync,
    ) -> Result<Vec<Vec<f32>>, E> {
        let starts: Vec<_> = (0..images).step_by(TOGETHER).collect();
        let logits = starts.into_par_iter().map(|first| {
            let count = TOGETHER.min(images - first);
            // Where fewer are left, the last of them takes the other places, whose logits are dropped.
            let together: [_; TOGETHER] =
                array::from_fn(|i| self.channels_last(&pixels(first + i.min(count - 1))));
            let logits = self
                .pass(together.each_ref().map(|image| &image[..]), |layer, currents| {
                    output(layer, &mut currents[..count])
                });
            Ok(logits?.into_iter().take(count).collect())
        });
        // All of them, so that the error is the first image's at any number of threads.
        let logits: Vec<Result<Vec<_>, E>> = logits.collect();
        Ok(logits.into_iter().collect::<Result<Vec<_>, E>>()?.concat())
    }

    /// Applies a layer's activation to its input current.
    pub fn activate(&self, layer: usize, current: &mut [f32]) {
        let activation = self.stages[layer].activation;
        current.iter_mut().for_each(|z| *z = activation.of(*z));
    }

    /// Returns the output currents of images, where `output` turns input currents of a layer of neurons
    /// into its outputs.
    fn pass<const N: usize, E>(
        &self,
        images: [&[f32]; N],
        mut output: impl FnMut(usize, &mut [Vec<f32>; N]) -> Result<(), E>,
    ) -> Result<[Vec<f32>; N], E> {
        let none = || [const { Vec::new() }; N];
        let mut currents: [Vec<f32>; N] = none();
        let (mut outputs, mut pooled) = (Vec::<[Vec<f32>; N]>::new(), Vec::<[Vec<f32>; N]>::new());
        for (layer, stage) in self.stages.iter().enumerate() {
            currents = array::from_fn(|_| stage.rest());
            for synapses in &stage.synapses {
                let values = array::from_fn(|n| match synapses.source {
                    Source::Image => images[n],
                    Source::Neurons(layer) => &outputs[layer][n][..],
                    Source::Pool(pool) => &pooled[pool][n],
                });
                synapses.add_dense(values, currents.each_mut().map(|current| &mut current[..]));
            }
            if layer == self.spiking() {
                break;
            }
            output(layer, &mut currents)?;
            outputs.push(mem::replace(&mut currents, none()));
            for pool in self.pools.iter().skip(pooled.len()).take_while(|p| p.layer == layer) {
                let from = match pool.source {
                    Source::Pool(before) => &pooled[before],
                    _ => &outputs[layer],
                };
                pooled.push(from.each_ref().map(|values| pool.largest(values)));
            }
            // Gives back the memory of what no later stage takes.
            let later = || self.stages[layer + 1..].iter().flat_map(|stage| &stage.synapses);
            let taken = |source| later().any(|synapses| synapses.source == source);
            for (of, outputs) in outputs.iter_mut().enumerate() {
                if !taken(Source::Neurons(of)) {
                    *outputs = none();
                }
            }
            for (of, pooled) in pooled.iter_mut().enumerate() {
                if !taken(Source::Pool(of)) {
                    *pooled = none();
                }
            }
        }
        Ok(currents)
    }
}

impl Synapses {
    /// Synapses of a map from a source.
    ///
    /// # Errors
    /// [`Error::Network`] for more inputs, outputs or weights than numbers of 32 bits can count.
    pub fn new(source: Source, map: &Map, products: u64) -> Result<Self> {
        let (input, output, channels) = (map.input, map.output, map.input.channels);
        let order = map.order();
        let rows = order.iter().flatten().count() * channels + 1;
        let blocks = output.channels.div_ceil(LANES);
        let widest = (rows * blocks * LANES).max(input.size()).max(output.size());
        if u32::try_from(widest).is_err() {
            return Err(Error::network(
                format!("a stage of {widest} values"),
                "at most 2^32 - 1 inputs, outputs and weights a stage",
            ));
        }
        let mut weight = vec![Row([0.0; LANES]); rows * blocks];
        let mut reach = 0;
        for (matrix, place) in map.matrices.iter().zip(&order) {
            let Some(place) = place else { continue };
            reach = reach.max(matrix.reach());
            for channel in 0..channels {
                let row = place * channels + channel;
                let (first, weights) = matrix.row(channel);
                for (to, &w) in (first..).zip(weights) {
                    weight[to / LANES * rows + row].0[to % LANES] = w;
                }
            }
        }
        let number = |x: usize| (x * channels) as u32; // at most `widest`
        let (mut runs, mut run_start) = (Vec::<Run>::new(), vec![0]);
        for out in 0..map.positions() {
            let first = runs.len();
            for read in map.of(out) {
                let place = order[read.matrix as usize].unwrap_or_default(); // all that are read
                let start = read.position;
                let offset = number(place).wrapping_sub(number(start as usize));
                match runs[first..].last_mut() {
                    Some(run) if run.end == start && run.offset == offset => run.end += 1,
                    _ => runs.push(Run { start, end: start + 1, offset }),
                }
            }
            run_start.push(runs.len() as u32);
        }
        Ok(Self { source, input, output, rows, weight, products, reach, runs, run_start })
    }

    /// Inputs that reach an output position.
    #[inline]
    pub fn runs(&self, position: usize) -> &[Run] {
        &self.runs[self.run_start[position] as usize..self.run_start[position + 1] as usize]
    }

    /// Number of weights that a spike of each input position adds.
    pub fn fan_out(&self) -> Vec<u64> {
        let mut weights = vec![0; self.input.height * self.input.width];
        for run in &self.runs {
            for to in &mut weights[run.start as usize..run.end as usize] {
                *to += self.reach as u64;
            }
        }
        weights
    }

    /// Adds to each current that of its dense input.
    pub fn add_dense_to_all(&self, inputs: &[Vec<f32>], currents: &mut [Vec<f32>]) {
        for (inputs, currents) in inputs.chunks(TOGETHER).zip(currents.chunks_mut(TOGETHER)) {
            match (inputs, currents) {
                ([a, b, c, d], [e, f, g, h]) => self.add_dense([a, b, c, d], [e, f, g, h]),
                (inputs, currents) => {
                    for (input, current) in inputs.iter().zip(currents) {
                        self.add_dense([input], [current]);
                    }
                }
            }
        }
    }

    /// Adds to each current that of a dense input. A row of weights, once loaded, serves all inputs.
    pub fn add_dense<const N: usize>(&self, inputs: [&[f32]; N], mut currents: [&mut [f32]; N]) {
        Vectors::widest().run(
            #[inline(always)]
            || {
                let (channels, outputs) = (self.input.channels, self.output.channels);
                let positions = self.run_start.len() - 1;
                // A block's weights stay in the cache while the positions of a tile take them.
                for first in (0..positions).step_by(TILE) {
                    for (block, weight) in self.weight.chunks_exact(self.rows).enumerate() {
                        let lanes = block * LANES..outputs.min((block + 1) * LANES);
                        for position in first..positions.min(first + TILE) {
                            let mut sums = [[0.0; LANES]; N];
                            for run in self.runs(position) {
                                let read =
                                    run.start as usize * channels..run.end as usize * channels;
                                let row = (read.start as u32).wrapping_add(run.offset) as usize;
                                let rows = &weight[row..][..read.len()];
                                add_rows(rows, inputs.map(|input| &input[read.clone()]), &mut sums);
                            }
                            for (current, sum) in currents.iter_mut().zip(sums) {
                                let current = &mut current[position * outputs..][lanes.clone()];
                                current.iter_mut().zip(sum).for_each(|(to, sum)| *to += sum);
                            }
                        }
                    }
                }
            },
        );
    }
}

impl Stage {
    /// Input current without any input: the bias of each output.
    pub fn rest(&self) -> Vec<f32> {
        if !self.place_bias.is_empty() {
            return self.place_bias.clone();
        }
        let mut current = vec![0.0; self.output.size()];
        if !self.bias.is_empty() {
            let positions = current.chunks_exact_mut(self.bias.len());
            positions.for_each(|position| position.copy_from_slice(&self.bias));
        }
        current
    }
}

/// Reorders values from channel, row, column to row, column, channel.
pub(crate) fn to_channels_last(shape: Shape, from: &[f32], to: &mut [f32]) {
    let positions = shape.height * shape.width;
    for (channel, plane) in from.chunks_exact(positions).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            to[position * shape.channels + channel] = value;
        }
    }
}
