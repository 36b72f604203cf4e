"""Two recipes meet where both were fitted at one cutoff; what knows more is never compared."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.core.config import Shop, load_shop
from recsys_assets.core.lake import Lake, Snapshot, VersionKey, part_name
from recsys_assets.core.metrics import seeded_sample
from recsys_assets.publishing import evidence, gate, manifest
from recsys_assets.publishing.evidence import ReleaseEvidence
from recsys_assets.publishing.refit import RefitError
from recsys_assets.publishing.releases import RELEASE, Releases
from recsys_assets.publishing.verdict import RECIPE, judge
from recsys_assets.ranking.features import feature_names
from recsys_assets.ranking.ranker import RankerModel, feature_spec

KEY = VersionKey(code="c", config="", libraries="l", inputs={})
USERS = [f"u{n:03d}" for n in range(60)]
EARLY, LATE = (pd.Timestamp(d, tz="UTC") for d in ("2024-02-05", "2024-02-12"))
LIVE = pd.Timestamp("2024-03-18", tz="UTC")


def only(reasons: list[str]) -> str:
    (reason,) = reasons
    return reason


def never() -> Snapshot:
    raise AssertionError("nothing had to be fitted again")


@pytest.fixture
def shop(shop_file: Path) -> Shop:
    text = "releases: {gate: {min_users: 20, must_beat: [popularity_7d]}}\n"
    shop_file.write_text(shop_file.read_text() + text)
    return load_shop(shop_file)


class Made:
    """Releases of a shop of sixty users; each takes item `right` after the evaluate cutoff."""

    def __init__(self, root: Path, shop: Shop) -> None:
        self.lake, self.shop = Lake(root), shop
        self.simpler = {"popularity_7d": 0}
        """Models that are simpler, and for how many users they find the right item."""

    def lists(self, as_of: pd.Timestamp, hits: int) -> Snapshot:
        """Lists of ours that find the right item for the first `hits` users."""
        rows = [
            ("all", model, 7, user, 1, "right" if n < found else "wrong")
            for model, found in {"ours": hits, **self.simpler}.items()
            for n, user in enumerate(USERS)
        ]
        frame = pd.DataFrame(
            rows, columns=["task", "model", "seed", "user_id", "rank", "item_id"]
        ).assign(as_of=as_of, score=1.0)
        return self.store("evaluation_lists", frame)

    def store(self, asset: str, frame: pd.DataFrame, part: str = "") -> Snapshot:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return self.lake.of_version(self.lake.store(asset, [(part, table)], KEY))

    def rankers(self, targets: Sequence[str]) -> Snapshot:
        features = tuple(feature_names(["user_id", "item_id"]))
        model = RankerModel("all", (), features, {}, {}, {}).to_json()
        made = pd.DataFrame({"target": targets, "task": "all"})
        spec = feature_spec(features)
        return self.store("rankers", made.assign(model=model, feature_spec=spec))

    def release(
        self,
        as_of: pd.Timestamp | None,
        hits: int,
        recipe: str,
        *,
        ranked: Sequence[str] = ("evaluate", "live"),
        scores: Sequence[float] = (0.0, 1.0),
        discover: str | Sequence[str] = "right",
        discover_by: str = "ranker",
    ) -> ReleaseEvidence:
        pairs = pd.DataFrame({"user_id": USERS, "item_id": "right", "is_new": False})
        events = pd.DataFrame(
            {
                "user_id": USERS,
                "session_id": "s",
                "counts_as_taken": True,
                "event_time": EARLY - pd.Timedelta(days=9),
            }
        )
        shown = pd.DataFrame({"user_id": USERS, "item_id": "right", "rank": 1, "policy": "ranker"})
        unseen = shown.assign(placement="discover", item_id=discover, policy=discover_by)
        both = pd.concat([shown.assign(placement="for_you"), unseen])
        moments = [(LIVE, "live"), *([(as_of, "evaluate")] if as_of is not None else [])]
        named = [
            self.store("cutoffs", pd.DataFrame(moments, columns=["as_of", "target"])),
            self.store("labels", pairs, part_name(as_of) if as_of is not None else "none"),
            self.store("interactions", events),
            self.store("users", pd.DataFrame({"user_id": USERS})),
            self.store("recommendations", both),
            self.store("scored_candidates", pd.DataFrame({"score_all": scores}), part_name(LIVE)),
            self.store("candidates", pd.DataFrame({"user_id": USERS, "item_id": "right"})),
            self.rankers(ranked),
            self.lists(as_of or EARLY, hits),
        ]
        rows = manifest.table_rows({s.asset: s for s in named})
        facts = {
            "recipe": recipe,
            "as_of": part_name(LIVE),
            "evaluate_as_of": "" if as_of is None else part_name(as_of),
        }
        rows += [manifest.row("fact", name, "", value) for name, value in facts.items()]
        version = self.lake.store(RELEASE, [("", pa.Table.from_pylist(rows))], KEY)
        releases = Releases(self.lake)
        return ReleaseEvidence(releases, releases.manifest(version.id))

    def with_training_rows(self, rows: pd.DataFrame) -> ReleaseEvidence:
        """A release of nothing else, whose last label window has these rows."""
        plan = pd.DataFrame({"target": ["evaluate"], "window_as_of": [EARLY]})
        return self.of(
            self.store("fits", plan), self.store("training_rows", rows, part_name(EARLY))
        )

    def of(self, *named: Snapshot) -> ReleaseEvidence:
        """A release of these tables."""
        text = pa.Table.from_pylist(manifest.table_rows({s.asset: s for s in named}))
        version = self.lake.store(RELEASE, [("", text)], KEY)
        releases = Releases(self.lake)
        return ReleaseEvidence(releases, releases.manifest(version.id))

    def verdict(
        self,
        new: ReleaseEvidence,
        served: ReleaseEvidence | None,
        refit: Callable[[], Snapshot] = never,
    ) -> tuple[list[str], dict[str, str]]:
        found = judge(new, served, self.shop, ["for_you", "discover"], refit)
        return gate.blocking(found), {c.name: c.text for c in found if c.subject == "all"}


@pytest.fixture
def made(tmp_path: Path, shop: Shop) -> Made:
    return Made(tmp_path / "lake", shop)


def test_a_first_release_that_beats_the_baseline_may_be_served(made: Made) -> None:
    reasons, texts = made.verdict(made.release(EARLY, hits=30, recipe="r"), None)
    assert reasons == []
    assert "nothing is served yet" in texts["first release"]


@pytest.mark.parametrize("yardstick", ["personal_frequency", "retriever: ease"])
def test_a_lead_too_good_to_be_true_is_held_whatever_the_shop_wants_beaten(
    made: Made, yardstick: str
) -> None:
    made.shop = made.shop.model_copy(update={"repeats": True})
    made.simpler |= {yardstick: 12}
    (reason,) = made.verdict(made.release(EARLY, hits=60, recipe="r"), None)[0]
    assert f"+400.0% against {yardstick}" in reason
    assert made.verdict(made.release(EARLY, hits=18, recipe="r"), None)[0] == []


def test_the_same_recipe_may_not_suddenly_lead_by_much_more(made: Made) -> None:
    made.simpler |= {"retriever: ease": 40}
    served = made.release(EARLY, hits=40, recipe="r")
    (reason,) = made.verdict(made.release(LATE, hits=56, recipe="r"), served)[0]
    assert "+40.0% against its own lead over the best retriever before" in reason


def test_what_the_served_release_did_not_beat_either_holds_the_same_recipe_only_beyond_noise(
    made: Made,
) -> None:
    made.simpler |= {"popularity_7d": 31}
    served = made.release(EARLY, hits=30, recipe="r")  # a first one must not be shown to be worse
    assert made.verdict(served, None)[0] == []
    assert made.verdict(made.release(LATE, hits=30, recipe="r"), served)[0] == []
    changed = only(made.verdict(made.release(EARLY, hits=30, recipe="s"), served)[0])
    assert "against popularity_7d; its mean must be higher" in changed
    worse = only(made.verdict(made.release(LATE, hits=20, recipe="r"), served)[0])
    assert "against popularity_7d; it must not be shown to be worse" in worse
    made.simpler |= {"popularity_7d": 29}
    ahead = made.release(EARLY, hits=30, recipe="r")
    made.simpler |= {"popularity_7d": 31}
    fell = only(made.verdict(made.release(LATE, hits=30, recipe="r"), ahead)[0])
    assert "its mean must be higher" in fell


def test_at_the_same_cutoff_the_lists_of_both_releases_meet(made: Made) -> None:
    served = made.release(EARLY, hits=30, recipe="r")
    assert made.verdict(made.release(EARLY, hits=30, recipe="r"), served)[0] == []
    worse = made.verdict(made.release(EARLY, hits=10, recipe="r"), served)[0]
    assert any("must be shown to be less than 0.01 worse" in r for r in worse)


def test_each_placement_that_everybody_gets_is_held_beside_what_it_shows_now(made: Made) -> None:
    own = USERS  # to each an item of their own
    served = made.release(EARLY, hits=30, recipe="r", discover=own)
    assert made.verdict(made.release(EARLY, hits=30, recipe="r", discover=own), served)[0] == []
    fewer, other = made.verdict(made.release(EARLY, hits=30, recipe="r"), served)[0]
    assert fewer.startswith("discover: 1 different items are shown, 2% of the 60")
    assert other.startswith("discover: 0% of the first 10 items were shown to the same user")


def test_a_list_that_something_else_orders_now_may_show_other_things(made: Made) -> None:
    """What was chosen on tune, or a shop's first ranker, would be held for good otherwise."""
    served = made.release(EARLY, hits=30, recipe="r", discover=USERS)
    simpler = made.release(EARLY, hits=30, recipe="r", discover_by="stand_in")
    assert made.verdict(simpler, served)[0] == []
    assert len(made.verdict(made.release(EARLY, hits=30, recipe="r"), served)[0]) == 2
    young = made.release(EARLY, hits=30, recipe="r", discover=USERS, ranked=[])
    assert made.verdict(made.release(EARLY, hits=30, recipe="r"), young)[0] == []


