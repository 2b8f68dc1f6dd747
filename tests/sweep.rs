//! The command `sweep`: shards in processes of their own, what is measured again, what is refused.

#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use reliability::record;

fn evospike(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
    command.current_dir(folder).args(arguments);
    command
}

/// A sweep of 16 combinations, with some options changed or added.
fn sweep(folder: &Path, out: &str, changed: &[[&str; 2]]) -> Command {
    let mut command = evospike(folder, &["sweep", "--net", "digits", "--out", out]);
    let usual = [
        ["--model", "model"],
        ["--images", "100"],
        ["--percentile", "99,99.9"],
        ["--leak", "1,0.99"],
        ["--initial", "0,0.5"],
        ["--code", "direct,phase"],
        ["--timesteps", "24"],
        ["--margin", "2"],
    ];
    let kept = usual.iter().filter(|[name, _]| changed.iter().all(|[other, _]| other != name));
    command.args(kept.chain(changed).flatten());
    command
}

fn train(folder: &Path, out: &str, seed: &str) {
    let net = ["train", "--net", "digits", "--epochs", "2", "--seed", seed, "--out", out];
    run(&mut evospike(folder, &net));
}

/// What a command said that ended well.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn shards_of_several_processes_are_one_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "model", "0");
    run(&mut sweep(folder, "all.csv", &[]));
    let shards = [1, 2, 3].map(|k| {
        let (shard, out) = (format!("{k}/3"), format!("part-{k}.csv"));
        sweep(folder, &out, &[["--shard", &shard]]).spawn().unwrap()
    });
    for mut shard in shards {
        assert!(shard.wait().unwrap().success());
    }
    let merge = ["sweep", "merge", "--out", "merged.csv"];
    let merge = |parts: &[&str]| evospike(folder, &[&merge, parts].concat());
    run(&mut merge(&["part-3.csv", "part-1.csv", "part-2.csv"]));
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let other = usize::from(read("merged.csv") != read("all.csv"));
    record("sweep in 3 shards", 1, other);
    assert_eq!(read("merged.csv"), read("all.csv"));
    assert_eq!(read("all.csv").lines().count(), 1 + 16);

    let missing = merge(&["part-1.csv"]).output().unwrap();
    let said = said(&missing);
    assert_eq!(missing.status.code(), Some(2));
    assert!(said.starts_with("error: shards: found 6 of 16 combinations"), "{said}");
}

#[test]
fn rows_are_read_with_the_same_settings_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "model", "0");
    train(folder, "other", "1");
    // With them, weights are refused whose training saw the images that the sweep measures on.
    for checkpoint in ["model.checkpoint", "other.checkpoint"] {
        fs::remove_file(folder.join(checkpoint)).unwrap();
    }
    let few = |changed: &[[&str; 2]]| {
        let few = [["--percentile", "99"], ["--initial", "0"], ["--code", "direct"]];
        sweep(folder, "few.csv", &[&few, changed].concat())
    };
    run(&mut few(&[]));
    let read = || fs::read(folder.join("few.csv")).unwrap();
    let rows = read();
    let mut failed = 0;
    let refused = [
        (["--margin", "3"], "settings.margin: found 2.0, expected 3.0"),
        (["--timesteps", "32"], "settings.timesteps: found 24, expected 32"),
        (["--images", "99"], "settings.images: found 100, expected 99"),
        (["--balance-images", "99"], "settings.balance_images: found "),
        (["--seed", "1"], "settings.seed: found 0, expected 1"),
        (["--model", "other"], "sources.weights: found "),
    ];
    for (changed, expected) in &refused {
        let said = said(&few(&[*changed]).output().unwrap());
        let told = said.starts_with(&format!("error: few.csv, key.{expected}"));
        if !(told && read() == rows) {
            println!("{changed:?}: {said}");
            failed += 1;
        }
    }
    let again = run(&mut few(&[]));
    failed += usize::from(!again.contains("2 of 2 rows read from few.csv"));
    record("sweep with other settings", refused.len() + 1, failed);
    assert_eq!(failed, 0, "{again}");
}

#[test]
fn a_combination_that_fails_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "model", "0");
    let bad = || sweep(folder, "bad.csv", &[["--percentile", "1,99"]]);
    let output = bad().output().unwrap();
    let text = said(&output);
    let expected = "error: bad.csv: 8 of 16 combinations failed, the first at percentile 1, leak 1, \
                    initial 0, code direct: layer 0 (neurons): found threshold 0";
    assert!(text.lines().last().unwrap().starts_with(expected), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let rows = fs::read_to_string(folder.join("bad.csv")).unwrap();
    assert_eq!(rows.lines().filter(|row| row.starts_with("99,") && row.ends_with(',')).count(), 8);
    assert!(said(&bad().output().unwrap()).contains("8 of 16 rows read from bad.csv"));
    assert_eq!(fs::read_to_string(folder.join("bad.csv")).unwrap(), rows);
}
