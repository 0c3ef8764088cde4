"""A gRPC app: every kind of call, in the clear, with handlers instead of generated code.

Says on standard output, as JSON lines, where it listens and which calls were cancelled.
"""

import json
import sys
import threading
import time
from concurrent import futures

import grpc


SAYING = threading.Lock()


def say(**event):
    """One line at a time, whichever thread says it."""
    with SAYING:
        print(json.dumps(event), flush=True)


def metadata_of(context):
    return {key: value for key, value in context.invocation_metadata()}


def unary(request, context):
    asked = metadata_of(context).get("x-ask", "")
    context.send_initial_metadata((("x-initial", "first " + asked),))
    context.set_trailing_metadata((("x-trailing", "last " + asked), ("x-bytes-bin", b"\x00\xff")))
    return request


def server_stream(request, context):
    for number in range(int(request)):
        yield b"message %d" % number


def client_stream(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def bidi(requests, context):
    for request in requests:
        yield request


def deadline(request, context):
    """What is left of the caller's time, in milliseconds; nothing when it set no deadline."""
    left = context.time_remaining()
    return b"none" if left is None or left > 10**6 else b"%d" % int(left * 1000)


def slow(request, context):
    done = threading.Event()
    say(event="begun", call=request.decode())
    context.add_callback(done.set)
    done.wait(60)
    say(event="cancelled", call=request.decode())
    return b"too late"


def fail(request, context):
    context.set_trailing_metadata((("x-reason", "none"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such luck: ä%")


def fail_later(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "half of it")


def large(request, context):
    return b"x" * int(request)


def forever(request, context):
    name = request.decode()
    context.add_callback(lambda: say(event="cancelled", call=name))
    while context.is_active():
        yield b"tick"
        time.sleep(0.005)


def forever_bidi(requests, context):
    context.add_callback(lambda: say(event="cancelled", call="bidi"))
    for request in requests:
        yield request


def main():
    calls = grpc.method_handlers_generic_handler(
        "test.Calls",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
            "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
            "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
            "Slow": grpc.unary_unary_rpc_method_handler(slow),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "FailLater": grpc.unary_stream_rpc_method_handler(fail_later),
            "Large": grpc.unary_unary_rpc_method_handler(large),
            "Forever": grpc.unary_stream_rpc_method_handler(forever),
            "ForeverBidi": grpc.stream_stream_rpc_method_handler(forever_bidi),
        },
    )
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
    )
    server.add_generic_rpc_handlers((calls,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(event="ready", port=port)
    sys.stdin.read()
    server.stop(None)


main()
