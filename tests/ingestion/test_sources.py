"""The layouts that have adapters: Complete Journey, MovieLens in its three forms, RecBole."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys_assets.core.config import load_shop, packaged_shop
from recsys_assets.ingestion.source import SourceError, open_source
from recsys_assets.ingestion.tabular import TabularSource

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def source_of(folder: Path, source: str, extra: str = "") -> TabularSource:
    (folder / "shop.yaml").write_text(
        f"name: s\nsource: {source}\nrepeats: false\npartitions: {{start: 1995-01-01}}\n{extra}"
    )
    return open_source(load_shop(folder / "shop.yaml"))


def landed(source: TabularSource) -> pd.DataFrame:
    (file,) = (f for f in source.files() if f.role == "interactions")
    frame = source.land(file, NOW)
    assert len(frame) == source.count_rows(file)
    return frame


def attributes(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [json.loads(text) for text in frame["attributes"]]


@pytest.fixture
def journey(tmp_path: Path) -> TabularSource:
    """Three products, of which fuel is none; two households, of which one answered the survey."""
    pd.DataFrame(
        {
            "household_id": [1, 2, 1],
            "store_id": [9, 9, 9],
            "basket_id": [31198570044, 31198570045, 31198570046],
            "product_id": [10, 20, 30],
            "quantity": [2, 0, 5],
            "sales_value": [3.0, 0.0, 9.0],
            "retail_disc": [0.5, 0.0, 0.0],
            "coupon_disc": [0.25, 0.0, 0.0],
            "coupon_match_disc": [0.25, 0.0, 0.0],
            "week": [1, 1, 1],
            "transaction_timestamp": pd.to_datetime(["2017-01-02 03:00"] * 3),
        }
    ).to_parquet(tmp_path / "transactions.parquet")
    pd.DataFrame(
        {
            "product_id": [10, 20, 30],
            "manufacturer_id": [7, 7, 7],
            "department": ["GROCERY", "GROCERY", "FUEL"],
            "brand": ["National", "Private", "Private"],
            "product_category": ["TEA", None, "FUEL"],
            "product_type": ["GREEN TEA", None, "GAS"],
            "package_size": ["2 OZ", None, None],
        }
    ).to_parquet(tmp_path / "products.parquet")
    pd.DataFrame(
        {
            "household_id": [2],
            "age": ["65+"],
            "income": ["35-49K"],
            "home_ownership": [None],
            "marital_status": [None],
            "household_size": ["2"],
            "household_comp": [None],
            "kids_count": ["0"],
        }
    ).to_parquet(tmp_path / "demographics.parquet")
    return source_of(
        tmp_path,
        "{kind: complete_journey, path: .}",
        "time_zone: America/New_York\ntimestamps_are: UTC\n",
    )


def test_journey_prices_are_shelf_prices_and_zero_quantity_is_a_return(
    journey: TabularSource,
) -> None:
    frame = landed(journey)
    assert frame["event_type"].tolist() == ["purchase", "return", "purchase"]
    assert frame["price"].tolist()[0] == pytest.approx((3 + 0.5 + 0.25) / 2)
    assert pd.isna(frame["price"][1])
    assert frame["discount"].tolist() == [1.0, 0.0, 0.0]
    assert frame["session_id"].tolist()[0] == "31198570044"
    assert frame["reject_reason"].isna().all(), "fuel is accepted here; the catalogue decides later"


def test_journey_times_are_utc_and_its_days_are_american(
    journey: TabularSource, tmp_path: Path
) -> None:
    times = landed(journey)["event_time"]
    assert times.tolist()[0] == pd.Timestamp("2017-01-02 03:00", tz="UTC")
    local = times.dt.tz_convert(load_shop(tmp_path / "shop.yaml").time_zone)
    assert local.dt.date.tolist() == [date(2017, 1, 1)] * 3


def test_journey_catalogue_follows_the_written_rule_and_counts_what_it_drops(
    journey: TabularSource,
) -> None:
    items, rejects = journey.items(NOW)
    assert items["item_id"].tolist() == ["10", "20"]
    assert items["title"].tolist() == ["Green Tea 2 Oz", "Grocery"]
    assert items["text"].tolist() == [
        "GROCERY > TEA > GREEN TEA | National | 2 OZ",
        "GROCERY >  >  | Private | ",
    ]
    assert attributes(items)[1] == {"brand_type": "Private"}
    assert rejects["reject_reason"].tolist() == ["excluded by rule: 'department is FUEL'"]


def test_journey_households_without_a_survey_are_users_too(journey: TabularSource) -> None:
    users, _ = journey.users(NOW)
    assert users["user_id"].tolist() == ["1", "2"]
    assert [a.get("age") for a in attributes(users)] == [None, "65+"]


def test_journey_promotions_are_weeks_with_the_share_of_stores(
    journey: TabularSource, tmp_path: Path
) -> None:
    assert journey.promotions()[0].empty  # the file may be absent
    pd.DataFrame(
        {
            "product_id": ["10", "10", "10", "20", "20"],
            "store_id": ["1", "1", "2", "2", "1"],
            "display_location": ["9", "7", "0", "0", "1"],
            "mailer_location": ["A", "A", "0", "0", "H"],
            "week": ["2", "2", "2", "2", "3"],
        }
    ).to_parquet(tmp_path / "promotions.parquet")
    made, rejects = open_source(load_shop(tmp_path / "shop.yaml")).promotions()
    assert rejects.empty
    # In week 2 two stores are listed; product 20 is in neither leaflet nor display there.
    assert made[["item_id", "kind", "reach"]].to_numpy().tolist() == [
        ["10", "display", 0.5],
        ["10", "feature", 0.5],
        ["20", "display", 1.0],
        ["20", "feature", 1.0],
    ]
    monday = pd.Timestamp("2017-01-02 05:00", tz="UTC")  # midnight of the stores
    week = pd.Timedelta(days=7)
    assert made["starts_at"].tolist() == [monday] * 2 + [monday + week] * 2
    assert (made["ends_at"] - made["starts_at"] == week).all()
    assert (made["known_from"] == made["starts_at"]).all()

    text = (tmp_path / "shop.yaml").read_text(encoding="utf-8")
    text = text.replace("kind: complete_journey", "kind: complete_journey, plans_known_days: 7")
    (tmp_path / "shop.yaml").write_text(text, encoding="utf-8")
    made, _ = open_source(load_shop(tmp_path / "shop.yaml")).promotions()
    assert (made["starts_at"] - made["known_from"] == week).all()


def test_the_packaged_shop_finds_the_installed_data() -> None:
    source = open_source(load_shop(packaged_shop()))
    counts = {f.role: source.count_rows(f) for f in source.files()}
    assert counts == {
        "interactions": 1_469_307,
        "items": 92_331,
        "users": 801,
        "promotions": 20_940_529,
    }
    assert source.check() == ["transactions.parquet: ignored columns week"]


def write_100k(folder: Path) -> None:
    (folder / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t5\t891717742\n")
    flags = "0|0|0|1|1|1" + "|0" * 13
    (folder / "u.item").write_bytes(
        f"242|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1")
    )
    (folder / "u.user").write_text("196|49|M|writer|55105\n")


def write_1m(folder: Path) -> None:
    (folder / "ratings.dat").write_text("196::242::3::881250949\n186::302::5::891717742\n")
    (folder / "movies.dat").write_bytes(
        "242::Misérables, Les (1995)::Animation|Children's|Comedy\n".encode("latin-1")
    )
    (folder / "users.dat").write_text("196::M::49::20::55105\n")


def write_csv(folder: Path) -> None:
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n196,242,3.0,881250949\n186,302,5.0,891717742\n"
    )
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n242,"Misérables, Les (1995)",Animation|Children\'s|Comedy\n'
        "7,Untitled,(no genres listed)\n",
        encoding="utf-8",
    )


@pytest.mark.parametrize("write", [write_100k, write_1m, write_csv])
def test_every_movielens_layout_tells_the_same_story(tmp_path: Path, write: object) -> None:
    assert callable(write)
    write(tmp_path)
    source = source_of(tmp_path, "{kind: movielens, path: .}")
    source.check()
    frame = landed(source)
    assert frame["user_id"].tolist() == ["196", "186"]
    assert frame["event_type"].tolist() == ["neutral", "like"]
    assert frame["weight"].tolist() == [3, 5]
    assert frame["event_time"].tolist()[0] == pd.Timestamp("1997-12-04 15:55:49", tz="UTC")
    items, rejects = source.items(NOW)
    film = items[items["item_id"] == "242"].to_dict("records")[0]
    assert film["title"] == "Misérables, Les (1995)"
    assert [film[f"category_{n}"] for n in (1, 2, 3)] == ["Animation", "Children's", "Comedy"]
    assert film["text"] == "Misérables, Les (1995) | Animation, Children's, Comedy"
    assert json.loads(film["attributes"])["year"] == "1995"
    assert len(rejects) == 0


def test_movielens_genres_may_be_missing_and_users_too(tmp_path: Path) -> None:
    write_csv(tmp_path)
    source = source_of(tmp_path, "{kind: movielens, path: .}")
    items, _ = source.items(NOW)
    assert items[items["item_id"] == "7"]["text"].tolist() == ["Untitled"]
    assert items[items["item_id"] == "7"]["category_1"].isna().all()
    assert len(source.users(NOW)[0]) == 0


def test_a_folder_that_is_no_movielens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected exactly one of u\.data"):
        source_of(tmp_path, "{kind: movielens, path: .}")


def test_recbole_atomic_files_keep_unmapped_fields_as_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recbole_stub" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (tmp_path / "recbole_stub" / "__init__.py").write_text("raise ImportError('never imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (folder / "ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\t242\t2\t881250949\n"
    )
    (folder / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "242\tToy Story\t1995\tAnimation Children's Comedy\n"
    )
    (folder / "ml.user").write_text("user_id:token\tage:token\n007\t24\n")
    text = packaged_shop("movielens_100k").read_text(encoding="utf-8")
    text = text.replace("package: recbole", "package: recbole_stub")
    (tmp_path / "shop.yaml").write_text(text, encoding="utf-8")
    source = open_source(load_shop(tmp_path / "shop.yaml"))
    assert source.check() == []
    frame = landed(source)
    assert frame[["user_id", "event_type", "weight"]].to_numpy().tolist() == [["007", "dislike", 2]]
    items, _ = source.items(NOW)
    assert items[["title", "category_2"]].to_numpy().tolist() == [["Toy Story", "Children's"]]
    assert attributes(items) == [{"release_year": "1995"}]
    assert attributes(source.users(NOW)[0]) == [{"age": "24"}]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no_such_package is not .* remove source\.package"):
        source_of(tmp_path, "{kind: atomic, path: data, package: no_such_package}")
