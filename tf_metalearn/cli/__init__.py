"""The command line: `tf-metalearn VERB`, or `python -m tf_metalearn VERB`.

A verb is a file. Its function imports what it needs when it runs, so that help and completion wait for nothing, and
lets errors out: the group prints them for people, with a traceback only if asked.
"""

import warnings
from typing import Any, TextIO

import click

from tf_metalearn.cli.adapt import adapt
from tf_metalearn.cli.compare import compare
from tf_metalearn.cli.datasets import datasets
from tf_metalearn.cli.evaluate import evaluate
from tf_metalearn.cli.export import export
from tf_metalearn.cli.runs import runs
from tf_metalearn.cli.train import train


class _Verbs(click.Group):
    """Verbs whose failures end with one message and exit code 1; click's usage errors end with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                if not ctx.params["debug"]:
                    warnings.showwarning = _warn
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            raise SystemExit(130) from None
        except click.ClickException as error:
            if ctx.params["debug"] and error.__cause__:
                raise error.__cause__ from None
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    if isinstance(error, OSError) and error.filename:
        where = f"'{error.filename}' must be a place to read from and to write to. Received: {error.strerror}."
        return f"{where}\nCheck the path and its permissions, or choose another place."
    # This library's own errors say what to do.
    if isinstance(error, ValueError) and ("\n" in str(error) or type(error).__module__.startswith("tf_metalearn")):
        return str(error)
    kind = "" if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: "
    return f"{kind}{error}\nRun `tf-metalearn --debug ...` for the traceback."


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning without the place in the code that it comes from."""
    click.echo(f"Warning: {message}", err=True)


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import tf_metalearn

        click.echo(f"tf-metalearn {tf_metalearn.__version__}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main(debug: bool) -> None:
    """Meta-learning on TensorFlow and Keras: learn the optimizer, the initialisation or the metric.

    \b
    Examples:
      tf-metalearn compare --problem digits
      tf-metalearn compare my_rule.keras --problem mnist --out results
      tf-metalearn adapt omniglot_prototypical --support letters --query unknown
      tf-metalearn export omniglot_prototypical served/characters/1 --verify

    \b
    Shell completion, for bash (zsh and fish likewise); add it to ~/.bashrc:
      eval "$(_TF_METALEARN_COMPLETE=bash_source tf-metalearn)"
    """


for verb in (train, evaluate, adapt, export, compare, datasets, runs):
    main.add_command(verb)
