//! 3 x 3 convolution by minimal filtering (Winograd 1980; Lavin and Gray 2016): F(4 x 4, 3 x 3) if
//! the side is a multiple of 4, with 36 multiplications for 16 outputs instead of 144, otherwise
//! F(2 x 2, 3 x 3), with 16 for 4 outputs instead of 36. The multiplications are matrix products
//! over all tiles.
//!
//! An output tile of M x M reads N x N inputs, N = M + 2. With inputs `d`, a kernel `g` and outputs
//! `y`:
//!
//! ```text
//! y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
//! gradient with respect to inputs: the same for dy, with kernels rotated by 180 degrees
//! gradient with respect to kernels: dg = Gᵀ [(A dy Aᵀ) ⊙ (Bᵀ d B)] G
//! ```
//!
//! Transforms run along columns, then rows, for the same tile of [`LANES`] images at once.

use std::ops::{Add, Mul, Sub};

use rayon::prelude::*;

use super::matrix::{Buffer, matrix, multiply};
use super::shapes::ConvShape;
use super::simd::widest;

/// Number of images or kernels that are transformed together.
const LANES: usize = 8;

/// Number of tiles per round of matrix products: many enough for them, few enough for caches.
const TILES: usize = 128;

/// One number from each of [`LANES`] images or kernels.
#[derive(Clone, Copy)]
struct Lanes([f32; LANES]);

impl Lanes {
    const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = Self::ZERO;
        lanes.0.copy_from_slice(&from[..LANES]);
        lanes
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self.0);
    }
}

macro_rules! lanewise {
    ($($operator:ident $function:ident $symbol:tt;)*) => {$(
        impl $operator for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $function(mut self, other: Self) -> Self {
                for (a, b) in self.0.iter_mut().zip(other.0) {
                    *a $symbol b;
                }
                self
            }
        }
    )*};
}
lanewise! {
    Add add +=;
    Sub sub -=;
}

impl Mul<f32> for Lanes {
    type Output = Self;
    #[inline(always)]
    fn mul(mut self, factor: f32) -> Self {
        for a in &mut self.0 {
            *a *= factor;
        }
        self
    }
}

/// Transforms of F(M, 3) along one direction: products with its matrices.
trait Filter<const M: usize, const N: usize>: 'static {
    /// Computes Bᵀ d.
    fn input(d: [Lanes; N]) -> [Lanes; N];
    /// Computes Aᵀ m.
    fn output(m: [Lanes; N]) -> [Lanes; M];
    /// Computes A dy.
    fn gradient(dy: [Lanes; M]) -> [Lanes; N];
    /// Computes G g.
    fn kernel(g: [Lanes; 3]) -> [Lanes; N];
    /// Computes Gᵀ m.
    fn kernel_gradient(m: [Lanes; N]) -> [Lanes; 3];
}

/// Transforms of F(2, 3) for the points 0, 1, -1 and infinity.
struct F2;

impl Filter<2, 4> for F2 {
    #[inline(always)]
    fn input([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
        [a - c, b + c, c - b, b - d]
    }

    #[inline(always)]
    fn output([a, b, c, d]: [Lanes; 4]) -> [Lanes; 2] {
        [a + b + c, b - c - d]
    }

    #[inline(always)]
    fn gradient([a, b]: [Lanes; 2]) -> [Lanes; 4] {
        [a, a + b, a - b, Lanes::ZERO - b]
    }

    #[inline(always)]
    fn kernel([a, b, c]: [Lanes; 3]) -> [Lanes; 4] {
        let outer = (a + c) * 0.5;
        [a, outer + b * 0.5, outer - b * 0.5, c]
    }

    #[inline(always)]
    fn kernel_gradient([a, b, c, d]: [Lanes; 4]) -> [Lanes; 3] {
        let sum = (b + c) * 0.5;
        [a + sum, (b - c) * 0.5, sum + d]
    }
}

/// Transforms of F(4, 3) for the points 0, 1, -1, 2, -2 and infinity.
struct F4;

impl Filter<4, 6> for F4 {
    #[inline(always)]
    fn input([a, b, c, d, e, f]: [Lanes; 6]) -> [Lanes; 6] {
        let (even, odd) = (e - c * 4.0, d - b * 4.0);
        let (even2, odd2) = (e - c, (d - b) * 2.0);
        [
            a * 4.0 - c * 5.0 + e,
            even + odd,
            even - odd,
            even2 + odd2,
            even2 - odd2,
            b * 4.0 - d * 5.0 + f,
        ]
    }

