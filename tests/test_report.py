"""The report: what is drawn are the stored numbers, the lines beside it give them, and the page stands alone."""

import json
import statistics
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import samples
import torch
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.report import contents as report_contents
from orchestrator.report import make as report_make
from orchestrator.report import render, style
from orchestrator.report.contents import MODULES, contents
from orchestrator.report.figure import Figure, Stored, Table
from orchestrator.report.figures.stability import limit
from orchestrator.report.grouping import MOST_PANELS, Setting
from orchestrator.report.lines import MOST_LINES
from orchestrator.report.make import ReportError, make
from orchestrator.report.page import Picture, page
from orchestrator.report.quadrature import curves
from orchestrator.report.summary import summarise
from orchestrator.store import ResultStore
from workers.curvature import SpectralDensity
from workers.result import TrialStatus
from workers.spec import Component, Request

RATES = (0.01, 0.1)
SEEDS = (0, 1, 2)
STEPS = (0, 1, 5, 20)
DATASETS = (Component("digits"), Component("digits", {"classes": 2}))
CLOSE = {"rtol": 1e-12, "atol": 0}
"""Two ways to the same quantile or sum of a few float64 differ by some roundings of 1e-16."""


def row(random, step):
    """Numbers that differ in every trial and step, four eigenpairs; the mini-batch's are null at the last step."""
    values = np.sort(random.uniform(0.1, 9.0, 4))[::-1].tolist()
    shares = random.dirichlet(np.ones(6))[:4].tolist()
    last = step == STEPS[-1]
    overlaps = [
        {
            "since": 1,
            "top": random.uniform(),
            "next": random.uniform(),
            "by_dimension": random.uniform(size=4).tolist(),
        }
    ]
    return samples.row(
        step,
        train_loss=random.uniform(0.01, 2.0),
        test_loss=random.uniform(0.01, 2.0),
        train_accuracy=random.uniform(),
        test_accuracy=random.uniform(),
        f_top=random.uniform(),
        f_top_batch=None if last else random.uniform(),
        f_top_update=None if last else random.uniform(),
        hessian_gradient_overlap=random.uniform(-1, 1),
        random_overlap=random.uniform(),
        sharpness=values[0],
        stability=random.uniform(0, 2),
        eigenvalues=values,
        residuals=[1e-4] * 4,
        gradient_overlaps=shares,
        subspace_overlap=overlaps if step > 1 else None,
        density_nodes=random.normal(size=(2, 5)).tolist() if step in (0, 20) else None,
        density_weights=random.dirichlet(np.ones(5), 2).tolist() if step in (0, 20) else None,
        smallest_eigenvalue=-random.uniform(),
        gauss_newton_overlap=random.uniform(),
        trace=random.uniform(),
    )


def fill(store, specs, rows=None, status=TrialStatus.COMPLETED):
    for at, spec in enumerate(specs):
        random = np.random.default_rng(at)
        made = [row(random, step) for step in STEPS] if rows is None else rows
        store.commit(spec, "sample", samples.result(status, classes=2, parameters=1000), made)


def new_store(folder, **changes):
    store = ResultStore(folder)
    store.begin(samples.sweep(**changes))
    return store


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("results") / "sample")
    grid = [(data, rate, seed) for data in DATASETS for rate in RATES for seed in SEEDS]
    fill(store, [samples.spec(dataset=d, learning_rate=r, seed=s) for d, r, s in grid])
    return Stored(str(store))


@pytest.fixture(scope="module")
def figures(stored):
    return {figure.name: figure for figure in contents(stored)}


@pytest.fixture
def small(tmp_path):
    """Two seeds that measured the loss only: one figure, soon drawn."""
    store = new_store(tmp_path / "out", description="Less <b>is</b> more")
    fill(
        store, [samples.spec(seed=0), samples.spec(seed=1)], [{"step": s, "train_loss": 1.0} for s in (0, 5)]
    )
    return store


