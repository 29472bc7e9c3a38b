"""Draws the card of each page: the picture that a social network shows with a link.

A card has the page's title and what it is about; a lesson's has the output that proves
it. Cards are kept, and drawn again when what they show or how they are drawn changes.
"""

import functools
import hashlib
import os
import re
import shutil
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from nnx_by_example import course
from nnx_by_example.course import Lesson
from tools.project import CACHE, DOCS
from tools.website import attempts, twins

KEPT = CACHE / "cards"
LOGO, STYLE = (DOCS / "assets" / name for name in ("logo.svg", "site.css"))
DARK = '[data-md-color-scheme="slate"]'

WIDTH, HEIGHT = SIZE = 1200, 630  # what networks ask for
MARGIN, TOP = 80, 72  # at the sides, and above and below
INNER = WIDTH - 2 * MARGIN
PAD = 36, 20  # in the box of an output
GAP = 32  # above and below the text
COLOURS = 48  # in the file: the edges of letters need no more

# Fonts that come with what builds the site.
MKDOCS, MATPLOTLIB = (
    Path(find_spec(name).origin).parent for name in ("mkdocs", "matplotlib")
)
LATO = MKDOCS / "themes" / "readthedocs" / "css" / "fonts"
DEJAVU = MATPLOTLIB / "mpl-data" / "fonts" / "ttf"
TITLES = [ImageFont.truetype(LATO / "lato-bold.woff", size) for size in (92, 60)]
NAME = ImageFont.truetype(LATO / "lato-bold.woff", 34)
PART = ImageFont.truetype(LATO / "lato-normal.woff", 30)
TEXT = ImageFont.truetype(LATO / "lato-normal.woff", 36)
PRINTED = ImageFont.truetype(DEJAVU / "DejaVuSansMono.ttf", 34)


class Card(NamedTuple):
    """What a card shows; `printed` is the output that proves a lesson."""

    site: str
    part: str
    title: str
    text: str
    printed: str = ""

    @property
    def alt(self) -> str:
        """Return the card in words."""
        printed = f" It prints: {self.printed}" if self.printed else ""
        return f"{self.title}. {self.text}{printed}"


def write_all(files: Files, config: MkDocsConfig) -> dict[str, dict[str, str]]:
    """Write the cards into the folder of the built site; return what heads say.

    Returns:
      For the address of each page: title, about, address of its card, card in words.
    """
    lessons = {f"course/{one.name}/index.md": one for one in course.lessons(config.nav)}
    ground.cache_clear()  # `make serve` builds again when logo or colours have changed
    used, heads = set(), {}
    for page in (file.page for file in files.documentation_pages()):
        card = card_of(page, lessons.get(page.file.src_uri), config)
        name = f"assets/cards/{page.url.strip('/') or 'index'}.png"
        target = Path(config.site_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        used.add(kept := drawn(card))
        shutil.copy(kept, target)
        heads[page.url] = {
            "title": card.title,
            "about": twins.about(page, config),
            "card": config.site_url + name,
            "alt": card.alt,
        }
    for file in set(KEPT.glob("*.png")) - used:
        file.unlink(missing_ok=True)
    return heads


def card_of(page: Page, lesson: Lesson | None, config: MkDocsConfig) -> Card:
    """Return what the card of a page shows."""
    if lesson:
        part = f"Lesson {lesson.number} · {lesson.phase}"
        text = lesson.meta["proves"].replace("`", "")
        printed = attempts.invariant(lesson.page)
        return Card(config.site_name, part, page.title, text, printed)
    part = page.parent.title if page.parent else ""
    title = config.site_name if page.is_homepage else page.title
    return Card(config.site_name, part, title, twins.about(page, config))


def drawn(card: Card) -> Path:
    """Return the file of a card, named by what it shows and by how it is drawn."""
    parts = [repr(card).encode(), *map(Path.read_bytes, (Path(__file__), LOGO, STYLE))]
    state = hashlib.sha256(b"\0".join(parts)).hexdigest()
    kept = KEPT / f"{state}.png"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        image = draw(card).quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=0)
        draft = kept.with_suffix(f".{os.getpid()}")  # another process may draw it too
        image.save(draft, "PNG")
        draft.replace(kept)
    return kept


