"""A chat endpoint that plays the loop: OpenAI's chat completions, in which the model searches between its turns; and a
page that shows two checkpoints side by side.

    python -m asl_min.tools.serve runs/NAME
    python -m asl_min.tools.serve runs/NAME/round_02 --compare base --port 8002

Checkpoints are those of asl_min.tools.ask. POST /v1/chat/completions takes `model` (a checkpoint as given here),
`messages`, `stream`, `temperature` (0 unless given: greedy) and `seed`; `n` is 1, and every other key of OpenAI's is
accepted and means nothing here. The question is the last message of the user: the policy answers single questions and
has learnt nothing of conversations. GET /v1/models lists the checkpoints, GET / is the page.

Bound to the loopback. Episodes are played one after the other; MAX_WAITING requests are held at once, the next one is
told to come again (429).
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import CONFIG, MAX_PORT, above_zero, argument, start

    start(
        "asl_min.tools.serve",
        __doc__,
        argument("checkpoint", help="a run, a round of it, a peft adapter, or 'base'"),
        argument("overrides", nargs="*", default=[], metavar="key=value", help="values over those of the config"),
        argument("--compare", metavar="CHECKPOINT", help="a second one, served too"),
        argument("--port", type=above_zero(int, MAX_PORT), default=8002),
        CONFIG,
    )

import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore
from typing import Literal
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from asl_min import roles
from asl_min.episode import Episode, Turn
from asl_min.phase import Agent
from asl_min.run import terminal
from asl_min.run.errors import InputError
from asl_min.tools import ask, chat_format

HOST = "127.0.0.1"
NAMES = [HOST, "localhost"]
"""Under which the server answers. A page of another site that points its own name here is refused."""
MAX_WAITING, MAX_BYTES, MAX_MESSAGES, MAX_QUESTION = 8, 256 * 1024, 256, 4000
PAGE = Path(__file__).parent / "html" / "chat.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Refusal(Exception):
    """An answer in OpenAI's form of an error."""

    def __init__(self, status: int, message: str, code: str):
        self.status, self.message, self.code = status, message, code

    @property
    def response(self) -> JSONResponse:
        kind = "invalid_request_error" if self.status < 429 else "server_error"
        error = {"message": self.message, "type": kind, "param": None, "code": self.code}
        headers = {"Retry-After": "5"} if self.status == 429 else None
        return JSONResponse({"error": error}, self.status, headers)


class Message(BaseModel):
    role: str
    content: str | list[dict] | None = None

    @property
    def text(self) -> str:
        """The content, of which parts that are no text are left out."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    include_usage: bool = False


class Completion(BaseModel):
    """The body of a request."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = None
    n: Literal[1] | None = None

    @property
    def question(self) -> str:
        """The last message of the user. Raises `Refusal` where there is none, or where it is too long."""
        asked = next((m.text.strip() for m in reversed(self.messages) if m.role == "user"), "")
        if not asked:
            raise Refusal(400, "no message of the user with a text", "no_question")
        if len(asked) > MAX_QUESTION:
            raise Refusal(400, f"the question has {len(asked)} characters, at most {MAX_QUESTION}", "too_long")
        return asked


class Player:
    """Plays episodes one after the other, in a thread of its own."""

    def __init__(self):
        self._places, self._worker = BoundedSemaphore(MAX_WAITING), ThreadPoolExecutor(1)

    def play(self, agent: Agent, question: str, temperature: float, seed: int) -> Iterator[Turn | Episode]:
        """The turns of an episode as they are written, then the episode. Raises `Refusal` where too many wait."""
        if not self._places.acquire(blocking=False):
            raise Refusal(429, f"{MAX_WAITING} requests are waiting already", "busy")
        found: SimpleQueue[Turn | Episode | Exception] = SimpleQueue()
        self._worker.submit(self._episode, agent, question, temperature, seed, found)
        return until_episode(found)

    def _episode(self, agent: Agent, question: str, temperature: float, seed: int, found: SimpleQueue) -> None:
        try:
            agent.watch(found.put)
            requests = roles.solve_requests([question], 1, seed, "ask")
            found.put(agent.rollout("policy", requests, temperature)[0])
        except Exception as error:  # to be raised where the episode is waited for
            found.put(error)
        finally:
            self._places.release()


