//! A spiking network unrolled over its timesteps, and an ANN of the same layers.

use std::cell::RefCell;
use std::collections::VecDeque;

use dfdx::prelude::{Axis, Device, Gradients, MeanTo, ReshapeTo, Tape, Tensor, Trace};

use super::fire::{Carried, FireShape, Fires, Spikes, charges, graded_spikes, spikes};
use super::steps::{Fire, Flow, Steps, build, max_pool};
use super::surrogate::Surrogate;
use crate::ann::{Graph, backward};
use crate::base::{Error, Result, require};
use crate::ops::{Accelerated, Flat, Patches, Values};
use crate::simulate::Neurons;

/// What the layers of neurons and the max pools keep between two runs of some timesteps, in their
/// order: of the run before, and of this one.
pub(crate) struct Memory<D: Device<f32>>(VecDeque<Carried<D>>, VecDeque<Carried<D>>);

impl<D: Device<f32>> Memory<D> {
    /// That of networks at rest.
    pub fn new() -> Self {
        Self(VecDeque::new(), VecDeque::new())
    }
}

/// A network on a device, as a spiking one over some timesteps or as an ANN.
pub(crate) struct Unrolled<D: Device<f32>> {
    pub steps: Steps<D>,
    classes: usize,
    timesteps: usize,
    surrogate: Surrogate,
}

impl<D: Accelerated<f32>> Unrolled<D> {
    pub fn spiking(
        device: &D,
        graph: &Graph,
        neurons: &[Neurons],
        timesteps: usize,
        surrogate: Surrogate,
    ) -> Result<Self> {
        let steps = build(device, graph, Some(neurons))?;
        Ok(Self { classes: steps.output.size(), steps, timesteps, surrogate })
    }

    pub fn ann(device: &D, graph: &Graph) -> Result<Self> {
        let (steps, surrogate) = (build(device, graph, None)?, Surrogate::default());
        Ok(Self { classes: steps.output.size(), steps, timesteps: 1, surrogate })
    }

    /// Output currents by input, timestep and output, from inputs of one frame each or of one per
    /// timestep. Neurons and convolutions run by definition, and go on from `memory`, empty at the
    /// start, for `timesteps`; `see` gets the spikes of every layer of neurons in order, `pooled` the
    /// values of every max pool. What they do not read stays on the device.
    pub fn run(
        &self,
        x: Values<D>,
        (inputs, frames): (usize, usize),
        (timesteps, memory): (usize, &mut Memory<D>),
        mut see: impl FnMut(Spikes<D>) -> Result<(), D::Err>,
        mut pooled: impl FnMut(Values<D>) -> Result<(), D::Err>,
    ) -> Result<Vec<f32>> {
        let memory = RefCell::new(memory);
        let fire = &mut |fire: &Fire<D>, flow: Flow<D, _>| {
            let parameters = [fire.threshold.clone(), fire.leak.clone()];
            let (shape, charge) = (self.shape(fire, inputs, timesteps), fire.charge.clone());
            let before = memory.borrow_mut().0.pop_front();
            let spikes = match fire.neurons.spikes.is_plain() {
                true => spikes(flow.x, parameters, &shape, before),
                false => graded_spikes(flow.x, parameters, &shape, before),
            };
            let x = spikes.and_then(|(spikes, after)| {
                memory.borrow_mut().1.push_back(after);
                see(spikes.clone())?;
                charges(spikes, charge)
            });
            fired(x, inputs, timesteps)
        };
        let pool = &mut |patches: &Patches, flow: Flow<D, _>| {
            let before = memory.borrow_mut().0.pop_front().and_then(|mut sums| sums.pop());
            let (flow, after) = max_pool(flow, patches, before).map_err(Error::device)?;
            memory.borrow_mut().1.push_back(after.into_iter().collect());
            pooled(flow.x.clone()).map_err(Error::device)?;
            Ok(flow)
        };
        let flow = Flow { x, inputs, frames, fired: false };
        let flow = self.steps.forward(flow, true, fire, pool)?;
        let output = flow.over(timesteps)?.x.as_vec();
        let memory = memory.into_inner();
        memory.0 = std::mem::take(&mut memory.1);
        Ok(output)
    }

    fn shape(&self, fire: &Fire<D>, inputs: usize, timesteps: usize) -> FireShape {
        FireShape {
            inputs,
            timesteps,
            channels: fire.channels,
            positions: fire.positions,
            neurons: fire.neurons.clone(),
            surrogate: self.surrogate,
        }
    }
}

fn fired<D: Device<f32>, T>(
    charges: Result<Flat<f32, D, T>, D::Err>,
    inputs: usize,
    frames: usize,
) -> Result<Flow<D, T>> {
    Ok(Flow { x: charges.map_err(Error::device)?, inputs, frames, fired: true })
}

impl<D: Fires> Unrolled<D> {
    /// Logits by input and class, of inputs that are the same in all timesteps: in a spiking network
    /// the output current's mean over the timesteps.
    pub fn logits<T: Tape<f32, D>>(
        &self,
        x: Flat<f32, D, T>,
        inputs: usize,
    ) -> Result<Tensor<(usize, usize), f32, D, T>> {
        let fire = &mut |fire: &Fire<D>, flow: Flow<D, T>| {
            let plain = fire.neurons.spikes.is_plain();
            let found = format!("{:?}", fire.neurons.spikes);
            require(plain, "neurons", found, "plain spikes, the only ones with derivatives")?;
            let parameters = [&fire.threshold, &fire.leak, &fire.charge].map(Tensor::retaped);
            let charges = D::fire(flow.x, parameters, self.shape(fire, inputs, self.timesteps));
            fired(charges, inputs, self.timesteps)
        };
        let pool = &mut |patches: &Patches, flow: Flow<D, T>| {
            max_pool(flow, patches, None).map(|(flow, _)| flow).map_err(Error::device)
        };
        let flow = Flow { x, inputs, frames: 1, fired: false };
        let flow = self.steps.forward(flow, false, fire, pool)?;
        let each = (inputs, flow.frames, self.classes);
        let mean = flow.x.try_reshape_like(&each);
        mean.and_then(|x| x.try_mean::<(usize, usize), Axis<1>>()).map_err(Error::device)
    }

    /// Backpropagation through time: the loss (mean cross-entropy with class probabilities
    /// `targets`), the logits, and the gradients, of which those by `x` and by the parameters on the
    /// device are kept.
    pub fn gradients(
        &self,
        x: &Values<D>,
        targets: Vec<f32>,
    ) -> Result<(f32, Vec<f32>, Gradients<f32, D>)> {
        let inputs = targets.len() / self.classes;
        let logits = self.logits(x.leaky_trace(), inputs)?;
        let values = logits.as_vec();
        let (loss, gradients) = backward(logits, targets)?;
        Ok((loss, values, gradients))
    }
}
