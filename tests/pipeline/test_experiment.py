"""A grid runs on tiny parts, shares its stages, and survives a variant that fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError, RunError
from quipwright.core.records import Example
from quipwright.core.text import degenerate, is_copy
from quipwright.data.run_summary import read_run
from quipwright.data.teacher import ModelTeacher
from quipwright.evaluation.experiment import Judge
from quipwright.evaluation.report.markdown import experiment_markdown
from quipwright.pipeline.experiment.critics import load_critic_table
from quipwright.pipeline.experiment.grid import load_experiment, recipe_of, run_experiment
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.stages.teach import teach
from quipwright.serving.export.folder import export
from quipwright.serving.writer import Writer
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.runs import run_context
from tests.pipeline.results import grid

SHIPPED = sorted((Path(__file__).parents[2] / "experiments").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_experiment_that_ships_loads_at_every_scale(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    if "critics" in tree:
        for scale in (None, *tree["scales"]):
            assert load_critic_table(dict(tree), path, scale).critics
    if "variants" not in tree:
        return
    whole, base = load_experiment(path)
    for scale in (None, *whole.scales):
        experiment = whole.at(scale)
        for name in experiment.variants:
            recipe, _ = recipe_of(experiment, base, name, experiment.seeds[0])
            assert recipe.seed == experiment.seeds[0]


def write(place: Path, tree: dict[str, Any]) -> Path:
    path = place / "grid.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def judges() -> dict[str, Judge]:
    """One that takes whatever is shown first, and one that cannot be opened."""
    trees = {"first": {"kind": "rule", "pick": "first"}, "gone": {"kind": "reward", "path": "nowhere"}}
    return {name: validate(Judge, {"critic": tree}, name) for name, tree in trees.items()}


def by_the_first(run: Path) -> float:
    """The win-tie rate that a judge of the order alone must give: half, where no rule stands before it."""
    wins = []
    for sample in read_run(run).samples:
        texts = [sample.answers[name] for name in ("feedback", "teacher")]
        mine, theirs = (degenerate(t, sample.literal) is not None or is_copy(t, sample.literal) for t in texts)
        wins.append(1.0 if theirs else 0.0 if mine else 0.5)
    return fmean(wins)


def test_a_grid_runs_and_shares_what_its_variants_have_in_common(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, base = load_experiment(write(place, grid()))
    result = run_experiment(experiment, base, place / "out")
    assert [(r.variant, r.runs, r.failed) for r in result.rows] == [("FT", 2, {}), ("DPO", 2, {}), ("BRIO", 2, {})]
    imitated = list((place / "out" / "stages").glob("sft-imitation-*"))
    assert len(imitated) == 2  # one a seed, for three variants
    assert len(list((place / "out" / "stages").glob("preference-1-*"))) == 4
    assert result.rows[0].p is None
    assert all((r.p is not None or r.unfit) and r.difference is not None and r.minutes > 0 for r in result.rows[1:])
    assert json.loads((place / "out" / "result.json").read_text())["baseline"] == "FT"
    again = run_experiment(experiment, base, place / "out")
    assert again == result
    again = run_experiment(experiment.model_copy(update={"judges": judges()}), base, place / "out")
    assert all(stage.skipped for stage in read_run(place / "out" / "DPO-1").stages)
    assert again.rows[1].judges["first"].rate == fmean(by_the_first(place / "out" / f"DPO-{seed}") for seed in (1, 2))
    assert "holds no reward model" in again.silent["gone"]
    met = {
        name: {f"{s.candidate}>{s.baseline}@{s.split}" for s in read_run(place / "out" / name).scores}
        for name in ("DPO-1", "BRIO-1")
    }
    assert met["BRIO-1"] == {"feedback>teacher@test"}
    assert met["DPO-1"] == {"feedback>teacher@test", "imitation>teacher@test", "feedback>imitation@test"}
    run = place / "out" / "DPO-1"  # its weights are among the arrows that all runs share
    assert Writer.of_run(run).write("The cat stole my sandwich.")[0]
    assert (export(run, place / "student", None, "adapter") / "student.json").exists()
    monkeypatch.chdir(run)
    assert Writer.of_run(Path("."), "imitation").student.settings == Writer.of_run(run).student.settings
    moved = shutil.copytree(run, place / "elsewhere" / "DPO-1")
    with pytest.raises(RunError, match="has no weights of 'feedback'"):
        Writer.of_run(moved)


def test_a_variant_that_fails_stops_no_other_and_goes_on_when_mended(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import quipwright.pipeline.experiment.grid as module

    experiment, base = load_experiment(write(place, grid(seeds=[1])))
    distil = module.distil

    def crash(recipe: Any, *rest: Any) -> Any:
        if "DPO" in recipe.name:
            raise MemoryError("no room\nat all")
        return distil(recipe, *rest)

    monkeypatch.setattr(module, "distil", crash)
    result = run_experiment(experiment, base, place / "out")
    assert [r.runs for r in result.rows] == [1, 0, 1]
    assert result.rows[1].failed == {1: "MemoryError: no room at all"}
    assert "- DPO, seed 1: MemoryError: no room at all" in experiment_markdown(result)
    monkeypatch.undo()
    assert [r.runs for r in run_experiment(experiment, base, place / "out").rows] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"baseline": "SFT"}, "'SFT' is no variant; variants are FT, DPO, BRIO"),
        ({"varaints": {}}, "the nearest valid one is 'variants'"),
        ({"paper": {"GRPO": 1}}, "'GRPO' is no variant"),
        ({"judges": {"j": {"critic": {"kind": "rule"}, "paper": {"GRPO": 1}}}}, "'GRPO' is no variant"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_mistakes_are_named(place: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_experiment(write(place, grid(**changed)))


def test_a_typo_in_any_variant_costs_no_run(place: Path) -> None:
    tree = grid()
    tree["variants"]["BRIO"] = {"set": {"learn.objectiv": {"kind": "brio"}}}
    experiment, base = load_experiment(write(place, tree))
    with pytest.raises(RecipeError, match=r"Variant BRIO of grid: unknown key 'learn.objectiv'"):
        run_experiment(experiment, base, place / "out")
    assert not (place / "out").exists()


def test_a_variant_whose_student_is_not_evaluated_costs_no_run(place: Path) -> None:
    for chosen, words in ((["imitation"], "Variant DPO of grid is of student 'feedback'"), (["best"], "names 'best'")):
        tree = grid()
        tree["variants"]["DPO"] = {"set": {"evaluate.students": chosen}}
        experiment, base = load_experiment(write(place, tree))
        with pytest.raises(RecipeError, match=words):
            recipe_of(experiment, base, "DPO", 1)


def test_the_paper_s_runs_evaluate_only_what_a_table_shows() -> None:
    """A small run's identity must not change by it: what is finished would be refused."""
    for path in (p for p in SHIPPED if p.stem.startswith("table") and "variants" in yaml.safe_load(p.read_text())):
        for scale in (None, "small"):
            experiment, base = load_experiment(path, scale)
            for name, variant in experiment.variants.items():
                recipe, _ = recipe_of(experiment, base, name, 1)
                assert recipe.evaluate.students == ((variant.student,) if scale is None else None)
                assert ("students" in recipe.results_key()["evaluate"]) == (scale is None)


