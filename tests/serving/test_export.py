"""Exports: what stands in their files, and that other libraries read from them what our student writes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from quipwright.core.errors import DamagedError, QuipwrightError, RecipeError, WeightsError
from quipwright.core.paths import resolve
from quipwright.data.task import Task
from quipwright.serving.export.card import Form, model_card
from quipwright.serving.export.folder import export
from quipwright.serving.export.gguf_files import modelfile, split_name
from quipwright.serving.export.origin import of_card, shareable
from quipwright.serving.export.transformers_files import both_names
from quipwright.serving.prompt_template import chat_template, go_template, wrapping
from quipwright.serving.writer import Writer
from quipwright.students.base import LoRA, StudentSettings
from quipwright.students.load import open_student
from quipwright.students.weights import folder_content
from quipwright.testing.llama_server import llama_server
from quipwright.testing.tiny_models import causal_tokenizer, chat_student, chat_tokenizer

LITERAL = "The cat stole my sandwich."
TURNS = [{"role": "user", "content": f"  {LITERAL}\n"}]


def render(template: str, tokenizer: Any, turns: list[dict[str, Any]], *, begin: bool = True) -> str:
    tokenizer.chat_template = template
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin))


@pytest.fixture(scope="session")
def adapter(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a tiny LoRA student whose factors are not zero."""
    folder = tmp_path_factory.mktemp("adapter")
    settings = StudentSettings(weights=str(tiny_weights), tuning=LoRA(rank=2, alpha=4), precision="fp32")
    student = open_student(settings)
    torch.manual_seed(1)
    tensors = {n: torch.randn_like(p).bfloat16().float() * 0.25 for n, p in student.trainable().items()}
    save_file(tensors, folder / "student.safetensors")
    (folder / "student.json").write_text(settings.model_dump_json())
    return folder


