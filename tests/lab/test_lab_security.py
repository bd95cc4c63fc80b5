"""Who may talk to the lab: hosts, origins, tokens, sizes, paths, images that are bombs; and what every answer carries."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from asgi import call_now
from lab_served import HOST, PORT, TOKEN, Application
from PIL import Image

from convscope.lab.security import LARGEST_BODY

OWN = ("x-convscope-token", TOKEN)
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"127.0.0.1:{PORT}", f"[::1]:{PORT}", f"LOCALHOST:{PORT}"])
def test_its_own_names_are_answered(application: Application, host: str):
    assert call_now(application.app, "GET", "/api/runs", headers=[("host", host)]).status == 200


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        [f"evil.example:{PORT}"],
        [f"localhost.evil.example:{PORT}"],
        ["localhost"],
        [f"localhost:{PORT + 1}"],
        [f"localhost:{PORT}@evil.example"],
        [f"127.0.0.2:{PORT}"],
        [""],
        [],
        [f"localhost:{PORT}", "evil.example"],
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/runs", "/static/js/main.js", "/nothing"])
def test_foreign_hosts_are_refused(application: Application, hosts: list[str], path: str):
    answer = call_now(application.app, "GET", path, headers=[("host", host) for host in hosts])
    assert answer.status == 403
    assert answer.json == {
        "error": {"message": "This server answers to its own name only.", "hint": "Open the address that convscope lab printed."}
    }
    assert TOKEN.encode() not in answer.body


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://localhost:{PORT}", "http://localhost", f"http://localhost:{PORT}.evil"]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/runs"), ("POST", "/api/train"), ("GET", "/")])
def test_foreign_origins_are_refused_even_with_the_token(application: Application, origin: str, method: str, path: str):
    answer = call_now(application.app, method, path, headers=[HOST, OWN, ("origin", origin)])
    assert (answer.status, answer.message) == (403, "Requests from other pages are refused.")


def test_the_own_origin_is_answered(application: Application):
    headers = [HOST, OWN, ("origin", f"http://localhost:{PORT}")]
    assert call_now(application.app, "POST", "/api/runs/tiny/stop", body=b"{}", headers=headers).status == 409


@pytest.mark.parametrize("tokens", [[], [""], ["wrong"], [TOKEN[:-1]], [TOKEN + "x"], [TOKEN, TOKEN], ["\xff"]])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_what_can_change_something_needs_the_token(application: Application, tokens: list[str], method: str):
    headers = [HOST, *(("x-convscope-token", token) for token in tokens)]
    answer = call_now(application.app, method, "/api/train", body=b"{}", headers=headers)
    assert (answer.status, answer.message) == (403, "The request lacks this session's token.")


def test_the_token_is_in_the_page_alone(application: Application):
    assert f'<meta name="token" content="{TOKEN}">' in application.get("/").body.decode()
    for path in ("/static/index.html", "/api/state", "/api/runs", "/api/runs/tiny", "/static/js/api.js"):
        assert TOKEN.encode() not in application.get(path).body


@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/nothing", "/static/js/main.js", "/static/nothing"])
def test_every_answer_carries_the_headers(application: Application, path: str):
    headers = application.get(path).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_the_page_itself_has_nothing_that_its_policy_forbids(application: Application):
    page = application.get("/").body.decode().lower()
    assert "<style" not in page
    assert "style=" not in page
    assert " onclick" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("<script") == page.count('src="/static/') - page.count('<img src="/static/')


def test_websockets_are_closed(application: Application):
    assert b"websocket.close" in call_now(application.app, "GET", "/", kind="websocket", headers=[HOST]).body


# ---------------------------------------------------------------- sizes


def test_a_body_that_says_it_is_too_large_is_not_read(application: Application):
    headers = [HOST, OWN, ("content-length", str(LARGEST_BODY + 1))]
    answer = call_now(application.app, "POST", "/api/train", body=b"{}", headers=headers)
    assert (answer.status, answer.message) == (413, "The request is larger than 16 MB.")


def test_a_body_that_grows_too_large_is_refused_on_the_way(application: Application):
    part = b"x" * 2**20
    parts = [part] * 40
    answer = call_now(application.app, "POST", "/api/runs/tiny/inside", body=parts, headers=[HOST, OWN])
    assert (answer.status, answer.message) == (413, "The request is larger than 16 MB.")


def test_a_body_of_the_largest_size_is_read(application: Application):
    body = b'{"x": "' + b"y" * (LARGEST_BODY - 9) + b'"}'
    assert len(body) == LARGEST_BODY
    assert application.post("/api/runs/tiny/inside", raw=body).status == 400


# ---------------------------------------------------------------- paths

SECRET = "what no browser may read"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../tiny",
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "tiny/../../secret",
        "/etc",
        "tiny\0",
        "C:\\",
        "..\\secret",
        "linked",
        ".hidden",
        "tiny/",
        "~",
        "x" * 300,
        "\ud800",
    ],
)
def test_runs_are_found_in_their_folder_only(application: Application, name: str):
    outside = application.folder.parent / "secret"
    outside.mkdir(exist_ok=True)
    (outside / "config.json").write_text(f'{{"message": "{SECRET}"}}')
    hidden = application.folder / ".hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "config.json").write_text(f'{{"message": "{SECRET}"}}')
    link = application.folder / "linked"
    if not link.is_symlink():
        link.symlink_to(outside, target_is_directory=True)
    for path in (f"/api/runs/{name}", f"/api/runs/{name}/live", f"/api/runs/{name}/images", f"/api/compare?runs={name},tiny"):
        answer = application.get(path)
        assert answer.status == 404, path
        assert SECRET.encode() not in answer.body
    assert {row["run"] for row in application.get("/api/runs").json["runs"] if row["state"] != "broken"} == {"tiny"}
    assert SECRET.encode() not in application.get("/api/runs").body


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "../../version.py",
        "js/../../security.py",
        "/etc/passwd",
        "//etc/passwd",
        "js",
        "",
        "index.html",
        "\0",
        "x" * 5000,
        "..\\app.py",
        "%2e%2e/app.py",
        "\ud800",
    ],
)
def test_only_the_pages_own_files_are_served(application: Application, path: str):
    answer = application.get(f"/static/{path}")
    assert (answer.status, answer.json) == (404, {"error": {"message": "There is no such file.", "hint": None}})


def test_files_are_served_as_what_they_are_and_not_twice(application: Application):
    first = application.get("/static/js/main.js")
    assert (first.status, first.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    again = application.get("/static/js/main.js", **{"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert application.get("/static/page.css").headers["content-type"] == "text/css; charset=utf-8"


# ---------------------------------------------------------------- images


def image_bomb(side: int = 40_000) -> bytes:
    """A PNG of some kilobytes that would be gigabytes when decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def inside(application: Application, content: bytes | object):
    png = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return application.post("/api/runs/tiny/inside", {"image": {"png": png}})


