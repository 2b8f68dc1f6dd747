//! Command lines of the program's own options with bad values: it ends at once, with a message and
//! the exit code of an error.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use crate::harness::inputs;
use crate::mutate::{Rng, pick};
use crate::reliability::record;

/// What a program that should have ended gets to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each with what makes it end at once, whatever else is said: `file` is no folder.
const COMMANDS: [(&[&str], &[&str], &[&str]); 12] = [
    (&[], &["--seeds", "--epochs", "--test-images"], &["--out", "file/out"]),
    (
        &["reproduce", "digits"],
        &["--seeds", "--timesteps", "--population", "--generations", "--margin"],
        &["--out", "file/out"],
    ),
    (
        &["reproduce", "neurons", "--model", "file"],
        &[
            "--net",
            "--kinds",
            "--from",
            "--seeds",
            "--mean",
            "--std",
            "--input",
            "--bgr",
            "--test-images",
        ],
        &["--data", "file", "--out", "out"],
    ),
    (
        &["evolve", "--model", "file"],
        &["--spikes", "--initial", "--timesteps", "--margin", "--input", "--mean", "--std"],
        &["--data", "file", "--out", "out"],
    ),
    (&["train"], &TRAIN, &["--out", "out", "--data", "file"]),
    // A whole training, of a tenth of a second.
    (&["train", "--net", "mlp"], RECIPE, &["--epochs", "1", "--out", "out"]),
    (
        &["reproduce", "thresholds", "--model", "file"],
        &[
            "--held-out-list",
            "--seeds",
            "--initial",
            "--generations",
            "--images",
            "--timesteps",
            "--test-images",
            "--out",
        ],
        &["--data", "file"],
    ),
    (
        &["reproduce", "explain"],
        &["--held-out-list", "--model", "--seeds", "--thresholds", "--out"],
        &["--data", "file"],
    ),
    (
        &["reproduce", "comparison"],
        &["--seeds", "--target", "--timesteps", "--few"],
        &["--out", "file/out"],
    ),
    (
        &["sweep", "--model", "file"],
        &[
            "--percentile",
            "--leak",
            "--initial",
            "--code",
            "--period",
            "--timesteps",
            "--margin",
            "--images",
            "--balance-images",
            "--shard",
            "--seed",
            "--held-out",
        ],
        &["--net", "digits", "--out", "out"],
    ),
    (&["import"], &["--input", "--check", "--tolerance", "--mean", "--std"], &["file"]),
    (&["sweep", "merge"], &["--out", "file"], &["file", "--out", "out"]),
];

const TRAIN: [&str; 16] = [
    "--net",
    "--format",
    "--epochs",
    "--batch",
    "--optimiser",
    "--learning-rate",
    "--momentum",
    "--weight-decay",
    "--warmup",
    "--schedule",
    "--label-smoothing",
    "--augment",
    "--seed",
    "--held-out",
    "--held-out-list",
    "--unknown",
];

/// Those of [`TRAIN`] that say how, from `--batch` to `--held-out`.
const RECIPE: &[&str] = TRAIN.split_at(3).1.split_at(11).0;

const VALUES: [&str; 29] = [
    "",
    "0",
    "-0",
    "1",
    "-1",
    "0.5",
    "1,2",
    "1,,2",
    "65537",
    "1/2",
    "0/0",
    "phase",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e-320",
    "1e308",
    "1e999",
    "NaN",
    "-inf",
    "digits",
    "vgg15",
    "mnist-cnn",
    "idx",
    "sgd",
    "adam",
    "file",
    "\u{1f980}\n",
    "--",
];

#[test]
fn command_lines() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "no data").unwrap();
    let tried = (inputs() / 50).max(10);
    let mut failed = 0;
    for number in 0..tried {
        let rng = &mut Rng::seed_from_u64(number as u64);
        let (command, options, last) = *pick(rng, &COMMANDS);
        let mut arguments: Vec<OsString> = command.iter().map(Into::into).collect();
        for _ in 0..rng.random_range(0..4) {
            arguments.push(pick(rng, options).into());
            match rng.random_range(0..16) {
                0 => (), // without a value
                1 => arguments.push(OsStr::from_bytes(b"\xff").into()),
                _ => arguments.push(pick(rng, &VALUES).into()),
            }
        }
        arguments.extend(last.iter().map(Into::into));
        let mut program = Command::new(env!("CARGO_BIN_EXE_evospike"));
        program.args(&arguments).current_dir(&folder);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut program = program.spawn().unwrap();
        let clock = Instant::now();
        let status = loop {
            match program.try_wait().unwrap() {
                None if clock.elapsed() > PATIENCE => {
                    program.kill().unwrap();
                    break program.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_millis(2)),
                Some(status) => break status,
            }
        };
        let mut said = String::new();
        program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let trains = command.contains(&"mlp") && status.success();
        let refused = matches!(status.code(), Some(1 | 2)) && said.contains("error: ");
        if !trains && !refused {
            println!("{arguments:?}: {status}: {said}");
            failed += 1;
        }
        // A checkpoint of other settings would be refused.
        let _ = std::fs::remove_file(folder.path().join("out.checkpoint"));
    }
    println!("command line: {tried} inputs, {failed} failures");
    record("bad command line", tried, failed);
    assert!(failed == 0, "{failed} command lines, named above");
}
