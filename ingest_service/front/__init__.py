"""The server: gunicorn's asyncio worker under a thin shell around the synchronous application.

Two seams and no more: the public ASGI interface (`shell`), and a subclass of gunicorn's
protocol (`protocol`) for what an ASGI application never sees. The application knows nothing of it.
"""
