//! Spiking neurons: the parameters of layers, and the equations that every simulator follows.
//!
//! [`step`] is one timestep of one neuron. Its input current z(t) is the sum over the synapses of
//! weight times the charge of the spikes that arrive, plus the bias of the weights. The product
//! with the leak and the sum are rounded one by one in `f32`, never fused, so that every simulator
//! gives the same spikes.
//!
//! A plain neuron fires at most one spike per timestep and can never take it back. With [`Spikes`] a
//! neuron fires several at once (bursts), spikes of a fraction of the threshold (levels), and
//! negative ones, which take back what was too much: such networks reach the ANN's accuracy within a
//! few timesteps.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, show};

/// Effect of a spike on the membrane potential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reset {
    /// Soft reset: the threshold is subtracted, what lies above it is kept.
    #[default]
    Subtract,
    /// Hard reset: to zero.
    Zero,
}

impl Reset {
    /// Membrane potential after the reset.
    pub(crate) fn apply(self, v: f32, threshold: f32, fired: bool) -> f32 {
        match (fired, self) {
            (false, _) => v,
            (true, Self::Subtract) => v - threshold,
            (true, Self::Zero) => 0.0,
        }
    }
}

/// Spikes that a neuron can fire in one timestep.
///
/// A spike has the size s = θ / levels. With p spikes at most, a neuron fires k of them, the number of
/// j in 1..=p with v >= j s; with [`Negative`] spikes, at most n, less the number of j in 1..=n with
/// v < -(ν + j - 1) s, as long as the sum of all its spikes stays at or above 0, as a ReLU's output.
/// The potential loses k s, and k times the charge goes to the next layer.
///
/// Sources: negative spikes with a memory of the sum, Wang et al. 2022 ("Signed neuron with memory");
/// several spikes, Li and Zeng 2022 ("Efficient and accurate conversion with burst spikes"); levels,
/// Lv et al. 2024 (group neurons), Hu et al. 2023 ("Fast-SNN") and "AdaFire" (2025).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spikes {
    /// Levels m: a spike has the size threshold / m. 1 to 127.
    pub levels: u8,
    /// Largest number p of spikes in one timestep. 1 to 127.
    pub most: u8,
    /// Negative spikes, if any.
    pub negative: Option<Negative>,
}

/// Negative spikes of a neuron.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Negative {
    /// Negative threshold ν in sizes of a spike, 0 or more: a spike is taken back if the potential is
    /// below -ν s. With 0, what remains in the neuron lies between 0 and s, as that of a rounded
    /// number.
    pub threshold: f32,
    /// Largest number n of negative spikes in one timestep. 1 to 127.
    pub most: u8,
}

impl Default for Spikes {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl Spikes {
    /// One spike of the size of the threshold.
    pub const PLAIN: Self = Self { levels: 1, most: 1, negative: None };
    /// One spike, up or down.
    pub const SIGNED: Self = Self::graded(1, 1);

    /// Up to `most` spikes, up or down, each of the size of the threshold.
    pub const fn burst(most: u8) -> Self {
        Self::graded(1, most)
    }

    /// Up to `levels` spikes, up or down, which together have the size of the threshold.
    pub const fn levels(levels: u8) -> Self {
        Self::graded(levels, levels)
    }

    const fn graded(levels: u8, most: u8) -> Self {
        Self { levels, most, negative: Some(Negative { threshold: 0.0, most }) }
    }

    /// Sets the largest number of spikes in a timestep, up and, if there are any, down.
    pub(crate) fn set_most(&mut self, most: u8) {
        self.most = most;
        if let Some(negative) = &mut self.negative {
            negative.most = most;
        }
    }

    /// Returns whether a neuron fires at most one spike, never down, always of the same size.
    pub fn is_plain(&self) -> bool {
        *self == Self::PLAIN
    }

    /// Returns the number of spikes of neurons with potentials `v` and spikes of these sizes, which
    /// have fired `sums` spikes so far.
    #[inline(always)]
    pub(crate) fn count<const N: usize>(
        &self,
        v: &[f32; N],
        sizes: &[f32; N],
        sums: &[f32; N],
    ) -> [f32; N] {
        // The compiler unrolls loops of these lengths, and then keeps the counts in registers.
        match (self.most, self.negative) {
            (1, Some(down @ Negative { most: 1, .. })) => {
                count(1, 1, down.threshold, v, sizes, sums)
            }
            (2, Some(down @ Negative { most: 2, .. })) => {
                count(2, 2, down.threshold, v, sizes, sums)
            }
            (4, Some(down @ Negative { most: 4, .. })) => {
                count(4, 4, down.threshold, v, sizes, sums)
            }
            (most, Some(down)) => count(most, down.most, down.threshold, v, sizes, sums),
            (most, None) => count(most, 0, 0.0, v, sizes, sums),
        }
    }

