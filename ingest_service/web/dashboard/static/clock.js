// The server's time: the clock of a browser may be an hour off.
let ahead = 0;

/** Learn from an answer that was asked for at `sent` (milliseconds of this browser). */
export function learn(response, sent) {
  const at = Date.parse(response.headers.get("X-Now") ?? "");
  if (!Number.isNaN(at)) ahead = at - (sent + Date.now()) / 2;
}

/** Return what time it is where the server is, in milliseconds. */
export function now() {
  return Date.now() + ahead;
}
