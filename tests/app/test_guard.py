"""What stands before every request: own names, own pages, paths that the studio uses, and limits for each visitor."""

import asyncio
import threading
from collections.abc import Iterable

import gradio
import pytest
from gradio.utils import get_function_with_locals
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app.server import assets
from app.server import guard as guard_module
from app.server.guard import BURST, MOST_BODY, MOST_OPEN, Guard, Preflights, content_length, served
from app.server.hosts import Hosts
from app.server.uploads import MOST_BYTES, Uploads
from app.server.visitor import caller, present_caller
from app.server.work import Work

SPACE = {"SPACE_HOST": "acme-studio.hf.space,studio.acme.org"}
FILES = assets.FRONTEND / "assets"
SPACE_NAME = "acme-studio.hf.space"


async def _answer(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("answered", headers={"X-Frame-Options": "ALLOWALL"})


def guarded(hosts: Hosts, folder) -> TestClient:
    app = Starlette()
    app.add_route("/{path:path}", _answer, methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
    return TestClient(Guard(app, hosts, Uploads(folder)), base_url="http://localhost:7860")


@pytest.fixture
def local(tmp_path) -> TestClient:
    return guarded(Hosts.of("127.0.0.1", False, environment={}), tmp_path)


@pytest.fixture
def public(tmp_path) -> TestClient:
    return guarded(Hosts.of("0.0.0.0", True, environment=SPACE), tmp_path)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9999", "null", "https://huggingface.co"])
@pytest.mark.parametrize("of_a_space", [True, False])
def test_preflights_of_other_pages_are_refused(tmp_path, monkeypatch, origin, of_a_space):
    monkeypatch.setattr(gradio.routes, "CustomCORSMiddleware", Preflights)
    environment = SPACE if of_a_space else {}
    hosts = Hosts.of("0.0.0.0" if of_a_space else "127.0.0.1", of_a_space, environment=environment)
    guard = (Guard, (), {"hosts": hosts, "uploads": Uploads(tmp_path)})
    app = gradio.routes.App.create_app(gradio.Blocks(), app_kwargs={"middleware": [guard]})
    client = TestClient(app, base_url=f"http://{SPACE_NAME}" if of_a_space else "http://localhost:7860")
    for path in ("/gradio_api/upload", "/config", "/gradio_api/queue/join"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
        got = client.options(path, headers=asked)
        assert got.status_code == 403 and "access-control-allow-origin" not in got.headers


OWN_LOCAL = ("localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST", "localhost.")
FOREIGN = (
    "evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.1.5:7860", "0.0.0.0",
    "[::2]", "localhost:7860@evil.example", "local host", "evil.example, localhost", "169.254.169.254", "",
)  # fmt: skip


@pytest.mark.parametrize("host", OWN_LOCAL)
def test_it_answers_to_its_own_names(local, host):
    assert local.get("/config", headers={"Host": host}).text == "answered"


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/join", "/gradio_api/upload"])
def test_it_answers_to_no_other_name(local, host, path):
    for method in ("GET", "POST"):
        got = local.request(method, path, headers={"Host": host})
        assert got.status_code == 403 and "answered" not in got.text and got.text.count("\n") == 0


def test_further_names_are_given_by_a_flag_or_the_environment(tmp_path):
    hosts = Hosts.of("127.0.0.1", False, ["studio.example"], {"SIMCT_ALLOW_HOSTS": "a.example, b.example"})
    client = guarded(hosts, tmp_path)
    for name in ("studio.example", "a.example:80", "B.example"):
        assert client.get("/", headers={"Host": name}).status_code == 200
    assert client.get("/", headers={"Host": "c.example"}).status_code == 403


def test_a_space_knows_its_own_names_and_answers_to_addresses(public):
    for name in (SPACE_NAME, "studio.acme.org", "10.1.2.3:7860", "localhost:7860"):
        assert public.get("/", headers={"Host": name}).status_code == 200
    for name in ("other-space.hf.space", "evil.example", "10.1.2.3.evil.example"):
        assert public.get("/", headers={"Host": name}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:9999", "http://127.0.0.1:7860", "null", "https://huggingface.co",
     "file://", "http://localhost:7860.evil.example", "https://[", "http://evil.example@localhost:7861"],
)  # fmt: skip
def test_a_page_elsewhere_sends_nothing(local, origin):
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/login/callback"):
        assert local.post(path, headers={"Origin": origin}).status_code == 403
    assert local.get("/config", headers={"Origin": origin}).status_code == 403


def test_its_own_page_and_programs_send_what_they_like(local, public):
    assert local.post("/gradio_api/queue/join", headers={"Origin": "http://localhost:7860"}).status_code == 200
    assert local.post("/gradio_api/queue/join").status_code == 200
    own = {"Host": SPACE_NAME, "Origin": f"https://{SPACE_NAME}", "Sec-Fetch-Site": "same-origin"}
    assert public.post("/gradio_api/queue/join", headers=own).status_code == 200


def test_what_the_browser_says_of_another_site_counts(local, public):
    fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert local.post("/gradio_api/upload", headers=fetched).status_code == 403
    assert local.get("/config", headers=fetched).status_code == 403
    assert local.get("/config", headers=fetched | {"Sec-Fetch-Site": "same-site"}).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert local.get("/", headers=followed).status_code == 200
    assert local.post("/login/callback", headers=followed).status_code == 403
    # the Hub shows a Space in a frame
    assert public.get("/", headers={**followed, "Host": SPACE_NAME, "Sec-Fetch-Dest": "iframe"}).status_code == 200
    hub = {"Host": SPACE_NAME, "Origin": "https://huggingface.co", "Sec-Fetch-Site": "cross-site"}
    assert public.get("/config", headers=hub).status_code == 200
    assert public.post("/gradio_api/queue/join", headers=hub).status_code == 403


def test_websockets_pass_the_same_names_and_none_is_used(local):
    for host in ("evil.example", "localhost:7860"):
        with (
            pytest.raises(WebSocketDisconnect),
            local.websocket_connect("/gradio_api/queue/join", headers={"Host": host}),
        ):
            pass


def test_every_answer_says_what_it_may_load_and_who_may_frame_it(local, public):
    for got in (local.get("/"), local.get("/", headers={"Host": "evil.example"}), local.get("/nothing")):
        policy = got.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "default-src 'self'" in policy and "object-src 'none'" in policy
        assert "http:" not in policy and "https:" not in policy and "*" not in policy
        assert got.headers.get_list("x-frame-options") == ["DENY"]
        assert got.headers["x-content-type-options"] == "nosniff" and got.headers["referrer-policy"] == "same-origin"
    shown = public.get("/", headers={"Host": SPACE_NAME}).headers
    assert "frame-ancestors 'self' https://huggingface.co;" in shown["content-security-policy"] + ";"
    assert "DENY" not in shown.get("x-frame-options", "")


UNUSED = (
    "/gradio_api/run/inspect", "/gradio_api/api/inspect", "/gradio_api/proxy=https://x.hf.space/", "/monitoring",
    "/gradio_api/file=http://127.0.0.1:1/x", "/gradio_api/file=https://evil.example/x", "/gradio_api/vibe-edit",
    "/gradio_api/vibe-code", "/gradio_api/component_server", "/gradio_api/process_recording", "/gradio_api/stream/1",
    "/gradio_api/dev/reload", "/gradio_api/runs", "/mcp/", "/static/../x", "/docs", "/openapi.json",
)  # fmt: skip


@pytest.mark.parametrize("path", UNUSED)
def test_what_the_page_does_not_use_is_not_there(local, path):
    assert not served(path)
    assert local.post(path).status_code in (403, 404)


def test_a_page_names_what_it_will_run_and_files_of_that_name_never_change(local):
    link = local.get("/").headers["link"]
    named = [each.partition(">")[0].removeprefix("<./") for each in link.split(", ")]
    assert [each.split("-")[0] for each in named[:3]] == ["assets/index", "assets/Index", "assets/Blocks"]
    assert all((assets.FRONTEND / each).is_file() for each in named)
    assert len(named) == len(set(named)) > 10
    assert "link" not in local.get("/config").headers
    assert "immutable" in local.get(f"/{named[0]}").headers["cache-control"]
    assert "cache-control" not in local.get("/").headers


def test_scripts_and_style_sheets_are_kept_compressed_and_everything_else_is_gradios(local, monkeypatch):
    reads: list[str] = []
    compress = assets.gzip.compress
    monkeypatch.setattr(assets.gzip, "compress", lambda *given, **how: reads.append("") or compress(*given, **how))
    for name, kind in ((assets.modules()[0], "javascript"), (next(FILES.glob("*.css")).name, "css")):
        for _ in range(2):
            got = local.get(f"/assets/{name}")
            assert got.content == (FILES / name).read_bytes() and kind in got.headers["content-type"]
            assert got.headers["content-encoding"] == "gzip" and got.headers["vary"] == "Accept-Encoding"
            assert "immutable" in got.headers["cache-control"] and "content-security-policy" in got.headers
        assert local.get(f"/assets/{name}", headers={"Accept-Encoding": "identity"}).text == "answered"
        assert local.head(f"/assets/{name}").headers.get("content-encoding") is None
    assert len(reads) == 2
    for other in ("absent.js", "x/../../index.html", "../index.html", "%2e%2e/index.html", "index.html"):
        got = local.get(f"/assets/{other}")
        assert got.status_code == 404 or got.text == "answered"
    assert len(reads) == 2


def test_bodies_are_bounded_and_say_their_length(local):
    assert local.post("/gradio_api/queue/join", content=b"x" * 1000).status_code == 200
    large = {"Content-Length": str(MOST_BODY + 1)}
    assert local.post("/gradio_api/queue/join", headers=large).status_code == 413
    assert local.post("/gradio_api/upload", headers={"Content-Length": str(MOST_BYTES * 2)}).status_code == 413

    def unknown() -> Iterable[bytes]:
        yield b"x"

    assert local.post("/gradio_api/queue/join", content=unknown()).status_code == 411


def test_a_body_that_takes_long_to_parse_is_refused_and_a_long_text_is_not(local, public):
    def send(studio: TestClient, body: bytes) -> int:
        return studio.post("/gradio_api/queue/join", content=body, headers={"Host": studio.base_url.host}).status_code

    public.base_url = f"https://{SPACE_NAME}"  # type: ignore[assignment]
    many = b'{"data":[' + b"[]," * 300_000 + b"[]]}"
    assert send(public, many) == 413
    assert send(public, b'{"data":["' + b"Well, yes. " * 90_000 + b'"]}') == 200
    # a person's own table of numbers on their own machine
    assert send(local, many) == 200


def test_a_body_that_does_not_arrive_ends_and_takes_no_place(tmp_path, monkeypatch):
    monkeypatch.setattr("app.server.bodies.ARRIVES_SECONDS", 0.2)
    statuses = []

    async def receive() -> dict:
        await asyncio.sleep(10)
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        statuses.append(message.get("status"))

    async def run() -> None:
        guard = Guard(None, Hosts.of("0.0.0.0", True, environment=SPACE), Uploads(tmp_path))  # type: ignore[arg-type]
        headers = [(b"host", SPACE_NAME.encode()), (b"content-length", str(MOST_BODY).encode())]
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "client": ("198.51.100.7", 1),
                 "headers": headers}  # fmt: skip
        monkeypatch.setattr(guard_module, "BYTES_EACH", 10**9)
        await asyncio.gather(*(guard(scope, receive, send) for _ in range(3)))
        assert not guard.visitors["address 198.51.100.7"].arriving

    asyncio.run(run())
    # two bodies of this size may arrive at once
    assert [each for each in statuses if each] == [429, 408, 408]


# Limits


def as_caller(address: str) -> dict[str, str]:
    return {"Host": SPACE_NAME, "X-Forwarded-For": address}


@pytest.fixture
def proxied(tmp_path, monkeypatch) -> TestClient:
    """A Space behind the Hub's proxy, where nothing used comes back."""
    monkeypatch.setattr(guard_module, "PER_SECOND", 0.0)
    client = guarded(Hosts.of("0.0.0.0", True, environment=SPACE), tmp_path)
    client._transport.client = ("10.0.0.1", 1)  # type: ignore[attr-defined]
    return client


def test_a_flood_of_one_visitor_leaves_the_others_theirs(proxied):
    path = "/gradio_api/queue/join"
    got = [proxied.post(path, headers=as_caller("198.51.100.7")).status_code for _ in range(BURST + 20)]
    assert got[:BURST] == [200] * BURST and got[BURST:] == [429] * 20
    assert proxied.post(path, headers=as_caller("198.51.100.8")).status_code == 200
    # large requests count as several
    large = [proxied.post(path, content=b"x" * 5_000_000, headers=as_caller("198.51.100.9")) for _ in range(6)]
    assert [each.status_code for each in large] == [200] * 4 + [429] * 2
    # what a visitor writes into the header themselves changes nothing
    for spoofed in ("1.2.3.4, 198.51.100.7", "198.51.100.8, 198.51.100.7", "x, 198.51.100.7"):
        assert proxied.post(path, headers=as_caller(spoofed)).status_code == 429


def test_uploads_have_a_quota_by_visitor_and_in_all(proxied, monkeypatch):
    monkeypatch.setattr("app.server.uploads.MOST_A_DAY", 3000)
    send = lambda who: proxied.post("/gradio_api/upload", content=b"x" * 1000, headers=as_caller(who))  # noqa: E731
    assert [send("198.51.100.7").status_code for _ in range(4)] == [200, 200, 200, 413]
    assert send("198.51.100.8").status_code == 200
    monkeypatch.setattr("app.server.uploads.MOST_UNSIGNED", 10)
    assert send("198.51.100.9").status_code == 413
    # those who have signed in have more room
    uploads = proxied.app.uploads  # type: ignore[attr-defined]
    assert uploads.refusal("account ann", 1000) is None
    monkeypatch.setattr("app.server.uploads.MOST_IN_ALL", 10)
    assert "no room" in uploads.refusal("account ann", 1000)


def test_others_are_answered_while_the_files_of_uploads_are_counted(tmp_path, monkeypatch):
    counting, counted, counts = threading.Event(), threading.Event(), []

    def slow(folder) -> int:
        counts.append(folder)
        counting.set()
        assert counted.wait(20)
        return 0

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run() -> None:
        answered = []

        async def send(message) -> None:
            answered.append(message["status"])

        guard = Guard(app, Hosts.of("0.0.0.0", True, environment=SPACE), Uploads(tmp_path))
        headers = [(b"host", SPACE_NAME.encode()), (b"content-length", b"10")]
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "client": ("198.51.100.7", 1),
                 "headers": headers}  # fmt: skip
        uploads = [asyncio.create_task(guard(scope, None, send)) for _ in range(3)]
        while not counting.is_set():
            await asyncio.sleep(0.01)
        await guard({**scope, "path": "/config", "method": "GET", "client": ("198.51.100.8", 1)}, None, send)
        assert answered == [200]
        counted.set()
        await asyncio.gather(*uploads)
        assert answered == [200] * 4
        # both folders, once for all three
        assert len(counts) == 2

    monkeypatch.setattr("app.server.uploads.bytes_in", slow)
    asyncio.run(asyncio.wait_for(run(), 60))


