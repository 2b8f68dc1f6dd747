//! Error type of the crate: every fallible public function returns [`Result`].

use std::any::Any;
use std::path::{Path, PathBuf};

/// Result of a fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error, with the place, the value found and the value expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or argument outside its range.
    #[error("{name}: found {found}, expected {expected}")]
    Parameter {
        /// Name of the setting, as the caller writes it.
        name: &'static str,
        /// Value given.
        found: String,
        /// Values allowed.
        expected: String,
    },
    /// A layer that does not fit its neighbours, or holds values that cannot be simulated.
    #[error("layer {layer} ({kind}): found {found}, expected {expected}")]
    Layer {
        /// Position in the network's list of layers, from 0.
        layer: usize,
        /// Kind of the layer, and its name if it has one.
        kind: String,
        /// Value found.
        found: String,
        /// Value expected.
        expected: String,
    },
    /// A network as a whole that cannot be simulated.
    #[error("network: found {found}, expected {expected}")]
    Network {
        /// Value found.
        found: String,
        /// Value expected.
        expected: String,
    },
    /// A data file that does not hold what its format promises.
    #[error("{file}, {place}: found {found}, expected {expected}")]
    Data {
        /// The file.
        file: String,
        /// Line or byte offset.
        place: String,
        /// Value found.
        found: String,
        /// Value expected.
        expected: String,
    },
    /// Training diverged: the loss is not finite.
    #[error(
        "training diverged in epoch {epoch}, batch {batch}: the loss is {loss}; try a lower learning rate"
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch in the epoch, from 1.
        batch: usize,
        /// Loss, not finite.
        loss: f32,
    },
    /// Long work was told to stop; its progress is saved.
    #[error("{work}: stopped after {stands}; the same call goes on from {}", path.display())]
    Stopped {
        /// Name of the work.
        work: String,
        /// Progress of the work.
        stands: String,
        /// The checkpoint.
        path: PathBuf,
    },
    /// Another process or thread is writing to the same place.
    #[error("{}: another process or notebook cell is writing there: wait for it or stop it", path.display())]
    Busy {
        /// The file or folder.
        path: PathBuf,
    },
    /// Background work could not start.
    #[error("background work: {reason}")]
    Background {
        /// Reason given by the operating system.
        reason: String,
    },
    /// Code on another thread panicked, such as a closure of the caller.
    #[error("{work}: panicked: {reason}")]
    Panicked {
        /// Name of the work.
        work: String,
        /// Message of the panic.
        reason: String,
    },
    /// Combinations of a [`sweep`](crate::sweep) whose measurement failed; all others are in the
    /// file.
    #[error(
        "{}: {failed} of {combinations} combinations failed, the first at {first}: {reason}; the same sweep measures them again",
        path.display()
    )]
    Unmeasured {
        /// The CSV file, whose column `error` has the reason of each.
        path: PathBuf,
        /// Number of combinations whose measurement failed.
        failed: usize,
        /// Number of all combinations.
        combinations: usize,
        /// The first of those that failed: each axis with its value.
        first: String,
        /// Error of that measurement.
        reason: String,
    },
    /// Error of one of the processes of a distributed evolution ([`ranks`](crate::ranks)), known to
    /// all of them.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// Rank of the process, from 0.
        rank: usize,
        /// Error of that process.
        reason: String,
    },
    /// The operating system refused access to a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Reason given by the operating system.
        source: std::io::Error,
    },
    /// A CSV or JSON file could not be written.
    #[error("{}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Reason given by the writer.
        reason: String,
    },
    /// dfdx reported a device error, such as a failed memory allocation.
    #[error("dfdx: {0}")]
    Device(String),
    /// plotters could not draw a chart.
    #[error("chart {chart}: {reason}")]
    Chart {
        /// Title of the chart.
        chart: String,
        /// Reason given by plotters.
        reason: String,
    },
}

impl Error {
    pub(crate) fn parameter(
        name: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Parameter { name, found: found.to_string(), expected: expected.to_string() }
    }

    pub(crate) fn layer(
        layer: usize,
        kind: impl ToString,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        let (found, expected) = (found.to_string(), expected.to_string());
        Self::Layer { layer, kind: kind.to_string(), found, expected }
    }

    pub(crate) fn network(found: impl ToString, expected: impl ToString) -> Self {
        Self::Network { found: found.to_string(), expected: expected.to_string() }
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

    /// Converts a device error of dfdx, for `map_err`.
    pub(crate) fn device(error: impl std::fmt::Debug) -> Self {
        Self::Device(format!("{error:?}"))
    }

    /// Returns a function for `map_err` that adds the path of a file to the error of a writer.
    pub(crate) fn write<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Self + '_ {
        |error| Self::Write { path: path.to_path_buf(), reason: error.to_string() }
    }

    /// Returns the error of a panic, with its message.
    pub(crate) fn panicked(work: impl Into<String>, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked { work: work.into(), reason: text.unwrap_or_default() }
    }

    /// Returns a function for `map_err` that adds a path to an error of the operating system.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_path_buf(), source }
    }
}
