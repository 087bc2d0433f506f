"""The benchmarks' tables on standard output."""

from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 150


def heading(found: dict[str, Any]) -> str:
    """One line of what the numbers depend on."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    threads = f", {found['threads']} threads" if found["device"] == "cpu" else ""
    rate = f"{found['matrix_rate_gflops']:,.0f} GFLOP/s of float32 matrix products"
    return f"{found['processor']}{threads}: {rate}\n{versions}"


def eigenpairs_table(measured: dict[str, Any]) -> None:
    """One problem: a row for each library and setting."""
    title = (
        f"{measured['case']}, {measured['moment']} (loss {measured['loss']:.3g}): top {measured['count']} of "
        f"{measured['parameters']:,} on {measured['samples']:,} samples of {measured['images']}; "
        f"a product is {measured['flops_of_a_product'] / 1e9:.3g} GFLOP, the matrix rate "
        f"{measured['matrix_rate_gflops']:,.0f} GFLOP/s"
    )
    table = _table("library", "setting")
    for name in ("seconds", "× ours", "products", "residual", "right", "memory", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    ours = measured["rows"][0]
    for row in measured["rows"]:
        if "error" in row:
            table.add_row(row["library"], f"{row['setting']} {row['error']}".strip())
            continue
        together = zip(
            row["seconds"], ours["seconds"], strict=False
        )  # some take part in the first round only
        ratios = [theirs / mine for theirs, mine in together]
        table.add_row(
            row["library"],
            row["setting"],
            spread(row["seconds"]),
            "" if row is ours else spread(ratios, ".2f"),
            f"{median(row['products']):.0f}",
            f"{max(row['residuals']):.1e}",
            f"{row['right']}/{measured['count']}",
            megabytes(row.get("peak_bytes")),
            f"{median(row['matrix_rate_shares']):.0%}",
        )
    _print(title, table)


def plain_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Numbers that are texts already, under their names."""
    table = _table()
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _print(title, table)


def spread(values: list[float], form: str = ".3g") -> str:
    """The median, with least and most where there are several.

    >>> spread([2.0, 1.0, 4.0]), spread([2.0])
    ('2 (1–4)', '2')
    """
    middle = f"{median(values):{form}}"
    return f"{middle} ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else middle


def megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.0f} MiB"


def _table(*texts: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in texts:
        table.add_column(name)
    return table


def _print(title: str, table: Table) -> None:
    print(f"\n{title}", flush=True)
    Console(width=WIDTH, highlight=False, markup=False).print(table)
