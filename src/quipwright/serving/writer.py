"""A trained student at work: one sentence in, paraphrases out; or a file of them, streamed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipwright.core.errors import RunError, WeightsError
from quipwright.core.paths import resolve
from quipwright.core.records import Response, Sampling, content_hash
from quipwright.core.storage.files import read_object
from quipwright.core.storage.run_folder import recipe_dir_of
from quipwright.core.storage.seals import check_export
from quipwright.core.text import degenerate, is_copy, normalise
from quipwright.data.care.judgment import sensitive_kinds
from quipwright.data.task import Task
from quipwright.serving.declined import Declined, given_back
from quipwright.serving.origins import fetched, sealed_weights
from quipwright.serving.prompt_template import wrapping
from quipwright.students.base import Generated, Student, StudentSettings
from quipwright.students.common import STUDENT_FILE, WEIGHTS_FILE
from quipwright.students.load import open_merged, open_student, read_settings
from quipwright.students.peft_files import ADAPTER_CONFIG, ADAPTER_FILE, load_peft, peft_settings
from quipwright.students.weights import known_sha256

if TYPE_CHECKING:  # takes long to import, and only the best of several texts needs it
    from quipwright.critics.reward_model.critic import RewardModelCritic

SHIPPED = "shipped"
"""The reference of the student that ships."""
TASK_FILE = "task.json"
"""What an export holds beside its weights."""
BEAMS, MAX_TOKENS = 5, 48
"""How one text is written: that many beams, that many tokens at most."""


@dataclass
class Writer:
    """A student with its task; :meth:`load` opens one.

    ``critic`` ranks several samples where the best of them are asked for (default: the critic that ships). ``seed`` is
    that of the samples, ``max_tokens`` the limit of one text. ``folder``: where its weights were read from; the ones it
    started from are seen from ``recipe_dir``. ``allow_sensitive``: it writes on every sentence, whatever it is about.
    """

    student: Student
    task: Task
    name: str = "student"
    critic: RewardModelCritic | None = None
    seed: int = 0
    max_tokens: int = MAX_TOKENS
    folder: Path | None = None
    recipe_dir: Path | None = None
    allow_sensitive: bool = False

    @classmethod
    def load(cls, reference: str | Path = SHIPPED, student: str | None = None, *, settled: bool = False) -> Writer:
        """The student that ``reference`` names: ``shipped``, ``RUN``, ``RUN:STUDENT``, an export's folder, or a hub id.

        ``student`` names one of a run's (default: the last one trained). ``settled``: it only writes from here on
        (``Student.settle``), and is opened sooner. Raises :class:`RunError` where a run is not finished or has no such
        student, :class:`DamagedError` where its weights are not those that were trained, and :class:`WeightsError` where
        there is nothing to load.
        """
        if reference == SHIPPED:
            return cls._of_export(resolve("bundled:student", "Student"), SHIPPED, settled)
        folder, named = run_and_student(reference)
        if is_run(folder):
            return cls.of_run(folder, student or named, settled=settled)
        if student is not None:
            raise RunError(f"{reference} is no run, so it has no student {student!r}.", "Leave --student out.")
        if folder.is_dir():
            return cls._of_export(folder, folder.resolve().name, settled)
        return cls._of_export(fetched(str(reference)), str(reference), settled)

    @classmethod
    def of_run(cls, folder: Path, name: str | None = None, *, settled: bool = False) -> Writer:
        """A student of a finished run; see :meth:`load`."""
        from quipwright.data.run_summary import read_run

        summary = read_run(folder)
        chosen = name or list(summary.checkpoints)[-1]
        if chosen not in summary.checkpoints:
            raise RunError(f"{folder} has no student {chosen!r}.", f"It has: {', '.join(summary.checkpoints)}.")
        task = Task.parse(summary.task, str(folder))
        settings = StudentSettings.model_validate(summary.recipe["student"])
        weights = sealed_weights(folder, chosen, summary.checkpoints[chosen])
        student = _opened(settings, task, recipe_dir_of(folder), weights / WEIGHTS_FILE, settled)
        name = f"{folder.resolve().name}:{chosen}"
        return cls(student, task, name, folder=weights, recipe_dir=recipe_dir_of(folder))

    @classmethod
    def _of_export(cls, folder: Path, name: str, settled: bool = False) -> Writer:
        """An export: an adapter with its settings, ours or PEFT's, or a folder of merged weights; read through its seal where
        it has one."""
        check_export(folder)
        task = Task.load()
        if (folder / TASK_FILE).exists():
            task = Task.parse(read_object(folder / TASK_FILE), str(folder / TASK_FILE))
        settings = _settings_of_export(folder)
        files = (folder / WEIGHTS_FILE, folder / ADAPTER_FILE)
        trained = next((file for file in files if file.exists()), None)
        student = _opened(settings, task, folder, trained, settled)
        return cls(student, task, name, folder=folder, recipe_dir=folder)

    def fingerprint(self) -> str:
        """What the trained weights are known by."""
        files = sorted(self.folder.glob("*.safetensors")) if self.folder is not None else []
        return content_hash([known_sha256(path) for path in files])

    def write(self, sentence: str, *, n: int = 1, best_of: int = 0, style: str = "") -> list[str]:
        """``n`` paraphrases of ``sentence``, best first; see :meth:`write_all`.

        A sensitive sentence comes back alone, as a :class:`Declined`.
        """
        return self.write_all([sentence], n=n, best_of=best_of, style=style)[0]

    def write_all(self, sentences: Sequence[str], *, n: int = 1, best_of: int = 0, style: str = "") -> list[list[str]]:
        """``n`` paraphrases of each sentence, in their order; see :meth:`stream`."""
        texts = dict(self.stream(sentences, n=n, best_of=best_of, style=style))
        return [
            [Declined(g.text, g.declined) if g.declined else g.text for g in texts[i]] for i in range(len(sentences))
        ]

    def sensitive(self, sentences: Sequence[str]) -> list[str]:
        """What makes each of ``sentences`` one that must not be joked about; "" where nothing does, or all are allowed."""
        allowed = self.allow_sensitive or self.task.allow_sensitive
        return [""] * len(sentences) if allowed else sensitive_kinds(sentences)

    def stream(
        self, sentences: Sequence[str], *, n: int = 1, best_of: int = 0, style: str = ""
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Each sentence's number and its ``n`` paraphrases, as they are written: the 5-beam answer for one, nucleus samples
        for several. Hand over all sentences: they are written together. A sensitive one is given back as it came.

        With ``best_of`` that many samples are drawn and the critic's ``n`` best are returned, best first; copies of the
        sentence, degenerate texts and those that the limit cut off come last. A single answer that the limit cuts off is
        written once more with four times the room. What is still cut off then ends in an ellipsis.
        ``style`` is one of the task's, its default if empty. Raises :class:`DataError` at once where a sentence leaves no
        room, or the student was trained on no such style.
        """
        kinds = self.sensitive(sentences)
        kept = [i for i, kind in enumerate(kinds) if not kind]
        back = ((i, [given_back(sentences[i], kind)]) for i, kind in enumerate(kinds) if kind)
        written = self._written([sentences[i] for i in kept], n, best_of, self.task.style_named(style))
        return chain(back, ((kept[i], texts) for i, texts in written))

    def _written(
        self, sentences: Sequence[str], n: int, best_of: int, style: str
    ) -> Iterator[tuple[int, list[Generated]]]:
        drawn, prompts = max(n, best_of), self._prompts(sentences, style)
        if not sentences:
            return iter(())
        if drawn == 1:
            beams = Sampling(beams=BEAMS, max_tokens=self.max_tokens)
            return self._whole(prompts, self.student.write(prompts, beams))
        if drawn > n and self.critic is None:
            self.critic = shipped_critic()
        critic = self.critic if drawn > n else None
        sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=self.max_tokens, seed=self.seed)
        written = self.student.write(prompts, sampling, drawn + drawn // 2)
        return ((i, list(map(marked, chosen(sentences[i], texts, n, drawn, critic)))) for i, texts in written)

    def _whole(
        self, prompts: Sequence[str], written: Iterator[tuple[int, list[Generated]]]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """``written``, those that the limit cut off once more with more room, as far as the context has it."""
        cut: list[tuple[int, list[Generated]]] = []
        for place, texts in written:
            if texts[0].truncated:
                cut.append((place, texts))
            else:
                yield place, texts[:1]
        again = [prompts[place] for place, _ in cut]
        longest = max((len(self.student.prompt_ids(prompt)) for prompt in again), default=0)
        room = min(4 * self.max_tokens, self.student.settings.context - longest)
        if cut and room > self.max_tokens:
            for number, texts in self.student.write(again, Sampling(beams=BEAMS, max_tokens=room)):
                yield cut[number][0], [marked(texts[0])]
        else:
            yield from ((place, [marked(texts[0])]) for place, texts in cut)

    def answers(self, sentences: Sequence[str]) -> list[Generated]:
        """The 5-beam answer to each sentence, in the default style."""
        sampling = Sampling(beams=BEAMS, max_tokens=self.max_tokens)
        return [texts[0] for texts in self.student.generate(self._prompts(sentences), sampling)]

    def _prompts(self, sentences: Sequence[str], style: str = "") -> list[str]:
        return [self.task.prompt(normalise(sentence), style) for sentence in sentences]


def chosen(
    literal: str, texts: Sequence[Generated], n: int, drawn: int, critic: RewardModelCritic | None
) -> list[Generated]:
    """The ``n`` best of at most ``drawn`` distinct ``texts``: sound and whole ones first, by ``critic`` where there is one."""
    distinct = list({g.text: g for g in reversed(texts)}.values())[::-1]
    sound = [g for g in distinct if is_sound(g.text, literal) and not g.truncated]
    candidates = (sound + [g for g in distinct if g not in sound])[:drawn]
    if critic is not None:
        responses = [Response(example_id="", text=g.text, author="student") for g in candidates]
        grades = critic.grade([literal] * len(responses), responses)
        score = {r.text: g.score for r, g in zip(responses, grades, strict=True) if g.score is not None}
        candidates.sort(key=lambda g: (g not in sound, -score.get(g.text, -math.inf)))
    return candidates[:n]


def marked(generated: Generated) -> Generated:
    """``generated`` with an ellipsis where the limit cut it off."""
    return replace(generated, text=f"{generated.text}…") if generated.truncated else generated


def is_sound(text: str, literal: str) -> bool:
    """Whether ``text`` is a paraphrase at all: no copy of ``literal``, not empty or degenerate."""
    return not degenerate(text, literal) and not is_copy(text, literal)


def _opened(settings: StudentSettings, task: Task, base: Path | None, trained: Path | None, settled: bool) -> Student:
    """The student of ``settings`` with what was ``trained``, if anything was beside the weights that it starts from."""
    student = None
    if settled and trained is not None:
        student = open_merged(settings, trained, task.student_chat, base)
    if student is None:
        student = open_student(settings, task.student_chat, base)
        if trained is None and task.student_chat:  # our template makes the prompt itself; here the task does
            student.tokenizer.chat_template = student.tokenizer.chat_template.removeprefix(wrapping(task))
        if trained is not None and trained.name == WEIGHTS_FILE:
            student.load(trained.parent)
        elif trained is not None:
            load_peft(student, trained.parent)
    if settled:
        student.settle()
    return student


def _settings_of_export(folder: Path) -> StudentSettings:
    if (folder / STUDENT_FILE).exists():
        return read_settings(folder)
    if (folder / ADAPTER_CONFIG).exists():
        return peft_settings(folder)
    if any(folder.glob("*.gguf")):
        raise WeightsError(
            f"{folder} holds GGUF files.", "llama.cpp, Ollama and LM Studio read them; see its README.md."
        )
    if not (folder / "config.json").exists():
        raise WeightsError(
            f"{folder} is neither a run nor an export: it has no summary.json, {STUDENT_FILE} or config.json.",
            "Name the folder of a finished run, or make an export: quipwright export RUN DIR.",
        )
    config = read_object(folder / "config.json")
    kind: Any = "seq2seq" if config.get("is_encoder_decoder") else "causal"
    precision: Any = "bf16" if (config.get("dtype") or config.get("torch_dtype")) == "bfloat16" else "fp32"
    return StudentSettings(kind=kind, weights=str(folder), tuning="full", precision=precision)


def is_export(folder: Path) -> bool:
    """Whether ``folder`` holds a student without its run."""
    return any((folder / name).exists() for name in (STUDENT_FILE, ADAPTER_CONFIG, "config.json"))


def run_and_student(reference: str | Path) -> tuple[Path, str | None]:
    """The folder in ``RUN`` or ``RUN:STUDENT``, and the student where one is named."""
    folder, colon, student = str(reference).rpartition(":")
    return (Path(folder), student) if colon and is_run(folder) else (Path(reference), None)


def is_run(reference: str | Path) -> bool:
    """Whether ``reference`` is the folder of a run."""
    folder = Path(reference)
    return (folder / "summary.json").exists() or (folder / "manifest.json").exists()


def shipped_trainer() -> str:
    """How the critic signs that learnt from the verdicts which the shipped student was trained on."""
    from quipwright.critics.reward_model.card import read_card
    from quipwright.critics.reward_model.critic import RewardModelConfig

    folder = resolve(RewardModelConfig().path, "Critic")
    return read_card(folder).signature(folder)


def shipped_critic() -> RewardModelCritic:
    """The critic that ships, for ``best_of``."""
    from quipwright.critics.reward_model.critic import RewardModelConfig

    return RewardModelConfig().load()