@pytest.fixture(scope="session")
def merged(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(adapter, tmp_path_factory.mktemp("exports") / "hf", None, "hf")


def test_a_transformers_folder_says_everything_in_the_words_of_old_and_new_versions(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert "_name_or_path" not in config
    words = json.loads((merged / "tokenizer_config.json").read_text())
    assert words["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert words["model_input_names"] == ["input_ids", "attention_mask"]
    assert words["chat_template"] == (merged / "chat_template.jinja").read_text()
    assert not {"backend", "is_local", "extra_special_tokens"} & words.keys()
    generation = json.loads((merged / "generation_config.json").read_text())
    assert {k: generation[k] for k in ("do_sample", "num_beams", "max_new_tokens", "eos_token_id")} == {
        "do_sample": False, "num_beams": 5, "max_new_tokens": 48, "eos_token_id": 0,
    }  # fmt: skip


def test_tied_weights_are_written_once(merged: Path) -> None:
    assert json.loads((merged / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(merged / "model.safetensors")
    network = AutoModelForCausalLM.from_pretrained(merged)
    assert network.lm_head.weight is network.model.embed_tokens.weight


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("form", ["adapter", "peft", "hf"])
def test_an_export_is_read_through_its_seal(adapter: Path, merged: Path, tmp_path: Path, form: Form) -> None:
    whole = merged if form == "hf" else export(adapter, tmp_path / "whole", None, form)
    for name in sorted(path.name for path in whole.iterdir()):
        copy = tmp_path / name
        shutil.copytree(whole, copy)
        if name == "README.md":  # whoever gets it may write on its card
            (copy / name).write_text("Mine.")
            Writer.load(copy)
            continue
        bit_flipped(copy / name)
        with pytest.raises(DamagedError, match=rf"{re.escape(name)} .*Restore it from a copy"):
            Writer.load(copy)
        shutil.copy(whole / name, copy)
        (copy / name).unlink()
        if name == "done.json":  # one from elsewhere has none
            Writer.load(copy)
        else:
            with pytest.raises(DamagedError, match=rf"{re.escape(name)} does not match"):
                Writer.load(copy)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("student.json", "{", "student.json cannot be read"),
        ("student.json", "[1]", "student.json cannot be read: ValueError: not a JSON object"),
        ("student.json", '{"wieghts": "x"}', "unknown key 'wieghts'"),
        ("task.json", '{"aim"', "task.json cannot be read"),
        ("task.json", '{"aim": 3}', "'aim'"),
        ("adapter_config.json", "null", "adapter_config.json cannot be read"),
        ("adapter_config.json", '{"peft_type": "LORA"}', "adapter_config.json: 'weights'"),
        ("config.json", "{{", "config.json cannot be read"),
        ("config.json", '{"model_type": "no such thing"}', "could not be loaded"),
    ],
)
def test_odd_files_of_a_stranger_are_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    if name == "task.json":
        (tmp_path / "student.json").write_text("{}")
    with pytest.raises(QuipwrightError, match=re.escape(message)):
        Writer.load(tmp_path)


def test_weights_that_a_recipe_names_are_read_through_their_seal(merged: Path, tmp_path: Path) -> None:
    shutil.copytree(merged, tmp_path / "base")
    content = folder_content(str(tmp_path / "base"))
    (tmp_path / "base" / "done.json").unlink()
    assert folder_content(str(tmp_path / "base")) == content
    shutil.copy(merged / "done.json", tmp_path / "base")
    bit_flipped(tmp_path / "base" / "model.safetensors")
    with pytest.raises(DamagedError, match=r"model\.safetensors does not match"):
        open_student(StudentSettings(weights="base", tuning="full", precision="fp32"), recipe_dir=tmp_path)


def test_rotary_scaling_and_precision_get_their_older_names() -> None:
    scaled = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    assert both_names({"rope_parameters": scaled, "_name_or_path": "/here", "dtype": "bfloat16"}) == {
        "rope_parameters": scaled, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
        "dtype": "bfloat16", "torch_dtype": "bfloat16",
    }  # fmt: skip


def test_transformers_writes_from_a_chat_what_our_student_writes(merged: Path, adapter: Path) -> None:
    network, words = AutoModelForCausalLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    inputs = words.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    assert words.decode(inputs["input_ids"][0]) == f"Plain: {LITERAL}\nFunny tag:"
    written = network.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    text = words.decode(written, skip_special_tokens=True).strip().split("\n")[0].strip()
    assert text
    assert [Writer.load(folder).answers([LITERAL])[0].text for folder in (adapter, merged)] == [text, text]


def test_the_chat_template_shows_the_last_sentence_and_its_answer() -> None:
    words, task = causal_tokenizer(start=True), Task.load()
    template = chat_template(task, words)
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Earlier."},
        {"role": "assistant", "content": "Once."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "A {{ brace"}, {"type": "text", "text": 'and a "quote".'}],
        },
    ]
    prompt = '<s>Plain: A {{ brace and a "quote".\nFunny tag:'
    assert render(template, words, talk) == prompt
    told = render(template, words, [*talk, {"role": "assistant", "content": "Ha."}], begin=False)
    assert told == prompt + " Ha.<end>"
    parts = words('Plain: A {{ brace and a "quote".\nFunny tag:'), words(" Ha.<end>", add_special_tokens=False)
    assert words(told, add_special_tokens=False).input_ids == [*parts[0].input_ids, *parts[1].input_ids]


def test_a_task_that_wants_chat_keeps_the_turns_of_the_weights() -> None:
    task = Task.load().model_copy(update={"student_chat": True, "student_prompt": "Twist: {literal}!"})
    student, words = chat_student(), chat_tokenizer()
    template = chat_template(task, words)
    assert template.removeprefix(wrapping(task)) == words.chat_template
    assert go_template(task, words) == "user:Twist: {{ .Prompt }}!<turn>\nassistant:"
    shown = render(template, words, TURNS)
    assert words(shown, add_special_tokens=False).input_ids == student.prompt_ids(task.prompt(LITERAL))
    answered = render(template, words, [*TURNS, {"role": "assistant", "content": "Ha."}], begin=False)
    assert answered == shown + "Ha.<turn>\n"


def test_a_modelfile_shows_the_prompt_and_escapes_what_go_would_run() -> None:
    words = causal_tokenizer(start=True)
    assert modelfile(Task.load(), words, "x-Q8_0.gguf") == (
        'FROM ./x-Q8_0.gguf\nTEMPLATE """Plain: {{ .Prompt }}\nFunny tag:"""\nPARAMETER temperature 0\n'
        "PARAMETER repeat_penalty 1\nPARAMETER num_predict 48\n"
    )
    odd = Task.load().model_copy(update={"student_prompt": 'a {{b}} """{literal}"""'})
    assert go_template(odd, words) == 'a {{ `{{` }}b}} ""{{ `"` }}{{ .Prompt }}""{{ `"` }}'


