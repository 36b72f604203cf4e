"""Everything that reads what is served: the exact tables of the promoted release, never newer ones.

Belongs here: finding rows of the served release. Does not belong here: laying them out (the command
line does), changing what is served (`releases.py`).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.core.lake import Lake, LakeError, Snapshot
from recsys_assets.publishing.releases import SHORT, Manifest, Releases

LISTS = ("recommendations", "popular_recommendations")
"""Tables whose rows name the build that made them; whoever gets them gets the release as well."""
REFUSED_ROWS = ("quarantine", "rejected_entities")
"""Tables that show what is wrong with the newest files, perhaps the cause that none is served."""


@dataclass(frozen=True)
class Served:
    """One release as people see it: fixed when it is opened, whatever is promoted meanwhile."""

    releases: Releases
    manifest: Manifest
    _reading: IO[str] = field(repr=False, compare=False)
    """Open for as long as this is used: so long nothing of the release is deleted."""

    @classmethod
    def open(cls, lake: Lake) -> "Served":
        """The release that is served now. Raises ReleaseError when there is none."""
        reading = lake.reading()
        releases = Releases(lake)
        return cls(releases, releases.live(), reading)

    @property
    def release_id(self) -> str:
        """The id people are shown and exposures log."""
        return self.manifest.release_id[:SHORT]

    @property
    def as_of(self) -> pd.Timestamp:
        """The served lists know everything before this moment."""
        return pd.Timestamp(self.manifest.facts["as_of"])

    def table(self, asset: str) -> Snapshot:
        """A table of this release."""
        return self.releases.table(self.manifest, asset)

    def page(self) -> str:
        """The report page of what is served as HTML: the newest one that was made of its
        scoreboard, since the studies end after the release; else the one of the release."""
        newest = self.releases.lake.served("report_page")
        made_of = {version.key.inputs.get("scoreboard") for version in newest.versions}
        same = made_of == {self.table("scoreboard").content_id}
        page = newest if same else self.table("report_page")
        return str(page.to_arrow()["html"][0].as_py())

    def rows(self, asset: str) -> pa.Table:
        """All rows of a table of this release; lists carry their `release_id`."""
        return self._named(asset, self.table(asset).to_arrow())

    def lists(self, user_id: str) -> tuple[pd.DataFrame, bool]:
        """What to show to a user, and whether the release knows them.

        Somebody unknown gets what is popular; somebody known of whom every item was taken before or
        is ruled out gets nothing. Columns as `recommendations`, with `release_id`.
        """
        rows = self.where("recommendations", "user_id", user_id)
        if rows.num_rows or self._knows(user_id):
            return rows.to_pandas(), True
        return self.rows("popular_recommendations").to_pandas(), False

    def _knows(self, user_id: str) -> bool:
        if "users" not in self.manifest.tables:
            return False
        return self.where("users", "user_id", user_id).num_rows > 0

    def related(self, asset: str, item_id: str) -> pd.DataFrame:
        """The rows of an item-to-item table for one item, best first."""
        return self.where(asset, "item_id", item_id).to_pandas()

    def title(self, item_id: str) -> str:
        """Raises LakeError for an item that the release's catalogue does not have."""
        if item_id not in self._titles.index:
            raise LakeError(f"item {item_id!r} is not in the catalogue")
        return str(self._titles[item_id])

    def lacks(self, item_id: str) -> bool:
        """Whether the newest approved catalogue has an item that this release's does not."""
        if item_id in self._titles.index:
            return False
        newest = self.releases.lake.served("items")
        return newest.where("item_id", item_id, columns=["item_id"]).num_rows > 0

    def titles(self, item_ids: "pd.Series[str]") -> dict[str, str]:
        """Titles of those of the items that are in the catalogue."""
        found = self._titles[self._titles.index.isin(item_ids)]
        return dict(zip(found.index.astype(str), found.astype(str), strict=True))

    def items(self, item_ids: "pd.Series[str]") -> pd.DataFrame:
        """Title and categories of items of the release's catalogue, by item id."""
        columns = ["item_id", "title", "category_1", "category_2", "category_3"]
        catalogue = self.table("items").to_arrow(columns)
        wanted = pc.is_in(catalogue["item_id"], value_set=pa.array(item_ids, pa.string()))
        return catalogue.filter(wanted).to_pandas().set_index("item_id")

    def where(self, asset: str, column: str, value: str, part: str | None = None) -> pa.Table:
        """The rows of a table of this release that hold `value`."""
        return self._named(asset, self.table(asset).where(column, value, part))

    def _named(self, asset: str, rows: pa.Table) -> pa.Table:
        if asset not in LISTS:
            return rows
        return rows.append_column("release_id", pa.array([self.release_id] * rows.num_rows))

    @cached_property
    def _titles(self) -> "pd.Series[str]":
        items = self.table("items").to_arrow(["item_id", "title"])
        return items.to_pandas().set_index("item_id")["title"]


def exported(lake: Lake, table: str) -> pa.Table:
    """All rows of a table: the served release's, or, of a table about releases, the approved ones.
    Of refused rows the newest ones, approved or not.

    Raises LakeError when there is no such table.
    """
    if table in REFUSED_ROWS and lake.entries(table):
        with lake.reading():
            return lake.newest(table).to_arrow()
    released = Releases(lake).state().live
    if released:
        served = Served.open(lake)
        if table in served.manifest.tables:
            return served.rows(table)
    if table not in lake.assets():
        raise LakeError(f"there is no table {table!r}: `recsys status` names them")
    return lake.read(table).to_arrow()


def formula_safe(data: pa.Table) -> pa.Table:
    """Texts that a spreadsheet would run get a leading apostrophe; vectors become JSON texts."""
    for place, described in enumerate(data.schema):
        column = data.column(place)
        if pa.types.is_list(described.type):
            column = pa.chunked_array([pa.array([str(v) for v in column.to_pylist()])])
        elif pa.types.is_string(described.type) or pa.types.is_large_string(described.type):
            column = column.cast(pa.string())
            first = pc.utf8_slice_codeunits(column, 0, 1)
            risky = pc.is_in(first, value_set=pa.array(FORMULA_START))
            quoted = pc.binary_join_element_wise(pa.scalar("'"), column, "")
            column = pc.if_else(risky, quoted, column)
        else:
            continue
        data = data.set_column(place, described.name, column)
    return data


FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet run a text cell as a formula (CWE-1236), the full-width
forms of East Asian keyboards too."""
