"use strict";
// The page works without this. It says at once what the server would say only after a long upload, shows that something is
// going on, and takes a file that is dropped beside the box.
(() => {
  const form = document.getElementById("check");
  if (!form) return;
  const inputs = Array.from(form.querySelectorAll("input[type=file]"));
  const button = form.querySelector("button");
  const status = form.querySelector("[role=status]");
  const limit = Number(form.dataset.limit);

  const check = () => {
    for (const input of inputs) {
      const large = Array.from(input.files).some((file) => file.size > limit);
      input.setCustomValidity(large ? form.dataset.large : "");
    }
    status.textContent = inputs.map((input) => input.validity.customError && input.validationMessage).find(Boolean) || "";
  };
  for (const input of inputs) input.addEventListener("change", check);

  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer || !event.dataTransfer.types.includes("Files")) return;
      form.classList.toggle("over", name === "dragover");
      if (event.target.type === "file") return; // the browser knows what to do there
      event.preventDefault();
      if (name === "drop") {
        inputs[0].files = event.dataTransfer.files;
        check();
      }
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) form.classList.remove("over");
  });

  form.addEventListener("submit", () => {
    status.textContent = form.dataset.busy;
    form.classList.add("busy");
    setTimeout(() => (button.disabled = true));
  });
  window.addEventListener("pageshow", () => {
    form.classList.remove("busy");
    button.disabled = false;
    check();
  });
})();
