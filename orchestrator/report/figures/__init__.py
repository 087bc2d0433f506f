"""One file per kind of figure: `figures(stored) -> Iterator[Figure | Table]`, nothing where its columns are absent or null.

`COLUMNS` names the scalar columns of `measurements` that it draws; `scalars`, which comes last, draws all others.
"""
