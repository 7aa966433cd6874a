// What scrolls sideways is reached by the keyboard and has a name: not every browser sees to that.
(() => {
  const names = {
    ".table-wrapper": ["region", "Table"],
    "article pre": ["group", "Code"],
    "article dt.sig": ["group", "Signature"],
    "div.math": ["group", "Formula"],
  };
  const heading = (part) =>
    part.closest("section")?.querySelector("h1, h2, h3, h4")?.firstChild.textContent ?? "";
  const look = () => {
    for (const [selector, [role, kind]] of Object.entries(names)) {
      for (const part of document.querySelectorAll(selector)) {
        const scrolls = part.scrollWidth > part.clientWidth + 1;
        const given = { tabindex: "0", role, "aria-label": `${kind}: ${heading(part)}` };
        for (const [name, value] of Object.entries(given)) {
          if (scrolls) part.setAttribute(name, value);
          else part.removeAttribute(name);
        }
      }
    }
  };
  addEventListener("load", look);
  addEventListener("resize", look);
})();
