//! Exploratory sweeps: measurements at every combination of some values, in one tidy CSV file.
//!
//! ```
//! use evospike::prelude::*;
//!
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let ann = Ann::<DigitsCnn>::new(0)?;
//! let conversion = convert(&ann, &digits.training)?;
//! let images = digits.held_out.take(50);
//! let target = ann.target(&images, 1.0)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("leak.csv"); // "results/sweeps/leak.csv"
//! let sweep = Sweep::new()
//!     .axis("percentile", [99.0, 99.9])
//!     .axis("leak", [1.0f32, 0.99]);
//! let found = sweep.run(file, ["latency", "accuracy (%)"], |&(percentile, leak)| {
//!     let snn = conversion.balance(Balance::Percentile(percentile))?;
//!     let snn = snn.with(|neurons| neurons.leak = vec![leak])?;
//!     let curve = simulate(&snn, &images, 32)?.curve;
//!     let last = curve.after(32).map(Accuracy::percent);
//!     Ok([curve.latency(&target).map(|t| t as f64), last])
//! })?;
//! let chart = found.heat_map("latency", "leak", "percentile")?;
//! # assert!(chart.svg().contains("percentile"));
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! # On many machines
//!
//! [`Sweep::shard`] divides a grid into shards. Separate processes measure them, each into its own
//! CSV file, and [`merge`] writes the file that a sweep of the whole grid would have written.
//! `evospike sweep` does both for conversions of a network, here as an array of Slurm jobs, each
//! with the cores of one node. A job that was interrupted resumes from its file when started again:
//!
//! ```bash
//! #!/bin/bash
//! #SBATCH --array=1-8 --nodes=1 --cpus-per-task=64 --time=4:00:00
//! export RAYON_NUM_THREADS=$SLURM_CPUS_PER_TASK
//! evospike sweep --net vgg15-half-bn --model vgg15.safetensors --data cifar10 \
//!     --percentile 99,99.5,99.9 --leak 1,0.99 --initial 0,0.5 --code direct,phase \
//!     --shard $SLURM_ARRAY_TASK_ID/8 --out part-$SLURM_ARRAY_TASK_ID.csv
//! ```
//!
//! then `evospike sweep merge --out all.csv part-*.csv`. With GNU parallel:
//! `parallel evospike sweep --leak 1,0.99 --shard {}/8 --out part-{}.csv ::: {1..8}`. If shards
//! share a machine, divide its cores among them with `RAYON_NUM_THREADS`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::base::{
    Chart, Error, Lock, Progress, Result, Table, chart, distinct, one_line, require, show,
    write_csv,
};

/// Grid of every combination of the values of its axes, as tuples of the values' types.
#[derive(Clone)]
pub struct Sweep<P> {
    axes: Vec<String>,
    /// Texts and values of each combination; the last axis varies fastest.
    points: Vec<(Vec<String>, P)>,
}

one_line!(impl [P] Sweep<P>: sweep, "sweep of {} combinations of {:?}", sweep.points.len(), sweep.axes);

impl Sweep<()> {
    /// Grid without axes; up to six can be added.
    #[allow(clippy::new_without_default)] // a grid without axes is of no use
    pub fn new() -> Self {
        Self { axes: Vec::new(), points: vec![(Vec::new(), ())] }
    }
}

macro_rules! axis {
    ($($t:ident),*) => {
        impl<$($t: Clone),*> Sweep<($($t,)*)> {
            /// Adds an axis. Its values must be displayed differently.
            pub fn axis<New: Clone + Display>(
                self,
                name: &str,
                values: impl IntoIterator<Item = New>,
            ) -> Sweep<($($t,)* New,)> {
                let values: Vec<New> = values.into_iter().collect();
                let all = |(text, point): (Vec<String>, ($($t,)*))| {
                    let each = move |value: &New| {
                        let mut text = text.clone();
                        text.push(value.to_string());
                        #[allow(non_snake_case)]
                        let ($($t,)*) = point.clone();
                        (text, ($($t,)* value.clone(),))
                    };
                    values.iter().map(each).collect::<Vec<_>>()
                };
                Sweep {
                    points: self.points.into_iter().flat_map(all).collect(),
                    axes: self.axes.into_iter().chain([name.into()]).collect(),
                }
            }
        }
    };
}
axis!();
axis!(A);
axis!(A, B);
axis!(A, B, C);
axis!(A, B, C, D);
axis!(A, B, C, D, E);

/// Additional axis of a shard's file: `3/8` is the third of eight combinations.
const POINT: &str = "point";

