// Keys go to the dashboard from the first moment, without a click into the page.
addEventListener("load", () => document.querySelector(".xterm-helper-textarea")?.focus());
addEventListener("focus", () => document.querySelector(".xterm-helper-textarea")?.focus());
