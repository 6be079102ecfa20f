"""The blind rating page: two texts, the questions of the task, one key a judgment. No page names a system.

Plain forms do everything; the script only maps keys to buttons. Which text stands first, and in which order pairs
come, is drawn per rater.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from quipwright.core.errors import DiskError
from quipwright.core.records import Judgment, Verdict, content_hash
from quipwright.data.task import Task
from quipwright.evaluation.human.items import CHECK, Item
from quipwright.evaluation.human.raters import Links, checked_name, signature
from quipwright.evaluation.human.ratings import CANNOT_TELL, Ratings
from quipwright.serving.gate import Gate, form, pages

_INVITED = "This page has a link for each rater. Open the one that you were given."
Shown = Literal["ab", "ba"]


@dataclass(frozen=True)
class Step:
    """What a rater is asked next: one question about one item."""

    item: Item
    question: str


class RatingPage:
    """The page's logic over stored ratings."""

    def __init__(
        self,
        ratings: Ratings,
        task: Task,
        seed: int = 0,
        asked: Collection[str] | None = None,
        token: str | None = None,
    ) -> None:
        """``task`` words the questions. ``seed`` moves every rater's order; keep it for the life of a study. ``asked``: the
        pairs that are asked about, by id (default: all). ``token``: what a rater's link must carry beside its key."""
        self.ratings, self.task, self.seed, self.token = ratings, task, seed, token
        self.items = [item for pair, item in ratings.items.items() if asked is None or pair in asked]
        self.links = Links(ratings.folder)
        self._named: set[str] = set()
        self.template = pages().get_template("rate.html.j2")

    def steps(self, rater: str) -> list[Step]:
        """Everything this rater is asked, in this rater's order; checks are strewn among the pairs."""
        items = sorted(self.items, key=lambda i: content_hash("order", self.seed, rater, i.pair.id))
        return [Step(item, question) for item in items for question in item.questions]

    def shown(self, rater: str, item: Item) -> Shown:
        """Which text this rater sees first; the same for all questions of the pair."""
        return "ab" if int(content_hash("shown", self.seed, rater, item.pair.id), 16) % 2 else "ba"

    def answered(self, rater: str, step: Step) -> bool:
        """Whether this rater has answered ``step``."""
        return (step.item.pair.id, signature(rater), step.question) in self.ratings.votes

    def name(self, given: str, before: str | None) -> str:
        """The rater that ``given`` names. Raises :class:`ValueError` with what is wrong: only who is that rater already
        (``before``) may go on under a name that somebody rates under."""
        rater = checked_name(given)
        if rater != before and (rater in self._named or signature(rater) in self.ratings.judges()):
            raise ValueError("Somebody rates under this name. Open your own link if that is you, or use another name.")
        self._named.add(rater)
        return rater

    def page(self, rater: str | None, error: str = "", status: int = 400) -> Response:
        """The name form, the next question or the end; with an ``error`` on top the answer has its ``status``."""
        if rater is None:
            return HTMLResponse(
                self.template.render(view="name", aim=self.task.aim, error=error), status if error else 200
            )
        steps = self.steps(rater)
        left = [step for step in steps if not self.answered(rater, step)]
        facts: dict[str, Any] = {
            "rater": rater, "total": len(steps), "done": len(steps) - len(left), "error": error,
            "link": self.links.path(rater, self.token),
        }  # fmt: skip
        if not left:
            return HTMLResponse(self.template.render(view="done", **facts), status if error else 200)
        item, question = left[0].item, left[0].question
        texts = (item.a, item.b) if self.shown(rater, item) == "ab" else (item.b, item.a)
        return HTMLResponse(
            self.template.render(
                view="ask", asked=self._wording(question), question=question, item=self._alias(rater, item),
                literal=item.literal, first=texts[0], second=texts[1], **facts,
            ),
            status if error else 200,
        )  # fmt: skip

    def answer(self, rater: str, fields: dict[str, str]) -> str:
        """Store one answer; returns what was wrong with it, or nothing."""
        item = next((i for i in self.items if self._alias(rater, i) == fields.get("item")), None)
        question, choice = fields.get("question", ""), fields.get("choice", "")
        if item is None or question not in item.questions or choice not in ("0", "1", "2", "3"):
            return "That answer did not fit the page; here is the next question."
        shown = self.shown(rater, item)
        verdict: Verdict = (
            "unparsed"
            if choice == "0"
            else "tie"
            if choice == "3"
            else "A"
            if (choice == "1") == (shown == "ab")
            else "B"
        )
        reason = CANNOT_TELL if choice == "0" else CHECK if item.check else ""
        self.ratings.vote(
            Judgment(
                pair_id=item.pair.id,
                judge=signature(rater),
                shown=shown,
                verdict=verdict,
                question=question,
                reason=reason,
            )
        )
        return ""

    def _wording(self, question: str) -> str:
        return self.task.questions.get(question, question)

    def _alias(self, rater: str, item: Item) -> str:
        """What the page calls an item: not its id, which a curious rater could find in the run's files."""
        return content_hash("alias", self.seed, rater, item.pair.id)