def test_open_requests_are_bounded_by_visitor(tmp_path):
    async def run() -> list[int]:
        release, statuses = asyncio.Event(), []

        async def app(scope, receive, send) -> None:
            await release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        guard = Guard(app, Hosts.of("0.0.0.0", True, environment=SPACE), Uploads(tmp_path))
        scope = {"type": "http", "method": "GET", "path": "/gradio_api/queue/data", "client": ("198.51.100.7", 1),
                 "headers": [(b"host", SPACE_NAME.encode())]}  # fmt: skip
        waiting = [asyncio.create_task(guard(scope, None, send)) for _ in range(MOST_OPEN + 5)]
        other = asyncio.create_task(guard({**scope, "client": ("198.51.100.8", 1)}, None, send))
        await asyncio.sleep(0.05)
        assert not other.done()
        release.set()
        await asyncio.gather(*waiting, other)
        return statuses

    statuses = asyncio.run(run())
    assert statuses.count(429) == 5 and statuses.count(200) == MOST_OPEN + 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "who"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "1.1.1.1", "198.51.100.7"),  # no proxy of ours: its word counts nothing
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "9.9.9.9, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
    ],
)
def test_who_calls(peer, forwarded, who):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert caller({"client": (peer, 1), "headers": headers}) == f"address {who}"
    profile = {"oauth_info": {"userinfo": {"preferred_username": "ann"}}}
    assert caller({"client": (peer, 1), "headers": headers, "session": profile}) == "account ann"


def test_work_in_another_thread_is_known_to_be_for_the_visitor_who_asked_for_it():
    scope = {"type": "http", "client": ("198.51.100.7", 1), "headers": []}
    asked = gradio.Request(request=Request(scope))

    def handler() -> tuple[str | None, str | None]:
        work = Work().start(lambda _: present_caller())
        work.running_after(10)
        return present_caller(), work.result

    with gradio.Blocks() as page:
        called = get_function_with_locals(handler, page, None, True, asked, None)
    assert called() == ("address 198.51.100.7", "address 198.51.100.7")
    assert present_caller() is None


@pytest.mark.parametrize(
    ("value", "got"), [(b"12", 12), (b"0", 0), (b"", None), (b"-1", None), (b"1" * 16, None), ("²".encode(), None)]
)
def test_the_length_of_a_request_is_read_from_its_header(value, got):
    assert content_length({"headers": [(b"host", b"a"), (b"Content-Length", value)]}) == got
    assert content_length({"headers": [(b"content-length", value)] * 2}) is None
