//! The plain simulator, on dfdx tensors and any device that runs the layers. It is slow on a CPU,
//! and what the fast engine is tested against; on a card it is the simulator.
//!
//! [`trace`] is a dense loop over timesteps that reads like the equations, and gives every spike;
//! [`simulate`] takes one layer over all timesteps after the other, and gives what a curve needs.
//!
//! Values are kept as one vector for all inputs: channels, rows, columns, one input after the
//! other. The equations are those of [`neurons`](mod@crate::simulate::neurons).

use dfdx::prelude::{ChooseFrom, Device, TryAdd, TryMul, TrySub, ge, gt};

use crate::ann::layers::Layer;
use crate::base::chart::Chart;
use crate::base::check::some_timesteps;
use crate::base::error::{Error, Result};
use crate::base::table::show;
use crate::data::images::{Images, Part};
use crate::data::shape::Shape;
use crate::data::tasks::Task;
use crate::metrics::accuracy_chart;
use crate::metrics::{AccuracyCurve, Hits, predict};
use crate::ops::backend::{Accelerated, Values};
use crate::simulate::network::{SpikingNetwork, Trace, check_frames};
use crate::simulate::neurons::{Neurons, Reset};
use crate::simulate::simulator::add;
use crate::through_time::fire::Fires;
use crate::through_time::steps::Dense;
use crate::through_time::steps::Fire;
use crate::through_time::steps::Step;
use crate::through_time::steps::each_step;
use crate::through_time::steps::tensor;
use crate::through_time::surrogate::Surrogate;
use crate::through_time::unrolled::Unrolled;

/// Values of the widest layer over all timesteps that [`simulate`] keeps on the device at once: 256
/// MiB, and some times as much for what is made of them.
const KEPT: usize = 1 << 26;

/// Runs on `inputs`, one after the other, each the same at every timestep, and gives what
/// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace) gives for each. With as many
/// values as all timesteps' inputs have, `inputs` holds all inputs of the first timestep, then all
/// of the second, ...
///
/// # Errors
/// Layers or neurons that do not fit, images or kernels that are not square, weights or inputs that
/// are not finite, a number of values that is not that of some inputs, or [`Error::Device`].
pub fn trace<D: Accelerated<f32>>(
    device: &D,
    input: Shape,
    layers: &[Layer],
    neurons: &[Neurons],
    inputs: &[f32],
    count: usize,
    timesteps: usize,
) -> Result<Vec<Trace>> {
    let each = count * input.size();
    if timesteps == 0 || count == 0 {
        let found = format!("{count} inputs, {timesteps} timesteps");
        return Err(Error::parameter("timesteps", found, "1 or more of each"));
    }
    check_frames("inputs", inputs, each, timesteps)?;
    let mut network = Dense::new(device, Some(neurons));
    let (steps, output) = network.build(layers, input)?;
    network.complete(neurons.len())?;
    let mut states = Vec::new();
    each_step(&steps, &mut |step| {
        if let Step::Fire(fire) = step {
            states.push(State::new(device, fire, count));
        }
    });
    let mut states = states.into_iter().collect::<Result<Vec<_>>>()?;
    let mut traces = vec![
        Trace {
            spikes: vec![Vec::new(); states.len()],
            output: Vec::new(),
        };
        count
    ];
    for t in 0..timesteps {
        let frame = match inputs.len() == each {
            true => inputs,
            false => &inputs[t * each..][..each],
        };
        let x = tensor(device, frame.to_vec())?;
        let mut spikes = Vec::new();
        let current = advance(&steps, &mut states.iter_mut(), x, count, &mut spikes)?;
        let current = current.as_vec();
        for (i, trace) in traces.iter_mut().enumerate() {
            trace
                .output
                .push(current[i * output.size()..][..output.size()].to_vec());
            for (layer, fired) in trace.spikes.iter_mut().zip(&spikes) {
                let size = fired.len() / count;
                let own = &fired[i * size..][..size];
                layer.push((0..size).filter(|&neuron| own[neuron]).collect());
            }
        }
    }
    Ok(traces)
}

/// What [`simulate`] copies back from the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Accuracy after every timestep.
    pub curve: AccuracyCurve,
    /// Layer by layer, the spikes of all its neurons on all images, in each timestep.
    pub spikes: Vec<Vec<u64>>,
}

impl Counts {
    fn chart(&self) -> Result<Chart> {
        accuracy_chart(
            "Accuracy after every timestep",
            &[("reference", &self.curve)],
            None,
        )
    }
}

show!(impl [] Counts as chart);

