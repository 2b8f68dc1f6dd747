//! Every chart that is not the method of a result: shown inline in a notebook, saved as SVG, PNG or
//! PDF with one call, in a [`Style`] of your own.

pub use crate::base::chart::{Chart, histogram, lines};
pub use crate::base::heat_map::{heat_map, pictures};
pub use crate::base::style::Style;
pub use crate::evolve::{
    convergence_chart as convergence, front_chart as front, thresholds_chart as thresholds,
};
pub use crate::metrics::accuracy_chart as accuracy;
pub use crate::simulate::raster_chart as raster;
