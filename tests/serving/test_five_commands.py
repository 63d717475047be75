"""The five commands of docs/serving.md as they stand, on drawn letters: only docker's server is the stand-in's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.serving.test_client import stand_in
from tf_metalearn import cli

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_two_folders_of_pictures_become_a_service_in_five_commands(pictures_in_folders, tmp_path, monkeypatch):
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the PATH")
    shutil.copytree(pictures_in_folders, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    adapt, export, docker, rest = re.search(r"```\n(tf-metalearn adapt .*?)```", PAGE, re.DOTALL)[1].split("\n", 3)
    request, curl = rest.strip().rsplit("\n", 1)
    for command in (adapt, export):
        done = CliRunner().invoke(cli.main, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
    assert "dark pixels as 1" in done.output
    assert not [
        path for path in tmp_path.iterdir() if path.name not in {"letters", "unknown", "letters.keras", "served"}
    ]
    folder = Path(shlex.split(docker)[3]).parent
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with stand_in(tmp_path / folder) as server:
        subprocess.run(request, shell=True, check=True, env=path)
        address = server.rest.removeprefix("http://").partition("/")[0]
        command = curl.replace("localhost:8501", address)
        assert command != curl
        done = subprocess.run(command, shell=True, check=True, env=path, capture_output=True, text=True)
    predictions = json.loads(done.stdout)["predictions"]
    assert [row["label"] for row in predictions] == ["alpha", "alpha", "beta", "beta"]
    assert {row["error"] for row in predictions} == {""}
