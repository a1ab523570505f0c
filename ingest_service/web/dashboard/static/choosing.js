// How many are chosen, and all of them at once.
export function countChosen() {
  const form = document.getElementById("chosen");
  if (!form || !document.getElementById("bulk")) return;
  const boxes = () => [...form.querySelectorAll('input[name="id"]')];
  const all = document.getElementById("choose-all");
  all.closest("label").hidden = false;

  function count() {
    const every = boxes();
    const chosen = every.filter((box) => box.checked).length;
    document.getElementById("chosen-count").textContent = `(${chosen})`;
    all.checked = chosen > 0 && chosen === every.length;
    all.indeterminate = chosen > 0 && chosen < every.length;
    for (const button of form.querySelectorAll("button[name=action]")) button.disabled = !chosen;
  }

  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
    count();
  });
  form.addEventListener("change", count);
  document.addEventListener("fresh", count);
  count();
}
