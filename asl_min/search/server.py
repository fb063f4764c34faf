"""A retrieval server in Search-R1's wire format.

    python -m asl_min.search.server --index data/wiki18/bm25 --port 8001

POST /retrieve {"queries": ["…"], "topk": 3, "return_scores": true} answers {"result": [[{"document": {"id", "title",
"text", "contents"}, "score"}]]}, one list a query; without scores the documents stand in the lists themselves. GET
/health says which index is served.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import MAX_PORT, above_zero, argument, start

    index = argument("--index", type=Path, required=True, help="folder, made by asl_min.search.disk")
    host = argument("--host", default="127.0.0.1")
    port = argument("--port", type=above_zero(int, MAX_PORT), default=8001)
    top_k = argument("--top-k", type=above_zero(int, 100), default=3, help="for requests without topk")
    start("asl_min.search.server", __doc__, index, host, port, top_k)

from argparse import Namespace

import uvicorn
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asl_min.corpus import Passage
from asl_min.run import terminal
from asl_min.search.disk import DiskSearch
from asl_min.search.together import MAX_QUERIES, SearchTogether

MAX_TOP_K = 100
"""Of a request, as of --top-k."""
MAX_BYTES = 10 * 2**20
"""Of a request."""


class Query(BaseModel):
    queries: list[str] = Field(max_length=MAX_QUERIES)
    topk: int | None = Field(None, ge=1, le=MAX_TOP_K)
    return_scores: bool = False


def app_of(search: DiskSearch) -> Starlette:
    """Starlette alone: FastAPI's own handling of a request takes about as long as the search."""
    together = SearchTogether(search)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse(search.facts)

    async def retrieve(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"detail": f"more than {MAX_BYTES} bytes"}, 413)
        try:
            query = Query.model_validate_json(body)
        except ValidationError as error:
            return Response(f'{{"detail": {error.json()}}}', 422, media_type="application/json")
        rows = await together.scored(query.queries, query.topk or search.top_k)
        return JSONResponse({"result": [[answer(p, score, query.return_scores) for p, score in row] for row in rows]})

    return Starlette(routes=[Route("/health", health), Route("/retrieve", retrieve, methods=["POST"])])


def answer(passage: Passage, score: float, with_score: bool) -> dict:
    """A passage in the wire format."""
    document = {"id": passage.id, "title": passage.title, "text": passage.text, "contents": passage.contents}
    return {"document": document, "score": score} if with_score else document


def main(args: Namespace) -> None:
    search, url = DiskSearch(args.index, args.top_k), f"http://{args.host}:{args.port}"
    if args.dry_run:
        terminal.tell(f"{args.index}: would be served at {url}", url=url, **search.facts)
        return
    terminal.say(f"{args.index}: served at {url}", "serving", url=url, **search.facts)
    uvicorn.run(app_of(search), host=args.host, port=args.port, log_level="warning")
