"""Redis for apps: a web service for the adapter `http` of brokerlet, which makes an ACL user for each binding that reaches the
keys of its own prefix only. Python's standard library is all that it needs.

REDIS_URL names the server (7 or later, with an `aclfile`, without which users are gone after a restart), with the password of its
user `default`: redis://:PASSWORD@HOST:PORT. WEBHOOK_SECRET is the secret that the broker signs with.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import secrets
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIS = urllib.parse.urlsplit(os.environ["REDIS_URL"])
SECRET = os.environ["WEBHOOK_SECRET"]
KEY = base64.b64decode(SECRET[6:]) if SECRET.startswith("whsec_") else SECRET.encode()
# One request for an instance at a time: what was cut off ends before its repeat begins.
LOCKS = collections.defaultdict(threading.Lock)


class Redis:
    """A connection. Each call sends one command and returns its answer."""

    def __enter__(self):
        self.socket = socket.create_connection((REDIS.hostname, REDIS.port or 6379), timeout=10)
        self.answers = self.socket.makefile("rb")
        self("AUTH", "default", urllib.parse.unquote(REDIS.password or ""))
        return self

    def __exit__(self, *_):
        self.answers.close()
        self.socket.close()

    def __call__(self, *words):
        words = [str(word).encode() for word in words]
        command = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(b"*%d\r\n%s" % (len(words), command))
        return self.read()

    def read(self):
        line = self.answers.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return self.answers.read(int(rest) + 2)[:-2].decode() if rest != b"-1" else None
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if not line:
            raise ConnectionError("Redis has closed the connection")
        return rest.decode()


def name(text):
    """Ids can be any text; these are safe in names and patterns."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def remove(redis, prefix, say):
    """Removes the users and keys whose names begin so. Connections of a user are closed with it."""
    for user in redis("ACL", "USERS"):
        if user.startswith(prefix):
            redis("ACL", "DELUSER", user)
    redis("ACL", "SAVE")
    cursor, removed = "0", 0
    while True:
        cursor, keys = redis("SCAN", cursor, "MATCH", prefix + "*", "COUNT", 1000)
        if keys:
            redis("UNLINK", *keys)
            removed += len(keys)
            say({"progress": f"Removed {removed} keys"})
        if cursor == "0":
            return {}


def work(document, say):
    """Each of these may be called again, and then comes to the same end."""
    instance = name(document["instance_id"])
    user = instance + "-" + name(document.get("binding_id", ""))
    operation = document["operation"]
    with Redis() as redis:
        if operation == "unbind":
            return remove(redis, user, say)
        if operation == "deprovision":
            return remove(redis, instance + "-", say)
        if operation != "bind":
            return {}
        password = secrets.token_hex(24)
        # What is taken away at the end reaches beyond a prefix.
        redis("ACL", "SETUSER", user, "reset", "on", ">" + password, f"~{user}:*", f"&{user}:*", "+@all", "-@admin",
              "-@dangerous", "-scan", "-randomkey", "-dbsize", "-select", "-move", "-copy")
        redis("ACL", "SAVE")
    host, port = REDIS.hostname, REDIS.port or 6379
    return {
        "credentials": {"uri": f"redis://{user}:{password}@{host}:{port}", "host": host, "port": port,
                        "username": user, "password": password, "prefix": user + ":"},
        "endpoints": [{"host": host, "ports": [str(port)], "protocol": "tcp"}],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(*(200, {}) if self.path == "/healthz" else (404, {}))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.is_signed(body):
            self.answer(401, {"error": "signature", "description": "The signature is wrong or old."})
            return
        self.begun = False
        try:
            document = json.loads(body)
            with LOCKS[document["instance_id"]]:
                result = work(document, self.say)
        except (OSError, RuntimeError) as error:
            print(f"Redis: {error}", flush=True)
            # An answer that has begun breaks off, which is tried again as well.
            self.close_connection = self.begun
            if not self.begun:
                self.answer(503 if isinstance(error, OSError) else 500, {}, {"Retry-After": "1"})
            return
        if not self.begun:
            self.answer(200, result)
            return
        self.say(result)
        self.wfile.write(b"0\r\n\r\n")

    def is_signed(self, body):
        """Standard Webhooks: an HMAC of id, time and body; no older than five minutes."""
        stamp = self.headers.get("webhook-timestamp", "0")
        signed = f"{self.headers.get('webhook-id')}.{stamp}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
        found = self.headers.get("webhook-signature", "")
        return hmac.compare_digest(wanted, found) and abs(time.time() - int(stamp)) < 300

    def say(self, line):
        """A line of an answer that comes piece by piece."""
        if not self.begun:
            self.begun = True
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        text = json.dumps(line).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

    def answer(self, status, result, headers=()):
        text = json.dumps(result).encode()
        self.send_response(status)
        for field, value in {"Content-Length": len(text), **dict(headers)}.items():
            self.send_header(field, value)
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ.get("PORT", 8080))), Handler).serve_forever()
