//! Which axes of an image the dimensions of a value run over.
//!
//! ONNX knows dimensions only by their order: `Transpose`, `Reshape` and the like move them, and a
//! network of Keras has its channels last. Here every dimension keeps the axes that it runs over, so
//! that these nodes move names and no values, and a fully connected layer knows the order of the
//! flattened image that it takes.

use std::fmt;

use crate::ann::layers::Axis;
use crate::data::Shape;

/// Axis of a value; none for the batch.
pub(super) type Along = Option<Axis>;

/// The batch, channels, rows and columns.
pub(super) const IMAGE: [Along; 4] =
    [None, Some(Axis::Channels), Some(Axis::Rows), Some(Axis::Columns)];
/// The batch, rows, columns and channels.
pub(super) const CHANNELS_LAST: [Along; 4] =
    [None, Some(Axis::Rows), Some(Axis::Columns), Some(Axis::Channels)];

/// A value that depends on the image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Activation {
    /// Its number in the graph, or that of the value that it is a part of.
    pub value: usize,
    pub shape: Shape,
    /// Number of images that the file computes at once.
    pub batch: usize,
    /// The axes of each dimension, the slowest first. Axes of size 1 are nowhere.
    pub dims: Vec<Vec<Along>>,
    /// What is taken of the graph's value, if that is not all.
    pub view: Option<View>,
}

/// Part of an image, with zeros around it: `Slice` and `Pad`, which become a convolution, or the
/// padding of one that follows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// First row and column.
    pub start: [usize; 2],
    /// Steps between rows and between columns.
    pub step: [usize; 2],
    /// Zeros above, left of, below and right of the image.
    pub padding: [usize; 4],
    /// Channel of the graph's value that each channel is; none for zeros.
    pub channels: Option<Vec<Option<usize>>>,
}

impl View {
    pub const ALL: Self = Self { start: [0; 2], step: [1; 2], padding: [0; 4], channels: None };

    /// The whole image with these zeros around it.
    pub fn padded(padding: [usize; 4]) -> Self {
        Self { padding, ..Self::ALL }
    }

    /// Whether nothing is done but to add zeros around the image.
    pub fn only_pads(&self) -> bool {
        *self == Self::padded(self.padding)
    }
}

impl Activation {
    /// A value whose dimensions run over one axis each.
    pub fn new(value: usize, shape: Shape, batch: usize, axes: &[Along]) -> Self {
        let dims = axes.iter().map(|&axis| vec![axis]).collect();
        Self { value, shape, batch, dims, view: None }.with_dims_checked()
    }

    fn with_dims_checked(mut self) -> Self {
        let sizes = (self.shape, self.batch);
        self.dims.iter_mut().for_each(|dim| dim.retain(|&axis| size(sizes, axis) > 1));
        self
    }

    /// Another value of the graph in the same layout, in which axes of size 1 may be gone.
    pub fn moved(&self, value: usize, shape: Shape) -> Self {
        Self { value, shape, view: None, ..self.clone() }.with_dims_checked()
    }

    /// The value with other dimensions of the same axes.
    pub fn with_dims(&self, dims: Vec<Vec<Along>>) -> Self {
        Self { dims, ..self.clone() }
    }

    pub fn with_view(self, view: Option<View>) -> Self {
        Self { view, ..self }
    }

    pub fn size_of(&self, axis: Along) -> usize {
        size((self.shape, self.batch), axis)
    }

    /// Sizes of the dimensions.
    pub fn sizes(&self) -> Vec<usize> {
        let sizes = self.dims.iter();
        sizes.map(|dim| dim.iter().map(|&axis| self.size_of(axis)).product()).collect()
    }

    /// Whether the dimensions are these axes, one each.
    pub fn is(&self, axes: &[Along]) -> bool {
        let expected = Self::new(self.value, self.shape, self.batch, axes).dims;
        self.dims == expected
    }

