"""Commands of `recsys`, a module per topic; `cli.py` registers each with one line."""
