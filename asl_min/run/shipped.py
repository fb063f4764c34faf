"""Files that come with the package: bases, worlds and configs."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
DIAGRAM = Path("reproduce/results/phase_diagram.json")
"""What bases of known measures gained; it comes with the repository, not with the installed package."""


def shipped(path: str | Path) -> Path:
    """A path as given or, if there is nothing, of the same name in the repository or in the installed package."""
    places = (Path(path), PACKAGE.parent / path, PACKAGE / path)
    return next((place for place in places if place.exists()), Path(path))
