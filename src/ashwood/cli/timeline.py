"""``ashwood timeline``: a page that shows what each worker did over time."""

from __future__ import annotations

from pathlib import Path

from ashwood.cli.text import say
from ashwood.engine import open_home
from ashwood.errors import AshwoodError
from ashwood.figures import Figures


def write_timeline(home: str | None, experiment: int, out: Path) -> None:
    """Write a self-contained page, which needs no network."""
    if out.suffix.lower() != ".html":
        raise AshwoodError(f"--out {out}: the file must end in .html; the page has a button that saves a picture")
    with open_home(home) as opened:
        log = opened.store.log(experiment)
        figure = Figures(opened.store.spec(experiment), lambda: (entry for _, entry in log.read())).timeline()
    try:
        config = {"displaylogo": False, "showSendToCloud": False}
        figure.write_html(out, include_plotlyjs=True, div_id="timeline", config=config)
    except OSError as error:
        raise AshwoodError(f"cannot write {out}: {error.strerror}") from error
    say(f"Wrote {out}.")
