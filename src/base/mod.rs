//! Common parts of all steps: errors, seeds, ranks, locks, progress.

pub mod background;
pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub mod error;
#[cfg(feature = "figures")]
mod figures;
pub(crate) mod files;
pub(crate) mod heat_map;
pub(crate) mod lock;
pub(crate) mod progress;
pub mod random;
pub mod ranks;
pub mod resume;
pub(crate) mod style;
pub(crate) mod table;
pub mod tensors;

pub(crate) use chart::Chart;
pub(crate) use check::{all_finite, at_least, each_once, not_empty, require, some_timesteps};
pub(crate) use checkpoint::{Checkpoint, check_same, read_checkpoint, write_checkpoint};
pub(crate) use error::{Error, Result};
pub(crate) use files::{Output, read_table, rounded, write_csv, write_file};
pub(crate) use lock::Lock;
pub(crate) use progress::{Progress, note_slow_build};
pub(crate) use random::{Rng, Stream, image_rng, normal, rng};
pub(crate) use ranks::Ranks;
pub(crate) use resume::{Resume, Steps, do_steps};
pub(crate) use table::{Table, distinct, fields, latency_text, one_line, owned, show};
pub(crate) use tensors::{NamedTensor, Precision, parse, values, write_tensors};
