"""The engine on PostgreSQL: no leader, a slot is one transaction, Procrastinate carries the batch.

Lock order everywhere: `pace`, `ingestion`, `depth`. Instants are seconds since 1970 by the
database's clock; a worker's own monotonic clock only measures what is short.
"""
