"""Every kind of model a recipe can name, as one discriminated union: ``{kind: chat, …}``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.llm.chat import Anthropic, Chat
from understudy.llm.local import Local
from understudy.llm.recorded import Recorded

AnyModel = Annotated[Chat | Anthropic | Local | Recorded, Field(discriminator="kind")]
