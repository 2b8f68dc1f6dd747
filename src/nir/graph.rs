//! Definitions that writing and reading share.

use std::iter;

use crate::data::Shape;

/// Seconds per timestep of the files that evospike writes.
pub(super) const DT: f64 = 1e-4;
/// Relative error of resistances and time constants, which other programs round to single precision.
pub(super) const ROUNDING: f64 = 1e-6;
/// Entry of a node's metadata that holds the parameters of its neurons as JSON.
pub(super) const METADATA: &str = "evospike";

/// Shape of a node's input or output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axes {
    pub shape: Shape,
    /// One axis in NIR, rather than channels, rows and columns.
    pub flat: bool,
}

impl Axes {
    /// Lengths of the axes in NIR.
    pub fn sizes(self) -> Vec<usize> {
        let shape = self.shape;
        match self.flat {
            true => vec![shape.size()],
            false => vec![shape.channels, shape.height, shape.width],
        }
    }
}

/// Values of `count` channels, neurons or weights, ordered by channel, from one per layer or one
/// per channel.
pub(super) fn spread<T: Copy>(values: &[T], count: usize) -> impl Iterator<Item = T> + Clone {
    let each = count / values.len();
    let values = values.iter();
    values.flat_map(move |&value| iter::repeat_n(value, each))
}

/// Adds a current, one per layer or one per channel, to a bias; or subtracts it if `sign` is -1.
pub(super) fn add_current(bias: &mut [f64], current: &[f32], sign: f64) {
    let currents = spread(current, bias.len());
    for (bias, current) in bias.iter_mut().zip(currents) {
        *bias += sign * f64::from(current);
    }
}

/// Time constant of the membrane in seconds. A channel without leak beside channels with leak gets
/// one so long that its leak is 1 in single precision.
pub(super) fn time_constant(leak: f32, dt: f64) -> f64 {
    dt / (1.0 - f64::from(leak)).max(2f64.powi(-30))
}

/// Factor on the membrane potential per timestep.
pub(super) fn leak(time_constant: f64, dt: f64) -> f32 {
    (1.0 - dt / time_constant) as f32
}

/// Identity matrix of `side` rows, row by row.
pub(super) fn identity(side: usize) -> impl Iterator<Item = f32> {
    (0..side * side).map(move |i| f32::from(i / side == i % side))
}
