"""The examples in the docstrings of the public names run, and every name has one."""

import doctest
import inspect
import io

import jax.numpy as jnp
import numpy as np
import pytest
from surface import public

import isr_jax

NAMES = public()


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"isr_jax": isr_jax, "jnp": jnp, "np": np}
    text = inspect.cleandoc(NAMES[name].__doc__)
    test = doctest.DocTestParser().get_doctest(text, given, name, None, 0)
    assert test.examples, f"{name} has no example"
    said = io.StringIO()
    doctest.DocTestRunner().run(test, out=said.write)
    assert said.getvalue() == ""
