"""The histogram against sorted samples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nadofast._latency import Histogram

values = st.lists(st.integers(0, (1 << 62)) | st.integers(0, 100_000), min_size=1, max_size=200)


def filled(samples: list[int]) -> Histogram:
    histogram = Histogram()
    for sample in samples:
        histogram.record_ns(sample)
    return histogram


@given(values, st.floats(0, 100))
def test_percentile_is_at_most_one_bucket_above(samples: list[int], percent: float) -> None:
    histogram = filled(samples)
    exact = sorted(samples)[max(math.ceil(percent / 100 * len(samples)) - 1, 0)]
    assert exact <= histogram.percentile(percent) <= max(exact * 33 // 32 + 1, exact)
    assert histogram.percentile(100) == histogram.max == max(samples)
    assert histogram.count == len(samples)


@given(values, values)
def test_merge_is_recording_both(left: list[int], right: list[int]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    assert merged.summary() == filled(left + right).summary()
    assert merged.mean_ns == pytest.approx(sum(left + right) / len(left + right))


def test_small_values_are_exact() -> None:
    histogram = filled(list(range(64)))
    assert [histogram.percentile(100 * (i + 1) / 64) for i in range(64)] == list(range(64))


def test_empty_negative_and_cleared() -> None:
    histogram = Histogram()
    assert (histogram.percentile(50), histogram.count, histogram.max, histogram.mean_ns) == (0, 0, 0, 0.0)
    histogram.record_ns(-5)
    assert (histogram.percentile(50), histogram.count, histogram.max) == (0, 1, 0)
    histogram.record_ns((1 << 63) - 1)
    assert histogram.percentile(100) == (1 << 63) - 1
    histogram.clear()
    assert histogram.summary() == {
        "count": 0,
        "p50_ns": 0,
        "p95_ns": 0,
        "p99_ns": 0,
        "p999_ns": 0,
        "max_ns": 0,
    }


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_percentile_range(percent: float) -> None:
    with pytest.raises(ValueError):
        filled([1]).percentile(percent)
