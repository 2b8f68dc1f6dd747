//! Rows of the experiments' results.

use std::borrow::Borrow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ann::Classifier;
use crate::base::{
    Chart, Error, Result, Table, distinct, latency_text, not_empty, owned, require, rounded, show,
};
use crate::convert::Balance;
use crate::metrics::{AccuracyCurve, AccuracyRow, Target, accuracy_chart};
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

/// Headers of the cells of [`Won`].
const WON: [&str; 5] = ["seeds", "latency", "evolved", "improvement %", "95 % interval"];

/// Latency won by an evolved network.
struct Won {
    seed: u64,
    /// Latency of the other network, and of the evolved one.
    latencies: [Option<usize>; 2],
    percent: Option<f64>,
    interval: [f64; 2],
}

/// [`Won`] of a row, of which the other network's latency has this name.
macro_rules! won {
    ($row:expr, $before:ident) => {
        Won {
            seed: $row.seed,
            latencies: [$row.$before, $row.evolved_latency_timesteps],
            percent: $row.improvement_percent,
            interval: [$row.improvement_low_percent, $row.improvement_high_percent],
        }
    };
}

impl Won {
    /// Cells of rows that differ in their seed.
    fn cells(won: &[&Self]) -> [String; 5] {
        let number = |percent: f64| format!("{percent:.1}");
        let interval = |[low, high]: [f64; 2]| format!("{low:.0} to {high:.0}");
        [
            joined(won, |won| won.seed.to_string()),
            joined(won, |won| latency_text(won.latencies[0])),
            joined(won, |won| latency_text(won.latencies[1])),
            joined(won, |won| won.percent.map_or_else(|| "none".into(), number)),
            joined(won, |won| interval(won.interval)),
        ]
    }

    /// Note below a table of these, if one is needed.
    fn note<'a>(mut all: impl Iterator<Item = &'a Self>) -> Option<&'static str> {
        let note = "Where an interval holds 0, these test images show no certain difference.";
        all.any(|won| won.interval[0] <= 0.0 && won.interval[1] >= 0.0).then_some(note)
    }
}

/// Text of each item, one after the other; once if it is the same for all.
fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    let texts: Vec<String> = items.iter().map(text).collect();
    match texts.iter().all(|text| *text == texts[0]) {
        true => texts[0].clone(),
        false => texts.join(", "),
    }
}

/// Table with one line for all rows whose first cells are the same: those of different seeds.
fn by_seed<R>(
    title: &str,
    rows: &[R],
    (before, first): (&[&str], impl Fn(&R) -> Vec<String>),
    won: impl Fn(&R) -> Won,
    (after, last): (&[&str], impl Fn(&[&R]) -> Vec<String>),
) -> Table {
    let won: Vec<Won> = rows.iter().map(won).collect();
    let cells = |kind: Vec<String>| {
        let own = rows.iter().zip(&won).filter(|(row, _)| first(row) == kind);
        let (own, of): (Vec<&R>, Vec<&Won>) = own.unzip();
        kind.into_iter().chain(Won::cells(&of)).chain(last(&own)).collect()
    };
    let header = before.iter().chain(&WON).chain(after).copied();
    let kinds = distinct(rows.iter().map(&first)).into_iter();
    Table::of(title, header, kinds.map(cells)).noted(Won::note(won.iter()))
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
        let header = ["ANN %", "target %", "baseline"];
        let first = |row: &Self| {
            vec![
                format!("{:.2}", row.ann_accuracy_percent),
                format!("{:.2}", row.target_accuracy_percent),
                row.baseline.clone(),
            ]
        };
        let won = |row: &Self| won!(row, baseline_latency_timesteps);
        by_seed(title, rows, (&header, first), won, (&[], |_| Vec::new()))
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
        let title = "Latency to the target accuracy on test images, in timesteps";
        let header = ["initial", "target", "compared with"];
        let first = |row: &Self| {
            vec![
                row.initial_potential.to_string(),
                format!("ANN - {}", row.margin_points),
                rival(&row.rival, &row.rival_network),
            ]
        };
        let won = |row: &Self| won!(row, rival_latency_timesteps);
        let energy = |energy: Option<f64>| energy.map_or("none".into(), |e| format!("{e:.2}"));
        let last = |rows: &[&Self]| {
            vec![
                joined(rows, |row| energy(row.rival_energy_ratio)),
                joined(rows, |row| energy(row.evolved_energy_ratio)),
            ]
        };
        by_seed(title, rows, (&header, first), won, (&["energy", "evolved"], last))
    }
}

