// The theme puts each copy button into a <nav> without a name. Screen readers would
// announce one landmark a code block; a plain container announces the button alone.
const quieten = () =>
  document
    .querySelectorAll("nav.md-code__nav:not([role])")
    .forEach((nav) => nav.setAttribute("role", "none"))

quieten()
new MutationObserver(quieten).observe(document.body, { childList: true, subtree: true })
