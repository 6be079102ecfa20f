document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "TEXTAREA"].includes(document.activeElement.tagName);
  if (typing || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const button = document.querySelector('[data-key="' + CSS.escape(event.key) + '"]');
  if (button) { event.preventDefault(); button.click(); }
});
