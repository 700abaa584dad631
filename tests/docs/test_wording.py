"""Words that keep a sentence from being understood at first reading do not come back."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNCLEAR = re.compile(
    r"\b(whoever|nobody|somebody|mend(s|ed|ing)?|foretells?|foretold|so many)\b|; None:", re.IGNORECASE
)


def sources() -> Iterator[Path]:
    for pattern in ("src/ashwood/**/*.py", "src/ashwood/**/*.js", "docs/*.md", "README.md", "CONTRIBUTING.md"):
        yield from sorted(ROOT.glob(pattern))


def test_sources_and_docs_use_none_of_the_unclear_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if UNCLEAR.search(line)
    ]
    assert not found, "\n".join(found)


def test_check_finds_unclear_words() -> None:
    assert len(list(sources())) > 300
    for line in ("# Whoever asks", '"""The URL; None: there is none."""', "so many trials", "Mend the code"):
        assert UNCLEAR.search(line), line
