"""Python in processes of its own, for what must come before a backend has started."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
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


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens to."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("localhost", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def worker_configuration(index: int, ports: Sequence[int]) -> str:
    """`TF_CONFIG` of one of TensorFlow's workers, each of which has a port of this machine."""
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
