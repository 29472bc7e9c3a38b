// What the theme adds to code blocks, made clear to screen readers: a copy button is
// not a landmark of its own, and the marker of an annotation has a name. Beside the
// copy button of a Python block comes another, which the theme serves like its own. It
// copies the program from the top of the page, both tabs and folded parts included.
{
  const above = last => {
    const codes = [...document.querySelectorAll(".language-python pre > code")]
    return codes.slice(0, codes.indexOf(last) + 1).map(code => {
      const copy = code.cloneNode(true)
      for (const mark of copy.querySelectorAll(".md-annotation")) mark.remove()
      return copy.textContent.trimEnd()
    }).join("\n\n\n")
  }
  const describe = () => {
    for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) {
      nav.setAttribute("role", "none")
      const code = nav.nextElementSibling
      if (!code.closest(".language-python")) continue
      const button = nav.lastChild.cloneNode()
      button.title = "Copy with all above"
      button.dataset.mdType = "above"
      button.onclick = () => button.dataset.clipboardText = above(code)
      nav.append(button)
    }
    for (const mark of document.querySelectorAll(".md-annotation__index:not([aria-label])"))
      mark.setAttribute("aria-label", "Annotation")
  }
  describe()
  new MutationObserver(describe).observe(document.body, { childList: true, subtree: true })
}

// What a reader has solved: ticked off on its page, or pasted into the course map. This
// browser alone keeps it, as a list of names. Order and titles are those of the list at
// the left, which every page has. Nothing of this is there without a script.
{
  const nameOf = link => link.href.match(/\/course\/([\w-]+)\/$/)?.[1]
  const linksIn = place => [...document.querySelectorAll(place)].filter(nameOf)
  const lessons = () => linksIn(".md-nav--primary li > a")
  const solved = () => {
    let kept
    try { kept = __md_get("solved") } catch {} // blocked, or not ours
    return lessons().map(nameOf).filter(name => Array.isArray(kept) && kept.includes(name))
  }
  const keep = names => { __md_set("solved", names); show() }

  const made = (tag, look, content = "") => {
    const element = document.createElement(tag)
    element.className = look
    element.innerHTML = content
    return element
  }
  const tick = name => {
    const label = made("label", "tick", '<input type="checkbox"> I have solved this lesson')
    label.firstChild.onchange = event => {
      const others = solved().filter(other => other != name)
      keep(event.target.checked ? [...others, name] : others)
    }
    return label
  }
  const exchange = () => {
    const form = made("form", "solved-line", `
      <h2>What you have solved</h2>
      <p>This browser keeps what you tick off at the end of a lesson's check, and sends it
      nowhere. One line takes it to <code>nbe</code> or to another browser, and back.</p>
      <p hidden><code></code><br><button type="button" class="md-button">Copy</button></p>
      <p><label for="solved-line">Paste what <code>nbe progress</code> prints:</label><br>
      <input id="solved-line" required autocomplete="off" spellcheck="false">
      <button class="md-button">Add</button></p>
      <p role="status"></p>`)
    form.onsubmit = event => {
      event.preventDefault()
      const field = form.querySelector("input")
      const words = field.value.replace(/^\s*nbe progress\s/, "").trim().split(/\s+/)
      const known = lessons().map(nameOf)
      const unknown = words.filter(word => !known.includes(word))
      const before = solved()
      keep([...new Set([...before, ...words.filter(word => known.includes(word))])])
      const says = [`Lessons added: ${solved().length - before.length}.`]
      if (unknown.length) says.push(`Left out, as no lesson has this name: ${unknown.join(", ")}.`)
      form.querySelector("[role]").textContent = says.join(" ")
      field.value = ""
    }
    return form
  }

  const show = () => {
    const done = solved(), links = lessons()
    for (const link of [...links, ...linksIn("article h3 > a")])
      link.parentElement.classList.toggle("solved", done.includes(nameOf(link)))
    for (const box of document.querySelectorAll(".tick input"))
      box.checked = done.includes(nameOf(location))
    const next = links.findIndex(link => !done.includes(nameOf(link)))
    for (const go of document.querySelectorAll(".go-on")) {
      go.hidden = !done.length || next < 0
      const link = links[Math.max(next, 0)] // one leads somewhere, hidden or not
      go.href = link.href
      go.textContent = `Go on with lesson ${next + 1}: ${link.textContent.trim()}`
    }
    for (const button of document.querySelectorAll(".solved-line [type=button]")) {
      const line = ["nbe progress", ...done].join(" ")
      button.parentElement.hidden = !done.length
      button.parentElement.firstChild.textContent = button.dataset.clipboardText = line
    }
  }

  addEventListener("storage", show) // another tab of this site
  document$.subscribe(() => {
    const map = document.querySelector("h2[id^=phase-1]")
    const start = map ?? document.querySelector(".hero-claim .md-button:not(.md-button--primary)")
    start?.before(made("a", "go-on md-button md-button--primary"))
    map?.parentElement.append(exchange())
    if (nameOf(location)) document.getElementById("hints")?.before(tick(nameOf(location)))
    show()
  })
}
