"""Ashwood's own methods keep the contract that outside authors get, and so does the plain reference."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import SearchMethod
from ashwood.testing.search_method import SearchMethodContract, search_settings
from tests.search.halving_contract import HalvingContract
from tests.search.reference import Reference


class TestTournament(HalvingContract):
    method = Tournament


class TestReference(HalvingContract):
    method = Reference
    tries = settings(max_examples=25)


class TestSearchThatLearns(SearchMethodContract):
    """The tournament in mode auto; `tests.search.test_tournament_reference` checks its promotions."""

    method = Tournament
    tries = settings(max_examples=25)

    def settings(self) -> st.SearchStrategy[SearchSettings]:
        auto = search_settings(methods=[Method.ADAPTIVE_ASHA])
        return auto.map(lambda each: replace(each, mode=Mode.AUTO, stop_once=False))


def make(chosen: SearchSettings) -> SearchMethod:
    return Tournament(chosen)


class TestWhatAnOutsideAuthorWrites(SearchMethodContract):
    """A plain function, for some settings only, of a method whose rungs nobody knows."""

    method = staticmethod(make)
    tries = settings(max_examples=15)

    def settings(self) -> st.SearchStrategy[SearchSettings]:
        return search_settings(methods=[Method.RANDOM, Method.ASYNC_HALVING], max_trials=9)
