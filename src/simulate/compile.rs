//! Compilation of a graph of layers into the stages of the engine.

use std::ops::Range;

use super::maps::Map;
use super::synapses::{MaxPool, Source, Stage, Stages, Synapses};
use crate::ann::{Activation, Graph, Layer, Node};
use crate::base::{Error, Result};
use crate::data::{Shape, Task};

/// Value of the graph as a sum of maps of the spikes since the last layers of neurons, and a
/// constant.
#[derive(Clone)]
struct Value {
    shape: Shape,
    terms: Vec<Term>,
    /// Constant by row, column and channel; empty for none.
    constant: Vec<f32>,
    /// Whether the channels are those of the terms' sources, one after the other.
    spikes: bool,
    /// What stands between the last neurons and here.
    names: Vec<String>,
    /// Nodes with multiply-accumulates since the last neurons.
    weighing: Vec<usize>,
}

/// Spikes of one source, and what becomes of them.
#[derive(Clone)]
struct Term {
    source: Source,
    /// None for the identity.
    map: Option<Map>,
    /// Channels that it reaches.
    channels: Range<usize>,
    products: u64,
}

/// State of the compilation.
#[derive(Default)]
struct Compiler {
    /// Limit of [`Stages::within`].
    most: usize,
    stages: Vec<Stage>,
    pools: Vec<MaxPool>,
    /// Number of multiply-accumulates of each node that no layer of neurons has counted.
    products: Vec<u64>,
}

impl Stages {
    /// Compiles a graph for a task.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new), and [`Error::Network`] for another shape of images or number
    /// of classes than the task's.
    pub fn of_task<K: Task>(graph: Graph) -> Result<Self> {
        let stages = Self::new(graph)?;
        let (input, classes) = (stages.input(), stages.classes());
        let holds = input == K::SHAPE && classes == K::CLASSES;
        let found = format!("images of {input} in {classes} classes");
        let expected = format!("{} in {} classes, as the task's", K::SHAPE, K::CLASSES);
        holds.then_some(stages).ok_or_else(|| Error::network(found, expected))
    }

    /// Compiles a graph.
    ///
    /// # Errors
    /// [`Error::Layer`] or [`Error::Network`] for layers that do not fit each other, have values that
    /// are not finite, or that spikes cannot run.
    pub fn new(graph: Graph) -> Result<Self> {
        Self::within(graph, usize::MAX)
    }

    /// [`new`](Self::new) with a limit on the numbers that a layer of neurons may need besides its own
    /// weights, for a graph that a file of few bytes may ask much of.
    pub fn within(graph: Graph, most: usize) -> Result<Self> {
        let graph = graph.normalised()?;
        let shapes = graph.shapes()?;
        let mut compiler = Compiler { most, ..Compiler::default() };
        let mut uses = graph.uses();
        if let Some(number) = uses.iter().skip(1).position(|&uses| uses == 0)
            && let Some(node) = graph.nodes[..graph.nodes.len() - 1].get(number)
        {
            let found = "an output that no layer takes";
            return Err(Error::layer(number, node.kind(), found, "one output of the network"));
        }
        let mut values = vec![Some(Value::of(Source::Image, graph.input))];
        for (number, node) in graph.nodes.iter().enumerate() {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &value in &node.inputs {
                uses[value] -= 1;
                let last = uses[value] == 0;
                inputs.extend(if last { values[value].take() } else { values[value].clone() });
            }
            let before = node.inputs.first().map_or(graph.input, |&value| shapes[value]);
            compiler.products.push(node.layer.products(before));
            values.push(Some(compiler.read(number, node, inputs, shapes[number + 1])?));
        }
        let output = values.pop().flatten();
        let output = output.filter(|_| !compiler.stages.is_empty());
        let output = output.ok_or_else(|| Error::network("no layer of neurons", "at least one"))?;
        if output.shape != Shape::new(output.shape.channels, 1, 1) {
            let found = format!("an output of {}", output.shape);
            return Err(Error::network(found, "one value a class, classes x 1 x 1"));
        }
        compiler.stage(output, Activation::Identity)?;
        let (stages, pools) = compiler.in_order();
        Ok(Self { graph: graph.into(), stages, pools })
    }
}

