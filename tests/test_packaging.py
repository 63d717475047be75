"""The wheel, as a stranger gets it: built, installed outside the checkout, run."""

import importlib.metadata
import os
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def run(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command outside the checkout and returns what it said."""
    return subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def package_files() -> set[str]:
    """Every file of the package in the checkout."""
    files = (path for path in (ROOT / "tf_metalearn").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    # From a copy: what an earlier build left beside setup.py would otherwise end up in the wheel.
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tf_metalearn", source / "tf_metalearn", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("wheel")
    pip_wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    built = run(*pip_wheel, "--wheel-dir", folder, source)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel is installed into; its dependencies come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    done = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def requirements(installed) -> list[Requirement]:
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    assert distribution.requires is not None
    return [Requirement(line) for line in distribution.requires]


def pins(name: str) -> dict[str, str]:
    """The versions in a requirements file, by normalized name."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    # Anything else, such as a path or an index, would not work on another machine.
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    return {normalized(line.split("==")[0]): line.split("==")[1] for line in lines}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_wheel_has_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("tf_metalearn/")}
    assert packed == package_files()
    assert "tf_metalearn/py.typed" in packed


def test_wheel_ships_a_card_with_every_pretrained_rule(wheel):
    with zipfile.ZipFile(wheel) as archive:
        rules = [name for name in archive.namelist() if name.endswith(".keras")]
        assert rules
        assert {name.removesuffix(".keras") + ".md" for name in rules} <= set(archive.namelist())


