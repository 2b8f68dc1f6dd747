"""Common parts of the benchmark scripts: evospike behind a pipe, tables, load of the machine."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """Process `cargo bench --bench BENCH -- serve ARGUMENTS`, which answers lines with JSON."""

    def __init__(self, bench, threads, arguments=()):
        command = ["cargo", "bench", "--quiet", "--bench", bench, "--", "serve", *arguments]
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)

    def ask(self, line):
        """Answer to a line, or None if the process has ended."""
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None


def warn_of_load():
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"load average {load:.1f}: whatever else runs here slows PyTorch's threads, which wait"
            " for each other, more than evospike's; take ratios from a quiet machine or with"
            " --threads 1",
            file=sys.stderr,
        )


def write_table(name, header, rows):
    """Prints the table and writes it to results/benchmarks."""
    file = ROOT / "results/benchmarks" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".tmp")  # complete under its name or not at all
    with beside.open("w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([header, *rows])
    beside.replace(file)
    table = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
