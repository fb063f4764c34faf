"""Whatever stands in for a sampler or a search tool has its methods, with the same parameters."""

import inspect

import pytest
from helpers import Scripted

from asl_min.sampling.generate import Generator
from asl_min.sampling.sampler import Sampler
from asl_min.sampling.tgi import Tgi
from asl_min.sampling.vllm import Vllm
from asl_min.search.bm25 import Bm25Search
from asl_min.search.disk import DiskSearch
from asl_min.search.remote import RemoteSearch
from asl_min.search.tool import SearchTool

SAMPLERS = [(Sampler, cls) for cls in (Generator, Vllm, Tgi, Scripted)]
TOOLS = [(SearchTool, cls) for cls in (Bm25Search, DiskSearch, RemoteSearch)]


def parameters_of(method) -> list[tuple]:
    """Names, kinds and defaults; the annotations of a context manager's function are those of its generator."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize(("interface", "implementation"), SAMPLERS + TOOLS)
def test_implementation_can_stand_in_for_its_interface(interface, implementation):
    assert issubclass(implementation, interface) and interface not in implementation.__mro__
    methods = [name for name in vars(interface) if not name.startswith("_")]
    assert methods
    for name in methods:
        assert parameters_of(getattr(implementation, name)) == parameters_of(getattr(interface, name)), name


def test_a_class_without_the_methods_is_no_sampler():
    assert not issubclass(Bm25Search, Sampler) and not issubclass(Scripted, SearchTool)
