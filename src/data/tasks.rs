//! Classification tasks: shape of the images and number of classes.

use super::shape::Shape;

/// Classification task: shape of its images and number of its classes.
pub trait Task: 'static {
    /// Shape of an image: channels x height x width.
    const SHAPE: Shape;
    /// Number of classes.
    const CLASSES: usize;
}

/// Square images of `CHANNELS` x `SIDE` x `SIDE` pixels in `CLASSES` classes.
#[derive(Debug, Clone, Copy)]
pub struct Classify<const CHANNELS: usize, const SIDE: usize, const CLASSES: usize>;

impl<const CHANNELS: usize, const SIDE: usize, const CLASSES: usize> Task
    for Classify<CHANNELS, SIDE, CLASSES>
{
    const SHAPE: Shape = {
        assert!(CHANNELS > 0 && SIDE > 0, "an image has pixels");
        Shape::new(CHANNELS, SIDE, SIDE)
    };
    const CLASSES: usize = {
        assert!(CLASSES > 0 && CLASSES <= 1 << 16, "labels are u16");
        CLASSES
    };
}

/// UCI handwritten digits: 1 x 8 x 8 pixels, 10 classes.
pub type Digits = Classify<1, 8, 10>;

/// Fashion-MNIST at half size: 1 x 14 x 14 pixels, 10 classes.
pub type Fashion = Classify<1, 14, 10>;

/// MNIST, Fashion-MNIST or KMNIST: 1 x 28 x 28 pixels, 10 classes.
pub type Mnist = Classify<1, 28, 10>;

/// CIFAR-10: 3 x 32 x 32 pixels, 10 classes.
pub type Cifar10 = Classify<3, 32, 10>;

/// CIFAR-100: 3 x 32 x 32 pixels, 100 classes.
pub type Cifar100 = Classify<3, 32, 100>;

/// Tiny-ImageNet: 3 x 64 x 64 pixels, 200 classes.
pub type TinyImageNet = Classify<3, 64, 200>;

/// ImageNet: 3 x 224 x 224 pixels, 1,000 classes.
pub type ImageNet = Classify<3, 224, 1000>;
