//! Evolution on two ranks of Open MPI finds what one process finds, and no rank waits for another
//! that failed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use evospike::prelude::*;
use evospike::ranks;

const FOLDER: &str = "EVOSPIKE_TEST_RANKS";
const TROUBLE: &str = "EVOSPIKE_TEST_TROUBLE";

/// `mpirun` of two ranks; killed, and so failed, where they hang.
fn mpirun() -> Command {
    let mut command = Command::new("timeout");
    command.args(["300", "mpirun", "-n", "2"]);
    command.args([
        "--allow-run-as-root",
        "--oversubscribe",
        "--bind-to",
        "none",
    ]);
    command.env("RAYON_NUM_THREADS", "1");
    command
}

/// Whether there is an `mpirun`; without it there is nothing to test.
fn ready() -> bool {
    let there = mpirun().arg("true").output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: mpirun is missing, or does not start processes");
    }
    there
}

/// Both ranks in the test [`rank`].
fn start(folder: &Path, trouble: &str) -> Output {
    let mut command = mpirun();
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "rank", "--nocapture"]);
    command.env(FOLDER, folder).env(TROUBLE, trouble);
    command.output().unwrap()
}

/// A rank's number, of one that [`start`] started.
fn number() -> String {
    std::env::var("OMPI_COMM_WORLD_RANK").unwrap_or_default()
}

fn settings() -> EvolveSettings {
    EvolveSettings {
        search: Search::CmaEs(CmaEsSettings::default()),
        batch: Some(100),
        generations: 3,
        timesteps: 24,
        ..EvolveSettings::default()
    }
}

/// What an evolution and a search for compromises found, to be compared; both to the last bit.
fn evolved(folder: &Path, trouble: &str) -> evospike::Result<String> {
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let mut ann = Ann::<DigitsCnn>::new(0)?;
    let training = TrainSettings {
        epochs: 3,
        ..TrainSettings::digits()
    };
    // Every rank trains, with the checkpoint that rank 0 locks and writes.
    ann.train_resumable(&digits.training, &training, folder.join("training"))?;
    let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.0))?;
    let target = ann.target(&digits.held_out, 2.0)?;
    let second = number() == "1";
    let settings = match trouble {
        "settings" if second => EvolveSettings {
            seed: 1,
            ..settings()
        },
        "parameter" if second => EvolveSettings {
            timesteps: 0,
            ..settings()
        },
        _ => settings(),
    };
    if trouble == "panic" && second {
        panic!("on purpose");
    }
    // Only rank 0 is told to stop, and so do both.
    let stop = AtomicBool::new(trouble == "stop" && !second);
    let path = folder.join("evolution.json");
    let images = &digits.held_out;
    let evolution = evolve_resumable(&snn, images, &target, &settings, path, &stop)?;
    let nsga = NsgaSettings {
        population: 5,
        ..NsgaSettings::default()
    };
    let settings = EvolveSettings {
        generations: 1,
        batch: None,
        ..settings
    };
    let front = pareto(&snn, images, &target, &nsga, &settings)?;
    let Evolution {
        genes,
        fitness,
        generations,
        ..
    } = evolution;
    Ok(format!(
        "{genes:?} {fitness:?} {generations:?} {:?}",
        front.tried
    ))
}

/// A rank that [`start`] started: leaves what it found in a file of its own.
#[test]
fn rank() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let trouble = std::env::var(TROUBLE).unwrap();
    let found = ranks::together(|| evolved(folder, &trouble));
    let text = found.unwrap_or_else(|error| error.to_string());
    fs::write(folder.join(number()), text).unwrap();
}

#[test]
fn two_ranks_find_what_one_process_finds() -> evospike::Result<()> {
    if !ready() {
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    let expected = evolved(&alone, "")?;
    fs::create_dir(&together).unwrap();
    let both = || [0, 1].map(|rank: usize| fs::read_to_string(together.join(rank.to_string())));

    // Stopped after the first generation by rank 0, and on from there.
    assert!(start(&together, "stop").status.success());
    for said in both() {
        let said = said.unwrap();
        assert!(said.starts_with("rank 0: evolve"), "{said}");
        assert!(said.contains("stopped after generation 0"), "{said}");
    }
    assert!(start(&together, "").status.success());
    assert_eq!(both().map(Result::unwrap), [expected.clone(), expected]);
    // The same checkpoint, but for its seconds.
    let told = |folder: &Path| {
        let text = fs::read_to_string(folder.join("evolution.json")).unwrap();
        text.split_once("\"seconds\"").unwrap().0.to_owned()
    };
    assert_eq!(told(&together), told(&alone));
    Ok(())
}

#[test]
fn no_rank_waits_for_one_that_failed() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let both =
        || [0, 1].map(|rank: usize| fs::read_to_string(folder.path().join(rank.to_string())));
    for (trouble, expected) in [
        ("settings", "rank 1: found other settings than rank 0's"),
        // What rank 0 alone reads.
        ("checkpoint", "rank 0: ${path}, checkpoint: found"),
    ] {
        let checkpoint = folder.path().join("evolution.json");
        let expected = expected.replace("${path}", checkpoint.to_str().unwrap());
        if trouble == "checkpoint" {
            fs::write(checkpoint, "{").unwrap();
        }
        assert!(start(folder.path(), trouble).status.success());
        for said in both().map(Result::unwrap) {
            assert!(said.starts_with(&expected), "{said}");
        }
    }
    // What one rank alone knows of ends both.
    for (trouble, expected) in [
        ("parameter", "rank 1: error: timesteps: found 0"),
        ("panic", "on purpose"),
    ] {
        fs::remove_file(folder.path().join("evolution.json")).ok();
        let ended = start(folder.path(), trouble);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!matches!(ended.status.code(), Some(0 | 124)), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// The command line: the same files, written once.
#[test]
fn two_ranks_write_the_files_of_one_process() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |mut command: Command, name: &str| {
        let folder = folder.path().join(name);
        command.args([
            "--generations",
            "2",
            "--population",
            "1",
            "--margin",
            "2",
            "--out",
        ]);
        let output = command.arg(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| !path.ends_with("timing.csv"));
        let mut files: Vec<_> = files
            .map(|path| {
                (
                    path.file_name().unwrap().to_owned(),
                    fs::read(path).unwrap(),
                )
            })
            .collect();
        files.sort();
        let out = String::from_utf8(output.stdout).unwrap();
        (files, out.lines().count())
    };
    let evospike = env!("CARGO_BIN_EXE_evospike");
    let alone = run(Command::new(evospike), "alone");
    let mut two = mpirun();
    two.arg(evospike);
    let together = run(two, "together");
    assert_eq!(alone.0.len(), 9); // five CSV files, the settings, three charts
    assert!(together == alone);
}
