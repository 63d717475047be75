"""Times the library against its peers: `make bench`, or `make bench NAME=l2l_inner_step` for one.

Each side runs in a process of its own, in turn, with the best of its settings; figures are medians. Prints a table and
writes build/bench.json. Ends with a non-zero code if the sides disagree or if our memory grows.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from benchmark_inputs import write_inputs
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

#: How far the two sides' losses and meta-gradients may be apart, relative to the largest value.
TOLERANCE = 1e-4

#: The same through convolutions. Of millions of ReLUs some have an input so near to zero that one side lets it through
#: and the other does not, which moves MAML's meta-gradient by up to 0.2 %; without them the sides agree to 1e-6.
CONVOLUTION_TOLERANCE = 1e-2

#: By how much of itself our memory may grow once a program runs.
GROWTH = 0.03

Result = dict[str, Any]


class Row(NamedTuple):
    """A line of the table and of build/bench.json. `ratio` is peer / ours: above 1 we are better."""

    name: str
    ours: float
    unit: str
    peer_name: str
    peer: float
    ratio: float


#: Measures one benchmark: how many runs, and the file of inputs. A row for each peer.
Measurement = Callable[[int, Path], list[Row]]


class Side(NamedTuple):
    """A program that measures, as arguments and environment; it prints a JSON object with a "value" last."""

    command: tuple[str, ...]
    environment: Mapping[str, str]

    def measure(self) -> Result:
        """Runs it in a process of its own."""
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **self.environment}
        done = subprocess.run(self.command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(self.command)} failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def ours(*arguments: object, program: str = "benchmark_tensorflow.py") -> Side:
    """The library's side, and everything else that runs in its environment."""
    path = ROOT / "tools" / program
    return Side((sys.executable, str(path), *(str(argument) for argument in arguments)), {})


def peer(program: str, *arguments: object, **environment: str) -> Side:
    """A peer's side, in the environment of requirements-peers.txt."""
    if not PEERS_PYTHON.exists():
        raise click.ClickException("The peers are not installed. `make bench` installs them.")
    command = (PEERS_PYTHON, ROOT / "tools" / program, *arguments)
    return Side(tuple(str(part) for part in command), environment)


def jax_settings(*arguments: object) -> list[Side]:
    """JAX's side, in every setting that might be its best."""
    return [
        peer("benchmark_jax.py", *arguments, "--chunks", chunks, XLA_FLAGS=f"--xla_cpu_multi_thread_eigen={threads}")
        for chunks, threads in itertools.product((1, 2), ("true", "false"))
    ]


def torch_settings(*arguments: object) -> list[Side]:
    """PyTorch's side, in every setting that might be its best."""
    return [
        peer("benchmark_torch.py", *arguments, "--threads", threads, "--layout", layout, "--tasks-at-once", tasks)
        for threads, layout, tasks in itertools.product((1, 2), ("contiguous_format", "channels_last"), (8, 16))
    ]


