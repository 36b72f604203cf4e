"""Sections of the shop file that belong to one topic each; `core/config.py` composes them.

A new section is one module here (its pydantic models, with defaults that work, so that a shop of
one's own stays near ten lines, and a docstring per key that is not obvious) and one line in `Shop`.
"""
