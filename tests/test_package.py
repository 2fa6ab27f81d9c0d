"""What is published works outside of the repository: a wheel from the sdist, installed without a network, trains."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
NOT_SOURCE = shutil.ignore_patterns(".*", "runs", "build", "dist", "site", "*.egg-info", "__pycache__")
# What `pip` and `build` call, in this environment: an isolated build would ask an index for setuptools.
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def built(kind, source, folder):
    """The file that `build_sdist` or `build_wheel` makes of a source tree."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    return built("sdist", folder / "tree", folder)


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built from the sdist alone: what it lacks is missing here."""
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent, filter="data")
    return built("wheel", sdist.parent / sdist.name.removesuffix(".tar.gz"), sdist.parent)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel in it, and the environment of a shell that has it; the dependencies are this Python's."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--quiet", "--no-warn-script-location", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)], check=True, timeout=300
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return folder, kept | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": "-1", "COLUMNS": "80"}


def run(installed, cwd, *command):
    folder, environment = installed
    words = [sys.executable, str(folder / "bin" / "zoo")] if command[0] == "zoo" else [sys.executable]
    done = subprocess.run([*words, *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sdist_has_what_it_takes_to_build_test_and_document(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "mkdocs.yml"}
    wanted |= {"tests/test_package.py", "tests/fixtures/tiny_bert.json", "docs/index.md", "benchmarks/mlp/__main__.py"}
    assert wanted - names == set()


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} - {"zoo", "experiments"} == {"zoo_keras-0.1.0.dist-info"}
    code = {str(path.relative_to(ROOT)) for part in ("zoo", "experiments") for path in (ROOT / part).rglob("*.py")}
    assert code | {"zoo/py.typed"} == {name for name in names if "dist-info" not in name}
    assert "zoo_keras-0.1.0.dist-info/licenses/LICENSE" in names or "zoo_keras-0.1.0.dist-info/LICENSE" in names


def test_metadata(wheel):
    import zoo

    about = message_from_string(zipfile.ZipFile(wheel).read("zoo_keras-0.1.0.dist-info/METADATA").decode())
    assert (about["Name"], about["Version"], about["License"]) == ("zoo-keras", zoo.__version__, "Apache-2.0")
    assert about["Requires-Python"] and about["Summary"] and about["Keywords"]
    assert about["Description-Content-Type"] == "text/markdown" and "# zoo" in about.get_payload()
    assert "Typing :: Typed" in about.get_all("Classifier")
    # An extra that is asked for somewhere in the text is there.
    assert {"gpu", "test", "docs", "bench", "notebooks"} <= set(about.get_all("Provides-Extra"))


def test_the_installed_command_trains_and_predicts(installed, tmp_path):
    where = "import zoo, experiments; print(zoo.__file__, experiments.__file__)"
    place = run(installed, tmp_path, "python", "-c", where)
    assert place.split() == [str(installed[0] / name / "__init__.py") for name in ("zoo", "experiments")]
    assert "predict" in run(installed, tmp_path, "zoo", "--help")
    flags = ["--dataset=digits", "--steps=20", "--hidden=16", "--workdir=tiny"]
    assert '"step": 20' in run(installed, tmp_path, "python", "-m", "experiments.mlp_classifier", *flags)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    assert len(run(installed, tmp_path, "zoo", "predict", "tiny", "x.npy").splitlines()) == 2
