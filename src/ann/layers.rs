//! Plain layers, to which typed networks are reduced for conversion and simulation.

use flate2::Crc;

use crate::base::{Error, Result, one_line};
use crate::ops::qcfs_of;

/// Layer of a feed-forward network, with weights in PyTorch's order.
#[derive(Clone, PartialEq)]
pub enum Layer {
    /// Cross-correlation with square kernels, as in PyTorch's `Conv2d`.
    Conv {
        /// Weights, `outputs` x `inputs` x `kernel` x `kernel`, row by row.
        weight: Vec<f32>,
        /// Bias, one per output channel, added in every timestep of the SNN.
        bias: Option<Vec<f32>>,
        /// Number of input channels.
        inputs: usize,
        /// Number of output channels.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Stride.
        stride: usize,
        /// Zeros on each side of the image.
        padding: usize,
    },
    /// Fully connected layer. An image is flattened to channels x rows x columns.
    Linear {
        /// Weights, `outputs` x `inputs`, row by row.
        weight: Vec<f32>,
        /// Bias, one per output, added in every timestep of the SNN.
        bias: Option<Vec<f32>>,
        /// Number of input features.
        inputs: usize,
        /// Number of output features.
        outputs: usize,
    },
    /// Average pooling over `size` x `size` squares.
    AvgPool {
        /// Height, width and stride of the squares.
        size: usize,
    },
    /// Batch normalisation that is not folded into weights: x * scale + shift.
    ScaleShift {
        /// Factors, one per channel.
        scale: Vec<f32>,
        /// Summands, one per channel.
        shift: Vec<f32>,
    },
    /// Residual addition: sum of the outputs of two lists of layers for the same input.
    Residual {
        /// Layers of the main branch.
        body: Vec<Layer>,
        /// Layers of the shortcut; no layers for the identity.
        shortcut: Vec<Layer>,
    },
    /// ReLU in the ANN, integrate-and-fire neurons in the SNN.
    Neurons,
    /// [`Qcfs`](crate::ann::modules::Qcfs) in the ANN, integrate-and-fire neurons in the SNN.
    Qcfs {
        /// λ, the upper bound of the activation. Above 0.
        bound: f32,
        /// L, the number of levels above 0. 1 or more.
        levels: usize,
    },
}

one_line!(impl [] Layer: layer, "{}, {} weights", layer.kind(), layer.parameters());

/// CRC-32 of layers, weights included.
pub(crate) fn checksum(layers: &[Layer]) -> u32 {
    let mut checksum = Crc::new();
    layers.iter().for_each(|layer| layer.add_to(&mut checksum));
    checksum.sum()
}

impl Layer {
    /// Kind of the layer, for error messages and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::AvgPool { .. } => "average pooling",
            Self::ScaleShift { .. } => "batch normalisation",
            Self::Residual { .. } => "residual",
            Self::Neurons => "neurons",
            Self::Qcfs { .. } => "QCFS",
        }
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        let sum = |layers: &[Self]| layers.iter().map(Self::parameters).sum::<usize>();
        match self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                weight.len() + bias.as_ref().map_or(0, Vec::len)
            }
            Self::ScaleShift { scale, shift } => scale.len() + shift.len(),
            Self::Residual { body, shortcut } => sum(body) + sum(shortcut),
            Self::AvgPool { .. } | Self::Neurons | Self::Qcfs { .. } => 0,
        }
    }

    /// Adds sizes and values to a checksum.
    fn add_to(&self, checksum: &mut Crc) {
        let mut add = |sizes: &[usize], values: [&[f32]; 2]| {
            for &size in sizes.iter().chain(&values.map(<[f32]>::len)) {
                checksum.update(&(size as u64).to_le_bytes());
            }
            for value in values.into_iter().flatten() {
                checksum.update(&value.to_le_bytes());
            }
        };
        match self {
            Self::Conv { weight, bias, inputs, outputs, kernel, stride, padding } => add(
                &[0, *inputs, *outputs, *kernel, *stride, *padding],
                [weight, bias.as_deref().unwrap_or_default()],
            ),
            Self::Linear { weight, bias, inputs, outputs } => {
                add(&[1, *inputs, *outputs], [weight, bias.as_deref().unwrap_or_default()])
            }
            Self::AvgPool { size } => add(&[2, *size], [&[]; 2]),
            Self::ScaleShift { scale, shift } => add(&[3], [scale, shift]),
            Self::Residual { body, shortcut } => {
                add(&[4, body.len(), shortcut.len()], [&[]; 2]);
                let layers = body.iter().chain(shortcut);
                layers.for_each(|layer| layer.add_to(checksum));
            }
            Self::Neurons => add(&[5], [&[]; 2]),
            Self::Qcfs { bound, levels } => add(&[6, *levels], [&[*bound], &[]]),
        }
    }

    /// Activation of a layer of neurons in the ANN.
    ///
    /// # Errors
    /// Returns an error if the parameters of QCFS are out of range.
    pub(crate) fn activation(&self, number: usize) -> Result<Activation> {
        let wrong =
            |found: String, expected| Err(Error::layer(number, self.kind(), found, expected));
        match *self {
            Self::Qcfs { levels: 0, .. } => wrong("no level".into(), "1 or more"),
            Self::Qcfs { bound, .. } if !(bound > 0.0 && bound.is_finite()) => {
                wrong(format!("bound {bound}"), "a finite bound above 0")
            }
            Self::Qcfs { bound, levels } => Ok(Activation::Qcfs { bound, levels }),
            _ => Ok(Activation::Relu),
        }
    }

    /// Appends the layer to others. Batch normalisation is folded into the weights and bias before
    /// it, also across average pooling, with which it commutes.
    pub(crate) fn fold_into(self, layers: &mut Vec<Self>) {
        let pooling = |layer: &&mut Self| matches!(layer, Self::AvgPool { .. });
        match (&self, layers.iter_mut().rev().find(|layer| !pooling(layer))) {
            (
                Self::ScaleShift { scale, shift },
                Some(
                    Self::Conv { weight, bias, outputs, .. }
                    | Self::Linear { weight, bias, outputs, .. },
                ),
            ) if *outputs == scale.len() && *outputs > 0 => {
                let each = weight.len() / *outputs;
                for (weights, scale) in weight.chunks_exact_mut(each).zip(scale) {
                    weights.iter_mut().for_each(|w| *w *= scale);
                }
                let bias = bias.get_or_insert_with(|| vec![0.0; *outputs]);
                for (bias, (scale, shift)) in bias.iter_mut().zip(scale.iter().zip(shift)) {
                    *bias = *bias * scale + shift;
                }
            }
            _ => layers.push(self),
        }
    }
}

/// Activation of a layer of neurons in the ANN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Relu,
    Qcfs {
        bound: f32,
        levels: usize,
    },
    /// No activation: the output layer.
    Identity,
}

impl Activation {
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Qcfs { bound, levels } => qcfs_of(x, bound, levels as f32),
            Self::Identity => x,
        }
    }
}

/// Fully connected layer without bias.
#[cfg(any(test, feature = "nir"))]
pub(crate) fn linear(weight: Vec<f32>, inputs: usize) -> Layer {
    Layer::Linear { outputs: weight.len() / inputs, bias: None, weight, inputs }
}
