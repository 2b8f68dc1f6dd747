//! Figures of reliability: what checks tried, and how often the library failed them.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use evospike::report::{read_csv, write_csv};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Row {
    check: String,
    tried: usize,
    failed: usize,
}

/// Puts the check's row into the CSV file that the environment variable `EVOSPIKE_RELIABILITY`
/// names, in place of an earlier one; does nothing without the variable.
pub fn record(check: &str, tried: usize, failed: usize) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(path) = std::env::var_os("EVOSPIKE_RELIABILITY").map(PathBuf::from) else {
        return;
    };
    let mut rows: Vec<Row> = match path.exists() {
        true => read_csv(&path).unwrap(),
        false => Vec::new(),
    };
    rows.retain(|row| row.check != check);
    rows.push(Row { check: check.into(), tried, failed });
    rows.sort_by(|a, b| a.check.cmp(&b.check));
    write_csv(path, rows).unwrap();
}
