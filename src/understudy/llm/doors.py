"""Every kind of model a recipe can name, as one discriminated union: ``{kind: chat, …}``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.llm.batch import Batch
from understudy.llm.chat import Anthropic, Chat
from understudy.llm.exchange import Files
from understudy.llm.gguf import Gguf
from understudy.llm.local import Local
from understudy.llm.recorded import Recorded
from understudy.llm.vllm import Vllm

AnyModel = Annotated[Chat | Anthropic | Local | Gguf | Vllm | Recorded | Batch | Files, Field(discriminator="kind")]