    fn check(&self) -> std::result::Result<(), (String, &'static str)> {
        let few = 1..=127;
        let numbers = [("levels", self.levels), ("spikes per timestep", self.most)];
        let below = self.negative.map(|negative| ("negative spikes per timestep", negative.most));
        for (name, number) in numbers.into_iter().chain(below) {
            if !few.contains(&number) {
                return Err((format!("{number} {name}"), "1 to 127"));
            }
        }
        if let Some(Negative { threshold, .. }) = self.negative
            && !(threshold >= 0.0 && threshold.is_finite())
        {
            return Err((format!("negative threshold {threshold}"), "finite, 0 or more"));
        }
        Ok(())
    }
}

/// Parameters of one neuron with plain spikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neuron {
    /// Threshold θ, above 0.
    pub threshold: f32,
    /// Leak λ, what is left of the membrane potential after a timestep. Above 0, at most 1.
    pub leak: f32,
    /// Constant input current c.
    pub current: f32,
    /// Effect of a spike on the membrane potential.
    pub reset: Reset,
    /// Timesteps after a spike in which the input is ignored.
    pub refractory: u32,
}

/// State of one neuron between two timesteps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// Membrane potential r, after the reset.
    pub potential: f32,
    /// Timesteps that are left of the refractory period.
    pub waiting: u32,
}

/// Outcome of one timestep of a neuron.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The threshold was not reached.
    Silent,
    /// A spike.
    Fired,
    /// The input was ignored, in the refractory period after a spike.
    Refractory,
}

/// State after one timestep with input current `z`, the membrane potential v(t) before the reset,
/// and the outcome.
///
/// ```text
/// v(t) = λ r(t-1) + z(t) + c      leaky integration; λ = 1 is integrate-and-fire
/// s(t) = 1 if v(t) >= θ else 0    spike
/// r(t) = v(t) - θ s(t)            soft reset: subtract the threshold
/// r(t) = v(t) (1 - s(t))          or hard reset: to zero
/// ```
///
/// r(0) is a fraction of θ (Rueckauer et al. 2017, equations 2 to 4; the leak of Lu and Sengupta
/// 2022, equation 2). During the refractory period after a spike z(t) + c counts as 0, and there is
/// no spike.
///
/// ```
/// use evospike::simulate::neurons::{Activity, Neuron, Reset, State, step};
/// let (reset, refractory) = (Reset::Subtract, 1);
/// let neuron = Neuron { threshold: 1.0, leak: 0.5, current: 0.0, reset, refractory };
/// let (state, v, activity) = step(&neuron, State { potential: 0.5, waiting: 0 }, 1.25);
/// assert_eq!((v, activity), (1.5, Activity::Fired));
/// assert_eq!(state, State { potential: 0.5, waiting: 1 });
/// let (state, v, activity) = step(&neuron, state, 1.25);
/// assert_eq!((v, activity), (0.25, Activity::Refractory));
/// assert_eq!(state, State { potential: 0.25, waiting: 0 });
/// ```
#[inline(always)]
pub fn step(neuron: &Neuron, state: State, z: f32) -> (State, f32, Activity) {
    let ready = state.waiting == 0;
    let z = if ready { z + neuron.current } else { 0.0 };
    let v = neuron.leak * state.potential + z;
    let fired = ready && v >= neuron.threshold;
    let (activity, waiting) = match (fired, ready) {
        (true, _) => (Activity::Fired, neuron.refractory),
        (false, true) => (Activity::Silent, 0),
        (false, false) => (Activity::Refractory, state.waiting - 1),
    };
    let potential = neuron.reset.apply(v, neuron.threshold, fired);
    (State { potential, waiting }, v, activity)
}

/// Number of spikes of each neuron, at most `most` up and `down` down, as [`Spikes`] says.
#[inline(always)]
fn count<const N: usize>(
    most: u8,
    down: u8,
    threshold: f32,
    v: &[f32; N],
    sizes: &[f32; N],
    sums: &[f32; N],
) -> [f32; N] {
    let mut counts = [0.0; N];
    for j in 1..=most {
        for lane in 0..N {
            counts[lane] += f32::from(v[lane] >= f32::from(j) * sizes[lane]);
        }
    }
    // Where no neuron has fired upwards, none can take a spike back.
    let down = if sums.iter().any(|&sum| sum >= 1.0) { down } else { 0 };
    for j in 1..=down {
        let depth = threshold + f32::from(j - 1);
        for lane in 0..N {
            let below = v[lane] < -(depth * sizes[lane]);
            counts[lane] -= f32::from(below & (sums[lane] >= f32::from(j)));
        }
    }
    counts
}

