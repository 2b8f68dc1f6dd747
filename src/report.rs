//! Results: tidy CSV files, tables, and how results show themselves in a notebook.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ann::networks::Network;
use crate::base::error::{Error, Result};
use crate::base::lock::{Lock, beside, open_alone};
use crate::base::ranks;
use crate::convert::{Balance, Snn};
use crate::evolve::run::{Fitness, Generation};
use crate::metrics::{AccuracyCurve, Target, improvement_interval, improvement_percent};
use crate::plot::Chart;
use crate::simulate::run::Simulation;

/// Gives a type `evcxr_display`, so that a notebook cell that ends in a value shows it: `as table`
/// by its method `table`, `as chart` by its method `chart`, `as fields` in a table of what it
/// serialises, `as text` as it is printed.
macro_rules! show {
    (impl [$($generics:tt)*] $type:ty as table) => {
        impl<$($generics)*> $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                self.table().evcxr_display();
            }
        }
    };
    ($($type:ty),+ as fields) => {$(
        impl $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                $crate::report::fields(stringify!($type), self).evcxr_display();
            }
        }
    )+};
    ($($type:ty),+ as text) => {$(
        impl $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                evcxr_runtime::mime_type("text/plain").text(self.to_string());
            }
        }
    )+};
    (impl [$($generics:tt)*] $type:ty as chart) => {
        impl<$($generics)*> $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                match self.chart() {
                    Ok(chart) => chart.evcxr_display(),
                    Err(error) => println!("{error}"),
                }
            }
        }
    };
}
pub(crate) use show;

