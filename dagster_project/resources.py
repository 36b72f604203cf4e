"""Resource instances and the environment variables behind them. Classes live in `recsys_assets`.

Commands that only read the lake start in half the time because Dagster is loaded where a project is
made, not here.
"""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_assets.core.config import ConfigError, packaged_shop
from recsys_assets.language_model.client import LanguageModel, connect

if TYPE_CHECKING:
    from recsys_assets.core.assets import Project

HOME = "RECSYS_HOME"
SHOP = "RECSYS_SHOP"
VECTOR_STORE = "RECSYS_VECTOR_STORE"
WEAVIATE_URL = "WEAVIATE_URL"
WEAVIATE_GRPC_PORT = "WEAVIATE_GRPC_PORT"


def home() -> Path:
    """Folder of the lake and of Dagster's own storage: $RECSYS_HOME, or ./.recsys."""
    return Path(os.environ.get(HOME) or ".recsys").resolve()


def shop_file() -> Path:
    """The shop's YAML file: $RECSYS_SHOP, or the packaged Complete Journey."""
    configured = os.environ.get(SHOP)
    return Path(configured).resolve() if configured else packaged_shop()


def language_model(command: str) -> LanguageModel | None:
    """The language model for one call of a command; None without a key or when it is off."""
    return connect(home(), project().shop.language_model, f"{command} {uuid.uuid4().hex}", command)


def project() -> "Project":
    """The project resource of this process."""
    from recsys_assets.core.assets import Project

    return Project(
        home=str(home()),
        shop_file=str(shop_file()),
        vector_store=os.environ.get(VECTOR_STORE) or "embedded",
        weaviate_url=os.environ.get(WEAVIATE_URL) or "",
        weaviate_grpc_port=_port(WEAVIATE_GRPC_PORT, 50051),
    )


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise ConfigError(f"{variable} is {text!r}: set it to a port, a number from 1 to 65535")
    return int(text)
