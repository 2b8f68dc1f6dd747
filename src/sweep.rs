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
//! let key = (ann.checksum()?, images.checksum()); // what else decides the numbers
//! let found = sweep.run(file, key, ["latency", "accuracy (%)"], |&(percentile, leak)| {
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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::heat_map::heat_map_of;
use crate::base::{
    Chart, Checkpoint, Error, Lock, Progress, Result, Table, chart, check_same, distinct, one_line,
    read_checkpoint, read_table, require, show, write_checkpoint, write_csv,
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

/// Last column: why a measurement failed.
const ERROR: &str = "error";

/// What decides the rows of a file, beside their own cells. A file beside the CSV file holds it.
#[derive(Serialize, Deserialize)]
struct Identity<K> {
    work: String,
    /// Axes of the whole grid, so that they are the same in every shard.
    axes: Vec<String>,
    columns: Vec<String>,
    /// The caller's key.
    key: K,
}

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
    ///     let part = file(&format!("part-{k}.csv"));
    ///     grid().shard(k, 3)?.run(part, "x * y", ["product"], product)?;
    /// }
    /// let parts = (1..=3).map(|k| file(&format!("part-{k}.csv")));
    /// merge(parts, file("all.csv"))?;
    /// let all = file("all.csv");
    /// let found = grid().run(all, "x * y", ["product"], product)?; // measures nothing more
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
    /// `key` is everything else that decides the numbers, such as settings and the checksums of
    /// weights and images: it is all that is known of what `measure` captures and does. Give
    /// infinite numbers in it as text: JSON has none, and no NaN, and all of them are alike in it.
    ///
    /// Every row is written as soon as it is measured, and the key into a file beside, `path` with
    /// `.key` behind it. The same call reads the rows of an existing file, says how many, and
    /// measures the missing ones, so values can be added to an axis. The rows of the file are in
    /// the order of the grid. A measurement that fails has the reason in the column `error`; the
    /// others go on, and the next call measures it again. To measure everything anew, delete the
    /// CSV file.
    ///
    /// # Errors
    /// Returns the first error or panic of `measure` in the order of the grid, once all else is
    /// measured; an error if an axis has no values or two that are displayed the same, if the file
    /// cannot be written, is damaged, or was measured with another key or other columns, naming the
    /// first difference; [`Error::Busy`] while another sweep writes it.
    pub fn run<const M: usize>(
        &self,
        path: impl AsRef<Path>,
        key: impl Serialize,
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
        let header = header(&self.axes, &columns);
        let of_grid = self.axes.iter().filter(|axis| *axis != POINT);
        let identity = Identity {
            work: "sweep".into(),
            axes: of_grid.cloned().collect(),
            columns: columns.to_vec(),
            key,
        };
        let _lock = Lock::of_file(path)?;
        let mut others = Vec::new();
        match read_table(path) {
            // The key of a deleted table is replaced.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                write_checkpoint(&key_file(path), &identity, &(), Vec::new())?;
            }
            text => {
                let same = read_checkpoint::<()>(&key_file(path), &identity);
                same.map_err(of_table(path))?.ok_or_else(|| without_key(path))?;
                for row in parse_rows(path, &text?, &header, self.axes.len())? {
                    let (text, cells) = row.split_at(self.axes.len());
                    match known.get_mut(text) {
                        Some(row) => *row = Some(cells.to_vec()),
                        // The row has values that this grid no longer has.
                        None => others.push(row),
                    }
                }
            }
        }
        let measured =
            |text: &Vec<String>| known[text].as_ref().is_some_and(|row| row[M].is_empty());
        let todo: Vec<_> = self.points.iter().filter(|(text, _)| !measured(text)).collect();
        let (all, read) = (self.points.len(), self.points.len() - todo.len());
        let mut progress = Progress::new("sweep", all);
        progress.skip(read);
        let state = Mutex::new((known, progress));
        let one = |(text, point): &&(Vec<String>, P)| -> Result<()> {
            // A panic would unwind through the caller, and take the notebook's variables along.
            let measured = catch_unwind(AssertUnwindSafe(|| measure(point)));
            let measured =
                measured.unwrap_or_else(|panic| Err(Error::panicked("measurement", &*panic)));
            let (numbers, error) = match measured {
                Ok(numbers) => (numbers, String::new()),
                Err(error) => ([None; M], error.to_string()),
            };
            let numbers = numbers.map(|x| x.map_or_else(String::new, |x| x.to_string()));
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (known, progress) = &mut *state;
            known.insert(text.clone(), Some(numbers.into_iter().chain([error]).collect()));
            progress.step(|| text.join(", "));
            let rows = self.rows(known).chain(others.iter().cloned());
            write_csv(path, std::iter::once(header.clone()).chain(rows))
        };
        let done = todo.par_iter().try_for_each(one);
        let (known, progress) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        progress.finish(|| match read {
            0 => format!("in {}", path.display()),
            _ => format!("{read} of {all} rows read from {}", path.display()),
        });
        done?;
        let mut rows: Vec<_> = self.rows(&known).collect();
        check_measured(path, &self.axes, &rows)?;
        rows.iter_mut().for_each(|row| row.truncate(header.len() - 1));
        Ok(Swept { axes: self.axes.clone(), columns: columns.to_vec(), rows })
    }

    /// Rows so far, in the order of the grid.
    fn rows<'a>(
        &'a self,
        known: &'a HashMap<Vec<String>, Option<Vec<String>>>,
    ) -> impl Iterator<Item = Vec<String>> + 'a {
        self.points.iter().filter_map(|(text, _)| {
            let cells = known[text].as_ref()?;
            Some(text.iter().chain(cells).cloned().collect())
        })
    }
}