def drawn(figure):
    """What the lines show, by their names: x and y."""
    lines = [line for axes in figure.drawing.axes for line in axes.lines if line.get_gid()]
    assert len({line.get_gid() for line in lines}) == len(lines)
    return {line.get_gid(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines}


def run(code):
    """The `data` that the lines beside a figure leave."""
    space = {}
    exec(code, space)
    return space["data"]


def own(stored, data, number):
    """The rows of `data` that belong to a setting, by what else it is grouped by."""
    fields = next(setting.fields for _, setting in stored.groups if setting.number == number)
    for key in stored.groups.keys:
        data = data.xs(fields[key], level=key)
    return data


# --- the numbers ---


def values(stored, setting, column, step):
    """The values of a column over seeds, from the stored rows, without any grouping of pandas."""
    fields = setting.fields
    return [
        found[column]
        for found in stored.measurements.to_dict("records")
        if found["learning_rate"] == fields["learning_rate"]
        and found["dataset_options"] == fields["dataset_options"]
        and found["step"] == step
    ]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("f-top", ["f_top", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]),
        ("hessian-gradient-overlap", ["hessian_gradient_overlap", "random_overlap"]),
        ("f-top-batch-update", ["f_top", "f_top_batch", "f_top_update"]),
        ("stability", ["stability", "sharpness"]),
        ("smallest-eigenvalue", ["smallest_eigenvalue"]),
        ("top-subspaces", ["gauss_newton_overlap", "gradient_covariance_overlap", "test_top_overlap"]),
    ],
)
def test_scalar_columns_by_step_are_medians_over_seeds(stored, figures, name, columns):
    lines, data = drawn(figures[name]), run(figures[name].code)
    assert lines.keys() == {
        f"{column}/{setting.number}" for column in columns for _, setting in stored.groups
    }
    for _, setting in stored.groups:
        for column in columns:
            steps = [s for s in STEPS if not (column in ("f_top_batch", "f_top_update") and s == STEPS[-1])]
            x, y = lines[f"{column}/{setting.number}"]
            assert x.tolist() == steps
            over_seeds = [values(stored, setting, column, step) for step in steps]
            np.testing.assert_allclose(y, [statistics.median(v) for v in over_seeds], **CLOSE)
            table = own(stored, data, setting.number)
            table = (table[column] if len(columns) > 1 else table).loc[steps]
            found = [[min(v), statistics.median(v), max(v)] for v in over_seeds]
            np.testing.assert_allclose(table[[0.0, 0.5, 1.0]], found, **CLOSE)


def test_bands_hold_all_of_few_seeds_and_the_middle_half_of_many(stored, figures, tmp_path):
    _, setting = next(iter(stored.groups))
    (axes, *_) = figures["smallest-eigenvalue"].drawing.axes
    corners = axes.collections[0].get_paths()[0].vertices
    found = values(stored, setting, "smallest_eigenvalue", 5)
    assert {y for x, y in corners if x == 5} == {min(found), max(found)}
    store = new_store(tmp_path / "many")
    for seed in range(5):
        fill(store, [samples.spec(seed=seed)], [samples.row(0, smallest_eigenvalue=-float(seed))])
    groups = Stored(str(store)).groups
    assert groups.band == (0.25, 0.75)
    assert (
        groups.band_words == "Lines are medians over up to 5 seeds; bands hold the middle half of the seeds."
    )


def pairs(stored, number, step, column):
    """The lists of a column over seeds, seeds × K."""
    setting = next(setting for _, setting in stored.groups if setting.number == number)
    return np.array([list(found) for found in values(stored, setting, column, step)])


def compare(stored, figure, level, expected):
    """Each line of a figure with what `expected` makes of its name, and with the rows that the code gives."""
    lines, data = drawn(figure), run(figure.code)
    for gid, (x, y) in lines.items():
        _, number, *rest = gid.split("/")
        np.testing.assert_allclose(y, expected(int(number), *map(int, rest)), **CLOSE)
        table = own(stored, data, int(number))
        for name, value in zip(level, rest, strict=True):
            table = table.xs(int(value), level=name)
        np.testing.assert_allclose(y, table.loc[x].to_numpy(), **CLOSE)
    return lines


def test_f_m_sums_the_overlaps(stored, figures):
    def expected(number, step):
        return np.median(pairs(stored, number, step, "gradient_overlaps").cumsum(1), axis=0)

    assert len(compare(stored, figures["f-m"], ["step"], expected)) == 4 * len(STEPS)


