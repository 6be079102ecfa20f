"""The run that the drill is about: a live teacher, every stage, votes of two people, an audit; seconds to make."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from quipwright.core.records import Judgment
from quipwright.core.storage.stage_cache import StageCache
from quipwright.data.run_summary import read_run
from quipwright.data.task import Task
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.ratings import Ratings
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.tiny_models import causal_network, tokenizer
from tests.drill.processes import NOTES, Ended, child, nothing, preload

THINGS = ("bus", "cat", "boss", "lift", "printer", "soup", "train", "phone")
LITERALS = [f"The {thing} in building {number} is broken again." for number in (1, 2, 3) for thing in THINGS]
CONCURRENCY = 4
RECIPE = """
name: tiny
data: {{path: {folder}/corpus.jsonl}}
teacher: {{kind: model, n: 2, model: {{kind: chat, model: m, base_url: "{url}", concurrency: {concurrency},
  capabilities: {{logprobs: 0}}}}}}
student: {{weights: {folder}/tiny, precision: fp32, tuning: full, context: 300}}
imitation: {{train: {{epochs: 12, batch_size: 8, micro_batch_size: 4, lr: 0.03, save_every: 6}}}}
candidates: {{k: 4, temperature: 1.0, top_p: 1.0, max_tokens: 40}}
select: {{kind: random}}
critic: {{kind: cloze, model: {{kind: local, weights: {folder}/tiny}}}}
rank: {{tie: 0.0, strength: 0.5}}
learn: {{train: {{epochs: 2, batch_size: 8, micro_batch_size: 4, lr: 0.0005, save_every: 1}}}}
evaluate: {{decode: {{beams: 2, max_tokens: 40}}, best_of: 0, base: false, resamples: 200}}
"""


@dataclass
class Drill:
    """The straight run in ``folder``, what it took by stage in ``seconds`` of processor time, and the outcomes so far.

    ``outcomes`` count (what, how, outcome); ``wrong`` describes those that must not be.
    """

    folder: Path
    server: FaultyServer
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The folder of the run that is damaged."""
        return self.folder / "run"

    @property
    def straight(self) -> Path:
        """The folder of the run that nothing happened to."""
        return self.folder / "straight"

    @property
    def made(self) -> Path:
        """The folder for what commands write elsewhere than in the run."""
        return self.folder / "made"

    def note(self, what: str, how: str, outcome: str, detail: str = "") -> None:
        """Count an ``outcome``; one with a ``detail`` is wrong, and is told at once."""
        self.outcomes[what, how, outcome] += 1
        if detail:
            self.wrong.append(f"{what}, {how}: {outcome}: {detail}")
            print(self.wrong[-1], file=sys.stderr, flush=True)

    def fresh(self) -> None:
        """Put the straight run in place."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.straight, self.run)

    def distil(self, before: Callable[[], None] = nothing) -> Ended:
        """Run the recipe."""
        return child(["distil", str(self.folder / "tiny.yaml"), "--run", str(self.run)], before)

    def result(self) -> str:
        """What the run in place holds for ever: its summary without times, its manifest, the hashes of its weights."""
        summary = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        summary.pop("stages")
        summary["spent"] = sum(spent["calls"] for spent in summary["spent"])
        manifest = json.loads((self.run / "manifest.json").read_text(encoding="utf-8"))
        for name in ("summary.json", "hash", "rated"):  # the summary holds times, and people vote later
            manifest.pop(name, None)
        weights = {path.name: _sha(path) for path in sorted(self.run.glob("stages/*/*.safetensors"))}
        return json.dumps([summary, manifest, weights], sort_keys=True)

    def stages(self) -> list[tuple[str, str]]:
        """The names of the straight run's stages with those of their folders, in the order in which they were made."""
        return [(stage.name, stage.folder) for stage in read_run(self.straight).stages]


@contextmanager
def drilled(folder: Path) -> Iterator[Drill]:
    """A drill in ``folder`` with its straight run made."""
    preload()
    with FaultyServer(_taught) as server:
        _write_inputs(folder, server.url)
        drill = Drill(folder, server)
        ended = drill.distil(clocked)
        if ended.code:
            raise RuntimeError(f"the straight run failed: {ended.err[-800:]}")
        begun = {**ended.notes, "": ended.seconds}
        starts = list(begun.values())
        drill.seconds = dict(zip(ended.notes, (b - a for a, b in pairwise(starts)), strict=True))
        _let_people_rate(drill.run)
        audited = child([*AUDIT, "--labels", str(drill.run / "ratings"), "--json", str(drill.run / "audit.json")])
        if audited.code:
            raise RuntimeError(f"the audit failed: {audited.err[-800:]}")
        shutil.move(drill.run, drill.straight)
        yield drill


AUDIT = ("audit", "--critic", "rule:longer")


def _taught(body: dict[str, Any]) -> str:
    """The teacher's list for the literal that it is asked about."""
    asked = body["messages"][-1]["content"]
    literal = next(text for text in LITERALS if text in asked)
    return f"1. {literal.replace('broken', 'on strike')}\n2. Breaking news: {literal.lower()}"


def _write_inputs(folder: Path, url: str) -> None:
    words = tokenizer(["<end>"], "$A", [*LITERALS, "on strike Plain: Funny: Breaking news: the"], 400,
                      eos_token="<end>", pad_token="<end>")  # fmt: skip
    words.save_pretrained(folder / "tiny")
    causal_network("llama", len(words), spread=0.02, positions=512).save_pretrained(folder / "tiny")
    splits = ["train"] * 16 + ["valid"] * 4 + ["test"] * 4
    rows = [{"literal": text, "split": split} for text, split in zip(LITERALS, splits, strict=True)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = RECIPE.format(folder=folder, url=url, concurrency=CONCURRENCY)
    (folder / "tiny.yaml").write_text(recipe, encoding="utf-8")


def _let_people_rate(run: Path) -> None:
    items = items_of_run(read_run(run).samples, ["feedback", "teacher"], list(Task.load().questions))
    ratings = Ratings.open(run / "ratings", items)
    for pair, item in ratings.items.items():
        for person in ("ann", "bo"):
            for question in item.questions:
                ratings.vote(Judgment(pair_id=pair, judge=f"human:{person}", verdict="A", question=question))
    ratings.close()


def clocked() -> None:
    """Note at how many seconds of processor time each stage begins."""
    announce, started = StageCache._announce, time.process_time()

    def announced(cache: StageCache, key: Any) -> None:
        announce(cache, key)
        NOTES[cache.current] = time.process_time() - started

    StageCache._announce = announced  # type: ignore[method-assign]


def hashes(folder: Path) -> str:
    """The files of ``folder`` with their hashes, as JSON."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return json.dumps([(str(path.relative_to(folder)), _sha(path)) for path in files])


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
