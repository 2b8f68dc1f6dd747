//! Compilation of layers into the stages of the engine.
//!
//! A network is a list of [`Layer`]s. The engine reads it as *stages*: all synapses up to and
//! including one layer of neurons. Everything linear in a stage is one convolution, exactly but for
//! rounding:
//!
//! - a convolution of kernel K, stride S and padding P followed by n x n average pooling is a
//!   convolution of kernel K + S(n - 1), stride S n and padding P, whose kernel is the mean of n²
//!   shifted copies;
//! - average pooling before a convolution only changes which outputs an input reaches;
//! - a fully connected layer is a convolution whose kernel covers the whole image.

use crate::ann::{Activation, Ann, Layer, Network, NetworkDevice, Window};
use crate::base::{Error, Result};
use crate::data::{Shape, Task};
use crate::ops::widest;

/// Network compiled for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    pub input: Shape,
    /// Layers that the stages were compiled from.
    pub layers: Vec<Layer>,
    /// One stage for each layer of neurons and, last, the output, which integrates its input current.
    pub stages: Vec<Stage>,
}

/// One layer of neurons (or the output) and all synapses that end in it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Name for tables, such as `conv 3x3, average pooling`.
    pub name: String,
    pub output: Shape,
    pub activation: Activation,
    /// Synapses whose currents add up: more than one where a residual addition precedes the neurons.
    pub synapses: Vec<Synapses>,
    /// Bias of each output channel, or empty for none.
    pub bias: Vec<f32>,
    /// Number of multiply-accumulates of the ANN's layers, pooling not folded into them.
    pub products: u64,
}

/// Origin of synapses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Image,
    /// Layer of neurons, from 0.
    Neurons(usize),
}

/// Number of output channels computed at once.
pub(crate) const LANES: usize = 32;

/// Weights from one input to [`LANES`] output channels: two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Row(pub [f32; LANES]);

/// Convolution that stands for any linear layer. Values are numbered by row, column, channel.
#[derive(Debug, Clone)]
pub(crate) struct Synapses {
    pub source: Source,
    pub input: Shape,
    pub output: Shape,
    /// Number of rows of weights in a block: kernel rows x kernel columns x input channels, and one
    /// row of zeros.
    pub rows: usize,
    /// Blocks of [`LANES`] output channels with [`rows`](Self::rows) rows each; 0 where there is no
    /// channel.
    pub weight: Vec<Row>,
    /// Number of multiply-accumulates of the layer of weights, pooling not folded into it; 0 for a
    /// shortcut without weights.
    pub products: u64,
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

/// Connection from a source to the next neurons while layers are compiled.
#[derive(Clone)]
struct Branch {
    source: Source,
    input: Shape,
    /// Side of the average pooling before the kernel.
    pool: usize,
    kernel: Option<Kernel>,
}

/// Convolution of a branch, into which pooling is folded.
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

/// State of the compilation.
#[derive(Default)]
struct Compiler {
    stages: Vec<Stage>,
    names: Vec<String>,
    /// Number of multiply-accumulates since the last layer of neurons.
    products: u64,
    /// Number of the layer, including those inside residual layers.
    layer: usize,
}

impl Stages {
    /// Stages of an ANN.
    pub fn of_ann<N: Network, D: NetworkDevice>(ann: &Ann<N, D>) -> Result<Self> {
        Self::new(N::Task::SHAPE, &ann.layers()?, N::Task::CLASSES)
    }

    /// Compiles layers for an input shape and a number of classes.
    ///
    /// # Errors
    /// [`Error::Layer`] or [`Error::Network`] for layers that do not fit each other or have values
    /// that are not finite.
    pub fn new(input: Shape, layers: &[Layer], classes: usize) -> Result<Self> {
        let mut compiler = Compiler::default();
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
        Ok(Self { input, layers: layers.to_vec(), stages: compiler.stages })
    }

    /// Number of layers of neurons.
    pub fn spiking(&self) -> usize {
        self.stages.len() - 1
    }

    /// Input currents of each layer of neurons and the output in the ANN, for an image in the order
    /// row, column, channel.
    pub fn forward(&self, image: &[f32]) -> Vec<Vec<f32>> {
        self.currents(image, |layer, current| {
            let activation = self.stages[layer].activation;
            current.iter().map(|&x| activation.of(x)).collect()
        })
    }

