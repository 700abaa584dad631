"""Reports: an experiment as one file to share."""

from __future__ import annotations

import time
from pathlib import Path

from ashwood.api.browser import find_browser, write_whole
from ashwood.engine import Home
from ashwood.errors import AshwoodError
from ashwood.experiment.entry import fold
from ashwood.figures.report import ReportHeader, render_report
from ashwood.views.history import History

_PAGE, _PAPER, _PICTURE = ".html", ".pdf", ".png"


def write_report(home: Home, experiment: int, out: Path) -> None:
    """Write the report in the format of the file's suffix.

    Raises:
        NotFound: there is no such experiment.
        AshwoodError: there is no such format, or a library or the browser for it is missing.
    """
    kind = out.suffix.lower()
    if kind not in (_PAGE, _PAPER, _PICTURE):
        raise AshwoodError(
            f"--out {out}: the file must end in {_PAGE}, or in {_PAPER} or {_PICTURE}, which need a browser"
        )
    if not out.parent.is_dir():
        raise AshwoodError(f"cannot write {out}: there is no directory {out.parent}")
    # A missing browser is reported before the event log is read, which can take long.
    browser = None if kind == _PAGE else find_browser()
    page = make_page(home, experiment)
    if browser is None:
        write_whole(out, page.encode())
    elif kind == _PAPER:
        browser.print_page(page, out)
    else:
        browser.take_picture(page, out)


def make_page(home: Home, experiment: int) -> str:
    """Return the report of the present event log as HTML."""
    store = home.store
    spec = store.spec(experiment)
    history = fold(History(spec), (entry for _, entry in store.log(experiment).read()))
    record = store.record(experiment)
    is_interrupted = history.progress.state.active and home.is_interrupted(record)
    state = "interrupted" if is_interrupted else str(history.progress.state)
    notes = store.notes(experiment)
    about = ReportHeader(experiment, record.name, state, record.created_at, time.time(), record.labels, notes)
    return render_report(history, about)
