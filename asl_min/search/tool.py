"""The search tool that all three roles share, as the rollout sees it: `bm25.Bm25Search` in memory, `disk.DiskSearch`
over an index on disk, or `remote.RemoteSearch`, the client of a retrieval server. None of them inherits from
`SearchTool`; they only have to have its method.
"""

from typing import Protocol, runtime_checkable

from asl_min.corpus import Passage

MAX_QUERY_CHARS = 300


@runtime_checkable
class SearchTool(Protocol):
    """Finds passages."""

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        """For each query its passages, best first; none where nothing matches."""
        ...


def respond(tool: SearchTool, queries: list[str]) -> str:
    """The text between `<tool_response>` tags for one call: the passages of all its queries, grouped by title, each
    passage once."""
    pages: dict[str, dict[str, None]] = {}
    for passage in (p for found in tool.retrieve(queries) for p in found):
        pages.setdefault(passage.title, {})[passage.text] = None
    return "\n".join("\n".join([f'"{title}"', *texts]) for title, texts in pages.items()) or "nothing found"
