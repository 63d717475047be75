"""Everything public has an example in its docstring; pytest runs these examples (`--doctest-modules`).

Public is what stands in `__all__` of the library, of its sub-packages and of the modules that these name: functions,
classes, and the methods that a class itself defines. Where there is no `__all__`, it is what a module defines. Names
that begin with an underscore are not public, and the command line has its examples in its help.

The example of a method may stand in its class's docstring. Methods that override one of a base class, such as a
layer's `call`, have theirs where they are first defined, or are Keras's. Properties and fields need none.
"""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import tf_metalearn as tfm


def public_modules():
    """The library, its sub-packages, and the modules that they name."""
    found = [tfm]
    for part in pkgutil.iter_modules(tfm.__path__):
        if part.ispkg and part.name != "cli":
            found.append(importlib.import_module(f"tf_metalearn.{part.name}"))
    for module in found:
        named = [getattr(module, name) for name in getattr(module, "__all__", ())]
        found.extend(part for part in named if inspect.ismodule(part) and part not in found)
    return found


def public_objects(module):
    """Functions and classes, as they are without what decorators have put around them."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    for name in names:
        value = inspect.unwrap(getattr(module, name))
        ours = hasattr(module, "__all__") or getattr(value, "__module__", None) == module.__name__
        if ours and (inspect.isfunction(value) or inspect.isclass(value)):
            yield value


def methods(cls):
    """The public methods that a class defines first."""
    for name, value in vars(cls).items():
        function = inspect.unwrap(getattr(value, "__func__", value))
        inherited = any(name in vars(base) for base in cls.__mro__[1:])
        if inspect.isfunction(function) and not name.startswith("_") and not inherited:
            yield name, function


def examples(value):
    return doctest.DocTestParser().get_examples(value.__doc__ or "")


def without_example(value):
    """The name of a function, or of a class and its methods, as far as examples are missing."""
    if not examples(value):
        yield value.__qualname__
    if inspect.isclass(value):
        shown = "".join(example.source for example in examples(value))
        for name, function in methods(value):
            if f".{name}(" not in shown and not examples(function):
                yield function.__qualname__


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_everything_public_has_an_example(module):
    missing = [f"{value.__module__}: {name}" for value in public_objects(module) for name in without_example(value)]
    assert missing == []


def test_the_search_finds_functions_classes_methods_and_what_is_cached():
    names = {module.__name__.removeprefix("tf_metalearn.") for module in public_modules()}
    assert {"tf_metalearn", "rules", "learners", "backbones", "functional", "episodes.prepared"} <= names
    assert tfm.unroll in public_objects(tfm)
    assert inspect.unwrap(tfm.problems.mnist) in public_objects(tfm.problems)
    assert "similarity" in dict(methods(tfm.PrototypicalNetwork))

    class Undocumented:
        """No example, and one of `shown`.

        >>> Undocumented.shown(1)
        """

        def shown(self):
            pass

        def forgotten(self):
            pass

    assert [name.rpartition(".")[2] for name in without_example(Undocumented)] == ["forgotten"]
