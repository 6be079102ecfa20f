"""The quick nucleus keeps what sorting the whole vocabulary keeps."""

from __future__ import annotations

import pytest
import torch
from transformers import TopPLogitsWarper

from quipwright.students.nucleus import Nucleus


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_it_keeps_the_same_tokens_as_a_full_sort(top_p: float, spread: float) -> None:
    scores = torch.randn(5, 3000, generator=torch.Generator().manual_seed(1)) * spread
    ids = torch.zeros(5, 1, dtype=torch.long)
    mine = Nucleus(0.8, top_p)(ids, scores)
    theirs = TopPLogitsWarper(top_p)(ids, scores / 0.8)
    same = (mine.isinf() == theirs.isinf()).float().mean()
    assert same > 0.9995  # rounding may move a token at the very edge
    kept = ~theirs.isinf() & ~mine.isinf()
    assert torch.equal(mine[kept], theirs[kept])


def test_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    ids = torch.zeros(1, 1, dtype=torch.long)
    assert Nucleus(1.0, 0.5)(ids, scores).isfinite().tolist() == [[True, False, False, False]]
    assert Nucleus(1.0, 0.6)(ids, scores).isfinite().tolist() == [[True, True, False, False]]
    assert Nucleus(1.0, 0.96)(ids, scores).isfinite().tolist() == [[True, True, True, True]]
    assert Nucleus(1.0, 1.0)(ids, scores).isfinite().all()
    assert torch.allclose(Nucleus(2.0, 1.0)(ids, scores), scores / 2)
