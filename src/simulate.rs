//! Simulation over timesteps, and the accuracy after every one of them from a single run.
//!
//! What a neuron does in a timestep is defined in [`neurons`](mod@crate::neurons). Layers update in
//! order within a timestep, with no delay between them. The image itself is the first layer's input
//! at every timestep (direct coding), and the output layer has no neurons: it sums its input
//! current over the timesteps, and the largest sum is the prediction.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::convert::Snn;
use crate::data::{Images, Part, Samples, Task};
use crate::engine::{Drive, Engine};
use crate::error::{Error, Result};
use crate::layers::{Layer, Shape, Source, Stages, to_channels_last};
use crate::metrics::{AccuracyCurve, Hits, predict};
use crate::networks::Network;
use crate::neurons::Neurons;
use crate::plot;
use crate::report::show;

/// What one run over some images gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Accuracy after every timestep.
    pub curve: AccuracyCurve,
    /// Which images were right after every timestep.
    pub hits: Hits,
    /// Activity of every layer of neurons, and last of the output layer, which does not spike.
    pub layers: Vec<LayerSpikes>,
}

/// Activity of one layer in a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpikes {
    /// Neurons in the layer; classes of the output layer.
    pub neurons: usize,
    /// Spikes of all its neurons on all images, in each timestep.
    pub spikes: Vec<u64>,
    /// Synaptic operations: weights that the spikes that arrive add to its input currents, on all
    /// images, in each timestep. Average pooling is part of the weights before it.
    pub operations: Vec<u64>,
}

impl LayerSpikes {
    fn none(timesteps: usize) -> Self {
        Self {
            neurons: 0,
            spikes: vec![0; timesteps],
            operations: vec![0; timesteps],
        }
    }
}

impl Simulation {
    /// Spikes of layer `layer` for each image.
    pub fn spikes_per_image(&self, layer: usize) -> f64 {
        self.layers[layer].spikes.iter().sum::<u64>() as f64 / self.curve.images() as f64
    }

    /// Spikes a neuron a timestep in layer `layer`, 0..=1.
    pub fn firing_rate(&self, layer: usize) -> f64 {
        let neurons = self.layers[layer].neurons;
        self.spikes_per_image(layer) / (neurons * self.curve.timesteps()) as f64
    }

    fn chart(&self) -> Result<plot::Chart> {
        let name = format!("{} images", self.curve.images());
        plot::accuracy(
            "Accuracy after every timestep",
            &[(&name, &self.curve)],
            None,
        )
    }
}

show!(impl [] Simulation as chart);

/// Runs the network on every image for `timesteps` timesteps.
///
/// # Errors
/// No image or no timestep.
pub fn simulate<N: Network, P: Part>(
    snn: &Snn<N>,
    images: &Images<P, N::Task>,
    timesteps: usize,
) -> Result<Simulation> {
    snn.network.simulate(images, timesteps)
}

/// A spiking network without types, as every [`Snn`] is one: made of plain layers at run time.
///
/// ```
/// use evospike::layers::{Layer, Shape};
/// use evospike::neurons::Neurons;
/// use evospike::simulate::SpikingNetwork;
///
/// let linear = |weight: Vec<f32>, inputs, outputs| Layer::Linear { weight, bias: None, inputs, outputs };
/// let layers = [linear(vec![0.5], 1, 1), Layer::Neurons, linear(vec![1.0, 2.0], 1, 2)];
/// let network = SpikingNetwork::new(Shape::new(1, 1, 1), &layers, vec![Neurons::new([1.0])], 2)?;
/// let trace = network.trace(&[1.0], 4)?; // a current of 0.5 at every timestep
/// assert_eq!(trace.spikes[0], [vec![], vec![0], vec![], vec![0]]);
/// assert_eq!(trace.output[1], [1.0, 2.0]);
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SpikingNetwork {
    pub(crate) stages: std::sync::Arc<Stages>,
    pub(crate) neurons: Vec<Neurons>,
}

/// Everything that a run on one image showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Layer by layer and timestep by timestep, the neurons that fired, in order; numbered by
    /// channel, row, column.
    pub spikes: Vec<Vec<Vec<usize>>>,
    /// Current into the output layer in each timestep, not summed over them: one value a class.
    pub output: Vec<Vec<f32>>,
}

