"""A run in styles: what the student is trained on, in which style it tries and is evaluated, and what it remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quipwright.core.errors import DataError, TeacherError
from quipwright.core.records import Example, Pair, Response
from quipwright.data.examples import load_data, load_examples
from quipwright.pipeline.checks import check_inputs
from quipwright.pipeline.recipe import load_recipe
from quipwright.pipeline.stages.teach import of_style, teach
from quipwright.pipeline.stages.train import prompted
from quipwright.serving.export.folder import export
from quipwright.serving.writer import Writer
from quipwright.testing.recipes import LITERALS, write_recipe
from quipwright.testing.runs import run, run_context

STYLES = ("short", "tag", "free")


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_weights: Path, tiny_critic: Path) -> Path:
    """A recipe on a corpus of all three styles; the last literal has no tag."""
    corpus = tmp_path / "styled.jsonl"
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    rows = []
    for literal, split in zip(LITERALS, splits, strict=True):
        start = literal.rstrip(".")
        texts = [
            f"Briefly: {start.lower()}.",
            f"{start}, and nobody was surprised.",
            f"Breaking news: {start.lower()}.",
        ]
        styles = [*STYLES] if literal != LITERALS[-1] else ["short", "free", "free"]
        rows.append({"literal": literal, "split": split, "humorous": texts, "styles": styles})
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_recipe(tmp_path, tiny_weights, tiny_critic, corpus)


def test_every_style_is_a_row_and_the_default_comes_first(recipe_file: Path, tmp_path: Path) -> None:
    recipe, base = load_recipe(str(recipe_file))
    examples = load_examples(recipe.data, base)
    with run_context(recipe, tmp_path / "run", base) as ctx:
        taught = teach(ctx, recipe.teacher, examples).responses
        assert [r.style for r in taught[examples[0].id]] == ["tag", "short", "free"]
        assert [r.style for r in taught[examples[-1].id]] == ["short", "free", "free"]
        rows = prompted(ctx, [examples[0], examples[-1]], taught)
        assert [(row.prompt.splitlines()[1], len(row.responses)) for row in rows] == [
            ("Funny tag:", 1), ("Funny short:", 1), ("Funny free:", 1), ("Funny short:", 1), ("Funny free:", 2),
        ]  # fmt: skip
        assert len(of_style(taught, "tag")) == 11


def test_a_recipe_chooses_styles_and_is_told_of_those_there_are_not(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, base = load_recipe(str(recipe_file), ["styles=[free, short]", "style=free"])
    examples = load_examples(recipe.data, base)
    with run_context(recipe, tmp_path / "run", base) as ctx:
        taught = teach(ctx, recipe.teacher, examples).responses
        assert [r.style for r in taught[examples[0].id]] == ["free", "short"]
        assert ctx.task.prompt("It rained.") == "Plain: It rained.\nFunny free:"
    assert "Left out: 11 texts of the recorded teacher (style tag)." in capsys.readouterr().err
    for sets, told in (
        (["styles=[tag, odd]"], "no style 'odd'. It has: tag, short, free."),
        (["styles=[tag]", "style=free"], "no style 'free'. It has: tag."),
        (["task=vivid", "style=tag"], "task vivid has no styles"),
    ):
        recipe, base = load_recipe(str(recipe_file), sets)
        with pytest.raises(DataError) as caught:
            recipe.load_task(base)
        assert told in str(caught.value)


def test_a_recording_without_the_styles_that_are_wanted_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "styled.jsonl"
    corpus.write_text(corpus.read_text().replace('"tag"', '"other"'))
    recipe, base = load_recipe(str(recipe_file), ["styles=[tag]"])
    with (
        run_context(recipe, tmp_path / "run", base) as ctx,
        pytest.raises(TeacherError, match="no text of tag for any"),
    ):
        teach(ctx, recipe.teacher, load_examples(recipe.data, base))


def test_prompts_that_an_adapter_does_not_know_are_told(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, base = load_recipe(str(recipe_file), ["student.adapter=bundled:student", "styles=[short]"])
    with run_context(recipe, tmp_path / "run", base) as ctx:
        check_inputs(ctx, recipe, load_data(recipe.data, base))
    told = " ".join(capsys.readouterr().err.split())
    assert "bundled:student was not trained with the prompt 'Plain: {literal}\\nFunny short:'; this run begins" in told


def test_of_style_leaves_out_what_has_none() -> None:
    example = Example(text="It rained.")
    texts = [Response(example_id=example.id, text=t, author="teacher:x", style=s) for t, s in (("a", "x"), ("b", "y"))]
    assert of_style({example.id: texts, "other": texts[:1]}, "y") == {example.id: texts[1:]}


def test_a_run_tries_and_is_evaluated_in_one_style_and_its_student_knows_them_all(
    recipe_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    summary = run(
        recipe_file, folder, "style=short", "styles=[tag, short]", "imitation.train.epochs=1", "evaluate.best_of=0",
        "select={kind: teacher_mix, share: 1.0}", "learn.anchor=true",
    )  # fmt: skip
    assert summary.style == "short"
    assert list(summary.task["styles"]) == ["tag", "short"]
    assert summary.training["sft-imitation"].rows == 16
    tried = summary.stage_rows(folder, Response, "sample", "decode")
    assert {(r.style, r.author == "student:base") for r in tried} == {("short", False), ("", True)}
    taught = {r.id: r.style for r in summary.stage_rows(folder, Response, "teach")}
    paired = [taught[i] for p in summary.stage_rows(folder, Pair, "select") for i in (p.a_id, p.b_id) if i in taught]
    assert set(paired) == {"short"}
    answers = {s.literal: s.answers["teacher"] for s in summary.samples}
    assert answers[LITERALS[-1]].startswith("Briefly: ")
    pages = Writer.of_run(folder)
    assert pages.task.prompt("It rained.") == "Plain: It rained.\nFunny short:"
    with pytest.raises(DataError, match=r"no style 'free'\. It has: tag, short\."):
        pages.write("It rained.", style="free")
    written = Writer.load(export(folder, tmp_path / "out", None, "adapter"))
    assert written.task == pages.task
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This asks for style `short`." in card
    assert "`tag` (`Funny tag:`), `short` (`Funny short:`)" in card
