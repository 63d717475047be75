import io
import json
import math

import numpy as np
import pytest
import rich.console
import scipy.stats
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tf_metalearn.optimizers.comparison import Comparison, compare
from tf_metalearn.optimizers.report import print_table, report
from tf_metalearn.optimizers.tuning import player, tune
from tf_metalearn.problems import Quadratic
from tf_metalearn.problems.base import Problem, Task, vector_segments
from tf_metalearn.rules import Adam, GradientDescent, UpdateRule


class Bowl(Problem):
    """f(theta) = curvature / 2 * theta^2 from theta = 1: gradient descent multiplies theta by 1 - rate * curvature."""

    def __init__(self, curvature, start=1.0):
        super().__init__("bowl")
        self.curvature = curvature
        self.start = start

    @property
    def segments(self):
        return vector_segments("theta", 1)

    def sample(self, seed):
        return Task(tf.constant([self.start]), (), ())

    def loss(self, task, parameters, carry, step):
        return 0.5 * self.curvature * tf.reduce_sum(parameters**2), carry


class ByLuck(UpdateRule):
    """Moves to not-a-number where the first coordinate starts below zero, and else not at all."""

    needs = frozenset({"parameter"})

    def call(self, gradient, state, *, parameter=None, loss=None, step=None, segments=None):
        return tf.where(parameter[0] < 0, np.nan, 0.0) * tf.ones_like(gradient), state


def made_up(curves, rates):
    curves = {name: np.array(values, "float64") for name, values in curves.items()}
    runs, steps = next(iter(curves.values())).shape
    configuration = {"problem": {"name": "made up"}, "runs": runs, "steps": steps}
    grid = {name: {rate: 1.0, 10 * rate: math.inf} for name, rate in rates.items()}
    return Comparison(curves, np.full(runs, 9.0), rates, grid, configuration)


@pytest.fixture(scope="module")
def small():
    problem = Quadratic(functions=2, dimensions=3)
    return compare(
        {"mine": GradientDescent(0.01), "other": Adam(0.1)},
        problem,
        steps=7,
        runs=12,
        seed=5,
        tuning_runs=3,
        baselines={"SGD": GradientDescent()},
    )


def test_curves_equal_a_loop_in_numpy_and_leave_the_first_loss_out(small):
    problem = Quadratic(functions=2, dimensions=3)
    for run in (0, 11):  # the second block too
        task = problem.sample(tf.constant(small.configuration["seeds"][run]))
        matrix, target = (part.numpy().astype("float64") for part in task.data)
        theta = task.parameters.numpy().astype("float64").reshape(2, 3)
        losses = []
        for _ in range(8):
            residual = np.einsum("fij,fj->fi", matrix, theta) - target
            losses.append(np.sum(residual**2))
            theta = theta - 0.01 * 2 * np.einsum("fij,fi->fj", matrix, residual)
        np.testing.assert_allclose(small.initial_losses[run], losses[0], rtol=1e-4)
        np.testing.assert_allclose(small.curves["mine"][run], losses[1:], rtol=1e-4)


def test_all_optimizers_train_the_same_instances():
    rules = {"one": GradientDescent(0.02), "two": GradientDescent(0.02)}
    result = compare(rules, Quadratic(functions=2), 3, runs=4, tuning_runs=1, baselines={"SGD": GradientDescent()})
    np.testing.assert_array_equal(result.curves["one"], result.curves["two"])
    assert len(np.unique(result.initial_losses)) == 4


def test_a_longer_comparison_begins_with_the_shorter_one_and_tuning_has_instances_of_its_own(small):
    again = compare(
        {"mine": GradientDescent(0.01)},
        Quadratic(functions=2, dimensions=3),
        steps=7,
        runs=2,
        seed=5,
        tuning_runs=12,
        baselines={"SGD": GradientDescent()},
    )
    np.testing.assert_array_equal(again.curves["mine"], small.curves["mine"][:2])
    seeds = {tuple(pair) for pair in small.configuration["seeds"]}
    assert len(seeds) == 12
    assert not seeds & {tuple(pair) for pair in again.configuration["tuning_seeds"]}


@pytest.mark.parametrize(
    ("curvature", "best"),
    # theta becomes 0 in one step at rate 1 / curvature, and grows beyond rate 2 / curvature.
    [(10.0, 0.1), (1 / 3, 3.0), (1e-3, 1000.0), (1e6, 1e-6)],
    ids=["inside", "a half-decade", "above the grid", "below the grid"],
)
def test_tuning_finds_the_known_best_rate_even_beyond_the_grid(curvature, best):
    rule = GradientDescent()
    rate, grid = tune(rule, player(rule, Bowl(curvature), steps=40), np.zeros([2, 2], "int32"))
    assert rate == best
    assert float(rule.learning_rate) == pytest.approx(best)
    assert min(grid) < best < max(grid)  # what lies beyond was tried
    assert {1e-4, 3e-4, 1e-3, 0.1, 0.3, 1.0, 3.0, 10.0} <= set(grid)


