//! Linear maps from image to image, and their composition.
//!
//! Everything linear in a network is such a map: convolution, average pooling, a fully connected
//! layer, scaling, concatenation. For each output position a map lists the input positions that it
//! reads, each with a matrix of weights from the channels there to those of the output. Few matrices
//! serve all positions: a convolution has one for each place of its kernel. Two maps in a row are
//! one map, exactly but for rounding, at the borders of padded images too.

use std::collections::HashMap;
use std::mem::size_of;
use std::rc::Rc;

use crate::ann::Window;
use crate::base::{Error, Result};
use crate::data::Shape;

/// Largest number of input positions that all output positions of a map read, 512 MiB of them.
const MOST_READS: usize = (1 << 29) / size_of::<Read>();
/// Largest number of weights of a map; the first linear layer of VGG16 has 103 million.
const MOST_WEIGHTS: usize = 1 << 28;
/// Numbers that any layer of neurons may need.
const FEW: usize = 1 << 20;

/// Linear map without a constant. Positions are numbered by row and column.
#[derive(Clone)]
pub(crate) struct Map {
    pub input: Shape,
    pub output: Shape,
    /// Shared by the copies of a map.
    pub matrices: Rc<[Matrix]>,
    /// What the output positions read, one after the other, each in the order of the positions.
    reads: Vec<Read>,
    /// First read of each output position, and the number of reads.
    starts: Vec<usize>,
}

/// Input position, and the number of the matrix on its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub position: u32,
    pub matrix: u32,
}

/// Weights from input to output channels. Each input channel reaches a range of output channels: all
/// of them, those of its group, or a single one.
#[derive(Clone, Default)]
pub(crate) struct Matrix {
    /// First output channel that each input channel reaches.
    firsts: Vec<u32>,
    /// First weight of each input channel, and the number of weights.
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Matrix {
    fn new() -> Self {
        Self { starts: vec![0], ..Self::default() }
    }

    /// Adds an input channel.
    fn push(&mut self, first: usize, weights: impl IntoIterator<Item = f32>) {
        self.firsts.push(first as u32);
        self.weights.extend(weights);
        self.starts.push(self.weights.len());
    }

    /// Matrix of one factor a channel, channel i to channel `offset` + i.
    fn diagonal(offset: usize, factors: impl IntoIterator<Item = f32>) -> Self {
        let mut matrix = Self::new();
        let factors = factors.into_iter().enumerate();
        factors.for_each(|(channel, factor)| matrix.push(offset + channel, [factor]));
        matrix
    }

    /// First output channel that an input channel reaches, and its weights.
    pub fn row(&self, input: usize) -> (usize, &[f32]) {
        let weights = &self.weights[self.starts[input]..self.starts[input + 1]];
        (self.firsts[input] as usize, weights)
    }

    /// Largest number of output channels that an input channel reaches.
    pub fn reach(&self) -> usize {
        self.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0)
    }

    /// Sum of the products of pairs of matrices on `inputs` channels.
    fn sum_of_products(inputs: usize, pairs: &[(&Self, &Self)]) -> Self {
        let mut sum = Self::new();
        for input in 0..inputs {
            // Each weight to a middle channel, with the weights behind that.
            let products = pairs.iter().flat_map(|(one, other)| {
                let (first, weights) = one.row(input);
                let middle = weights.iter().enumerate();
                middle.map(move |(i, &weight)| (weight, other.row(first + i)))
            });
            let reached = products.clone().filter(|(_, (_, weights))| !weights.is_empty());
            let ends = reached.map(|(_, (first, weights))| (first, first + weights.len()));
            let (first, end) = ends.fold((usize::MAX, 0), |(first, end), (start, stop)| {
                (first.min(start), end.max(stop))
            });
            let first = first.min(end);
            let at = sum.weights.len();
            sum.push(first, std::iter::repeat_n(0.0, end - first));
            let to = &mut sum.weights[at..];
            for (weight, (start, weights)) in products {
                let to = to[start.max(first) - first..].iter_mut();
                to.zip(weights).for_each(|(to, w)| *to += w * weight);
            }
        }
        sum
    }
}

/// Error of a map that would need too much memory.
fn too_large(found: String, most: usize) -> Error {
    Error::network(found, format!("at most {most} a layer of neurons"))
}