    /// The value with dimensions of these sizes; none if a dimension would hold a part of an axis.
    pub fn reshaped(&self, sizes: &[usize]) -> Option<Self> {
        let mut axes = self.dims.iter().flatten().copied().peekable();
        let mut dims = Vec::with_capacity(sizes.len());
        for &wanted in sizes {
            let (mut dim, mut product) = (Vec::new(), 1);
            while product < wanted {
                let axis = axes.next()?;
                product *= self.size_of(axis);
                dim.push(axis);
            }
            if product != wanted {
                return None;
            }
            dims.push(dim);
        }
        axes.peek().is_none().then(|| self.with_dims(dims))
    }

    /// Whether a dimension runs over this axis alone, or is 1 as the axis is.
    pub fn runs_over(&self, dim: usize, axis: Axis) -> bool {
        match &self.dims[dim][..] {
            [] => self.size_of(Some(axis)) == 1,
            all => all == [Some(axis)],
        }
    }

    /// Axes that more than one value lies along.
    pub fn axes(&self) -> impl Iterator<Item = Along> {
        IMAGE.into_iter().filter(|&axis| self.size_of(axis) > 1)
    }
}

fn size((shape, batch): (Shape, usize), axis: Along) -> usize {
    match axis {
        None => batch,
        Some(Axis::Channels) => shape.channels,
        Some(Axis::Rows) => shape.height,
        Some(Axis::Columns) => shape.width,
    }
}

/// For errors: the sizes, each with the axes that it runs over.
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |&axis: &Along| match axis {
            None => "batch",
            Some(Axis::Channels) => "channels",
            Some(Axis::Rows) => "rows",
            Some(Axis::Columns) => "columns",
        };
        let each = self.dims.iter().zip(self.sizes()).map(|(dim, size)| match &dim[..] {
            [] => size.to_string(),
            dim => format!("{size} {}", dim.iter().map(name).collect::<Vec<_>>().join(" x ")),
        });
        write!(f, "[{}]", each.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Along = Some(Axis::Channels);
    const H: Along = Some(Axis::Rows);
    const W: Along = Some(Axis::Columns);

    fn image(channels: usize, height: usize, width: usize) -> Activation {
        Activation::new(0, Shape::new(channels, height, width), 1, &IMAGE)
    }

    #[test]
    fn dimensions_keep_their_axes() {
        let value = image(3, 4, 5);
        assert_eq!(value.sizes(), [1, 3, 4, 5]);
        let flat = value.reshaped(&[1, 60]).unwrap();
        assert_eq!(flat.dims, [vec![], vec![C, H, W]]);
        assert_eq!(flat.reshaped(&[1, 3, 20]).unwrap().dims, [vec![], vec![C], vec![H, W]]);
        assert_eq!(flat.reshaped(&[3, 1, 4, 1, 5]).unwrap().dims[2], [H]);
        assert_eq!(flat.to_string(), "[1, 60 channels x rows x columns]");
        // A part of an axis is none.
        assert_eq!(value.reshaped(&[1, 6, 10]), None);
        assert_eq!(value.reshaped(&[1, 3, 4]), None);
        assert_eq!(value.reshaped(&[60, 2]), None);
    }

    #[test]
    fn axes_of_size_1_are_anywhere() {
        let value = image(1, 4, 1);
        assert!(value.is(&IMAGE));
        let flat = value.reshaped(&[4]).unwrap();
        assert_eq!(flat.dims, [[H]]);
        assert!(value.runs_over(1, Axis::Channels) && !value.runs_over(2, Axis::Channels));
    }

    #[test]
    fn a_batch_does_not_mix_with_images() {
        let value = Activation::new(0, Shape::new(2, 3, 3), 4, &IMAGE);
        assert_eq!(value.reshaped(&[4, 18]).unwrap().dims, [vec![None], vec![C, H, W]]);
        assert_eq!(value.reshaped(&[8, 9]).unwrap().dims[0], [None, C]);
        assert_eq!(value.reshaped(&[2, 36]), None);
    }
}
