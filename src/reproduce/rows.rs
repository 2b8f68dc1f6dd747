//! Rows of the experiments' results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ann::networks::Network;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::files::rounded;
use crate::base::table::Table;
use crate::base::table::latency_text;
use crate::base::table::show;
use crate::convert::Balance;
use crate::metrics::AccuracyCurve;
use crate::metrics::Target;
use crate::simulate::network::Snn;
use crate::simulate::simulator::Simulation;

/// Row of the result that an experiment reports.
pub trait Row: Sized {
    /// Table of some rows, as people read them.
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
    /// Table of the rows, as people read them.
    pub fn table(&self) -> Table {
        R::table(&self.rows)
    }
}

show!(impl [R: Row] Report<R> as table);

/// Headers of the cells that `won` gives.
const WON: [&str; 4] = ["latency", "evolved", "improvement %", "95 % interval"];

/// Cells of the latencies, the improvement and its interval in a row, as people read them.
macro_rules! won {
    ($row:expr, $before:ident) => {
        [
            latency_text($row.$before),
            latency_text($row.evolved_latency_timesteps),
            $row.improvement_percent
                .map_or_else(String::new, |percent| format!("{percent:.1}")),
            format!(
                "{:.0} to {:.0}",
                $row.improvement_low_percent, $row.improvement_high_percent
            ),
        ]
    };
}

/// One line of `latency.csv`: one seed and one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the ANN on the test images.
    pub ann_accuracy_percent: f64,
    /// The ANN's less the margin.
    pub target_accuracy_percent: f64,
    /// The conversion chosen on held-out images.
    pub baseline: String,
    /// On the test images; empty where the target is never reached.
    pub baseline_latency_timesteps: Option<usize>,
    /// On the test images; empty where the target is never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// 100 (1 - evolved / baseline); empty where either is.
    pub improvement_percent: Option<f64>,
    /// Least improvement at 95 % confidence, over test images
    /// ([`improvement_interval`]).
    pub improvement_low_percent: f64,
    /// Greatest improvement at 95 % confidence.
    pub improvement_high_percent: f64,
}

impl LatencyRow {
    /// The row for a baseline and an evolved network's run on the same test images.
    ///
    /// # Errors
    /// Runs or a target on different numbers of images, or runs of different lengths.
    pub fn new(
        seed: u64,
        target: &Target,
        baseline: Balance,
        before: &Simulation,
        after: &Simulation,
    ) -> Result<Self> {
        let won = target.improvement_of(&before.hits, &after.hits, seed)?;
        Ok(Self {
            seed,
            ann_accuracy_percent: rounded(target.ann().percent()),
            target_accuracy_percent: rounded(target.percent()),
            baseline: baseline.to_string(),
            baseline_latency_timesteps: won.before,
            evolved_latency_timesteps: won.after,
            improvement_percent: won.percent.map(rounded),
            improvement_low_percent: rounded(won.interval[0]),
            improvement_high_percent: rounded(won.interval[1]),
        })
    }
}

impl Row for LatencyRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency to the target accuracy on test images, in timesteps";
        let header = ["seed", "ANN %", "target %", "baseline"]
            .into_iter()
            .chain(WON);
        let row = |row: &Self| {
            let first = [
                row.seed.to_string(),
                format!("{:.2}", row.ann_accuracy_percent),
                format!("{:.2}", row.target_accuracy_percent),
                row.baseline.clone(),
            ];
            first
                .into_iter()
                .chain(won!(row, baseline_latency_timesteps))
                .collect()
        };
        Table::of(title, header, rows.iter().map(row))
    }
}

/// One line of `comparison.csv`: an evolved network and one that it is compared with, at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// Of the neurons of both, in thresholds.
    pub initial_potential: f32,
    /// What the evolution was seeded with.
    pub seed: u64,
    /// Of the ANN on the test images.
    pub ann_accuracy_percent: f64,
    /// The target's distance below it.
    pub margin_points: f64,
    /// What the evolved network is compared with: a kind of conversion.
    pub rival: String,
    /// The one of its kind that was chosen on held-out images.
    pub rival_network: String,
    /// On the test images; empty where the target is never reached.
    pub rival_latency_timesteps: Option<usize>,
    /// On the test images; empty where the target is never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// 100 (1 - evolved / rival); empty where either is.
    pub improvement_percent: Option<f64>,
    /// Least improvement at 95 % confidence, over test images ([`improvement_interval`]); the
    /// timestep after the last stands for a latency that is never reached.
    pub improvement_low_percent: f64,
    /// Greatest improvement at 95 % confidence.
    pub improvement_high_percent: f64,
    /// Up to the latency, of all neurons.
    pub rival_spikes_per_image: Option<f64>,
    /// Up to the latency, of all neurons.
    pub evolved_spikes_per_image: Option<f64>,
    /// Up to the latency, over the ANN's ([`Energy`](crate::simulate::energy::Energy)).
    pub rival_energy_ratio: Option<f64>,
    /// Up to the latency, over the ANN's.
    pub evolved_energy_ratio: Option<f64>,
}

