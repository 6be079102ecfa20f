"""Provider batches (OpenAI's format): half the price, hours of patience, and never submitted twice.

The intent to submit is stored before the batch is created, under a token that the provider keeps as metadata; after a
crash in between, the provider is asked for that token instead of being sent a second batch.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import httpx2
from pydantic import AfterValidator, Field

from quipwright.core.errors import BudgetError, ModelError
from quipwright.core.records import content_hash
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.calls import Asked, Calls
from quipwright.llm.chat_model import RemoteModel
from quipwright.llm.connections import Reply
from quipwright.llm.costs import check_budget
from quipwright.llm.http_models import OPENAI, VariableName, checked_urls, key_for
from quipwright.llm.http_outcome import NETWORK_ERRORS, Answered, Outcome, judge_error, judge_reply
from quipwright.llm.model_settings import ModelSettings
from quipwright.llm.offline_files import ENDPOINT, question_line, read_answers, settle
from quipwright.llm.openai_api import ChatWire
from quipwright.llm.recorder import recorded
from quipwright.llm.retry import Retry, Tries
from quipwright.llm.types import Capabilities, ChatModel, Request

ROUNDS = 3  # how often what expired or failed for no fault of its own is submitted
_ENDED = {"completed", "failed", "expired", "cancelled"}


class Batch(ModelSettings):
    """A model behind a provider's batch endpoint; fields as in :class:`~quipwright.llm.http_models.Chat`.

    ``poll``: seconds between looks; ``patience``: seconds to wait before the run stops (run it again to collect).
    ``capabilities`` are stated, because a batch is a slow way to probe. ``size``: most requests of one batch.
    """

    whole: ClassVar[bool] = True
    kind: Literal["batch"] = "batch"
    model: str = Field(min_length=1)
    base_url: Annotated[str, AfterValidator(checked_urls)] = OPENAI
    revision: str | None = None
    key_env: VariableName | None = None
    retry: Retry = Retry()
    poll: float = Field(30.0, gt=0)
    patience: float = Field(26 * 3600.0, ge=0)
    size: int = Field(50_000, ge=1, le=50_000)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    extra: dict[str, Any] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()
    capabilities: Capabilities = Capabilities(logprobs=20)
    record: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of these settings changes an answer: as for ``chat``, whose stored answers serve here and back."""
        url = self.base_url.rstrip("/")
        asked = {"kind": "chat", "model": self.model, "revision": self.revision, "base_url": url}
        return asked | {"extra": self.extra, "omit": sorted(self.omit)}

    @property
    def at_once(self) -> int:
        """All there are."""
        return sys.maxsize

    def build(self, calls: Calls) -> ChatModel:
        """The model, asking through ``calls``."""
        key = key_for(self.model, self.key_env, self.base_url)
        wire = ChatWire(self.model, key, self.max_tokens_field, self.extra, self.omit)
        provider = BatchProvider(self, wire, calls)
        model = RemoteModel(self.model, self.identity(), calls, provider.send, lambda: self.capabilities)
        return recorded(model, self.record, calls)