def test_installed_wheel_imports_from_outside_the_checkout(installed):
    code = "import tf_metalearn; print(tf_metalearn.__file__, tf_metalearn.__version__)"
    done = run(sys.executable, "-c", code, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    assert done.stdout.split() == [str(installed / "tf_metalearn" / "__init__.py"), distribution.version]


@pytest.mark.parametrize(
    "rule", [[], pytest.param(["andrychowicz2016"], marks=pytest.mark.slow)], ids=["default", "andrychowicz2016"]
)
def test_installed_wheel_compares_a_shipped_rule(installed, tmp_path, rule):
    small = ["--problem", "digits", "--runs", 3, "--steps", 10, "--tuning-runs", 1, "--out", tmp_path]
    done = run(installed / "bin" / "tf-metalearn", "compare", *rule, *small, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert {".json", ".png"} <= {path.suffix for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "program", ["import keras, tf_metalearn", "import tf_metalearn, keras", "import tf_metalearn; tf_metalearn.MAML"]
)
def test_a_keras_that_is_configured_for_another_backend_is_refused_with_the_remedy(program, tmp_path):
    (tmp_path / "keras.py").write_text("class backend:\n    backend = staticmethod(lambda: 'jax')\n")
    done = run(sys.executable, "-c", program, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    message = done.stderr.strip().splitlines()[-2:]
    assert message[0].startswith("ImportError: tf_metalearn needs Keras's TensorFlow backend. Received: 'jax'")
    assert message[1].startswith("Remedy: set KERAS_BACKEND=tensorflow")


def test_import_alone_waits_for_nothing():
    code = (
        "import sys, tf_metalearn; tf_metalearn.__version__\n"
        "print({'tensorflow', 'keras', 'numpy', 'tf_metalearn.api'} & set(sys.modules))"
    )
    assert run(sys.executable, "-c", code, PYTHONPATH=str(ROOT)).stdout.strip() == "set()"


def test_everything_is_imported_little_later_than_tensorflow():
    """Less than 0.5 s where TensorFlow takes 3.2. Both are timed in one process, so that both meet the same load."""
    code = (
        "from time import perf_counter as now\n"
        "start = now(); import tensorflow; half = now(); import tf_metalearn; tf_metalearn.MAML\n"
        "print((now() - half) / (half - start))"
    )
    runs = [run(sys.executable, "-c", code, PYTHONPATH=str(ROOT)) for _ in range(3)]
    assert statistics.median(float(done.stdout) for done in runs) < 0.5 / 3.2


@pytest.mark.parametrize(
    "imports",
    [
        # A part that needs no Keras comes first.
        "import tf_metalearn.runs.settings, keras",
        "import tf_metalearn, tensorflow, keras",
        "from tf_metalearn.rules import Adam; import keras",
        "from tf_metalearn.learners.metric import MetricLearner; import keras",
        pytest.param("import tf_metalearn.serving.rule, keras", marks=pytest.mark.slow),
        pytest.param("import tf_metalearn, keras", marks=pytest.mark.slow),
        pytest.param("import keras, tf_metalearn", marks=pytest.mark.slow),
        pytest.param("import tensorflow, tf_metalearn, keras", marks=pytest.mark.slow),
        pytest.param("import tf_metalearn.functional, keras", marks=pytest.mark.slow),
        pytest.param("from tf_metalearn import serving; import keras", marks=pytest.mark.slow),
    ],
)
def test_keras_loads_our_files_in_whichever_order_it_is_imported(imports):
    """Keras knows the classes in a file by their registered names only, and never imports a module to find them."""
    code = f"{imports}\nimport sys; print(type(keras.saving.load_model(sys.argv[1])).__name__)"
    path = ROOT / "tf_metalearn" / "pretrained" / "omniglot_prototypical.keras"
    done = run(sys.executable, "-c", code, path, PYTHONPATH=str(ROOT))
    assert done.stdout.strip() == "PrototypicalNetwork", done.stderr


def test_public_names_are_there_before_they_are_used():
    code = (
        "import tf_metalearn as tfm\n"
        "from tf_metalearn import *\n"
        "names = set(tfm.__all__)\n"
        "print(names - set(dir(tfm)), names - set(globals()), tfm.rules is rules, tfm.MAML is MAML)\n"
        "print([hasattr(tfm, name) for name in ('pretrained', 'nonsense', '_nonsense')])"
    )
    done = run(sys.executable, "-c", code, PYTHONPATH=str(ROOT))
    assert done.stdout.splitlines() == ["set() set() True True", "[True, False, False]"], done.stderr


def test_type_checkers_know_the_public_names(tmp_path):
    """They read the imports, which do not happen when the program runs."""
    (tmp_path / "program.py").write_text(
        "import tf_metalearn as tfm\nreveal_type(tfm.MAML)\nreveal_type(tfm.rules.log_sign)\ntfm.nonsense\n"
    )
    mypy = (sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports", "silent", "--no-incremental")
    said = run(*mypy, tmp_path / "program.py", MYPYPATH=str(ROOT)).stdout
    assert "def (base_learner:" in said
    assert "def (gradient:" in said
    assert 'Module has no attribute "nonsense"' in said


@pytest.mark.parametrize(("variable", "value"), [("TF_USE_LEGACY_KERAS", "1"), ("KERAS_BACKEND", "jax")])
def test_import_under_another_keras_fails_with_the_remedy(variable, value):
    done = run(sys.executable, "-c", "import tf_metalearn", PYTHONPATH=str(ROOT), **{variable: value})
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-3:]
    assert variable in "\n".join(message)
    assert "unset" in "\n".join(message).lower()


def test_bounds_contain_the_tested_versions_and_end_somewhere(requirements):
    tested = {**pins("requirements-peers.txt"), **pins("requirements-docs.txt"), **pins("requirements.txt")}
    assert len(requirements) > 10
    for requirement in requirements:
        operators = {bound.operator for bound in requirement.specifier}
        assert operators == {">=", "<"}, requirement
        version = tested.get(normalized(requirement.name))
        # The extra `serving` is installed by nobody but its users.
        assert version or "serving" in str(requirement.marker), f"{requirement} has no tested version"
        assert version is None or version in requirement.specifier, f"{requirement} leaves out {version}"


def test_the_requirements_files_agree():
    main, peers, docs = (pins(f"requirements{part}.txt") for part in ("", "-peers", "-docs"))
    assert {name: main[name] for name in main.keys() & peers} == {name: peers[name] for name in main.keys() & peers}
    # The environment of the documentation is laid over the main one.
    assert not main.keys() & docs.keys()


@pytest.mark.parametrize(
    ("version", "supported"), [("3.10", False), ("3.11", True), ("3.12", True), ("3.13", True), ("3.14", False)]
)
def test_python_versions(installed, version, supported):
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    assert (version in SpecifierSet(distribution.metadata["Requires-Python"])) is supported
