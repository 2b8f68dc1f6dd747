//! Sizes of operations.

use std::ops::Range;

/// Sizes of a convolution of square images by square kernels.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Number of input channels.
    pub inputs: usize,
    /// Number of output channels.
    pub outputs: usize,
    /// Height and width of an image.
    pub side: usize,
    /// Height and width of a kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zeros on each side of the image.
    pub padding: usize,
}

impl ConvShape {
    /// Height and width of the output.
    pub const fn out_side(&self) -> usize {
        (self.side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn positions(&self) -> usize {
        self.out_side() * self.out_side()
    }

    /// Number of weights of one output channel.
    pub(crate) fn places(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    pub(crate) fn input_size(&self) -> usize {
        self.inputs * self.side * self.side
    }

    pub(crate) fn output_size(&self) -> usize {
        self.outputs * self.positions()
    }

    /// Input channel, kernel row and kernel column of weight `place` of an output channel.
    pub(crate) fn place(&self, place: usize) -> (usize, usize, usize) {
        let k = self.kernel;
        (place / (k * k), place / k % k, place % k)
    }

    /// Input row that kernel row `kernel` reads for output row `out`, none in the padding. The same
    /// holds for columns.
    pub(crate) fn reads(&self, out: usize, kernel: usize) -> Option<usize> {
        let row = (out * self.stride + kernel).checked_sub(self.padding)?;
        (row < self.side).then_some(row)
    }

    /// Range of output columns for which kernel column `kernel` reads a pixel inside the image.
    pub(crate) fn inside(&self, kernel: usize) -> Range<usize> {
        let start = self.padding.saturating_sub(kernel).div_ceil(self.stride);
        let end = (self.side + self.padding).saturating_sub(kernel);
        let end = end.div_ceil(self.stride).min(self.out_side());
        start.min(end)..end
    }

    /// Pixels that each weight of an output channel reads at each output position.
    pub(crate) fn patches(&self) -> Patches {
        let mut indices = Vec::with_capacity(self.places() * self.positions());
        for place in 0..self.places() {
            let (channel, row, column) = self.place(place);
            for out in 0..self.positions() {
                let r = self.reads(out / self.out_side(), row);
                let c = self.reads(out % self.out_side(), column);
                indices.push(match (r, c) {
                    (Some(r), Some(c)) => (channel * self.side + r) * self.side + c,
                    _ => self.input_size(),
                });
            }
        }
        Patches { indices, positions: self.positions(), input_size: self.input_size() }
    }
}

/// Windows on an image.
#[derive(Debug, Clone)]
pub(crate) struct Patches {
    /// Number of the pixel that each place of a window reads at each output position, places x
    /// positions, row by row; `input_size` for padding.
    pub indices: Vec<usize>,
    /// Number of output positions.
    pub positions: usize,
    /// Number of pixels of an image.
    pub input_size: usize,
}

impl Patches {
    pub fn places(&self) -> usize {
        self.indices.len() / self.positions
    }
}

/// Sizes of a batch normalisation: images of `channels` x `positions` values.
#[derive(Debug, Clone, Copy)]
pub struct NormShape {
    /// Number of channels.
    pub channels: usize,
    /// Number of pixels per channel; 1 for features.
    pub positions: usize,
}

/// Summand of variances, as in PyTorch.
pub const EPSILON: f64 = 1e-5;
