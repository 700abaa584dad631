from pathlib import Path
from typing import Any

import pytest

from ashwood.errors import StorageUnreachable
from ashwood.trial import Trial
from ashwood.trial import attempt as attempts
from ashwood.trial.job import Job
from ashwood.trial.ranks import LeadingAttempt
from tests.trial.links import ScriptedLink, save


def test_rank_0_never_repeats_a_save_in_which_others_took_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def save(self, *_: Any) -> None:
            raise StorageUnreachable("the storage is down")

    monkeypatch.setattr(attempts, "open_storage", lambda *_: Unreachable())
    job = Job(7, 1, 4, {}, 0, str(tmp_path), metric="loss", checkpoint_period=(1, "steps"))
    link = ScriptedLink()
    announced: list[Any] = []
    trial = Trial(job, link, LeadingAttempt(job, link, lambda *announcement: announced.append(announcement)))
    assert next(trial.steps()) == 0
    with pytest.raises(StorageUnreachable):
        trial.report(loss=1.0, checkpoint=save)
    assert announced[0] == ("to", "steps", 1, True)