def test_a_rate_that_diverges_counts_as_infinitely_bad():
    rule = GradientDescent()
    rate, grid = tune(rule, player(rule, Bowl(100.0), steps=60), np.zeros([1, 2], "int32"))
    assert rate == 0.01
    assert grid[10.0] == math.inf  # (1 - 1000)^120 is beyond float32
    assert math.isfinite(grid[0.01])


def test_baselines_are_tuned_as_copies():
    baseline = GradientDescent(0.5)
    result = compare({"mine": GradientDescent(0.001)}, Bowl(10.0), 5, 2, baselines={"SGD": baseline}, tuning_runs=1)
    assert result.rates == {"SGD": 0.1}
    assert float(baseline.learning_rate) == 0.5


def test_a_problem_without_finite_losses_is_an_error():
    with pytest.raises(ValueError, match=r"`problem`(?s:.*)GradientDescent diverges with every rate"):
        compare({"mine": Adam()}, Bowl(1.0, start=math.nan), 2, 1, baselines={"SGD": GradientDescent()}, tuning_runs=1)


def test_diverged_runs_are_counted_and_left_out_of_the_figures():
    result = compare(
        {"luck": ByLuck()}, Quadratic(functions=1), 3, runs=20, baselines={"SGD": GradientDescent()}, tuning_runs=2
    )
    luck = {row.name: row for row in result.table()}["luck"]
    starts = [Quadratic(functions=1).sample(tf.constant(seed)).parameters[0] for seed in result.configuration["seeds"]]
    lucky = np.array(starts) > 0
    assert 0 < luck.diverged == np.sum(~lucky) < 20
    assert luck.mean_loss == pytest.approx(result.initial_losses[lucky].mean())
    assert not result.wins()


def test_intervals_are_those_of_the_t_tests():
    generator = np.random.default_rng(0)
    curves = {"mine": generator.gamma(2, size=[10, 4]), "SGD": generator.gamma(3, size=[10, 4])}
    rows = {row.name: row for row in made_up(curves, {"SGD": 0.1}).table()}
    mine, other = (curves[name].mean(axis=1) for name in ("mine", "SGD"))
    for values, center, half in [
        (mine, rows["mine"].mean_loss, rows["mine"].mean_loss_ci95),
        (curves["SGD"][:, -1], rows["SGD"].final_loss, rows["SGD"].final_loss_ci95),
        (other - mine, rows["SGD"].difference, rows["SGD"].difference_ci95),
    ]:
        expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        np.testing.assert_allclose([center - half, center + half], [expected.low, expected.high])
    assert rows["mine"].difference is None


@pytest.mark.parametrize(
    ("mine", "wins"),
    [([[1.0, 1.0]], True), ([[1.0, 3.1]], False), ([[1.0, math.nan]], False)],
    ids=["better", "worse than the best", "diverged"],
)
def test_wins_means_below_the_best_baseline(mine, wins):
    result = made_up({"mine": mine, "good": [[2.0, 2.0]], "bad": [[9.0, 9.0]]}, {"good": 0.1, "bad": 1.0})
    assert result.best_baseline == "good"
    assert result.wins() is wins
    assert result.wins("mine") is wins