def test_peft_reads_the_adapter_and_so_do_we(adapter: Path, tiny_weights: Path, tmp_path: Path) -> None:
    folder = export(adapter, tmp_path / "peft", None, "peft")
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (2, 4, "LORA")
    assert settings["base_model_name_or_path"] == str(tiny_weights.resolve())
    wrapped = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_weights), folder)
    student: Any = Writer.load(adapter).student
    ids = torch.tensor([student.prompt_ids("Plain: one")])
    torch.testing.assert_close(wrapped(ids).logits, student.network(ids).logits)
    for name in ("student.json", "done.json"):  # a folder that peft itself wrote has neither
        (folder / name).unlink()
    again: Any = Writer.load(folder).student
    assert again.trainable().keys() == student.trainable().keys()
    for name, value in again.trainable().items():
        torch.testing.assert_close(value, student.trainable()[name], rtol=0, atol=0)


def test_merged_weights_hold_no_adapter(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it has no adapter"):
        export(merged, tmp_path / "peft", None, "peft")
    assert list(tmp_path.iterdir()) == []


def test_gguf_files_hold_the_weights_in_llama_cpps_order(merged: Path, tmp_path: Path) -> None:
    folder = export(merged, tmp_path / "gguf", None, "gguf")
    tensors = load_file(merged / "model.safetensors")
    key = tensors["model.layers.1.self_attn.k_proj.weight"].numpy()
    half, quarter = (GGUFReader(folder / f"hf-{precision}.gguf") for precision in ("f16", "Q8_0"))
    # Two heads of eight: the halves of a rotation, rows i and i + 4, come to stand side by side.
    order = [head * 8 + half_row + 4 * side for head in range(2) for half_row in range(4) for side in range(2)]
    assert order[:4] == [0, 4, 1, 5]
    exact, rounded = ({t.name: t for t in reader.tensors} for reader in (half, quarter))
    np.testing.assert_array_equal(exact["blk.1.attn_k.weight"].data, key[order].astype(np.float16))
    read = dequantize(rounded["blk.1.attn_k.weight"].data, rounded["blk.1.attn_k.weight"].tensor_type)
    steps = np.abs(key[order]).reshape(16, 1, 32).max(-1, keepdims=True) / 127
    assert (
        np.abs(read - key[order]).reshape(16, 1, 32) <= 0.57 * steps
    ).all()  # half a step, and the step itself is rounded to float16
    assert "output.weight" not in exact
    assert exact["output_norm.weight"].tensor_type.name == "F32"


def test_gguf_files_say_how_they_are_read(merged: Path, tmp_path: Path) -> None:
    folder = export(merged, tmp_path / "gguf", None, "gguf")
    fields = GGUFReader(folder / "hf-f16.gguf").fields
    words = AutoTokenizer.from_pretrained(merged)
    said = {name.partition(".")[2]: field.contents() for name, field in fields.items() if name.startswith("llama.")}
    assert said["attention.head_count_kv"] == 2
    assert said["rope.freq_base"] == 10000.0
    assert said["context_length"] == 512
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.tokens"].contents() == words.convert_ids_to_tokens(range(len(words)))
    assert fields["tokenizer.ggml.token_type"].contents() == [3] + [1] * (len(words) - 1)
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 0
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False
    assert fields["tokenizer.chat_template"].contents() == (merged / "chat_template.jinja").read_text()
    assert (folder / "Modelfile").read_text().startswith("FROM ./hf-Q8_0.gguf\n")
    with pytest.raises(WeightsError, match="Ollama and LM Studio"):
        Writer.load(folder)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}], "gpt-2"),
        ([{"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}], None),
        (
            [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            ],
            "smollm",
        ),
        (
            [
                {
                    "type": "Split",
                    "pattern": {
                        "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                    },
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
            "llama-bpe",
        ),
        ([{"type": "Metaspace"}], None),
        ([], None),
    ],
)
def test_a_tokenizers_pattern_is_known_by_what_it_does(steps: list[dict[str, Any]], name: str | None) -> None:
    assert split_name({"type": "Sequence", "pretokenizers": steps}) == name


def test_the_card_has_the_metadata_that_the_hub_reads() -> None:
    text = (resolve("bundled:student", "Student") / "README.md").read_text()
    origin = of_card(text, "student", None)
    assert origin.title == "shipped: student `feedback`"
    assert origin.base == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "| this one |" in origin.measured
    card = ModelCard(model_card(origin, Task.load(), "peft", "causal", "me/quips"))
    assert card.data.to_dict() == {
        "library_name": "peft", "license": "apache-2.0", "language": ["en"],
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "base_model_relation": "adapter",
        "pipeline_tag": "text-generation", "tags": ["quipwright", "humour", "distillation", "paraphrase"],
    }  # fmt: skip
    assert 'from_pretrained("me/quips")' in card.content
    assert of_card(card.content, "other", None) == origin


def test_a_card_shows_no_place_of_the_machine_that_trained_the_student() -> None:
    assert shareable({"data": {"path": "/home/me/x.jsonl", "train": 3}, "model": {"base_url": "http://10.0.0.1"}}) == {
        "data": {"path": "x.jsonl", "train": 3}, "model": {},
    }  # fmt: skip


def test_the_command_names_the_forms_there_are(quipwright: Any, tmp_path: Path) -> None:
    code, _, err = quipwright("export", "shipped", tmp_path / "x", "--to", "onnx")
    assert (code, err) == (2, "quipwright: --to got 'onnx'. Use hf, peft, gguf or adapter.")


# What the older library is asked, in a process of its own: greedy and with the beams of the generation config.
OLDER = """\
import json, sys, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, *sentences = sys.argv[1:]
words, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).float()
texts = []
for sentence in sentences:
    turns = [{"role": "user", "content": sentence}]
    inputs = words.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    for options in ({"num_beams": 1}, {}):
        written = network.generate(**inputs, **options)[0, inputs["input_ids"].shape[1]:]
        texts.append(words.decode(written, skip_special_tokens=True))
print(json.dumps({"version": transformers.__version__, "kind": type(words).__name__, "texts": texts}))
"""
SENTENCES = ("The bus was late again today.", "I have 3 cats and 12 dogs.", "My phone died during the meeting.")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student that ships in every form but ``adapter``."""
    folder = tmp_path_factory.mktemp("shipped")
    for form in ("hf", "gguf"):
        export("shipped", folder / form, None, form)
    return folder


def asked(folder: Path, packages: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", OLDER, str(folder), *SENTENCES]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": packages}, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_transformers_4_writes_what_transformers_5_writes(shipped: Path, tmp_path: Path) -> None:
    wanted = ["transformers>=4.50,<5", "tokenizers>=0.21,<0.23", "huggingface_hub<1"]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), *wanted]
    subprocess.run(install, check=True, capture_output=True)
    older, newer = asked(shipped / "hf", str(tmp_path)), asked(shipped / "hf")
    assert older["version"].startswith("4.")
    assert older["kind"] == "PreTrainedTokenizerFast"
    assert older["texts"] == newer["texts"]
    assert [text.strip() for text in newer["texts"][1::2]] == [t[0] for t in Writer.load().write_all(SENTENCES)]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("xllamacpp"), reason="needs pip install 'quipwright[server-test]'")
def test_llama_cpp_writes_what_transformers_writes(shipped: Path) -> None:
    greedy = asked(shipped / "hf")["texts"][::2]
    for precision in ("f16", "Q8_0"):
        with llama_server(shipped / "gguf" / f"shipped-{precision}.gguf") as address:
            texts = []
            for sentence in SENTENCES:
                turns = [{"role": "user", "content": sentence}]
                body = {"messages": turns, "temperature": 0, "max_tokens": 48}
                reply = httpx.post(f"{address}/chat/completions", json=body, timeout=300).json()
                assert reply["usage"]["prompt_tokens"] == (14, 18, 14)[SENTENCES.index(sentence)]
                texts.append(reply["choices"][0]["message"]["content"])
        same = [text.strip() == other.strip() for text, other in zip(texts, greedy, strict=True)]
        assert all(same) if precision == "f16" else sum(same) >= 2, texts


@pytest.mark.slow
def test_the_usage_on_the_card_works_as_it_stands(shipped: Path) -> None:
    code = (shipped / "hf" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=shipped / "hf", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Writer.load().write("The bus was late again today.")[0]


@pytest.mark.slow
def test_a_sentence_gets_one_answer_whatever_stands_beside_it() -> None:
    writer = Writer.load()
    sentences = [
        *SENTENCES,
        "No.",
        "We waited for two hours at the airport, and then they cancelled the flight after all.",
    ]
    together = writer.write_all(sentences)
    assert together == [writer.write(sentence) for sentence in sentences]
    assert writer.write_all(sentences[::-1])[::-1] == together
    assert writer.write_all(sentences, n=2)[3] == writer.write("No.", n=2)
