//! 3 x 3 convolution by minimal filtering F(2 x 2, 3 x 3) (Winograd 1980; Lavin and Gray 2016):
//! 16 products for four outputs instead of 36, as 16 matrix products over all tiles.
//!
//! An output tile of 2 x 2 reads 4 x 4 inputs. With `d` those inputs, `g` a kernel and `y` the
//! outputs:
//!
//! ```text
//! y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A             Bᵀ =  1  0 -1  0    G =  1   0   0    Aᵀ =  1  1  1  0
//! by inputs: the same of dy, kernels turned          0  1  1  0        ½   ½   ½          0  1 -1 -1
//! by kernels: dg = Gᵀ [(A dy Aᵀ) ⊙ (Bᵀ d B)] G       0 -1  1  0        ½  -½   ½
//!                                                    0  1  0 -1        0   0   1
//! ```

use rayon::prelude::*;

use crate::kernels::{Buffer, matrix, multiply, widest};
use crate::ops::ConvShape;

/// Tiles that one round of matrix products takes: wide enough for them, small enough for caches.
const TILES: usize = 1024;

/// How the tiles of a group of images are numbered: blocks of `lanes` images, in a block by row,
/// column and image. Images of few tiles share a block, so that there is always a row of numbers
/// long enough for vectors.
#[derive(Clone, Copy)]
struct Tiling {
    side: usize,
    /// Tiles in a row of an image.
    n: usize,
    lanes: usize,
    /// Images in a group.
    group: usize,
}

impl Tiling {
    fn new(side: usize) -> Self {
        let n = side / 2;
        Self {
            side,
            n,
            lanes: if n < 4 { 16 } else { 1 },
            group: (TILES / (n * n)).clamp(1, 128),
        }
    }

    /// Position, images and first tile of every block.
    fn blocks(self, images: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let starts = (0..images).step_by(self.lanes);
        starts.map(move |first| {
            let lanes = self.lanes.min(images - first);
            (first, lanes, first * self.n * self.n)
        })
    }
}

/// A length whose multiples do not fall on the same lines of a cache, as powers of two would.
const fn padded(length: usize) -> usize {
    length.next_multiple_of(16) + 16
}

/// Whether this way is open, and shorter than im2col.
pub(crate) fn suits(shape: &ConvShape) -> bool {
    let ConvShape {
        inputs,
        outputs,
        side,
        kernel,
        stride,
        padding,
    } = *shape;
    (kernel, stride, padding) == (3, 1, 1) && side % 2 == 0 && inputs >= 8 && outputs >= 8
}

/// Numbers that a transform works in.
#[derive(Default)]
struct Buffers {
    pixels: Vec<f32>,
    even: Vec<f32>,
    odd: Vec<f32>,
    rows: [Vec<f32>; 2],
    phases: Vec<f32>,
}

/// One channel of a block of images, image by image at every pixel.
fn gather(tiling: Tiling, images: &[f32], channels: usize, channel: usize, to: &mut Vec<f32>) {
    let plane = tiling.side * tiling.side;
    let lanes = images.len() / (channels * plane);
    to.resize(plane * lanes, 0.0);
    for (lane, image) in images.chunks_exact(channels * plane).enumerate() {
        let image = &image[channel * plane..][..plane];
        for (to, from) in to[lane..].iter_mut().step_by(lanes).zip(image) {
            *to = *from;
        }
    }
}

