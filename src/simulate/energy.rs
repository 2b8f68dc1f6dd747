//! Energy of the spiking network and of the ANN, estimated from numbers of operations.
//!
//! The energy of an operation is that of 32-bit floating-point arithmetic at 45 nm and 0.9 V
//! (Horowitz, ISSCC 2014): 0.9 pJ per accumulation, 4.6 pJ per multiply-accumulate. Memory and
//! control are not counted, as in most papers on conversion, so that the numbers compare networks
//! but are not those of a chip.
//!
//! Operations are counted like in these papers (Rathi and Roy 2021, "DIET-SNN"; Lu and Sengupta
//! 2020), for each layer of weights before pooling is folded into it:
//!
//! - ANN: M multiply-accumulates, where M = outputs x inputs for a linear layer and height x width
//!   x outputs x inputs x kernel² for a convolution, including its padding;
//! - SNN: M accumulations times the number of spikes per input neuron over the timesteps. The
//!   engine itself adds less, see [`LayerSpikes`](crate::simulate::LayerSpikes);
//! - first layer with the direct code: M multiply-accumulates once per image, since its current is
//!   the same in every timestep (Zhou et al. 2023, "Spikformer"). Hardware that cannot store the
//!   current needs M in every timestep: [`Energy::recomputed`]. With other codes, the first layer
//!   accumulates spikes like the others;
//! - behind max pooling, the spikes are those that the pool emits;
//! - pooling, additions of shortcuts, biases and updates of neurons are not counted.

use serde::{Deserialize, Serialize};

use super::network::SpikingNetwork;
use super::simulator::Simulation;
use super::synapses::Source;
use crate::base::{Error, Result, Table, show};

/// Energy of one accumulation, in picojoules.
pub const ACCUMULATE: f64 = 0.9;
/// Energy of one multiply-accumulate, in picojoules.
pub const MULTIPLY_ACCUMULATE: f64 = 4.6;

/// Number of operations per image in a run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Number of timesteps.
    pub timesteps: usize,
    /// Operations of each layer of weights; layers that end in the same neurons count as one.
    pub layers: Vec<LayerOperations>,
}

/// Number of operations per image in one layer of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerOperations {
    /// Description of the layer.
    pub name: String,
    /// Number of multiply-accumulates of the ANN.
    pub ann: f64,
    /// Number of accumulations of the SNN, caused by spikes.
    pub accumulates: f64,
    /// Number of multiply-accumulates of the SNN, for the image with the direct code.
    pub multiply_accumulates: f64,
}

impl LayerOperations {
    fn picojoules(&self) -> f64 {
        ACCUMULATE * self.accumulates + MULTIPLY_ACCUMULATE * self.multiply_accumulates
    }
}

impl SpikingNetwork {
    /// Computes the energy of the first `timesteps` of a run of this network, for example up to the
    /// latency, `run.curve.latency(&target)`.
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// # let digits = data::digits()?.split(Shares::default(), 0)?;
    /// # let ann = Ann::<DigitsCnn>::new(0)?;
    /// # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
    /// let target = ann.target(&digits.test, 1.0)?;
    /// let run = simulate(&snn, &digits.test, 64)?;
    /// let energy = snn.energy(&run, 64)?; // of the whole run
    /// println!("{:.2} of the ANN's energy", energy.ratio());
    /// if let Some(latency) = run.curve.latency(&target) {
    ///     println!("{:.2} up to the latency", snn.energy(&run, latency)?.ratio());
    /// }
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the run is of another network, or `timesteps` is 0 or more than the run
    /// has.
    pub fn energy(&self, run: &Simulation, timesteps: usize) -> Result<Energy> {
        self.check_run(run)?;
        let stages = &self.stages.stages;
        if !(1..=run.curve.timesteps()).contains(&timesteps) {
            let expected = format!("1..={}, the run's", run.curve.timesteps());
            return Err(Error::parameter("timesteps", timesteps, expected));
        }
        let images = run.curve.images() as f64;
        // Spikes per image and neuron.
        let rate = |spikes: &[u64], neurons: usize| {
            spikes.iter().take(timesteps).sum::<u64>() as f64 / images / neurons as f64
        };
        let layers = stages.iter().map(|stage| {
            let mut operations = LayerOperations {
                name: stage.name.clone(),
                ann: stage.products as f64,
                accumulates: 0.0,
                multiply_accumulates: 0.0,
            };
            for synapses in &stage.synapses {
                let products = synapses.products as f64;
                match (synapses.source, &run.input) {
                    (Source::Neurons(layer), _) => {
                        let layer = &run.layers[layer];
                        operations.accumulates += products * rate(&layer.spikes, layer.neurons);
                    }
                    (Source::Pool(pool), _) => {
                        let neurons = self.stages.pools[pool].output.size();
                        let spikes = run.pools.get(pool).map_or(&[][..], |pool| &pool[..]);
                        operations.accumulates += products * rate(spikes, neurons);
                    }
                    (Source::Image, Some(spikes)) => {
                        operations.accumulates +=
                            products * rate(spikes, self.stages.input().size());
                    }
                    (Source::Image, None) => operations.multiply_accumulates += products,
                }
            }
            operations
        });
        Ok(Energy { timesteps, layers: layers.collect() })
    }

