//! Sizes that operations are given.

use std::ops::Range;
/// Sizes of a convolution of square images by square kernels.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Side of an image.
    pub side: usize,
    /// Side of a kernel.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
}

impl ConvShape {
    /// Side of an output.
    pub const fn out_side(&self) -> usize {
        (self.side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn positions(&self) -> usize {
        self.out_side() * self.out_side()
    }

    /// Weights of one output channel.
    pub(crate) fn places(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    pub(crate) fn input_size(&self) -> usize {
        self.inputs * self.side * self.side
    }

    pub(crate) fn output_size(&self) -> usize {
        self.outputs * self.positions()
    }

    /// Input channel, kernel row and kernel column of a place.
    pub(crate) fn place(&self, place: usize) -> (usize, usize, usize) {
        let k = self.kernel;
        (place / (k * k), place / k % k, place % k)
    }

    /// The input row that kernel row `kernel` reads for output row `out`, none in the padding;
    /// columns alike.
    pub(crate) fn reads(&self, out: usize, kernel: usize) -> Option<usize> {
        let row = (out * self.stride + kernel).checked_sub(self.padding)?;
        (row < self.side).then_some(row)
    }

    /// The output columns for which kernel column `kernel` reads a pixel of the image.
    pub(crate) fn inside(&self, kernel: usize) -> Range<usize> {
        let start = self.padding.saturating_sub(kernel).div_ceil(self.stride);
        let end = (self.side + self.padding).saturating_sub(kernel);
        let end = end.div_ceil(self.stride).min(self.out_side());
        start.min(end)..end
    }

    /// For every place and output position, which pixel it reads; `input_size` stands for the
    /// zeros of the padding.
    pub(crate) fn patches(&self) -> Vec<usize> {
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
        indices
    }
}

/// Sizes of a batch normalisation: `channels` of `positions` pixels each, in every image.
#[derive(Debug, Clone, Copy)]
pub struct NormShape {
    /// Channels.
    pub channels: usize,
    /// Pixels of a channel; 1 for features.
    pub positions: usize,
}

/// Added to variances.
pub const EPSILON: f64 = 1e-5;
