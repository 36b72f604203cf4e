"""RecBole's atomic files: tab-separated, with headers such as `user_id:token`.

Belongs here: which of the folder's files is which table. Does not belong here: the types in the
headers (ids are texts, whatever a header says) and RecBole itself, which is never imported.
"""

from functools import partial

from recsys_assets.core.config import Shop
from recsys_assets.core.settings.sources import AtomicSource
from recsys_assets.ingestion.contract import ItemRules, UserRules
from recsys_assets.ingestion.delimited import Dialect
from recsys_assets.ingestion.parsing import TimeFormat
from recsys_assets.ingestion.source import SourceError, package_folder
from recsys_assets.ingestion.tabular import TableSpec, TabularSource, interaction_rules

_DIALECT = Dialect("\t", None, "utf-8", typed_names=True)


def atomic_source(shop: Shop, config: AtomicSource) -> TabularSource:
    """`NAME.inter` and `NAME.item`, and `NAME.user` where there is one."""
    root = shop.resolve(config.path)
    if config.package is not None:
        otherwise = "remove source.package and let source.path name a folder"
        root = package_folder(config.package, otherwise) / config.path
    name = config.dataset
    if name is None:
        found = sorted(path.stem for path in root.glob("*.inter"))
        if len(found) != 1:
            raise SourceError(
                f"{root}: expected one .inter file there, found {', '.join(found) or 'none'}; "
                "correct source.path or set source.dataset"
            )
        (name,) = found
    table = partial(TableSpec, root=root, dialect=_DIALECT, parquet=False)
    events = {
        "user_id": config.user_field,
        "item_id": config.item_field,
        "event_time": config.time_field,
    }
    if rated := config.rating_field is not None:
        events["weight"] = config.rating_field
    tables = [
        table(
            role="interactions",
            pattern=root / f"{name}.inter",
            rules=interaction_rules(
                shop,
                event_type=None if rated else config.event_type,
                rating=config.rating if rated else None,
                time_format=TimeFormat(config.time_format, shop.naive_zone),
            ),
            columns=events,
        ),
        table(
            role="items",
            pattern=root / f"{name}.item",
            rules=ItemRules(category_separator=config.category_separator),
            columns={
                "item_id": config.item_field,
                **{str(n): c for n, c in config.item_columns.items()},
            },
            attributes=None,
        ),
    ]
    if (root / f"{name}.user").is_file():
        tables.append(
            table(
                role="users",
                pattern=root / f"{name}.user",
                rules=UserRules(),
                columns={"user_id": config.user_field},
                attributes=None,
            )
        )
    return TabularSource(tables)
