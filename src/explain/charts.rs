//! Lines and heat maps from rows, for the charts of this folder.

use std::fmt::Display;

use crate::base::{Chart, Error, Result, chart};

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

/// Heat map of cells: name of the column, name of the row, value. Columns go from left to right and
/// rows from bottom to top, in the order in which their names first occur.
///
/// # Errors
/// Returns an error if plotters fails.
pub(super) fn heat_map(
    title: &str,
    [across, up]: [&str; 2],
    cells: impl Iterator<Item = (String, String, Option<f64>)>,
) -> Result<Chart> {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    let mut values: Vec<Vec<Option<f64>>> = Vec::new();
    for (column, row, value) in cells {
        let (column, row) = (place(&mut columns, column), place(&mut rows, row));
        values.resize(values.len().max(row + 1), Vec::new());
        let length = values[row].len().max(column + 1);
        values[row].resize(length, None);
        values[row][column] = value;
    }
    chart::heat_map(title, (across, &columns), (up, &rows), &values)
}

/// Index of a name in a list, to which it is appended if it is new.
fn place(names: &mut Vec<String>, name: String) -> usize {
    let known = names.iter().position(|other| *other == name);
    known.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}
