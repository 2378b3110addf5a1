"""One tenant's crowd is another's neighbour: whoever holds many streams open does not keep others from being served.

How long others wait is measured by `scripts/crowd`; here it is shown that they are served.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

from remora.v1 import attachment_service_pb2
from tests.running import Api, RunningServer, issue
from tests.uploading import KIB, MIB, Stream, direct, spec_of

CROWD = 200
DEADLINE_SECONDS = 20.0  # Far more than any call takes; without it a test of waiting might wait for ever.


def served(api: Api, number: int) -> None:
    """Have the other tenant's calls answered: a change, a read and a stream."""
    request = attachment_service_pb2.UpsertAttachmentRequest()
    request.attachment.workspace_id = "other"
    request.attachment.subject.CopyFrom(issue("OTHER-1"))
    request.attachment.url = f"https://example.com/{number}"
    made = api.attachments.UpsertAttachment(request, timeout=DEADLINE_SECONDS).attachment
    get = attachment_service_pb2.GetAttachmentRequest(attachment_id=made.id)
    assert api.attachments.GetAttachment(get, timeout=DEADLINE_SECONDS).attachment == made


def test_a_tenant_is_served_beside_another_with_200_streams(start_server: Callable[..., RunningServer]) -> None:
    """P44: while one tenant's 200 streams all send, and it is refused more, calls and streams of another are served."""
    server = start_server()
    other_key = server.new_key("other", workspace="other")
    ended = threading.Event()
    data = os.urandom(64 * KIB)
    with ExitStack() as stack:
        crowd = stack.enter_context(direct(server.address, str(server.ready["key"])))
        other = stack.enter_context(direct(server.address, other_key))
        streams = [stack.enter_context(Stream(crowd)) for _ in range(CROWD)]
        for stream in streams:
            stream.ready()

        def send() -> None:
            while not ended.is_set():
                for stream in streams:
                    stream.send(data)
                for stream in streams:
                    stream.flush()

        sending = threading.Thread(target=send)
        sending.start()
        try:
            for number in range(50):
                served(other, number)
            with Stream(other, spec=spec_of(), workspace="other") as stream:
                stream.ready()
                stream.send_all(os.urandom(2 * MIB))
                assert stream.finish().file.size_bytes == 2 * MIB
        finally:
            ended.set()
            sending.join()
