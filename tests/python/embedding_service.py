"""A service of embeddings on this machine, as OpenAI and text-embeddings-inference have it, that
fails as it is told. Its vectors count letters, so texts with the same letters are near."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def vector(text: str) -> list[float]:
    return [0.1 + text.lower().count(letter) for letter in LETTERS]


class Service:
    """What is asked is in `asked`; each of `acts` is done to one request: a status, a tuple of
    status and headers, `garbage`, or seconds to hang."""

    def __init__(self):
        self.asked, self.acts, self.keys = [], [], []
        self.lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with service.lock:
                    service.asked.append(body)
                    service.keys.append(self.headers.get("authorization"))
                    act = service.acts.pop(0) if service.acts else None
                self.answer(act, body)

            def answer(self, act, body):
                headers = {}
                if isinstance(act, tuple):
                    act, headers = act
                if isinstance(act, float):
                    time.sleep(act)
                    act = None
                if act is None:
                    status, text = 200, json.dumps(self.made(body))
                elif act == "garbage":
                    status, text = 200, "<html>It works!</html>"
                else:
                    status, text = act, json.dumps({"error": {"message": f"told to say {act}"}})
                data = text.encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def made(self, body):
                if self.path == "/embed":
                    return [vector(text) for text in body["inputs"]]
                assert self.path == "/v1/embeddings", self.path
                data = [
                    {"object": "embedding", "index": at, "embedding": vector(text)}
                    for at, text in enumerate(body["input"])
                ]
                usage = {"prompt_tokens": 10 * len(data), "total_tokens": 10 * len(data)}
                return {"object": "list", "data": data, "model": body["model"], "usage": usage}

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def texts(self) -> list[str]:
        return [text for body in self.asked for text in body.get("input", body.get("inputs"))]


@contextmanager
def running():
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()
