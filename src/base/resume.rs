//! Resumable work: one loop with checkpoints for training, evolution and the search for
//! compromises.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::{read_checkpoint, write_checkpoint, wrong};
use super::error::{Error, Result};
use super::lock::Lock;
use super::progress::Progress;
use super::ranks::Ranks;
use super::tensors::NamedTensor;

/// Checkpoint file of long work, which makes it resumable.
///
/// `Resume::at(path)` has a method for each kind of long work, with the arguments of the function
/// or method without a checkpoint: `train`, `train_through_time`, `evolve` and `pareto`. The file
/// is written before the first step (an epoch or a generation) and after each. If it already
/// exists, the work resumes from it and ends with the same result as without an interruption: if
/// the process is killed at any moment, only the current step is lost.
///
/// ```
/// use evospike::prelude::*;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("digits.checkpoint"); // your file
/// let digits = data::digits()?.split(Shares::default(), 0)?;
/// let settings = TrainSettings { epochs: 1, ..Default::default() };
/// let mut ann = Ann::<DigitsCnn>::new(0)?; // to resume, make it as before, by the same seed
/// Resume::at(file).train(&mut ann, &digits.training, &settings)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// In addition to the errors of the work itself, each method returns an error if the file cannot be
/// read or written, is damaged, or belongs to other work (another network, other weights, images or
/// settings), naming the first difference: delete the file to start anew. It returns
/// [`Error::Busy`] while other work writes the file, and [`Error::Stopped`] if it was told to stop.
#[derive(Debug, Clone)]
pub struct Resume<'a> {
    path: PathBuf,
    stop: Option<&'a AtomicBool>,
}

impl Resume<'static> {
    /// Sets the checkpoint file of the work.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), stop: None }
    }
}

impl Resume<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Stops the work after the current step when another thread sets `stop`.
    pub fn stopped_by<'b>(self, stop: &'b AtomicBool) -> Resume<'b> {
        Resume { path: self.path, stop: Some(stop) }
    }
}

/// Long work that is done in steps.
pub(crate) trait Steps {
    /// Everything that determines the result: work of the same identity ends with the same result.
    type Identity: Serialize;
    /// State that the work resumes from, in addition to its tensors.
    type State: Serialize + DeserializeOwned;

    fn identity(&self) -> Result<Self::Identity>;
    fn state(&self) -> Result<(Self::State, Vec<NamedTensor>)>;
    /// Restores the state of an earlier run; returns the number of its steps that count as done in
    /// the progress shown.
    fn restore(&mut self, state: Self::State, tensors: Vec<NamedTensor>) -> Result<usize>;
    /// Does one more step and describes the progress; none if nothing is left to do.
    fn step(&mut self, ranks: &Ranks<'_>, progress: &mut Progress) -> Result<Option<String>>;
    /// Whether nothing is left to do.
    fn done(&self) -> bool;
    /// Returns one line on the result.
    fn summary(&self) -> String;
}

/// Identity of some work, with its name.
#[derive(Serialize)]
struct Named<'a, I> {
    work: &'a str,
    #[serde(flatten)]
    identity: I,
}

/// Does all steps of the work called `name`, showing progress out of `total`.
pub(crate) fn do_steps<W: Steps>(
    work: &mut W,
    name: &str,
    total: usize,
    resume: Option<&Resume<'_>>,
    ranks: &Ranks<'_>,
) -> Result<()> {
    let path = resume.map(|resume| resume.path.as_path());
    // Only a checkpoint and other ranks ask for it, and it reads all images.
    let asked = path.is_some() || ranks.several();
    let identity = asked.then(|| work.identity()).transpose()?;
    let identity = identity.map(|identity| Named { work: name, identity });
    ranks.check_alike(&identity)?;
    let mut _lock = None;
    ranks.lead(|| {
        _lock = path.map(Lock::of_file).transpose()?;
        Ok(())
    })?;
    let save = |work: &W, path: &Path| {
        let (state, tensors) = work.state()?;
        write_checkpoint(path, &identity, &state, tensors)
    };
    let mut progress = Progress::new(name, total);
    if let Some(path) = path {
        match ranks.lead(|| read_checkpoint(path, &identity))? {
            Some((state, tensors)) => {
                let done = work.restore(state, tensors).map_err(|error| match error {
                    Error::Parameter { name, found, expected } => wrong(
                        path,
                        name,
                        found,
                        format!("{expected}; delete the file to start anew"),
                    ),
                    error => error,
                })?;
                progress.skip(done);
            }
            // Shows at once whether the file can be written.
            None => ranks.lead(|| save(work, path))?,
        }
    }
    while let Some(stands) = work.step(ranks, &mut progress)? {
        if let Some(resume) = resume {
            ranks.lead(|| {
                save(work, &resume.path)?;
                let told = |stop: &AtomicBool| stop.load(Ordering::Relaxed);
                if resume.stop.is_some_and(told) && !work.done() {
                    return Err(Error::Stopped {
                        work: name.into(),
                        stands: stands.clone(),
                        path: resume.path.clone(),
                    });
                }
                Ok(())
            })?;
        }
    }
    progress.finish(|| work.summary());
    Ok(())
}