impl ComparisonRow {
    /// The row of a network and its run, and of the evolved one and its, on the same test images.
    ///
    /// # Errors
    /// Runs or a target on different numbers of images, or runs of different lengths.
    pub fn new<N: Network>(
        (initial_potential, seed): (f32, u64),
        target: &Target,
        (rival, network): (&str, &str),
        [before, after]: [(&Snn<N>, &Simulation); 2],
    ) -> Result<Self> {
        let won = target.improvement_of(&before.1.hits, &after.1.hits, seed)?;
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
            improvement_percent: won.percent.map(rounded),
            improvement_low_percent: rounded(won.interval[0]),
            improvement_high_percent: rounded(won.interval[1]),
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

/// One line of `latency.csv` of images under attack: an evolved network and one that it is compared
/// with, at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackRow {
    /// FGSM, PGD or noise.
    pub attack: String,
    /// Whose gradient it climbs: the ANN's or the spiking reference's.
    pub through: String,
    /// ε, or σ of noise, in 1/255.
    pub epsilon_255: f64,
    /// Of the ANN on the attacked test images.
    pub ann_accuracy_percent: f64,
    /// Of the reference network on them, after the last timestep.
    pub reference_accuracy_percent: f64,
    /// The target's distance below it.
    pub margin_points: f64,
    /// Whether the target is so low that its latency says nothing.
    pub void: bool,
    /// Which held-out images the evolution saw: `clean` ones, or `attacked` ones.
    pub evolved_on: String,
    /// What it was seeded with.
    pub seed: u64,
    /// What the evolved network is compared with: a kind of conversion, or the reference.
    pub rival: String,
    /// The one of its kind that was chosen on attacked held-out images; the reference was chosen on
    /// clean ones.
    pub rival_network: String,
    /// On the attacked test images; empty where the target is never reached.
    pub rival_latency_timesteps: Option<usize>,
    /// On the attacked test images; empty where the target is never reached.
    pub evolved_latency_timesteps: Option<usize>,
    /// 100 (1 - evolved / rival); empty where either is.
    pub improvement_percent: Option<f64>,
    /// Least improvement at 95 % confidence, over test images ([`improvement_interval`]); the
    /// timestep after the last stands for a latency that is never reached.
    pub improvement_low_percent: f64,
    /// Greatest improvement at 95 % confidence.
    pub improvement_high_percent: f64,
}

impl Row for AttackRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency to the target accuracy on attacked test images";
        let header = [
            "attack",
            "through",
            "reference %",
            "evolved on",
            "seed",
            "compared with",
        ];
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
            first
                .into_iter()
                .chain(won!(row, rival_latency_timesteps))
                .collect()
        };
        Table::of(title, header.into_iter().chain(WON), rows.iter().map(row))
    }
}

/// A kind of conversion and the one that was chosen of it, as people read them.
fn rival(kind: &str, network: &str) -> String {
    match network.starts_with(kind) {
        true => network.into(),
        false => format!("{kind} ({network})"),
    }
}

/// One line of `comparison.csv` of methods: a network on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodRow {
    /// What made it.
    pub method: String,
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the simulation.
    pub timesteps: usize,
    /// After the last of them.
    pub accuracy_percent: f64,
    /// One for all methods.
    pub target_accuracy_percent: f64,
    /// Empty where the target is not reached, or lost again.
    pub latency_timesteps: Option<usize>,
    /// Of the input (where it spikes) and of all layers, in all timesteps.
    pub spikes_per_image: f64,
    /// Of everything that made the network: the ANN's training, and what came after it.
    pub training_seconds: f64,
}

impl Row for MethodRow {
    /// One line a method, its seeds one after the other.
    fn table(rows: &[Self]) -> Table {
        let header = [
            "method",
            "timesteps",
            "accuracy %",
            "latency",
            "spikes an image",
            "seconds",
        ];
        let mut methods: Vec<&str> = Vec::new();
        for row in rows {
            if !methods.contains(&row.method.as_str()) {
                methods.push(&row.method);
            }
        }
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
