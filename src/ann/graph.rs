//! Feed-forward networks as graphs of plain layers: what typed and imported networks are behind the
//! door.

use flate2::Crc;

use super::layers::{Layer, MOST_VALUES};
use crate::base::{Error, Result, Table, one_line};
use crate::data::Shape;

/// Feed-forward network: layers, each of which takes the image or outputs of layers before it. The
/// output of the last one is the network's.
///
/// Values are numbered: 0 is the image, k the output of node k - 1.
///
/// ```
/// use evospike::ann::graph::Graph;
/// use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
/// use evospike::data::Shape;
///
/// let conv = || Layer::Conv {
///     weight: vec![0.5; 2 * 2 * 3 * 3],
///     bias: None,
///     inputs: 2,
///     outputs: 2,
///     window: Window::square(3, 1, 1),
///     groups: 1,
/// };
/// let mut graph = Graph::new(Shape::new(2, 4, 6));
/// let first = graph.add("first", conv(), [0]);
/// let relu = graph.add("relu", Layer::Neurons, [first]);
/// let body = graph.add("body", conv(), [relu]);
/// let sum = graph.add("sum", Layer::Sum, [body, relu]); // a residual addition
/// assert_eq!(graph.shapes()?[sum], Shape::new(2, 4, 6));
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Graph {
    /// Shape of the image.
    pub input: Shape,
    /// Layers, each after those whose output it takes.
    pub nodes: Vec<Node>,
}

/// Layer in a [`Graph`].
#[derive(Clone, PartialEq)]
pub struct Node {
    /// Name for errors and tables; empty where the network gives none.
    pub name: String,
    /// Layer of the node.
    pub layer: Layer,
    /// Numbers of the values that it takes.
    pub inputs: Vec<usize>,
}

one_line!(impl [] Node: node, "{} {:?} of {:?}", node.name, node.layer, node.inputs);
one_line!(
    impl [] Graph: graph,
    "{} layers, {} weights, input {}",
    graph.nodes.len(),
    graph.parameters(),
    graph.input
);

impl Node {
    /// Kind of the layer and, if it has one, its name: for error messages.
    pub(crate) fn kind(&self) -> String {
        match self.name.as_str() {
            "" => self.layer.kind().into(),
            name => format!("{} `{name}`", self.layer.kind()),
        }
    }
}

impl Graph {
    /// Graph without layers for images of this shape.
    pub const fn new(input: Shape) -> Self {
        Self { input, nodes: Vec::new() }
    }

    /// Graph of layers that follow each other.
    pub fn chain(input: Shape, layers: impl IntoIterator<Item = Layer>) -> Self {
        let mut graph = Self::new(input);
        layers.into_iter().for_each(|layer| _ = graph.then(layer));
        graph
    }