widest! {
    /// Bᵀ d B of all tiles of a block, `stride` numbers from one of the 16 to the next.
    fn transform_input(
        tiling: Tiling, lanes: usize, pixels: &[f32], stride: usize, buffers: &mut Buffers,
        out: &mut [f32]
    ) {
        let Tiling { side, n, .. } = tiling;
        let width = n * lanes;
        let plane = (n + 1) * width;
        let Buffers { even, odd, rows, .. } = buffers;
        // A zero tile column after the even pixels and before the odd ones, a zero row alike.
        even.clear();
        even.resize(width + lanes, 0.0);
        odd.clear();
        odd.resize(width + lanes, 0.0);
        for rows in rows.iter_mut() {
            rows.clear();
            rows.resize(4 * plane, 0.0);
        }
        for (y, row) in pixels.chunks_exact(side * lanes).enumerate() {
            if lanes == 1 {
                let to = even[..n].iter_mut().zip(&mut odd[1..]);
                for (pair, (even, odd)) in row.chunks_exact(2).zip(to) {
                    *even = pair[0];
                    *odd = pair[1];
                }
            } else {
                for (j, pair) in row.chunks_exact(2 * lanes).enumerate() {
                    even[j * lanes..][..lanes].copy_from_slice(&pair[..lanes]);
                    odd[(j + 1) * lanes..][..lanes].copy_from_slice(&pair[lanes..]);
                }
            }
            let (i, parity) = (y / 2, y % 2);
            let rows = &mut rows[parity][(i + parity) * width..];
            let (e, e_next) = (&even[..width], &even[lanes..][..width]);
            let (o_before, o) = (&odd[..width], &odd[lanes..][..width]);
            let (t0, rest) = rows.split_at_mut(plane);
            let (t1, rest) = rest.split_at_mut(plane);
            let (t2, t3) = rest.split_at_mut(plane);
            let (t0, t1) = (&mut t0[..width], &mut t1[..width]);
            let (t2, t3) = (&mut t2[..width], &mut t3[..width]);
            for k in 0..width {
                t0[k] = o_before[k] - o[k];
                t1[k] = e[k] + o[k];
                t2[k] = o[k] - e[k];
                t3[k] = e[k] - e_next[k];
            }
        }
        let count = n * width;
        for column in 0..4 {
            let even = &rows[0][column * plane..][..plane];
            let odd = &rows[1][column * plane..][..plane];
            let (e, e_next) = (&even[..count], &even[width..][..count]);
            let (o_before, o) = (&odd[..count], &odd[width..][..count]);
            let (v0, rest) = out[column * stride..].split_at_mut(4 * stride);
            let (v1, rest) = rest.split_at_mut(4 * stride);
            let (v2, v3) = rest.split_at_mut(4 * stride);
            let (v0, v1) = (&mut v0[..count], &mut v1[..count]);
            let (v2, v3) = (&mut v2[..count], &mut v3[..count]);
            for k in 0..count {
                v0[k] = o_before[k] - o[k];
                v1[k] = e[k] + o[k];
                v2[k] = o[k] - e[k];
                v3[k] = e[k] - e_next[k];
            }
        }
    }

    /// A dy Aᵀ of all tiles of a block.
    fn transform_gradient(
        tiling: Tiling, lanes: usize, pixels: &[f32], stride: usize, buffers: &mut Buffers,
        out: &mut [f32]
    ) {
        let Tiling { side, n, .. } = tiling;
        let width = n * lanes;
        let count = n * width;
        buffers.phases.resize(4 * count, 0.0);
        let phases = &mut buffers.phases[..];
        for (y, row) in pixels.chunks_exact(side * lanes).enumerate() {
            let (i, parity) = (y / 2, y % 2);
            let to = &mut phases[2 * parity * count..][..2 * count];
            let (even, odd) = to.split_at_mut(count);
            let (even, odd) = (&mut even[i * width..][..width], &mut odd[i * width..][..width]);
            if lanes == 1 {
                for (pair, (even, odd)) in row.chunks_exact(2).zip(even.iter_mut().zip(odd)) {
                    *even = pair[0];
                    *odd = pair[1];
                }
            } else {
                let to = even.chunks_exact_mut(lanes).zip(odd.chunks_exact_mut(lanes));
                for (pair, (even, odd)) in row.chunks_exact(2 * lanes).zip(to) {
                    even.copy_from_slice(&pair[..lanes]);
                    odd.copy_from_slice(&pair[lanes..]);
                }
            }
        }
        let phase = |i: usize| &phases[i * count..][..count];
        let (p0, p1, p2, p3) = (phase(0), phase(1), phase(2), phase(3));
        for column in 0..4 {
            let (v0, rest) = out[column * stride..].split_at_mut(4 * stride);
            let (v1, rest) = rest.split_at_mut(4 * stride);
            let (v2, v3) = rest.split_at_mut(4 * stride);
            let (v0, v1) = (&mut v0[..count], &mut v1[..count]);
            let (v2, v3) = (&mut v2[..count], &mut v3[..count]);
            for k in 0..count {
                let [top, bottom] = match column {
                    0 => [p0[k], p2[k]],
                    1 => [p0[k] + p1[k], p2[k] + p3[k]],
                    2 => [p0[k] - p1[k], p2[k] - p3[k]],
                    _ => [-p1[k], -p3[k]],
                };
                v0[k] = top;
                v1[k] = top + bottom;
                v2[k] = top - bottom;
                v3[k] = -bottom;
            }
        }
    }

    /// Aᵀ m A of all tiles of a block, added to one channel of the block's images; the first of
    /// the 16 numbers of each tile is at the start of `m`.
    fn transform_output(
        tiling: Tiling, m: &[f32], stride: usize, channels: usize, channel: usize, add: bool,
        buffers: &mut Buffers, images: &mut [f32]
    ) {
        let Tiling { side, n, .. } = tiling;
        let lanes = images.len() / (channels * side * side);
        let width = n * lanes;
        let count = n * width;
        buffers.phases.resize(4 * count, 0.0);
        let (p0, rest) = buffers.phases.split_at_mut(count);
        let (p1, rest) = rest.split_at_mut(count);
        let (p2, p3) = rest.split_at_mut(count);
        let p3 = &mut p3[..count];
        let at = |i: usize| &m[i * stride..][..count];
        for (sign, outer, left, right) in [(1.0, 0, p0, p1), (-1.0, 12, p2, p3)] {
            let (left, right) = (&mut left[..count], &mut right[..count]);
            let (a0, a1, a2, a3) = (at(outer), at(outer + 1), at(outer + 2), at(outer + 3));
            let (b0, b1, b2, b3) = (at(4), at(5), at(6), at(7));
            let (c0, c1, c2, c3) = (at(8), at(9), at(10), at(11));
            for k in 0..count {
                // The sum of three rows above, the difference b - c - a below.
                let s0 = b0[k] + sign * (c0[k] + a0[k]);
                let s1 = b1[k] + sign * (c1[k] + a1[k]);
                let s2 = b2[k] + sign * (c2[k] + a2[k]);
                let s3 = b3[k] + sign * (c3[k] + a3[k]);
                left[k] = s0 + s1 + s2;
                right[k] = s1 - s2 - s3;
            }
        }
        let phases = &buffers.phases[..];
        for (lane, image) in images.chunks_exact_mut(channels * side * side).enumerate() {
            let image = &mut image[channel * side * side..][..side * side];
            for (y, row) in image.chunks_exact_mut(side).enumerate() {
                let pair = &phases[(y % 2) * 2 * count..];
                let (left, right) = (&pair[(y / 2) * width..], &pair[count + (y / 2) * width..]);
                let (left, right) = (&left[..width], &right[..width]);
                if lanes == 1 && add {
                    for (to, (l, r)) in row.chunks_exact_mut(2).zip(left.iter().zip(right)) {
                        to[0] += l;
                        to[1] += r;
                    }
                } else if lanes == 1 {
                    for (to, (l, r)) in row.chunks_exact_mut(2).zip(left.iter().zip(right)) {
                        to[0] = *l;
                        to[1] = *r;
                    }
                } else {
                    for (j, to) in row.chunks_exact_mut(2).enumerate() {
                        let (l, r) = (left[j * lanes + lane], right[j * lanes + lane]);
                        to[0] = if add { to[0] + l } else { l };
                        to[1] = if add { to[1] + r } else { r };
                    }
                }
            }
        }
    }
}