def draw(card: Card) -> Image.Image:
    """Return a card: at its top the site, at its foot what the page is about.

    Raises:
      PluginError: if its texts are too long, or have a sign that their font lacks.
    """
    image = ground("" if card.title == card.site else card.site).copy()
    pen, bottom = ImageDraw.Draw(image), HEIGHT - TOP
    if card.part:
        part = "\n".join(lines_of(card.part, PART, 660))  # the rest is for the name
        at, style = (WIDTH - MARGIN, TOP + 22), {"anchor": "rm", "align": "right"}
        pen.text(at, part, colour("linen", DARK), PART, **style)
    if card.printed:
        # A list stays in one line, and so do a name and its value, or two numbers.
        together = r"\[.*?\]|: |\d \d"
        text = re.sub(together, lambda m: m[0].replace(" ", "\xa0"), card.printed)
        lines = lines_of(text, PRINTED, INNER - 2 * PAD[0])
        top = bottom - len(lines) * leading(PRINTED) - 2 * PAD[1]
        box = MARGIN, top, WIDTH - MARGIN, bottom
        pen.rectangle(box, colour("md-primary-fg-color--dark"))
        pen.rectangle((*box[:2], MARGIN + 7, bottom), colour("output-mark", DARK))
        write(pen, lines, PRINTED, "white", bottom - PAD[1], MARGIN + PAD[0])
        bottom = top - GAP
    soft = colour("md-primary-bg-color--light")
    bottom = write(pen, lines_of(card.text, TEXT), TEXT, soft, bottom)
    for font in TITLES:  # the small one where the rest leaves no room for the large
        lines = lines_of(card.title, font)
        if bottom - 12 - len(lines) * leading(font) > TOP + 64:
            write(pen, lines, font, "white", bottom - 12)
            return image
    raise PluginError(f"No room on the card of {card.title!r}: shorten its texts")


@functools.cache
def ground(name: str) -> Image.Image:
    """Return what cards share: the colour, the logo and its shadow, the site's name."""
    image = Image.new("RGB", SIZE, colour("md-primary-fg-color"))
    stamp(image, (600, -147), 924, colour("md-primary-fg-color--light"))
    size = 64 if name else 128
    stamp(image, (MARGIN - size // 8, TOP - size * 5 // 32), size)
    ImageDraw.Draw(image).text((148, TOP + 22), name, "white", NAME, anchor="lm")
    return image


def stamp(image: Image.Image, at: tuple[int, int], size: int, shadow: str = "") -> None:
    """Put the logo on an image, or its shadow in a colour."""
    for shape in ElementTree.parse(LOGO).getroot():
        points = [float(number) * size / 16 for number in shape.get("points").split()]
        mask = Image.new("L", (2 * size, 2 * size))  # halved below: smooth edges
        ImageDraw.Draw(mask).polygon(points, 90 if shadow else 255)
        image.paste(shadow or shape.get("fill"), at, mask.resize((size, size)))


def colour(name: str, scheme: str = ":root") -> str:
    """Return a colour that `site.css` names, in one of its schemes."""
    style = STYLE.read_text("utf-8").partition(f"{scheme} {{")[2]
    return re.search(rf"--{name}: (#\w+);", style)[1]


def lines_of(text: str, font: FreeTypeFont, width: int = INNER) -> list[str]:
    """Return a text in lines of a width: as few as can be, and as even.

    Raises:
      PluginError: if a word is too long, or the font lacks a sign.
    """
    if lacks := [sign for sign in text if not draws(font, sign)]:
        raise PluginError(f"Its card has no sign for {lacks[0]!r} of {text!r}")
    best, before = [], None
    for n in range(len(text), 0, -1):
        lines = textwrap.wrap(text, n, break_long_words=False, break_on_hyphens=False)
        if best and len(lines) > len(best):
            break
        if lines != before and max(map(font.getlength, lines)) <= width:
            best = lines  # so far the narrowest of as few lines
        before = lines
    if not best:
        raise PluginError(f"A word is too long for a card in {text!r}: shorten it")
    return best


@functools.cache
def draws(font: FreeTypeFont, sign: str) -> bool:
    """Return whether a font has a sign, and draws no box in its place."""
    return bytes(font.getmask(sign)) != box_of(font)


@functools.cache
def box_of(font: FreeTypeFont) -> bytes:
    """Return what a font draws for a sign that is not there."""
    return bytes(font.getmask("\uffff"))


def leading(font: FreeTypeFont) -> int:
    """Return the distance of the lines of a text."""
    return sum(font.getmetrics()) + 6


def write(
    pen: ImageDraw.ImageDraw,
    lines: list[str],
    font: FreeTypeFont,
    colour: str,
    bottom: int,
    left: int = MARGIN,
) -> int:
    """Write lines above `bottom`; return where the first of them begins."""
    for line in reversed(lines):
        bottom -= leading(font)
        pen.text((left, bottom + leading(font) / 2), line, colour, font, anchor="lm")
    return bottom
