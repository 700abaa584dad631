"""The contract kit catches methods that break their promises."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest
from hypothesis import Phase, settings

from ashwood.errors import SearchError
from ashwood.search.settings import SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    Exit,
    Job,
    Promoted,
    ReachedEnd,
    Retired,
    Snapshot,
    Stop,
    TrialId,
    Verdict,
)
from ashwood.testing.search_method import SearchMethodContract
from tests.search.halving_contract import HalvingContract


class TrainsTooFar(Tournament):
    def next_job(self) -> Job | None:
        job = super().next_job()
        return job and job._replace(target=job.target + 1)


class NeverPromotes(Tournament):
    def next_job(self) -> Job | None:
        job = super().next_job()
        return job if job is None or isinstance(job.why, Created) else None


class CreatesOneTooMany(Tournament):
    def next_job(self) -> Job | None:
        job = super().next_job()
        if job is None and len(self._addresses) == self.plan.brackets[0].trials:
            job = Job(len(self._addresses), self.plan.brackets[0].lengths[0], Created(0, len(self._addresses)))
            self._addresses.append((0, len(self._addresses)))
        return job


class RanksNanFirst(Tournament):
    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        return super().report(trial, length, float(-10) if isnan(loss) else loss)


class PrefersMinusInfinity(Tournament):
    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        return super().report(trial, length, max(loss, -1e308))


class MisstatesRanks(Tournament):
    def next_job(self) -> Job | None:
        job = super().next_job()
        why = job and job.why
        return job._replace(why=why._replace(of=why.of + 1)) if job and isinstance(why, Promoted) else job


class DrawsAuditsElsewhere(Tournament):
    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings, seed=1)


class ForgetsToRetire(Tournament):
    def retired(self) -> list[Retired]:
        super().retired()
        return []


class CountsInvalidTrials(Tournament):
    def exited(self, trial: TrialId, how: Exit) -> None:
        super().exited(trial, Exit.ERRORED if how is Exit.INVALID else how)


class TakesReportsOfTheDead(Tournament):
    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        try:
            return super().report(trial, length, loss)
        except SearchError:
            return Stop(ReachedEnd(length))


class ChangesWhenItRefuses(Tournament):
    def exited(self, trial: TrialId, how: Exit) -> None:
        try:
            super().exited(trial, how)
        except SearchError:
            self._retired.append(Retired(trial, BracketFinished(0)))
            raise


class ForgetsWhoWasPromoted(Tournament):
    def restore(self, snapshot: Snapshot) -> None:
        brackets: list[dict[str, Any]] = [dict(b) for b in snapshot["brackets"]]
        for bracket in brackets:
            bracket["rungs"] = [rung | {"promoted": []} for rung in bracket["rungs"]]
        super().restore({**snapshot, "brackets": brackets})


ATTACK = settings(max_examples=400, phases=[Phase.generate], database=None, report_multiple_bugs=False)


def attacked(broken: type[Tournament], kit: type[SearchMethodContract]) -> SearchMethodContract:
    contract: type[SearchMethodContract] = type("Contract", (kit,), {"method": broken, "tries": ATTACK})
    return contract()


@pytest.mark.parametrize(
    "broken",
    [
        ChangesWhenItRefuses,
        CountsInvalidTrials,
        CreatesOneTooMany,
        DrawsAuditsElsewhere,
        ForgetsToRetire,
        ForgetsWhoWasPromoted,
        MisstatesRanks,
        NeverPromotes,
        PrefersMinusInfinity,
        RanksNanFirst,
        TakesReportsOfTheDead,
        TrainsTooFar,
    ],
)
def test_a_broken_halving_is_caught(broken: type[Tournament]) -> None:
    with pytest.raises(AssertionError):
        attacked(broken, HalvingContract).test_method_keeps_contract_for_any_calls()


@pytest.mark.parametrize("broken", [CreatesOneTooMany, ForgetsToRetire, NeverPromotes, TrainsTooFar])
def test_what_any_method_must_not_do_is_caught_without_knowing_its_rungs(broken: type[Tournament]) -> None:
    with pytest.raises(AssertionError):
        attacked(broken, SearchMethodContract).test_method_keeps_contract_for_any_calls()
