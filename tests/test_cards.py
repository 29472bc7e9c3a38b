"""What networks and search engines read: cards, the words of heads, the sitemap."""

import shutil
from collections import Counter
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from PIL import Image, ImageChops

from nnx_by_example import course
from tools.gate.memory import SITE, reads
from tools.gate.site import Site, soups
from tools.project import DOCS
from tools.sources import site_config
from tools.website import cards

pytestmark = reads(*SITE)
MAX_CARD_KB = 40
CARD = cards.Card("NNX by Example", "Randomness", "Reseed", "Text.", "equal: True")


def wrong_addresses(site):
    """Return what differs between pages, their canonical links, and the sitemap."""
    root = ElementTree.parse(site.folder / "sitemap.xml").getroot()
    found = Counter(place.text for place in root.iterfind("{*}url/{*}loc"))
    pages = Counter(site.url + page for page in site.pages())
    wrong = [f"{url} is no page, or stands twice" for url in found - pages]
    wrong += [f"{url} is not listed" for url in pages - found]
    for url in pages:
        link = soups(site)[url].find("link", rel="canonical")
        if not link or link["href"] != url:
            wrong.append(f"{url} has another canonical link")
    return wrong


def wrong_heads(site):
    """Return what the heads of pages lack, or say of a card that is not so."""
    wrong = []
    for page in site.pages():
        soup = soups(site)[site.url + page]
        said = {
            tag.get("property") or tag.get("name"): tag["content"]
            for tag in soup.find_all("meta", content=True)
        }
        expected = {
            "og:type": "article" if page else "website",
            "og:site_name": "NNX by Example",
            "og:title": soup.title.text.removesuffix(" - NNX by Example"),
            "og:description": said.get("description"),
            "og:url": site.url + page,
            "og:image": f"{site.url}assets/cards/{page.strip('/') or 'index'}.png",
            "og:image:width": "1200",
            "og:image:height": "630",
            "og:image:alt": said.get("og:image:alt"),
            "twitter:card": "summary_large_image",
        }
        wrong += [
            f"{page}: {name} is {said.get(name)}"
            for name, text in expected.items()
            if not text or said.get(name) != text
        ]
        wrong += wrong_card(page, site.folder / expected["og:image"][len(site.url) :])
    return wrong


def wrong_card(page, file):
    """Return what is wrong with the file of a card."""
    if not file.is_file():
        return [f"{page}: no card"]
    with Image.open(file) as image:
        kind = f"{image.format}, {image.size}"
    if kind != "PNG, (1200, 630)":
        return [f"{page}: the card is {kind}"]
    heavy = file.stat().st_size > MAX_CARD_KB * 1024
    return [f"{page}: the card is heavy"] if heavy else []


def test_each_page_is_in_the_sitemap_by_its_canonical_address(site):
    assert not wrong_addresses(site)
    assert "lastmod" not in (site.folder / "sitemap.xml").read_text("utf-8")


def test_each_head_says_what_networks_show(site):
    assert not wrong_heads(site)


def test_the_checks_can_fail(site, tmp_path):
    parts = shutil.ignore_patterns("course", "examples", "javascripts")
    broken = Site(
        shutil.copytree(site.folder, tmp_path / "site", ignore=parts), site.url
    )
    pages, images = broken.folder / "reference", broken.folder / "assets" / "cards"
    for page, old, new in (
        ("errors", '"og:description" content="', '"og:description" content="No. '),
        ("glossary", '"og:image:alt" content=', '"og:image:alt" content="" old='),
        ("api", 'rel="canonical" href="', 'rel="canonical" href="no'),
    ):
        text = (pages / page / "index.html").read_text("utf-8")
        (pages / page / "index.html").write_text(text.replace(old, new), "utf-8")
    (images / "attempt.png").unlink()
    Image.effect_noise((1200, 630), 100).save(images / "cost.png")
    Image.new("L", (1200, 630)).save(images / "index.png", "JPEG")
    Image.new("P", (600, 315)).save(images / "verified.png")
    names = ["", "attempt/", "attempt/", "cost/", "start/", "verified/", "404/"]
    names += [f"reference/{name}/" for name in ("api", "compatibility", "errors")]
    places = "".join(f"<url><loc>{site.url}{name}</loc></url>" for name in names)
    text = f'<urlset xmlns="a">{places}</urlset>'
    (broken.folder / "sitemap.xml").write_text(text)
    assert sorted(wrong_addresses(broken)) == [
        f"{site.url}404/ is no page, or stands twice",
        f"{site.url}attempt/ is no page, or stands twice",
        f"{site.url}reference/api/ has another canonical link",
        f"{site.url}reference/glossary/ is not listed",
    ]
    wrong = dict(line.split(": ", 1) for line in wrong_heads(broken))
    about = wrong.pop("reference/errors/")
    assert about.startswith("og:description is No. ")
    assert wrong == {
        "": "the card is JPEG, (1200, 630)",
        "attempt/": "no card",
        "cost/": "the card is heavy",
        "reference/glossary/": "og:image:alt is ",
        "verified/": "the card is PNG, (600, 315)",
    }


