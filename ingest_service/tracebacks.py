"""What an error holds on to."""


def let_go(error: BaseException) -> None:
    """Let go of what `error`, which was dealt with, holds: the frames it came through.

    Where one of these holds the error (marshmallow's do), both would stay, and with them all
    that its callers had in hand, until the collector comes by. That counts objects, not bytes.
    """
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            errors += [one.__cause__, one.__context__]
