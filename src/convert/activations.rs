//! Distribution of the activations of each layer on many images.
//!
//! Every activation above 0 is kept while that takes little memory, so that percentiles are exact. Of
//! more images histograms are kept, whose size no longer grows with the images.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::base::{Error, Result, require};
use crate::data::Samples;
use crate::simulate::Stages;

/// Number of activations above 0, of all layers, up to which each is kept: 192 MiB.
const KEPT: usize = 48 << 20;
/// Number of positions whose activations are recorded while they are in the cache.
const TILE: usize = 128;
/// Number of activations of a channel that go into bins together.
const FILL: usize = 1 << 10;
/// Logarithm of the number of bins between a power of two and the next.
const BITS: u32 = 9;
/// Lowest bits of an activation, which do not decide its bin.
const LOWEST: u32 = f32::MANTISSA_DIGITS - 1 - BITS;

/// Activations of one layer on all images.
#[derive(Debug, Clone)]
pub(super) struct Activations {
    /// Number of activations per channel, zeros included.
    pub count: usize,
    /// Activations above 0 of each channel.
    pub channels: Vec<Channel>,
}

/// Activations above 0 of one channel, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    /// Activations, or middles of the bins that hold some; the last is the largest activation.
    values: Vec<f32>,
    /// Number of activations in each bin and those before it; empty if each activation is kept.
    ends: Vec<usize>,
}

impl Activations {
    /// Returns the distribution of the outputs of every layer of neurons in the ANN.
    pub fn record(stages: &Stages, images: Samples<'_>) -> Result<Vec<Self>> {
        Self::record_keeping(KEPT, stages, images)
    }

    /// As [`record`](Self::record), with histograms where more than `kept` activations are above 0.
    pub fn record_keeping(kept: usize, stages: &Stages, images: Samples<'_>) -> Result<Vec<Self>> {
        let layers = &stages.stages[..stages.spiking()];
        let shapes: Vec<_> = layers.iter().map(|stage| stage.output).collect();
        let positions = |layer: usize| shapes[layer].height * shapes[layer].width;
        // Bins count in 32 bits.
        let most = (0..shapes.len()).map(|layer| u32::MAX as usize / positions(layer)).min();
        let most = most.unwrap_or(usize::MAX);
        let holds = images.len() <= most;
        require(holds, "images", images.len(), format!("at most {most}, for its largest layer"))?;
        let recorders: Vec<_> = shapes
            .iter()
            .map(|shape| Mutex::new((0..shape.channels).map(|_| Recorder::default()).collect()))
            .collect();
        // Every activation is kept or none, whichever thread adds the one that is too many.
        let recorded = AtomicUsize::new(0);
        let too_many = || recorded.load(Ordering::Relaxed) > kept;
        let record = |layer: usize, currents: &mut [Vec<f32>]| {
            currents.iter().try_for_each(|current| finite(layer, current))?;
            let channels = shapes[layer].channels;
            let recorders: &Mutex<Vec<Recorder>> = &recorders[layer];
            let mut recorders = recorders.lock().unwrap_or_else(PoisonError::into_inner);
            for current in currents {
                stages.activate(layer, current);
                for tile in current.chunks(TILE * channels) {
                    let added = recorders.iter_mut().enumerate().map(|(channel, recorder)| {
                        let values = tile[channel..].iter().step_by(channels);
                        recorder.add(values.copied(), tile.len() / channels)
                    });
                    recorded.fetch_add(added.sum(), Ordering::Relaxed);
                }
            }
            if too_many() {
                recorders.iter_mut().for_each(Recorder::make_histogram);
            }
            Ok(())
        };
        stages.forward_all(images.len(), |image| images.input(image), record)?;
        let layers = recorders.into_iter().enumerate().map(|(layer, recorders)| {
            let recorders = recorders.into_inner().unwrap_or_else(PoisonError::into_inner);
            let finished = recorders.into_par_iter().map(|mut recorder| {
                if too_many() {
                    recorder.make_histogram();
                }
                recorder.finish()
            });
            Self { count: images.len() * positions(layer), channels: finished.collect() }
        });
        Ok(layers.collect())
    }

    /// Returns the number of activations, zeros included.
    pub fn len(&self) -> usize {
        self.count * self.channels.len()
    }

    /// Returns each activation above 0 with 1, or the middle of each bin with the number of
    /// activations in it.
    pub fn positive(&self) -> impl Iterator<Item = (f32, usize)> {
        self.channels.iter().flat_map(Channel::positive)
    }

