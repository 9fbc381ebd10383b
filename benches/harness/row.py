"""What a workload is to the harness: a row of the table, with its target, its steps and its limit."""

from dataclasses import dataclass, field
from typing import Callable

from .engines import BUILDERS
from .measure import Command


@dataclass(frozen=True)
class Target:
    """What is asked of rbuild: seconds at most, times faster than the best of the others, or in words."""

    seconds: float | None = None
    # Of the best of the others; or {engine: times}.
    ratio: float | dict | None = None
    text: str = ""
    # Judges what is no time: takes the results of all rows, returns (met or None, what was found).
    judge: Callable | None = None


@dataclass
class Limit:
    """Plain commands that do an unavoidable part. `prepare` is not timed."""

    label: str
    command: Command
    prepare: Callable = lambda: None


@dataclass
class Row:
    """One measured thing. What the functions take is an engine; only `job` is timed."""

    name: str
    group: str
    what: str
    job: Callable
    target: Target = field(default_factory=Target)
    engines: tuple = BUILDERS
    # Before the rounds: what the engine is to have. Then before each of its turns.
    prime: Callable = lambda engine: None
    prepare: Callable = lambda engine: None
    # After the first round: Failed if what came out is wrong.
    check: Callable = lambda engine: None
    # What else a turn shows: {name: number}.
    observe: Callable = lambda engine, sample: {}
    finish: Callable = lambda engine: None
    limits: Callable = lambda: []
    setup: Callable = lambda: None
    # Finds what the functions take, by its name; None: the bench's own engines.
    engine: Callable | None = None
