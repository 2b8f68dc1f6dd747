//! Optimisers and learning-rate schedules: how gradients change a network's weights.

use dfdx::nn::{TensorOptions, TensorVisitor, ViewTensorMut};
use dfdx::prelude::{
    AdamConfig, Device, Gradients, HasErr, Momentum, SgdConfig, Shape, Tensor, WeightDecay,
};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// What a step makes of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimiser {
    /// Stochastic gradient descent as PyTorch's `SGD`: the decayed weights are part of the
    /// gradient.
    Sgd {
        /// Share of its velocity that a weight keeps from step to step, 0..1; 0 for none.
        momentum: f64,
        /// Whether a step looks ahead along the velocity (Nesterov 1983).
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).
    Adam,
}

impl Optimiser {
    /// SGD with Nesterov momentum of 0.9, as convolutional networks are commonly trained.
    pub const NESTEROV: Self = Self::Sgd {
        momentum: 0.9,
        nesterov: true,
    };

    pub(crate) fn check(self) -> Result<()> {
        if let Self::Sgd { momentum, nesterov } = self {
            if !(0.0..1.0).contains(&momentum) {
                let expected = "0 to less than 1";
                return Err(Error::parameter("momentum", momentum, expected));
            }
            if nesterov && momentum == 0.0 {
                let expected = "more than 0 where it is Nesterov's";
                return Err(Error::parameter("momentum", momentum, expected));
            }
        }
        Ok(())
    }

    /// Running means that it keeps for each weight.
    pub(crate) fn moments(self) -> usize {
        match self {
            Self::Sgd { .. } => 1,
            Self::Adam => 2,
        }
    }
}

/// How the learning rate changes over a training run, after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Stays as it is.
    Constant,
    /// Falls to 0 along a line.
    Linear,
    /// Falls to 0 along half a cosine (Loshchilov and Hutter 2017).
    Cosine,
}

impl Schedule {
    /// Share of the learning rate at `step`, from 0, of `steps`. In the first `warmup` of them it
    /// rises along a line to the whole.
    pub fn share(self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / (warmup + 1) as f64;
        }
        let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Linear => (1.0 - done).max(0.0),
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
        }
    }
}

/// One step of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The rule.
    pub optimiser: Optimiser,
    /// From 1. The first forgets what the optimiser knew from steps before.
    pub number: usize,
    /// At this step.
    pub learning_rate: f64,
    /// At this step.
    pub weight_decay: f64,
}

/// Visits every parameter once a step. dfdx's own optimisers do the same on the same kernels, but
/// keep their moments private, so that training could not be resumed.
pub(crate) struct Update<'a, D: Device<f32>> {
    pub step: &'a Step,
    /// As many as [`Optimiser::moments`].
    pub moments: &'a mut [Gradients<f32, D>],
    pub gradients: &'a mut Gradients<f32, D>,
}

impl<D: Device<f32>> TensorVisitor<f32, D> for Update<'_, D> {
    type Viewer = ViewTensorMut;
    type Err = <D as HasErr>::Err;
    type E2 = f32;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        options: TensorOptions<S, f32, D>,
        parameter: &mut Tensor<S, f32, D>,
    ) -> Result<Option<Tensor<S, f32, D>>, Self::Err> {
        if options.do_gradient_update {
            self.apply(parameter)?;
        }
        Ok(None)
    }
}

impl<D: Device<f32>> Update<'_, D> {
    /// Changes a parameter.
    pub fn apply<S: Shape>(&mut self, parameter: &mut Tensor<S, f32, D>) -> Result<(), D::Err> {
        let gradient = self.gradients.get_or_alloc_mut(parameter)?;
        let (lr, weight_decay) = (self.step.learning_rate, self.step.weight_decay);
        match (self.step.optimiser, &mut *self.moments) {
            (Optimiser::Sgd { momentum, nesterov }, [velocity, ..]) => SgdConfig {
                lr,
                momentum: Some(match nesterov {
                    true => Momentum::Nesterov(momentum),
                    false => Momentum::Classic(momentum),
                }),
                weight_decay: Some(WeightDecay::L2(weight_decay)),
            }
            .try_update(parameter, velocity.get_or_alloc_mut(parameter)?, gradient)?,
            (Optimiser::Adam, [mean, square, ..]) => AdamConfig {
                lr,
                weight_decay: Some(WeightDecay::Decoupled(weight_decay)),
                ..AdamConfig::default()
            }
            .try_update(
                i32::try_from(self.step.number).unwrap_or(i32::MAX),
                parameter,
                mean.get_or_alloc_mut(parameter)?,
                square.get_or_alloc_mut(parameter)?,
                gradient,
            )?,
            (_, _) => {} // the caller made room for them
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
