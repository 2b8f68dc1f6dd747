//! Kills a process again and again, and looks at what is left.

use super::checkpoint;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use evospike::random::{Stream, rng};
use rand::RngExt;
use serde_json::Value;

use super::reliability::record;

/// Of each work.
fn kills() -> usize {
    let kills = std::env::var("EVOSPIKE_KILLS");
    kills.map_or(1, |kills| kills.parse().unwrap())
}

/// Kills what `start` starts or resumes in a folder, each time at a random instant: whatever is
/// there is whole then, and what it ends with is what it ends with undisturbed, but for times.
pub fn killed_at_any_moment(work: &str, seed: u64, start: impl Fn(&Path) -> Command) {
    let folder = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let run = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        let mut command = start(folder);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let started = Instant::now();
    let ended = run(&whole).wait_with_output().unwrap();
    let length = started.elapsed();
    assert!(ended.status.success(), "{work}: {ended:?}");
    let whole = files(&whole, false).unwrap();

    let mut rng = rng(seed, Stream::Bootstrap);
    let (mut killed, mut ends, mut failures) = (0, 0, Vec::new());
    while killed < kills() || broken.exists() {
        let mut child = run(&broken);
        if killed < kills() {
            sleep(length.mul_f64(rng.random()));
            child.kill().unwrap();
        }
        let ended = child.wait_with_output().unwrap();
        let found = match (ended.status.signal(), ended.status.success()) {
            (Some(9), _) => {
                killed += 1;
                files(&broken, true).and_then(|found| is_part(&found, &whole))
            }
            (_, true) => {
                ends += 1;
                files(&broken, false).and_then(|found| is_whole(&found, &whole))
            }
            _ => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
        };
        if ended.status.signal() != Some(9) {
            fs::remove_dir_all(&broken).unwrap();
        }
        failures.extend(found.err());
    }
    println!("{work}: {killed} kills in {length:.1?}, {ends} ends, {failures:?}");
    record(&format!("kill -9, {work}"), killed, failures.len());
    assert!(failures.is_empty(), "{work}: {failures:#?}");
}

/// What a file says, without times.
#[derive(PartialEq)]
enum Content {
    Rows(Vec<Vec<String>>),
    Json(Value),
    /// That training goes on from.
    Checkpoint(Vec<u8>),
    Other(Vec<u8>),
}

type Files = BTreeMap<String, Content>;

/// The files of a folder; an error where one is not whole. Left out is what holds times only, and
/// where the process was killed what is hidden and called incomplete or a lock.
fn files(folder: &Path, killed: bool) -> Result<Files, String> {
    let mut all = Files::new();
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let left = name.ends_with("incomplete") || name.ends_with("lock");
        if killed && name.starts_with('.') && left || name == "timing.csv" {
            continue;
        }
        if path.is_dir() {
            let inside = files(&path, killed)?.into_iter();
            all.extend(inside.map(|(inner, content)| (format!("{name}/{inner}"), content)));
            continue;
        }
        let content = content(&name, fs::read(&path).unwrap());
        all.insert(name.clone(), content.map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(all)
}

fn content(name: &str, bytes: Vec<u8>) -> Result<Content, Box<dyn std::error::Error>> {
    if bytes.first() == Some(&b'{') {
        return Ok(Content::Json(serde_json::from_slice(&bytes)?));
    }
    if let Some((_, [])) = checkpoint::parts(&bytes) {
        let said = checkpoint::said(&bytes).ok_or("no checkpoint")?;
        let mut said: Value = serde_json::from_str(&said)?;
        said["state"].as_object_mut().map(|state| state.remove("seconds"));
        return Ok(Content::Json(said));
    }
    match name.rsplit('.').next() {
        Some("csv") => {
            let mut reader = csv::Reader::from_reader(&*bytes);
            let header = reader.headers()?.clone();
            let row = |row: csv::Result<csv::StringRecord>| {
                let row = row?;
                let cells = header.iter().zip(&row);
                let cells = cells.filter(|(name, _)| !name.ends_with("seconds"));
                Ok(cells.map(|(_, cell)| cell.to_owned()).collect())
            };
            let rows = reader.records().map(row).collect::<csv::Result<_>>()?;
            match bytes.ends_with(b"\n") {
                true => Ok(Content::Rows(rows)),
                false => Err("ends within a row".into()),
            }
        }
        Some("checkpoint") => {
            safetensors::SafeTensors::deserialize(&bytes)?;
            Ok(Content::Checkpoint(bytes))
        }
        _ => Ok(Content::Other(bytes)),
    }
}

/// What an interrupted run left is some of the whole: results as they will be, and what it goes on
/// from as it once was.
fn is_part(found: &Files, whole: &Files) -> Result<(), String> {
    let differs = |(name, found): &(&String, &Content)| match (*found, whole.get(*name)) {
        (Content::Checkpoint(_), Some(Content::Checkpoint(_))) => false,
        (Content::Rows(found), Some(Content::Rows(whole))) if *name == "sweep.csv" => {
            found.iter().any(|row| !whole.contains(row))
        }
        (Content::Json(found), Some(Content::Json(whole))) if found["state"]["told"].is_array() => {
            let told = |said: &Value| said["state"]["told"].as_array().cloned().unwrap_or_default();
            found["identity"] != whole["identity"] || !told(whole).starts_with(&told(found))
        }
        (found, whole) => Some(found) != whole,
    };
    match found.iter().find(differs) {
        Some((name, _)) => Err(format!("{name}: not part of the whole")),
        None => Ok(()),
    }
}

/// All is there as in an uninterrupted run, and nothing else.
fn is_whole(found: &Files, whole: &Files) -> Result<(), String> {
    let mut names = found.keys().chain(whole.keys());
    if let Some(name) = names.find(|name| found.get(*name) != whole.get(*name)) {
        return Err(format!("{name}: another one than without a break"));
    }
    Ok(())
}
