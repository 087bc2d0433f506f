"""One file per question asked of a snapshot: a `Record`, whose fields are columns, and `measure(snapshot, *, options)`.

`FOLLOWS` names the measurement at whose steps it is made when the sweep file gives it no schedule of its own; `LEADS`
says that it is made before the others of its step, which go on from its products; `LOSSES` are those it is defined for,
where it is not for all.
`products(classes, **options)` is the number of Hessian-vector products to expect, for `plan`; nothing here imports
torch at the top, because `plan` does not.
"""

from collections.abc import Mapping

from workers import find
from workers.spec import Request


def schedule_of(measure: Mapping[str, Request], name: str) -> Request:
    """The request whose schedule the measurement `name` is made at: its own, or that of what it follows.

    >>> measure = {"top_eigenpairs": Request(every=5), "gradient_overlap": Request()}
    >>> schedule_of(measure, "gradient_overlap").every
    5
    """
    followed = find.constant("measurements", name, "FOLLOWS")
    return measure[name] if measure[name].scheduled else measure.get(followed, measure[name])
