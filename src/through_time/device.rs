//! The work of a device: simulation, logits and gradients of a network.

use std::ops::Range;

use dfdx::prelude::Cpu;
use rayon::prelude::*;

use super::fire::Fires;
use super::reference::{KEPT, run};
use super::steps::{Step, tensor};
use super::unrolled::Unrolled;
use crate::ann::{Classifier, Layer};
use crate::base::Result;
use crate::simulate::{Device, Snn, SpikingNetwork, TapeGradients, Unrolling, Wanted};

/// The work of device `D`.
pub(crate) fn device<D: Fires>() -> Device {
    Device {
        name: std::any::type_name::<D>(),
        run: run::<D>,
        logits: logits::<D>,
        gradients: gradients::<D>,
    }
}

/// Device of a network's logits and gradients.
pub(crate) fn device_of(network: &SpikingNetwork) -> Device {
    network.device.unwrap_or_else(device::<Cpu>)
}

impl SpikingNetwork {
    /// The network on device `D`: dfdx's `Cuda`, or its `Cpu` to compare. Accuracy, numbers of
    /// spikes, outputs, evolution, training through time and attacks are then computed there, by the
    /// definitions of [`reference`](super::reference), spike for spike equal where sums are exact.
    /// What needs every single spike still runs on the CPU's engine: traces, first spikes,
    /// calibration, live early exit.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no such device.
    pub fn on<D: Fires>(&self) -> Result<Self> {
        D::again()?;
        Ok(Self { device: Some(device::<D>()), ..self.clone() })
    }
}

impl<N: Classifier> Snn<N> {
    /// The network on device `D`, as by [`SpikingNetwork::on`].
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// use dfdx::prelude::Cpu; // or Cuda
    /// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
    /// let snn = snn.on::<Cpu>()?;
    /// let run = simulate(&snn, &parts.test, 64)?;
    /// let evolution = evolve(&snn, &parts.held_out, &target, &EvolveSettings::default())?;
    /// let hybrid = train_through_time(&snn, &parts.training, &HybridSettings::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no such device.
    pub fn on<D: Fires>(&self) -> Result<Self> {
        let mut snn = self.clone();
        snn.network = self.network.on::<D>()?;
        Ok(snn)
    }
}

fn unrolled<D: Fires>(network: &Unrolling<'_>) -> Result<Unrolled<D>> {
    let device = D::again()?;
    match network.neurons {
        Some(neurons) => {
            let (timesteps, surrogate) = (network.timesteps, network.surrogate);
            Unrolled::spiking(&device, network.graph, neurons, timesteps, surrogate)
        }
        None => Unrolled::ann(&device, network.graph),
    }
}

/// Number of inputs on a tape, `most` or as many as `kept` values are enough for; at least one.
fn tape(network: &Unrolling<'_>, kept: usize, most: usize) -> Result<usize> {
    let shapes = network.graph.shapes()?;
    let each = network.graph.nodes.iter().zip(&shapes[1..]).map(|(node, output)| {
        let windows = match &node.layer {
            Layer::Conv { weight, outputs, groups, .. } => {
                weight.len() / outputs * groups * output.height * output.width
            }
            _ => 0,
        };
        windows + output.size() * if node.layer.fires() { PER_NEURON } else { 1 }
    });
    let each = each.sum::<usize>() * network.timesteps;
    Ok((kept / each.max(1)).clamp(1, most))
}

/// Values that a tape keeps for a neuron in a timestep, about.
const PER_NEURON: usize = 8;

/// Runs `each` on the inputs of every tape, in their order, with the network on the device. On a CPU
/// tapes run on all threads, and on a card on this one as long as there is one of them.
fn on_tapes<D: Fires, T: Send>(
    network: &Unrolling<'_>,
    inputs: &[f32],
    each: impl Fn(&Unrolled<D>, Range<usize>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let count = inputs.len() / network.graph.input.size();
    let tape = tape(network, KEPT, D::TAPE)?;
    let run = |built: &mut Option<Unrolled<D>>, first: usize| {
        let unrolled = match built {
            Some(unrolled) => unrolled,
            None => built.insert(unrolled(network)?),
        };
        each(unrolled, first..count.min(first + tape))
    };
    match count <= tape {
        true => Ok(vec![run(&mut None, 0)?]),
        false => {
            let tapes = (0..count).into_par_iter().step_by(tape);
            tapes.map_init(|| None, run).collect()
        }
    }
}

fn logits<D: Fires>(network: &Unrolling<'_>, inputs: &[f32]) -> Result<Vec<f32>> {
    let size = network.graph.input.size();
    let each = |unrolled: &Unrolled<D>, own: Range<usize>| {
        let x = tensor(&D::again()?, inputs[own.start * size..own.end * size].to_vec())?;
        Ok(unrolled.logits(x, own.len())?.as_vec())
    };
    Ok(on_tapes(network, inputs, each)?.concat())
}

fn gradients<D: Fires>(
    network: &Unrolling<'_>,
    inputs: &[f32],
    targets: &[f32],
    wanted: Wanted,
) -> Result<Vec<TapeGradients>> {
    let size = network.graph.input.size();
    let classes = targets.len() * size / inputs.len().max(1);
    on_tapes(network, inputs, |unrolled: &Unrolled<D>, own: Range<usize>| {
        let x = tensor(&D::again()?, inputs[own.start * size..own.end * size].to_vec())?;
        let targets = targets[own.start * classes..own.end * classes].to_vec();
        let (loss, logits, by) = unrolled.gradients(&x, targets)?;
        let steps = &unrolled.steps.steps;
        let tensors: Vec<_> = match wanted {
            Wanted::Inputs => vec![&x],
            Wanted::Parameters => {
                let neurons = steps.iter().flat_map(Step::parameters);
                steps.iter().flat_map(Step::weights).chain(neurons).collect()
            }
        };
        let tensors = tensors.into_iter().map(|tensor| by.get(tensor).as_vec()).collect();
        Ok(TapeGradients { inputs: own.len(), loss, logits, tensors })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::Graph;
    use crate::ann::layers::linear;
    use crate::data::Shape;
    use crate::through_time::surrogate::Surrogate;

    #[test]
    fn tapes_hold_as_many_inputs_as_fit() {
        let layers = [linear(vec![0.5; 4], 1), Layer::Neurons, linear(vec![0.5; 8], 4)];
        let graph = Graph::chain(Shape::new(1, 1, 1), layers);
        let surrogate = Surrogate::default();
        let network = Unrolling { graph: &graph, neurons: None, timesteps: 10, surrogate };
        // In each timestep 4 currents, 8 values for each of 4 neurons, and 2 outputs.
        for (kept, expected) in [(1, 1), (380, 1), (759, 1), (760, 2), (1 << 20, 8)] {
            assert_eq!(tape(&network, kept, 8).unwrap(), expected, "{kept}");
        }
    }
}
