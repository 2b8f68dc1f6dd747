"""How busy the cores are in each step of a command, from its start to its end.

Needs Linux and Python alone. From the repository root, with the command after `--`:

    cargo build --release
    python tests/benchmarks/trace.py -- target/release/evospike reproduce neurons ...

A step ends where the command says so on standard error, and took as long as it says; what lies
between two steps, or before the first, such as reading the images, has rows of its own. A
step that says how far it is has a row each time, from its beginning.
Ten times a second the processor time of the command is read from `/proc`. Each step's seconds, its mean number
of busy cores and the longest time in which at least one core was idle for half of it or more go to
`results/benchmarks/trace.csv`.
"""

import argparse
import os
import re
import subprocess
import threading
import time

from common import warn_of_load, write_table

INTERVAL = 0.1


def busy_seconds(process):
    """Processor time, in seconds, that a process took so far."""
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    arguments = parser.parse_args()
    warn_of_load()
    cores = len(os.sched_getaffinity(0))
    ended, samples = [], []
    start = time.perf_counter()
    child = subprocess.Popen(arguments.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def read():
        # A line is written when its step has ended, so that a step lasts from the line before.
        for line in child.stderr:
            now, line = time.perf_counter() - start, line.decode(errors="replace").strip()
            told = re.match(r"(.*): \d+/\d+, ([\d.]+) s", line)
            name, seconds = told.groups() if told else (line, 0)
            # What came before the step itself, such as reading images, told nothing.
            ended.append((now - float(seconds), f"before {name}"))
            ended.append((now, name))

    reader = threading.Thread(target=read)
    reader.start()
    while child.poll() is None:
        try:
            samples.append((time.perf_counter() - start, busy_seconds(child.pid)))
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(INTERVAL)
    reader.join()
    if child.wait() != 0:
        raise SystemExit(f"the command ended with code {child.returncode}")

    loads = [
        (after, (busy - busy_before) / (after - before))
        for (before, busy_before), (after, busy) in zip(samples, samples[1:])
    ]
    rows, begin = [], 0.0
    for end, name in ended:
        own = [(at, load) for at, load in loads if begin < at <= end]
        # The clock of processor time ticks a hundred times a second, so that one sample errs by a tenth.
        longest, since = 0.0, None
        for at, load in own:
            if load > cores - 0.5:
                since = None
            else:
                since = at - INTERVAL if since is None else since
                longest = max(longest, at - since)
        if own and end - begin >= 0.2:
            mean = sum(load for _, load in own) / len(own)
            rows.append((name, f"{end - begin:.1f}", f"{mean:.2f}", f"{longest:.1f}"))
        begin = end
    write_table("trace.csv", ("step", "seconds", "busy_cores", "longest_idle_seconds"), rows)
    print(f"{cores} cores")


if __name__ == "__main__":
    main()
