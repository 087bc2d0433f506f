"""What a reader of the pictures could take for something else: cut labels, squeezed panels, unlike trials in one line."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import samples
from PIL import Image
from reported import commit, run

from orchestrator import results
from orchestrator.report import render, style
from orchestrator.report.contents import contents
from orchestrator.report.figure import Figure, Stored
from orchestrator.report.figures import branches, class_count, eigenvalues, gap, stability
from orchestrator.report.figures.hessian_gradient_overlap import figures as overlaps
from orchestrator.report.page import LARGEST_SVG, Picture
from orchestrator.report.summary import summarise
from orchestrator.store import ResultStore
from workers.result import TrialStatus
from workers.spec import Component, Request


@pytest.fixture
def store(tmp_path):
    made = ResultStore(tmp_path / 'it\'s a "sample"')
    made.begin(samples.sweep())
    return made


def pairs(step, values):
    return samples.row(
        step,
        eigenvalues=values,
        residuals=[0.0] * len(values),
        gradient_overlaps=[0.1] * len(values),
        sharpness=values[0],
        stability=values[0] / 20,
    )


def lines(figure):
    found = [line for axes in figure.drawing.axes for line in axes.lines if line.get_gid()]
    return {line.get_gid(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in found}


# --- room ---


def test_nothing_is_cut_off_and_a_long_legend_takes_no_room_from_the_axes(store):
    """Text may be out by a pixel: boxes are whole pixels."""
    for at, steps in enumerate((600, 600, 1000, 1000, 1000, 1000, 1000)):
        rows = [pairs(step, [20.0 + at, 10.0, 1.0]) for step in range(0, steps + 1, 100)]
        commit(store, rows, steps=steps, measurement_samples=500 + at, learning_rate=0.1 + 0.01 * at)
    stored = Stored(str(store))
    for figure in [*overlaps(stored), *stability.figures(stored), *gap.figures(stored)]:
        render.settle(figure.drawing)
        render.png(figure.drawing)
        width, height = figure.drawing.get_size_inches()
        for axes in figure.drawing.axes:
            box = axes.get_position()
            assert box.height * height > 0.9, figure.name
            assert box.width * width > 1.4, figure.name
        for axes in figure.drawing.axes:
            low, high = axes.get_xlim()
            ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
            for text in [axes.title, axes._left_title, axes.yaxis.label, *(tick.label1 for tick in ticks)]:
                box = text.get_window_extent()
                if text.get_visible() and text.get_text():
                    assert box.x0 >= -1, (figure.name, text.get_text())
                    assert box.x1 <= width * figure.drawing.dpi + 1, (figure.name, text.get_text())


@pytest.mark.parametrize(
    ("steps", "scale"),
    [
        ([0, 1, 2, 5, 10, 20, 50, 100], "symlog"),
        ([0, 5, 10, 20, *range(50, 2001, 50)], "symlog"),
        ([20, 50, 100, 200, 500, 1000, 2000], "symlog"),
        (range(0, 201, 10), "linear"),
        (range(0, 943, 200), "linear"),
        (sorted({*range(0, 601, 20), *range(0, 601, 25)}), "linear"),  # two measurements, each at its own
        ([0, 50, 100, 200, 300, 400, 500], "linear"),
        ([7], "linear"),
        ([0, 100], "linear"),
    ],
    ids=str,
)
def test_steps_are_even_unless_they_were_measured_more_and_more_rarely(steps, scale):
    _, [[axes]] = style.panels(1)
    axes.plot(list(steps), [1.0] * len(steps))
    style.step_axis(axes, list(steps))
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low < min(steps)
    assert max(steps) < high < 1.2 * max(steps) + 1
    if scale == "linear":
        ticks = axes.get_xticks()
        assert all(min(steps) <= tick <= max(steps) and tick == round(tick) for tick in ticks)
        assert 1 <= len(ticks) <= 8


def test_a_panel_ends_where_its_own_trials_do(store):
    for architecture, last in (("mlp", 1000), ("convnet", 200)):
        commit(store, [samples.row(s) for s in range(0, last + 1, 100)], architecture=Component(architecture))
    (figure,) = overlaps(Stored(str(store)))
    ends = {axes.get_title(loc="left").split()[0]: axes.get_xlim()[1] for axes in figure.drawing.axes}
    assert 200 < ends["convnet"] < 250
    assert 1000 < ends["mlp"] < 1100


# --- axes ---


def test_steps_before_a_divergence_are_in_view(store):
    """Eigenvalues of 1 and of 1e14 on one axis: each step's are compared with its own largest."""
    commit(store, [pairs(0, [1.0, 0.5]), pairs(1, [1e14, 1e13])], TrialStatus.DIVERGED)
    (figure,) = eigenvalues.figures(Stored(str(store)))
    low, high = figure.drawing.axes[0].get_ylim()
    assert low < 0.5
    assert high > 1e14


