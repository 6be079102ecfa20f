"""Active labelling: an expensive critic judges some of the first pairs, and a reward model is trained on that."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from quipwright.core.progress import console
from quipwright.core.records import Comparison
from quipwright.core.storage.files import disk_errors
from quipwright.core.storage.stage_cache import StageKey
from quipwright.critics.base import TrainedCritic
from quipwright.critics.config import CriticConfig
from quipwright.critics.reward_model.card import OF_RUN
from quipwright.llm.request_batching import Window
from quipwright.pipeline.context import Context
from quipwright.pipeline.runtime import Judge


def label(ctx: Context, settings: CriticConfig, comparisons: Sequence[Comparison]) -> Judge:
    """A judge that is trained on some of ``comparisons``, the first ones of the run.

    Its weights are kept in the run's folder ``critic`` for whoever wants to use or measure it. Raises
    :class:`~quipwright.core.errors.CriticError` where it agrees too seldom with held-out judgments.
    """

    def build(folder: Path) -> Mapping[str, str]:
        critic = settings.learn(ctx.judges.context(settings), comparisons)
        ctx.calls.note_capabilities()
        critic.save(folder)
        return {"agreement": critic.summary()}

    key = ctx.judges.key(settings)
    asked = [[c.pair.id, c.literal, c.a, c.b] for c in comparisons]
    folder, facts = ctx.cache.built(StageKey("label", "", (key, asked)), build)
    console.print(facts["agreement"])
    if ctx.cache.ranks.first:
        with disk_errors(ctx.run_dir / OF_RUN):
            shutil.copytree(folder, ctx.run_dir / OF_RUN, dirs_exist_ok=True)

    @cache
    def opened() -> TrainedCritic:
        return settings.restore(folder)

    return Judge(key, Window(), opened, local=True)
