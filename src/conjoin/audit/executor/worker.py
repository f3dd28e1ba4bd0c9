"""A worker's side of :class:`conjoin.audit.executor.pool.Pool`."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection

import torch

from conjoin.audit.executor.parcel import Token, Unpacker, arrived
from conjoin.audit.task import Failed, perform


def serve(channel: int) -> None:
    """Perform tasks as they come, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    pipe = Connection(channel)
    kept: dict[Token, object] = {}
    try:
        torch.set_default_dtype(getattr(torch, pipe.recv()))
        pipe.send(("ready",))
        while True:
            token, weights = pipe.recv()
            content = pipe.recv_bytes()
            if token is None:
                pipe.send(performed(content, kept))
            else:
                kept[token] = arrived(content, token[0], weights)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        return


def performed(content: bytes, kept: dict[Token, object]) -> tuple[object, ...]:
    """Perform a packed task; say in plain values how it went, since not every error can be pickled."""
    try:
        placed, store = Unpacker(content, kept).load()
    except Exception as error:  # whatever a stranger's class raises
        return "failed", type(error).__name__, str(error), ""
    try:
        outcome = perform(placed, store)
    except OSError as error:
        return "stopped", error.errno, error.strerror, str(error.filename or store.url)
    if isinstance(outcome, Failed):
        return "failed", type(outcome.error).__name__, str(outcome.error), outcome.trace
    return ("done",)


__all__ = ["performed", "serve"]
