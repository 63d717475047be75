"""tools/benchmark.py: how it measures and sums up. What it measures takes minutes and is left to `make bench`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from tools import benchmark, benchmark_episodes
from tools.benchmark import Row, Side

ROOT = Path(__file__).parents[1]


def side(log, label, *values):
    """A side that prints one of some values, in turn, and notes that it ran."""
    code = f"""
import json
from pathlib import Path
log = Path({str(log)!r})
ran = log.read_text().split() if log.exists() else []
log.write_text(" ".join([*ran, {label!r}]))
print("noise")
print(json.dumps({{"value": {values!r}[ran.count({label!r})]}}))
"""
    return Side((sys.executable, "-c", code), {})


def test_sides_alternate_and_the_peer_has_its_best_setting(tmp_path):
    log = tmp_path / "log"
    settings = [side(log, "slow", 9.0), side(log, "fast", 4.0, 6.0, 20.0, 8.0)]
    ours, peer = benchmark.alternate(side(log, "ours", 2.0, 3.0, 100.0), settings, runs=3)
    assert log.read_text().split() == ["slow", "fast", *["ours", "fast"] * 3]
    # What the first try of a setting gave is no part of the result.
    assert [result["value"] for result in peer] == [6.0, 20.0, 8.0]
    row = benchmark.row("name", "ms", "peer", (ours, peer))
    assert row == Row("name", ours=3.0, unit="ms", peer_name="peer", peer=8.0, ratio=8 / 3)


def test_a_side_that_fails_shows_its_error():
    with pytest.raises(click.ClickException, match="out of luck"):
        Side((sys.executable, "-c", "raise SystemExit('out of luck')"), {}).measure()


def test_the_file_has_one_object_a_benchmark(tmp_path, monkeypatch):
    row = Row("l2l_inner_step", 10.0, "ms", "peer", 40.0, 4.0)
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"l2l_inner_step": lambda runs, inputs: [row]})
    done = CliRunner().invoke(benchmark.main, ["--out", str(tmp_path / "bench.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "bench.json").read_text()) == [
        {"name": "l2l_inner_step", "ours": 10.0, "unit": "ms", "peer_name": "peer", "peer": 40.0, "ratio": 4.0}
    ]


@pytest.mark.parametrize(("apart", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_sides_that_disagree_fail_the_benchmark(monkeypatch, apart, passes):
    def alternate(ours, settings, runs):
        ours, peer = ({"value": 1.0, "losses": [1.0], "meta_gradient": [2.0, 2 * (1 - d)]} for d in (0, apart))
        return [ours], [peer]

    monkeypatch.setattr(benchmark, "jax_settings", lambda *arguments: [])
    monkeypatch.setattr(benchmark, "alternate", alternate)
    if passes:
        benchmark.l2l_inner_step(1, Path("inputs.npz"))
    else:
        with pytest.raises(click.ClickException, match="must agree"):
            benchmark.l2l_inner_step(1, Path("inputs.npz"))


@pytest.mark.slow
def test_a_learned_step_is_measured_against_adam(tmp_path):
    command = [sys.executable, ROOT / "tools" / "benchmark.py", "learned_vs_adam_10k", "--runs", "1"]
    subprocess.run([*command, "--out", tmp_path / "bench.json"], env=os.environ, check=True)
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert row["ours"] > 0
    assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])


@pytest.mark.parametrize(
    "name",
    # Building 1,692 pipelines takes a while.
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "pipelines")) for name in benchmark_episodes.SAMPLERS],
)
def test_all_samplers_of_the_benchmark_draw_the_same_kind_of_episodes(name):
    stream = benchmark_episodes.SAMPLERS[name]()
    parts = next(stream)
    support_x, support_y, query_x, query_y = parts if len(parts) == 4 else (*parts[0], parts[1])
    assert [part.shape for part in (support_x, query_x)] == [(16, 5, 28, 28, 1), (16, 75, 28, 28, 1)]
    assert (support_x.dtype, query_x.dtype) == ("float32", "float32")
    assert 0 <= np.min(query_x) < np.max(query_x) <= 1
    np.testing.assert_array_equal(np.sort(support_y), np.tile(range(5), [16, 1]))
    np.testing.assert_array_equal(np.sort(query_y), np.tile(np.repeat(range(5), 15), [16, 1]))
