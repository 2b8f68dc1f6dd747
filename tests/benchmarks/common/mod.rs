//! Common parts of the benchmarks: processes of their own, peak memory, random images.

use std::error::Error;
use std::process::Command;

use evospike::data::{Images, Task, Whole};
use evospike::random::{Stream, rng};
use rand::RngExt;
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

/// Row that this program prints as JSON in a process of its own, since peak memory belongs to a
/// process.
pub fn in_own_process<T: DeserializeOwned>(arguments: &[String]) -> Result<T, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).arg("run").args(arguments).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
