//! Parts that the experiments share: steps whose results are kept, their times, common files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rows::Report;
use crate::ann::Classifier;
use crate::base::{
    Error, Lock, Output, Progress, Ranks, Result, read_checkpoint, require, write_checkpoint,
};
use crate::data::{Images, Part, Training};
use crate::evolve::{ConvergenceRow, Evolution, ThresholdRow, thresholds_chart};
use crate::metrics::AccuracyRow;
use crate::simulate::{Neurons, SimulateSettings, Simulation, Snn, simulate};

/// Returns an error for a target margin, in percentage points below the ANN's accuracy, outside
/// 0 to 100. With an objective that averages over margins up to twice as large, 0 is one, too.
pub(super) fn check_margin(name: &'static str, margin: f64, averaged: bool) -> Result<()> {
    let holds = (0.0..100.0).contains(&margin) && !(averaged && margin == 0.0);
    let least = if averaged { "above 0" } else { "0 or more" };
    require(holds, name, margin, format!("{least} and less than 100"))
}

/// Wall-clock time of one step, in a file of its own because it differs from run to run.
#[derive(Serialize)]
pub(super) struct TimingRow {
    step: String,
    seconds: f64,
}

impl TimingRow {
    pub(super) fn new(step: impl Into<String>, seconds: f64) -> Self {
        let seconds = (seconds * 10.0).round() / 10.0;
        Self { step: step.into(), seconds }
    }
}

/// Copy of settings with some fields changed, such as the seed.
pub(super) fn changed<T: Clone>(settings: &T, change: impl FnOnce(&mut T)) -> T {
    let mut settings = settings.clone();
    change(&mut settings);
    settings
}

/// Rows of the files that several experiments write about their networks.
#[derive(Default)]
pub(super) struct NetworkRows {
    pub accuracy: Vec<AccuracyRow>,
    pub convergence: Vec<ConvergenceRow>,
    pub thresholds: Vec<ThresholdRow>,
}

impl NetworkRows {
    /// Adds the generations of an evolution and the thresholds that it changed from those of
    /// `start`.
    pub fn add_evolution<N: Classifier>(
        &mut self,
        seed: u64,
        (initial, margin): (f32, f64),
        start: &Snn<N>,
        evolution: &Evolution<N>,
    ) {
        let generations = evolution.generations.iter();
        let row = |state| ConvergenceRow::new(seed, initial, margin, state);
        self.convergence.extend(generations.map(row));
        let thresholds = ThresholdRow::of(seed, margin, start, &evolution.snn);
        self.thresholds.extend(thresholds);
    }

    /// Writes `accuracy.csv`, `convergence.csv` and `thresholds.csv`.
    pub fn write(self, output: &Output) -> Result<()> {
        output.csv("accuracy.csv", self.accuracy)?;
        output.csv("convergence.csv", self.convergence)?;
        output.csv("thresholds.csv", self.thresholds)
    }
}

/// Writes the charts `convergence{suffix}.svg` and `thresholds{suffix}.svg` of an evolution that
/// changed the thresholds of `start`.
pub(super) fn evolution_charts<N: Classifier>(
    output: &Output,
    suffix: &str,
    [convergence, thresholds]: [&str; 2],
    start: &Snn<N>,
    evolution: &Evolution<N>,
) -> Result<()> {
    let chart = evolution.convergence(convergence)?;
    chart.save(output.path(&format!("convergence{suffix}.svg")))?;
    let chart = thresholds_chart(thresholds, ThresholdRow::of(0, 0.0, start, &evolution.snn))?;
    chart.save(output.path(&format!("thresholds{suffix}.svg")))
}

/// Writes `settings.json`, or the file of another experiment in the same folder, which tells what
/// made the files, moves all files to their folder and gives the report. The checksums are CRC-32:
/// of the images and labels of each part of the data, and of the trained network (where each seed
/// trains its own, one each).
pub(super) fn complete<R, S: Serialize>(
    output: Output,
    rows: Vec<R>,
    (experiment, network): (&str, &str),
    [images_checksums, weights_checksums]: [&[u32]; 2],
    (file, settings): (&str, &S),
) -> Result<Report<R>> {
    #[derive(Serialize)]
    struct Provenance<'a, S> {
        /// Version of this file's format; a file without one is of the first version.
        version: u32,
        experiment: &'a str,
        network: &'a str,
        evospike: &'a str,
        images_checksums: &'a [u32],
        weights_checksums: &'a [u32],
        settings: &'a S,
    }
    let provenance = Provenance {
        version: 2,
        experiment,
        network,
        evospike: env!("CARGO_PKG_VERSION"),
        images_checksums,
        weights_checksums,
        settings,
    };
    output.json(file, &provenance)?;
    let files = output.complete()?;
    Ok(Report { rows, files })
}

