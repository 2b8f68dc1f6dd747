//! Optimisers and learning-rate schedules.

use dfdx::nn::{TensorOptions, TensorVisitor, ViewTensorMut};
use dfdx::prelude::{
    AdamConfig, Device, Gradients, HasErr, Momentum, SgdConfig, Shape, Tensor, WeightDecay,
};
use serde::{Deserialize, Serialize};

use crate::base::{Result, require};

/// Rule that updates weights from gradients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimiser {
    /// Stochastic gradient descent like PyTorch's `SGD`: weight decay is part of the gradient.
    Sgd {
        /// Momentum, 0 to less than 1.
        momentum: f64,
        /// Nesterov momentum (Nesterov 1983).
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).
    Adam,
}

impl Optimiser {
    /// SGD with Nesterov momentum 0.9, common for convolutional networks.
    pub const NESTEROV: Self = Self::Sgd { momentum: 0.9, nesterov: true };

    pub(crate) fn check(self) -> Result<()> {
        if let Self::Sgd { momentum, nesterov } = self {
            require((0.0..1.0).contains(&momentum), "momentum", momentum, "0 to less than 1")?;
            let expected = "more than 0 where it is Nesterov's";
            require(!nesterov || momentum > 0.0, "momentum", momentum, expected)?;
        }
        Ok(())
    }

    /// Number of running means per weight.
    pub(crate) fn moments(self) -> usize {
        match self {
            Self::Sgd { .. } => 1,
            Self::Adam => 2,
        }
    }
}

/// Schedule of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Constant learning rate.
    Constant,
    /// Linear decay to 0.
    Linear,
    /// Cosine decay to 0 (Loshchilov and Hutter 2017).
    Cosine,
}

impl Schedule {
    /// Factor on the learning rate in `step`, from 0, of `steps`. It rises linearly to 1 in the
    /// first `warmup` steps.
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

/// Parameters of one step of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Update rule.
    pub optimiser: Optimiser,
    /// Number of the step, from 1. The first step resets the optimiser.
    pub number: usize,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Weight decay of this step.
    pub weight_decay: f64,
}

/// Running means of an optimiser, one set of tensors for each of [`Optimiser::moments`].
pub(crate) struct Moments<D: Device<f32>>(pub Vec<Gradients<f32, D>>);

impl<D: Device<f32>> Moments<D> {
    pub const NONE: Self = Self(Vec::new());

    /// Returns the means that a step updates; they are new in the first step.
    pub fn of(&mut self, step: &Step) -> &mut [Gradients<f32, D>] {
        if step.number == 1 {
            self.0.clear();
        }
        self.0.resize_with(step.optimiser.moments(), Gradients::leaky);
        &mut self.0
    }

    /// Replaces the means of this number.
    pub fn set(&mut self, number: usize, means: Gradients<f32, D>) {
        let count = self.0.len().max(number + 1);
        self.0.resize_with(count, Gradients::leaky);
        self.0[number] = means;
    }
}

/// Visitor that updates every parameter in a step. dfdx's own optimisers use the same kernels, but
/// keep their moments private, so that training could not be resumed.
pub(crate) struct Update<'a, D: Device<f32>> {
    pub step: &'a Step,
    /// Running means, as many as [`Optimiser::moments`].
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
    /// Updates a parameter.
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
            (_, _) => {} // not reached: there are as many moments as the optimiser has
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
