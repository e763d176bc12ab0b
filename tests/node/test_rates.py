"""Rates and sizes as people write them: bytes or bits, and never a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network.rates import (
    RATE_BYTES_PER_S_MAX,
    RATE_BYTES_PER_S_MIN,
    rate_of,
    rate_text,
    rate_words,
    size_of,
    size_text,
)
from protocol.errors import Refused


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("2.5MB/s", 2_500_000),
        ("2.5 MB", 2_500_000),
        ("20Mbit/s", 2_500_000),
        ("20 Mbitps", 2_500_000),
        ("500kB/s", 500_000),
        ("500KB/s", 500_000),
        ("8000kbit", 1_000_000),
        ("1GiB/s", 2**30),
        ("1Gbit/s", 125_000_000),
        *((f"20{unit}", 2_500_000) for unit in ("mbit", " Mbps", "mbps", "MBIT/S", "Mbits/s", " mbits")),
        ("20MBps", 20_000_000),
        ("none", None),
        (" None ", None),
    ],
)
def test_a_rate_counts_bytes_or_bits(text: str, bytes_per_s: float | None) -> None:
    assert rate_of(text) == bytes_per_s


@pytest.mark.parametrize("text", ["20M", "20", "20Mb/s", "20mB/s", "20MBPS", "fast", "", "-1MB/s", "1e6B/s", "20MB/h"])
def test_what_may_mean_two_things_is_refused_with_both_ways_to_write_it(text: str) -> None:
    with pytest.raises(Refused) as refused:
        rate_of(text)
    assert refused.value.code == "bad-rate"
    assert "MB/s" in refused.value.remedy
    assert "Mbit/s" in refused.value.remedy
    if text.startswith("20"):
        assert "20MB/s" in refused.value.remedy
        assert "bytes or bits" in refused.value.what


@pytest.mark.parametrize("text", ["0MB/s", "1kB/s", "124kB/s", "0.9Mbit/s", "999999999999TB/s"])
def test_a_rate_that_no_transfer_could_live_with_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="could be kept to"):
        rate_of(text)


@pytest.mark.parametrize(("text", "what"), [("0", "nothing would come"), ("1,5MB/s", "comma"), ("1,000 kB/s", "comma")])
def test_what_is_wrong_with_a_rate_is_said(text: str, what: str) -> None:
    with pytest.raises(Refused, match=what) as refused:
        rate_of(text)
    assert "0MB/s" not in refused.value.remedy
    assert "none" in refused.value.remedy


def test_people_are_shown_bytes_and_bits() -> None:
    assert rate_words(2.5e6) == "2.5 MB/s = 20 Mbit/s"
    assert rate_words(125e6) == "125 MB/s = 1 Gbit/s"
    assert rate_words(None) == "none"


@given(st.floats(RATE_BYTES_PER_S_MIN, RATE_BYTES_PER_S_MAX / 2))
def test_what_is_shown_can_be_written(rate: float) -> None:
    assert rate_of(rate_text(rate)) == pytest.approx(rate, rel=1e-3)
    assert rate_of(rate_text(None)) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50G", 50 * 10**9),
        ("50GB", 50 * 10**9),
        ("1.5 TB", 15 * 10**11),
        ("64GiB", 64 * 2**30),
        ("123B", 123),
        ("50gb", 50 * 10**9),
        ("5g", 5 * 10**9),
        ("none", None),
    ],
)
def test_a_size_is_in_bytes(text: str, size: int | None) -> None:
    assert size_of(text) == size
    assert size_of(size_text(size)) == pytest.approx(size, rel=1e-2) if size else size_of(size_text(size)) is None


@pytest.mark.parametrize("text", ["0", "-5G", "50Gbit", "much", "", "9" * 40, "123", "1,5G", "5 "])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no size"):
        size_of(text)


def test_a_size_without_a_unit_is_no_guess() -> None:
    with pytest.raises(Refused, match="does not say of what") as refused:
        size_of("50")
    assert "50G" in refused.value.remedy