    /// Adds a layer that takes these values; returns the number of its output.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        layer: Layer,
        inputs: impl Into<Vec<usize>>,
    ) -> usize {
        self.nodes.push(Node { name: name.into(), layer, inputs: inputs.into() });
        self.nodes.len()
    }

    /// Adds a layer that takes the output of the last one; returns the number of its output.
    pub fn then(&mut self, layer: Layer) -> usize {
        self.add("", layer, [self.nodes.len()])
    }

    /// Shape of every value, the image's first.
    ///
    /// # Errors
    /// [`Error::Layer`] for a layer that does not fit what it takes, takes what is not before it, or
    /// has values that are not finite or out of range; [`Error::Network`] for an image without
    /// pixels.
    pub fn shapes(&self) -> Result<Vec<Shape>> {
        let Shape { channels, height, width } = self.input;
        let pixels = channels.saturating_mul(height).saturating_mul(width);
        if !(1..=MOST_VALUES).contains(&pixels) {
            let expected = format!("1 to {} pixels", MOST_VALUES);
            return Err(Error::network(format!("an image of {}", self.input), expected));
        }
        let mut shapes = vec![self.input];
        for (number, node) in self.nodes.iter().enumerate() {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &value in &node.inputs {
                let Some(&shape) = shapes.get(value) else {
                    let found = format!("input {value}");
                    let expected = format!("0 to {number}, the image and the layers before");
                    return Err(Error::layer(number, node.kind(), found, expected));
                };
                inputs.push(shape);
            }
            shapes.push(node.layer.output(number, &node.name, &inputs)?);
        }
        Ok(shapes)
    }

    /// Table of the layers, numbered as in errors, with the shapes that they give, their weights and
    /// multiply-accumulates.
    pub(crate) fn table(&self, name: &str) -> Table {
        let shapes = self.shapes().unwrap_or_default();
        let products = |node: &Node| {
            let input = node.inputs.first().and_then(|&value| shapes.get(value));
            input.map_or(0, |&input| node.layer.products(input))
        };
        let title = format!(
            "{name}: input {}, {} classes, {} layers, {} weights, {} multiply-accumulates",
            self.input,
            shapes.last().map_or(0, |shape| shape.size()),
            self.nodes.len(),
            self.parameters(),
            self.nodes.iter().map(products).sum::<u64>(),
        );
        let header = ["layer", "kind", "name", "of", "output", "weights", "products"];
        let mut table = Table::new(title, header);
        for (number, node) in self.nodes.iter().enumerate() {
            let taken = node.inputs.iter().map(|&value| match value.checked_sub(1) {
                Some(number) => number.to_string(),
                None => "image".into(),
            });
            table.row([
                number.to_string(),
                node.layer.name(),
                node.name.clone(),
                taken.collect::<Vec<_>>().join(", "),
                shapes.get(number + 1).map(Shape::to_string).unwrap_or_default(),
                node.layer.parameters().to_string(),
                products(node).to_string(),
            ]);
        }
        table
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.nodes.iter().map(|node| node.layer.parameters()).sum()
    }

    /// CRC-32 of the layers and their connections, weights included.
    pub fn checksum(&self) -> u32 {
        let mut checksum = Crc::new();
        for node in &self.nodes {
            for number in [node.inputs.len()].iter().chain(&node.inputs) {
                checksum.update(&(*number as u64).to_le_bytes());
            }
            node.layer.add_to(&mut checksum);
        }
        checksum.sum()
    }

    /// Number of layers that take each value.
    pub(crate) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len() + 1];
        let taken = self.nodes.iter().flat_map(|node| &node.inputs);
        taken.for_each(|&value| uses[value] += 1);
        uses
    }

    /// Removes the layers that do not lead to a value, which becomes the output.
    #[cfg(feature = "nir")]
    pub(crate) fn keep_what_reaches(&mut self, output: usize) {
        self.nodes.truncate(output);
        let mut kept = vec![false; output + 1];
        kept[output] = true;
        for (number, node) in self.nodes.iter().enumerate().rev() {
            if kept[number + 1] {
                node.inputs.iter().for_each(|&value| kept[value] = true);
            }
        }
        kept[0] = true;
        // New number of each value that is kept.
        let number = |before: &mut usize, &kept: &bool| {
            let number = *before;
            *before += usize::from(kept);
            Some(number)
        };
        let numbers: Vec<usize> = kept.iter().scan(0, number).collect();
        let mut values = kept.iter().skip(1);
        self.nodes.retain(|_| values.next().copied().unwrap_or_default());
        for node in &mut self.nodes {
            node.inputs.iter_mut().for_each(|value| *value = numbers[*value]);
        }
    }

    /// Folds each [`ScaleShift`](Layer::ScaleShift) into the weights and bias of the convolution or
    /// linear layer before it, also across average pooling, with which it commutes, where no other
    /// layer takes what is between. Returns the kind and name of each.
    ///
    /// All other layers stay as they are: simulation folds what is linear wherever it stands.
    ///
    /// # Errors
    /// The errors of [`shapes`](Self::shapes).
    pub fn fold(&mut self) -> Result<Vec<String>> {
        self.shapes()?;
        let uses = self.uses();
        // New number of each value, and how many layers take each new value.
        let (mut numbers, mut taken) = (vec![0], vec![uses[0]]);
        let mut folded = Vec::new();
        for (mut node, uses) in std::mem::take(&mut self.nodes).into_iter().zip(&uses[1..]) {
            node.inputs.iter_mut().for_each(|value| *value = numbers[*value]);
            if let Layer::ScaleShift { scale, shift } = &node.layer
                && let Some(layer) = self.weights_before(node.inputs[0], &taken)
            {
                layer.scale_outputs(scale, shift);
                folded.push(node.kind());
                numbers.push(node.inputs[0]);
                taken[node.inputs[0]] = *uses;
                continue;
            }
            self.nodes.push(node);
            numbers.push(self.nodes.len());
            taken.push(*uses);
        }
        Ok(folded)
    }

    /// Layer of weights that a value comes from, with nothing but averages between, and that nothing
    /// else takes.
    pub(crate) fn weights_before(
        &mut self,
        mut value: usize,
        taken: &[usize],
    ) -> Option<&mut Layer> {
        loop {
            let number = value.checked_sub(1).filter(|_| taken[value] == 1)?;
            let node = &self.nodes[number];
            match &node.layer {
                Layer::Conv { .. } | Layer::Linear { .. } => {
                    return Some(&mut self.nodes[number].layer);
                }
                // A mean of what was shifted is shifted as much, but not with zeros among the values.
                Layer::AvgPool { window, count_padding, .. }
                    if !count_padding || window.padding == [0; 4] =>
                {
                    value = node.inputs[0];
                }
                _ => return None,
            }
        }
    }

    /// The same network as spikes run it: linear layers in PyTorch's order, and neurons before pools.
    pub(crate) fn normalised(mut self) -> Result<Self> {
        let shapes = self.shapes()?;
        for node in &mut self.nodes {
            node.layer.order_channels_first(shapes[node.inputs[0]]);
        }
        Ok(self.with_neurons_before_pools())
    }

    /// The same network with neurons before max pooling, which commutes with what never falls where
    /// its input rises, so that pools take spikes: conv, max pooling, ReLU becomes conv, ReLU, max
    /// pooling. Scale and shift with no factor below 0 moves likewise, to where weights or neurons
    /// are.
    fn with_neurons_before_pools(mut self) -> Self {
        // Of a value that one layer takes, that layer.
        let mut next = vec![None; self.nodes.len() + 1];
        for (number, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&value| next[value] = Some(number));
        }
        for (next, uses) in next.iter_mut().zip(self.uses()) {
            *next = next.filter(|_| uses == 1);
        }
        let rises = |layer: &Layer| match layer {
            Layer::ScaleShift { scale, .. } => scale.iter().all(|&factor| factor >= 0.0),
            layer => layer.fires(),
        };
        // Each exchange moves a pool behind a layer, or before one where its input is spikes.
        let mut moved = true;
        while std::mem::take(&mut moved) {
            let mut spikes = vec![false];
            for number in 0..self.nodes.len() {
                let node = &self.nodes[number];
                let mut takes_spikes = node.inputs.iter().all(|&value| spikes[value]);
                let is_pool =
                    |number: usize| matches!(self.nodes[number].layer, Layer::MaxPool { .. });
                if let Some(after) = next[number + 1] {
                    let behind =
                        is_pool(number) && !takes_spikes && rises(&self.nodes[after].layer);
                    let before = is_pool(after)
                        && takes_spikes
                        && matches!(node.layer, Layer::ScaleShift { .. })
                        && rises(&node.layer);
                    if behind || before {
                        let (head, tail) = self.nodes.split_at_mut(after);
                        std::mem::swap(&mut head[number].layer, &mut tail[0].layer);
                        std::mem::swap(&mut head[number].name, &mut tail[0].name);
                        moved = true;
                    }
                }
                let node = &self.nodes[number];
                takes_spikes &= matches!(node.layer, Layer::MaxPool { .. } | Layer::Concat);
                spikes.push(takes_spikes || node.layer.fires());
            }
        }
        self
    }
}
