//! Stages: what a list of layers is compiled into for the engine.
//!
//! A network is a list of [`Layer`]s. For the engine the list is compiled into *stages*: the
//! synapses up to and including one layer of neurons. Everything linear in a stage is one
//! convolution, exactly (up to rounding, and without it on a dyadic grid):
//!
//! - a convolution of kernel K, stride S and padding P followed by n x n average pooling is the
//!   convolution of kernel K + S(n - 1), stride S n and padding P whose kernel is the mean of n²
//!   shifted copies;
//! - average pooling before a convolution only changes which outputs an input reaches;
//! - a fully connected layer is a convolution whose kernel covers the whole image.

use crate::ann::layers::Activation;
use crate::ann::layers::Layer;
use crate::ann::model::Ann;
use crate::ann::networks::Network;
use crate::ann::networks::NetworkDevice;
use crate::base::error::{Error, Result};
use crate::data::shape::Shape;
use crate::data::tasks::Task;
use crate::ops::simd::widest;

/// A network compiled for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    pub input: Shape,
    /// What the stages were compiled from.
    pub layers: Vec<Layer>,
    /// The last one has no neurons: it integrates its input current.
    pub stages: Vec<Stage>,
}

/// One layer of neurons (or the output) and all synapses that end in it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// As people write it: `conv 3x3, average pooling`.
    pub name: String,
    pub output: Shape,
    pub activation: Activation,
    /// Their currents add up; more than one where a residual addition comes before the neurons.
    pub synapses: Vec<Synapses>,
    /// What each output channel adds to its input; empty for none.
    pub bias: Vec<f32>,
    /// Multiply-accumulates of the ANN's layers, pooling not folded into them.
    pub products: u64,
}

/// Where synapses begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Image,
    /// Layer of neurons, from 0.
    Neurons(usize),
}

/// Output channels that are computed at a time.
pub(crate) const LANES: usize = 32;

/// Weights from one input to [`LANES`] output channels: two lines of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Row(pub [f32; LANES]);

/// [`Row`] as whole numbers of steps: one line of the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Row16(pub [i16; LANES]);

/// [`Row`] as small whole numbers of steps, such as the signs of binary weights: half a line of the
/// cache.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(32))]
pub(crate) struct Row8(pub [i8; LANES]);

/// Rows of [`Row16`] whose sum is sure to have 16 bits. The fewer, the finer the weights can be; the
/// more, the less often sums go on with 32 bits.
pub(crate) const PIECE: usize = 32;

/// Weights as whole numbers of steps, in the order of the weights.
#[derive(Debug, Clone)]
pub(crate) struct Integers {
    pub rows: Rows,
    /// Of every block, one for each output channel.
    pub steps: Vec<[f32; LANES]>,
}

/// Whole numbers, and how many rows of them have a sum that is sure to fit.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// [`PIECE`] rows.
    Sixteen(Vec<Row16>),
    /// So many rows, an even number.
    Eight(Vec<Row8>, usize),
}

/// A convolution, whatever it was written as. Values are numbered rows, columns, channels.
#[derive(Debug, Clone)]
pub(crate) struct Synapses {
    pub source: Source,
    pub input: Shape,
    pub output: Shape,
    /// Rows of weights in a block: kernel row, kernel column, input channel, and one of zeros.
    pub rows: usize,
    /// Block after block of [`LANES`] output channels, zero where there is none.
    pub weight: Vec<Row>,
    /// The weights again, where they were quantised.
    pub integers: Option<Integers>,
    /// Multiply-accumulates of the layer of weights, pooling not folded into it; 0 of a shortcut
    /// that is none.
    pub products: u64,
    /// How often a weight may count for one output: squares that are averaged share it.
    repeats: usize,
    runs: Vec<Run>,
    /// Where the runs of each output position begin, and end with the next one's.
    run_start: Vec<u32>,
}

/// Inputs next to each other that reach an output position through weights next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Input positions.
    pub start: u32,
    pub end: u32,
    /// Row of weights less number of the input, wrapping.
    pub offset: u32,
}

