"""Good sweep files: which trials they mean, in which order, and that the same trial always has the same id."""

import importlib
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.sweep import Resources, Sweep, SweepError, data_folder, importable, load_sweep
from orchestrator.sweep_measure import count_due
from workers.spec import DEFAULT_MEASURE, Component, Request, last_step

BASE = "name: s\ntrial: {architecture: mlp, dataset: mnist5k, steps: 100}\n"

EXAMPLE = """
name: figure-1
description: Fraction of the gradient in the top Hessian subspace.
trial:
  optimizer: sgd
  batch_size: 64
  steps: 2000
cases:
  - {architecture: mlp, dataset: mnist}
  - {architecture: resnet18, dataset: cifar10, resources: {gpus: 1}}
grid:
  learning_rate: [0.1, 0.01]
  seed: {range: 3}
exclude:
  - {architecture: resnet18, learning_rate: 0.01}
measure:
  loss: {every: 50}
  hessian_gradient_overlap: {every: 50}
  top_eigenpairs: {at: [0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000], count: 20}
  subspace_overlap: {since: [20, 100, 500]}
  spectral_density: {at: [0, 2000], probes: 4, lanczos_steps: 80}
resources: {cpus: 2, gpus: 0}
retries: 1
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(text: str, **options: Any) -> Sweep:
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return load_sweep(path, **options)

    return load


def values(sweep: Sweep, *fields: str) -> list[Any]:
    found = [tuple(getattr(trial.spec, field) for field in fields) for trial in sweep.trials]
    return [value[0] for value in found] if len(fields) == 1 else found


def test_the_example_of_the_contract(load: Any, tmp_path: Path) -> None:
    sweep = load(EXAMPLE)
    assert (sweep.name, sweep.retries, sweep.text) == ("figure-1", 1, EXAMPLE)
    assert sweep.description == "Fraction of the gradient in the top Hessian subspace."
    assert (sweep.folder, sweep.path) == (tmp_path, tmp_path / "s.yaml")
    mlp = list(product(["mlp"], [0.1, 0.01], [0, 1, 2]))
    resnet = list(product(["resnet18"], [0.1], [0, 1, 2]))
    found = [(t.spec.architecture.name, t.spec.learning_rate, t.spec.seed) for t in sweep.trials]
    assert found == mlp + resnet
    assert [t.resources for t in sweep.trials] == [Resources(2, 0)] * 6 + [Resources(2, 1)] * 3
    assert sweep.trials[0].spec.measure == {
        "loss": Request(every=50),
        "hessian_gradient_overlap": Request(every=50),
        "top_eigenpairs": Request(at=(0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000), options={"count": 20}),
        "subspace_overlap": Request(options={"since": [20, 100, 500]}),
        "spectral_density": Request(at=(0, 2000)),
        "gradient_overlap": Request(),
    }


def test_the_smallest_file(load: Any) -> None:
    sweep = load(BASE)
    assert (sweep.description, sweep.retries) == ("", 2)
    (trial,) = sweep.trials
    assert trial.resources == Resources(1, 0)
    assert trial.spec.measure == DEFAULT_MEASURE
    assert trial.spec.changed() == {"architecture": "mlp", "dataset": "mnist5k", "steps": 100}


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("seed: [3, 1, 2]", [3, 1, 2]),
        ("seed: {range: 3}", [0, 1, 2]),
        ("seed: {range: [2, 5]}", [2, 3, 4]),
        ("seed: [1e3]", [1000]),
        ("seed:\n  - 1\n  - 2", [1, 2]),
        ("learning_rate: {log: [0.001, 1, 4]}", [0.001, 0.01, 0.1, 1.0]),
        ("learning_rate: {log: [0.3, 0.1, 2]}", [0.3, 0.1]),
        ("learning_rate: {log: [1e-5, 10, 7]}", [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]),
        # the ends are as given, to the last of their 15 digits
        (
            "learning_rate: {log: [0.123456789012345, 0.987654321098765, 2]}",
            [0.123456789012345, 0.987654321098765],
        ),
        ("batch_size: {log: [16, 256, 5]}", [16, 32, 64, 128, 256]),
        ("measurement_samples: [null, 100]", [None, 100]),
        ("loss: [mse, cross_entropy]", ["mse", "cross_entropy"]),
        (
            "optimizer: [sgd, {name: sgd, momentum: 0.9}, adam]",
            [Component("sgd"), Component("sgd", {"momentum": 0.9}), Component("adam")],
        ),
    ],
)
def test_axes(load: Any, axis: str, expected: list[Any]) -> None:
    sweep = load(f"{BASE}grid:\n  {axis.replace(chr(10), chr(10) + '  ')}\n")
    found = values(sweep, axis.partition(":")[0])
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_the_first_axis_is_the_slowest(load: Any) -> None:
    sweep = load(f"{BASE}grid:\n  seed: [1, 0]\n  learning_rate: [0.3, 0.1]\n")
    assert values(sweep, "seed", "learning_rate") == [(1, 0.3), (1, 0.1), (0, 0.3), (0, 0.1)]


@pytest.mark.parametrize(
    "written_out",
    [
        "seed: 0",
        "learning_rate: 1e-1",
        "batch_size: 64.0",
        "optimizer: {name: sgd}",
        "optimizer: {name: sgd, momentum: 0, nesterov: false}",
        "measurement_samples: null",
    ],
)
def test_what_says_nothing_new_is_the_same_trial(load: Any, written_out: str) -> None:
    same = load(f"name: s\ntrial: {{architecture: mlp, dataset: mnist5k, steps: 100, {written_out}}}\n")
    assert same.trials[0].spec.trial_id == load(BASE).trials[0].spec.trial_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("architecture: mlp", "architecture: {name: mlp, widths: [100, 1e2], activation: relu}"),
        ("architecture: {name: mlp, widths: [7]}", "architecture: {widths: [7.0], name: mlp}"),
        ("architecture: {name: softmax, bias: true}", "architecture: softmax"),
    ],
)
def test_an_option_at_its_default_says_nothing_new(load: Any, one: str, other: str) -> None:
    sweeps = [load(BASE.replace("architecture: mlp", text)) for text in (one, other)]
    assert sweeps[0].trials[0].spec.trial_id == sweeps[1].trials[0].spec.trial_id


def test_whole_numbers_are_numbers(load: Any) -> None:
    sweep = load(f"{BASE}grid: {{learning_rate: [1]}}\n")
    assert repr(sweep.trials[0].spec.learning_rate) == "1.0"


def test_exclude_by_name_and_by_options(load: Any) -> None:
    grid = "grid:\n  architecture: [mlp, {name: mlp, widths: [7]}, softmax]\n  seed: [0, 1]\n"
    base = "name: s\ntrial: {dataset: mnist5k, steps: 100}\n" + grid

    def left(excluded: str) -> list[tuple[int, int]]:
        sweep = load(f"{base}exclude: [{excluded}]\n")
        shapes = [Component("mlp"), Component("mlp", {"widths": [7]}), Component("softmax")]
        return [(shapes.index(t.spec.architecture), t.spec.seed) for t in sweep.trials]

    assert left("{architecture: mlp}") == [(2, 0), (2, 1)]
    assert left("{architecture: {name: mlp, widths: [7]}}") == [(0, 0), (0, 1), (2, 0), (2, 1)]
    # an option that says its default leaves out those that have the default, not all
    assert left("{architecture: {name: mlp, widths: [100, 100]}, seed: 1}") == [
        (0, 0),
        *product([1, 2], [0, 1]),
    ]
    # a parameter that no part of the file sets is at its default
    assert left("{learning_rate: 0.1, seed: 1}, {seed: 0, architecture: softmax}") == [(0, 0), (1, 0)]


def test_excluded_combinations_may_be_impossible(load: Any) -> None:
    """4,001 measurement samples exist in mnist only, and the combination with mnist5k is left out."""
    sweep = load(
        "name: s\ntrial: {architecture: mlp, steps: 1}\n"
        "grid: {dataset: [mnist, mnist5k], measurement_samples: [4000, 4001]}\n"
        "exclude: [{dataset: mnist5k, measurement_samples: 4001}]\n"
    )
    assert [(d.name, n) for d, n in values(sweep, "dataset", "measurement_samples")] == [
        ("mnist", 4000),
        ("mnist", 4001),
        ("mnist5k", 4000),
    ]


def test_anchors_and_merge_keys(load: Any) -> None:
    sweep = load(
        "name: s\n"
        "trial: {steps: 5}\n"
        "cases:\n"
        "  - &small {architecture: mlp, dataset: mnist5k, batch_size: 10}\n"
        "  - <<: *small\n"
        "    batch_size: 20\n"
        "  - <<: [{seed: 7, batch_size: 30}, *small]\n"
    )
    assert values(sweep, "batch_size", "seed") == [(10, 0), (20, 0), (30, 7)]


def test_eigenpairs_bring_gradient_overlaps(load: Any) -> None:
    asked = load(BASE + "measure:\n  top_eigenpairs:\n").trials[0].spec.measure
    assert asked == {"top_eigenpairs": Request(), "gradient_overlap": Request()}
    own = load(BASE + "measure: {top_eigenpairs: {}, gradient_overlap: {every: 10}}\n").trials[0].spec.measure
    assert own["gradient_overlap"] == Request(every=10)


def test_a_since_is_checked_against_the_steps_at_which_overlaps_are_made(load: Any) -> None:
    """Those of the eigenpairs, unless the overlaps have a schedule of their own; any trial's steps will do."""
    load(BASE + "measure: {top_eigenpairs: {every: 30}, subspace_overlap: {since: [0, 30, 100]}}\n")
    load(BASE + "measure: {top_eigenpairs: {at: [3]}, subspace_overlap: {every: 40, since: [40]}}\n")
    load(BASE + "measure: {subspace_overlap: {since: [20]}}\n")
    grid = BASE.replace(", steps: 100", "") + "grid: {steps: [10, 1000]}\n"
    load(grid + "measure: {top_eigenpairs: {at: [0, 500]}, subspace_overlap: {since: [500]}}\n")


