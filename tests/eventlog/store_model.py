"""A state machine that compares a store with a `MemoryStore`, the simplest one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ashwood.errors import AshwoodError
from ashwood.eventlog.port import Answer, Driver, EventLog, ExperimentRecord, LeaseState, Store
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.testing.records import a_driver, control_entries, edge_case_entries, full_spec, sample_requests
from tests.eventlog.memory_store import MemoryStore

T = TypeVar("T")

_any = st.integers(0, 99)
_entries = st.lists(st.sampled_from(edge_case_entries() + control_entries()), max_size=3)
# Answers are messages of Ashwood, which quote values by repr(). PostgreSQL cannot hold a NUL in a text.
_answers = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


class BesideTheModel(RuleBasedStateMachine):
    """A state machine that makes the same calls of a store and of a `MemoryStore`.

    Results and errors must be the same, and at the end the content.  Numbers and tokens of the
    two may differ, so they are kept in pairs.
    """

    def __init__(self, open_store: Callable[[], AbstractContextManager[Store]], connections: int) -> None:
        super().__init__()
        self.model = MemoryStore()
        self.open_store = open_store
        self.contexts = [open_store() for _ in range(connections)]
        self.stores = [context.__enter__() for context in self.contexts]
        self.turn = 0
        self.experiments: list[tuple[int, int]] = []
        self.requests: list[tuple[int, int]] = []
        self.tokens: list[tuple[tuple[int, int], int, int]] = []
        self.seen: list[tuple[tuple[int, int], LeaseState | None, LeaseState | None]] = []
        self.logs: list[tuple[EventLog, EventLog]] = []

    def teardown(self) -> None:
        """Check that both have the same content at the end."""
        try:
            for pair in self.experiments:
                self.same(lambda store, number: record_of(store, number), pair)
                self.same(lambda store, number: repr(list(store.log(number).read())), pair)
                self.same(lambda store, number: [request for _, request in store.pending(number)], pair)
                self.same(lambda store, number: owner_of(store.lease(number)), pair)
                self.same(lambda store, number: store.notes(number), pair)
                self.same(lambda store, number: store.note_digests(number), pair)
            for pair in self.requests:
                self.same(lambda store, number: store.answer(number), pair)
        finally:
            for context in self.contexts:
                context.__exit__(None, None, None)

    def both(self, ask: Callable[[Store, Any], Any], one: Any, other: Any) -> tuple[Any, Any]:
        """Return the results of a call of both stores, or the classes of their errors; connections take turns."""
        self.turn += 1
        store = self.stores[self.turn % len(self.stores)]
        return outcome(lambda: ask(self.model, one)), outcome(lambda: ask(store, other))

    def same(self, ask: Callable[[Store, int], Any], pair: tuple[int, int]) -> None:
        """Check that a call has the same result for both stores."""
        expected, actual = self.both(ask, *pair)
        assert expected == actual

    @rule()
    def create(self) -> None:
        """Create an experiment."""
        expected, actual = self.both(lambda store, _: store.create(full_spec(), at=1.0), None, None)
        assert all(actual > number for _, number in self.experiments)
        self.experiments.append((expected, actual))

    @precondition(lambda self: self.experiments)
    @rule(
        which=_any,
        name=st.none() | st.text("aé☃"),
        labels=st.none() | st.lists(st.text("a,")),
        put=st.sampled_from([None, True, False]),
    )
    def annotate(self, which: int, name: str | None, labels: list[str] | None, put: bool | None) -> None:
        """Change the name, the labels or the archived flag of an experiment."""
        self.same(
            lambda store, number: store.annotate(number, name=name, labels=labels, archived=put),
            pick(self.experiments, which),
        )

    @precondition(lambda self: self.experiments)
    @rule(which=_any, trial=st.none() | st.integers(0, 2), text=st.text(st.characters(codec="utf-8")))
    def set_note(self, which: int, trial: int | None, text: str) -> None:
        """Replace or remove a note on an experiment or a trial."""
        self.same(lambda store, number: store.set_note(number, trial, text), pick(self.experiments, which))

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def delete(self, which: int) -> None:
        """Delete an experiment; later calls may still use its number."""
        self.same(lambda store, number: store.delete(number), pick(self.experiments, which))

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def look(self, which: int) -> None:
        """Read the lease of an experiment, which `take_over` may use later."""
        pair = pick(self.experiments, which)
        expected, actual = self.both(lambda store, number: store.lease(number), *pair)
        assert owner_of(expected) == owner_of(actual)
        self.seen.append((pair, expected, actual))

    @precondition(lambda self: self.experiments)
    @rule(which=_any, process=st.integers(1, 3))
    def take(self, which: int, process: int) -> None:
        """Take the lease of an experiment, if it is free."""
        pair = pick(self.experiments, which)
        self.taken(pair, *self.both(lambda store, number: store.take_lease(number, a_driver(process)), *pair))

    @precondition(lambda self: self.seen)
    @rule(which=_any, process=st.integers(1, 3))
    def take_over(self, which: int, process: int) -> None:
        """Take over a lease that was read before, and that may have changed since."""
        pair, one, other = pick(self.seen, which)
        self.taken(
            pair,
            *self.both(
                lambda store, asked: store.take_lease(asked[0], a_driver(process), over=asked[1]),
                (pair[0], one),
                (pair[1], other),
            ),
        )

    def taken(self, pair: tuple[int, int], expected: Any, actual: Any) -> None:
        """Check that either both stores gave a lease, or neither did."""
        if not isinstance(expected, int):
            assert expected == actual
            return
        assert all(actual > token for owned, _, token in self.tokens if owned == pair)
        self.tokens.append((pair, expected, actual))

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def beat(self, which: int) -> None:
        """Send a heartbeat, with a token that may have lost its lease."""
        (one, other), *tokens = pick(self.tokens, which)
        expected, actual = self.both(lambda store, asked: store.beat(*asked), (one, tokens[0]), (other, tokens[1]))
        assert expected == actual

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def release(self, which: int) -> None:
        """Release a lease, with a token that may have lost it."""
        (one, other), *tokens = pick(self.tokens, which)
        expected, actual = self.both(
            lambda store, asked: store.release_lease(*asked), (one, tokens[0]), (other, tokens[1])
        )
        assert expected == actual

    @precondition(lambda self: self.experiments)
    @rule(which=_any, request=st.sampled_from(sample_requests()))
    def post(self, which: int, request: Request) -> None:
        """Post a request to an experiment."""
        expected, actual = self.both(
            lambda store, number: store.post(number, request, at=1.0), *pick(self.experiments, which)
        )
        if isinstance(expected, int):
            assert all(actual > number for _, number in self.requests)
            self.requests.append((expected, actual))
        else:
            assert expected == actual

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def open_log(self, which: int) -> None:
        """Open a log without a lease."""
        self.opened(*self.both(lambda store, number: store.log(number), *pick(self.experiments, which)))

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def open_log_with_token(self, which: int) -> None:
        """Open a log with a token, which may have lost its lease."""
        (one, other), *tokens = pick(self.tokens, which)
        self.opened(*self.both(lambda store, asked: store.log(*asked), (one, tokens[0]), (other, tokens[1])))

    def opened(self, expected: Any, actual: Any) -> None:
        """Check that either both stores opened a log, or neither did."""
        if isinstance(expected, type):
            assert expected == actual
        else:
            self.logs.append((expected, actual))

    @precondition(lambda self: self.logs)
    @rule(
        which=_any,
        entries=_entries,
        summary=st.none() | st.just({"a": 1}),
        asked=st.none() | _any,
        why=st.none() | _answers,
    )
    def append(
        self, which: int, entries: list[Entry], summary: dict[str, int] | None, asked: int | None, why: str | None
    ) -> None:
        """Append to a log, also to one to which this writer may not append any more."""
        request = (0, 0) if asked is None or not self.requests else pick(self.requests, asked)
        one, other = pick(self.logs, which)
        expected, actual = (
            outcome(partial(log.append, entries, summary=summary, answers={number: Answer(why)} if number else None))
            for log, number in ((one, request[0]), (other, request[1]))
        )
        assert expected == actual


def pick(items: list[T], which: int) -> T:
    """Return one of the items for any number that was drawn."""
    return items[which % len(items)]


def outcome(ask: Callable[[], Any]) -> Any:
    """Return the result of a call, or the class of its error."""
    try:
        return ask()
    except AshwoodError as error:
        return type(error)


def record_of(store: Store, experiment: int) -> ExperimentRecord:
    """Return the record of an experiment without its number, which differs between stores."""
    return store.record(experiment)._replace(id=0)


def owner_of(lease: LeaseState | None) -> tuple[int, Driver] | None:
    """Return the parts of a lease that are the same in every store: its heartbeat and its driver."""
    return None if lease is None else (lease.beat, lease.driver)