def test_json_holds_figures_seeds_versions_and_null_for_infinity(small):
    document = json.loads(small.to_json(), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    rows = {row.name: row for row in small.table()}
    assert document["optimizers"]["SGD"]["difference"] == rows["SGD"].difference
    assert document["optimizers"]["SGD"]["rate"] == small.rates["SGD"]
    np.testing.assert_allclose(document["optimizers"]["mine"]["mean_loss_of_each_run"], small.curves["mine"].mean(1))
    np.testing.assert_allclose(document["optimizers"]["mine"]["mean_loss_of_each_step"], small.curves["mine"].mean(0))
    assert len(document["configuration"]["seeds"]) == 12
    assert document["configuration"]["rules"]["other"]["config"]["learning_rate"] == 0.1
    assert document["versions"]["tensorflow"] == tf.__version__
    infinite = json.loads(made_up({"mine": [[1.0]], "SGD": [[math.inf]]}, {"SGD": 0.1}).to_json())
    assert infinite["optimizers"]["SGD"]["mean_loss"] is None
    assert infinite["optimizers"]["SGD"]["grid"][1] == {"rate": 1.0, "mean_loss": None}


def test_progress_ends_at_its_total_and_never_goes_back():
    calls = []
    compare(
        {"mine": Adam()},
        Bowl(1e-3),  # its best rate is beyond the grid, so that the work grows
        2,
        runs=12,
        tuning_runs=2,
        baselines={"SGD": GradientDescent()},
        progress=lambda *call: calls.append(call),
    )
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert all(call[1] <= call[2] for call in calls)
    assert calls[-1][1] == calls[-1][2]
    assert calls[0][0] == "mine: comparing"
    assert calls[-1][1] > 12 + 12 + 11 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 0}, "`runs` must be a positive integer. Received: runs=0"),
        ({"steps": 2.5}, "`steps` must be a positive integer. Received: steps=2.5"),
        ({"rules": {}}, "`rules` must map names to rules"),
        ({"rules": {"SGD": Adam()}}, r"other names than the baselines. Received: \['SGD'\]"),
        ({"baselines": {"LSTM": ByLuck()}}, "with a weight `learning_rate`. Received: 'LSTM', a ByLuck"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"rules": {"mine": Adam()}, "problem": Bowl(1.0), "runs": 1, "steps": 1, **arguments})


def test_report_writes_a_picture_json_and_overlaying_tensorboard_runs(small, tmp_path):
    report(small, tmp_path / "new")
    written = report(small, tmp_path / "new")  # a second report replaces the first
    assert written.picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert json.loads(written.json.read_text())["best_baseline"] == "SGD"
    assert sorted(path.name for path in written.tensorboard.iterdir()) == ["SGD", "mine", "other", "together"]
    together = EventAccumulator(str(written.tensorboard / "together")).Reload().Tags()["tensors"]
    assert {"loss/SGD", "loss/mine", "loss/other", "custom_scalars__config__"} <= set(together)
    for name in small.curves:
        events = EventAccumulator(str(written.tensorboard / name), size_guidance={"tensors": 0}).Reload()
        scalars = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors("loss")]
        assert [step for step, _ in scalars] == list(range(8))
        expected = [small.initial_losses.mean(), *small.curves[name].mean(axis=0)]
        np.testing.assert_allclose([loss for _, loss in scalars], expected, rtol=1e-6)
    assert "learning curves" in EventAccumulator(str(written.tensorboard / "mine")).Reload().Tags()["tensors"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "comparison.json",
        "curves.png",
        "tensorboard",
    ]


def test_a_report_that_fails_leaves_the_one_before_whole(small, tmp_path, monkeypatch):
    written = report(small, tmp_path)
    before = written.json.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        report(small, tmp_path)
    assert written.json.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_the_table_fits_80_columns_and_names_winner_and_losses():
    generator = np.random.default_rng(0)
    curves = {
        "andrychowicz2016": 0.5 + 0.01 * generator.random([9, 4]),
        "Nesterov": 0.6 + 0.01 * generator.random([9, 4]),
        "[SGD]": np.full([9, 4], math.nan),
    }
    output = io.StringIO()
    print_table(made_up(curves, {"Nesterov": 0.3, "[SGD]": 1.0}), rich.console.Console(file=output, width=80))
    printed = output.getvalue()
    table, notes = printed.split("±: ")
    names = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert names[3:] == ["andrychowicz2016", "Nesterov", "[SGD]"]
    assert table.count(" ± ") == 5
    assert "…" not in printed
    assert "[SGD] diverged in 9 of 9 runs" in notes
    assert "andrychowicz2016 beats the best tuned baseline in mean loss over the steps: andrychowicz2016 0.50" in notes


def test_rules_may_be_named_as_shipped_ones():
    comparison = compare({"shipped": "default"}, Quadratic(functions=1), 2, runs=2, tuning_runs=1)
    assert comparison.learned == ["shipped"]
    assert "shipped, SGD" in repr(comparison)
    assert len(repr(comparison)) < 300


@pytest.mark.parametrize(
    ("argument", "rules", "problem"),
    [
        ("rules", GradientDescent(), Bowl(1.0)),
        ("rules", [GradientDescent()], Bowl(1.0)),
        ("rules", {"mine": 3}, Bowl(1.0)),
        ("problem", {"mine": GradientDescent()}, "digits"),
    ],
)
def test_what_is_no_rule_and_no_problem_is_refused(argument, rules, problem):
    with pytest.raises(ValueError, match=rf"`{argument}` must [\s\S]*Received: {argument}=[\s\S]*\nTry "):
        compare(rules, problem)
