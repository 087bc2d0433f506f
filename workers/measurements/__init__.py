"""One file per question asked of a snapshot: a `Record`, whose fields are columns, and `measure(snapshot, *, options)`.

`FOLLOWS` names the measurement at whose steps it is made when the sweep file gives it no schedule of its own.
`products(classes, **options)` is the number of Hessian-vector products to expect, for `plan`; nothing here imports
torch at the top, because `plan` does not.
"""