impl<P> Sweep<P> {
    /// Shard `k` of 1..=`n` of the grid: every n-th combination, starting at the k-th. It has an
    /// additional axis, `point`: the index in the grid, by which [`merge`] orders the rows of
    /// shards. A grid that has changed needs new files.
    ///
    /// ```
    /// use evospike::prelude::*;
    /// use evospike::sweep::merge;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let file = |name: &str| folder.path().join(name);
    /// let grid = || Sweep::new().axis("x", [1.0, 2.0]).axis("y", [3.0, 4.0]);
    /// let product = |&(x, y): &(f64, f64)| Ok([Some(x * y)]);
    /// for k in 1..=3 {
    ///     // Elsewhere, each on its own.
    ///     grid().shard(k, 3)?.run(file(&format!("part-{k}.csv")), ["product"], product)?;
    /// }
    /// let parts = (1..=3).map(|k| file(&format!("part-{k}.csv")));
    /// merge(parts, file("all.csv"))?;
    /// let found = grid().run(file("all.csv"), ["product"], product)?; // measures nothing more
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is no such shard, or if there are more shards than combinations.
    pub fn shard(mut self, k: usize, n: usize) -> Result<Self> {
        let all = self.points.len();
        let expected = format!("k/n with k in 1..=n, and n at most the {all} combinations");
        let holds = (1..=n).contains(&k) && n <= all;
        require(holds, "shard", format!("{k}/{n}"), expected)?;
        self.axes.insert(0, POINT.into());
        let points = self.points.into_iter().enumerate();
        let own = points.skip(k - 1).step_by(n);
        let own = own.map(|(i, (mut text, point))| {
            text.insert(0, format!("{}/{all}", i + 1));
            (text, point)
        });
        self.points = own.collect();
        Ok(self)
    }
}

impl<P: Sync> Sweep<P> {
    /// Number of combinations.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether an axis has no value.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Measures every combination in parallel and writes one row each to the CSV file `path`. Each
    /// measurement is a number, or `None` for an empty cell, for each of `columns`.
    ///
    /// Every row is written as soon as it is measured. The same call resumes from an existing file
    /// and measures the missing rows, so values can be added to an axis. Delete the file if
    /// `measure` itself has changed. The rows of the file are in the order of the grid.
    ///
    /// # Errors
    /// Returns the first error or panic of `measure`, without its row and those not started; an
    /// error if an axis has no values or two that are displayed the same, or if the file cannot be
    /// written or has other columns; [`Error::Busy`] while another sweep writes it.
    pub fn run<const M: usize>(
        &self,
        path: impl AsRef<Path>,
        columns: [&str; M],
        measure: impl Fn(&P) -> Result<[Option<f64>; M]> + Sync,
    ) -> Result<Swept> {
        let path = path.as_ref();
        require(!self.points.is_empty(), "axis", "no value", "one or more")?;
        let mut known = HashMap::with_capacity(self.points.len());
        for (text, _) in &self.points {
            let (new, found) = (known.insert(text.clone(), None), text.join(", "));
            let expected = "values that are displayed differently";
            require(new.is_none(), "axis", format!("{found} twice"), expected)?;
        }
        let columns = columns.map(String::from);
        let header: Vec<String> = self.axes.iter().chain(&columns).cloned().collect();
        let _lock = Lock::of_file(path)?;
        let mut others = Vec::new();
        for row in read(path, &header)? {
            let (text, numbers) = row.split_at(self.axes.len());
            match known.get_mut(text) {
                Some(row) => *row = Some(numbers.to_vec()),
                // The row has values that this grid no longer has.
                None => others.push(row),
            }
        }
        let mut progress = Progress::new("sweep", self.points.len());
        progress.skip(known.values().flatten().count());
        let todo = self.points.iter().filter(|(text, _)| known[text].is_none());
        let todo: Vec<_> = todo.collect();
        let state = Mutex::new((known, progress));
        let one = |(text, point): &&(Vec<String>, P)| -> Result<()> {
            // A panic would unwind through the caller, and take the notebook's variables along.
            let measured = catch_unwind(AssertUnwindSafe(|| measure(point)));
            let measured = measured.unwrap_or_else(|panic| {
                let names = self.axes.iter().zip(text);
                let names = names.map(|(axis, value)| format!("{axis} {value}"));
                let place = names.collect::<Vec<_>>().join(", ");
                Err(Error::panicked(format!("sweep at {place}"), &*panic))
            });
            let numbers = measured?.map(|x| x.map_or_else(String::new, |x| x.to_string()));
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (known, progress) = &mut *state;
            known.insert(text.clone(), Some(numbers.to_vec()));
            progress.step(|| text.join(", "));
            let rows = self.rows(known).chain(others.iter().cloned());
            write_csv(path, std::iter::once(header.clone()).chain(rows))
        };
        let done = todo.par_iter().try_for_each(one);
        let (known, progress) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        progress.finish(|| format!("in {}", path.display()));
        done?;
        Ok(Swept {
            axes: self.axes.clone(),
            columns: columns.to_vec(),
            rows: self.rows(&known).collect(),
        })
    }

