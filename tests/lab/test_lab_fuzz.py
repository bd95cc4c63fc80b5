"""Ten thousand malformed requests: never a 500, never a traceback or a path of the machine, and the lab still answers."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from asgi import Answer, call
from lab_served import HOST, TOKEN, Application, Served

from convscope.lab.jobs import Jobs

REQUESTS = 10_000
SAMPLE = 300  # of them sent to a real server
KERNEL = [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
BODIES: dict[str, Any] = {
    "/api/train": {"data": "mnist", "model": "simple_cnn", "epochs": 1, "batch_size": 32, "lr": 0.1, "norm": True, "seed": 1, "init": None},
    "/api/runs/tiny/stop": {},
    "/api/runs/tiny/resume": {},
    "/api/runs/tiny/inside": {"image": {"valid": 3}},
    "/api/runs/tiny/trace": {"image": {"valid": 3}, "layer": "1.0", "unit": [0, 1, 1]},
    "/api/runs/tiny/workbook": {"image": {"valid": 3}, "layer": "0.0", "unit": [0, 1, 1]},
    "/api/kernel": {"image": {"name": "dot"}, "kernel": KERNEL, "stride": 1, "padding": 1, "dilation": 1, "bias": [0.5]},
    "/api/kernel/pixel": {"image": {"name": "dot"}, "kernel": KERNEL, "filter": 0, "row": 2, "column": 3},
    "/api/questions/15/answer": {"answer": "18432"},
    "/api/questions/2/answer": {"answer": "-1 -1 -1 / 0 0 0 / 1 1 1"},
    "/api/questions/15/rate": {"rating": 3},
}
PATHS = [
    "/",
    "/api/state",
    "/api/runs",
    "/api/runs/{}",
    "/api/runs/{}/images",
    "/api/runs/tiny/kernels/{}",
    "/static/{}",
    "/api/compare?runs={}",
]
PATHS += [
    "/api/runs/tiny/images?first={}",
    "/api/runs/tiny/images?count={}&wrong=1",
    "/api/runs/tiny/images?label={}",
    "/api/questions/{}",
    "/{}",
]
NASTY = [
    *(
        "",
        "..",
        "../..",
        "%2e%2e",
        "\0",
        "\ud800",
        "💥",
        "a" * 5000,
        "-1",
        "1e999",
        "NaN",
        "null",
        "'",
        '"',
        "<script>",
        "tiny",
        "0",
        "999999999999999999999",
    ),
    *("1" * 5000, "{}", "[]", "true", "../tiny/config.json", "C:\\", "\r\nx: y", "٣", "²"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1.5, -0.0, 1e308, "", "x", "\ud800", "\0", "mnist", "/", "/etc", "tiny", "auto"),
    *(
        [],
        [[]],
        [1],
        [[1, 2], [3]],
        [["x"]],
        [[[[[[1]]]]]],
        [None],
        {},
        {"valid": 0},
        {"valid": -1},
        {"valid": 1e9},
        {"valid": "0"},
        {"png": ""},
    ),
    *(
        {"png": "AAAA"},
        {"png": "%%%"},
        {"run": "tiny", "valid": 0},
        {"run": "..", "valid": 0},
        {"name": "nothing"},
        {"name": ["dot"]},
        [0, 0, 0],
        [[1e30]],
    ),
    *([[True]], "9" * 20_000, [0] * 20_000, {"crop": 3}, {"name": "dot", "crop": 0}, {"name": "dot", "crop": "8"}, float("1e-320")),
]


def malformed(chance: random.Random) -> tuple[str, str, bytes]:
    """A method, a target and a body, most of them wrong somewhere."""
    if chance.random() < 0.25:
        return chance.choice(["GET", "GET", "HEAD", "PUT", "POST"]), chance.choice(PATHS).format(chance.choice(NASTY)), b""
    target, body = chance.choice(list(BODIES.items()))
    kind = chance.randrange(6)
    if kind == 0:
        return "POST", target, chance.randbytes(chance.randrange(200))
    if kind == 1:
        text = json.dumps(body).encode()
        return "POST", target, text[: chance.randrange(len(text))]
    if kind == 2:
        deep = chance.choice([10, 1000, 100_000])
        return "POST", target, chance.choice([b"[" * deep, b'{"image":' * deep, b'{"kernel":' + b"[" * deep + b"]" * deep + b"}"])
    if kind == 3:
        text = json.dumps(body).replace("3", chance.choice(["NaN", "Infinity", "-", "1e999", "0x10", "01", '"']))
        return "POST", target, text.encode()
    changed = {**body, chance.choice([*body, "other", "image", "layer"]): chance.choice(VALUES)}
    if kind == 5 and changed:
        changed.pop(chance.choice(list(changed)))
    return "POST", target, json.dumps(changed).encode()


def check(answer: Answer, target: str, body: bytes) -> None:
    about = f"{target!r} {body[:300]!r} -> {answer.status} {answer.body[:300]!r}"
    assert answer.status < 500 or answer.status == 503, about
    if answer.status >= 400:
        assert set(answer.json) == {"error"}, about
        assert set(answer.json["error"]) == {"message", "hint"}, about
        assert answer.message, about
        for leak in (b"Traceback", b'File \\"', b"site-packages", b"convscope/lab", TOKEN.encode()):
            assert leak not in answer.body, about


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Requests that happen to be right must not start anything."""
    started: list[list[str]] = []
    monkeypatch.setattr(Jobs, "_run", lambda self, name, words, before=None: started.append(words))
    return started