/// A small table with a title: plain text in a terminal, HTML in a notebook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<const N: usize>(title: impl Into<String>, header: [&str; N]) -> Self {
        Self {
            title: title.into(),
            header: header.map(Into::into).into(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn from_cells(
        title: impl Into<String>,
        header: impl Iterator<Item = String>,
        rows: Vec<Vec<String>>,
    ) -> Self {
        Self {
            title: title.into(),
            header: header.collect(),
            rows,
        }
    }

    /// Appends a row; cells that are missing stay empty, and cells beyond the header are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().chain(std::iter::repeat(String::new()));
        self.rows.push(cells.take(self.header.len()).collect());
    }

    /// The table as HTML, its text escaped.
    pub fn html(&self) -> String {
        let row = |cells: &[String], tag: &str| {
            let cells = cells
                .iter()
                .map(|c| format!("<{tag}>{}</{tag}>", escape(c)));
            format!("<tr>{}</tr>", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|cells| row(cells, "td")).collect();
        format!(
            "<table><caption>{}</caption><thead>{}</thead><tbody>{rows}</tbody></table>",
            escape(&self.title),
            row(&self.header, "th"),
        )
    }

    /// Shows the table in a notebook whose cell ends in it; evcxr calls this.
    pub fn evcxr_display(&self) {
        evcxr_runtime::mime_type("text/html").text(self.html());
        evcxr_runtime::mime_type("text/plain").text(self.to_string());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.header.len()];
        for cells in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        writeln!(f, "{}", self.title)?;
        for cells in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (&width, cell) in widths.iter().zip(cells) {
                write!(line, "  {cell:width$}")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A table of all that a value says, each field by its name.
pub(crate) fn fields(title: &str, value: &impl Serialize) -> Table {
    fn add(table: &mut Table, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(field, value)| {
                let dot = if name.is_empty() { "" } else { "." };
                add(table, &format!("{name}{dot}{field}"), value);
            }),
            Value::String(text) => table.row([name.into(), text.clone()]),
            Value::Null => table.row([name.into(), "none".into()]),
            other => table.row([name.into(), other.to_string()]),
        }
    }
    let mut table = Table::new(title, ["field", "value"]);
    add(
        &mut table,
        "",
        &serde_json::to_value(value).unwrap_or_default(),
    );
    table
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Four decimals are more than any accuracy here carries, and keep files readable.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
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
        let [low, high] = improvement_interval(&before.hits, &after.hits, target, seed)?;
        let [before, after] = [before, after].map(|run| run.curve.latency(target));
        Ok(Self {
            seed,
            ann_accuracy_percent: rounded(target.ann().percent()),
            target_accuracy_percent: rounded(target.percent()),
            baseline: baseline.to_string(),
            baseline_latency_timesteps: before,
            evolved_latency_timesteps: after,
            improvement_percent: improvement_percent(before, after).map(rounded),
            improvement_low_percent: rounded(low),
            improvement_high_percent: rounded(high),
        })
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
        let [low, high] = improvement_interval(&before.1.hits, &after.1.hits, target, seed)?;
        let [was, is] = [before, after].map(|(_, run)| run.curve.latency(target));
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
            (spent(before, was)?, spent(after, is)?);
        Ok(Self {
            initial_potential,
            seed,
            ann_accuracy_percent: rounded(target.ann().percent()),
            margin_points: target.margin(),
            rival: rival.into(),
            rival_network: network.into(),
            rival_latency_timesteps: was,
            evolved_latency_timesteps: is,
            improvement_percent: improvement_percent(was, is).map(rounded),
            improvement_low_percent: rounded(low),
            improvement_high_percent: rounded(high),
            rival_spikes_per_image: rival_spikes,
            evolved_spikes_per_image: spikes,
            rival_energy_ratio: rival_energy,
            evolved_energy_ratio: energy,
        })
    }

    /// Rows as people read them.
    pub(crate) fn table(title: &str, rows: &[Self]) -> Table {
        let mut table = Table::new(
            title,
            [
                "initial",
                "margin",
                "seed",
                "compared with",
                "latency",
                "evolved",
                "improvement %",
                "95 % interval",
                "energy",
                "evolved",
            ],
        );
        let energy = |energy: Option<f64>| energy.map_or_else(String::new, |e| format!("{e:.2}"));
        for row in rows {
            table.row([
                row.initial_potential.to_string(),
                row.margin_points.to_string(),
                row.seed.to_string(),
                rival(&row.rival, &row.rival_network),
                latency(row.rival_latency_timesteps),
                latency(row.evolved_latency_timesteps),
                row.improvement_percent
                    .map_or_else(String::new, |percent| format!("{percent:.1}")),
                format!(
                    "{:.0} to {:.0}",
                    row.improvement_low_percent, row.improvement_high_percent
                ),
                energy(row.rival_energy_ratio),
                energy(row.evolved_energy_ratio),
            ]);
        }
        table
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

impl AttackRow {
    /// Rows as people read them.
    pub(crate) fn table(title: &str, rows: &[Self]) -> Table {
        let mut table = Table::new(
            title,
            [
                "attack",
                "through",
                "reference %",
                "evolved on",
                "seed",
                "compared with",
                "latency",
                "evolved",
                "improvement %",
                "95 % interval",
            ],
        );
        for row in rows {
            let void = if row.void { " (void)" } else { "" };
            table.row([
                format!("{} {}/255", row.attack, row.epsilon_255),
                row.through.clone(),
                format!("{:.2}{void}", row.reference_accuracy_percent),
                row.evolved_on.clone(),
                row.seed.to_string(),
                rival(&row.rival, &row.rival_network),
                latency(row.rival_latency_timesteps),
                latency(row.evolved_latency_timesteps),
                row.improvement_percent
                    .map_or_else(String::new, |percent| format!("{percent:.1}")),
                format!(
                    "{:.0} to {:.0}",
                    row.improvement_low_percent, row.improvement_high_percent
                ),
            ]);
        }
        table
    }
}

/// A kind of conversion and the one that was chosen of it, as people read them.
fn rival(kind: &str, network: &str) -> String {
    match network.starts_with(kind) {
        true => network.into(),
        false => format!("{kind} ({network})"),
    }
}

pub(crate) fn latency(latency: Option<usize>) -> String {
    latency.map_or("never".into(), |latency| latency.to_string())
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

/// One line of `pareto.csv`: a network that a search for compromises tried, on held-out images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompromiseRow {
    /// One more than there are timesteps where the target is not reached.
    pub latency_timesteps: usize,
    /// Percentage of images that are wrong after the last timestep.
    pub error_percent: f64,
    /// Up to the latency, over the ANN's.
    pub energy_ratio: f64,
    /// Whether it is one of the front: none of those is better than another.
    pub on_front: bool,
}

/// One line of `accuracy.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Which network.
    pub network: String,
    /// From 1.
    pub timestep: usize,
    /// Classified.
    pub images: usize,
    /// After this timestep.
    pub accuracy_percent: f64,
}

impl AccuracyRow {
    /// The rows of one curve.
    pub fn of<'a>(
        seed: u64,
        network: &'a str,
        curve: &'a AccuracyCurve,
    ) -> impl Iterator<Item = Self> + 'a {
        curve.iter().enumerate().map(move |(t, accuracy)| Self {
            seed,
            network: network.into(),
            timestep: t + 1,
            images: accuracy.images,
            accuracy_percent: rounded(accuracy.percent()),
        })
    }

    /// The curve of one network from its rows, as [`read_csv`] gives them.
    ///
    /// # Errors
    /// No row of this seed and network, or rows that are no curve.
    pub fn curve(rows: &[Self], seed: u64, network: &str) -> Result<AccuracyCurve> {
        let own = rows
            .iter()
            .filter(|row| row.seed == seed && row.network == network);
        let own: Vec<&Self> = own.collect();
        let Some(first) = own.first() else {
            let mut names: Vec<&str> = rows.iter().map(|row| &*row.network).collect();
            names.dedup();
            let expected = format!("a network of the rows: {}", names.join("; "));
            let found = format!("{network}, seed {seed}");
            return Err(Error::parameter("network", found, expected));
        };
        let correct = own.iter().enumerate().map(|(t, row)| {
            if row.timestep != t + 1 || row.images != first.images {
                let found = format!("timestep {} of {} images", row.timestep, row.images);
                let expected = format!("timestep {} of {}", t + 1, first.images);
                return Err(Error::parameter("rows", found, expected));
            }
            Ok((row.accuracy_percent / 100.0 * row.images as f64).round() as usize)
        });
        AccuracyCurve::new(first.images, correct.collect::<Result<_>>()?)
    }
}

