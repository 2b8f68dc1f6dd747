//! Every chart that is not the method of a result: shown inline in a notebook, saved as SVG, PNG or
//! PDF with one call, in a [`Style`] of your own.

pub use crate::base::chart::{Chart, Style, heat_map, histogram, lines, pictures};
pub use crate::evolve::{
    convergence_chart as convergence, front_chart as front, thresholds_chart as thresholds,
};
pub use crate::metrics::accuracy_chart as accuracy;
pub use crate::simulate::raster_chart as raster;