impl SpikingNetwork {
    /// Layers that take an input of this shape and give one value for each of `classes`, with the
    /// parameters of every layer of neurons in order.
    ///
    /// # Errors
    /// Layers that do not fit each other, weights that are not finite, parameters out of range.
    pub fn new(
        input: Shape,
        layers: &[Layer],
        neurons: Vec<Neurons>,
        classes: usize,
    ) -> Result<Self> {
        Self::of(Stages::new(input, layers, classes)?.into(), neurons)
    }

    pub(crate) fn of(stages: std::sync::Arc<Stages>, neurons: Vec<Neurons>) -> Result<Self> {
        Engine::new(&stages, &neurons)?;
        Ok(Self { stages, neurons })
    }

    /// The same network with 16-bit weights, half the memory and about twice the speed: for each
    /// output channel the weights between neurons are rounded to multiples of the smallest power
    /// of two with which no sum of them can leave 16 bits. It is another network, simulated
    /// exactly; compare its accuracy. Layers whose neurons have a threshold for every channel, or
    /// that get the image itself, go on with 32 bits (the former with rounded weights).
    pub fn quantised(&self) -> Self {
        Self {
            stages: Stages::clone(&self.stages).quantised().into(),
            neurons: self.neurons.clone(),
        }
    }

    /// Parameters of every layer of neurons.
    pub fn neurons(&self) -> &[Neurons] {
        &self.neurons
    }

    /// Runs on every image for `timesteps` timesteps.
    ///
    /// # Errors
    /// No image or no timestep; images of another shape, or of more classes, than the network's.
    pub fn simulate<P: Part, K: Task>(
        &self,
        images: &Images<P, K>,
        timesteps: usize,
    ) -> Result<Simulation> {
        let classes = self.stages.stages[self.neurons.len()].output.size();
        if K::SHAPE != self.stages.input || K::CLASSES != classes {
            return Err(Error::parameter(
                "images",
                format!("{} of {} classes", K::SHAPE, K::CLASSES),
                format!(
                    "{} of {classes} classes, as the network's",
                    self.stages.input
                ),
            ));
        }
        Simulator::new(&self.stages, images.view())?.run(&self.neurons, timesteps)
    }

    /// Runs on one input, the same at every timestep, or one for each timestep after the other:
    /// channels, rows, columns.
    ///
    /// # Errors
    /// No timestep, or not as many values as an input has, or as all timesteps' inputs have.
    pub fn trace(&self, input: &[f32], timesteps: usize) -> Result<Trace> {
        if timesteps == 0 {
            return Err(Error::parameter("timesteps", 0, "1 or more"));
        }
        let size = self.stages.input.size();
        if input.len() != size && input.len() != size * timesteps {
            return Err(Error::parameter(
                "input",
                format!("{} values", input.len()),
                format!("{size}, or {size} for each of {timesteps} timesteps"),
            ));
        }
        let drives = drives(&self.stages, input);
        let drives: Vec<_> = drives
            .iter()
            .map(|drive| {
                drive.as_deref().map(match input.len() == size {
                    true => Drive::Constant as fn(_) -> _,
                    false => Drive::Varying,
                })
            })
            .collect();
        let engine = Engine::new(&self.stages, &self.neurons)?;
        let mut trace = Trace {
            spikes: vec![Vec::new(); self.neurons.len()],
            output: Vec::new(),
        };
        engine.run(&drives, timesteps, &mut engine.scratch(), |chunk| {
            for t in 0..chunk.timesteps {
                trace.output.push(chunk.output(t).collect());
                let layers = chunk.events.iter().zip(&self.stages.stages);
                for ((events, stage), spikes) in layers.zip(&mut trace.spikes) {
                    let Shape {
                        channels,
                        height,
                        width,
                    } = stage.output;
                    let number = |&i: &u32| {
                        let (position, channel) = (i as usize / channels, i as usize % channels);
                        channel * height * width + position
                    };
                    let mut fired: Vec<usize> = events.at(t).iter().map(number).collect();
                    fired.sort_unstable();
                    spikes.push(fired);
                }
            }
        });
        Ok(trace)
    }
}

