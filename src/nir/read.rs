//! Reading of networks from NIR graphs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::iter;
use std::path::Path;

use hdf5_pure::File;

use super::fields::{Fields, Source};
use super::graph::{Axes, DT, ROUNDING, identity, spread};
use super::nodes::{Network, Wire};
use crate::ann::{CHANNELS_FIRST, Classifier, Graph, Layer};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::simulate::{Neurons, Snn, SpikingNetwork, Stages};

impl<N: Classifier> Snn<N> {
    /// Reads the network of a NIR file. See [`SpikingNetwork::load`].
    ///
    /// # Errors
    /// Returns an error if [`SpikingNetwork::load`] does, or if the layers are not those of `N`, or of
    /// its task if they are known at run time.
    pub fn load(path: impl AsRef<Path>, dt: Option<f64>) -> Result<Self> {
        let network = SpikingNetwork::load(&path, dt)?;
        let outline = |stages: &Stages| -> Vec<String> {
            let layers = stages.stages.iter();
            let layers = layers.map(|stage| format!("{} to {}", stage.name, stage.output));
            let input = iter::once(format!("an input of {}", stages.input()));
            input.chain(layers).chain(["nothing".into()]).collect()
        };
        let found = outline(&network.stages);
        let expected = match N::layers()? {
            Some(layers) => outline(&Stages::new(layers)?),
            None => found.clone(),
        };
        let differ = found.iter().zip(&expected).find(|(a, b)| a != b);
        let place = format!("layers of {}", N::NAME);
        let wrong = |found: &str, expected: &str| {
            Error::data(path.as_ref().display(), &place, found, expected)
        };
        match differ {
            Some((found, expected)) => Err(wrong(found, expected)),
            None => {
                let check = network.check_task::<N::Task>();
                check.map_err(|error| wrong(&error.to_string(), "a network of the task"))?;
                Self::new(network.stages, network.neurons)
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
        let most = graph.most_weights();
        let (network, neurons) = Reader::new(&graph, dt)?.network()?;
        let stages = Stages::within(network, most);
        stages.and_then(|stages| Self::of(stages.into(), neurons)).map_err(|error| {
            let expected = "a network that evospike can simulate";
            Error::data(path.display(), "graph", error, expected)
        })
    }
}

/// Graph that is being read.
struct Reader<'a> {
    graph: &'a Fields<'a>,
    nodes: Vec<Fields<'a>>,
    /// Nodes that the edges of each node lead to.
    next: Vec<Vec<usize>>,
    /// Nodes whose edges lead to each node, in the order of the file.
    from: Vec<Vec<usize>>,
    /// Number of them that are not read yet.
    left: Vec<usize>,
    /// Seconds per timestep, as the caller says.
    dt: Option<f64>,
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
        let mut next = vec![Vec::new(); names.len()];
        let mut before = next.clone();
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
            before[to].push(from);
        }
        let children = names.iter().map(|name| nodes.child(name));
        Ok(Self {
            nodes: children.collect::<Result<_>>()?,
            graph,
            next,
            left: before.iter().map(Vec::len).collect(),
            from: before,
            dt,
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

    /// Reads the layers and their neurons.
    fn network(mut self) -> Result<(Graph, Vec<Neurons>)> {
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
        let mut network = Network { graph: Graph::new(shape), neurons: Vec::new(), dt };
        let mut wires: Vec<Option<Wire>> = vec![None; self.nodes.len()];
        // The first node all of whose inputs are read: in our files, the order of the layers.
        let mut ready = BTreeSet::from([input]);
        let mut end = None;
        while let Some(node) = ready.pop_first() {
            let next = std::mem::take(&mut self.next[node]);
            let wire = match node == input {
                true => self.from[node].is_empty().then(|| Wire::image(Axes { shape, flat })),
                false => {
                    let before = self.from[node].iter().filter_map(|&from| wires[from].clone());
                    let wire = network.join(&self.nodes[node], before.collect())?;
                    let mut output = wire.clone();
                    network.drop_identity(&mut output);
                    let read = network.read(&self.nodes[node], wire)?;
                    if read.is_none() && end.is_none() && next.is_empty() {
                        end = Some(output);
                        continue;
                    }
                    read
                }
            };
            let Some(mut wire) = wire.filter(|_| !next.is_empty()) else {
                return Err(self.wrong_edges(node));
            };
            if next.len() > 1 {
                wire.fork();
            }
            wires[node] = Some(wire);
            for node in next {
                self.left[node] -= 1;
                if self.left[node] == 0 {
                    ready.insert(node);
                }
            }
        }
        let unread =
            (0..kinds.len()).find(|&node| wires[node].is_none() && kinds[node] != "Output");
        let Some(end) = end.filter(|_| unread.is_none()) else {
            return Err(self.wrong_edges(unread.unwrap_or(input)));
        };
        let Network { mut graph, neurons, .. } = network;
        graph.keep_what_reaches(end.value);
        let (classes, positions) =
            (end.axes.shape.size(), end.axes.shape.height * end.axes.shape.width);
        if positions > 1 {
            // A value for each class, from neurons that are the last layer and an image.
            let (of, most) = (self.graph, self.graph.most_weights());
            let found = format_args!("{classes} neurons as the last layer");
            let expected = format_args!("one a class, {} at most", most.isqrt());
            of.require(classes <= most / classes, found, expected)?;
            graph.then(Layer::Linear {
                weight: identity(classes).collect(),
                bias: None,
                inputs: classes,
                outputs: classes,
                order: CHANNELS_FIRST,
            });
        }
        Ok((graph, neurons))
    }

    fn wrong_edges(&self, node: usize) -> Error {
        let found = "edges that lead round in a circle, past the output or nowhere";
        self.nodes[node].wrong(found, "ways from the input to the output")
    }
}
