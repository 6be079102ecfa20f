"""A trained student as a server: the chat-completions dialect for programs, one small page for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from quipwright.core.errors import QuipwrightError
from quipwright.core.records import Grade, Sampling
from quipwright.core.records import Response as Attempt
from quipwright.core.text import normalise
from quipwright.data.care.judgment import DECLINED, help_for
from quipwright.serving.bad_request import BadRequestError
from quipwright.serving.batcher import Ask, Batcher, BusyError
from quipwright.serving.chat_api import (
    ChatRequest,
    Chunks,
    completion,
    cut,
    failed,
    fields_of,
    read_request,
    settled,
)
from quipwright.serving.completions_api import as_chats, events, text_completion
from quipwright.serving.declined import given_back
from quipwright.serving.gate import HEALTH, NOBODY, Admitted, Gate, form, pages
from quipwright.serving.logprobs import Scored
from quipwright.serving.refusals import HANDLERS
from quipwright.serving.served import Served
from quipwright.serving.writer import BEAMS, MAX_TOKENS, is_sound, marked
from quipwright.students.base import Generated, TokenScorer

TEACHER = "The teacher"  # whose text the page shows
TRIES = 3  # samples beside the beam's answer on the page


@dataclass(frozen=True)
class Shown:
    """One text on the page with the critic's probability of the best grade and its score, where there is a critic."""

    title: str
    text: str
    best: float | None = None
    score: float | None = None


