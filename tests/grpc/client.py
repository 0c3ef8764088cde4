"""A gRPC client of the public side: `client.py ADDRESS AUTHORITY CA_FILE CASE [COOKIE]`.

Makes the calls of a case and says, as JSON lines, how each went. The cases are judged by the test.
"""

import json
import sys
import threading
import time

import grpc


SAYING = threading.Lock()


def say(**event):
    """One line at a time, whichever thread says it."""
    with SAYING:
        print(json.dumps(event), flush=True)


def text(metadata):
    return {
        key: value.hex() if isinstance(value, bytes) else value for key, value in metadata or ()
    }


def failure(error):
    return {
        "code": error.code().name,
        "details": error.details(),
        "trailing": text(error.trailing_metadata()),
    }


class Client:
    def __init__(self, address, authority, ca_file, cookie):
        with open(ca_file, "rb") as file:
            credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
        host = authority.rsplit(":", 1)[0]
        self.channel = grpc.secure_channel(
            address,
            credentials,
            options=[
                ("grpc.ssl_target_name_override", host),
                ("grpc.default_authority", authority),
                ("grpc.max_receive_message_length", -1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self.metadata = [("cookie", cookie)] if cookie else []

    def unary(self, name, request, **more):
        call = self.channel.unary_unary(f"/test.Calls/{name}")
        return call.with_call(request, **self.with_metadata(more))

    def server_stream(self, name, request, **more):
        return self.channel.unary_stream(f"/test.Calls/{name}")(request, **self.with_metadata(more))

    def client_stream(self, name, requests, **more):
        call = self.channel.stream_unary(f"/test.Calls/{name}")
        return call(requests, **self.with_metadata(more))

    def bidi(self, name, requests, **more):
        call = self.channel.stream_stream(f"/test.Calls/{name}")
        return call(requests, **self.with_metadata(more))

    def with_metadata(self, more):
        more.setdefault("timeout", 60)
        if more["timeout"] is None:
            del more["timeout"]
        more["metadata"] = self.metadata + list(more.get("metadata", ()))
        return more


def all_kinds(client):
    reply, call = client.unary("Unary", b"hello", metadata=[("x-ask", "please")])
    say(
        call="unary",
        reply=reply.decode(),
        initial=text(call.initial_metadata()),
        trailing=text(call.trailing_metadata()),
    )
    replies = [reply.decode() for reply in client.server_stream("ServerStream", b"100")]
    say(call="server_stream", count=len(replies), last=replies[-1])
    replies = list(client.server_stream("ServerStream", b"0"))
    say(call="empty_stream", count=len(replies))
    sent = (b"x" * 1000 for _ in range(500))
    say(call="client_stream", reply=client.client_stream("ClientStream", sent).decode())
    bidi(client)
    reply, _ = client.unary("Large", b"8000000")
    say(call="large_reply", bytes=len(reply))
    reply, _ = client.unary("Unary", b"y" * 3_900_000)
    say(call="large_request", bytes=len(reply))
    for number in range(20):
        client.unary("Unary", b"%d" % number)
    say(call="many")


def bidi(client):
    """Each message is sent after the reply to the one before: nothing is held back on the way."""
    turn = threading.Semaphore(1)

    def requests():
        for number in range(50):
            turn.acquire()
            yield b"%d" % number

    replies = []
    for reply in client.bidi("Bidi", requests()):
        replies.append(int(reply))
        turn.release()
    say(call="bidi", in_order=replies == list(range(50)))


def failures(client):
    for name, call in (
        ("fail", lambda: client.unary("Fail", b"")),
        ("fail_later", lambda: list(client.server_stream("FailLater", b""))),
        ("unknown", lambda: client.unary("Nothing", b"")),
        ("deadline", lambda: client.unary("Slow", b"deadline", timeout=0.4)),
    ):
        try:
            call()
            say(call=name, code="OK")
        except grpc.RpcError as error:
            say(call=name, **failure(error))
    reply, _ = client.unary("Deadline", b"", timeout=30)
    say(call="passes_deadline", reply=reply.decode())
    reply, _ = client.unary("Deadline", b"", timeout=None)
    say(call="no_deadline", reply=reply.decode())
    stream = client.server_stream("Forever", b"cancelled by its client")
    next(stream)
    stream.cancel()
    say(call="cancel")


def refused(client):
    try:
        client.unary("Unary", b"hello")
        say(call="refused", code="OK")
    except grpc.RpcError as error:
        say(call="refused", **failure(error))


def open_calls(client):
    """Calls that somebody else will end: says when each has begun, and how it ended."""

    def run(name, call):
        try:
            for number, _ in enumerate(call()):
                if number == 0:
                    say(begun=name)
            say(ended=name, code="OK")
        except grpc.RpcError as error:
            say(ended=name, at=time.time(), **failure(error))

    hold = threading.Event()

    def endless():
        yield b"first"
        hold.wait()

    def slow():
        say(begun="slow")
        yield client.unary("Slow", b"slow")

    calls = {
        "forever": lambda: client.server_stream("Forever", b"forever"),
        "bidi": lambda: client.bidi("ForeverBidi", endless()),
        "slow": slow,
    }
    threads = [threading.Thread(target=run, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold.set()


def main():
    address, authority, ca_file, case = sys.argv[1:5]
    cookie = sys.argv[5] if len(sys.argv) > 5 else None
    client = Client(address, authority, ca_file, cookie)
    cases = {"all": all_kinds, "failures": failures, "refused": refused, "open": open_calls}
    cases[case](client)
    say(event="done")


main()