/// Path of the file beside a CSV file that holds what decides its rows.
fn key_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

/// Returns a function for `map_err` that names the table in an error of its key's file, since the
/// table is the one to delete.
fn of_table(path: &Path) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Data { place, found, expected, .. } => {
            Error::data(path.display(), place, found, expected)
        }
        error => error,
    }
}

fn without_key(path: &Path) -> Error {
    let found = format!("no file {}", key_file(path).display());
    Error::data(path.display(), "key", found, "the file that a sweep writes beside its table")
}

fn header(axes: &[String], columns: &[String]) -> Vec<String> {
    axes.iter().chain(columns).cloned().chain([ERROR.into()]).collect()
}

/// Parses the rows of a CSV file with this header, which begins with the axes.
fn parse_rows(path: &Path, text: &str, header: &[String], axes: usize) -> Result<Vec<Vec<String>>> {
    let wrong = |place: String, found: String, expected: String| {
        Error::data(path.display(), place, found, expected)
    };
    let line = |error: csv::Error| {
        let place = error.position().map_or(1, csv::Position::line);
        let expected = "as many cells as the header has".into();
        wrong(format!("line {place}"), error.to_string(), expected)
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let found = reader.headers().map_err(line)?;
    if !found.iter().eq(header) {
        let (found, header) = (found.iter().collect::<Vec<_>>().join(","), header.join(","));
        let expected = format!("{header}; delete the file to start anew");
        return Err(wrong("line 1".into(), found, expected));
    }
    let (mut rows, mut seen) = (Vec::new(), HashSet::new());
    for (i, row) in reader.records().enumerate() {
        let row: Vec<String> = row.map_err(line)?.iter().map(String::from).collect();
        let place = format!("row {}", i + 1);
        let numbers = header.iter().zip(&row).take(header.len() - 1).skip(axes);
        for (column, cell) in numbers {
            // As they were written, so that no digit is missing in the middle.
            if !cell.is_empty()
                && cell.parse().ok().map(|x: f64| x.to_string()).as_ref() != Some(cell)
            {
                let place = format!("{place}, column {column}");
                return Err(wrong(place, format!("`{cell}`"), "a number or nothing".into()));
            }
        }
        if !seen.insert(row[..axes].to_vec()) {
            let found = format!("{} a second time", row[..axes].join(", "));
            return Err(wrong(place, found, "each combination once".into()));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Returns an error with the first of the rows whose measurement failed.
fn check_measured(path: &Path, axes: &[String], rows: &[Vec<String>]) -> Result<()> {
    let mut failed =
        rows.iter().filter_map(|row| Some((row, row.last().filter(|e| !e.is_empty())?)));
    let Some((row, reason)) = failed.next() else {
        return Ok(());
    };
    let names = axes.iter().zip(row).map(|(axis, value)| format!("{axis} {value}"));
    Err(Error::Unmeasured {
        path: path.into(),
        failed: 1 + failed.count(),
        combinations: rows.len(),
        first: names.collect::<Vec<_>>().join(", "),
        reason: reason.clone(),
    })
}

/// Merges the CSV files of all shards of a grid, in any order: `out` is the file that a sweep of
/// the whole grid would have written, with its key.
///
/// # Errors
/// Returns an error if a file cannot be read, is damaged or is not of a shard, if its key, columns
/// or grid differ from the first file's, or if a combination is missing or has different numbers in
/// two files. Nothing is written then. Returns the error of [`Sweep::run`] if a measurement failed.
pub fn merge(
    parts: impl IntoIterator<Item = impl AsRef<Path>>,
    out: impl AsRef<Path>,
) -> Result<()> {
    let out = out.as_ref();
    let mut first: Option<(PathBuf, Value, Identity<Value>)> = None;
    let mut all_rows: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut combinations = 0;
    for part in parts {
        let path = part.as_ref();
        let wrong = |place: String, found: String, expected: String| {
            Err(Error::data(path.display(), place, found, expected))
        };
        let text = read_table(path)?;
        let found = Checkpoint::read(&key_file(path)).map_err(of_table(path))?;
        let found = found.ok_or_else(|| without_key(path))?.identity;
        let (shard, same, identity) = match &first {
            Some(first) => first,
            None => {
                let identity = serde_json::from_value(found.clone());
                let identity = identity.map_err(|error| {
                    Error::data(path.display(), "key", error, "the key of a sweep")
                })?;
                first.insert((path.into(), found.clone(), identity))
            }
        };
        check_same(path, &found, same, &format!("as in {}", shard.display()))?;
        let axes: Vec<String> =
            std::iter::once(POINT.into()).chain(identity.axes.clone()).collect();
        let header = header(&axes, &identity.columns);
        for (i, row) in parse_rows(path, &text, &header, axes.len())?.into_iter().enumerate() {
            let number = format!("row {}", i + 1);
            let Some((place, all)) = place(&row[0]) else {
                let expected = "a place in the grid, such as 3/8".into();
                return wrong(number, row[0].clone(), expected);
            };
            if !all_rows.is_empty() && all != combinations {
                let expected = format!("{combinations}, as in {}", shard.display());
                return wrong(number, format!("{all} combinations"), expected);
            }
            combinations = all;
            if let Some(known) = all_rows.insert(place, row.clone())
                && known != row
            {
                let expected = format!("{}, as in another row", known.join(","));
                return wrong(number, row.join(","), expected);
            }
        }
    }
    let identity = first.filter(|_| !all_rows.is_empty() && all_rows.len() == combinations);
    let Some((_, _, identity)) = identity else {
        let missing = (1..=combinations).filter(|place| !all_rows.contains_key(place));
        let first: Vec<String> = missing.take(10).map(|place| place.to_string()).collect();
        let (known, first) = (all_rows.len(), first.join(", "));
        let found = format!("{known} of {combinations} combinations, without {first}");
        let expected = "all, measured to the end";
        return Err(Error::parameter("shards", found, expected));
    };
    let _lock = Lock::of_file(out)?;
    let all_rows: Vec<_> = all_rows.into_values().map(|mut row| row.split_off(1)).collect();
    let header = header(&identity.axes, &identity.columns);
    // A process that is killed in between leaves no rows with another's key.
    write_csv(out, [&header])?;
    write_checkpoint(&key_file(out), &identity, &(), Vec::new())?;
    write_csv(out, std::iter::once(&header).chain(&all_rows))?;
    check_measured(out, &identity.axes, &all_rows)
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
        heat_map_of(column, [across, up], self.rows.iter().map(cell))
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
