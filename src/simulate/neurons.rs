//! Spiking neurons: the parameters of layers, and the equations that every simulator follows.
//!
//! [`step`] is one timestep of one neuron. Its input current z(t) is the sum over the synapses of
//! weight times the charge of the spikes that arrive, plus the bias of the weights. The product
//! with the leak and the sum are rounded one by one in `f32`, never fused, so that every simulator
//! gives the same spikes.

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

/// Parameters of one neuron.
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

/// Charge that a spike carries to the next layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Charge {
    /// The threshold of the neuron that fired: the weights of the ANN stay as they are.
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
    /// Membrane potential before the first timestep, in thresholds: 0, or 0.5 for the least
    /// expected error of conversion (Bu et al. 2022, "Optimized potential initialization").
    pub initial: f32,
    /// Timesteps after a spike in which the input is ignored.
    pub refractory: usize,
    /// Charge of a spike.
    pub charge: Charge,
    /// Constant input currents, besides the bias of the weights: one for the layer, or one per
    /// channel. 0 unless calibrated ([`Conversion::calibrated`](crate::convert::Conversion)).
    pub current: Vec<f32>,
}

show!(Neurons as fields);

impl Neurons {
    /// Integrate-and-fire neurons with soft reset that start at 0, as the paper's, of one threshold or
    /// one per channel.
    pub fn new(threshold: impl Into<Vec<f32>>) -> Self {
        Self {
            threshold: threshold.into(),
            leak: vec![1.0],
            reset: Reset::Subtract,
            initial: 0.0,
            refractory: 0,
            charge: Charge::Threshold,
            current: vec![0.0],
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
        if let Some(bad) = charge.iter().find(|charge| !charge.is_finite()) {
            return wrong(format!("charge {bad}"), "finite charges");
        }
        if !self.initial.is_finite() {
            let found = format!("initial potential {}", self.initial);
            return wrong(found, "a finite fraction of the threshold");
        }
        Ok(())
    }

    /// Charges of the spikes, one for the layer or one per channel.
    pub(crate) fn charges(&self) -> &[f32] {
        match &self.charge {
            Charge::Threshold => &self.threshold,
            Charge::Unit => &[1.0],
            Charge::Fixed(charge) => charge,
        }
    }
}

/// Multiplies, rounded once.
pub(crate) fn times(value: &mut f32, factor: f64) {
    *value = (f64::from(*value) * factor) as f32;
}