/// One line of `spikes.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpikesRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// In the layer.
    pub neurons: usize,
    /// Of the whole run.
    pub timesteps: usize,
    /// Of all neurons in all timesteps.
    pub spikes_per_image: f64,
    /// Spikes a neuron a timestep.
    pub firing_rate_percent: f64,
}

impl SpikesRow {
    /// The rows of one run, a layer each.
    pub fn of<'a>(
        seed: u64,
        network: &'a str,
        run: &'a Simulation,
    ) -> impl Iterator<Item = Self> + 'a {
        // The output layer, the last, does not spike.
        (0..run.layers.len() - 1).map(move |layer| Self {
            seed,
            network: network.into(),
            layer,
            neurons: run.layers[layer].neurons,
            timesteps: run.curve.timesteps(),
            spikes_per_image: rounded(run.spikes_per_image(layer)),
            firing_rate_percent: rounded(100.0 * run.firing_rate(layer)),
        })
    }
}

/// One line of `convergence.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvergenceRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the neurons, in thresholds.
    pub initial_potential: f32,
    /// How far below the ANN's accuracy the target lies, in percentage points.
    pub margin_points: f64,
    /// 0 is the initial population.
    pub generation: usize,
    /// Networks simulated so far.
    pub evaluations: usize,
    /// Of the best member on held-out images, see [`Fitness`]; one more
    /// than there are timesteps where the target is not reached.
    pub best_latency_timesteps: usize,
    /// Of the best member: percentage points below the target, summed over the timesteps before.
    pub best_deficit_points: f64,
    /// Of the best member, what the objective makes small, where that is not the latency.
    pub best_cost: Option<f64>,
    /// Of the median member; empty where it was stopped early.
    pub median_latency_timesteps: Option<usize>,
    /// As the latency.
    pub median_deficit_points: Option<f64>,
    /// As for the best member.
    pub median_cost: Option<f64>,
    /// Of the member that a quarter of the generation is better than, what the objective makes small;
    /// empty where it was stopped early.
    #[serde(default)]
    pub lower_quartile: Option<f64>,
    /// Of the member that a quarter of the generation is worse than.
    #[serde(default)]
    pub upper_quartile: Option<f64>,
}