def test_the_gap_is_the_quotient_of_neighbours(stored, figures):
    def expected(number, step):
        found = pairs(stored, number, step, "eigenvalues")
        return np.median(found[:, :-1] / found[:, 1:], axis=0)

    assert len(compare(stored, figures["gap"], ["step"], expected)) == 4 * len(STEPS)


def test_the_overlap_of_the_first_m(stored, figures):
    def expected(number, since, step):
        found = pairs(stored, number, step, "subspace_overlap")
        assert {overlap[0]["since"] for overlap in found} == {since}
        return np.median([list(overlap[0]["by_dimension"]) for overlap in found], axis=0)

    assert len(compare(stored, figures["overlap-by-dimension"], ["since", "step"], expected)) == 4 * 2


def test_the_overlap_with_an_earlier_step(stored, figures):
    lines, data = drawn(figures["subspace-overlap"]), run(figures["subspace-overlap"].code)
    assert len(lines) == 4 * 2
    for gid, (x, y) in lines.items():
        name, number, since = gid.split("/")
        assert x.tolist() == [5, 20]
        found = [pairs(stored, int(number), step, "subspace_overlap") for step in (5, 20)]
        np.testing.assert_allclose(y, [statistics.median(o[0][name] for o in at) for at in found], **CLOSE)
        table = own(stored, data, int(number)).xs(int(since), level="since")[name]
        np.testing.assert_allclose(y, table[0.5].loc[x], **CLOSE)


def test_eigenvalues_by_step(stored, figures):
    lines, data = drawn(figures["eigenvalues"]), run(figures["eigenvalues"].code)
    assert len(lines) == 4 * 4
    for gid, (x, y) in lines.items():
        _, number, index = gid.split("/")
        expected = [
            np.median(pairs(stored, int(number), step, "eigenvalues"), 0)[int(index) - 1] for step in x
        ]
        np.testing.assert_allclose(y, expected, **CLOSE)
        np.testing.assert_allclose(y, own(stored, data, int(number))[int(index)].loc[x], **CLOSE)
    lines = [line for axes in figures["eigenvalues"].drawing.axes for line in axes.lines]
    colors = {line.get_gid(): line.get_color() for line in lines}
    first = {gid.split("/")[2]: color for gid, color in colors.items() if gid.split("/")[1] == "0"}
    assert (
        len({first["1"], first["2"], first["3"]}) == 3
    )  # k = 2: λ₁ on top, λ₂ at the edge, λ₃ among the rest
    assert first["3"] == first["4"]


def test_the_heat_map(stored, figures):
    figure = figures["gradient-overlaps"]
    data = run(figure.code)
    meshes = [mesh for axes in figure.drawing.axes for mesh in axes.collections if mesh.get_gid()]
    assert len(meshes) == 4
    for mesh in meshes:
        number = int(mesh.get_gid().split("/")[1])
        expected = [np.median(pairs(stored, number, step, "gradient_overlaps"), axis=0) for step in STEPS]
        np.testing.assert_allclose(mesh.get_array(), np.transpose(expected), **CLOSE)
        np.testing.assert_allclose(mesh.get_array(), own(stored, data, number), **CLOSE)


