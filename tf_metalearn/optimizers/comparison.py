"""Pits update rules against hand-made optimizers, each of which has its best learning rate."""

import functools
import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.stats

from tf_metalearn.optimizers.tuning import GRID, play_all, player, tune
from tf_metalearn.pretrained import load_rule
from tf_metalearn.problems.base import Problem
from tf_metalearn.rules import Adam, GradientDescent, Momentum, RMSprop, UpdateRule

#: Called with what is being run, how many trainings are done and how many there will be.
Progress = Callable[[str, int, int], None]


class Row(NamedTuple):
    """One optimizer's figures. Diverged trainings count in none of them but `diverged`.

    Args:
        name: Of the optimizer.
        learned: Whether it was given, not tuned.
        rate: The tuned learning rate; None for a given rule.
        mean_loss: Mean over the trainings of the mean loss after each of their steps.
        mean_loss_ci95: Half the width of its 95 % interval.
        final_loss: Mean loss after the last step.
        final_loss_ci95: Half the width of its 95 % interval.
        difference: Mean paired difference of the mean losses, this optimizer's less the first given rule's; above 0
            where that rule is better. None for that rule itself.
        difference_ci95: Half the width of its 95 % interval.
        diverged: How many trainings met a loss that is not finite.
    """

    name: str
    learned: bool
    rate: float | None
    mean_loss: float
    mean_loss_ci95: float
    final_loss: float
    final_loss_ci95: float
    difference: float | None
    difference_ci95: float | None
    diverged: int


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found.

    Args:
        curves: `[runs, steps]` for each optimizer: the losses after each update. Run i began from the same initial
            weights and saw the same batches with all of them.
        initial_losses: `[runs]`, the losses before the first update.
        rates: The chosen learning rate of each baseline; the other optimizers are the rules that were given.
        grid: The mean loss that each baseline had in tuning, for each learning rate; infinite where it diverged.
        configuration: Everything that is needed to do it again, seeds included, as JSON can hold it.

    >>> comparison = Comparison(
    ...     curves={"learned": np.array([[0.5, 0.1], [0.7, 0.1]]), "SGD": np.array([[0.8, 0.6], [0.8, 0.4]])},
    ...     initial_losses=np.array([1.0, 1.0]),
    ...     rates={"SGD": 0.1},
    ...     grid={"SGD": {0.1: 0.65, 1.0: np.inf}},
    ...     configuration={"problem": {"name": "example"}, "runs": 2, "steps": 2},
    ... )
    >>> comparison.best_baseline, comparison.wins()
    ('SGD', True)
    >>> [(row.name, round(row.mean_loss, 2)) for row in comparison.table()]
    [('learned', 0.35), ('SGD', 0.65)]
    >>> json.loads(comparison.to_json())["wins"]
    {'learned': True}
    """

    curves: dict[str, np.ndarray]
    initial_losses: np.ndarray
    rates: dict[str, float]
    grid: dict[str, dict[float, float]]
    configuration: dict[str, Any]

    def __repr__(self) -> str:
        about = self.configuration
        return (
            f"<Comparison of {', '.join(self.curves)} on {about['problem']['name']!r}: {about['runs']} runs of "
            f"{about['steps']} steps. `print_table` shows it, `report` writes it.>"
        )

    @property
    def learned(self) -> list[str]:
        """The names of the rules that were given."""
        return [name for name in self.curves if name not in self.rates]

    @property
    def best_baseline(self) -> str:
        """The name of the baseline with the lowest mean loss in this comparison."""
        return min(self.rates, key=lambda name: self._row(name).mean_loss)

    def wins(self, name: str | None = None) -> bool:
        """Whether a rule's mean loss is below that of the best tuned baseline, without a diverged training.

        Args:
            name: Of a given rule; the first when None.
        """
        row = self._row(name or self.learned[0])
        return row.diverged == 0 and row.mean_loss < self._row(self.best_baseline).mean_loss

    def table(self) -> list[Row]:
        """Returns the figures, one `Row` an optimizer, the lowest mean loss first."""
        return sorted((self._row(name) for name in self.curves), key=lambda row: row.mean_loss)

    def _row(self, name: str) -> Row:
        curves, reference = self.curves[name], self.learned[0]
        finite = np.isfinite(curves).all(axis=1)
        both = finite & np.isfinite(self.curves[reference]).all(axis=1)
        pairs = curves[both].mean(axis=1) - self.curves[reference][both].mean(axis=1)
        mean_loss, mean_loss_ci95 = mean_with_interval(curves[finite].mean(axis=1))
        final_loss, final_loss_ci95 = mean_with_interval(curves[finite, -1])
        difference, difference_ci95 = (None, None) if name == reference else mean_with_interval(pairs)
        return Row(
            name=name,
            learned=name not in self.rates,
            rate=self.rates.get(name),
            mean_loss=mean_loss,
            mean_loss_ci95=mean_loss_ci95,
            final_loss=final_loss,
            final_loss_ci95=final_loss_ci95,
            difference=difference,
            difference_ci95=difference_ci95,
            diverged=int(np.sum(~finite)),
        )

    def to_json(self) -> str:
        """Returns configuration, seeds, versions and figures. Numbers that are not finite become null."""
        optimizers = {
            row.name: {
                **row._asdict(),
                "grid": [{"rate": rate, "mean_loss": loss} for rate, loss in self.grid.get(row.name, {}).items()],
                # What the intervals are computed from, and what the picture shows.
                "mean_loss_of_each_run": self.curves[row.name].mean(axis=1).tolist(),
                "mean_loss_of_each_step": _finite_mean(self.curves[row.name]).tolist(),
            }
            for row in self.table()
        }
        document = {
            "configuration": self.configuration,
            "versions": _versions(),
            "best_baseline": self.best_baseline,
            "wins": {name: self.wins(name) for name in self.learned},
            "initial_loss": float(self.initial_losses.mean()),
            "optimizers": optimizers,
        }
        return json.dumps(_without_infinities(document), indent=1, allow_nan=False, default=str)


def compare(
    rules: Mapping[str, UpdateRule | str],
    problem: Problem,
    steps: int = 100,
    runs: int = 100,
    seed: int = 0,
    baselines: Mapping[str, UpdateRule] | None = None,
    tuning_runs: int = 20,
    progress: Progress | None = None,
) -> Comparison:
    """Trains fresh instances of a problem by each rule and by tuned baselines, on equal terms.

    Each baseline first gets the learning rate with the lowest mean loss over the steps, from a grid of half-decades on
    the same problem; a best rate at the border of the grid extends it. Tuning has its own instances. Then every
    optimizer trains the same fresh instances: same initial weights, same batches.

    Args:
        rules: The rules to judge, by the name that tables show; differences are taken against the first. A string is a
            shipped rule or a `.keras` file.
        problem: The family of functions to minimise.
        steps: Updates in a training.
        runs: Trainings of each optimizer in the comparison.
        seed: Decides all instances. Of two comparisons with one seed, the longer begins with the shorter's.
        baselines: Rules with a weight `learning_rate`, by name; only copies of them are changed. SGD, RMSprop, Adam
            and Nesterov when None.
        tuning_runs: Trainings for each learning rate of a baseline.
        progress: Called with a description, the trainings done and the trainings in all.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If there is no rule or no baseline, a name stands for both, a number is not positive, a baseline
            has no learning rate or diverges with every one.

    >>> from tf_metalearn.problems.quadratic import Quadratic
    >>> rules = {"small steps": GradientDescent(1e-5)}
    >>> comparison = compare(
    ...     rules, Quadratic(functions=1, dimensions=2), 5, runs=4, tuning_runs=2, baselines={"SGD": GradientDescent()}
    ... )
    >>> comparison.curves["SGD"].shape, comparison.best_baseline, comparison.wins()
    ((4, 5), 'SGD', False)
    """
    baselines = default_baselines() if baselines is None else baselines
    _check(rules, baselines, problem, steps=steps, runs=runs, tuning_runs=tuning_runs)
    judged = {name: load_rule(rule) if isinstance(rule, str) else rule for name, rule in rules.items()}
    baselines = {name: type(rule).from_config(rule.get_config()) for name, rule in baselines.items()}
    seeds, tuning_seeds = _seeds(seed, 0, runs), _seeds(seed, 1, tuning_runs)
    count = _Count(progress, runs * (len(rules) + len(baselines)) + tuning_runs * len(GRID) * len(baselines))

    losses: dict[str, np.ndarray] = {}
    rates: dict[str, float] = {}
    grid: dict[str, dict[float, float]] = {}
    for name, rule in {**judged, **baselines}.items():
        play = player(rule, problem, steps)
        if name in baselines:
            rates[name], grid[name] = tune(rule, play, tuning_seeds, functools.partial(count, name))
            count.total += tuning_runs * (len(grid[name]) - len(GRID))
        losses[name] = play_all(play, seeds, functools.partial(count, name, "comparing"))
    configuration = {
        "problem": {
            "class": type(problem).__name__,
            "name": problem.name,
            "coordinates": problem.coordinates,
            "recipe": getattr(problem, "recipe", None),
        },
        "steps": steps,
        "runs": runs,
        "seed": seed,
        "tuning_runs": tuning_runs,
        "rules": {name: keras.saving.serialize_keras_object(rule) for name, rule in judged.items()},
        "baselines": {name: keras.saving.serialize_keras_object(rule) for name, rule in baselines.items()},
        "seeds": seeds.tolist(),
        "tuning_seeds": tuning_seeds.tolist(),
    }
    curves = {name: values[:, 1:] for name, values in losses.items()}
    return Comparison(curves, next(iter(losses.values()))[:, 0], rates, grid, configuration)


def default_baselines() -> dict[str, UpdateRule]:
    """The optimizers of Andrychowicz et al. 2016, section 3, with their usual settings."""
    return {"SGD": GradientDescent(), "RMSprop": RMSprop(), "Adam": Adam(), "Nesterov": Momentum(nesterov=True)}


def mean_with_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval, by Student's t.

    Args:
        values: `[runs]`, independent of each other.

    Returns:
        The mean, infinite of no values; and half the width, infinite of fewer than two.

    >>> mean, half = mean_with_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    if len(values) < 2:
        return (float(values[0]) if len(values) else math.inf), math.inf
    quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
    return float(np.mean(values)), float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


class _Count:
    """Adds up the trainings of all stages for one progress bar."""

    def __init__(self, progress: Progress | None, total: int):
        self._progress = progress or (lambda what, done, total: None)
        self._done = 0
        self.total = total

    def __call__(self, name: str, what: str, more: int) -> None:
        self._done += more
        # A grid that grows is known only when it has grown.
        self._progress(f"{name}: {what}", self._done, max(self._done, self.total))


def _seeds(seed: int, purpose: int, count: int) -> np.ndarray:
    """`[count, 2]` seeds; those of different purposes have nothing in common."""
    return np.random.default_rng([seed, purpose]).integers(2**31, size=[count, 2]).astype("int32")


def _check(rules: Any, baselines: Any, problem: Any, **numbers: int) -> None:
    for argument, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{argument}` must be a positive integer. Received: {argument}={value!r}.\nThe paper has 100 steps."
            )
    for argument, mapping in (("rules", rules), ("baselines", baselines)):
        known = mapping.values() if isinstance(mapping, Mapping) else ()
        if not known or not all(isinstance(rule, UpdateRule | str) for rule in known):
            raise ValueError(
                f"`{argument}` must map names to rules. Received: {argument}={mapping!r}.\nTry {{'mine': rule}}."
            )
    if not isinstance(problem, Problem):
        raise ValueError(
            f"`problem` must be a Problem. Received: problem={problem!r}.\nTry `tf_metalearn.problems.make('digits', "
            "split='test')`, or a SupervisedProblem of your own."
        )
    if common := set(rules) & set(baselines):
        raise ValueError(
            f"`rules` must have other names than the baselines. Received: {sorted(common)} in both.\nRename the rule."
        )
    for name, rule in baselines.items():
        if not hasattr(getattr(rule, "learning_rate", None), "assign"):
            raise ValueError(
                f"`baselines` must be rules with a weight `learning_rate`. Received: {name!r}, a "
                f"{type(rule).__name__} without one.\nPass it among `rules`, which are not tuned."
            )


def _finite_mean(curves: np.ndarray) -> np.ndarray:
    """`[steps]`: the mean over the trainings that did not diverge; infinite if all did."""
    finite = curves[np.isfinite(curves).all(axis=1)]
    return finite.mean(axis=0) if len(finite) else np.full(curves.shape[1], math.inf)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("tf_metalearn", "tensorflow", "keras", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _without_infinities(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {str(key): _without_infinities(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
