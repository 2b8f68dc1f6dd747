//! Shards of a sweep in processes of their own, put together.

#[path = "common/reliability.rs"]
mod reliability;

use std::fs;
use std::process::Command;

use reliability::record;

#[test]
fn shards_of_several_processes_are_one_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let evospike = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
        command.current_dir(&folder);
        command
    };
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    };
    let train = ["train", "--net", "digits", "--epochs", "2", "--out", "model"];
    run(evospike().args(train));
    let sweep = || {
        let mut command = evospike();
        command.args(["sweep", "--net", "digits", "--model", "model", "--images", "100"]);
        command.args(["--percentile", "99,99.9", "--leak", "1,0.99", "--initial", "0,0.5"]);
        command.args(["--code", "direct,phase", "--timesteps", "24", "--margin", "2"]);
        command
    };
    run(sweep().args(["--out", "all.csv"]));
    let shards = [1, 2, 3].map(|k| {
        let (shard, out) = (format!("{k}/3"), format!("part-{k}.csv"));
        let mut command = sweep();
        command.args(["--shard", &shard, "--out", &out]);
        command.spawn().unwrap()
    });
    for mut shard in shards {
        assert!(shard.wait().unwrap().success());
    }
    let merge = ["sweep", "merge", "--out", "merged.csv"];
    run(evospike().args(merge).args(["part-3.csv", "part-1.csv", "part-2.csv"]));
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    let other = usize::from(read("merged.csv") != read("all.csv"));
    record("sweep in 3 shards", 1, other);
    assert_eq!(read("merged.csv"), read("all.csv"));
    assert_eq!(read("all.csv").lines().count(), 1 + 16);

    let missing = evospike().args(merge).arg("part-1.csv").output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2));
    assert!(said.starts_with("error: shards: found 6 of 16 combinations"), "{said}");
}
