"""Python in a process of its own, for what must come before a backend has started."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras


def run_script(script: str, **environment: str) -> str:
    """What a script prints, run in the repository on the backend of the tests.

    Args:
        script: its source; it may be indented.
        **environment: variables besides.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), **environment},
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
