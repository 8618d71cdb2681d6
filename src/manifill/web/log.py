"""Log lines, each of which says which request it belongs to."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
log = logging.getLogger("manifill.web")
QUIET_SECONDS = 60.0  # between two log lines about the same thing
CROWDED = "%d connections at once are all that this process may have files for; closed %d that sent nothing"


class Lines(logging.Formatter):
    """Time, level, request id and message; a traceback's lines begin like its first."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record, every line of it with the request id."""
        start = f"{self.formatTime(record)} {record.levelname} [{request_id.get()}] "
        return "\n".join(start + line for line in super().format(record).splitlines())


class Seldom(logging.Filter):
    """Lets one record with these words through, then none for a while."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.last = words, -QUIET_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is to be seen."""
        if self.words not in str(record.msg):
            return True
        quiet = time.monotonic() - self.last < QUIET_SECONDS
        self.last = self.last if quiet else time.monotonic()
        return not quiet


def start() -> None:
    """Send all log records and warnings of this process to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncio").addFilter(Seldom("out of system resource"))  # without files, at each connection
    log.addFilter(Seldom(CROWDED))
    logging.captureWarnings(True)