def test_an_image_bomb_is_refused_before_it_is_decoded(application: Application):
    for side in (100_000, 40_000, 8_000):
        answer = inside(application, image_bomb(side))
        assert (answer.status, answer.message) == (400, "The image has too many pixels.")
    assert inside(application, image_bomb(7_000)).message.startswith("The image cannot be used: ")  # 49 million: decoded, and found damaged


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_formats_that_browsers_show_are_read(application: Application, kind: str):
    assert inside(application, encoded(Image.new("L", (40, 30), 200), kind)).status == 200


@pytest.mark.parametrize("kind", ["TIFF", "EPS", "PDF", "PPM", "ICO", "TGA"])
def test_other_formats_are_not_even_opened(application: Application, kind: str):
    answer = inside(application, encoded(Image.new("RGB", (32, 32)), kind))
    assert (answer.status, answer.message) == (400, "The file is not an image of a known format.")


def test_damaged_images_are_refused_in_words(application: Application):
    content = encoded(Image.effect_noise((200, 200), 50), "PNG")
    answer = inside(application, content[: len(content) // 2])
    assert (answer.status, answer.message) == (400, "The image cannot be used: truncated: the file ends before the image does.")
    assert inside(application, b"<svg xmlns='http://www.w3.org/2000/svg'/>").message == "The file is not an image of a known format."
    assert inside(application, b"").message == "The file is not an image of a known format."
    assert inside(application, "not base64!").message == '"png" is not base64.'
    assert inside(application, 3).message == '"png" is not text.'
    data_url = "data:image/png;base64," + base64.b64encode(encoded(Image.new("L", (28, 28)), "PNG")).decode()
    assert inside(application, data_url).status == 200