    /// Rows measured so far, in the order of the grid.
    fn rows<'a>(
        &'a self,
        known: &'a HashMap<Vec<String>, Option<Vec<String>>>,
    ) -> impl Iterator<Item = Vec<String>> + 'a {
        self.points.iter().filter_map(|(text, _)| {
            let numbers = known[text].as_ref()?;
            Some(text.iter().chain(numbers).cloned().collect())
        })
    }
}

/// Reads the rows of a CSV file with this header; a missing file has none.
fn read(path: &Path, header: &[String]) -> Result<Vec<Vec<String>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let (found, rows) = parse(path, &text)?;
    if found != header {
        let found = text.lines().next().unwrap_or_default();
        let expected = format!("{}; delete the file to start anew", header.join(","));
        return Err(Error::data(path.display(), "line 1", found, expected));
    }
    Ok(rows)
}

/// Parses the header and rows of a CSV file.
fn parse(path: &Path, text: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let wrong = |place: String, error: csv::Error| {
        let expected = "as many cells as the header has";
        Error::data(path.display(), place, error, expected)
    };
    let cells = |row: &csv::StringRecord| row.iter().map(String::from).collect();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers();
    let header = cells(header.map_err(|error| wrong("line 1".into(), error))?);
    let row = |(i, row): (usize, csv::Result<csv::StringRecord>)| match row {
        Ok(row) => Ok(cells(&row)),
        Err(error) => Err(wrong(format!("row {}", i + 1), error)),
    };
    let rows = reader.records().enumerate().map(row);
    Ok((header, rows.collect::<Result<_>>()?))
}

/// Merges the CSV files of all shards of a grid, in any order: `out` is the file that a sweep of
/// the whole grid would have written.
///
/// # Errors
/// Returns an error if a file cannot be read or is not of a shard, if its axes, columns or grid
/// differ from the first file's, or if a combination is missing or has different numbers in two
/// files. Nothing is written then.
pub fn merge(
    parts: impl IntoIterator<Item = impl AsRef<Path>>,
    out: impl AsRef<Path>,
) -> Result<()> {
    let mut header: Vec<String> = vec![POINT.into()];
    let mut rows: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut combinations = 0;
    for part in parts {
        let path = part.as_ref();
        let wrong = |place: String, found: String, expected: String| {
            Err(Error::data(path.display(), place, found, expected))
        };
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let (found, of_part) = parse(path, &text)?;
        // Only the first axis of the first file is known in advance.
        let known = if rows.is_empty() { 1 } else { found.len() };
        if found.get(..known) != Some(&header[..]) {
            let expected = format!("{}, the columns of a shard", header.join(","));
            return wrong("line 1".into(), found.join(","), expected);
        }
        header = found;
        for (i, row) in of_part.into_iter().enumerate() {
            let number = format!("row {}", i + 1);
            let Some((place, all)) = place(&row[0]) else {
                let expected = "a place in the grid, such as 3/8".into();
                return wrong(number, row[0].clone(), expected);
            };
            if !rows.is_empty() && all != combinations {
                let expected = format!("{combinations}, as in the first shard");
                return wrong(number, format!("{all} combinations"), expected);
            }
            combinations = all;
            if let Some(known) = rows.insert(place, row.clone())
                && known != row
            {
                let expected = format!("{}, as in another row", known.join(","));
                return wrong(number, row.join(","), expected);
            }
        }
    }
    if rows.is_empty() || rows.len() < combinations {
        let missing = (1..=combinations).filter(|place| !rows.contains_key(place));
        let first: Vec<String> = missing.take(10).map(|place| place.to_string()).collect();
        let (known, first) = (rows.len(), first.join(", "));
        let found = format!("{known} of {combinations} combinations, without {first}");
        let expected = "all, measured to the end";
        return Err(Error::parameter("shards", found, expected));
    }
    let all = std::iter::once(header).chain(rows.into_values());
    write_csv(out, all.map(|mut row| row.split_off(1)))
}