impl ConvergenceRow {
    /// The row of one generation.
    pub fn new(seed: u64, initial_potential: f32, margin_points: f64, state: &Generation) -> Self {
        let median = state.median.measured();
        let value = |fitness: Fitness| Some(rounded(fitness.measured()?.value()));
        let [lower_quartile, upper_quartile] = state.quartiles.map(value);
        Self {
            seed,
            initial_potential,
            margin_points,
            generation: state.generation,
            evaluations: state.evaluations,
            best_latency_timesteps: state.best.latency,
            best_deficit_points: rounded(state.best.deficit),
            best_cost: state.best.cost.map(rounded),
            median_latency_timesteps: median.map(|fitness| fitness.latency),
            median_deficit_points: median.map(|fitness| rounded(fitness.deficit)),
            median_cost: median.and_then(|fitness| fitness.cost).map(rounded),
            lower_quartile,
            upper_quartile,
        }
    }
}

/// One line of `thresholds.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the network before evolution, in thresholds.
    pub initial_potential: f32,
    /// How far below the ANN's accuracy the target lies, in percentage points.
    pub margin_points: f64,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// In the layer.
    pub neurons: usize,
    /// As converted, in units of the ReLU's output.
    pub baseline_threshold: f32,
    /// As evolved.
    pub evolved_threshold: f32,
    /// Evolved / baseline.
    pub scale: f64,
    /// Evolved / baseline of what a spike carries: where it is the scale, the thresholds changed as
    /// those of balancing do; where it is not, the layer's output changed its gain.
    pub charge_scale: f64,
}

impl ThresholdRow {
    /// The rows of a network before and after evolution, a layer each.
    pub fn of<N: Network>(
        seed: u64,
        margin_points: f64,
        before: &Snn<N>,
        after: &Snn<N>,
    ) -> Vec<Self> {
        let initial: Vec<f32> = before.neurons().iter().map(|n| n.initial).collect();
        let (before_thresholds, after_thresholds) = (before.thresholds(), after.thresholds());
        let charge = |snn: &Snn<N>, layer: usize| -> f64 {
            let charges = snn.neurons()[layer].charges();
            charges.iter().map(|&x| f64::from(x)).sum::<f64>() / charges.len() as f64
        };
        let thresholds = before_thresholds.into_iter().zip(after_thresholds);
        let layers = thresholds.zip(before.sizes()).enumerate();
        let row = |(layer, ((was, is), neurons))| Self {
            seed,
            initial_potential: initial[layer],
            margin_points,
            layer,
            neurons,
            baseline_threshold: was,
            evolved_threshold: is,
            scale: rounded(f64::from(is) / f64::from(was)),
            charge_scale: rounded(charge(after, layer) / charge(before, layer)),
        };
        layers.map(row).collect()
    }
}

/// Writes one CSV file with a header; it appears under its name only when it is complete.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv<T: Serialize>(
    path: impl AsRef<Path>,
    rows: impl IntoIterator<Item = T>,
) -> Result<()> {
    let path = path.as_ref();
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(Error::write(path))?;
    }
    write(path, &writer.into_inner().map_err(Error::write(path))?)
}

