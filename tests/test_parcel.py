"""What travels to a cluster, and what stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.parcel import own_files, pack
from workers.spec import Component, Request, TrialSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "my_models.py": "import os\nimport my_layers\nfrom my_tools.inner import f\n\ndef build(): return my_layers.f()",
        "my_layers.py": "import my_models  # each imports the other\ndef f(): return 1",
        "my_tools/__init__.py": "",
        "my_tools/inner.py": "def f(): ...",
        "my_tools/__pycache__/inner.pyc": "",
        "my_measure/gap.py": "import nothing_of_ours",  # a package without __init__
        "my.npz": "numbers",
        "arrays/more.npz": "numbers",
        "unrelated.py": "",
        "results/big.parquet": "",
        "broken.py": "def (",
    }
    for name, text in files.items():
        (tmp_path / "sweep" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sweep" / name).write_text(text)
    (tmp_path / "outside.npz").touch()
    return tmp_path / "sweep"


def spec(architecture: str = "mlp", path: str | None = None, measure: str = "loss") -> TrialSpec:
    options = {"path": path} if path else {}
    return TrialSpec(
        architecture=Component(architecture),
        dataset=Component("npz", options),
        measure={measure: Request()},
    )


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([spec()], []),
        ([spec("my_models.resnet9")], ["my_layers.py", "my_models.py", "my_tools"]),
        ([spec(measure="my_measure.gap"), spec("broken.x")], ["broken.py", "my_measure"]),
        ([spec(path="my.npz"), spec(path="arrays/more.npz")], ["arrays/more.npz", "my.npz"]),
        ([spec(path="../outside.npz"), spec(path="absent.npz"), spec(path="results")], []),
        ([spec("nowhere.model")], []),
    ],
)
def test_what_the_trials_name_and_nothing_else(
    folder: Path, specs: list[TrialSpec], expected: list[str]
) -> None:
    absolute = spec(path=str(folder / "my.npz"))  # an absolute path must lie on every node
    assert [str(path.relative_to(folder)) for path in own_files(folder, [*specs, absolute])] == expected


def test_a_parcel_is_enough_to_import_from(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "parcel"
    pack(target, folder, [spec("my_models.resnet9", path="arrays/more.npz")])
    assert sorted(path.name for path in target.iterdir()) == [
        *["arrays", "my_layers.py", "my_models.py", "my_tools", "orchestrator", "workers"]
    ]
    assert not list(target.rglob("__pycache__"))
    code = "import my_models, workers.spec, orchestrator; print(my_models.build(), workers.spec.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=True, timeout=60
    )
    number, where = done.stdout.split()
    assert number == "1"
    assert Path(where).is_relative_to(target)
