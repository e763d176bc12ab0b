"""A configuration is anybody's text: whatever it is, reading it ends with a reading or with words."""

import pytest

from protocol.manifest.read import ManifestError, read_configuration


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 30_000,
        "a = " + "{a=" * 5_000,
        "[" + ".".join(["a"] * 20_000) + "]\nx = 1",
        "seed = " + "9" * 10_000,
        "seed = 0x" + "f" * 60_000,
        '[task]\nname = "digits"\n[task.parameters]\nx = 0x' + "f" * 9_000,
        "\0",
        'name = "\x1b[31m"',
    ],
    ids=["lists", "tables", "dots", "digits", "hexadecimal", "parameter", "nul", "escape"],
)
def test_no_text_breaks_the_reading(text: str) -> None:
    with pytest.raises(ManifestError):
        read_configuration(text)


@pytest.mark.parametrize("key", ["a." * 10_000, "...", "", "training.rounds.deeper"], ids=range(4))
def test_no_override_breaks_the_reading(key: str) -> None:
    with pytest.raises(ManifestError):
        read_configuration("", overrides={key: {"a": [1]}})
