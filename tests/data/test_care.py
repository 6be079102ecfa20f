"""Sentences that must not be joked about: the word list, the classifier's parts, its training, its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from quipwright.core.errors import DataError, WeightsError
from quipwright.core.records import Response, Status
from quipwright.data.care.classifier import KINDS, CareCard, CareClassifier, CareNetwork, EncoderShape, packed, unpacked
from quipwright.data.care.judgment import Care, help_for, word_list
from quipwright.data.care.measure import measure
from quipwright.data.care.rows import CareRow, other_literals, read_care_rows
from quipwright.data.care.screening import screened
from quipwright.data.care.training import CareTraining, blend, renamed, train_care
from quipwright.data.task import Task

ROOT = Path(__file__).parents[2]
PLAIN = {
    "My dad died last week.": "death",
    "We lost the baby at twenty weeks.": "death",
    "My best friend was murdered.": "death",
    "my little brother tried to kill himself": "self-harm",
    "I want to die.": "self-harm",
    "She took her own life in May.": "self-harm",
    "My husband hits me.": "abuse",
    "I was raped at fifteen.": "abuse",
    "My sister has breast cancer.": "illness",
    "Grandma’s dementia is getting worse.": "illness",
    "Grandpa was the only one to survive Auschwitz.": "disaster",
    "He called me a faggot.": "group",
}
HARMLESS = [
    "My phone died again.", "My husband died laughing.", "My battery is dead, and so is my phone.", "I lost the baby monitor.",
    "It was a miscarriage of justice to give him the cake.", "He hits me with another pun every morning.",
    "The oilseed rape is in flower.", "I could kill for a coffee.", "I was born in July, so I am Cancer.",
    "There is a chink in the curtain.", "My dad is dead set on a boat.", "I want to die of shame.",
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "kind"), PLAIN.items())
def test_the_word_list_knows_plain_sentences(sentence: str, kind: str) -> None:
    assert Care(None, word_list()).kinds([sentence]) == [kind]


@pytest.mark.parametrize("sentence", HARMLESS)
def test_the_word_list_lets_look_alikes_pass(sentence: str) -> None:
    assert Care(None, word_list()).kinds([sentence]) == [""]


def test_only_self_harm_is_answered_with_where_to_find_help() -> None:
    assert [len(help_for(kind)) for kind in KINDS] == [0, 1, 0, 0, 0, 0]


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_packed_matrix_is_right_to_half_a_step_of_its_row(rows: list[list[float]]) -> None:
    matrix = torch.tensor(rows)
    back = unpacked(packed({"m": matrix}))["m"]
    steps = matrix.abs().amax(1, keepdim=True) / 127
    assert bool(((back - matrix).abs() <= 0.5001 * steps + 1e-12).all())


def bert_file() -> dict[str, Tensor]:
    """The tensors of a random BERT of two layers, and what it says of two texts of token ids."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    network = BertModel(BertConfig(vocab_size=50, max_position_embeddings=32, **shape)).eval()
    return {name: tensor.detach() for name, tensor in network.state_dict().items()} | {"out": said(network)}


