//! What cannot be written to: a full disk, a read-only folder, a folder that another process or user
//! writes, a file system without locks; and how files get to where they can.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
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
const DIGITS: &[&str] = &[
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
    "--out",
];

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

/// A library that replaces functions of the system, for `LD_PRELOAD`; none without a C compiler.
#[cfg(target_os = "linux")]
fn interposed(folder: &Path) -> Option<std::path::PathBuf> {
    let library = folder.join("interposed.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/interposed.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let compiled = compiler.output().is_ok_and(|output| output.status.success());
    if !compiled {
        println!("skipped: no C compiler");
    }
    compiled.then_some(library)
}

/// Network and container file systems have no locks, and say so in many ways.
#[cfg(target_os = "linux")]
#[test]
fn without_locks_it_writes_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = interposed(folder.path()) else {
        return;
    };
    // ENOLCK, EINVAL, EIO, EPERM, EACCES, ENOSYS, EOPNOTSUPP
    let numbers = ["37", "22", "5", "1", "13", "38", "95"];
    let held = numbers.map(|number| {
        let out = folder.path().join(number).join("mlp");
        let mut command = Command::new(EVOSPIKE);
        command.args(TRAIN).arg(&out);
        command.env("LD_PRELOAD", &library).env("EVOSPIKE_TEST_FLOCK", number);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let warned = said.lines().filter(|line| line.starts_with("warning: ")).count();
        let there = files(out.parent().unwrap()).contains_key("mlp");
        if !(output.status.success() && warned == 1 && there) {
            println!("{number}: {said}");
        }
        output.status.success() && warned == 1 && there
    });
    let failed = held.iter().filter(|held| !**held).count();
    record("file system without locks", held.len(), failed);
    assert_eq!(failed, 0, "{held:?}");
}

/// Every file is on the disk before it has its name, and then its name is.
#[cfg(target_os = "linux")]
#[test]
fn files_reach_the_disk_before_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = interposed(folder.path()) else {
        return;
    };
    let results = folder.path().join("results");
    let out = results.join("mlp");
    let mut files = 0;
    for (arguments, out) in [(TRAIN, &out), (DIGITS, &results)] {
        let log = folder.path().join("log");
        let mut command = Command::new(EVOSPIKE);
        command.args(arguments).arg(out);
        command.env("LD_PRELOAD", &library).env("EVOSPIKE_TEST_LOG", &log);
        assert!(command.output().unwrap().status.success());
        let log = fs::read_to_string(log).unwrap();
        let lines: Vec<(&str, &str)> = log.lines().map(|l| l.split_once(' ').unwrap()).collect();
        let (mut on_disk, mut renamed) = (BTreeSet::new(), 0);
        for (i, &(what, path)) in lines.iter().enumerate() {
            match what {
                "from" => assert!(on_disk.contains(path), "{path} is not on the disk"),
                "to" => {
                    let folder = Path::new(path).parent().unwrap().to_str().unwrap();
                    let named = lines[i..].contains(&("sync", folder));
                    assert!(named, "{path} has no name on the disk");
                    renamed += 1;
                }
                _ => (),
            }
            on_disk.insert(path); // under its old name or its new one
        }
        assert!(renamed > 3, "{log}");
        files += renamed;
        // The folder, which the first made, has its own name on the disk too.
        let above = folder.path().to_str().unwrap();
        assert!(files > renamed || lines.contains(&("sync", above)), "{log}");
    }
    record("files on the disk before their names", files, 0);
}

/// The command as a user who may not write to read-only folders, which root may.
fn unprivileged(folder: &Path) -> Command {
    let program = folder.join("evospike");
    // By another process: what other threads start meanwhile would hold the copy open for writing,
    // and could make it too busy to run.
    if !program.exists() {
        let copied = Command::new("cp").arg(EVOSPIKE).arg(&program).status();
        assert!(copied.unwrap().success());
    }
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

/// Whoever cannot write to another user's lock sees all the same that it is held.
#[test]
fn the_lock_of_another_user_is_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let mut as_other = unprivileged(folder.path());
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !root || !as_other.arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: only root can write as two users");
        return;
    }
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    fs::set_permissions(&results, fs::Permissions::from_mode(0o777)).unwrap();
    let out = results.join("mlp");
    let mut first = Command::new(EVOSPIKE);
    first.args(["train", "--net", "mlp", "--epochs", "4000", "--out"]).arg(&out);
    let mut first = first.stderr(Stdio::null()).spawn().unwrap();
    let (checkpoint, lock) = (results.join("mlp.checkpoint"), results.join(".mlp.checkpoint.lock"));
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = || unprivileged(folder.path()).args(TRAIN).arg(&out).output().unwrap();
    let mut held = vec![told(&second(), &["mlp.checkpoint: another process"])];
    let allow = |mode| fs::set_permissions(&lock, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o600); // as nobody can read it, nobody can know
    held.push(told(&second(), &[".mlp.checkpoint.lock: another user's lock"]));
    allow(0o644);
    first.kill().unwrap();
    first.wait().unwrap();
    fs::remove_file(&checkpoint).unwrap();
    // As if it had been killed while it wrote the checkpoint, as it sometimes is.
    fs::write(results.join(".mlp.checkpoint.incomplete"), "half").unwrap();
    held.push(lock.exists() && second().status.success());
    let failed = held.iter().filter(|held| !**held).count();
    record("lock of another user", held.len(), failed);
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
