"""Log-probabilities of the server: the student's own, in OpenAI's two shapes, read by the real client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import torch

from quipwright.students.base import Prompted
from quipwright.testing.browser import served
from quipwright.testing.tiny_models import causal_network, causal_student
from tests.serving.students import MODEL, Echo, app, client, say

TEXT = "The cat filed for custody of my lunch."
PROMPT = "Plain: The cat stole my sandwich.\nFunny tag:"


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_they_are_those_of_a_plain_forward_pass(family: str) -> None:
    student = causal_student(family)
    plain = causal_network(family, len(student.tokenizer))
    begin, ids = student.prompt_ids(PROMPT), student.response_ids(TEXT)[:-1]
    with torch.no_grad():
        logs = plain(input_ids=torch.tensor([begin + ids])).logits[0, len(begin) - 1 : -1].log_softmax(-1)
    tokens = student.token_logprobs(PROMPT, TEXT, 3)
    assert "".join(one.text for one in tokens) == TEXT
    expected = logs[range(len(ids)), ids].tolist()
    assert [one.logprob for one in tokens] == pytest.approx(expected, abs=1e-4)
    for one, row in zip(tokens, logs, strict=True):
        assert [value for _, value in one.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
    # with the end token they sum to what training and the critics call the log-probability of the text
    end = plain(input_ids=torch.tensor([begin + ids])).logits[0, -1].log_softmax(-1)[student.prompt_format.end]
    whole = student.logprobs(student.collate([Prompted(PROMPT, (TEXT,))])).total[0, 0]
    assert float(whole.detach()) == pytest.approx(sum(one.logprob for one in tokens) + float(end.detach()), abs=1e-3)


def test_chat_and_completions_have_openais_shapes() -> None:
    student = causal_student("llama")
    with served(app(student)) as url:
        asked: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
        (choice,) = say(client(url), logprobs=True, top_logprobs=2, **asked).choices
        content = choice.logprobs.content
        assert "".join(token.token for token in content) == choice.message.content
        for token in content:
            assert token.logprob <= 0
            assert token.top_logprobs[0].logprob >= max(token.logprob, token.top_logprobs[1].logprob)
            assert token.bytes is None or bytes(token.bytes).decode() == token.token
        (bare,) = say(client(url), logprobs=True, **asked).choices
        assert [token.logprob for token in bare.logprobs.content] == [token.logprob for token in content]
        assert bare.logprobs.content[0].top_logprobs == []
        assert say(client(url), **asked).choices[0].logprobs is None
        prompts = ["The bus was late.", "The cat is out."]
        older = client(url).completions.create(model=MODEL, prompt=prompts, logprobs=1, **asked).choices
        assert older[0].logprobs.token_logprobs == [token.logprob for token in content]
        for one in older:
            starts = one.logprobs.text_offset
            assert [one.text[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)] == one.logprobs.tokens
            for top, value in zip(one.logprobs.top_logprobs, one.logprobs.token_logprobs, strict=True):
                assert max(top.values()) >= value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "stream": True}, "logprobs"),
        ({"logprobs": True}, "logprobs"),  # this student cannot
    ],
)
def test_what_cannot_be_given_is_refused(fields: dict[str, Any], param: str) -> None:
    with served(app(Echo())) as url, pytest.raises(openai.BadRequestError) as refused:
        say(client(url), extra_body=fields)
    assert refused.value.param == param