/// What lies between a source and the neurons to come, while layers are read.
#[derive(Clone)]
struct Branch {
    source: Source,
    input: Shape,
    /// Side of the squares that the input is averaged over first.
    pool: usize,
    kernel: Option<Kernel>,
}

/// A convolution that is still growing: pooling is folded into it.
#[derive(Clone)]
struct Kernel {
    weight: Vec<f32>, // [rows][columns][inputs][outputs]
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    stride: usize,
    padding: usize,
    bias: Vec<f32>,
    products: u64,
}

/// Reads layers in order.
struct Compiler {
    stages: Vec<Stage>,
    names: Vec<String>,
    /// Multiply-accumulates since the last layer of neurons.
    products: u64,
    /// Number of the layer, those within residual ones counted.
    layer: usize,
}

impl Stages {
    /// Those of a network that is not yet spiking.
    pub fn of_ann<N: Network, D: NetworkDevice>(ann: &Ann<N, D>) -> Result<Self> {
        Self::new(N::Task::SHAPE, &ann.layers()?, N::Task::CLASSES)
    }

    /// Checks that the layers fit each other and compiles them.
    pub fn new(input: Shape, layers: &[Layer], classes: usize) -> Result<Self> {
        let mut compiler = Compiler {
            stages: Vec::new(),
            names: Vec::new(),
            products: 0,
            layer: 0,
        };
        let branches = vec![Branch::new(Source::Image, input)];
        let (branches, shape) = compiler.read(layers, branches, input)?;
        if branches.iter().any(|branch| branch.kernel.is_none()) {
            return Err(Error::network(
                "neurons or pooling as the last layer",
                "a linear layer or convolution that gives one value a class",
            ));
        }
        if compiler.stages.is_empty() {
            return Err(Error::network("no layer of neurons", "at least one"));
        }
        if shape != Shape::new(classes, 1, 1) {
            return Err(Error::network(
                format!("an output of {shape}"),
                format!("{classes} x 1 x 1, one value a class"),
            ));
        }
        compiler.stage(branches, shape, Activation::Identity)?;
        Ok(Self {
            input,
            layers: layers.to_vec(),
            stages: compiler.stages,
        })
    }

    /// Number of layers of neurons.
    pub fn spiking(&self) -> usize {
        self.stages.len() - 1
    }

    /// Inputs of all layers of neurons and of the output on a dense image, as the ANN has them;
    /// everything as rows, columns, channels.
    pub fn forward(&self, image: &[f32]) -> Vec<Vec<f32>> {
        self.currents(image, |layer, current| {
            let activation = self.stages[layer].activation;
            current.iter().map(|&x| activation.of(x)).collect()
        })
    }

    /// The same where `output` says what a layer makes of its input.
    pub fn currents(
        &self,
        image: &[f32],
        output: impl Fn(usize, &[f32]) -> Vec<f32>,
    ) -> Vec<Vec<f32>> {
        let mut currents: Vec<Vec<f32>> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let mut current = stage.rest();
            for synapses in &stage.synapses {
                match synapses.source {
                    Source::Image => synapses.add_dense(image, &mut current),
                    Source::Neurons(layer) => {
                        synapses.add_dense(&output(layer, &currents[layer]), &mut current);
                    }
                }
            }
            currents.push(current);
        }
        currents
    }
}

impl Stages {
    /// The same network with the weights between neurons rounded to 16 bits.
    pub fn quantised(mut self) -> Self {
        for synapses in self.stages.iter_mut().flat_map(|stage| &mut stage.synapses) {
            if synapses.source != Source::Image {
                synapses.quantise();
            }
        }
        self
    }
}

