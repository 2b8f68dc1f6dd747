//! Input codes: what an image is to the first layer at every timestep.
//!
//! x is one value of the image, normalised and so of either sign, and P the *peak*, the largest |x|
//! that its pixels can have. A code gives a current I(t) for timesteps t = 1, 2, ... whose mean
//! approaches x, so that thresholds hold for every code. A spike of a negative x carries a
//! negative charge. Only the input is coded: the neurons behind it are the same for every code.

use std::fmt;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::base::check::some_timesteps;
use crate::base::error::{Error, Result};
use crate::base::random::{Stream, image_rng};
use crate::data::images::{Images, Part};
use crate::data::tasks::Task;

/// How an image is given to the network over the timesteps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputCode {
    /// Direct coding: a constant current, I(t) = x (Rueckauer et al. 2017; what Lu and Sengupta
    /// 2022 use).
    #[default]
    Direct,
    /// Rate code: in each timestep a spike with probability |x| / P, independent of all others,
    /// I(t) = sign(x) P or 0 (Cao et al. 2015; with signs as Sengupta et al. 2019). The mean is x.
    Poisson {
        /// Seeds the spikes. Those of an image follow from the seed and its
        /// [`index`](Images::index) alone.
        seed: u64,
    },
    /// Weighted spikes (Kim et al. 2018, "Deep neural networks with weighted spikes"): |x| / P is
    /// rounded to q / (2^K - 1), and phase p = (t - 1) mod K sends bit p of q, the most significant
    /// one first, with weight 2^-(1 + p): I(t) = sign(x) P c 2^-(1 + p) or 0. With
    /// c = K 2^K / (2^K - 1) a period sums to K times the rounded x. Images of 8 bits in 0..=1 are
    /// exact with a period of 8.
    Phase {
        /// K, timesteps of a period and bits of a value: 1..=16.
        period: usize,
    },
    /// Time to first spike: one spike a period of K timesteps, earlier for larger |x|. With
    /// k = round(K (1 - |x| / P)) timesteps before the spike it carries I(t) = sign(x) P (K - k), a
    /// charge that falls linearly with time; k = K is no spike. The mean over a period is x
    /// rounded to a multiple of P / K. (As Park et al. 2020, "T2FSNN", with a linear kernel.)
    Latency {
        /// K, timesteps of a period: 1..=65536.
        period: usize,
    },
}

impl InputCode {
    pub(crate) fn is_direct(&self) -> bool {
        *self == Self::Direct
    }

    /// Frames for [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace): the currents
    /// of every value of `input` in the first timestep, then in the second, ... Values beyond
    /// `peak` count as it, except with direct coding. `image` tells inputs apart where spikes are
    /// drawn at random.
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
    /// No timestep, a period out of range, a value that is not finite, or a peak that is not
    /// finite and above 0.
    pub fn encode(
        self,
        input: &[f32],
        peak: f32,
        timesteps: usize,
        image: usize,
    ) -> Result<Vec<f32>> {
        self.check()?;
        some_timesteps("timesteps", timesteps)?;
        if let Some(i) = input.iter().position(|x| !x.is_finite()) {
            let found = format!("{} at place {i}", input[i]);
            return Err(Error::parameter("input", found, "finite values"));
        }
        if !(peak > 0.0 && peak.is_finite()) {
            return Err(Error::parameter("peak", peak, "finite and above 0"));
        }
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

    /// The frames of `timesteps` timesteps, or as many as there are before they repeat. What
    /// [`encode`](Self::encode) checks was checked.
    pub(crate) fn frames(
        self,
        input: &[f32],
        peak: f32,
        timesteps: usize,
        image: usize,
    ) -> Vec<f32> {
        let share = |x: f32| (x.abs() / peak).min(1.0);
        // Of each phase, the current of each value.
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
                        // One draw a value, whatever it is. A number in 0..1 is never below 0.
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
    /// Image `i` in a code, as [`simulate`](crate::simulate::simulate()) gives it to a network, for
    /// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace).
    ///
    /// # Errors
    /// As of [`InputCode::encode`].
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as indexing a slice does.
    pub fn encoded(&self, i: usize, code: InputCode, timesteps: usize) -> Result<Vec<f32>> {
        code.encode(&self.input(i), self.view().peak(), timesteps, self.index(i))
    }
}

#[cfg(test)]
mod tests;