impl Map {
    /// Map by windows, with the number of the matrix on each place: row and column of the output, and
    /// of the window.
    fn windows(
        input: Shape,
        output: Shape,
        window: &Window,
        matrices: Vec<Matrix>,
        most: usize,
        matrix: impl Fn([usize; 2], [usize; 2]) -> u32,
    ) -> Result<Self> {
        let all = |axis, outs: usize, side| -> usize {
            (0..outs).map(|out| window.inside(axis, out, side).len()).sum()
        };
        let rows = all(0, output.height, input.height);
        let reads = rows.saturating_mul(all(1, output.width, input.width));
        let most = most.clamp(FEW, MOST_READS);
        if reads > most {
            return Err(too_large(format!("windows of {reads} values"), most));
        }
        let (mut starts, mut all) = (vec![0], Vec::with_capacity(reads));
        for r in 0..output.height {
            for c in 0..output.width {
                for (place_row, row) in window.inside(0, r, input.height) {
                    for (place_column, column) in window.inside(1, c, input.width) {
                        let position = (row * input.width + column) as u32;
                        let matrix = matrix([r, c], [place_row, place_column]);
                        all.push(Read { position, matrix });
                    }
                }
                starts.push(all.len());
            }
        }
        Ok(Self { input, output, matrices: matrices.into(), reads: all, starts })
    }

    /// Map that gives the channels of an image to those from `offset` on of one with `channels`.
    pub fn embedding(input: Shape, offset: usize, channels: usize) -> Result<Self> {
        let ones = std::iter::repeat_n(1.0, input.channels);
        let matrices = vec![Matrix::diagonal(offset, ones)];
        let output = Shape { channels, ..input };
        Self::windows(input, output, &Window::ONE, matrices, usize::MAX, |_, _| 0)
    }

    /// Map that multiplies each channel.
    pub fn scale(input: Shape, factors: &[f32]) -> Result<Self> {
        let matrices = vec![Matrix::diagonal(0, factors.iter().copied())];
        Self::windows(input, input, &Window::ONE, matrices, usize::MAX, |_, _| 0)
    }

    /// Convolution with weights in the order of [`Layer::Conv`](crate::ann::layers::Layer).
    pub fn convolution(
        [input, output]: [Shape; 2],
        window: &Window,
        weight: &[f32],
        groups: usize,
        most: usize,
    ) -> Result<Self> {
        let places = window.size[0] * window.size[1];
        let [inputs, outputs] = [input.channels / groups, output.channels / groups];
        let matrix = |place: usize| {
            let mut matrix = Matrix::new();
            for channel in 0..input.channels {
                let (group, channel) = (channel / inputs, channel % inputs);
                let first = group * outputs;
                let weight = |o: usize| weight[((first + o) * inputs + channel) * places + place];
                matrix.push(first, (0..outputs).map(weight));
            }
            matrix
        };
        let matrices = (0..places).map(matrix).collect();
        let columns = window.size[1];
        Self::windows(input, output, window, matrices, most, |_, [r, c]| (r * columns + c) as u32)
    }

    /// Fully connected layer with weights of channels x rows x columns: a convolution whose kernel
    /// covers the image.
    pub fn linear(shapes: [Shape; 2], weight: &[f32], most: usize) -> Result<Self> {
        let size = [shapes[0].height, shapes[0].width];
        Self::convolution(shapes, &Window { size, ..Window::ONE }, weight, 1, most)
    }

    /// Average pooling. Where the padding counts as values, what lies beyond it does not.
    pub fn average(
        [input, output]: [Shape; 2],
        window: &Window,
        count_padding: bool,
        most: usize,
    ) -> Result<Self> {
        let rows = window.counts(0, output.height, input.height, count_padding);
        let columns = window.counts(1, output.width, input.width, count_padding);
        let mut all: Vec<usize> = rows
            .iter()
            .flat_map(|rows| columns.iter().map(move |columns| rows * columns))
            .collect();
        all.sort_unstable();
        all.dedup();
        let mean = |&count: &usize| {
            let share = 1.0 / count as f32;
            Matrix::diagonal(0, std::iter::repeat_n(share, input.channels))
        };
        let matrices = all.iter().map(mean).collect();
        Self::windows(input, output, window, matrices, most, |[r, c], _| {
            all.partition_point(|&count| count < rows[r] * columns[c]) as u32
        })
    }

    /// What an output position reads.
    pub fn of(&self, position: usize) -> &[Read] {
        &self.reads[self.starts[position]..self.starts[position + 1]]
    }

    pub fn positions(&self) -> usize {
        self.starts.len() - 1
    }

