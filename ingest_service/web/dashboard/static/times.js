// Times in the zone of whoever looks, with UTC on hover; ages and countdowns that tick.
import { now } from "./clock.js";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const withDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

/** Return `seconds` in the two largest units, as the server writes durations. */
export function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const parts = [];
  let left = Math.floor(seconds);
  for (const [size, unit] of UNITS) {
    if (left >= size && parts.length < 2) {
      parts.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    }
  }
  if (parts.length < 2 && left && seconds < 600) parts.push(`${left} s`);
  return parts.join(" ");
}

function shown(at, form) {
  const seconds = (at - now()) / 1000;
  if (form === "age") return seconds > -1 ? "just now" : `${span(-seconds)} ago`;
  if (form === "countdown") return seconds < 0.5 ? "now" : `in ${span(Math.ceil(seconds))}`;
  const sameDay = new Date(at).toDateString() === new Date(now()).toDateString();
  return (sameDay ? clock : withDay).format(at);
}

/** Write every time in `root` for people; also in a page that is not shown yet. */
export function tell(root, selector = "time[datetime]") {
  for (const time of root.querySelectorAll(selector)) {
    const at = Date.parse(time.dateTime);
    const text = shown(at, time.dataset.form);
    if (time.textContent !== text) time.textContent = text;
    const title = new Date(at).toISOString().replace("T", " ").replace("Z", " UTC");
    if (time.title !== title) time.title = title;
  }
}

/** Let ages and countdowns go on; say so when one of them has come to its end. */
export function tick() {
  setInterval(() => {
    if (!document.hidden) tell(document, 'time[data-form="age"], time[data-form="countdown"]');
  }, 500);
}
