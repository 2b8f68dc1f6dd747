//! Simulation over timesteps, and the accuracy after every one of them from a single run.
//!
//! In every timestep, layer by layer with no delay between layers, every neuron does
//!
//! ```text
//! v(t) = v(t-1) + z(t)          integrate the input current z
//! s(t) = 1 if v(t) >= θ else 0  fire at the threshold θ
//! v(t) = v(t) - θ s(t)          soft reset: subtract the threshold
//! ```
//!
//! from v(0) = 0 (Rueckauer et al. 2017, equations 2 to 4). The image itself is the first layer's
//! input at every timestep (direct coding), a spike carries the threshold θ of its layer, and the
//! output layer has no threshold: it sums its input current over the timesteps.
//!
//! Since a layer reads only the layers before it in the same timestep, the engine computes all
//! timesteps of one layer before it goes on to the next. The first layer's current is the same at
//! every timestep and is computed once an image. Spikes are few, so currents are sums over the
//! spikes of the rows of weights that they reach.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::convert::{Snn, images_channels_last};
use crate::data::{Images, Part, Samples};
use crate::error::{Error, Result};
use crate::layers::{Stage, Stages};
use crate::metrics::{AccuracyCurve, Hits, predict};
use crate::networks::Network;
use crate::plot;
use crate::report::show;

/// What one run over some images gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Accuracy after every timestep.
    pub curve: AccuracyCurve,
    /// Which images were right after every timestep.
    pub hits: Hits,
    /// Spikes of every layer of neurons.
    pub layers: Vec<LayerSpikes>,
}

/// Spikes of one layer of neurons in a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpikes {
    /// Neurons in the layer.
    pub neurons: usize,
    /// Spikes of all its neurons in all timesteps of all images.
    pub spikes: u64,
}

impl Simulation {
    /// Spikes of layer `layer` for each image.
    pub fn spikes_per_image(&self, layer: usize) -> f64 {
        self.layers[layer].spikes as f64 / self.curve.images() as f64
    }

    /// Spikes a neuron a timestep in layer `layer`, 0..=1.
    pub fn firing_rate(&self, layer: usize) -> f64 {
        let LayerSpikes { neurons, .. } = self.layers[layer];
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
    Simulator::new(&snn.stages, images.view())?.run(snn.thresholds(), timesteps)
}

/// Images made ready for many runs with other thresholds.
pub(crate) struct Simulator<'a> {
    stages: &'a Stages,
    images: Samples<'a>,
    /// Current into the first layer of neurons: image by image, the same at every timestep.
    first: Vec<f32>,
}

/// What the engine works in, one for each thread.
struct Scratch {
    input: Spikes,
    output: Spikes,
    current: Vec<f32>,
    potential: Vec<f32>,
}

/// The spikes of a layer for one image: the neurons that fired, timestep after timestep.
#[derive(Default)]
struct Spikes {
    neurons: Vec<u32>,
    ends: Vec<usize>,
}

impl Spikes {
    fn clear(&mut self) {
        self.neurons.clear();
        self.ends.clear();
    }

    fn at(&self, timestep: usize) -> &[u32] {
        let start = timestep
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        &self.neurons[start..self.ends[timestep]]
    }
}

impl<'a> Simulator<'a> {
    pub fn new(stages: &'a Stages, images: Samples<'a>) -> Result<Self> {
        if images.len() == 0 {
            return Err(Error::parameter("images", "none", "at least one"));
        }
        let stage = &stages.stages[0];
        let pixels = images_channels_last(stages, images);
        let mut first = vec![0.0; images.len() * stage.output.size()];
        first
            .par_chunks_exact_mut(stage.output.size())
            .zip(pixels.par_chunks_exact(stage.input.size()))
            .for_each(|(current, image)| stage.forward(image, current));
        Ok(Self {
            stages,
            images,
            first,
        })
    }

