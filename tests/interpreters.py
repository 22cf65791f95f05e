"""Interpreters for a script each, forked from one that has imported torch and nothing of this package: to import torch
takes longer than most scripts that a test runs on their own."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SERVER = """
import json, os, sys, tempfile
import torch

for line in sys.stdin:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = 0
            try:
                exec(compile(json.loads(line), "<script>", "exec"), {"__name__": "__main__"})
            except BaseException:
                sys.excepthook(*sys.exc_info())
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        print(json.dumps([status, out.read(), err.read()]), flush=True)
"""


class Outcome(NamedTuple):
    """What a script ended with: 0, or 1 after an exception, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@functools.cache
def server() -> subprocess.Popen[str]:
    """Return the interpreter that the others are forked from, of this process; it ends with it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def forked(script: str) -> Outcome:
    """Run a script where torch has been imported and nothing of this package."""
    process = server()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(script) + "\n")
    process.stdin.flush()
    return Outcome(*json.loads(process.stdout.readline()))
