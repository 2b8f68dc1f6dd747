//! Early exit: images that are classified as soon as their outputs are far enough apart.

use serde::{Deserialize, Serialize};

use super::engine::{Chunk, Engine};
use super::neurons::Neurons;
use super::outputs::Outputs;
use super::simulator::{Simulation, Simulator, overflow};
use crate::base::chart::{Key, draw, legend, levelled_axes, line, table};
use crate::base::{Chart, Error, Result, Table, require, show, some_timesteps};
use crate::metrics::{Accuracy, Target, predict};

/// Result of early exit at one gap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Gap c between the two largest summed outputs at which an image is classified.
    pub gap: f32,
    /// Mean number of timesteps per image.
    pub mean_timesteps: f64,
    /// Accuracy at the exit, in percent.
    pub accuracy_percent: f64,
    /// Mean number of spikes per image up to its exit.
    pub spikes_per_image: f64,
}

/// Early exit: an image is classified as soon as the gap between its two largest summed outputs
/// reaches c, and at the last timestep at the latest (the cutoff of Wu et al. 2024, "Optimising
/// event-driven spiking neural network with regularisation and cutoff"). A larger gap takes more
/// timesteps and makes fewer errors.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyExit {
    /// Results at gaps that ascend.
    pub exits: Vec<Exit>,
    images: usize,
}

impl EarlyExit {
    /// Returns the exit with the fewest timesteps among those that reach the target; none if no gap
    /// does. Choose the gap on held-out images, and read it on test images with
    /// [`Simulation::exit_at`].
    pub fn best(&self, target: &Target) -> Option<Exit> {
        let good = self.exits.iter().filter(|exit| target.is_reached(exit.accuracy_percent));
        good.min_by(|a, b| a.mean_timesteps.total_cmp(&b.mean_timesteps)).copied()
    }

    /// Draws the accuracy against the mean number of timesteps, with the target.
    ///
    /// # Errors
    /// Returns [`Error::Chart`] if plotters fails.
    pub fn chart(&self, title: &str, target: &Target) -> Result<Chart> {
        draw(title, 1, |area| {
            let last = self.exits.iter().map(|exit| exit.mean_timesteps).fold(1.0, f64::max);
            let percents = self.exits.iter().map(|exit| exit.accuracy_percent);
            let low = percents.clone().fold(target.percent(), f64::min) - 1.0;
            let high = percents.fold(target.ann().percent(), f64::max) + 1.0;
            let titles = ["mean timesteps per image", "accuracy (%)"];
            let up = low..high;
            let mut axes = levelled_axes(area, title, titles, 0.0..last, up)?;
            target.draw(area, &mut axes)?;
            let points = self.exits.iter().map(|e| (e.mean_timesteps, e.accuracy_percent));
            line(&mut axes, 0, points.collect())?;
            legend(area, &[("early exit, one point per gap".into(), Key::Line(0))])?;
            let row = |exit: &Exit| {
                [f64::from(exit.gap), exit.mean_timesteps, exit.accuracy_percent]
                    .map(|value| value.to_string())
            };
            table(["gap", "mean_timesteps", "accuracy_percent"], self.exits.iter().map(row))
        })
    }
}

impl Simulation {
    /// Returns the results of early exit at a hundred gaps, from 0 to the largest that occurs.
    /// [`SimulateSettings::outputs`](crate::simulate::SimulateSettings::outputs) must have been set.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
    /// let settings = SimulateSettings { outputs: true, ..8.into() };
    /// let held_out = simulate(&snn, &parts.held_out, settings)?;
    /// if let Some(exit) = held_out.early_exit()?.best(&target) {
    ///     println!("{:?}", simulate(&snn, &parts.test, settings)?.exit_at(exit.gap)?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the run did not keep its outputs.
    pub fn early_exit(&self) -> Result<EarlyExit> {
        let mut gaps = self.gaps()?;
        gaps.sort_unstable_by(f32::total_cmp);
        let last = gaps.len() - 1;
        let mut chosen: Vec<f32> = (0..=100).map(|i| gaps[last * i / 100]).collect();
        chosen.dedup();
        let exits = chosen.into_iter().map(|gap| self.exit_at(gap)).collect::<Result<_>>()?;
        Ok(EarlyExit { exits, images: self.hits.images() })
    }

    /// Returns the result of early exit at gap `gap`.
    ///
    /// # Errors
    /// Returns an error if the gap is not a number, or the run did not keep its outputs.
    pub fn exit_at(&self, gap: f32) -> Result<Exit> {
        require(!gap.is_nan(), "gap", gap, "a number")?;
        let (outputs, gaps) = (self.outputs()?, self.gaps()?);
        let (timesteps, images) = (self.curve.timesteps(), self.hits.images());
        let rows = gaps.chunks_exact(timesteps).zip(self.hits.rows());
        let (mut correct, mut taken, mut spikes) = (0, 0, 0);
        for ((gaps, hits), own) in rows.zip(outputs.spikes.chunks_exact(timesteps)) {
            let exit = gaps.iter().position(|&own| own >= gap).unwrap_or(timesteps - 1);
            correct += usize::from(hits[exit]);
            taken += exit + 1;
            spikes += own[..=exit].iter().map(|&spikes| u64::from(spikes)).sum::<u64>();
        }
        Ok(Exit {
            gap,
            mean_timesteps: taken as f64 / images as f64,
            accuracy_percent: Accuracy { correct, images }.percent(),
            spikes_per_image: spikes as f64 / images as f64,
        })
    }

