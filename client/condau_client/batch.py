"""Many files with one call: every digest goes in one batch, every file is finished here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from condau_client.client import Client, Level, Part, read_signature
from condau_client.errors import CondauError, Conflict, Forbidden, Rejected, Unavailable, Violation
from condau_client.pdf import HoleTooSmall, Options, Prepared, Signer, finish, prepare

AT_ONCE: Final = 100
"""Files of one batch: each is open meanwhile."""
_WAIT: Final = 20
_ERRORS: Final[dict[str, type[CondauError]]] = {
    "rejected": Rejected,
    "conflict": Conflict,
    "refused": Conflict,
    "forbidden": Forbidden,
    "unavailable": Unavailable,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file; ``error`` is None where ``target`` is there."""

    source: Path
    target: Path
    error: CondauError | OSError | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    source: Path
    target: Path
    part: Part
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class _Order:
    """What is the same for every file."""

    client: Client
    signer: Signer
    level: Level
    options: Options | None
    activation: str | None
    progress: Callable[[int], None]


def sign_files(
    client: Client,
    files: Sequence[tuple[Path, Path]],
    *,
    level: Level = "B-LTA",
    signer: str | None = None,
    options: Options | None = None,
    activation: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Sign each source into its target; one that cannot be signed stops no other.

    ``progress`` is told how many more are signed by the service. Raises CondauError where the service takes none of them.
    """
    order = _Order(client, client.find_signer(signer), level, options, activation, progress)
    for start in range(0, len(files), AT_ONCE):
        with ExitStack() as stack:
            waiting: list[_Waiting] = []
            for source, target in files[start : start + AT_ONCE]:
                try:
                    part = stack.enter_context(Part(source, target))
                    waiting.append(_Waiting(source, target, part, prepare(part.file, order.signer, options)))
                except (CondauError, OSError) as error:
                    yield Outcome(source, target, error)
            if waiting:
                yield from _sign(order, waiting)


def _sign(order: _Order, waiting: Sequence[_Waiting]) -> Iterator[Outcome]:
    client, signer = order.client, order.signer
    items = [{"digest": one.prepared.digest.hex()} for one in waiting]
    path = f"/v1/signatures/batches?level={order.level}&signer={signer.serial}&wait={_WAIT}"
    batch = client.post(path, {"algorithm": signer.algorithm, "items": items}, activation=order.activation)
    place = f"/v1/signatures/batches/{batch['id']}"
    ended = 0
    while True:
        now = batch["progress"]["done"] + batch["progress"]["failed"]
        order.progress(now - ended)
        ended = now
        if batch["state"] != "running":
            break
        batch = client.get(f"{place}?wait={_WAIT}")
    found = client.get(f"{place}/items?limit={AT_ONCE}")["items"]
    for one, item in zip(waiting, found, strict=True):
        yield Outcome(one.source, one.target, _finish(order, one, item))
    client.transport.request("DELETE", place)


def _finish(order: _Order, one: _Waiting, item: dict[str, Any]) -> CondauError | OSError | None:
    if item["state"] != "done":
        return _error_of(item)
    try:
        signature, material = read_signature(item["result"])
        try:
            finish(one.prepared, signature)
        except HoleTooSmall:
            with Part(one.source, one.target) as again:
                order.client.sign_open(again.file, order.signer, order.level, order.options, activation=order.activation)
                again.commit()
            return None
        order.client.make_last(one.prepared, order.level, material)
        one.part.commit()
    except (CondauError, OSError) as error:
        return error
    return None


def _error_of(item: dict[str, Any]) -> CondauError:
    problem = item["problem"] or {"error": "", "detail": f"it is {item['state']}", "violations": []}
    violations = [Violation(found["field"], found["message"]) for found in problem["violations"]]
    return _ERRORS.get(problem["error"], CondauError)(problem["detail"], violations=violations)