    #[inline(always)]
    fn output([a, b, c, d, e, f]: [Lanes; 6]) -> [Lanes; 4] {
        let (sum, difference) = (b + c, b - c);
        let (sum2, difference2) = (d + e, d - e);
        [
            a + sum + sum2,
            difference + difference2 * 2.0,
            sum + sum2 * 4.0,
            difference + difference2 * 8.0 + f,
        ]
    }

    #[inline(always)]
    fn gradient([a, b, c, d]: [Lanes; 4]) -> [Lanes; 6] {
        let (even, odd) = (a + c, b + d);
        let (even2, odd2) = (a + c * 4.0, (b + d * 4.0) * 2.0);
        [a, even + odd, even - odd, even2 + odd2, even2 - odd2, d]
    }

    #[inline(always)]
    fn kernel([a, b, c]: [Lanes; 3]) -> [Lanes; 6] {
        let (even, odd) = ((a + c) * (-1.0 / 6.0), b * (1.0 / 6.0));
        let (even2, odd2) = (a * (1.0 / 24.0) + c * (1.0 / 6.0), b * (1.0 / 12.0));
        [a * 0.25, even - odd, even + odd, even2 + odd2, even2 - odd2, c]
    }

    #[inline(always)]
    fn kernel_gradient([a, b, c, d, e, f]: [Lanes; 6]) -> [Lanes; 3] {
        let (sum, difference) = ((b + c) * (1.0 / 6.0), (c - b) * (1.0 / 6.0));
        let sum2 = d + e;
        [
            a * 0.25 - sum + sum2 * (1.0 / 24.0),
            difference + (d - e) * (1.0 / 12.0),
            sum2 * (1.0 / 6.0) - sum + f,
        ]
    }
}

/// Transforms a square along columns, then along rows. `at` reads and `put` writes the number at a
/// row and column; `columns` is memory for the intermediate result.
#[inline(always)]
fn square<const FROM: usize, const TO: usize>(
    along: impl Fn([Lanes; FROM]) -> [Lanes; TO],
    columns: &mut [[Lanes; FROM]; TO],
    at: impl Fn(usize, usize) -> Lanes,
    mut put: impl FnMut(usize, usize, Lanes),
) {
    for column in 0..FROM {
        let mut values = [Lanes::ZERO; FROM];
        for (row, value) in values.iter_mut().enumerate() {
            *value = at(row, column);
        }
        for (row, value) in columns.iter_mut().zip(&along(values)) {
            row[column] = *value;
        }
    }
    for (row, values) in columns.iter().enumerate() {
        for (column, value) in along(*values).iter().enumerate() {
            put(row, column, *value);
        }
    }
}

/// Numbering of the tiles of images: by block of [`LANES`] images, row, column and image. The last
/// block is filled up with zeros.
#[derive(Clone, Copy)]
struct Tiling {
    /// Height and width of an image.
    side: usize,
    /// Number of tiles per row of an image.
    n: usize,
    /// Number of images per group, a multiple of [`LANES`].
    group: usize,
}

impl Tiling {
    fn new(side: usize, tile: usize) -> Self {
        let n = side / tile;
        let group = (TILES / (n * n)).max(1).next_multiple_of(LANES);
        Self { side, n, group }
    }

    fn plane(self) -> usize {
        self.side * self.side
    }

    /// Index of the first tile of a block at tile row i and column j.
    fn at(self, block: usize, i: usize, j: usize) -> usize {
        ((block * self.n + i) * self.n + j) * LANES
    }

