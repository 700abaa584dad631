"""A store beside the plainest one that there is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ashwood.errors import AshwoodError
from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.port import Answer, Driver, Entry, EventLog, ExperimentRecord, LeaseState, Store
from ashwood.experiment.events import Request
from ashwood.testing.records import a_driver, entries_of_control, full_spec, telling_entries, telling_requests

T = TypeVar("T")

_any = st.integers(0, 99)
_entries = st.lists(st.sampled_from(telling_entries() + entries_of_control()), max_size=3)
# Answers are messages of Ashwood, which quote values by repr(). PostgreSQL cannot hold a NUL in a text.
_answers = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


class BesideTheModel(RuleBasedStateMachine):
    """A store and a `MemoryStore` side by side: the same answers, the same refusals, and at the end the same content.

    Numbers and tokens of the two may differ, so everything is kept in pairs.
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
        """At the end, both hold the same."""
        try:
            for pair in self.experiments:
                self.same(lambda store, number: record_of(store, number), pair)
                self.same(lambda store, number: repr(list(store.log(number).read())), pair)
                self.same(lambda store, number: [request for _, request in store.pending(number)], pair)
                self.same(lambda store, number: owner_of(store.lease(number)), pair)
            for pair in self.requests:
                self.same(lambda store, number: store.answer(number), pair)
        finally:
            for context in self.contexts:
                context.__exit__(None, None, None)

    def both(self, ask: Callable[[Store, Any], Any], one: Any, other: Any) -> tuple[Any, Any]:
        """What both stores say, refusals included; the connections take turns."""
        self.turn += 1
        store = self.stores[self.turn % len(self.stores)]
        return outcome(lambda: ask(self.model, one)), outcome(lambda: ask(store, other))

    def same(self, ask: Callable[[Store, int], Any], pair: tuple[int, int]) -> None:
        """Both say the same."""
        said, says = self.both(ask, *pair)
        assert said == says

    @rule()
    def create(self) -> None:
        """Take an experiment in."""
        said, says = self.both(lambda store, _: store.create(full_spec(), at=1.0), None, None)
        assert all(says > number for _, number in self.experiments)
        self.experiments.append((said, says))

    @precondition(lambda self: self.experiments)
    @rule(
        which=_any,
        name=st.none() | st.text("aé☃"),
        labels=st.none() | st.lists(st.text("a,")),
        put=st.sampled_from([None, True, False]),
    )
    def annotate(self, which: int, name: str | None, labels: list[str] | None, put: bool | None) -> None:
        """Change what the list shows."""
        self.same(
            lambda store, number: store.annotate(number, name=name, labels=labels, archived=put),
            pick(self.experiments, which),
        )

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def delete(self, which: int) -> None:
        """Forget an experiment; it may be asked for later all the same."""
        self.same(lambda store, number: store.delete(number), pick(self.experiments, which))

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def look(self, which: int) -> None:
        """See who drives, for taking over later."""
        pair = pick(self.experiments, which)
        said, says = self.both(lambda store, number: store.lease(number), *pair)
        assert owner_of(said) == owner_of(says)
        self.seen.append((pair, said, says))

    @precondition(lambda self: self.experiments)
    @rule(which=_any, process=st.integers(1, 3))
    def take(self, which: int, process: int) -> None:
        """Want to drive."""
        pair = pick(self.experiments, which)
        self.taken(pair, *self.both(lambda store, number: store.take_lease(number, a_driver(process)), *pair))

    @precondition(lambda self: self.seen)
    @rule(which=_any, process=st.integers(1, 3))
    def take_over(self, which: int, process: int) -> None:
        """Want to drive instead of one that was seen, be it long ago."""
        pair, one, other = pick(self.seen, which)
        self.taken(
            pair,
            *self.both(
                lambda store, asked: store.take_lease(asked[0], a_driver(process), over=asked[1]),
                (pair[0], one),
                (pair[1], other),
            ),
        )

    def taken(self, pair: tuple[int, int], said: Any, says: Any) -> None:
        """Both gave a lease, or neither."""
        if not isinstance(said, int):
            assert said == says
            return
        assert all(says > token for owned, _, token in self.tokens if owned == pair)
        self.tokens.append((pair, said, says))

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def beat(self, which: int) -> None:
        """Give a sign of life, be it without a lease any more."""
        (one, other), *tokens = pick(self.tokens, which)
        said, says = self.both(lambda store, asked: store.beat(*asked), (one, tokens[0]), (other, tokens[1]))
        assert said == says

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def release(self, which: int) -> None:
        """Let go, be it of a lease that is lost."""
        (one, other), *tokens = pick(self.tokens, which)
        said, says = self.both(lambda store, asked: store.release_lease(*asked), (one, tokens[0]), (other, tokens[1]))
        assert said == says

    @precondition(lambda self: self.experiments)
    @rule(which=_any, request=st.sampled_from(telling_requests()))
    def post(self, which: int, request: Request) -> None:
        """Leave a request."""
        said, says = self.both(
            lambda store, number: store.post(number, request, at=1.0), *pick(self.experiments, which)
        )
        if isinstance(said, int):
            assert all(says > number for _, number in self.requests)
            self.requests.append((said, says))
        else:
            assert said == says

    @precondition(lambda self: self.experiments)
    @rule(which=_any)
    def open_log(self, which: int) -> None:
        """Open a log to append at will."""
        self.opened(*self.both(lambda store, number: store.log(number), *pick(self.experiments, which)))

    @precondition(lambda self: self.tokens)
    @rule(which=_any)
    def open_log_with_token(self, which: int) -> None:
        """Open a log as a driver, be it a former one."""
        (one, other), *tokens = pick(self.tokens, which)
        self.opened(*self.both(lambda store, asked: store.log(*asked), (one, tokens[0]), (other, tokens[1])))

    def opened(self, said: Any, says: Any) -> None:
        """Both opened a log, or neither."""
        if isinstance(said, type):
            assert said == says
        else:
            self.logs.append((said, says))

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
        """Append to a log, be it one that is closed to this writer."""
        request = (0, 0) if asked is None or not self.requests else pick(self.requests, asked)
        one, other = pick(self.logs, which)
        said, says = (
            outcome(partial(log.append, entries, summary=summary, answers={number: Answer(why)} if number else None))
            for log, number in ((one, request[0]), (other, request[1]))
        )
        assert said == says


def pick(items: list[T], which: int) -> T:
    """One of the items, whatever number was drawn."""
    return items[which % len(items)]


def outcome(ask: Callable[[], Any]) -> Any:
    """What it returns, or the class of what it raises."""
    try:
        return ask()
    except AshwoodError as error:
        return type(error)


def record_of(store: Store, experiment: int) -> ExperimentRecord:
    """What the list shows, its number aside."""
    return store.record(experiment)._replace(id=0)


def owner_of(lease: LeaseState | None) -> tuple[int, Driver] | None:
    """Who drives, and its heartbeat: what is the same in every store."""
    return None if lease is None else (lease.beat, lease.driver)
