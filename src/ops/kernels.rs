//! CPU kernels of [`ops`](crate::ops) on slices of `f32`, on all cores.
//!
//! Images are images x channels x rows x columns, row by row. Work is divided by the sizes of the
//! data, never by the number of threads, so that every sum has a fixed order and results do not
//! depend on the number of cores. Gradients are added to the contents of `dx`, `dw`, ...

use rayon::prelude::*;

use super::matrix::{matrix, multiply};
use super::shapes::ConvShape;
use super::simd::widest;
use super::winograd;

/// Number of chunks of images whose gradients with respect to the weights are summed separately.
const CHUNKS: usize = 8;

/// Number of values per elementwise task, enough to outweigh the cost of starting it.
const SPAN: usize = 1 << 14;

/// Number of images per matrix product, enough columns to keep the vector units busy.
fn group(shape: &ConvShape) -> usize {
    let positions = shape.positions();
    (256 / positions).clamp(1, 32)
}

/// Gathers the patches of the images `x` into `columns`, kernel places x images x positions.
fn im2col(shape: &ConvShape, x: &[f32], images: usize, columns: &mut [f32]) {
    let (side, out_side) = (shape.side, shape.out_side());
    let width = images * shape.positions();
    for (place, row) in columns.chunks_exact_mut(width).enumerate() {
        let (channel, kernel_row, kernel_column) = shape.place(place);
        for (image, row) in row.chunks_exact_mut(out_side * out_side).enumerate() {
            let plane = &x[(image * shape.inputs + channel) * side * side..][..side * side];
            for (r, row) in row.chunks_exact_mut(out_side).enumerate() {
                let Some(from) = shape.reads(r, kernel_row) else {
                    row.fill(0.0);
                    continue;
                };
                let from = &plane[from * side..][..side];
                let inside = shape.inside(kernel_column);
                row[..inside.start].fill(0.0);
                row[inside.end..].fill(0.0);
                if inside.is_empty() {
                    continue;
                }
                let first = inside.start * shape.stride + kernel_column - shape.padding;
                if shape.stride == 1 {
                    let length = inside.len();
                    row[inside].copy_from_slice(&from[first..][..length]);
                } else {
                    let from = from[first..].iter().step_by(shape.stride);
                    row[inside].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// Adds columns to the pixels that [`im2col`] reads them from.
fn col2im(shape: &ConvShape, columns: &[f32], images: usize, dx: &mut [f32]) {
    let (side, out_side) = (shape.side, shape.out_side());
    let width = images * shape.positions();
    for (place, row) in columns.chunks_exact(width).enumerate() {
        let (channel, kernel_row, kernel_column) = shape.place(place);
        let inside = shape.inside(kernel_column);
        if inside.is_empty() {
            continue;
        }
        let first = inside.start * shape.stride + kernel_column - shape.padding;
        for (image, row) in row.chunks_exact(out_side * out_side).enumerate() {
            let plane = &mut dx[(image * shape.inputs + channel) * side * side..][..side * side];
            for (r, row) in row.chunks_exact(out_side).enumerate() {
                if let Some(to) = shape.reads(r, kernel_row) {
                    let to = plane[to * side..][..side][first..].iter_mut();
                    let from = &row[inside.clone()];
                    to.step_by(shape.stride).zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}

/// Transposes images x channels x positions to channels x images x positions. With `images` and
/// `channels` exchanged it is its own inverse.
fn exchange(images: usize, channels: usize, positions: usize, from: &[f32], to: &mut [f32]) {
    for image in 0..images {
        for channel in 0..channels {
            to[(channel * images + image) * positions..][..positions]
                .copy_from_slice(&from[(image * channels + channel) * positions..][..positions]);
        }
    }
}

/// Convolves every image.
pub(crate) fn convolve(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    if winograd::suits(shape, x.len() / shape.input_size()) {
        return winograd::convolve(shape, x, w, y);
    }
    let (places, positions) = (shape.places(), shape.positions());
    let [x_size, y_size] = [shape.input_size(), shape.output_size()];
    let group = group(shape);
    y.par_chunks_mut(group * y_size).zip(x.par_chunks(group * x_size)).for_each_init(
        || (Vec::new(), Vec::new()),
        |(columns, product), (y, x)| {
            let images = x.len() / x_size;
            let width = images * positions;
            columns.resize(places * width, 0.0);
            im2col(shape, x, images, columns);
            let size = [shape.outputs, width, places];
            let (w, columns) = (matrix(w, places, 1), matrix(columns, width, 1));
            if images == 1 {
                multiply(size, y, positions, false, w, columns);
            } else {
                product.resize(shape.outputs * width, 0.0);
                multiply(size, product, width, false, w, columns);
                exchange(shape.outputs, images, positions, product, y);
            }
        },
    );
}

/// Computes the gradient of [`convolve`] with respect to the images.
pub(crate) fn convolve_by_images(shape: &ConvShape, w: &[f32], dy: &[f32], dx: &mut [f32]) {
    if winograd::suits(shape, dx.len() / shape.input_size()) {
        return winograd::convolve_by_images(shape, w, dy, dx);
    }
    let (places, positions) = (shape.places(), shape.positions());
    let [x_size, y_size] = [shape.input_size(), shape.output_size()];
    let group = group(shape);
    dx.par_chunks_mut(group * x_size).zip(dy.par_chunks(group * y_size)).for_each_init(
        || (Vec::new(), Vec::new()),
        |(columns, by_channel), (dx, dy)| {
            let images = dy.len() / y_size;
            let width = images * positions;
            columns.resize(places * width, 0.0);
            by_channel.resize(shape.outputs * width, 0.0);
            exchange(images, shape.outputs, positions, dy, by_channel);
            multiply(
                [places, width, shape.outputs],
                columns,
                width,
                false,
                matrix(w, places, 1).transposed(),
                matrix(by_channel, width, 1),
            );
            col2im(shape, columns, images, dx);
        },
    );
}

/// Adds the results of `partial` for each chunk of `items` to `sum`, in the order of the chunks.
fn sum_of_chunks(
    items: usize,
    sum: &mut [f32],
    partial: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) {
    let each = items.div_ceil(CHUNKS).max(1);
    let starts: Vec<usize> = (0..items).step_by(each).collect();
    let parts: Vec<Vec<f32>> = starts
        .into_par_iter()
        .map(|start| {
            let mut part = vec![0.0; sum.len()];
            partial(start..items.min(start + each), &mut part);
            part
        })
        .collect();
    sum.par_iter_mut().with_min_len(SPAN).enumerate().for_each(|(i, sum)| {
        for part in &parts {
            *sum += part[i];
        }
    });
}

/// Computes the gradient of [`convolve`] with respect to the weights.
pub(crate) fn convolve_by_weights(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if winograd::suits(shape, x.len() / shape.input_size()) {
        return winograd::convolve_by_weights(shape, x, dy, dw);
    }
    let (places, positions) = (shape.places(), shape.positions());
    let [x_size, y_size] = [shape.input_size(), shape.output_size()];
    let group = group(shape);
    sum_of_chunks(x.len() / x_size, dw, |range, dw| {
        let (mut columns, mut by_channel) = (Vec::new(), Vec::new());
        let x = x[range.start * x_size..range.end * x_size].chunks(group * x_size);
        let dy = dy[range.start * y_size..range.end * y_size].chunks(group * y_size);
        for (x, dy) in x.zip(dy) {
            let images = x.len() / x_size;
            let width = images * positions;
            columns.resize(places * width, 0.0);
            im2col(shape, x, images, &mut columns);
            by_channel.resize(shape.outputs * width, 0.0);
            exchange(images, shape.outputs, positions, dy, &mut by_channel);
            multiply(
                [shape.outputs, places, width],
                dw,
                places,
                true,
                matrix(&by_channel, width, 1),
                matrix(&columns, width, 1).transposed(),
            );
        }
    });
}

/// Computes means of `size` x `size` squares of planes of `side` x `side`.
pub(crate) fn average_pool(side: usize, size: usize, x: &[f32], y: &mut [f32]) {
    let half = side / size;
    let share = 1.0 / (size * size) as f32;
    let planes = (SPAN / (side * side)).max(1);
    y.par_chunks_mut(planes * half * half).zip(x.par_chunks(planes * side * side)).for_each(
        |(y, x)| {
            for (y, x) in y.chunks_exact_mut(half).zip(x.chunks_exact(size * side)) {
                if size == 2 {
                    let (top, bottom) = x.split_at(side);
                    let squares = top.chunks_exact(2).zip(bottom.chunks_exact(2));
                    for (y, (top, bottom)) in y.iter_mut().zip(squares) {
                        *y = (top[0] + top[1] + bottom[0] + bottom[1]) * share;
                    }
                    continue;
                }
                for (column, y) in y.iter_mut().enumerate() {
                    let rows = x.chunks_exact(side);
                    let sum: f32 = rows.flat_map(|row| &row[column * size..][..size]).sum();
                    *y = sum * share;
                }
            }
        },
    );
}

/// Computes the gradient of [`average_pool`].
pub(crate) fn average_pool_backward(side: usize, size: usize, dy: &[f32], dx: &mut [f32]) {
    let half = side / size;
    let share = 1.0 / (size * size) as f32;
    let planes = (SPAN / (side * side)).max(1);
    dx.par_chunks_mut(planes * side * side).zip(dy.par_chunks(planes * half * half)).for_each(
        |(dx, dy)| {
            for (dx, dy) in dx.chunks_exact_mut(size * side).zip(dy.chunks_exact(half)) {
                for row in dx.chunks_exact_mut(side) {
                    if size == 2 {
                        for (dx, dy) in row.chunks_exact_mut(2).zip(dy) {
                            let each = dy * share;
                            dx[0] += each;
                            dx[1] += each;
                        }
                        continue;
                    }
                    for (dx, dy) in row.chunks_exact_mut(size).zip(dy) {
                        dx.iter_mut().for_each(|dx| *dx += dy * share);
                    }
                }
            }
        },
    );
}

/// Computes y = max(x, 0).
pub(crate) fn relu(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(SPAN).zip(x.par_chunks(SPAN)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0));
    });
}

/// Computes the gradient of [`relu`] from its output y.
pub(crate) fn relu_backward(y: &[f32], dy: &[f32], dx: &mut [f32]) {
    dx.par_chunks_mut(SPAN).zip(y.par_chunks(SPAN).zip(dy.par_chunks(SPAN))).for_each(
        |(dx, (y, dy))| {
            for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                *dx += if *y > 0.0 { *dy } else { 0.0 };
            }
        },
    );
}

/// Computes the quantisation clip-floor-shift activation (Bu et al. 2022, ICLR) of one value:
/// `bound` clip(floor(x `levels` / `bound` + 1/2) / `levels`, 0, 1).
#[inline(always)]
pub(crate) fn qcfs_of(x: f32, bound: f32, levels: f32) -> f32 {
    bound * level(x, bound, levels).clamp(0.0, levels) / levels
}

/// Level of x before clipping.
#[inline(always)]
fn level(x: f32, bound: f32, levels: f32) -> f32 {
    (x / bound * levels + 0.5).floor()
}

widest! {
    fn qcfs_span[][](bound: f32, levels: f32, x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = qcfs_of(x, bound, levels));
    }

    fn qcfs_span_backward[][](
        bound: f32, levels: f32, x: &[f32], dy: &[f32], dx: &mut [f32], by_bound: &mut [f32],
    ) {
        let values = x.iter().zip(dy).zip(dx.iter_mut().zip(by_bound));
        for ((&x, &dy), (dx, by_bound)) in values {
            let level = level(x, bound, levels);
            let inside = if (0.0..=levels).contains(&level) { dy } else { 0.0 };
            *dx += inside;
            *by_bound = dy * level.clamp(0.0, levels) / levels - inside * (x / bound);
        }
    }
}

/// Computes [`qcfs_of`] for every x.
pub(crate) fn qcfs(bound: f32, levels: f32, x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(SPAN)
        .zip(x.par_chunks(SPAN))
        .for_each(|(y, x)| qcfs_span(bound, levels, x, y));
}

/// Computes the gradient of [`qcfs`] with respect to x and returns that with respect to the bound.
pub(crate) fn qcfs_backward(bound: f32, levels: f32, x: &[f32], dy: &[f32], dx: &mut [f32]) -> f64 {
    let spans = dx.par_chunks_mut(SPAN);
    let spans = spans.zip(x.par_chunks(SPAN).zip(dy.par_chunks(SPAN)));
    let sums = spans.map(|(dx, (x, dy))| {
        let mut by_bound = vec![0.0; x.len()];
        qcfs_span_backward(bound, levels, x, dy, dx, &mut by_bound);
        by_bound.into_iter().map(f64::from).sum::<f64>()
    });
    sums.collect::<Vec<f64>>().into_iter().sum()
}

/// Computes binary weights (Rastegari et al. 2016, equation 6): the sign of each weight, 1 for 0,
/// times the mean magnitude of the weights of its output channel.
pub(crate) fn binarise(outputs: usize, weight: &[f32], binary: &mut [f32]) {
    let each = weight.len() / outputs;
    let channels = weight.chunks_exact(each).zip(binary.chunks_exact_mut(each));
    for (weight, binary) in channels {
        let scale = mean_magnitude(weight);
        for (binary, w) in binary.iter_mut().zip(weight) {
            *binary = if *w >= 0.0 { scale } else { -scale };
        }
    }
}

fn mean_magnitude(weight: &[f32]) -> f32 {
    let sum: f64 = weight.iter().map(|w| f64::from(w.abs())).sum();
    (sum / weight.len() as f64) as f32
}

/// Computes the gradient of [`binarise`], with 1 in -1..=1 as the gradient of the sign.
pub(crate) fn binarise_backward(outputs: usize, weight: &[f32], dy: &[f32], dw: &mut [f32]) {
    let each = weight.len() / outputs;
    let channels = weight.chunks_exact(each).zip(dy.chunks_exact(each));
    for ((weight, dy), dw) in channels.zip(dw.chunks_exact_mut(each)) {
        let (scale, sign) = (mean_magnitude(weight), |w: f32| if w >= 0.0 { 1.0 } else { -1.0 });
        let products = weight.iter().zip(dy).map(|(&w, &dy)| f64::from(sign(w) * dy));
        let by_scale = (products.sum::<f64>() / each as f64) as f32;
        for (dw, (&w, dy)) in dw.iter_mut().zip(weight.iter().zip(dy)) {
            let straight = if w.abs() <= 1.0 { scale * dy } else { 0.0 };
            *dw += by_scale * sign(w) + straight;
        }
    }
}

/// Computes y += x.
pub(crate) fn accumulate(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(SPAN).zip(x.par_chunks(SPAN)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
}

widest! {
    /// Sums the terms of one channel of one image: first 16 partial sums in f32, then in f64.
    fn plane_sums
        [const N: usize, const K: usize, F: Fn([f32; N]) -> [f32; K]][N, K, F](
        planes: [&[f32]; N], terms: F, sums: &mut [f64; K]
    ) {
        const LANES: usize = 16;
        let positions = planes[0].len();
        let planes = planes.map(|plane| &plane[..positions]);
        let mut lanes = [[0.0_f32; LANES]; K];
        let whole = positions - positions % LANES;
        for first in (0..whole).step_by(LANES) {
            for lane in 0..LANES {
                let terms = terms(planes.map(|plane| plane[first + lane]));
                for (lanes, term) in lanes.iter_mut().zip(terms) {
                    lanes[lane] += term;
                }
            }
        }
        for p in whole..positions {
            let terms = terms(planes.map(|plane| plane[p]));
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[p % LANES] += term;
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(lanes) {
            *sum += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
    }
}

/// Sums `K` values per pixel over images and positions, for every channel.
fn channel_sums<const N: usize, const K: usize>(
    channels: usize,
    positions: usize,
    data: [&[f32]; N],
    terms: impl Fn(usize, [f32; N]) -> [f32; K] + Sync,
) -> Vec<[f64; K]> {
    let size = channels * positions;
    let images = data[0].len() / size;
    if positions == 1 {
        // Features: neighbouring values belong to different channels.
        let mut sums = vec![[0.0; K]; channels];
        for image in 0..images {
            for (c, sums) in sums.iter_mut().enumerate() {
                let terms = terms(c, data.map(|data| data[image * size + c]));
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += f64::from(term));
            }
        }
        return sums;
    }
    let chunks: Vec<usize> = (0..images).step_by(images.div_ceil(CHUNKS).max(1)).collect();
    let parts: Vec<Vec<[f64; K]>> = chunks
        .into_par_iter()
        .map(|start| {
            let end = images.min(start + images.div_ceil(CHUNKS));
            let mut sums = vec![[0.0; K]; channels];
            for image in start..end {
                for (c, sums) in sums.iter_mut().enumerate() {
                    let planes =
                        data.map(|data| &data[image * size + c * positions..][..positions]);
                    plane_sums(planes, |values| terms(c, values), sums);
                }
            }
            sums
        })
        .collect();
    let mut total = vec![[0.0; K]; channels];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(a, b)| *a += b);
        }
    }
    total
}

/// Computes mean and variance (divided by n) of every channel over images and positions.
pub(crate) fn statistics(channels: usize, positions: usize, x: &[f32]) -> [Vec<f32>; 2] {
    let n = (x.len() / channels) as f64;
    // Two passes: a single one loses the variance of values far from 0 to rounding.
    let sums = channel_sums(channels, positions, [x], |_, [x]| [x]);
    let mean: Vec<f32> = sums.iter().map(|sum| (sum[0] / n) as f32).collect();
    let sums = channel_sums(channels, positions, [x], |c, [x]| [(x - mean[c]) * (x - mean[c])]);
    let variance = sums.iter().map(|sum| (sum[0] / n) as f32).collect();
    [mean, variance]
}

/// Computes y = x * scale + shift, both per channel.
pub(crate) fn scale_shift(
    positions: usize,
    scale: &[f32],
    shift: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    let size = scale.len() * positions;
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        let planes = y.chunks_exact_mut(positions).zip(x.chunks_exact(positions));
        for ((y, x), (a, b)) in planes.zip(scale.iter().zip(shift)) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * a + b);
        }
    });
}

/// Sums dy and dy * (x - mean) for every channel.
pub(crate) fn norm_sums(
    channels: usize,
    positions: usize,
    mean: &[f32],
    x: &[f32],
    dy: &[f32],
) -> Vec<[f64; 2]> {
    channel_sums(channels, positions, [x, dy], |c, [x, dy]| [dy, dy * (x - mean[c])])
}

/// Computes dx += dy * by_dy + x * by_x + constant, the three per channel.
pub(crate) fn norm_backward(
    positions: usize,
    [by_dy, by_x, constant]: [&[f32]; 3],
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    let channels = by_dy.len();
    let size = channels * positions;
    dx.par_chunks_mut(size).zip(x.par_chunks(size).zip(dy.par_chunks(size))).for_each(
        |(dx, (x, dy))| {
            for c in 0..channels {
                let plane = c * positions..(c + 1) * positions;
                let (a, b, constant) = (by_dy[c], by_x[c], constant[c]);
                let values = x[plane.clone()].iter().zip(&dy[plane.clone()]);
                for (dx, (x, dy)) in dx[plane].iter_mut().zip(values) {
                    *dx += dy * a + x * b + constant;
                }
            }
        },
    );
}
