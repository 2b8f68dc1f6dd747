//! Steps of experiments: their kept results, their times, and what made the files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::check::require;
use crate::base::checkpoint::read_checkpoint;
use crate::base::checkpoint::write_checkpoint;
use crate::base::error::{Error, Result};
use crate::base::lock::Lock;
use crate::base::progress::Progress;
use crate::base::ranks::Ranks;

/// Refuses a distance below the ANN's accuracy that no target has, and none at all where an
/// objective averages down to twice as far.
pub(super) fn check_margin(name: &'static str, margin: f64, averaged: bool) -> Result<()> {
    let holds = (0.0..100.0).contains(&margin) && !(averaged && margin == 0.0);
    let least = if averaged { "above 0" } else { "0 or more" };
    require(holds, name, margin, format!("{least} and less than 100"))
}

/// Wall-clock time of one step; in a file of its own, since no two runs agree on it.
#[derive(Serialize)]
pub(super) struct TimingRow {
    step: String,
    seconds: f64,
}

impl TimingRow {
    pub(super) fn new(step: impl Into<String>, seconds: f64) -> Self {
        let seconds = (seconds * 10.0).round() / 10.0;
        Self {
            step: step.into(),
            seconds,
        }
    }
}

/// What made the files beside it.
#[derive(Serialize)]
pub(super) struct Provenance<'a, S> {
    /// Of this file's format; one without is the first.
    version: u32,
    experiment: &'a str,
    network: &'a str,
    evospike: &'a str,
    /// CRC-32 of images and labels, part by part.
    images_checksums: Vec<u32>,
    /// CRC-32 of the trained network; where each seed trains its own, one each.
    weights_checksums: Vec<u32>,
    settings: &'a S,
}

impl<'a, S> Provenance<'a, S> {
    pub(super) fn new(
        (experiment, network): (&'a str, &'a str),
        images_checksums: impl Into<Vec<u32>>,
        weights_checksums: impl Into<Vec<u32>>,
        settings: &'a S,
    ) -> Self {
        Self {
            version: 2,
            experiment,
            network,
            evospike: env!("CARGO_PKG_VERSION"),
            images_checksums: images_checksums.into(),
            weights_checksums: weights_checksums.into(),
            settings,
        }
    }
}

/// Results of the steps of an experiment in files of their own, from which it resumes.
pub(super) struct StepCache<'a> {
    folder: PathBuf,
    /// What the results depend on.
    key: String,
    pub timing: Vec<TimingRow>,
    /// As errors name it.
    work: &'static str,
    pub stop: &'a AtomicBool,
}

impl<'a> StepCache<'a> {
    /// In a folder of an experiment, of results that depend on `key`, such as evospike's version.
    pub fn new(
        work: &'static str,
        folder: &Path,
        key: &impl Serialize,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        Ok(Self {
            folder: folder.join(".checkpoints"),
            key: serde_json::to_string(key).map_err(Error::write(folder))?,
            timing: Vec::new(),
            work,
            stop,
        })
    }

    /// Where a step is kept; attacks are called by fractions.
    pub fn path(&self, step: &str, extension: &str) -> PathBuf {
        let name = step.replace('/', " of ");
        self.folder.join(format!("{name}.{extension}"))
    }

    /// Result of a step: from its file where that is there, whole and of the same experiment.
    pub fn step<T: Serialize + DeserializeOwned>(
        &mut self,
        name: &str,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        #[derive(Serialize, Deserialize)]
        struct Kept<T> {
            seconds: f64,
            value: T,
        }
        let path = self.path(name, "step");
        // All ranks compute it or none does, whatever each sees of the folder. What is damaged or
        // of another experiment is computed again.
        let read = || read_checkpoint::<Kept<T>>(&path, &self.key).ok().flatten();
        let known = Ranks::enter()?.lead(|| Ok(read().map(|(kept, _)| kept)))?;
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
                write_checkpoint(&path, &self.key, &kept, Vec::new())?;
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
