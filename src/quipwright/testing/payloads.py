"""Texts that a page must show as text: each would run code or call ``BEACON`` if it were not escaped."""

from __future__ import annotations

BEACON = "http://127.0.0.1:9/hit"
PAYLOADS = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    f"<img src={BEACON}>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "</text></svg><script>window.hit=1</script>",
    "</style><script>window.hit=1</script>",
    "</title><script>window.hit=1</script>",
    "</textarea><script>window.hit=1</script>",
    f"<iframe src={BEACON}></iframe>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    f"<link rel=stylesheet href={BEACON}>",
    f"<style>@import url({BEACON});body{{display:none}}</style>",
    f'" style="background:url({BEACON})" onmouseover="window.hit=1',
    "' onfocus='window.hit=1' autofocus='",
    f"<meta http-equiv=refresh content='0;url={BEACON}'>",
    f"<base href={BEACON}><form action={BEACON}><button autofocus>x</button></form>",
    "<details open ontoggle=window.hit=1><summary>x</summary></details>",
    "{{ 7*7 }}{% raw %}<a href=javascript:window.hit=1>x</a>&lt;script&gt;\u2028\ufeff",
)