    pub fn run(&self, thresholds: &[f32], timesteps: usize) -> Result<Simulation> {
        if timesteps == 0 {
            return Err(Error::parameter("timesteps", 0, "1 or more"));
        }
        let mut hits = vec![false; self.images.len() * timesteps];
        // Whole numbers add up to the same in any order: any number of threads gives the same.
        let nothing = || vec![0; self.stages.spiking()];
        let spikes = hits
            .par_chunks_exact_mut(timesteps)
            .enumerate()
            .fold(
                || (nothing(), self.scratch()),
                |(mut spikes, mut scratch), (image, hits)| {
                    self.image(image, thresholds, &mut scratch, hits, &mut spikes);
                    (spikes, scratch)
                },
            )
            .map(|(spikes, _)| spikes)
            .reduce(nothing, |mut a, b: Vec<u64>| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            });
        let hits = Hits::new(timesteps, hits);
        let layers = self.stages.stages.iter().zip(spikes);
        Ok(Simulation {
            curve: hits.curve(),
            hits,
            layers: layers
                .map(|(stage, spikes)| LayerSpikes {
                    neurons: stage.output.size(),
                    spikes,
                })
                .collect(),
        })
    }

    fn scratch(&self) -> Scratch {
        let stages = &self.stages.stages;
        let widest = stages.iter().map(|s| s.output.size()).max().unwrap_or(0);
        Scratch {
            input: Spikes::default(),
            output: Spikes::default(),
            current: vec![0.0; widest],
            potential: vec![0.0; widest],
        }
    }

    fn image(
        &self,
        image: usize,
        thresholds: &[f32],
        scratch: &mut Scratch,
        hits: &mut [bool],
        spikes: &mut [u64],
    ) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as was just found.
            return unsafe { self.image_avx2(image, thresholds, scratch, hits, spikes) };
        }
        self.image_anywhere(image, thresholds, scratch, hits, spikes);
    }

    /// The same code, compiled for wider vectors; the same sums in the same order.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn image_avx2(
        &self,
        image: usize,
        thresholds: &[f32],
        scratch: &mut Scratch,
        hits: &mut [bool],
        spikes: &mut [u64],
    ) {
        self.image_anywhere(image, thresholds, scratch, hits, spikes);
    }

    #[inline(always)]
    fn image_anywhere(
        &self,
        image: usize,
        thresholds: &[f32],
        scratch: &mut Scratch,
        hits: &mut [bool],
        spikes: &mut [u64],
    ) {
        let timesteps = hits.len();
        let Scratch {
            input,
            output,
            current,
            potential,
        } = scratch;
        let (last, hidden) = (&self.stages.stages[thresholds.len()], thresholds.len());
        for (layer, stage) in self.stages.stages[..hidden].iter().enumerate() {
            let neurons = stage.output.size();
            let (current, potential) = (&mut current[..neurons], &mut potential[..neurons]);
            potential.fill(0.0);
            output.clear();
            if layer == 0 {
                let constant = &self.first[image * neurons..][..neurons];
                for _ in 0..timesteps {
                    integrate_and_fire(potential, constant, 1.0, thresholds[0], output);
                }
            } else {
                for t in 0..timesteps {
                    let charge = thresholds[layer - 1];
                    sum_currents(stage, charge, input.at(t), current);
                    integrate_and_fire(potential, current, charge, thresholds[layer], output);
                }
            }
            spikes[layer] += output.neurons.len() as u64;
            std::mem::swap(input, output);
        }
        let classes = last.output.size();
        let (current, sum) = (&mut current[..classes], &mut potential[..classes]);
        sum.fill(0.0);
        let label = self.images.label(image);
        for (t, hit) in hits.iter_mut().enumerate() {
            sum_currents(last, thresholds[hidden - 1], input.at(t), current);
            for (sum, current) in sum.iter_mut().zip(&*current) {
                *sum += current * thresholds[hidden - 1];
            }
            *hit = predict(sum) == label;
        }
    }
}

/// The current in units of `charge`, what a spike of the layer before carries.
#[inline(always)]
fn sum_currents(stage: &Stage, charge: f32, spikes: &[u32], current: &mut [f32]) {
    stage.rest(charge, current);
    for &neuron in spikes {
        stage.add(neuron as usize, 1.0, current);
    }
}

/// One timestep of a layer. A spike of the layer before carried `charge`.
#[inline(always)]
fn integrate_and_fire(
    potential: &mut [f32],
    current: &[f32],
    charge: f32,
    threshold: f32,
    spikes: &mut Spikes,
) {
    // Most neurons do not fire: a block that holds none that does is one pass of vector code.
    const BLOCK: usize = 16;
    let blocks = potential.chunks_mut(BLOCK).zip(current.chunks(BLOCK));
    for (block, (potential, current)) in blocks.enumerate() {
        let mut fires = false;
        for (v, z) in potential.iter_mut().zip(current) {
            *v += z * charge;
            fires |= *v >= threshold;
        }
        if fires {
            for (i, v) in potential.iter_mut().enumerate() {
                if *v >= threshold {
                    *v -= threshold;
                    spikes.neurons.push((block * BLOCK + i) as u32);
                }
            }
        }
    }
    spikes.ends.push(spikes.neurons.len());
}
