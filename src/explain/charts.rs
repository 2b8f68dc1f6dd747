//! Lines and heat maps from rows, for the charts of this folder.

use std::fmt::Display;

use crate::base::{Error, Result};

/// Title of an axis.
pub(super) const LAYER: &str = "layer of neurons";

/// Checks that all rows have the same value of `what`.
///
/// # Errors
/// Returns an error if there are no rows, or rows of several values.
pub(super) fn one<T: PartialEq + Display>(
    what: &str,
    mut values: impl Iterator<Item = T>,
) -> Result<()> {
    let Some(first) = values.next() else {
        return Err(Error::parameter("rows", "none", "at least one"));
    };
    match values.find(|value| *value != first) {
        Some(other) => {
            let found = format!("several {what}: {first}, {other}");
            let expected = "those of one, chosen before";
            Err(Error::parameter("rows", found, expected))
        }
        None => Ok(()),
    }
}

/// Points of each line, in the order in which the names of lines first occur.
pub(super) fn lines(
    points: impl Iterator<Item = (String, (f64, f64))>,
) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (name, point) in points {
        match lines.iter_mut().find(|(other, _)| *other == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    lines
}
