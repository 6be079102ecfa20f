"""The arrows of the flow, one method each: what it reads, under which key its result is kept, and what it calls.

``distil`` says in which order; this module says how. Models are loaded when an arrow first needs them, so that a
finished run is read back without loading any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import TeacherError, TrainingError
from quipwright.core.metrics import Metrics
from quipwright.core.paths import resolve
from quipwright.core.progress import bar, console
from quipwright.core.records import (
    Checkpoint,
    Comparison,
    Example,
    Grade,
    Judgment,
    Pair,
    Ranking,
    Record,
    Response,
    SequenceScore,
    content_hash,
    ids_hash,
)
from quipwright.core.settings import identity_of
from quipwright.core.storage.files import file_sha256, write_atomic
from quipwright.core.storage.run_folder import Chunks, RunFolder
from quipwright.critics.base import Critic
from quipwright.critics.combine import by_pair, require_readable
from quipwright.critics.config import CriticConfig
from quipwright.critics.copy_filter import CopyFilter
from quipwright.critics.reward_model.critic import FromGrades
from quipwright.data.task import Task, fill
from quipwright.data.teacher import ModelTeacher, Yield
from quipwright.llm.request_batching import CHUNK, Window, asked_at_once, chunks, some_answered, why_unanswered
from quipwright.pipeline.recipe import Learning, Recipe
from quipwright.pipeline.runtime import Judge, Models
from quipwright.students.base import Prompted
from quipwright.students.common import WEIGHTS_FILE
from quipwright.students.scoring import Reference, score_rows
from quipwright.training.early_stopping import ValidationCallback
from quipwright.training.loop import measured, train
from quipwright.training.objectives import BRIO, MLE
from quipwright.training.preference.candidates import AnyCandidates, DecodeSettings, round_seed, sampled
from quipwright.training.preference.pairs import (
    AnySelector,
    acceptance,
    copies_last,
    select,
)
from quipwright.training.preference.ranking import chained, copy_losers, rank
from quipwright.training.preference.rows import ranked_rows
from quipwright.training.settings import TrainSettings, total_steps

_LOG = "log.jsonl"


@dataclass
class Stages:
    """One run's arrows over its folder. ``probe`` measures whatever is trained while it is set; ``taught`` is
    what a live teacher's answers came to; ``selected``: what each selection let through (see :func:`acceptance`)."""

    recipe: Recipe
    run: RunFolder
    base: Path
    notes: list[str] = field(default_factory=list)
    probe: ValidationCallback | None = None
    taught: Yield | None = None
    selected: dict[str, dict[str, int]] = field(default_factory=dict)
    _labelling: Sequence[Comparison] = ()
    _grades: dict[str, Grade] = field(default_factory=dict)
    _targets: Sequence[Prompted] = ()

    def __post_init__(self) -> None:
        """Opens the stream of figures first: a tracker that cannot start must not cost a training."""
        recipe = self.recipe
        self.models = Models(recipe, self.run, self.base)
        self.run.record("base", str(self.base.resolve()))
        opened = Metrics.open(self.run.path, recipe.name, recipe.track, recipe.model_dump(mode="json"))
        self.metrics = self.run.resources.enter_context(opened)

    @property
    def task(self) -> Task:
        """The task file."""
        return self.models.task

    # --- phase 1 -----------------------------------------------------------------------------------------------------

    def teach(self, examples: Sequence[Example]) -> dict[str, list[Response]]:
        """Example -> the teacher's responses, by example id."""
        settings = self.recipe.teacher
        if isinstance(settings, ModelTeacher):
            return self._ask(settings, examples)

        def work(start: int) -> Iterator[list[Response]]:
            recording = settings.open(self.base)
            author = f"teacher:{settings.name}"
            for example in examples[start:]:
                texts = recording.require(example.text)
                yield [Response(example_id=example.id, text=text, author=author) for text in texts]

        path = resolve(settings.path, "Recorded teacher", self.base)
        return by_example(self.run.rows("teach", Response, [settings, _sha(path), ids_hash(examples)], work))

    def _ask(self, settings: ModelTeacher, examples: Sequence[Example]) -> dict[str, list[Response]]:
        """A live teacher's responses; what it refused or we could not use stays on record with its reason."""

        def work(start: int) -> Iterator[list[Response]]:
            teacher = settings.build(self.models.calls, self.task)

            def ask(part: Sequence[Example]) -> list[Response]:
                taught = teacher.teach(part)
                return [*taught.responses, *taught.drops]

            self.models.note()
            with bar("teach", len(examples), "literals", done=CHUNK * start) as step:
                yield from chunks(
                    examples, start, ask, lambda e: e.id, lambda r: r.example_id, step, asked_at_once(settings)
                )

        found = self.run.rows(
            "teach",
            Response,
            [identity_of(settings), self.task.teacher, self.task.refusals, ids_hash(examples)],
            work,
            some_answered,
            lambda rows: self._tell_yield(len(examples), rows),
        )
        self._unanswered("teach", found)
        taught = by_example([r for r in found if r.usable])
        if not taught:
            raise TeacherError(
                f"None of {len(examples)} literals got a usable paraphrase: {Yield.of(len(examples), found).line()}.",
                "Read the reasons in arrows/teach-*.",
            )
        return taught

    def _tell_yield(self, asked: int, rows: Sequence[Response]) -> None:
        self.taught = Yield.of(asked, rows)
        console.print(f"Teacher: {self.taught.line()}.", markup=False, highlight=False, soft_wrap=True)

    def imitate(self, examples: Sequence[Example], taught: Mapping[str, Sequence[Response]]) -> Checkpoint:
        """MLE on all paraphrases of a literal at once -> checkpoint 0."""
        rows = [self._prompted(e, taught[e.id]) for e in examples if e.split == "train" and e.id in taught]
        held = [self._prompted(e, taught[e.id]) for e in examples if e.split == "valid" and e.id in taught]
        how = self.recipe.imitation
        self._targets = rows
        return self._trained("imitate", None, rows, how.objective, how.train, round=0, validation=held)

    # --- phase 2 -----------------------------------------------------------------------------------------------------

    def sample(
        self,
        name: str,
        student: Checkpoint,
        examples: Sequence[Example],
        how: AnyCandidates | DecodeSettings,
        round: int = 1,
    ) -> dict[str, list[Response]]:
        """Examples -> k attempts (or one decoded answer) each, by example id; each ``round`` draws fresh numbers."""
        seed = round_seed(self.recipe.seed, round)
        chunks = sampled(
            lambda: self.models.student(student),
            f"student:{student.id}",
            self.task.prompt,
            examples,
            how,
            seed,
            name,
        )
        key = [student.id, how, seed, self.task.student_prompt, ids_hash(examples)]
        return by_example(self.run.rows(name, Response, key, chunks))

    def zero_shot(self, name: str, examples: Sequence[Example], how: DecodeSettings) -> dict[str, list[Response]]:
        """The untrained weights' answers to the task's zero-shot request."""

        def prompt(literal: str) -> str:
            text = fill(self.task.zero_shot, literal=literal)
            tokenizer = self.models.untrained.tokenizer
            if self.task.student_chat:
                return text  # the student wraps it itself
            if not tokenizer.chat_template:
                return text + "\n"
            turns = [{"role": "user", "content": text}]
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

        settings = self.recipe.student
        chunks = sampled(lambda: self.models.untrained, "student:base", prompt, examples, how, self.recipe.seed, name)
        key = [settings.weights, settings.revision, settings.precision, how, self.task.zero_shot, ids_hash(examples)]
        return by_example(self.run.rows(name, Response, key, chunks))

    def grade(self, name: str, examples: Mapping[str, Example], responses: Sequence[Response]) -> dict[str, Grade]:
        """The grader's absolute reading of each response, by response id (with all it read before)."""
        responses = [r for r in responses if r.id not in self._grades]  # nothing is read twice
        parts = [responses[i : i + 96] for i in range(0, len(responses), 96)]

        def work(start: int) -> Iterator[list[Grade]]:
            grader = self.models.grader
            with bar(name, len(responses), "texts", done=96 * start) as step:
                for part in parts[start:]:
                    yield grader.grade([examples[r.example_id].text for r in part], part)
                    step(len(part))

        key = self.models.readings_key(self.recipe.scorer) if self.recipe.scorer else self.models.critic_key
        rows = self.run.rows(name, Grade, [key, ids_hash(responses), ids_hash(examples.values())], work)
        self._grades |= {grade.response_id: grade for grade in rows}
        return self._grades

    def select(
        self,
        round: int,
        examples: Sequence[Example],
        attempts: Mapping[str, Sequence[Response]],
        grades: Mapping[str, Grade],
        how: AnySelector | None = None,
    ) -> list[Pair]:
        """Which pairs to judge; by the recipe's selector unless ``how`` names another. Puts down what it let through."""
        name = f"select-{round}"
        recipe, length, selector = self.recipe, self.task.length, how or self.recipe.select
        graded = {response_id: grade.score for response_id, grade in grades.items()}
        scores = copies_last(graded, examples, attempts) if recipe.copies_lose else graded

        def work(start: int) -> Iterator[list[Pair]]:
            yield select(selector, examples, attempts, scores or None, length, round=round, seed=recipe.seed)

        sampled_ids = ids_hash(r for own in attempts.values() for r in own)
        key = [selector, length, round, recipe.seed, sampled_ids, ids_hash(grades.values())]
        key += ["copies last"] if scores != graded else []
        found = self.run.rows(name, Pair, key, _once(work))
        self.selected[name] = acceptance(attempts, found, length)
        return found

    def judge(self, name: str, compared: Sequence[Comparison], by: Judge | None = None) -> list[Judgment]:
        """Pairs -> judgments of the critic, or of ``by``."""
        if by is not None:
            return self._judged(name, compared, lambda: by.critic, by.settings, by.key)
        self._labelling = self._labelling or compared  # the first pairs of a run are those of its first round

        def reader() -> Critic:
            self.models.train_critic(self._labelling)
            graded = self.recipe.scorer is None and all(
                c.pair.a_id in self._grades and c.pair.b_id in self._grades for c in compared
            )
            return FromGrades(self.models.critic.name, self._grades) if graded else self.models.critic

        return self._judged(name, compared, reader, self.recipe.critic, self.models.critic_key)

    def _judged(
        self,
        name: str,
        compared: Sequence[Comparison],
        reader: Callable[[], Critic],
        settings: CriticConfig,
        readings_key: Sequence[Any],
    ) -> list[Judgment]:
        def work(start: int) -> Iterator[list[Judgment]]:
            opened = reader()
            critic: Critic = CopyFilter(opened) if self.recipe.copies_lose else opened
            self.models.note()
            # what the labels of a critic that is trained here leave open is read by its reward model, without a call
            window = Window() if settings.trained_in_run else asked_at_once(settings)
            with bar(name, len(compared), "pairs", done=CHUNK * start) as step:
                yield from chunks(compared, start, critic.judge, lambda c: c.pair.id, lambda j: j.pair_id, step, window)

        key = [readings_key, self.recipe.copies_lose, [[c.pair.id, c.literal, c.a, c.b] for c in compared]]
        found = self.run.rows(name, Judgment, key, work, some_answered)
        self._unanswered(name, found)
        return found

    def _unanswered(self, name: str, rows: Sequence[Response | Judgment]) -> None:
        """Put down how many ``rows`` of arrow ``name`` no model answered."""
        if count := sum(bool(why_unanswered(row)) for row in rows):
            self.run.unanswered[name] = self.run.unanswered.get(name, 0) + count

    def rank(self, round: int, pairs: Sequence[Pair], judgments: Sequence[Judgment]) -> list[Ranking]:
        """Judgments -> rankings; ties and weak margins stay on record as judgments only."""
        require_readable(judgments)
        of_pair = by_pair(judgments)

        def work(start: int) -> Iterator[list[Ranking]]:
            rule, grades = self.recipe.rank, self._grades
            found = [r for pair in pairs if (r := rank(pair, of_pair.get(pair.id, []), rule, grades)) is not None]
            yield chained(found) if pairs and pairs[0].selector == "list" else found

        key = [self.recipe.rank, ids_hash(pairs), ids_hash(judgments)]
        if self.recipe.rank.broken < 1:
            key += [ids_hash(g for pair in pairs for i in (pair.a_id, pair.b_id) if (g := self._grades.get(i)))]
        return self.run.rows(f"rank-{round}", Ranking, key, _once(work))

    def learn(
        self,
        round: int,
        parent: Checkpoint,
        examples: Mapping[str, Example],
        responses: Mapping[str, Response],
        rankings: Sequence[Ranking],
        *,
        taught: Mapping[str, Sequence[Response]] | None = None,
        reference: Checkpoint | None = None,
        how: Learning | None = None,
    ) -> Checkpoint:
        """Preference training from ``parent``. The log-probabilities of ``reference`` (``parent`` unless named) are
        computed once and stored. ``taught``: the teacher's responses, one of which anchors each row where asked."""
        how, frozen = how or self.recipe.learn, reference or parent
        if not rankings:
            raise TrainingError(
                f"Round {round} has no pair with a usable verdict to learn from.",
                "Sample more literals (feedback), lower rank.strength, raise rank.broken, or train the imitation student longer.",
            )
        extra, literals = copy_losers(rankings, examples, responses, how.copy_share, self.recipe.seed + round)
        texts = {**responses, **{r.id: r for r in literals}}
        used = [*rankings, *extra]
        rows, ordered = ranked_rows(self.prompt, examples, texts, used, (taught or {}) if how.anchored else {})
        scores = self._reference(round, frozen, rows, ordered) if how.objective.needs_reference else None
        return self._trained(
            f"learn-{round}", parent, rows, how.objective, how.train, round=round, reference=scores,
            frozen=frozen if scores is not None and frozen.id != parent.id else None,
        )  # fmt: skip

    def absorb(
        self, round: int, parent: Checkpoint, examples: Sequence[Example], chosen: Mapping[str, Sequence[Response]]
    ) -> Checkpoint:
        """MLE from ``parent`` on the ``chosen`` responses (by example id) of those examples that have any."""
        rows = [self._prompted(e, own) for e in examples if (own := chosen.get(e.id))]
        how = self.recipe.learn
        return self._trained(f"learn-{round}", parent, rows, how.objective, how.train, round=round)

    def _reference(
        self, round: int, parent: Checkpoint, rows: Sequence[Prompted], ordered: Sequence[Sequence[Response]]
    ) -> Reference:
        def work(start: int) -> Iterator[list[SequenceScore]]:
            with bar(f"reference-{round}", len(rows), "pairs") as step:
                scored = score_rows(self.models.student(parent), rows, self.recipe.learn.train.micro_batch_size, step)
            yield [
                SequenceScore(response_id=r.id, checkpoint_id=parent.id, total=float(total), tokens=int(tokens))
                for own, totals, counts in zip(ordered, scored.total, scored.tokens, strict=True)
                for r, total, tokens in zip(own, totals, counts, strict=False)
            ]

        key = [
            parent.id,
            self.task.student_prompt,
            [row.prompt for row in rows],
            [[r.id for r in own] for own in ordered],
        ]
        found = iter(self.run.rows(f"reference-{round}", SequenceScore, key, _once(work)))
        width = max(map(len, ordered), default=0)
        total, tokens = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
        for i, own in enumerate(ordered):
            for j in range(len(own)):
                score = next(found)
                total[i, j], tokens[i, j] = score.total, score.tokens
        return Reference(total, tokens)

    def warn(self, who: str, complaints: Sequence[str]) -> None:
        """Note in what ``who`` degenerated on the validation split."""
        for complaint in complaints:
            self.notes.append(f"{who} degenerates on the validation split: {complaint}.")
            console.print(self.notes[-1])

    def prompt(self, example: Example) -> str:
        """What the student is shown for ``example``."""
        return self.task.prompt(example.text)

    def _prompted(self, example: Example, responses: Sequence[Response]) -> Prompted:
        return Prompted(self.prompt(example), tuple(r.text for r in responses))

    def _trained(
        self,
        name: str,
        parent: Checkpoint | None,
        rows: Sequence[Prompted],
        objective: Any,
        settings: TrainSettings,
        *,
        round: int,
        validation: Sequence[Prompted] = (),
        reference: Reference | None = None,
        frozen: Checkpoint | None = None,
    ) -> Checkpoint:
        """Train from ``parent``. ``frozen``: whose scores ``reference`` holds, where it is not ``parent``."""
        recipe, probe = self.recipe, self.probe
        settings_hash = content_hash(recipe.student, objective, settings, recipe.seed)
        # rows without ranks of their own hash as they did before rows could carry any
        ranked = [[r.prompt, r.responses, *([r.ranks] if r.ranks else [])] for r in [*rows, *validation]]
        data_hash = content_hash(ranked, *(["chat"] if self.task.student_chat else []))

        def logged(entry: Mapping[str, float]) -> None:
            self.metrics.add(name, round, int(entry["step"]), {k: v for k, v in entry.items() if k != "step"})

        def build(folder: Path) -> dict[str, Any]:
            student = self.models.to_train(parent)
            scaled = measured(objective, student, self._targets or rows)  # lambda is of the run, not of a round's pairs
            with bar(name, total_steps(len(rows), settings), "steps") as step:
                log = train(
                    student, rows, scaled, settings, folder, seed=recipe.seed + round,
                    reference=reference, validation=validation, callback=probe, step_done=step, logged=logged,
                )  # fmt: skip
            student.save(folder)
            write_atomic(folder / _LOG, "".join(json.dumps(entry) + "\n" for entry in log.steps))
            return {
                "rows": len(rows),
                "losses": [round_to(entry["loss"]) for entry in log.steps],
                "validation": [round_to(value) for value in log.validation],
                **({"mean_length": scaled.mean_length} if isinstance(scaled, BRIO) else {}),
                **({"readings": [asdict(point) for point in log.points]} if probe else {}),
            }

        key = [
            settings_hash,
            data_hash,
            parent.id if parent else None,
            *([probe.settings, *probe.key] if probe else []),
        ]
        key += ["reference", frozen.id] if frozen else []
        folder, facts = self.run.built(name, key, build)
        self.run.log(name, facts)
        for entry in _entries(folder, facts):  # the arrow may have been made by another run that shares it
            logged(entry)
        for found in facts.get("readings", ()):
            self.warn(f"Round {round}, step {found['number']},", found["issues"])
        return Checkpoint(
            path=folder.name,
            student=recipe.student.weights,
            objective="mle" if isinstance(objective, MLE) else str(objective.kind),
            round=round,
            parent_id=parent.id if parent else None,
            settings_hash=settings_hash,
            data_hash=data_hash,
            weights_hash=file_sha256(folder / WEIGHTS_FILE)[:16],
        )


def by_example(responses: Sequence[Response]) -> dict[str, list[Response]]:
    """Responses by example id, in order."""
    found: dict[str, list[Response]] = {}
    for response in responses:
        found.setdefault(response.example_id, []).append(response)
    return found


def round_to(value: float, digits: int = 5) -> float:
    """``value`` with so many digits behind the point: enough for a curve."""
    return round(value, digits)


def _entries(folder: Path, facts: Mapping[str, Any]) -> list[dict[str, float]]:
    """The training log of a finished checkpoint; of one that has none, the losses among its ``facts``."""
    if (folder / _LOG).exists():
        return [json.loads(line) for line in (folder / _LOG).read_text(encoding="utf-8").splitlines()]
    return [{"step": step, "loss": loss} for step, loss in enumerate(facts["losses"], 1)]


def _sha(path: Path) -> str:
    return file_sha256(path) if path.is_file() else ""


def _once(work: Callable[[int], Iterator[Sequence[Record]]]) -> Chunks:
    """An arrow of a single chunk: nothing to do where it was written."""
    return lambda start: work(start) if start == 0 else iter(())
