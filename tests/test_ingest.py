"""Documents of each kind into passages with titles, and what of them is not read."""

import json
import random
import sys
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


def test_word_document(tmp_path):
    docx = pytest.importorskip("docx")
    made = docx.Document()
    made.add_paragraph("Before the  first.")
    made.add_heading("Sets", 1)
    made.add_paragraph("No order.")
    table = made.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "a", "b"
    made.save(str(tmp_path / "x.docx"))
    assert passages(tmp_path / "x.docx") == [("x", "Before the first."), ("x: Sets", "No order. a b")]


def test_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    cell = nbformat.v4
    code = cell.new_code_cell("# not a heading\nxs.sort()", outputs=[cell.new_output("stream", text="printed")])
    cells = [cell.new_markdown_cell("# Lists\n\nSome *text*."), code, cell.new_markdown_cell("## Sorting\n\nMore.")]
    nbformat.write(cell.new_notebook(cells=cells), str(tmp_path / "x.ipynb"))
    assert passages(tmp_path / "x.ipynb") == [
        ("Lists", "Some text . # not a heading xs.sort()"),
        ("Lists: Sorting", "More."),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name,size\nRome,2.8\nOslo,\n", [("x: Rome", "name: Rome, size: 2.8"), ("x: Oslo", "name: Oslo")]),
        ("name;size\nRome;2,8\nRome;3\n", [("x", "name: Rome, size: 2,8 name: Rome, size: 3")]),
        ("id,name\n1,Rome\n2,Oslo\n", [("x", "id: 1, name: Rome id: 2, name: Oslo")]),
        ('a,b\n"two\nlines, one cell",c\n', [("x: two lines, one cell", "a: two lines, one cell, b: c")]),
    ],
)
def test_table(tmp_path, text, found):
    """A row is a page of its own where the first column names it."""
    (tmp_path / "x.csv").write_text(text)
    assert passages(tmp_path / "x.csv") == found


def test_source_code_is_cut_at_definitions(tmp_path):
    (tmp_path / "x.py").write_text(
        '"""Top."""\n\nclass A:\n    def inner(self): pass\n\n\ndef outer():\n    return 1\n'
    )
    (tmp_path / "y.rs").write_text("use std;\n\npub fn add(a: i32) {}\n\npub struct Point {}\n")
    assert passages(tmp_path / "x.py") == [
        ("x", '"""Top."""'),
        ("x: A", "class A: def inner(self): pass"),
        ("x: outer", "def outer(): return 1"),
    ]
    assert [title for title, _ in passages(tmp_path / "y.rs")] == ["y", "y: add", "y: Point"]


@pytest.mark.parametrize("suffix", ["docx", "ipynb"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b'{"cells": 3}'])
def test_broken_document_of_an_extra_is_refused(tmp_path, suffix, content):
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.{suffix}"):
        passages(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize(
    ("suffix", "module", "package"), [("docx", "docx", "python-docx"), ("ipynb", "nbformat", "nbformat")]
)
def test_missing_package_is_named(tmp_path, suffix, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"x.{suffix}").write_bytes(b"{}")
    with pytest.raises(InputError, match=rf"x\.{suffix}.*{package}.*asl_min\[documents\]"):
        passages(tmp_path / f"x.{suffix}")


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
    for suffix in (".txt", ".md", ".html", ".csv", ".ipynb", ".py", ".docx"):
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
    start = time.process_time()
    assert sum(map(len, ingest.packed([text], 100))) > 600_000
    assert time.process_time() - start < 5


def test_folder_becomes_a_corpus_that_loads(folder, script, capsys):
    out = folder / "corpus.jsonl"
    assert script("asl_min.search.ingest", folder, "--out", out) == 0
    said = capsys.readouterr().out
    assert "8 passages under 8 titles, from 1 .html, 1 .md, 1 .rst, 1 .txt; passed over: 1 .png" in said
    found = load_corpus(out)
    assert [p.id for p in found] == [str(i) for i in range(8)] and topics(found)[:2] == [
        "Assert statements",
        "Assert statements: Forms",
    ]


def test_one_document_becomes_a_corpus(folder):
    assert [row["contents"] for row in ingest.ingest([folder / "a.txt"], 100).rows] == [
        '"Assert statements"\nThey insert assertions. Second one.',
        '"Assert statements: Forms"\nThe simple form.',
    ]


def test_files_and_folders_are_read_in_the_order_given_and_each_once(folder, script, capsys):
    out = folder.parent / "corpus.jsonl"
    words = [folder / "b.md", folder / "sub", folder / "b.md", "--out", out, "--json"]
    assert script("asl_min.search.ingest", *words) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {".md": 1, ".rst": 1}
    assert [p.title for p in load_corpus(out)] == ["Lists", "Lists: Sorting", "d", "d: Head"]


def test_hidden_files_and_those_of_programs_are_not_read(folder):
    for name in (".git/config.txt", "__pycache__/x.py", "node_modules/a/x.js", ".hidden.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    found = ingest.ingest([folder], 100)
    assert sum(found.kinds.values()) == 4 and found.passed_over == {".png": 1}


def test_bytes_that_are_no_text_are_left_out(folder):
    """Also without a zero byte, which would tell."""
    (folder / "random.txt").write_bytes(random.Random(0).randbytes(500).replace(b"\0", b"\1"))
    assert ["control characters" in line for line in ingest.ingest([folder], 100).left_out] == [True]


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
    assert "8 passages under 8 titles, from 1 .html, 1 .md, 1 .rst, 1 .txt; 3 left out; passed over: 1 .png" in said.out
    shown = " ".join(said.err.split())
    assert [part in shown for part in ("broken.pdf: cannot", "zero bytes", "empty.md: holds no text")] == [True] * 3


def test_strict_ends_at_the_first_unreadable_document(damaged):
    with pytest.raises(InputError, match=r"broken\.pdf"):
        ingest.ingest([damaged], 100, strict=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "no such file or folder"), (".", "holds no document"), ("x.png", "not a document of the kinds")],
)
def test_path_without_documents_is_refused(tmp_path, name, said):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match=said):
        ingest.ingest([tmp_path / name], 100)


@pytest.mark.parametrize("out", [".", "a.txt/corpus.jsonl"])
def test_out_that_cannot_be_written_is_refused_before_the_work(folder, out, monkeypatch, script, capsys):
    monkeypatch.setattr(ingest, "ingest", lambda *_: pytest.fail("was read"))
    assert script("asl_min.search.ingest", folder, "--out", folder / out) == 2
    assert capsys.readouterr().err.startswith("error: --out: ")


def test_markup_that_the_parser_rejects_is_an_unreadable_file(tmp_path):
    (tmp_path / "x.html").write_text("<p>words</p><![foo[bar]]>")
    with pytest.raises(InputError, match=r"x\.html: cannot be read"):
        passages(tmp_path / "x.html")


def test_document_is_not_replaced_by_the_corpus(folder, script, capsys):
    assert script("asl_min.search.ingest", folder / "a.txt", "--out", folder / "a.txt") == 2
    assert "a.txt: is one of the documents" in capsys.readouterr().err
    assert (folder / "a.txt").read_text() == TEXTS["a.txt"]