    /// Input currents of each stage, where `output` gives the output of a layer of neurons for its
    /// input current.
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

impl Compiler {
    /// Adds layers to the branches. Returns the branches after the last layer of neurons and the
    /// output shape.
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
                    let (mut kernel, output, name) = Kernel::new(number, layer, shape)?;
                    self.products += kernel.products;
                    for branch in &mut branches {
                        branch.kernel = Some(kernel.clone());
                        kernel.bias.clear(); // the sum of the branches has it once
                    }
                    shape = output;
                    self.names.push(name);
                }
                Layer::AvgPool { window, .. }
                    if *window == Window::square(window.size[0], window.size[0], 0) =>
                {
                    let size = &window.size[0];
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
                Layer::AvgPool { .. }
                | Layer::MaxPool { .. }
                | Layer::Sum
                | Layer::Concat
                | Layer::Clipped { .. } => {
                    return wrong("a layer that is not simulated yet".into(), "another");
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

    /// Ends the branches in a layer of neurons or the output.
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
    /// Kernel, output shape and name of a layer of weights.
    fn new(number: usize, layer: &Layer, shape: Shape) -> Result<(Self, Shape, String)> {
        let wrong = |found: String, expected: String| {
            Err(Error::layer(number, layer.kind(), found, expected))
        };
        let (weight, bias, inputs, outputs) = match layer {
            Layer::Conv { weight, bias, inputs, outputs, .. }
            | Layer::Linear { weight, bias, inputs, outputs, .. } => {
                (weight, bias.as_deref().unwrap_or_default(), *inputs, *outputs)
            }
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
            Layer::Conv { window, .. } => {
                let (kernel, stride, padding) =
                    (window.size[0], window.stride[0], window.padding[0]);
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

    /// 1 x 1 kernel that passes on each channel.
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
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from * share);
            }
        }
        self.weight = weight;
        self.size = new;
        self.stride *= side;
    }
}

impl Branch {
    fn new(source: Source, input: Shape) -> Self {
        Self { source, input, pool: 1, kernel: None }
    }

    fn synapses(self, output: Shape) -> Result<Synapses> {
        let Self { source, input, pool, kernel } = self;
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
                to.iter_mut().zip(weights).for_each(|(to, w)| *to = w * share);
            }
        }
        // With padding, a kernel may reach beyond the image.
        let [height, width] = [input.height / pool, input.width / pool];
        let places = |size: usize| (0..size).flat_map(|at| (0..pool).map(move |p| (at, p)));
        let inside = |corner: usize, at: usize, side: usize| {
            let at = (corner * kernel.stride + at).checked_sub(kernel.padding);
            at.filter(|&at| at < side)
        };
        let number = |x: usize| (x * channels) as u32; // at most `widest`
        let (mut runs, mut run_start) = (Vec::<Run>::new(), vec![0]);
        for out in 0..output.height * output.width {
            let first = runs.len();
            for (row, dr) in places(kernel.size[0]) {
                let Some(r) = inside(out / output.width, row, height) else {
                    continue;
                };
                for (column, dc) in places(kernel.size[1]) {
                    let Some(c) = inside(out % output.width, column, width) else {
                        continue;
                    };
                    let position = (r * pool + dr) * input.width + c * pool + dc;
                    let place = row * kernel.size[1] + column;
                    let offset = number(place).wrapping_sub(number(position));
                    let start = position as u32;
                    match runs[first..].last_mut() {
                        Some(run) if run.end == start && run.offset == offset => run.end += 1,
                        _ => runs.push(Run { start, end: start + 1, offset }),
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
            products: kernel.products,
            runs,
            run_start,
        })
    }
}

impl Synapses {
    /// Inputs that reach an output position.
    #[inline]
    pub fn runs(&self, position: usize) -> &[Run] {
        &self.runs[self.run_start[position] as usize..self.run_start[position + 1] as usize]
    }

    /// Adds the current of a dense input to `current`.
    pub fn add_dense(&self, input: &[f32], current: &mut [f32]) {
        let channels = self.input.channels;
        for (position, current) in current.chunks_exact_mut(self.output.channels).enumerate() {
            let blocks = current.chunks_mut(LANES).zip(self.weight.chunks_exact(self.rows));
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

widest! {
    /// Adds each row of weights times its value.
    fn add_rows[][](rows: &[Row], values: &[f32], sum: &mut [f32; LANES]) {
        for (row, &value) in rows.iter().zip(values) {
            if value != 0.0 {
                sum.iter_mut().zip(row.0).for_each(|(sum, w)| *sum += w * value);
            }
        }
    }
}

impl Stage {
    /// Input current without any input: the bias of each output.
    pub fn rest(&self) -> Vec<f32> {
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

/// Output shape of layer `number`, a layer of weights, for an input of this shape.
///
/// # Errors
/// [`Error::Layer`] for a layer that does not fit or has values that are not finite.
pub(crate) fn output_shape(number: usize, layer: &Layer, input: Shape) -> Result<Shape> {
    let (_, output, _) = Kernel::new(number, layer, input)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_levels_out_of_range_are_named() {
        let linear = |inputs: usize, outputs: usize| Layer::Linear {
            weight: vec![1.0; inputs * outputs],
            bias: None,
            inputs,
            outputs,
            order: crate::ann::CHANNELS_FIRST,
        };
        let error = |bound, levels| {
            let layers = [linear(1, 1), Layer::Qcfs { bound, levels }, linear(1, 2)];
            let stages = Stages::new(Shape::new(1, 1, 1), &layers, 2);
            stages.err().map(|error| error.to_string())
        };
        assert_eq!(error(1.0, 4), None);
        for (bound, levels, expected) in [
            (-0.5, 4, "layer 1 (QCFS): found bound -0.5, expected a finite bound above 0"),
            (f32::NAN, 4, "layer 1 (QCFS): found bound NaN, expected a finite bound above 0"),
            (1.0, 0, "layer 1 (QCFS): found no level, expected 1 or more"),
        ] {
            assert_eq!(error(bound, levels).as_deref(), Some(expected));
        }
    }
}
