"""The code of the README and of the guides runs as it stands, block after block in one process, only shorter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tf_metalearn as tfm

ROOT = Path(__file__).parents[1]

#: What is made shorter: the work, never the code.
SHORTER = [
    (r"\bepochs=\d+", "epochs=1"),
    (r"\bsteps_per_epoch=\d+", "steps_per_epoch=1"),
    (r"\bepisodes=\d+", "episodes=16"),
    (r"\b(tfm\.compare\(.*?)(, runs=\d+)?\)\n", r"\1, steps=4, runs=2, tuning_runs=1)\n"),
    (r"unroll_length=\d+, episode_length=\d+", "unroll_length=2, episode_length=4"),
    (r"^(trainer = tfm\.OptimizerTrainer\((?:(?!episode_length).)*)\)$", r"\1, unroll_length=2, episode_length=4)"),
    # Threads can be set only before TensorFlow starts.
    (r"^tfm\.set_cpu_threads\(\).*$", ""),
]


def blocks(page):
    """The Python blocks of a page, made shorter."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        for pattern, replacement in SHORTER:
            block = re.sub(pattern, replacement, block, flags=re.MULTILINE)
        yield block


def files(page):
    """The files that a page shows: blocks that begin with their path."""
    for block in blocks(page):
        if path := re.match(r"# (\S+\.py)\n", block):
            yield path[1], block


@pytest.mark.parametrize(
    ("page", "first", "last", "made"),
    [
        ("README.md", 0, None, []),
        ("docs/getting_started.md", 0, None, ["episode.png", "my_learner.keras"]),
        ("docs/concepts.md", 0, None, []),
        ("docs/learned_optimizers.md", 0, 4, ["my_rule.keras", "comparison/curves.png"]),
        ("docs/episodes.md", 0, None, ["episode.png"]),
        ("docs/learners.md", 0, 6, ["learner.keras"]),
        # With a network for photographs, and all that TensorBoard shows of MAML.
        pytest.param("docs/learners.md", 0, None, ["learner.keras"], marks=pytest.mark.slow),
        ("docs/your_own_data.md", 0, None, ["flowers.png"]),
        # The files of its first part have tests of their own.
        ("docs/add_an_algorithm.md", 3, None, []),
    ],
)
def test_the_code_of_a_page_runs(page, first, last, made, glyph_directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(glyph_directory))
    names = {}
    for block in list(blocks(page))[first:last]:
        exec(compile(block, page, "exec"), names)
    for name in made:
        assert (tmp_path / name).exists()


def test_the_code_about_distribution_runs(glyph_directory, tmp_path):
    """In a process of its own: TensorFlow remembers the shapes of what replicas exchange by numbers that every new
    strategy counts from the start, and other tests have had one."""
    code = "\n".join(blocks("docs/distributed.md"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(glyph_directory)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


ALGORITHM = "docs/add_an_algorithm.md"


def test_the_algorithm_of_the_guide_is_right(monkeypatch):
    """Its own test, as the page has it."""
    names = {"__name__": "ridge"}
    (_, algorithm), (_, test), _ = files(ALGORITHM)
    exec(compile(algorithm, ALGORITHM, "exec"), names)
    monkeypatch.setattr(tfm, "RidgeNetwork", names["RidgeNetwork"], raising=False)
    exec(compile(test, ALGORITHM, "exec"), names)
    tests = [thing for name, thing in names.items() if name.startswith("test_")]
    assert tests
    for each in tests:
        each()


@pytest.mark.slow
def test_the_algorithm_of_the_guide_is_added_by_its_three_files(tmp_path):
    """In a copy of the project it passes its test, its docstring's example and the conformance suite on points."""
    for folder in ("tf_metalearn", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    paths = []
    for path, code in files(ALGORITHM):
        paths.append(path)
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(code)
    assert len(paths) == 3
    pytest_on = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments in (paths[:2], ["tests/conformance", "-k", "RidgeNetwork and not conv4"]):
        done = subprocess.run(
            [*pytest_on, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:]
        assert re.search(r"[2-9]\d* passed|1\d+ passed", done.stdout)
