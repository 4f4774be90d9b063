"""The recipes of docs/operations.md count real logouts."""

from __future__ import annotations

import re
from typing import Any, get_args

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import REGISTRY, generate_latest

from asgi_rp_logout.events import LogoutChannel, LogoutOutcome
from tests.asgi import call, http_scope
from tests.places import OUTSIDE, Site
from tests.test_docs import ROOT, block_of, run

PAGE = "docs/operations.md"


async def log_out_and_be_logged_out(on_logout: Any) -> None:
    """One click on "Log out", and one frame of the provider."""
    site = Site(OUTSIDE, freshness=0, on_logout=on_logout, frontchannel_path="/frontchannel")
    here, _ = await site.signed_in(sid="s1"), await site.signed_in(sid="s2")
    await here.post("/logout")
    await call(site.app, http_scope("/frontchannel?iss=https://a.example&sid=s2"))


async def test_prometheus_counts_each_logout_by_channel_outcome_and_provider() -> None:
    names = run(block_of(PAGE, "prometheus_client"))
    try:
        await log_out_and_be_logged_out(names["count_logout"])
        lines = [line for line in generate_latest().decode().splitlines() if line.startswith("logouts_total")]
    finally:
        REGISTRY.unregister(names["LOGOUTS"])
    assert sorted(lines) == [
        'logouts_total{channel="front-channel",outcome="ended",provider="a"} 1.0',
        'logouts_total{channel="logout",outcome="provider",provider="a"} 1.0',
    ]


async def test_opentelemetry_counts_each_logout_by_channel_outcome_and_provider() -> None:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    await log_out_and_be_logged_out(run(block_of(PAGE, "opentelemetry"))["count_logout"])
    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    counted = {tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points}
    assert (metric.name, counted) == (
        "logouts",
        {
            (("channel", "front-channel"), ("outcome", "ended"), ("provider", "a")): 1,
            (("channel", "logout"), ("outcome", "provider"), ("provider", "a")): 1,
        },
    )


def test_every_channel_and_outcome_is_explained() -> None:
    text = (ROOT / PAGE).read_text()
    explained = {
        word for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`(.*?)`", row)
    }
    assert explained - {"channel", "outcome"} == {*get_args(LogoutChannel), *get_args(LogoutOutcome)}