impl Compiler {
    fn read(
        &mut self,
        layers: &[Layer],
        mut branches: Vec<Branch>,
        mut shape: Shape,
    ) -> Result<(Vec<Branch>, Shape)> {
        for layer in layers {
            let number = self.layer;
            self.layer += 1;
            let wrong = |found: String, expected: &str| {
                Err(Error::layer(number, layer.kind(), found, expected))
            };
            match layer {
                Layer::Conv { .. } | Layer::Linear { .. } => {
                    if branches.iter().any(|branch| branch.kernel.is_some()) {
                        let found = "a second layer of weights with no neurons between";
                        return wrong(found.into(), "a ReLU after each layer of weights");
                    }
                    let (kernel, output, name) = Kernel::new(number, layer, shape)?;
                    self.products += kernel.products;
                    // Of a sum, the bias counts once.
                    for (i, branch) in branches.iter_mut().enumerate() {
                        let bias = if i == 0 { kernel.bias.clone() } else { vec![] };
                        let weight = kernel.weight.clone();
                        branch.kernel = Some(Kernel {
                            bias,
                            weight,
                            ..kernel
                        });
                    }
                    shape = output;
                    self.names.push(name);
                }
                Layer::AvgPool { size } => {
                    let divides = |side: usize| side.is_multiple_of(*size);
                    if *size == 0 || !divides(shape.height) || !divides(shape.width) {
                        let expected =
                            format!("a side that divides {} and {}", shape.height, shape.width);
                        return wrong(format!("squares of side {size}"), &expected);
                    }
                    for branch in &mut branches {
                        match &mut branch.kernel {
                            Some(kernel) => kernel.pool_after(*size),
                            None => branch.pool *= size,
                        }
                    }
                    shape.height /= size;
                    shape.width /= size;
                    self.names.push("average pooling".into());
                }
                Layer::ScaleShift { .. } => {
                    return wrong(
                        "no weights of as many outputs before it".into(),
                        "a convolution or linear layer to fold it into, with nothing but average pooling between",
                    );
                }
                Layer::Residual { body, shortcut } => {
                    let before = std::mem::take(&mut self.names);
                    let (body, body_shape) = self.read(body, branches.clone(), shape)?;
                    let of_body = std::mem::replace(&mut self.names, before);
                    let (shortcut, shortcut_shape) = self.read(shortcut, branches, shape)?;
                    if body_shape != shortcut_shape {
                        let expected = format!("{shortcut_shape} as of its shortcut");
                        return wrong(format!("a body's output of {body_shape}"), &expected);
                    }
                    self.names.push(format!("+ {}", of_body.join(", ")));
                    (branches, shape) = ([body, shortcut].concat(), body_shape);
                }
                Layer::Neurons | Layer::Qcfs { .. } => {
                    let activation = layer.activation(number)?;
                    if branches
                        .iter()
                        .all(|branch| branch.source == Source::Image && branch.kernel.is_none())
                    {
                        let expected = "a convolution or linear layer before each ReLU";
                        return wrong("neurons with no weights before them".into(), expected);
                    }
                    let source = Source::Neurons(self.stages.len());
                    self.stage(branches, shape, activation)?;
                    branches = vec![Branch::new(source, shape)];
                }
            }
        }
        Ok((branches, shape))
    }

    /// Ends the branches in a layer of neurons, or in the output.
    fn stage(
        &mut self,
        branches: Vec<Branch>,
        output: Shape,
        activation: Activation,
    ) -> Result<()> {
        let mut bias = Vec::new();
        let mut synapses = Vec::with_capacity(branches.len());
        for branch in branches {
            let kernel = branch.kernel.as_ref();
            let own = kernel.map_or(&[][..], |kernel| &kernel.bias);
            bias.resize(bias.len().max(own.len()), 0.0);
            bias.iter_mut().zip(own).for_each(|(sum, b)| *sum += b);
            synapses.push(branch.synapses(output)?);
        }
        self.stages.push(Stage {
            name: std::mem::take(&mut self.names).join(", "),
            output,
            activation,
            synapses,
            bias,
            products: std::mem::take(&mut self.products),
        });
        Ok(())
    }
}

