//! A spiking network on the tape, a layer over all its timesteps after the other.

use dfdx::prelude::{
    Axes3, Axis, BroadcastTo, Device, Gradients, HasShape, MeanTo, ReshapeTo, SumTo, Tape, Tensor,
    Trace, TryMul,
};

use crate::ann::layers::Layer;
use crate::ann::typed::backward;
use crate::base::error::{Error, Result};
use crate::data::shape::Shape;
use crate::ops::backend::{Flat, Values};
use crate::simulate::neurons::Neurons;
use crate::through_time::fire::FireShape;
use crate::through_time::fire::Fires;
use crate::through_time::steps::{Dense, Fire, Step, tensor};
use crate::through_time::surrogate::Surrogate;

/// What flows between layers: values of each input, once or for every timestep.
struct Flow<D: Device<f32>, T> {
    x: Flat<f32, D, T>,
    frames: usize,
}

/// A network made ready: as a spiking one over some timesteps, or as an ANN.
pub(crate) struct Unrolled<D: Device<f32>> {
    pub steps: Vec<Step<D>>,
    classes: usize,
    timesteps: usize,
    surrogate: Surrogate,
}

impl<D: Fires> Unrolled<D> {
    pub fn spiking(
        device: &D,
        (input, layers): (Shape, &[Layer]),
        neurons: &[Neurons],
        timesteps: usize,
        surrogate: Surrogate,
    ) -> Result<Self> {
        let (steps, output) = Dense::new(device, Some(neurons)).build(layers, input)?;
        Ok(Self {
            steps,
            classes: output.size(),
            timesteps,
            surrogate,
        })
    }

    pub fn ann(device: &D, (input, layers): (Shape, &[Layer])) -> Result<Self> {
        let (steps, output) = Dense::new(device, None).build(layers, input)?;
        Ok(Self {
            steps,
            classes: output.size(),
            timesteps: 1,
            surrogate: Surrogate::default(),
        })
    }

    /// Output currents of every timestep of each input, and of each layer of neurons the spikes of
    /// all inputs in every timestep. All else stays on the device.
    pub fn count(&self, x: Values<D>, inputs: usize) -> Result<(Vec<f32>, Vec<Vec<u64>>)> {
        let mut counts = Vec::new();
        let fire = &mut |fire: &Fire<D>, z| {
            let ones = tensor(fire.charge.device(), vec![1.0; fire.channels])?;
            let spikes = self.fire(fire, z, inputs, &ones)?;
            let each = (inputs, self.timesteps, fire.channels, fire.positions);
            let counted = spikes.try_reshape_like(&each).and_then(|spikes| {
                let sums = spikes.clone().try_sum::<(usize,), Axes3<0, 2, 3>>()?;
                let charges = fire.charge.clone();
                let charges = charges.try_broadcast_like::<_, Axes3<0, 1, 3>>(&each)?;
                let size = (inputs * self.timesteps * fire.channels * fire.positions,);
                Ok((sums, spikes.try_mul(charges)?.try_reshape_like(&size)?))
            });
            let (sums, charges) = counted.map_err(Error::device)?;
            counts.push(sums.as_vec().into_iter().map(|sum| sum as u64).collect());
            Ok(charges)
        };
        // Sums in their order: on a grid they are exact.
        let flow = self.advance(&self.steps, Flow { x, frames: 1 }, (inputs, true), fire)?;
        let output = flow.over(self.timesteps, inputs)?.as_vec();
        Ok((output, counts))
    }

    /// Logits: of a spiking network the output current's mean over the timesteps, with every input
    /// a constant current.
    pub fn logits<T: Tape<f32, D>>(
        &self,
        x: Flat<f32, D, T>,
        inputs: usize,
    ) -> Result<Tensor<(usize, usize), f32, D, T>> {
        let fire = &mut |fire: &Fire<D>, z| self.fire(fire, z, inputs, &fire.charge);
        let flow = self.advance(&self.steps, Flow { x, frames: 1 }, (inputs, false), fire)?;
        let each = (inputs, flow.frames, self.classes);
        let mean = flow.x.try_reshape_like(&each);
        mean.and_then(|x| x.try_mean::<(usize, usize), Axis<1>>())
            .map_err(Error::device)
    }