def alternate(our_side: Side, peer_settings: Sequence[Side], runs: int) -> tuple[list[Result], list[Result]]:
    """Measures both sides in turn, the peer in the setting that did best in a first try of each.

    Args:
        our_side: What we measure.
        peer_settings: The peer, in one or more settings.
        runs: How often each side is measured.

    Returns:
        Our results and the peer's, one a run.
    """
    best = min(peer_settings, key=lambda side: side.measure()["value"]) if len(peer_settings) > 1 else peer_settings[0]
    pairs = [(our_side.measure(), best.measure()) for _ in range(runs)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def row(name: str, unit: str, peer_name: str, results: tuple[list[Result], list[Result]]) -> Row:
    """Sums up results by their medians."""
    our_value, peer_value = (statistics.median(result["value"] for result in side) for side in results)
    return Row(name, our_value, unit, peer_name, peer_value, peer_value / our_value)


def difference(first: Sequence[float], second: Sequence[float]) -> float:
    """How far two vectors are apart, at worst, relative to the largest value.

    >>> difference([1.0, 2.0], [1.0, 1.5])
    0.25
    """
    a, b = np.asarray(first), np.asarray(second)
    return float(np.max(np.abs(a - b)) / np.max(np.abs(a)))


def check_agreement(
    name: str, results: tuple[list[Result], list[Result]], parts: Sequence[str], tolerance: float
) -> None:
    """Says how far the two sides are apart; too far fails the benchmark."""
    for part in parts:
        apart = difference(results[0][0][part], results[1][0][part])
        click.echo(f"{name}: {part} of the two sides differ by {apart:.1e} at most (relative)")
        if not apart <= tolerance:
            raise click.ClickException(f"The {part} must agree to {tolerance}. They differ by {apart:.1e}.")


def l2l_inner_step(runs: int, inputs: Path) -> list[Row]:
    """A meta-training step of 20 inner steps, meta-gradient included, per inner step; against a jitted JAX program."""
    results = alternate(ours("l2l-time", inputs), jax_settings("l2l-time", inputs), runs)
    # The meta-gradient as one vector: that of the output bias alone is what is left of thousands of terms that cancel,
    # and no two orders of summation agree on it.
    check_agreement("l2l_inner_step", results, ["losses", "meta_gradient"], TOLERANCE)
    return [row("l2l_inner_step", "ms", "JAX lax.scan", results)]


def l2l_peak_memory(runs: int, inputs: Path) -> list[Row]:
    """The peak memory of the process; that of ours must stay flat over 500 meta-steps."""
    # Once is enough for the long run: memory, unlike time, hardly varies from run to run.
    long = ours("l2l-memory", inputs, "--meta-steps", 500).measure()
    before, after = long["resident_early"], long["resident_late"]
    click.echo(
        f"l2l_peak_memory: {before:.0f} MB after 50 meta-steps, {after:.0f} MB after 500 "
        f"({check_growth(before, after):+.1%}), peak {long['value']:.0f} MB"
    )
    steps = ("--meta-steps", 50)
    results = alternate(ours("l2l-memory", inputs, *steps), jax_settings("l2l-memory", inputs, *steps), runs)
    return [row("l2l_peak_memory", "MB", "JAX lax.scan", results)]


def learned_vs_adam(name: str, parameters: int) -> Measurement:
    """One step of `LearnedOptimizer(CoordinatewiseLSTM())` against one of Keras's Adam."""

    def benchmark(runs: int, inputs: Path) -> list[Row]:
        adam = [ours("adam", inputs, "--parameters", parameters, "--threads", how) for how in ("many", "default")]
        results = alternate(ours("learned", inputs, "--parameters", parameters), adam, runs)
        return [row(name, "ms", "keras Adam", results)]

    return benchmark


def maml(name: str, inner_steps: int, inner_learning_rate: float) -> Measurement:
    """A training step of second-order MAML on 16 tasks (5-way 1-shot, 5 queries a class, conv4), Adam included."""

    def benchmark(runs: int, inputs: Path) -> list[Row]:
        arguments = (inputs, "--inner-steps", inner_steps, "--inner-learning-rate", inner_learning_rate)
        results = alternate(ours("maml", *arguments, program="benchmark_learners.py"), torch_settings(*arguments), runs)
        check_agreement(name, results, ["loss", "meta_gradient"], CONVOLUTION_TOLERANCE)
        tracing = statistics.median(result["tracing"] for result in results[0])
        memory, of_peer = (statistics.median(result["memory"] for result in side) for side in results)
        click.echo(f"{name}: first step after {tracing:.1f} s, peak memory {memory:.0f} MB, PyTorch's {of_peer:.0f} MB")
        return [row(name, "ms", "PyTorch vmap", results)]

    return benchmark


def prototypical_step(runs: int, inputs: Path) -> list[Row]:
    """A training step of a prototypical network: 60-way 1-shot, 5 queries a class, conv4 with max-pooling, Adam."""
    settings = [
        peer("benchmark_torch_metric.py", inputs, "--threads", threads, "--layout", layout)
        for threads, layout in itertools.product((1, 2), ("contiguous_format", "channels_last"))
    ]
    results = alternate(ours("prototypical", inputs, program="benchmark_learners.py"), settings, runs)
    check_agreement("prototypical_step", results, ["loss", "meta_gradient"], CONVOLUTION_TOLERANCE)
    memory, of_peer = (statistics.median(result["memory"] for result in side) for side in results)
    click.echo(f"prototypical_step: peak memory {memory:.0f} MB, PyTorch's {of_peer:.0f} MB")
    return [row("prototypical_step", "ms", "PyTorch", results)]


def embedded_evaluation(runs: int, inputs: Path) -> list[Row]:
    """1,000 episodes on embeddings computed once, and embedding the images of each episode."""
    once, each = (ours("evaluation", how, program="benchmark_learners.py") for how in ("--embedded", "--each"))
    results = alternate(once, [each], runs)
    check_agreement("embedded_evaluation", results, ["accuracy", "loss"], TOLERANCE)
    embedding = statistics.median(result["embedding"] for result in results[0])
    click.echo(f"embedded_evaluation: embedding all 33,840 images took {embedding:.1f} s, once")
    return [row("embedded_evaluation", "s", "embedding each episode", results)]


def tensorboard_cost(runs: int, inputs: Path) -> list[Row]:
    """A training of MAML of about 45 s with Keras's and our own callback for TensorBoard, against one without."""
    with_logs, without = (ours("tensorboard", how, program="benchmark_learners.py") for how in ("--logged", "--silent"))
    found = row("tensorboard_cost", "s", "without", alternate(with_logs, [without], runs))
    click.echo(f"tensorboard_cost: {found.ours / found.peer - 1:.1%} of the time of training")
    return [found]


def episodes(runs: int, inputs: Path) -> list[Row]:
    """Sampling a 5-way 1-shot episode of 28 x 28 images with 15 queries a class, per episode."""
    batches = 12_000
    long = ours("memory", "--batches", batches, program="benchmark_episodes.py").measure()
    grown = check_growth(long["resident_early"], long["value"])
    click.echo(
        f"episodes: memory {long['value']:.0f} MB after {16 * batches:,} episodes ({grown:+.1%} since the middle)"
    )
    sides = {name: ours("time", name, program="benchmark_episodes.py") for name in ("library", "numpy", "pipelines")}
    rows = []
    for name, peer_name in (("numpy", "plain numpy"), ("pipelines", "tf.data per class")):
        rows.append(row("episodes", "us", peer_name, alternate(sides["library"], [sides[name]], runs)))
        rates = (f"{1e6 / value:,.0f}" for value in (rows[-1].ours, rows[-1].peer))
        click.echo("episodes: {} a second, {} by {}".format(*rates, peer_name))
    return rows


def served(name: str, kind: str, inner_steps: int = 0) -> Measurement:
    """Adapting to a task and predicting its queries, in the server's session, against the bare passes that it takes."""

    def benchmark(runs: int, inputs: Path) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            ours("export", kind, folder, program="benchmark_serving.py").measure()
            ask = ours("ask", folder, program="benchmark_serving.py")
            passes = ours("passes", folder, "--inner-steps", inner_steps, program="benchmark_serving.py")
            results = alternate(ask, [passes], runs)
            memory = ours("memory", folder, program="benchmark_serving.py").measure()
        if not all(result["same"] for result in results[0]):
            raise click.ClickException("Answers must be the same for any number of callers. They are not.")
        for callers, found in results[0][-1]["callers"].items():
            click.echo(
                f"{name}: {callers} callers, p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms, "
                f"{found['a_second']:.0f} a second"
            )
        grown = check_growth(memory["early"], memory["value"])
        click.echo(f"{name}: memory {memory['value']:.0f} MB after 10,000 requests ({grown:+.1%} since 1,000)")
        return [row(name, "ms", "bare passes", results)]

    return benchmark


def check_growth(before: float, after: float) -> float:
    """By how much of itself memory grew; too much fails the benchmark."""
    if after > before * (1 + GROWTH):
        raise click.ClickException(f"Memory must not grow by more than {GROWTH:.0%}. It grew from {before} to {after}.")
    return after / before - 1


BENCHMARKS: dict[str, Measurement] = {
    "l2l_inner_step": l2l_inner_step,
    "l2l_peak_memory": l2l_peak_memory,
    "learned_vs_adam_10k": learned_vs_adam("learned_vs_adam_10k", 10_000),
    "learned_vs_adam_100k": learned_vs_adam("learned_vs_adam_100k", 100_000),
    "learned_vs_adam_1m": learned_vs_adam("learned_vs_adam_1m", 1_000_000),
    "maml_1step": maml("maml_1step", inner_steps=1, inner_learning_rate=0.4),
    "maml_5step": maml("maml_5step", inner_steps=5, inner_learning_rate=0.1),
    "prototypical_step": prototypical_step,
    "embedded_evaluation": embedded_evaluation,
    "tensorboard_cost": tensorboard_cost,
    "episodes": episodes,
    "serve_prototypical": served("serve_prototypical", "prototypical"),
    "serve_maml": served("serve_maml", "maml", inner_steps=5),
}


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)), metavar="[NAME]...")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="How often each side runs.")
@click.option("--out", default=ROOT / "build" / "bench.json", type=click.Path(path_type=Path), help="The file written.")
def main(names: tuple[str, ...], runs: int, out: Path) -> None:
    rows = []
    # Each side is given the same numbers, whatever draws them in its own framework.
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        write_inputs(inputs)
        for name in names or BENCHMARKS:
            rows.extend(BENCHMARKS[name](runs, inputs))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n", encoding="utf-8")
    Console(width=120).print(table(rows, runs))
    click.echo(f"Written to {out}")


def table(rows: Sequence[Row], runs: int) -> Table:
    """The rows, to be read."""
    drawn = Table(title=f"Medians of {runs} runs; ratio = peer / ours")
    for heading in Row._fields:
        drawn.add_column(heading, justify="left" if heading in ("name", "unit", "peer_name") else "right")
    for line in rows:
        drawn.add_row(line.name, f"{line.ours:.4g}", line.unit, line.peer_name, f"{line.peer:.4g}", f"{line.ratio:.3g}")
    return drawn


if __name__ == "__main__":
    main()
