"""The engine in this process: a lock, dictionaries, priority queues, one thread, a journal."""
