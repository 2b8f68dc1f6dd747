//! Rows of the experiments' results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ann::Classifier;
use crate::base::{Error, Result, Table, distinct, latency_text, rounded, show};
use crate::convert::Balance;
use crate::metrics::{AccuracyCurve, Target};
use crate::simulate::{Simulation, Snn};

/// Row of the result that an experiment reports.
pub trait Row: Sized {
    /// Table of the rows for people to read.
    fn table(rows: &[Self]) -> Table;
}

/// Result of an experiment.
#[derive(Clone)]
pub struct Report<R> {
    /// Rows of its main file.
    pub rows: Vec<R>,
    /// Paths of the files written.
    pub files: Vec<PathBuf>,
}

impl<R: Row> Report<R> {
    /// Table of the rows for people to read.
    pub fn table(&self) -> Table {
        R::table(&self.rows)
    }
}

show!(impl [R: Row] Report<R> as table);

/// Headers of the cells of `won!`.
const WON: [&str; 4] = ["latency", "evolved", "improvement %", "95 % interval"];

/// Cells of a row's latencies, improvement and confidence interval.
macro_rules! won {
    ($row:expr, $before:ident) => {
        [
            latency_text($row.$before),
            latency_text($row.evolved_latency_timesteps),
            $row.improvement_percent.map_or_else(String::new, |percent| format!("{percent:.1}")),
            format!("{:.0} to {:.0}", $row.improvement_low_percent, $row.improvement_high_percent),
        ]
    };
}

/// Row of `latency.csv`: one seed and one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// Seed of the experiment.
    pub seed: u64,
    /// Accuracy of the ANN on the test images, in percent.
    pub ann_accuracy_percent: f64,
    /// Target accuracy: the ANN's minus the margin, in percent.
    pub target_accuracy_percent: f64,
    /// Conversion chosen on held-out images.
    pub baseline: String,
    /// Latency of the baseline on the test images, in timesteps; empty if the target is never
    /// reached.
    pub baseline_latency_timesteps: Option<usize>,
    /// Latency of the evolved network on the test images, in timesteps; empty if the target is
    /// never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// Improvement of the latency, 100 (1 - evolved / baseline); empty if either latency is.
    pub improvement_percent: Option<f64>,
    /// Lower bound of the improvement at 95 % confidence, over test images
    /// ([`Target::improvement`](crate::metrics::Target::improvement)).
    pub improvement_low_percent: f64,
    /// Upper bound of the improvement at 95 % confidence.
    pub improvement_high_percent: f64,
}

impl LatencyRow {
    /// Row of a baseline's and an evolved network's run on the same test images.
    ///
    /// # Errors
    /// Returns an error if the runs and the target differ in their number of images, or the runs in
    /// their length.
    pub fn new(
        seed: u64,
        target: &Target,
        baseline: Balance,
        before: &Simulation,
        after: &Simulation,
    ) -> Result<Self> {
        let won = target.improvement_of(&before.hits, &after.hits, seed)?.rounded();
        Ok(Self {
            seed,
            ann_accuracy_percent: rounded(target.ann().percent()),
            target_accuracy_percent: rounded(target.percent()),
            baseline: baseline.to_string(),
            baseline_latency_timesteps: won.before,
            evolved_latency_timesteps: won.after,
            improvement_percent: won.percent,
            improvement_low_percent: won.interval[0],
            improvement_high_percent: won.interval[1],
        })
    }
}

impl Row for LatencyRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency to the target accuracy on test images, in timesteps";
        let header = ["seed", "ANN %", "target %", "baseline"].into_iter();
        let row = |row: &Self| {
            let first = [
                row.seed.to_string(),
                format!("{:.2}", row.ann_accuracy_percent),
                format!("{:.2}", row.target_accuracy_percent),
                row.baseline.clone(),
            ];
            let won = won!(row, baseline_latency_timesteps);
            first.into_iter().chain(won).collect()
        };
        Table::of(title, header.chain(WON), rows.iter().map(row))
    }
}

/// Row of `comparison.csv`: an evolved network compared with another at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// Initial membrane potential of both networks, as a fraction of the threshold.
    pub initial_potential: f32,
    /// Seed of the evolution.
    pub seed: u64,
    /// Accuracy of the ANN on the test images, in percent.
    pub ann_accuracy_percent: f64,
    /// Margin of the target below that accuracy, in percentage points.
    pub margin_points: f64,
    /// Kind of conversion that the evolved network is compared with.
    pub rival: String,
    /// Network of that kind, chosen on held-out images.
    pub rival_network: String,
    /// Latency of the compared network on the test images, in timesteps; empty if the target is
    /// never reached.
    pub rival_latency_timesteps: Option<usize>,
    /// Latency of the evolved network on the test images, in timesteps; empty if the target is
    /// never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// Improvement of the latency, 100 (1 - evolved / rival); empty if either latency is.
    pub improvement_percent: Option<f64>,
    /// Lower bound of the improvement at 95 % confidence, over test images
    /// ([`Target::improvement`](crate::metrics::Target::improvement)). A target that is never reached counts as reached one timestep
    /// after the last.
    pub improvement_low_percent: f64,
    /// Upper bound of the improvement at 95 % confidence.
    pub improvement_high_percent: f64,
    /// Number of spikes per image of the compared network up to its latency.
    pub rival_spikes_per_image: Option<f64>,
    /// Number of spikes per image of the evolved network up to its latency.
    pub evolved_spikes_per_image: Option<f64>,
    /// Energy of the compared network up to its latency, divided by the ANN's
    /// ([`Energy`](crate::simulate::energy::Energy)).
    pub rival_energy_ratio: Option<f64>,
    /// Energy of the evolved network up to its latency, divided by the ANN's.
    pub evolved_energy_ratio: Option<f64>,
}

