//! What cannot be written to: a full disk, a read-only folder, a folder that another process writes.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::reliability::record;

mod common {
    pub mod reliability;
}

const EVOSPIKE: &str = env!("CARGO_BIN_EXE_evospike");
const TRAIN: &[&str] = &["train", "--net", "mlp", "--epochs", "3", "--out"];
const DIGITS: &[&str] =
    &["--generations", "1", "--population", "1", "--timesteps", "16", "--margin", "5", "--out"];

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.path().is_file());
    let named = files.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    named.collect()
}

/// It failed in one line that names the place.
fn told(output: &Output, expected: &[&str]) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().last().unwrap_or_default();
    let told = output.status.code() == Some(1)
        && error.starts_with("error: ")
        && expected.iter().all(|part| error.contains(part));
    if !told {
        println!("expected {expected:?}: {output:?}");
    }
    told
}

/// Files may not grow beyond some size, which fails a write in its middle as a full disk does.
#[test]
fn a_full_disk_keeps_the_last_good_state() {
    let folder = tempfile::tempdir().unwrap();
    let limited = |kib: u32, arguments: &[&str], out: &Path| {
        let mut command = Command::new("bash");
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
        command.args(["-c", &script, "bash", EVOSPIKE]).args(arguments);
        command.arg(out).output().unwrap()
    };
    let mut held = Vec::new();
    let out = folder.path().join("mlp");
    for kib in [0, 1, 20] {
        held.push(told(&limited(kib, TRAIN, &out), &["mlp.checkpoint: File too large"]));
        held.push(files(folder.path()).is_empty());
    }
    // The checkpoint is whole and stays so; what no longer fits is named.
    let whole = Command::new(EVOSPIKE).args(TRAIN).arg(&out).output().unwrap();
    held.push(whole.status.success());
    let good = files(folder.path());
    fs::remove_file(&out).unwrap();
    held.push(told(&limited(1, TRAIN, &out), &["mlp: File too large"]));
    held.push(files(folder.path()).into_iter().all(|(name, bytes)| good[&name] == bytes));
    let again = Command::new(EVOSPIKE).args(TRAIN).arg(&out).output().unwrap();
    held.push(again.status.success() && files(folder.path()) == good);

    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    fs::write(results.join("latency.csv"), "old").unwrap();
    held.push(told(&limited(1, DIGITS, &results), &["results", "File too large"]));
    held.push(files(&results) == BTreeMap::from([("latency.csv".into(), b"old".into())]));
    let failed = held.iter().filter(|held| !**held).count();
    record("full disk", held.len(), failed);
    assert_eq!(failed, 0, "{held:?}");
}

/// The command as a user who may not write to read-only folders, which root may.
fn unprivileged(folder: &Path) -> Command {
    let program = folder.join("evospike");
    fs::copy(EVOSPIKE, &program).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if root {
        command.uid(65_534).gid(65_534); // nobody
    }
    command
}

#[test]
fn a_read_only_folder_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let version = unprivileged(folder.path()).arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: no user here but root may run the command");
        return;
    }
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    let out = results.join("mlp");
    let run = |arguments: &[&str], out: &Path| {
        let mut command = unprivileged(folder.path());
        command.args(arguments).arg(out).output().unwrap()
    };
    let allow = |mode| fs::set_permissions(&results, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let mut held = vec![
        told(&run(TRAIN, &out), &["mlp.checkpoint: Permission denied"]),
        told(&run(DIGITS, &results), &["results: Permission denied"]),
        files(&results).is_empty(),
    ];
    allow(0o777);
    held.push(run(TRAIN, &out).status.success());
    let good = files(&results);
    allow(0o555);
    // The finished checkpoint is read all the same.
    held.push(told(&run(TRAIN, &out), &["mlp: Permission denied"]));
    held.push(files(&results) == good && good.len() == 2);
    allow(0o755);
    let failed = held.iter().filter(|held| !**held).count();
    record("read-only folder", held.len(), failed);
    assert_eq!(failed, 0, "{held:?}");
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mlp");
    let long = ["train", "--net", "mlp", "--epochs", "400", "--out"];
    let results = folder.path().join("results");
    let mut held = Vec::new();
    for (arguments, out, there, named) in [
        (&long[..], &out, "mlp.checkpoint", "mlp.checkpoint"),
        (DIGITS, &results, "results/.incomplete", "results"),
    ] {
        let command = || {
            let mut command = Command::new(EVOSPIKE);
            command.args(arguments).arg(out);
            command
        };
        let mut first = command().stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while !folder.path().join(there).exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "no {there}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let busy = format!("{named}: another process or notebook cell is writing there");
        held.push(told(&command().output().unwrap(), &[&busy]));
        first.kill().unwrap();
        first.wait().unwrap();
        held.push(command().output().unwrap().status.success());
    }
    let hidden = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with('.')).count()
    };
    held.push(hidden(folder.path()) + hidden(&results) == 0);
    let failed = held.iter().filter(|held| !**held).count();
    record("second process", held.len(), failed);
    assert_eq!(failed, 0, "{held:?}");
}