/// G g Gᵀ of every kernel as [outputs][16][inputs]; `turned` for the gradient: kernels turned by
/// half a turn, inputs and outputs exchanged.
fn transform_kernels(shape: &ConvShape, w: &[f32], turned: bool) -> Vec<f32> {
    let [inputs, outputs] = if turned {
        [shape.outputs, shape.inputs]
    } else {
        [shape.inputs, shape.outputs]
    };
    let half = |[a, b, c]: [f32; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let mut out = vec![0.0; outputs * 16 * inputs];
    out.par_chunks_mut(16 * inputs)
        .enumerate()
        .for_each(|(o, out)| {
            for i in 0..inputs {
                let at = if turned {
                    i * outputs + o
                } else {
                    o * inputs + i
                };
                let mut g = [0.0; 9];
                g.copy_from_slice(&w[at * 9..][..9]);
                if turned {
                    g.reverse();
                }
                let rows = [0, 1, 2].map(|r| half([g[3 * r], g[3 * r + 1], g[3 * r + 2]]));
                for column in 0..4 {
                    let values = half(rows.map(|row| row[column]));
                    for (row, value) in values.into_iter().enumerate() {
                        out[(row * 4 + column) * inputs + i] = value;
                    }
                }
            }
        });
    out
}

/// The transformed tiles of every channel of some images, as [channels][16][tiles]: how many, and
/// the step from one of the 16 to the next. What lies between is any value.
fn transformed(
    tiling: Tiling,
    images: &[f32],
    channels: usize,
    transform: impl Fn(Tiling, usize, &[f32], usize, &mut Buffers, &mut [f32]) + Sync,
    out: &mut [f32],
) -> [usize; 2] {
    let plane = tiling.side * tiling.side;
    let count = images.len() / (channels * plane);
    let tiles = count * tiling.n * tiling.n;
    let stride = padded(tiles);
    out[..channels * 16 * stride]
        .par_chunks_mut(16 * stride)
        .enumerate()
        .for_each_init(Buffers::default, |buffers, (channel, out)| {
            for (first, lanes, tile) in tiling.blocks(count) {
                let block = &images[first * channels * plane..][..lanes * channels * plane];
                let out = &mut out[tile..];
                if lanes == 1 {
                    let pixels = &block[channel * plane..][..plane];
                    transform(tiling, 1, pixels, stride, buffers, out);
                } else {
                    let mut pixels = std::mem::take(&mut buffers.pixels);
                    gather(tiling, block, channels, channel, &mut pixels);
                    transform(tiling, lanes, &pixels, stride, buffers, out);
                    buffers.pixels = pixels;
                }
            }
        });
    [tiles, stride]
}

/// Convolution of every image, or with `turned` its gradient by the images.
fn run(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32], turned: bool) {
    let [inputs, outputs] = if turned {
        [shape.outputs, shape.inputs]
    } else {
        [shape.inputs, shape.outputs]
    };
    let tiling = Tiling::new(shape.side);
    let plane = shape.side * shape.side;
    let kernels = transform_kernels(shape, w, turned);
    let most = padded((x.len() / (inputs * plane)).min(tiling.group) * tiling.n * tiling.n);
    let mut v = Buffer::new(16 * inputs * most);
    let mut m = Buffer::new(16 * padded(outputs * most));
    let groups = x.chunks(tiling.group * inputs * plane);
    for (x, y) in groups.zip(y.chunks_mut(tiling.group * outputs * plane)) {
        let [tiles, stride] = transformed(tiling, x, inputs, transform_input, &mut v);
        let step = padded(outputs * stride);
        let (v, kernels) = (&v, &kernels);
        m[..16 * step]
            .par_chunks_mut(step)
            .enumerate()
            .for_each(|(f, m)| {
                let a = matrix(&kernels[f * inputs..], 16 * inputs, 1);
                let b = matrix(&v[f * stride..], 16 * stride, 1);
                multiply([outputs, tiles, inputs], m, stride, false, a, b);
            });
        let m = &m;
        y.par_chunks_mut(tiling.lanes * outputs * plane)
            .enumerate()
            .for_each_init(Buffers::default, |buffers, (block, y)| {
                let first = block * tiling.lanes * tiling.n * tiling.n;
                for channel in 0..outputs {
                    let m = &m[channel * stride + first..];
                    transform_output(tiling, m, step, outputs, channel, turned, buffers, y);
                }
            });
    }
}

