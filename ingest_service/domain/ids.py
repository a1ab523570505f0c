"""Fresh ids: uuid4 strings, for which the system is asked for chance once in a while."""

import os

_AT_A_TIME = 256
_SIZE = 16

#: Taken from by one `pop`, which is safe between threads.
_chance: list[str] = []


def fresh_id() -> str:
    """Return a lower-case uuid4 string."""
    while True:
        try:
            text = _chance.pop()
        except IndexError:
            several = os.urandom(_AT_A_TIME * _SIZE).hex()
            step = 2 * _SIZE
            _chance.extend(several[at : at + step] for at in range(0, len(several), step))
            continue
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
