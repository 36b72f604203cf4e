"""Commands of `recsys`, a module per topic; `cli.py` registers each with one line.

What they print is mostly somebody's data, so no console reads markup in a text.
"""