def test_scales_replace_recipe_and_seeds_and_add_settings(place: Path) -> None:
    tree = grid(scales={"small": {"seeds": [7], "set": {"feedback_examples": 3}, "variants": {"BRIO": {"rounds": 2}}}})
    path = write(place, tree)
    experiment, base = load_experiment(path, "small")
    assert (experiment.name, experiment.seeds) == ("grid-small", (7,))
    recipes = {name: recipe_of(experiment, base, name, 7)[0] for name in experiment.variants}
    assert [(r.rounds, r.feedback_examples) for r in recipes.values()] == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(RecipeError, match=r"no scale 'tiny'. It has: small"):
        load_experiment(path, "tiny")


def test_runs_that_share_arrows_ask_each_question_once(tmp_path: Path) -> None:
    examples = [Example(text=f"It rained {i} times.") for i in range(8)]

    def spent(name: str, examples: list[Example], url: str) -> list[tuple[str, int]]:
        teacher = validate(ModelTeacher, {"model": {"kind": "chat", "model": "m", "base_url": url}}, "teacher")
        recipe = Recipe(name=name, teacher=teacher)
        with run_context(recipe, tmp_path / name, tmp_path, shared=tmp_path / "stages") as ctx:
            assert all(len(texts) == 3 for texts in teach(ctx, teacher, examples).responses.values())
            return [(one.stage, one.calls) for one in ctx.calls.spent()]

    with FaultyServer(lambda body: "1. A wet joke.\n2. A dry pun.\n3. Some weather.") as server:
        assert spent("third-1", examples[:3], server.url) == [("teach", 3)]
        assert spent("whole-1", examples, server.url) == [("teach", 5)]  # what the third had asked is free
        assert spent("third-1", examples[:3], server.url) == [("teach", 3)]
    assert len(server.bodies) == 8
    assert (tmp_path / "calls.sqlite").exists()


def test_what_one_run_found_out_of_a_model_the_others_note_too(tmp_path: Path) -> None:
    with FaultyServer(lambda body: "1. A wet joke.") as server:
        model = {"kind": "chat", "model": "m", "base_url": server.url}
        teacher = validate(ModelTeacher, {"model": model}, "teacher")
        recipe = Recipe(name="x", teacher=teacher)
        for name in ("first", "second"):
            with run_context(recipe, tmp_path / name, tmp_path, shared=tmp_path / "stages") as ctx:
                ctx.calls.note_capabilities()
                assert bool(ctx.calls.capabilities()) == (name == "second")
                capabilities = teacher.model.build(ctx.calls.opened).capabilities
                sent = len(server.bodies)
                ctx.calls.note_capabilities()
                assert ctx.calls.capabilities() == {"teacher m": capabilities.model_dump(mode="json")}
        assert len(server.bodies) == sent
