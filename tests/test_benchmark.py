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

import tf_metalearn as tfm
from tools import benchmark, benchmark_episodes, benchmark_inputs
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


@pytest.mark.parametrize(
    ("name", "parts", "apart", "passes"),
    [
        ("l2l_inner_step", ("losses", "meta_gradient"), 0.9e-4, True),
        ("l2l_inner_step", ("losses", "meta_gradient"), 1.1e-4, False),
        ("maml_1step", ("loss", "meta_gradient"), 0.9e-2, True),
        ("maml_5step", ("loss", "meta_gradient"), 1.1e-2, False),
    ],
)
def test_sides_that_disagree_fail_the_benchmark(monkeypatch, name, parts, apart, passes):
    def alternate(ours, settings, runs):
        measured = {"value": 1.0, "tracing": 1.0, "memory": 1.0}
        ours, peer = ({**measured, **{part: [2.0, 2 * (1 - d)] for part in parts}} for d in (0, apart))
        return [ours], [peer]

    monkeypatch.setattr(benchmark, "peer", lambda *arguments, **environment: None)
    monkeypatch.setattr(benchmark, "alternate", alternate)
    if passes:
        benchmark.BENCHMARKS[name](1, Path("inputs.npz"))
    else:
        with pytest.raises(click.ClickException, match="must agree"):
            benchmark.BENCHMARKS[name](1, Path("inputs.npz"))


def test_memory_and_tracing_of_maml_are_said(monkeypatch, capsys):
    ours, peer = (
        {"value": value, "loss": 1.0, "meta_gradient": [1.0], "tracing": 3.21, "memory": memory}
        for value, memory in ((100.0, 800.0), (250.0, 700.0))
    )
    monkeypatch.setattr(benchmark, "peer", lambda *arguments, **environment: None)
    monkeypatch.setattr(benchmark, "alternate", lambda *arguments: ([ours], [peer]))
    (row,) = benchmark.BENCHMARKS["maml_1step"](1, Path("inputs.npz"))
    assert (row.name, row.ratio) == ("maml_1step", 2.5)
    assert "first step after 3.2 s, peak memory 800 MB, PyTorch's 700 MB" in capsys.readouterr().out


def test_the_parameters_of_the_benchmark_are_those_of_the_backbone():
    arrays = benchmark_inputs.maml_inputs()
    segments = tfm.functional.StatelessModel(tfm.backbones.conv4(outputs=5)).segments
    assert arrays["conv4"].shape == (segments[-1].offset + segments[-1].size,)
    for segment in segments:
        values = arrays["conv4"][segment.offset :][: segment.size]
        # Scales are one, shifts and biases zero; kernels have the variance of Glorot and Bengio.
        kind = segment.name.split("/")[-1]
        expected = {"gamma": (1, 0), "beta": (0, 0), "bias": (0, 0)}.get(kind)
        if expected is None:
            *receptive, inputs, outputs = segment.shape
            expected = (0, np.sqrt(2 / (np.prod(receptive) * (inputs + outputs))))
        np.testing.assert_allclose((values.mean(), values.std()), expected, rtol=0.1, atol=0.01)


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
