"""Every kind of model a recipe can name, as one discriminated union: ``{kind: chat, …}``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quipwright.llm.batch_api import Batch
from quipwright.llm.gguf import Gguf
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.local import Local
from quipwright.llm.offline_files import Files
from quipwright.llm.recorded import Recorded
from quipwright.llm.vllm import Vllm

ModelConfig = Annotated[Chat | Anthropic | Local | Gguf | Vllm | Recorded | Batch | Files, Field(discriminator="kind")]
"""Each member is a :class:`~quipwright.llm.model_settings.ModelSettings` in a file of its own; a new kind of model is one
such class and one more member here."""