    /// This map, then another.
    ///
    /// # Errors
    /// [`Error::Network`] for more memory than a layer may need.
    pub fn then(&self, next: &Self, most: usize) -> Result<Self> {
        let reads = next.reads.iter().map(|read| self.of(read.position as usize).len());
        let reads = reads.sum::<usize>();
        let most_reads = most.clamp(FEW, MOST_READS);
        if reads > most_reads {
            return Err(too_large(format!("windows in windows of {reads} values"), most_reads));
        }
        let most = most.clamp(FEW, MOST_WEIGHTS);
        let (mut starts, mut all) = (vec![0], Vec::with_capacity(reads));
        let mut matrices = Vec::new();
        // Products that add up at one input position: the same at most output positions.
        let mut known: HashMap<Vec<[u32; 2]>, u32> = HashMap::new();
        let (mut pairs, mut sum, mut weights) = (Vec::new(), Vec::new(), 0);
        for position in 0..next.positions() {
            pairs.clear();
            for read in next.of(position) {
                let before = self.of(read.position as usize).iter();
                pairs.extend(before.map(|first| (first.position, [first.matrix, read.matrix])));
            }
            pairs.sort_unstable();
            for pairs in pairs.chunk_by(|one, other| one.0 == other.0) {
                sum.clear();
                sum.extend(pairs.iter().map(|&(_, pair)| pair));
                let matrix = match known.get(&sum) {
                    Some(&matrix) => matrix,
                    None => {
                        let pair = |&[one, other]: &[u32; 2]| {
                            (&self.matrices[one as usize], &next.matrices[other as usize])
                        };
                        let products: Vec<_> = sum.iter().map(pair).collect();
                        let new = Matrix::sum_of_products(self.input.channels, &products);
                        weights += new.weights.len();
                        if weights > most {
                            return Err(too_large(format!("more than {most} weights"), most));
                        }
                        matrices.push(new);
                        known.insert(sum.clone(), matrices.len() as u32 - 1);
                        matrices.len() as u32 - 1
                    }
                };
                all.push(Read { position: pairs[0].0, matrix });
            }
            starts.push(all.len());
        }
        let (input, output) = (self.input, next.output);
        Ok(Self { input, output, matrices: matrices.into(), reads: all, starts })
    }

    /// Output for an image in the order row, column, channel.
    pub fn apply(&self, image: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; self.output.size()];
        let channels = self.input.channels;
        for (position, to) in output.chunks_exact_mut(self.output.channels).enumerate() {
            for read in self.of(position) {
                let values = &image[read.position as usize * channels..][..channels];
                let matrix = &self.matrices[read.matrix as usize];
                for (channel, value) in values.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                    let (first, weights) = matrix.row(channel);
                    let to = to[first..].iter_mut().zip(weights);
                    to.for_each(|(to, weight)| *to += weight * value);
                }
            }
        }
        output
    }

    /// Places of the matrices in an order in which those of adjacent input positions are adjacent,
    /// as the rows of a kernel: the fewer pieces of adjacent weights, the faster the engine. Those
    /// that no position reads have none.
    pub fn order(&self) -> Vec<Option<usize>> {
        let count = self.matrices.len();
        let (mut next, mut before) = (vec![None; count], vec![false; count]);
        let mut first = Vec::new();
        let mut seen = vec![false; count];
        for position in 0..self.positions() {
            let reads = self.of(position);
            for read in reads {
                if !std::mem::replace(&mut seen[read.matrix as usize], true) {
                    first.push(read.matrix as usize);
                }
            }
            for pair in reads.windows(2) {
                let [one, other] = [pair[0].matrix as usize, pair[1].matrix as usize];
                let adjacent = pair[1].position == pair[0].position + 1
                    && !pair[1].position.is_multiple_of(self.input.width as u32);
                if adjacent && one != other && next[one].is_none() && !before[other] {
                    (next[one], before[other]) = (Some(other), true);
                }
            }
        }
        let (mut places, mut used) = (vec![None; count], 0);
        // Matrices in a circle, which none is the first of, come last.
        let heads = first.iter().filter(|&&matrix| !before[matrix]);
        for &head in heads.chain(&first) {
            let mut at = Some(head);
            while let Some(matrix) = at.filter(|&matrix| places[matrix].is_none()) {
                places[matrix] = Some(used);
                used += 1;
                at = next[matrix];
            }
        }
        places
    }
}