class Endpoint:
    """The handlers over one batcher."""

    def __init__(self, served: Served) -> None:
        """Nothing is loaded here; the student comes ready."""
        self.served = served
        self.batcher = Batcher(served.student.write, waiting=served.waiting)
        self.template = pages().get_template("try.html.j2")

    async def models(self, request: Request) -> Response:
        """The one model there is, under the names of its styles."""
        cards = {
            name: {"id": name, "object": "model", "created": 0, "owned_by": "quipwright"} for name in self.served.styles
        }
        name = request.path_params.get("name")
        if name is None:
            return JSONResponse({"object": "list", "data": [*cards.values()]})
        if name not in cards:
            raise BadRequestError(f"The model {name!r} does not exist.", "model", 404, "model_not_found")
        return JSONResponse(cards[name])

    async def chat(self, request: Request) -> Response:
        """Chat completions, whole or streamed.

        One text without beams is streamed as it is written; beams and several texts once they are finished.
        """
        asked = read_request(fields_of(await request.body()), self.served.styles)
        if asked.stream and asked.n == 1 and asked.sampling.beams == 1:
            return await self._live(asked)
        texts = await self._texts(asked)
        usage = self._usage(asked, texts)
        if asked.stream:
            events = Chunks(asked.model).whole(texts, usage if asked.usage else None)
            return StreamingResponse(_each(events), media_type="text/event-stream")
        return JSONResponse(completion(asked.model, texts, usage, await self._scored(asked, texts)))

    async def completions(self, request: Request) -> Response:
        """The older completions, whole or as a stream of finished texts."""
        asked = [read_request(chat, self.served.styles) for chat in as_chats(fields_of(await request.body()))]
        each = await asyncio.gather(*(self._texts(one) for one in asked))
        spent = [self._usage(one, texts) for one, texts in zip(asked, each, strict=True)]
        usage = {name: sum(one[name] for one in spent) for name in spent[0]}
        texts = [text for some in each for text in some]
        if asked[0].stream:
            stream = events(asked[0].model, texts, usage if asked[0].usage else None)
            return StreamingResponse(_each(stream), media_type="text/event-stream")
        scored = [await self._scored(one, some) for one, some in zip(asked, each, strict=True)]
        tokens = [text for some in scored if some is not None for text in some]
        return JSONResponse(text_completion(asked[0].model, texts, usage, tokens or None))

    async def health(self, request: Request) -> Response:
        """That the server answers, and how many requests wait."""
        return JSONResponse({"status": "ok", "model": self.served.model, "waiting": self.batcher.queued})

    async def _live(self, asked: ChatRequest) -> Response:
        """A stream that opens with the first tokens, so that what is wrong with a request is still an HTTP error."""
        grown: asyncio.Queue[str | None] = asyncio.Queue()
        answer = asyncio.create_task(self._texts(asked, grown.put_nowait))
        answer.add_done_callback(lambda _: grown.put_nowait(None))
        first = await grown.get()
        if first is None:
            answer.result()  # raises what went wrong before there was a token
        return StreamingResponse(self._growing(asked, first, grown, answer), media_type="text/event-stream")

    async def _growing(
        self,
        asked: ChatRequest,
        text: str | None,
        grown: asyncio.Queue[str | None],
        answer: asyncio.Task[list[Generated]],
    ) -> AsyncIterator[str]:
        events, sent = Chunks(asked.model), ""
        try:
            yield events.opening()
            while text is not None:
                if len(known := settled(text, asked.stops)) > len(sent):
                    yield events.more(known[len(sent) :])
                    sent = known
                text = await grown.get()
            texts = await answer
        except Exception as wrong:  # the status is sent: the stream itself must say that it is not complete
            yield failed(wrong.message if isinstance(wrong, BadRequestError) else "The student failed.")
            return
        finally:
            answer.cancel()
        if rest := texts[0].text[len(sent) :]:
            yield events.more(rest)
        yield events.finish(texts[0])
        for event in events.end(self._usage(asked, texts) if asked.usage else None):
            yield event

    async def page(self, request: Request) -> Response:
        """The try-it page."""
        fields = await form(request) if request.method == "POST" else {}
        literal, style = " ".join(fields.get("literal", "").split()), fields.get("style", "")
        attempts, problem = list[Shown](), ""
        if request.method == "POST":
            try:
                attempts = await self._attempts(literal, style)
            except (QuipwrightError, BadRequestError) as wrong:
                problem = str(wrong)
            except BusyError:
                problem = "Too many people are trying at once; wait a moment."
        task = self.served.task
        shown = self.template.render(
            model=self.served.model, aim=task.aim, best_grade=task.grades[-1], literal=literal, attempts=attempts,
            styles=list(task.styles), chosen=style or task.style_named(), error=problem,
        )  # fmt: skip
        return HTMLResponse(shown, 400 if problem else 200)

    async def _texts(self, asked: ChatRequest, on_token: Callable[[str], None] | None = None) -> list[Generated]:
        if kind := await self.served.sensitive(asked.literal):
            return [given_back(asked.literal, kind)] * asked.n
        drawn = asked.sampling.temperature > 0
        prompt = self._prompt(asked.literal, asked.style)
        ask = Ask(prompt, self._fitting(prompt, asked.sampling), asked.n if drawn else 1, asked.seed, on_token)
        try:
            answers = await asyncio.wait_for(self.batcher.ask(ask), self.served.patience)
        except TimeoutError:
            raise BadRequestError("The student took too long.", None, 503, "timeout") from None
        texts = [cut(generated, asked.stops) for generated in answers]
        return texts if drawn else texts * asked.n  # beams know one best answer

    async def _scored(self, asked: ChatRequest, texts: Sequence[Generated]) -> Scored | None:
        """The tokens of ``texts`` with their log-probabilities, where ``asked`` wants them."""
        top, student = asked.logprobs, self.served.student
        if top is None:
            return None
        if not isinstance(student, TokenScorer):
            raise BadRequestError("logprobs are not supported: this student's family does not give them.", "logprobs")
        prompt = self._prompt(asked.literal, asked.style)
        return await self.batcher.run(lambda: [student.token_logprobs(prompt, g.text, top) for g in texts])

    async def _attempts(self, literal: str, style: str) -> list[Shown]:
        if not any(character.isalpha() for character in literal):
            raise BadRequestError("Write a sentence with at least one letter.")
        if kind := await self.served.sensitive(literal):
            return [Shown(DECLINED, literal), *(Shown("", told) for told in help_for(kind))]
        prompt, style = self._prompt(literal, style), self.served.task.style_named(style)
        beam, drawn = await asyncio.gather(
            self.batcher.ask(Ask(prompt, Sampling(beams=BEAMS, max_tokens=MAX_TOKENS), 1)),
            self.batcher.ask(Ask(prompt, Sampling(temperature=0.7, top_p=0.95, max_tokens=MAX_TOKENS), TRIES)),
        )
        best = marked(beam[0]).text
        titled = [("Its best", best)]
        others = list(dict.fromkeys(text for g in drawn if (text := marked(g).text) != best))
        others.sort(key=lambda text: not is_sound(text, literal))  # copies last
        titled += [(f"Another try, {i}", text) for i, text in enumerate(others, 1)]
        titled += [(TEACHER, text) for text in self.served.teacher(literal, style)]
        grades = await self._grades(literal, [text for _, text in titled])
        if not self.served.grades_teacher:
            grades = [None if title == TEACHER else grade for (title, _), grade in zip(titled, grades, strict=True)]
        return [
            Shown(title, text, grade.levels[-1] if grade and grade.levels else None, grade.score if grade else None)
            for (title, text), grade in zip(titled, grades, strict=True)
        ]

    async def _grades(self, literal: str, texts: Sequence[str]) -> list[Grade | None]:
        critic = self.served.critic
        if critic is None:
            return [None] * len(texts)
        responses = [Attempt(example_id="", text=text, author="student") for text in texts]
        return list(await self.batcher.run(lambda: critic.grade([literal] * len(texts), responses)))

    def _prompt(self, literal: str, style: str) -> str:
        return self.served.task.prompt(normalise(literal), style)

    def _fitting(self, prompt: str, sampling: Sampling) -> Sampling:
        """``sampling`` with no more tokens than the context has room for behind ``prompt``, as far as it has any."""
        student = self.served.student
        room = student.settings.context - len(student.prompt_ids(prompt)) if student.settings.kind == "causal" else 0
        most = sampling.max_tokens
        return sampling.model_copy(update={"max_tokens": min(most, room) if room > 0 else most})

    def _usage(self, asked: ChatRequest, texts: Sequence[Generated]) -> dict[str, int]:
        """Tokens as the student counts them, 0 where its family does not say."""
        count_in, count_out = (
            getattr(self.served.student, name, lambda text: ()) for name in ("prompt_ids", "response_ids")
        )
        spent = len(count_in(self._prompt(asked.literal, asked.style))), sum(len(count_out(g.text)) for g in texts)
        return {"prompt_tokens": spent[0], "completion_tokens": spent[1], "total_tokens": sum(spent)}


def serving_app(served: Served, token: str | None = None, admitted: Admitted = NOBODY) -> Any:
    """The ASGI application. ``token`` is the API key and opens the page, where it is set; ``admitted``: who else may
    enter."""
    endpoint = Endpoint(served)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with endpoint.batcher.running():
            yield

    routes = [
        Route("/", endpoint.page, methods=["GET", "POST"]),
        Route("/v1/models", endpoint.models),
        Route("/v1/models/{name:path}", endpoint.models),
        Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
        Route("/v1/completions", endpoint.completions, methods=["POST"]),
        Route(HEALTH, endpoint.health),
    ]
    return Gate(Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan), token, admitted=admitted)


async def _each(events: Any) -> AsyncIterator[str]:
    for event in events:
        yield event
        await asyncio.sleep(0)  # one long answer must not hold up the others
