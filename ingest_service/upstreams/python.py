"""A connector written in Python by somebody else."""

import importlib
from typing import cast

from ingest_service.errors import SettingsError
from ingest_service.upstreams.protocol import Connector


def load_connector(name: str) -> Connector:
    """Import what `package.module:callable` names; raise `SettingsError` if that does not work."""
    module, _, attribute = name.partition(":")
    try:
        connector = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise SettingsError(f"INGEST_UPSTREAM={name!r} cannot be imported: {error}.") from error
    if not callable(connector):
        raise SettingsError(f"INGEST_UPSTREAM={name!r} is not allowed: it must name a callable.")
    return cast(Connector, connector)