    fn advance<T: Tape<f32, D>>(
        &self,
        steps: &[Step<D>],
        mut flow: Flow<D, T>,
        (inputs, plainly): (usize, bool),
        fire: &mut impl FnMut(&Fire<D>, Flat<f32, D, T>) -> Result<Flat<f32, D, T>>,
    ) -> Result<Flow<D, T>> {
        for step in steps {
            flow = match step {
                Step::Add { body, shortcut } => {
                    let other = Flow {
                        x: flow.x.retaped(),
                        frames: flow.frames,
                    };
                    let body = self.advance(body, flow, (inputs, plainly), fire)?;
                    let shortcut = self.advance(shortcut, other, (inputs, plainly), fire)?;
                    let frames = body.frames.max(shortcut.frames);
                    let [a, b] = [body, shortcut].map(|flow| flow.over(frames, inputs));
                    let x = D::sum(a?, b?).map_err(Error::device)?;
                    Flow { x, frames }
                }
                Step::Fire(neurons) => Flow {
                    x: fire(neurons, flow.x)?,
                    frames: self.timesteps,
                },
                step => Flow {
                    x: step.forward(flow.x, inputs * flow.frames, plainly)?,
                    ..flow
                },
            };
        }
        Ok(flow)
    }

    fn fire<T: Tape<f32, D>>(
        &self,
        fire: &Fire<D>,
        z: Flat<f32, D, T>,
        inputs: usize,
        charge: &Values<D>,
    ) -> Result<Flat<f32, D, T>> {
        let shape = FireShape {
            inputs,
            timesteps: self.timesteps,
            channels: fire.channels,
            positions: fire.positions,
            neurons: fire.neurons.clone(),
            surrogate: self.surrogate,
        };
        let parameters = [&fire.threshold, &fire.leak, charge].map(Tensor::retaped);
        D::fire(z, parameters, shape).map_err(Error::device)
    }
}

impl<D: Device<f32>, T: Tape<f32, D>> Flow<D, T> {
    /// The values, again for every timestep.
    fn over(self, frames: usize, inputs: usize) -> Result<Flat<f32, D, T>> {
        if self.frames == frames {
            return Ok(self.x);
        }
        let (all, each) = (self.x.shape().0, self.x.shape().0 / inputs.max(1));
        let rows = self.x.try_reshape_like(&(inputs, each));
        rows.and_then(|x| x.try_broadcast_like::<_, Axis<1>>(&(inputs, frames, each)))
            .and_then(|x| x.try_reshape_like(&(all * frames,)))
            .map_err(Error::device)
    }
}

impl<D: Fires> Unrolled<D> {
    /// One tape: the loss (mean cross-entropy with class probabilities), the logits, and all
    /// gradients, of which those by `x` and by the steps' tensors are kept.
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

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::Cpu;

    use crate::through_time::reference::trace;

    /// Values that look random, and lie in 0..1.
    fn noise(count: usize, seed: usize) -> Vec<f32> {
        let of = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        (0..count).map(of).collect()
    }

    /// Convolution, pooling, a residual sum of what is constant and what is not, two layers of
    /// neurons: logits are the mean of the reference's output currents.
    #[test]
    fn an_unrolled_network_is_the_reference() {
        let dyadic = |count: usize, seed| -> Vec<f32> {
            let noise = noise(count, seed).into_iter();
            noise.map(|x| ((x - 0.4) * 16.0).round() / 16.0).collect()
        };
        let conv = |inputs, seed| Layer::Conv {
            weight: dyadic(4 * inputs * 9, seed),
            bias: Some(dyadic(4, seed + 1)),
            inputs,
            outputs: 4,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let layers = [
            conv(1, 1),
            Layer::Residual {
                body: vec![Layer::Neurons, conv(4, 5)],
                shortcut: vec![],
            },
            Layer::AvgPool { size: 2 },
            Layer::Neurons,
            Layer::Linear {
                weight: dyadic(3 * 16, 9),
                bias: None,
                inputs: 16,
                outputs: 3,
            },
        ];
        let neurons = [Neurons::new([0.75]), Neurons::new([0.5, 1.0, 0.25, 1.5])];
        let (input, count, timesteps) = (Shape::new(1, 4, 4), 3, 8);
        let images = dyadic(16 * count, 21);
        let device = Cpu::default();
        let network = (input, &layers[..]);
        let unrolled =
            Unrolled::spiking(&device, network, &neurons, timesteps, Surrogate::Linear).unwrap();
        let x = tensor(&device, images.clone()).unwrap();
        let found = unrolled.logits(x, count).unwrap().as_vec();
        let traces = trace(&device, input, &layers, &neurons, &images, count, timesteps).unwrap();
        let mean = |trace: &crate::simulate::Trace| -> Vec<f32> {
            let sum = |class: usize| trace.output.iter().map(|row| row[class]).sum::<f32>();
            (0..3).map(|class| sum(class) / timesteps as f32).collect()
        };
        assert_eq!(found, traces.iter().flat_map(mean).collect::<Vec<_>>());
        assert!(
            traces
                .iter()
                .all(|trace| trace.spikes.concat().concat().len() > 20)
        );
    }
}