def until_episode(found: SimpleQueue) -> Iterator[Turn | Episode]:
    """What is put there, up to an episode. Raises an exception that is put there."""
    while True:
        part = found.get()
        if isinstance(part, Exception):
            raise part
        yield part
        if isinstance(part, Episode):
            return


def app_of(agents: dict[str, Agent]) -> FastAPI:
    """`agents`: what is served, by the name of the model."""
    app, player, began = FastAPI(title="asl_min chat"), Player(), int(time.time())

    def model_facts(name: str) -> dict:
        return {"id": name, "object": "model", "created": began, "owned_by": "asl_min"}

    def refuse_unknown(name: str) -> None:
        if name not in agents:
            raise Refusal(404, f"no model {name!r}; there are {', '.join(agents)}", "model_not_found")

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=NAMES)
    app.exception_handler(Refusal)(lambda _, refusal: refusal.response)
    for kind in (InputError, Exception):  # of others than InputError the server's log has the traceback too
        app.exception_handler(kind)(lambda _, error: Refusal(500, str(error), "failed").response)
    app.exception_handler(RequestValidationError)(lambda _, error: Refusal(400, fault(error), "bad_request").response)

    @app.middleware("http")
    async def limit(request: Request, proceed) -> Response:
        refusal = refused(request.headers)
        return refusal.response if refusal else await proceed(request)

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": POLICY})

    @app.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [model_facts(name) for name in agents]}

    @app.get("/v1/models/{name:path}")
    def model(name: str) -> dict:
        refuse_unknown(name)
        return model_facts(name)

    @app.post("/v1/chat/completions")
    def complete(body: Completion) -> Response:
        refuse_unknown(body.model)
        agent = agents[body.model]
        seed = agent.config.seed if body.seed is None else body.seed
        played = player.play(agent, body.question, body.temperature or 0.0, seed)
        if not body.stream:
            return JSONResponse(chat_format.whole(body.model, played, agent.tool))
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        events = chat_format.stream(body.model, played, agent.tool, with_usage)
        return StreamingResponse(events, media_type="text/event-stream")

    return app


def refused(headers: dict[str, str]) -> Refusal | None:
    """Why a request is not even read: sent by a page of another site, or of a size that is too large or not told."""
    if (origin := headers.get("origin")) and urlsplit(origin).hostname not in NAMES:
        return Refusal(403, f"a page of {origin} has no business here", "foreign_origin")
    if "transfer-encoding" in headers:
        return Refusal(411, "Content-Length is missing", "no_length")
    if int(headers.get("content-length", 0)) > MAX_BYTES:
        return Refusal(413, f"more than {MAX_BYTES} bytes", "too_large")
    return None


def fault(error: RequestValidationError) -> str:
    """The first fault of a body: its key and what is wrong."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"


def main(args: Namespace) -> None:
    checkpoints = [c for c in (args.checkpoint, args.compare) if c]
    config = ask.config_of(checkpoints, args.config, args.overrides)
    adapters, url = {c: ask.adapters_of(c, config) for c in checkpoints}, f"http://{HOST}:{args.port}"
    facts = {"url": f"{url}/v1", "page": url, "models": checkpoints}
    if args.dry_run:
        terminal.tell(f"{', '.join(checkpoints)}: would be served at {url}", **facts)
        return
    app = app_of({checkpoint: Agent(config, found) for checkpoint, found in adapters.items()})
    terminal.say(f"{', '.join(checkpoints)}: page {url}, chat completions {url}/v1", "serving", **facts)
    uvicorn.run(app, host=HOST, port=args.port, log_level="warning")
