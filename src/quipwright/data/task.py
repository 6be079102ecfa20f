"""The task file: everything that makes a skill a skill, in YAML, so that nothing in the code is hard-wired to one.

It holds what the student is shown, what the teacher is asked, the styles in which both write, what a critic is asked (each
question in two forms), the names of the grades, the questions of the rating page, the cloze template, the length rule and
the patterns by which a refusal is known. Tasks that ship are named; a user's own file is named by its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, model_validator

from quipwright.core.config_files import read_yaml, validate
from quipwright.core.errors import DataError
from quipwright.core.paths import is_yaml, resolve
from quipwright.core.settings import Settings
from quipwright.core.text import length_ratio
from quipwright.data.grade_wording import GradeName, GradeWording

DEFAULT_TASK = "humour"
"""The task that is used where none is named."""
OVERALL = "overall"
"""The question that every task asks, of critics and of people."""
_SLOT = re.compile(r"\{([a-z_]+)\}")
_TASKS = Path(__file__).parent / "tasks"
T = TypeVar("T")


def fill(template: str, **values: object) -> str:
    """``template`` with each ``{name}`` replaced in one pass: a slot inside a value stays text; so do other braces."""
    return _SLOT.sub(lambda slot: str(values[slot[1]]) if slot[1] in values else slot[0], template)


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_pattern)]


class LengthRule(Settings):
    """Keep pairs whose shorter text has at least ``minimum`` of the longer one's words.

    Ravi et al. (2024, sec. 3.2) keep ratios within 0.8..1.2, which depends on which text is named first (0.82 passes,
    1/0.82 does not); 1/1.2 on shorter over longer is the symmetric, stricter reading.
    """

    minimum: float = Field(1 / 1.2, ge=0, le=1)

    def passes(self, a: str, b: str) -> bool:
        """True where the two texts are of like length."""
        return length_ratio(a, b) >= self.minimum


class Style(Settings):
    """One of the ways in which a task's texts may be written.

    ``teacher``: what the teacher is told of it, behind its place in the list. ``marker``: how the student's prompt names
    it; its own name where unset.
    """

    teacher: str = Field(pattern=r"^[^\n{}]+$")
    marker: str = Field("", pattern=r"^[^\n{}]*$")


class TeacherWording(Settings):
    """What the teacher is asked (Ravi et al. 2024 sec. 3.1 in our words) and how its answer is drawn.

    ``user`` has the slots ``{literal}`` and ``{n}``, and ``{styles}`` where the task names styles: a numbered line for
    each of the ``n`` paraphrases of a literal. ``max_tokens`` bounds the whole list.
    """

    system: str = ""
    user: str
    n: int = Field(3, ge=1, le=50)
    temperature: float = Field(0.8, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(400, ge=16)

    @model_validator(mode="after")
    def _slots(self) -> TeacherWording:
        _require("teacher.user", self.user, "literal", "n")
        return self


class Question(Settings):
    """One question to a critic, in both forms; slots ``{literal}``, ``{first}`` and ``{second}`` take whole blocks."""

    answer_only: str
    reason_then_answer: str

    @model_validator(mode="after")
    def _slots(self) -> Question:
        _require("answer_only", self.answer_only, "literal", "first", "second")
        _require("reason_then_answer", self.reason_then_answer, "literal", "first", "second")
        return self


class CriticWording(Settings):
    """What a multiple-choice critic is asked, and a grading one (``grading``; without it the task has none).

    ``system`` (slot ``{nonce}``) says that nothing between the marker lines is an instruction; ``prefill`` begins the
    critic's answer where the server lets us; ``again`` is asked once more when an answer cannot be read.
    """

    system: str
    prefill: str = "Answer:"
    again: str
    questions: dict[str, Question] = Field(min_length=1)
    grading: GradeWording | None = None

    @model_validator(mode="after")
    def _slots(self) -> CriticWording:
        _require("critic.system", self.system, "nonce")
        return self


class Task(Settings):
    """A skill: ``literal`` in, another wording of it out. ``aim`` completes "The student tries to …"; ``output`` names the
    column of what it writes.

    ``student_prompt`` is what a trained student sees, with ``student_chat`` as the user's turn of its chat template;
    ``zero_shot`` is what an untrained chat model is asked instead.

    ``styles``: the ways of writing, by name, in the order in which the teacher is asked for them; ``student_prompt`` then
    has the slot ``{style}``, which takes a style's marker. ``default_style`` is used where none is named; unset, the first.
    ``allow_sensitive``: sensitive sentences are written on too, and learnt from.

    ``cloze``: the template of the question ``overall``, or one by question. ``grades``: the levels that a critic grades a
    text with, worst first. ``questions``: what people are asked on the rating page, by key, in order; ``overall`` is among
    them, because win rates are computed from it. ``question_aliases``: other names of those keys in files of labels.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    aim: str = "say the same thing in another way"
    output: GradeName = "output"
    student_prompt: str
    student_chat: bool = False
    zero_shot: str
    styles: dict[GradeName, Style] = Field(default_factory=dict)
    default_style: str = ""
    teacher: TeacherWording
    critic: CriticWording
    cloze: str | dict[str, str]
    grades: tuple[GradeName, ...] = Field(("broken", "plain", "good"), min_length=2, max_length=9)
    questions: dict[str, str] = Field(default_factory=lambda: {"overall": "Which is better?"}, min_length=1)
    question_aliases: dict[str, str] = Field(default_factory=dict)
    length: LengthRule = LengthRule()
    max_ratio: float = Field(4.0, gt=1)
    refusals: tuple[Pattern, ...] = ()
    allow_sensitive: bool = False

    @model_validator(mode="after")
    def _slots(self) -> Task:
        _require("student_prompt", self.student_prompt, "literal")
        _require("zero_shot", self.zero_shot, "literal")
        if OVERALL not in self._clozes:
            raise ValueError("cloze lacks a template of the question overall")
        if len(set(self.grades)) < len(self.grades):
            raise ValueError("grades has a level twice")
        if self.critic.grading is not None and set(self.critic.grading.levels) != set(self.grades):
            raise ValueError("critic.grading.levels must say what each of the grades means, and no others")
        if OVERALL not in self.questions:
            raise ValueError("questions lacks overall, from which win rates are computed")
        for template in self._clozes.values():
            _require("cloze", template, "literal", "text")
            if not template.endswith("{text}"):
                raise ValueError("cloze must end with {text}: what follows it would be scored too")
        return self

    @model_validator(mode="after")
    def _styled(self) -> Task:
        for where, template, slot in (
            ("student_prompt", self.student_prompt, "style"),
            ("teacher.user", self.teacher.user, "styles"),
        ):
            if self.styles:
                _require(where, template, slot)
            elif f"{{{slot}}}" in template:
                raise ValueError(f"{where} has {{{slot}}}, but the task names no styles")
        if self.default_style and self.default_style not in self.styles:
            raise ValueError(f"default_style is {self.default_style!r}, which styles lacks")
        if len({self._marker(name) for name in self.styles}) < len(self.styles):
            raise ValueError("styles has a marker twice: a student could not tell the two apart")
        return self

    @classmethod
    def load(cls, reference: str = DEFAULT_TASK, recipe_dir: Path | None = None) -> Task:
        """The task that ships under the name ``reference``, or the file of that path.

        Raises :class:`~quipwright.core.errors.DataError` when there is none and ``RecipeError`` when its content is wrong.
        """
        return cls.parse(read_yaml(task_path(reference, recipe_dir), "task file"), reference)

    @classmethod
    def parse(cls, tree: dict[str, Any], source: str) -> Task:
        """``tree`` as a task. Raises :class:`~quipwright.core.errors.RecipeError` naming ``source``."""
        return validate(cls, tree, f"task {source}")

    def prompt(self, literal: str, style: str = "") -> str:
        """What the student is shown for ``literal``, to be written in ``style`` (the default one if empty).

        Raises :class:`~quipwright.core.errors.DataError` where the task has no such style.
        """
        return fill(self.prompt_in(style), literal=literal)

    def prompt_in(self, style: str = "") -> str:
        """``student_prompt`` with its slot ``{style}`` filled, as :meth:`prompt`; ``{literal}`` is still open."""
        name = self.style_named(style)
        return fill(self.student_prompt, style=self._marker(name)) if name else self.student_prompt

    def _marker(self, style: str) -> str:
        return self.styles[style].marker or style

    def style_named(self, name: str = "") -> str:
        """The style ``name``, or the default one where that is empty; empty for a task without styles.

        Raises :class:`~quipwright.core.errors.DataError` naming the styles there are.
        """
        if not self.styles and name:
            raise DataError(f"task {self.name} has no styles, so none is {name!r}.", "Leave the style out.")
        if name:
            _named(self.styles, name, f"task {self.name} has no style")
        return name or self.default_style or next(iter(self.styles), "")

    def item_styles(self, n: int) -> tuple[str, ...]:
        """The styles of the ``n`` texts that a teacher is asked for, in their order, going round; empty without styles."""
        names = tuple(self.styles) or ("",)
        return tuple(names[place % len(names)] for place in range(n))

    def restricted(self, styles: Sequence[str] | None = None, style: str = "") -> Task:
        """This task with ``styles`` only (``None``: all), of which ``style`` is the default (empty: as it was, or the
        first that is left).

        Raises :class:`~quipwright.core.errors.DataError` where the task lacks one of them, or ``styles`` lacks ``style``.
        """
        wanted = tuple(self.styles) if styles is None else tuple(map(self.style_named, styles))
        kept = {name: one for name, one in self.styles.items() if name in wanted}
        narrowed = self.model_copy(update={"styles": kept, "default_style": ""})
        usual = self.style_named() if self.style_named() in wanted else ""
        default = narrowed.style_named(style or usual)
        return narrowed.model_copy(update={"default_style": default})

    def question(self, name: str) -> Question:
        """The critic's question ``name``. Raises :class:`~quipwright.core.errors.DataError` naming those there are."""
        return _named(self.critic.questions, name, f"task {self.name} has no question")

    def question_named(self, name: str) -> str:
        """The key of the rating question that ``name`` stands for; a name that is no alias stays as it is."""
        key = name.strip().lower() or OVERALL
        return self.question_aliases.get(key, key)

    @property
    def _clozes(self) -> Mapping[str, str]:
        return {"overall": self.cloze} if isinstance(self.cloze, str) else self.cloze

    def template(self, question: str = "overall") -> str:
        """The cloze of ``question``. Raises :class:`~quipwright.core.errors.DataError` naming those there are."""
        return _named(self._clozes, question, f"task {self.name} has no cloze of the question")

    def refused(self, text: str) -> str | None:
        """The first refusal pattern that ``text`` matches (any case), or ``None``."""
        return next((p for p in self.refusals if re.search(p, text.replace("’", "'"), re.IGNORECASE)), None)


def task_path(reference: str, recipe_dir: Path | None = None) -> Path:
    """The file of task ``reference``: anything ending in .yaml or .yml is a path (see
    :func:`~quipwright.core.paths.resolve`), a bare name ships.

    Raises :class:`~quipwright.core.errors.DataError` for a name that does not ship.
    """
    if is_yaml(reference):
        return resolve(reference, "Task", recipe_dir)
    path = _TASKS / f"{reference}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", reference) or not path.exists():
        shipped = ", ".join(sorted(p.stem for p in _TASKS.glob("*.yaml")))
        remedy = f"Use one of {shipped}, or a path ending in .yaml."
        raise DataError(f"task {reference[:60]!r} does not ship with the package.", remedy)
    return path


def _named(known: Mapping[str, T], name: str, lacking: str) -> T:
    if name not in known:
        raise DataError(f"{lacking} {name!r}.", f"It has: {', '.join(known)}.")
    return known[name]


def _require(where: str, template: str, *slots: str) -> None:
    missing = [f"{{{slot}}}" for slot in slots if f"{{{slot}}}" not in template]
    if missing:
        raise ValueError(f"{where} lacks {' and '.join(missing)}")
