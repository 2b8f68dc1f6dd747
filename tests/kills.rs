//! Work that is killed at any moment goes on to the very same result, and leaves no half file.
//!
//! One kill of each work, or as many as the environment variable `EVOSPIKE_KILLS` says.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;

use common::kills::killed_at_any_moment;
use evospike::prelude::*;

mod common {
    pub mod checkpoint;
    pub mod kills;
    pub mod reliability;
}

const WORK: &str = "EVOSPIKE_TEST_WORK";
const FOLDER: &str = "EVOSPIKE_TEST_FOLDER";

/// This process again, at some work.
fn again(work: &'static str) -> impl Fn(&Path) -> Command {
    move |folder| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "work"]).env(WORK, work).env(FOLDER, folder);
        command
    }
}

fn evospike(arguments: &'static [&str], out: &'static str) -> impl Fn(&Path) -> Command {
    move |folder| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
        command.args(arguments).arg("--out").arg(folder.join(out));
        command
    }
}

#[test]
fn training() {
    let mlp = &["train", "--net", "mlp", "--epochs", "60"];
    killed_at_any_moment("train, mlp", 1, evospike(mlp, "mlp"));
    let digits = &["train", "--net", "digits", "--epochs", "6"];
    killed_at_any_moment("train, digits", 2, evospike(digits, "digits"));
}

#[test]
fn evolution() {
    killed_at_any_moment("evolve", 3, again("evolve"));
}

#[test]
fn sweep() {
    killed_at_any_moment("sweep", 4, again("sweep"));
}

/// Most of its time it writes.
#[test]
fn writing() {
    killed_at_any_moment("write a table", 6, again("write"));
}

#[test]
fn reproduction() {
    let digits = &[
        "reproduce",
        "digits",
        "--generations",
        "1",
        "--population",
        "1",
        "--timesteps",
        "16",
        "--margin",
        "5",
    ];
    killed_at_any_moment("reproduce digits", 5, evospike(digits, ""));
}

/// The process that is killed.
#[test]
fn work() -> evospike::Result<()> {
    let (Ok(work), Some(folder)) = (std::env::var(WORK), std::env::var_os(FOLDER)) else {
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    if work == "write" {
        for _ in 0..20 {
            let rows = (0..300_000).map(|i| (i, "a cell".repeat(4)));
            write_csv(folder.join("table.csv"), rows)?;
        }
        return Ok(());
    }
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let mut ann = Ann::<DigitsCnn>::new(0)?;
    let training = TrainSettings { epochs: 4, ..TrainSettings::digits() };
    ann.train(&digits.training, &training)?;
    let conversion = convert(&ann, &digits.training)?;
    let target = ann.target(&digits.held_out, 2.0)?;
    match work.as_str() {
        "evolve" => {
            let settings = EvolveSettings {
                search: Search::CmaEs(CmaEsSettings::default()),
                batch: Some(200),
                generations: 16,
                timesteps: 24,
                ..EvolveSettings::default()
            };
            let snn = conversion.balance(Balance::Percentile(99.0))?;
            let resume = Resume::at(folder.join("evolution.checkpoint"));
            resume.evolve(&snn, &digits.held_out, &target, &settings)?;
        }
        _ => {
            let sweep = Sweep::new()
                .axis("percentile", [98.0, 99.0, 99.5, 99.9, 100.0])
                .axis("leak", [1.0f32, 0.99, 0.98, 0.95]);
            let columns = ["latency", "accuracy (%)"];
            sweep.run(folder.join("sweep.csv"), "64 timesteps", columns, |&(p, leak)| {
                let snn = conversion.balance(Balance::Percentile(p))?;
                let snn = snn.with(|neurons| neurons.leak = vec![leak])?;
                let curve = simulate(&snn, &digits.held_out, 64)?.curve;
                let last = curve.after(64).map(Accuracy::percent);
                Ok([curve.latency(&target).map(|t| t as f64), last])
            })?;
        }
    }
    Ok(())
}
