"""A shop of one's own: CSV or Parquet files with a column mapping from the shop's YAML file.

Belongs here: translating `FilesSource` into tables. Does not belong here: reading.
"""

from pathlib import Path
from typing import get_args

from recsys_assets.core.config import Shop
from recsys_assets.core.settings.sources import (
    AnswerColumn,
    AnswerTable,
    ExposureColumn,
    ExposureTable,
    FilesSource,
    InteractionColumn,
    InteractionTable,
    ItemColumn,
    ItemTable,
    PromotionColumn,
    PromotionTable,
    UserColumn,
    UserTable,
)
from recsys_assets.ingestion.arrivals import ArrivalLedger, Inbox, LocalInbox
from recsys_assets.ingestion.contract import (
    AnswerRules,
    ExposureRules,
    ItemRules,
    PromotionRules,
    UserRules,
)
from recsys_assets.ingestion.delimited import Dialect
from recsys_assets.ingestion.object_store import StoreInbox, is_stored
from recsys_assets.ingestion.parsing import NumberFormat, TimeFormat
from recsys_assets.ingestion.source import Role
from recsys_assets.ingestion.tabular import RowRules, TableSpec, TabularSource, interaction_rules

Table = InteractionTable | ItemTable | UserTable | ExposureTable | PromotionTable | AnswerTable


def files_source(shop: Shop, config: FilesSource, home: Path | None = None) -> TabularSource:
    """The tables of the configuration, in its order; see `source.open_source` for `home`."""
    tables = _specs(shop, config)
    if shop.arrival is None or home is None:
        return TabularSource(tables)
    return TabularSource(tables, ledger_of(home).source_files())


def ledger_of(home: Path) -> ArrivalLedger:
    """The record of arrivals below a home."""
    return ArrivalLedger(home / "arrivals")


def inboxes_of(shop: Shop) -> list[Inbox]:
    """The places that `shop` watches: its folders, then its object store."""
    if shop.arrival is None or not isinstance(shop.source, FilesSource):
        return []
    watched = [table.watched() for table in _specs(shop, shop.source)]
    stored = tuple(w for w in watched if is_stored(w))
    folders = tuple(w for w in watched if not is_stored(w))
    found: list[Inbox] = []
    if folders:
        found.append(LocalInbox(shop.file.parent, folders, shop.arrival))
    if stored:
        found.append(StoreInbox(stored, shop.arrival))
    return found


def _specs(shop: Shop, config: FilesSource) -> list[TableSpec]:
    return [
        *(_spec(shop, "interactions", table) for table in config.interactions),
        *(_spec(shop, "items", table) for table in config.items),
        *(_spec(shop, "users", table) for table in config.users),
        *(_spec(shop, "exposures", table) for table in config.exposures),
        *(_spec(shop, "promotions", table) for table in config.promotions),
        *(_spec(shop, "onboarding_answers", table) for table in config.onboarding_answers),
    ]


def _spec(shop: Shop, role: Role, table: Table) -> TableSpec:
    nulls = tuple(table.null_values)
    numbers = NumberFormat(table.decimal, table.thousands, nulls)
    times = TimeFormat(table.time_format, shop.naive_zone, nulls)
    attributes: tuple[str, ...] = ()
    rules: RowRules
    if isinstance(table, InteractionTable):
        names = get_args(InteractionColumn)
        rules = interaction_rules(
            shop,
            event_type=table.event_type,
            event_values=table.event_values,
            negative_quantity=table.negative_quantity,
            rating=table.rating,
            identical_rows=table.identical_rows,
            number_format=numbers,
            time_format=times,
        )
    elif isinstance(table, ItemTable):
        names = get_args(ItemColumn)
        attributes = tuple(table.attributes)
        rules = ItemRules(numbers, times, table.category_separator)
    elif isinstance(table, UserTable):
        names = get_args(UserColumn)
        attributes = tuple(table.attributes)
        rules = UserRules(nulls)
    elif isinstance(table, PromotionTable):
        names = get_args(PromotionColumn)
        rules = PromotionRules(numbers, times)
    elif isinstance(table, AnswerTable):
        names = get_args(AnswerColumn)
        rules = AnswerRules(times, shop.plausible, nulls)
    else:
        names = get_args(ExposureColumn)
        rules = ExposureRules(numbers, times, shop.plausible)
    columns = {str(ours): theirs for ours, theirs in table.columns.items() if theirs is not None}
    same_name = frozenset(names) - set(table.columns)
    if "event_id" in (columns.get("user_id"), columns.get("item_id")):
        same_name -= {"event_id"}  # a concert that was sold, say, and not the sale
    return TableSpec(
        role=role,
        root=Path() if table.in_store else shop.file.parent,
        pattern=Path(table.path) if table.in_store else shop.resolve(table.path),
        rules=rules,
        columns=columns,
        same_name=same_name,
        dialect=Dialect(
            delimiter=table.delimiter,
            quote=table.quote,
            encoding=table.encoding,
            header=None if table.header is None else tuple(table.header),
            newlines_in_values=table.newlines_in_values,
        ),
        parquet={"auto": None, "csv": False, "parquet": True}[table.format],
        attributes=attributes,
    )