def test_steps_are_not_checked_where_the_length_is_unknown(load: Any) -> None:
    """The number of steps of an epoch follows from data that is not there."""
    load(
        "name: s\ntrial: {architecture: mlp, dataset: {name: npz, path: absent.npz}, epochs: 1}\n"
        "measure: {loss: {at: [0, 1000000]}}\n"
    )
    with pytest.raises(SweepError, match="the longest has 63"):  # 4,000 / 64, rounded up
        load(BASE.replace("steps: 100", "epochs: 1") + "measure: {loss: {at: [64]}}\n")


@pytest.mark.parametrize("gpus", ["0", "0.5", "0.25", "0.33", "0.3333", "0.2", "0.142", "1", "2", "8.0"])
def test_shares_of_a_gpu(load: Any, gpus: str) -> None:
    assert load(f"{BASE}resources: {{gpus: {gpus}}}\n").trials[0].resources.gpus == float(gpus)


def test_own_files_are_found_beside_the_sweep_file_and_not_run(tmp_path: Path) -> None:
    """Two folders may have files of the same name. Nothing in them is executed, and the path is as before."""
    before = sys.path[:]
    for folder, default in (("a", 1), ("b", 2)):
        (tmp_path / folder / "nets").mkdir(parents=True)
        (tmp_path / folder / "nets/__init__.py").write_text("raise RuntimeError\n")
        source = f"raise RuntimeError\ndef build(shape, classes, *, depth: int = {default}): ...\n"
        (tmp_path / folder / "nets/deep.py").write_text(source)
        text = BASE.replace("architecture: mlp", "architecture: {name: nets.deep, depth: 1}")
        (tmp_path / folder / "s.yaml").write_text(text)
    one, other = (load_sweep(tmp_path / folder / "s.yaml").trials[0].spec for folder in "ab")
    assert one.architecture == Component("nets.deep")
    assert other.architecture == Component("nets.deep", {"depth": 1})
    assert sys.path == before
    edited = tmp_path / "b/nets/deep.py"
    edited.write_text(edited.read_text().replace("= 2", "= 1"))
    os.utime(edited, (0, 0))  # another time than before, however fast this was
    assert load_sweep(tmp_path / "b/s.yaml").trials[0].spec.architecture == Component("nets.deep")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("torch.Tensor", 2),
        ("'torch.Tensor'", 2),
        ("'int'", 2),
        ("Annotated[int, []]", 2),
        ("set[int]", [2]),
        ("complex", "2j"),
        ("dict[str, float]", {"a": 2.0}),
    ],
)
def test_annotations_that_mean_little_here_allow_the_value(
    load: Any, tmp_path: Path, annotation: str, value: Any
) -> None:
    source = f"import torch\nfrom typing import Annotated\ndef net(shape, classes, *, x: {annotation}): ...\n"
    (tmp_path / "odd.py").write_text(source)
    text = BASE.replace("architecture: mlp", f"architecture: {{name: odd.net, x: {json.dumps(value)}}}")
    (trial,) = load(text).trials
    assert trial.spec.architecture == Component("odd.net", {"x": value})
    assert trial.spec.trial_id