impl ComparisonRow {
    /// Accuracies on the test images of all networks that rows of one initial potential and margin
    /// compare, with the target. `accuracy` holds the rows of `accuracy.csv` beside them.
    ///
    /// # Errors
    /// Returns an error for no rows or rows of several initial potentials or margins, or if a network
    /// is not in `accuracy`.
    pub fn chart(
        title: &str,
        rows: impl IntoIterator<Item: Borrow<Self>>,
        accuracy: &[AccuracyRow],
    ) -> Result<Chart> {
        let rows: Vec<Self> = owned(rows);
        not_empty("rows", &rows)?;
        let (initial, margin) = (rows[0].initial_potential, rows[0].margin_points);
        for row in &rows {
            let found = format!("{}, {}", row.initial_potential, row.margin_points);
            let expected = format!("one initial potential and margin: {initial}, {margin}");
            let same = (row.initial_potential, row.margin_points) == (initial, margin);
            require(same, "rows", found, expected)?;
        }
        let names = rows.iter().map(|row| row.rival_network.clone());
        let names = names.chain(rows.iter().map(|row| format!("evolved, seed {}", row.seed)));
        let names = distinct(names);
        let whole = names.iter().map(|name| format!("{name}, initial potential {initial}"));
        let curves = AccuracyRow::curves(accuracy, 0, whole)?;
        let images = curves[0].1.images();
        let correct = (rows[0].ann_accuracy_percent / 100.0 * images as f64).round() as usize;
        let target = Target::new((0..images).map(|i| i < correct).collect::<Vec<_>>(), margin)?;
        accuracy_chart(title, names.iter().zip(curves.iter().map(|(_, c)| c)), Some(&target))
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
        let title = "Latency to the target accuracy on attacked test images, in timesteps";
        let header = ["attack", "through", "reference %", "evolved on", "compared with"];
        let first = |row: &Self| {
            let void = if row.void { " (void)" } else { "" };
            vec![
                format!("{} {}/255", row.attack, row.epsilon_255),
                row.through.clone(),
                format!("{:.2}{void}", row.reference_accuracy_percent),
                row.evolved_on.clone(),
                rival(&row.rival, &row.rival_network),
            ]
        };
        let won = |row: &Self| won!(row, rival_latency_timesteps);
        by_seed(title, rows, (&header, first), won, (&[], |_| Vec::new()))
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

    #[test]
    fn seeds_stand_side_by_side_and_what_is_uncertain_is_noted() {
        let row = |seed, evolved, low| ComparisonRow {
            initial_potential: 0.0,
            seed,
            ann_accuracy_percent: 90.0,
            margin_points: 1.0,
            rival: "percentile".into(),
            rival_network: "percentile 99.8".into(),
            rival_latency_timesteps: Some(90),
            evolved_latency_timesteps: evolved,
            improvement_percent: evolved.map(|evolved| 100.0 - evolved as f64 / 0.9),
            improvement_low_percent: low,
            improvement_high_percent: 60.0,
            rival_spikes_per_image: None,
            evolved_spikes_per_image: None,
            rival_energy_ratio: Some(1.0),
            evolved_energy_ratio: None,
        };
        let table = |rows: &[ComparisonRow]| ComparisonRow::table(rows).to_string();
        let certain = table(&[row(0, Some(45), 40.0), row(1, None, 1.0)]);
        let cells = certain.lines().nth(2).unwrap().split("  ").filter(|cell| !cell.is_empty());
        let cells: Vec<&str> = cells.map(str::trim).collect();
        let expected = ["0", "ANN - 1", "percentile 99.8", "0, 1", "90", "45, never", "50.0, none"];
        assert_eq!(cells[..7], expected);
        assert_eq!(cells[7..], ["40 to 60, 1 to 60", "1.00", "none"]);
        assert!(!certain.contains("no certain"));
        assert!(table(&[row(0, Some(45), -3.0)]).contains("no certain difference"));

        let curve = AccuracyCurve::new(10, vec![5, 9]).unwrap();
        let names = ["percentile 99.8", "evolved, seed 0", "evolved, seed 1"];
        let accuracy = names.map(|name| format!("{name}, initial potential 0"));
        let accuracy = accuracy.iter().flat_map(|name| AccuracyRow::of(0, name, &curve));
        let accuracy: Vec<AccuracyRow> = accuracy.collect();
        let rows = [row(0, Some(45), 40.0), row(1, None, 1.0)];
        let chart = ComparisonRow::chart("title", &rows, &accuracy).unwrap();
        assert!(chart.svg().contains("evolved, seeds 0, 1: latency 2, 2"));
        let other = ComparisonRow { margin_points: 2.0, ..rows[0].clone() };
        assert!(ComparisonRow::chart("", [&rows[0], &other], &accuracy).is_err());
        assert!(ComparisonRow::chart("", &rows, &accuracy[..2]).is_err());
    }
}