    /// Returns a percentile over all channels, as NumPy's `percentile` with its default, linear
    /// method.
    pub fn percentile(&self, percent: f64) -> f32 {
        percentile(&self.channels, self.count, percent)
    }

    /// Returns a percentile of each channel.
    pub fn percentiles(&self, percent: f64) -> impl Iterator<Item = f32> {
        let channels = self.channels.chunks(1);
        channels.map(move |channel| percentile(channel, self.count, percent))
    }

    /// Returns the mean of each channel.
    pub fn means(&self) -> impl Iterator<Item = f64> {
        self.channels.iter().map(|channel| {
            let sum: f64 = channel.positive().map(|(a, count)| f64::from(a) * count as f64).sum();
            sum / self.count as f64
        })
    }

    /// Returns the threshold with the least squared error at T timesteps, for neurons that round down.
    pub fn least_squares(&self, timesteps: usize) -> f32 {
        least_squares(&self.channels, timesteps, 0.0)
    }

    /// Returns the same threshold of each channel, for neurons that round `spikes` in all to the
    /// nearest.
    pub fn least_squares_rounded(&self, spikes: usize) -> Vec<f32> {
        let channels = self.channels.par_chunks(1);
        channels.map(|channel| least_squares(channel, spikes, 0.5)).collect()
    }
}

/// Checks that the input current of a layer is finite.
fn finite(layer: usize, current: &[f32]) -> Result<()> {
    // All at once, which is faster than to look for the first.
    if current.iter().fold(true, |finite, z| finite & z.is_finite()) {
        return Ok(());
    }
    let wrong = current.iter().find(|z| !z.is_finite()).unwrap_or(&f32::NAN);
    Err(Error::layer(layer, "neurons", format!("activation {wrong}"), "finite ones"))
}

impl Channel {
    /// Number of activations above 0.
    pub fn len(&self) -> usize {
        self.end(self.values.len())
    }

    /// Number of activations in the first `values` values.
    fn end(&self, values: usize) -> usize {
        match values.checked_sub(1) {
            Some(last) => self.ends.get(last).copied().unwrap_or(values),
            None => 0,
        }
    }

    /// Returns each activation above 0 or middle of a bin, with the number of activations there.
    pub fn positive(&self) -> impl Iterator<Item = (f32, usize)> {
        let count = |i| self.end(i + 1) - self.end(i);
        self.values.iter().enumerate().map(move |(i, &value)| (value, count(i)))
    }

    /// Squared errors of all activations, rounded to a number of spikes as for [`least_squares`], with
    /// each of the thresholds.
    fn errors(&self, thresholds: &[f32], spikes: usize, rounding: f32) -> Vec<f64> {
        // Sums of the first activations and of their squares: with them, those that have the same
        // number of spikes need not be gone through one by one.
        let mut sums = vec![[0.0; 2]];
        let mut sum = [0.0; 2];
        for (a, count) in self.positive() {
            let (a, count) = (f64::from(a), count as f64);
            sum = [sum[0] + a * count, sum[1] + a * a * count];
            sums.push(sum);
        }
        let error = |&threshold: &f32| {
            let steps = spikes as f32;
            let (per_step, step) = (steps / threshold, threshold / steps);
            let fired = |a: f32| (a * per_step + rounding).min(steps) as u32;
            let (mut error, mut from) = (0.0, 0);
            while let Some(&first) = self.values.get(from) {
                let fired_first = fired(first);
                let to = from + self.values[from..].partition_point(|&a| fired(a) == fired_first);
                let [sum, squares] = [0, 1].map(|i| sums[to][i] - sums[from][i]);
                let count = (self.end(to) - self.end(from)) as f64;
                let said = f64::from(fired_first as f32 * step);
                error += squares - 2.0 * said * sum + said * said * count;
                from = to;
            }
            error
        };
        thresholds.iter().map(error).collect()
    }

    /// Number of activations above 0 and at most the one with these bits.
    fn up_to(&self, bits: u32) -> usize {
        self.end(self.values.partition_point(|value| value.to_bits() <= bits))
    }
}

