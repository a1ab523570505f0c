"""The names of gunicorn's that are used beyond its public interface."""

import inspect
from typing import Any

from gunicorn.asgi import protocol
from gunicorn.workers import gasgi

#: By class, what is called, read or overridden there.
METHODS: dict[Any, tuple[str, ...]] = {
    protocol.ASGIProtocol: (
        "_arm_keepalive_timer",
        "_build_http_scope",
        "_cancel_keepalive_timer",
        "_check_h1c_protocol_available",
        "_close_transport",
        "_feed_callback_parser",
        "_is_websocket_upgrade",
        "_pause_reading",
        "_safe_write",
        "_send_error_response",
        "connection_lost",
        "connection_made",
        "data_received",
        "pause_writing",
        "resume_writing",
    ),
    protocol.BodyReceiver: ("_body_finished", "_complete", "signal_disconnect"),
    gasgi.ASGIWorker: (
        "_serve",
        "check_config",
        "handle_exit_signal",
        "handle_quit_signal",
        "load_wsgi",
        "notify",
    ),
}
#: By class, the attributes that its constructor sets.
ATTRIBUTES: dict[Any, tuple[str, ...]] = {
    protocol.ASGIProtocol: (
        "_body_receiver",
        "_callback_parser",
        "_closed",
        "_current_request",
        "_request_ready",
        "_task",
        "log",
        "transport",
        "worker",
    ),
    gasgi.ASGIWorker: ("loop", "nr_conns", "servers"),
}


def missing() -> list[str]:
    """Return what the installed gunicorn does not have."""
    absent = [
        f"{owner.__name__}.{name}"
        for owner, names in METHODS.items()
        for name in names
        if not hasattr(owner, name)
    ]
    for owner, names in ATTRIBUTES.items():
        source = inspect.getsource(owner.__init__)
        absent += [
            f"{owner.__name__}().{name}" for name in names if f"self.{name} = " not in source
        ]
    return absent
