//! The one error type: every fallible public function returns [`Result`].

use std::any::Any;
use std::path::{Path, PathBuf};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: where, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or argument outside its range.
    #[error("{name}: found {found}, expected {expected}")]
    Parameter {
        /// The setting's name, as the caller writes it.
        name: &'static str,
        /// The value given.
        found: String,
        /// The values allowed.
        expected: String,
    },
    /// A layer that does not fit its neighbours, or holds values that cannot be simulated.
    #[error("layer {layer} ({kind}): found {found}, expected {expected}")]
    Layer {
        /// Position in the network's list of layers, from 0.
        layer: usize,
        /// What kind of layer it is.
        kind: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A network as a whole that cannot be simulated.
    #[error("network: found {found}, expected {expected}")]
    Network {
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A data file that does not hold what its format promises.
    #[error("{file}, {place}: found {found}, expected {expected}")]
    Data {
        /// The file.
        file: String,
        /// Line or byte offset.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Training left the range of numbers.
    #[error(
        "training diverged in epoch {epoch}, batch {batch}: the loss is {loss}; try a lower learning rate"
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch in the epoch, from 1.
        batch: usize,
        /// The loss, not finite.
        loss: f32,
    },
    /// Long work was told to stop; what it did is kept.
    #[error("{work}: stopped after {stands}; the same call goes on from {}", path.display())]
    Stopped {
        /// What was at work.
        work: String,
        /// How far it came.
        stands: String,
        /// The checkpoint.
        path: PathBuf,
    },
    /// Someone else writes there.
    #[error("{}: another process or notebook cell is writing there: wait for it or stop it", path.display())]
    Busy {
        /// The file or folder.
        path: PathBuf,
    },
    /// Work in the background did not start.
    #[error("background work: {reason}")]
    Background {
        /// What the operating system said.
        reason: String,
    },
    /// Code on another thread panicked, such as a closure of yours.
    #[error("{work}: panicked: {reason}")]
    Panicked {
        /// What was at work.
        work: String,
        /// What the panic said.
        reason: String,
    },
    /// An error of one of the processes that evolve together ([`ranks`](crate::ranks)), known to all.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// The process, from 0.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// The operating system refused a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// A CSV or JSON file could not be written.
    #[error("{}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The writer's reason.
        reason: String,
    },
    /// dfdx reported an error of its device, such as memory it could not get.
    #[error("dfdx: {0}")]
    Device(String),
    /// plotters could not draw a chart.
    #[error("chart {chart}: {reason}")]
    Chart {
        /// The chart's title.
        chart: String,
        /// The backend's reason.
        reason: String,
    },
}

impl Error {
    pub(crate) fn parameter(
        name: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Parameter {
            name,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn layer(
        layer: usize,
        kind: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Layer {
            layer,
            kind,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn network(found: impl ToString, expected: impl ToString) -> Self {
        Self::Network {
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn data(
        file: impl ToString,
        place: impl ToString,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Data {
            file: file.to_string(),
            place: place.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// For `map_err`: a device error of dfdx.
    pub(crate) fn device(error: impl std::fmt::Debug) -> Self {
        Self::Device(format!("{error:?}"))
    }

    /// For `map_err`: what a writer of some format said, with the file's path.
    pub(crate) fn write<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Self + '_ {
        |error| Self::Write {
            path: path.to_path_buf(),
            reason: error.to_string(),
        }
    }

    /// What a panic of some work says.
    pub(crate) fn panicked(work: impl Into<String>, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked {
            work: work.into(),
            reason: text.unwrap_or_default(),
        }
    }

    /// For `map_err`: an error of the operating system, with its path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}