/// Returns a percentile of channels of `count` activations each, zeros included.
fn percentile(channels: &[Channel], count: usize, percent: f64) -> f32 {
    let all = count * channels.len();
    let zeros = all - channels.iter().map(Channel::len).sum::<usize>();
    // Positive floats have the order of their bits, so bisection finds the value of a rank.
    let nth = |rank: usize| {
        let Some(rank) = rank.checked_sub(zeros) else {
            return 0.0;
        };
        let (mut low, mut high) = (0, f32::INFINITY.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            match channels.iter().map(|channel| channel.up_to(middle)).sum::<usize>() > rank {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        f32::from_bits(low)
    };
    let rank = percent / 100.0 * (all - 1) as f64;
    let (low, high) = (nth(rank.floor() as usize), nth(rank.ceil() as usize));
    low + (high - low) * rank.fract() as f32
}

/// Returns the threshold θ with the least squared error of n spikes at most, those of θ/n that
/// floor(n a/θ + `rounding`) counts, among 1 to 100 percent of the largest activation; among equals,
/// the largest. 0 if every activation is 0.
fn least_squares(channels: &[Channel], spikes: usize, rounding: f32) -> f32 {
    let largest = channels.iter().filter_map(|channel| channel.values.last());
    let most = largest.copied().fold(0.0, f32::max);
    if most == 0.0 {
        return 0.0;
    }
    let percents = (1..=100u8).rev();
    let thresholds: Vec<f32> = percents.map(|p| most * f32::from(p) / 100.0).collect();
    let of_channel = |channel: &Channel| channel.errors(&thresholds, spikes, rounding);
    let errors: Vec<Vec<f64>> = channels.par_iter().map(of_channel).collect();
    let error = |i: usize| errors.iter().map(|errors| errors[i]).sum::<f64>();
    let best = (0..thresholds.len()).map(|i| (i, error(i))).min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(0.0, |(best, _)| thresholds[best])
}

/// Number of activations in each bin between a power of two and the next.
type Octave = [u32; 1 << BITS];

/// Activations above 0 of one channel, while they are recorded.
#[derive(Default)]
struct Recorder {
    /// Those that are in no bin.
    kept: Vec<f32>,
    /// Bins by exponent; empty while all activations are kept.
    octaves: Vec<Option<Box<Octave>>>,
    /// Largest activation in a bin.
    largest: f32,
}

impl Recorder {
    /// Adds `count` activations, of which some may be 0; returns the number of the others.
    fn add(&mut self, activations: impl Iterator<Item = f32>, count: usize) -> usize {
        let before = self.kept.len();
        let mut used = before;
        if self.kept.capacity() - used < count {
            // Twice as much, as vectors grow by themselves, would be too much memory.
            self.kept.reserve_exact(count.max(used / 8));
        }
        self.kept.resize(used + count, 0.0);
        // Without a branch, since which are 0 cannot be foretold.
        for a in activations {
            self.kept[used] = a;
            used += usize::from(a > 0.0);
        }
        self.kept.truncate(used);
        if !self.octaves.is_empty() && used > FILL {
            self.empty_into_bins();
        }
        used - before
    }

    /// Puts activations into bins, from now on all.
    fn make_histogram(&mut self) {
        if !self.octaves.is_empty() {
            return;
        }
        self.octaves.resize(f32::INFINITY.to_bits() as usize >> (LOWEST + BITS), None);
        self.empty_into_bins();
        self.kept = Vec::new(); // gives the memory back
    }

    fn empty_into_bins(&mut self) {
        self.largest = self.kept.iter().copied().fold(self.largest, f32::max);
        for a in &self.kept {
            let bin = (a.to_bits() >> LOWEST) as usize;
            let octave = self.octaves[bin >> BITS].get_or_insert_with(|| Box::new([0; 1 << BITS]));
            octave[bin % (1 << BITS)] += 1;
        }
        self.kept.clear();
    }

    fn finish(mut self) -> Channel {
        if !self.octaves.is_empty() {
            self.empty_into_bins();
        }
        radsort::sort(&mut self.kept);
        let mut channel = Channel { values: self.kept, ends: Vec::new() };
        let mut end = 0;
        for (exponent, octave) in self.octaves.into_iter().enumerate() {
            for (bin, count) in octave.into_iter().flat_map(|octave| *octave).enumerate() {
                if count > 0 {
                    let first = ((exponent << BITS | bin) as u32) << LOWEST;
                    channel.values.push(f32::from_bits(first + (1 << (LOWEST - 1))));
                    end += count as usize;
                    channel.ends.push(end);
                }
            }
        }
        if let (false, Some(last)) = (channel.ends.is_empty(), channel.values.last_mut()) {
            *last = self.largest;
        }
        channel
    }
}

#[cfg(test)]
impl Activations {
    /// Activations of one layer, by channel.
    pub fn of(channels: &[&[f32]]) -> Self {
        let finish = |channel: &&[f32]| {
            let mut recorder = Recorder::default();
            recorder.add(channel.iter().copied(), channel.len());
            recorder.finish()
        };
        Self { count: channels[0].len(), channels: channels.iter().map(finish).collect() }
    }
}