def test_a_change_of_code_that_changes_no_list_counts_as_unchanged(made: Made) -> None:
    served = made.release(EARLY, hits=30, recipe="old code")
    assert made.verdict(made.release(EARLY, hits=30, recipe="new code"), served)[0] == []


def test_the_same_recipe_at_a_new_cutoff_is_not_compared_with_lists_of_another_one(
    made: Made,
) -> None:
    served = made.release(EARLY, hits=50, recipe="r")
    reasons, texts = made.verdict(made.release(LATE, hits=30, recipe="r"), served)
    assert reasons == []
    assert "would meet itself" in texts[RECIPE]


def test_a_changed_recipe_at_a_new_cutoff_goes_back_to_the_cutoff_of_what_is_served(
    made: Made,
) -> None:
    served = made.release(EARLY, hits=30, recipe="old")
    new = made.release(LATE, hits=60, recipe="new")  # an easier month says nothing
    reasons, _ = made.verdict(new, served, lambda: made.lists(EARLY, hits=20))
    assert any("must be shown to be better" in r for r in reasons)
    assert made.verdict(new, served, lambda: made.lists(EARLY, hits=38))[0] == []


def test_a_recipe_that_goes_back_to_another_cutoff_is_blocked_and_not_measured(made: Made) -> None:
    """Another weekday or horizon of `cutoffs`: its lists may know what they are measured by."""
    served = made.release(EARLY, hits=30, recipe="old")
    new = made.release(LATE, hits=30, recipe="new")
    reason = only(made.verdict(new, served, lambda: made.lists(LATE, hits=38))[0])
    assert "measured at 2024-02-12T00:00Z, what is served was at 2024-02-05T00:00Z" in reason
    nothing = made.lists(EARLY, hits=0).to_pandas().iloc[:0]
    reason = only(made.verdict(new, served, lambda: made.store("evaluation_lists", nothing))[0])
    assert "measured at no cutoff" in reason