impl Compiler {
    /// Stages, and pools in the order of the layers whose spikes they take.
    fn in_order(self) -> (Vec<Stage>, Vec<MaxPool>) {
        let Self { mut stages, pools, .. } = self;
        let mut pools: Vec<_> = pools.into_iter().enumerate().collect();
        pools.sort_by_key(|(_, pool)| pool.layer); // a pool of a pool stays behind it
        let (old, mut pools): (Vec<usize>, Vec<MaxPool>) = pools.into_iter().unzip();
        let renumber = |source: &mut Source| {
            if let Source::Pool(pool) = source {
                *pool = old.iter().position(|old| old == pool).unwrap_or(*pool);
            }
        };
        pools.iter_mut().for_each(|pool| renumber(&mut pool.source));
        let synapses = stages.iter_mut().flat_map(|stage| &mut stage.synapses);
        synapses.for_each(|synapses| renumber(&mut synapses.source));
        (stages, pools)
    }

    /// Value that a node makes of its inputs.
    fn read(
        &mut self,
        number: usize,
        node: &Node,
        mut inputs: Vec<Value>,
        output: Shape,
    ) -> Result<Value> {
        let wrong =
            |found: &str, expected: &str| Err(Error::layer(number, node.kind(), found, expected));
        if let Layer::Sum | Layer::Concat = node.layer {
            return Value::join(inputs, output, matches!(node.layer, Layer::Concat), self.most);
        }
        let Some(mut value) = inputs.pop() else {
            return wrong("no input", "1");
        };
        let name = node.layer.name();
        let shapes = [value.shape, output];
        match &node.layer {
            Layer::Conv { weight, bias, window, groups, .. } => {
                let map = Map::convolution(shapes, window, weight, *groups, self.most)?;
                value.weigh(self.most, (number, self.products[number]), map, bias)?;
            }
            Layer::Linear { weight, bias, .. } => {
                let map = Map::linear(shapes, weight, self.most)?;
                value.weigh(self.most, (number, self.products[number]), map, bias)?;
            }
            Layer::AvgPool { window, count_padding, .. } => {
                value.apply(self.most, Map::average(shapes, window, *count_padding, self.most)?)?;
            }
            Layer::ScaleShift { scale, shift } => {
                value.apply(self.most, Map::scale(output, scale)?)?;
                value.add(shift);
            }
            Layer::MaxPool { window, .. } => {
                if !value.spikes || value.terms.iter().any(|term| term.source == Source::Image) {
                    return wrong(
                        "max pooling of something else than neurons",
                        "a ReLU right before or behind it, or between them only scale and shift \
                         with factors of 0 or more",
                    );
                }
                value.shape = output;
                for term in &mut value.terms {
                    let (source, layer) = self.root(term.source);
                    let Range { start, end } = term.channels.clone();
                    let channels = end - start;
                    let shapes = shapes.map(|shape| Shape { channels, ..shape });
                    let windows = Map::average(shapes, window, false, self.most)?;
                    self.pools.push(MaxPool::new((source, layer), self.pools.len(), &windows));
                    term.source = Source::Pool(self.pools.len() - 1);
                    let [_, from] = shapes;
                    if term.map.is_some() {
                        term.map = Some(Map::embedding(from, start, output.channels)?);
                    }
                }
            }
            Layer::Neurons | Layer::Clipped { .. } | Layer::Qcfs { .. } => {
                let from_image = |term: &Term| term.source == Source::Image;
                if value.terms.iter().all(from_image) && value.weighing.is_empty() {
                    let expected = "a convolution or linear layer before each ReLU";
                    return wrong("neurons with no weights before them", expected);
                }
                self.stage(value, node.layer.activation())?;
                return Ok(Value::of(Source::Neurons(self.stages.len() - 1), output));
            }
            Layer::Sum | Layer::Concat => {}
        }
        value.names.push(name);
        Ok(value)
    }

    /// Source, and the layer of neurons that its spikes come from.
    fn root(&self, source: Source) -> (Source, usize) {
        match source {
            Source::Pool(pool) => (source, self.pools[pool].layer),
            Source::Neurons(layer) => (source, layer),
            Source::Image => (source, 0), // no pool has it
        }
    }