def test_eigenvalues_that_are_zero_to_rounding_take_no_room(store):
    commit(store, [pairs(step, [1.0, 0.5, 1e-17, -1e-17]) for step in (0, 5)])
    (figure,) = eigenvalues.figures(Stored(str(store)))
    assert 0.1 < figure.drawing.axes[0].get_ylim()[0] < 0.5
    (figure,) = gap.figures(Stored(str(store)))
    assert {gid: y for gid, (_, y) in lines(figure).items()} == {"gap/0/0": [2.0], "gap/0/5": [2.0]}
    assert run(figure).dropna().tolist() == [2.0, 2.0]


def test_a_diverging_stability_is_on_a_log_axis_with_its_limit(store):
    commit(store, [pairs(0, [2.0, 1.0]), pairs(1, [4e15, 1e13])], TrialStatus.DIVERGED)
    (figure,) = stability.figures(Stored(str(store)))
    axes = figure.drawing.axes[0]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert low <= 0.1
    assert high >= 2e14
    (limit,) = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert low < limit < high


def test_the_cross_of_a_diverged_trial_stands_where_its_values_end(store):
    """The line goes on: it is of the other seeds from there."""
    steps = (0, 10, 20, 30)
    for seed, last in ((0, 30), (1, 30), (2, 10)):
        rows = [{"step": s, "train_loss": 1.0 + seed, "test_loss": 2.0} for s in steps if s <= last]
        commit(store, rows, TrialStatus.COMPLETED if last == 30 else TrialStatus.DIVERGED, seed=seed)
    (figure,) = contents(Stored(str(store)))
    assert lines(figure)["train_loss/0"] == ([0, 10, 20, 30], [2.0, 2.0, 1.5, 1.5])
    crosses = [line for line in figure.drawing.axes[0].lines if line.get_marker() == "x"]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in crosses] == [([10], [2.0])]


# --- what shares a line ---


def test_null_is_a_batch_of_all_and_no_trial_is_lost(store):
    """Every figure of full batches beside others: its lines of pandas have the null rows too."""
    nodes = {"density_nodes": [[0.0, 1.0]], "density_weights": [[0.5, 0.5]]}
    for size in ("full", 16):
        for samples_measured in (None, 500):
            rows = [samples.row(step, **nodes) for step in (0, 5, 10)]
            commit(store, rows, batch_size=size, measurement_samples=samples_measured)
    stored = Stored(str(store))
    assert [setting.label for _, setting in stored.groups] == [
        "bs=16 measurement_samples=500",
        "bs=16 measurement_samples=all",
        "bs=full measurement_samples=500",
        "bs=full measurement_samples=all",
    ]
    figures = list(contents(stored))
    assert "spectral-density" in {figure.name for figure in figures}
    for figure in figures:
        data = run(figure).reset_index()
        found = data[["batch_size", "measurement_samples"]].drop_duplicates()
        assert len(found) == 4, figure.name


