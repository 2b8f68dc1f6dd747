//! Augmentation of training images.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use crate::base::{Result, Rng, require};

/// Random augmentation of training images in every epoch, before normalisation: torchvision's
/// `RandomCrop` with padding, then `RandomHorizontalFlip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augment {
    /// Black pixels on each side of an image before a random crop of the original size; 0 for no
    /// crop. Less than the image's height and width.
    pub crop_padding: usize,
    /// Flips images horizontally with probability 0.5.
    pub flip: bool,
}

impl Augment {
    /// No augmentation.
    pub const NONE: Self = Self { crop_padding: 0, flip: false };
    /// Usual augmentation for CIFAR-10 and CIFAR-100: padding 4 and flips.
    pub const CIFAR: Self = Self { crop_padding: 4, flip: true };

    /// Appends the image, cropped and flipped at random, to `to`. `black` is the value of padding,
    /// one per channel.
    pub(super) fn vary(
        &self,
        image: &[f32],
        shape: Shape,
        black: &[f32],
        rng: &mut Rng,
        to: &mut Vec<f32>,
    ) {
        let Shape { height, width, .. } = shape;
        let padding = self.crop_padding;
        let (mut down, mut right) = (padding, padding);
        if padding > 0 {
            down = rng.random_range(0..=2 * padding);
            right = rng.random_range(0..=2 * padding);
        }
        let mirrored = self.flip && rng.random::<bool>();
        for (pixels, &black) in image.chunks_exact(height * width).zip(black) {
            for row in down..down + height {
                let row = row.checked_sub(padding).filter(|&row| row < height);
                let row = row.map(|row| &pixels[row * width..][..width]);
                let pixel = |column: usize| {
                    // Pixels outside the image are black.
                    let column = (right + column).checked_sub(padding);
                    let pixel = column.and_then(|column| row?.get(column));
                    pixel.copied().unwrap_or(black)
                };
                match mirrored {
                    true => to.extend((0..width).rev().map(pixel)),
                    false => to.extend((0..width).map(pixel)),
                }
            }
        }
    }

    pub(crate) fn check(&self, shape: Shape) -> Result<()> {
        let limit = shape.height.min(shape.width);
        let expected = format!("less than {limit}, the side of an image");
        require(self.crop_padding < limit, "augment.crop_padding", self.crop_padding, expected)
    }
}

impl Default for Augment {
    /// [`Augment::NONE`].
    fn default() -> Self {
        Self::NONE
    }
}
