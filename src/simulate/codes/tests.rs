use super::*;
use crate::data::embedded::digits;
use crate::data::images::Normalisation;

fn mean(frames: &[f32], inputs: usize, i: usize) -> f64 {
    let values = frames.iter().skip(i).step_by(inputs);
    let count = values.len() as f64;
    values.map(|&x| f64::from(x)).sum::<f64>() / count
}

#[test]
fn phases_send_bits() {
    // 7 = 111, 4 = 100, -3 = -011, 0 of 3 bits; a bit is worth 3 x 4/7, 3 x 2/7, 3 x 1/7.
    let code = InputCode::Phase { period: 3 };
    let frames = code.encode(&[7.0, 4.0, -3.0, 0.0], 7.0, 7, 0).unwrap();
    #[rustfmt::skip]
    let expected = [
        12.0, 12.0,  0.0, 0.0,
         6.0,  0.0, -6.0, 0.0,
         3.0,  0.0, -3.0, 0.0,
    ];
    assert_eq!(frames[..12], expected);
    assert_eq!(frames[12..24], expected);
    assert_eq!(frames[24..], expected[..4]);
    // 8-bit pixels are exact.
    let pixels: Vec<f32> = (0..=255).map(|pixel| pixel as f32 / 255.0).collect();
    let code = InputCode::Phase { period: 8 };
    let frames = code.encode(&pixels, 1.0, 8, 0).unwrap();
    for (i, &pixel) in pixels.iter().enumerate() {
        assert!((mean(&frames, 256, i) - f64::from(pixel)).abs() < 1e-6);
    }
}

#[test]
fn larger_values_spike_earlier() {
    let code = InputCode::Latency { period: 4 };
    // 1.2 is 2.4 timesteps from the end, and 0.2 nearer to no spike than to the last timestep.
    let input = [2.0, -1.5, 1.2, 0.5, 0.2, 0.0, 9.0];
    let frames = code.encode(&input, 2.0, 8, 0).unwrap();
    #[rustfmt::skip]
    let expected = [
        8.0,  0.0, 0.0, 0.0, 0.0, 0.0, 8.0,
        0.0, -6.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0,  0.0, 4.0, 0.0, 0.0, 0.0, 0.0,
        0.0,  0.0, 0.0, 2.0, 0.0, 0.0, 0.0,
    ];
    assert_eq!(frames, [expected, expected].concat());
    for (i, x) in [2.0, -1.5, 1.0, 0.5, 0.0, 0.0, 2.0].into_iter().enumerate() {
        assert_eq!(mean(&frames, input.len(), i), x);
    }
}

#[test]
fn direct_input_stays() {
    let frames = InputCode::Direct.encode(&[0.5, -3.0], 1.0, 2, 0);
    assert_eq!(frames.unwrap(), [0.5, -3.0, 0.5, -3.0]);
}

#[test]
fn poisson_rates_are_the_values() {
    let input = [0.0, 0.1, -0.5, 0.9, -2.0];
    let timesteps = 20_000;
    let code = InputCode::Poisson { seed: 3 };
    let frames = code.encode(&input, 2.0, timesteps, 7).unwrap();
    assert!(frames.iter().all(|x| [0.0, 2.0, -2.0].contains(x)));
    for (i, x) in input.into_iter().enumerate() {
        // Five standard errors of a Bernoulli mean; the ends are certain.
        let p = f64::from(x.abs()) / 2.0;
        let error = 5.0 * 2.0 * (p * (1.0 - p) / timesteps as f64).sqrt();
        let found = mean(&frames, input.len(), i);
        assert!((found - f64::from(x)).abs() <= error, "{x}: {found}");
    }
    // Timesteps are independent: as many pairs of spikes as chance gives.
    let spikes: Vec<bool> = frames.iter().skip(3).step_by(5).map(|&x| x > 0.0).collect();
    let pairs = spikes.windows(2).filter(|pair| pair[0] && pair[1]).count();
    let share = pairs as f64 / timesteps as f64;
    assert!((share - 0.45 * 0.45).abs() < 0.02, "{share}");
    // Another image or seed, other spikes; the same, the same, however long the run.
    assert_ne!(frames, code.encode(&input, 2.0, timesteps, 8).unwrap());
    let other = InputCode::Poisson { seed: 4 };
    assert_ne!(frames, other.encode(&input, 2.0, timesteps, 7).unwrap());
    let short = code.encode(&input, 2.0, 10, 7).unwrap();
    assert_eq!(frames[..50], short);
}

#[test]
fn images_are_scaled_by_what_their_pixels_can_be() {
    // Pixels of the digits are 0..=16 of 16: 0.25 / 0.5 below and 0.75 / 0.5 above the mean.
    let normalisation = Normalisation::new([0.25], [0.5]).unwrap();
    let digits = digits().unwrap().normalised(&normalisation).unwrap();
    let code = InputCode::Poisson { seed: 0 };
    let frames = digits.encoded(5, code, 50).unwrap();
    assert!(frames.contains(&1.5) && frames.contains(&-1.5));
    assert_eq!(
        digits.take(6).encoded(5, code, 50).unwrap(),
        frames,
        "an image's spikes do not depend on the images beside it"
    );
}

#[test]
fn what_cannot_be_coded_is_named() {
    let error = |code: InputCode, input: &[f32], peak, timesteps| {
        let result = code.encode(input, peak, timesteps, 0);
        result.unwrap_err().to_string()
    };
    for (code, most) in [
        (InputCode::Phase { period: 0 }, "1..=16"),
        (InputCode::Phase { period: 17 }, "1..=16"),
        (InputCode::Latency { period: 0 }, "1..=65536"),
    ] {
        let error = error(code, &[0.0], 1.0, 1);
        assert!(error.starts_with("code.period: found"), "{error}");
        assert!(error.contains(most), "{error}");
    }
    let code = InputCode::Direct;
    assert!(error(code, &[0.0], 1.0, 0).starts_with("timesteps: found 0"));
    assert!(error(code, &[0.0, f32::NAN], 1.0, 1).starts_with("input: found NaN at place 1"));
    for peak in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(error(code, &[0.0], peak, 1).starts_with("peak: found"));
    }
}