/// Reads a CSV file that [`write_csv`] wrote, such as one of [`reproduce`](crate::reproduce).
///
/// ```
/// use evospike::prelude::*;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("accuracy.csv"); // "results/digits/accuracy.csv"
/// let curve = AccuracyCurve::new(4, vec![1, 3, 4])?;
/// write_csv(&file, report::AccuracyRow::of(0, "evolved", &curve))?;
/// let rows: Vec<report::AccuracyRow> = read_csv(&file)?;
/// assert_eq!(report::AccuracyRow::curve(&rows, 0, "evolved")?, curve);
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// A file that cannot be read; a row that is not of this type.
pub fn read_csv<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>> {
    let path = path.as_ref();
    let text = fs::read(path).map_err(Error::io(path))?;
    let mut reader = csv::Reader::from_reader(&*text);
    let row = |(i, row): (usize, csv::Result<T>)| {
        row.map_err(|error| {
            let expected = format!("a {}", std::any::type_name::<T>());
            Error::data(path.display(), format!("row {}", i + 1), error, expected)
        })
    };
    reader.deserialize().enumerate().map(row).collect()
}

/// Writes one JSON file; it appears under its name only when it is complete.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::write(path))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// What a program will believe when it reads it again, under the CRC-32 of its text.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    checksum: u32,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// CRC-32.
pub(crate) fn checksum(text: &str) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(text.as_bytes());
    checksum.sum()
}

/// As [`write_json`], with a checksum for [`unsealed`].
pub(crate) fn write_sealed(path: &Path, value: &impl Serialize) -> Result<()> {
    let content = serde_json::value::to_raw_value(value).map_err(Error::write(path))?;
    let checksum = checksum(content.get());
    let content = &*content;
    write_json(path, &Sealed { checksum, content })
}

/// The JSON that [`write_sealed`] wrote; what is wrong where it is not as it was.
pub(crate) fn unsealed(text: &str) -> std::result::Result<&str, String> {
    let sealed: Sealed<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let content = sealed.content.get();
    match checksum(content) == sealed.checksum {
        true => Ok(content),
        false => Err("another checksum than it was written with".into()),
    }
}

/// Writes a hidden file beside the file and renames it, so that a reader never sees half of it.
/// What a killed process left of one, the next overwrites. Of several ranks, the first one writes.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if !ranks::leads() {
        return Ok(());
    }
    // A renamed file would take the place of a device such as /dev/null.
    if path.exists() && !path.is_file() {
        return Err(Error::write(path)("not a file"));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let beside = beside(path, "incomplete");
    let opened = open_alone(&beside, true).map_err(Error::io(path))?;
    let Some(mut opened) = opened else {
        unreachable!("it was waited for");
    };
    let file = opened.as_file_mut();
    let written = (file.set_len(0))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside); // the error above says more
    }
    written.map_err(Error::io(path))
}

/// The files of one experiment: written into a folder of their own, and moved over those of an
/// earlier run only when all of them are complete. Other files of the folder are left alone.
///
/// ```no_run
/// use evospike::report::Output;
///
/// let output = Output::new("results/mine")?;
/// output.csv("numbers.csv", [("a", 1), ("b", 2)])?;
/// let files = output.complete()?;
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    incomplete: PathBuf,
    _lock: Option<Lock>,
}

