// Asks for the page again and again; what has not changed is not sent. Rests while nobody looks,
// and asks less and less often while the server is away.
import { learn } from "./clock.js";
import { morph } from "./morph.js";
import { tell, span } from "./times.js";

const EVERY = 2_000;
const LONGEST = 30_000;
const REGIONS = ["bar", "main"];

let etag = null;
let failures = 0;
let lostAt = null;
let timer = null;

/** Start. Pages that answer a form are as they are: asking again would send it again. */
export function keepFresh() {
  if (!document.getElementById("bar")) return;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) look();
  });
  look();
}

async function look() {
  clearTimeout(timer);
  const sent = Date.now();
  try {
    const headers = etag ? { "If-None-Match": etag } : {};
    const response = await fetch(source(), { headers, cache: "no-store", redirect: "follow" });
    // What is shown stays, also when the key has asked too often.
    if (response.status === 429 || response.status >= 500) throw new Error(`it answers ${response.status}`);
    // Signed out meanwhile, or the key has ended.
    if (response.status === 401) return location.reload();
    learn(response, sent);
    if (response.status !== 304) {
      show(await response.text());
      etag = response.headers.get("ETag");
    }
    found();
  } catch (error) {
    lost(error);
  }
  if (!document.hidden) timer = setTimeout(look, wait());
}

/** A page that came as the answer to a form has no address of its own; its bar is everybody's. */
function source() {
  return answersForm() ? "/dashboard" : location.pathname + location.search;
}

function answersForm() {
  return document.querySelector("[data-answer]") !== null;
}

/** Show what is new in `html`. */
export function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  tell(fresh);
  for (const id of answersForm() ? ["bar"] : REGIONS) {
    const [old, wanted] = [document.getElementById(id), fresh.getElementById(id)];
    if (old && wanted) morph(old, wanted);
  }
  if (!answersForm() && document.title !== fresh.title) document.title = fresh.title;
  document.dispatchEvent(new CustomEvent("fresh"));
}

function wait() {
  return failures ? Math.min(LONGEST, EVERY * 2 ** (failures - 1)) : EVERY;
}

function found() {
  failures = 0;
  lostAt = null;
  const away = document.getElementById("away");
  if (!away.hidden) away.hidden = true;
}

function lost(error) {
  failures += 1;
  lostAt ??= Date.now();
  const away = document.getElementById("away");
  const reason = error instanceof TypeError ? "it cannot be reached" : error.message;
  const since = span((Date.now() - lostAt) / 1000);
  away.textContent = `The server is away: ${reason}. What you see is ${since} old; asking again in ${span(wait() / 1000)}.`;
  away.hidden = false;
}
