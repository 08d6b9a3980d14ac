"""What happens to a run that nobody reports? The coordinator looks for it a few times a second.

Drivers that are gone without a word, nodes that say nothing or are going to be taken away, budgets
that are used up. Each becomes an event; what follows from it is decided as for all others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.coordinator.budget import over_budget
from orchestrator.coordinator.events import (
    BudgetSpent,
    DrainNoticed,
    NodeCleared,
    NodeSuspected,
    TrainingFailed,
)
from orchestrator.coordinator.silence import judge_silence
from orchestrator.runtime.books import Book
from orchestrator.runtime.probe import Probes

DRIVER_SILENCE_SECONDS = 30.0
"""A run whose driver has not polled for so long loses its reservation."""

_TICK_SECONDS = 0.25
_SLOW_TICK_SECONDS = 1.0
_AT_WORK = ("training", "stopping")
_OVER = ("new", "ending", "ended")


@dataclass
class Watch:
    """Looks at every book in turn.

    ``drains`` are the nodes that Ray has been told to drain, and the wall-clock second at which
    they go (0: not said); ``live`` those that Ray takes for alive. ``show`` tells others where a
    run stands, once a second.
    """

    books: Callable[[], list[Book]]
    give_back: Callable[[Book], None]
    drains: Callable[[], Mapping[str, float]]
    live: Callable[[], set[str]]
    probes: Probes
    show: Callable[[Book], None]
    _slow_at: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Begin to look, for as long as the process lives."""
        threading.Thread(target=self._run, name="axis-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_TICK_SECONDS)
            books = self.books()
            slow = time.monotonic() - self._slow_at > _SLOW_TICK_SECONDS
            if slow:
                self._slow_at = time.monotonic()
            going = self._going(books) if slow else {}
            for book in books:
                try:
                    if slow:
                        self.show(book)
                    self._look(book, going, slow)
                except Exception as error:  # a run whose storage fails must not blind the others
                    book.say(f"{type(error).__name__}: {error}")

    def _going(self, books: list[Book]) -> Mapping[str, float]:
        held = any(book.state.gang == "held" for book in books)
        return self.drains() if held else {}

    def _look(self, book: Book, going: Mapping[str, float], slow: bool) -> None:
        if time.monotonic() - book.heard_at > DRIVER_SILENCE_SECONDS:
            self.give_back(book)
            return
        with book.lock:
            if book.state.phase in _OVER:
                return
            if going:
                self._note_drains(book, going)
            self._note_silence(book)
            if slow:
                self._note_budget(book)
                self._look_at_excluded(book)

    def _note_drains(self, book: Book, going: Mapping[str, float]) -> None:
        fresh = {node: at for node, at in going.items() if node not in book.told_drains}
        if not fresh:
            return
        known = [at - time.time() for at in fresh.values() if at > 0]
        event = DrainNoticed(
            nodes=tuple(sorted(fresh)),
            grace_seconds=max(0.0, min(known)) if known else None,
            why="the cluster drains them",
            **book.stamp(),
        )
        book.tell(event)
        book.told_drains.update(fresh)

    def _note_silence(self, book: Book) -> None:
        state = book.state
        if state.policy is None or state.phase not in _AT_WORK or not state.started:
            return
        now = time.monotonic()
        silent = book.ears.silent_seconds(now)
        after = state.policy.suspect_after_seconds
        silent = {node: min(s, self.probes.since_answer(node, now)) for node, s in silent.items()}
        found = judge_silence(silent, state.suspects, after)
        for node in found.to_probe:
            self.probes.ask(node, after)
        for node in found.cleared:
            book.tell(NodeCleared(node=node, **book.stamp()))
        for node in found.suspected:
            book.tell(NodeSuspected(node=node, silent_seconds=silent[node], **book.stamp()))
            book.say(f"node {node[:12]} has said nothing for {silent[node]:.0f} s")
        if found.lost:
            self._give_up(book, found.lost, silent)

    def _give_up(self, book: Book, nodes: tuple[str, ...], silent: Mapping[str, float]) -> None:
        ranks = sorted(rank for node in nodes for rank in book.ears.ranks_on(node))
        named = ", ".join(node[:12] for node in nodes)
        who = ", ".join(map(str, ranks))
        longest = max(silent[node] for node in nodes)
        message = f"node {named} (worker {who}) has said nothing for {longest:.0f} s, nor answers"
        event = TrainingFailed(cause="node", message=message, nodes=nodes, **book.stamp())
        reply = book.tell(event)
        if reply.verdict == "accepted":
            book.say(message)

    def _note_budget(self, book: Book) -> None:
        state = book.state
        spent = over_budget(state, time.time() - state.updated_at_seconds)
        if spent is not None and state.stop is None:
            event = BudgetSpent(what=spent.what, used=spent.used, limit=spent.limit, **book.stamp())
            book.tell(event)

    def _look_at_excluded(self, book: Book) -> None:
        """Nodes that the run does without, but that are there after all, may be used again."""
        excluded = [each for each in book.state.excluded if each not in book.told_drains]
        if not excluded:
            return
        now, live = time.monotonic(), self.live()
        for node in excluded:
            if node not in live:
                continue
            if self.probes.since_answer(node, now) < _SLOW_TICK_SECONDS * 3:
                book.tell(NodeCleared(node=node, **book.stamp()))
                book.say(f"node {node[:12]} answers again")
            else:
                self.probes.ask(node, 5.0)
