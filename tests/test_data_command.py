"""`probtune data` as a user calls it: counts, the supervised part and what is not used, without
weights; and rows from the hub by address, from a server on this machine.
"""

import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import helpers
import pytest

from probtune.cli import main

CHAT = {
    "messages": [
        {"role": "user", "content": "ask 1 + 2 ="},
        {"role": "assistant", "content": "3", "reasoning_content": "7"},
    ],
    "source": "a book",
}


@pytest.fixture
def model(tmp_path):
    """A folder with a tokenizer and a configuration, and no weights."""
    folder = tmp_path / "model"
    helpers.word_tokenizer(helpers.CHAT_TEMPLATE).save_pretrained(folder)
    helpers.word_config().save_pretrained(folder)
    assert not list(folder.glob("*.safetensors"))
    return str(folder)


def test_counts_spans_and_what_is_not_used(tmp_path, model, capsys):
    data = str(helpers.write_jsonl(tmp_path / "a.jsonl", [CHAT, CHAT, {"messages": []}]))
    assert main(["data", data, "--model", model]) == 1
    assert "a.jsonl:3 'messages' must be a list of messages" in capsys.readouterr().err
    assert main(["data", data, "--model", model, "--skip-bad-rows"]) == 0
    out = capsys.readouterr()
    said = " ".join((out.out + out.err).split())
    assert "2 rows, 4 supervised of 20 tokens (shape: messages)" in said
    assert "⟦3 <eos>⟧" in said and "end tokens <eos>" in said
    assert "column 'source' is not used (2 rows with it)" in said
    assert "the chat template does not write 'reasoning_content' (2 rows with it)" in said
    assert "1 row left out: 'messages' must be a list" in said


def test_another_chat_template(tmp_path, model, capsys):
    helpers.write_jsonl(tmp_path / "a.jsonl", [CHAT])
    (tmp_path / "say.jinja").write_text(helpers.CHAT_TEMPLATE.replace("{{ m.role }}", "say"))
    options = ["--model", model, "--chat-template", str(tmp_path / "say.jinja")]
    main(["data", str(tmp_path / "a.jsonl"), *options])
    assert "say ask 1 + 2 = <eos>" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["probe", "tune", "train", "data", "forgetting", "calibration"])
def test_every_command_that_reads_rows_takes_a_template(command, capsys):
    main([command, "--help"])
    said = capsys.readouterr().out
    assert "--chat-template" in said and "--messages-column" in said


@contextmanager
def served(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_file_of_the_hub_by_its_address(tmp_path):
    """`hf://` through the hub's own file system, against a server that answers as the hub does."""
    content = "".join(json.dumps(row) + "\n" for row in helpers.sums(4)).encode()
    commit = "0" * 40

    class Hub(http.server.BaseHTTPRequestHandler):
        def answer(self, body, kind="application/json", **headers):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            if "/resolve/" in self.path:
                return self.answer(content, "text/plain", ETag='"1"', X_Repo_Commit=commit)
            if "/tree/" in self.path:
                return self.do_POST()
            info = {"id": "me/rows", "sha": commit, "private": False, "siblings": []}
            self.answer(json.dumps(info | {"tags": [], "downloads": 0}).encode())

        do_HEAD = do_GET

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            file = {"type": "file", "path": "a.jsonl", "size": len(content), "oid": "1"}
            self.answer(json.dumps([file]).encode())

        def log_message(self, *arguments):
            pass

    script = (
        "from probtune.data.rows import read_rows\n"
        "print([e.prompt for e in read_rows('hf://datasets/me/rows/a.jsonl').examples])"
    )
    with served(Hub) as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "HTTP_PROXY"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str([row["prompt"] for row in helpers.sums(4)])
