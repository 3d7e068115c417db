"use strict";
// The only script: a button that copies the command beside it. Without scripts there is no button.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const status = button.parentElement.querySelector("[role=status]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // without TLS browsers give no clipboard
      status.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
  });
}