def test_a_recipe_that_cannot_go_back_is_blocked_and_says_why(made: Made) -> None:
    def broken() -> Snapshot:
        raise RefitError("rankers failed its check there")

    served = made.release(EARLY, hits=30, recipe="old")
    reasons, _ = made.verdict(made.release(LATE, hits=60, recipe="new"), served, broken)
    assert any("rankers failed its check there" in r for r in reasons)


def test_what_is_taken_again_counts_only_where_things_repeat(made: Made) -> None:
    release, ours = made.release(EARLY, hits=30, recipe="r"), frozenset({"ours"})
    lists = release.table("evaluation_lists")
    assert release.measured(lists, ours, made.shop)["all"].ours.mean() == 0.5
    once = made.shop.model_copy(update={"repeats": False})
    assert release.measured(lists, ours, once) == {}, "everybody took what they had before"


def test_data_too_short_to_measure_say_so_and_only_the_lists_are_judged(made: Made) -> None:
    served = made.release(None, hits=0, recipe="r")
    reasons, texts = made.verdict(made.release(None, hits=0, recipe="r2"), served)
    assert reasons == []
    assert "too short to hold out a period" in texts["measured"]


def test_lists_that_nobody_would_see_are_not_measured_for_those_that_are_shown(made: Made) -> None:
    """Between two and three horizons of data only what is shown has a ranker: what is held out is
    then ordered by fused places, and was held to personal frequency."""
    served = made.release(None, hits=0, recipe="r")
    young = made.release(EARLY, hits=0, recipe="r", ranked=["live"])
    reasons, texts = made.verdict(young, served)
    assert reasons == [] and "could not be measured" in texts["measured"]
    older = made.release(EARLY, hits=30, recipe="r")
    assert "was never measured" in made.verdict(older, young)[1][RECIPE]
    fused = made.release(EARLY, hits=0, recipe="r", ranked=())
    assert made.verdict(fused, served)[0] != [], "fused places that are shown have to be good"


