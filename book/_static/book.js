// Boxes that scroll sideways can be reached with the keyboard; boxes that fit are left alone.
(function () {
  "use strict";
  const BOXES =
    ".bd-article pre, .bd-article .output, .bd-article .pst-scrollable-table-container, " +
    ".bd-article mjx-container[display='true'], .bd-article div.math, .bd-article .rl-row";

  function label(box) {
    if (box.matches("pre")) return "Code or printed output, scrolls sideways";
    if (box.querySelector("table")) return "Table, scrolls sideways";
    if (box.matches("mjx-container, div.math")) return "Formula, scrolls sideways";
    return "Output, scrolls sideways";
  }

  function mark() {
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls =
        box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible";
      if (scrolls && !box.dataset.rlScrolls) {
        box.dataset.rlScrolls = "1";
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", label(box));
      } else if (!scrolls && box.dataset.rlScrolls) {
        delete box.dataset.rlScrolls;
        box.removeAttribute("tabindex");
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
    }
  }

  window.addEventListener("load", function () {
    mark();
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(mark);
    document.addEventListener("toggle", mark, true);
    window.addEventListener("resize", mark);
  });
})();
