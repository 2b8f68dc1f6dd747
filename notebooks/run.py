"""Runs notebooks headless, each from a fresh kernel, from top to bottom; `start` calls this.

Fails where a cell fails that is not tagged `raises-exception`, where one that is does not, and where
one shows text in place of a chart or a table.
"""

import argparse
import re
import sys
import time
from pathlib import Path
from queue import Empty

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbclient.util import run_sync

HERE = Path(__file__).resolve().parent


def hear(client, cell, number):
    """What the kernel says of a cell only after it said that it was done."""
    while True:
        try:
            message = run_sync(client.kc.get_iopub_msg)(timeout=0.3)
        except Empty:
            return
        client.process_message(message, cell, number)


def run(notebook):
    """What is wrong with it, and the seconds of every code cell."""
    client = NotebookClient(
        notebook, timeout=3600, kernel_name="rust", resources={"metadata": {"path": HERE}}
    )
    seconds = []
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            start = time.monotonic()
            try:
                client.execute_cell(cell, number)
                seconds.append(time.monotonic() - start)
                hear(client, cell, number)
            except CellExecutionError as error:
                said = "".join(output.get("text", "") for output in cell.outputs)
                return f"cell {number}: {error}\n{said}", seconds
            tagged = "raises-exception" in cell.metadata.get("tags", [])
            # What `?` returns from a cell, or a panic says, is on standard error only.
            said = [output.text for output in cell.outputs if output.get("name") == "stderr"]
            failed = said or any(output.output_type == "error" for output in cell.outputs)
            if tagged and not failed:
                return f"cell {number} is tagged raises-exception and did not fail", seconds
            if failed and not tagged:
                return f"cell {number}: {''.join(said)}", seconds
            # evcxr writes a chart as text where the last expression moves a variable of the cell, and
            # a table where it is of the first variable of a kernel, made in the same cell.
            for data in (output.get("data", {}) for output in cell.outputs):
                if re.match(r"chart: |.*: \d+ rows$", data.get("text/plain", "")) and len(data) == 1:
                    return f"cell {number} shows {data['text/plain']} as text", seconds
    return None, seconds


def notebook(name):
    """Path of a notebook, named from here or from this folder."""
    for path in [Path(name), HERE / name]:
        if path.is_file():
            return path
    raise argparse.ArgumentTypeError(f"no file {name}, nor {HERE / name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--warm", action="store_true", help="compile what notebooks need")
    what.add_argument("--check", action="store_true", help="run, and change nothing")
    what.add_argument("--execute", action="store_true", help="run, and keep the output")
    parser.add_argument("notebooks", nargs="*", type=notebook, help="all, unless some are named")
    arguments = parser.parse_args()
    if arguments.warm:
        empty = nbformat.v4.new_notebook()
        source = ':dep evospike = { path = ".." }\nuse evospike::prelude::*;'
        empty.cells.append(nbformat.v4.new_code_cell(source))
        wrong, _ = run(empty)
        sys.exit(wrong)
    wrongs = []
    for path in arguments.notebooks or sorted(HERE.glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        wrong, seconds = run(book)
        cells = " ".join(f"{s:.1f}" for s in seconds)
        print(f"{path.name}: {wrong or 'as it should be'}; seconds a cell: {cells}", flush=True)
        if wrong:
            wrongs.append(path.name)
        elif arguments.execute:
            for cell in book.cells:
                cell.metadata.pop("execution", None)
            nbformat.write(book, path)
    sys.exit(f"failed: {', '.join(wrongs)}" if wrongs else None)


if __name__ == "__main__":
    main()
