"""The words of the report: what each task, model, metric, slice and picture is called and means.

Belongs here: names and one-line meanings. Does not belong here: numbers and layout.
"""

from collections.abc import Iterable

TASK_NAMES = {
    "all": "for you: whatever they take next",
    "new": "discover: only what they never took before",
    "again": "buy again: what they take again within 7 days",
    "cold": "new arrivals: only what nobody had ever taken",
}
METRICS = {
    "ndcg": ("NDCG", "hits weighted by place (1 / log2(place + 1)), 1 = the best possible list"),
    "recall": ("recall", "share of all that was to be found which is in the list"),
    "precision": ("precision", "share of the places that hold a hit, empty places counted"),
    "map": ("MAP", "precision at each hit, added up, over as many hits as the best list has"),
    "mrr": ("MRR", "1 / place of the first hit"),
    "hit": ("hit", "share of users with at least one hit"),
    "coverage": ("coverage", "share of the catalogue that is in somebody's list"),
    "diversity": ("diversity", "1 - mean similarity of the texts of two items of a list"),
    "novelty": (
        "novelty",
        "mean bits of surprise, -log2(share of all events)",
    ),
    "popularity_percentile": (
        "popularity",
        "popularity bias: mean percentile in the catalogue, 1 = the most popular item",
    ),
    "never_taken_items": ("new items", "share of the list that the user never took"),
    "never_taken_groups": (
        "new products",
        "share of the list of which the user never took any variant (group)",
    ),
}
"""Metric -> its name and what it says."""

OUTCOMES = {
    "takings": "what they took, in events that count as taken",
    "active": "whether they took anything",
    "value": "the money they paid",
    "shown_takings": "how many items they took after they had been shown them",
}
"""Outcome of an A/B test -> what is counted of each user."""

RETRIEVER = "retriever: "
"""What the name of a retriever's own list begins with."""
MODELS = {
    "ours": ("ours", "what is shown: the published order after the business rules"),
    "ours_no_rules": ("ours", "the published order before the business rules"),
    "ranker": ("ours", "the ranker, where something simpler is published"),
    "ranker_with_rules": (
        "ours",
        "the same after the business rules",
    ),
    "popularity_all": ("baseline", "what was taken most, ever; the same for everybody"),
    "popularity_7d": ("baseline", "what was taken most in the last 7 days"),
    "personal_frequency": ("baseline", "what this user took most often"),
    "personal_frequency_decayed": (
        "baseline",
        "the same, an event counting half as much every 90 days",
    ),
    "als": ("baseline", "matrix factorization (ALS) alone, over the whole catalogue"),
    "item_neighbours": ("baseline", "items like those the user took (item neighbours) alone"),
    "due": ("baseline", "what is longest overdue by the user's own gaps"),
    "ranker for anything": ("baseline", "what was taken before, in the order of for_you"),
    "blend_given": ("blend", "0.6 text similarity + 0.3 factors + 0.1 popularity"),
    "blend_tuned": ("blend", "the same three parts with the weights that won on the tune target"),
}
SLICES = {
    "all": "everybody",
    "users:none": "none: 0 baskets",
    "users:1-5": "light: 1-5 baskets",
    "users:6-20": "medium: 6-20 baskets",
    "users:over 20": "heavy: over 20 baskets",
    "items:head": "items: head",
    "items:mid": "items: middle",
    "items:tail": "items: tail",
    "items:cold": "items: cold",
}
"""Slices in the order they are shown."""
_CAPTIONS = {
    "ndcg ": "NDCG of every model, {}",
    "recall ": "Share of what a user took among the first so many candidates, {}",
    "importance ": "What the ranker of the evaluate target looks at, {}",
    "learning curve ": "Is it done learning? NDCG on a window it has not seen, by trees, {}",
    "ablation retriever ": "NDCG lost without a retriever, {}",
    "ablation features ": "NDCG lost without a group of features, {}",
    "label windows ": "NDCG by how many label windows it learns from, {}",
    "calibration ": "Predicted against observed chance of being taken, {}",
    "spread ": "NDCG at each cutoff, {}",
}


def kind_of(model: str) -> str:
    """ours, baseline, blend or retriever."""
    return "retriever" if model.startswith(RETRIEVER) else MODELS.get(model, ("baseline", ""))[0]


def meaning_of(model: str) -> str:
    """What a model is, in a few words; its name says it for a retriever."""
    if model.startswith(RETRIEVER):
        return f"the candidate list of retriever {model.removeprefix(RETRIEVER)} alone"
    return MODELS.get(model, ("", ""))[1]


def metric_name(metric: str) -> str:
    """`ndcg@10` -> `NDCG@10`."""
    name, at, k = metric.partition("@")
    return METRICS.get(name, (name.replace("_", " "), ""))[0] + at + k


def slice_name(name: str) -> str:
    return SLICES.get(name, name)


def slices_in_order(names: Iterable[str]) -> list[str]:
    """Everybody, users by history, items by popularity; what is unknown comes last."""
    order = {name: place for place, name in enumerate(SLICES)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def caption_of(picture: str) -> str:
    """The caption of a stored picture, by how its name begins."""
    for start, text in _CAPTIONS.items():
        if picture.startswith(start):
            return text.format(f"task {picture.removeprefix(start)}")
    return picture
