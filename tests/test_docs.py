"""The code of the README and of the guides runs as it stands, block after block in one process, only shorter."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What is made shorter: the work, never the code.
SHORTER = [
    (r"\bepochs=\d+", "epochs=1"),
    (r"\bsteps_per_epoch=\d+", "steps_per_epoch=1"),
    (r"\bepisodes=\d+", "episodes=16"),
    (r"\b(tfm\.compare\(.*?)(, runs=\d+)?\)\n", r"\1, steps=4, runs=2, tuning_runs=1)\n"),
    # Threads can be set only before TensorFlow starts.
    (r"^tfm\.set_cpu_threads\(\).*$", ""),
]


def blocks(page):
    """The Python blocks of a page, made shorter."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        for pattern, replacement in SHORTER:
            block = re.sub(pattern, replacement, block, flags=re.MULTILINE)
        yield block


@pytest.mark.parametrize(
    ("page", "first", "last", "made"),
    [
        ("README.md", 0, None, ["my_rule.keras", "comparison/curves.png"]),
        ("docs/learned_optimizers.md", 0, 2, ["my_rule.keras", "comparison/curves.png"]),
        ("docs/episodes.md", 0, None, ["episode.png"]),
        ("docs/learners.md", 0, None, ["learner.keras"]),
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
