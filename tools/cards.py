"""Draws the card of each page: the picture that a social network shows with a link.

A card has the page's title and what it is about; a lesson's has the output that proves
it. Cards are kept, and drawn again when what they show or how they are drawn changes.
"""

import functools
import hashlib
import io
import os
import re
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from PIL import Image, ImageDraw, ImageFont

from nnx_by_example import course
from nnx_by_example.course import Lesson
from tools import twins

ASSETS = Path(__file__).parent.parent / "docs" / "assets"
LOGO, STYLE = ASSETS / "logo.svg", ASSETS / "site.css"
DARK = '[data-md-color-scheme="slate"]'

WIDTH, HEIGHT = SIZE = 1200, 630  # what networks ask for
MARGIN, TOP = 80, 72  # at the sides, and above and below
INNER = WIDTH - 2 * MARGIN
PAD = 36, 22  # in the box of an output
COLOURS = 48  # in the file: the edges of letters need no more

# Fonts that come with what builds the site: the second has signs that the first lacks.
PACKAGES = {
    name: Path(find_spec(name).origin).parent for name in ("mkdocs", "matplotlib")
}
LATO = PACKAGES["mkdocs"] / "themes" / "readthedocs" / "css" / "fonts"
DEJAVU = PACKAGES["matplotlib"] / "mpl-data" / "fonts" / "ttf"
PLAIN = LATO / "lato-normal.woff", DEJAVU / "DejaVuSans.ttf"
BOLD = LATO / "lato-bold.woff", DEJAVU / "DejaVuSans-Bold.ttf"
MONO = DEJAVU / "DejaVuSansMono.ttf", DEJAVU / "DejaVuSans.ttf"


class Card(NamedTuple):
    """What a card shows."""

    site: str
    """The name of the site, beside its logo."""
    part: str
    """What the page is a part of."""
    title: str
    text: str
    printed: str = ""
    """The output that proves a lesson."""

    @property
    def alt(self) -> str:
        """Return the card in words."""
        printed = f" It prints: {self.printed}" if self.printed else ""
        return f"{self.title}. {self.text}{printed}"


