use super::*;
use dfdx::prelude::*;

/// Convolution by its definition, term by term.
fn conv(weight: &[f64], image: &[f64], channels: [usize; 2], side: usize) -> Vec<f64> {
    let mut out = vec![0.0; channels[1] * side * side];
    let at = |c: usize, row: isize, column: isize| {
        let inside = |x| (0..side as isize).contains(&x);
        if inside(row) && inside(column) {
            image[(c * side + row as usize) * side + column as usize]
        } else {
            0.0
        }
    };
    for (i, out) in out.iter_mut().enumerate() {
        let (o, row, column) = (i / side / side, i / side % side, i % side);
        for c in 0..channels[0] {
            for k in 0..9 {
                let (r, s) = (row + k / 3, column + k % 3);
                *out +=
                    weight[(o * channels[0] + c) * 9 + k] * at(c, r as isize - 1, s as isize - 1);
            }
        }
    }
    out
}

#[test]
fn convolution_is_the_definition() {
    let dev = Cpu::seed_from_u64(1);
    let net = dev.build_module::<super::Conv3x3<3, 4, 5>, f64>();
    let images: Tensor<Rank4<2, 3, 5, 5>, f64, _> = dev.sample_normal();
    let out = net.forward(images.clone()).as_vec();
    let (weight, images) = (net.weight.as_vec(), images.as_vec());
    for (image, out) in images.chunks(75).zip(out.chunks(100)) {
        for (a, b) in conv(&weight, image, [3, 4], 5).iter().zip(out) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}

#[test]
fn pooling_is_the_mean_of_squares() {
    let dev = Cpu::default();
    let image: Tensor<Rank4<1, 1, 4, 4>, f32, _> =
        dev.tensor_from_vec((0..16).map(|x| x as f32).collect(), Default::default());
    let out = super::AvgPool2::<1, 4, 2>.forward(image);
    assert_eq!(out.as_vec(), [2.5, 4.5, 10.5, 12.5]);
}
