// A button beside every command; where a browser forbids copying there is none.
function offer() {
  for (const command of document.querySelectorAll(".command:not(:has(button))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.dataset.keep = "";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    command.append(button);
  }
}

export function offerCopies() {
  if (!navigator.clipboard) return;
  offer();
  document.addEventListener("fresh", offer);
}