impl Kernel {
    /// Of a layer of weights, with the shape of its output and its name.
    fn new(number: usize, layer: &Layer, shape: Shape) -> Result<(Self, Shape, String)> {
        let wrong = |found: String, expected: String| {
            Err(Error::layer(number, layer.kind(), found, expected))
        };
        let (weight, bias, inputs, outputs) = match layer {
            Layer::Conv {
                weight,
                bias,
                inputs,
                outputs,
                ..
            }
            | Layer::Linear {
                weight,
                bias,
                inputs,
                outputs,
            } => (
                weight,
                bias.as_deref().unwrap_or_default(),
                *inputs,
                *outputs,
            ),
            _ => unreachable!("a layer of weights"),
        };
        if let Some(bad) = weight.iter().find(|w| !w.is_finite()) {
            return wrong(format!("weight {bad}"), "finite weights".into());
        }
        if let Some(bad) = bias.iter().find(|b| !b.is_finite()) {
            return wrong(format!("bias {bad}"), "finite biases".into());
        }
        if outputs == 0 {
            return wrong("no output".into(), "at least 1".into());
        }
        if !bias.is_empty() && bias.len() != outputs {
            let expected = format!("{outputs}, one an output channel");
            return wrong(format!("{} biases", bias.len()), expected);
        }
        let (size, stride, padding, output, name) = match *layer {
            Layer::Conv {
                kernel,
                stride,
                padding,
                ..
            } => {
                if inputs != shape.channels {
                    let expected = format!("{} as the layer before gives", shape.channels);
                    return wrong(format!("{inputs} input channels"), expected);
                }
                if stride == 0 || kernel == 0 {
                    let found = format!("kernel {kernel}, stride {stride}");
                    return wrong(found, "at least 1 of each".into());
                }
                let [height, width] = [shape.height, shape.width].map(|side| {
                    let room = (side + 2 * padding).checked_sub(kernel);
                    room.map_or(0, |room| room / stride + 1)
                });
                if height * width == 0 {
                    let expected = format!("at least the kernel's {kernel} x {kernel}");
                    return wrong(format!("an image of {shape}"), expected);
                }
                let output = Shape::new(outputs, height, width);
                let name = format!("conv {kernel}x{kernel}");
                ([kernel; 2], stride, padding, output, name)
            }
            _ => {
                if inputs != shape.size() {
                    let expected = format!("{} as the layer before gives ({shape})", shape.size());
                    return wrong(format!("{inputs} inputs"), expected);
                }
                let size = [shape.height, shape.width];
                (size, 1, 0, Shape::new(outputs, 1, 1), "linear".into())
            }
        };
        let places = size[0] * size[1];
        if weight.len() != outputs * shape.channels * places {
            let expected = format!("{outputs} x {} x {} x {}", shape.channels, size[0], size[1]);
            return wrong(format!("{} weights", weight.len()), expected);
        }
        let mut ordered = vec![0.0; weight.len()];
        for (o, weights) in weight.chunks_exact(shape.channels * places).enumerate() {
            for (i, &w) in weights.iter().enumerate() {
                let (channel, place) = (i / places, i % places);
                ordered[(place * shape.channels + channel) * outputs + o] = w;
            }
        }
        let kernel = Self {
            weight: ordered,
            inputs: shape.channels,
            outputs,
            size,
            stride,
            padding,
            bias: bias.into(),
            products: (weight.len() * output.height * output.width) as u64,
        };
        Ok((kernel, output, name))
    }

    /// Hands every channel on as it is.
    fn identity(channels: usize) -> Self {
        let one = |i| f32::from(i / channels == i % channels);
        Self {
            weight: (0..channels * channels).map(one).collect(),
            inputs: channels,
            outputs: channels,
            size: [1; 2],
            stride: 1,
            padding: 0,
            bias: Vec::new(),
            products: 0,
        }
    }

    /// Folds `side` x `side` average pooling of the output into the kernel.
    fn pool_after(&mut self, side: usize) {
        let new = self.size.map(|size| size + self.stride * (side - 1));
        let each = self.inputs * self.outputs;
        let mut weight = vec![0.0; new[0] * new[1] * each];
        let share = 1.0 / (side * side) as f32;
        for (place, from) in self.weight.chunks_exact(each).enumerate() {
            let (row, column) = (place / self.size[1], place % self.size[1]);
            for (dr, dc) in (0..side).flat_map(|r| (0..side).map(move |c| (r, c))) {
                let (r, c) = (row + dr * self.stride, column + dc * self.stride);
                let to = &mut weight[(r * new[1] + c) * each..][..each];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to += from * share);
            }
        }
        self.weight = weight;
        self.size = new;
        self.stride *= side;
    }
}