impl Output {
    /// Begins the files of `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// The folder cannot be written to; [`Error::Busy`] while another `Output` of it is there, in
    /// this process or another.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let incomplete = folder.join(".incomplete");
        if !ranks::leads() {
            return Ok(Self {
                folder,
                incomplete,
                _lock: None,
            });
        }
        let lock = Lock::of_folder(&folder)?;
        let left = match fs::remove_dir_all(&incomplete) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed, // of a process that was killed
        };
        left.and_then(|()| fs::create_dir(&incomplete))
            .map_err(Error::io(&folder))?;
        Ok(Self {
            folder,
            incomplete,
            _lock: Some(lock),
        })
    }

    /// Adds a CSV file with a header.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn csv<T: Serialize>(&self, name: &str, rows: impl IntoIterator<Item = T>) -> Result<()> {
        write_csv(self.incomplete.join(name), rows)
    }

    /// Adds a JSON file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_json(&self.incomplete.join(name), value)
    }

    /// Adds a chart as SVG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn chart(&self, name: &str, chart: &Chart) -> Result<()> {
        chart.save(self.incomplete.join(name))
    }

    /// Moves the files to their folder and gives their paths.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub fn complete(self) -> Result<Vec<PathBuf>> {
        if !ranks::leads() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.incomplete).map_err(Error::io(&self.incomplete))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(&self.incomplete))?;
            let path = self.folder.join(entry.file_name());
            fs::rename(entry.path(), &path).map_err(Error::io(&path))?;
            files.push(path);
        }
        files.sort();
        Ok(files)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if ranks::leads() {
            let _ = fs::remove_dir_all(&self.incomplete); // nothing more can be done about it here
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Hits;

    #[test]
    fn fields_have_the_names_that_a_caller_writes() {
        let settings = crate::evolve::EvolveSettings::default();
        let table = fields("EvolveSettings", &settings).to_string();
        for row in ["timesteps", "search.De.population", "batch", "stopping"] {
            let found = table.lines().filter(|line| line.trim().starts_with(row));
            assert_eq!(found.count(), 1, "{row}: {table}");
        }
    }

    #[test]
    fn tables_are_aligned_and_escaped() {
        let mut table = Table::new("a < b", ["name", "n"]);
        table.row(["long name".into(), "1".into()]);
        table.row(["x".into()]);
        assert_eq!(
            table.to_string(),
            "a < b\n  name       n\n  long name  1\n  x\n"
        );
        assert!(
            table
                .html()
                .starts_with("<table><caption>a &lt; b</caption>")
        );
    }

    #[test]
    fn an_output_replaces_only_when_complete() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let read = || fs::read_to_string(folder.path().join("a.csv")).unwrap();
        fs::write(folder.path().join("a.csv"), "old").unwrap();
        fs::write(folder.path().join("mine.txt"), "mine").unwrap();

        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [(1, 2)]).unwrap();
        assert_eq!(read(), "old");
        drop(output); // abandoned, as when a later step fails
        assert_eq!((read().as_str(), names().len()), ("old", 2));

        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [(1, 2)]).unwrap();
        output.json("settings.json", &1).unwrap();
        assert_eq!(output.complete().unwrap().len(), 2);
        assert_eq!(read(), "1,2\n");
        assert_eq!(names(), ["a.csv", "mine.txt", "settings.json"]);
    }

    #[test]
    fn a_folder_has_one_output_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path()).unwrap();
        let error = Output::new(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        drop(output);
        Output::new(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// As a killed process leaves it.
    #[test]
    fn leftovers_are_no_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path(".incomplete")).unwrap();
        for name in [".incomplete/old.csv", ".lock", ".b.csv.incomplete"] {
            fs::write(path(name), "half a row that is longer than what comes").unwrap();
        }
        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [1]).unwrap();
        assert_eq!(output.complete().unwrap(), [path("a.csv")]);
        write_csv(path("b.csv"), [2]).unwrap();
        assert_eq!(fs::read_to_string(path("b.csv")).unwrap(), "2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// Each of many writers at once writes all of it.
    #[test]
    fn no_reader_sees_half_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::thread::scope(|scope| {
            for number in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..200 {
                        write(path, &vec![number; 20_000 - 3000 * usize::from(number)]).unwrap();
                        let bytes = fs::read(path).unwrap();
                        assert_eq!(bytes.len(), 20_000 - 3000 * usize::from(bytes[0]));
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

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

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = write(&socket, b"text").unwrap_err().to_string();
        assert!(error.ends_with("socket: not a file"), "{error}");
        assert!(!socket.is_file());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Output::new(file.join("sub")).unwrap_err().to_string();
        assert!(error.contains("file/sub"), "{error}");
    }
}
