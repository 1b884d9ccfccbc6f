"""An OpenAI-compatible server of chats on this machine that does to each request what it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def event(data) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n".encode()


def piece(text: str) -> bytes:
    return event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})


END = event({"choices": [{"delta": {}, "finish_reason": "stop"}]}) + event("[DONE]")


class Service:
    """Each of `acts` is done to one chat: a function that gets the handler and writes what it likes; the last
    one to all that come after it. `asked` keeps the bodies, `left` counts who went away before the end."""

    def __init__(self, *acts):
        self.acts, self.asked, self.left = list(acts), [], 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.json(200, {"data": [{"id": "talker"}]})

            def do_POST(self):
                service.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                act = service.acts.pop(0) if len(service.acts) > 1 else service.acts[0]
                try:
                    act(self)
                except (BrokenPipeError, ConnectionResetError):
                    service.left += 1

            def json(self, status, body, **headers):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def begin(self):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()

            def say(self, *parts):
                for part in parts:
                    self.wfile.write(part)
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def running(*acts):
    service = Service(*acts)
    threading.Thread(target=service.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield service
    finally:
        service.server.shutdown()
        service.server.server_close()


def says(*parts):
    """Begins a stream and writes these parts of it, then closes the connection."""

    def act(handler):
        handler.begin()
        handler.say(*parts)

    return act


def hangs(*parts, begins=True):
    """The same, but then says nothing for a minute."""

    def act(handler):
        if begins:
            handler.begin()
            handler.say(*parts)
        time.sleep(60)

    return act


def answers(status, body, **headers):
    return lambda handler: handler.json(status, body, **headers)


def endless(part: bytes):
    """Writes the same again and again, until nobody listens."""

    def act(handler):
        handler.begin()
        while True:
            handler.say(part * 64)

    return act


def drips(part: bytes, every: float):
    """Writes it again and again, so many seconds apart."""

    def act(handler):
        handler.begin()
        while True:
            handler.say(part)
            time.sleep(every)

    return act
