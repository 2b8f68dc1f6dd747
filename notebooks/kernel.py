"""Starts the Rust kernel where an earlier one left its compiled crates; `start` registers this.

Each kernel has a folder below .venv/share/evcxr, whose settings for cargo it takes: the first one
that no running kernel uses.
"""

import fcntl
import itertools
import os
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
    # The kernel holds the lock for as long as it runs, however it ends.
    os.set_inheritable(lock, True)
    os.environ["EVCXR_TMPDIR"] = str(folder)
    os.execv(command[0], command)
