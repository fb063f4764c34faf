"""Documents of each kind into passages with titles, and what of them is not read."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from asl_min.corpus import load_corpus, topics
from asl_min.run.errors import InputError
from asl_min.search import ingest

TEXTS = {
    "a.txt": "Assert statements\n*****************\n\nThey insert\nassertions.\n\nSecond one.\n\n"
    "Forms\n=====\n\nThe simple form.\n",
    "b.md": "# Lists\n\nA *list* has [items](http://x).\n\n- one\n- two\n\n"
    "## Sorting\n\n```\nxs.sort()\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "c.html": "<title>t</title><h1>Sets</h1><p>No <b>order</b>.<script>evil()</script></p>"
    "<h2>Union</h2><ul><li><p>a | b</p></li></ul>",
    "sub/d.rst": "plain words first\n\nHead\n----\nbody",
    "e.png": "not a document",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in TEXTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def passages(path, words: int = 100) -> list[tuple[str, str]]:
    return ingest.passages_of(path, words)[0]


def test_underlined_headings_cut_a_text(folder):
    assert passages(folder / "a.txt") == [
        ("Assert statements", "They insert assertions. Second one."),
        ("Assert statements: Forms", "The simple form."),
    ]


def test_markdown(folder):
    assert passages(folder / "b.md") == [
        ("Lists", "A list has items . one two"),
        ("Lists: Sorting", "xs.sort() a b 1 2"),
    ]


def test_html(folder):
    assert passages(folder / "c.html") == [("Sets", "No order ."), ("Sets: Union", "a | b")]


def test_html_without_blocks_is_one_passage(tmp_path):
    (tmp_path / "x.html").write_text("<div>only <b>words</b></div>")
    assert passages(tmp_path / "x.html") == [("x", "only words")]


def test_text_that_begins_without_a_heading_is_named_after_its_file(folder):
    assert passages(folder / "sub" / "d.rst") == [("d", "plain words first"), ("d: Head", "body")]


def test_pdf(tmp_path):
    with pyplot.rc_context({"pdf.fonttype": 42}):
        figure = pyplot.figure()
        figure.text(0.1, 0.5, "Words of a page")
        figure.savefig(tmp_path / "paper.pdf")
        pyplot.close(figure)
    assert passages(tmp_path / "paper.pdf") == [("paper", "Words of a page")]


@pytest.mark.parametrize("content", [b"", b"no pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer"])
def test_broken_pdf_is_refused(tmp_path, content):
    (tmp_path / "x.pdf").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pdf"):
        passages(tmp_path / "x.pdf")


@given(st.lists(st.text("ab. ", max_size=60), max_size=6), st.integers(1, 8))
def test_passages_keep_every_word_and_the_limit(body, words):
    found = list(ingest.packed(body, words))
    assert " ".join(found).split() == " ".join(body).split() and all(len(p.split()) <= words for p in found)


@given(st.text(st.sampled_from("ab 中文。"), max_size=200), st.integers(1, 8))
def test_passages_keep_every_character_where_there_are_no_blanks(text, words):
    found = list(ingest.packed([text], words))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(len("".join(p.split())) <= 3 * words for p in found if "中" in p and "a" not in p and "b" not in p)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("documents")
    for suffix in (".txt", ".md", ".html"):
        (path / f"x{suffix}").write_bytes(content)
        try:
            assert all(title and body for title, body in passages(path / f"x{suffix}"))
        except InputError as error:
            assert f"x{suffix}" in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    (tmp_path / "x.txt").write_bytes("Привет, мир".encode(encoding))
    assert ingest.passages_of(tmp_path / "x.txt", 100) == ([("x", "Привет, мир")], None)


def test_western_text_is_guessed(tmp_path):
    text = "Die Größe der Häuser in München ist für alle schön."
    (tmp_path / "x.txt").write_bytes(text.encode("latin-1"))
    found, guess = ingest.passages_of(tmp_path / "x.txt", 100)
    assert found == [("x", text)] and guess


def test_html_declares_its_encoding(tmp_path):
    text = '<meta charset="windows-1251"><p>Привет, мир</p>'
    (tmp_path / "x.html").write_bytes(text.encode("windows-1251"))
    assert ingest.passages_of(tmp_path / "x.html", 100) == ([("x", "Привет, мир")], "windows-1251")


def test_chinese_is_cut_at_the_ends_of_sentences():
    sentence = "里昂是法国的城市。"
    found = list(ingest.packed([sentence * 100], 20))
    assert len(found) > 10 and all(p.endswith("。") and len(p) <= 45 for p in found)


def test_run_of_characters_without_a_blank_is_cut():
    found = list(ingest.packed(["x" * 300_000], 100))
    assert "".join(found) == "x" * 300_000 and max(map(len, found)) == 200


@pytest.mark.parametrize("text", ["word " * 400_000, "x" * 2_000_000, "里昂是法国的城市。" * 70_000])
def test_two_megabytes_in_one_paragraph_take_seconds(text):
    start = time.perf_counter()
    assert sum(map(len, ingest.packed([text], 100))) > 600_000
    assert time.perf_counter() - start < 5


def test_folder_becomes_a_corpus_that_loads(folder, script, capsys):
    out = folder / "corpus.jsonl"
    assert script("asl_min.search.ingest", folder, "--out", out) == 0
    assert "8 passages under 8 titles, from 1 .html, 1 .md, 1 .rst, 1 .txt" in capsys.readouterr().out
    found = load_corpus(out)
    assert [p.id for p in found] == [str(i) for i in range(8)] and topics(found)[:2] == [
        "Assert statements",
        "Assert statements: Forms",
    ]


def test_one_document_becomes_a_corpus(folder):
    assert [row["contents"] for row in ingest.ingest(folder / "a.txt", 100).rows] == [
        '"Assert statements"\nThey insert assertions. Second one.',
        '"Assert statements: Forms"\nThe simple form.',
    ]


@pytest.fixture
def damaged(folder):
    """Three of its documents cannot be read."""
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 no more")
    (folder / "image.txt").write_bytes(b"\x89PNG\0\0\0\rIHDR")
    (folder / "empty.md").write_text("\n\n")
    return folder


def test_unreadable_documents_are_left_out_and_listed(damaged, script, capsys):
    assert script("asl_min.search.ingest", damaged, "--out", damaged / "corpus.jsonl") == 0
    said = capsys.readouterr()
    assert "8 passages under 8 titles, from 1 .html, 1 .md, 1 .rst, 1 .txt; 3 left out" in said.out
    shown = " ".join(said.err.split())
    assert [part in shown for part in ("broken.pdf: cannot", "zero bytes", "empty.md: holds no text")] == [True] * 3


def test_strict_ends_at_the_first_unreadable_document(damaged):
    with pytest.raises(InputError, match=r"broken\.pdf"):
        ingest.ingest(damaged, 100, strict=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "no such file or folder"), (".", "holds no document"), ("x.png", "not a document of the kinds")],
)
def test_path_without_documents_is_refused(tmp_path, name, said):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match=said):
        ingest.ingest(tmp_path / name, 100)


@pytest.mark.parametrize("out", [".", "a.txt/corpus.jsonl"])
def test_out_that_cannot_be_written_is_refused_before_the_work(folder, out, monkeypatch, script, capsys):
    monkeypatch.setattr(ingest, "ingest", lambda *_: pytest.fail("was read"))
    assert script("asl_min.search.ingest", folder, "--out", folder / out) == 2
    assert capsys.readouterr().err.startswith("error: --out: ")