def test_the_card_of_a_lesson_shows_what_its_page_prints(site):
    config = site_config()
    for lesson in course.lessons(config["nav"], DOCS):
        page = SimpleNamespace(title=lesson.meta["title"])
        card = cards.card_of(page, lesson, config)
        assert f"#> {card.printed}\n" in lesson.page
        soup = soups(site)[f"{site.url}course/{lesson.name}/"]
        alt = soup.find(property="og:image:alt")
        assert alt["content"] == card.alt
        assert card.alt.endswith(f" It prints: {card.printed}")


def test_a_card_is_drawn_once_until_something_changes(tmp_path, monkeypatch):
    shown = []

    def draw(card):
        shown.append(card)
        return Image.new("RGB", cards.SIZE)

    monkeypatch.setattr(cards, "draw", draw)
    monkeypatch.setattr(cards, "KEPT", tmp_path)
    file = cards.drawn(CARD)
    assert cards.drawn(CARD) == file
    assert shown == [CARD]
    assert list(tmp_path.iterdir()) == [file]
    files = {file, cards.drawn(CARD._replace(printed=""))}
    for name in ("LOGO", "STYLE"):
        monkeypatch.setattr(cards, name, file)
        files.add(cards.drawn(CARD))
    assert len(files) == len(shown) == 4


def test_a_build_draws_in_the_colours_of_now(tmp_path, monkeypatch):
    assert cards.draw(CARD).getpixel((0, 0)) != (1, 2, 3)
    style = tmp_path / "site.css"
    found = cards.colour("md-primary-fg-color")
    style.write_text(cards.STYLE.read_text().replace(found, "#010203"))
    monkeypatch.setattr(cards, "STYLE", style)
    monkeypatch.setattr(cards, "KEPT", tmp_path)
    cards.write_all(Files([]), site_config())
    assert cards.draw(CARD).getpixel((0, 0)) == (1, 2, 3)
    cards.ground.cache_clear()  # of a colour that is gone


LONG = {"title": "A title that is rather long", "text": "A sentence. " * 10}


@pytest.mark.parametrize("printed", ["x = 1", "an output, " * 8])
@pytest.mark.parametrize("long", [{}, LONG, {"title": "A word " * 10}])
def test_long_texts_wrap_and_stay_inside_the_margins(printed, long):
    image = cards.draw(CARD._replace(part="", printed=printed, **long))
    ground = cards.ground(CARD.site)
    left, top, right, bottom = ImageChops.difference(image, ground).getbbox()
    assert left >= cards.MARGIN - 1
    assert top >= cards.TOP + 54, "it runs into the logo"
    assert right <= cards.WIDTH - cards.MARGIN + 1
    assert bottom <= cards.HEIGHT - cards.TOP + 1


def test_lines_are_few_and_even():
    assert cards.lines_of("word " * 9, cards.TITLES[0]) == ["word word word"] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("漢", "no sign for '漢'"), ("a" * 99, "too long"), ("A word. " * 90, "No room")],
)
def test_a_text_that_cannot_be_shown_does_not_build(text, said):
    with pytest.raises(PluginError, match=said):
        cards.draw(CARD._replace(text=text))