class BatchProvider:
    """One provider's files and batches."""

    def __init__(self, settings: Batch, wire: ChatWire, calls: Calls) -> None:
        """``wire`` writes the questions and reads the answers."""
        self.settings, self.wire, self.calls = settings, wire, calls
        self._note = f"batch {content_hash(settings.identity())}"

    def send(self, missing: list[Asked], prefill: str) -> Mapping[str, Stored | Failed]:
        """Collect an open batch if there is one, then submit what is still missing, at most three times over."""
        done: dict[str, Stored | Failed] = {}
        open_batch = self.calls.store.note(self._note)
        if open_batch:
            done |= self._collect(open_batch, dict(missing))
        for _ in range(ROUNDS):
            left = [(key, request) for key, request in missing if key not in done]
            if not left:
                return done
            for start in range(0, len(left), self.settings.size):
                part = self._affordable(left[start : start + self.settings.size])
                done |= self._collect(self._submit(part, prefill), dict(part))
        left = [(key, request) for key, request in missing if key not in done]
        reason = f"batch: no answer in {ROUNDS} submissions"
        return done | self.calls.keep(Failed(key, self.settings.model, reason, None, ROUNDS) for key, _ in left)

    def _affordable(self, part: Sequence[Asked]) -> list[Asked]:
        """As much of ``part`` as fits the caps at its upper bound; raises :class:`BudgetError` where nothing fits."""
        budget, ledger = self.calls.budget, self.calls.ledger
        check_budget(budget, ledger)
        calls_left = len(part) if budget.calls is None else budget.calls - ledger.attempts
        fitting: list[Asked] = []
        money = ledger.spent
        for key, request in part[:calls_left]:
            money += self.calls.bound(self.settings.model, request) or 0.0
            if budget.money is not None and money > budget.money:
                break
            fitting.append((key, request))
        if not fitting:
            raise BudgetError(
                f"budget.money leaves {(budget.money or 0) - ledger.spent:.4f}, too little for one more call.",
                "All answers are stored; raise budget.money and run the same command again to go on.",
            )
        return fitting

    def _submit(self, part: Sequence[Asked], prefill: str) -> dict[str, Any]:
        """Create a batch. Its token is on disk before the provider hears of it."""
        token = content_hash("batch", time.time_ns(), [key for key, _ in part])
        self.calls.store.set_note(self._note, {"token": token, "id": None})
        lines = "".join(question_line(key, self.wire.body(request, prefill)) + "\n" for key, request in part)
        file = {"file": (f"{token}.jsonl", lines.encode(), "application/jsonl")}
        uploaded = self._http("POST", "/files", files=file, data={"purpose": "batch"})
        wanted = {"input_file_id": uploaded["id"], "endpoint": ENDPOINT, "completion_window": "24h"}
        created = self._http("POST", "/batches", json=wanted | {"metadata": {"quipwright": token}}, once=token)
        opened = {"token": token, "id": created["id"]}
        self.calls.store.set_note(self._note, opened)
        return opened

    def _collect(self, opened: Mapping[str, Any], asked: Mapping[str, Request]) -> dict[str, Stored | Failed]:
        """Wait for a batch and store what came of ``asked``; a batch that was never created has nothing."""
        created = self._by_id(opened["id"]) if opened["id"] else self._by_token(opened["token"])
        batch = self._wait(created) if created else None
        done: dict[str, Stored | Failed] = {}
        if batch is not None:
            texts = [self._file(batch.get(name)) for name in ("output_file_id", "error_file_id")]
            answers = read_answers("\n".join(texts), self.wire)
            outcomes = answers.outcomes
            if complaint := answers.complaint(f"batch {batch['id']}"):
                warnings.warn(complaint, stacklevel=2)
            # What an earlier recipe asked for is kept too: it is paid.
            rows = [settle(self.settings.model, self.calls, k, asked.get(k), o) for k, o in outcomes.items()]
            done = self.calls.keep(row for row in rows if row is not None)
            self.calls.ledger.attempts += sum(row is None for row in rows)
            if batch["status"] == "failed" and not outcomes:
                self.calls.store.set_note(self._note, None)
                raise ModelError(
                    f"batch {batch['id']} failed: {_why(batch)}.", "Check model and limits, then run again."
                )
        self.calls.store.set_note(self._note, None)
        return done

    def _wait(self, batch: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        while batch["status"] not in _ENDED:
            if time.monotonic() - began >= self.settings.patience:
                raise ModelError(
                    f"batch {batch['id']} is {batch['status']}.", "Run the same command again later to collect it."
                )
            time.sleep(self.settings.poll)
            batch = self._by_id(batch["id"]) or batch
        return batch

    def _by_id(self, batch_id: str) -> dict[str, Any] | None:
        return self._http("GET", f"/batches/{batch_id}")

    def _by_token(self, token: str) -> dict[str, Any] | None:
        """The batch with our token among all of the provider's, or ``None``: it was never created."""
        after = ""
        while True:
            page = self._http("GET", f"/batches?limit=100{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get("quipwright") == token:
                    return dict(batch)
            if not page.get("has_more") or not page["data"]:
                return None
            after = f"&after={page['data'][-1]['id']}"

    def _file(self, file_id: str | None) -> str:
        return str(self._http("GET", f"/files/{file_id}/content")["text"]) if file_id else ""

    def _http(self, method: str, path: str, *, once: str | None = None, **sent: Any) -> dict[str, Any]:
        """One exchange with retries. ``once`` is the token of a batch that must not be created twice: when no clear
        answer comes, the provider is asked whether it has it."""
        url, tries = self.settings.base_url.rstrip("/") + path, Tries(self.settings.retry)
        while True:
            tries.begin(time.monotonic())
            outcome = self._once(method, url, path.endswith("/content"), sent)
            if outcome.answer is not None:
                return outcome.answer.reply
            if outcome.permanent:
                raise ModelError(f"{url} refused us: {outcome.reason}.", outcome.remedy)
            if once is not None and (created := self._by_token(once)) is not None:
                return created
            pause = tries.pause(outcome.wait, time.monotonic())
            if pause is None:
                raise ModelError(
                    f"{url} does not answer: {tries.why_none(outcome.reason)}.", "Run the same command again later."
                )
            time.sleep(pause)

    def _once(self, method: str, url: str, as_text: bool, sent: Mapping[str, Any]) -> Outcome:
        timeout, headers = self.settings.retry.timeout, self.wire.headers()
        headers.pop("content-type")  # of the files, the client knows it
        try:
            with httpx2.Client(timeout=timeout, trust_env="127.0.0.1" not in url) as client:
                reply = Reply.of(client.request(method, url, headers=headers, **sent))
        except NETWORK_ERRORS as error:
            return judge_error(error)
        if as_text and reply.status == 200:
            return Outcome(Answered({"text": reply.body.decode("utf-8", "replace")}, None, None))
        return judge_reply(reply, _Plain(self.wire))


class _Plain:
    """Reads the provider's own objects."""

    def __init__(self, wire: ChatWire) -> None:
        self._wire = wire

    def secrets(self) -> tuple[str, ...]:
        return self._wire.secrets()

    def read(self, payload: Any) -> Answered:
        if not isinstance(payload, dict):
            raise ValueError("an object")
        return Answered(payload, None, None)


def _why(batch: Mapping[str, Any]) -> str:
    errors = (batch.get("errors") or {}).get("data") or []
    return str(errors[0].get("message", "no reason given"))[:160] if errors else "no reason given"