/// Runs on every image for some timesteps, in direct coding, on any device: a layer over all
/// timesteps after the other, spikes staying on the device; what is counted comes back.
///
/// ```
/// # use evospike::prelude::*;
/// use dfdx::prelude::Cpu; // or Cuda
/// use evospike::through_time::reference;
/// # fn example(snn: Snn<DigitsCnn>, images: Images<Test, Digits>) -> evospike::Result<()> {
/// let counts = reference::simulate::<Cpu, _, _>(snn.network(), &images, 64)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// No image, no timestep; images of another shape, or of more classes, than the network's;
/// [`Error::Device`].
pub fn simulate<D: Fires, P: Part, K: Task>(
    network: &SpikingNetwork,
    images: &Images<P, K>,
    timesteps: usize,
) -> Result<Counts> {
    some_timesteps("timesteps", timesteps)?;
    network.check_task::<K>()?;
    images.view().check_some()?;
    let (device, stages) = (D::open(0)?, &network.stages);
    let unrolled = Unrolled::spiking(
        &device,
        (stages.input, &stages.layers),
        &network.neurons,
        timesteps,
        Surrogate::default(),
    )?;
    let widest = stages.stages.iter().map(|stage| stage.output.size()).max();
    let widest = widest.unwrap_or(1).max(1);
    // Spikes are counted in numbers that are exact up to 2²⁴.
    let most = (1 << 24) / widest;
    let batch = (KEPT / widest.saturating_mul(timesteps)).min(most).max(1);
    let mut hits = Vec::with_capacity(images.len() * timesteps);
    let mut spikes = vec![vec![0; timesteps]; network.neurons.len()];
    for first in (0..images.len()).step_by(batch) {
        let last = images.len().min(first + batch);
        let inputs = (first..last)
            .flat_map(|image| images.input(image))
            .collect();
        let (output, counts) = unrolled.count(tensor(&device, inputs)?, last - first)?;
        for (image, output) in (first..last).zip(output.chunks_exact(timesteps * K::CLASSES)) {
            let mut sum = vec![0.0; K::CLASSES];
            for now in output.chunks_exact(K::CLASSES) {
                sum.iter_mut().zip(now).for_each(|(sum, z)| *sum += z);
                hits.push(predict(&sum) == images.label(image));
            }
        }
        for (sums, counts) in spikes.iter_mut().zip(counts) {
            add(sums, &counts);
        }
    }
    Ok(Counts {
        curve: Hits::new(timesteps, hits).curve(),
        spikes,
    })
}

/// The membrane potentials of a layer, and what they obey, a value for each neuron of each input.
struct State<D: Device<f32>> {
    v: Values<D>,
    threshold: Values<D>,
    leak: Values<D>,
    charge: Values<D>,
    current: Values<D>,
    zero: Values<D>,
    one: Values<D>,
    /// Timesteps for which the input is still ignored.
    waiting: Option<Values<D>>,
    refractory: Values<D>,
    reset: Reset,
}

/// One timestep of all layers, in order. The charge of every neuron that fired is what the next
/// layer gets; `spikes` gets who fired, a vector a layer of neurons.
fn advance<D: Accelerated<f32>>(
    steps: &[Step<D>],
    states: &mut std::slice::IterMut<'_, State<D>>,
    mut x: Values<D>,
    count: usize,
    spikes: &mut Vec<Vec<bool>>,
) -> Result<Values<D>> {
    for step in steps {
        x = match step {
            Step::Add { body, shortcut } => {
                let other = advance(body, states, x.clone(), count, spikes)?;
                let x = advance(shortcut, states, x, count, spikes)?;
                other.try_add(x).map_err(Error::device)?
            }
            Step::Fire(_) => {
                let Some(state) = states.next() else {
                    return Err(Error::network("a layer of neurons", "one with a state"));
                };
                let (charges, fired) = state.step(x).map_err(Error::device)?;
                spikes.push(fired);
                charges
            }
            step => step.forward(x, count, true)?,
        };
    }
    Ok(x)
}

impl<D: Device<f32>> State<D> {
    fn new(device: &D, fire: &Fire<D>, count: usize) -> Result<Self> {
        // For every neuron of all inputs: the channel's value.
        let spread = |values: &[f32]| {
            let one = (0..fire.channels * fire.positions).map(|i| match values {
                [one] => *one,
                values => values[i / fire.positions],
            });
            tensor(device, one.collect::<Vec<f32>>().repeat(count))
        };
        let neurons = &fire.neurons;
        let initial: Vec<f32> = (neurons.threshold.iter())
            .map(|t| t * neurons.initial)
            .collect();
        Ok(Self {
            v: spread(&initial)?,
            threshold: spread(&neurons.threshold)?,
            leak: spread(&neurons.leak)?,
            charge: spread(neurons.charges())?,
            current: spread(&neurons.current)?,
            zero: spread(&[0.0])?,
            one: spread(&[1.0])?,
            waiting: match neurons.refractory {
                0 => None,
                _ => Some(spread(&[0.0])?),
            },
            refractory: spread(&[neurons.refractory as f32])?,
            reset: neurons.reset,
        })
    }

    /// One timestep with input current `z`: charges of spikes, and who fired.
    fn step(&mut self, z: Values<D>) -> Result<(Values<D>, Vec<bool>), D::Err> {
        let z = z.try_add(self.current.clone())?;
        let mut v = self.v.clone().try_mul(self.leak.clone())?;
        let mut ready = None;
        v = match &self.waiting {
            None => v.try_add(z)?,
            Some(waiting) => {
                let waits = gt(waiting, &self.zero);
                ready = Some(waits.clone());
                v.try_add(waits.try_choose(self.zero.clone(), z)?)?
            }
        };
        // In numbers, since masks have no "and": 1 where a neuron fires.
        let reached = ge(&v, &self.threshold);
        let mut fires = reached.try_choose(self.one.clone(), self.zero.clone())?;
        if let Some(waits) = ready {
            fires = waits.try_choose(self.zero.clone(), fires)?;
        }
        let spike = gt(&fires, &self.zero);
        self.v = match self.reset {
            Reset::Subtract => {
                let drop = spike
                    .clone()
                    .try_choose(self.threshold.clone(), self.zero.clone())?;
                v.try_sub(drop)?
            }
            Reset::Zero => spike.clone().try_choose(self.zero.clone(), v)?,
        };
        if let Some(waiting) = self.waiting.take() {
            let less = waiting.clone().try_sub(self.one.clone())?;
            let less = gt(&waiting, &self.zero).try_choose(less, waiting)?;
            self.waiting = Some(spike.clone().try_choose(self.refractory.clone(), less)?);
        }
        let charges = spike.try_choose(self.charge.clone(), self.zero.clone())?;
        let fired = fires.as_vec().into_iter().map(|x| x > 0.0).collect();
        Ok((charges, fired))
    }
}
