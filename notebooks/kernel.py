"""Starts the Rust kernel where an earlier one left its compiled crates; `start` registers this.

Each kernel has a folder below .venv/share/evcxr, whose settings for cargo it takes: the first one
that no running kernel uses. A new one begins with a copy of another.
"""

import fcntl
import itertools
import os
import shutil
import sys
from pathlib import Path

folders, *command = sys.argv[1:]
for number in itertools.count(1):
    folder = Path(folders, str(number))
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        continue
    others = [other.parent for other in Path(folders).glob("*/target")]
    if others and folder not in others:
        try:
            shutil.copytree(others[0], folder, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
        except shutil.Error:
            pass  # of files that its kernel was just replacing: cargo makes them anew
    # The kernel holds the lock for as long as it runs, however it ends.
    os.set_inheritable(lock, True)
    os.environ["EVCXR_TMPDIR"] = str(folder)
    os.execv(command[0], command)