def test_the_spectral_density_is_that_of_all_probes_together(stored, figures):
    """As of a SpectralDensity with the probes of all seeds; exp and sums of 30 terms agree to some roundings."""
    lines, data = drawn(figures["spectral-density"]), run(figures["spectral-density"].code)
    assert len(lines) == 4 * 2
    for gid, (x, y) in lines.items():
        _, number, step = map(str, gid.split("/"))
        nodes, weights = (
            torch.tensor(
                [[list(p) for p in seed] for seed in pairs(stored, int(number), int(step), f"density_{name}")]
            )
            .double()
            .flatten(0, 1)
            for name in ("nodes", "weights")
        )
        assert nodes.shape == (6, 5)
        curve = SpectralDensity(nodes, weights, size=1000).on_grid(points=512)
        np.testing.assert_allclose(x, curve.grid, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(y, curve.density, rtol=1e-9, atol=1e-30)
        table = own(stored, data, int(number)).loc[int(step)]
        np.testing.assert_allclose(table[["eigenvalue", "density"]], np.transpose([x, y]), **CLOSE)


def test_a_density_at_one_eigenvalue_is_one_peak():
    """A single node: width 1, and the peak of N(0, 1)."""
    rows = pd.DataFrame({"step": [3], "density_nodes": [[[2.0]]], "density_weights": [[[1.0]]]})
    curve = curves(rows, ["step"], points=3).loc[3]
    assert curve.eigenvalue.tolist() == [-3.0, 2.0, 7.0]
    assert curve.density.iloc[1] == pytest.approx((2 * np.pi) ** -0.5, rel=1e-12)


def test_further_columns_come_last_and_once(stored, figures):
    further = [figure for name, figure in figures.items() if name.startswith("further")]
    columns = [gid.split("/")[0] for figure in further for gid in drawn(figure)]
    assert {"trace", "gradient_norm", "batch_loss", "frobenius_norm"} <= set(columns)
    others = {
        gid.split("/")[0] for figure in figures.values() if figure not in further for gid in drawn(figure)
    }
    assert not set(columns) & (others | {"epoch", "hessian_products", "trace_error", "step"})
    assert list(figures)[-len(further) :] == [figure.name for figure in further]


def test_every_figure_has_lines_that_run(stored, figures):
    for figure in figures.values():
        lines = figure.code.splitlines()
        assert len([line for line in lines if not line.startswith("from ")]) <= 4, figure.name
        assert len(run(figure.code)), figure.name
        assert (figure.trials, figure.seeds) == (12, 3), figure.name


# --- what is drawn, and how ---


def test_without_columns_there_is_no_figure(small):
    assert [figure.name for figure in contents(Stored(str(small)))] == ["loss"]
    fill(small, [samples.spec(seed=s) for s in (0, 1)], [{"step": 0}])
    assert list(contents(Stored(str(small)))) == []


def test_one_eigenvalue_makes_no_spectrum(tmp_path):
    store = new_store(tmp_path / "one")
    fill(store, [samples.spec()], [{"step": s, "eigenvalues": [2.0], "residuals": [0.0], "gradient_overlaps": [0.5],
                                    "sharpness": 2.0, "stability": 0.1} for s in (0, 5)])  # fmt: skip
    assert [figure.name for figure in contents(Stored(str(store)))] == ["stability"]


def test_values_that_are_infinite_or_not_positive_are_gaps_and_no_error(tmp_path):
    store = new_store(tmp_path / "out")
    bad = {
        "train_loss": float("inf"),
        "trace": -1e30,
        "eigenvalues": [1.0, 0.0, -1.0],
        "residuals": [0.0] * 3,
    }
    fill(
        store, [samples.spec(seed=s) for s in (0, 1)], [samples.row(0), samples.row(5, **bad), samples.row(9)]
    )
    for figure in contents(Stored(str(store))):
        render.settle(figure.drawing)
        assert render.png(figure.drawing)


def test_each_line_of_a_panel_looks_its_own_way(stored):
    for panel in stored.groups.panels:
        assert len({setting.color for setting in panel.settings}) == len(panel.settings)
        assert len({setting.marker for setting in panel.settings}) == len(panel.settings)
    assert len(set(style.PALETTE)) == len(style.PALETTE) == len(style.MARKERS)
    for ordered in (True, False):
        assert len(set(style.colors(40, ordered))) == 40


def test_text_is_readable_at_the_width_of_a_column(figures):
    for figure in figures.values():
        assert figure.drawing.get_figwidth() in (style.COLUMN, style.PAGE)
        texts = figure.drawing.findobj(mpl.text.Text)
        assert min(text.get_fontsize() for text in texts if text.get_text()) >= 8, figure.name
        assert any(axes.get_xlabel() for axes in figure.drawing.axes)
        assert any(axes.get_ylabel() for axes in figure.drawing.axes)


def test_drawing_takes_no_settings_of_others_and_leaves_none(small):
    def picture():
        return Picture.of(next(contents(Stored(str(small)))), "sample").svg

    first = picture()
    with mpl.rc_context({"font.size": 13, "lines.linewidth": 9, "svg.hashsalt": "other"}):
        before = dict(mpl.rcParams)
        assert picture() == first
        assert dict(mpl.rcParams) == before


def test_the_same_numbers_give_the_same_bytes(small):
    first, second = (Picture.of(next(contents(Stored(str(small)))), "sample") for _ in range(2))
    assert (first.svg, first.png) == (second.svg, second.png)


# --- panels and lines ---


def test_panels_and_lines_are_in_natural_order_whatever_the_files_are_called(tmp_path):
    store = new_store(tmp_path / "out")
    specs = [
        samples.spec(dataset=Component("digits", {"classes": k}), batch_size=b)
        for k in (10, 2)
        for b in ("full", 128, 16)
    ]
    fill(store, specs, samples.rows(0))
    groups = Stored(str(store)).groups
    assert [panel.title for panel in groups.panels] == ["mlp digits classes=2", "mlp digits classes=10"]
    assert [setting.label for setting in groups.panels[0].settings] == ["bs=16", "bs=128", "bs=full"]
    assert groups.keys == ["architecture", "dataset", "dataset_options", "batch_size"]


def test_lines_with_a_null_among_their_keys_are_in_the_code_too(tmp_path):
    store = new_store(tmp_path / "out")
    fill(store, [samples.spec(batch_size=b, seed=s) for b in ("full", 16) for s in (0, 1)])
    stored = Stored(str(store))
    figure = next(contents(stored))
    data = run(figure.code).reset_index()
    for _, setting in stored.groups:
        size = setting.fields["batch_size"]
        rows = data[data.batch_size.isna() if size is None else data.batch_size == size]
        np.testing.assert_allclose(drawn(figure)[f"f_top/{setting.number}"][1], rows["f_top"][0.5], **CLOSE)


def test_an_option_that_differs_is_told_at_its_default_too(tmp_path):
    store = new_store(tmp_path / "out")
    fill(
        store, [samples.spec(optimizer=Component("sgd", o)) for o in ({"momentum": 0.9}, {})], samples.rows(0)
    )
    (panel,) = Stored(str(store)).groups.panels
    assert [setting.label for setting in panel.settings] == ["momentum=0", "momentum=0.9"]
    assert [setting.fields["optimizer_options"] for setting in panel.settings] == ["{}", '{"momentum": 0.9}']


def test_options_of_ones_own_are_told_where_they_are_given(tmp_path):
    store = new_store(tmp_path / "out")
    given = [samples.spec(optimizer=Component("my.sgd", o)) for o in ({"momentum": 0.9}, {})]
    fill(store, given, samples.rows(0))
    (panel,) = Stored(str(store)).groups.panels
    assert [setting.label for setting in panel.settings] == ["my.sgd", "momentum=0.9"]


def test_what_differs_between_panels_only_is_in_their_titles(tmp_path):
    store = new_store(tmp_path / "out")
    specs = [
        samples.spec(architecture=Component(a), learning_rate=r) for a, r in (("mlp", 0.1), ("softmax", 1.0))
    ]
    fill(store, specs, samples.rows(0))
    groups = Stored(str(store)).groups
    assert [panel.title for panel in groups.panels] == ["mlp mnist5k lr=0.1", "softmax mnist5k lr=1"]
    assert [setting.label for _, setting in groups] == ["", ""]


def test_more_than_can_be_read_is_cut_and_said(tmp_path):
    store = new_store(tmp_path / "out")
    rates = [0.001 * 2**at for at in range(10)]
    widths = [samples.spec(architecture=Component("mlp", {"widths": [at]})) for at in range(101, 114)]
    fill(store, [samples.spec(learning_rate=rate) for rate in rates] + widths, samples.rows(0))
    groups = Stored(str(store)).groups
    assert len(groups.panels) == MOST_PANELS
    drawn_rates = [setting.fields["learning_rate"] for setting in groups.panels[0].settings]
    assert len(drawn_rates) == MOST_LINES
    assert (drawn_rates[0], drawn_rates[-1]) == (rates[0], rates[-1])
    assert groups.left_out == (
        "The first 12 of 14 combinations of architecture and data set are drawn. "
        "Of up to 10 settings of one panel, 8 are drawn."
    )
    assert "Of these, the first 12 of 19 are drawn." in groups.cells_left_out
    assert groups.left_out in next(contents(Stored(str(store)))).caption


@pytest.mark.parametrize(
    ("optimizer", "options", "expected"),
    [
        ("sgd", {}, 1.0),
        ("sgd", {"momentum": 0.9}, 1.9),
        ("sgd", {"momentum": 0.9, "nesterov": True}, 1.9 / 2.8),
        ("sgd", {"weight_decay": 0.1}, 1 - 0.5 * 0.1 / 2),
        ("adam", {}, None),
    ],
)
def test_the_limit_of_stability_is_where_a_quadratic_diverges(optimizer, options, expected):
    fields = {"optimizer": optimizer, "optimizer_options": json.dumps(options), "learning_rate": 0.5}
    found = limit(Setting(0, "", "", "", fields))
    assert found == expected if expected is None else found == pytest.approx(expected, rel=1e-12)
    η, β, decay = 0.5, options.get("momentum", 0.0), options.get("weight_decay", 0.0)
    for factor, stable in ((0.999, True), (1.001, False)) if found else ():
        a = (
            2 * found * factor / η + decay
        )  # v ← βv + aθ; θ ← θ − ηv, with Nesterov's θ − η(aθ + βv): a 2×2 matrix
        step = [[β, a], [-η * β, 1 - η * a]]
        if options.get("nesterov"):
            step[1] = [-η * β**2, 1 - η * a * (1 + β)]
        assert (max(abs(np.linalg.eigvals(step))) < 1) == stable


# --- the page ---


class Links(HTMLParser):
    """What a page points to, and what it is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.links, self.images = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.sources += [given["src"]] if "src" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.images += [given] if tag == "img" else []


def test_the_page_stands_alone(small):
    index = make(str(small))
    assert index == small.folder.path / report_make.Path("report/index.html")
    text = index.read_text(encoding="utf-8")
    found = Links(text)
    assert not found.tags & {"script", "link", "iframe"}
    assert "url(" not in text
    assert "@import" not in text
    assert all(source.startswith("data:image/") for source in found.sources)
    assert len(found.images) == 1
    assert all(image["alt"] for image in found.images)
    for link in found.links:
        assert f'id="{link[1:]}"' in text if link.startswith("#") else (index.parent / link).is_file()
    assert "Less &lt;b&gt;is&lt;/b&gt; more" in text
    assert "Sweep sample, 2 trials, 2 seeds." in text
    assert sorted(file.name for file in (index.parent / "figures").iterdir()) == ["loss.png", "loss.svg"]


def test_a_table_is_on_the_page(small):
    frame = pd.DataFrame({"case": ["<mlp>", "sine"], "ours": [0.123456, None]})
    made_of = pd.DataFrame({"trial_id": ["a", "b"], "seed": [0, 0]})
    table = Table(
        name="paper", title="Beside it", caption="Words.", code="data = 1", frame=frame, rows=made_of
    )
    text = page(summarise(Stored(str(small))), [table])
    assert "<td>&lt;mlp&gt;</td><td>0.1235</td>" in text
    assert "<td>sine</td><td></td>" in text
    assert "Sweep sample, 2 trials, 1 seed." in text


def test_the_summary_says_what_is_there_and_what_is_not(tmp_path):
    text = "name: sample\ntrial: {architecture: mlp, dataset: digits, steps: 20}\ngrid: {seed: {range: 5}}\n"
    store = new_store(tmp_path / "out", text=text + "measure: {loss: {every: 5}}\n")
    rows = [{"step": s, "train_loss": 2.0 + s} for s in (0, 5)]
    planned = {"dataset": Component("digits"), "measure": {"loss": Request(every=5)}}
    fill(store, [samples.spec(seed=0, **planned)], rows)
    fill(store, [samples.spec(seed=1, **planned)], rows[:1], TrialStatus.DIVERGED)
    fill(store, [samples.spec(seed=2, **planned)], [], TrialStatus.FAILED)
    stored = Stored(str(store))
    summary = summarise(stored)
    assert summary.progress == "3 of 5 trials are finished: 1 completed, 1 diverged, 1 failed"
    assert summary.varies == {"seed": "0, 1, 2"}
    (figure,) = contents(stored)
    assert "1 trial diverged; it is in the lines" in figure.caption
    crosses = [line for line in figure.drawing.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses] == [[0]]  # where its own values end
    assert figure.trials == 2
    text = page(summary, [])
    assert text.count("ValueError: no") == 1
    assert "mlp digits seed=2" in text
    assert "The others are not in this report" in text


def test_trials_that_the_sweep_no_longer_has_are_not_taken_for_those_that_it_has(tmp_path):
    text = (
        "name: sample\ntrial: {architecture: mlp, dataset: digits, steps: 20}\nmeasure: {loss: {every: 5}}\n"
    )
    store = new_store(tmp_path / "out", text=text)
    fill(store, [samples.spec(seed=7)], samples.rows(0))
    progress = summarise(Stored(str(store))).progress
    assert progress == "1 of 2 trials are finished: 1 completed"  # seed 0 of the file is still to come


def test_damaged_files_are_named(small):
    trial = samples.spec(seed=1).trial_id
    small.folder.write(f"trials/{trial}.parquet", b"PAR1")
    assert f"trials/{trial}.parquet is damaged" in make(str(small)).read_text(encoding="utf-8")


# --- whole or not at all ---


def test_an_older_report_is_replaced_as_a_whole(small, monkeypatch):
    index = make(str(small))
    (index.parent / "figures" / "older.png").write_bytes(b"")
    old = index.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(report_make.Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            make(str(small))
    assert index.read_bytes() == old
    assert (index.parent / "figures" / "older.png").exists()
    (index.parent / ".DS_Store").write_bytes(b"")  # somebody looked at it on a Mac
    make(str(small))
    assert not (index.parent / "figures" / "older.png").exists()
    assert sorted(path.name for path in index.parent.parent.iterdir() if path.name.startswith(".tmp-")) == []


def test_a_report_that_cannot_be_put_in_place_leaves_the_older_one(small, monkeypatch):
    index = make(str(small))
    rename = report_make.Path.rename

    def refuse(path, to):
        if (path / "index.html").exists() and to == index.parent and not (path / "mark").exists():
            raise OSError(13, "Permission denied")
        return rename(path, to)

    (index.parent / "figures" / "older.png").write_bytes(b"")
    (index.parent / "mark").write_bytes(b"")
    monkeypatch.setattr(report_make.Path, "rename", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        report_make.put(index.parent, {"index.html": b"new"})
    assert (index.parent / "figures" / "older.png").exists()


def test_a_folder_of_something_else_is_left_alone(small, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("")
    for target in (mine, mine / "thesis.tex"):
        with pytest.raises(ReportError, match=f"^{target}: holds something else than a report"):
            make(str(small), target)
    assert (mine / "thesis.tex").exists()


# --- the command ---


def call(*words):
    return CliRunner().invoke(main, ["report", *words], catch_exceptions=False)


def test_the_command_says_where_the_page_is(small, tmp_path):
    done = call(str(small), "--output", str(tmp_path / "there"))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{tmp_path}/there/index.html\n")
    assert (tmp_path / "there" / "index.html").is_file()


def test_results_behind_a_uri_are_reported_here(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(f"file://{small.folder.path}")
    assert (done.exit_code, done.stderr) == (0, "report-sample/index.html\n")
    assert (tmp_path / "report-sample" / "index.html").is_file()


def test_without_results_or_finished_trials_it_is_a_line_and_2(tmp_path):
    new_store(tmp_path / "begun")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("none", "no results of a sweep here"),
        ("empty", "no results of a sweep here"),
        ("begun", "none of its trials is finished yet"),
    ):
        done = call(str(tmp_path / name))
        assert done.exit_code == 2
        assert done.stderr.startswith(f"{tmp_path / name}: {words}")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / name / "report").exists()


def test_it_needs_neither_torch_nor_ray_nor_mlflow(small):
    code = (
        "import sys; from orchestrator.report.make import make; make(sys.argv[1]);"
        "print({'torch', 'ray', 'mlflow', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_every_module_of_figures_is_in_the_report():
    folder = report_make.Path(report_contents.__file__).parent / "figures"
    names = {file.stem for file in folder.glob("*.py")} - {"__init__", "scalars"}
    assert {module.__name__.rpartition(".")[2] for module in MODULES} >= names
    assert all(isinstance(module.COLUMNS, tuple) for module in MODULES)
    assert Figure.__dataclass_fields__.keys() >= Table.__dataclass_fields__.keys() - {"frame"}