def write_all(
    files: Files, config: MkDocsConfig, kept: Path, proof: Callable[[str], str]
) -> dict[str, dict[str, str]]:
    """Write the cards into the folder of the built site; return what heads say.

    Args:
      files: of the site, every page parsed.
      config: of MkDocs.
      kept: folder of the drawn cards; those that no page has any more are removed.
      proof: returns the output that proves a lesson, given the text of its page.

    Returns:
      For the address of each page: title, about, address of its card, card in words.
    """
    lessons = {f"course/{one.name}/index.md": one for one in course.lessons(config.nav)}
    kept.mkdir(parents=True, exist_ok=True)
    used, heads = set(), {}
    for page in (file.page for file in files.documentation_pages()):
        card = card_of(page, lessons.get(page.file.src_uri), config, proof)
        name = f"assets/cards/{page.url.strip('/') or 'index'}.png"
        target = Path(config.site_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        used.add(kept / f"{fingerprint(card)}.png")
        target.write_bytes(png(card, kept / f"{fingerprint(card)}.png"))
        heads[page.url] = {
            "title": card.title,
            "about": twins.about(page, config),
            "card": config.site_url + name,
            "alt": card.alt,
        }
    for file in set(kept.glob("*.png")) - used:
        file.unlink(missing_ok=True)
    return heads


def card_of(
    page: Page, lesson: Lesson | None, config: MkDocsConfig, proof: Callable[[str], str]
) -> Card:
    """Return what the card of a page shows."""
    if lesson:
        part = f"Lesson {lesson.number} · {lesson.phase}"
        text = lesson.meta["proves"].replace("`", "")
        return Card(config.site_name, part, page.title, text, proof(lesson.page))
    part = page.parent.title if page.parent else ""
    title = config.site_name if page.is_homepage else page.title
    return Card(config.site_name, part, title, twins.about(page, config))


def fingerprint(card: Card) -> str:
    """Return a hash of what a card shows and of how it is drawn."""
    parts = [repr(card).encode(), *map(Path.read_bytes, (Path(__file__), LOGO, STYLE))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def png(card: Card, kept: Path) -> bytes:
    """Return the file of a card: the kept one, or a new one, kept from now on."""
    if kept.exists():
        return kept.read_bytes()
    file = io.BytesIO()
    draw(card).quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=0).save(file, "PNG")
    draft = kept.with_suffix(f".{os.getpid()}")  # another process may draw it too
    draft.write_bytes(file.getvalue())
    draft.replace(kept)
    return file.getvalue()


def draw(card: Card) -> Image.Image:
    """Return a card: at its top the site, at its foot what the page is about.

    Raises:
      PluginError: if its texts are too long, or have a sign that no font has.
    """
    soft, deep = (
        colour("md-primary-bg-color--light"),
        colour("md-primary-fg-color--dark"),
    )
    image = ground("" if card.title == card.site else card.site).copy()
    pen = ImageDraw.Draw(image)
    if card.part:
        part = Block.of(card.part, PLAIN, colour("linen", DARK), 30, 20, 1)
        part.write(pen, WIDTH - MARGIN, TOP + 7, anchor="rm")
    bottom = HEIGHT - TOP
    if card.printed:
        # A list stays in one line.
        text = re.sub(r"\[.*?\]", lambda m: m[0].replace(" ", "\xa0"), card.printed)
        out = Block.of(text, MONO, "white", 38, 28, 1.4, INNER - 2 * PAD[0])
        top = bottom - out.height - 2 * PAD[1]
        pen.rectangle((MARGIN, top, WIDTH - MARGIN, bottom), deep)
        pen.rectangle((MARGIN, top, MARGIN + 7, bottom), colour("output-mark", DARK))
        out.write(pen, MARGIN + PAD[0], top + PAD[1])
        bottom = top - 32
    text = Block.of(card.text, PLAIN, soft, 37, 33, 1.36)
    bottom -= text.height
    text.write(pen, MARGIN, bottom)
    for size in range(108, 20, -4):  # smaller, the less room the rest leaves
        title = Block.of(card.title, BOLD, "white", size, size * 4 // 5, 1.08)
        if title.height <= bottom - 2 * TOP - 32:
            break
    else:
        raise PluginError(f"No room on the card of {card.title!r}: shorten its texts")
    edge = title.font.getmask(title.lines[0][0]).getbbox()[0]  # before its first stem
    title.write(pen, MARGIN - edge, bottom - title.height - 14)
    return image


@functools.cache
def ground(name: str) -> Image.Image:
    """Return what cards share: the colour, the logo and its shadow, the site's name."""
    image = Image.new("RGB", SIZE, colour("md-primary-fg-color"))
    stamp(image, (600, -147), 924, colour("md-primary-fg-color--light"))
    size = 64 if name else 128
    stamp(image, (MARGIN - size // 8, TOP - size * 5 // 32), size)
    if name:
        block = Block.of(name, BOLD, "white", 34, 20, 1)
        block.write(ImageDraw.Draw(image), MARGIN + 68, TOP + 5)
    return image


def stamp(image: Image.Image, at: tuple[int, int], size: int, shadow: str = "") -> None:
    """Put the logo on an image, or its shadow in a colour."""
    from fontTools.pens.recordingPen import RecordingPen
    from fontTools.svgLib.path import parse_path

    for path in ElementTree.parse(LOGO).getroot():
        pen = RecordingPen()
        parse_path(path.get("d"), pen)
        points = [operands[0] for _, operands in pen.value if operands]
        scaled = [(x * size / 16, y * size / 16) for x, y in points]
        mask = Image.new("L", (2 * size, 2 * size))  # halved below: smooth edges
        ImageDraw.Draw(mask).polygon(scaled, 90 if shadow else 255)
        image.paste(shadow or path.get("fill"), at, mask.resize((size, size)))


@functools.cache
def colour(name: str, scheme: str = ":root") -> str:
    """Return a colour that `site.css` names, in one of its schemes."""
    style = STYLE.read_text("utf-8").partition(f"{scheme} {{")[2]
    return re.search(rf"--{name}: (#\w+);", style)[1]


class Block(NamedTuple):
    """Lines of text in one style."""

    lines: list[str]
    font: ImageFont.FreeTypeFont
    colour: str
    leading: int
    """The distance of its lines."""

    @classmethod
    def of(
        cls,
        text: str,
        fonts: tuple[Path, ...],
        colour: str,
        largest: int,
        smallest: int,
        leading: float,
        width: int = INNER,
    ) -> "Block":
        """Return a text in as few lines as can be, and then as large as can be.

        Args:
          text: what to write.
          fonts: files; the first that has all signs of the text is used.
          colour: of the text.
          largest: size of the font.
          smallest: size of the font.
          leading: the distance of the lines, in sizes.
          width: of the lines.
        """
        file = font_for(text, fonts)
        fewest = len(lines_of(text, font(file, smallest), width))
        for size in range(largest, smallest - 1, -1):
            lines = lines_of(text, font(file, size), width)
            if len(lines) == fewest:
                break
        return cls(lines, font(file, size), colour, round(size * leading))

    @property
    def height(self) -> int:
        """Return the height of all lines."""
        return len(self.lines) * self.leading

    def write(self, pen: ImageDraw.ImageDraw, x: int, top: int, anchor="lm") -> None:
        """Write it below `top`, to the right of x, or to the left of it if "rm"."""
        for number, line in enumerate(self.lines):
            middle = top + (number + 0.5) * self.leading
            pen.text((x, middle), line, self.colour, self.font, anchor=anchor)


def lines_of(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return a text in lines of a width: as few as can be, and as even."""
    longest, fitting = max(map(len, text.split(" "))), []
    columns = min(len(text), int(1.2 * len(text) * width / font.getlength(text)) + 1)
    while columns >= longest or not fitting:
        lines = textwrap.wrap(text, columns, break_on_hyphens=False)
        if fitting and len(lines) > len(fitting):
            break
        if max(map(font.getlength, lines)) <= width:
            fitting = lines
        columns = max(map(len, lines)) - 1
    return fitting


@functools.cache
def font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    """Return a font in a size."""
    return ImageFont.truetype(file, size)


def font_for(text: str, files: tuple[Path, ...]) -> Path:
    """Return the first font that has all signs of a text.

    Raises:
      PluginError: if none has: the card would show boxes.
    """
    for file in files:
        if signs(file).issuperset(map(ord, text)):
            return file
    raise PluginError(f"No font for its card has all signs of {text!r}")


@functools.cache
def signs(file: Path) -> frozenset[int]:
    """Return the code points that a font has."""
    from fontTools.ttLib import TTFont

    with TTFont(file, lazy=True) as found:
        return frozenset(found.getBestCmap())