/// Current that an input makes flow into each stage, without the bias; none into those that only
/// spikes reach. Some inputs after each other give their currents after each other.
fn drives(stages: &Stages, inputs: &[f32]) -> Vec<Option<Vec<f32>>> {
    let mut image = vec![0.0; stages.input.size()];
    let from_image = |stage: &crate::layers::Stage| {
        stage
            .synapses
            .iter()
            .any(|synapses| synapses.source == Source::Image)
    };
    let mut drive = |stage: &crate::layers::Stage| {
        let mut current = Vec::new();
        for input in inputs.chunks_exact(stages.input.size()) {
            to_channels_last(stages.input, input, &mut image);
            let start = current.len();
            current.resize(start + stage.output.size(), 0.0);
            for synapses in &stage.synapses {
                if synapses.source == Source::Image {
                    synapses.add_dense(&image, &mut current[start..]);
                }
            }
        }
        current
    };
    let stages = stages.stages.iter();
    stages
        .map(|stage| from_image(stage).then(|| drive(stage)))
        .collect()
}

/// Images made ready for many runs with other neurons.
pub(crate) struct Simulator<'a> {
    stages: &'a Stages,
    images: Samples<'a>,
    /// What each image makes flow; kept where that takes little memory, since it is the same in
    /// every run.
    drives: Option<Vec<Vec<Option<Vec<f32>>>>>,
}

/// Values that a [`Simulator`] keeps: half a GiB.
const KEPT: usize = 1 << 27;

impl<'a> Simulator<'a> {
    pub fn new(stages: &'a Stages, images: Samples<'a>) -> Result<Self> {
        if images.len() == 0 {
            return Err(Error::parameter("images", "none", "at least one"));
        }
        let mut simulator = Self {
            stages,
            images,
            drives: None,
        };
        if images.len().saturating_mul(stages.stages[0].output.size()) <= KEPT {
            let all = (0..images.len()).into_par_iter();
            simulator.drives = Some(all.map(|image| simulator.drives(image)).collect());
        }
        Ok(simulator)
    }

    fn drives(&self, image: usize) -> Vec<Option<Vec<f32>>> {
        let pixels: Vec<f32> = self.images.input(image).collect();
        drives(self.stages, &pixels)
    }

    pub fn run(&self, neurons: &[Neurons], timesteps: usize) -> Result<Simulation> {
        if timesteps == 0 {
            return Err(Error::parameter("timesteps", 0, "1 or more"));
        }
        let engine = Engine::new(self.stages, neurons)?;
        let nothing = || vec![LayerSpikes::none(timesteps); self.stages.stages.len()];
        let mut hits = vec![false; self.images.len() * timesteps];
        // Whole numbers add up to the same in any order: any number of threads gives the same.
        let counts = hits
            .par_chunks_exact_mut(timesteps)
            .enumerate()
            .fold(
                || (nothing(), engine.scratch()),
                |(mut counts, mut scratch), (image, hits)| {
                    let fresh = match &self.drives {
                        Some(_) => Vec::new(),
                        None => self.drives(image),
                    };
                    let drives = self.drives.as_ref().map_or(&fresh, |drives| &drives[image]);
                    let drives: Vec<_> = drives
                        .iter()
                        .map(|d| d.as_deref().map(Drive::Constant))
                        .collect();
                    let label = self.images.label(image);
                    let mut sum = vec![0.0; self.stages.stages[neurons.len()].output.size()];
                    engine.run(&drives, timesteps, &mut scratch, |chunk| {
                        for t in 0..chunk.timesteps {
                            sum.iter_mut()
                                .zip(chunk.output(t))
                                .for_each(|(sum, z)| *sum += z);
                            hits[chunk.first + t] = predict(&sum) == label;
                            for (i, counts) in counts.iter_mut().enumerate() {
                                let spikes = chunk.events.get(i).map_or(0, |e| e.at(t).len());
                                counts.spikes[chunk.first + t] += spikes as u64;
                                counts.operations[chunk.first + t] += chunk.operations[i][t];
                            }
                        }
                    });
                    (counts, scratch)
                },
            )
            .map(|(counts, _)| counts)
            .reduce(nothing, |mut a, b| {
                for (a, b) in a.iter_mut().zip(&b) {
                    a.spikes
                        .iter_mut()
                        .zip(&b.spikes)
                        .for_each(|(a, b)| *a += b);
                    a.operations
                        .iter_mut()
                        .zip(&b.operations)
                        .for_each(|(a, b)| *a += b);
                }
                a
            });
        let hits = Hits::new(timesteps, hits);
        let layers = self.stages.stages.iter().zip(counts);
        Ok(Simulation {
            curve: hits.curve(),
            hits,
            layers: layers
                .map(|(stage, counts)| LayerSpikes {
                    neurons: stage.output.size(),
                    ..counts
                })
                .collect(),
        })
    }
}