/// One timestep of neurons with other spikes than plain ones: number of spikes of each, negative
/// downwards.
///
/// ```text
/// v(t) = λ r(t-1) + z(t)          leaky integration
/// k(t) = Spikes::count            number of spikes
/// r(t) = v(t) - k(t) s            soft reset
/// N(t) = N(t-1) + k(t)            sum of all spikes
/// ```
///
/// `sizes` are s, `potentials` r, `sums` N.
#[inline(always)]
pub(crate) fn step_graded<const N: usize>(
    spikes: &Spikes,
    [sizes, leaks]: [&[f32; N]; 2],
    [potentials, sums]: [&mut [f32; N]; 2],
    z: &[f32; N],
) -> [f32; N] {
    let mut v = [0.0; N];
    for lane in 0..N {
        v[lane] = leaks[lane] * potentials[lane] + z[lane];
    }
    let counts = spikes.count(&v, sizes, sums);
    for lane in 0..N {
        // Where there is no spike an infinite size, of a lane without a neuron, must not matter.
        let reset = v[lane] - counts[lane] * sizes[lane];
        potentials[lane] = if counts[lane] == 0.0 { v[lane] } else { reset };
        sums[lane] += counts[lane];
    }
    counts
}

/// Charge that a spike carries to the next layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Charge {
    /// The size of the spike, which is the threshold of the neuron unless it has several levels: the
    /// weights of the ANN stay as they are.
    #[default]
    Threshold,
    /// 1, as in simulators that know no units.
    Unit,
    /// These values, one for the layer or one per channel, whatever the threshold: the synapses of a
    /// network in which only the threshold is changed (Lu and Sengupta 2022).
    Fixed(Vec<f32>),
}

/// Parameters of one layer of neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neurons {
    /// Thresholds θ, in units of the ReLU's output: one for the layer, or one per channel. Above 0.
    pub threshold: Vec<f32>,
    /// Leaks λ, what is left of the membrane potential after a timestep: one for the layer, or one
    /// per channel. Above 0, at most 1.
    pub leak: Vec<f32>,
    /// Effect of a spike on the membrane potential.
    pub reset: Reset,
    /// Membrane potential before the first timestep, in sizes of a spike, which are thresholds unless
    /// there are several levels: 0, or 0.5 for the least expected error of conversion (Bu et al.
    /// 2022, "Optimized potential initialization").
    pub initial: f32,
    /// What is added to this potential, in units of the ReLU's output: one value for the layer, or one
    /// per channel. 0 unless calibrated
    /// ([`Conversion::calibrated_potentials`](crate::convert::Conversion)).
    // Left out of files if 0, as it was before it existed.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub potential: Vec<f32>,
    /// Timesteps after a spike in which the input is ignored. 0 unless spikes are plain.
    pub refractory: usize,
    /// Spikes that a neuron can fire in one timestep.
    // Left out of files if plain, as it was before there were others.
    #[serde(default, skip_serializing_if = "Spikes::is_plain")]
    pub spikes: Spikes,
    /// Charge of a spike.
    pub charge: Charge,
    /// Constant input currents, besides the bias of the weights: one for the layer, or one per
    /// channel. 0 unless calibrated ([`Conversion::calibrated`](crate::convert::Conversion)).
    pub current: Vec<f32>,
}

show!(Neurons as fields);

fn nothing() -> Vec<f32> {
    vec![0.0]
}

fn is_nothing(values: &[f32]) -> bool {
    values == [0.0]
}

impl Neurons {
    /// Integrate-and-fire neurons with soft reset that start at 0, as the paper's, of one threshold or
    /// one per channel.
    pub fn new(threshold: impl Into<Vec<f32>>) -> Self {
        Self {
            threshold: threshold.into(),
            leak: vec![1.0],
            reset: Reset::Subtract,
            initial: 0.0,
            potential: nothing(),
            refractory: 0,
            spikes: Spikes::PLAIN,
            charge: Charge::Threshold,
            current: nothing(),
        }
    }

    /// Multiplies every threshold.
    pub(crate) fn scale_thresholds(&mut self, factor: f64) {
        self.threshold.iter_mut().for_each(|x| times(x, factor));
    }

