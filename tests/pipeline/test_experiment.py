"""A grid runs on tiny parts, shares its stages, survives a variant that fails, and its table is right by hand."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
import yaml
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError, RunError
from quipwright.core.records import Comparison, Example, Judgment, Pair, Verdict
from quipwright.core.results import PairScores, Quality
from quipwright.core.statistics import holm, sign_flip_test
from quipwright.core.text import degenerate, is_copy
from quipwright.data.run_summary import RunSummary, read_run
from quipwright.data.teacher import ModelTeacher
from quipwright.evaluation.experiment import Experiment, Judge
from quipwright.evaluation.experiment_table import Judged, Result, Row, tabulate
from quipwright.evaluation.pairwise import orders_won
from quipwright.evaluation.report.figures import around_zero
from quipwright.evaluation.report.markdown import experiment_markdown
from quipwright.evaluation.report.pages import report_experiment, write_experiment
from quipwright.evaluation.settings import EvaluateSettings
from quipwright.llm.costs import Spent
from quipwright.pipeline.experiment.critics import load_critic_table, run_critic_table
from quipwright.pipeline.experiment.grid import load_experiment, recipe_of, run_experiment
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.stages.teach import teach
from quipwright.serving.export.folder import export
from quipwright.serving.writer import Writer
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.payloads import PAYLOADS
from quipwright.testing.recipes import write_recipe
from quipwright.testing.runs import run_context

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


def grid(**changed: Any) -> dict[str, Any]:
    usual = {
        "name": "grid",
        "recipe": "tiny.yaml",
        "seeds": [1, 2],
        "baseline": "FT",
        "set": {"evaluate.best_of": 0, "evaluate.base": False, "learn.copy_share": 0.0, "select": {"kind": "random"}},
        "variants": {
            "FT": {"student": "imitation", "set": {"rounds": 0}},
            "DPO": {},
            "BRIO": {"set": {"learn.objective": {"kind": "brio"}, "evaluate.students": ["feedback"]}},
        },
    }
    return usual | changed


@pytest.fixture
def place(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Path:
    """A folder with the tiny recipe."""
    write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
    return tmp_path


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
    found = []
    for sample in read_run(run).samples:
        texts = [sample.answers[name] for name in ("feedback", "teacher")]
        mine, theirs = (degenerate(t, sample.literal) is not None or is_copy(t, sample.literal) for t in texts)
        found.append(1.0 if theirs else 0.0 if mine else 0.5)
    return fmean(found)


def test_a_grid_runs_and_shares_what_its_variants_have_in_common(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, base = load_experiment(write(place, grid()))
    result = run_experiment(experiment, base, place / "out")
    assert [(r.variant, r.runs, r.failed) for r in result.rows] == [("FT", 2, {}), ("DPO", 2, {}), ("BRIO", 2, {})]
    imitated = list((place / "out" / "stages").glob("sft-imitation-*"))
    assert len(imitated) == 2  # one a seed, for three variants
    assert len(list((place / "out" / "stages").glob("preference-1-*"))) == 4
    assert result.rows[0].p is None
    assert all(r.p is not None and r.difference is not None and r.minutes > 0 for r in result.rows[1:])
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

    def spent(name: str, own: list[Example], url: str) -> list[tuple[str, int]]:
        teacher = validate(ModelTeacher, {"model": {"kind": "chat", "model": "m", "base_url": url}}, "teacher")
        recipe = Recipe(name=name, teacher=teacher)
        with run_context(recipe, tmp_path / name, tmp_path, shared=tmp_path / "stages") as ctx:
            assert all(len(texts) == 3 for texts in teach(ctx, teacher, own).responses.values())
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


# --- critics ---------------------------------------------------------------------------------------------------------


def critic_table(place: Path, **changed: Any) -> Path:
    rows = [
        {"literal": f"It rained {i} days.", "a": "Rain, rain, and more of it.", "b": f"{i} wet days.", "split": "test",
         "votes": {"humour": {"ann": "a", "bo": "a"}, "consistency": {"ann": "b" if i % 2 else "a"}}}
        for i in range(8)
    ]  # fmt: skip
    (place / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual = {
        "labels": "labels.jsonl",
        "critics": {"longer": {"kind": "rule"}, "first": {"kind": "rule", "pick": "first"}},
        "paper": {"first": {"PB": 15}},
    }
    path = place / "critics.yaml"
    path.write_text(yaml.safe_dump(usual | changed, sort_keys=False))
    return path


def test_critics_are_measured_against_people_side_by_side(
    place: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    path = critic_table(place, scales={"small": {"limit": 4, "split": "test"}})
    code, out, _ = quipwright("experiment", str(path), "--scale", "small", "--run", str(place / "out"))
    assert code == 0
    assert out.strip() == (place / "out" / "table.md").read_text().strip()
    longer, first = out.strip().splitlines()[-2:]
    assert longer.split(" | ")[1].startswith("100 [")  # the longer text is what both people took
    assert longer.split(" | ")[3:5] == ["–", "0 [0, 49]"]
    assert first.split(" | ")[4] == "100 [51, 100] (15)"
    assert json.loads((place / "out" / "result.json").read_text())["first"]["pairs"] == 4


def test_a_critic_that_fails_stops_no_other(place: Path) -> None:
    tree = yaml.safe_load(critic_table(place).read_text())
    tree["critics"] = {"none": {"kind": "reward", "path": "nowhere"}, **tree["critics"]}
    chosen = load_critic_table(tree, place / "critics.yaml")
    found = run_critic_table(chosen, place, place)
    assert "holds no reward model" in str(found["none"])
    assert [name for name, one in found.items() if not isinstance(one, str)] == ["longer", "first"]
    assert "- none: " in (place / "table.md").read_text()


def test_a_column_that_the_paper_lacks_is_refused(place: Path) -> None:
    tree = yaml.safe_load(critic_table(place, paper={"first": {"WTR": 3}}).read_text())
    with pytest.raises(RecipeError, match=r"'WTR', which is no column"):
        load_critic_table(tree, place / "critics.yaml")
    tree = yaml.safe_load(critic_table(place).read_text())
    with pytest.raises(RecipeError, match=r"no scale 'small'"):
        load_critic_table(tree, place / "critics.yaml", "small")


# --- the table, by hand ----------------------------------------------------------------------------------------------


def summary(
    scores: dict[str, float | None], student: str = "feedback", won: dict[str, float | None] | None = None
) -> RunSummary:
    quality = Quality(
        system=student,
        split="test",
        n=4,
        copy_rate=0.25,
        stock_turns=0.125,
        empty=0,
        truncated=0,
        words=9,
        length_ratio=1.5,
        distinct_2=0.5,
    )
    recipe = {"evaluate": EvaluateSettings(tie=0.05).model_dump()}
    pair = PairScores(candidate=student, baseline="teacher", split="test", scores=scores, orders_won=won)
    return cast(RunSummary, SimpleNamespace(scores=[pair], quality=[quality], recipe=recipe, spent=[]))


def test_the_tables_numbers() -> None:
    experiment = Experiment.model_validate(grid(paper={"FT": 28}))
    found = {
        ("FT", 1): summary({"a": 0.2, "b": 0.6, "c": 0.3, "d": 0.1}, "imitation"),
        ("FT", 2): summary({"a": 0.4, "b": (0.3 + 0.6) / 2, "c": 0.3, "d": None}, "imitation"),
        ("DPO", 1): summary({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}),
        ("DPO", 2): summary({"a": 0.7, "b": 0.8, "c": 0.7, "d": 0.4}),
        ("BRIO", 1): summary({"a": 0.3, "b": 0.5, "c": 0.3, "d": 0.9}),
        ("BRIO", 2): "broken",
    }
    result = tabulate(experiment, found, dict.fromkeys(found, 1.5))
    ft, dpo, brio = result.rows
    assert ft.rates == {1: 1 / 4, 2: 0.0}  # 0.45 is no tie: the paper knows no band
    assert ft.rate == 1 / 8
    assert (ft.paper, ft.minutes, ft.n, ft.difference) == (28, 3.0, 4, None)
    assert dpo.rates == {1: 1.0, 2: 0.75}
    # t interval of two seeds: 0.875 +- 12.706 * 0.1768 / sqrt 2, cut at 0 and 1
    assert (dpo.seeds_low, dpo.seeds_high) == (0.0, 1.0)
    mine, theirs = [0.8, 0.8, 0.7, 0.6], [0.3, 0.525, 0.3, 0.1]  # d under seed 1 alone, which both have
    assert dpo.difference == pytest.approx(sum(mine) / 4 - sum(theirs) / 4)
    assert dpo.difference_low is not None
    assert dpo.difference_low > 0
    assert (brio.runs, brio.failed, brio.seeds_low) == (1, {2: "broken"}, None)
    assert brio.difference == pytest.approx(sum([0.3, 0.5, 0.3, 0.9]) / 4 - sum([0.2, 0.6, 0.3, 0.1]) / 4)
    raw = [sign_flip_test(mine, theirs), sign_flip_test([0.3, 0.5, 0.3, 0.9], [0.2, 0.6, 0.3, 0.1])]
    assert [dpo.p, brio.p] == pytest.approx(list(holm(raw)))
    assert (dpo.length_ratio, dpo.copy_rate, dpo.stock_turns, dpo.distinct_2) == (1.5, 0.25, 0.125, 0.5)


def test_the_rate_is_the_papers_where_both_showings_are_kept() -> None:
    """0.9 and 0.2 make a mean above one half, but of the two showings only one was won."""
    experiment = Experiment.model_validate(grid(variants={"FT": {}}, seeds=[1]))
    scores: dict[str, float | None] = {"a": 0.55, "b": 0.4, "c": 0.75, "copy": 1.0}
    kept: dict[str, float | None] = {"a": 0.5, "b": 0.5, "c": None, "copy": 1.0}
    for found, rate, n in ((summary(scores, won=kept), 2 / 3, 3), (summary(scores), 3 / 4, 4)):
        (row,) = tabulate(experiment, {("FT", 1): found}, {("FT", 1): 0.0}).rows
        assert (row.rate, row.n) == (pytest.approx(rate), n)


def test_both_showings_of_a_judge_are_read_alone() -> None:
    compared = [Comparison(Pair(example_id=x, a_id="a", b_id="b", selector="s"), x, "one", "two") for x in "abcd"]

    def said(i: int, shown: Literal["ab", "ba"], verdict: Verdict, p: float | None = None) -> Judgment:
        return Judgment(pair_id=compared[i].pair.id, judge="j", shown=shown, verdict=verdict, p_a=p)

    judgments = [
        said(0, "ab", "A", 0.9), said(0, "ba", "B", 0.2), said(1, "ab", "tie"), said(1, "ba", "A"),
        said(2, "ab", "A"), said(2, "ba", "unparsed"), said(3, "ab", "B", 0.0),
    ]  # fmt: skip
    assert orders_won(compared, judgments) == {"a": 0.5, "b": 1.0, "c": None, "d": 0.0}  # d needed no order


def cells(page: str) -> list[list[str]]:
    """Every table row of a page as the text of its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.S)
    return [[re.sub(r"<[^>]+>", "", c) for c in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows]


def made_result() -> Result:
    """A table with everything: a paper's figure, costs known and unknown, a failure."""
    known = Spent(stage="teach", model="m", calls=1200, tokens_in=90_000, tokens_out=4_000, cost=0.42)
    unknown = Spent(stage="judge-1", model="n", calls=8, uncounted=8, unpriced=8)
    common = {"runs": 3, "n": 96, "length_ratio": 1.2, "copy_rate": 0.04, "distinct_2": 0.7, "minutes": 12.5}
    rows = (
        Row(variant="FT", rate=0.28, low=0.22, high=0.35, rates={1: 0.28, 2: 0.27}, paper=28, spent=known, **common),
        Row(variant="DPO", rate=0.46, low=0.39, high=0.53, seeds_low=0.3, seeds_high=0.6, difference=0.113, p=0.004,
            difference_low=0.071, difference_high=0.152, paper=51.5, spent=known + unknown, **common),
        Row(variant="BRIO", rate=0.31, low=0.24, high=0.38, difference=-0.021, difference_low=-0.06,
            difference_high=0.02, p=0.31, spent=unknown, **common),
        Row(variant="SD", runs=0, failed={1: "MemoryError: no room"}),
    )  # fmt: skip
    more = known + unknown + Spent(stage="given up", model="m", charged=0.5)
    rows = tuple(r.model_copy(update={"judges": {"outside": Judged()}}) for r in rows)
    other = Judged(n=96, rate=0.41, low=0.34, high=0.48, paper=52)
    rows = (rows[0], rows[1].model_copy(update={"judges": {"outside": other}}), *rows[2:])
    return Result(name="table", baseline="FT", opponent="teacher", split="test", rows=rows, spent=more,
                  silent={"gone": "no key"})  # fmt: skip


def test_the_page_of_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(made_result().model_dump_json(), encoding="utf-8")
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = cells(text)
    assert ["FT", "3", "96", "28 %", "22 – 35 %", "–", "28 %, 27 %", "28 %", "–, –"] in rows
    assert next(row for row in rows if row[:2] == ["DPO", "3"])[-1] == "41 %, 34 – 48 % (52 %)"
    assert "Judge gone said nothing: no key" in text
    assert "| 51.5 % | 41 %, 34 – 48 % (52 %) |" in experiment_markdown(made_result())
    assert "- judge gone: no key" in experiment_markdown(made_result())
    assert ["DPO", "+0.113", "+0.071 to +0.152", "0.004"] in rows
    assert ["BRIO", "-0.021", "-0.060 to +0.020", "0.310"] in rows
    assert ["FT", "12.5", "1,200", "90,000", "4,000", "0.4200"] in rows
    assert ["BRIO", "12.5", "8", "unknown", "unknown", "unknown"] in rows
    assert ["SD", "0.0", "0", "–", "–", "none"] in rows
    assert "SD, seed 1 failed: MemoryError: no room" in text
    assert "WTR is the win-tie rate against teacher as the paper defines it" in text
    assert "All calls, given up ones included: 0.4200 (calls of unknown cost: 8), up to 0.5000 more" in text
    assert "All calls: 1208, cost 0.4200 (calls of unknown cost: 8), up to 0.5000 more" in experiment_markdown(
        made_result()
    )
    assert text.count("<svg") == 2
    assert text.count('class="other"') == 2
    assert "<script" not in text
    assert "style=" not in text


def test_the_axis_of_differences_holds_every_interval(tmp_path: Path) -> None:
    axis = around_zero([-0.06, 0.152])
    assert [label for _, label, _ in axis.ticks] == ["-0.2", "-0.1", "0", "+0.1", "+0.2"]
    assert [axis.share(value) for value in (-0.2, 0.0, 0.1, 9.0)] == [0.0, 0.5, 0.75, 1.0]
    assert around_zero([]).reach == 1.0


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_names_stay_text_in_an_experiment(payload: str, tmp_path: Path) -> None:
    made = made_result()
    rows = tuple(
        r.model_copy(update={"variant": payload, "failed": {1: payload}, "judges": {payload: r.judges["outside"]}})
        for r in made.rows
    )
    names = dict.fromkeys(("name", "baseline", "opponent", "split"), payload)
    hostile_result = made.model_copy(update={"rows": rows, "silent": {payload: payload}, **names})
    write_experiment(hostile_result, tmp_path / "hostile.html")
    write_experiment(made, tmp_path / "plain.html")
    hostile, plain = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("hostile", "plain"))
    tags = [Counter(re.findall(r"<[a-zA-Z/!][^\s>]*", text)) for text in (hostile, plain)]
    tags[0]["<p"] -= 3  # every row has failed here
    tags[0]["</p"] -= 3
    assert tags[0] == tags[1]


def test_a_page_cannot_be_made_of_another_versions_numbers(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"name": 1}', encoding="utf-8")
    with pytest.raises(RunError, match="another version"):
        report_experiment(tmp_path)


def test_a_grid_of_failures_is_still_a_table(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(grid())
    keys = [(name, seed) for name in experiment.variants for seed in experiment.seeds]
    result = tabulate(experiment, dict.fromkeys(keys, "no disk"), dict.fromkeys(keys, 0.0))
    assert experiment_markdown(result).count("no disk") == 6
    assert all(row.rate is None for row in result.rows)
    write_experiment(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("no disk") == 6
