"""What is scarce has a pool of one, and Dagster's own storage knows the limit."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter

from dagster_project.definitions import gated_assets
from dagster_project.runs import DAGSTER_YAML
from recsys_assets.core.assets import Project


def test_language_model_index_and_ranker_are_used_within_their_pools(project: Project) -> None:
    pools = {op.pool: g.table.name for g in gated_assets(project) for op in [g.asset.op] if op.pool}
    assert pools == {
        "language_model": "item_enrichment", "index": "vector_index", "ranker": "rankers",
    }  # fmt: skip


def test_a_second_run_that_needs_a_pool_in_use_waits_and_another_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)

    def made(name: str, pool: str | None) -> dg.JobDefinition:
        @dg.op(name=f"op_{name}", pool=pool)
        def step() -> None: ...

        @dg.job(name=name)
        def job() -> None:
            step()

        return job

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        settings = instance.get_concurrency_config().pool_config
        indexing = made("indexing", "index")
        first = instance.create_run_for_job(indexing, status=dg.DagsterRunStatus.STARTED)
        second = instance.create_run_for_job(indexing)
        other = instance.create_run_for_job(made("other", None))
        instance.event_log_storage.initialize_concurrency_limit_to_default("index")
        # As the daemon that empties the queue does.
        (working,) = instance.get_run_records(dg.RunsFilter(run_ids=[first.run_id]))
        counter = GlobalOpConcurrencyLimitsCounter(
            instance,
            [second, other],
            [working],
            instance.event_log_storage.get_concurrency_keys(),
            instance.event_log_storage.get_pool_limits(),
            pool_granularity=settings.pool_granularity,
        )
        assert counter.is_blocked(second)
        assert not counter.is_blocked(other)
