"""Creation: functions that carry the options of their stage."""

from __future__ import annotations

import functools

import pytest

import htdag
from htdag.errors import FunctionError, OptionError, StageNameError


@htdag.stage(request_memory="2GB", retries=2, requirements="HasFileTransfer")
def double(x):
    """Return twice x."""
    return 2 * x


def numbers():
    return htdag.source(range(3))


def test_it_stays_the_function():
    assert double(4) == 8
    assert double.__doc__ == "Return twice x."


def test_a_stage_has_its_options():
    options = numbers().map(double).options
    assert (options.request_memory, options.retries) == ("2GB", 2)


def test_the_call_goes_first_then_the_function_then_the_pipeline():
    stage = numbers().map(double, retries=5, requirements="Mips > 1")
    flow = htdag.Pipeline(stage, retries=1, request_memory="1GB", request_disk="3GB", rank="Mips")
    options = flow.graph.nodes["double"]["stage"].options
    assert (options.retries, options.request_memory, options.request_disk) == (5, "2GB", "3GB")
    assert "HasFileTransfer" in options.requirements
    assert "Mips > 1" in options.requirements


def test_it_can_give_the_name():
    @htdag.stage(name="twice")
    def f(x):
        return x

    assert numbers().map(f).name == "twice"
    assert numbers().map(f, name="other").name == "other"


def test_without_parentheses():
    @htdag.stage
    def f(x):
        return x

    assert numbers().map(f).name == "f"


def test_a_partial_has_the_options_of_its_function():
    @htdag.stage(retries=3)
    def add(a, b):
        return a + b

    assert numbers().map(functools.partial(add, 1)).options.retries == 3


def test_any_kind_of_stage_takes_them():
    @htdag.stage(retries=4)
    def add(a, b):
        return a + b

    assert numbers().reduce(add).options.retries == 4


def test_mistakes_are_raised_at_the_decoration():
    with pytest.raises(OptionError, match=r"'f': there is no option 'retry'"):

        @htdag.stage(retry=2)
        def f(x):
            return x

    with pytest.raises(StageNameError):
        htdag.stage(name="not a name")(lambda x: x)
    with pytest.raises(FunctionError, match="decorates a function"):
        htdag.stage(retries=1)(3)
    with pytest.raises(FunctionError, match="takes no attributes"):
        htdag.stage(retries=1)(len)


def test_it_runs_by_value_and_fuses(tmp_path, monkeypatch):
    monkeypatch.setenv("HTDAG_HOME", str(tmp_path))

    @htdag.stage(request_cpus=1)
    def f(x):
        return double(x) + 1  # decorated too, and reached from here

    stages = numbers().map(f).map(lambda x: -x, request_cpus=1)
    flow = htdag.Pipeline(stages, history=False)
    assert len(flow.plan().nodes) == 1
    assert flow.run(on="local") == [-1, -3, -5]