def test_the_first_ranker_of_a_young_shop_may_score_otherwise_and_no_later_one(made: Made) -> None:
    """Fused places lie between 0 and 1, a ranker's log odds anywhere: were that a shift, a shop
    that began with too few weeks for a ranker would be held at its first lists for ever."""
    fused = made.release(None, hits=0, recipe="r", ranked=(), scores=[0.1, 0.2])
    first = made.release(EARLY, hits=30, recipe="r", scores=[-4.0, -3.0])
    assert made.verdict(first, fused)[0] == []
    shifted = made.release(EARLY, hits=30, recipe="r", scores=[4.0, 5.0])
    assert "scores: stability index" in only(made.verdict(shifted, first)[0])
    assert "scores: stability index" in only(made.verdict(fused, first)[0]), "rankers are lost"


def test_features_are_looked_at_of_users_drawn_from_all_of_them(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FEATURE_USERS", 20)
    drawn = seeded_sample(USERS, 20, 0, "drift")
    assert drawn != USERS[:20]
    # The feature tells the label of those users, and its opposite of the others.
    rows = pd.DataFrame([(u, i) for u in USERS for i in "ab"], columns=["user_id", "item_id"])
    label = (rows["item_id"] == "a").astype(float)
    told = label.where(rows["user_id"].isin(drawn), 1 - label)
    rows = rows.assign(label=label, ui_days=told, as_of=EARLY, ui_seen=np.float32(1))
    assert made.with_training_rows(rows).strongest_feature(0, repeats=True) == ("ui_days", 1.0, 20)


def test_a_feature_that_gives_away_only_what_is_taken_again_is_the_strongest(made: Made) -> None:
    """Among all candidates it orders little: nothing is known of what somebody never took."""
    rows = pd.DataFrame(
        [("u", "a", 1.0, 2.0), ("u", "b", 0.0, 1.0), ("u", "c", 1.0, None), ("u", "d", 0.0, None)],
        columns=["user_id", "item_id", "label", "ui_days"],
    )
    rows = rows.assign(as_of=EARLY, ui_seen=rows["ui_days"].notna().astype("float32"))
    release = made.with_training_rows(rows)
    assert release.strongest_feature(0, repeats=True) == ("ui_days", 1.0, 1)
    assert release.strongest_feature(0, repeats=False) == ("ui_days", 0.5, 1), (
        "it is on no list there"
    )


def test_only_what_was_on_offer_counts_among_what_nobody_had_taken(made: Made) -> None:
    day = pd.Timedelta(days=1)
    items = pd.DataFrame(
        [
            ("taken before", pd.NaT, pd.NaT),
            ("new", EARLY, pd.NaT),
            ("on its last day", pd.NaT, EARLY + day),
            ("gone", pd.NaT, EARLY),
            ("not there yet", EARLY + day, pd.NaT),
        ],
        columns=["item_id", "available_from", "available_to"],
    )
    events = pd.DataFrame({"item_id": ["taken before", "new"], "event_time": [EARLY - day, EARLY]})
    release = made.of(
        made.store("items", items),
        made.store("interactions", events),
        made.store("cutoffs", pd.DataFrame({"as_of": [EARLY], "target": ["evaluate"]})),
        made.store("labels", pd.DataFrame({"item_id": ["new"]}), part_name(EARLY)),
    )
    assert release.cold_taken() == (2, 1)