    /// Whether `layer` of `channels` can be simulated with these parameters.
    pub(crate) fn check(&self, layer: usize, channels: usize) -> Result<()> {
        let wrong =
            |found: String, expected: &str| Err(Error::layer(layer, "neurons", found, expected));
        let charge = match &self.charge {
            Charge::Fixed(charge) => charge,
            Charge::Threshold | Charge::Unit => &self.threshold,
        };
        for (name, values) in [
            ("threshold", &self.threshold),
            ("leak", &self.leak),
            ("current", &self.current),
            ("potential", &self.potential),
            ("charge", charge),
        ] {
            if values.len() != 1 && values.len() != channels {
                let expected = format!("1, or {channels}, one a channel");
                return wrong(format!("{} {name}s", values.len()), &expected);
            }
        }
        let thresholds = self.threshold.iter();
        if let Some(bad) = thresholds.copied().find(|&t| !(t > 0.0 && t.is_finite())) {
            return wrong(format!("threshold {bad}"), "a finite threshold above 0");
        }
        if let Some(bad) = self.leak.iter().find(|&&leak| !(leak > 0.0 && leak <= 1.0)) {
            return wrong(format!("leak {bad}"), "above 0, at most 1 (no leak)");
        }
        if let Some(bad) = self.current.iter().find(|current| !current.is_finite()) {
            return wrong(format!("current {bad}"), "finite currents");
        }
        if let Some(bad) = self.potential.iter().find(|potential| !potential.is_finite()) {
            return wrong(format!("potential {bad}"), "finite potentials");
        }
        if let Some(bad) = charge.iter().find(|charge| !charge.is_finite()) {
            return wrong(format!("charge {bad}"), "finite charges");
        }
        if !self.initial.is_finite() {
            let found = format!("initial potential {}", self.initial);
            return wrong(found, "a finite fraction of the threshold");
        }
        if let Err((found, expected)) = self.spikes.check() {
            return wrong(found, expected);
        }
        if !self.spikes.is_plain() && (self.reset != Reset::Subtract || self.refractory > 0) {
            let found = format!("{:?} reset, refractory period {}", self.reset, self.refractory);
            return wrong(found, "soft reset and no refractory period, or plain spikes");
        }
        Ok(())
    }

    /// Lowers thresholds, or charges of their own, so that no timestep gives more than `bound`: that
    /// of a clipped ReLU. What a neuron says over time is then at most the bound as well.
    pub(crate) fn clip(&mut self, bound: f32) {
        let Spikes { levels, most, .. } = self.spikes;
        let (values, bound) = match &mut self.charge {
            Charge::Threshold => {
                (&mut self.threshold, bound * (f32::from(levels) / f32::from(most)))
            }
            Charge::Fixed(charges) => (charges, bound / f32::from(most)),
            Charge::Unit => return,
        };
        values.iter_mut().for_each(|value| *value = value.min(bound));
    }

    /// Whether no timestep gives more than `bound`.
    pub(crate) fn check_bound(&self, layer: usize, bound: f32) -> Result<()> {
        let charges = self.charges();
        let largest = charges.iter().copied().fold(0.0, f32::max);
        // Thresholds over levels times as many spikes may be rounded up.
        if largest * f32::from(self.spikes.most) <= bound * (1.0 + f32::EPSILON) {
            return Ok(());
        }
        let found = format!("up to {} spikes of {largest} a timestep", self.spikes.most);
        let expected = format!("at most {bound} in all, the bound of the clipped ReLU");
        Err(Error::layer(layer, "neurons", found, expected))
    }

    /// Sizes s of the spikes, one for the layer or one per channel: thresholds over levels.
    pub(crate) fn spike_sizes(&self) -> Cow<'_, [f32]> {
        match self.spikes.levels {
            1 => Cow::Borrowed(&self.threshold),
            levels => self.threshold.iter().map(|t| t / f32::from(levels)).collect(),
        }
    }

    /// Charges of the spikes, one for the layer or one per channel.
    pub(crate) fn charges(&self) -> Cow<'_, [f32]> {
        match &self.charge {
            Charge::Threshold => self.spike_sizes(),
            Charge::Unit => Cow::Borrowed(&[1.0]),
            Charge::Fixed(charge) => Cow::Borrowed(charge),
        }
    }
}

/// Multiplies, rounded once.
pub(crate) fn times(value: &mut f32, factor: f64) {
    *value = (f64::from(*value) * factor) as f32;
}
