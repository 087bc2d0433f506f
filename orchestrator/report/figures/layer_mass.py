"""Where eigenvectors live: `layer_mass` by layer and index, as a heat map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.report import code, style
from orchestrator.report.figure import Figure
from orchestrator.report.grouping import part

if TYPE_CHECKING:
    from orchestrator.report.figure import Stored

COLUMNS = ()
UNFOLDED = (
    'rows = rows.assign(layer=rows.layer_mass.str["layer"], mass=rows.layer_mass.str["mass"]).explode("mass")'
    '.astype({"mass": float})'
)


def figures(stored: Stored) -> Iterator[Figure]:
    """Medians over seeds of each layer's share of each eigenvector at the last step measured, a panel per setting."""
    if not stored.has("layer_mass"):
        return
    groups = stored.groups
    cells = groups.cells()
    rows = groups.in_cells(stored.measurements).dropna(subset="layer_mass")
    if rows.empty:
        return
    rows = rows[rows.step == rows.groupby("trial_id").step.transform("max")]
    rows = rows.explode("layer_mass", ignore_index=True)
    of_layer: Any = rows.layer_mass.str  # the fields of a record
    names = of_layer["layer"]
    rows = rows.assign(layer=names, mass=of_layer["mass"]).explode("mass", ignore_index=True)
    rows = rows.assign(index=rows.groupby(["trial_id", "layer"]).cumcount() + 1, mass=rows.mass.astype(float))
    table = rows.groupby(["setting", "layer", "index"]).mass.median().unstack("index")
    with style.styled():
        drawing, found = style.panels(len(cells), height=2.0)
        mesh = None
        for (title, _, setting), (axes,) in zip(cells, found, strict=True):
            style.title(axes, title)
            own = part(table, setting.number)
            if own is None:
                continue
            order = [name for name in dict.fromkeys(names) if name in own.index]
            own = own.loc[order].dropna(axis=1, how="all")
            edges = np.arange(len(order) + 1) - 0.5
            across = np.arange(len(own.columns) + 1) + 0.5
            mesh = axes.pcolormesh(
                across, edges, own.to_numpy(), vmin=0.0, vmax=1.0, cmap="viridis", rasterized=True
            )
            mesh.set_gid(f"layer_mass/{setting.number}")
            axes.grid(False)
            axes.invert_yaxis()
            axes.set_yticks(range(len(order)), order)
            axes.set_xlabel("index i of the eigenvector")
        style.label_left(found, "layer")
        if mesh is not None:
            drawing.colorbar(mesh, ax=[axes for own in found for axes in own], label="share", aspect=40)
    last = 'rows[rows.step == rows.groupby("trial_id").step.transform("max")].explode("layer_mass")'
    counted = 'rows.assign(index=rows.groupby(["trial_id", "layer"]).cumcount() + 1)'
    yield Figure(
        name="layer-mass",
        title="Where the eigenvectors live",
        caption="Share of each eigenvector of the Hessian that lies in each layer's parameters: Σ vᵢ² over them, so that "
        "a column sums to 1. By chance a layer has its share of the parameters. At the last step measured; medians "
        f"over seeds. {groups.cells_left_out}",
        code=code.code(
            stored,
            "measurements",
            f'rows = rows.dropna(subset="layer_mass"); rows = {last}',
            UNFOLDED,
            f"data = {code.grouped(stored, 'layer', 'index').replace('rows.', counted + '.', 1)}.mass.median()",
        ),
        drawing=drawing,
        rows=rows,
    )
