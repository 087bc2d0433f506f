"""Figures that compare trials with each other, with theory and with the paper: the drawn numbers are the stored ones."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import samples
from reported import commit, run

from orchestrator.report import paper_table
from orchestrator.report.figure import Figure, Stored, Table
from orchestrator.report.figures import (
    batch_norm,
    branches,
    class_count,
    class_means,
    layer_mass,
    level_crossing,
    theory,
)
from orchestrator.report.options import complete
from orchestrator.report.quadrature import curves
from orchestrator.report.reference import TABLE_1, titles
from orchestrator.report.solvable import Model, model_of
from orchestrator.store import ResultStore
from orchestrator.sweep import load_sweep
from workers.result import TrialStatus
from workers.solvable_model import eigenvalues, spectrum
from workers.spec import Component

MODULES = (theory, level_crossing, branches, class_count, class_means, layer_mass, batch_norm, paper_table)
SWEEPS = Path(__file__).parent.parent / "sweeps"
CLOSE = {"rtol": 1e-12, "atol": 0}
"""Two ways to the same median or quotient of a few float64 differ by some roundings of 1e-16."""


@pytest.fixture
def store(tmp_path):
    made = ResultStore(tmp_path / "sample")
    made.begin(samples.sweep())
    return made


def made(store, module):
    """The figures and tables of a module by name; each has lines that run and leave something."""
    found = {item.name: item for item in module.figures(Stored(str(store)))}
    for item in found.values():
        lines = [line for line in item.code.splitlines() if not line.startswith("from ")]
        assert len(lines) <= 4  # reading, and at most three more
        assert len(run(item))
    return found


def drawn(figure):
    """What the lines show, by their names: x and y."""
    lines = [line for axes in figure.drawing.axes for line in axes.lines if line.get_gid()]
    return {line.get_gid(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines}


def ends(figure):
    """The same by the last part of the name, for figures of one panel."""
    return {gid.rpartition("/")[2]: xy for gid, xy in drawn(figure).items()}


def pairs(step, values, **more):
    count = len(values)
    return samples.row(
        step, eigenvalues=values, residuals=[1e-4] * count, gradient_overlaps=[0.1] * count, **more
    )


# --- nothing where there is nothing ---


@pytest.mark.parametrize("module", MODULES)
def test_trials_that_are_none_of_these_have_no_such_figure(store, module):
    rows = [{"step": s, "train_loss": 1.0, "eigenvalues": [2.0, 1.0]} for s in (0, 5)]
    commit(store, rows)
    assert list(module.figures(Stored(str(store)))) == []


@pytest.mark.parametrize("module", MODULES)
def test_trials_that_failed_before_they_measured_are_no_error(store, module):
    for mode in ("eval", "train"):
        for k in (2, 3):
            data = Component("gaussians", {"classes": k, "noise": 0.1 * k})
            commit(store, [], TrialStatus.FAILED, k, dataset=data, batch_norm=mode)
    assert list(module.figures(Stored(str(store)))) == []


# --- layers ---


def test_layers_are_in_the_order_of_the_model_with_medians_at_the_last_step(store):
    masses = {0: ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7]), 1: ([0.3, 0.4, 0.5], [0.7, 0.6, 0.5])}
    for seed, shares in masses.items():
        layers = [
            {"layer": name, "parameters": 5, "mass": mass}
            for name, mass in zip(("stem", "10"), shares, strict=True)
        ]
        early = [layer | {"mass": [1.0, 1.0, 1.0]} for layer in layers]
        rows = [{"step": step, "layer_mass": found} for step, found in ((0, early), (5, layers), (9, None))]
        commit(store, rows, seed=seed)
    figure = made(store, layer_mass)["layer-mass"]
    axes = figure.drawing.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["stem", "10"]
    expected = [[0.2, 0.3, 0.4], [0.8, 0.7, 0.6]]
    np.testing.assert_allclose(axes.collections[0].get_array(), expected, **CLOSE)
    data = run(figure).unstack("index")
    np.testing.assert_allclose(data.xs("stem", level="layer").to_numpy()[0], expected[0], **CLOSE)
    np.testing.assert_allclose(data.xs("10", level="layer").to_numpy()[0], expected[1], **CLOSE)
    assert (figure.trials, figure.seeds) == (2, 2)


# --- theory ---

SOLVABLE = {
    "architecture": Component("softmax", {"bias": False}),
    "dataset": Component("gaussians", {"classes": 3, "samples": 999, "noise": 0.0}),
    "initialization": "zeros",
    "batch_size": "full",
    "learning_rate": 1.0,
}


def test_eigenvalues_lie_on_the_levels_of_theory(store):
    """Each measured eigenvalue is off by a known share; two are zero but for rounding, of either sign."""
    off = {0: 3e-9, 1: 1e-12, 50: 2e-10}
    measured = {False: [], True: []}
    for bias, values in measured.items():
        rows = []
        for step, share in off.items():
            exact = eigenvalues(spectrum(3, 1.0, step, bias))
            rows.append(pairs(step, [value * (1 + share) for value in exact] + [1e-18, -1e-18]))
            values += rows[-1]["eigenvalues"]
        commit(store, rows, classes=3, **SOLVABLE | {"architecture": Component("softmax", {"bias": bias})})
    found = made(store, theory)
    assert "zero in theory and 1e-18 at most" in found["theory"].caption
    assert [axes.get_title(loc="left") for axes in found["theory"].drawing.axes] == [
        "k = 3, no bias",
        "k = 3, with bias",
    ]
    data, lines = run(found["theory"]), drawn(found["theory"])
    points = [xy for gid, xy in lines.items() if gid.startswith("eigenvalue/")]
    for bias, (x, y) in zip(measured, points, strict=True):  # panels are in this order
        assert x.tolist() == [step for step in off for _ in range(8)]
        assert y.tolist() == measured[bias]
    assert sorted(data.eigenvalue) == sorted(value for values in measured.values() for value in values)
    levels = {bias: spectrum(3, 1.0, 50, bias) for bias in (False, True)}
    last = {y[-1] for gid, (x, y) in lines.items() if gid.startswith("theory/") and x[-1] == 50}
    assert last == {level.value for bias in levels for level in levels[bias]}
    for _, (x, y) in drawn(found["theory-error"]).items():
        # (1 + share) has a rounding of 1e-16, to which the smallest share is known to 1e-4 of itself
        np.testing.assert_allclose(y, [off[int(step)] for step in x], rtol=1e-3)
    np.testing.assert_allclose(run(found["theory-error"]).unstack("step")[50], off[50], rtol=1e-5)
    frame = found["theory-table"].frame
    assert frame.multiplicity.tolist() == [level.multiplicity for b in levels for level in levels[b]]
    assert frame.found.tolist() == [str(multiplicity) for multiplicity in frame.multiplicity]
    assert frame.theory.tolist() == [level.value for b in levels for level in levels[b]]
    np.testing.assert_allclose(frame.measured, frame.theory * (1 + off[50]), **CLOSE)
    np.testing.assert_allclose(frame["largest relative error"], off[50], rtol=1e-5)


def test_a_copy_that_the_solver_missed_is_seen(store):
    top, second = spectrum(3, 1.0, 50)
    commit(store, [pairs(50, [top.value] * 2 + [second.value] * 3 + [0.0])], classes=3, **SOLVABLE)
    frame = made(store, theory)["theory-table"].frame
    assert frame.multiplicity.tolist() == [3, 3]
    assert frame.found.tolist() == ["2", "3"]
    assert frame["largest relative error"].min() > 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": Component("mlp")},
        {"dataset": Component("digits")},
        {"dataset": Component("gaussians", {"classes": 3, "samples": 999})},
        {"dataset": Component("gaussians", {"classes": 3, "samples": 1000, "noise": 0.0})},
        {"dataset": Component("gaussians", {"classes": 3, "samples": 999, "noise": 0.0, "means": "random"})},
        {"dataset": Component("gaussians", {"classes": 2, "samples": 50, "noise": 0.0, "weights": [1, 2]})},
        {"dataset": Component("gaussians", {"classes": 3, "samples": 999, "noise": 0.0, "labels": "random"})},
        {
            "dataset": Component(
                "gaussians", {"classes": 3, "samples": 999, "noise": 0.0, "scaling": "standard"}
            )
        },
        {"batch_size": 998},
        {"measurement_samples": 998},
        {"optimizer": Component("sgd", {"momentum": 0.9})},
        {"optimizer": Component("adam")},
        {"initialization": "glorot"},
        {"loss": "mse"},
    ],
    ids=str,
)
def test_theory_is_told_of_the_solvable_model_only(changes):
    assert model_of(samples.spec(**SOLVABLE).columns()) == Model(3, False, 1.0)
    assert model_of(samples.spec(**SOLVABLE | changes).columns()) is None


def test_the_solvable_model_has_several_names():
    same = {"batch_size": 999, "measurement_samples": 1000}
    assert model_of(samples.spec(**SOLVABLE | same).columns()) == Model(3, False, 1.0)
    for architecture in (Component("softmax"), Component("mlp", {"widths": []})):
        row = samples.spec(**SOLVABLE | {"architecture": architecture}).columns()
        assert model_of(row) == Model(3, True, 1.0)


def test_the_level_crossing_is_drawn_for_each_noise(store):
    values = {}
    for at, (k, noise) in enumerate([(10, 0.0), (10, 0.2), (3, 0.0), (3, 0.2)]):
        given = {"noise": noise} if noise != 0.2 else {}  # the default stands in no row
        data = Component("gaussians", {"classes": k, **given} if k != 10 else given)
        values[k, noise] = [(1 - 0.1 * at, 0.9 - 0.1 * at), (0.01 * at, 0.5 + 0.1 * at)]
        rows = [
            samples.row(step, f_top=f_top, hessian_gradient_overlap=overlap)
            for step, (f_top, overlap) in zip((0, 100), values[k, noise], strict=True)
        ]
        commit(store, rows, classes=k, dataset=data, initialization="zeros", batch_size="full")
    figure = made(store, level_crossing)["level-crossing"]
    heads = [axes.get_title(loc="left") for axes in figure.drawing.axes if axes.get_title(loc="left")]
    assert heads == ["k = 3, orthonormal means", "k = 10, orthonormal means"]
    for axes, (k, at) in zip(figure.drawing.axes, [(3, 0), (10, 0), (3, 1), (10, 1)], strict=True):
        found = {float(line.get_gid().rpartition("/")[2]): line.get_ydata().tolist() for line in axes.lines}
        assert found == {noise: [v[at] for v in values[k, noise]] for noise in (0.0, 0.2)}
    data = run(figure)
    assert sorted(data.f_top) == sorted(v[0] for both in values.values() for v in both)


# --- branches ---


def branch(update, **more):
    return Component("projected", more | ({} if update == "full" else {"update": update}))


def test_branches_are_aligned_at_the_switch(store):
    """Seeds switch at 20 and at 35; measured is every tenth step, so that 35 lies between two of them."""
    after = {"full": 0.5, "dominant": 1.0, "bulk": 0.6}
    losses = {}
    for seed, switch in ((0, 20), (1, 35)):
        for update, factor in after.items():
            steps = range(0, 81, 10)
            own = [4.0 - 0.02 * s + seed if s <= switch else factor * (3.0 + seed) for s in steps]
            losses[seed, update] = dict(zip(steps, own, strict=True))
            rows = [
                {"step": s, "train_loss": loss, "switch_step": switch if s >= switch else None}
                for s, loss in losses[seed, update].items()
            ]
            commit(store, rows, optimizer=branch(update, every=5), seed=seed)
    commit(store, [{"step": 0, "train_loss": 9.0}], optimizer=branch("bulk", every=5), seed=2)
    found = made(store, branches)
    figure = found["branches"]
    assert "1 trial that never came to a switch is left out" in figure.caption
    assert "multiples of 10" in figure.caption
    data = run(figure)
    x = list(range(-20, 41, 10))  # seed 0 begins at -20, seed 1 ends at 80 - 35, rounded down
    for update, (at, y) in ends(figure).items():
        assert at.tolist() == x
        # step 30 of seed 1 is 5 before its switch, so -10; the switch itself is between -10 and 0
        expected = [np.mean([losses[0, update][20 + s], losses[1, update][40 + s]]) for s in x]
        np.testing.assert_allclose(y, expected, **CLOSE)
        np.testing.assert_allclose(data.xs(update, level="branch")[0.5], expected, **CLOSE)
    frame = found["branches-table"].frame.set_index("branch")
    at_switch = np.array([losses[0, "full"][20], losses[1, "full"][30]])
    for update, factor in after.items():
        assert frame.loc[update, "loss at the switch"] == np.median(at_switch)
        assert frame.loc[update, "loss at the end"] == np.median(factor * np.array([3.0, 4.0]))
        ratios = factor * np.array([3.0, 4.0]) / at_switch
        columns = ["lowest ratio", "ratio", "highest ratio"]
        expected = [ratios.min(), np.median(ratios), ratios.max()]
        np.testing.assert_allclose(frame.loc[update, columns].tolist(), expected, **CLOSE)
    assert frame["switch at step"].tolist() == ["20 to 35"] * 3
    each = run(found["branches-table"]).groupby("branch").median()
    np.testing.assert_allclose(each.end, frame["loss at the end"][each.index], **CLOSE)
    np.testing.assert_allclose(each.before, frame["loss at the switch"][each.index], **CLOSE)


# --- the number of classes ---


def test_the_largest_gap_against_the_number_of_classes(store):
    """k − 1 outliers at 8, a bulk at 1, and what is no gap: a quotient by rounding, and one by a negative number."""
    for k in (2, 3, 5):
        for seed in (0, 1):
            outliers = k - 1 if (k, seed) != (5, 1) else 2
            values = [8.0] * outliers + [1.0] * (8 - outliers) + [1e-14, -1e-3]
            dataset = Component("mnist5k", {"classes": k})
            rows = [pairs(0, [9.0, 1e-3, 1e-4]), pairs(20, values), {"step": 30}]
            commit(store, rows, classes=k, dataset=dataset, seed=seed)
    found = made(store, class_count)
    figure = found["class-count"]
    assert "in 5 of 6 trials" in figure.caption
    assert "among the 10 largest" in figure.caption
    ((x, y),) = [xy for gid, xy in drawn(figure).items() if gid.startswith("gap/")]
    assert np.round(x).tolist() == [2, 2, 3, 3, 5, 5]
    assert len(set(x)) == 6  # each is seen
    assert y.tolist() == [1, 1, 2, 2, 4, 2]
    assert sorted(run(figure)["index"]) == sorted(y)
    ((at, line),) = [xy for gid, xy in drawn(figure).items() if gid.startswith("k-1/")]
    assert (at - line).tolist() == [1, 1, 1]
    frame = found["class-count-table"].frame
    assert frame["at k − 1"].tolist() == [2, 2, 1]
    assert frame.exceptions.tolist() == ["", "", "seed 1: m = 2"]
    assert frame.gap.tolist() == [8.0] * 3
    assert frame["gap at k − 1"].tolist() == [8.0, 8.0, 4.5]  # of one seed 8, of the other 1


# --- class means ---


def test_eigenvalues_of_class_means_stand_beside_those_of_the_hessian(store):
    for seed in (0, 1):
        lists = {
            "gauss_newton_eigenvalues": [7.0, 6.0 + seed],
            "class_mean_eigenvalues": [5.0, 4.0, 3.0 + seed],
            "cross_class_eigenvalues": [2.0, 1.5, 1.0 + seed],
        }
        later = dict.fromkeys(lists)  # measured no more
        overlaps = {"class_mean_overlap": 0.5 + 0.25 * seed, "cross_class_overlap": 0.75}
        rows = [
            pairs(0, [1.0, 1.0], **lists | {"class_mean_eigenvalues": [9.0, 9.0, 9.0]}),
            pairs(10, [8.0 + seed, 1.0], **lists, **overlaps),
            pairs(20, [3.0, 2.0], **later),
        ]
        commit(store, rows, classes=3, seed=seed)
    found = made(store, class_means)
    assert "At step 10." in found["class-means"].caption
    expected = {
        "eigenvalues": ([1, 2], [8.5, 1.0]),
        "gauss_newton_eigenvalues": ([1, 2], [7.0, 6.5]),
        "class_mean_eigenvalues": ([1, 2, 3], [5.0, 4.0, 3.5]),
        "cross_class_eigenvalues": ([4, 5, 6], [2.0, 1.5, 1.5]),
    }
    data = run(found["class-means"])
    for gid, (x, y) in drawn(found["class-means"]).items():
        name = gid.partition("/")[0]
        assert (x.tolist(), y.tolist()) == expected.pop(name)
        assert data.xs(name, level="variable").tolist() == y.tolist()
    assert not expected
    assert run(found["class-means-overlap"])["class_mean_overlap"][0.5].dropna().tolist()[1] == 0.625


def test_two_classes_have_no_cross_class_eigenvalues(store):
    row = pairs(5, [2.0, 1.0], class_mean_eigenvalues=[1.0, 0.5], cross_class_eigenvalues=[])
    commit(store, [row], classes=2)
    lines = drawn(made(store, class_means)["class-means"])
    assert {gid.partition("/")[0] for gid in lines} == {
        "eigenvalues",
        "gauss_newton_eigenvalues",
        "class_mean_eigenvalues",
    }


# --- batch norm ---

NONE = {"density_nodes": None, "density_weights": None}


def norms(store, **more):
    """λ₁/λ₂ is 20 and 30 with population statistics at the last step, 2 with those of batches, whatever the seed."""
    for seed in (0, 1):
        for mode, top in (("eval", 20.0 + 10 * seed), ("train", 2.0)):
            rows = [pairs(0, [4.0, 2.0], **more), pairs(20, [top, 1.0, 0.5], **more)]
            commit(
                store,
                rows,
                architecture=Component("convnet", {"batch_norm": True}),
                batch_norm=mode,
                seed=seed,
            )
    commit(
        store,
        [pairs(0, [4.0, 2.0], **more), pairs(20, [9.0, 1.0], **more)],
        architecture=Component("convnet"),
    )


def test_outliers_of_both_batch_norm_modes(store):
    norms(store, **NONE)
    found = made(store, batch_norm)
    assert found.keys() == {"batch-norm", "batch-norm-ratio"}
    both, plain = (f"{n}/{{}}/{{}}" for n in ("eigenvalue", "ratio"))
    numbers = sorted({gid.split("/")[1] for gid in drawn(found["batch-norm"])}, key=int)
    lines = drawn(found["batch-norm"]) | drawn(found["batch-norm-ratio"])
    assert lines[both.format(numbers[0], "eval")][1].tolist() == [25.0, 1.0, 0.5]
    assert lines[both.format(numbers[0], "train")][1].tolist() == [2.0, 1.0, 0.5]
    assert lines[plain.format(numbers[0], "eval")][1].tolist() == [2.0, 25.0]
    assert lines[plain.format(numbers[0], "train")][1].tolist() == [2.0, 2.0]
    assert lines[plain.format(numbers[1], "eval")][1].tolist() == [2.0, 9.0]
    assert plain.format(numbers[1], "train") not in lines
    assert "K = 2," in found["batch-norm-ratio"].caption
    assert sorted(run(found["batch-norm-ratio"])[0.5]) == [2.0, 2.0, 2.0, 2.0, 9.0, 25.0]
    assert sorted(run(found["batch-norm"])[0.5].xs(1, level="index")) == [2.0, 9.0, 25.0]


def test_densities_of_both_modes_where_they_are_measured(store):
    norms(store, density_nodes=[[0.0, 1.0, 5.0]], density_weights=[[0.5, 0.25, 0.25]])
    figure = made(store, batch_norm)["batch-norm"]
    lines = drawn(figure)
    assert len(lines) == 3
    own = Stored(str(store)).measurements.iloc[:1].assign(all=0)
    curve = curves(own, ["all"])
    data = run(figure)
    for x, y in lines.values():
        np.testing.assert_allclose(x, curve.eigenvalue, **CLOSE)
        np.testing.assert_allclose(y, curve.density, **CLOSE)
    assert len(data) == 3 * len(curve)


# --- the paper's table ---


@pytest.mark.parametrize("name", ["table-1", "table-1-small"])
def test_the_sweep_has_a_trial_for_each_row_in_its_order(name):
    specs = [trial.spec for trial in load_sweep(SWEEPS / f"{name}.yaml").trials]
    found = titles(pd.DataFrame([spec.columns() | {"trial_id": spec.trial_id} for spec in specs]))
    assert list(dict.fromkeys(found)) == [reference.title for reference in TABLE_1]
    assert [reference.paper for reference in TABLE_1] == [
        0.96,
        0.96,
        0.96,
        0.97,
        0.86,
        0.86,
        0.93,
        0.89,
        0.99,
    ]


RANDOM = Component("mnist5k", {"labels": "random"})


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the paper's first experiment is none of its table
        {"architecture": Component("mlp", {"widths": [50]}), "batch_size": 256},
        {"learning_rate": 0.01, "batch_size": 256},
        {"learning_rate": 0.01, "optimizer": Component("sgd", {"momentum": 0.9})},
        {"architecture": Component("mlp", {"activation": "softplus"}), "dataset": RANDOM},
        {"architecture": Component("convnet")},
        {"architecture": Component("convnet", {"batch_norm": True}), "dataset": RANDOM},
        {"architecture": Component("convnet", {"dropout": True}), "optimizer": Component("adam")},
        {"architecture": Component("convnet"), "optimizer": Component("adam", {"beta1": 0.5})},
        {"architecture": Component("softmax", {"bias": False})},
        {"architecture": Component("softmax"), "dataset": Component("fashion_mnist")},
        {"architecture": Component("softmax"), "dataset": Component("mnist5k", {"classes": 2})},
        {"dataset": Component("sine"), "loss": "mse"},
        {"dataset": Component("sine", {"noise": 0.2}), "loss": "mse", "batch_size": 100},
        {"batch_size": "full"},
        {"loss": "mse", "batch_size": 256},
    ],
    ids=str,
)
def test_other_trials_are_in_no_row(changes):
    assert not any(reference.fits(samples.spec(**changes).columns()) for reference in TABLE_1)


def test_no_trial_is_in_two_rows():
    found = 0
    for architecture in [Component(r.architecture, r.options) for r in TABLE_1]:
        for dataset in (
            Component("mnist"),
            RANDOM,
            Component("cifar10"),
            Component("npz", {"path": "x.npz"}),
            Component("sine"),
        ):
            for optimizer in (Component("sgd"), Component("adam")):
                for rate in (0.1, 0.01):
                    for size in (64, 100, 256):
                        for loss in ("cross_entropy", "mse"):
                            spec = samples.spec(architecture=architecture, dataset=dataset, optimizer=optimizer,
                                                learning_rate=rate, batch_size=size, loss=loss)  # fmt: skip
                            fits = sum(reference.fits(spec.columns()) for reference in TABLE_1)
                            assert fits <= 1
                            found += fits
    assert found > len(TABLE_1)


def test_the_table_averages_the_last_steps_and_then_the_seeds(store):
    """The last 1,000 of 3,000 steps, the second half of 1,500. A null, diverged and plain trials do not count."""
    softmax, slow = Component("softmax"), Component("mlp", {"activation": "softplus"})
    for seed, late in ((0, [0.5, 0.75]), (1, [0.75, 1.0])):
        overlaps = {0: 0.0, 749: -1.0, 750: late[0], 1000: None, 1500: late[1]}
        rows = [{"step": step, "hessian_gradient_overlap": value} for step, value in overlaps.items()]
        commit(store, rows, architecture=softmax, seed=seed)
    commit(
        store,
        [{"step": step, "hessian_gradient_overlap": step / 4000} for step in (1500, 1999, 2000, 3000)],
        architecture=slow,
        dataset=Component("mnist", {"samples": 500}),
    )
    commit(
        store,
        [{"step": 0, "hessian_gradient_overlap": 0.1}],
        TrialStatus.DIVERGED,
        architecture=softmax,
        seed=2,
    )
    commit(store, [{"step": 0, "hessian_gradient_overlap": 0.1}])
    found = made(store, paper_table)
    frame = found["table-1"].frame
    assert list(frame.columns) == [
        "experiment", "data", "seeds", "steps", "paper", "ours", "lowest", "highest", "difference"
    ]  # fmt: skip
    assert frame.experiment.tolist() == [TABLE_1[0].title, TABLE_1[1].title]
    assert frame["data"].tolist() == ["mnist5k", "mnist samples=500"]
    assert frame.seeds.tolist() == [2, 1]
    assert frame.steps.tolist() == ["750 to 1500", "2000 to 3000"]
    np.testing.assert_allclose(
        frame[["lowest", "ours", "highest"]].iloc[0].tolist(), [0.625, 0.75, 0.875], **CLOSE
    )
    assert frame.ours[1] == 0.625
    np.testing.assert_allclose(frame.difference, frame.ours - [0.96, 0.96], **CLOSE)
    assert (found["table-1"].trials, found["table-1"].seeds) == (3, 2)
    lines = drawn(found["table-1-dots"])
    assert lines["paper"][0].tolist() == [0.96, 0.96]
    assert lines["ours"][0].tolist() == frame.ours.tolist()
    data = run(found["table-1"])
    assert data[TABLE_1[0].title].tolist() in ([0.625, 0.875], [0.875, 0.625])
    assert len(data) == 3


def test_settings_of_one_row_are_told_apart(store):
    adam = {"architecture": Component("convnet"), "optimizer": Component("adam")}
    for rate in (0.001, 0.01):
        commit(store, [{"step": 0, "hessian_gradient_overlap": rate}], learning_rate=rate, **adam)
    frame = made(store, paper_table)["table-1"].frame
    assert frame.settings.tolist() == ["lr=0.001", "lr=0.01"]
    assert frame.ours.tolist() == [0.001, 0.01]


def test_options_are_complete_with_the_defaults_of_the_others():
    row = samples.spec(architecture=Component("mlp", {"activation": "tanh"})).columns()
    assert complete(row, "architecture") == {"widths": [100, 100], "activation": "tanh"}
    assert json.loads(row["architecture_options"]) == {"activation": "tanh"}


def test_figures_and_tables_say_whose_numbers_they_are(store):
    norms(store, **NONE)
    for item in made(store, batch_norm).values():
        assert isinstance(item, Figure | Table)
        assert (item.trials, item.seeds) == (5, 2)
