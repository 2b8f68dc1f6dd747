//! Input codes: currents of an image in every timestep.
//!
//! Let x be one value of the image, which is normalised and so can be negative, and P the *peak*,
//! the largest |x| that pixels can have. A code gives a current I(t) for timesteps t = 1, 2, ...
//! whose mean approaches x, so that thresholds suit every code. A spike of a negative x has a
//! negative charge. Only the input is coded; the neurons are the same for every code.

use std::fmt;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, Stream, all_finite, image_rng, require, some_timesteps};
use crate::data::{Images, Part, Task};

/// Code that turns an image into input currents over timesteps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputCode {
    /// Direct code: a constant current, I(t) = x (Rueckauer et al. 2017; Lu and Sengupta 2022).
    #[default]
    Direct,
    /// Rate code: in each timestep an independent spike with probability |x| / P, I(t) = sign(x) P
    /// or 0 (Cao et al. 2015; with signs as in Sengupta et al. 2019). The mean is x.
    Poisson {
        /// Seed of the spikes. The spikes of an image depend only on the seed and the image's
        /// [`index`](Images::index).
        seed: u64,
    },
    /// Phase code (Kim et al. 2018, "Deep neural networks with weighted spikes"): |x| / P is
    /// rounded to q / n, n = 2^K - 1, and phase p = (t - 1) mod K sends bit p of q, the most
    /// significant bit first, with weight 2^-(1 + p): I(t) = sign(x) P c 2^-(1 + p) or 0. With
    /// c = K 2^K / n, the sum over a period is K times the rounded x. 8-bit images in 0..=1 are
    /// exact with a period of 8.
    Phase {
        /// K, the number of timesteps per period and of bits per value: 1..=16.
        period: usize,
    },
    /// Latency code, or time to first spike: one spike per period of K timesteps, earlier for
    /// larger magnitudes (Park et al. 2020, "T2FSNN", here with a linear kernel). After
    /// k = round(K (1 - |x| / P)) timesteps there is a spike of charge I(t) = sign(x) P (K - k),
    /// which falls linearly with time; k = K is no spike. The mean over a period is x rounded to a
    /// multiple of P / K.
    Latency {
        /// K, the number of timesteps per period: 1..=65536.
        period: usize,
    },
}

impl InputCode {
    pub(crate) fn is_direct(&self) -> bool {
        *self == Self::Direct
    }

    /// Encodes an input as currents, timesteps x values, row by row, for
    /// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace). Values beyond `peak` are
    /// clipped, except with the direct code. `image` is part of the seed of random spikes.
    ///
    /// ```
    /// use evospike::simulate::codes::InputCode;
    ///
    /// let latency = InputCode::Latency { period: 4 };
    /// let frames = latency.encode(&[1.0, -0.5], 1.0, 4, 0)?;
    /// assert_eq!(frames, [4.0, 0.0, /**/ 0.0, 0.0, /**/ 0.0, -2.0, /**/ 0.0, 0.0]);
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if there are no timesteps, the period is out of range, a value is not
    /// finite, or the peak is not finite and above 0.
    pub fn encode(
        self,
        input: &[f32],
        peak: f32,
        timesteps: usize,
        image: usize,
    ) -> Result<Vec<f32>> {
        self.check()?;
        some_timesteps("timesteps", timesteps)?;
        all_finite("input", input)?;
        require(peak > 0.0 && peak.is_finite(), "peak", peak, "finite and above 0")?;
        let frames = self.frames(input, peak, timesteps, image);
        let all = frames.iter().copied().cycle();
        Ok(all.take(timesteps * input.len()).collect())
    }

    pub(crate) fn check(self) -> Result<()> {
        let (period, most) = match self {
            Self::Direct | Self::Poisson { .. } => return Ok(()),
            Self::Phase { period } => (period, 16),
            Self::Latency { period } => (period, 1 << 16),
        };
        if (1..=most).contains(&period) {
            return Ok(());
        }
        let expected = format!("1..={most} timesteps");
        Err(Error::parameter("code.period", period, expected))
    }

    /// Currents, timesteps x values, row by row, of `timesteps`, or of one period if that is
    /// shorter. The caller must have made the checks of [`encode`](Self::encode).
    pub(crate) fn frames(
        self,
        input: &[f32],
        peak: f32,
        timesteps: usize,
        image: usize,
    ) -> Vec<f32> {
        let share = |x: f32| (x.abs() / peak).min(1.0);
        // Current of each value in each phase.
        let periodic = |period: usize, current: &dyn Fn(usize, f32) -> f32| {
            let phases = 0..period.min(timesteps);
            let frame = |phase| input.iter().map(move |&x| current(phase, x));
            phases.flat_map(frame).collect()
        };
        match self {
            Self::Direct => input.to_vec(),
            Self::Poisson { seed } => {
                let mut rng = image_rng(seed, Stream::InputSpikes, image);
                let mut spikes = Vec::with_capacity(timesteps * input.len());
                for _ in 0..timesteps {
                    spikes.extend(input.iter().map(|&x| {
                        // One random number per value, also for 0, which never spikes.
                        match rng.random::<f32>() < share(x) {
                            true => peak.copysign(x),
                            false => 0.0,
                        }
                    }));
                }
                spikes
            }
            Self::Phase { period } => {
                let steps = ((1u32 << period) - 1) as f32;
                let unit = peak * period as f32 / steps;
                periodic(period, &|phase, x| {
                    let q = (share(x) * steps).round() as u32;
                    // 2^-(1 + phase) of 2^period units.
                    let weight = 1u32 << (period - 1 - phase);
                    match q & weight {
                        0 => 0.0,
                        _ => (unit * weight as f32).copysign(x),
                    }
                })
            }
            Self::Latency { period } => periodic(period, &|phase, x| {
                let before = (period as f32 * (1.0 - share(x))).round() as usize;
                match before == phase {
                    true => (peak * (period - phase) as f32).copysign(x),
                    false => 0.0,
                }
            }),
        }
    }
}

impl fmt::Display for InputCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Poisson { seed } => write!(f, "Poisson, seed {seed}"),
            Self::Phase { period } => write!(f, "phase, period {period}"),
            Self::Latency { period } => write!(f, "latency, period {period}"),
        }
    }
}

impl<P: Part, K: Task> Images<P, K> {
    /// Encodes image `i` like [`simulate`](crate::simulate::simulate()), for
    /// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace).
    ///
    /// # Errors
    /// Returns an error in the same cases as [`InputCode::encode`].
    ///
    /// # Panics
    /// Panics if `i` is not below [`len`](Self::len).
    pub fn encoded(&self, i: usize, code: InputCode, timesteps: usize) -> Result<Vec<f32>> {
        code.encode(&self.input(i), self.view().peak(), timesteps, self.index(i))
    }
}

#[cfg(test)]
mod tests;
