"""A real llama.cpp server with the embedded GGUF or another, for as long as its standard input stays open.

``python -m quipwright.testing.llama_server [FILE]`` prints the server's address. It is a process of its own, so that what the
tests speak to is HTTP and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def llama_server(model: Path | None = None) -> Iterator[str]:
    """The base URL of a running server of the GGUF file ``model``, by default the embedded one."""
    command = [sys.executable, "-m", "quipwright.testing.llama_server", *([str(model)] if model else [])]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"{process.stdout.readline().strip()}/v1"
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def main() -> None:
    """Serve until standard input ends. The context is shared out among the slots."""
    import xllamacpp

    from quipwright.students.weights import embedded_gguf

    settings = xllamacpp.CommonParams()
    settings.model.path = sys.argv[1] if len(sys.argv) > 1 else str(embedded_gguf())
    settings.n_ctx, settings.n_parallel, settings.port = 4096, 2, 0
    # More threads spin while they wait for each other, which costs more than it gains where cores are few.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
