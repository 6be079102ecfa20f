"""How an exported student is used, for its card: code and commands that work as they stand."""

from __future__ import annotations

from typing import Literal

Family = Literal["causal", "seq2seq"]
SENTENCE = "The bus was late again today."

_CAUSAL = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{where}")
model = AutoModelForCausalLM.from_pretrained("{where}")
turns = [{{"role": "user", "content": "{sentence}"}}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
written = model.generate(**inputs)
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
```

The chat template writes the prompt, so that any chat client (`vllm serve`, `transformers serve`) can be given the plain
sentence. Set temperature 0 there; `model.generate` uses five beams, as `quipwright write` does."""

_SEQ2SEQ = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{where}")
model = AutoModelForSeq2SeqLM.from_pretrained("{where}")
prompt = {prompt!r}.replace("{{literal}}", "{sentence}")
written = model.generate(**tokenizer(prompt, return_tensors="pt"))
print(tokenizer.decode(written[0], skip_special_tokens=True).strip())
```"""

_PEFT = """\
```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{where}")
model = AutoPeftModelForCausalLM.from_pretrained("{where}")
turns = [{{"role": "user", "content": "{sentence}"}}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
written = model.generate(**inputs, max_new_tokens=48, num_beams=5)
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
```

vLLM takes the folder with `--enable-lora --lora-modules NAME=FOLDER` beside the base model, and the folder's
`chat_template.jinja` with `--chat-template`."""

_GGUF = """\
- **llama.cpp**: `llama-server -m FILE.gguf --jinja --temp 0`; the chat template in the file writes the prompt.
- **Ollama**: `ollama create NAME -f Modelfile`, then `ollama run NAME "{sentence}"`.
- **LM Studio**: `lms import FILE.gguf`, or put the file into `models/OWNER/NAME/` of its folder. It reads the chat template
  from the file. Set temperature 0 and leave the system prompt empty.

`f16` is exact to half precision; `Q8_0` takes half the room."""

_ADAPTER = '```bash\nquipwright write --run {where} "{sentence}"\n```\n\nA recipe trains it on with `student: {{adapter: FOLDER}}`.'


def usage(form: str, family: Family, where: str, prompt: str = "{literal}") -> str:
    """The text under the heading Use. ``where``: a folder or a hub id."""
    if form == "hf" and family == "seq2seq":
        return _SEQ2SEQ.format(where=where, sentence=SENTENCE, prompt=prompt)
    text = {"hf": _CAUSAL, "peft": _PEFT, "gguf": _GGUF, "adapter": _ADAPTER}[form]
    if family == "seq2seq":
        text = text.replace("AutoPeftModelForCausalLM", "AutoPeftModelForSeq2SeqLM")
    return text.format(where=where, sentence=SENTENCE)
