"""Documents of each kind into passages with titles, and what of them is not read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from asl_min.corpus import load_corpus, topics
from asl_min.run.errors import InputError
from asl_min.search import ingest

TEXTS = {
    "a.txt": "Assert statements\n*****************\n\nThey insert\nassertions.\n\nSecond one.\n\nForms\n=====\n\nThe simple form.\n",
    "b.md": "# Lists\n\nA *list* has [items](http://x).\n\n- one\n- two\n\n## Sorting\n\n```\nxs.sort()\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "c.html": "<title>t</title><h1>Sets</h1><p>No <b>order</b>.<script>evil()</script></p><h2>Union</h2><ul><li><p>a | b</p></li></ul>",
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
    return list(ingest.passages(path, words))


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


@given(st.text())
def test_any_text_is_read(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("documents")
    for suffix in (".txt", ".md", ".html"):
        (path / f"x{suffix}").write_bytes(text.encode(errors="surrogatepass"))
        assert all(title and body for title, body in passages(path / f"x{suffix}"))


def test_folder_becomes_a_corpus_that_loads(folder, script, capsys):
    out = folder / "corpus.jsonl"
    assert script("asl_min.search.ingest", folder, "--out", out) == 0
    assert "8 passages under 8 titles, from 1 .html, 1 .md, 1 .rst, 1 .txt" in capsys.readouterr().out
    found = load_corpus(out)
    assert [p.id for p in found] == [str(i) for i in range(8)] and topics(found)[:2] == [
        "Assert statements",
        "Assert statements: Forms",
    ]


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_without_documents_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"no such folder|holds no text"):
        ingest.ingest(tmp_path / name, 100)