def test_a_seed_counts_once_where_another_list_was_measured_later(store):
    """Seed 0 was run with two lists of measurements: two lines, not a median of three."""
    for seed, measured in ((0, 5), (0, 10), (1, 10)):
        rows = [{"step": 0, "train_loss": 1.0 + seed}]
        commit(store, rows, seed=seed, measure={"loss": Request(every=measured)})
    stored = Stored(str(store))
    (figure,) = contents(stored)
    assert sorted(y for _, y in lines(figure).values()) == [[1.0], [1.5]]
    assert sorted(run(figure)[0.5]) == [1.0, 1.5]
    assert "measure" in summarise(stored).varies
    assert len({setting.label for _, setting in stored.groups}) == 2


def test_numbers_of_samples_are_kept_apart_where_they_do_not_follow_from_that_of_classes(store):
    for k, number in ((2, 50), (2, 100), (3, 100)):
        dataset = Component("mnist5k", {"classes": k, "samples": number})
        commit(store, [pairs(0, [4.0, 2.0, 1.0, 0.9])], classes=k, dataset=dataset)
    figure, table = class_count.figures(Stored(str(store)))
    assert table.frame["trials"].tolist() == [1, 1, 1]
    assert len([gid for gid in lines(figure) if gid.startswith("gap/")]) == 2


def test_a_regression_has_no_number_of_classes(store):
    commit(store, [pairs(0, [4.0, 2.0])], classes=1, dataset=Component("sine"), loss="mse")
    commit(store, [pairs(0, [4.0, 2.0])], classes=10)
    assert list(class_count.figures(Stored(str(store)))) == []


def test_branches_that_were_measured_once_are_no_error(store):
    for seed, switch in ((0, 5), (1, 7)):
        rows = [{"step": 20, "train_loss": 1.0, "switch_step": switch}]
        commit(store, rows, optimizer=Component("projected"), seed=seed)
    assert [item.name for item in branches.figures(Stored(str(store)))] == ["branches", "branches-table"]


def test_the_tables_are_of_the_same_trials_while_others_finish(store, monkeypatch):
    commit(store, samples.rows(), seed=0)
    read = results._read

    def meanwhile(path, *more):
        found = read(path, *more)
        commit(store, samples.rows(), seed=len(more) + 1)
        return found

    monkeypatch.setattr(results, "_read", meanwhile)
    loaded = results.load([str(store)])
    assert (
        set(loaded.trials.trial_id) == set(loaded.measurements.trial_id) == set(loaded.eigenvalues.trial_id)
    )


def test_values_are_listed_in_their_order(store):
    for k in (10, 9, 2):
        commit(store, samples.rows(), dataset=Component("mnist5k", {"classes": k}), batch_size="full")
    varies = summarise(Stored(str(store))).varies
    assert varies == {"dataset_options": '{"classes": 2}, {"classes": 9}, {"classes": 10}'}


# --- the page ---


def test_a_large_picture_is_on_the_page_in_few_colours():
    """Noise of many colours: 256 are left, each within a few of 255 levels of what it was; white stays white."""
    shades = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    shades[:30] = 255
    sink = BytesIO()
    Image.fromarray(shades).save(sink, "png")
    few = render.few_colors(sink.getvalue())
    image = Image.open(BytesIO(few))
    assert (image.size, image.mode) == ((80, 60), "P")
    assert np.array(image.convert("RGB"))[:30].min() == 255
    assert len(few) < len(sink.getvalue())
    drawing, _ = style.panels(1)
    item = Figure(name="x", title="", caption="", code="", rows=pd.DataFrame(), drawing=drawing)
    for size, kind in ((LARGEST_SVG, "svg+xml"), (LARGEST_SVG + 1, "png")):
        picture = Picture(item, b"." * size, sink.getvalue())
        assert picture.source.startswith(f"data:image/{kind};base64,")
        assert picture.png == sink.getvalue()  # the file has all colours
