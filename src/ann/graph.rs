//! Feed-forward networks as graphs of plain layers: what typed and imported networks are behind the
//! door.

use flate2::Crc;

use super::layers::Layer;
use crate::base::{Error, Result, one_line};
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
        if !(1..=super::layers::MOST_VALUES).contains(&pixels) {
            let expected = format!("1 to {} pixels", super::layers::MOST_VALUES);
            return Err(Error::network(format!("an image of {}", self.input), expected));
        }
        let mut shapes = vec![self.input];
        for (number, node) in self.nodes.iter().enumerate() {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &value in &node.inputs {
                let Some(&shape) = shapes.get(value) else {
                    let found = format!("input {value}");
                    let expected = format!("0 to {number}, the image and the layers before");
                    let kind = format!("{} `{}`", node.layer.kind(), node.name);
                    return Err(Error::layer(number, kind, found, expected));
                };
                inputs.push(shape);
            }
            shapes.push(node.layer.output(number, &node.name, &inputs)?);
        }
        Ok(shapes)
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
}