def said(network: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return network(input_ids=IDS, attention_mask=MASK.long()).last_hidden_state


IDS = torch.tensor([[1, 7, 9, 4], [2, 8, 0, 0]])
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def test_the_encoder_computes_what_transformers_does() -> None:
    stored = bert_file()
    expected = stored.pop("out")
    tensors, shape = renamed(stored)
    network = CareNetwork(shape).eval()
    assert {name.split(".")[0] for name in network.load_state_dict(tensors, strict=False).missing_keys} == {"head"}
    with torch.no_grad():
        states = network.lower(IDS, MASK, shape.layers)
        halves = network.upper(network.lower(IDS, MASK, 1), MASK, 1)
    assert torch.allclose(states[MASK], expected[MASK], atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(halves, network(IDS, MASK), atol=1e-6)


def encoder(folder: Path) -> Path:
    """The folder of a small BERT whose words are those of the sentences below."""
    from safetensors.torch import save_file

    folder.mkdir()
    words = [
        "[UNK]",
        "[PAD]",
        "my",
        "dad",
        "dog",
        "phone",
        "cat",
        "died",
        "sang",
        "slept",
        "ran",
        "again",
        "last",
        "week",
    ]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    stored = bert_file()
    del stored["out"]
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors")
    return folder


def sentences(path: Path) -> Path:
    """Whoever died is sensitive, but for the phone."""
    rows = []
    for who in ("dad", "dog", "cat", "phone"):
        for did in ("died", "sang", "slept", "ran"):
            for when in ("", " again", " last week"):
                sad = did == "died" and who != "phone"
                text, label = f"my {who} {did}{when}", "sensitive" if sad else "harmless"
                rows.append({"id": text, "text": text, "label": label, "kind": "death"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_training_learns_what_is_sensitive_and_is_read_back(tmp_path: Path) -> None:
    settings = CareTraining(
        data=(str(sentences(tmp_path / "s.jsonl")),), weights=str(encoder(tmp_path / "bert")), epochs=30, batch=8,
        rate=1e-3, frozen=0, validation=6,
    )  # fmt: skip
    trained = train_care(settings)
    texts = ["my dad died", "my phone died", "my cat sang"]
    dad, phone, cat = trained.probabilities(texts)[:, 0].tolist()
    assert dad > 0.7
    assert phone < 0.3
    assert cat < 0.3
    trained.save(tmp_path / "care")
    back = CareClassifier.load(tmp_path / "care")
    assert back.card == trained.card
    assert torch.allclose(back.probabilities(texts), trained.probabilities(texts), atol=0.05)
    assert back.probabilities([]).shape == (0, len(KINDS))
    (tmp_path / "care" / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match="holds no whole classifier"):
        CareClassifier.load(tmp_path / "care")


def test_weights_are_blended_with_those_of_the_start() -> None:
    shape = EncoderShape(words=5, places=4, width=32, heads=1, between=8, layers=1)
    network, start = CareNetwork(shape), CareNetwork(shape)
    before, old = network.head.weight.detach().clone(), start.head.weight.detach()
    blend(network, start.state_dict(), 0.25)
    assert torch.allclose(network.head.weight, 0.75 * before + 0.25 * old)


class Certain:
    """A classifier that is sure of illness wherever a sentence holds ``word``."""

    def __init__(self, word: str, threshold: float) -> None:
        self.word, self.card = word, CareCard(encoder={"words": 1}, threshold=threshold)  # type: ignore[arg-type]

    def probabilities(self, texts: list[str]) -> Tensor:
        return torch.tensor([[0.0, 0.1, 0.0, 0.5, 0.0, 0.0] if self.word in text else [0.0] * 6 for text in texts])


def test_the_classifier_is_asked_where_the_list_is_silent() -> None:
    texts = ["My dad died.", "The scan was grey.", "The sky was grey.", "The bus was late."]
    assert Care(Certain("scan", 0.6), word_list()).kinds(texts) == ["death", "illness", "", ""]  # type: ignore[arg-type]
    assert Care(Certain("scan", 0.61), word_list()).kinds(texts) == ["death", "", "", ""]  # type: ignore[arg-type]


def test_figures_count_what_was_read_wrong() -> None:
    rows = [
        CareRow(text="My dad died.", label="sensitive", kind="death"),
        CareRow(text="He is gone for good.", label="sensitive", kind="death"),
        CareRow(text="My cat died.", label="harmless", kind="death"),
        CareRow(text="My bus left.", label="harmless"),
        CareRow(text="My funeral hat is new.", label="unclear"),
        CareRow(text="My pen is blue.", label="harmless", source="literals"),
    ]
    figures = measure(Care(None, word_list()), rows)
    assert {name: (share.value, share.n) for name, share in figures.shares.items()} == {
        "recall": (0.5, 2), "recall, death": (0.5, 2), "false alarms, look-alikes": (1.0, 1),
        "false alarms, everyday": (0.0, 1), "false alarms, literals": (0.0, 1),
    }  # fmt: skip
    assert [(row.text, kind) for row, kind in figures.mistakes] == [
        ("He is gone for good.", ""), ("My cat died.", "death"),
    ]  # fmt: skip
    # Wilson's interval of one in two: (1 + z²/2 ± z sqrt(1/2 + z²/4)) / (2 + z²) with z = 1.96
    assert next(figures.lines()).endswith(" 50.0 % (9.5 – 90.5 %), 1 of 2")


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "A.", "label": "harmless"}\n{"text": "B.", "label": "sad"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2: label"):
        read_care_rows(path)
    path.write_text('{"text": "A.", "label": "sensitive"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: a sensitive sentence has no kind"):
        read_care_rows(path)


def test_literals_are_measured_but_for_those_of_training_and_those_that_are_sad(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = [("It rained.", "train"), ("My dad died.", "test"), ("The bus was late.", "test"), ("It snowed.", "valid")]
    path.write_text("".join(json.dumps({"literal": t, "split": s}) + "\n" for t, s in rows), encoding="utf-8")
    known = [CareRow(text="My dad died.", label="sensitive", kind="death")]
    assert [row.text for row in other_literals(path, known)] == ["The bus was late.", "It snowed."]


def test_nothing_is_learnt_from_sensitive_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quipwright.data.care.screening.sensitive_kinds", Care(None, word_list()).kinds)

    def response(example: str, text: str) -> Response:
        return Response(example_id=example, text=text, author="teacher:t")

    literals = {"a": "My dad died last week.", "b": "The bus was late."}
    texts = [
        response("a", "At least he was on time."),
        response("b", "The bus was late, unlike my dad."),
        response("b", "The bus was so late that I was murdered at Auschwitz."),
    ]
    marked = screened(texts, literals, Task.load())
    assert [row.status for row in marked] == [Status.SENSITIVE, Status.OK, Status.SENSITIVE]
    assert screened(texts, literals, Task.load().model_copy(update={"allow_sensitive": True})) == texts
