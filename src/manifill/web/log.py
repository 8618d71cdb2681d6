"""Log lines, each of which says which request it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
log = logging.getLogger("manifill.web")


class Lines(logging.Formatter):
    """Time, level, request id and message; a traceback's lines begin like its first."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record, every line of it with the request id."""
        start = f"{self.formatTime(record)} {record.levelname} [{request_id.get()}] "
        return "\n".join(start + line for line in super().format(record).splitlines())


@contextmanager
def about(request: str) -> Iterator[None]:
    """Log lines of another request."""
    before = request_id.set(request)
    try:
        yield
    finally:
        request_id.reset(before)


def start() -> None:
    """Send all log records and warnings of this process to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