/// What a network's results on images depend on: CRC-32 of the layers, weights included, the neurons
/// and CRC-32 of the images and their labels.
pub(super) fn key_of<'a, N: Classifier, P: Part>(
    snn: &'a Snn<N>,
    images: &Images<P, N::Task>,
) -> (u32, &'a [Neurons], u32) {
    (snn.network().stages.graph.checksum(), snn.neurons(), images.checksum())
}

/// Results of an experiment's steps, one file each, from which the experiment resumes. Each is kept
/// with the key of all that it depends on, so that a changed setting leaves the others as they are.
pub(super) struct StepCache<'a> {
    folder: PathBuf,
    pub timing: Vec<TimingRow>,
    /// Name of the experiment in errors.
    work: &'static str,
    pub stop: &'a AtomicBool,
}

impl<'a> StepCache<'a> {
    /// Opens the cache in an experiment's folder.
    pub fn new(work: &'static str, folder: &Path, stop: &'a AtomicBool) -> Self {
        Self { folder: folder.join(".checkpoints"), timing: Vec::new(), work, stop }
    }

    /// The same for one part of the experiment, with a folder of its own.
    pub fn part(mut self, name: &str) -> Self {
        self.folder.push(name);
        self
    }

    /// Path of the file of a step. Names of attacks contain fractions, so `/` is replaced.
    pub fn path(&self, step: &str, extension: &str) -> PathBuf {
        let name = step.replace('/', " of ");
        self.folder.join(format!("{name}.{extension}"))
    }

    /// Result of a step that calibrates a network on images, in the way that the step's name says.
    pub fn calibrated<N: Classifier>(
        &mut self,
        name: &str,
        (snn, images): (&Snn<N>, &Images<Training, N::Task>),
        calibrate: impl FnOnce() -> Result<Snn<N>>,
    ) -> Result<Snn<N>> {
        let key = key_of(snn, images);
        let fit = |neurons: &Vec<Neurons>| snn.with_neurons(neurons.clone()).is_ok();
        let neurons = self.step_that(name, &key, fit, || Ok(calibrate()?.neurons().to_vec()))?;
        snn.with_neurons(neurons)
    }

    /// Run of a network on images.
    pub fn run<N: Classifier, P: Part>(
        &mut self,
        name: &str,
        snn: &Snn<N>,
        images: &Images<P, N::Task>,
        settings: impl Into<SimulateSettings>,
    ) -> Result<Simulation> {
        let settings = settings.into();
        let key = (key_of(snn, images), settings);
        let fit = |run: &Simulation| run.is_of(images.len(), settings.timesteps);
        self.step_that(name, &key, fit, || simulate(snn, images, settings))
    }

    /// Result of a step, read from its file if that is whole and of the same key, and computed
    /// otherwise.
    ///
    /// Returns [`Error::Stopped`] after the step if `stop` is set.
    pub fn step<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        key: &impl Serialize,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.step_that(name, key, |_| true, compute)
    }

    /// The same, as long as a kept result is `fit`: one that cannot be of this step, whoever wrote it,
    /// is computed again.
    pub fn step_that<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        key: &impl Serialize,
        fit: impl Fn(&T) -> bool,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        #[derive(Serialize, Deserialize)]
        struct Kept<T> {
            seconds: f64,
            value: T,
        }
        let path = self.path(name, "step");
        // All ranks compute the step or none does, even if they see different files. A file that is
        // damaged or of another key is computed again.
        let read = || read_checkpoint::<Kept<T>>(&path, key).ok().flatten();
        let known = Ranks::enter()?
            .lead(|| Ok(read().map(|(kept, _)| kept).filter(|kept| fit(&kept.value))))?;
        let kept = match known {
            Some(kept) => kept,
            None => {
                let _lock = Lock::of_file(&path)?;
                let clock = Instant::now();
                let mut progress = Progress::new(name, 1);
                let value = compute()?;
                progress.step(String::new);
                progress.finish(|| "done".into());
                let seconds = clock.elapsed().as_secs_f64();
                let kept = Kept { seconds, value };
                write_checkpoint(&path, key, &kept, Vec::new())?;
                kept
            }
        };
        self.timing.push(TimingRow::new(name, kept.seconds));
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped {
                work: self.work.into(),
                stands: name.into(),
                path: self.folder.clone(),
            });
        }
        Ok(kept.value)
    }
}
