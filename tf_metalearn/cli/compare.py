"""`tf-metalearn compare`: a learned optimizer against tuned ones."""

from pathlib import Path

import click

from tf_metalearn.cli.common import RULE, complete_files, load_model, show_comparison, start_tensorflow


@click.command()
@click.argument("rule", required=False, shell_complete=lambda ctx, parameter, word: complete_files(word))
@click.option(
    "--problem",
    "problem_name",
    default="digits",
    show_default=True,
    help="What to train: quadratic, digits, mnist, cifar100, ... An unknown name lists all.",
)
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1), help="Fresh trainings, paired.")
@click.option("--steps", default=100, show_default=True, type=click.IntRange(1), help="Updates in a training.")
@click.option(
    "--tuning-runs",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="Other fresh trainings for each learning rate of each baseline.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides all trainings.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write.  [default: comparisons/PROBLEM]",
)
def compare(
    rule: str | None, problem_name: str, runs: int, steps: int, tuning_runs: int, seed: int, out: Path | None
) -> None:
    """Pit a learned optimizer against SGD, RMSprop, Adam and Nesterov.

    RULE is the name of a shipped rule, a .keras file, or the folder of a run; when left out, it is the rule of
    `LearnedOptimizer()`. Each of the others first gets its best learning rate from a grid on the same problem. Then all
    train the same fresh instances, on data kept for testing. Prints a table and writes DIR/curves.png,
    DIR/comparison.json and DIR/tensorboard.

    \b
    Examples:
      tf-metalearn compare
      tf-metalearn compare andrychowicz2016 --problem mnist
      tf-metalearn compare my_rule.keras --problem cifar100 --runs 10 --tuning-runs 3
    """
    start_tensorflow()
    from tf_metalearn import problems
    from tf_metalearn.optimizers import comparison, report
    from tf_metalearn.pretrained import DEFAULT_RULE

    if problem_name not in problems.PRESETS:
        known = ", ".join(problems.PRESETS)
        raise click.BadParameter(f"{problem_name!r} is not a known problem. Known: {known}.", param_hint="--problem")
    loaded = load_model(rule or DEFAULT_RULE, RULE)
    out = out or Path("comparisons", problem_name)
    # Better to fail now than after the work.
    out.mkdir(parents=True, exist_ok=True)
    problem = problems.make(problem_name, split="test")
    with report.progress_bar() as progress:
        result = comparison.compare(
            {Path(rule or "learned").stem: loaded},
            problem,
            steps,
            runs,
            seed,
            tuning_runs=tuning_runs,
            progress=progress,
        )
    show_comparison(result, out)