impl Branch {
    fn new(source: Source, input: Shape) -> Self {
        Self {
            source,
            input,
            pool: 1,
            kernel: None,
        }
    }

    fn synapses(self, output: Shape) -> Result<Synapses> {
        let Self {
            source,
            input,
            pool,
            kernel,
        } = self;
        let kernel = kernel.unwrap_or_else(|| Kernel::identity(input.channels));
        let channels = kernel.inputs;
        let rows = kernel.size[0] * kernel.size[1] * channels + 1;
        let blocks = kernel.outputs.div_ceil(LANES);
        let widest = (rows * blocks * LANES).max(input.size()).max(output.size());
        if u32::try_from(widest).is_err() {
            return Err(Error::network(
                format!("a stage of {widest} values"),
                "at most 2^32 - 1 inputs, outputs and weights a stage",
            ));
        }
        let share = 1.0 / (pool * pool) as f32;
        let mut weight = vec![Row([0.0; LANES]); rows * blocks];
        for (row, weights) in kernel.weight.chunks_exact(kernel.outputs).enumerate() {
            for (block, weights) in weights.chunks(LANES).enumerate() {
                let to = &mut weight[block * rows + row].0;
                to.iter_mut()
                    .zip(weights)
                    .for_each(|(to, w)| *to = w * share);
            }
        }
        // A kernel of more rows than the image, which padding allows, reads only what is there.
        let [height, width] = [input.height / pool, input.width / pool];
        let (mut runs, mut run_start): (Vec<Run>, _) = (Vec::new(), vec![0]);
        for out in 0..output.height * output.width {
            let first = runs.len();
            let corner = [out / output.width, out % output.width].map(|x| x * kernel.stride);
            for row in (0..kernel.size[0]).flat_map(|r| (0..pool).map(move |p| (r, p))) {
                let at = (corner[0] + row.0).checked_sub(kernel.padding);
                let Some(r) = at.filter(|&r| r < height) else {
                    continue;
                };
                for column in (0..kernel.size[1]).flat_map(|c| (0..pool).map(move |p| (c, p))) {
                    let at = (corner[1] + column.0).checked_sub(kernel.padding);
                    let Some(c) = at.filter(|&c| c < width) else {
                        continue;
                    };
                    let position = (r * pool + row.1) * input.width + c * pool + column.1;
                    let place = row.0 * kernel.size[1] + column.0;
                    let number = |x: usize| (x * channels) as u32; // they were checked above
                    let offset = number(place).wrapping_sub(number(position));
                    match runs[first..].last_mut() {
                        Some(run) if run.end == position as u32 && run.offset == offset => {
                            run.end += 1;
                        }
                        _ => runs.push(Run {
                            start: position as u32,
                            end: position as u32 + 1,
                            offset,
                        }),
                    }
                }
            }
            run_start.push(runs.len() as u32);
        }
        Ok(Synapses {
            source,
            input,
            output,
            rows,
            weight,
            integers: None,
            products: kernel.products,
            repeats: pool * pool,
            runs,
            run_start,
        })
    }
}

impl Synapses {
    /// What reaches an output position.
    #[inline]
    pub fn runs(&self, position: usize) -> &[Run] {
        &self.runs[self.run_start[position] as usize..self.run_start[position + 1] as usize]
    }

