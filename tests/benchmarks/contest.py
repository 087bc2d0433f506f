"""Libraries against each other on one problem: rounds of all of them, then what their pairs are worth, then their memory."""

from functools import partial
from typing import Any

import click
import torch
from alone import peak_bytes
from equal_residual import Remembered, eigsh_tolerance, lanczos_steps
from libraries import OURS, SOLVERS, Solution, absent
from problems import Problem, moments
from torch import Tensor
from yardstick import matrix_rate, product_flops, timed, true_residuals

RESIDUAL = 1e-3
"""What all pairs have to reach: ‖Hv − λv‖ / |λ₁|."""


def measure(problem: Problem, rounds: int, memory: bool) -> dict[str, Any]:
    """One problem: every contestant in every round, then their true residuals, then their memory."""

    def say(what: str) -> None:
        click.echo(f"{problem.case}, {problem.moment}: {what}", err=True)

    device = problem.inputs.device.type
    say("what peers have to be told")
    rows = contestants(problem)
    solutions: dict[int, Solution] = {}
    warm_up(device)
    rate = 0.0
    for turn in range(rounds):
        rate = max(rate, matrix_rate(device))
        for index in (*range(turn % len(rows), len(rows)), *range(turn % len(rows))):
            row = rows[index]
            if "error" in row or (row["once"] and turn > 0):
                continue
            say(f"round {turn + 1} of {rounds}: {row['library']}, {row['setting']}")
            solve = SOLVERS[row["library"]]
            try:
                seconds, solution = timed(device, partial(solve, problem, **row["options"]))
            except Exception as error:  # a peer that cannot do this model says so in its row
                if row["library"] == OURS:
                    raise
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            row["seconds"].append(seconds)
            row["products"].append(solution.products)
            solutions[index] = solution
    say("true residuals")
    wrong = {index: true_residuals(problem, solution) for index, solution in solutions.items()}
    judge(rows, solutions, wrong)
    flops = product_flops(problem)
    for row in rows:
        if "error" not in row:
            spent = [p * flops / s for p, s in zip(row["products"], row["seconds"], strict=True)]
            row["matrix_rate_shares"] = [each / rate for each in spent]
        if memory and "error" not in row and row["weigh"]:
            say(f"memory: {row['library']}, {row['setting']}")
            try:
                row["peak_bytes"] = peak_bytes(problem, row["library"], row["options"])
            except RuntimeError as error:
                row["memory_error"] = str(error)
    return {
        "case": problem.case,
        "moment": problem.moment,
        "images": problem.source,
        "samples": len(problem.inputs),
        "parameters": problem.size,
        "count": problem.count,
        "loss": problem.loss,
        "flops_of_a_product": flops,
        "matrix_rate_gflops": rate / 1e9,
        "rows": rows,
    }


def contestants(problem: Problem) -> list[dict[str, Any]]:
    """Libraries with their settings, ours first. What is no contest, defaults and second settings, is run in one round."""
    hessian = Remembered(problem)
    rows = [_row(OURS, f"tol {RESIDUAL:g}", tol=RESIDUAL)]
    if absent("curvlinops"):
        rows.append(_absent("curvlinops"))
    else:
        tolerance = eigsh_tolerance(problem, hessian, RESIDUAL)
        if tolerance is not None:
            rows.append(_row("curvlinops", f"eigsh, equal residual: tol {tolerance:g}", tol=tolerance))
        if tolerance != RESIDUAL:
            second = tolerance is not None
            rows.append(
                _row("curvlinops", f"eigsh, tol {RESIDUAL:g}", once=second, weigh=not second, tol=RESIDUAL)
            )
    if absent("hessian-eigenthings"):
        rows.append(_absent("hessian-eigenthings"))
    else:
        steps = lanczos_steps(problem, hessian, RESIDUAL)
        if steps is not None:
            told: dict[str, Any] = {"max_iter": steps, "which": "LA", "reorthogonalize": True}
            rows.append(_row("hessian-eigenthings", f"told {steps} steps", **told))
        rows.append(_row("hessian-eigenthings", "defaults", once=True, weigh=steps is None))
    rows.append(_absent("PyHessian") if absent("PyHessian") else _row("PyHessian", "defaults", once=True))
    return rows


def judge(rows: list[dict[str, Any]], solutions: dict[int, Solution], wrong: dict[int, Tensor]) -> None:
    """Adds residuals, and how many pairs are right: those of a small residual whose value nobody sorts higher.

    The i-th largest Ritz value of orthonormal vectors is never above the i-th eigenvalue; so of solutions that
    converged, the largest is the best.
    """
    largest = float(solutions[0].values.max())
    converged = [i for i in solutions if float(wrong[i].max()) <= 1.5 * RESIDUAL * largest]
    best = [
        max(
            float(solutions[i].values.sort(descending=True)[0][k])
            for i in converged or [0]
            if k < len(solutions[i].values)
        )
        for k in range(len(solutions[0].values))
    ]
    for index, solution in solutions.items():
        order = solution.values.argsort(descending=True)
        residuals = (wrong[index] / abs(best[0]))[order]
        values = solution.values[order].tolist()
        missing = len(best) - len(values)
        values += [float("nan")] * missing
        residuals = torch.cat([residuals, torch.full((missing,), torch.inf, dtype=residuals.dtype)])
        rows[index]["values"] = values
        rows[index]["residuals"] = residuals.tolist()
        rows[index]["right"] = sum(
            residual <= RESIDUAL and abs(value - true) <= RESIDUAL * abs(best[0])
            for residual, value, true in zip(residuals.tolist(), values, best, strict=True)
        )


def warm_up(device: str) -> None:
    """Each library once on something small, so that no round pays for imports."""
    tiny = next(moments("tiny", None, False, device))
    for library, solve in SOLVERS.items():
        if not absent(library):
            solve(tiny)


def _row(
    library: str, setting: str, once: bool = False, weigh: bool = True, **options: Any
) -> dict[str, Any]:
    return {
        "library": library,
        "setting": setting,
        "options": options,
        "once": once,
        "weigh": weigh,
        "seconds": [],
        "products": [],
    }


def _absent(library: str) -> dict[str, Any]:
    return _row(library, "") | {"error": "not installed; pip install -e '.[benchmark]'"}
