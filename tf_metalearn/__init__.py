"""Meta-learning on TensorFlow and Keras: learn the optimizer, the initialisation or the metric.

The public names are in `api.py`, and are imported when one of them is used or Keras is: what needs neither, such as the
help of the command line, does not wait for TensorFlow.
"""

import importlib.abc as _abc
import os as _os
import sys as _sys
import typing as _typing
from collections.abc import Sequence as _Sequence
from importlib import import_module as _import_module
from importlib.machinery import ModuleSpec as _ModuleSpec
from types import ModuleType as _ModuleType

__version__ = "0.1.0"

if _os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
    raise ImportError(
        "tf_metalearn needs Keras 3 as `tf.keras`. Received: TF_USE_LEGACY_KERAS="
        f"{_os.environ['TF_USE_LEGACY_KERAS']!r} in the environment.\nRemedy: unset TF_USE_LEGACY_KERAS."
    )
if _os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    # Before Keras is imported, which fails in its own words where that backend is not installed.
    raise ImportError(
        "tf_metalearn needs Keras's TensorFlow backend. Received: KERAS_BACKEND="
        f"{_os.environ['KERAS_BACKEND']!r} in the environment.\nRemedy: unset KERAS_BACKEND."
    )


def _load() -> None:
    """Imports the library and gives this module its public names."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ImportError(
            f"tf_metalearn needs Keras's TensorFlow backend. Received: {keras.backend.backend()!r}, Keras's "
            "configuration.\nRemedy: set KERAS_BACKEND=tensorflow, or 'backend' in ~/.keras/keras.json."
        )
    api = _import_module("tf_metalearn.api")
    globals().update({name: getattr(api, name) for name in ("__all__", *api.__all__)})


class _LoadAfter(_abc.MetaPathFinder):
    """Loads the library at the end of the import that has brought Keras in, whether of Keras or of a part of this.

    In a saved file Keras knows the classes that are registered, and a class is registered when its module is imported.
    So `keras.saving.load_model` works once both Keras and `tf_metalearn` are imported, in whichever order.
    """

    #: Imports under way, one inside the other. Only when the outermost is over are all of them complete.
    depth = 0

    def find_spec(
        self, fullname: str, path: _Sequence[str] | None, target: _ModuleType | None = None
    ) -> _ModuleSpec | None:
        # TensorFlow imports Keras when it is itself not yet complete.
        if fullname.partition(".")[0] != __name__ and fullname not in ("keras", "tensorflow"):
            return None
        others = (finder.find_spec(fullname, path, target) for finder in _sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_load(module: _ModuleType) -> None:
                self.depth += 1
                try:
                    execute(module)
                finally:
                    self.depth -= 1
                if not self.depth and "keras" in _sys.modules and self in _sys.meta_path:
                    _sys.meta_path.remove(self)
                    _load()

            spec.loader.exec_module = execute_and_load  # type: ignore[method-assign]
        return spec


if _typing.TYPE_CHECKING:
    from tf_metalearn.api import *  # noqa: F403
else:

    def __getattr__(name):
        if name == "__all__" or not name.startswith("_"):
            _load()
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        _load()
        return sorted(globals())

    if "keras" in _sys.modules:
        _load()
    else:
        _sys.meta_path.insert(0, _LoadAfter())
