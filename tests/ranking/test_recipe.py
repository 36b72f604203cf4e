"""What the shop file says about models is refused before anything runs."""

from pathlib import Path

import pytest

from recsys_assets.core.config import ConfigError, Shop, load_shop, packaged_shop
from recsys_assets.ranking.recipe import check_models


def shop(folder: Path, text: str) -> Shop:
    (folder / "shop.yaml").write_text(
        "name: corner\nrepeats: true\npartitions: {start: 2024-01-01}\n"
        "source: {kind: files, interactions: {path: s.csv}, items: {path: i.csv}}\n" + text
    )
    return load_shop(folder / "shop.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ranker: {al: {}}", "ranker.al: unknown key; did you mean all"),
        ("ranker: {settings: {}}", "ranker.settings: unknown key"),
        ("ranker: {all: {num_leafs: 3}}", "ranker.all.num_leafs: .*did you mean num_leaves"),
        ("ranker: {all: {rounds: many}}", "ranker.all.rounds: .*integer .found 'many'"),
        ("ranker: {all: {seed: 3}}", "ranker.all.seed: unknown key"),
        ("ranker: {new: {objectives: [rank]}}", "ranker.new.objectives.0: .*'lambdarank'"),
        ("ranker: {new: 3}", "ranker.new: expected settings by name, found 3"),
        ("ranker: {new: {blend: 1.5}}", "ranker.new.blend is 1.5"),
        ("ranker: {negative_share: some}", "ranker.negative_share: .*number .found 'some'"),
        ("retrieval: {als: {params: {factor: 8}}}", "retrieval.als.params.factor: .*mean factors"),
        ("retrieval: {als: {params: {clock: weeks}}}", "als.params.clock: .*'days' or 'events'"),
        ("retrieval: {next_item: {params: {steps: weeks}}}", "steps: .*'baskets' or 'events'"),
        ("retrieval: {content: {params: {vectors: []}}}", "content.params.vectors: unknown key"),
        (
            "retrieval: {taxonomy: {params: {weights: {shop: 1}}}}",
            "retrieval.taxonomy.params.weights.shop",
        ),
        (
            "retrieval: {often: {kind: popularty}}",
            "retrieval.often.kind: unknown kind 'popularty'; did you mean popularity",
        ),
        ("retrieval: {popularty: {}}", "retrieval.popularty: unknown kind"),
    ],
)
def test_a_mistake_in_a_models_settings_is_told_by_file_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        check_models(shop(tmp_path, text + "\n"))
    assert str(caught.value).startswith(f"{tmp_path / 'shop.yaml'}: ")


@pytest.mark.parametrize("name", ["complete_journey", "movielens_100k"])
def test_the_packaged_shops_pass(name: str) -> None:
    check_models(load_shop(packaged_shop(name)))


def test_what_a_shop_file_may_say_passes(tmp_path: Path) -> None:
    check_models(shop(tmp_path, ""))
    check_models(
        shop(
            tmp_path,
            "ranker: {again: {objectives: [binary, rank_xendcg], learning_rate: 1}}\n"
            "retrieval: {ease: {params: {half_life: null, side: {store: 1, brand: 0.5}}},"
            " segment_popularity: {params: {attributes: [age]}}, next_item: {params: {lags: [1]}}}",
        )
    )