impl ComparisonRow {
    /// Row of a network and an evolved one, each with its run on the same test images.
    ///
    /// # Errors
    /// Returns an error if the runs and the target differ in their number of images, or the runs in
    /// their length.
    pub fn new<N: Classifier>(
        (initial_potential, seed): (f32, u64),
        target: &Target,
        (rival, network): (&str, &str),
        [before, after]: [(&Snn<N>, &Simulation); 2],
    ) -> Result<Self> {
        let won = target.improvement_of(&before.1.hits, &after.1.hits, seed)?.rounded();
        let spent = |(snn, run): (&Snn<N>, &Simulation), latency: Option<usize>| {
            let Some(latency) = latency else {
                return Ok((None, None));
            };
            let spikes = run.layers.iter().flat_map(|layer| &layer.spikes[..latency]);
            let spikes = spikes.sum::<u64>() as f64 / run.curve.images() as f64;
            let energy = snn.energy(run, latency)?.ratio();
            Ok::<_, Error>((Some(rounded(spikes)), Some(rounded(energy))))
        };
        let ((rival_spikes, rival_energy), (spikes, energy)) =
            (spent(before, won.before)?, spent(after, won.after)?);
        Ok(Self {
            initial_potential,
            seed,
            ann_accuracy_percent: rounded(target.ann().percent()),
            margin_points: target.margin(),
            rival: rival.into(),
            rival_network: network.into(),
            rival_latency_timesteps: won.before,
            evolved_latency_timesteps: won.after,
            improvement_percent: won.percent,
            improvement_low_percent: won.interval[0],
            improvement_high_percent: won.interval[1],
            rival_spikes_per_image: rival_spikes,
            evolved_spikes_per_image: spikes,
            rival_energy_ratio: rival_energy,
            evolved_energy_ratio: energy,
        })
    }
}

impl Row for ComparisonRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency to the target accuracy on test images";
        let header = ["initial", "margin", "seed", "compared with"].into_iter();
        let header = header.chain(WON).chain(["energy", "evolved"]);
        let energy = |energy: Option<f64>| energy.map_or_else(String::new, |e| format!("{e:.2}"));
        let row = |row: &Self| {
            let first = [
                row.initial_potential.to_string(),
                row.margin_points.to_string(),
                row.seed.to_string(),
                rival(&row.rival, &row.rival_network),
            ];
            let energies = [row.rival_energy_ratio, row.evolved_energy_ratio].map(energy);
            let won = won!(row, rival_latency_timesteps);
            first.into_iter().chain(won).chain(energies).collect()
        };
        Table::of(title, header, rows.iter().map(row))
    }
}

/// Row of `latency.csv` under attack: an evolved network compared with another at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackRow {
    /// Kind of attack: FGSM, PGD or noise.
    pub attack: String,
    /// Network whose gradient the attack uses: ANN, SNN (the reference) or none.
    pub through: String,
    /// Size of the attack: ε, or σ of noise, in 1/255.
    pub epsilon_255: f64,
    /// Accuracy of the ANN on the attacked test images, in percent.
    pub ann_accuracy_percent: f64,
    /// Accuracy of the reference network on the attacked test images after the last timestep, in
    /// percent.
    pub reference_accuracy_percent: f64,
    /// Margin of the target below that accuracy, in percentage points.
    pub margin_points: f64,
    /// Whether the target is too low for its latency to be meaningful.
    pub void: bool,
    /// Held-out images of the evolution: `clean` or `attacked`.
    pub evolved_on: String,
    /// Seed of the evolution.
    pub seed: u64,
    /// Kind of network that the evolved one is compared with: a kind of conversion, or the
    /// reference.
    pub rival: String,
    /// Network of that kind, chosen on attacked held-out images; the reference was chosen on clean
    /// ones.
    pub rival_network: String,
    /// Latency of the compared network on the attacked test images, in timesteps; empty if the
    /// target is never reached.
    pub rival_latency_timesteps: Option<usize>,
    /// Latency of the evolved network on the attacked test images, in timesteps; empty if the
    /// target is never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// Improvement of the latency, 100 (1 - evolved / rival); empty if either latency is.
    pub improvement_percent: Option<f64>,
    /// Lower bound of the improvement at 95 % confidence, over test images
    /// ([`Target::improvement`](crate::metrics::Target::improvement)). A target that is never reached counts as reached one timestep
    /// after the last.
    pub improvement_low_percent: f64,
    /// Upper bound of the improvement at 95 % confidence.
    pub improvement_high_percent: f64,
}

