"""`tf-metalearn datasets`: lists data sets, gets one, or draws an episode."""

import textwrap
from pathlib import Path
from typing import Any

import click

from tf_metalearn.cli.common import PICTURES, check_file, in_words_of_the_command_line, start_tensorflow


@click.command()
@click.argument("name", required=False)
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where data sets are kept.")
@click.option("--download", is_flag=True, help="Get NAME by its tensorflow_datasets builder and decode it.")
@click.option("--draw", type=click.Path(dir_okay=False, path_type=Path), help="Draw an episode of NAME to this PNG.")
@click.option("--split", default="test", show_default=True, help="Of the episode: train, validation, test or all.")
@click.option("--ways", default=5, show_default=True, type=click.IntRange(1), help="Classes in the episode.")
@click.option("--shots", default=1, show_default=True, type=click.IntRange(0), help="Support examples of a class.")
@click.option("--queries", default=5, show_default=True, type=click.IntRange(1), help="Query examples of a class.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides the episode.")
@click.option("--protocol", help="Of omniglot: vinyals, lake, small1 or small2.")
@click.option("--within-groups", is_flag=True, help="All classes of the episode from one group, such as an alphabet.")
@click.option("--image-size", type=click.IntRange(1), help="Pixels of both sides.")
@click.option("--unreadable", type=click.Choice(["fail", "skip"]), default="fail", help="Damaged images of a folder.")
def datasets(
    name: str | None,
    data_dir: Path | None,
    download: bool,
    draw: Path | None,
    split: str,
    ways: int,
    shots: int,
    queries: int,
    seed: int,
    protocol: str | None,
    within_groups: bool,
    image_size: int | None,
    unreadable: str,
) -> None:
    """List data sets, get one, or draw one of its episodes.

    Without NAME, lists what `load_episodes` knows by name and what tensorflow_datasets has prepared, where it is kept,
    its size, licence and source. NAME is one of these, another tensorflow_datasets builder, or a folder of class
    folders. TFDS_DATA_DIR (or --data-dir) says where data sets are kept.

    \b
    Examples:
      tf-metalearn datasets
      tf-metalearn datasets omniglot --download
      tf-metalearn datasets my_images --split all --image-size 84 --draw episode.png
    """
    check_file("--draw", draw, *PICTURES)
    start_tensorflow()
    if name is None:
        if download or draw:
            raise click.UsageError("NAME must say which data set. Received: none. See `tf-metalearn datasets`.")
        _list_data_sets(data_dir)
        return
    from tf_metalearn import episodes

    if download:
        known = episodes.SOURCES.get(name)
        if known and not known.dataset:
            raise click.UsageError(f"{name!r} cannot be downloaded: {known.summary}.")
        folder = episodes.prepared.download(known.dataset if known else name, data_dir)
        click.echo(f"{name} is in {folder}")
    reading: dict[str, Any] = {
        "data_dir": data_dir,
        "protocol": protocol,
        "image_size": image_size,
        "unreadable": unreadable,
    }
    words = {
        "source": "NAME",
        **{argument: f"--{argument.replace('_', '-')}" for argument in (*reading, "ways", "shots", "queries")},
    }
    if not draw:
        with in_words_of_the_command_line(**words):
            table = episodes.load_classes(name, "all", rotations=False, **reading)
        low, high = min(table.sizes), max(table.sizes)
        of_each = f"{low}" if low == high else f"{low} to {high}"
        click.echo(
            f"{name}: {len(table.names):,} classes, {of_each} examples of each, {len(table.examples):,} in all, "
            f"of shape {table.examples.shape[1:]}"
        )
        if table.groups:
            click.echo(
                f"{len(set(table.groups))} groups: {textwrap.shorten(', '.join(sorted(set(table.groups))), 100)}"
            )
        if table.metadata is not None:
            click.echo(f"metadata of {table.metadata.shape[1]} features")
        click.echo(f"Classes: {textwrap.shorten(', '.join(table.names), 100)}")
        return
    from tf_metalearn.plotting import plot_episode

    with in_words_of_the_command_line(**words):
        stream = episodes.load_episodes(
            name, split, ways, shots, queries, 1, seed, episodes=1, within_groups=within_groups, **reading
        )
    episode, query_y = next(iter(stream))
    plot_episode(episode, query_y).savefig(draw)
    click.echo(f"Episode     {draw}")


def _list_data_sets(data_dir: Path | None) -> None:
    from tf_metalearn.episodes import catalogue
    from tf_metalearn.episodes.prepared import data_directory

    click.echo(f"Data sets in {data_directory(data_dir)}\n")
    for entry in catalogue.entries(data_dir):
        click.echo(f"{click.style(entry.name, bold=True)}\n  {textwrap.shorten(entry.summary, 100)}")
        size = f"{entry.megabytes:,.0f} MB" if entry.megabytes else ""
        if entry.folder:
            click.echo(f"  {entry.folder}, {size}")
            for cached in entry.cached:
                click.echo(f"  {cached}, decoded, {cached.stat().st_size / catalogue.MEGABYTE:,.0f} MB")
        else:
            click.echo(f"  not on this machine{f', {size} to download' if size else ''}")
        click.echo(f"  Licence: {entry.licence}\n  Source: {entry.homepage or 'unknown'}\n")
    click.echo(click.style("sinusoids", bold=True))
    click.echo("  regression tasks: sine waves of random amplitude and phase, made as they are drawn\n")
    click.echo("Get one by `tf-metalearn datasets NAME --download`. A folder of class folders works as well.")