def test_the_path_is_restored_after_an_error(tmp_path: Path) -> None:
    before = sys.path[:]
    with pytest.raises(ModuleNotFoundError), importable(tmp_path):
        importlib.import_module("a_module_that_is_not_there")
    assert sys.path == before


def test_more_than_100_000_trials_must_be_meant(load: Any) -> None:
    grid = "grid:\n  seed: {range: 1001}\n  batch_size: {range: [1, 101]}\n"
    with pytest.raises(SweepError, match="100,100 trials; more than 100,000 need --yes"):
        load(BASE + grid)
    assert len(load(BASE + grid, allow_large=True).trials) == 100_100


def test_where_data_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_SUBSPACE_DATA", "/elsewhere")
    assert data_folder() == Path("/elsewhere")
    assert data_folder(Path("given")) == Path("given")
    monkeypatch.delenv("TINY_SUBSPACE_DATA")
    assert data_folder() == Path.home() / ".cache/tiny-subspace"


def test_loading_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(EXAMPLE)
    code = "import sys; from orchestrator.sweep import load_sweep; load_sweep(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


AXES = {
    "learning_rate": st.floats(1e-6, 1e3),
    "batch_size": st.integers(1, 2**62),
    "seed": st.integers(0, 2**63 - 1),
    "loss": st.sampled_from(["cross_entropy", "mse"]),
    "precision": st.sampled_from(["float32", "float64"]),
    "measurement_samples": st.none() | st.integers(1, 4000),
    "architecture": st.sampled_from(["mlp", "softmax"]),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.fixed_dictionaries(
        {}, optional={k: st.lists(v, min_size=1, max_size=3, unique=True) for k, v in AXES.items()}
    )
)
def test_a_grid_is_the_product_of_its_axes(load: Any, axes: dict[str, list[Any]]) -> None:
    """JSON is YAML: what is written is what is loaded, in order, and no two trials have one id."""
    trial = {"dataset": "mnist5k", "steps": 100} | ({} if "architecture" in axes else {"architecture": "mlp"})
    sweep = load(json.dumps({"name": "s", "trial": trial, "grid": axes}))
    found = [tuple(getattr(t.spec, field) for field in axes) for t in sweep.trials]
    names = [tuple(v.name if isinstance(v, Component) else v for v in point) for point in found]
    assert names == list(product(*axes.values()))
    assert len({t.spec.trial_id for t in sweep.trials}) == len(names)