impl Row for AttackRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency to the target accuracy on attacked test images";
        let header = ["attack", "through", "reference %", "evolved on", "seed", "compared with"];
        let row = |row: &Self| {
            let void = if row.void { " (void)" } else { "" };
            let first = [
                format!("{} {}/255", row.attack, row.epsilon_255),
                row.through.clone(),
                format!("{:.2}{void}", row.reference_accuracy_percent),
                row.evolved_on.clone(),
                row.seed.to_string(),
                rival(&row.rival, &row.rival_network),
            ];
            let won = won!(row, rival_latency_timesteps);
            first.into_iter().chain(won).collect()
        };
        Table::of(title, header.into_iter().chain(WON), rows.iter().map(row))
    }
}

/// Text of a kind of network and the chosen network.
fn rival(kind: &str, network: &str) -> String {
    match network.starts_with(kind) {
        true => network.into(),
        false => format!("{kind} ({network})"),
    }
}

/// Row of `comparison.csv` of methods: one network on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodRow {
    /// Method that made the network.
    pub method: String,
    /// Seed of the experiment.
    pub seed: u64,
    /// Number of timesteps of the simulation.
    pub timesteps: usize,
    /// Accuracy after the last timestep, in percent.
    pub accuracy_percent: f64,
    /// Target accuracy in percent, the same for all methods.
    pub target_accuracy_percent: f64,
    /// Latency in timesteps; empty if the target is not reached, or lost again.
    pub latency_timesteps: Option<usize>,
    /// Number of spikes per image in all timesteps, of the input (if it spikes) and all layers.
    pub spikes_per_image: f64,
    /// Seconds to make the network: the ANN's training and all later steps.
    pub training_seconds: f64,
}

impl Row for MethodRow {
    /// Table of one line per method, with its seeds side by side.
    fn table(rows: &[Self]) -> Table {
        let header = ["method", "timesteps", "accuracy %", "latency", "spikes an image", "seconds"];
        let methods = distinct(rows.iter().map(|row| &*row.method));
        let cells = |method: &str| {
            let own = || rows.iter().filter(|row| row.method == method);
            let join = |of: &dyn Fn(&Self) -> String| own().map(of).collect::<Vec<_>>().join(", ");
            vec![
                method.to_string(),
                own().next().map_or(0, |row| row.timesteps).to_string(),
                join(&|row| format!("{:.1}", row.accuracy_percent)),
                join(&|row| latency_text(row.latency_timesteps)),
                join(&|row| format!("{:.0}", row.spikes_per_image)),
                join(&|row| format!("{:.0}", row.training_seconds)),
            ]
        };
        let title = "Test images of the digits, seed after seed";
        Table::of(title, header, methods.into_iter().map(cells))
    }
}

impl MethodRow {
    pub(crate) fn new(
        method: &str,
        seed: u64,
        target: &Target,
        curve: &AccuracyCurve,
        spikes_per_image: f64,
        seconds: f64,
    ) -> Self {
        let last = curve.iter().last();
        Self {
            method: method.into(),
            seed,
            timesteps: curve.timesteps(),
            accuracy_percent: last.map_or(0.0, |accuracy| rounded(accuracy.percent())),
            target_accuracy_percent: rounded(target.percent()),
            latency_timesteps: curve.latency(target),
            spikes_per_image: rounded(spikes_per_image),
            training_seconds: (seconds * 10.0).round() / 10.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::files::write_csv;
    use crate::metrics::Hits;
    use std::fs;

    #[test]
    fn never_reached_is_an_empty_cell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/latency.csv");
        let run = |from: usize| {
            let hits = Hits::new(2, (0..10).flat_map(|_| [1, 2].map(|t| t >= from)).collect());
            Simulation {
                curve: hits.curve(),
                hits,
                input: None,
                layers: Vec::new(),
                pools: Vec::new(),
                outputs: None,
            }
        };
        let target = Target::new([true; 10], 10.0).unwrap();
        let row = LatencyRow::new(3, &target, Balance::Max, &run(9), &run(2)).unwrap();
        write_csv(&path, [row]).unwrap();
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "seed,ann_accuracy_percent,target_accuracy_percent,baseline,baseline_latency_timesteps,\
             evolved_latency_timesteps,improvement_percent,improvement_low_percent,\
             improvement_high_percent\n3,100.0,90.0,max,,2,,33.3333,33.3333\n"
        );
    }
}
