"""The search tool: in memory, on disk, or behind a server; and what makes a corpus."""
