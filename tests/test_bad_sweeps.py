# ruff: noqa: E501
"""Sweep files that must be refused: what each says is what its user reads, so every line is written out here."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cli import main
from orchestrator.sweep import SweepError, load_sweep
from workers import find

NAME = "name: s\n"
TRIAL = "trial: {architecture: mlp, dataset: mnist5k, steps: 100}\n"
BASE = NAME + TRIAL

OWN = '''
"""A user's own file, with the options that the cases below get wrong."""

from typing import Annotated, Literal

import a_module_that_only_the_trial_has
from annotated_types import Ge, Lt


def net(
    input_shape,
    num_classes,
    *,
    widths: list[Annotated[int, Ge(1)]] = (100, 100),
    activation: Literal["relu", "tanh"] = "relu",
): ...


def step(parameters, learning_rate, *, momentum: Annotated[float, Ge(0), Lt(1)] = 0.0, needed: str): ...
'''


def bomb() -> str:
    """Ten values, ten times those, and so on: 10⁹ in a few hundred characters."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{letter}: &{letter} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


# What the case shows, the file, and everything that is said about it after the file's name. `<kind>` stands for
# the names that there are of a kind.
CASES: list[tuple[str, str, list[str]]] = [
    ("empty", "", [":1: empty; a sweep has at least a name and a trial"]),
    (
        "search empty",
        BASE + "search: {}\n",
        [
            ":3: search: metric is missing",
            ":3: search: direction is missing",
            ":3: search: space is missing",
            ":3: search: trials is missing",
        ],
    ),
    ("search list", BASE + "search: [tpe]\n", [":3: search: ['tpe']: must be a mapping"]),
    (
        "search keys",
        BASE
        + "search:\n  sampler: tpee\n  trails: 8\n  trials: 0\n  metric: f_topp\n  direction: up\n  pruner: 1\n  seed: -1\n  space: {learning_rate: {log_uniform: [0.01, 1]}}\n",
        [
            ":4: search.sampler: 'tpee': must be one of tpe, random, cmaes, qmc, grid",
            ":5: search.trails: unknown; did you mean trials?",
            ":6: search.trials: 0: must be a whole number of at least 1",
            ":7: search.metric: 'f_topp': unknown; did you mean f_top?",
            ":8: search.direction: 'up': must be one of maximize, minimize",
            ":9: search.pruner: 1: must be one of none, median, hyperband",
            ":10: search.seed: -1: must be a whole number of at least 0",
        ],
    ),
    (
        "search metric",
        BASE
        + "measure: {loss: {}}\nsearch: {trials: 1, metric: eigenvalues, direction: minimize, space: {seed: {int: [0, 3]}}}\n",
        [
            ":4: search.metric: 'eigenvalues': unknown; there are epoch, batch_loss, gradient_norm, hessian_products, train_loss, train_accuracy, test_loss, test_accuracy"
        ],
    ),
    (
        "search metric elsewhere",
        BASE
        + "measure: {loss: {}}\nsearch: {trials: 1, metric: sharpness, direction: minimize, space: {seed: {int: [0, 3]}}}\n",
        [":4: search.metric: 'sharpness': is not measured; add top_eigenpairs to measure"],
    ),
    (
        "search space",
        BASE
        + """search:
  trials: 9
  metric: test_loss
  direction: minimize
  space:
    steps: {int: [1, 9]}
    sede: {int: [1, 2]}
    learning_rate: {log_uniform: [0, 1]}
    batch_size: {uniform: [16, 64]}
    seed: {int: [0, 9], step: 2}
    loss_bound: {uniform: [2, 1]}
    precision: {choice: [float32, float16]}
    loss: [mse]
    measurement_samples: {int: [1, 9], uniform: [1, 2]}
    initialization: {choice: [torch, torch], step: 1}
    batch_norm: {choice: [eval, eval]}
""",
        [
            ":8: search.space.steps: also given as trial.steps on line 2; a parameter has one place",
            ":9: search.space.sede: unknown; did you mean seed?",
            ":10: search.space.learning_rate.log_uniform: [0, 1]: must be above 0, for a logarithm",
            ":11: search.space.batch_size: takes whole numbers only; give {int: [low, high]}",
            ":12: search.space.seed.step: 2: does not lead from 0 to 9",
            ":13: search.space.loss_bound.uniform: [2, 1]: must go from a lower to a higher number",
            ":14: search.space.precision.choice[1]: 'float16': must be one of float32, float64",
            ":15: search.space.loss: ['mse']: must be {uniform: [low, high]}, {log_uniform: [low, high]}, {int: [low, high]} or {choice: [values]}",
            ":16: search.space.measurement_samples: {int: [1, 9], uniform: [1, 2]}: must be {uniform: [low, high]}, {log_uniform: [low, high]}, {int: [low, high]} or {choice: [values]}",
            ":17: search.space.initialization.step: unknown; there are choice",
            ":18: search.space.batch_norm.choice[1]: 'eval': is there already; a value comes once",
        ],
    ),
    (
        "search components",
        NAME
        + """trial: {steps: 5}
search:
  trials: 9
  metric: test_loss
  direction: minimize
  space:
    architecture: {choice: [{name: mlp, widths: {choice: [[16], [0]]}}, softmax, mpl]}
    optimizer: {choice: [{name: sgd, momentum: {uniform: [0, 1.5]}, beta: 1}, adam, adam]}
    dataset: {name: digits}
""",
        [
            ":8: search.space.architecture.choice[0].widths.choice[1]: [0]: must be a list of whole numbers of at least 1",
            ":8: search.space.architecture.choice[2]: architectures: no 'mpl'; there are <architectures> (or a dotted name of your own)",
            ":9: search.space.optimizer.choice[0].momentum.uniform[1]: 1.5: must be a number of at least 0 and below 1",
            ":9: search.space.optimizer.choice[0].beta: unknown; there are name, momentum, nesterov, weight_decay",
            ":9: search.space.optimizer.choice[2]: 'adam': adam is there already; with options to search it comes once",
            ":10: search.space.dataset: {name: 'digits'}: has no option to search; each would be {uniform: [low, high]}, {log_uniform: [low, high]}, {int: [low, high]} or {choice: [values]}",
        ],
    ),
    (
        "search beside grid and exclude",
        BASE
        + "grid: {learning_rate: [0.1, 1]}\nexclude: [{learning_rate: 1}]\nsearch: {trials: 9, metric: test_loss, direction: minimize, space: {learning_rate: {uniform: [0.1, 1]}}}\n",
        [
            ":4: exclude: not beside search; leave the cases or values out themselves",
            ":5: search.space.learning_rate: also given as grid.learning_rate on line 3; a parameter has one place",
        ],
    ),
    (
        "search grid without end",
        BASE
        + "search: {sampler: grid, metric: test_loss, direction: minimize, space: {learning_rate: {uniform: [0.1, 1]}}}\n",
        [
            ":3: search.space.learning_rate: a grid needs values that can be counted: {choice: [values]} or {int: [low, high]}"
        ],
    ),
    (
        "search cmaes",
        BASE
        + "search: {sampler: cmaes, trials: 9, metric: test_loss, direction: minimize, space: {seed: {int: [0, 9]}, batch_size: {choice: [8, 9]}}}\n",
        [
            ":3: search.sampler: 'cmaes': needs at least 2 numbers to search in every trial; choices it leaves to chance"
        ],
    ),
    (
        "search too many",
        BASE
        + "search: {sampler: grid, metric: test_loss, direction: minimize, space: {seed: {int: [0, 1000]}, batch_size: {int: [1, 1000]}}}\n",
        [":3: search: 1,001,000 trials; more than 100,000 need --yes"],
    ),
    (
        "search whole trials",
        BASE
        + "search: {trials: 9, metric: test_loss, direction: minimize, space: {measurement_samples: {int: [5, 5000]}}}\n",
        [":3: search.space.measurement_samples: {int: [5, 5000]}: mnist5k has only 4000 training samples"],
    ),
    ("comments", "# nothing\n", [":1: empty; a sweep has at least a name and a trial"]),
    ("list", "- name: s\n", [":1: [{name: 's'}]: must be a mapping"]),
    ("scalar", "hello\n", [":1: 'hello': must be a mapping"]),
    ("null", "null\n", [":1: null: must be a mapping"]),
    ("tab", NAME + "trial:\n\tsteps: 1\n", [":3: not YAML: a tab; indent with spaces"]),
    (
        "unclosed",
        NAME + "trial: [1,\n",
        [":3: not YAML: expected the node content, but found '<stream end>'"],
    ),
    ("colon", "name: a: b\n", [":1: not YAML: mapping values are not allowed here"]),
    ("undefined alias", "name: *x\n", [":1: not YAML: found undefined alias 'x'"]),
    (
        "two docs",
        BASE + "---\nname: s\ntrial: {architecture: mlp, dataset: mnist5k, steps: 100}\n",
        [":4: a second document; a sweep file has one"],
    ),
    (
        "python tag",
        NAME + "trial: !!python/object/apply:os.system ['true']\n",
        [":2: the tag !!python/object/apply:os.system is not allowed"],
    ),
    ("set", NAME + "trial: !!set {steps}\n", [":2: the tag !!set is not allowed"]),
    ("bad int", BASE + "retries: !!int many\n", [":3: not a value of the kind !!int"]),
    ("key list", BASE + "? [1, 2]\n: 3\n", [":3: a key must be a name"]),
    ("holds itself", "name: &a [*a]\n", [":1: more than 200,000 values, aliases written out"]),
    ("alias bomb", bomb(), [":1: more than 200,000 values, aliases written out"]),
    ("deep", "name: " + "[" * 50_000, [":1: nested too deeply"]),
    ("nul", "name: s\x00\n", [":1: not text: the character 0x0000"]),
    ("surrogate", 'name: "\\ud800"\n', [":1: not text: half of a surrogate pair"]),
    ("dup key", BASE + "name: t\n", [":3: name: given twice, first on line 1"]),
    (
        "dup nested",
        NAME + "trial:\n  architecture: mlp\n  dataset: mnist5k\n  steps: 100\n  steps: 200\n",
        [":6: trial.steps: given twice, first on line 5"],
    ),
    (
        "dup flow",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 1, steps: 2}\n",
        [":2: trial.steps: given twice, first on line 2"],
    ),
    ("no name", "trial: {architecture: mlp, dataset: mnist5k, steps: 100}\n", [":1: name is missing"]),
    (
        "name upper",
        "name: Figure 1\ntrial: {architecture: mlp, dataset: mnist5k, steps: 100}\n",
        [":1: name: 'Figure 1': must be a name of a-z, 0-9 and -, such as figure-1"],
    ),
    (
        "name number",
        "name: 1\ntrial: {architecture: mlp, dataset: mnist5k, steps: 100}\n",
        [":1: name: 1: must be a name of a-z, 0-9 and -, such as figure-1"],
    ),
    (
        "name list",
        "name: [s]\ntrial: {architecture: mlp, dataset: mnist5k, steps: 100}\n",
        [":1: name: ['s']: must be a name of a-z, 0-9 and -, such as figure-1"],
    ),
    (
        "name long",
        "name: " + "a" * 101 + "\n" + TRIAL,
        [
            ":1: name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…: must be a name of a-z, 0-9 and -, such as figure-1"
        ],
    ),
    ("description number", BASE + "description: 5\n", [":3: description: 5: must be text"]),
    (
        "unknown top",
        BASE + "seeds: 3\n",
        [
            ":3: seeds: unknown; there are name, description, trial, cases, grid, exclude, measure, search, resources, retries"
        ],
    ),
    ("unknown top close", BASE + "gird: {seed: [0]}\n", [":3: gird: unknown; did you mean grid?"]),
    (
        "no trial",
        NAME,
        [":1: architecture is missing", ":1: dataset is missing", ":1: steps or epochs is missing"],
    ),
    ("trial null", NAME + "trial:\n", [":2: trial: null: must be a mapping"]),
    ("trial list", NAME + "trial: [mlp]\n", [":2: trial: ['mlp']: must be a mapping"]),
    (
        "unknown field",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 100, learnin_rate: 0.1}\n",
        [":2: trial.learnin_rate: unknown; did you mean learning_rate?"],
    ),
    (
        "measure in trial",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 100, measure: {loss: {}}}\n",
        [
            ":2: trial.measure: unknown; there are architecture, dataset, optimizer, learning_rate, batch_size, steps, epochs, seed, loss, precision, initialization, measurement_samples, batch_norm, loss_bound"
        ],
    ),
    (
        "the contract's own",
        NAME
        + "trial:\n  architecture: mlp\n  dataset: mnist5k\n  steps: 10\n  batch_size: -4\ngrid:\n  learnin_rate: [0.1]\n",
        [
            ":6: trial.batch_size: -4: must be a whole number of at least 1 or full",
            ":8: grid.learnin_rate: unknown; did you mean learning_rate?",
        ],
    ),
    (
        "bool",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: true}\n",
        [":2: trial.steps: true: must be a whole number of at least 0"],
    ),
    (
        "string number",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: '100'}\n",
        [":2: trial.steps: '100': must be a whole number of at least 0"],
    ),
    (
        "no is text",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 100, learning_rate: no}\n",
        [":2: trial.learning_rate: 'no': must be a number above 0"],
    ),
    (
        "fraction",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 100.5}\n",
        [":2: trial.steps: 100.5: must be a whole number of at least 0"],
    ),
    (
        "nan",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: 100, learning_rate: .nan}\n",
        [":2: trial.learning_rate: .nan: must be a number above 0, and finite"],
    ),
    (
        "inf",
        BASE + "grid: {learning_rate: [0.1, .inf]}\n",
        [":3: grid.learning_rate[1]: .inf: must be a number above 0, and finite"],
    ),
    (
        "overflow",
        BASE + "grid: {learning_rate: [1e400]}\n",
        [":3: grid.learning_rate[0]: .inf: must be a number above 0, and finite"],
    ),
    (
        "zero",
        BASE + "grid: {learning_rate: [0.0]}\n",
        [":3: grid.learning_rate[0]: 0.0: must be a number above 0"],
    ),
    (
        "underflow",
        BASE + "grid: {learning_rate: [1e-400]}\n",
        [":3: grid.learning_rate[0]: 0.0: must be a number above 0"],
    ),
    (
        "huge seed",
        BASE + "grid: {seed: [1e30, 99999999999999999999]}\n",
        [
            ":3: grid.seed[0]: 1e+30: must be a whole number of at least 0, and below 2**63 in size",
            ":3: grid.seed[1]: 99999999999999999999: must be a whole number of at least 0, and below 2**63 in size",
        ],
    ),
    (
        "literal",
        BASE + "grid: {loss: [hinge]}\n",
        [":3: grid.loss[0]: 'hinge': must be one of cross_entropy, mse"],
    ),
    (
        "literal number",
        BASE + "grid: {precision: [32]}\n",
        [":3: grid.precision[0]: 32: must be one of float32, float64"],
    ),
    (
        "null lr",
        BASE + "grid: {learning_rate: [null]}\n",
        [":3: grid.learning_rate[0]: null: must be a number above 0"],
    ),
    (
        "list for number",
        BASE + "grid: {seed: [[0]]}\n",
        [":3: grid.seed[0]: [0]: must be a whole number of at least 0"],
    ),
    (
        "both",
        NAME + "trial:\n  architecture: mlp\n  dataset: mnist5k\n  steps: 100\n  epochs: 3\n",
        [":6: trial.epochs: trial.steps is given too; a trial has either steps or epochs"],
    ),
    (
        "neither",
        NAME + "trial: {architecture: mlp, dataset: mnist5k}\n",
        [":2: trial: steps or epochs is missing"],
    ),
    (
        "both grid",
        BASE + "grid: {epochs: [1, 2]}\n",
        [":3: grid.epochs: trial.steps is given too; a trial has either steps or epochs"],
    ),
    (
        "steps null",
        NAME + "trial: {architecture: mlp, dataset: mnist5k, steps: null}\n",
        [":2: trial.steps: null: must be a whole number of at least 0"],
    ),
    (
        "missing two",
        NAME + "trial: {steps: 1}\n",
        [":2: trial: architecture is missing", ":2: trial: dataset is missing"],
    ),
    (
        "unknown architecture",
        NAME + "trial: {architecture: mpl, dataset: mnist5k, steps: 100}\n",
        [
            ":2: trial.architecture: architectures: no 'mpl'; there are <architectures> (or a dotted name of your own)"
        ],
    ),
    (
        "unknown dataset",
        NAME + "trial: {architecture: mlp, dataset: mnst, steps: 100}\n",
        [":2: trial.dataset: datasets: no 'mnst'; there are <datasets> (or a dotted name of your own)"],
    ),
    (
        "unknown optimizer",
        BASE + "grid: {optimizer: [sgdd]}\n",
        [
            ":3: grid.optimizer[0]: optimizers: no 'sgdd'; there are <optimizers> (or a dotted name of your own)"
        ],
    ),
    (
        "arch number",
        NAME + "trial: {architecture: 3, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture: 3: must be a name, or a mapping with a name; there are <architectures>"],
    ),
    (
        "arch no name",
        NAME + "trial: {architecture: {widths: [3]}, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture: name is missing"],
    ),
    (
        "arch list",
        NAME + "trial: {architecture: [mlp], dataset: mnist5k, steps: 100}\n",
        [
            ":2: trial.architecture: ['mlp']: must be a name, or a mapping with a name; there are <architectures>"
        ],
    ),
    (
        "arch null",
        NAME + "trial: {architecture: null, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture: null: must be a name, or a mapping with a name; there are <architectures>"],
    ),
    (
        "dotted",
        NAME + "trial: {architecture: my_models.resnet9, dataset: mnist5k, steps: 100}\n",
        [
            ":2: trial.architecture: architectures: no 'my_models.resnet9': neither a file nor a function in a file beside the sweep file"
        ],
    ),
    (
        "own file without a dot",
        NAME + "trial: {architecture: own, dataset: mnist5k, steps: 100}\n",
        [
            ":2: trial.architecture: architectures: no 'own'; there are <architectures> (or a dotted name of your own; own.py has own.net, own.step)"
        ],
    ),
    (
        "dots",
        NAME + "trial: {architecture: ../../etc/passwd, dataset: mnist5k, steps: 100}\n",
        [
            ":2: trial.architecture: architectures: no '../../etc/passwd': neither a file nor a function in a file beside the sweep file"
        ],
    ),
    (
        "newline name",
        NAME + 'trial: {architecture: "x\\ny", dataset: mnist5k, steps: 100}\n',
        [
            ":2: trial.architecture: architectures: no 'x\\ny'; there are <architectures> (or a dotted name of your own)"
        ],
    ),
    (
        "option unknown",
        NAME + "trial: {architecture: {name: own.net, width: [100]}, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture.width: unknown; did you mean widths?"],
    ),
    (
        "option bad",
        NAME
        + "trial:\n  architecture:\n    name: own.net\n    widths:\n      - 100\n      - -3\n  dataset: mnist5k\n  steps: 100\n",
        [":7: trial.architecture.widths: [100, -3]: must be a list of whole numbers of at least 1"],
    ),
    (
        "option type",
        NAME + "trial: {architecture: {name: own.net, widths: 100}, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture.widths: 100: must be a list of whole numbers of at least 1"],
    ),
    (
        "option literal",
        NAME + "trial: {architecture: {name: own.net, activation: rleu}, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture.activation: 'rleu': must be one of relu, tanh"],
    ),
    (
        "dataset option",
        NAME + "trial: {architecture: mlp, dataset: {name: mnist5k, classes: 1}, steps: 100}\n",
        [":2: trial.dataset.classes: 1: must be a whole number of at least 2 or null"],
    ),
    (
        "dataset labels",
        NAME + "trial: {architecture: mlp, dataset: {name: mnist5k, label: random}, steps: 100}\n",
        [":2: trial.dataset.label: unknown; did you mean labels?"],
    ),
    (
        "opt option",
        BASE + "grid: {optimizer: [{name: own.step, momentum: 1.0, needed: x}]}\n",
        [":3: grid.optimizer[0].momentum: 1.0: must be a number of at least 0 and below 1"],
    ),
    (
        "required",
        BASE + "grid: {optimizer: [own.step]}\n",
        [":3: grid.optimizer[0]: needed is missing; it must be text"],
    ),
    ("grid null", BASE + "grid:\n", [":3: grid: null: must be a mapping"]),
    ("grid list", BASE + "grid: [seed]\n", [":3: grid: ['seed']: must be a mapping"]),
    (
        "axis empty",
        BASE + "grid: {seed: []}\n",
        [":3: grid.seed: []: must be a list with at least one element"],
    ),
    (
        "axis scalar",
        BASE + "grid: {seed: 3}\n",
        [":3: grid.seed: 3: must be a list of values, {range: 5} or {log: [0.01, 1, 5]}"],
    ),
    (
        "axis mapping",
        BASE + "grid: {seed: {from: 1}}\n",
        [":3: grid.seed: {from: 1}: must be a list of values, {range: 5} or {log: [0.01, 1, 5]}"],
    ),
    (
        "axis component",
        BASE + "grid: {optimizer: sgd}\n",
        [":3: grid.optimizer: 'sgd': must be a list of values"],
    ),
    (
        "axis repeated",
        BASE + "grid: {learning_rate: [0.1, 0.01, 1e-1]}\n",
        [":3: grid.learning_rate[2]: 0.1: the same as grid.learning_rate[0]; a value comes once"],
    ),
    (
        "axis repeated component",
        NAME
        + "trial: {dataset: mnist5k, steps: 100}\ngrid: {architecture: [own.net, {name: own.net, widths: [1e2, 100]}]}\n",
        [
            ":3: grid.architecture[1]: {name: 'own.net', widths: [100.0, 100]}: the same as grid.architecture[0]; a value comes once"
        ],
    ),
    (
        "range 0",
        BASE + "grid: {seed: {range: 0}}\n",
        [":3: grid.seed.range: 0: must be a whole number of at least 1 or [a whole number, a whole number]"],
    ),
    (
        "range float",
        BASE + "grid: {seed: {range: 1.5}}\n",
        [
            ":3: grid.seed.range: 1.5: must be a whole number of at least 1 or [a whole number, a whole number]"
        ],
    ),
    (
        "range backwards",
        BASE + "grid: {seed: {range: [5, 5]}}\n",
        [":3: grid.seed: {range: [5, 5]}: must have at least one value"],
    ),
    (
        "range lr",
        BASE + "grid: {learning_rate: {range: 2}}\n",
        [":3: grid.learning_rate[0]: 0: must be a number above 0"],
    ),
    (
        "log two",
        BASE + "grid: {learning_rate: {log: [0.1, 1]}}\n",
        [
            ":3: grid.learning_rate.log: [0.1, 1]: must be [a number above 0, a number above 0, a whole number of at least 2]"
        ],
    ),
    (
        "log zero",
        BASE + "grid: {learning_rate: {log: [0, 1, 3]}}\n",
        [
            ":3: grid.learning_rate.log: [0, 1, 3]: must be [a number above 0, a number above 0, a whole number of at least 2]"
        ],
    ),
    (
        "log seed",
        BASE + "grid: {batch_size: {log: [1, 10, 3]}}\n",
        [":3: grid.batch_size[1]: 3.16227766017: must be a whole number of at least 1 or full"],
    ),
    (
        "log same",
        BASE + "grid: {learning_rate: {log: [1, 1, 3]}}\n",
        [
            ":3: grid.learning_rate[1]: 1.0: the same as grid.learning_rate[0]; a value comes once",
            ":3: grid.learning_rate[2]: 1.0: the same as grid.learning_rate[0]; a value comes once",
        ],
    ),
    (
        "range huge",
        BASE + "grid: {seed: {range: 1000000000}}\n",
        [":3: grid.seed: 1,000,000,000 trials; more than 100,000 need --yes"],
    ),
    (
        "log huge",
        BASE + "grid: {learning_rate: {log: [0.1, 1, 1e12]}}\n",
        [":3: grid.learning_rate: 1,000,000,000,000 trials; more than 100,000 need --yes"],
    ),
    (
        "grid huge",
        BASE + "grid:\n  seed: {range: 1000}\n  batch_size: {range: [1, 102]}\n",
        [":3: grid: 101,000 trials; more than 100,000 need --yes"],
    ),
    (
        "twice",
        BASE + "grid: {steps: [100, 200]}\n",
        [":3: grid.steps: also given as trial.steps on line 2; a parameter has one place"],
    ),
    (
        "case grid",
        BASE + "cases:\n  - {seed: 0}\n  - {learning_rate: 0.1}\ngrid: {learning_rate: [0.1, 0.2]}\n",
        [":6: grid.learning_rate: also given as cases[1].learning_rate on line 5; a parameter has one place"],
    ),
    (
        "case trial",
        BASE + "cases:\n  - {steps: 5}\n",
        [":4: cases[0].steps: also given as trial.steps on line 2; a parameter has one place"],
    ),
    ("cases empty", BASE + "cases: []\n", [":3: cases: []: must be a list with at least one element"]),
    (
        "cases mapping",
        BASE + "cases: {seed: 0}\n",
        [":3: cases: {seed: 0}: must be a list with at least one element"],
    ),
    ("case scalar", BASE + "cases: [0]\n", [":3: cases[0]: 0: must be a mapping"]),
    (
        "case unknown",
        BASE + "cases:\n  - {seed: 0}\n  - sed: 1\n",
        [":5: cases[1].sed: unknown; did you mean seed?"],
    ),
    (
        "case incomplete",
        NAME + "trial: {dataset: mnist5k, steps: 5}\ncases:\n  - {architecture: mlp}\n  - {seed: 1}\n",
        [":5: cases[1]: architecture is missing"],
    ),
    (
        "cases same",
        BASE + "cases:\n  - {seed: 0}\n  - {learning_rate: 0.1}\n",
        [":5: cases[1]: the same trials as cases[0] on line 4"],
    ),
    (
        "exclude none",
        BASE + "grid: {seed: {range: 3}}\nexclude:\n  - {seed: 1}\n  - {seed: 3}\n",
        [":6: exclude[1]: {seed: 3}: matches no trial"],
    ),
    (
        "exclude unknown",
        BASE + "grid: {seed: {range: 3}}\nexclude:\n  - {sed: 1}\n",
        [":5: exclude[0].sed: unknown; did you mean seed?"],
    ),
    ("exclude all", BASE + "exclude: [{steps: 100}]\n", [":3: exclude: leaves no trial"]),
    ("exclude empty", BASE + "exclude: [{}]\n", [":3: exclude[0]: {}: must have at least one parameter"]),
    (
        "exclude bad",
        BASE + "exclude: [{seed: one}]\n",
        [":3: exclude[0].seed: 'one': must be a whole number of at least 0"],
    ),
    (
        "exclude mapping",
        BASE + "exclude: {seed: 1}\n",
        [":3: exclude: {seed: 1}: must be a list with at least one element"],
    ),
    (
        "measure null",
        BASE + "measure:\n",
        [":3: measure: null: must be a mapping of measurements, such as {loss: {every: 50}}"],
    ),
    (
        "measure empty",
        BASE + "measure: {}\n",
        [":3: measure: {}: must be a mapping of measurements, such as {loss: {every: 50}}"],
    ),
    (
        "measure list",
        BASE + "measure: [loss]\n",
        [":3: measure: ['loss']: must be a mapping of measurements, such as {loss: {every: 50}}"],
    ),
    (
        "measure unknown",
        BASE + "measure: {los: {}}\n",
        [":3: measure.los: measurements: no 'los'; there are <measurements> (or a dotted name of your own)"],
    ),
    (
        "measure number",
        BASE + "measure: {loss: 50}\n",
        [":3: measure.loss: 50: must be a mapping, such as {every: 50} or {at: [0, 100]}"],
    ),
    (
        "every 0",
        BASE + "measure: {loss: {every: 0}}\n",
        [":3: measure.loss.every: 0: must be a whole number of at least 1"],
    ),
    (
        "every at",
        BASE + "measure: {loss: {every: 5, at: [0]}}\n",
        [":3: measure.loss: both every and at; a measurement has one of them"],
    ),
    (
        "at empty",
        BASE + "measure: {loss: {at: []}}\n",
        [":3: measure.loss.at: []: must have at least one step"],
    ),
    (
        "at unsorted",
        BASE + "measure: {loss: {at: [0, 20, 10]}}\n",
        [":3: measure.loss.at[2]: 10: must be larger than the step before it"],
    ),
    (
        "at twice",
        BASE + "measure: {loss: {at: [0, 10, 10]}}\n",
        [":3: measure.loss.at[2]: 10: must be larger than the step before it"],
    ),
    (
        "at negative",
        BASE + "measure: {loss: {at: [-1, 10]}}\n",
        [":3: measure.loss.at: [-1, 10]: must be a list of whole numbers of at least 0"],
    ),
    (
        "at beyond",
        BASE + "measure:\n  loss:\n    at:\n      - 0\n      - 101\n",
        [":7: measure.loss.at[1]: 101: no trial has so many steps; the longest has 100"],
    ),
    (
        "at number",
        BASE + "measure: {loss: {at: 5}}\n",
        [":3: measure.loss.at: 5: must be a list of whole numbers of at least 0"],
    ),
    (
        "every null",
        BASE + "measure: {loss: {every: null}}\n",
        [":3: measure.loss.every: null: must be a whole number of at least 1"],
    ),
    (
        "every unknown",
        BASE + "measure: {loss: {evry: 5}}\n",
        [":3: measure.loss.evry: unknown; did you mean every?"],
    ),
    (
        "count 0",
        BASE + "measure: {top_eigenpairs: {count: 0}}\n",
        [":3: measure.top_eigenpairs.count: 0: must be a whole number of at least 1 or null"],
    ),
    (
        "tol",
        BASE + "measure: {top_eigenpairs: {tol: 1}}\n",
        [":3: measure.top_eigenpairs.tol: 1: must be a number above 0 and below 1"],
    ),
    (
        "since missing",
        BASE + "measure: {top_eigenpairs: {}, subspace_overlap: {}}\n",
        [
            ":3: measure.subspace_overlap: since is missing; it must be a list of whole numbers of at least 0 with at least 1 of them"
        ],
    ),
    (
        "since not measured",
        BASE + "measure: {top_eigenpairs: {at: [0, 50]}, subspace_overlap: {since: [0, 20]}}\n",
        [
            ":3: measure.subspace_overlap.since[1]: 20: not a step at which subspace_overlap is made, so there is nothing to compare with"
        ],
    ),
    (
        "since beyond",
        BASE + "measure: {subspace_overlap: {since: [200]}}\n",
        [
            ":3: measure.subspace_overlap.since[0]: 200: not a step at which subspace_overlap is made, so there is nothing to compare with"
        ],
    ),
    (
        "count p",
        BASE + "measure: {top_eigenpairs: {count: 1000000}}\n",
        [":3: measure.top_eigenpairs.count: 1000000: mlp has only 89610 parameters"],
    ),
    (
        "samples",
        NAME + "trial:\n  architecture: mlp\n  dataset: mnist5k\n  steps: 5\n  measurement_samples: 4001\n",
        [":6: trial.measurement_samples: 4001: mnist5k has only 4000 training samples"],
    ),
    ("resources", BASE + "resources: {cpu: 1}\n", [":3: resources.cpu: unknown; did you mean cpus?"]),
    ("cpus 0", BASE + "resources: {cpus: 0}\n", [":3: resources.cpus: 0: must be a number above 0"]),
    (
        "gpus 0.4",
        BASE + "resources: {gpus: 0.4}\n",
        [
            ":3: resources.gpus: 0.4: must be a whole number, or 1/n for n trials on one GPU, such as 0.5 or 0.25"
        ],
    ),
    (
        "gpus 1.5",
        BASE + "cases: [{seed: 0, resources: {gpus: 1.5}}]\n",
        [
            ":3: cases[0].resources.gpus: 1.5: must be a whole number, or 1/n for n trials on one GPU, such as 0.5 or 0.25"
        ],
    ),
    (
        "gpus neg",
        BASE + "resources: {gpus: -1}\n",
        [":3: resources.gpus: -1: must be a number of at least 0"],
    ),
    (
        "a measurement that the loss does not have",
        BASE + "cases: [{loss: mse}, {loss: cross_entropy}]\nmeasure:\n  loss: {}\n  class_means: {}\n",
        [":6: measure.class_means: is defined for cross_entropy only, not for mse"],
    ),
    ("retries", BASE + "retries: -1\n", [":3: retries: -1: must be a whole number of at least 0"]),
    ("retries bool", BASE + "retries: true\n", [":3: retries: true: must be a whole number of at least 0"]),
    (
        "all at once",
        "name: S\ntrial:\n  architecture: mpl\n  dataset: mnist5k\n  batch_size: 0\n  batch_size: 3\ngrid:\n  sed: [1]\n  learning_rate: [0.1, big]\nmeasure:\n  loss: {every: 0}\nretries: x\n",
        [
            ":1: name: 'S': must be a name of a-z, 0-9 and -, such as figure-1",
            ":2: trial: steps or epochs is missing",
            ":3: trial.architecture: architectures: no 'mpl'; there are <architectures> (or a dotted name of your own)",
            ":5: trial.batch_size: 0: must be a whole number of at least 1 or full",
            ":6: trial.batch_size: given twice, first on line 5",
            ":8: grid.sed: unknown; did you mean seed?",
            ":9: grid.learning_rate[1]: 'big': must be a number above 0",
            ":11: measure.loss.every: 0: must be a whole number of at least 1",
            ":12: retries: 'x': must be a whole number of at least 0",
        ],
    ),
    (
        "no such function",
        NAME + "trial: {architecture: own.resnet, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture: architectures: 'own.resnet' has no function resnet"],
    ),
    (
        "merge key",
        NAME + "trial:\n  <<: [1]\n  steps: 3\n",
        [":3: <<: must be a mapping or a list of mappings"],
    ),
    (
        "merged value",
        NAME
        + "trial: &t\n  architecture: mlp\n  dataset: mnist5k\n  steps: 5\n  seed: -1\ncases:\n  - <<: *t\n    seed: 0\n",
        [
            ":3: cases[0].architecture: also given as trial.architecture on line 3; a parameter has one place",
            ":4: cases[0].dataset: also given as trial.dataset on line 4; a parameter has one place",
            ":5: cases[0].steps: also given as trial.steps on line 5; a parameter has one place",
            ":6: trial.seed: -1: must be a whole number of at least 0",
            ":9: cases[0].seed: also given as trial.seed on line 6; a parameter has one place",
        ],
    ),
    (
        "not a mapping in at",
        BASE + "measure: {loss: {at: [0, [5]]}}\n",
        [":3: measure.loss.at: [0, [5]]: must be a list of whole numbers of at least 0"],
    ),
    (
        "own measurement",
        BASE + "measure: {own.sharpness: {}}\n",
        [":3: measure.own.sharpness: measurements: 'own.sharpness' has no function sharpness"],
    ),
    (
        "options null",
        NAME + "trial: {architecture: {name: own.net, 1: null}, dataset: mnist5k, steps: 100}\n",
        [":2: trial.architecture.1: unknown; there are widths, activation"],
    ),
    (
        "key with a line break",
        BASE + '"a\\nb": 1\n',
        [
            ":3: 'a\\nb': unknown; there are name, description, trial, cases, grid, exclude, measure, search, resources, retries"
        ],
    ),
    (
        "anchor in a value",
        NAME + "trial: {architecture: &m mlp, dataset: *m, steps: 1}\n",
        [":2: trial.dataset: datasets: no 'mlp'; there are <datasets> (or a dotted name of your own)"],
    ),
    ("resources list", BASE + "resources: [1]\n", [":3: resources: [1]: must be a mapping"]),
    (
        "gpus tiny",
        BASE + "resources: {gpus: 1e-320}\n",
        [
            ":3: resources.gpus: 1e-320: must be a whole number, or 1/n for n trials on one GPU, such as 0.5 or 0.25"
        ],
    ),
    (
        "classes beyond",
        NAME + "trial: {architecture: mlp, dataset: {name: mnist5k, samples: 0}, steps: 1}\n",
        [":2: trial.dataset.samples: 0: must be a whole number of at least 1 or null"],
    ),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a user's own file."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(lines: list[str]) -> list[str]:
    for kind in find.FUNCTIONS:
        lines = [line.replace(f"<{kind}>", ", ".join(find.names(kind))) for line in lines]
    return [f"s.yaml{line}" for line in lines]


@pytest.mark.parametrize(("text", "lines"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_is_refused(folder: Path, text: str, lines: list[str]) -> None:
    """In process and through the command: each error one line, exit code 2, nothing on stdout, nothing written."""
    Path("s.yaml").write_text(text)
    result = CliRunner().invoke(main, ["plan", "s.yaml"])
    assert result.stderr.splitlines() == expected(lines)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sorted(path.name for path in folder.iterdir()) == ["own.py", "s.yaml"]


def refused(path: str) -> tuple[str, ...]:
    with pytest.raises(SweepError) as error:
        load_sweep(path)
    return error.value.errors


@pytest.mark.usefixtures("folder")
def test_what_is_no_file() -> None:
    Path("latin.yaml").write_bytes("name: Größe\n".encode("latin-1"))
    Path("binary.yaml").write_bytes(bytes(range(128, 256)))
    assert refused("absent.yaml") == ("absent.yaml: no such file",)
    assert refused(".") == (".: not a file",)
    assert refused("latin.yaml") == ("latin.yaml: not UTF-8 text",)
    assert refused("binary.yaml") == ("binary.yaml: not UTF-8 text",)


@pytest.mark.usefixtures("folder")
def test_a_user_file_that_is_no_python() -> None:
    Path("broken.py").write_text("def build(:\n")
    Path("s.yaml").write_text(BASE.replace("mlp", "broken.build"))
    (line,) = refused("s.yaml")
    assert line.startswith("s.yaml:2: trial.architecture: ")
    assert line.endswith("broken.py:1: invalid syntax")


@pytest.mark.usefixtures("folder")
def test_an_architecture_that_cannot_be_built() -> None:
    """It is built only to count its parameters, where there may be fewer of them than eigenpairs."""
    Path("bad_net.py").write_text("def build(shape, classes): raise RuntimeError('first\\n  second')\n")
    text = BASE.replace("mlp", "bad_net.build")
    Path("s.yaml").write_text(f"{text}measure: {{top_eigenpairs: {{count: 785}}}}\n")
    assert refused("s.yaml") == ("s.yaml:2: trial.architecture: cannot be built for mnist5k: first second",)
    Path("s.yaml").write_text(f"{text}measure: {{top_eigenpairs: {{count: 784}}}}\n")
    assert load_sweep("s.yaml").trials


def test_a_call_that_is_wrong() -> None:
    for call in ([], ["plan"], ["plan", "x.yaml", "--no-such-option"], ["no-such-verb"]):
        result = CliRunner().invoke(main, call)
        assert (result.exit_code, result.stdout) == (2, "")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["mlp", "mnist5k", "sgd", "range", "log", "own.net", "", "-", "1e3", "<<", "name"])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "architecture",
                    "dataset",
                    "steps",
                    "seed",
                    "range",
                    "log",
                    "at",
                    "every",
                    "loss",
                    "gpus",
                ]
            )
            | st.text(max_size=2),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "trial", "cases", "grid", "exclude", "measure", "resources", "retries", "description"]
)


def loads_or_refuses(text: str) -> None:
    """Whatever the file, there is a sweep, or there are lines that name the file."""
    Path("s.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        found, lines = load_sweep("s.yaml").trials, ()
    except SweepError as error:
        found, lines = (), error.errors
    assert bool(found) != bool(lines)
    assert all(line.startswith("s.yaml") and line.isprintable() for line in lines)


anything = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.usefixtures("folder")
@anything
@given(st.dictionaries(KEYS, VALUES))
def test_any_values_load_or_are_refused(content: dict[str, object]) -> None:
    base = {"name": "s", "trial": {"architecture": "mlp", "dataset": "mnist5k", "steps": 100}}
    loads_or_refuses(flow(base | content))


@pytest.mark.usefixtures("folder")
@anything
@given(st.data())
def test_any_damage_to_a_file_loads_or_is_refused(data: st.DataObject) -> None:
    """A good file with a few characters replaced."""
    text = (
        BASE
        + "grid:\n  learning_rate: {log: [0.1, 1, 3]}\nmeasure:\n  loss: {at: [0, 50]}\nexclude:\n  - learning_rate: 1\n"
    )
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 5, len(text))))
        text = (
            text[:start]
            + data.draw(st.text(max_size=3) | st.sampled_from(list("&*!{}[]:-?|>%@`,#\t\n")))
            + text[end:]
        )
    loads_or_refuses(text)


@pytest.mark.usefixtures("folder")
@anything
@given(st.text())
def test_any_text_loads_or_is_refused(text: str) -> None:
    loads_or_refuses(text)


def flow(value: object) -> str:
    """A value as YAML in flow style, with numbers as Python writes them."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value).replace("nan", ".nan").replace("inf", ".inf")
    return json.dumps(value)
