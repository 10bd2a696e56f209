"""Log lines: one JSON object each on stderr, so that they can be searched by field."""

import logging
from datetime import UTC, datetime

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LOGGERS = ("hone", "uvicorn", "asyncio", "py.warnings")


class JsonFormatter(logging.Formatter):
    """Writes time, level, event and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {name: value for name, value in extra.items() if value is not None}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str) -> None:
    """Send our lines, and the warnings of the server and of libraries, to stderr."""
    logging.captureWarnings(capture=True)  # Pillow warns of what is odd in a client's picture
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("hone").setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # broken forms are answered
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