    /// Ends a value in a layer of neurons or the output.
    fn stage(&mut self, value: Value, activation: Activation) -> Result<()> {
        let Value { shape: output, terms, constant, names, weighing, .. } = value;
        let mut synapses = Vec::with_capacity(terms.len());
        for term in terms {
            let identity = || Map::embedding(output, 0, output.channels);
            let map = term.map.map_or_else(identity, Ok)?;
            synapses.push(Synapses::new(term.source, &map, term.products)?);
        }
        let mut positions = constant.chunks_exact(output.channels);
        let first = positions.next().unwrap_or_default();
        let (bias, place_bias) = match positions.all(|position| position == first) {
            true => (first.to_vec(), Vec::new()),
            false => (Vec::new(), constant),
        };
        let products = weighing.iter().map(|&node| std::mem::take(&mut self.products[node]));
        self.stages.push(Stage {
            name: names.join(", "),
            output,
            activation,
            synapses,
            bias,
            place_bias,
            products: products.sum(),
        });
        Ok(())
    }
}

impl Value {
    fn of(source: Source, shape: Shape) -> Self {
        let term = Term { source, map: None, channels: 0..shape.channels, products: 0 };
        Self {
            shape,
            terms: vec![term],
            constant: Vec::new(),
            spikes: true,
            names: Vec::new(),
            weighing: Vec::new(),
        }
    }

    /// Sum, or concatenation of the channels.
    fn join(values: Vec<Self>, output: Shape, concat: bool, most: usize) -> Result<Self> {
        let channels = output.channels;
        let mut joined = Self {
            shape: output,
            terms: Vec::new(),
            constant: Vec::new(),
            spikes: concat && values.iter().all(|value| value.spikes),
            names: Vec::new(),
            weighing: Vec::new(),
        };
        if values.iter().any(|value| !value.constant.is_empty()) {
            joined.constant = vec![0.0; output.size()];
        }
        let (mut offset, count) = (0, values.len());
        for (i, value) in values.into_iter().enumerate() {
            let own = value.shape.channels;
            // The last one's names stand first: the shortcut's of a residual addition.
            match i + 1 == count {
                true => joined.names = [value.names, joined.names].concat(),
                false if value.names.is_empty() => joined.names.push("+ identity".into()),
                false => joined.names.push(format!("+ {}", value.names.join(", "))),
            }
            joined.weighing.extend(value.weighing);
            let constants = value.constant.chunks_exact(own);
            for (to, from) in joined.constant.chunks_exact_mut(channels).zip(constants) {
                to[offset..].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
            for mut term in value.terms {
                if own < channels {
                    let embedding = Map::embedding(value.shape, offset, channels)?;
                    term.map = Some(match &term.map {
                        Some(map) => map.then(&embedding, most)?,
                        None => embedding,
                    });
                    term.channels = term.channels.start + offset..term.channels.end + offset;
                }
                joined.terms.push(term);
            }
            offset += if concat { own } else { 0 };
        }
        if concat {
            joined.names.push("concatenation".into());
        }
        joined.weighing.sort_unstable();
        joined.weighing.dedup();
        Ok(joined)
    }

    /// Applies a map to all terms and the constant.
    fn apply(&mut self, most: usize, map: Map) -> Result<()> {
        for term in &mut self.terms {
            term.map = Some(match &term.map {
                Some(before) => before.then(&map, most)?,
                None => map.clone(),
            });
            term.channels = 0..map.output.channels;
        }
        if !self.constant.is_empty() {
            self.constant = map.apply(&self.constant);
        }
        (self.shape, self.spikes) = (map.output, false);
        Ok(())
    }

    /// Applies a layer of weights.
    fn weigh(
        &mut self,
        most: usize,
        (node, products): (usize, u64),
        map: Map,
        bias: &Option<Vec<f32>>,
    ) -> Result<()> {
        let channels = self.shape.channels;
        for term in &mut self.terms {
            term.products += products * term.channels.len() as u64 / channels as u64;
        }
        self.apply(most, map)?;
        self.weighing.push(node);
        self.add(bias.as_deref().unwrap_or_default());
        Ok(())
    }

    /// Adds a constant to each channel.
    fn add(&mut self, constants: &[f32]) {
        if constants.is_empty() {
            return;
        }
        self.constant.resize(self.shape.size(), 0.0);
        for position in self.constant.chunks_exact_mut(constants.len()) {
            position.iter_mut().zip(constants).for_each(|(to, constant)| *to += constant);
        }
    }
}

#[cfg(test)]
mod tests;
