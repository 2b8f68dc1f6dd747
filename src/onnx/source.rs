//! The typed network that a graph is.

use crate::ann::graph::Graph;
use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
use crate::data::Shape;

/// Number of layers in a tuple of dfdx.
const MOST_IN_TUPLE: usize = 6;
/// Largest depth of sums inside each other.
const MOST_NESTED: usize = 8;

/// Source of the network as typed layers, or the first layer that none of them is.
pub(super) fn source(graph: &Graph, shapes: &[Shape]) -> Result<String, String> {
    let input = graph.input;
    let classes = shapes.last().map_or(0, |shape| shape.channels);
    if input.height != input.width {
        return Err(format!("images of {input}, which are not square"));
    }
    let mut takers = vec![Vec::new(); shapes.len()];
    for (number, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&value| takers[value].push(number));
    }
    let reader = Reader { graph, shapes, takers };
    let (layers, _, end) = reader.chain(0, None, false, 0)?;
    if end.is_some() {
        return Err("a sum of values that no one layer gives".into());
    }
    // A block ends in neurons.
    let blocks = layers.split_inclusive(|layer| layer == "Relu").map(|block| tuple(block.to_vec()));
    let blocks: Vec<String> = blocks.collect();
    let blocks = groups(blocks).join(",\n        ");
    let (channels, side) = (input.channels, input.height);
    Ok(format!(
        "network! {{\n    pub Net for data::Classify<{channels}, {side}, {classes}> = (\n        \
         {blocks},\n    );\n}}"
    ))
}

/// At most as many parts as a tuple has.
fn groups(mut parts: Vec<String>) -> Vec<String> {
    while parts.len() > MOST_IN_TUPLE {
        let groups = parts.chunks(MOST_IN_TUPLE).map(|group| tuple(group.to_vec()));
        parts = groups.collect();
    }
    parts
}

fn tuple(parts: Vec<String>) -> String {
    match &groups(parts)[..] {
        [one] => one.clone(),
        parts => format!("({})", parts.join(", ")),
    }
}

struct Reader<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    /// Nodes that take each value.
    takers: Vec<Vec<usize>>,
}

/// Layers that follow each other, whether what they give is flat, and the sum that they lead to.
type Chain = (Vec<String>, bool, Option<usize>);

impl Reader<'_> {
    /// The layers from a value on, or from the node `first` that takes it.
    fn chain(
        &self,
        mut value: usize,
        first: Option<usize>,
        mut flat: bool,
        depth: usize,
    ) -> Result<Chain, String> {
        let mut layers = Vec::new();
        let mut next = first.map_or(self.takers[value].clone(), |first| vec![first]);
        loop {
            match next[..] {
                [] => return Ok((layers, flat, None)),
                [one] if self.graph.nodes[one].layer == Layer::Sum => {
                    return Ok((layers, flat, Some(one)));
                }
                [one] => {
                    self.layer(one, self.shapes[value], &mut layers, &mut flat)?;
                    value = one + 1;
                }
                [one, other] if depth < MOST_NESTED => {
                    let (one, other) = (
                        self.chain(value, Some(one), flat, depth + 1)?,
                        self.chain(value, Some(other), flat, depth + 1)?,
                    );
                    let (Some(sum), true) = (one.2, one.2 == other.2) else {
                        return Err("branches that no sum of two joins".into());
                    };
                    if self.graph.nodes[sum].inputs.len() != 2 {
                        return Err("a sum of more than two".into());
                    }
                    let (body, shortcut) =
                        if one.0.is_empty() { (other, one) } else { (one, other) };
                    if body.0.is_empty() {
                        return Err("a sum of a value with itself".into());
                    }
                    flat = body.1;
                    let (body, shortcut) = (tuple(body.0), shortcut.0);
                    layers.push(match shortcut.is_empty() {
                        true => format!("ResidualAdd<{body}>"),
                        false => format!("ResidualAdd<{body}, {}>", tuple(shortcut)),
                    });
                    value = sum + 1;
                }
                _ => return Err("sums inside sums, or a value that three layers take".into()),
            }
            next.clone_from(&self.takers[value]);
        }
    }

    fn layer(
        &self,
        number: usize,
        from: Shape,
        layers: &mut Vec<String>,
        flat: &mut bool,
    ) -> Result<(), String> {
        let node = &self.graph.nodes[number];
        let (channels, side, out) = (from.channels, from.height, self.shapes[number + 1].height);
        let plain = |window: &Window| {
            let [size, stride] = [window.size[0], window.stride[0]];
            let square = Window { padding: window.padding, ..Window::square(size, stride, 0) };
            *window == square
        };
        let text = match &node.layer {
            Layer::Conv { bias, outputs, window, groups: 1, .. }
                if plain(window)
                    && window.padding == [window.size[0] / 2; 4]
                    && from.height == from.width =>
            {
                let (size, stride) = (window.size[0], window.stride[0]);
                let conv = match (size, stride) {
                    (3, 1) => format!("Conv3x3<{channels}, {outputs}, {side}>"),
                    (3, 2) => format!("Conv3x3Stride2<{channels}, {outputs}, {side}, {out}>"),
                    (1, 2) => format!("Conv1x1Stride2<{channels}, {outputs}, {side}, {out}>"),
                    _ => format!("Conv<{channels}, {outputs}, {size}, {stride}, {side}, {out}>"),
                };
                match bias {
                    None => conv,
                    Some(_) => format!("{conv}, Bias2D<{outputs}>"),
                }
            }
            Layer::AvgPool { window, .. }
                if window.size == [from.height, from.width]
                    && window.padding == [0; 4]
                    && !*flat =>
            {
                *flat = true;
                format!("GlobalAvgPool<{channels}, {side}>")
            }
            Layer::AvgPool { window, .. }
                if *window == Window::square(2, 2, 0) && side.is_multiple_of(2) =>
            {
                format!("AvgPool2<{channels}, {side}, {out}>")
            }
            Layer::ScaleShift { .. } if *flat => format!("BatchNorm1d<{channels}>"),
            Layer::ScaleShift { .. } => format!("BatchNorm<{channels}, {side}>"),
            Layer::Linear { bias, inputs, outputs, order, .. }
                if *order == CHANNELS_FIRST || from.height * from.width == 1 =>
            {
                if !std::mem::replace(flat, true) {
                    layers.push(format!("Flatten<{channels}, {side}, {inputs}>"));
                }
                match bias {
                    None => format!("UnbiasedLinear<{inputs}, {outputs}>"),
                    Some(_) => format!("Linear<{inputs}, {outputs}>"),
                }
            }
            Layer::Neurons => "Relu".into(),
            layer => return Err(format!("`{}`: {}", node.name, layer.kind())),
        };
        layers.push(text);
        Ok(())
    }
}
