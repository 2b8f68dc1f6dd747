//! Common parts of the benchmarks: processes of their own, peak memory, random images.

use std::error::Error;
use std::process::Command;

use evospike::data::{Images, Task, Whole};
use evospike::random::{Stream, rng};
use evospike::report::write_csv;
use rand::RngExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Peak resident memory of this process, in MiB; NaN except on Linux.
pub fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| (kib / 102.4).round() / 10.0)
}

/// Random images of a task, of its first ten classes in turn.
pub fn noise<K: Task>(count: usize) -> evospike::Result<Images<Whole, K>> {
    let mut rng = rng(0, Stream::Split);
    let pixels = (0..count * K::SHAPE.size()).map(|_| rng.random()).collect();
    Images::from_arrays(pixels, (0..count).map(|i| (i % 10) as u16).collect())
}

/// Measures each case in a process of its own, since peak memory belongs to a process, shows its row
/// by `say`, writes all to `results/benchmarks` and gives them; none in such a process, which prints
/// its row as JSON.
pub fn in_own_processes<C: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned>(
    file: &str,
    cases: impl IntoIterator<Item = C>,
    measure: impl Fn(C) -> Result<R, Box<dyn Error>>,
    say: impl Fn(&R) -> String,
) -> Result<Vec<R>, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, case] = arguments.as_slice()
        && run == "run"
    {
        println!("{}", serde_json::to_string(&measure(serde_json::from_str(case)?)?)?);
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for case in cases {
        let case = serde_json::to_string(&case)?;
        let output = Command::new(std::env::current_exe()?).args(["run", &case]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let row: R = serde_json::from_slice(&output.stdout)?;
        println!("{}", say(&row));
        rows.push(row);
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/results/benchmarks");
    write_csv(format!("{folder}/{file}"), &rows)?;
    Ok(rows)
}