def rating_app(
    ratings: Ratings,
    task: Task,
    token: str | None = None,
    seed: int = 0,
    *,
    asked: Collection[str] | None = None,
    invited: bool = False,
) -> Any:
    """The ASGI application. ``token`` is asked of everyone where it is set; with ``invited`` only those enter who have a
    link, and nobody names himself. ``asked``: see :class:`RatingPage`."""
    page = RatingPage(ratings, task, seed, asked, token)

    def _rater(request: Request) -> str | None:
        name, _, key = unquote(request.cookies.get(_cookie(request), "")).rpartition("/")
        return name if name and page.links.fits(name, key) else None

    def _known(request: Request, rater: str) -> Response:
        response = _home()
        value = quote(f"{rater}/{page.links.key(rater)}")
        response.set_cookie(_cookie(request), value, max_age=30 * 86400, httponly=True, samesite="lax")
        return response

    async def show(request: Request) -> Response:
        rater = _rater(request)
        return page.page(None, _INVITED, 403) if invited and rater is None else page.page(rater)

    async def enter(request: Request) -> Response:
        rater = str(request.path_params["name"])
        fits = page.links.fits(rater, str(request.path_params["key"]))
        return _known(request, rater) if fits else page.page(None, "This is not the link of a rater.", 403)

    async def name(request: Request) -> Response:
        if invited:
            return page.page(None, _INVITED, 403)
        try:
            rater = page.name((await form(request)).get("name", ""), _rater(request))
        except ValueError as wrong:
            return page.page(None, str(wrong))
        return _known(request, rater)

    async def answer(request: Request) -> Response:
        if (rater := _rater(request)) is None:
            return page.page(None, "Tell us your name first; that answer was not stored.")
        try:
            problem = page.answer(rater, await form(request))
        except DiskError as error:
            return page.page(rater, f"That answer was not stored: {error.problem}", 507)
        return page.page(rater, problem) if problem else _home()

    async def undo(request: Request) -> Response:
        if (rater := _rater(request)) is not None:
            try:
                ratings.undo(signature(rater))
            except DiskError as error:
                return page.page(rater, f"That answer was not taken back: {error.problem}", 507)
        return _home()

    async def leave(request: Request) -> Response:
        response = _home()
        response.delete_cookie(_cookie(request))
        return response

    routes = [
        Route("/", show),
        Route("/rater/{name}/{key}", enter),
        *(Route(f"/{f.__name__}", f, methods=["POST"]) for f in (name, answer, undo, leave)),
    ]
    return Gate(Starlette(routes=routes), token)


def _home() -> RedirectResponse:
    return RedirectResponse("/", 303)


def _cookie(request: Request) -> str:
    return f"quipwright-rater-{request.url.port or 80}"  # cookies know no port: two studies must not share a name
