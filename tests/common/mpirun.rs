//! Tests on ranks of Open MPI.

use std::process::Command;

/// `mpirun` of some ranks; killed, and so failed, where they hang.
pub fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("timeout");
    command.args(["300", "mpirun", "-n", &ranks.to_string()]);
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command.env("RAYON_NUM_THREADS", "1");
    command
}

/// Whether there is an `mpirun`; without it there is nothing to test.
pub fn ready() -> bool {
    let there = mpirun(1).arg("true").output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: mpirun is missing, or does not start processes");
    }
    there
}