    /// Outputs of a run that kept them.
    pub(crate) fn outputs(&self) -> Result<&Outputs> {
        let expected = "a run with `SimulateSettings::outputs`";
        self.outputs.as_ref().ok_or_else(|| Error::parameter("run", "no outputs", expected))
    }

    /// Gap between the two largest summed outputs, by image and timestep.
    fn gaps(&self) -> Result<Vec<f32>> {
        Ok(self.outputs()?.rows().map(gap_of).collect())
    }
}

/// Gap between the two largest outputs.
fn gap_of(outputs: &[f32]) -> f32 {
    let [mut first, mut second] = [f32::NEG_INFINITY; 2];
    for &x in outputs {
        (first, second) = if x > first { (x, first) } else { (first, second.max(x)) };
    }
    first - second
}

/// What images took until their exits.
#[derive(Default)]
struct Taken {
    /// Summed outputs of the images that are simulated at once.
    sums: Vec<Vec<f32>>,
    timesteps: usize,
    correct: usize,
    spikes: u64,
    overflows: bool,
}

impl Simulator<'_> {
    /// Runs every image until the gap between its two largest summed outputs reaches `gap`, and for
    /// `timesteps` at the most.
    pub fn run_until(&self, neurons: &[Neurons], timesteps: usize, gap: f32) -> Result<Exit> {
        some_timesteps("timesteps", timesteps)?;
        require(!gap.is_nan(), "gap", gap, "a number")?;
        let engine = Engine::new(self.stages, neurons)?.by_timestep();
        let show = |all: &mut Taken, (place, image): (usize, usize), chunk: &Chunk<'_>| {
            if all.sums.len() <= place {
                all.sums.resize(place + 1, Vec::new());
            }
            let sum = &mut all.sums[place];
            if chunk.first == 0 {
                *sum = vec![0.0; self.stages.classes()];
            }
            sum.iter_mut().zip(chunk.output(0)).for_each(|(sum, z)| *sum += z);
            all.spikes += chunk.events.iter().map(|events| events.spikes(0)).sum::<u64>();
            let goes_on = gap_of(sum) < gap && chunk.first + 1 < timesteps;
            if !goes_on {
                all.timesteps += chunk.first + 1;
                all.correct += usize::from(predict(sum) == self.images.label(image));
                all.overflows |= sum.iter().any(|sum| !sum.is_finite());
            }
            goes_on
        };
        let all = self.fold(&engine, timesteps, &[], Taken::default, show, |a, b| Taken {
            sums: Vec::new(),
            timesteps: a.timesteps + b.timesteps,
            correct: a.correct + b.correct,
            spikes: a.spikes + b.spikes,
            overflows: a.overflows | b.overflows,
        });
        if all.overflows {
            return Err(overflow(self.stages));
        }
        let images = self.images.len();
        Ok(Exit {
            gap,
            mean_timesteps: all.timesteps as f64 / images as f64,
            accuracy_percent: Accuracy { correct: all.correct, images }.percent(),
            spikes_per_image: all.spikes as f64 / images as f64,
        })
    }
}

impl EarlyExit {
    fn table(&self) -> Table {
        let title = format!("Early exit of {} images", self.images);
        let header = ["gap", "mean timesteps", "accuracy %", "spikes an image"];
        let row = |exit: &Exit| {
            let values = [f64::from(exit.gap), exit.mean_timesteps, exit.accuracy_percent];
            let values = values.map(|value| format!("{value:.2}"));
            [values.to_vec(), vec![format!("{:.0}", exit.spikes_per_image)]].concat()
        };
        // A tenth of the gaps says enough.
        Table::of(title, header, self.exits.iter().step_by(10).map(row))
    }
}

show!(impl [] EarlyExit as table);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Hits;

    /// Two images of two classes in three timesteps, of which the second class is right.
    fn run() -> Simulation {
        let sums = vec![0.0, 1.0, 0.0, 2.0, 0.0, 6.0, /**/ 1.0, 0.0, 1.0, 0.5, 1.0, 3.0];
        let hits = Hits::new(3, vec![true, true, true, false, false, true]);
        Simulation {
            curve: hits.curve(),
            hits,
            input: None,
            layers: Vec::new(),
            pools: Vec::new(),
            outputs: Some(Outputs { classes: 2, sums, spikes: vec![1, 2, 4, 8, 16, 32] }),
        }
    }

    #[test]
    fn an_image_leaves_when_the_gap_is_reached() {
        let at = |gap| {
            let Exit { mean_timesteps, accuracy_percent, spikes_per_image, .. } =
                run().exit_at(gap).unwrap();
            (mean_timesteps, accuracy_percent, spikes_per_image)
        };
        assert_eq!(at(0.0), (1.0, 50.0, 4.5));
        assert_eq!(at(1.5), (2.5, 100.0, (3.0 + 56.0) / 2.0));
        assert_eq!(at(100.0), (3.0, 100.0, (7.0 + 56.0) / 2.0)); // never: the last timestep
        let exit = run().early_exit().unwrap();
        let all = Target::new([true, true], 0.0).unwrap();
        assert_eq!(exit.best(&all).unwrap().mean_timesteps, 2.5); // a gap above 1 and up to 2
        let none = Simulation { outputs: None, ..run() };
        let error = none.early_exit().unwrap_err().to_string();
        assert_eq!(error, "run: found no outputs, expected a run with `SimulateSettings::outputs`");
        assert!(run().exit_at(f32::NAN).is_err());
    }
}