requests = st.builds(Request, every=st.integers(1, 60)) | st.just(Request())
requests |= st.sets(st.integers(0, 300)).map(lambda steps: Request(at=tuple(sorted(steps))))


@given(st.lists(requests, max_size=4), st.integers(0, 250))
def test_due_steps_are_counted_as_if_they_were_visited(schedules: list[Request], last: int) -> None:
    visited = sum(any(request.due(step, last) for request in schedules) for step in range(last + 1))
    assert count_due(schedules, last) == visited


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ((7, None, 64, None), 7),
        ((None, 2, 64, 4000), 126),
        ((None, 2, 5000, 4000), 2),
        ((None, 2, 64, None), None),
    ],
)
def test_last_step(length: tuple[Any, ...], expected: int | None) -> None:
    assert last_step(*length) == expected


def test_a_link_to_a_sweep_file_has_its_own_files_beside_it(tmp_path: Path) -> None:
    """As where Kubernetes mounts a ConfigMap: links, through a folder with another name on each node."""
    mounted, hidden = tmp_path / "sweep", tmp_path / "sweep/..2026_1"
    hidden.mkdir(parents=True)
    (hidden / "sweep.yaml").write_text(BASE.replace("mlp", "linked_models.linear"))
    (mounted / "..data").symlink_to(hidden.name)
    (mounted / "sweep.yaml").symlink_to("..data/sweep.yaml")
    (mounted / "linked_models.py").write_text("def linear(input_shape, num_classes): ...\n")
    sweep = load_sweep(mounted / "sweep.yaml")
    assert sweep.folder == mounted
    assert values(sweep, "architecture") == [Component("linked_models.linear")]
