"""How long a person waits: from the start of a process to the shipped student's first token and first answer.

``python -m benchmarks.first_token`` prints seconds of processor time and of the clock for each part. One thread; run it
twice, for the first run fills the cache folder.
"""

from __future__ import annotations

import time
from typing import Any

SENTENCE = "My neighbour plays the trumpet at night."


class Clock:
    """Prints what has passed since the last line."""

    def __init__(self) -> None:
        """The first line counts from the start of the process, by processor time."""
        self.processor, self.wall = 0.0, time.perf_counter()

    def line(self, what: str) -> None:
        """``what`` took this long."""
        processor, wall = time.process_time(), time.perf_counter()
        print(f"{what:44s} {processor - self.processor:6.2f} s of the processor {wall - self.wall:6.2f} s", flush=True)
        self.processor, self.wall = time.process_time(), time.perf_counter()


def main() -> None:
    """Measure and print."""
    clock = Clock()
    import peft
    import torch
    import transformers

    from quipwright.core.records import Sampling
    from quipwright.serving.writer import Writer

    torch.set_num_threads(1)
    clock.line(f"imports (transformers {transformers.__version__}, peft {peft.__version__})")
    writer = Writer.load()
    clock.line("loading")
    student: Any = writer.student
    clock.line(f"opening the engine ({student.decoding.mode})")
    prompts = [writer.task.prompt(SENTENCE)]
    sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=16, seed=1)
    for title in ("first", "second"):
        waited: list[tuple[int, str]] = []

        def heard(number: int, text: str, title: str = title, waited: list[tuple[int, str]] = waited) -> None:
            if not waited:
                clock.line(f"first token of the {title} sampled text")
            waited.append((number, text))

        list(student.write(prompts, sampling, 1, heard))
        clock.line(f"the other {len(waited) - 1} tokens")
    writer.write(SENTENCE)
    clock.line("the answer of `write` (5 beams)")


if __name__ == "__main__":
    main()
