"""A web server on the loopback interface that misbehaves as it is told to, byte for byte."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Plan:
    """How one request is answered; without ``body`` with what the server has."""

    status: int = 200
    body: bytes | None = None
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    ignore_if_range: bool = False
    """It goes on with whatever it has now."""
    shift: int = 0
    """It begins a part so many bytes too late, and says it did not."""
    length: int | None = None
    """What it says the length is."""
    framing: str = "length"
    """length, chunked, close"""
    cut: int | None = None
    """It closes the connection behind so many bytes of the body; -1: before the head."""
    trickle: float = 0.0
    """Seconds between two bytes."""
    location: str | None = None
    damage: Callable[[bytes], bytes] = field(default=lambda data: data)
    """What it makes of a body that is sent to it."""


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Web:
    """``files`` are served, and stored into; ``plans`` are for the next requests, ``plan`` for all others."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plans: list[Plan] = []
        self.plan = Plan()
        self.requests: list[Request] = []
        web = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    web.serve(self.rfile, self.connection)
                except OSError:
                    pass  # whom it was for left

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, rfile: Any, connection: socket.socket) -> None:
        line = rfile.readline().decode()
        if not line:
            return
        method, path, _ = line.split()
        headers = {}
        for row in iter(lambda: rfile.readline().decode().strip(), ""):
            name, _, value = row.partition(":")
            headers[name.lower()] = value.strip()
        request = Request(method, path, headers)
        self.requests.append(request)
        plan = self.plans.pop(0) if self.plans else self.plan
        if plan.cut == -1:
            return
        if method == "PUT":
            request.body = rfile.read(int(headers["content-length"]))
            if plan.status < 300:
                self.files[path] = plan.damage(request.body)
            connection.sendall(b"HTTP/1.1 %d Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % plan.status)
        elif method == "DELETE":
            self.files.pop(path, None)
            connection.sendall(b"HTTP/1.1 204 Gone\r\nConnection: close\r\n\r\n")
        else:
            self._send(plan, request, connection)

    def _send(self, plan: Plan, request: Request, connection: socket.socket) -> None:
        body = plan.body if plan.body is not None else self.files.get(request.path)
        status, head = plan.status, []
        if body is None and status == 200:
            status = 404
        body = (body if status == 200 else None) or b""
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        mark = plan.etag or plan.modified
        if status == 200 and wanted and plan.ranges and (plan.ignore_if_range or request.headers.get("if-range") == mark):
            first = int(wanted.group(1))
            if first >= len(body):
                status, body = 416, b""
            else:
                head.append(f"Content-Range: bytes {first}-{len(body) - 1}/{len(body)}")
                status, body = 206, body[first + plan.shift :] + bytes(plan.shift)
        if plan.location:
            head.append(f"Location: {plan.location}")
        if status in (200, 206):
            if plan.etag:
                head.append(f"ETag: {plan.etag}")
            if plan.modified:
                head.append(f"Last-Modified: {plan.modified}")
        if plan.framing == "length":
            head.append(f"Content-Length: {len(body) if plan.length is None else plan.length}")
        elif plan.framing == "chunked":
            head.append("Transfer-Encoding: chunked")
            pieces = [body[index : index + 3] for index in range(0, len(body), 3)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        connection.sendall("\r\n".join([f"HTTP/1.1 {status} Said", "Connection: close", *head, "", ""]).encode())
        if plan.cut is not None:
            body = body[: plan.cut]
        if not plan.trickle:
            connection.sendall(body)
            return
        for index in range(len(body)):
            connection.sendall(body[index : index + 1])
            time.sleep(plan.trickle)
