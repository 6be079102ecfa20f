"""Rankings become training rows: preference rows with an optional anchor, single texts with a label, winners only, or the
best of each n."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from quipwright.core.records import Example, Ranking, Response, content_hash
from quipwright.students.base import Prompted
from quipwright.students.batches import ANCHOR, CONTRAST


def ranked_rows(
    prompt: Callable[[Example, str], str],
    examples: Mapping[str, Example],
    texts: Mapping[str, Response],
    rankings: Sequence[Ranking],
    taught: Mapping[str, Sequence[Response]],
) -> tuple[list[Prompted], list[list[Response]]]:
    """One row a ranking, best first, and the responses behind its columns.

    ``prompt`` makes of an example and a style what the student is shown; a ranking is of one style. Where ``taught`` has
    responses of the example in that style, one of them (another one for each ranking of it) is the last column, the
    target of the MLE term and compared with nothing.
    """
    rows, columns = [], []
    anchors_used: dict[str, int] = {}
    for ranking in rankings:
        responses, example = [texts[i] for i in ranking.best_first], examples[ranking.example_id]
        style = responses[0].style
        ranks: tuple[int, ...] = ()
        if anchors := [r for r in taught.get(example.id, ()) if r.style == style]:
            turn = anchors_used.get(example.id, 0)
            anchors_used[example.id] = turn + 1
            ranks = (*range(len(responses)), ANCHOR)
            responses.append(anchors[turn % len(anchors)])
        rows.append(Prompted(prompt(example, style), tuple(r.text for r in responses), ranks))
        columns.append(responses)
    return rows, columns


def labelled_rows(
    prompt: Callable[[Example, str], str],
    examples: Mapping[str, Example],
    labelled: Sequence[tuple[Response, bool]],
    contrasts: int,
    seed: int,
) -> tuple[list[Prompted], list[list[Response]]]:
    """One row a response, of rank 0 where it is desirable and else 1, and the responses behind its columns.

    Behind it stand ``contrasts`` responses to other examples, drawn by ``seed``: KTO's reference point.
    """
    rows, columns = [], []
    around = random.Random(content_hash("contrasts", seed)).sample(list(labelled), len(labelled))
    for place, (response, desirable) in enumerate(labelled):
        turned = (around[(place + step) % len(around)][0] for step in range(len(around)))
        others = list(islice((r for r in turned if r.example_id != response.example_id), contrasts))
        columns.append([response, *others])
        ranks = (0 if desirable else 1, *[CONTRAST] * len(others))
        asked = prompt(examples[response.example_id], response.style)
        rows.append(Prompted(asked, tuple(r.text for r in columns[-1]), ranks))
    return rows, columns


def winners(rankings: Sequence[Ranking], texts: Mapping[str, Response]) -> dict[str, list[Response]]:
    """The preferred responses by example id: what self-distillation imitates (Ravi et al. 2024 sec. 3.2, SD)."""
    preferred: dict[str, list[Response]] = {}
    for ranking in rankings:
        preferred.setdefault(ranking.example_id, []).append(texts[ranking.best_first[0]])
    return preferred


def best_of(attempts: Mapping[str, Sequence[Response]], scores: Mapping[str, float]) -> dict[str, list[Response]]:
    """The usable attempt of highest score at each example, which best-of-N imitation imitates; ``scores`` are by
    response id, copies last (see :func:`~quipwright.training.preference.pairs.copies_last`)."""
    usable = {e: [r for r in responses if r.usable and r.id in scores] for e, responses in attempts.items()}
    return {e: [max(responses, key=lambda r: scores[r.id])] for e, responses in usable.items() if responses}
