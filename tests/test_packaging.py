"""The wheel, as a stranger gets it: built, installed outside the checkout, run."""

import importlib.metadata
import os
import re
import shutil
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


@pytest.mark.parametrize("rule", [[], ["andrychowicz2016"]], ids=["default", "andrychowicz2016"])
def test_installed_wheel_compares_a_shipped_rule(installed, tmp_path, rule):
    small = ["--problem", "digits", "--runs", 3, "--steps", 10, "--tuning-runs", 1, "--out", tmp_path]
    done = run(installed / "bin" / "tf-metalearn", "compare", *rule, *small, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert {".json", ".png"} <= {path.suffix for path in tmp_path.iterdir()}


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