@pytest.mark.slow
def test_ten_thousand_malformed_requests(application: Application, no_training: list[list[str]], caplog: pytest.LogCaptureFixture):
    chance = random.Random(20260131)
    seen: Counter[int] = Counter()

    async def main() -> None:
        for _ in range(REQUESTS):
            method, target, body = malformed(chance)
            headers = [HOST, ("x-convscope-token", TOKEN)]
            answer = await call(application.app, method, target, body=body, headers=headers)
            seen[answer.status] += 1
            if method != "HEAD":
                check(answer, target, body)

    anyio.run(main)
    assert application.get("/api/state").status == 200
    assert seen[400] > 0.3 * REQUESTS  # most are wrong,
    assert seen[200] > 0.02 * REQUESTS  # some are right, so the fuzz reaches what lies behind the checks
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def raw(port: int, content: bytes, *, whole: bool = True) -> bytes:
    """Bytes sent to a server as they are, and what came back until it closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(content)
        if not whole:  # the server would wait for the rest
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def as_http(server: Served, token: str) -> Callable[[str, str, bytes], bytes]:
    def build(method: str, target: str, body: bytes) -> bytes:
        path = "".join(c if 32 < ord(c) < 127 else "".join(f"%{byte:02x}" for byte in c.encode(errors="replace")) for c in target)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\nX-Convscope-Token: {token}\r\nConnection: close\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body

    return build


@pytest.mark.slow
def test_a_sample_of_them_against_a_real_server(lab: Served):
    chance, build = random.Random(7), as_http(lab, lab.token)
    asked = 0
    while asked < SAMPLE:
        method, target, body = malformed(chance)
        if target in ("/api/train", "/api/runs/tiny/resume"):
            continue
        asked += 1
        answer = raw(lab.port, build(method, target, body))
        status = int(answer.split(b" ", 2)[1])
        assert status < 500 or status == 503, (target, body[:200], answer[:500])
        assert b"Traceback" not in answer
    assert lab.ask("/api/state")[0] == 200
    assert lab.process.poll() is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"GET / HTTP/1.1\r\n" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST /api/train HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/train HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST /api/train HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"FOO",
    ],
)
def test_what_is_no_request_is_refused_by_a_real_server(lab: Served, content: bytes):
    answer = raw(lab.port, content, whole=False)
    assert answer == b"" or answer.split(b" ", 2)[1] in (b"400", b"403", b"413", b"431"), answer[:300]
    assert lab.ask("/api/state")[0] == 200
