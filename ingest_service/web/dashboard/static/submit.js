// The plan while one types, and files that are dropped.
import { morph } from "./morph.js";
import { tell } from "./times.js";

/** More than this is only planned when somebody asks. */
const SMALL = 100_000;

export function planAsTyped() {
  const form = document.getElementById("submit");
  if (!form) return;
  const [pasted, file] = [document.getElementById("pasted"), document.getElementById("file")];
  let timer = null;
  let asked = 0;

  async function plan() {
    const number = ++asked;
    const body = new FormData(form);
    body.set("echo", "no");
    body.set("do", "plan");
    const response = await fetch(form.action, { method: "POST", body });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (number !== asked) return;
    tell(page);
    const [plan, buttons] = [page.getElementById("plan"), page.querySelector(".submit .buttons")];
    if (!plan) return;
    morph(document.getElementById("plan"), plan);
    morph(form.querySelector(".buttons"), buttons);
  }

  function soon() {
    clearTimeout(timer);
    if (pasted.value.length > SMALL) return;
    timer = setTimeout(() => {
      if (pasted.value.trim() || file.files.length) plan().catch(() => {});
    }, 400);
  }

  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value === "send") return;
    event.preventDefault();
    plan().catch(() => form.submit());
  });
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("dropping");
  });
  form.addEventListener("dragleave", () => form.classList.remove("dropping"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    file.files = event.dataTransfer.files;
    soon();
  });
}