    /// Rounds the weights to multiples of a step. For each output channel that is the least weight
    /// other than 0, where all are multiples of it, as binary ones are; else the smallest power of
    /// two with which the sum of the [`PIECE`] largest weights and that of the least ones, and so
    /// every sum of so many, are 16-bit numbers.
    fn quantise(&mut self) {
        let (mut rows, mut steps) = (Vec::with_capacity(self.weight.len()), Vec::new());
        for block in self.weight.chunks_exact_mut(self.rows) {
            let step: [f32; LANES] = std::array::from_fn(|lane| {
                let mut weights: Vec<f64> = block.iter().map(|row| row.0[lane].into()).collect();
                weights.sort_unstable_by(f64::total_cmp);
                let (least, most) = (weights[0], weights[weights.len() - 1]);
                let largest = most.max(-least);
                let count = PIECE.div_ceil(self.repeats).min(weights.len());
                let ends = [&weights[..count], &weights[weights.len() - count..]];
                let sum = |step: f64, sign: f64| -> f64 {
                    let end = ends[usize::from(sign > 0.0)].iter();
                    let steps = end.map(|w| (w * sign / step).round().max(0.0));
                    steps.sum::<f64>() * self.repeats as f64
                };
                let fits = |step: f64| {
                    let sums = [1.0, -1.0].map(|sign| sum(step, sign));
                    sums.iter().all(|&sum| sum <= f64::from(i16::MAX))
                };
                if let Some(step) = common_step(&weights).filter(|&step| fits(step)) {
                    return step as f32;
                }
                // No weight is more than 16 bits of the first step tried.
                let mut step =
                    2f64.powi((largest / f64::from(i16::MAX)).log2().ceil().max(-120.0) as i32);
                while !fits(step) {
                    step *= 2.0;
                }
                step as f32
            });
            for row in block {
                let whole = std::array::from_fn(|lane| (row.0[lane] / step[lane]).round());
                rows.push(Row16(whole.map(|w: f32| w as i16)));
                row.0 = std::array::from_fn(|lane| whole[lane] * step[lane]);
            }
            steps.push(step);
        }
        self.integers = Some(Integers {
            rows: Rows::of(rows),
            steps,
        });
    }

    /// Adds to `current` what a dense input makes flow.
    pub fn add_dense(&self, input: &[f32], current: &mut [f32]) {
        let channels = self.input.channels;
        for (position, current) in current.chunks_exact_mut(self.output.channels).enumerate() {
            let blocks = current
                .chunks_mut(LANES)
                .zip(self.weight.chunks_exact(self.rows));
            for (current, weight) in blocks {
                let mut sum = [0.0; LANES];
                for run in self.runs(position) {
                    let inputs = run.start as usize * channels..run.end as usize * channels;
                    let row = (inputs.start as u32).wrapping_add(run.offset) as usize;
                    add_rows(&weight[row..], &input[inputs], &mut sum);
                }
                current.iter_mut().zip(sum).for_each(|(to, sum)| *to += sum);
            }
        }
    }
}

/// The least magnitude above 0, where all weights are multiples of it but for the rounding of
/// pooling that was folded into them.
fn common_step(weights: &[f64]) -> Option<f64> {
    let magnitudes = weights.iter().map(|w| w.abs()).filter(|&w| w > 0.0);
    let step = magnitudes.min_by(f64::total_cmp)?;
    let apart = |w: f64| (w / step - (w / step).round()).abs();
    let rounding = |w: f64| (w / step).abs() * 1e-6;
    weights
        .iter()
        .all(|&w| apart(w) <= rounding(w))
        .then_some(step)
}

impl Rows {
    /// In 8 bits where these hold the sum of some rows, so that sums rarely go on with more.
    fn of(rows: Vec<Row16>) -> Self {
        /// The fewest rows for which it pays.
        const FEWEST: usize = 16;
        let magnitudes = rows.iter().flat_map(|row| row.0).map(i16::unsigned_abs);
        let largest = usize::from(magnitudes.max().unwrap_or(0)).max(1);
        let fit = i8::MAX as usize / largest / 2 * 2;
        if fit < FEWEST {
            return Self::Sixteen(rows);
        }
        let rows = rows.iter().map(|row| Row8(row.0.map(|w| w as i8)));
        Self::Eight(rows.collect(), fit)
    }
}

widest! {
    /// Adds each row times its value.
    fn add_rows[][](rows: &[Row], values: &[f32], sum: &mut [f32; LANES]) {
        for (row, &value) in rows.iter().zip(values) {
            if value != 0.0 {
                sum.iter_mut().zip(row.0).for_each(|(sum, w)| *sum += w * value);
            }
        }
    }
}

impl Stage {
    /// What flows without any input: the bias.
    pub fn rest(&self) -> Vec<f32> {
        let mut current = vec![0.0; self.output.size()];
        if !self.bias.is_empty() {
            let positions = current.chunks_exact_mut(self.bias.len());
            positions.for_each(|position| position.copy_from_slice(&self.bias));
        }
        current
    }
}

