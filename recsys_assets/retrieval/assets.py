"""Retrieval assets."""

from recsys_assets.core.assets import GatedAsset

ASSETS: list[GatedAsset] = []
