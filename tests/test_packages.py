"""The lock keeps what pyproject.toml promises."""

import re
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from helpers import ROOT
from packaging.specifiers import SpecifierSet

LOCKED = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


@pytest.mark.parametrize("package", LOCKED)
def test_locked_package_admits_the_first_python_3_11(package):
    """Debian 12 has 3.11.2; a package that wants 3.11.5 ends its `make setup` with an error."""
    try:
        wanted = metadata(package).get("Requires-Python") or ""
    except PackageNotFoundError:
        pytest.skip("not installed on this platform")
    assert SpecifierSet(wanted).contains("3.11.0"), wanted
