//! Reading of networks from NIR graphs.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::path::Path;

use hdf5_pure::File;

use super::fields::{Fields, Source};
use super::graph::{Axes, DT, ROUNDING, identity, spread};
use super::nodes::Branch;
use crate::ann::{Ann, Layer, Network, linear};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::simulate::{Neurons, Snn, SpikingNetwork, Stages};

/// Largest depth of residual additions inside each other.
const MOST_NESTED: usize = 32;

impl<N: Network> Snn<N> {
    /// Reads the network of a NIR file. See [`SpikingNetwork::load`].
    ///
    /// # Errors
    /// Returns an error if [`SpikingNetwork::load`] does, or if the layers are not those of `N`.
    pub fn load(path: impl AsRef<Path>, dt: Option<f64>) -> Result<Self> {
        let network = SpikingNetwork::load(&path, dt)?;
        let outline = |stages: &Stages| -> Vec<String> {
            let layers = stages.stages.iter();
            let layers = layers.map(|stage| format!("{} to {}", stage.name, stage.output));
            let input = iter::once(format!("an input of {}", stages.input));
            input.chain(layers).chain(["nothing".into()]).collect()
        };
        let found = outline(&network.stages);
        let expected = outline(&Stages::of_ann(&Ann::<N>::new(0)?)?);
        match found.iter().zip(expected).find(|(a, b)| *a != b) {
            None => Self::new(network.stages, network.neurons),
            Some((found, expected)) => {
                let place = format!("layers of {}", N::NAME);
                Err(Error::data(path.as_ref().display(), place, found, expected))
            }
        }
    }
}

impl SpikingNetwork {
    /// Reads the network of a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// `dt` is the length of a timestep in seconds; none if the file tells it, as those of evospike
    /// do.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is damaged or is not HDF5, if it does not tell
    /// the length of a timestep or tells another than `dt`, or if a node is of a kind that evospike
    /// has no layer for, does not fit the node before it, has values out of range or is part of a
    /// loop.
    pub fn load(path: impl AsRef<Path>, dt: Option<f64>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let source = Source::new(path, &bytes);
        let file = File::from_bytes(bytes)
            .map_err(|error| Error::data(path.display(), "header", error, "an HDF5 file"))?;
        let graph = Fields::new(&source, "node", &file.root())?;
        let (input, layers, neurons, classes) = Reader::new(&graph, dt)?.network()?;
        Self::new(input, &layers, neurons, classes).map_err(|error| {
            let expected = "a network that evospike can simulate";
            Error::data(path.display(), "graph", error, expected)
        })
    }
}

