//! Evolution on ranks of Open MPI finds what one process finds, and no rank waits for another that
//! failed.

mod common {
    pub mod checkpoint;
    pub mod mpirun;
    pub mod reliability;
}

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use common::checkpoint;
use common::mpirun::{mpirun, ready};
use common::reliability::record;
use evospike::prelude::*;
use evospike::ranks;

const FOLDER: &str = "EVOSPIKE_TEST_RANKS";
const TROUBLE: &str = "EVOSPIKE_TEST_TROUBLE";

/// Ranks, each in the test [`rank`].
fn start(ranks: usize, folder: &Path, trouble: &str) -> Output {
    let mut command = mpirun(ranks);
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
    let training = TrainSettings { epochs: 3, ..TrainSettings::digits() };
    // Every rank trains, with the checkpoint that rank 0 locks and writes.
    Resume::at(folder.join("training")).train(&mut ann, &digits.training, &training)?;
    let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.0))?;
    let target = ann.target(&digits.held_out, 2.0)?;
    let second = number() == "1";
    let settings = match trouble {
        "settings" if second => EvolveSettings { seed: 1, ..settings() },
        "parameter" if second => EvolveSettings { timesteps: 0, ..settings() },
        _ => settings(),
    };
    if trouble == "panic" && second {
        panic!("on purpose");
    }
    // Only rank 0 is told to stop, and so do both.
    let stop = AtomicBool::new(trouble == "stop" && !second);
    let images = &digits.held_out;
    let resume = Resume::at(folder.join("evolution.checkpoint")).stopped_by(&stop);
    let evolution = resume.evolve(&snn, images, &target, &settings)?;
    let nsga = NsgaSettings { population: 5, ..NsgaSettings::default() };
    let settings = EvolveSettings { generations: 1, batch: None, ..settings };
    let front = pareto(&snn, images, &target, &nsga, &settings)?;
    let Evolution { genes, fitness, generations, .. } = evolution;
    Ok(format!("{genes:?} {fitness:?} {generations:?} {:?}", front.tried))
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

/// What ranks left in their files.
fn said(ranks: usize, folder: &Path) -> Vec<String> {
    let said = |rank: usize| fs::read_to_string(folder.join(rank.to_string()));
    (0..ranks).map(|rank| said(rank).unwrap()).collect()
}

#[test]
fn ranks_find_what_one_process_finds() -> evospike::Result<()> {
    if !ready() {
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone");
    let expected = evolved(&alone, "")?;
    // What the checkpoint says, but for its seconds.
    let told = |folder: &Path| {
        let bytes = fs::read(folder.join("evolution.checkpoint")).unwrap();
        let said = checkpoint::said(&bytes).unwrap();
        said.split_once("\"seconds\"").unwrap().0.to_owned()
    };
    for ranks in [2, 3] {
        let together = folder.path().join(format!("{ranks} ranks"));
        fs::create_dir(&together).unwrap();
        // Stopped after the first generation by rank 0, and on from there.
        assert!(start(ranks, &together, "stop").status.success());
        for said in said(ranks, &together) {
            assert!(said.starts_with("rank 0: evolve"), "{said}");
            assert!(said.contains("stopped after generation 0"), "{said}");
        }
        assert!(start(ranks, &together, "").status.success());
        let found = said(ranks, &together);
        let other = found.iter().filter(|&found| *found != expected).count();
        record(&format!("evolution on {ranks} ranks"), ranks, other);
        assert_eq!(found, vec![expected.clone(); ranks]);
        assert_eq!(told(&together), told(&alone));
    }
    Ok(())
}

#[test]
fn no_rank_waits_for_one_that_failed() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let checkpoint = folder.join("evolution.checkpoint");
    let mut failures = Vec::new();
    let troubles = [
        // Returned by both, the second being what rank 0 alone reads.
        ("settings", "rank 1: found other settings than rank 0's".to_owned()),
        ("checkpoint", format!("rank 0: {}, format version: found", checkpoint.display())),
        // What one rank alone knows of ends both.
        ("parameter", "rank 1: error: timesteps: found 0".into()),
        ("panic", "on purpose".into()),
    ];
    for (trouble, expected) in &troubles {
        fs::remove_file(&checkpoint).ok();
        if *trouble == "checkpoint" {
            fs::write(&checkpoint, "{").unwrap();
        }
        let ended = start(2, folder, trouble);
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let right = match ended.status.success() {
            true => (said(2, folder).iter()).all(|said| said.starts_with(expected)),
            // Of timeout, which killed ranks that hung.
            false => ended.status.code() != Some(124) && stderr.contains(expected),
        };
        if !right || ended.status.success() != matches!(*trouble, "settings" | "checkpoint") {
            failures.push(format!("{trouble}: {ended:?}"));
        }
    }
    record("rank that fails", troubles.len(), failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
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
        command.args(["reproduce", "digits", "--generations", "2"]);
        command.args(["--population", "1", "--margin", "2", "--out"]);
        let output = command.arg(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| !path.ends_with("timing.csv"));
        let mut files: Vec<_> = files
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        let out = String::from_utf8(output.stdout).unwrap();
        (files, out.lines().count())
    };
    let evospike = env!("CARGO_BIN_EXE_evospike");
    let alone = run(Command::new(evospike), "alone");
    let mut two = mpirun(2);
    two.arg(evospike);
    let together = run(two, "together");
    assert_eq!(alone.0.len(), 9); // five CSV files, the settings, three charts
    assert!(together == alone);
}