/// From channels, rows, columns to rows, columns, channels.
pub(crate) fn to_channels_last(shape: Shape, from: &[f32], to: &mut [f32]) {
    let positions = shape.height * shape.width;
    for (channel, plane) in from.chunks_exact(positions).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            to[position * shape.channels + channel] = value;
        }
    }
}

/// Shape of the output of layer `number`, one of weights, that takes an input of this shape, once it
/// was checked to fit and to hold finite numbers.
pub(crate) fn output_shape(number: usize, layer: &Layer, input: Shape) -> Result<Shape> {
    let (_, output, _) = Kernel::new(number, layer, input)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Stream, rng};
    use rand::RngExt;

    /// A convolution of 40 channels, each of one magnitude, its pooling folded in, and a linear
    /// layer of binary weights.
    #[test]
    fn binary_weights_are_whole_steps() {
        let mut rng = rng(0, Stream::Weights);
        let mut weight = |count: usize, outputs: usize| -> Vec<f32> {
            let each = count / outputs;
            let mut signed = |x: f32| if rng.random() { x } else { -x };
            let magnitude = |i: usize| 0.1 * (1 + i / each) as f32;
            (0..count).map(|i| signed(magnitude(i))).collect()
        };
        let mut conv = |inputs: usize| Layer::Conv {
            weight: weight(inputs * 40 * 9, 40),
            bias: None,
            inputs,
            outputs: 40,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let convs = [conv(2), conv(40)];
        let linear = Layer::Linear {
            weight: weight(160 * 3, 3),
            bias: None,
            inputs: 160,
            outputs: 3,
        };
        let pool = Layer::AvgPool { size: 2 };
        let ([first, second], neurons) = (convs, Layer::Neurons);
        let layers = [first, neurons.clone(), second, pool, neurons, linear];
        let real = Stages::new(Shape::new(2, 4, 4), &layers, 3).unwrap();
        let whole = real.clone().quantised();
        let kinds = [(1, 4, 30), (2, 1, 126)];
        for (stage, most, fit) in kinds {
            let [real, whole] = [&real, &whole].map(|stages| &stages.stages[stage].synapses[0]);
            let Some(Integers {
                rows: Rows::Eight(rows, piece),
                steps,
            }) = &whole.integers
            else {
                panic!("{:?}", whole.integers);
            };
            assert_eq!(*piece, fit);
            let largest = rows
                .iter()
                .flat_map(|row| row.0)
                .map(i8::unsigned_abs)
                .max();
            assert_eq!(largest, Some(most));
            for (i, (real, row)) in real.weight.iter().zip(rows).enumerate() {
                let steps = &steps[i / whole.rows];
                for (real, (&w, step)) in real.0.iter().zip(row.0.iter().zip(steps)) {
                    // Without pooling, exactly.
                    let rounding = if most == 1 { 0.0 } else { real.abs() * 1e-6 };
                    let apart = (real - f32::from(w) * step).abs();
                    assert!(apart <= rounding, "{apart}");
                }
            }
        }
    }

    #[test]
    fn bounds_and_levels_out_of_range_are_named() {
        let linear = |inputs: usize, outputs: usize| Layer::Linear {
            weight: vec![1.0; inputs * outputs],
            bias: None,
            inputs,
            outputs,
        };
        let error = |bound, levels| {
            let layers = [linear(1, 1), Layer::Qcfs { bound, levels }, linear(1, 2)];
            let stages = Stages::new(Shape::new(1, 1, 1), &layers, 2);
            stages.err().map(|error| error.to_string())
        };
        assert_eq!(error(1.0, 4), None);
        for (bound, levels, expected) in [
            (
                -0.5,
                4,
                "layer 1 (QCFS): found bound -0.5, expected a finite bound above 0",
            ),
            (
                f32::NAN,
                4,
                "layer 1 (QCFS): found bound NaN, expected a finite bound above 0",
            ),
            (1.0, 0, "layer 1 (QCFS): found no level, expected 1 or more"),
        ] {
            assert_eq!(error(bound, levels).as_deref(), Some(expected));
        }
    }
}