/// Graph that is being read.
struct Reader<'a> {
    graph: &'a Fields<'a>,
    nodes: Vec<Fields<'a>>,
    /// Nodes that the edges of each node lead to, in the order of the file; none once it is read.
    next: Vec<Option<Vec<usize>>>,
    /// Number of edges that lead to each node.
    incoming: Vec<usize>,
    /// Seconds per timestep, as the caller says.
    dt: Option<f64>,
    neurons: Vec<Neurons>,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a Fields<'a>, dt: Option<f64>) -> Result<Self> {
        let kind = graph.text("type")?;
        graph.require(kind == "NIRGraph", &kind, "NIRGraph")?;
        let nodes = graph.child("nodes")?;
        let names = nodes.group.groups();
        let names = names.map_err(|error| graph.wrong(error, "groups of nodes"))?;
        let (edges, shape) = graph.texts("edges")?;
        let found = format_args!("edges of shape {shape:?}");
        graph.require(matches!(shape[..], [_, 2]), found, "two names an edge")?;
        let numbers: HashMap<&String, usize> = names.iter().zip(0..).collect();
        let (mut next, mut incoming) = (vec![Vec::new(); names.len()], vec![0; names.len()]);
        let mut seen = HashSet::new();
        for edge in edges.chunks_exact(2) {
            let number = |name: &String| {
                let number = numbers.get(name).copied();
                number.ok_or_else(|| graph.wrong(format!("an edge of `{name}`"), "one of a node"))
            };
            let (from, to) = (number(&edge[0])?, number(&edge[1])?);
            let found = format_args!("the edge from `{}` to `{}` twice", edge[0], edge[1]);
            graph.require(seen.insert((from, to)), found, "every edge once")?;
            next[from].push(to);
            incoming[to] += 1;
        }
        let children = names.iter().map(|name| nodes.child(name));
        Ok(Self {
            nodes: children.collect::<Result<_>>()?,
            graph,
            next: next.into_iter().map(Some).collect(),
            incoming,
            dt,
            neurons: Vec::new(),
        })
    }

    /// Seconds per timestep: as the caller or the file says, or else those with which every layer of
    /// neurons adds its input once per timestep, as r = τ/dt, or 1/dt without leak, has it.
    fn timestep(&self, kinds: &[String]) -> Result<f64> {
        let graph = self.graph;
        let mut dt = self.dt;
        if graph.has("metadata/dt")? {
            let said = graph.floats("metadata/dt")?.0;
            let good = matches!(said[..], [said] if dt.is_none_or(|dt| dt == said));
            let expected = dt.map_or("one number".into(), |dt| format!("{dt}, as `load` was told"));
            graph.require(good, format_args!("dt {said:?}"), expected)?;
            dt = said.first().copied();
        }
        if let Some(dt) = dt {
            let good = dt > 0.0 && dt.is_finite();
            graph.require(good, format_args!("dt {dt}"), "a number of seconds above 0")?;
            return Ok(dt);
        }
        for (node, kind) in self.nodes.iter().zip(kinds) {
            let constants = match kind.as_str() {
                "LIF" => node.floats("tau")?.0,
                "IF" => vec![1.0],
                _ => continue,
            };
            let resistances = node.floats("r")?.0;
            let unit = resistances.iter().all(|&r| r == 1.0);
            let counts = unit && kind == "IF"; // timesteps, whatever their length
            if counts || resistances.is_empty() || constants.is_empty() {
                continue;
            }
            let most = resistances.len().max(constants.len());
            for (constant, r) in spread(&constants, most).zip(spread(&resistances, most)) {
                let told = constant / r;
                let told = if (told / DT - 1.0).abs() < ROUNDING { DT } else { told };
                let same = told > 0.0 && dt.is_none_or(|dt| (told / dt - 1.0).abs() < ROUNDING);
                let found = format_args!("r {r}, which does not tell the length of a timestep");
                let expected = "the same τ/r in all neurons, or dt as an argument of `load`";
                node.require(same && !unit && told.is_finite(), found, expected)?;
                dt = dt.or(Some(told));
            }
        }
        Ok(dt.unwrap_or(DT))
    }

    /// Reads the shape of the input, the layers, the neurons and the number of classes.
    fn network(mut self) -> Result<(Shape, Vec<Layer>, Vec<Neurons>, usize)> {
        let kinds = self.nodes.iter().map(|node| node.text("type"));
        let kinds: Vec<String> = kinds.collect::<Result<_>>()?;
        let dt = self.timestep(&kinds)?;
        let inputs = (0..kinds.len()).filter(|&node| kinds[node] == "Input");
        let inputs: Vec<usize> = inputs.collect();
        let [input] = inputs[..] else {
            let found = format!("{} nodes `Input`", inputs.len());
            return Err(self.graph.wrong(found, "one"));
        };
        let node = &self.nodes[input];
        let sizes = node.sizes()?;
        let (shape, flat) = match sizes[..] {
            [size] => (Shape::new(size, 1, 1), true),
            [channels, height, width] => (Shape::new(channels, height, width), false),
            _ => {
                let expected = "one axis, or channels, rows and columns";
                return Err(node.wrong(format!("shape {sizes:?}"), expected));
            }
        };
        let branch = Branch {
            layers: Vec::new(),
            axes: Axes { shape, flat },
            charge: vec![1.0],
            weights: None,
            end: input,
            edges: 1,
        };
        let all = self.branch(branch, dt, 0)?;
        if all.edges > 0 {
            return Err(self.wrong_edges(all.end));
        }
        if let Some(apart) = self.next.iter().position(Option::is_some) {
            return Err(self.wrong_edges(apart));
        }
        let (mut layers, classes) = (all.layers, all.axes.shape.size());
        // The engine's last layer does not spike: it counts the spikes of neurons that are last.
        if let Some(Layer::Neurons) = layers.last() {
            let (graph, most) = (self.graph, self.graph.most_weights());
            let found = format_args!("{classes} neurons as the last layer");
            let expected = format_args!("one a class, {} at most", most.isqrt());
            graph.require(classes <= most / classes, found, expected)?;
            layers.push(linear(identity(classes).collect(), classes));
        }
        Ok((shape, layers, self.neurons, classes))
    }

    fn wrong_edges(&self, node: usize) -> Error {
        let found = "edges that lead round in a circle, past the output or apart for good";
        self.nodes[node].wrong(found, "a chain, or two ways from one node to another")
    }

    /// Reads on from the end of `branch` to the output or to a node that other branches lead to.
    fn branch(&mut self, mut branch: Branch, dt: f64, nested: usize) -> Result<Branch> {
        let mut joined = false;
        loop {
            let node = branch.end;
            if self.incoming[node] > 1 && !joined {
                branch.drop_identity(&self.neurons);
                return Ok(branch);
            }
            let Some(next) = self.next[node].take() else {
                return Err(self.wrong_edges(node));
            };
            // Only the input has no edge that leads to it.
            let output =
                self.incoming[node] > 0 && branch.read(&self.nodes[node], dt, &mut self.neurons)?;
            match (&next[..], output) {
                ([], true) => return Ok(Branch { edges: 0, ..branch }),
                (&[next], false) => (branch.end, joined) = (next, false),
                (&[one, other], false) if nested < MOST_NESTED => {
                    let [one, other] = [one, other].map(|next| branch.fork(next));
                    let mut body = self.branch(one, dt, nested + 1)?;
                    let mut shortcut = self.branch(other, dt, nested + 1)?;
                    if body.end != shortcut.end || body.edges == 0 || shortcut.edges == 0 {
                        return Err(self.wrong_edges(node));
                    }
                    if body.layers.is_empty() {
                        (body, shortcut) = (shortcut, body);
                    }
                    branch.join(&self.nodes[body.end], body, shortcut)?;
                    joined = branch.edges == self.incoming[branch.end];
                    if !joined {
                        return Ok(branch);
                    }
                    branch.edges = 1;
                }
                _ => return Err(self.wrong_edges(node)),
            }
        }
    }
}