    /// Number of tiles of `images`, with the last block filled up.
    fn tiles(self, images: usize) -> usize {
        images.next_multiple_of(LANES) * self.n * self.n
    }
}

/// Stride of at least `length` that is no power of two, whose multiples would share cache lines.
const fn padded(length: usize) -> usize {
    length.next_multiple_of(16) + 16
}

/// True for convolutions that minimal filtering can compute faster than im2col.
pub(crate) fn suits(shape: &ConvShape, images: usize) -> bool {
    let ConvShape { inputs, outputs, side, kernel, stride, padding } = *shape;
    let whole = side % 2 == 0 && inputs % LANES == 0 && outputs % LANES == 0;
    (kernel, stride, padding) == (3, 1, 1) && whole && images >= LANES
}

widest! {
    /// Computes Bᵀ d B or A dy Aᵀ, depending on `along` and the `origin` of the first tile, for one
    /// channel of some images; `stride` is the step from one of the N x N numbers to the next.
    fn transform[A: Fn([Lanes; FROM]) -> [Lanes; N], const FROM: usize, const N: usize]
        [A, FROM, N](
        along: &A, origin: usize, tiling: Tiling, images: &[f32], channels: usize, channel: usize,
        stride: usize, pixels: &mut Vec<f32>, out: &mut [f32]
    ) {
        let Tiling { side, n, .. } = tiling;
        let (plane, row, tile) = (tiling.plane(), side + 2, side / n);
        // Every channel writes the same pixels, so that those around them stay zero.
        pixels.resize(row * row * LANES, 0.0);
        let zeros = &vec![0.0; side][..];
        let mut columns = [[Lanes::ZERO; FROM]; N];
        for (block, images) in images.chunks(LANES * channels * plane).enumerate() {
            for y in 0..side {
                // One row of every image, zeros for the images that fill up the block.
                let mut rows = [zeros; LANES];
                for (lane, row) in rows.iter_mut().enumerate() {
                    let first = (lane * channels + channel) * plane + y * side;
                    *row = images.get(first..first + side).unwrap_or(zeros);
                }
                let to = &mut pixels[((y + 1) * row + 1) * LANES..][..side * LANES];
                for (x, to) in to.chunks_exact_mut(LANES).enumerate() {
                    for (to, row) in to.iter_mut().zip(rows) {
                        *to = row[x];
                    }
                }
            }
            for i in 0..n {
                for j in 0..n {
                    let first = (i * tile + origin) * row + j * tile + origin;
                    let at = |y, x| Lanes::load(&pixels[(first + y * row + x) * LANES..]);
                    let out = &mut out[tiling.at(block, i, j)..];
                    square(along, &mut columns, at, |y, x, value| {
                        value.store(&mut out[(y * N + x) * stride..]);
                    });
                }
            }
        }
    }

    /// Computes Aᵀ m A of one channel and adds or writes it to its planes. The first of the N x N
    /// numbers of each tile is at the start of `m`.
    fn transform_output[A: Fn([Lanes; N]) -> [Lanes; M], const M: usize, const N: usize][A, M, N](
        along: &A, tiling: Tiling, m: &[f32], stride: usize, add: bool, pixels: &mut Vec<f32>,
        planes: &mut [&mut [f32]]
    ) {
        let Tiling { side, n, .. } = tiling;
        pixels.resize(side * side * LANES, 0.0);
        let mut columns = [[Lanes::ZERO; N]; M];
        for (block, planes) in planes.chunks_mut(LANES).enumerate() {
            for i in 0..n {
                for j in 0..n {
                    let m = &m[tiling.at(block, i, j)..];
                    let at = |y, x| Lanes::load(&m[(y * N + x) * stride..]);
                    square(along, &mut columns, at, |y, x, value| {
                        value.store(&mut pixels[((i * M + y) * side + j * M + x) * LANES..]);
                    });
                }
            }
            // Four pixels of all images at a time, so that memory is read and written in order.
            for (i, from) in pixels.chunks_exact(4 * LANES).enumerate() {
                for (lane, plane) in planes.iter_mut().enumerate() {
                    let to = &mut plane[4 * i..][..4];
                    for (p, to) in to.iter_mut().enumerate() {
                        let before = if add { *to } else { 0.0 };
                        *to = before + from[p * LANES + lane];
                    }
                }
            }
        }
    }

    /// Computes G g Gᵀ of every kernel of one output as `[N x N][inputs]`. `turned` rotates the
    /// kernels by 180 degrees, for the gradient with respect to images. `step` is the distance from
    /// a kernel to that of the next input.
    fn transform_kernels[A: Fn([Lanes; 3]) -> [Lanes; N], const N: usize][A, N](
        along: &A, w: &[f32], step: usize, turned: bool, inputs: usize, out: &mut [f32]
    ) {
        let mut columns = [[Lanes::ZERO; 3]; N];
        for i in (0..inputs).step_by(LANES) {
            let at = |y, x| {
                let place = if turned { 8 - 3 * y - x } else { 3 * y + x };
                let mut lanes = Lanes::ZERO;
                for (lane, value) in lanes.0.iter_mut().enumerate() {
                    *value = w[(i + lane) * step + place];
                }
                lanes
            };
            square(along, &mut columns, at, |y, x, value| {
                value.store(&mut out[(y * N + x) * inputs + i..]);
            });
        }
    }

    /// Computes Gᵀ m G of every kernel of one output and adds it to `dw`. The first of the N x N
    /// numbers of each kernel is at the start of `m`.
    fn transform_kernel_gradients[A: Fn([Lanes; N]) -> [Lanes; 3], const N: usize][A, N](
        along: &A, m: &[f32], stride: usize, dw: &mut [f32]
    ) {
        let mut columns = [[Lanes::ZERO; N]; 3];
        for (i, dw) in dw.chunks_exact_mut(9 * LANES).enumerate() {
            let at = |y, x| Lanes::load(&m[(y * N + x) * stride + i * LANES..]);
            square(along, &mut columns, at, |y, x, value| {
                for (dw, value) in dw.chunks_exact_mut(9).zip(value.0) {
                    dw[3 * y + x] += value;
                }
            });
        }
    }
}

/// Transforms the tiles of every channel of some images to `[channels][N x N][tiles]` and returns
/// the step from one of the N x N numbers to the next. Values between are arbitrary.
fn transformed<const FROM: usize, const N: usize>(
    along: impl Fn([Lanes; FROM]) -> [Lanes; N] + Sync,
    tiling: Tiling,
    images: &[f32],
    channels: usize,
    out: &mut [f32],
) -> usize {
    let stride = padded(tiling.tiles(images.len() / (channels * tiling.plane())));
    // Tiles of inputs start in the padding, tiles of gradients in the image.
    let origin = usize::from(FROM < N);
    out[..channels * N * N * stride].par_chunks_mut(N * N * stride).enumerate().for_each_init(
        Vec::new,
        |pixels, (channel, out)| {
            transform(&along, origin, tiling, images, channels, channel, stride, pixels, out);
        },
    );
    stride
}

/// Convolves every image, or with `turned` adds the gradient with respect to the images.
fn run<F: Filter<M, N>, const M: usize, const N: usize>(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    turned: bool,
) {
    let (inputs, outputs, by_output, by_input) = if turned {
        (shape.outputs, shape.inputs, 9, 9 * shape.inputs)
    } else {
        (shape.inputs, shape.outputs, 9 * shape.inputs, 9)
    };
    let tiling = Tiling::new(shape.side, M);
    let plane = tiling.plane();
    let mut kernels = Buffer::new(outputs * N * N * inputs);
    kernels.par_chunks_mut(N * N * inputs).enumerate().for_each(|(o, out)| {
        let w = &w[o * by_output..];
        transform_kernels(&F::kernel, w, by_input, turned, inputs, out);
    });
    let most = padded(tiling.tiles((x.len() / (inputs * plane)).min(tiling.group)));
    let mut v = Buffer::new(N * N * inputs * most);
    let mut m = Buffer::new(N * N * padded(outputs * most));
    let groups = x.chunks(tiling.group * inputs * plane);
    for (x, y) in groups.zip(y.chunks_mut(tiling.group * outputs * plane)) {
        let tiles = tiling.tiles(x.len() / (inputs * plane));
        let stride = transformed(F::input, tiling, x, inputs, &mut v);
        let step = padded(outputs * stride);
        let (v, kernels) = (&v, &kernels);
        m[..N * N * step].par_chunks_mut(step).enumerate().for_each(|(f, m)| {
            let a = matrix(&kernels[f * inputs..], N * N * inputs, 1);
            let b = matrix(&v[f * stride..], N * N * stride, 1);
            multiply([outputs, tiles, inputs], m, stride, false, a, b);
        });
        let mut planes: Vec<Vec<&mut [f32]>> = (0..outputs).map(|_| Vec::new()).collect();
        for (i, plane) in y.chunks_exact_mut(plane).enumerate() {
            planes[i % outputs].push(plane);
        }
        let m = &m;
        planes.par_iter_mut().enumerate().for_each_init(Vec::new, |pixels, (channel, planes)| {
            let m = &m[channel * stride..];
            transform_output(&F::output, tiling, m, step, turned, pixels, planes);
        });
    }
}

/// Adds the gradient with respect to the kernels.
fn run_by_weights<F: Filter<M, N>, const M: usize, const N: usize>(
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let ConvShape { inputs, outputs, .. } = *shape;
    let tiling = Tiling::new(shape.side, M);
    let plane = tiling.plane();
    let most = padded(tiling.tiles((x.len() / (inputs * plane)).min(tiling.group)));
    let mut v = Buffer::new(N * N * inputs * most);
    let mut q = Buffer::new(N * N * outputs * most);
    let mut sums = Buffer::new(N * N * outputs * inputs);
    let groups = x.chunks(tiling.group * inputs * plane);
    let groups = groups.zip(dy.chunks(tiling.group * outputs * plane));
    for (group, (x, dy)) in groups.enumerate() {
        let tiles = tiling.tiles(x.len() / (inputs * plane));
        let stride = transformed(F::input, tiling, x, inputs, &mut v);
        transformed(F::gradient, tiling, dy, outputs, &mut q);
        let (v, q) = (&v, &q);
        // Each of the N x N sums belongs to one task, which adds in the order of the images.
        sums.par_chunks_mut(outputs * inputs).enumerate().for_each(|(f, sum)| {
            let a = matrix(&q[f * stride..], N * N * stride, 1);
            let b = matrix(&v[f * stride..], N * N * stride, 1).transposed();
            multiply([outputs, inputs, tiles], sum, inputs, group > 0, a, b);
        });
    }
    dw.par_chunks_mut(9 * inputs).enumerate().for_each(|(o, dw)| {
        let m = &sums[o * inputs..];
        transform_kernel_gradients(&F::kernel_gradient, m, outputs * inputs, dw);
    });
}

fn convolution(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32], turned: bool) {
    // Inside a thread of the pool, the many short rounds start sooner than from outside.
    rayon::scope(|_| {
        if shape.side.is_multiple_of(4) {
            run::<F4, 4, 6>(shape, x, w, y, turned);
        } else {
            run::<F2, 2, 4>(shape, x, w, y, turned);
        }
    });
}

/// Convolves every image.
pub(crate) fn convolve(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    convolution(shape, x, w, y, false);
}

/// Adds the gradient with respect to the images to `dx`.
pub(crate) fn convolve_by_images(shape: &ConvShape, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    convolution(shape, dy, w, dx, true);
}

/// Adds the gradient with respect to the kernels to `dw`.
pub(crate) fn convolve_by_weights(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    rayon::scope(|_| {
        if shape.side.is_multiple_of(4) {
            run_by_weights::<F4, 4, 6>(shape, x, dy, dw);
        } else {
            run_by_weights::<F2, 2, 4>(shape, x, dy, dw);
        }
    });
}
