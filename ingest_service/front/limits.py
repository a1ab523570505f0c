"""How long, how much and how many: what no client may exceed.

Read as `limits.NAME` at every use, so that a configuration file can set them.
"""

#: Seconds for a request's head, and for its body after that.
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
#: Longest head in bytes; gunicorn's finer limits do not bound it as a whole.
MAX_HEAD = 64 * 1024
#: All bodies that arrive or are worked on may have this many times the size of the largest one.
MAX_BODIES = 4
#: Bytes that a parser gets at a time: less than it keeps of a request behind the present one.
SLICE = 16 * 1024
#: Over so many seconds a client must take its answer at the rate that is set.
SLOW_SECONDS = 30.0
#: Seconds a client has to notice that its connection was closed.
LINGER_SECONDS = 2.0
#: Seconds within which somebody who has come asks, as a rule; at a stop they are waited for.
ASK_SECONDS = 0.25
#: Most connections, if there are descriptors for them.
MAX_CONNECTIONS = 10_000
#: Descriptors that are not for connections: journal, upstream, pages.
RESERVED_DESCRIPTORS = 64
#: Requests that run in a thread, and those that wait for one.
POOL_THREADS = 8
POOL_WAITING = 512
#: Threads that make the parts of streams: whoever fetches a lot leaves the others to those who ask.
STREAM_THREADS = 2
#: Clients that wait for a change; whoever comes then is answered at once.
MAX_WAITERS = 4_096
#: A body above this is not read in the loop; two above the second are never read at a time.
QUICK_BODY = 64 * 1024
LARGE_BODY = 1024 * 1024
#: Longest body of a GET: it can name an ingestion. A longer one is not looked at.
ASKING_BODY = 4 * 1024
#: Seconds between two looks for who is late.
SWEEP_SECONDS = 0.25