    /// Returns an error if the run is of another network.
    pub(crate) fn check_run(&self, run: &Simulation) -> Result<()> {
        let sizes = self.stages.stages.iter().map(|stage| stage.output.size());
        if sizes.eq(run.layers.iter().map(|layer| layer.neurons)) {
            return Ok(());
        }
        let sizes: Vec<usize> = run.layers.iter().map(|layer| layer.neurons).collect();
        let found = format!("layers of {sizes:?} neurons");
        Err(Error::parameter("run", found, "a run of this network"))
    }
}

impl Energy {
    /// Energy of the SNN per image, in picojoules.
    pub fn snn_picojoules(&self) -> f64 {
        self.layers.iter().map(LayerOperations::picojoules).sum()
    }

    /// Energy of the ANN per image, in picojoules.
    pub fn ann_picojoules(&self) -> f64 {
        let layers = self.layers.iter();
        layers.map(|layer| MULTIPLY_ACCUMULATE * layer.ann).sum()
    }

    /// Energy of the SNN divided by that of the ANN.
    pub fn ratio(&self) -> f64 {
        self.snn_picojoules() / self.ann_picojoules()
    }

    /// Energy with the multiply-accumulates of the image repeated in every timestep.
    pub fn recomputed(mut self) -> Self {
        for layer in &mut self.layers {
            layer.multiply_accumulates *= self.timesteps as f64;
        }
        self
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            format!(
                "Energy an image over {} timesteps: {:.3} of the ANN's ({MULTIPLY_ACCUMULATE} pJ a \
                 MAC, {ACCUMULATE} pJ an AC)",
                self.timesteps,
                self.ratio()
            ),
            ["layer", "synapses", "ANN MACs", "SNN MACs", "SNN ACs", "ANN nJ", "SNN nJ"],
        );
        let row = |layer: &LayerOperations, [ann, snn]: [f64; 2]| {
            let counts = [layer.ann, layer.multiply_accumulates, layer.accumulates];
            let counts = counts.map(|count| format!("{count:.0}"));
            let energies = [ann, snn].map(|picojoules| format!("{:.3}", picojoules / 1e3));
            [counts.to_vec(), energies.to_vec()].concat()
        };
        let mut all = LayerOperations {
            name: "all".into(),
            ann: 0.0,
            accumulates: 0.0,
            multiply_accumulates: 0.0,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            all.ann += layer.ann;
            all.accumulates += layer.accumulates;
            all.multiply_accumulates += layer.multiply_accumulates;
            let energies = [MULTIPLY_ACCUMULATE * layer.ann, layer.picojoules()];
            let cells = [i.to_string(), layer.name.clone()].into_iter();
            table.row(cells.chain(row(layer, energies)));
        }
        let energies = [self.ann_picojoules(), self.snn_picojoules()];
        let cells = [String::new(), all.name.clone()].into_iter();
        table.row(cells.chain(row(&all, energies)));
        table
    }
}

show!(impl [] Energy as table);

#[cfg(test)]
mod tests;
