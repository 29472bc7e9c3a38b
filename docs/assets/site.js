// What the theme adds to code blocks, made clear to screen readers: a copy button is not
// a landmark of its own, and the marker of an annotation has a name.
const describe = () => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])"))
    nav.setAttribute("role", "none")
  for (const mark of document.querySelectorAll(".md-annotation__index:not([aria-label])"))
    mark.setAttribute("aria-label", "Annotation")
}

describe()
new MutationObserver(describe).observe(document.body, { childList: true, subtree: true })