/// Convolution of every image.
pub(crate) fn convolve(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    run(shape, x, w, y, false);
}

/// Gradient by the images, added to `dx`.
pub(crate) fn convolve_by_images(shape: &ConvShape, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    run(shape, dy, w, dx, true);
}

/// Gradient by the kernels, added to `dw`.
pub(crate) fn convolve_by_weights(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let ConvShape {
        inputs, outputs, ..
    } = *shape;
    let tiling = Tiling::new(shape.side);
    let plane = shape.side * shape.side;
    let most = padded((x.len() / (inputs * plane)).min(tiling.group) * tiling.n * tiling.n);
    let mut v = Buffer::new(16 * inputs * most);
    let mut q = Buffer::new(16 * outputs * most);
    let mut sums = vec![0.0; 16 * outputs * inputs];
    let groups = x.chunks(tiling.group * inputs * plane);
    for (x, dy) in groups.zip(dy.chunks(tiling.group * outputs * plane)) {
        let [tiles, stride] = transformed(tiling, x, inputs, transform_input, &mut v);
        transformed(tiling, dy, outputs, transform_gradient, &mut q);
        let (v, q) = (&v, &q);
        // Each of the 16 sums belongs to one task: its order is that of the images.
        sums.par_chunks_mut(outputs * inputs)
            .enumerate()
            .for_each(|(f, sum)| {
                let a = matrix(&q[f * stride..], 16 * stride, 1);
                let b = matrix(&v[f * stride..], 16 * stride, 1).transposed();
                multiply([outputs, inputs, tiles], sum, inputs, true, a, b);
            });
    }
    let back = |[a, b, c, d]: [f32; 4]| {
        let (sum, difference) = (0.5 * (b + c), 0.5 * (b - c));
        [a + sum, difference, sum + d]
    };
    dw.par_chunks_mut(9 * inputs)
        .enumerate()
        .for_each(|(o, dw)| {
            for (i, dw) in dw.chunks_exact_mut(9).enumerate() {
                let at = |f: usize| sums[(f * outputs + o) * inputs + i];
                let rows = [0, 1, 2, 3].map(|r| back([0, 1, 2, 3].map(|c| at(4 * r + c))));
                for column in 0..3 {
                    let values = back(rows.map(|row| row[column]));
                    for (row, value) in values.into_iter().enumerate() {
                        dw[3 * row + column] += value;
                    }
                }
            }
        });
}
