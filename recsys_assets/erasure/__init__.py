"""Forgetting a user: every store of a home, rewritten without them, and a search that proves it.

Who was erased is in `core.erasures`; what is delivered later is held back in `ingestion`.
"""