/// Index of a combination and the number of combinations, from `3/8`.
fn place(text: &str) -> Option<(usize, usize)> {
    let (place, all) = text.split_once('/')?;
    let (place, all): (usize, usize) = (place.parse().ok()?, all.parse().ok()?);
    (1..=all).contains(&place).then_some((place, all))
}

/// Measurements of a sweep: a table in a notebook, and charts.
#[derive(Clone, PartialEq, Eq)]
pub struct Swept {
    axes: Vec<String>,
    columns: Vec<String>,
    /// Cells of axes and columns.
    rows: Vec<Vec<String>>,
}

impl Swept {
    /// Rows where the axis has this value, such as `only("leak", 1.0)`.
    ///
    /// # Errors
    /// Returns an error if there is no such axis, or no such value on it.
    pub fn only(&self, axis: &str, value: impl Display) -> Result<Self> {
        let (place, value) = (self.axis(axis)?, value.to_string());
        let mut only = self.clone();
        only.rows.retain(|row| row[place] == value);
        let expected = format!("one of {}", self.values(place).join(", "));
        require(!only.rows.is_empty(), "value", value, expected)?;
        Ok(only)
    }

    /// Chart of a column's numbers as colours over two axes.
    ///
    /// # Errors
    /// Returns an error if there is no such column or axis, or if a third axis has several values;
    /// choose one with [`only`](Self::only).
    pub fn heat_map(&self, column: &str, across: &str, up: &str) -> Result<Chart> {
        let (x, y) = (self.axis(across)?, self.axis(up)?);
        let value = self.column(column)?;
        self.check_fixed(&[x, y])?;
        let cell = |row: &Vec<String>| (row[x].clone(), row[y].clone(), row[value].parse().ok());
        chart::heat_map_of(column, [across, up], self.rows.iter().map(cell))
    }

    /// Chart of a column's numbers against those of one axis, one line for each value of another.
    ///
    /// # Errors
    /// Returns an error if there is no such column or axis, if the values along the axis are not
    /// numbers, or if a third axis has several values; choose one with [`only`](Self::only).
    pub fn lines(&self, column: &str, along: &str, by: &str) -> Result<Chart> {
        let (x, y) = (self.axis(along)?, self.axis(by)?);
        let value = self.column(column)?;
        self.check_fixed(&[x, y])?;
        let number = |text: &String| {
            let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
            number.ok_or_else(|| Error::parameter("along", text, "an axis of numbers"))
        };
        let mut lines = Vec::new();
        for name in self.values(y) {
            let rows = self.rows.iter().filter(|row| row[y] == name);
            let point = |row: &Vec<String>| Ok((number(&row[x])?, row[value].parse().ok()));
            let points: Vec<(f64, Option<f64>)> = rows.map(point).collect::<Result<_>>()?;
            let points = points.into_iter().filter_map(|(x, y)| Some((x, y?)));
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            lines.push((format!("{by} {name}"), points));
        }
        chart::lines(column, [along, column], lines)
    }

    /// Index of an axis in a row.
    fn axis(&self, name: &str) -> Result<usize> {
        position("axis", &self.axes, name)
    }

    /// Index of a column in a row.
    fn column(&self, name: &str) -> Result<usize> {
        Ok(self.axes.len() + position("column", &self.columns, name)?)
    }

    /// Values of an axis, in the order of the grid.
    fn values(&self, axis: usize) -> Vec<String> {
        distinct(self.rows.iter().map(|row| row[axis].clone()))
    }

    /// Returns an error for a third axis with several values.
    fn check_fixed(&self, free: &[usize]) -> Result<()> {
        for (place, axis) in self.axes.iter().enumerate() {
            let values = self.values(place);
            let found = format!("{axis} of {}", values.join(", "));
            let holds = free.contains(&place) || values.len() <= 1;
            require(holds, "axis", found, "one value: take `only` one first")?;
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let header = self.axes.iter().chain(&self.columns).cloned();
        Table::of("Sweep", header, self.rows.clone())
    }
}

show!(impl [] Swept as table);

/// Index of a name in a list of axes or columns.
fn position(what: &'static str, names: &[String], name: &str) -> Result<usize> {
    let position = names.iter().position(|known| known == name);
    let expected = || format!("one of {}", names.join(", "));
    position.ok_or_else(|| Error::parameter(what, name, expected()))
}

#[cfg(test)]
mod tests;
